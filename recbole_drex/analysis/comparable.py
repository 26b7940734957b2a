"""Which results can be compared in one table, and the direction of their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_drex.errors import DataError
from recbole_drex.evaluation.list_metrics import LIST_METRICS
from recbole_drex.results.comparison import Run, replicate_name

_ERRORS = ("mae", "rmse", "mse", "nll", "calibration")
LEAST_SHARE = 0.5
"""A metric whose value depends on the order of items for a smaller share of users neither ranks nor selects."""
EQUAL_DIGITS = 9
"""Metrics that are equal when rounded to this number of decimals differ by rounding only: they are tied."""
_OF_LISTS = (*LIST_METRICS, "historypopularity", "shannonentropy", "tailpercentage")
_OF_OWN_ITEMS = ("ndcg", "precision", "recall", "f1")
_DESCRIPTIONS = ("n", "users", "users_without_relevant", "users_without_gain", "tied_share", "tied_scores")


def smaller_is_better(metric: str) -> bool:
    """Whether a metric is an error or a loss rather than a score; a ``full_`` or ``sampled_`` in front changes nothing.

    Example:
        >>> smaller_is_better("mae_rounded"), smaller_is_better("ndcg@5")
        (True, False)
    """
    return metric.removeprefix("full_").removeprefix("sampled_").startswith(_ERRORS)


def measures_quality(metric: str) -> bool:
    """Whether this entry of a result is a metric, not a description such as ``users``."""
    return metric not in _DESCRIPTIONS and not metric.startswith(("order_matters", *_OF_LISTS))


def is_count(metric: str) -> bool:
    """Whether an entry of a result is an integer, such as ``users``."""
    return metric in _DESCRIPTIONS and not metric.startswith("tied")


def order_share(metrics: Mapping[str, Any], metric: str) -> float | None:
    """Share of users for whom a ranking metric over own test items depends on the order; None for other metrics.

    Args:
        metrics: of the own test items, with the shares of
            :func:`recbole_drex.evaluation.ranking_metrics.order_matters`.
        metric: a name in it.

    Example:
        >>> order_share({"order_matters": 0.1, "order_matters@5": 0.0}, "f1@5")
        0.0
    """
    name, at, k = metric.partition("@")
    if not at or name not in _OF_OWN_ITEMS:
        return None
    return metrics.get("order_matters" if name == "ndcg" else f"order_matters@{k}")


def refuse_unlike(results: Sequence[dict[str, Any]]) -> None:
    """Check that all results can share one header.

    Raises:
        DataError: there is no result; results differ in conventions, split, or the content of a data set; results
            of one row differ in loss or output; or one is repeated. The message names the difference.
    """
    if not results:
        raise DataError("there are no results for a table")
    same_data: dict[str, dict[str, Any]] = {}
    same_row: dict[tuple[str, str], dict[str, Any]] = {}
    seen: set[tuple[str, str, int, int | None]] = set()
    first = results[0]
    for result in results:
        label, dataset = result["label"], result["dataset"]
        theirs = {**result["protocol"], "split": result["split"]}
        for key, value in {**first["protocol"], "split": first["split"]}.items():
            if theirs.get(key) != value:
                where = "split" if key == "split" else f"protocol, {key}"
                raise DataError(
                    f"results of '{first['label']}' and '{label}' differ in {where}: {value} and {theirs.get(key)}; "
                    "they do not belong in one table"
                )
        other = same_data.setdefault(dataset, result)
        if (one := other["data"]["fingerprint"]) != (two := result["data"]["fingerprint"]):
            raise DataError(
                f"results of '{other['label']}' and '{label}' on {dataset} were made on different data: "
                f"the fingerprints are {one} and {two}"
            )
        other = same_row.setdefault((label, dataset), result)
        for key in ("loss", "output"):
            if other[key] != result[key]:
                raise DataError(f"results of '{label}' on {dataset} differ in {key}: {other[key]} and {result[key]}")
        identity = (label, dataset, result["seed"], result["fold"])
        if identity in seen:
            name = replicate_name(result["seed"], result["fold"])
            raise DataError(f"two results of '{label}' on {dataset} have seed {name}")
        seen.add(identity)


def complete_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs of the models that have all replicates; only these can be compared fairly.

    Args:
        runs: of one data set.
    """
    replicates: dict[str, set[str]] = {}
    for run in runs:
        replicates.setdefault(run.label, set()).add(run.replicate)
    wanted = set().union(*replicates.values())
    return [run for run in runs if replicates[run.label] == wanted]
