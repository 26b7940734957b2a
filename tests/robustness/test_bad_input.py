"""Bad input through the command line: exit status 2, a message that names the culprit, nothing lost or half-made."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recbole_drex.cli.main import main
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.data.text.feature_store import files_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict[str, Any]]:
    """120 reviews by 10 users about 20 items."""
    made = generate_demo(tmp_path_factory.mktemp("raw"), users=10, items=20, reviews=120)
    with gzip.open(made["reviews"], "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys) -> Refused:
    """Run a command that must fail with one line of error, and leave no data set and no results; returns the line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECBOLE_DREX_RAW", raising=False)

    def run(*arguments: str | Path, kept: tuple[str, ...] = ()) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert err.splitlines()[-1].startswith("error: ") and "Traceback" not in err + out
        for folder in ("atomic_data", "results"):
            made = {path.name for path in Path(folder).glob("*") if not path.name.startswith(".")}
            assert made <= {"raw", *kept}, f"left in {folder}: {made}"
        return err

    return run


def _write(path: Path, rows: list[dict[str, Any]], extra: tuple[str, ...] = ()) -> Path:
    lines = [*map(json.dumps, rows), *extra]
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def _prepare(raw: Path, *more: str | Path) -> list[str | Path]:
    return ["prepare", "--dataset", "new", "--user_min", "3", "--item_min", "2", "--raw", raw, *more]


# Raw files ------------------------------------------------------------------------------------------------------


def test_missing_raw_and_item_files(refused, rows, tmp_path):
    raw = _write(tmp_path / "reviews.jsonl", rows)
    assert "nowhere.jsonl.gz" in refused(*_prepare(Path("nowhere.jsonl.gz")))
    assert "nowhere.jsonl.gz" in refused(*_prepare(raw, "nowhere.jsonl.gz"))
    assert "no_items.jsonl" in refused(*_prepare(raw, "--meta", "no_items.jsonl"))
    assert str(tmp_path) in refused(*_prepare(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"\x00\xff\xfe\x01" * 40])
