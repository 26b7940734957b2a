"""Several processes that train one model: the same numbers as one process, one set of files, and ends in good order."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole.data.interaction import Interaction

from recbole_drex import ranks, run
from recbole_drex.cli import main
from recbole_drex.distributed import check_processes, group, launch
from recbole_drex.errors import ConfigError, ProcessError
from recbole_drex.evaluation.result import read_interactions, read_result

ROOT = Path(__file__).parents[1]
HERE = {"nproc": 2, "world_size": -1, "offset": 0, "ip": "localhost", "port": None}
SHORT = {"epochs": 3, "measured_users": 0, "explained_users": 0}
# Without dropout and without reviews drawn at random, whose random numbers are each process's own.
FIXED = {"dropout": 0.0, "train_batch_size": 301}
EXACT: dict[str, dict[str, Any]] = {
    "DReX": {**FIXED, "message_samples": 0},
    "DReX-MLP": {**FIXED, "message_samples": 0, "output": "point", "clip_grad_norm": {"max_norm": 0.1}},
    "DReX-implicit": {**FIXED, "message_samples": 0, "train_batch_size": 1000},
    "NARRE": {**FIXED, "word_size": 8, "filters": 8},
    "DeepCoNN": {**FIXED, "word_size": 8, "filters": 8},
    "BiasedMF": {"train_batch_size": 301},
    "LIRDRec": {"train_batch_size": 301},
    "BPR": {"train_batch_size": 301},
    "LightGCN": {"train_batch_size": 301, "require_pow": True},
    "Bias": {},
    "EASE": {},
}
EXACT["LightGCN"].pop("require_pow")


def run_all(root: Path, output: Path, settings: dict[str, Any], models: dict[str, dict[str, Any]]) -> list[str]:
    """Run every model with parameters of its own; found by its name in other processes."""
    with group():
        for model, own in models.items():
            parameters = {**settings, **SHORT, **own}
            run([model], "small", data_path=root, output=output, parameters=parameters, references=False)
        return sorted(path.name for path in output.iterdir())


@pytest.fixture(scope="module")
def outputs(small, tmp_path_factory) -> tuple[Path, Path]:
    """Results of one process and of two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    run_all(small.root, one, small.settings, EXACT)
    arguments = {"root": small.root, "output": two, "settings": small.settings, "models": EXACT}
    assert launch(run_all, arguments, HERE) == ["small"]
    return one, two


def _folders(outputs: tuple[Path, Path], model: str) -> list[Path]:
    return [output / "small" / model / "seed-2026" for output in outputs]


@pytest.mark.parametrize("model", EXACT)
def test_two_processes_learn_what_one_learns(outputs, model):
    folders = _folders(outputs, model)
    one, two = (read_result(folder) for folder in folders)
    assert two["processes"] == (1 if model in ("Bias", "EASE") else 2)
    for part in ("valid", "test"):
        flat = [pd.json_normalize(result[part]).iloc[0].dropna() for result in (one, two)]
        pd.testing.assert_series_equal(*flat, atol=1e-4, rtol=0)
    first, second = (read_interactions(folder) for folder in folders)
    pd.testing.assert_frame_equal(first, second, atol=1e-4, rtol=0)
    histories = [json.loads((folder / "history.json").read_text()) for folder in folders]
    for entries in zip(*histories, strict=True):
        assert entries[0]["train_loss"] == pytest.approx(entries[1]["train_loss"], abs=1e-3)
        assert entries[0]["valid_score"] == pytest.approx(entries[1]["valid_score"], abs=1e-4)
