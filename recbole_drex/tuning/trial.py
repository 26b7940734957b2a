"""One trial: a configuration, trained with every seed and scored on validation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from recbole_drex.config.recbole_config import Config
from recbole_drex.errors import CheckpointError, DrexError, StorageError
from recbole_drex.utils.array_cache import kept_in
from recbole_drex.utils.files import locked, read_json, write_json, write_text

TRIAL, CACHE = "trial.json", "cache"
_PATIENCE = 24 * 3600.0  # seconds to wait for another trial of the same configuration
STATES = ("running", "finished", "stopped", "failed")


@dataclasses.dataclass(frozen=True)
class Task:
    """The common settings of one model's trials; plain values, so that they can be sent to other machines.

    Attributes:
        model, dataset: names.
        folder: of the search, absolute; trials are in ``<folder>/<model>/<name>/``.
        seeds: each has its own split.
        fixed: parameters that are the same in all trials, the data's folder included.
        manifest: of the prepared data set.
    """

    model: str
    dataset: str
    folder: Path
    seeds: tuple[int, ...]
    fixed: dict[str, Any]
    manifest: dict[str, Any]

    def config(self, parameters: Mapping[str, Any], seed: int) -> Config:
        """The configuration of a trial with one seed."""
        return Config(self.model, self.dataset, [], {**self.fixed, **parameters, "seed": seed})

    def trial_folder(self, parameters: Mapping[str, Any]) -> Path:
        """Folder of a trial."""
        return self.folder / self.model / name_of(parameters)

    def run_folder(self, parameters: Mapping[str, Any], seed: int) -> Path:
        """Folder of a trial's run with one seed."""
        return self.trial_folder(parameters) / f"seed-{seed}"


def name_of(parameters: Mapping[str, Any]) -> str:
    """Name of a trial: the hash of its parameters.

    Example:
        >>> name_of({"a": 1, "b": 2}) == name_of({"b": 2, "a": 1}) != name_of({"a": 1})
        True
    """
    return hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()[:10]


def run_trial(task: Task, parameters: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """Train one configuration with every seed, and record the results in ``trial.json``.

    Every epoch of the first seed is reported, so that a scheduler may stop the trial; each further seed is
    reported when it is done. Runs that were interrupted continue from their last epoch; a configuration that was tried
    before is not tried again, and its score is reported.

    Args:
        task: the common settings of the model's trials.
        parameters: the parameters of this trial.
        report: called with ``{score, epoch, seed}``; the score is the best on validation so far, mean over seeds that
            are done and the current one. It may raise to stop the trial.

    Raises:
        StorageError: files cannot be written; the trial stays ``running``, and the same call continues with it.
        Exception: whatever else training raises; ``error.log`` in the trial's folder has the traceback.
    """
    folder = task.trial_folder(parameters)
    # Some algorithms propose a configuration twice, possibly while its first trial is running.
    with locked(folder, f"the trial {folder}", timeout=_PATIENCE):
        before = read_trial(folder) if (folder / TRIAL).is_file() else {"attempts": 0, "status": "running"}
        if before["status"] == "finished":
            report({"score": mean_score(before), "epoch": before["epochs"], "seed": task.seeds[-1]})
        else:
            _run(task, parameters, folder, before, report)


def _run(
    task: Task,
    parameters: dict[str, Any],
    folder: Path,
    before: Mapping[str, Any],
    report: Callable[[dict[str, Any]], None],
) -> None:
    noted: dict[str, Any] = {
        "parameters": parameters,
        "status": "running",
        "scores": {},
        "best_epochs": {},
        "epochs": 0,
        "seconds": before.get("seconds", 0.0),
        "attempts": before["attempts"] + 1,
        "error": None,
    }
    write_json(folder / TRIAL, noted)
    started, seconds = time.perf_counter(), noted["seconds"]
    try:
        with kept_in(task.folder / CACHE):
            for number, seed in enumerate(task.seeds):
                _train(task, parameters, seed, noted, report if number == 0 else None)
                noted["seconds"] = seconds + time.perf_counter() - started
                write_json(folder / TRIAL, noted)
                if number:
                    report({"score": mean_score(noted), "epoch": noted["epochs"], "seed": seed})
    except StorageError:
        raise  # the configuration is valid: it is tried again once there is space
    except Exception as error:
        noted["error"] = str(error) if isinstance(error, DrexError) else f"{type(error).__name__}: {error}"
        noted["status"] = "failed"
        write_text(folder / "error.log", traceback.format_exc())
        raise
    else:
        noted["status"] = "finished"
    finally:
        noted["seconds"] = seconds + time.perf_counter() - started
        write_json(folder / TRIAL, noted)


def _train(
    task: Task,
    parameters: dict[str, Any],
    seed: int,
    noted: dict[str, Any],
    report: Callable[[dict[str, Any]], None] | None,
) -> None:
    from recbole_drex.experiments.run import train_one

    config = task.config(parameters, seed)
    better = max if config["valid_metric_bigger"] else min
    epochs = noted["epochs"]

    def on_epoch(entry: dict[str, Any]) -> None:
        score = float(entry["valid_score"])
        best = better(score, noted["scores"].get(str(seed), score))
        if best == score and noted["scores"].get(str(seed)) != score:
            noted["best_epochs"][str(seed)] = entry["epoch"]
        noted["scores"][str(seed)] = best
        noted["epochs"] = epochs + entry["epoch"] + 1
        if report:
            report({"score": best, "valid_score": score, "epoch": entry["epoch"] + 1, "seed": seed})

    train_one(config, task.manifest, task.run_folder(parameters, seed), on_epoch)


def mean_score(trial: Mapping[str, Any]) -> float | None:
    """Mean over seeds of the best validation score; None before any."""
    scores = list(trial["scores"].values())
    return sum(scores) / len(scores) if scores else None


def read_trial(folder: Path) -> dict[str, Any]:
    """The record of a trial.

    Raises:
        CheckpointError: the file is missing, damaged or not ours.
    """
    trial = read_json(folder / TRIAL, "trial", CheckpointError)
    if not isinstance(trial, dict) or not _is_trial(trial):
        raise CheckpointError(f"{folder / TRIAL} is damaged: it is not a trial")
    return trial


def _is_trial(noted: Mapping[str, Any]) -> bool:
    scores, numbers = noted.get("scores"), ("epochs", "seconds", "attempts")
    return (
        noted.get("status") in STATES
        and isinstance(noted.get("parameters"), dict)
        and isinstance(scores, dict)
        and all(isinstance(number, (int, float)) for number in [*scores.values(), *map(noted.get, numbers)])
        and isinstance(noted.get("error", 0), (str, NoneType))
    )
