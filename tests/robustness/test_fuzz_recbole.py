"""Fuzzing by RecBole's parameters: all keys of its ``overall.yaml`` with documented and odd values.

Each is refused in one line, or the run ends with a result of the data's own rows, reviews and ratings.
"""

from __future__ import annotations

import math
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from fuzz import fuzzed

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
import recbole

from recbole_drex.cli.main import main
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.errors import ConfigError
from recbole_drex.results.run_result import read_interactions, read_result

NAME = "tiny"
SETTINGS = {"user_min": 3, "item_min": 2, "threads": 1, "epochs": 1, "measured_users": 0, "explained_users": 0}
MODELS = ("Bias", "Bias", "BPR", "EMF", "DReX")
RATIOS = [0.8, 0.1, 0.1]

DOCUMENTED: dict[str, list[Any]] = {
    "gpu_id": ["", "0", 0, "0,1"],
    "worker": [0, 1],
    "use_gpu": [True, False],
    "seed": [2020, 0],
    "state": ["INFO", "debug", "ERROR", "CRITICAL"],
    "reproducibility": [True, False],
    "checkpoint_dir": ["saved"],
    "show_progress": [False],
    "save_dataset": [True, False],
    "dataset_save_path": ["kept.pth"],
    "save_dataloaders": [True, False],
    "dataloaders_save_path": ["kept.pth"],
    "log_wandb": [False],
    "wandb_project": ["recbole"],
    "shuffle": [True, False],
    "epochs": [1, 2],
    "train_batch_size": [1, 16, 2048],
    "learner": ["adam", "sgd", "adagrad", "rmsprop", "sparse_adam", "none"],
    "learning_rate": [0.001, 0.1, 1],
    "train_neg_sample_args": [
        None,
        {"distribution": "uniform", "sample_num": 2, "alpha": 1.0, "dynamic": False, "candidate_num": 0},
        {"distribution": "popularity", "sample_num": 1, "alpha": 0.5, "dynamic": False, "candidate_num": 0},
        {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": True, "candidate_num": 3},
        {"distribution": "popularity", "sample_num": 1},
        {"distribution": "gaussian", "sample_num": 1},
        {"distribution": "uniform", "sample_num": 0},
        {"distribution": "uniform", "sample_num": -1},
        {"distribution": "uniform", "sample_num": "1"},
        {"distribution": "uniform", "sample_num": 10**12},
        {"distribution": "uniform", "sample_num": 1, "dynamic": True, "candidate_num": -1},
        {"distribution": "uniform", "sample_num": 1, "dynamic": True, "candidate_num": 10**12},
        {"distribution": "popularity", "sample_num": 1, "alpha": "x"},
        {"distribution": "popularity", "sample_num": 1, "alpha": 1e300},
        {"by": 1},
    ],
    "eval_step": [0, 1, 2],
    "stopping_step": [0, 10],
    "clip_grad_norm": [{"max_norm": 5, "norm_type": 2}, {"max_norm": "x"}, {"norm": 1}, {"max_norm": -1}, {}],
    "weight_decay": [0.0, 0.1],
    "loss_decimal_place": [0, 4],
    "require_pow": [True, False],
    "enable_amp": [True, False],
    "enable_scaler": [True, False],
    "transform": [None, "mask_itemseq", "equal"],
    "eval_args": [
        {"split": {"RS": RATIOS}, "order": "RO", "group_by": "user", "mode": "full"},
        {"split": {"RS": RATIOS}, "order": "TO", "group_by": "user", "mode": "full"},
        {"split": {"RS": RATIOS}, "order": "RO", "group_by": "none", "mode": {"valid": "full", "test": "full"}},
        {"split": {"RS": RATIOS}, "order": "TO", "group_by": None, "mode": "full"},
        {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        {"split": {"LS": "valid_and_test"}, "order": "RO", "group_by": "none"},
        {"split": {"LS": "valid_only"}},
        {"split": {"TS": RATIOS}, "order": "TO"},
        {"split": {"RS": [8, 1, 1]}, "mode": "labeled"},
        {"split": {"RS": [0.98, 0.01, 0.01]}},
        {"split": {"RS": [1e-9, 1, 1]}, "group_by": "none"},
        {"split": {"RS": [1e300, 1e300, 1e300]}},
        {"split": {"RS": [1, 1, 1e-300]}, "group_by": "none"},
        {"split": {"RS": [0.8, 0.2]}},
        {"split": {"RS": ["0.8", "0.1", "0.1"]}},
        {"split": {"KF": [3, 1]}},
        {"split": {"KF": [50, 49]}},
        {"mode": "uni100"},
        {"mode": {"valid": "labeled", "test": "pop5"}},
        {"mode": {"test": "full"}},
        {"mode": {}},
        {"group_by": 3},
        {"order": None},
        {},
    ],
    "repeatable": [True, False],
    "metrics": [
        "Recall",
        ["Recall", "MRR", "NDCG", "Hit", "Precision"],
        ["ItemCoverage", "GiniIndex", "AveragePopularity", "ShannonEntropy", "TailPercentage"],
        ["MAP", "GAUC"],
        ["AUC", "RMSE", "MAE", "LogLoss"],
        ["RMSE", "MAE"],
        ["ndcg", "NDCG"],
        [],
        [["NDCG"]],
    ],
    "topk": [10, [10], [1, 5], [20], None, [19], [10**30]],
    "valid_metric": [
        "MRR@10",
        "NDCG@10",
        "ndcg@5",
        "rmse",
        "MAE",
        "AUC",
        "Hit@0",
        "Recall",
        "ItemCoverage@10",
        "NDCG@",
    ],
    "valid_metric_bigger": [True, False],
    "eval_batch_size": [1, 4096],
    "metric_decimal_place": [0, 4],
}
"""``data_path`` is left out: there the data are."""
UNLIMITED = ("epochs", "worker")  # whose large values are legal, and take as long as they say
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, -0.5, 1e-300, 1e300, 10**18, 10**30, math.nan, math.inf),
    *("", " ", "~", "x", "-1", "1e400", "nan", "[1, 2]", "a\x00b", "../../x", "x" * 5000, "2020-13-45"),
    *([], [None], [1, 2], [[1]], ["x"], [-1], [True], [10**30], {}, {"x": 1}, {None: None}, {1: [2]}, {"x": {"y": []}}),
)


