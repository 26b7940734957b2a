"""What each section of the report shows, as plain values for the templates."""

from __future__ import annotations

import json
from typing import Any

from recbole_drex.evaluation.comparison import Comparison
from recbole_drex.report import pictures, results
from recbole_drex.report.provenance import data_sets, provenance

_EXPLANATIONS_LIMIT = 2_000_000  # characters of all explanations together; the rest of a page is about as much


def all_sections(comparison: Comparison) -> dict[str, Any]:
    """Everything that the page's template names.

    Raises:
        DataError: no run is finished, or runs do not belong together.
        CheckpointError: a file of a run is missing or damaged.
    """
    tables = results.tables(comparison)
    return {
        "comparison": comparison,
        "conventions": comparison.results[0]["protocol"],
        "summary": results.summary(comparison, tables),
        "tables": results.result_tables(comparison, tables),
        "notes": list(dict.fromkeys(note for table in tables.values() for note in table.notes)),
        "significance": results.significance(comparison, tables),
        "rank_tests": results.rank_tests(comparison),
        "curves": pictures.curves(comparison),
        "learning": pictures.learning(comparison),
        "sensitivity": pictures.sensitivity(comparison, results.headlines(comparison)),
        "calibration": pictures.calibration(comparison),
        "data": data_sets(comparison),
        "groups": pictures.groups(comparison),
        "explanations": explanations(comparison),
        "provenance": provenance(comparison),
    }


def explanations(comparison: Comparison) -> dict[str, Any]:
    """Explanations to browse: of each explaining model and data set, those of its first run.

    Users are cut evenly where all together would make the page too large.
    """
    first = {(run.label, run.dataset): run for run in reversed(comparison.runs) if run.explains}
    models = [
        {"name": f"{run.label}, {run.dataset}, {run.replicate}", "users": run.explanations()}
        for run in comparison.runs
        if first.get((run.label, run.dataset)) is run
    ]
    total = sum(len(model["users"]) for model in models)
    size = sum(len(json.dumps(model["users"], ensure_ascii=False)) for model in models)
    if size > _EXPLANATIONS_LIMIT:
        for model in models:
            model["users"] = model["users"][: max(1, len(model["users"]) * _EXPLANATIONS_LIMIT // size)]
    return {"models": models, "total": total, "shown": sum(len(model["users"]) for model in models)}
