"""Tables of comparisons: means, ranks, p-values, notes, files, and what does not belong together."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from planted_runs import PROTOCOL, planted_comparison, write_run

from recbole_drex.analysis.comparison_table import comparison_table, write_tables
from recbole_drex.analysis.significance import compare_models
from recbole_drex.errors import CheckpointError, ConfigError, DataError
from recbole_drex.results.comparison import Failure, Variant, comparison_of, read_run


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return planted_comparison(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def table(comparison):
    return comparison_table(comparison, ["mae", "rmse", "ndcg@5", "users"])


def of(table, dataset="demo"):
    frame = table.frame
    return frame[frame["dataset"] == dataset].set_index("model")


def values(comparison, label, metric, dataset="demo", block="own_test"):
    return [run.result["test"][block][metric] for run in comparison.of(label, dataset)]


def test_rows_come_as_asked_then_references_then_bounds(table):
    rows = of(table)
    assert list(rows.index) == ["DReX", "DReX+start=random", "BPR", "Bias", "Random", "Oracle"]
    assert list(rows["kind"]) == ["model", "model", "model", "reference", "bound", "bound"]
    assert rows["runs"].tolist() == [3] * 6
    assert list(dict.fromkeys(table.frame["dataset"])) == ["demo", "Soft_ware"]


def test_means_and_spread_are_those_of_the_runs(comparison, table):
    rows = of(table)
    result = values(comparison, "DReX", "ndcg@5")
    assert rows.loc["DReX", "ndcg@5"] == pytest.approx(sum(result) / 3)
    assert rows.loc["DReX", "ndcg@5_std"] == pytest.approx(np.std(result, ddof=1))
    assert rows.loc["Oracle", ["mae", "ndcg@5"]].tolist() == pytest.approx([0, 1])
    assert np.isnan(rows.loc[["BPR", "Random"], "mae"]).all()


def test_ranks_leave_bounds_out_and_point_the_right_way(table):
    rows = of(table)
    assert rows["mae_rank"].dropna().to_dict() == {"DReX": 1, "DReX+start=random": 2, "Bias": 3}
    assert rows["ndcg@5_rank"].dropna().to_dict() == {"DReX": 1, "DReX+start=random": 2, "Bias": 3, "BPR": 4}
    assert rows.index[rows["mae_best"]].tolist() == rows.index[rows["ndcg@5_best"]].tolist() == ["DReX"]
    assert rows["users_rank"].isna().all() and not rows["users_best"].any()


def test_the_corrected_p_of_the_table_is_that_of_the_tests(comparison, table):
    rows = of(table)
    for metric, models in {"ndcg@5": 3, "rmse": 2}.items():
        tested = compare_models(comparison.of(dataset="demo"), metric, "DReX")
        assert rows[f"{metric}_p"].dropna().to_dict() == pytest.approx(tested["p_holm"].dropna().to_dict())
        assert tested["mean"].to_dict() == pytest.approx(rows.loc[tested.index, metric].to_dict())
        assert tested["p_holm"].count() == models
    assert rows.loc[["DReX", "Random", "Oracle"], "ndcg@5_p"].isna().all()


def test_another_reference_may_be_named(comparison):
    table = comparison_table(dataclasses.replace(comparison, reference="Bias"), ["mae", "ndcg@5"])
    assert set(table.tests["reference"]) == {"Bias"}
    assert of(table).loc["Bias", "mae_p":"mae_p"].isna().all() and of(table).loc["DReX", "mae_p"] < 0.05
    assert any(note.startswith("Tested against Bias: mae, ndcg@5.") for note in table.notes)
    # It predicts no rating.
    table = comparison_table(dataclasses.replace(comparison, reference="BPR"), ["mae", "ndcg@5"])
    assert any("mae on demo not tested: BPR, the reference, has no value in every run." in note for note in table.notes)
    assert set(table.tests.query("dataset == 'demo'")["metric"]) == {"ndcg@5"}


def test_metrics_that_the_order_seldom_changes_are_neither_ranked_nor_tested(tmp_path):
    folders = [write_run(tmp_path, label, noise=noise) for label, noise in {"DReX": 0.3, "Bias": 1.0}.items()]
    for folder in folders:
        result = json.loads((folder / "result.json").read_text())
        result["test"]["own_test"] |= {"order_matters": 0.9, "order_matters@5": 0.12, "f1@1": 0.5}
        (folder / "result.json").write_text(json.dumps(result))
    table = comparison_table(comparison_of(folders), ["ndcg@5", "f1@5", "f1@1"])
    rows = of(table)
    assert rows.loc[["DReX", "Bias"], "ndcg@5_rank"].tolist() == [1, 2]
    assert rows["f1@5"].notna().all() and rows["f1@5_rank"].isna().all() and not rows["f1@5_best"].any()
    assert "f1@5" not in set(table.tests["metric"])
    reason = (
        "neither ranked nor tested, since the order of the own test items makes a difference for 12% of users only."
    )
    assert f"f1@5 on demo: {reason}" in table.notes
    assert "f1@1 on demo: constant, the same for all models." in table.notes


def test_with_one_run_per_model_the_text_states_that_training_noise_is_unknown(tmp_path):
    table = comparison_table(comparison_of([write_run(tmp_path, label) for label in ("DReX", "Bias")]), ["mae"])
    assert any("with one run per model, training noise is unknown" in note for note in table.notes)


def test_equal_models_share_a_rank_and_none_is_best(tmp_path):
    same = {"test": {"own_test": {"mae": 0.5, "ndcg@5": 0.9}, "full": None}}
    folders = [write_run(tmp_path, label, **same) for label in ("A", "B", "C")]
    rows = of(comparison_table(comparison_of(folders), ["mae"], tests=()))
    assert rows.loc[["A", "B", "C"], "mae_rank"].tolist() == [2, 2, 2]
    assert not rows["mae_best"].any()


def test_a_value_missing_in_one_run_leaves_no_mean_of_the_others(tmp_path):
    folders = [write_run(tmp_path, seed=1), write_run(tmp_path, seed=2), write_run(tmp_path, "Bias", seed=1)]
    folders.append(write_run(tmp_path, "Bias", seed=2))
    result = json.loads((folders[0] / "result.json").read_text())
    result["test"]["own_test"]["rmse"] = None
    (folders[0] / "result.json").write_text(json.dumps(result))
    table = comparison_table(comparison_of(folders), ["rmse", "mae"])
    assert np.isnan(of(table).loc["DReX", "rmse"])
    assert of(table)["rmse_rank"].isna().all()
    assert any(note.startswith("rmse on demo not tested: fewer than two models") for note in table.notes)


def test_failed_and_incomplete_models_keep_their_row_and_a_note(comparison):
    lacking = [run for run in comparison.runs if (run.label, run.dataset, run.replicate) != ("DReX", "demo", "2")]
    damaged = dataclasses.replace(
        comparison,
        runs=tuple(lacking),
        variants=(Variant("NCL", "NCL"), *comparison.variants),
        failures=tuple(Failure("NCL", "demo", seed, "ImportError: no\nfaiss") for seed in ("1", "2", "3")),
    )
    table = comparison_table(damaged, ["mae"])
    rows = of(table)
    assert rows.loc["NCL", "runs"] == 0 and np.isnan(rows.loc["NCL", "mae"])
    assert rows.loc["DReX", "runs"] == 2 and rows.loc["DReX", "mae"] > 0
    assert np.isnan(rows.loc["DReX", "mae_rank"])
    assert rows.loc["DReX+start=random", "mae_rank"] == 1
    # The reference lacks a run, so nothing is tested against it.
    assert not len(table.tests.query("dataset == 'demo'"))
    assert any(
        "mae on demo not tested: DReX, the reference, has no value in every run." in note for note in table.notes
    )
    assert "NCL failed on demo (1, 2, 3): ImportError: no\nfaiss" in table.notes
    assert "NCL has not been run on Soft_ware." in table.notes
    assert "DReX on demo lacks 2: its mean is shown, but neither ranked nor tested." in table.notes
    assert "ImportError: no faiss" in table.to_markdown()


def test_one_model_alone_has_neither_rank_nor_test(tmp_path):
    table = comparison_table(comparison_of([write_run(tmp_path)]), ["mae", "rmse", "ndcg@5"])
    assert of(table)["mae_rank"].isna().all() and len(table.tests) == 0
    assert not any("not tested" in note for note in table.notes)
    assert "(1)" not in table.to_markdown() and "**" not in table.to_markdown()


def test_too_few_users_for_a_test_leave_the_table_and_the_reason(tmp_path):
    folders = [write_run(tmp_path, label, users=1) for label in ("DReX", "Bias")]
    table = comparison_table(comparison_of(folders), ["mae"])
    assert of(table).loc["DReX", "mae"] > 0
    assert any("needs two or more users" in note for note in table.notes)


def test_the_full_catalogue_has_its_own_table(comparison):
    table = comparison_table(comparison, block="full")
    assert "candidates=full" in table.header
    assert table.metrics == ("ndcg@10", "precision@10", "recall@10", "f1@10")
    assert set(table.frame["kind"]) == {"model", "reference"}
    assert of(table).loc["Bias", "ndcg@10"] == pytest.approx(
        np.mean(values(comparison, "Bias", "ndcg@10", block="full"))
    )
    tested = compare_models(comparison.of(dataset="demo"), "full_ndcg@10", "DReX")["p_holm"].dropna()
    assert of(table)["ndcg@10_p"].dropna().to_dict() == pytest.approx(tested.to_dict())


def test_the_header_names_data_split_and_conventions(comparison, table):
    data = ", ".join(
        f"{name} ({comparison.of(dataset=name)[0].result['data']['fingerprint'][:12]})"
        for name in ("demo", "Soft_ware")
    )
    assert table.header == f"{data} | split: random, RS [0.8, 0.1, 0.1], by user | {PROTOCOL.describe()}"


def test_write_tables_writes_each_format_and_the_tests(comparison, tmp_path):
    tables = write_tables(comparison, tmp_path)
    assert list(tables) == ["own_test", "full"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"{name}.{suffix}" for name in ("table", "table_full") for suffix in ("csv", "md", "tex")]
        + ["significance.csv"]
    )
    assert (tmp_path / "table.md").read_text() == tables["own_test"].to_markdown()
    tests = pd.read_csv(tmp_path / "significance.csv")
    assert list(tests.columns[:5]) == ["dataset", "block", "metric", "reference", "model"]
    assert set(tests["block"]) == {"own_test", "full"}
    row = tests.query("dataset == 'demo' and block == 'own_test' and metric == 'mae' and model == 'Bias'").iloc[0]
    assert row["p_holm"] == of(tables["own_test"]).loc["Bias", "mae_p"]
    assert row["ci_low"] < row["difference"] < row["ci_high"] and row["users"] == 40
    assert not tests.query("model == reference")["difference"].any()


def test_without_the_full_catalogue_there_is_one_table(tmp_path):
    folders = [write_run(tmp_path / "results", label, full=False) for label in ("DReX", "Bias")]
    assert list(write_tables(comparison_of(folders), tmp_path / "tables")) == ["own_test"]
    assert not (tmp_path / "tables" / "table_full.csv").exists()


def test_what_was_not_asked_for_is_not_tested(comparison):
    table = comparison_table(comparison, ["mae", "rmse"], tests=["rmse"])
    assert set(table.tests["metric"]) == {"rmse"}
    assert table.frame["mae_p"].isna().all() and "against DReX: rmse. †" in table.to_markdown()
    assert len(comparison_table(comparison, ["mae"], tests=()).tests) == 0


def test_medians_are_tested_among_the_models_that_have_them(tmp_path):
    folders = [
        write_run(tmp_path, label, "demo", seed, noise, medians=label != "Bias")
        for label, noise in {"DReX": 0.2, "NARRE": 0.9, "Bias": 0.5}.items()
        for seed in (1, 2)
    ]
    folders.append(write_run(tmp_path, "Bias", "without_any", 1))
    comparison = comparison_of(folders)
    table = comparison_table(comparison, ["mae", "mae_median"], tests=["mae_median"])
    (tested,) = table.tests.loc[table.tests["p"].notna()].to_dict("records")
    assert (tested["dataset"], tested["reference"], tested["model"]) == ("demo", "DReX", "NARRE")
    result = compare_models(comparison.of(dataset="demo"), "mae_median", "DReX")
    assert tested["p"] == result.loc["NARRE", "p"] and "Bias" not in result.index
    # That one model alone has a median is no news.
    alone = comparison_table(comparison_of([folder for folder in folders if "NARRE" not in str(folder)]))
    assert not any("mae_median" in note for note in alone.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ["ndgc@10"]}, r"unknown metric of own_test: 'ndgc@10'; did you mean 'ndcg@10'"),
        ({"metrics": ["mae"], "block": "full"}, "unknown metric of full: 'mae'"),
        ({"block": "ful"}, "did you mean 'full'"),
        ({"metrics": ["mae"], "tests": ["ndcg@5"]}, "unknown metric to test: 'ndcg@5'"),
        ({"metrics": ["mae_rounded"], "tests": ["mae_rounded"]}, "'mae_rounded' of own_test has no value per user"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(comparison, arguments, message):
    with pytest.raises(ConfigError, match=message):
        comparison_table(comparison, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": {**PROTOCOL.as_dict(), "gain": "linear"}}, "'DReX' and 'Bias' differ in protocol, gain: exp"),
        ({"split": "temporal"}, "differ in split: random, .* and temporal"),
        ({"data": {"fingerprint": "f"}}, "'DReX' and 'Bias' on demo were made on different data: .* and f$"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path, change, message):
    if "data" in change:
        described = read_run(write_run(tmp_path, "Bias")).result["data"]
        change = {"data": {**described, **change["data"]}}
    folders = [write_run(tmp_path), write_run(tmp_path, "Bias", **change)]
    with pytest.raises(DataError, match=message):
        comparison_table(comparison_of(folders))


def test_a_run_that_comes_twice_or_is_of_another_loss_is_refused(tmp_path):
    folder = write_run(tmp_path)
    with pytest.raises(DataError, match="two results of 'DReX' on demo have seed 2026"):
        comparison_table(comparison_of([folder, folder]))
    with pytest.raises(DataError, match="results of 'DReX' on demo differ in loss: mse and mae"):
        comparison_table(comparison_of([folder, write_run(tmp_path, seed=1, loss="mae")]))
    folds = [write_run(tmp_path / str(fold), fold=fold) for fold in (0, 1)]
    assert of(comparison_table(comparison_of(folds), ["mae"])).loc["DReX", "runs"] == 2


def test_a_damaged_users_file_is_named(tmp_path):
    folders = [write_run(tmp_path), write_run(tmp_path, "Bias")]
    (folders[1] / "users.parquet").write_bytes(b"PAR1")
    with pytest.raises(CheckpointError, match=r"Bias.*users\.parquet"):
        comparison_table(comparison_of(folders))
    assert len(comparison_table(comparison_of(folders), tests=()).frame)


def test_a_comparison_without_a_finished_run_is_refused(comparison):
    with pytest.raises(DataError, match="no result"):
        comparison_table(dataclasses.replace(comparison, runs=()))


def test_models_of_scores_alone_show_that_they_have_no_error(tmp_path):
    folders = [write_run(tmp_path, label, scores=True) for label in ("BPR", "EASE")]
    table = comparison_table(comparison_of(folders))
    assert "mae" in table.metrics
    assert np.isnan(of(table).loc["BPR", "mae"]) and of(table).loc["Oracle", "mae"] == 0
    assert re.search(r"\| BPR +\| BPR +\| score +\| 1 +\| - ", table.to_markdown())
