"""The result file and the interactions file."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_drex.errors import CheckpointError
from recbole_drex.evaluation.protocol import Protocol, tie_keys
from recbole_drex.evaluation.ranking_metrics import own_test_metrics
from recbole_drex.evaluation.rating_metrics import rating_metrics
from recbole_drex.evaluation.reference_rows import reference_rows
from recbole_drex.results.run_result import read_interactions, read_result, write_interactions, write_result

PROTOCOL = Protocol(topk=(1, 5, 10))
LEVELS = [1, 2, 3, 4, 5]


def make_result(model="DReX", seed=2026, noise=0.5, dataset="demo"):
    """A result computed from a small planted test part."""
    generator = np.random.default_rng(seed)
    user = np.repeat(np.arange(40), 8)
    rating = generator.integers(1, 6, len(user)).astype(float)
    keys = tie_keys([f"i{n}" for n in range(len(user))])
    score = rating + np.random.default_rng(seed + len(model)).normal(scale=noise, size=len(user))
    own_test = {
        **rating_metrics(rating, score, LEVELS),
        **own_test_metrics(user, score, keys, rating, PROTOCOL),
    }
    return {
        "schema": 1,
        "status": "finished",
        "label": model,
        "model": model,
        "dataset": dataset,
        "seed": seed,
        "fold": None,
        "command": f"python run_recbole_drex.py --model {model}",
        "loss": "mse",
        "output": "mean",
        "split": "random per user, 0.8/0.1/0.1",
        "protocol": PROTOCOL.as_dict(),
        "data": {
            "fingerprint": "0123456789abcdef",
            "users": np.int64(40),
            "items": 320,
            "interactions": 3200,
            "missing_review": 0.25,
            "missing_rating": 0,
        },
        "valid": {"rmse": np.float32(0.5), "mae": math.nan},
        "test": {"own_test": own_test, "full": None},
        "references": {
            name: {"own_test": row} for name, row in reference_rows(user, keys, rating, LEVELS, PROTOCOL).items()
        },
        "best_epoch": None,
        "epochs_run": 0,
        "seconds": {"prepare": 1.5, "encode": None, "train": 2.0, "evaluate": 0.1},
        "peak_memory_mb": 512.0,
        "parameters": 1234,
        "config": {"topk": (1, 5), "nested": {"a": [None, True, "x"]}, "bound": np.inf},
        "versions": {"torch": "2.13.0", "recbole": "1.2.1"},
    }


def test_a_result_comes_back_with_nan_as_null(tmp_path):
    result = make_result()
    path = write_result(tmp_path / "run", result)
    assert path == tmp_path / "run" / "result.json"
    back = read_result(path)
    assert back == read_result(tmp_path / "run")
    assert back["valid"] == {"rmse": 0.5, "mae": None}
    assert back["config"] == {"topk": [1, 5], "nested": {"a": [None, True, "x"]}, "bound": None}
    assert back["test"]["own_test"] == result["test"]["own_test"]
    assert Protocol(**back["protocol"]) == PROTOCOL
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda r: r.pop("seed"), "'seed' is a required property"),
        (lambda r: r.update(seed="one"), r"\$\.seed"),
        (lambda r: r.update(extra=1), "extra"),
        (lambda r: r.update(status="running"), r"\$\.status"),
        (lambda r: r["protocol"].update(gain="cubic"), r"\$\.protocol\.gain"),
        (lambda r: r["test"]["own_test"].update({"NDCG@5": 1.0}), "NDCG@5"),
        (lambda r: r["data"].update(missing_review=25), r"\$\.data\.missing_review"),
        (lambda r: r["references"]["Oracle"].update(full={}), "full"),
    ],
)
def test_what_breaks_the_schema_is_not_written(tmp_path, change, place):
    result = make_result()
    change(result)
    with pytest.raises(ValueError, match=place):
        write_result(tmp_path, result)
    assert list(tmp_path.iterdir()) == []


def test_a_value_without_json_form_is_named(tmp_path):
    result = make_result()
    result["config"]["where"] = [Path("x")]
    with pytest.raises(TypeError, match=r"result\.config\.where\[0\] is a \w*Path"):
        write_result(tmp_path, result)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read result"),
        ("[]", "not a result file of recbole_drex"),
        ('{"accuracy": 1}', "not a result file of recbole_drex"),
        ('{"schema": 2}', "has schema 2; this version reads 1"),
        ('{"schema": 1, "model": "DReX"}', "is damaged"),
    ],
)
def test_a_damaged_or_unrelated_file_is_named(tmp_path, text, message):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_result(tmp_path)
    assert str(path) in str(caught.value)


def test_a_missing_result_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere"):
        read_result(tmp_path / "nowhere" / "result.json")


def test_the_schema_describes_every_key():
    schema = json.loads((Path(__file__).parents[2] / "recbole_drex/results/result.schema.json").read_text())

    def walk(node, index):
        for name, child in node.get("properties", {}).items():
            assert child.get("description"), f"{index}.{name}"
            walk(child, f"{index}.{name}")

    walk(schema, "$")
    # Only some models explain, write sentences or have a source; results of earlier versions do not say how many
    # processes.
    optional = {"explanations", "processes", "sentences", "source"}
    assert set(schema["required"]) == set(schema["properties"]) - optional


def interactions():
    return pd.DataFrame(
        {
            "user_id": ["u2", "u1", "ü3", "u1"],
            "item_id": ["i1", "i1", "i2", "007"],
            "rating": [4.5, 3.0, 1.0, np.nan],
            "split": ["train", "valid", "test", "train"],
            "prediction": [np.nan, 3.25, 2.0, np.nan],
            "prediction_median": [np.nan, 3.0, 2.0, np.nan],
            "prediction_std": [np.nan, 0.5, 0.75, np.nan],
            "probability_relevant": [np.nan, 0.25, 0.125, np.nan],
            "has_review": [True, False, True, False],
        }
    )


def test_interactions_come_back_in_order(tmp_path):
    path = write_interactions(tmp_path, interactions().assign(unused=1))
    back = read_interactions(tmp_path)
    assert list(back.columns) == list(interactions().columns)
    pd.testing.assert_frame_equal(back, interactions(), check_dtype=False)
    assert back["rating"].dtype == back["prediction"].dtype == np.float64
    assert path.name == "interactions.parquet"
    assert len(list(tmp_path.iterdir())) == 1


def test_categorical_and_numeric_names_become_text(tmp_path):
    frame = interactions().assign(user_id=[3, 1, 2, 1], item_id=lambda f: f["item_id"].astype("category"))
    write_interactions(tmp_path, frame)
    assert read_interactions(tmp_path)["user_id"].tolist() == ["3", "1", "2", "1"]
    assert read_interactions(tmp_path)["item_id"].tolist() == ["i1", "i1", "i2", "007"]


def test_bad_interactions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="lack the columns prediction"):
        write_interactions(tmp_path, interactions().drop(columns="prediction"))
    with pytest.raises(ValueError, match="dev"):
        write_interactions(tmp_path, interactions().replace({"split": {"valid": "dev"}}))
    with pytest.raises(CheckpointError, match=r"interactions\.parquet"):
        read_interactions(tmp_path)
    (tmp_path / "interactions.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(CheckpointError, match=r"interactions\.parquet"):
        read_interactions(tmp_path)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(CheckpointError, match="has columns"):
        read_interactions(tmp_path)


def test_own_test_metrics_can_be_recomputed_from_the_two_files(tmp_path):
    generator = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "user_id": [f"u{n % 30}" for n in range(300)],
            "item_id": [f"i{n}" for n in generator.permutation(300)],
            "rating": generator.integers(1, 11, 300) / 2,
            "split": generator.choice(["train", "valid", "test"], 300),
            "has_review": True,
            **dict.fromkeys(("prediction_median", "prediction_std", "probability_relevant"), np.nan),
        }
    )
    frame["prediction"] = (frame["rating"] + generator.normal(size=300)).round(1).where(frame["split"] != "train")
    test = frame[frame["split"] == "test"]
    wanted = own_test_metrics(test["user_id"], test["prediction"], tie_keys(test["item_id"]), test["rating"], PROTOCOL)
    write_interactions(tmp_path, frame.sample(frac=1, random_state=0))
    test = read_interactions(tmp_path).query("split == 'test'")
    again = own_test_metrics(test["user_id"], test["prediction"], tie_keys(test["item_id"]), test["rating"], PROTOCOL)
    assert again == pytest.approx(wanted, abs=1e-12)
