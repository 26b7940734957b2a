"""The library and its commands: trained runs recommend, predict, explain, evaluate, and write what they say of many."""

from __future__ import annotations

import doctest
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from recbole.data.interaction import Interaction

import recbole_drex as rd
from recbole_drex.cli.main import main
from recbole_drex.errors import CheckpointError, ConfigError, DataError
from recbole_drex.experiments import trained_run
from recbole_drex.experiments.batch_output import recommendations
from recbole_drex.explain.explanation_text import render
from recbole_drex.model.factorization.itemmean import ItemMean
from recbole_drex.model.vectors import vectors_of
from recbole_drex.results.run_result import read_interactions
from recbole_drex.utils.table_files import read_texts, write_table

SHORT = {"epochs": 2, "train_batch_size": 256, "explained_users": 0, "measured_users": 0}


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory) -> Any:
    """``trained(models, **more)``: a call of ``rd.run`` on the small data set."""
    output = tmp_path_factory.mktemp("results")

    def train(models: Any, **more: Any) -> Any:
        given = {**small.settings, **SHORT, "references": False, "output_dir": output, **more}
        return rd.run(models, small.name, data_path=small.root, **given)

    return train


@pytest.fixture(scope="module")
def run(trained) -> rd.TrainedRun:
    return trained("DReX")


@pytest.fixture(scope="module")
def neumf(trained) -> rd.TrainedRun:
    """A model of RecBole that ranks, and scores pairs alone."""
    return trained(["NeuMF"], epochs=1)[0]


def predicted(run: rd.TrainedRun, user: str, items: list[str]) -> np.ndarray:
    """What the model itself predicts."""
    dataset, model = run.experiment.dataset, run.experiment.model
    ids = {
        dataset.uid_field: torch.tensor([dataset.token2id(dataset.uid_field, user)] * len(items)),
        dataset.iid_field: torch.tensor([dataset.token2id(dataset.iid_field, item) for item in items]),
    }
    with torch.no_grad():
        return model.predict(Interaction(ids)).flatten().double().numpy()


# Calls ------------------------------------------------------------------------------------------------------------


def test_a_name_gives_a_run_and_a_list_gives_runs_whose_results_are_read_as_before(trained, run, tmp_path):
    assert isinstance(run, rd.TrainedRun) and run.references == ()
    assert run.result["test"]["own_test"]["rmse"] == run["test"]["own_test"]["rmse"]
    one, two = trained("Bias", seeds=[1, 2])
    assert (one.replicate, two.replicate) == ("1", "2")
    assert trained("Bias", seed=1).folder == one.folder == two.folder.with_name("seed-1")
    whole = trained("ItemMean", references=True, output_dir=tmp_path)
    assert [one.label for one in whole.references] == ["GlobalMean", "Bias", "BiasedMF"]
    table = whole.table()
    assert table.index.tolist() == ["ItemMean", "GlobalMean", "Bias", "BiasedMF", "Random", "Oracle"]
    assert table.loc["Bias", "rmse"] == whole.references[1]["test"]["own_test"]["rmse"]
    listed = trained(["ItemMean"], references=True, output_dir=tmp_path)
    assert [one.label for one in listed] == ["ItemMean", "GlobalMean", "Bias", "BiasedMF"]


def test_output_is_the_parameter_and_a_folder_only_as_it_was_called_before(trained, tmp_path):
    assert trained("BiasedMF", output="ordinal", output_dir=tmp_path)["output"] == "distribution"
    with pytest.warns(DeprecationWarning, match="write output_dir=FOLDER"):
        assert trained("Bias", output=tmp_path / "old").folder == tmp_path / "old" / "small" / "Bias" / "seed-2026"


def test_a_model_may_be_a_class(trained):
    class OwnMean(ItemMean):
        """The item's mean by another name."""

    assert trained(OwnMean).table().loc["OwnMean", "rmse"] == trained(ItemMean).table().loc["ItemMean", "rmse"]


@pytest.mark.parametrize(
    "more, message",
    [
        ({"epochs": 2, "parameters": {"epochs": 3}}, "parameter 'epochs' is given twice: by name and in parameters"),
        ({"seed": 1, "seeds": [1]}, "give seed or seeds, not both"),
        ({"epoch": 1}, "did you mean 'epochs'"),
    ],
)
def test_contradictions_are_refused(trained, more, message):
    with pytest.raises(ConfigError, match=message):
        trained("Bias", **more)


