"""Folders of searches that never were: trials with scores as a test wants them, in the files that a search leaves."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from explained import EVIL
from planted_runs import write_run

from recbole_drex.tuning.search_results import SCHEMA, Search, read_search, write_best, write_tables
from recbole_drex.tuning.trial import name_of

SEEDS = (1, 2)
METRICS = {"DReX": ("rmse", False), "NARRE": ("rmse", False), "BPR": ("full_ndcg@10", True)}

GRID: dict[str, list[Any]] = {
    "learning_rate": [0.1, 0.001, 0.01],
    "reg_weight": [0.0, 1e-5, 1e-3],
    "use_bilinear": [True, False],
    "modalities": [["rating"], ["review", "rating"]],
}
RANGES: dict[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
    "embedding_size": [8, 16, 32],
}
ERROR = f"RuntimeError: loss is not finite {EVIL} \x1b[2J"


def trial(parameters: dict[str, Any], *scores: float, status: str = "finished", error: str | None = None, **noted: Any):
    """What a trial notes; a score a seed."""
    return {
        "parameters": parameters,
        "status": status,
        "scores": {str(seed): score for seed, score in zip(SEEDS, scores, strict=False)},
        "best_epochs": {},
        "epochs": 7 * len(scores),
        "seconds": 1.5,
        "attempts": 1,
        "error": error,
        **noted,
    }


def write_search(
    folder: Path,
    trials: dict[str, Sequence[dict[str, Any]]],
    spaces: dict[str, dict[str, Any]],
    *,
    tested: bool = False,
    **changes: Any,
) -> Search:
    """Write a search and read it.

    Args:
        folder: to write into.
        trials: of each model, see :func:`trial`.
        spaces: of each model.
        tested: whether the winners have runs.
        changes: entries of ``search.json`` to replace.
    """
    folder.mkdir(parents=True)
    metrics = {model: dict(zip(("metric", "bigger"), METRICS[model], strict=True)) for model in trials}
    described = {
        "schema": SCHEMA,
        "version": "0.1.0",
        "command": "recbole-drex tune",
        "models": list(trials),
        "dataset": "demo",
        "fingerprint": "0123456789abcdef",
        "algo": "random",
        "trials": None,
        "minutes": None,
        "seeds": list(SEEDS),
        "spaces": spaces,
        "fixed": {model: {"epochs": 5} for model in trials},
        "metrics": metrics,
        "resources": {"parallel": 1, "cpus": 1, "gpus": 0.0},
        "seconds": dict.fromkeys(trials, 83.0),
        "winners": {},
        **changes,
    }
    (folder / "search.json").write_text(json.dumps(described))
    for model, noted in trials.items():
        for index, one in enumerate(noted):
            path = folder / model / f"{name_of(one['parameters'])}-{index}"
            path.mkdir(parents=True)
            (path / "trial.json").write_text(json.dumps(one))
            if one["status"] == "failed":
                (path / "error.log").write_text("Traceback")
    search = read_search(folder)
    write_tables(search)
    for model in trials if tested else ():
        winner = search.winner(model)
        assert winner is not None
        described["winners"][model] = {"trial": winner["name"]}
        for seed in SEEDS:
            run = write_run(folder / "runs", model, seed=seed, scores=METRICS[model][1])
            shutil.move(run, winner["folder"] / f"seed-{seed}")
        write_best(search, model)
    (folder / "search.json").write_text(json.dumps(described))
    return read_search(folder)


def grid_trials() -> list[dict[str, Any]]:
    """All points of ``GRID`` with scores that depend most on the learning rate; two failed and one was stopped."""
    generator = np.random.default_rng(7)
    result = []
    for point in itertools.product(*GRID.values()):
        parameters = dict(zip(GRID, point, strict=True))
        base = 0.9 + 0.1 * abs(math.log10(parameters["learning_rate"]) + 2) + 0.02 * parameters["use_bilinear"]
        result.append(trial(parameters, *(base + generator.normal(scale=0.01, size=len(SEEDS)))))
    result[3] = trial(result[3]["parameters"], status="failed", error=ERROR, attempts=2)
    result[9] = trial(result[9]["parameters"], status="failed", error="DataError: no", attempts=2)
    result[20] = trial(result[20]["parameters"], 1.3, status="stopped")
    return result


def ranged_trials(number: int = 30) -> list[dict[str, Any]]:
    """Points of ``RANGES``, whose scores are better when bigger."""
    generator = np.random.default_rng(8)
    result = []
    for _ in range(number):
        rate, size = float(10 ** generator.uniform(-4, -1)), int(generator.choice([8, 16, 32]))
        score = 0.2 - 0.02 * abs(math.log10(rate) + 2.5) + generator.normal(scale=0.005)
        result.append(trial({"learning_rate": rate, "embedding_size": size}, score, score + 0.01))
    return result


def frame_of(trials: list[dict[str, Any]]) -> pd.DataFrame:
    """Parameters and mean scores of the finished trials."""
    finished = [one for one in trials if one["status"] == "finished"]
    return pd.DataFrame([{**one["parameters"], "score": np.mean(list(one["scores"].values()))} for one in finished])


def both_models(folder: Path) -> Search:
    """36 trials of DReX and 30 of BPR, both with a tested winner."""
    trials = {"DReX": grid_trials(), "BPR": ranged_trials()}
    return write_search(folder, trials, {"DReX": GRID, "BPR": RANGES}, tested=True)
