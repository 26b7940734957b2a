"""Statistics of a data set, and a table for several data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

_COLUMNS = (
    "Dataset",
    "# Users",
    "# Items",
    "# Interactions",
    "Sparsity (%)",
    "Missing reviews (%)",
    "Missing ratings (%)",
)


def dataset_statistics(frame: pd.DataFrame) -> dict[str, Any]:
    """Describe a table of reviews.

    Args:
        frame: one row per interaction, as :func:`recbole_drex.data.prepare.filter.filter_reviews` returns it.

    Returns:
        ``users``, ``items``, ``interactions``, ``rated`` (counts); ``sparsity``: 1 - rated / (users * items);
        ``missing_review``, ``missing_rating``, ``missing_timestamp``: shares of the interactions; ``mean_rating``;
        ``rating_levels``: sorted. Shares are in [0, 1]; values that are undefined for an empty table are None. All
        values are plain Python numbers, ready for JSON.

    Example:
        >>> reviews = pd.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"], "rating": [5.0, None, 3.0]})
        >>> reviews = reviews.assign(timestamp=0.0, has_review=[True, True, False])
        >>> numbers = dataset_statistics(reviews)
        >>> numbers["sparsity"], numbers["mean_rating"], numbers["rating_levels"]
        (0.5, 4.0, [3.0, 5.0])
    """
    users, items, rows = int(frame["user_id"].nunique()), int(frame["item_id"].nunique()), len(frame)
    ratings = frame["rating"].dropna()

    def missing(present: pd.Series) -> float | None:
        return 1 - int(present.sum()) / rows if rows else None

    return {
        "users": users,
        "items": items,
        "interactions": rows,
        "rated": len(ratings),
        "sparsity": 1 - len(ratings) / (users * items) if rows else None,
        "missing_review": missing(frame["has_review"]),
        "missing_rating": missing(frame["rating"].notna()),
        "missing_timestamp": missing(frame["timestamp"].notna()),
        "mean_rating": float(ratings.mean()) if len(ratings) else None,
        "rating_levels": sorted(map(float, ratings.unique())),
    }


def statistics_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Format :func:`dataset_statistics` of several data sets as a Markdown table, like the paper's Table 1.

    Args:
        rows: name of the data set -> its statistics.

    Example:
        >>> numbers = {"users": 933, "items": 2347, "interactions": 31670, "sparsity": 0.98554}
        >>> print(statistics_table({"Video_Games": {**numbers, "missing_review": 0.0, "missing_rating": None}}))
        | Dataset     | # Users | # Items | # Interactions | Sparsity (%) | Missing reviews (%) | Missing ratings (%) |
        |:------------|--------:|--------:|---------------:|-------------:|--------------------:|--------------------:|
        | Video_Games |     933 |   2,347 |         31,670 |        98.55 |                0.00 |                   - |
    """
    lines = [list(_COLUMNS)]
    for name, numbers in rows.items():
        counts = [f"{numbers[key]:,}" for key in ("users", "items", "interactions")]
        shares = [numbers[key] for key in ("sparsity", "missing_review", "missing_rating")]
        lines.append([name, *counts, *("-" if share is None else f"{100 * share:.2f}" for share in shares)])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    rule = [":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]
    text = [
        "| " + " | ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]) + " |" for cells in lines
    ]
    return "\n".join([text[0], "|" + "|".join(rule) + "|", *text[1:]])
