"""What each section of the report shows, as plain values for the templates."""

from __future__ import annotations

import json
from typing import Any

from recbole_drex.analysis.explanation_table import NOTE, explanation_table, shown
from recbole_drex.report.figures import pictures
from recbole_drex.report.pages import result_tables
from recbole_drex.report.pages.explanations import packed
from recbole_drex.report.pages.provenance import data_sets, provenance
from recbole_drex.results.comparison import Comparison

_EXPLANATIONS_LIMIT = 2_000_000  # characters of all explanations together; the rest of a page is about as much


def all_sections(comparison: Comparison) -> dict[str, Any]:
    """Everything that the page's template names.

    Raises:
        DataError: no run is finished, or runs do not belong together.
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
        "explanations": explanations(comparison),
        "provenance": provenance(comparison),
    }


def quality(comparison: Comparison) -> dict[str, Any] | None:
    """How good the explanations are of models that explain; None where none was measured.

    Returns:
        ``headings``, of which the first ``names`` are of texts; ``rows`` of cells; and ``note``: what they mean.
    """
    table = explanation_table(comparison)
    if table.empty:
        return None
    cells = shown(table)
    names = list(cells.columns).index("coverage")
    return {"headings": list(cells.columns), "names": names, "rows": cells.to_numpy().tolist(), "note": NOTE}


def explanations(comparison: Comparison) -> dict[str, Any]:
    """Explanations to browse: of each explaining model and data set, those of its first run.

    Users are cut evenly where all together would make the page too large.

    Returns:
        ``models``: for each ``name`` and what :func:`~recbole_drex.report.pages.explanations.packed` returns; ``total``
        and ``shown``: numbers of users; ``foreign``: names of runs that another version explained, which are left out.
    """
    first = {(run.label, run.dataset): run for run in reversed(comparison.runs) if run.explains}
    runs = [run for run in comparison.runs if first.get((run.label, run.dataset)) is run]
    users = {f"{run.label}, {run.dataset}, {run.replicate}": run.explanations() for run in runs}
    foreign = [name for name, explained in users.items() if any(map(_foreign, explained))]
    users = {name: explained for name, explained in users.items() if name not in foreign}
    models, total = _packed(users), sum(map(len, users.values()))
    # What users share stays when some of them go, so that one cut may not be enough.
    while (size := sum(map(_length, models))) > _EXPLANATIONS_LIMIT:
        kept = {name: max(1, len(explained) * _EXPLANATIONS_LIMIT // size) for name, explained in users.items()}
        if kept == {name: len(explained) for name, explained in users.items()}:
            break
        users = {name: explained[: kept[name]] for name, explained in users.items()}
        models = _packed(users)
    return {"models": models, "total": total, "shown": sum(map(len, users.values())), "foreign": foreign}


def _foreign(user: dict[str, Any]) -> bool:
    return "mean_rating" not in user or any("parts" not in item for item in user["recommendations"])


def _packed(users: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [{"name": name, **packed(explained)} for name, explained in users.items()]


def _length(model: dict[str, Any]) -> int:
    return len(json.dumps(model, ensure_ascii=False, separators=(",", ":")))