def test_reviews_may_be_a_data_frame(small, tmp_path):
    raw = pd.read_json(small.raw["reviews"], lines=True).rename(columns={"user_id": "reviewer", "parent_asin": "game"})
    raw = raw.drop(columns=["asin", "images"])
    items = pd.read_json(small.raw["meta"], lines=True)[["parent_asin", "title"]]
    given = {**small.settings, "columns": {"user_id": "reviewer", "item_id": "game"}, "data_path": tmp_path}
    made = rd.run("Bias", "framed", raw=raw, meta=items, references=False, output_dir=tmp_path / "out", **given)
    assert made["data"]["interactions"] == small.manifest["statistics"]["interactions"]
    assert made.recommend("user_03", 1)["title"].iloc[0] in set(items["title"])
    again = rd.run("Bias", "framed", raw=raw, meta=items, references=False, output_dir=tmp_path / "out", **given)
    assert again["data"]["fingerprint"] == made["data"]["fingerprint"]
    with pytest.raises(DataError, match="the data frame cannot be written"):
        rd.run("Bias", "odd", raw=raw.assign(rating=["a", *raw["rating"][1:]]), data_path=tmp_path)


# What a run says --------------------------------------------------------------------------------------------------


def test_recommendations_are_the_models_best_and_the_same_everywhere(run, neumf):
    for one, value in ((run, "predicted"), (neumf, "score")):
        dataset = one.experiment.dataset
        everyone = pd.concat(recommendations(one, k=5))
        left = {user for user in range(1, dataset.user_num) if len(one.recommender.known(user)) < dataset.item_num - 1}
        assert {dataset.token2id(dataset.uid_field, user) for user in everyone["user_id"]} == left
        for user, batch in list(everyone.groupby("user_id"))[:5]:
            single = one.recommend(user, 5)
            pd.testing.assert_frame_equal(batch.drop(columns="user_id").reset_index(drop=True), single)
            known = one.recommender.known(dataset.token2id(dataset.uid_field, user)).tolist()
            left = [item for item in range(1, dataset.item_num) if item not in known]
            left = dataset.id2token(dataset.iid_field, left).tolist()
            scores = pd.Series(predicted(one, user, left), index=left).sort_values(ascending=False)
            np.testing.assert_allclose(single[value], scores[:5], rtol=1e-5)
            np.testing.assert_allclose(one.predict([(user, item) for item in left]), scores[left], rtol=1e-6)
    explained = run.explain("user_03", k=3)
    assert [one.item for one in explained.recommendations] == run.recommend("user_03", 3)["item_id"].tolist()
    assert [one.predicted for one in explained.recommendations] == run.recommend("user_03", 3)["predicted"].tolist()
    assert str(explained) == render(explained)
    assert run.explain("user_03", "game_07").recommendations[0].item == "game_07"


def test_predictions_keep_the_index_and_name_what_is_unknown(run, neumf):
    frame = pd.DataFrame({"item_id": ["game_07", "game_01"], "user_id": ["user_03", "user_05"], "x": 1}, index=[7, 3])
    result = run.predict(frame)
    assert result.index.tolist() == [7, 3] and result.name == "predicted" and neumf.predict(frame).name == "score"
    assert result.tolist() == [*predicted(run, "user_03", ["game_07"]), *predicted(run, "user_05", ["game_01"])]
    assert len(run.predict([])) == 0
    for pairs, message in (
        ([("user_03", "x"), ("user_03", "y")], "items of the pairs that are not in the data: 'x', 'y'$"),
        ([(str(k), "game_07") for k in range(7)], "users of the pairs .*: '0', '1', '2', '3', '4' and 2 more$"),
        ([("[PAD]", "game_07")], "users of the pairs that are not in the data"),
        ([("user_03",)], "pairs are \\(user, item\\)"),
        (frame.drop(columns="user_id"), "the pairs have no column 'user_id', but 'item_id', 'x'"),
    ):
        with pytest.raises(DataError, match=message):
            run.predict(pairs)
    for k in (0, True, 2.5):
        with pytest.raises(ConfigError, match="must be an integer of at least 1"):
            run.recommend("user_03", k)
    with pytest.raises(DataError, match="offers no explanations"):
        neumf.explain("user_03")


