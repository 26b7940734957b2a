"""Reviews as static features: the mean of their words' vectors, and their tf-idf in few dimensions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import torch

from recbole_drex.data.text.feature_store import FeatureStore

_BLOCK = 4096  # reviews whose features are in memory at a time
_COMPONENTS = 256  # of the words' singular value decomposition
_OVERSAMPLES, _ITERATIONS = 10, 5  # of a decomposition that is not exact, as scikit-learn's TruncatedSVD has them
_RARE, _FREQUENT = 5, 0.3  # words in fewer reviews, or in a larger share of them, say little about what items share
_TINY = 1e-30
_EXACT = 1 << 23  # numbers of a tf-idf that are held in memory, so that the decomposition is exact
_SMALL = 1024  # reviews, or words, of which the full decomposition takes no time
_BOTH_SIDES = 1 << 16  # reviews and words, of which some hundred numbers each are held in memory
_TOLERANCE = 1e-10  # of eigenvalues or singular values, relative
_ROUNDING = 1e-12  # what is left of a norm, relative to what it was, where every word has been taken away


class ReviewFeatures:
    """Static features of reviews, zero for reviews without words. They are computed when asked for, not kept.

    Args:
        store: word features of all reviews.
        review: rows of the store, -1 for none, (n,).
        sources: ``encoder`` (the mean of the words' vectors) and/or ``words`` (the leading singular vectors of the
            reviews' tf-idf over lemmas, which keeps what an encoder blurs: names, places, rare terms).
        seed: of the decomposition, where there are too many words for an exact one.
    """

    def __init__(self, store: FeatureStore, review: np.ndarray, sources: Sequence[str], seed: int):
        self._n = len(review)
        self._parts = [
            _MeanWords(store, review) if one == "encoder" else _LatentWords(store, review, seed) for one in sources
        ]
        squares = np.zeros(len(self._parts))
        for place in _blocks(self._n):
            squares += [np.square(part.rows(place), dtype=np.float64).sum() for part in self._parts]
        sizes = np.sqrt(squares / [max(1, self._n * part.width) for part in self._parts])
        self._scales = [np.float32(1 / size if size > 0 else 1) for size in sizes]

    def rows(self, place: np.ndarray) -> np.ndarray:
        """Features of the reviews at ``place`` (m,) of the n, (m, width) float32: those of the sources, scaled to one
        size and put side by side."""
        return self._scaled([part.rows(place) for part in self._parts])

    def _scaled(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([part * scale for part, scale in zip(parts, self._scales, strict=True)], 1)

    def blocks(self) -> Iterator[np.ndarray]:
        """Features of all n reviews, some thousand at a time."""
        yield from map(self.rows, _blocks(self._n))

    def without(self, review: np.ndarray, case: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Features of reviews that lack some of their words; nothing that was fitted is fitted again.

        Args:
            review: which of the n reviews each case is about, (c,).
            case: the case that each word is taken from, (k,).
            position: the words that are taken away, as positions in the store, each of its case's review, (k,).

        Returns:
            (c, width).
        """
        return self._scaled([part.without(review, case, position) for part in self._parts])

    def change(self, review: np.ndarray, case: np.ndarray, position: np.ndarray) -> np.ndarray:
        """What :meth:`without` adds to the features, (c, width)."""
        before = self._scaled([part.known(review) for part in self._parts])
        return self.without(review, case, position) - before

    def change_along(
        self, direction: np.ndarray, review: np.ndarray, case: np.ndarray, position: np.ndarray, vectors: np.ndarray
    ) -> np.ndarray:
        """What :meth:`without` adds to the features, along one direction only, which is cheaper.

        Args:
            direction: (width,).
            review, case, position: as in :meth:`without`.
            vectors: embeddings of these words, (k, width of the store).

        Returns:
            (c,).
        """
        total, start = np.zeros(len(review), dtype=np.float32), 0
        for part, scale in zip(self._parts, self._scales, strict=True):
            end = start + part.width
            total += scale * part.change_along(direction[start:end], review, case, position, vectors)
            start = end
        return total


class _KnownRows:
    """Rows of places, of which the last ones asked for are kept: counterfactuals ask for the same again and again.

    Args:
        rows: makes the rows of places (m,), each by itself.
    """

    def __init__(self, rows: Callable[[np.ndarray], np.ndarray]):
        self._rows, self._place = rows, np.zeros(0, dtype=np.int64)
        self._found: np.ndarray | None = None

    def __call__(self, place: np.ndarray) -> np.ndarray:
        distinct, number = np.unique(place, return_inverse=True)
        new = distinct[~np.isin(distinct, self._place, assume_unique=True)]
        if self._found is None or (len(new) and len(new) + len(self._place) > _BLOCK):
            self._place, self._found = distinct, self._rows(distinct)
            return self._found[number]
        if len(new):
            where = np.searchsorted(self._place, new)
            self._found = np.insert(self._found, where, self._rows(new), axis=0)
            self._place = np.insert(self._place, where, new)
        return self._found[np.searchsorted(self._place, distinct)[number]]


class _MeanWords:
    def __init__(self, store: FeatureStore, review: np.ndarray):
        self.store, self.review, self.width = store, review, store.width
        self.known = _KnownRows(self.rows)
        self.length = _lengths(store, review)

    def rows(self, place: np.ndarray) -> np.ndarray:
        return self.store.means(self.review[place])

    def without(self, review: np.ndarray, case: np.ndarray, position: np.ndarray) -> np.ndarray:
        total = self.known(review) * self.length[review, None]
        _add_at(total, case, -self.store.read(position).numpy())
        left = self.length[review] - np.bincount(case, minlength=len(review))
        return np.where(left[:, None] > 0, total / np.maximum(left, 1)[:, None], 0).astype(np.float32)

    def change_along(
        self, direction: np.ndarray, review: np.ndarray, case: np.ndarray, position: np.ndarray, vectors: np.ndarray
    ) -> np.ndarray:
        before = _along(self.known, direction, review)
        total = before * self.length[review] - np.bincount(case, weights=vectors @ direction, minlength=len(review))
        left = self.length[review] - np.bincount(case, minlength=len(review))
        return (np.where(left > 0, total / np.maximum(left, 1), 0) - before).astype(np.float32)


class _LatentWords:
    def __init__(self, store: FeatureStore, review: np.ndarray, seed: int):
        self.words, self.known = store.word_ids, _KnownRows(self.rows)
        self.first, self.length = np.asarray(store.offsets, dtype=np.int64)[review], _lengths(store, review)
        n, found = len(review), np.zeros(len(store.vocabulary), dtype=np.int64)
        self.kept, self.column = np.ones(len(found), dtype=bool), np.arange(len(found))
        for place in _blocks(n):
            found += self._counts(place).getnnz(axis=0)
        self.kept = (found >= _RARE) & (found <= _FREQUENT * (self.length > 0).sum())
        self.column = np.cumsum(self.kept) - 1
        self.idf = 1 + np.log((1 + n) / (1 + found[self.kept]))
        self.axes: np.ndarray | None = None  # what each word adds, (words, components)
        components = min(_COMPONENTS, n - 1, len(self.idf) - 1)
        if components >= 1:
            if found[self.kept].sum() <= _EXACT:
                weights = [self._weights(place)[0] for place in _blocks(n)]
                self.axes = _leading(scipy.sparse.vstack(weights, format="csr"), components)
            else:
                self.axes = _nearly_leading(self._product, self._start(store.vocabulary, components, seed), components)
        self.width = 1 if self.axes is None else self.axes.shape[1]

    def _start(self, vocabulary: Sequence[str], components: int, seed: int) -> np.ndarray:
        """Random numbers for each word that is kept, by the order of their spelling, however they are numbered."""
        kept = sorted(np.flatnonzero(self.kept).tolist(), key=vocabulary.__getitem__)
        start = np.empty((len(kept), min(len(kept), components + _OVERSAMPLES)))
        start[self.column[kept]] = np.random.RandomState(seed).normal(size=start.shape)
        return start

    def rows(self, place: np.ndarray) -> np.ndarray:
        if self.axes is None:
            return np.zeros((len(place), 1), dtype=np.float32)
        return (self._weights(place)[0] @ self.axes).astype(np.float32)

    def without(self, review: np.ndarray, case: np.ndarray, position: np.ndarray) -> np.ndarray:
        result = self.known(review)
        if self.axes is None:
            return result
        case, column, change, left, whole = self._changes(review, case, position)
        total = result * np.sqrt(whole)[:, None]
        _add_at(total, case, change[:, None] * self.axes[column])
        return np.where(left[:, None] > 0, total / np.sqrt(np.maximum(left, _TINY))[:, None], 0).astype(np.float32)

    def change_along(
        self, direction: np.ndarray, review: np.ndarray, case: np.ndarray, position: np.ndarray, vectors: np.ndarray
    ) -> np.ndarray:
        if self.axes is None:
            return np.zeros(len(review), dtype=np.float32)
        case, column, change, left, whole = self._changes(review, case, position)
        before, added = _along(self.known, direction, review), _along(self.axes.__getitem__, direction, column)
        total = before * np.sqrt(whole) + np.bincount(case, weights=change * added, minlength=len(review))
        return (np.where(left > 0, total / np.sqrt(np.maximum(left, _TINY)), 0) - before).astype(np.float32)

    def _counts(self, place: np.ndarray) -> scipy.sparse.csr_matrix:
        """How often each word that is kept stands in the reviews at ``place`` (m,), (m, words)."""
        length = self.length[place]
        owner = np.repeat(np.arange(len(place)), length)
        word = self.words[np.arange(len(owner)) + np.repeat(self.first[place] - (np.cumsum(length) - length), length)]
        known = self.kept[word]
        entries = np.ones(known.sum()), (owner[known], self.column[word[known]])
        return scipy.sparse.csr_matrix(entries, (len(place), self.kept.sum()))

    def _weights(self, place: np.ndarray) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
        """tf-idf of the reviews at ``place`` (m,), rows of length 1, and the squares of their lengths before that."""
        weights = self._counts(place)
        weights.data = (1 + np.log(weights.data)) * self.idf[weights.indices]
        square = np.asarray(weights.multiply(weights).sum(1)).ravel()
        weights.data /= np.repeat(np.sqrt(square), np.diff(weights.indptr))
        return weights, square

    def _product(self, vectors: np.ndarray) -> np.ndarray:
        """The product of the tf-idf of all reviews, transposed, with itself and with ``vectors`` (words, k)."""
        total = np.zeros_like(vectors)
        for place in _blocks(len(self.length)):
            weights = self._weights(place)[0]
            total += weights.T @ (weights @ vectors)
        return total

    def _changes(
        self, review: np.ndarray, case: np.ndarray, position: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of each case and word that changes its tf-idf (before rows are made one long): case, column and change; and
        the square of each case's norm, as it is left (0 where no word is left that counts) and as it was."""
        word = self.words[position]
        known, width = self.kept[word], len(self.idf)
        key, times = np.unique(case[known].astype(np.int64) * width + self.column[word[known]], return_counts=True)
        case, column = key // width, key % width
        distinct, number = np.unique(review, return_inverse=True)
        # SciPy gives a matrix, no array, where nothing is asked for.
        before = np.asarray(self._counts(distinct)[number[case], column]).ravel() if len(case) else np.zeros(0)
        rest = before - times
        old = (1 + np.log(before)) * self.idf[column]
        new = np.where(rest > 0, (1 + np.log(np.maximum(rest, 1))) * self.idf[column], 0)
        whole = self._weights(distinct)[1][number]
        left = whole + np.bincount(case, weights=new**2 - old**2, minlength=len(review))
        return case, column, new - old, np.where(left > _ROUNDING * whole, left, 0), whole


def _leading(matrix: scipy.sparse.csr_matrix, components: int) -> np.ndarray:
    """Leading right singular vectors of a matrix A (n, width): (width, components) float32, fewer if its rank is lower.

    They are those of the smaller of AA' and A'A. Where both are large, they are found by Lanczos bidiagonalisation of
    A. Its bases hold some hundred numbers for every row and column, so for larger A they are found by Lanczos iteration
    on A'A, which takes three times as long. None depends on the order of rows and columns, but for rounding.
    """
    transposed = matrix.T.tocsr()
    if matrix.shape[0] < min(matrix.shape[1], _SMALL):
        values, vectors = scipy.linalg.eigh((matrix @ transposed).toarray())
        real = values > _ROUNDING * values[-1]
        values, vectors = values[real], transposed @ (vectors[:, real] / np.sqrt(values[real]))
    elif matrix.shape[1] <= _SMALL:
        values, vectors = scipy.linalg.eigh((transposed @ matrix).toarray())
    else:
        solver = _by_bidiagonalisation if sum(matrix.shape) <= _BOTH_SIDES else _by_iteration
        values, vectors = solver(matrix, components)
    best = np.argsort(values)[::-1][:components]
    return _signed(vectors[:, best[values[best] > _ROUNDING * values[best[0]]]])


def _by_bidiagonalisation(matrix: scipy.sparse.csr_matrix, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Squares of the largest singular values, and right singular vectors, by PROPACK."""
    options = {"solver": "propack", "v0": np.ones(matrix.shape[0]), "tol": _TOLERANCE}
    options |= _fixed(scipy.sparse.linalg.svds, "random_state")
    _, values, rows = scipy.sparse.linalg.svds(matrix, components, return_singular_vectors="vh", **options)
    return values**2, rows.T


def _by_iteration(matrix: scipy.sparse.csr_matrix, components: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_by_bidiagonalisation`, by ARPACK."""
    transposed = matrix.T.tocsr()
    square = scipy.sparse.linalg.LinearOperator(
        (matrix.shape[1],) * 2, matvec=lambda vector: transposed @ (matrix @ vector), dtype=np.float64
    )
    start = np.ones(matrix.shape[1])
    options = _fixed(scipy.sparse.linalg.eigsh)  # before SciPy 1.17 the same numbers are always drawn
    return scipy.sparse.linalg.eigsh(square, components, v0=start, tol=_TOLERANCE, **options)


def _fixed(solver: Callable[..., Any], before: str | None = None) -> dict[str, Any]:
    """The argument that fixes the random numbers a solver draws where its iteration ends early.

    It is ``rng``, or ``before`` in versions of SciPy that have none.
    """
    name = "rng" if "rng" in inspect.signature(solver).parameters else before
    return {name: np.random.default_rng(0)} if name else {}


def _nearly_leading(product: Callable[[np.ndarray], np.ndarray], basis: np.ndarray, components: int) -> np.ndarray:
    """As :func:`_leading`, for a matrix A that does not fit into memory; the last of the vectors are inaccurate.

    The randomised subspace iteration of Halko, Martinsson and Tropp (SIAM Review 2011), of which nothing is as long as
    A: with Y = (A'A)^5 X for random X, and Q an orthonormal basis of A Y, the vectors are those of Q'A. Where A'A Y = Z
    and Y'Z = V S V', Q'A is (up to a rotation) the transpose of Z V S^-1/2.

    Args:
        product: gives A'A times vectors (width, k).
        basis: X, (width, some more than ``components``).
        components: how many vectors are wanted.
    """
    for _ in range(_ITERATIONS):
        basis = np.linalg.qr(product(basis))[0]
    image = product(basis)
    values, vectors = scipy.linalg.eigh(basis.T @ image)
    real = values > _ROUNDING * values[-1]
    found, _, _ = scipy.linalg.svd(image @ (vectors[:, real] / np.sqrt(values[real])), full_matrices=False)
    return _signed(found[:, :components])


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Columns as float32 whose largest numbers are positive: rounding must not decide on signs."""
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    return np.ascontiguousarray(vectors * signs, dtype=np.float32)


def _blocks(n: int) -> Iterator[np.ndarray]:
    """The numbers below n, some thousand at a time."""
    return (np.arange(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def _along(rows: Callable[[np.ndarray], np.ndarray], direction: np.ndarray, place: np.ndarray) -> np.ndarray:
    """``rows(place) @ direction``, in which places come many times: (k,)."""
    distinct, number = np.unique(place, return_inverse=True)
    return (rows(distinct) @ direction)[number]


def _add_at(total: np.ndarray, place: np.ndarray, rows: np.ndarray) -> None:
    """``total[place] += rows``, in which a place may come several times (NumPy's own way is many times slower)."""
    torch.from_numpy(total).index_add_(0, torch.from_numpy(place), torch.from_numpy(rows).to(torch.from_numpy(total)))


def _lengths(store: FeatureStore, review: np.ndarray) -> np.ndarray:
    offsets = np.asarray(store.offsets, dtype=np.int64)
    return np.where(review >= 0, offsets[review + 1] - offsets[review], 0)
