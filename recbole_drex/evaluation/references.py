"""Rows that every table of results is read against: a random order and the best possible one.

A random order of a user's few test items already has a high NDCG, so a figure says little without them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from recbole_drex.evaluation.protocol import Protocol
from recbole_drex.evaluation.ranking import own_test_metrics
from recbole_drex.evaluation.rating import rating_metrics


def random_scores(n: int, seed: int) -> np.ndarray:
    """Scores of the random ranker: ``n`` uniform numbers in [0, 1)."""
    return np.random.default_rng(seed).random(n)


def oracle_scores(rating: ArrayLike) -> np.ndarray:
    """Scores of the oracle, which knows the ratings: the ratings themselves, as float64."""
    return np.array(rating, dtype=np.float64)


def reference_rows(
    user: ArrayLike,
    item_tie_key: ArrayLike,
    rating: ArrayLike,
    levels: Sequence[float],
    protocol: Protocol,
    seed: int,
    user_mean: ArrayLike | None = None,
) -> dict[str, dict[str, float | None]]:
    """Metrics of the random ranker and of the oracle over own test items.

    Args:
        user: user of each of n test rows.
        item_tie_key: of each row's item, from :func:`recbole_drex.evaluation.protocol.tie_keys`.
        rating: true rating of each row.
        levels: the legal ratings.
        protocol: conventions and list lengths.
        seed: of the random order.
        user_mean: the user's mean training rating, for each row; needed for ``relevance=above_user_mean`` only.

    Returns:
        ``{"Random": metrics, "Oracle": metrics}`` with the names of :func:`own_test_metrics` and
        :func:`rating_metrics`. The random ranker predicts no rating: its rating errors are None.

    Raises:
        DataError, ValueError: as those functions do.
    """
    scores = {"Random": random_scores(np.asarray(rating).size, seed), "Oracle": oracle_scores(rating)}
    errors = rating_metrics(rating, rating, levels)
    no_errors = {name: value if name == "n" else None for name, value in errors.items()}
    return {
        name: {
            **(errors if name == "Oracle" else no_errors),
            **own_test_metrics(user, score, item_tie_key, rating, protocol, user_mean),
        }
        for name, score in scores.items()
    }
