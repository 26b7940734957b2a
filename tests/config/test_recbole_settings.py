"""RecBole's parameters and habits: they work as in RecBole, or one line names the parameter and the remedy."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from altered import copy_of

import recbole_drex.compat
from recbole.evaluator import Collector, Evaluator, metric_types, register
from recbole.evaluator.base_metric import AbstractMetric
from recbole.utils import EvaluatorType

import recbole_drex
from recbole_drex.cli.main import main
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.dataset import ReviewDataset
from recbole_drex.data.splits import settle_relevance, split
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.evaluation.metrics import check_valid_metric
from recbole_drex.evaluation.protocol import threshold_of_scale
from recbole_drex.experiments.run import load_experiment
from recbole_drex.results.run_result import read_result

RANKINGS = ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP", "GAUC"]
LISTS = ["ItemCoverage", "GiniIndex", "AveragePopularity", "ShannonEntropy", "TailPercentage"]
FIELDS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
QUICK = {"epochs": 1, "measured_users": 0, "explained_users": 0, "threads": 1}


def table(root: Path, columns: tuple[str, ...] = FIELDS, sep: str = "\t", name: str = "table") -> Path:
    """Atomic files of 10 users and 14 items: each user has 12 interactions, a second apart, in order of items."""
    rows = [
        [f"u{u}", f"i{(u + n) % 14}", 1 + (u * n) % 5, 1_600_000_000 + 20 * u + n] for u in range(10) for n in range(12)
    ]
    frame = pd.DataFrame(rows, columns=list(FIELDS))[list(FIELDS[: len(columns)])].set_axis(list(columns), axis=1)
    (root / "table").mkdir(parents=True, exist_ok=True)
    frame.to_csv(root / "table" / f"{name}.inter", sep=sep, index=False)
    return root


def dataset_of(root: Path, model: str = "Bias", **parameters) -> tuple[Config, ReviewDataset]:
    config = Config(model, "table", config_dict={"data_path": str(root), "threads": 1, **parameters})
    return config, ReviewDataset(config)


# Time, columns and relevance ---------------------------------------------------------------------------------------


def test_times_a_second_apart_keep_their_order(tmp_path):
    """RecBole's float32 holds these times in steps of 128 seconds."""
    eval_args = {"split": {"LS": "valid_and_test"}, "order": "TO"}
    root = table(tmp_path)
    path = root / "table" / "table.inter"
    pd.read_csv(path, sep="\t").sample(frac=1, random_state=1).to_csv(path, sep="\t", index=False)
    config, dataset = dataset_of(root, eval_args=eval_args, rm_dup_inter=None)
    parts = split(config, dataset)
    for part, last in ((parts.train_dataset, 9), (parts.valid.rows._dataset, 10), (parts.test.rows._dataset, 11)):
        feat = part.inter_feat
        names = dataset.id2token("user_id", feat["user_id"].numpy())
        seconds = feat["timestamp"].numpy() - 1_600_000_000
        result = pd.Series(seconds - [20 * int(name[1:]) for name in names]).groupby(names).max()
        assert result.tolist() == [last] * 10
    times = parts.train_dataset.evidence().timestamp
    assert times.dtype == torch.float64 and len(times.unique()) == 100


def test_of_equal_times_the_last_row_is_kept(tmp_path):
    path = table(tmp_path) / "table" / "table.inter"
    frame = pd.read_csv(path, sep="\t")
    again = frame.assign(**{"rating:float": 6 - frame["rating:float"]})
    pd.concat([frame, again]).to_csv(path, sep="\t", index=False)
    _, dataset = dataset_of(tmp_path)
    wanted = {(row[0], row[1]): row[2] for row in again.itertuples(index=False)}
    feat = dataset.inter_feat
    pairs = zip(
        dataset.id2token("user_id", feat["user_id"].to_numpy()),
        dataset.id2token("item_id", feat["item_id"].to_numpy()),
        strict=True,
    )
    assert dict(zip(pairs, feat["rating"], strict=True)) == wanted


@pytest.mark.parametrize("columns", (["user_id", "item_id"], ["user_id", "item_id", "rating", "timestamp"]))
def test_columns_that_load_col_leaves_out_are_read(columns, make_experiment):
    given = make_experiment("DReX", load_col={"inter": columns}).parts.train_dataset.evidence()
    usual = make_experiment("DReX").parts.train_dataset.evidence()
    assert torch.equal(given.review_row, usual.review_row) and (given.review_row >= 0).sum() > 800
    assert torch.equal(given.timestamp, usual.timestamp)


