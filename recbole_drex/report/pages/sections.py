"""The contents of the report's sections, as plain values for the templates."""

from __future__ import annotations

import json
from typing import Any

from recbole_drex.analysis import sentence_table
from recbole_drex.analysis.explanation_table import NOTE, explanation_table, shown
from recbole_drex.report.figures import pictures
from recbole_drex.report.pages import result_tables
from recbole_drex.report.pages.explanations import packed
from recbole_drex.report.pages.provenance import data_sets, provenance
from recbole_drex.results.comparison import Comparison

_EXPLANATIONS_LIMIT = 2_000_000  # total characters of all explanations; the rest of a page is about as large


def all_sections(comparison: Comparison) -> dict[str, Any]:
    """All variables of the page's template.

    Raises:
        DataError: no run is finished, or runs are not comparable.
        CheckpointError: a file of a run is missing or damaged.
    """
    tables = result_tables.tables(comparison)
    return {
        "comparison": comparison,
        "conventions": comparison.results[0]["protocol"],
        "summary": result_tables.summary(comparison, tables),
        "tables": result_tables.result_tables(comparison, tables),
        "notes": list(dict.fromkeys(note for table in tables.values() for note in table.notes)),
        "significance": result_tables.significance(comparison, tables),
        "rank_tests": result_tables.rank_tests(comparison),
        "curves": pictures.curves(comparison),
        "learning": pictures.learning(comparison),
        "sensitivity": pictures.sensitivity(comparison, result_tables.headlines(comparison)),
        "calibration": pictures.calibration(comparison),
        "data": data_sets(comparison),
        "groups": pictures.groups(comparison),
        "quality": quality(comparison),
        "sentences": sentences(comparison),
        "explanations": explanations(comparison),
        "provenance": provenance(comparison),
    }


def quality(comparison: Comparison) -> dict[str, Any] | None:
    """Quality of explanations per model; None if it was not measured.

    Returns:
        ``headings``, of which the first ``names`` are text columns; ``rows`` of cells; and an explanatory ``note``.
    """
    table = explanation_table(comparison)
    if table.empty:
        return None
    cells = shown(table)
    names = list(cells.columns).index("coverage")
    return {"headings": list(cells.columns), "names": names, "rows": cells.to_numpy().tolist(), "note": NOTE}


def sentences(comparison: Comparison) -> dict[str, Any] | None:
    """Metrics of generated sentences per model, in the form of :func:`quality`; None without any."""
    table = sentence_table.sentence_table(comparison)
    if table.empty:
        return None
    cells = sentence_table.shown(table)
    names = list(cells.columns).index("pairs")
    return {
        "headings": list(cells.columns),
        "names": names,
        "rows": cells.to_numpy().tolist(),
        "note": sentence_table.NOTE,
    }


def explanations(comparison: Comparison) -> dict[str, Any]:
    """Explanations to browse: those of the first run of each model and data set.

    If they would make the page too large, an equal share of each run's users is shown.

    Returns:
        ``models``: for each ``name`` and what :func:`~recbole_drex.report.pages.explanations.packed` returns; ``total``
        and ``shown``: numbers of users; ``other_versions``: names of runs explained by another version, which are
        omitted.
    """
    first = {(run.label, run.dataset): run for run in reversed(comparison.runs) if run.explains}
    runs = [run for run in comparison.runs if first.get((run.label, run.dataset)) is run]
    users = {f"{run.label}, {run.dataset}, {run.replicate}": run.explanations() for run in runs}
    other_versions = [name for name, explained in users.items() if any(map(_is_other_version, explained))]
    users = {name: explained for name, explained in users.items() if name not in other_versions}
    models, total = _packed(users), sum(map(len, users.values()))
    # Removing users keeps what they share with others, so several cuts may be needed.
    while (size := sum(map(_length, models))) > _EXPLANATIONS_LIMIT:
        kept = {name: max(1, len(explained) * _EXPLANATIONS_LIMIT // size) for name, explained in users.items()}
        if kept == {name: len(explained) for name, explained in users.items()}:
            break
        users = {name: explained[: kept[name]] for name, explained in users.items()}
        models = _packed(users)
    return {"models": models, "total": total, "shown": sum(map(len, users.values())), "other_versions": other_versions}


def _is_other_version(user: dict[str, Any]) -> bool:
    return "mean_rating" not in user or any("parts" not in item for item in user["recommendations"])


def _packed(users: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [{"name": name, **packed(explained)} for name, explained in users.items()]


def _length(model: dict[str, Any]) -> int:
    return len(json.dumps(model, ensure_ascii=False, separators=(",", ":")))
