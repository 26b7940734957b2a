"""`compare`: what is run, what is reused, what survives."""

import json
import shutil

import pytest
from conftest import FEW_EPOCHS, SETTINGS
from sealing import unseal

from recbole_drex.errors import CheckpointError, ConfigError, DrexError
from recbole_drex.experiments.compare import compare, label_of, parse_model
from recbole_drex.results.comparison import comparison_of, read_comparison

QUICK = {**SETTINGS, **FEW_EPOCHS, "epochs": 1, "explained_users": 3}


@pytest.fixture
def run_compare(small, tmp_path):
    def run(models, seeds=(2026,), **options):
        given = {"data_path": small.root, "output": tmp_path / "results", "references": False, "parameters": QUICK}
        return compare(models, ["small"], seeds, **{**given, **options})

    return run


def test_every_variant_runs_on_every_split_and_references_come_last(comparison):
    labels = [variant.label for variant in comparison.variants]
    assert labels == ["DReX", "DReX+modalities=[rating]", "BPR", "GlobalMean", "ItemMean", "Bias", "BiasedMF"]
    assert [variant.reference for variant in comparison.variants] == [False] * 3 + [True] * 4
    assert comparison.datasets == ("small", "tiny")
    keys = {(run.label, run.dataset, run.replicate) for run in comparison.runs}
    assert keys == {(label, data, seed) for label in labels for data in ("small", "tiny") for seed in ("2026", "2027")}
    assert comparison.failures == ()
    changed = comparison.of("DReX+modalities=[rating]", "tiny")[0]
    assert changed.result["model"] == "DReX" and changed.result["config"]["modalities"] == ["rating"]
    assert len(changed.explanations()) == len(comparison.of("DReX", "small")[0].explanations()) == 12
    assert comparison.of("BPR", "tiny")[0].explanations() == []
    # All models of one split were tested on the same rows.
    tested: dict[str, list] = {}
    for run in comparison.of(dataset="small"):
        test = run.interactions().query("split == 'test'")
        tested.setdefault(run.replicate, []).append(set(zip(test["user_id"], test["item_id"], strict=True)))
    first, second = tested["2026"], tested["2027"]
    assert all(rows == first[0] for rows in first) and first[0] != second[0]


def test_users_metrics_average_to_those_of_the_result(comparison):
    for run in comparison.of(dataset="small"):
        users, own = run.users(), run.result["test"]["own_test"]
        for name in ("ndcg@5", "recall@10", "f1@1"):
            assert users[name].mean() == pytest.approx(own[name], abs=1e-12)
            assert users[f"full_{name}"].mean() == pytest.approx(run.result["test"]["full"][name], abs=1e-12)
        rows = run.interactions()
        test = rows[rows["split"] == "test"]
        counts = rows[rows["split"] == "train"].groupby("user_id").size()
        assert (users["train_ratings"] == counts[users.index]).all()
        assert (users["test_ratings"] == test.groupby("user_id").size()[users.index]).all()
        if own.get("mae") is not None:
            weighted = (users["mae"] * users["test_ratings"]).sum() / users["test_ratings"].sum()
            assert weighted == pytest.approx(own["mae"], abs=1e-12)
            squared = (users["mse"] * users["test_ratings"]).sum() / users["test_ratings"].sum()
            assert squared**0.5 == pytest.approx(own["rmse"], abs=1e-12)
        else:
            assert users["mae"].isna().all()


def test_finished_runs_are_reused_when_their_data_were_moved_or_a_default_is_spelt_out(
    run_compare, small, tmp_path, capsys
):
    first = run_compare(["ItemMean"])
    stamp = (first.runs[0].folder / "result.json").stat().st_mtime_ns
    moved = shutil.copytree(small.root, tmp_path / "moved")
    again = run_compare(["ItemMean"], data_path=moved, parameters={**QUICK, "gain": "exponential"})
    assert "1 runs: 1 are finished, 0 to make" in capsys.readouterr().out
    assert (again.runs[0].folder / "result.json").stat().st_mtime_ns == stamp


