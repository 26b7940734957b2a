"""The page of a search: budgets, best configurations, plots, all trials, search spaces and settings."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from recbole_drex.report.figures.axes import numbers
from recbole_drex.report.figures.pictures import inline
from recbole_drex.report.figures.search_figures import figures_of
from recbole_drex.report.figures.style import name_of
from recbole_drex.report.figures.svg import save
from recbole_drex.report.pages.rendering import REPORT, link_to, rendered
from recbole_drex.tuning.search_results import BEST, TRIALS, Search
from recbole_drex.tuning.search_summary import (
    STATUSES,
    budgets,
    command_of,
    fairness,
    log_of,
    plain_value,
    score_of,
    scored,
    spread_of,
    tested,
    trials_text,
    winner_of,
)
from recbole_drex.utils.files import replacing

FIGURES = "figures"
_DPI = 150
_STYLES = ("report.css", "search.css")
_SCRIPTS = ("frame.js", "report.js")
_CAPTIONS = {
    "heat-map": "Two parameters",
    "sensitivity": "Each parameter",
    "parallel": "Whole configurations",
}
_ALGORITHMS = {
    "grid": "Grid search: combinations of the listed values.",
    "random": "Random search: points drawn from the spaces.",
    "optuna": "Optuna's tree-structured Parzen estimator: each point is chosen from the scores of earlier points.",
    "asha": "Random search with early stopping (ASHA): trials that fall behind are stopped.",
}


def write_search_report(search: Search, output: Path | None = None) -> Path:
    """Write the page of a search, and its figures as PNG files in ``figures/`` next to it.

    Args:
        search: a finished or unfinished search.
        output: output file; default ``report.html`` in the search's folder.

    Returns:
        Path of the page. It needs no other file and no network; its links to logs and tables are relative.

    Raises:
        CheckpointError: the run of a winner is missing or damaged.
        DataError: a file cannot be written.
    """
    path = Path(output) if output is not None else search.folder / REPORT
    with replacing(path) as temporary:
        temporary.write_text(_render(search, path.parent), encoding="utf-8", errors="replace")
    return path


def _render(search: Search, base: Path) -> str:
    described, spent = search.described, budgets(search)
    return rendered(
        "search.html.j2",
        base,
        _STYLES,
        _SCRIPTS,
        search=described,
        algorithm=_ALGORITHMS[described["algo"]],
        fairness=fairness(search),
        budgets=spent,
        statuses=STATUSES,
        counted=[name for name in STATUSES if name != "running" or any(row.counts[name] for row in spent)],
        unfinished=[model for model in described["models"] if model not in described["winners"]],
        folder=shlex.quote(str(search.folder)),
        winners=_winners(search, base),
        plots=_plots(search, base / FIGURES),
        trials=_trials(search, base),
        tables=[(name, link_to(search.folder / name, base)) for name in (f"{TRIALS}.csv", f"{TRIALS}.parquet")],
        settings=_settings(search),
    )


def _winners(search: Search, base: Path) -> list[dict[str, Any]]:
    """The best configuration of each model, with its scores on validation and, if evaluated, on test."""
    winners = []
    for model in search.described["models"]:
        winner = winner_of(search, model)
        file = search.folder / BEST / f"{model}.yaml"
        winners.append(
            {
                "model": model,
                "trial": winner,
                "budget": trials_text(len(search.trials[model])),
                "parameters": {key: plain_value(value) for key, value in winner["parameters"].items()}
                if winner
                else {},
                "metric": name_of(search.described["metrics"][model]["metric"]),
                "score": score_of(winner) if winner else None,
                "std": spread_of(winner) if winner else None,
                "tested": {name_of(name): entry for name, entry in tested(search.winner_runs(model)).items()},
                "file": (file.name, link_to(file, base)) if file.is_file() else None,
                "command": command_of(search, model),
            }
        )
    return winners


def _plots(search: Search, folder: Path) -> list[dict[str, Any]]:
    """The figures of each model for the page; they are also written as PNG files."""
    plots = []
    for model in search.described["models"]:
        figures = figures_of(search, model)
        for name, figure in figures.items():
            save(figure, folder / f"{model}-{name}.png", dpi=_DPI)
        shown = [(_CAPTIONS[name], inline(figure), name != "heat-map") for name, figure in figures.items()]
        plots.append({"model": model, "figures": shown})
    return plots


def _trials(search: Search, base: Path) -> list[dict[str, Any]]:
    """The table of each model's trials: finished trials, best first, then the others."""
    tables = []
    for model, trials in search.trials.items():
        searched = list(search.described["spaces"][model])
        ranked = scored(search, model)
        ranks = {trial["name"] for trial in ranked}
        winner = winner_of(search, model)
        rows = [
            {
                "rank": rank if rank <= len(ranked) else None,
                "values": [_cell(trial["parameters"].get(name)) for name in searched],
                "score": score_of(trial),
                "std": spread_of(trial),
                "best": trial is winner,
                "log": _log(trial, base) if trial["status"] == "failed" else None,
                **{key: trial[key] for key in ("status", "epochs", "seconds", "error", "name")},
            }
            for rank, trial in enumerate([*ranked, *(trial for trial in trials if trial["name"] not in ranks)], start=1)
        ]
        tables.append(
            {
                "model": model,
                "searched": searched,
                "rows": rows,
                "metric": name_of(search.described["metrics"][model]["metric"]),
                "bigger": search.bigger(model),
                "seeds": len(search.described["seeds"]),
            }
        )
    return tables


def _cell(value: Any) -> tuple[str, str]:
    """Sort key and displayed text of a value."""
    return (str(value) if numbers([value]) else plain_value(value), plain_value(value))


def _log(trial: dict[str, Any], base: Path) -> tuple[str, str]:
    """Path of a trial's log relative to the trial's folder, and its URL."""
    log = log_of(trial)
    return log.relative_to(trial["folder"].parent.parent).as_posix(), link_to(log, base)


def _settings(search: Search) -> dict[str, Any]:
    """The settings of the search, by name."""
    known = search.described
    names = ("dataset", "fingerprint", "algo", "trials", "minutes", "seeds", "resources", "version")
    return {name: known[name] for name in names if name in known}
