"""Filters reviews: rows with evidence, one row per pair, users and items with enough ratings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recbole_drex.errors import ConfigError, DataError


def filter_reviews(
    frame: pd.DataFrame, *, user_min: int = 20, item_min: int = 5, keep: str = "last"
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Filter reviews step by step.

    1. ``evidence``: rows with neither a rating nor a review are dropped.
    2. ``repeated``: one row per (user, item) pair is kept: rated rows are preferred to unrated ones, then rows with a
       timestamp, then the latest (``keep="first"``: the earliest), then the last (first) in the file.
    3. ``core``: users with fewer than ``user_min`` and items with fewer than ``item_min`` *rated* rows are dropped
       repeatedly until nothing changes (the two limits are those of the paper, section 4.1). Unrated rows do not count;
       they are kept if their user and item are kept.

    Args:
        frame: rows from :func:`recbole_drex.data.raw.readers.read_reviews`.
        user_min: minimum number of ratings of a user, at least 0.
        item_min: minimum number of ratings of an item, at least 0.
        keep: which row of a pair is kept, ``last`` or ``first``; parameter ``rm_dup_inter``.

    Returns:
        The kept rows in their order with a new index (``row`` is still the row in the spill), and the counts ``{"step",
        "users", "items", "interactions", "rated"}`` after ``read`` and after each step.

    Raises:
        ConfigError: a limit is not an integer of at least 0.
        DataError: nothing is left; names the step, the setting, and the largest setting that would leave something.

    Example:
        >>> pairs = pd.DataFrame({"user_id": list("aabb"), "item_id": list("xyxz"), "rating": [5.0, 4.0, None, 2.0]})
        >>> pairs = pairs.assign(timestamp=float("nan"), has_review=True, row=range(4))
        >>> kept, counts = filter_reviews(pairs, user_min=1, item_min=1)
        >>> kept["row"].tolist(), [count["rated"] for count in counts]
        ([0, 1, 2, 3], [3, 3, 3, 3])
        >>> kept, counts = filter_reviews(pairs, user_min=2, item_min=1)
        >>> kept["row"].tolist(), counts[-1]
        ([0, 1], {'step': 'core', 'users': 1, 'items': 2, 'interactions': 2, 'rated': 2})
    """
    for name, value in (("user_min", user_min), ("item_min", item_min)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ConfigError(f"{name} must be an integer of at least 0, not {value!r}")
    user, item = pd.factorize(frame["user_id"])[0], pd.factorize(frame["item_id"])[0]
    rated = frame["rating"].notna().to_numpy()
    counts: list[dict[str, Any]] = []

    def count(step: str, rows: np.ndarray, why: Callable[[], str]) -> np.ndarray:
        if not len(rows):
            raise DataError(f"filter step '{step}' leaves nothing: {why()}")
        users, items = (int(np.count_nonzero(np.bincount(codes[rows]))) for codes in (user, item))
        counts.append(
            {"step": step, "users": users, "items": items, "interactions": len(rows), "rated": int(rated[rows].sum())}
        )
        return rows

    rows = count("read", np.arange(len(frame)), lambda: "there are no reviews")
    evident = rated | frame["has_review"].to_numpy()
    rows = count("evidence", rows[evident], lambda: "no row has a rating or a review")
    sign = -1 if keep == "first" else 1
    time = (sign * frame["timestamp"]).fillna(-np.inf).to_numpy()
    rows = count("repeated", _one_per_pair(rows, user, item, rated, time, sign), lambda: "")

    scored = rows[rated[rows]]
    ratings = _Ratings(user[scored], item[scored], int(user.max()) + 1, int(item.max()) + 1)
    users, items = ratings.core(user_min, item_min)
    kept = rows[users[user[rows]] & items[item[rows]]]
    rows = count("core", kept, lambda: ratings.advice(user_min, item_min))

    result = frame.iloc[rows].reset_index(drop=True)
    for column in ("user_id", "item_id"):
        if isinstance(result[column].dtype, pd.CategoricalDtype):
            result[column] = result[column].cat.remove_unused_categories()
    return result, counts


def _one_per_pair(
    rows: np.ndarray, user: np.ndarray, item: np.ndarray, rated: np.ndarray, time: np.ndarray, sign: int
) -> np.ndarray:
    """Keep the best row of each (user, item), in the order of ``rows``: rated, of the largest ``time``, and the last of
    the file (``sign`` 1) or the first (-1)."""
    pair = user[rows].astype(np.int64) * (int(item.max()) + 1) + item[rows]
    several = pd.Series(pair).duplicated(keep=False).to_numpy()
    once, doubtful = rows[~several], rows[several]
    order = np.lexsort((sign * doubtful, time[doubtful], rated[doubtful], pair[several]))
    ordered = pair[several][order]
    best = np.ones(len(order), dtype=bool)
    best[:-1] = ordered[1:] != ordered[:-1]
    return np.sort(np.concatenate([once, doubtful[order[best]]]))


@dataclass(frozen=True)
class _Ratings:
    """The rated (user, item) pairs as codes, and the numbers of codes."""

    user: np.ndarray
    item: np.ndarray
    users: int
    items: int

    def core(self, user_min: int, item_min: int) -> tuple[np.ndarray, np.ndarray]:
        """The largest sets of users and items with enough ratings between them, as masks over their codes.

        The order in which users and items are dropped does not change the result.
        """
        user, item = self.user, self.item
        while True:
            users = np.bincount(user, minlength=self.users) >= user_min
            items = np.bincount(item, minlength=self.items) >= item_min
            kept = users[user] & items[item]
            if kept.all():
                return users, items
            user, item = user[kept], item[kept]

    def leaves(self, user_min: int, item_min: int) -> bool:
        """Whether any rating is left."""
        users, items = self.core(user_min, item_min)
        return bool((users[self.user] & items[self.item]).any())

    def advice(self, user_min: int, item_min: int) -> str:
        """A message about which limit is too high, and by how much."""
        text = f"user_min={user_min} and item_min={item_min} count ratings, and "
        if not len(self.user):
            return text + "no row has one"
        by_user = _largest(user_min, lambda limit: self.leaves(limit, item_min))
        by_item = _largest(item_min, lambda limit: self.leaves(user_min, limit))
        text += "no users and items have that many of each other: lower them or provide more data"
        if by_user is not None:
            text += f"; with item_min={item_min} the largest user_min that leaves something is {by_user}"
        if by_item is not None:
            text += f"; with user_min={user_min} the largest item_min that leaves something is {by_item}"
        return text


def _largest(limit: int, leaves: Callable[[int], bool]) -> int | None:
    """Bisect for the largest value below ``limit`` for which ``leaves`` is true; None if there is no such value."""
    low, high = -1, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if leaves(middle) else (low, middle)
    return None if low < 0 else low
