"""Means, spread and ranks of the models on one data set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recbole_drex.analysis.comparable import (
    EQUAL_DIGITS,
    LEAST_SHARE,
    complete_runs,
    measures_quality,
    order_share,
    smaller_is_better,
)
from recbole_drex.results.comparison import Comparison


def dataset_rows(
    comparison: Comparison, dataset: str, metrics: Sequence[str], block: str, unranked: Collection[str] = ()
) -> pd.DataFrame:
    """Rows of one data set as :class:`~recbole_drex.analysis.table_format.Table` describes them, without p-values.

    Metrics in ``unranked`` get no ranks.
    """
    rows = []
    for variant in comparison.variants:
        results = [run.result for run in comparison.of(variant.label, dataset)]
        named = {
            "dataset": dataset,
            "model": variant.label,
            "kind": "reference" if variant.reference else "model",
            "loss": results[0]["loss"] if results else "-",
            "output": results[0]["output"] if results else "-",
        }
        rows.append({**named, **_summary([result["test"].get(block) or {} for result in results], metrics)})
    if block == "own_test":
        # Models on the same split report the same bounds; one per split suffices.
        bounds: dict[str, dict[str, dict[str, Any]]] = {}
        for run in comparison.of(dataset=dataset):
            for name, blocks in run.result["references"].items():
                bounds.setdefault(name, {}).setdefault(run.replicate, blocks[block])
        for name, matches in bounds.items():
            named = {"dataset": dataset, "model": name, "kind": "bound", "loss": "-", "output": "-"}
            rows.append({**named, **_summary(list(matches.values()), metrics)})
    part = pd.DataFrame(rows)
    complete = {run.label for run in complete_runs(comparison.of(dataset=dataset))}
    for name in metrics:
        if name not in unranked:
            _rank(part, name, complete)
    return part


def seldom_ordered(
    comparison: Comparison, dataset: str, metrics: Sequence[str], block: str = "own_test"
) -> dict[str, float]:
    """Metrics for which the order of own test items matters to fewer than half of the users, with that share."""
    results = [run.result["test"]["own_test"] for run in comparison.of(dataset=dataset)]
    result = {}
    for name in metrics if block == "own_test" else ():
        shares = [share for one in results if (share := order_share(one, name)) is not None]
        if shares and min(shares) < LEAST_SHARE:
            result[name] = min(shares)
    return result


def _summary(result: Sequence[dict[str, Any]], metrics: Sequence[str]) -> dict[str, Any]:
    """Number of runs, and each metric's mean and spread, with empty columns for ranks and tests."""
    row: dict[str, Any] = {"runs": len(result)}
    for name in metrics:
        # None becomes NaN, and so does the mean, since a mean over some runs would not be comparable.
        values = np.array([one.get(name) for one in result], dtype=np.float64)
        row[name] = values.mean() if len(values) else np.nan
        row[f"{name}_std"] = values.std(ddof=1) if len(values) > 1 else np.nan
        row |= {f"{name}_rank": np.nan, f"{name}_best": False, f"{name}_p": np.nan}
    return row


def _rank(part: pd.DataFrame, metric: str, complete: set[str]) -> None:
    """Rank the complete models of one data set by a metric, in place."""
    ranked = (part["kind"] != "bound") & part["model"].isin(complete) & part[metric].notna()
    if not measures_quality(metric) or ranked.sum() < 2:
        return
    values = part.loc[ranked, metric].round(EQUAL_DIGITS)
    ascending = smaller_is_better(metric)
    part.loc[ranked, f"{metric}_rank"] = values.rank(ascending=ascending)
    if values.nunique() > 1:
        part.loc[ranked, f"{metric}_best"] = values == (values.min() if ascending else values.max())
