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
_OVERSAMPLES, _ITERATIONS = 10, 5  # of the randomised decomposition, as in scikit-learn's TruncatedSVD
_RARE, _FREQUENT = 5, 0.3  # words in fewer reviews, or in a larger share of them, are ignored
_TINY = 1e-30
_EXACT = 1 << 23  # largest number of tf-idf entries for an exact decomposition in memory
_SMALL = 1024  # largest number of reviews, or of words, for a full decomposition
_BOTH_SIDES = 1 << 16  # largest number of reviews plus words for a bidiagonalisation
_TOLERANCE = 1e-10  # of eigenvalues or singular values, relative
_ROUNDING = 1e-12  # a squared norm below this, relative to its value before words were removed, is zero


class ReviewFeatures:
    """Static features of reviews, zero for reviews without words. They are computed on demand and not stored.

    Args:
        store: word features of all reviews.
        review: rows of the store, -1 for none, (n,).
        sources: ``encoder`` (the mean of the words' vectors) and/or ``words`` (the leading singular vectors of the
            reviews' tf-idf over lemmas, which keep what an encoder blurs: names, locations, rare terms).
        seed: random seed of the decomposition if there are too many words for an exact one.
    """

    def __init__(self, store: FeatureStore, review: np.ndarray, sources: Sequence[str], seed: int):
        self._n = len(review)
        self._parts = [
            _MeanWords(store, review) if one == "encoder" else _LatentWords(store, review, seed) for one in sources
        ]
        squares = np.zeros(len(self._parts))
        for index in _blocks(self._n):
            squares += [np.square(part.rows(index), dtype=np.float64).sum() for part in self._parts]
        sizes = np.sqrt(squares / [max(1, self._n * part.width) for part in self._parts])
        self._scales = [np.float32(1 / size if size > 0 else 1) for size in sizes]

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Features of the reviews at ``index`` (m,), float32 (m, width): those of the sources, scaled to the same mean
        square and concatenated."""
        return self._scaled([part.rows(index) for part in self._parts])

    def _scaled(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([part * scale for part, scale in zip(parts, self._scales, strict=True)], 1)

    def blocks(self) -> Iterator[np.ndarray]:
        """Features of all n reviews, in blocks."""
        yield from map(self.rows, _blocks(self._n))

    def without(self, review: np.ndarray, case: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Features of reviews without some of their words; nothing is fitted again.

        Args:
            review: index of each case's review, (c,).
            case: index of the case that each word is removed from, (k,).
            position: the removed words, as positions in the store; each belongs to its case's review, (k,).

        Returns:
            (c, width).
        """
        return self._scaled([part.without(review, case, position) for part in self._parts])

    def change(self, review: np.ndarray, case: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Change of the features by :meth:`without`, (c, width)."""
        before = self._scaled([part.known(review) for part in self._parts])
        return self.without(review, case, position) - before

    def change_along(
        self, direction: np.ndarray, review: np.ndarray, case: np.ndarray, position: np.ndarray, vectors: np.ndarray
    ) -> np.ndarray:
        """Change of the features by :meth:`without` along one direction, which is cheaper.

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
    """Cache of the rows asked for last: counterfactuals ask for the same rows repeatedly.

    Args:
        rows: computes the rows at indices (m,), independently of each other.
    """

    def __init__(self, rows: Callable[[np.ndarray], np.ndarray]):
        self._rows, self._index = rows, np.zeros(0, dtype=np.int64)
        self._cached: np.ndarray | None = None

    def __call__(self, index: np.ndarray) -> np.ndarray:
        distinct, number = np.unique(index, return_inverse=True)
        new = distinct[~np.isin(distinct, self._index, assume_unique=True)]
        if self._cached is None or (len(new) and len(new) + len(self._index) > _BLOCK):
            self._index, self._cached = distinct, self._rows(distinct)
            return self._cached[number]
        if len(new):
            where = np.searchsorted(self._index, new)
            self._cached = np.insert(self._cached, where, self._rows(new), axis=0)
            self._index = np.insert(self._index, where, new)
        return self._cached[np.searchsorted(self._index, distinct)[number]]


class _MeanWords:
    def __init__(self, store: FeatureStore, review: np.ndarray):
        self.store, self.review, self.width = store, review, store.width
        self.known = _KnownRows(self.rows)
        self.length = _lengths(store, review)

    def rows(self, index: np.ndarray) -> np.ndarray:
        return self.store.means(self.review[index])

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
        n, result = len(review), np.zeros(len(store.vocabulary), dtype=np.int64)
        self.kept, self.column = np.ones(len(result), dtype=bool), np.arange(len(result))
        for index in _blocks(n):
            result += self._counts(index).getnnz(axis=0)
        self.kept = (result >= _RARE) & (result <= _FREQUENT * (self.length > 0).sum())
        self.column = np.cumsum(self.kept) - 1
        self.idf = 1 + np.log((1 + n) / (1 + result[self.kept]))
        self.axes: np.ndarray | None = None  # vectors of the words, (words, components)
        components = min(_COMPONENTS, n - 1, len(self.idf) - 1)
        if components >= 1:
            if result[self.kept].sum() <= _EXACT:
                weights = [self._weights(index)[0] for index in _blocks(n)]
                self.axes = _leading(scipy.sparse.vstack(weights, format="csr"), components)
            else:
                self.axes = _nearly_leading(self._product, self._start(store.vocabulary, components, seed), components)
        self.width = 1 if self.axes is None else self.axes.shape[1]

    def _start(self, vocabulary: Sequence[str], components: int, seed: int) -> np.ndarray:
        """Random numbers for each kept word, drawn in alphabetical order, so they do not depend on the numbering."""
        kept = sorted(np.flatnonzero(self.kept).tolist(), key=vocabulary.__getitem__)
        start = np.empty((len(kept), min(len(kept), components + _OVERSAMPLES)))
        start[self.column[kept]] = np.random.RandomState(seed).normal(size=start.shape)
        return start

    def rows(self, index: np.ndarray) -> np.ndarray:
        if self.axes is None:
            return np.zeros((len(index), 1), dtype=np.float32)
        return (self._weights(index)[0] @ self.axes).astype(np.float32)

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

    def _counts(self, index: np.ndarray) -> scipy.sparse.csr_matrix:
        """Count of each kept word in the reviews at ``index`` (m,), (m, words)."""
        length = self.length[index]
        owner = np.repeat(np.arange(len(index)), length)
        word = self.words[np.arange(len(owner)) + np.repeat(self.first[index] - (np.cumsum(length) - length), length)]
        known = self.kept[word]
        entries = np.ones(known.sum()), (owner[known], self.column[word[known]])
        return scipy.sparse.csr_matrix(entries, (len(index), self.kept.sum()))

    def _weights(self, index: np.ndarray) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
        """tf-idf of the reviews at ``index`` (m,), normalised to length 1, and the squared lengths before that."""
        weights = self._counts(index)
        weights.data = (1 + np.log(weights.data)) * self.idf[weights.indices]
        square = np.asarray(weights.multiply(weights).sum(1)).ravel()
        weights.data /= np.repeat(np.sqrt(square), np.diff(weights.indptr))
        return weights, square

    def _product(self, vectors: np.ndarray) -> np.ndarray:
        """The product of the tf-idf of all reviews, transposed, with itself and with ``vectors`` (words, k)."""
        total = np.zeros_like(vectors)
        for index in _blocks(len(self.length)):
            weights = self._weights(index)[0]
            total += weights.T @ (weights @ vectors)
        return total

    def _changes(
        self, review: np.ndarray, case: np.ndarray, position: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Case, column and change of each unnormalised tf-idf value that changes; and each case's squared norm after
        (0 if no kept word is left) and before."""
        word = self.words[position]
        known, width = self.kept[word], len(self.idf)
        key, times = np.unique(case[known].astype(np.int64) * width + self.column[word[known]], return_counts=True)
        case, column = key // width, key % width
        distinct, number = np.unique(review, return_inverse=True)
        # SciPy returns a matrix, not an array, for empty indices.
        before = np.asarray(self._counts(distinct)[number[case], column]).ravel() if len(case) else np.zeros(0)
        rest = before - times
        old = (1 + np.log(before)) * self.idf[column]
        new = np.where(rest > 0, (1 + np.log(np.maximum(rest, 1))) * self.idf[column], 0)
        whole = self._weights(distinct)[1][number]
        left = whole + np.bincount(case, weights=new**2 - old**2, minlength=len(review))
        return case, column, new - old, np.where(left > _ROUNDING * whole, left, 0), whole


def _leading(matrix: scipy.sparse.csr_matrix, components: int) -> np.ndarray:
    """Leading right singular vectors of a matrix A (n, width): (width, components) float32, fewer if its rank is lower.

    They come from the eigenvectors of the smaller of AA' and A'A. If both are large, we use Lanczos bidiagonalisation
    of A. Its bases hold some hundred numbers for every row and column, so for still larger A we use Lanczos iteration
    on A'A, which takes three times as long. Up to rounding, the order of rows and columns does not matter.
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
    options = _fixed(scipy.sparse.linalg.eigsh)  # before SciPy 1.17 its random numbers are always the same
    return scipy.sparse.linalg.eigsh(square, components, v0=start, tol=_TOLERANCE, **options)


def _fixed(solver: Callable[..., Any], before: str | None = None) -> dict[str, Any]:
    """The argument that fixes the random numbers a solver draws if its iteration ends early.

    It is ``rng``, or ``before`` in versions of SciPy without ``rng``.
    """
    name = "rng" if "rng" in inspect.signature(solver).parameters else before
    return {name: np.random.default_rng(0)} if name else {}


def _nearly_leading(product: Callable[[np.ndarray], np.ndarray], basis: np.ndarray, components: int) -> np.ndarray:
    """As :func:`_leading`, for a matrix A that does not fit into memory; the last vectors are inaccurate.

    This is the randomised subspace iteration of Halko, Martinsson and Tropp (SIAM Review 2011), without any matrix that
    has as many rows as A. With Y = (A'A)^5 X for random X, and Q an orthonormal basis of A Y, the vectors are those of
    Q'A. If A'A Y = Z and Y'Z = V S V', Q'A is (up to a rotation) the transpose of Z V S^-1/2.

    Args:
        product: returns A'A times vectors (width, k).
        basis: X, (width, slightly more than ``components``).
        components: number of vectors.
    """
    for _ in range(_ITERATIONS):
        basis = np.linalg.qr(product(basis))[0]
    image = product(basis)
    values, vectors = scipy.linalg.eigh(basis.T @ image)
    real = values > _ROUNDING * values[-1]
    result, _, _ = scipy.linalg.svd(image @ (vectors[:, real] / np.sqrt(values[real])), full_matrices=False)
    return _signed(result[:, :components])


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Columns as float32, with signs that make the largest number positive: rounding must not decide the signs."""
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    return np.ascontiguousarray(vectors * signs, dtype=np.float32)


def _blocks(n: int) -> Iterator[np.ndarray]:
    """The integers below n, in blocks."""
    return (np.arange(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def _along(rows: Callable[[np.ndarray], np.ndarray], direction: np.ndarray, index: np.ndarray) -> np.ndarray:
    """``rows(index) @ direction`` for an index with many repetitions: (k,)."""
    distinct, number = np.unique(index, return_inverse=True)
    return (rows(distinct) @ direction)[number]


def _add_at(total: np.ndarray, index: np.ndarray, rows: np.ndarray) -> None:
    """``total[index] += rows``, where an index may be repeated (``np.add.at`` is many times slower)."""
    torch.from_numpy(total).index_add_(0, torch.from_numpy(index), torch.from_numpy(rows).to(torch.from_numpy(total)))


def _lengths(store: FeatureStore, review: np.ndarray) -> np.ndarray:
    offsets = np.asarray(store.offsets, dtype=np.int64)
    return np.where(review >= 0, offsets[review + 1] - offsets[review], 0)