def test_an_evaluation_by_other_conventions(run):
    stored = run.table()
    pd.testing.assert_frame_equal(run.evaluate(), stored)
    files = sorted(run.folder.rglob("*"))
    other = run.evaluate(topk=[3], gain="linear")
    assert other.loc["DReX", "rmse"] == stored.loc["DReX", "rmse"]
    assert other.loc["DReX", "ndcg@3"] != stored.loc["DReX", "ndcg@3"] and "ndcg@5" not in other
    assert sorted(run.folder.rglob("*")) == files
    with pytest.raises(ConfigError, match="unknown parameter of an evaluation: 'epochs'"):
        run.evaluate(epochs=3)
    with pytest.raises(ConfigError, match="unknown value of 'gain'"):
        run.evaluate(gain="none")
    with pytest.raises(ConfigError, match="unknown kind of candidates: 'sampled'"):
        run.table("sampled")


def test_runs_and_explanations_show_themselves(run):
    assert repr(run).startswith("<DReX on small, seed 2026: mae ") and len(repr(run)) < 120
    html = run._repr_html_()
    assert f"<td>{run['test']['own_test']['rmse']:.4f}</td>" in html and html.count("<tr>") == 4
    explained = run.explain("user_03", k=2)
    assert repr(explained).startswith("Explanation(user='user_03', items=['game_")
    assert explained._repr_html_().count("<tr>") == 3


def test_the_library_is_complete_and_its_examples_are_true(run):
    assert dir(rd) == sorted(rd.__all__)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for name in set(dir(rd)) - {"__version__"}:
        assert ">>> " in getattr(rd, name).__doc__, f"{name} has no example"
    for test in finder.find(trained_run, "trained_run", extraglobs={"run": run}):
        result = runner.run(test)
        assert not result.failed, test.name


def test_a_loaded_run_is_the_one_that_was_trained(run, tmp_path):
    loaded = rd.load(run.folder)
    assert loaded.result == run.result and loaded.experiment.folder == run.folder
    pd.testing.assert_frame_equal(loaded.recommend("user_03"), run.recommend("user_03"))
    with pytest.raises(CheckpointError, match="is not a run folder"):
        rd.load(tmp_path)


# Training on everything -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["DReX", "BPR", "Bias"])
def test_all_rows_train_where_the_split_leaves_the_other_parts_out(trained, small, tmp_path, capsys, model):
    given = {"eval_args": {"split": {"RS": [1, 0, 0]}}, "output_dir": tmp_path, "epochs": 1 if model == "Bias" else 3}
    made = trained(model, **given)
    assert (
        made["test"] == {"own_test": {}, "full": {}}
        and made["valid"] == {}
        and made["best_epoch"] == given["epochs"] - 1
    )
    parts = made.experiment.parts
    assert len(parts.train_dataset) == small.manifest["statistics"]["rated"] and parts.valid is parts.test is None
    assert [one["valid_score"] for one in made.history()] == [None] * given["epochs"]
    assert set(made.interactions()["split"]) == {"train"} and made.users().empty
    with pytest.raises(ConfigError, match="no metrics: its split \\(eval_args\\) has no test part"):
        made.table()
    assert repr(made) == f"<{model} on small, seed 2026>" and "<table>" in made._repr_html_()
    out = tmp_path / "best.csv"
    assert main(["recommend", "--run", str(made.folder), "--top", "2", "--out", str(out)]) == 0
    user = str(read_texts(out)["user_id"][0])
    assert read_texts(out)["item_id"][:2].tolist() == made.recommend(user, 2)["item_id"].tolist()


def test_a_validation_part_alone_chooses_the_epoch(trained, small, tmp_path, capsys):
    made = trained("BiasedMF", eval_args={"split": {"RS": [0.9, 0.1, 0]}}, output_dir=tmp_path)
    scores = [one["valid_score"] for one in made.history()]
    assert made["best_epoch"] == int(np.argmin(scores)) and made["valid"]["rmse"] == pytest.approx(min(scores))
    assert not made["test"]["own_test"]
    words = ["--data_path", str(small.root), "--eval_args", "{split: {RS: [1, 0, 0]}}", "--output_dir", str(tmp_path)]
    words += [word for key, value in small.settings.items() for word in (f"--{key}", str(value))]
    assert main(["compare", "--models", "Bias", "--datasets", small.name, *words]) == 2
    assert "has no validation part, which a comparison needs" in capsys.readouterr().err
    assert main(["tune", "--models", "BiasedMF", "--dataset", small.name, *words]) == 2
    assert "has no validation part, which a search needs" in capsys.readouterr().err
    assert main(["run", "--model", "Bias", "--dataset", small.name, "--epochs", "1", "--no_references", *words]) == 0
    assert "There is no test part (eval_args), so nothing was evaluated." in capsys.readouterr().out
    assert main(["report", str(tmp_path / small.name / "Bias" / "seed-2026")]) == 2
    assert "no test part" in capsys.readouterr().err


