"""What reviews say about their items, as few numbers: places along the directions in which items differ."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse

_RIDGE = 1.0  # of the mean variance within items: what is learned from few reviews must not trust small variances
_ROUNDING = 1e-12  # a smaller variance within items, relative to the features' squares, is rounding, no content


def item_coordinates(features: np.ndarray, item: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Coordinates of reviews along the directions that tell items apart (regularised probabilistic linear discriminant
    analysis, Ioffe, ECCV 2006).

    With :math:`x_s` the features of review s minus their mean, W their covariance within items plus its mean variance
    times the identity, and B the covariance of the items' means (estimated by analysis of variance), the directions
    solve :math:`B v_k = \lambda_k W v_k`; coordinates are :math:`y_{sk} = v_k^\top x_s`. Were their variance within
    items 1, as it would be without the identity, the mean of an item's coordinate given n reviews would be
    :math:`\lambda_k \sum_s y_{sk} / (1 + n \lambda_k)`.

    Args:
        features: (n, width); a review without words has zeros.
        item: (n,).
        size: how many directions are kept at most, those of the largest :math:`\lambda`.

    Returns:
        Coordinates (n, k), zero for reviews without words; :math:`\lambda`, descending and positive, (k,); and the
        directions, (width, k): all float32. k is 0 where no two items were reviewed, or none twice, or where reviews
        of an item never differ.
    """
    known = np.flatnonzero(np.abs(features).sum(1) > 0)
    item = np.unique(item[known], return_inverse=True)[1]
    n_items = int(item.max(initial=-1)) + 1
    nothing = _zeros(len(features), 0), _zeros(0), _zeros(features.shape[1], 0)
    if n_items < 2 or len(known) <= n_items:
        return nothing
    x = features[known].astype(np.float64)
    x -= x.mean(0)
    count = np.bincount(item)
    members = scipy.sparse.csr_matrix((np.ones(len(x)), (item, np.arange(len(x)))))
    mean = members @ x / count[:, None]
    rest = x - mean[item]
    within = rest.T @ rest / (len(x) - n_items)
    each = (len(x) - (count**2).sum() / len(x)) / (n_items - 1)
    between = ((mean * count[:, None]).T @ mean / (n_items - 1) - within) / each
    if np.trace(within) <= _ROUNDING * np.square(features[known]).sum(dtype=np.float64) / len(known):
        return nothing
    ridge = _RIDGE * np.trace(within) / len(within)
    strength, directions = scipy.linalg.eigh(between, within + ridge * np.eye(len(within)))
    best = np.argsort(strength)[::-1][:size]
    best = best[strength[best] > 0]
    coordinates = np.zeros((len(features), len(best)), dtype=np.float32)
    coordinates[known] = x @ directions[:, best]
    return coordinates, strength[best].astype(np.float32), directions[:, best].astype(np.float32)


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)