@pytest.mark.parametrize("name", ["reviews.jsonl", "reviews.jsonl.gz", "reviews.csv", "reviews.parquet"])
def test_unreadable_raw_files(refused, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert str(path) in refused(*_prepare(path))


def test_truncated_gzip(refused, rows, tmp_path):
    path = _write(tmp_path / "reviews.jsonl.gz", rows)
    path.write_bytes(path.read_bytes()[:-200])
    message = refused(*_prepare(path))
    assert str(path) in message and "truncated" in message


def test_unknown_format(refused, rows, tmp_path):
    message = refused(*_prepare(_write(tmp_path / "reviews.xlsx", rows)))
    assert "reviews.xlsx" in message and ".jsonl" in message


BAD_VALUES = [
    ({"rating": 9.0}, "rating is 9.0"),
    ({"rating": 0.0}, "rating is 0.0"),
    ({"rating": -3}, "rating is -3"),
    ({"rating": "good"}, "rating is 'good'"),
    ({"rating": [5]}, "rating is [5]"),
    ({"timestamp": -1}, "timestamp is -1"),
    ({"timestamp": 1e20}, "timestamp is 1e+20"),
    ({"timestamp": "yesterday"}, "timestamp is 'yesterday'"),
    ({"user_id": None}, "user_id is None"),
    ({"user_id": "a\tb"}, "user_id is 'a\\tb'"),
    ({"parent_asin": "", "asin": ""}, "item_id is ''"),
    ({"text": 5}, "text is 5"),
]


@pytest.mark.parametrize("change, told", BAD_VALUES)
def test_the_error_for_a_malformed_row_names_file_line_and_value(refused, rows, tmp_path, change, told):
    path = _write(tmp_path / "reviews.jsonl", [*rows[:6], {**rows[6], **change}, *rows[7:]])
    message = refused(*_prepare(path))
    assert f"reviews.jsonl:7: {told}" in message
    assert "1 of 120 rows (0.833%) are malformed" in message


def test_lines_that_are_no_json_are_counted_and_tolerated_up_to_a_share(refused, rows, tmp_path, capsys):
    path = _write(tmp_path / "reviews.jsonl", rows, ("{", "not json", "[1, 2]"))
    message = refused(*_prepare(path))
    assert "3 of 123 rows (2.439%) are malformed" in message and "0.1" in message
    assert "reviews.jsonl:121" in message and "reviews.jsonl:123" in message
    assert main(list(map(str, _prepare(path, "--bad_line_share", "0.03")))) == 0
    assert "malformed rows skipped: {'reviews.jsonl': 3}" in capsys.readouterr().out


def test_missing_columns(refused, rows, tmp_path):
    frame = pd.DataFrame(rows).rename(columns={"user_id": "who"})[["who", "asin", "rating", "text"]]
    frame.to_csv(tmp_path / "reviews.csv", index=False)
    message = refused(*_prepare(tmp_path / "reviews.csv"))
    assert "reviews.csv" in message and "no column 'user_id'" in message and "who" in message
    message = refused(*_prepare(tmp_path / "reviews.csv", "--columns", "{user_id: who, rating: stars}"))
    assert "stars" in message and "reviews.csv" in message
    message = refused(*_prepare(tmp_path / "reviews.csv", "--columns", "{user: who}"))
    assert "unknown column 'user'" in message and "did you mean 'user_id'?" in message


@pytest.mark.parametrize("limit, named", [({"user_min": "500"}, "user_min=500"), ({"item_min": "500"}, "item_min=500")])
def test_the_filter_that_emptied_the_data_is_named(refused, rows, tmp_path, limit, named):
    given = {"user_min": "3", "item_min": "2", **limit}
    words = [word for key, value in given.items() for word in (f"--{key}", value)]
    raw = _write(tmp_path / "reviews.jsonl", rows)
    assert named in refused("prepare", "--dataset", "new", "--raw", raw, *words)


def test_no_rating_at_all(refused, rows, tmp_path):
    path = _write(tmp_path / "reviews.jsonl", [{**row, "rating": None} for row in rows])
    assert "no row has one" in refused(*_prepare(path))


# Names and parameters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "a/b", "/tmp/x", "..", ".hidden", "", "a b", "x\x00y", "x" * 101])
def test_data_set_names_stay_in_their_folder(refused, rows, tmp_path, name):
    raw = _write(tmp_path / "reviews.jsonl", rows)
    before = sorted(tmp_path.parent.iterdir())
    for command in (["prepare"], ["run"]):
        message = refused(*command, f"--dataset={name}", "--raw", raw)
        assert repr(name) in message
        refused(*command, f"--dataset={name}")
    assert sorted(tmp_path.parent.iterdir()) == before


PARAMETERS = [
    (["--encoder", "minilmm"], "did you mean 'minilm'?"),
    (["--lemmatizer", "simplema"], "did you mean 'simplemma'?"),
    (["--precision", "float8"], "float32"),
    (["--store_dtype", "int4"], "float16, int8"),
    (["--encode_text", "cleaned"], "did you mean 'clean'?"),
    (["--encoder", "minilm", "--max_length", "100000"], "max_length"),
    (["--user_min", "few"], "'user_min' must be int"),
    (["--item_min", "-1"], "item_min"),
    (["--bad_line_share", "2.0"], "bad_line_share"),
    (["--rating_range", "[5, 1]"], "rating_range"),
    (["--rating_range", "[1]"], "rating_range"),
    (["--columns", "[user_id]"], "columns"),
    (["--keep_unrated", "perhaps"], "keep_unrated"),
    (["--config_files", "nowhere.yaml"], "nowhere.yaml"),
]


@pytest.mark.parametrize("words, told", PARAMETERS)
def test_illegal_parameters_of_the_preparation(refused, rows, tmp_path, words, told):
    raw = _write(tmp_path / "reviews.jsonl", rows)
    arguments = ["prepare", "--dataset", "new", "--raw", raw, *words]
    defaults = {"--user_min": "3", "--item_min": "2"}
    arguments += [word for key, value in defaults.items() if key not in words for word in (key, value)]
    assert told in refused(*arguments)


RUN_PARAMETERS = [
    (["--model", "DReXX"], "did you mean 'DReX'?"),
    (["--model", ","], "at least one model"),
    (["--epochs", "two"], "'epochs' must be int"),
    (["--epochs", "0"], "'epochs' must be 1 or more"),
    (["--epoch", "2"], "did you mean 'epochs'?"),
    (["--embedding_size", "-3"], "embedding_size"),
    (["--dropout", "1.5"], "dropout"),
    (["--learning_rate", "-0.1"], "learning_rate"),
    (["--learning_rate", "fast"], "learning_rate"),
    (["--train_batch_size", "0"], "train_batch_size"),
    (["--threads", "0"], "threads"),
    (["--state", "LOUD"], "state"),
    (["--seed", "3"], "--seeds"),
    (["--topk", "0"], "topk"),
    (["--metrics", "[]"], "at least one metric"),
    (["--metrics", "[3]"], "at least one metric"),
    (["--metrics", "NDGC"], "NDGC"),
    (["--gain", "exp"], "exponential"),
    (["--candidates", "ful"], "did you mean 'full'?"),
    (["--mask", "trian"], "did you mean 'train'?"),
    (["--mask", "valid"], "Legal values: train, train+valid"),
    (["--mask", "train", "--candidates", "sampled"], "'mask' does not apply to candidates: sampled"),
    (["--ideal", "trunc"], "truncated"),
    (["--empty_user", "ship"], "did you mean 'skip'?"),
    (["--relevance", "grade"], "did you mean 'graded'?"),
    (["--relevance_threshold", "high"], "relevance_threshold"),
    (["--refinement", "leave_1_out"], "did you mean 'leave_one_out'?"),
    (["--start", "zer"], "did you mean 'zero'?"),
    (["--modalities", "[picture]"], "picture"),
    (["--eval_args", "{split: {XX: [1]}, order: RO, group_by: user, mode: full}"], "XX"),
    (["--eval_args", "{split: {RS: [0.8, 0.1, 0.1]}, order: OR, group_by: user, mode: full}"], "OR"),
    (
        ["--eval_args", "{split: {RS: [0.0, 0.5, 0.5]}, order: RO, group_by: user, mode: full}"],
        "RS",
    ),
]


@pytest.mark.parametrize("words, told", RUN_PARAMETERS)
def test_illegal_parameters_of_a_run_touch_no_earlier_result(refused, small, tmp_path, words, told):
    earlier = tmp_path / "results" / small.name / "DReX" / "seed-2026" / "result.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{}")
    given = {**small.settings, "data_path": small.root, "dataset": small.name}
    common = [str(word) for key, value in given.items() if f"--{key}" not in words for word in (f"--{key}", value)]
    assert told in refused("run", "--no_references", *common, *words, kept=(small.name,))
    assert [path.name for path in earlier.parent.iterdir()] == ["result.json"] and earlier.read_text() == "{}"