# Vectors ----------------------------------------------------------------------------------------------------------


SCORED = ("BPR", "LightGCN", "EMF", "VBPR", "LIRDRec", "BiasedMF")


@pytest.mark.parametrize("model", [*SCORED, "NARRE", "DeepCoNN", "PESI", "DReX", "DMF-paper", "NeuMF"])
def test_vectors_are_those_that_the_model_scores_by(make_experiment, model):
    experiment = make_experiment(model)
    experiment.model.eval()
    users, items = vectors_of(experiment.model)
    n_users, n_items = experiment.dataset.user_num, experiment.dataset.item_num
    assert len(users) == n_users and len(items) == n_items and not users.requires_grad
    if model not in SCORED:
        return
    user = Interaction({experiment.dataset.uid_field: torch.tensor([3])})
    with torch.no_grad():
        score = experiment.model.full_sort_predict(user).flatten()
    if model in ("BPR", "LightGCN", "EMF", "LIRDRec"):
        torch.testing.assert_close(users[3] @ items.T, score)
    if model == "VBPR":
        torch.testing.assert_close(users[3] @ items.T + experiment.model._bias, score)
    if model == "BiasedMF":
        rest = experiment.model.mean + experiment.model.user_bias.weight[3] + experiment.model.item_bias.weight[:, 0]
        torch.testing.assert_close(users[3] @ items.T + rest.detach(), score)


@pytest.mark.parametrize("model", ["GlobalMean", "Bias", "ItemKNN"])
def test_models_without_vectors_have_none(make_experiment, model):
    assert vectors_of(make_experiment(model).model) is None


# Commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_recommendations_of_all_users_in_each_format(run, tmp_path, capsys, ending):
    out = tmp_path / f"best.{ending}"
    assert main(["recommend", "--run", str(run.folder), "--top", "3", "--out", str(out)]) == 0
    expected = pd.concat(recommendations(run, k=3), ignore_index=True)
    assert f"{out}: {len(expected):,} rows" in capsys.readouterr().out
    result = read_texts(out).assign(predicted=lambda table: table["predicted"].astype(float))
    pd.testing.assert_frame_equal(result, expected, check_dtype=False)


def test_unknown_users_are_named_and_the_rest_is_written(run, tmp_path, capsys):
    users, out = tmp_path / "users.txt", tmp_path / "best.csv"
    users.write_text("\ufeffuser_03\nnobody\n\nuser_01\r\nuser_03\nno\x1b[2Jone\n", encoding="utf-8")
    words = ["recommend", "--run", str(run.folder), "--users", str(users), "--top", "2", "--explain"]
    assert main([*words, "--out", str(out)]) == 0
    assert f"not in the data: nobody, no[2Jone (2 of 4 users in {users})\n" in capsys.readouterr().err
    table = pd.read_csv(out)
    assert table["user_id"].tolist() == ["user_03"] * 2 + ["user_01"] * 2
    reasons = [one.sentence for one in run.explain("user_01", k=2).recommendations]
    assert table["explanation"][2:].tolist() == reasons
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 6 and f"{table['predicted'][0]:.4f}" in shown
    users.write_text("nobody\n")
    assert main(words) == 2
    assert "names no user of" in capsys.readouterr().err


def test_predictions_of_a_file_of_pairs(run, tmp_path, capsys):
    pairs = pd.DataFrame({"user_id": ["user_03", "user_05"], "item_id": ["game_07", "game_01"], "note": ["1", "NA"]})
    for ending in ("csv", "parquet", "jsonl"):
        write_table(tmp_path / f"pairs.{ending}", [pairs])
        words = ["predict", "--run", str(run.folder), "--pairs", str(tmp_path / f"pairs.{ending}")]
        assert main([*words, "--out", str(tmp_path / "out.jsonl")]) == 0
        result = pd.read_json(tmp_path / "out.jsonl", lines=True, dtype={"note": str})
        pd.testing.assert_frame_equal(result, pairs.assign(predicted=run.predict(pairs)), check_dtype=False)
    assert main(words) == 0 and "user_03" in capsys.readouterr().out


