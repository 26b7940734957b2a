"""A bounded cache of users' best items."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from recbole_drex.explain.recommender import Recommended


class RecommendationCache:
    """A thread-safe LRU cache of the recommended items of up to ``max_users`` users.

    A list of 100 items takes about 1 kB.

    Example:
        >>> cache = RecommendationCache(1)
        >>> cache.put(7, [Recommended(3, 4.5), Recommended(1, 4.0)])
        >>> cache.get(7, top=1)
        [Recommended(item=3, predicted=4.5)]
        >>> cache.put(8, [])
        >>> cache.get(7, top=1) is None
        True
    """

    def __init__(self, max_users: int):
        self.max_users = max_users
        self._lists: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, user: int, best: Sequence[Recommended]) -> None:
        """Store a user's list; ratings are stored in single precision, as models compute them."""
        # None, from ranking models, becomes NaN.
        ratings = np.array([one.predicted for one in best], dtype=np.float32)
        with self._lock:
            self._lists[user] = np.array([one.item for one in best], dtype=np.int32), ratings
            self._lists.move_to_end(user)
            while len(self._lists) > self.max_users:
                self._lists.popitem(last=False)

    def get(self, user: int, top: int) -> list[Recommended] | None:
        """The first ``top`` items of a user's list, or None if it is not cached."""
        with self._lock:
            if user not in self._lists:
                return None
            self._lists.move_to_end(user)
            items, ratings = self._lists[user]
        pairs = zip(items[:top].tolist(), ratings[:top].tolist(), strict=True)
        return [Recommended(item, None if rating != rating else rating) for item, rating in pairs]
