"""Inputs that fuzzing found to end in a traceback, a hang or nonsense, each in its smallest form."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fuzz import within
from safetensors.torch import save_file

from recbole_drex.cli.main import main
from recbole_drex.config.recbole_config import Config
from recbole_drex.config.yaml_values import parse_value, read_yaml
from recbole_drex.data.dataset import ReviewDataset
from recbole_drex.data.items.item_features import INDEX, ItemFeatures, read_table, write_item_features
from recbole_drex.data.raw.readers import read_reviews
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.word_vectors import word_vectors
from recbole_drex.errors import CheckpointError, ConfigError, DataError
from recbole_drex.results.run_result import read_users
from recbole_drex.tuning.trial import TRIAL, read_trial
from recbole_drex.utils import checkpoint
from recbole_drex.utils.files import read_json

DEEP = 3000


def test_an_error_is_one_line_for_any_quoted_value() -> None:
    assert str(DataError("cannot read x:\n  Couldn't deserialize\n")) == "cannot read x: Couldn't deserialize"
    assert str(ConfigError("no column 'a\u2028b'")) == "no column 'a b'"


# YAML and JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["2020-13-45", "9" * 5000, "0b_", "[" * DEEP, "- " * DEEP, "*a", "&a [*a]", "\ud800"])
def test_values_that_yaml_cannot_read_are_text(text: str) -> None:
    with within(5):
        assert parse_value(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("epochs: 2020-13-45", "month"),
        ("epochs: " + "9" * 5000, "digits"),
        ("epochs: " + "[" * DEEP, "100 brackets in one another"),
        ("- " * DEEP, "nested too deeply"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nepochs: [*b, *b]", r"aliases are not read: \*a"),
        ("epochs: &a [*a]", r"aliases are not read: \*a"),
    ],
)
def test_yaml_files_that_cannot_be_read(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with within(5), pytest.raises(ConfigError, match=rf"own\.yaml: .*{reason}"):
        read_yaml(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '"\\ud800', "\x00"])
def test_json_files_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"cannot read file .*a\.json"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("learning_rate", float("nan"), "finite"),
        ("eval_args", {"split": {"RS": [0.8, float("inf"), 0.1]}}, "finite"),
        ("data_path", "a\0b", "illegal character"),
        ("checkpoint_dir", "a\ud800", "illegal character"),
        ("epochs", None, "must be int"),
        ("NEG_PREFIX", 3, "must be str"),
        ("alias_of_item_id", "x", "must be list"),
        ("val_interval", ["x"], "must be dict"),
        ("rm_dup_inter", True, "must be str"),
    ],
)
def test_values_that_no_parameter_can_have(key: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}.*{reason}"):
        Config("Bias", "x", config_dict={key: value})


# Raw files ------------------------------------------------------------------------------------------------------


def _refused(path: Path, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_reviews(path, path.with_name("spill.parquet"), bad_line_share=1.0)
    assert str(path) in str(caught.value)
    assert not path.with_name("spill.parquet").exists()


def test_parquet_text_that_is_not_utf_8(tmp_path: Path) -> None:
    column = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i"], "text": column}), tmp_path / "r.parquet")
    _refused(tmp_path / "r.parquet", "column 'text': .*utf-8")


def test_parquet_dates_that_no_calendar_has(tmp_path: Path) -> None:
    column = pa.array([10**9], pa.int32()).view(pa.date32())
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i"], "rating": column}), tmp_path / "r.parquet")
    _refused(tmp_path / "r.parquet", "column 'rating'")


def test_columns_that_are_there_twice(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user_id,item_id,rating,rating\nu,i,1,5\n")
    _refused(tmp_path / "r.csv", "column 'rating' occurs 2 times in the header")
    table = pa.table([["u"], ["i"], ["i"]], names=["user_id", "item_id", "item_id"])
    pq.write_table(table, tmp_path / "r.parquet")
    _refused(tmp_path / "r.parquet", "column 'item_id' occurs 2 times in the schema")


# Vectors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"PK\x03\x04 no zip", b"\x93NUMPY\x01\x00v\x00{" + b"-" * 117, b"", b"\x93NUMPY"])
def test_npy_files_with_a_broken_header(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"v\.npy"):
        read_table(tmp_path / "v.npy")


def test_a_feature_store_whose_offsets_have_a_broken_header(small: Any, tmp_path: Path) -> None:
    features = tmp_path / small.name / "features"
    features.mkdir(parents=True)
    for path in (small.root / small.name / "features").iterdir():
        (features / path.name).symlink_to(path)
    content = bytearray((features / "offsets.npy").read_bytes())
    content[100:101] = b"("
    (features / "offsets.npy").unlink()
    (features / "offsets.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged .*rebuild"):
        FeatureStore.open(features, verify=False)


def test_npy_files_whose_header_declares_more_than_memory(tmp_path: Path) -> None:
    with (tmp_path / "v.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**6)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(DataError, match=r"v\.npy is not a readable"):
        read_table(tmp_path / "v.npy")


@pytest.mark.parametrize("change", [{"missing": None}, {"width": 9}, {"sha256": 5}])
def test_an_index_of_item_vectors_that_lacks_something(tmp_path: Path, change: dict) -> None:
    write_item_features(tmp_path, ["a", "b"], {"text": np.eye(2)})
    index = json.loads((tmp_path / INDEX).read_text())
    for names in (["text"], ["../text"]):
        index["modalities"] = {names[0]: {**index["modalities"].get("text", {}), **change}}
        (tmp_path / INDEX).write_text(json.dumps(index))
        with pytest.raises(DataError, match=r"damaged|belong together"):
            ItemFeatures(tmp_path).vectors("text", ["a"])


def test_word_vectors_beyond_all_sums_and_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "w.txt"
    path.write_text("fun 3e38 3e38\nplot 1 2\n")
    with pytest.raises(DataError, match=r"w\.txt, line 1: the vector of 'fun'"):
        word_vectors(str(path), ["fun", "plot"], {}, None)
    path.write_text(f"{'9' * 5000} {'9' * 5000}\n")
    with pytest.raises(DataError, match=r"w\.txt, line 1: neither"):
        word_vectors(str(path), ["fun"], {}, None)
    packed = bytearray(gzip.compress(b"fun 1 2\nplot 3 4\n" * 50))
    packed[12] ^= 0xFF
    (tmp_path / "w.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"cannot read word vectors .*w\.gz"):
        word_vectors(str(tmp_path / "w.gz"), ["fun", "plot"], {}, None)


# Stored runs and searches ---------------------------------------------------------------------------------------


TREES = ["{", "9" * 5000, "[" * DEEP, '{"kind": "tensor", "key": "7"}', '{"kind": "csr"}', "{}"]


@pytest.mark.parametrize("tree", TREES)
def test_checkpoints_with_the_structure_of_another_model(tmp_path: Path, tree: str) -> None:
    tensors = {"0": torch.ones(2)}
    metadata = {"format": "1", "tree": tree, "sha256": checkpoint._digest(tree, tensors)}
    save_file(tensors, tmp_path / "a", metadata=metadata)
    with pytest.raises(CheckpointError, match="was not written by recbole_drex"):
        checkpoint.load(tmp_path / "a")


@pytest.mark.parametrize("metadata", [b"{", b'{"columns": [{}]}'])
def test_tables_of_users_with_damaged_notes_for_pandas(tmp_path: Path, metadata: bytes) -> None:
    columns = ["user_id", "train_ratings", "train_reviews", "test_ratings", "mae", "mse"]
    table = pa.table({name: ["u"] if name == "user_id" else [1.0] for name in columns})
    pq.write_table(table.replace_schema_metadata({b"pandas": metadata}), tmp_path / "users.parquet")
    assert read_users(tmp_path).index.tolist() == ["u"]


@pytest.mark.parametrize("change", [{"scores": [1]}, {"scores": {"1": "a"}}, {"epochs": None}, {"parameters": 3}])
def test_trials_that_lack_something(tmp_path: Path, change: dict) -> None:
    noted = {
        "parameters": {},
        "status": "failed",
        "scores": {},
        "epochs": 0,
        "seconds": 0.0,
        "attempts": 1,
        "error": None,
    }
    (tmp_path / TRIAL).write_text(json.dumps(noted))
    assert read_trial(tmp_path)["attempts"] == 1
    (tmp_path / TRIAL).write_text(json.dumps({**noted, **change}))
    with pytest.raises(CheckpointError, match="is not a trial"):
        read_trial(tmp_path)


# Atomic files ---------------------------------------------------------------------------------------------------


def _dataset(folder: Path, content: bytes, **parameters: object) -> ReviewDataset:
    (folder / "own").mkdir(exist_ok=True)
    (folder / "own" / "own.inter").write_bytes(content)
    return ReviewDataset(Config("Bias", "own", config_dict={"data_path": str(folder), **parameters}))


HEADER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"user_id:token\titem_id:token\trating\nu\ti\t3\n", r"own\.inter cannot be read"),
        (HEADER + b"u\ti\tmany\t1\n", r"own\.inter cannot be read"),
        (HEADER + b"u\ti\t\xff\t1\n", r"own\.inter cannot be read"),
        (HEADER.replace(b"item_id", b"items"), "no field 'item_id'"),
        (HEADER.replace(b"rating:float", b"rating:token") + b"u\ti\t3\t1\n", "field 'rating' must be a float"),
        (HEADER + b"u\ti\tinf\t1\n", r"field 'rating' is infinite or too large \(user 'u', item 'i'\)"),
        (HEADER + b"u\ti\t3\t1e300\n", "field 'timestamp' is infinite or too large"),
    ],
)
def test_atomic_files_written_by_others(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        _dataset(tmp_path, content)


def test_parameters_of_recbole_that_do_not_fit_the_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown value of 'rm_dup_inter': 'x'\. Legal values: first, last"):
        _dataset(tmp_path, HEADER + b"u\ti\t3\t1\n", rm_dup_inter="x")


def test_users_named_like_missing_values_are_kept(tmp_path: Path) -> None:
    names = ["NA", "null", "nan", "None", "N/A", "#N/A", '"', "1e5"]
    frame = pd.DataFrame({"user_id:token": names, "item_id:token": names[::-1], "rating:float": 3.0})
    dataset = _dataset(
        tmp_path, frame.assign(**{"timestamp:float": np.nan}).to_csv(sep="\t", index=False, quoting=3).encode()
    )
    assert dataset.field2id_token["user_id"].tolist() == ["[PAD]", *names]
    assert dataset.field2id_token["item_id"].tolist() == ["[PAD]", *names[::-1]]


# Command lines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["report", "x" * 300], "File name too long"),
        (["explain", "--run", "x" * 300, "--user", "u"], "File name too long"),
        (["run", "--output_dir", "a\udc80"], "is not in UTF-8"),
    ],
)
def test_arguments_that_the_system_refuses(capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and line.endswith(reason)
