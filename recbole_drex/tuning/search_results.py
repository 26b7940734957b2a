"""The results of a search: ``search.json``, the table of trials, the best configurations."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from recbole_drex.errors import CheckpointError, ConfigError
from recbole_drex.results.comparison import Run, read_run
from recbole_drex.tuning.trial import TRIAL, mean_score, read_trial
from recbole_drex.utils.checksums import SUMS, check_sum, check_sums, write_sums
from recbole_drex.utils.files import read_json, replacing, safe_name, write_json, write_text

SEARCH, TRIALS, BEST = "search.json", "trials", "best"
SCHEMA = 1
_REQUIRED = {"schema", "models", "dataset", "fingerprint", "algo", "seeds", "spaces", "metrics", "winners"}
_NOTED = ("model", "trial", "status", "score", "score_std", "seeds", "epochs", "seconds", "attempts", "error", "folder")


@dataclasses.dataclass
class Search:
    """A search on disk.

    Attributes:
        folder: with ``search.json``, and a folder of trials per model.
        described: contents of ``search.json``.
        trials: per model, the records of its trials, with ``name`` and ``folder``; the best first, trials without score
            last.
    """

    folder: Path
    described: dict[str, Any]
    trials: dict[str, list[dict[str, Any]]]

    def bigger(self, model: str) -> bool:
        """Whether a larger score of this model is better."""
        return bool(self.described["metrics"][model]["bigger"])

    def winner(self, model: str) -> dict[str, Any] | None:
        """The finished trial with the best mean score on validation; None before any."""
        return next((trial for trial in self.trials[model] if trial["status"] == "finished"), None)

    def winner_runs(self, model: str) -> list[Run]:
        """The evaluated runs of the winner, one per seed; empty before they are evaluated."""
        noted = self.described["winners"].get(model)
        if noted is None:
            return []
        return [read_run(self.folder / model / noted["trial"] / f"seed-{seed}") for seed in self.described["seeds"]]


def read_search(folder: str | Path) -> Search:
    """Read a search, finished or not.

    Raises:
        CheckpointError: the folder has no search, or a damaged one, or one of another version.
    """
    folder = Path(folder)
    if not (folder / SEARCH).is_file():
        raise CheckpointError(
            f"{folder} has no search: it lacks {SEARCH}. If a search was stopped before it began, give its first "
            f"command again, with --output_dir {folder}"
        )
    check_sum(folder, SEARCH, remedy="")
    described = read_json(folder / SEARCH, "search", CheckpointError)
    if not isinstance(described, dict) or not described.keys() >= _REQUIRED:
        raise CheckpointError(f"{folder / SEARCH} is damaged, or not a search of recbole_drex")
    if described["schema"] != SCHEMA:
        raise CheckpointError(f"{folder / SEARCH} has schema {described['schema']!r}; this version reads {SCHEMA}")
    search = Search(folder, described, {})
    try:
        for model in described["models"]:
            search.trials[model] = _trials_of(search, safe_name(model, "model"))
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{folder / SEARCH} is damaged: {error!r}") from error
    return search


def _trials_of(search: Search, model: str) -> list[dict[str, Any]]:
    """The records of a model's trials, in the order of :attr:`Search.trials`."""
    sign = -1 if search.bigger(model) else 1
    paths = sorted((search.folder / model).glob(f"*/{TRIAL}"))
    check_sums(search.folder, [path.relative_to(search.folder).as_posix() for path in paths], remedy="")
    result = [{**read_trial(path.parent), "name": path.parent.name, "folder": path.parent} for path in paths]
    # Trials with fewer seeds than others are not compared.
    return sorted(
        result,
        key=lambda trial: (
            trial["status"] != "finished",
            sign * score if (score := mean_score(trial)) is not None else np.inf,
            trial["name"],
        ),
    )


def trial_table(search: Search) -> pd.DataFrame:
    """One row per trial: models in the order of the search, the best trials first.

    Returns:
        Columns ``model, trial, status`` (finished, stopped, failed, running), ``score`` (mean over seeds of the best
        score on validation), ``score_std`` (NaN for one seed), ``seeds, epochs, seconds, attempts, error, folder``
        (relative to the search), and one for each searched parameter of any model; lists are JSON.
    """
    rows = []
    for model, trials in search.trials.items():
        for trial in trials:
            scores = list(trial["scores"].values())
            row = {
                "model": model,
                "trial": trial["name"],
                "status": trial["status"],
                "score": mean_score(trial),
                "score_std": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
                "seeds": len(scores),
                **{key: trial[key] for key in ("epochs", "seconds", "attempts", "error")},
                "folder": trial["folder"].relative_to(search.folder).as_posix(),
            }
            rows.append(row | {key: _plain(value) for key, value in trial["parameters"].items()})
    searched = list(dict.fromkeys(name for space in search.described["spaces"].values() for name in space))
    table = pd.DataFrame(rows, columns=[*_NOTED, *searched])
    return table.astype(dict.fromkeys(("score", "score_std", "seconds"), float))


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def write_tables(search: Search) -> None:
    """Write ``trials.csv`` and ``trials.parquet``, see :func:`trial_table`."""
    table = trial_table(search)
    with replacing(search.folder / f"{TRIALS}.csv") as temporary:
        table.to_csv(temporary, index=False)
    # A column of a Parquet file has one type; a parameter of several models may have several.
    mixed = [name for name in table if table[name].dtype == object]
    with replacing(search.folder / f"{TRIALS}.parquet") as temporary:
        table.assign(**{str(name): table[name].map(_text) for name in mixed}).to_parquet(temporary, index=False)


def _text(value: Any) -> str | None:
    return None if value is None or value != value else str(value)


def write_best(search: Search, model: str) -> Path:
    """Write the best configuration, and the fixed parameters of all trials, as a file for ``--config_files``."""
    described, winner = search.described, search.winner(model)
    assert winner is not None
    metric, scores = described["metrics"][model]["metric"], list(winner["scores"].values())
    spread = f" (standard deviation {np.std(scores, ddof=1):.4f})" if len(scores) > 1 else ""
    header = (
        f"# {model} on {described['dataset']}: the best of {len(search.trials[model])} trials ({described['algo']}),\n"
        f"# by {metric} on validation, mean over {len(scores)} seeds: {mean_score(winner):.5f}{spread}.\n"
    )
    path = search.folder / BEST / f"{model}.yaml"
    same = {key: value for key, value in described.get("fixed", {}).get(model, {}).items() if key != "data_path"}
    write_text(
        path, header + yaml.safe_dump({**winner["parameters"], **same}, sort_keys=False, default_flow_style=False)
    )
    return path


def record_search(folder: Path) -> None:
    """Record the hashes of an ended search's files, except logs, Ray's files and the report."""
    skipped = {"ray", "tensorboard", "figures", "train.log", "report.html", SUMS}
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = [file.as_posix() for file in files if not skipped & set(file.parts) and not file.name.startswith(".")]
    write_sums(folder, names)


def write_described(folder: Path, described: dict[str, Any]) -> None:
    """Write ``search.json``."""
    write_json(folder / SEARCH, described)
