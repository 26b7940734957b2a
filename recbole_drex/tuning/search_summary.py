"""Summary of a search as plain values: budgets, winners and their test metrics, and paths of logs."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_drex.results.comparison import Run
from recbole_drex.tuning.search_results import BEST, Search
from recbole_drex.tuning.space import size_of, space_of
from recbole_drex.tuning.trial import mean_score

STATUSES = {"finished": "finished", "stopped": "stopped early", "failed": "failed", "running": "not finished"}
_TESTED = (
    ("own_test", "mae"),
    ("own_test", "rmse"),
    ("own_test", "ndcg@10"),
    ("full", "ndcg@10"),
    ("full", "recall@10"),
)


def score_of(trial: Mapping[str, Any]) -> float | None:
    """Mean validation score over seeds; None if a trial has none, or it is not finite."""
    score = mean_score(trial)
    return score if score is not None and math.isfinite(score) else None


def spread_of(trial: Mapping[str, Any]) -> float | None:
    """Standard deviation of the validation score over seeds; None for fewer than two."""
    scores = list(trial["scores"].values())
    return float(np.std(scores, ddof=1)) if len(scores) > 1 and score_of(trial) is not None else None


def scored(search: Search, model: str, status: str = "finished") -> list[dict[str, Any]]:
    """The trials of a status that have a score, the best first."""
    sign = -1 if search.bigger(model) else 1
    result = [trial for trial in search.trials[model] if trial["status"] == status and score_of(trial) is not None]
    return sorted(result, key=lambda trial: sign * (score_of(trial) or 0.0))


def winner_of(search: Search, model: str) -> dict[str, Any] | None:
    """The trial that was evaluated on the test parts, or the best so far; None before any has finished."""
    noted = search.described["winners"].get(model)
    if noted is not None:
        return next((trial for trial in search.trials[model] if trial["name"] == noted["trial"]), None)
    return next(iter(scored(search, model)), None)


def log_of(trial: Mapping[str, Any]) -> Path:
    """File that says why a trial failed: its traceback, or the log of its last run, or its folder."""
    logs = [*sorted(trial["folder"].glob("seed-*/train.log")), *trial["folder"].glob("error.log")]
    return logs[-1] if logs else trial["folder"]


@dataclasses.dataclass(frozen=True)
class Budget:
    """The cost of a model's search.

    Attributes:
        model: its name.
        counts: trials by status: ``finished, stopped, failed, running`` (begun and not ended).
        epochs: of all trials and seeds.
        seconds: wall time of the model's search; None if it was not recorded.
        work: seconds of all trials together, which exceeds the wall time if trials ran in parallel.
        points: size of the space; infinite if a parameter has a continuous range.
        lost: trials without a result: failed, not ended, or without a finite score.
    """

    model: str
    counts: dict[str, int]
    epochs: int
    seconds: float | None
    work: float
    points: float
    lost: int

    @property
    def trials(self) -> int:
        """Number of all trials."""
        return sum(self.counts.values())


def budgets(search: Search) -> list[Budget]:
    """The budget of each model, in the order of the search."""
    result = []
    for model, trials in search.trials.items():
        space = space_of(search.described["spaces"][model])
        result.append(
            Budget(
                model,
                {status: sum(trial["status"] == status for trial in trials) for status in STATUSES},
                sum(trial["epochs"] for trial in trials),
                search.described.get("seconds", {}).get(model),
                sum(trial["seconds"] for trial in trials),
                size_of(space),
                sum(trial["status"] not in ("finished", "stopped") or score_of(trial) is None for trial in trials),
            )
        )
    return result


def fairness(search: Search) -> str:
    """One or two sentences about whether the models had equal budgets, for a table of winners."""
    rows, seeds = budgets(search), search.described["seeds"]
    each = f"{len(seeds)} seeds each" if len(seeds) > 1 else "one seed each"
    minutes = search.described.get("minutes")
    numbers = ", ".join(f"{row.model} {row.trials:,}" for row in rows)
    lost = ", ".join(f"{row.model} {row.lost:,}" for row in rows if row.lost)
    but = f" Trials without a result: {lost}." if lost else ""
    if len(rows) == 1:
        time = f" in {minutes:g} minutes of wall time at most" if minutes else ""
        text = f"One model was searched, with {trials_text(rows[0].trials)} of {each}{time}."
    elif minutes:
        text = f"Each model had {minutes:g} minutes of wall time. Trials made in it, with {each}: {numbers}."
    elif len({row.trials for row in rows}) == 1:
        text = f"Every model had the same budget: {trials_text(rows[0].trials)} of {each}."
    else:
        text = (
            f"The budgets differ. Trials, with {each}: {numbers}. A model with more trials had more chances to do "
            "well, so their winners are not compared on equal terms."
        )
    return text + but


def trials_text(number: int) -> str:
    """A number of trials in words."""
    return f"{number:,} trial{'' if number == 1 else 's'}"


def tested(runs: Sequence[Run]) -> dict[str, tuple[float, float | None]]:
    """Mean and standard deviation over seeds of the winner's headline metrics on the test parts.

    Returns:
        By metric, with the prefix ``full_`` for those over the full catalogue; those that no run has are left out, and
        the standard deviation is None for one seed.
    """
    result = {}
    for block, metric in _TESTED:
        values = [(run.result["test"].get(block) or {}).get(metric) for run in runs]
        known = [float(value) for value in values if value is not None]
        if known:
            name = metric if block == "own_test" else f"{block}_{metric}"
            result[name] = (float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None)
    return result


def command_of(search: Search, model: str) -> str:
    """The command that runs a model with its best configuration."""
    described = search.described
    words = ["recbole-drex", "run", "--model", model, "--dataset", described["dataset"]]
    words += ["--config_files", str(search.folder / BEST / f"{model}.yaml")]
    words += ["--seeds", ",".join(map(str, described["seeds"]))]
    data_path = described.get("fixed", {}).get(model, {}).get("data_path")
    if data_path is not None and Path(data_path) != Path("atomic_data").resolve():
        words += ["--data_path", data_path]
    return shlex.join(words)


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Parameters in one line.

    Example:
        >>> parameters_text({"learning_rate": 0.001, "modalities": ["review", "rating"]})
        'learning_rate 0.001, modalities [review, rating]'
    """
    return ", ".join(f"{name} {plain_value(value)}" for name, value in parameters.items())


def plain_value(value: Any) -> str:
    """A parameter's value in one line: text as it is, also in lists; numbers with six digits.

    Example:
        >>> plain_value(["review", "rating"]), plain_value(0.04489944375), plain_value(True), plain_value(None)
        ('[review, rating]', '0.0448994', 'true', 'null')
    """
    if isinstance(value, list):
        return f"[{', '.join(map(plain_value, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
