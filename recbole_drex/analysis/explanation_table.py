"""The quality of explanations of several models, side by side."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from recbole_drex.analysis.overlap import rank_biased_overlap
from recbole_drex.results.comparison import Comparison

NOTE = (
    "Units of an explanation (words, reviews or ratings) and what they are chosen by. coverage: share of "
    "recommendations with any; user, item: how little explanations of one item to two users, or of two items to one "
    "user, have in common; diversity: distinct units among all; stability: rank-biased overlap of the first ten "
    "units between runs with other seeds and splits. deletion: how many times as far predictions move without the k "
    "top units as without k random ones, with its 95 % interval; same way: against k random ones that each move "
    "the prediction in the same direction; untrained: the same of the model before training, which is what the method "
    "finds where nothing was learned; insertion: as deletion, from nothing but k units. "
    "Means over runs."
)
_MEASURES = ("coverage", "user", "item", "diversity", "stability")
_RATIOS = (
    ("deletion", "low", "high"),
    ("same way", "same_low", "same_high"),
    ("insertion", "insertion_low", "insertion_high"),
)
_PLANTED = ("planted_precision", "planted_recall")
_COLUMNS = ["dataset", "model", "unit", "by", "runs", *_MEASURES, "k", *sum(_RATIOS, ()), "untrained", *_PLANTED]


def explanation_table(comparison: Comparison) -> pd.DataFrame:
    """One row per data set, model and kind of explanation, means over runs; no rows without measurements.

    Args:
        comparison: runs; their result files may have measures of explanations.

    Returns:
        Columns ``dataset, model, unit, by, runs``; ``coverage``, ``user`` and ``item`` (specificity), ``diversity``;
        ``stability`` (NaN for a single run); ``k``, ``deletion`` with ``low`` and ``high``, ``same way`` with
        ``same_low`` and ``same_high``, ``untrained`` (its ``same way``), ``insertion`` with ``insertion_low`` and
        ``insertion_high``; ``planted_precision`` and ``planted_recall`` of generated data.
    """
    rows = []
    for dataset, variant in itertools.product(comparison.datasets, comparison.variants):
        measured = [run.result.get("explanations", []) for run in comparison.of(variant.label, dataset)]
        ways = dict.fromkeys((one["unit"], one["by"]) for run in measured for one in run)
        for unit, by in ways:
            result = [one for run in measured for one in run if (one["unit"], one["by"]) == (unit, by)]
            rows.append({"dataset": dataset, "model": variant.label, "unit": unit, "by": by, **_means(result)})
    return pd.DataFrame(rows, columns=_COLUMNS)


def _means(result: list[dict[str, Any]]) -> dict[str, Any]:
    faithful = [one["faithfulness"] for one in result if one["faithfulness"]]
    controlled = [one for one in faithful if "untrained" in one]  # results of earlier versions have no controls
    planted = [one["planted"] for one in result if one["planted"]]
    return {
        "runs": len(result),
        "coverage": _mean([one["coverage"] for one in result]),
        "user": _mean([one["user_specificity"] for one in result]),
        "item": _mean([one["item_specificity"] for one in result]),
        "diversity": _mean([one["diversity"] for one in result]),
        "stability": _stability([one["foremost"] for one in result]),
        "k": faithful[0]["k"] if faithful else None,
        "deletion": _mean([one["deletion"]["ratio"] for one in faithful]),
        "low": _mean([one["deletion"]["low"] for one in faithful]),
        "high": _mean([one["deletion"]["high"] for one in faithful]),
        "same way": _mean([one["same_direction"]["ratio"] for one in controlled]),
        "same_low": _mean([one["same_direction"]["low"] for one in controlled]),
        "same_high": _mean([one["same_direction"]["high"] for one in controlled]),
        "untrained": _mean([one["untrained"]["same_direction"]["ratio"] for one in controlled]),
        "insertion": _mean([one["insertion"]["ratio"] for one in faithful]),
        "insertion_low": _mean([one["insertion"]["low"] for one in faithful]),
        "insertion_high": _mean([one["insertion"]["high"] for one in faithful]),
        "planted_precision": _mean([one["precision"] for one in planted]),
        "planted_recall": _mean([one["recall"] for one in planted]),
    }


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _stability(runs: list[list[list[str]]]) -> float:
    """Mean overlap of two runs' rankings of the same pair, over pairs for which at least one run has a ranking."""
    result = [
        rank_biased_overlap(one, other)
        for first, second in itertools.combinations(runs, 2)
        for one, other in zip(first, second, strict=True)
        if one or other
    ]
    return float(np.mean(result)) if result else float("nan")


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for display: intervals next to their ratios, a dash for missing values."""

    def number(value: float, digits: int = 2) -> str:
        return "-" if pd.isna(value) else f"{value:.{digits}f}"

    def ratio(value: float, low: float, high: float) -> str:
        return number(value) if pd.isna(low) else f"{value:.2f} ({low:.2f}-{high:.2f})"

    columns: dict[str, list[str]] = {}
    for name in ("dataset", "model", "unit", "by"):
        if name != "dataset" or table[name].nunique() > 1:
            columns[name] = table[name].tolist()
    for name in _MEASURES:
        columns[name] = [number(value) for value in table[name]]
    columns["k"] = [number(value, 0) for value in table["k"]]
    for name, low, high in _RATIOS:
        columns[name] = [ratio(*row) for row in table[[name, low, high]].itertuples(index=False)]
        if name == "same way":
            columns["untrained"] = [number(value) for value in table["untrained"]]
    if table["planted_precision"].notna().any():
        columns["planted precision@5"] = [number(value) for value in table["planted_precision"]]
        columns["planted recall@5"] = [number(value) for value in table["planted_recall"]]
    return pd.DataFrame(columns)


def to_text(table: pd.DataFrame, style: str = "simple") -> str:
    """The table as plain text or, by ``style: pipe``, Markdown, with the meaning of its columns."""
    columns = shown(table).to_dict("list")
    return f"{tabulate(columns, headers='keys', tablefmt=style, disable_numparse=True)}\n\n{NOTE}\n"