def configurations(n: int, seed: int = 2026) -> Iterator[tuple[str, dict[str, Any]]]:
    """``n`` models and parameters: mostly one, sometimes two or three; half of the values are odd."""
    rng = random.Random(seed)
    for _ in range(n):
        given = {}
        for key in rng.sample(sorted(DOCUMENTED), rng.choice((1, 1, 2, 3))):
            large = (10**18, 10**30, 1e300) if key in UNLIMITED else ()
            odd = [value for value in ODD if value not in large]
            given[key] = rng.choice(rng.choice((DOCUMENTED[key], odd)))
        yield rng.choice(MODELS), given


def test_all_parameters_of_recbole_are_tried() -> None:
    path = Path(recbole.__file__).parent / "properties" / "overall.yaml"
    assert {*DOCUMENTED, "data_path"} == set(yaml.safe_load(path.read_text()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzzed")
    raw = generate_demo(folder / "raw", users=10, items=20, reviews=120)
    words = ["prepare", "--dataset", NAME, "--raw", str(raw["reviews"]), "--data_path", str(folder / "data")]
    assert main([*words, "--user_min", "3", "--item_min", "2"]) == 0
    return folder / "data"


def _size_of_test(rows: pd.DataFrame, parameters: dict[str, Any]) -> int | None:
    """How many rows of the file are tested; None of splits that are seldom used."""
    eval_args = parameters.get("eval_args") or {}
    if eval_args.get("split") == {"LS": "valid_and_test"} and eval_args.get("group_by") != "none":
        return rows["user_id"].nunique()
    if eval_args.get("split", {"RS": RATIOS}) not in ({"RS": RATIOS}, {"RS": [8, 1, 1]}):
        return None
    by_user = eval_args.get("group_by", "user") == "user"
    sizes = rows.groupby("user_id").size() if by_user else [len(rows)]
    return sum(max(1, int(0.1 * size)) for size in sizes)


def check_result(folder: Path, rows: pd.DataFrame, model: str, parameters: dict[str, Any]) -> None:
    """Fail unless a run's files hold all of the data's rated rows, each once, and numbers that are possible."""
    result, found = read_result(folder), read_interactions(folder)
    rated = rows[rows["rating"].notna()]
    order = ["user_id", "item_id"]
    wanted = rated[[*order, "rating", "has_review"]].sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(found[wanted.columns].sort_values(order, ignore_index=True), wanted)
    parts = Counter(found["split"])
    size = _size_of_test(rated, parameters)
    assert parts["test"] == size if size is not None else all(parts[part] for part in ("train", "valid", "test"))
    assert result["data"]["interactions"] == len(rows) and result["epochs_run"] >= 1
    test = found[found["split"] == "test"]
    assert test["prediction"].notna().all()
    own, full = result["test"]["own_test"], result["test"]["full"]
    assert own["users"] == full["users"] == test["user_id"].nunique()
    if model != "BPR":
        levels = found.loc[found["split"] == "train", "rating"]
        errors = test["prediction"].clip(levels.min(), levels.max()) - test["rating"]
        assert own["mae"] == pytest.approx(errors.abs().mean(), abs=1e-4)
    shares = ("ndcg", "precision", "recall", "f1")
    for metric, value in {**own, **full}.items():
        assert value is None or 0 <= value <= 1 or not metric.startswith(shares), metric
    for name, value in (result["test"].get("recbole") or {}).items():
        assert value is not None and math.isfinite(value), name


@pytest.mark.parametrize("inputs", [30, pytest.param(2000, marks=pytest.mark.slow)])
def test_parameters_of_recbole(inputs: int, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    rows = pd.read_csv(data / NAME / f"{NAME}.inter", sep="\t", quoting=3)
    rows.columns = [name.partition(":")[0] for name in rows]
    rows["has_review"] = rows["review_row"] >= 0

    def use(case: tuple[str, dict[str, Any]]) -> None:
        model, parameters = case
        Path("own.yaml").write_text(yaml.safe_dump({**SETTINGS, "data_path": str(data), **parameters}, sort_keys=False))
        shutil.rmtree("out", ignore_errors=True)
        capsys.readouterr()
        words = ["run", "--model", model, "--dataset", NAME, "--config_files", "own.yaml", "--output_dir", "out"]
        status = main([*words, "--no_references"])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        if status:
            (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
            assert status == 2 and not list(Path("out").rglob("result.json"))
            raise ConfigError(line)
        (path,) = Path("out").rglob("result.json")
        check_result(path.parent, rows, model, parameters)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "own.yaml"]

    counts = fuzzed(configurations(inputs), use, seconds=60)
    print(f"{counts['used']} used, {counts['refused']} refused")
    assert counts.total() == inputs and counts["used"] and counts["refused"]