def test_finished_runs_are_reused_and_changed_ones_are_repeated(run_compare, capsys):
    first = run_compare(["Bias", "ItemMean"])
    stamps = [(run.folder / "result.json").stat().st_mtime_ns for run in first.runs]
    again = run_compare(["Bias", "ItemMean", "GlobalMean"])
    assert "3 runs: 2 are finished, 1 to make\n" in capsys.readouterr().out
    assert [(run.folder / "result.json").stat().st_mtime_ns for run in again.runs][:2] == stamps
    other = {"parameters": {**QUICK, "relevance_threshold": 3.0}, "name": "other"}
    with pytest.raises(CheckpointError, match=r"relevance_threshold: None there, 3\.0 now\); .*--overwrite"):
        run_compare(["Bias", "ItemMean"], **other)
    assert [run.folder for run in read_comparison(again.folder).runs] == [run.folder for run in again.runs]
    changed = run_compare(["Bias", "ItemMean"], **other, overwrite=True)
    assert "2 runs: 0 are finished, 2 to make" in capsys.readouterr().out
    assert changed.runs[0].result["protocol"]["threshold"] == 3.0
    with pytest.raises(CheckpointError, match="was replaced by another one since"):
        read_comparison(again.folder)


def test_a_failing_model_leaves_its_reason_and_the_others_finish(run_compare):
    # NCL needs faiss, which is not installed; NeuMF without any layer breaks inside torch.
    result = run_compare(["NCL", "NeuMF+mlp_hidden_size=[]", "Bias"], seeds=(2026, 2027))
    assert [run.label for run in result.runs] == ["Bias"] * 2
    failed = {(failure.label, failure.replicate): failure.error for failure in result.failures}
    assert set(failed) == {(label, seed) for label in ("NCL", "NeuMF+mlp_hidden_size=[]") for seed in ("2026", "2027")}
    assert "faiss" in failed["NCL", "2026"]
    assert "Traceback" in (result.folder.parent / "small/NCL/seed-2026/error.log").read_text()


