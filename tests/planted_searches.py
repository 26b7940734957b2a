"""Folders of searches that never were: trials with scores as a test wants them, in the files that a search leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from planted_runs import write_run

from recbole_drex.tuning.results import SCHEMA, Search, read_search, write_best, write_tables
from recbole_drex.tuning.trial import name_of

SEEDS = (1, 2)
METRICS = {"DReX": ("rmse", False), "NARRE": ("rmse", False), "BPR": ("full_ndcg@10", True)}


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
        for place, one in enumerate(noted):
            path = folder / model / f"{name_of(one['parameters'])}-{place}"
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
