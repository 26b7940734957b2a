"""NDCG, precision, recall and F1 at k, from one row per test interaction.

Each row has a user, a rating and a rank: its 1-based position in the user's list of candidates. Whatever else is in
the list has gain 0, so the same functions serve own test items, the full catalogue and sampled candidates. Everything
is computed in float64, and no loop runs over users.

For a user and a list length k::

    DCG@k       = sum of gain / log2(rank + 1) over test items with rank <= k
    IDCG@k      = DCG@k of the test items in order of falling gain (``ideal=full``: of all of them, whatever k is)
    NDCG@k      = DCG@k / IDCG@k
    precision@k = relevant test items with rank <= k, divided by k (by k also where the list is shorter, as RecBole)
    recall@k    = the same number, divided by the user's relevant test items
    F1@k        = harmonic mean of the user's precision@k and recall@k; 0 where both are 0

Järvelin & Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 20 (4), 2002; the exponential gain is
that of Burges et al., Learning to rank using gradient descent, ICML 2005. F1 is averaged over users, not computed
from averages.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recbole_drex.errors import DataError
from recbole_drex.evaluation.protocol import Protocol


def refuse_nan(values: np.ndarray, what: str) -> None:
    """Raise a ValueError that counts the NaN among ``values``; ``what`` names them in the plural."""
    if missing := int(np.isnan(values).sum()):
        raise ValueError(f"{missing} of {values.size} {what} are NaN")


def own_test_ranks(user: ArrayLike, score: ArrayLike, tie_key: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Rank each user's rows by falling score; equal scores by rising ``tie_key``.

    Args:
        user: user of each of n rows; names or numbers.
        score: predicted score of each row.
        tie_key: of each row's item, from :func:`recbole_drex.evaluation.protocol.tie_keys`.

    Returns:
        ``rank``, int64 of shape (n,), 1 for the best of its user; and ``tied``, bool of shape (n,): whether another
        row of the same user has the same score.

    Raises:
        ValueError: scores are NaN.

    Example:
        >>> rank, tied = own_test_ranks(["u", "u", "u", "v"], [3.0, 5.0, 3.0, 3.0], [9, 1, 4, 9])
        >>> rank.tolist(), tied.tolist()
        ([3, 1, 2, 1], [True, False, True, False])
    """
    code = pd.factorize(np.asarray(user))[0]
    score = np.asarray(score, dtype=np.float64)
    refuse_nan(score, "scores")
    order = _by_user(code, score)
    same = (np.diff(code[order]) == 0) & (score[order][1:] == score[order][:-1])
    first = np.insert(~same, 0, True)[: len(order)]  # of its run of equal scores
    in_run = np.flatnonzero(~first | ~np.append(first[1:], True)[: len(order)])
    rows = order[in_run]
    # The row decides last, where a user has an item twice.
    order[in_run] = rows[np.lexsort((rows, np.asarray(tie_key)[rows], np.cumsum(first)[in_run]))]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = _positions(code[order])
    tied = np.zeros(len(order), dtype=bool)
    tied[rows] = True
    return rank, tied