def test_a_stopped_comparison_resumes(run_compare, monkeypatch, tmp_path):
    import recbole_drex.experiments.compare as comparing

    real, calls = comparing.run_one, []

    def stop_at_second(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(comparing, "run_one", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        run_compare(["Bias", "ItemMean", "GlobalMean"])
    noted = json.loads((tmp_path / "results/comparison/comparison.json").read_text())
    assert [run["status"] for run in noted["runs"]] == ["finished", "waiting", "waiting"]
    assert [run.label for run in read_comparison(tmp_path / "results/comparison").runs] == ["Bias"]
    monkeypatch.undo()
    assert len(run_compare(["Bias", "ItemMean", "GlobalMean"]).runs) == 3


def test_ablations_take_one_thing_away_each(run_compare):
    result = run_compare(["DReX+taste=[]", "BPR"], ablate=True, parameters={**QUICK, "use_bias": False})
    labels = [variant.label for variant in result.variants]
    assert labels == [
        "DReX+taste=[]",
        "DReX+taste=[]+use_bilinear=false",
        "DReX+taste=[]+adjust_rating=false",
        "DReX+taste=[]+aspects=0",
        "DReX+taste=[]+modalities=[rating]",
        "DReX+taste=[]+modalities=[review]",
        "BPR",
    ]
    assert {run.label for run in result.runs} == set(labels)
    with pytest.raises(ConfigError, match="no ablations are defined for BPR"):
        run_compare(["BPR"], ablate=True)


def test_a_varied_parameter_gives_a_variant_for_each_value_to_the_models_that_know_it(run_compare):
    result = run_compare(["DReX", "ItemMean"], vary={"message_samples": [1, 5], "hide_reviews": [0.0, 1.0]})
    labels = [variant.label for variant in result.variants]
    assert labels == [
        "DReX+message_samples=1+hide_reviews=0",
        "DReX+message_samples=1+hide_reviews=1",
        "DReX+message_samples=5+hide_reviews=0",
        "DReX+message_samples=5+hide_reviews=1",
        "ItemMean+hide_reviews=0",
        "ItemMean+hide_reviews=1",
    ]
    assert result.vary == {"message_samples": [1, 5], "hide_reviews": [0.0, 1.0]}
    assert {run.label for run in result.runs} == set(labels)


def test_folds_test_every_interaction_once(run_compare, small):
    result = run_compare(["Bias"], folds=3)
    assert [run.replicate for run in result.runs] == ["2026-fold-0", "2026-fold-1", "2026-fold-2"]
    parts = [run.interactions() for run in result.runs]
    tested = [set(zip(p["user_id"], p["item_id"], strict=True)) for p in (p[p["split"] == "test"] for p in parts)]
    everything = set(zip(parts[0]["user_id"], parts[0]["item_id"], strict=True))
    assert set.union(*tested) == everything
    assert sum(map(len, tested)) == len(everything)
    for part in parts:
        shares = part.groupby("split").size() / len(part)
        assert shares["test"] == pytest.approx(1 / 3, abs=0.03) == shares["valid"]
    assert {run.result["split"] for run in result.runs} == {"random, KF 3, by user"}


@pytest.mark.parametrize("folds", [2, -1, 0])
def test_invalid_folds_are_refused(run_compare, folds):
    with pytest.raises(ConfigError, match="folds"):
        run_compare(["Bias"], folds=folds)


def test_names_of_models_with_changes():
    assert parse_model("DReX+learning_rate=1e+3+modalities=[rating,review]") == (
        "DReX",
        {"learning_rate": 1000.0, "modalities": ["rating", "review"]},
    )
    assert label_of(*parse_model("drex+modalities=[rating, review]")) == "DReX+modalities=[rating,review]"
    for text in ("DReX+", "DReX+start=", "DReX+nonsense"):
        with pytest.raises(ConfigError):
            parse_model(text)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["DReXX"], {}, "did you mean 'DReX'"),
        (["DReX"], {"parameters": {**QUICK, "message_sample": 3}}, "did you mean 'message_samples'"),
        (["Bias+message_samples=3"], {}, "unknown parameter of Bias"),
        (["DReX"], {"vary": {"message_sample": [1, 2]}}, "did you mean 'message_samples'"),
        (["DReX"], {"vary": {"epochs": [1, 2]}}, "is varied and given a value"),
        (["DReX"], {"vary": {"message_samples": [1, 1]}}, "must be distinct"),
        (["DReX"], {"vary": {"message_samples": [1], "dropout": [0.1], "start": ["zero"]}}, "one or two parameters"),
        (["DReX+hide_reviews=1.5"], {}, "'hide_reviews' must be 0 to 1, not 1.5"),
        (["DReX"], {"name": "../up"}, "comparison name"),
        (["DReX"], {"parameters": {**QUICK, "seed": 1}}, "given by --seeds"),
        ([], {}, "at least one model"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(run_compare, tmp_path, models, options, message):
    with pytest.raises(DrexError, match=message):
        run_compare(models, **options)
    assert not list(tmp_path.glob("results/*/*/seed-*"))


def test_damaged_and_unrelated_folders_are_named(comparison, tmp_path):
    with pytest.raises(CheckpointError, match="holds no comparison"):
        read_comparison(tmp_path)
    copied = unseal(shutil.copytree(comparison.folder.parent, tmp_path / "results"))
    folder = copied / comparison.folder.name
    assert len(read_comparison(folder).runs) == len(comparison.runs)
    result = copied / "small/Bias/seed-2026/result.json"
    text = result.read_text()
    result.write_text(text[:100])
    with pytest.raises(CheckpointError, match=r"Bias.seed-2026.result\.json"):
        read_comparison(folder)
    result.write_text('{"accuracy": 0.9}')
    with pytest.raises(CheckpointError, match="not a result file of recbole_drex"):
        read_comparison(folder)
    result.write_text(text)
    for damage in ("{", '{"schema": 99}', '{"schema": 1, "runs": [{}]}'):
        (folder / "comparison.json").write_text(damage)
        with pytest.raises(CheckpointError, match=r"comparison\.json"):
            read_comparison(folder)


def test_single_runs_can_be_put_side_by_side(comparison):
    folders = [run.folder for run in comparison.of(dataset="small")]
    result = comparison_of(folders, references=["Bias"])
    assert [variant.label for variant in result.variants if variant.reference] == ["Bias"]
    assert len(result.runs) == len(folders)
    alone = read_comparison(folders[0])
    assert alone.variants[0].label == "DReX" and alone.vary == {}
    assert all(variant.reference for variant in alone.variants[1:])