@pytest.mark.parametrize(
    ("levels", "threshold"),
    [
        (range(1, 6), 4),
        ([0.5, 2, 3.5, 4, 4.5, 5], 4),
        ([3, 4, 5], 4),
        ([1, 2, 3], 3),
        (range(1, 11), 8),
        ([0, 25, 50, 75, 100], 75),
        (range(-10, 11), 5),
        ([0, 1], 1),
        ([1], 1),
        ([4, 5], 5),
    ],
)
def test_the_threshold_follows_the_scale(levels, threshold):
    assert threshold_of_scale(np.array(levels, dtype=float)) == threshold


@pytest.mark.parametrize(
    ("scale", "parameters", "threshold", "note"),
    [
        (lambda r: r, {}, 4, ""),
        (lambda r: r, {"threshold": {"rating": 3}}, 3, ""),
        (lambda r: r, {"threshold": {"rating": 3}, "relevance_threshold": 5}, 5, ""),
        (lambda r: 0 * r + 1, {}, 1, "every rated item is relevant"),
        (lambda r: r, {"relevance_threshold": 1}, 1, "every rated item is relevant"),
        (lambda r: 20 * r, {}, 80, ""),
        (lambda r: r, {"relevance_threshold": 5.5}, None, r"relevance_threshold 5.5.* from 1 to 5"),
        (lambda r: 5 * r - 15, {}, None, "choose relevance: threshold"),
    ],
)
def test_relevance_fits_the_ratings(scale, parameters, threshold, note, tmp_path):
    path = table(tmp_path) / "table" / "table.inter"
    frame = pd.read_csv(path, sep="\t")
    frame.assign(**{"rating:float": scale(frame["rating:float"])}).to_csv(path, sep="\t", index=False)
    config, dataset = dataset_of(tmp_path, **parameters)
    if threshold is None:
        with pytest.raises(DataError, match=note):
            settle_relevance(config, dataset)
        return
    settle_relevance(config, dataset)
    assert config["relevance_threshold"] == threshold
    assert (note in dataset.notes[0]) if note else not dataset.notes


@pytest.mark.parametrize(
    "parameters",
    ({"normalize_all": True}, {"threshold": {"rating": 3}}, {"unused_col": {"inter": ["rating", "timestamp"]}}),
)
def test_ratings_and_times_stay_what_they_are(parameters, tmp_path):
    config, dataset = dataset_of(table(tmp_path), **parameters)
    feat = split(config, dataset).train_dataset.inter_feat
    assert set(feat["rating"].tolist()) == {1, 2, 3, 4, 5}
    assert feat["timestamp"].min() >= 1_600_000_000
    if "threshold" in parameters:
        assert torch.equal(feat["label"], (feat["rating"] >= 3).float())


# Names of fields and files -----------------------------------------------------------------------------------------

OTHER = ("uid:token", "iid:token", "stars:float", "when:float")
NAMES = {"USER_ID_FIELD": "uid", "ITEM_ID_FIELD": "iid", "RATING_FIELD": "stars", "TIME_FIELD": "when"}


@pytest.mark.parametrize(
    ("columns", "sep", "parameters", "message"),
    [
        (OTHER, "\t", NAMES, ""),
        (OTHER, "\t", {}, "no field 'user_id'.*name it by USER_ID_FIELD"),
        (FIELDS, ",", {"field_separator": ","}, ""),
        (FIELDS, ",", {}, r"table.inter cannot be read .* field_separator '\\t'"),
        (FIELDS[:3], "\t", {}, ""),
        (FIELDS[:3], "\t", {"eval_args": {"order": "TO"}}, "no times in a field 'timestamp'.*order: RO"),
        (FIELDS[:2], "\t", {}, ""),
    ],
)
def test_fields_and_separators(columns, sep, parameters, message, tmp_path):
    root = table(tmp_path, columns, sep)
    if message:
        with pytest.raises(DataError, match=message):
            split(*dataset_of(root, **parameters))
        return
    config, dataset = dataset_of(root, **parameters)
    parts = split(config, dataset)
    assert [len(one) for one in (parts.train_dataset, parts.valid.rows._dataset, parts.test.rows._dataset)] == [
        100,
        10,
        10,
    ]


