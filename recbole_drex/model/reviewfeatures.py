"""Reviews as static features: the mean of their words' vectors, and their tf-idf in few dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer

from recbole_drex.data.store import FeatureStore

SOURCES = ("encoder", "words")
_COMPONENTS = 256  # of the words' singular value decomposition
_RARE, _FREQUENT = 5, 0.3  # words in fewer reviews, or in a larger share of them, say little about what items share
_TINY = 1e-30
_ROUNDING = 1e-12  # what is left of a norm, relative to what it was, where every word has been taken away


class ReviewFeatures:
    """Static features of reviews, zero for reviews without words.

    Args:
        store: word features of all reviews.
        review: rows of the store, -1 for none, (n,).
        sources: ``encoder`` (the mean of the words' vectors) and/or ``words`` (the leading singular vectors of the
            reviews' tf-idf over lemmas, which keeps what an encoder blurs: names, places, rare terms).
        seed: of the decomposition.

    Attributes:
        values: (n, width) float32, the parts of the sources scaled to one size and put side by side.
    """

    def __init__(self, store: FeatureStore, review: np.ndarray, sources: Sequence[str], seed: int):
        self._parts = [
            _MeanWords(store, review) if one == "encoder" else _LatentWords(store, review, seed) for one in sources
        ]
        sizes = [np.sqrt(np.square(part.values).mean()) if part.values.size else 0.0 for part in self._parts]
        self._scales = [1 / size if size > 0 else 1.0 for size in sizes]
        self.values = np.concatenate(
            [part.values * np.float32(scale) for part, scale in zip(self._parts, self._scales, strict=True)], 1
        )

    def without(self, review: np.ndarray, case: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Features of reviews that lack some of their words; nothing that was fitted is fitted anew.

        Args:
            review: which of the n reviews each case is about, (c,).
            case: the case that each word is taken from, (k,).
            position: the words that are taken away, as positions in the store, each of its case's review, (k,).

        Returns:
            (c, width).
        """
        parts = [part.without(review, case, position) for part in self._parts]
        return np.concatenate([part * np.float32(scale) for part, scale in zip(parts, self._scales, strict=True)], 1)

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
            end = start + part.values.shape[1]
            total += np.float32(scale) * part.change_along(direction[start:end], review, case, position, vectors)
            start = end
        return total


class _MeanWords:
    def __init__(self, store: FeatureStore, review: np.ndarray):
        self.store, self.values, self.length = store, store.means(review), _lengths(store, review)

    def without(self, review: np.ndarray, case: np.ndarray, position: np.ndarray) -> np.ndarray:
        total = self.values[review] * self.length[review, None]
        _add_at(total, case, -self.store.read(position).numpy())
        left = self.length[review] - np.bincount(case, minlength=len(review))
        return np.where(left[:, None] > 0, total / np.maximum(left, 1)[:, None], 0).astype(np.float32)

    def change_along(
        self, direction: np.ndarray, review: np.ndarray, case: np.ndarray, position: np.ndarray, vectors: np.ndarray
    ) -> np.ndarray:
        before = _along(self.values, direction, review)
        total = before * self.length[review] - np.bincount(case, weights=vectors @ direction, minlength=len(review))
        left = self.length[review] - np.bincount(case, minlength=len(review))
        return (np.where(left > 0, total / np.maximum(left, 1), 0) - before).astype(np.float32)


class _LatentWords:
    def __init__(self, store: FeatureStore, review: np.ndarray, seed: int):
        self.words = np.asarray(store.word_ids)
        offsets, length = np.asarray(store.offsets, dtype=np.int64), _lengths(store, review)
        ends = np.cumsum(length)
        place = np.arange(ends[-1]) + np.repeat(offsets[review] - (ends - length), length)
        shape = (len(review), len(store.vocabulary))
        counts = scipy.sparse.csr_matrix((np.ones(len(place)), self.words[place], np.concatenate([[0], ends])), shape)
        counts.sum_duplicates()
        found = counts.getnnz(axis=0)
        self.kept = (found >= _RARE) & (found <= _FREQUENT * (length > 0).sum())
        self.counts = counts[:, self.kept]
        components = min(_COMPONENTS, *(n - 1 for n in self.counts.shape))
        self.values = np.zeros((len(review), 1), dtype=np.float32)
        self.axes: np.ndarray | None = None  # what each word adds, (words, components)
        if components < 1:
            return
        tfidf = TfidfTransformer(sublinear_tf=True)
        weights = tfidf.fit_transform(self.counts)
        self.idf, self.column = tfidf.idf_, np.cumsum(self.kept) - 1
        raw = self.counts.copy()
        raw.data = (1 + np.log(raw.data)) * self.idf[raw.indices]
        self.square = np.asarray(raw.multiply(raw).sum(1)).ravel()  # of the rows' norms before they are made one
        svd = TruncatedSVD(components, random_state=seed)
        self.values = svd.fit_transform(weights).astype(np.float32)
        self.axes = np.ascontiguousarray(svd.components_.T)

    def without(self, review: np.ndarray, case: np.ndarray, position: np.ndarray) -> np.ndarray:
        result = self.values[review]
        if self.axes is None:
            return result
        case, column, change, left = self._changes(review, case, position)
        total = result * np.sqrt(self.square[review])[:, None]
        _add_at(total, case, change[:, None] * self.axes[column])
        return np.where(left[:, None] > 0, total / np.sqrt(np.maximum(left, _TINY))[:, None], 0).astype(np.float32)

    def change_along(
        self, direction: np.ndarray, review: np.ndarray, case: np.ndarray, position: np.ndarray, vectors: np.ndarray
    ) -> np.ndarray:
        if self.axes is None:
            return np.zeros(len(review), dtype=np.float32)
        case, column, change, left = self._changes(review, case, position)
        before = _along(self.values, direction, review)
        total = before * np.sqrt(self.square[review])
        total = total + np.bincount(case, weights=change * _along(self.axes, direction, column), minlength=len(review))
        return (np.where(left > 0, total / np.sqrt(np.maximum(left, _TINY)), 0) - before).astype(np.float32)

    def _changes(
        self, review: np.ndarray, case: np.ndarray, position: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of each case and word that changes its tf-idf (before rows are made one long): case, column and change; and
        what is left of the square of each case's norm, 0 where no word is left that counts."""
        word = self.words[position]
        known, width = self.kept[word], self.counts.shape[1]
        key, times = np.unique(case[known].astype(np.int64) * width + self.column[word[known]], return_counts=True)
        case, column = key // width, key % width
        # SciPy gives a matrix, no array, where nothing is asked for.
        before = np.asarray(self.counts[review[case], column]).ravel() if len(case) else np.zeros(0)
        rest = before - times
        old = (1 + np.log(before)) * self.idf[column]
        new = np.where(rest > 0, (1 + np.log(np.maximum(rest, 1))) * self.idf[column], 0)
        whole = self.square[review]
        left = whole + np.bincount(case, weights=new**2 - old**2, minlength=len(review))
        return case, column, new - old, np.where(left > _ROUNDING * whole, left, 0)


def _along(rows: np.ndarray, direction: np.ndarray, place: np.ndarray) -> np.ndarray:
    """``rows[place] @ direction``, in which places come many times: (k,)."""
    distinct, number = np.unique(place, return_inverse=True)
    return (rows[distinct] @ direction)[number]


def _add_at(total: np.ndarray, place: np.ndarray, rows: np.ndarray) -> None:
    """``total[place] += rows``, in which a place may come several times (NumPy's own way is many times slower)."""
    torch.from_numpy(total).index_add_(0, torch.from_numpy(place), torch.from_numpy(rows).to(torch.from_numpy(total)))


def _lengths(store: FeatureStore, review: np.ndarray) -> np.ndarray:
    offsets = np.asarray(store.offsets, dtype=np.int64)
    return np.where(review >= 0, offsets[review + 1] - offsets[review], 0)
