"""Reference rows of result tables: a random order and the best possible order.

A random order of a user's few test items already has a high NDCG, so a figure says little without them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from recbole_drex.evaluation.protocol import Protocol
from recbole_drex.evaluation.ranking_metrics import own_test_metrics, ranking_metrics
from recbole_drex.evaluation.rating_metrics import rating_metrics


def oracle_scores(rating: ArrayLike) -> np.ndarray:
    """Scores of the oracle, which knows the ratings: the ratings themselves, as float64."""
    return np.array(rating, dtype=np.float64)


def reference_rows(
    user: ArrayLike,
    item_tie_key: ArrayLike,
    rating: ArrayLike,
    levels: Sequence[float],
    protocol: Protocol,
    user_mean: ArrayLike | None = None,
) -> dict[str, dict[str, float | None]]:
    """Metrics over own test items of a random order, in expectation, and of the oracle.

    Args:
        user: user of each of n test rows.
        item_tie_key: of each row's item, from :func:`recbole_drex.evaluation.protocol.tie_keys`.
        rating: true rating of each row.
        levels: the legal ratings.
        protocol: conventions and list lengths.
        user_mean: the user's mean training rating, for each row; needed for ``relevance=above_user_mean`` only.

    Returns:
        ``{"Random": metrics, "Oracle": metrics}`` with the names of :func:`own_test_metrics` and
        :func:`rating_metrics`. A random order predicts no rating: its rating errors are None.

    Raises:
        DataError, ValueError: as those functions do.
    """
    errors = rating_metrics(rating, rating, levels)
    no_errors = {name: value if name == "n" else None for name, value in errors.items()}
    random = ranking_metrics(user, None, rating, protocol, user_mean)
    oracle = own_test_metrics(user, oracle_scores(rating), item_tie_key, rating, protocol, user_mean)
    return {"Random": {**no_errors, **random, "tied_share": 0.0}, "Oracle": {**errors, **oracle}}
