"""What reviews say about their items, as few numbers: places along the directions in which items differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse

_RIDGE = 1.0  # of the mean variance within items: what is learned from few reviews must not trust small variances
_ROUNDING = 1e-12  # a smaller variance within items, relative to the features' squares, is rounding, no content


class ItemCoordinates(NamedTuple):
    """What :func:`item_coordinates` finds.

    Attributes:
        coordinates: of the reviews, zero for those without words, float16 (n, k).
        strength: lambda, descending and positive, float32 (k,).
        directions: float32 (width, k).
        spoken: whether a review has words, (n,).
    """

    coordinates: np.ndarray
    strength: np.ndarray
    directions: np.ndarray
    spoken: np.ndarray


def item_coordinates(blocks: Callable[[], Iterable[np.ndarray]], item: np.ndarray, size: int) -> ItemCoordinates:
    r"""Coordinates of reviews along the directions that tell items apart (regularised probabilistic linear discriminant
    analysis, Ioffe, ECCV 2006).

    With :math:`x_s` the features of review s minus their mean, W their covariance within items plus its mean variance
    times the identity, and B the covariance of the items' means (estimated by analysis of variance), the directions
    solve :math:`B v_k = \lambda_k W v_k`; coordinates are :math:`y_{sk} = v_k^\top x_s`. Were their variance within
    items 1, as it would be without the identity, the mean of an item's coordinate given n reviews would be
    :math:`\lambda_k \sum_s y_{sk} / (1 + n \lambda_k)`.

    Args:
        blocks: gives the features of all n reviews, (n, width), as often as it is called: some rows at a time, so that
            they need not be in memory together. A review without words has zeros.
        item: (n,).
        size: how many directions are kept at most, those of the largest :math:`\lambda`.

    Returns:
        k is 0 where no two items were reviewed, or none twice, or where reviews of an item never differ.
    """
    code = np.unique(item, return_inverse=True)[1]
    n_codes, sums, squares, known = int(code.max(initial=-1)) + 1, np.zeros((0, 0)), 0.0, [np.zeros(0, dtype=bool)]
    for place, x in _numbered(blocks()):
        part = scipy.sparse.csr_matrix((np.ones(len(x)), (code[place], np.arange(len(x)))), (n_codes, len(x))) @ x
        sums = sums + part if sums.size else part
        squares += np.square(x).sum()
        known.append((x != 0).any(1))
    spoken = np.concatenate(known)
    n, count = int(spoken.sum()), np.bincount(code[spoken], minlength=n_codes)
    n_items = int((count > 0).sum())
    width = sums.shape[1]
    nothing = ItemCoordinates(np.zeros((len(item), 0), dtype=np.float16), _zeros(0), _zeros(width, 0), spoken)
    if n_items < 2 or n <= n_items:
        return nothing
    centre = sums.sum(0) / n
    mean = sums / np.maximum(count, 1)[:, None] - centre
    within = np.zeros((width, width))
    for place, x in _numbered(blocks(), spoken):
        rest = x - centre - mean[code[place]]
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
    # Rounding must not decide on signs.
    directions *= np.sign(directions[np.abs(directions).argmax(0), np.arange(width)])
    coordinates = np.zeros((len(item), len(best)), dtype=np.float16)
    for place, x in _numbered(blocks(), spoken):
        coordinates[place] = (x - centre) @ directions[:, best]
    directions = directions[:, best].astype(np.float32)
    return ItemCoordinates(coordinates, strength[best].astype(np.float32), directions, spoken)


def _numbered(
    blocks: Iterable[np.ndarray], chosen: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of the rows of each block and the rows in double precision; of rows that are ``chosen`` (a mask) only."""
    start = 0
    for block in blocks:
        place = np.arange(start, start + len(block))
        if chosen is not None:
            place = place[chosen[place]]
        yield place, block[place - start].astype(np.float64)
        start += len(block)


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)
