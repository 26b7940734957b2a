"""The report's result tables, tests and summary."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from recbole_drex.analysis.comparable import is_count, measures_quality, smaller_is_better
from recbole_drex.analysis.comparison_table import Table, comparison_table
from recbole_drex.analysis.friedman import rank_test
from recbole_drex.analysis.table_format import MARKS
from recbole_drex.errors import DataError
from recbole_drex.evaluation.list_metrics import LIST_METRICS
from recbole_drex.report.figures import comparison_figures
from recbole_drex.report.figures.pictures import BLOCKS, card, inline
from recbole_drex.report.figures.style import name_of
from recbole_drex.results.comparison import Comparison

SHOWN = {
    "own_test": ("mae", "mae_median", "rmse", "ndcg@1", "ndcg@5", "ndcg@10", "f1@5"),
    "full": (
        *("ndcg@10", "ndcg@20", "precision@10", "recall@10", "recall@20", "f1@10"),
        *(f"{name}@10" for name in LIST_METRICS),
        "historypopularity",
    ),
}
"""Columns that a table shows until the reader chooses others; of these, metrics of quality are tested."""

_FAMILIES = {name: name_of(name) for name in ("ndcg", "precision", "recall", "f1", *LIST_METRICS)}
_HEADLINES = (("own_test", "mae"), ("own_test", "rmse"), ("own_test", "ndcg@10"), ("full", "ndcg@10"))


def headlines(comparison: Comparison) -> list[tuple[str, str]]:
    """Blocks and metrics of the summary: those of a short list that some run has."""
    return [(block, metric) for block, metric in _HEADLINES if metric in _metrics(comparison, block)]


def _title(block: str, metric: str) -> str:
    return name_of(metric if block == "own_test" else f"{block}_{metric}")


def tables(comparison: Comparison) -> dict[str, Table]:
    """The table of each evaluated kind of candidates, with all its metrics."""
    results = {}
    for block in BLOCKS:
        if metrics := _metrics(comparison, block):
            tested = [metric for metric in SHOWN[block] if metric in metrics and measures_quality(metric)]
            results[block] = comparison_table(comparison, metrics, block, tested)
    return results


def _metrics(comparison: Comparison, block: str) -> list[str]:
    """All metrics of a block that have a value: errors first, then ranking metrics by family and k, then counts."""
    names = {
        name
        for result in comparison.results
        for name, value in (result["test"].get(block) or {}).items()
        # Means over several k, used in validation, are omitted; the notes say for which metrics the order matters.
        if value is not None and not re.search(r"@\d+_|^order_matters", name)
    }

    def position(name: str) -> tuple[Any, ...]:
        family, _, k = name.partition("@")
        return (not measures_quality(name), list(_FAMILIES).index(family) if k else -1, int(k or 0), name)

    return sorted(names, key=position)


def result_tables(comparison: Comparison, tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """The tables as text, one per data set and kind of candidates; reference models are in separate rows."""
    results: list[dict[str, Any]] = []
    for dataset in comparison.datasets:
        for block, table in tables.items():
            columns = [_column(metric, block) for metric in table.metrics]
            rows = table.frame[table.frame["dataset"] == dataset].to_dict("records")
            bodies = [[row for row in rows if (row["kind"] == "model") is asked] for asked in (True, False)]
            results.append(
                {
                    "id": f"table-{len(results) + 1}",
                    "dataset": dataset,
                    "title": BLOCKS[block],
                    "header": dataclasses.replace(table, data={dataset: table.data[dataset]}).header,
                    "columns": columns,
                    "bodies": [[_row(row, columns) for row in body] for body in bodies if body],
                }
            )
    return results


def _column(metric: str, block: str) -> dict[str, Any]:
    quality = measures_quality(metric)
    family, _, k = metric.partition("@")
    name = (
        name_of(metric)
        if k or metric in ("mae", "rmse", "historypopularity")
        else metric.replace("_", " ").replace("mae", "MAE")
    )
    return {
        "key": metric,
        "name": name,
        "short": f"@{k}" if k else name,
        "family": _FAMILIES.get(family, family) if k else "Rating error" if quality else "Counts",
        "shown": metric in SHOWN[block],
        "quality": quality,
        "digits": 0 if is_count(metric) else 4,
        "first": "ascending" if not quality or smaller_is_better(metric) else "descending",
    }


def _row(row: Mapping[Hashable, Any], columns: list[dict[str, Any]]) -> dict[str, Any]:
    return {**{key: row[key] for key in ("model", "loss", "output", "runs")}, "cells": [_cell(row, c) for c in columns]}


def _cell(row: Mapping[Hashable, Any], column: dict[str, Any]) -> dict[str, Any]:
    key = column["key"]
    mean, std, rank, p = (row.get(key + part, math.nan) for part in ("", "_std", "_rank", "_p"))
    below = []
    if column["quality"]:
        below += [f"± {std:.4f}"] if pd.notna(std) else []
        below += [f"#{rank:g}"] if pd.notna(rank) else []
    return {
        "key": key,
        "value": None if pd.isna(mean) else float(mean),
        "digits": column["digits"],
        "best": column["quality"] and bool(row.get(f"{key}_best", False)),
        "mark": next((mark for level, mark in MARKS if p < level), ""),
        "below": " ".join(below),
    }


def _tests(table: Table, dataset: str, metric: str) -> pd.DataFrame | None:
    """The paired tests of one metric on one data set, indexed by model; None without tests."""
    if table.tests.empty:
        return None
    rows = table.tests[(table.tests["dataset"] == dataset) & (table.tests["metric"] == metric)]
    return None if rows.empty else rows.set_index("model")


def summary(comparison: Comparison, tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """Per data set and headline metric: the best model and its mean, and the models that differ from the reference."""
    results = []
    for dataset in comparison.datasets:
        for block, metric in headlines(comparison):
            frame = tables[block].frame
            best = frame[(frame["dataset"] == dataset) & frame[f"{metric}_best"].astype(bool)]
            if best.empty:
                continue
            row = best.iloc[0]
            tests = _tests(tables[block], dataset, metric)
            verdicts: dict[str, list[str]] = {"worse": [], "better": [], "level": []}
            for label, test in tests.iterrows() if tests is not None else ():
                if pd.notna(test["p_holm"]):
                    verdicts[_verdict(test, metric)].append(str(label))
            results.append(
                {
                    "dataset": dataset,
                    "metric": _title(block, metric),
                    "best": list(best["model"]),
                    "mean": row[metric],
                    "std": row[f"{metric}_std"],
                    "tested": tests is not None,
                    **verdicts,
                }
            )
    return results


def _verdict(test: pd.Series, metric: str) -> str:
    """Whether a model is significantly ``better`` or ``worse`` than the reference, or ``level`` with it."""
    if test["p_holm"] >= 0.05:
        return "level"
    return "worse" if (test["difference"] > 0) == smaller_is_better(metric) else "better"


def significance(comparison: Comparison, tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """Figure and rows of the paired tests of each headline metric and data set that could be tested."""
    results = []
    for dataset in comparison.datasets:
        for block, metric in headlines(comparison):
            tests = _tests(tables[block], dataset, metric)
            if tests is None:
                continue
            figure = comparison_figures.differences(tests, metric)
            figure.axes[0].locator_params(axis="x", nbins=5)  # more labels would overlap
            results.append(
                {
                    "dataset": dataset,
                    "metric": _title(block, metric),
                    "reference": comparison.reference,
                    "users": int(tests["users"].iloc[0]),
                    "runs": int(tests["runs"].iloc[0]),
                    "figure": card(figure),
                    "rows": tests.reset_index().to_dict("records"),
                }
            )
    return results


def rank_tests(comparison: Comparison) -> dict[str, Any]:
    """The rank tests of the headline metrics over data sets, or why they are missing."""
    results: dict[str, Any] = {"tests": [], "reasons": []}
    for block, metric in headlines(comparison):
        try:
            test = rank_test(comparison, metric, block)
        except DataError as error:
            results["reasons"].append(str(error))
            continue
        figure = inline(comparison_figures.critical_difference(test))
        results["tests"].append({"metric": _title(block, metric), "text": test.describe(), "figure": figure})
    results["reasons"] = list(dict.fromkeys(results["reasons"]))
    return results