def test_some_missing_times_are_said(tmp_path):
    path = table(tmp_path) / "table" / "table.inter"
    frame = pd.read_csv(path, sep="\t")
    frame.loc[:6, "timestamp:float"] = np.nan
    frame.to_csv(path, sep="\t", index=False)
    config, dataset = dataset_of(tmp_path, eval_args={"order": "TO"})
    split(config, dataset)
    assert dataset.notes == ["7 of 120 interactions have no time, and count as the earliest in the split"]


def test_pre_split_files_of_any_name(tmp_path):
    frame = pd.read_csv(table(tmp_path) / "table" / "table.inter", sep="\t")
    index = frame.groupby("user_id:token").cumcount()
    for name, rows in (("one", index < 8), ("two", (index >= 8) & (index < 10)), ("three", index >= 10)):
        frame[rows].to_csv(tmp_path / "table" / f"table.{name}.inter", sep="\t", index=False)
    given = {"benchmark_filename": ["one", "two", "three"], **QUICK}
    options = {"data_path": tmp_path, "output": tmp_path / "results", "references": False}
    (result,) = recbole_drex.run(["Bias"], "table", parameters=given, **options)
    assert result["split"] == "given with the data (one, two, three)"
    run = load_experiment(tmp_path / "results" / "table" / "Bias" / "seed-2026")
    assert len(run.parts.train_dataset) == 80 and len(run.parts.test.rows._dataset) == 20
    (whole,) = recbole_drex.run(["Bias"], "table", parameters=QUICK, overwrite=True, **options)
    assert whole["data"]["fingerprint"] != result["data"]["fingerprint"]
    for names, error, message in (
        (["one", "two"], ConfigError, "benchmark_filename must name"),
        (["one", "two", "four"], DataError, "table.four.inter is missing"),
    ):
        with pytest.raises(error, match=message):
            recbole_drex.run(["Bias"], "table", parameters={**QUICK, "benchmark_filename": names}, **options)


# Parameters --------------------------------------------------------------------------------------------------------

REFUSED = [
    (
        "BPR",
        {"eval_args": {"mode": {"valid": "full", "test": "uni100"}}},
        "candidates: sampled and sampled_candidates: 100",
    ),
    ("BPR", {"eval_args": {"mode": "pop100"}}, "eval_args.mode pop100.*mode: full"),
    ("BPR", {"eval_args": {"mode": "fulll"}}, "did you mean 'full'"),
    ("BPR", {"eval_args": {"mode": "labeled"}, "metrics": ["Recall"]}, "no Recall; write mode: full"),
    ("Bias", {"eval_args": {"split": {"RS": [0.8, 0.2]}}}, "eval_args.split RS needs the shares"),
    ("Bias", {"eval_args": {"split": {"RS": [0, 0.5, 0.5]}}}, "eval_args.split RS needs the shares"),
    ("Bias", {"eval_args": {"split": {"LS": "test_only"}}}, "LS must be valid_and_test"),
    ("Bias", {"eval_args": {"split": {"XS": [8, 1, 1]}}}, "kind of eval_args.split: 'XS'"),
    ("Bias", {"eval_args": {"split": {"TS": [8, 1, 1]}, "order": "RO"}}, "TS is by time, so it needs order: TO"),
    ("Bias", {"eval_args": {"ordr": "TO"}}, "did you mean 'order'"),
    ("Bias", {"eval_args": {"order": "T0"}}, "eval_args.order: 'T0'"),
    ("Bias", {"eval_args": {"group_by": "item"}}, "eval_args.group_by"),
    ("Bias", {"metrics": ["Recal"]}, "did you mean 'Recall'"),
    ("BPR", {"metrics": ["LogLoss"]}, "LogLoss.*use AUC"),
    ("BPR", {"valid_metric": "MRR@10", "topk": [5]}, r"needs a list length of 'topk', which is \[5\]"),
    ("BPR", {"valid_metric": "rmse"}, "BPR predicts no ratings; use full_ndcg@20"),
    ("BPR", {"valid_metric": "full_ndgc@10"}, "did you mean 'full_ndcg@k'"),
    ("BPR", {"valid_metric": "ndcg"}, "write ndcg@20"),
    ("BPR", {"valid_metric": "sampled_ndcg@10"}, "needs candidates: sampled"),
    ("Bias", {"val_interval": {"rating": "3,inf"}}, "val_interval rating.*such as"),
    ("Bias", {"user_inter_num_interval": "5-10"}, "user_inter_num_interval.*such as"),
    ("Bias", {"normalize_field": ["rating"]}, "normalize_field: 'rating'"),
    ("Bias", {"threshold": {"stars": 3}}, "threshold' must be {rating: NUMBER}"),
    ("Bias", {"save_dataset": True}, "save_dataset' has no use here"),
]