def ranking_per_user(
    user: ArrayLike,
    rank: ArrayLike | None,
    rating: ArrayLike,
    protocol: Protocol,
    user_mean: ArrayLike | None = None,
) -> pd.DataFrame:
    """Compute every ranking metric of every user.

    Args:
        user: user of each of n test rows; names or numbers.
        rank: 1-based position of the row's item among the user's candidates, shape (n,). No two rows of a user may
            share one. None: the expectation over all orders of the user's own rows.
        rating: true rating of each row, 0 or more; half stars are fine.
        protocol: conventions and list lengths.
        user_mean: the user's mean training rating, for each row; needed for ``relevance=above_user_mean`` only.

    Returns:
        One row per user (sorted index), float64 columns ``ndcg@k, precision@k, recall@k, f1@k`` for each k. Under
        ``empty_user=skip``, NDCG of users without any gain, and the others of users without a relevant item, are NaN.
        ``attrs["users_without_relevant"]`` and ``attrs["users_without_gain"]`` count those users under every protocol.

    Raises:
        DataError: there is no row; a rating is negative; or, under ``empty_user=error``, users lack a relevant item.
        ValueError: NaN among the inputs, a rank below 1, or no ``user_mean`` where one is needed.

    Example:
        >>> frame = ranking_per_user(["u", "u"], [1, 2], [3.0, 5.0], Protocol(gain="linear", topk=(1,)))
        >>> frame.loc["u"].to_dict()
        {'ndcg@1': 0.6, 'precision@1': 0.0, 'recall@1': 0.0, 'f1@1': 0.0}
    """
    code, users = pd.factorize(np.asarray(user), sort=True)
    rating = np.asarray(rating, dtype=np.float64)
    if not len(users):
        raise DataError("there is no test row to evaluate; the split left the test part empty")
    refuse_nan(rating, "ratings")
    relevant = _relevant(rating, protocol, user_mean)
    gain = _gain(rating, relevant, protocol)

    order = _by_user(code, gain)
    ideal_rank = np.empty_like(order)
    ideal_rank[order] = _positions(code[order])
    if rank is None:
        # All metrics are sums over positions, and at each position any row of the user is as likely as another.
        rank, number = ideal_rank, np.bincount(code)
        gain_there, relevant_there = ((np.bincount(code, of) / number)[code] for of in (gain, relevant))
    else:
        rank, gain_there, relevant_there = np.asarray(rank), gain, relevant
    if not (rank >= 1).all():
        raise ValueError("ranks are positions from 1 on")
    rank = rank.astype(np.int64)
    dcg = _sums_at_k(code, rank, gain_there / np.log2(rank + 1.0), len(users), protocol.topk)[:-1]
    ideal = _sums_at_k(code, ideal_rank, gain / np.log2(ideal_rank + 1.0), len(users), protocol.topk)
    hits = _sums_at_k(code, rank, relevant_there, len(users), protocol.topk)
    hits, n_relevant = hits[:-1], hits[-1]
    idcg = ideal[:-1] if protocol.ideal == "truncated" else ideal[-1]
    no_relevant, no_gain = n_relevant == 0, ideal[-1] == 0
    if protocol.empty_user == "error" and (no_relevant | no_gain).any():
        raise DataError(
            f"{(no_relevant | no_gain).sum()} of {len(users)} test users have no relevant item, and empty_user is "
            "'error'; 'skip' leaves them out of the mean and 'zero' counts them as 0"
        )
    k = np.array(protocol.topk)[:, None]
    values = {
        "ndcg": dcg / np.where(no_gain, 1.0, idcg),
        "precision": hits / k,
        "recall": hits / np.maximum(n_relevant, 1),
        # 2PR / (P + R) with P = hits / k and R = hits / n_relevant, so that 0 / 0 does not arise
        "f1": 2.0 * hits / (k + n_relevant),
    }
    if protocol.empty_user == "skip":  # otherwise they are 0 as they stand
        for name, value in values.items():
            value[:, np.flatnonzero(no_gain if name == "ndcg" else no_relevant)] = np.nan
    columns = [f"{name}@{k}" for name in values for k in protocol.topk]
    frame = pd.DataFrame(np.concatenate(list(values.values())).T, index=users, columns=columns)
    frame.attrs = {"users_without_relevant": int(no_relevant.sum()), "users_without_gain": int(no_gain.sum())}
    return frame


def ranking_metrics(
    user: ArrayLike,
    rank: ArrayLike | None,
    rating: ArrayLike,
    protocol: Protocol,
    user_mean: ArrayLike | None = None,
) -> dict[str, float]:
    """Mean over users of every column of :func:`ranking_per_user`, which see for arguments and errors.

    Returns:
        The means, ``users`` (all test users), ``users_without_relevant`` and ``users_without_gain``. A mean over no
        user is NaN.
    """
    frame = ranking_per_user(user, rank, rating, protocol, user_mean)
    means = {str(name): float(values.mean()) for name, values in frame.items()}
    return {**means, "users": len(frame), **{str(name): count for name, count in frame.attrs.items()}}


def own_test_metrics(
    user: ArrayLike,
    score: ArrayLike,
    tie_key: ArrayLike,
    rating: ArrayLike,
    protocol: Protocol,
    user_mean: ArrayLike | None = None,
) -> dict[str, float]:
    """Rank each user's own test items by score and compute the means of :func:`ranking_metrics`.

    Returns:
        Those, what :func:`order_matters` gives, and ``tied_share``: the share of rows whose score another row of the
        same user has, between 0 and 1.
    """
    rank, tied = own_test_ranks(user, score, tie_key)
    return {
        **ranking_metrics(user, rank, rating, protocol, user_mean),
        **order_matters(user, rating, protocol, user_mean),
        "tied_share": float(tied.mean()),
    }


