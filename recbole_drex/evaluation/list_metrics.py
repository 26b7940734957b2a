"""Metrics beyond accuracy, from the recommended lists alone: coverage, concentration, popularity, novelty, diversity.

With I items, N users who have training interactions, and ``n(i)`` those of them who have item i, the first k items of
the users' lists have::

    itemcoverage@k       different items in all lists, divided by I
    giniindex@k          sum over j of (2 j - I - 1) c_j / (I sum of c), where c_1 <= ... <= c_I are how often each item
                         is recommended: 0 if all are equally often, nearly 1 if few items fill all lists
    averagepopularity@k  mean of n(i) over the items of a list, averaged over lists
    historypopularity    mean of n(i) over the training items of a user, averaged over the same users
    novelty@k            mean of -log2(max(n(i), 1) / N) over the items of a list, averaged over lists, in bits
    diversity@k          mean of 1 - cos(i, j) over the pairs of items of a list, averaged over lists of two or more;
                         cos(i, j) = users with both items / sqrt(n(i) n(j)), and 0 where one has no training user

The first three are RecBole's, whose number of items includes the padding. Self-information: Zhou et al., Solving the
apparent diversity-accuracy dilemma of recommender systems, PNAS 107 (10), 2010; intra-list diversity: Ziegler et al.,
Improving recommendation lists through topic diversification, WWW 2005, here with the distance of co-rated items, which
every data set has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csc_array, csr_array

LIST_METRICS = ("itemcoverage", "giniindex", "novelty", "diversity", "averagepopularity")
"""Those with a list length, in the order of tables; ``historypopularity`` has none."""

_CELLS = 1 << 22  # numbers per block of similarities, and pairs per block of lists


def list_metrics(
    user: np.ndarray,
    items: np.ndarray,
    train_user: np.ndarray,
    train_item: np.ndarray,
    n_items: int,
    topk: Sequence[int],
) -> dict[str, float]:
    """Compute the metrics of recommended lists that are defined in this module's documentation.

    Args:
        user: the user of each of n lists, as a number.
        items: the lists, best item first, of shape ``(n, longest)``: items from 1 on, then 0 where a list is shorter.
        train_user, train_item: the training interactions, of which equal ones count once.
        n_items: number of items in the catalogue.
        topk: list lengths.

    Returns:
        For each k ``itemcoverage@k`` and so on, ``diversity@k`` for k of 2 or more; and ``historypopularity``. A mean
        over nothing is NaN.

    Example:
        >>> values = list_metrics(np.array([1]), np.array([[2, 3]]), np.array([1, 2, 3]), np.array([1, 2, 2]), 4, [2])
        >>> values["itemcoverage@2"], values["averagepopularity@2"], values["historypopularity"], values["diversity@2"]
        (0.5, 1.0, 1.0, 1.0)
    """
    shape = (int(max(train_user.max(initial=0), user.max(initial=0))) + 1, n_items + 1)
    history = csr_array((np.ones(len(train_user)), (train_user, train_item)), shape=shape)
    history.sum_duplicates()
    history.data[:] = 1.0
    popularity = history.sum(0)
    sizes = history.sum(1)
    of_history = (history @ popularity)[user] / np.where(sizes[user] > 0, sizes[user], np.nan)
    result = {"historypopularity": _mean(of_history)}
    information = -np.log2(np.maximum(popularity, 1.0) / max(1, np.count_nonzero(sizes)))
    diversity = _diversities(items, history.tocsc(), topk)
    shares = 2.0 * np.arange(1, n_items + 1) - n_items - 1
    for k in topk:
        shown = items[:, :k]
        listed = shown > 0
        times = np.sort(np.bincount(shown[listed], minlength=n_items + 1)[1:])
        length = np.where(listed.any(1), listed.sum(1), np.nan)
        result[f"itemcoverage@{k}"] = float((times > 0).mean())
        result[f"giniindex@{k}"] = float(shares @ times / (n_items * times.sum())) if times.any() else np.nan
        for name, of_item in (("averagepopularity", popularity), ("novelty", information)):
            result[f"{name}@{k}"] = _mean(np.where(listed, of_item[shown], 0.0).sum(1) / length)
        if k > 1:
            result[f"diversity@{k}"] = _mean(diversity[k])
    return result


def _mean(values: np.ndarray) -> float:
    """The mean of the numbers that are not NaN; NaN without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan


def _diversities(items: np.ndarray, history: csc_array, topk: Sequence[int]) -> dict[int, np.ndarray]:
    """By k of 2 or more, each list's mean distance of two of its first k items; NaN where it has fewer than two."""
    lengths = np.sqrt(np.maximum(history.sum(0), 1.0))
    unit = csc_array(history / lengths)
    first, second = np.triu_indices(items.shape[1], 1)
    result = {k: np.full(len(items), np.nan) for k in topk if k > 1}
    step = max(1, _CELLS // max(1, len(first)))
    for start in range(0, len(items) if len(first) else 0, step):
        part = items[start : start + step]
        one, other = part[:, first], part[:, second]
        paired = (one > 0) & (other > 0)
        distance = np.where(paired, 1.0 - _cosines(one.ravel(), other.ravel(), unit).reshape(one.shape), 0.0)
        for k, values in result.items():
            within = second < k
            number = paired[:, within].sum(1)
            values[start : start + step] = distance[:, within].sum(1) / np.where(number > 0, number, np.nan)
    return result


def _cosines(one: np.ndarray, other: np.ndarray, unit: csc_array) -> np.ndarray:
    """Dot products of pairs of columns, block by block, since all pairs of items may not fit into memory."""
    listed = np.zeros(unit.shape[1], dtype=bool)
    listed[one] = listed[other] = True
    position = np.cumsum(listed) - 1
    row, column, columns = position[one], position[other], unit[:, np.flatnonzero(listed)]
    n = columns.shape[1]
    result = np.empty(len(one))
    step = max(1, _CELLS // n)
    for start in range(0, n, step):
        block = (columns[:, start : start + step].T @ columns).toarray()
        here = slice(None) if step >= n else np.flatnonzero((row >= start) & (row < start + step))
        result[here] = block[row[here] - start, column[here]]
    return result
