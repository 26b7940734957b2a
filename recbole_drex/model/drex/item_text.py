"""Coordinates of reviews along the directions in which the texts of items differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse

_RIDGE = 1.0  # times the mean variance within items: small variances are unreliable when reviews are few
_ROUNDING = 1e-12  # a variance within items below this, relative to the features' squares, is rounding error


class ItemCoordinates(NamedTuple):
    """Result of :func:`item_coordinates`.

    Attributes:
        coordinates: coordinates of the reviews, zero for reviews without words, float16 (n, k).
        strength: lambda, descending and positive, float32 (k,).
        directions: float32 (width, k).
        has_words: whether a review has words, (n,).
    """

    coordinates: np.ndarray
    strength: np.ndarray
    directions: np.ndarray
    has_words: np.ndarray


def item_coordinates(blocks: Callable[[], Iterable[np.ndarray]], item: np.ndarray, size: int) -> ItemCoordinates:
    r"""Coordinates of reviews along the directions that tell items apart (regularised probabilistic linear discriminant
    analysis, Ioffe, ECCV 2006).

    With :math:`x_s` the features of review s minus their mean, W their covariance within items plus its mean variance
    times the identity, and B the covariance of the items' means (estimated by analysis of variance), the directions
    solve :math:`B v_k = \lambda_k W v_k`; coordinates are :math:`y_{sk} = v_k^\top x_s`. Were their variance within
    items 1, as it would be without the identity, the mean of an item's coordinate given n reviews would be
    :math:`\lambda_k \sum_s y_{sk} / (1 + n \lambda_k)`.

    Args:
        blocks: returns an iterator over the features of all n reviews, (n, width), in blocks of rows, each time it is
            called. A review without words has zeros.
        item: item of each review, (n,).
        size: maximum number of directions, those of the largest :math:`\lambda`.

    Returns:
        k is 0 if fewer than two items have reviews, no item has two, or the reviews of an item never differ.
    """
    code = np.unique(item, return_inverse=True)[1]
    n_codes, sums, squares, known = int(code.max(initial=-1)) + 1, np.zeros((0, 0)), 0.0, [np.zeros(0, dtype=bool)]
    for index, x in _numbered(blocks()):
        part = scipy.sparse.csr_matrix((np.ones(len(x)), (code[index], np.arange(len(x)))), (n_codes, len(x))) @ x
        sums = sums + part if sums.size else part
        squares += np.square(x).sum()
        known.append((x != 0).any(1))
    has_words = np.concatenate(known)
    n, count = int(has_words.sum()), np.bincount(code[has_words], minlength=n_codes)
    n_items = int((count > 0).sum())
    width = sums.shape[1]
    nothing = ItemCoordinates(np.zeros((len(item), 0), dtype=np.float16), _zeros(0), _zeros(width, 0), has_words)
    if n_items < 2 or n <= n_items:
        return nothing
    centre = sums.sum(0) / n
    mean = sums / np.maximum(count, 1)[:, None] - centre
    within = np.zeros((width, width))
    for index, x in _numbered(blocks(), has_words):
        rest = x - centre - mean[code[index]]
        within += rest.T @ rest
    within /= n - n_items
    each = (n - (count**2).sum() / n) / (n_items - 1)
    between = ((mean * count[:, None]).T @ mean / (n_items - 1) - within) / each
    if np.trace(within) <= _ROUNDING * squares / n:
        return nothing
    ridge = _RIDGE * np.trace(within) / width
    strength, directions = scipy.linalg.eigh(between, within + ridge * np.eye(width))
    best = np.argsort(strength)[::-1][:size]
    best = best[strength[best] > 0]
    # Rounding must not decide the signs.
    directions *= np.sign(directions[np.abs(directions).argmax(0), np.arange(width)])
    coordinates = np.zeros((len(item), len(best)), dtype=np.float16)
    for index, x in _numbered(blocks(), has_words):
        coordinates[index] = (x - centre) @ directions[:, best]
    directions = directions[:, best].astype(np.float32)
    return ItemCoordinates(coordinates, strength[best].astype(np.float32), directions, has_words)


def _numbered(
    blocks: Iterable[np.ndarray], chosen: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of each block's rows and the rows in double precision; only of the rows in the mask ``chosen``."""
    start = 0
    for block in blocks:
        index = np.arange(start, start + len(block))
        if chosen is not None:
            index = index[chosen[index]]
        yield index, block[index - start].astype(np.float64)
        start += len(block)


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)