@pytest.mark.parametrize(("model", "parameters", "message"), REFUSED)
def test_what_means_nothing_here_is_refused_by_name(model, parameters, message):
    with pytest.raises(ConfigError, match=message):
        check_valid_metric(Config(model, "table", config_dict=parameters))


@pytest.mark.parametrize(
    ("parameters", "metric", "bigger"),
    [
        ({"valid_metric": "NDCG@10"}, "recbole_ndcg@10", True),
        ({"valid_metric": "ndcg@10"}, "ndcg@10", True),
        ({"valid_metric": "mrr@10"}, "recbole_mrr@10", True),
        ({"valid_metric": "GiniIndex@10"}, "recbole_giniindex@10", False),
        ({"valid_metric": "AUC", "eval_args": {"mode": "labeled"}}, "recbole_auc", True),
        ({"valid_metric": "RMSE", "metrics": ["RMSE", "MAE"], "eval_args": {"mode": "labeled"}}, "rmse", False),
        (
            {"user_inter_num_interval": None, "entity_kg_num_interval": None, "val_interval": {"rating": "[3,inf)"}},
            "rmse",
            False,
        ),
        ({"model": "BPR", "dataset": "other", "metrics": "Recall"}, "rmse", False),
    ],
)
def test_what_is_understood(parameters, metric, bigger):
    config = Config("Bias", "table", config_dict={"valid_metric": "rmse", **parameters})
    check_valid_metric(config)
    assert (config["valid_metric"], config["valid_metric_bigger"]) == (metric, bigger)
    assert config["metrics"][:3] == ["RatingError", "OwnTestRanking", "FullRanking"]
    assert (config.model, config.dataset) == ("Bias", "table")


# Metrics -----------------------------------------------------------------------------------------------------------


class Halves(AbstractMetric):
    """A user's metric: half the number of users."""

    metric_need = ("rec.items",)
    metric_type = EvaluatorType.RANKING
    smaller = True

    def calculate_metric(self, dataobject):
        return {"Halves": len(dataobject.get("rec.items")) / 2}


@pytest.mark.parametrize("model", ("BPR", "Bias"))
def test_metrics_of_recbole_and_of_users_are_theirs(model, make_experiment, train, monkeypatch):
    """The same values as RecBole's own collector and evaluator give for the model's scores."""
    monkeypatch.setitem(register.metrics_dict, "halves", Halves)
    monkeypatch.setitem(register.metric_information, "halves", Halves.metric_need)
    monkeypatch.setitem(metric_types, "halves", Halves.metric_type)
    asked = [*RANKINGS, *LISTS, "Halves"]
    experiment = make_experiment(model, metrics=[*asked, "AUC", "RMSE"], keep_unrated=False, valid_metric="Halves")
    assert experiment.config["valid_metric_bigger"] is False
    trainer = train(experiment)
    result = trainer.evaluate_part(experiment.parts.test).metrics
    config = {**experiment.config.final_config_dict, "metrics": asked, "tail_ratio": None}
    collector, loader = Collector(config), experiment.parts.test.full
    collector.data_collect(experiment.parts.train)
    with torch.no_grad():
        for batch, history, positive_u, positive_i in loader:
            scores = torch.as_tensor(experiment.model.full_sort_predict(batch)).view(len(batch), -1).clone()
            scores[:, 0] = scores[history] = -np.inf
            collector.eval_batch_collect(scores, batch, positive_u, positive_i)
    theirs = Evaluator(config).evaluate(collector.get_data_struct())
    assert {f"recbole_{name.lower()}": pytest.approx(value) for name, value in theirs.items()}.items() <= result.items()
    rows = trainer.eval_collector.tables["rows"]
    relevant = rows[:, 2] >= 4
    above = rows[relevant, 3][:, None] - rows[~relevant, 3]
    assert result["recbole_auc"] == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean(), abs=1e-4)
    assert ("rmse" in result) == (model == "Bias")