@pytest.mark.parametrize(
    "words, told",
    [
        (["--valid_metric", "rsme"], "did you mean 'rmse'?"),
        (["--learning_rate", "1.0e+6"], "Try a lower learning_rate"),
    ],
)
def test_errors_that_appear_during_training(refused, small, words, told):
    given = {**small.settings, "data_path": small.root, "dataset": small.name, "epochs": 3}
    common = [f"--{key}={value}" for key, value in given.items()]
    assert told in refused("run", "--no_references", *common, *words, kept=(small.name,))


@pytest.mark.parametrize(
    "text, told", [("epochs: [", "own.yaml"), ("- 1", "own.yaml"), ("epoch: 2", "epochs"), ("epochs: two", "epochs")]
)
def test_bad_configuration_files(refused, tmp_path, text, told):
    (tmp_path / "own.yaml").write_text(text)
    assert told in refused("run", "--config_files", "own.yaml")


# Disks ----------------------------------------------------------------------------------------------------------


def test_folders_that_cannot_be_written(refused, small, rows, tmp_path):
    """A path below a regular file, which not even the superuser can write."""
    raw = _write(tmp_path / "reviews.jsonl", rows)
    assert str(raw) in refused(*_prepare(raw, "--data_path", raw / "data"))
    given = {**small.settings, "data_path": small.root, "dataset": small.name, "output": raw / "results"}
    words = [str(word) for key, value in given.items() for word in (f"--{key}", value)]
    assert str(raw) in refused("run", "--no_references", *words)
    assert "cannot write" in refused("run", "--data_path", raw / "data")


def _with_little_space(arguments: list[str], cwd: Path, size: int) -> subprocess.CompletedProcess[str]:
    """Run where no file can grow beyond ``size`` bytes: writing fails in the middle, as on a full disk."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "recbole_drex", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


@pytest.mark.parametrize("size, stage", [(2_000, "reviews.parquet"), (100_000, "features")])
def test_a_full_disk_leaves_the_old_data_set(rows, tmp_path, size, stage):
    raw = _write(tmp_path / "reviews.jsonl", rows)
    assert main([*map(str, _prepare(raw, "--data_path", tmp_path / "data"))]) == 0
    folder = tmp_path / "data" / "new"
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}
    words = [*map(str, _prepare(raw, "--data_path", tmp_path / "data")), "--lemmatizer", "none"]
    failed = _with_little_space(words, tmp_path, size)
    assert failed.returncode == 2, failed.stderr
    assert "Traceback" not in failed.stderr and "cannot write" in failed.stderr and stage in failed.stderr
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in before} == before
    assert not list(folder.rglob("*.tmp")) and not (folder / "work").exists()
    assert main([*map(str, _prepare(raw, "--data_path", tmp_path / "data"))]) == 0


# Damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*files_of("float16"), "features.json"])
def test_a_damaged_feature_store_is_named(refused, small, tmp_path, name):
    shutil.copytree(small.root, tmp_path / "data")
    path = tmp_path / "data" / small.name / "features" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    words = [f"--{key}={value}" for key, value in small.settings.items()]
    message = refused("run", "--dataset", small.name, "--data_path", tmp_path / "data", *words, kept=(small.name,))
    assert str(path) in message


def test_a_damaged_checkpoint_is_named_and_set_aside(small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [f"--{key}={value}" for key, value in small.settings.items()]
    words += ["--dataset", small.name, "--data_path", str(small.root), "--no_references", "--epochs", "1"]
    words += ["--model", "BPR", "--output_dir", str(tmp_path)]
    assert main(["run", *words]) == 0
    folder = tmp_path / small.name / "BPR" / "seed-2026"
    (folder / "result.json").unlink()
    for content in (b"", b"no safetensors at all", (folder / "model.safetensors").read_bytes()[:-8]):
        (folder / "result.json").unlink(missing_ok=True)
        (folder / "last.safetensors").write_bytes(content)
        capsys.readouterr()
        assert main(["run", *words, "--resume"]) == 0
        (note,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        assert str(folder / "last.safetensors") in note and "last.safetensors.damaged" in note
        assert (folder / "last.safetensors.damaged").read_bytes() == content
        assert (folder / "result.json").is_file()
