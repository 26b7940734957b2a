"""Whatever is killed, at whatever moment: the same command again gives what it gives when nothing happens."""

from __future__ import annotations

import collections
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from killing import COMMAND, Victim, content

from recbole_drex.cli.main import main
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.manifest import TIMES
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.errors import DataError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS = {
    "encode": 16,
    "prepare": 12,
    "DReX": 10,
    "NARRE": 6,
    "BPR": 6,
    "BPR, two processes": 4,
    "compare": 6,
    "tune": 6,
}
assert sum(KILLS.values()) >= 50
SEED = 20260
# What a run or search notes of itself that differs without any kill.
DIFFERING = ("seconds", "peak_memory_mb", "command", "attempts")
LOGS = ("train.log", "tensorboard", "SHA256SUMS")
SHARDS_OF_32 = """
import sys
from recbole_drex.cli.main import main
from recbole_drex.data.prepare import pipeline
pipeline.SHARD = 32
sys.exit(main(sys.argv[1:]))
"""
"""The command line, with more shards than few reviews would fill."""


def _words(**options: Any) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


# Preparation ----------------------------------------------------------------------------------------------------------


def _preparing(folder: Path, name: str) -> str:
    made = folder / name / "work" / "made"
    if made.is_dir():
        return "writing"
    return "encoding" if list((folder / name / "features.partial").glob("shard-*")) else "reading"


def test_encoding(small, tmp_path):
    def command(folder: Path) -> list[str]:
        # Contextual vectors, since static ones take too little time to be hit.
        given = {"dataset": small.name, "data_path": folder, **small.settings, "encoder": "minilm"}
        files = _words(raw=small.raw["reviews"], meta=small.raw["meta"])
        return [sys.executable, "-c", SHARDS_OF_32, "prepare", *_words(**given), *files]

    victim = Victim(command, lambda folder: content(folder, ignored=[TIMES]), lambda f: _preparing(f, small.name))
    hits = victim.is_killed(tmp_path, KILLS["encode"], SEED)
    assert hits["encoding"] >= 5


def _rating_lines(path: Path) -> None:
    """Many ratings and few reviews, so that reading and writing take longer than encoding."""
    rng = np.random.default_rng(1)
    with path.open("w") as file:
        for number, (user, item) in enumerate(zip(*rng.integers(0, [[2000], [300]], (2, 60_000)), strict=True)):
            row: dict[str, Any] = {"user_id": f"u{user}", "parent_asin": f"i{item}", "timestamp": 10**9 + number}
            row["rating"] = float(rng.integers(1, 6))
            if number % 1000 == 0:
                row["text"] = f"A fine story with {number} characters."
            file.write(json.dumps(row) + "\n")


def test_preparing_over_an_older_data_set(tmp_path):
    name, raw, older = "ratings", tmp_path / "raw.jsonl", tmp_path / "older"
    _rating_lines(raw)
    limits = {"older": {"user_min": 2, "item_min": 2}, "newer": {"user_min": 28, "item_min": 5, "use_title": False}}
    settings = {age: Config("DReX", name, config_dict=given).preparation() for age, given in limits.items()}
    given = _words(dataset=name, raw=raw)
    assert main(["prepare", *given, *_words(data_path=older, **limits["older"])]) == 0
    manifest = json.loads((older / name / f"{name}.json").read_text())

    def command(folder: Path) -> list[str]:
        return [*COMMAND, "prepare", *given, *_words(data_path=folder, **limits["newer"])]

    found = collections.Counter[str]()

    def one_of_both_is_whole(folder: Path) -> None:
        """Without the raw file, as for a user who has deleted it."""
        try:
            assert prepare(name, folder, settings["older"], Sources()) == manifest
            found["older"] += 1
        except DataError:
            assert prepare(name, folder, settings["newer"], Sources()) != manifest
            found["newer"] += 1

    victim = Victim(
        command,
        lambda folder: content(folder, ignored=[TIMES]),
        lambda folder: _preparing(folder, name),
        begin=lambda folder: shutil.copytree(older, folder),
        after_kill=one_of_both_is_whole,
    )
    hits = victim.is_killed(tmp_path, KILLS["prepare"], SEED)
    assert hits["reading"] + hits["writing"] >= 5
    assert sum(found.values()) == KILLS["prepare"] and found["older"] >= 5