def test_lists_longer_than_the_catalogue(make_experiment):
    """This project's metrics are defined for them, RecBole's are not."""
    assert len(make_experiment("Bias", topk=[500]).config["topk"]) == 1
    with pytest.raises(ConfigError, match="topk: 500 is more than the 40 items of 'small', so RecBole's Recall"):
        make_experiment("Bias", topk=[500], metrics=["Recall"])


# The command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    table(tmp_path / "data")
    quick = "".join(f"{key}: {value}\n" for key, value in QUICK.items())
    (tmp_path / "a.yaml").write_text(f"model: Bias\ndataset: table\nseed: 7\ndata_path: {tmp_path / 'data'}\n")
    (tmp_path / "b.yaml").write_text(quick)
    return f"{tmp_path / 'a.yaml'} {tmp_path / 'b.yaml'}"


def test_model_dataset_and_seed_of_files(files, tmp_path, capsys):
    words = ["run", "--no_references", "--output_dir", str(tmp_path / "out"), "--config_files", files, "--gpu_id", "0"]
    assert main(words) == 0
    result = read_result(tmp_path / "out" / "table" / "Bias" / "seed-7")
    assert result["config"]["seed"] == 7 and result["epochs_run"] == 1
    if not torch.cuda.is_available():
        assert "torch finds no GPU (gpu_id 0), so the CPU is used" in capsys.readouterr().err
    assert main([*words, "--seeds", "1"]) == 2
    assert "leave one out" in capsys.readouterr().err
    assert main([*words, "-m", "GlobalMean", "-d", "absent"]) == 2
    assert "absent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "parameter", "folder"),
    [
        (["--output", "point", "--output_dir", "here"], "point", "here"),
        (["--output", "ordinal"], "ordinal", "results"),
        (["--output", "there"], None, "there"),
    ],
)
def test_output_is_the_parameter_and_no_folder_of_that_name(words, parameter, folder, monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr("recbole_drex.cli.commands.run", lambda options, command: seen.update(vars(options)) or 0)
    assert main(["run", *words]) == 0
    assert (seen["parameters"].get("output"), seen["output"]) == (parameter, folder)
    assert ("write --output_dir DIR" in capsys.readouterr().err) == (parameter is None)


# RecBole's own functions -------------------------------------------------------------------------------------------


def test_recboles_quick_start_runs_and_loads(tmp_path, monkeypatch):
    """Its checkpoint is read as data: torch runs no code that might be in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test"])
    from recbole.quick_start import load_data_and_model, run_recbole
    from recbole.utils.case_study import full_sort_topk

    table(tmp_path)
    given = {
        "epochs": 1,
        "metrics": [*RANKINGS, *LISTS],
        "topk": 5,
        "valid_metric": "NDCG@5",
        "gpu_id": "",
        "data_path": str(tmp_path),
    }
    given |= {"load_col": {"inter": ["user_id", "item_id"]}, "show_progress": False}
    result = run_recbole("BPR", "table", config_dict=given)["test_result"]
    assert 0 < result["recall@5"] <= 1 and 0 < result["itemcoverage@5"] <= 1
    (path,) = (tmp_path / "saved").glob("BPR-*.pth")
    config, model, dataset, _, _, test = load_data_and_model(str(path))
    assert config["model"] == "BPR" and len(dataset) == 120
    _, items = full_sort_topk(np.array([1, 2]), model, test, 2)
    used = set(test.uid2history_item[1].tolist())
    assert items.shape == (2, 2) and not used & set(items[0].tolist())


def test_full_sort_topk_of_a_model_of_this_project(make_experiment):
    from recbole.utils.case_study import full_sort_topk

    experiment = make_experiment("Bias")
    _, items = full_sort_topk(np.array([1]), experiment.model, experiment.parts.test.full, 3)
    assert items.shape == (1, 3) and items.min() > 0


def test_the_project_reads_recboles_own_description_of_a_data_set(small, tmp_path):
    """Its ``normalize_all`` and ``load_col`` take neither ratings nor reviews away."""
    import recbole

    file = Path(recbole.__file__).parent / "properties" / "dataset" / "ml-100k.yaml"
    root = copy_of(small.root, tmp_path, lambda frame: frame)
    config = Config("DReX", "small", [file], {**small.settings, "data_path": str(root)})
    dataset = ReviewDataset(config)
    assert set(dataset.inter_feat["rating"]) == {1, 2, 3, 4, 5}
    assert (dataset.inter_feat["review_row"] >= 0).sum() > 800 and dataset.inter_feat["timestamp"].max() > 1e9


@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        ("BPR", {"repeatable": True}, "'repeatable' has no use here"),
        ("Bias", {"transform": "mask_itemseq"}, "'transform' has no use here"),
        ("Bias", {"learner": "sparse_adam"}, "unknown value of 'learner'.*adagrad"),
        ("BPR", {"learner": "adma"}, "did you mean 'adam'"),
        ("BPR", {"clip_grad_norm": {"norm": 1}}, "unknown key of 'clip_grad_norm': 'norm'"),
        ("BPR", {"clip_grad_norm": {"max_norm": "x"}}, "'clip_grad_norm' must be"),
        ("BPR", {"train_neg_sample_args": {"distribution": "popularity", "alpha": "x"}}, "alpha must be a number"),
        ("BPR", {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 10**12}}, "sample_num must be"),
        ("BPR", {"train_neg_sample_args": {"distribution": "uniform", "samples": 1}}, "did you mean 'sample_num'"),
        ("DReX", {"enable_amp": True}, "enable_amp is for models of RecBole"),
        ("Bias", {"seed": -1}, "'seed' must be 0 to 4,294,967,295, not -1"),
        ("Bias", {"train_batch_size": 10**30}, "'train_batch_size' has a number of more than 64 bits"),
    ],
)
def test_what_training_would_meet_is_refused_before(model, parameters, message):
    with pytest.raises(ConfigError, match=message):
        Config(model, "x", config_dict=parameters)


def test_epochs_without_validation_are_counted(make_experiment, train):
    assert train(make_experiment("BPR", epochs=3, eval_step=2)).epochs_run == 3
    assert train(make_experiment("BPR", epochs=2, eval_step=0)).epochs_run == 2


def test_mixed_precision_that_a_model_does_not_allow(make_experiment, train):
    assert train(make_experiment("BPR", enable_amp=True, epochs=1)).epochs_run == 1
    with pytest.raises(ConfigError, match="LightGCN cannot be trained with enable_amp"):
        train(make_experiment("LightGCN", enable_amp=True))


@pytest.mark.parametrize("model", ["BPR", "NeuMF"])
def test_models_that_need_sampled_items(make_experiment, train, model):
    with pytest.raises(ConfigError, match=f"{model} learns from sampled items: train_neg_sample_args must not"):
        train(make_experiment(model, train_neg_sample_args=None))


def test_output_of_a_model_without_that_parameter(files, tmp_path, capsys):
    assert main(["run", "--model", "BPR", "--config_files", files, "--output", "point"]) == 2
    output = capsys.readouterr().err
    assert "unknown parameter of BPR: 'output'" in output and "did you mean '--output'" not in output


def test_a_list_length_is_missing(make_experiment):
    with pytest.raises(ConfigError, match="valid_metric 'recbole_recall' lacks its list length"):
        make_experiment("BPR", valid_metric="Recall")


def test_quoted_texts_of_files_stay_texts_when_a_run_is_loaded(files, tmp_path):
    with (tmp_path / "b.yaml").open("a") as file:
        file.write("wandb_project: '2024'\n")
    words = ["run", "--output_dir", str(tmp_path / "out"), "--config_files", files]
    assert main(words) == 0
    for model in ("Bias", "BiasedMF"):
        run = load_experiment(tmp_path / "out" / "table" / model / "seed-7")
        assert run.config["wandb_project"] == ("2024" if model == "Bias" else "recbole")


def test_model_and_dataset_of_files_are_compared(files, tmp_path, capsys):
    own = tmp_path / "c.yaml"
    own.write_text((tmp_path / "a.yaml").read_text().replace("seed: 7\n", "").replace("Bias", "[Bias, GlobalMean]"))
    words = ["compare", "--no_references", "--output_dir", str(tmp_path / "out"), "--seeds", "3"]
    assert main([*words, "--config_files", f"{own},{tmp_path / 'b.yaml'}"]) == 0
    assert {path.name for path in (tmp_path / "out" / "table").iterdir()} == {"Bias", "GlobalMean"}
    run = tmp_path / "out" / "table" / "Bias" / "seed-3" / "run.json"
    run.write_text(run.read_text().replace('"seed": 3', '"seed": 4'))
    capsys.readouterr()
    assert main(["report", str(run.parent)]) == 2
    assert "run.json is damaged" in capsys.readouterr().err
    assert main(words) == 2
    assert "name at least one model (--models)" in capsys.readouterr().err
