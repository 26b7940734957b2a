"""The best items of users, kept in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from recbole_drex.explain.recommender import Recommended


class Remembered:
    """Lists of recommended items, one for each of up to ``most`` users; may be used by several threads.

    Those that were not asked for the longest make room. A list of 100 items takes about 1 kB.

    Example:
        >>> remembered = Remembered(1)
        >>> remembered.put(7, [Recommended(3, 4.5), Recommended(1, 4.0)])
        >>> remembered.get(7, top=1)
        [Recommended(item=3, predicted=4.5)]
        >>> remembered.put(8, [])
        >>> remembered.get(7, top=1) is None
        True
    """

    def __init__(self, most: int):
        self.most = most
        self._lists: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, user: int, best: Sequence[Recommended]) -> None:
        """Keep a user's list; ratings in single precision, as models give them."""
        # None, of models that rank, is NaN here.
        ratings = np.array([one.predicted for one in best], dtype=np.float32)
        with self._lock:
            self._lists[user] = np.array([one.item for one in best], dtype=np.int32), ratings
            self._lists.move_to_end(user)
            while len(self._lists) > self.most:
                self._lists.popitem(last=False)

    def get(self, user: int, top: int) -> list[Recommended] | None:
        """The first ``top`` of a user's list, or None if it is not kept."""
        with self._lock:
            if user not in self._lists:
                return None
            self._lists.move_to_end(user)
            items, ratings = self._lists[user]
        known = zip(items[:top].tolist(), ratings[:top].tolist(), strict=True)
        return [Recommended(item, None if rating != rating else rating) for item, rating in known]