def test_export_writes_vectors_with_their_names(run, trained, tmp_path, capsys):
    path = tmp_path / "vectors.npz"
    assert main(["export", "--run", str(run.folder), "--vectors", str(path)]) == 0
    stored, dataset = np.load(path), run.experiment.dataset
    users, items = vectors_of(run.experiment.model)
    index = stored["user_id"].tolist().index("user_03")
    assert index == dataset.token2id("user_id", "user_03") - 1 and len(stored["item_id"]) == dataset.item_num - 1
    np.testing.assert_array_equal(stored["user_vectors"][index], users[index + 1])
    np.testing.assert_array_equal(stored["item_vectors"], items[1:])
    assert main(["export", "--run", str(trained("Bias").folder), "--vectors", str(tmp_path / "none.npz")]) == 2
    assert "error: Bias has no vectors of users and items to export\n" in capsys.readouterr().err
    assert not (tmp_path / "none.npz").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["recommend", "--run", "no", "--out", "best.xlsx"],
            "best.xlsx: files of tables end in .parquet",
        ),
        (["recommend", "--run", "no", "--top", "0"], "must be an integer of at least 1, not 0"),
        (["recommend", "--run", "no", "--users", "no.txt"], "cannot read the users in no.txt: No such file"),
        (["recommend", "--run", "no"], "no is not a run folder"),
        (["predict", "--run", "no", "--pairs", "no.csv"], "cannot read no.csv: No such file"),
        (["predict", "--run", "no", "--pairs", "no.txt"], "no.txt: files of tables end in"),
        (["export", "--run", "no", "--vectors", "v.csv"], "--vectors v.csv: the file must end in .npz"),
    ],
)
def test_bad_input_is_one_line_before_any_work(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_run_without_its_data_and_an_item_without_a_title(run, small, tmp_path, capsys):
    folder, root = tmp_path / "run", tmp_path / "data"
    shutil.copytree(run.folder, folder)
    shutil.copytree(small.root / small.name, root / small.name)
    (folder / "SHA256SUMS").unlink()
    described = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**described, "data_path": str(root)}))
    best = run.recommend("user_03", 1)
    items = root / small.name / f"{small.name}.item"
    items.write_text(items.read_text().replace(str(best["title"][0]), ""))
    result = trained_run.TrainedRun(folder, run.result)
    object.__setattr__(result, "experiment", run.experiment)
    result.experiment.dataset.dataset_path = str(root / small.name)
    assert result.recommend("user_03", 1)[["item_id", "title"]].values.tolist() == [[best["item_id"][0], ""]]
    run.experiment.dataset.dataset_path = str(small.root / small.name)
    shutil.rmtree(root)
    assert main(["recommend", "--run", str(folder), "--out", str(tmp_path / "best.csv")]) == 2
    error = capsys.readouterr().err
    assert str(root) in error and error.count("\n") == 1 and not (tmp_path / "best.csv").exists()


def test_models_are_listed_one_a_line(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  DReX-implicit   DReX for ranking the full catalogue" in lines
    assert any(line.startswith("  LightGCN     LightGCN is a GCN-based") for line in lines)
    assert max(map(len, lines)) <= 130


def test_the_bare_command_shows_its_help(capsys):
    assert main([]) == 0
    assert "recommend" in capsys.readouterr().out


def test_paths_of_vectors_are_not_changed(run, tmp_path):
    """NumPy would add an ending of its own."""
    assert main(["export", "--run", str(run.folder), "--vectors", str(tmp_path / "a.npz")]) == 0
    assert [path.name for path in Path(tmp_path).iterdir()] == ["a.npz"]


def test_loading_a_run_fits_nothing_again(comparison, monkeypatch):
    """Directions of taste come from the run's own file, and predictions are those of the run."""
    run = next(run for run in comparison.runs if run.label == "DReX")
    monkeypatch.setattr("recbole_drex.utils.array_cache._LATEST", {})
    monkeypatch.setattr("recbole_drex.model.drex.taste.item_coordinates", lambda *_: pytest.fail("fitted again"))
    loaded = rd.load(run.folder)
    stored = read_interactions(run.folder)
    rows = stored[stored["split"] == "test"].head(20)
    predicted = loaded.predict(rows[["user_id", "item_id"]])
    np.testing.assert_allclose(np.asarray(predicted), rows["prediction"], atol=1e-5)
