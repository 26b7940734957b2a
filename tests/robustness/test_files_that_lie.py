"""Files that say what is not so, and places that must not be written: refused in one line, and left as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sealing import reseal

from recbole_drex.cli.main import main
from recbole_drex.cli.verify import verify
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import demo_raw
from recbole_drex.data.raw.readers import read_reviews
from recbole_drex.errors import CheckpointError, ConfigError, DataError, DrexError
from recbole_drex.experiments.quick_start import run
from recbole_drex.experiments.run import load_experiment
from recbole_drex.results.run_result import read_users
from recbole_drex.utils import checkpoint


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory) -> Path:
    """Folder of a finished run of BiasedMF."""
    output = tmp_path_factory.mktemp("results")
    parameters = {**small.settings, "epochs": 1}
    run(["BiasedMF"], small.name, data_path=small.root, output=output, parameters=parameters, references=False)
    return output / small.name / "BiasedMF" / "seed-2026"


def _state(*roots: Path) -> dict[Path, tuple[int, int]]:
    """When every file and folder below was changed last: of a folder, when a name in it came or went."""
    paths = [path for root in roots for path in (root, *root.rglob("*"))]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths}


# Reading does not write -----------------------------------------------------------------------------------------------


def test_reading_writes_nothing(small, finished, tmp_path, capsys):
    before = _state(small.root, finished.parents[2])
    words = [f"--{key}={value}" for key, value in {**small.settings, "epochs": 1}.items()]
    words += ["--dataset", small.name, "--data_path", str(small.root), "--output_dir", str(tmp_path / "out")]
    raw = ["--raw", str(small.raw["reviews"]), "--meta", str(small.raw["meta"])]
    load_experiment(finished)
    verify(finished), verify(small.root / small.name)
    main(["explain", "--run", str(finished), "--user", "user_01"])
    assert main(["report", str(finished), "--output", str(tmp_path / "report.html")]) == 0
    assert main(["run", "--model", "ItemMean", "--no_references", *words]) == 0
    assert main(["prepare", *words[:-2], *raw]) == 0
    assert _state(small.root, finished.parents[2]) == before


def test_the_raw_files_of_the_demo_are_written_once(tmp_path):
    before = demo_raw(tmp_path) and _state(tmp_path)
    assert len(demo_raw(tmp_path)) == 3 and _state(tmp_path) == before


def test_a_run_that_names_another_folder_changes_nothing_there(finished, tmp_path):
    """Neither are folders made, nor files of others removed that look unfinished."""
    folder = shutil.copytree(finished, tmp_path / "run")
    theirs = tmp_path / "theirs" / "small"
    (theirs / "work").mkdir(parents=True)
    for path in (theirs / ".a.0123abcd.tmp", tmp_path / "theirs" / ".small.01234567.tmp", theirs / "work" / "x"):
        path.touch()
    before = _state(tmp_path / "theirs")
    for place in (tmp_path / "theirs", tmp_path / "absent"):
        described = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**described, "data_path": str(place)}))
        reseal(folder)
        with pytest.raises(DataError, match=r"small"):
            load_experiment(folder)
    assert _state(tmp_path / "theirs") == before and not (tmp_path / "absent").exists()


def test_a_prepared_data_set_is_verified(small, tmp_path, capsys):
    folder = shutil.copytree(small.root / small.name, tmp_path / small.name)
    assert main(["verify", str(tmp_path)]) == 0
    for path in [path for path in folder.rglob("*") if path.is_file() and path.name != "seconds.json"]:
        whole = path.read_bytes()
        at = len(whole) // 3
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert main(["verify", str(folder)]) == 1, path
        path.write_bytes(whole)
    with pytest.raises(DataError, match="contains no run, comparison, search or prepared data set"):
        verify(tmp_path / small.name / "features")


# What run.json says ---------------------------------------------------------------------------------------------------

LIES: list[tuple[str, dict[str, Any]]] = [
    ("'model' that is a str", {"model": 5}),
    ("'parameters' that is a dict", {"parameters": []}),
    ("'config' that is a dict", {"config": "x"}),
    ("'data_path' that is a str", {"data_path": None}),
    ("'fingerprint' that is a str", {"fingerprint": {}}),
    ("data set name '../../x'", {"dataset": "../../x"}),
    ("unknown model", {"model": "../Bias"}),
    ("'embedding_size' must be 1 or more", {"parameters": {"embedding_size": -3}}),
    ("'embedding_size' must be int", {"parameters": {"embedding_size": "wide"}}),
    ("describes another model", {"parameters": {"embedding_size": 100_000_000}}),
    ("no model can be built", {"parameters": {"embedding_size": 10**17}}),
    ("", {"parameters": {"eval_args": 3}}),
    ("", {"config": {"topk": {"a": []}}}),
    ("", {"config": {"metrics": 7}}),
]


@pytest.mark.parametrize(("message", "lies"), LIES)
def test_the_description_of_a_run_is_checked(finished, tmp_path, message, lies):
    folder = shutil.copytree(finished, tmp_path / "run")
    described = json.loads((folder / "run.json").read_text())
    for key, value in lies.items():
        merged = isinstance(value, dict) and isinstance(described[key], dict) and value
        described[key] = {**described[key], **value} if merged else value
    if "parameters" in lies and isinstance(lies["parameters"], dict):
        described["config"].update(lies["parameters"])
    (folder / "run.json").write_text(json.dumps(described))
    reseal(folder)
    with pytest.raises(DrexError) as caught:
        load_experiment(folder)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_are_no_numbers_are_refused(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    state = checkpoint.load(folder / "model.safetensors")
    next(iter(state["state_dict"].values())).view(-1)[0] = torch.inf
    checkpoint.save(folder / "model.safetensors", state)
    reseal(folder)
    with pytest.raises(CheckpointError, match="are NaN or infinite"):
        load_experiment(folder)


def test_no_file_outside_is_read_for_a_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "x.yaml").write_text("epochs: [")  # would be refused as YAML if it were read
    monkeypatch.chdir(tmp_path)
    for name in ("../../x", str(tmp_path / "x"), "..", "a/b", "\x1b[31mred"):
        with pytest.raises(ConfigError, match=r"data set name .* is not legal"):
            Config("DReX", name)
        assert main(["run", "--dataset", name]) == 2
        assert "\x1b" not in capsys.readouterr().err


# Parquet --------------------------------------------------------------------------------------------------------------


def _bomb(path: Path, kind: str) -> int:
    """A file of a few kB that unpacks to gigabytes: many equal rows, or rows that repeat one long text."""
    if kind == "rows":
        rows = pa.array(np.zeros(1 << 22, dtype=np.int64))
        schema = pa.schema([("user_id", pa.int64()), ("parent_asin", pa.int64()), ("rating", pa.int64())])
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for _ in range(16):
                writer.write_table(pa.table([rows] * 3, schema=schema), row_group_size=1 << 22)
    else:
        text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, dtype=np.int32)), pa.array(["x" * (1 << 22)]))
        table = pa.table({"user_id": text, "parent_asin": text, "rating": pa.array(np.zeros(2000))})
        pq.write_table(table, path, compression="zstd")
    return path.stat().st_size


@pytest.mark.parametrize("kind", ["rows", "text"])
def test_a_parquet_file_that_unpacks_to_gigabytes_is_refused(tmp_path, kind):
    path = tmp_path / "users.parquet"
    assert _bomb(path, kind) < 1_000_000
    with pytest.raises(CheckpointError, match=r"users\.parquet: it unpacks to .* bytes or more"):
        read_users(tmp_path)
    with pytest.raises(DataError, match="it unpacks to"):
        read_reviews([path], tmp_path / "spill.parquet")


def test_long_runs_of_equal_values_are_read(tmp_path):
    frame = pd.DataFrame(0.0, index=[f"u{n}" for n in range(50_000)], columns=["train_ratings", "train_reviews"])
    from recbole_drex.results.run_result import write_users

    write_users(tmp_path, frame.assign(test_ratings=1.0, mae=0.0, mse=0.0))
    assert len(read_users(tmp_path)) == 50_000


# The terminal ---------------------------------------------------------------------------------------------------------


def test_controls_in_messages_are_cleaned():
    assert str(DataError("user '\x1b[2J\x07ann\u202e'\r\nis not there")) == "user '[2Jann' is not there"


def test_resuming_a_search_that_did_not_start_names_the_command(tmp_path, capsys):
    assert main(["tune", "--resume", str(tmp_path)]) == 2
    assert f"give its first command again, with --output_dir {tmp_path}" in capsys.readouterr().err


def test_a_preparation_of_the_same_data_needs_no_lock(small):
    config = Config("DReX", small.name, config_dict={**small.settings, "data_path": str(small.root)})
    before = _state(small.root)
    sources = Sources((small.raw["reviews"],), small.raw["meta"])
    assert prepare(small.name, small.root, config.preparation(), sources) == small.manifest
    assert _state(small.root) == before