# Training -------------------------------------------------------------------------------------------------------------

RUNS: dict[str, dict[str, Any]] = {
    "DReX": {"epochs": 20, "explained_users": 5, "measured_users": 0},
    "NARRE": {"epochs": 40, "word_size": 8, "filters": 8, "measured_users": 0},
    "BPR": {"epochs": 240},
    "BPR, two processes": {"model": "BPR", "epochs": 150, "nproc": 2},
}


def _training(folder: Path) -> str:
    for name, phase in (("*.parquet", "evaluating"), ("last.safetensors", "training")):
        if list(folder.rglob(name)):
            return phase
    return "loading"


@pytest.mark.parametrize("name", RUNS)
def test_training(small, tmp_path, name):
    def command(folder: Path) -> list[str]:
        given = {"model": name, "dataset": small.name, "data_path": small.root, "output": folder}
        own = {"train_batch_size": 128, "stopping_step": 100, **small.settings}
        return [*COMMAND, "run", "--no_references", "--resume", *_words(**{**given, **own, **RUNS[name]})]

    victim = Victim(command, lambda folder: content(folder, DIFFERING, LOGS), _training)
    hits = victim.is_killed(tmp_path, KILLS[name], SEED)
    assert hits["training"] >= 1 and hits["training"] + hits["evaluating"] >= KILLS[name] // 3


# Comparison -----------------------------------------------------------------------------------------------------------


def _comparing(folder: Path) -> str:
    if list(folder.rglob("table.csv")):
        return "writing"
    return "later runs" if list(folder.rglob("result.json")) else "the first run"


def test_comparison(small, tmp_path):
    def command(folder: Path) -> list[str]:
        given = {"models": "BPR,ItemMean,BiasedMF", "datasets": small.name, "seeds": "1,2", "epochs": 120}
        where = {"data_path": small.root, "output": folder}
        return [*COMMAND, "compare", "--no_references", *_words(**given, **where, **small.settings)]

    victim = Victim(command, lambda folder: content(folder, DIFFERING, LOGS), _comparing)
    hits = victim.is_killed(tmp_path, KILLS["compare"], SEED)
    assert hits["later runs"] >= 2


# Search ---------------------------------------------------------------------------------------------------------------


def _searching(folder: Path) -> str:
    if not (folder / "search.json").is_file():
        return "starting"
    return "testing" if list(folder.glob("BPR/*/seed-*/result.json")) else "trying"


def test_search(small, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: [0.02, 0.002]\nembedding_size: [4, 8]\n")

    def command(folder: Path) -> list[str]:
        if (folder / "search.json").is_file():
            return [*COMMAND, "tune", "--resume", str(folder)]
        given = {"models": "BPR", "dataset": small.name, "data_path": small.root, "space": space, "output": folder}
        return [*COMMAND, "tune", *_words(**given, seeds="1,2", parallel=2, epochs=25, **small.settings)]

    def searched(folder: Path) -> dict[str, Any]:
        trials = pd.read_csv(folder / "trials.csv", keep_default_na=False)  # an empty error equals an empty error
        table = trials.drop(columns=["seconds", "attempts"]).to_dict("records")
        tables = ("trials.csv", "trials.parquet", "report.html", "figures", "ray")
        return {**content(folder, DIFFERING, [*LOGS, *tables]), "table": table}

    hits = Victim(command, searched, _searching).is_killed(tmp_path, KILLS["tune"], SEED)
    assert hits["trying"] >= 2