def order_matters(
    user: ArrayLike, rating: ArrayLike, protocol: Protocol, user_mean: ArrayLike | None = None
) -> dict[str, float]:
    """How many users' metrics over their own test items depend on the order at all.

    A user with a single test item, or with equal ratings, has the same NDCG in every order; a user with k items or
    fewer the same precision, recall and F1 at k.

    Args:
        user, rating, protocol, user_mean: as of :func:`ranking_per_user`.

    Returns:
        ``order_matters``, the share of users whose NDCG does, and ``order_matters@k`` of precision, recall and F1 at k.

    Example:
        >>> order_matters(["u", "u", "v"], [3.0, 5.0, 4.0], Protocol(topk=(1, 2)))
        {'order_matters': 0.5, 'order_matters@1': 0.5, 'order_matters@2': 0.0}
    """
    code = pd.factorize(np.asarray(user))[0]
    rating = np.asarray(rating, dtype=np.float64)
    relevant = _relevant(rating, protocol, user_mean)
    gains = pd.Series(_gain(rating, relevant, protocol)).groupby(code)
    result = {"order_matters": float((gains.max() > gains.min()).mean())}
    items, hits = np.bincount(code), np.bincount(code, relevant)
    for k in protocol.topk:
        fewest, most = np.maximum(k - (items - hits), 0), np.minimum(k, hits)
        result[f"order_matters@{k}"] = float((fewest < most).mean())
    return result


def _by_user(code: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Order of rows by user, then by falling value; equal values of a user come in any order.

    A sort by value, then a stable one by user. For 16-bit numbers numpy's stable sort takes linear time, so users are
    sorted by 16 bits at a time, the lower ones first.
    """
    order = np.argsort(-value)
    for shift in range(0, int(code.max(initial=0)).bit_length(), 16):
        order = order[np.argsort((code[order] >> shift).astype(np.uint16), kind="stable")]
    return order


def _sums_at_k(
    code: np.ndarray, rank: np.ndarray, weight: np.ndarray, n_users: int, topk: tuple[int, ...]
) -> np.ndarray:
    """Sums of ``weight`` over each user's rows with ``rank <= k``, (len(topk) + 1, n_users); the last is over all rows.

    Every row is added once, to the smallest k that it reaches; then the sums add up from one k to the next.
    """
    reached = np.searchsorted(topk, np.arange(rank.max() + 1))[rank]
    length = (len(topk) + 1) * n_users
    return np.bincount(reached * n_users + code, weight, minlength=length).reshape(-1, n_users).cumsum(0)


def _positions(sorted_code: np.ndarray) -> np.ndarray:
    """1-based position of each row within its group, where groups lie together: [0, 0, 2] gives [1, 2, 1]."""
    starts = np.flatnonzero(np.diff(sorted_code, prepend=-1))
    sizes = np.diff(np.append(starts, len(sorted_code)))
    return np.arange(1, len(sorted_code) + 1) - np.repeat(starts, sizes)


def _relevant(rating: np.ndarray, protocol: Protocol, user_mean: ArrayLike | None) -> np.ndarray:
    if protocol.relevance != "above_user_mean":
        return rating >= protocol.threshold
    if user_mean is None:
        raise ValueError("relevance=above_user_mean needs the users' mean training ratings")
    user_mean = np.asarray(user_mean, dtype=np.float64)
    refuse_nan(user_mean, "mean training ratings")
    return rating > user_mean


def _gain(rating: np.ndarray, relevant: np.ndarray, protocol: Protocol) -> np.ndarray:
    if protocol.gain == "binary" or protocol.relevance != "graded":
        # With rel in {0, 1} all three gains are rel.
        return relevant.astype(np.float64)
    if rating.min() < 0:
        raise DataError(f"graded relevance needs ratings of 0 or more; the smallest is {rating.min():g}")
    return np.exp2(rating) - 1.0 if protocol.gain == "exponential" else rating
