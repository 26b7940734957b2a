"""Attention over the words of reviews, which are read from the feature store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from recbole_drex.data.text.feature_store import FeatureStore

_BLOCK_WORDS = 1 << 13  # words per block that is converted to float32


@dataclasses.dataclass(frozen=True)
class ReadWords:
    """Aspect, importance and sentiment of occurrences of words.

    Attributes:
        aspect: the most probable aspect of the word, -1 for none, (n,).
        importance: of the word, from 0 to 1, (n,).
        sentiment: of the occurrence in its context, from -1 to 1, (n,).
    """

    aspect: np.ndarray
    importance: np.ndarray
    sentiment: np.ndarray


@dataclasses.dataclass(frozen=True)
class AttendedWords:
    """Every occurrence of a word in a review that is evidence.

    Attributes:
        user, item: internal ids of the review's user and item, (n,).
        word: position of the word's lemma in ``vocabulary``, (n,).
        weight: its attention weight within the review, (n,).
        vocabulary: lemmas.
        read: aspect, importance and sentiment of each; None for models without aspects.
    """

    user: np.ndarray
    item: np.ndarray
    word: np.ndarray
    weight: np.ndarray
    vocabulary: list[str]
    read: ReadWords | None = None


def softmax_within(scores: torch.Tensor, group: torch.Tensor, n_groups: int) -> torch.Tensor:
    """Softmax of ``scores`` (n,) within each group of ``group`` (n,), in any order."""
    top = torch.full((n_groups,), -torch.inf, dtype=scores.dtype, device=scores.device)
    top = top.scatter_reduce(0, group, scores.detach(), "amax")  # cancels, so it needs no gradient
    # Indexing by a tensor has a slow gradient, which adds one element at a time.
    exponential = torch.exp(scores - top.index_select(0, group))
    total = torch.zeros(n_groups, dtype=scores.dtype, device=scores.device).index_add_(0, group, exponential)
    return exponential / total.index_select(0, group)


def _weighted_sums(
    table: torch.Tensor, index: torch.Tensor, weights: torch.Tensor, review: torch.Tensor, n_reviews: int
) -> torch.Tensor:
    """Sum of ``weights[k] * table[index[k]]`` per review, without copying the vectors; ``review`` is ascending."""
    starts = torch.zeros(n_reviews + 1, dtype=torch.int64, device=table.device)
    starts[1:] = torch.cumsum(torch.bincount(review, minlength=n_reviews), 0)
    return nn.functional.embedding_bag(
        index, table, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


class WordAttention(nn.Module):
    r"""Pools reviews to attention-weighted means of their words' raw embeddings (paper, section 3.2.1).

    With :math:`z_k = W_t x_k + b_t` and :math:`a = \mathrm{softmax}_k(w_a^\top z_k)`, the score
    :math:`w_a^\top z_k = (W_t^\top w_a)^\top x_k + \mathrm{const}`, and the constant cancels in the softmax. Since the
    weights sum to one, :math:`T = \sum_k a_k z_k = W_t \left(\sum_k a_k x_k\right) + b_t`: words are scored by one
    vector of the encoder's width and pooled raw, and only the pooled vector is projected. This is exact.

    Args:
        store: word features of all reviews, memory-mapped.
        size: d, the width of the projection.
    """

    offsets: torch.Tensor

    def __init__(self, store: FeatureStore, size: int):
        super().__init__()
        self.store = store
        self.width = store.width
        self.projection = nn.Linear(store.width, size)
        self.scorer = nn.Linear(size, 1, bias=False)
        self.register_buffer("offsets", torch.from_numpy(store.offsets.astype("int64")), persistent=False)

    def scoring_vector(self) -> torch.Tensor:
        """:math:`W_t^\\top w_a`, of the encoder's width."""
        return self.projection.weight.T @ self.scorer.weight[0]

    def forward(self, reviews: torch.Tensor) -> torch.Tensor:
        """Pooled raw embeddings (n, width) of the reviews at store rows (n,), each with at least one word."""
        return self._pooled(self.scoring_vector(), reviews)[0]

    @torch.no_grad()
    def read_all(self, reviews: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pool many reviews, without a gradient.

        Args:
            reviews: store rows (n,), each with at least one word.

        Returns:
            Pooled raw embeddings (n, width), and the attention weights of their words, concatenated.
        """
        return self._pooled(self.scoring_vector(), reviews)

    def positions(self, reviews: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions in the store of the words of the reviews at store rows ``reviews``, and the review of each word."""
        starts = self.offsets[reviews]
        lengths = self.offsets[reviews + 1] - starts
        review = torch.repeat_interleave(torch.arange(len(reviews), device=reviews.device), lengths)
        first = torch.cumsum(lengths, 0) - lengths
        index = torch.arange(len(review), device=reviews.device) + (starts - first).index_select(0, review)
        return index, review

    def lemmas_at(self, positions: torch.Tensor) -> torch.Tensor:
        """Lemmas of words at positions in the store (k,), as positions in its vocabulary: int64 (k,)."""
        lemmas = np.take(self.store.word_ids, positions.cpu().numpy()).astype(np.int64)
        return torch.from_numpy(lemmas).to(positions.device)

    def vectors_at(self, positions: torch.Tensor) -> torch.Tensor:
        """Embeddings of words at positions in the store (k,): (k, width)."""
        return self.store.read(positions.cpu().numpy()).to(self.scorer.weight)

    def _pooled(self, vector: torch.Tensor, reviews: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled words of reviews, and the weights of the words."""
        if self.store.static:
            return self._pooled_lemmas(vector, reviews)
        parts = list(self._in_blocks(vector, reviews))
        return torch.cat([pooled for pooled, _ in parts]), torch.cat([weights for _, weights in parts])

    def _pooled_lemmas(self, vector: torch.Tensor, reviews: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`_pooled`, from static vectors: each lemma of the reviews is read and scored once."""
        position, review = self.positions(reviews)
        lemma = self.lemmas_at(position)
        used = torch.zeros(len(self.store.vocabulary), dtype=torch.bool, device=lemma.device)
        used[lemma] = True
        known = torch.nonzero(used).flatten()
        index = (torch.cumsum(used, 0) - 1).index_select(0, lemma)
        table = self.store.read_lemmas(known.cpu().numpy()).to(self.scorer.weight)
        weights = softmax_within((table @ vector).index_select(0, index), review, len(reviews))
        return _weighted_sums(table, index, weights, review, len(reviews)), weights

    def _in_blocks(self, vector: torch.Tensor, reviews: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As :meth:`_pooled`, in blocks of whole reviews."""
        yield vector.new_empty(0, self.width), vector.new_empty(0)
        ends = torch.cumsum(self.offsets[reviews + 1] - self.offsets[reviews], 0)
        block = torch.div(ends, _BLOCK_WORDS, rounding_mode="floor")
        start = 0
        for count in torch.unique_consecutive(block, return_counts=True)[1].tolist():
            position, review = self.positions(reviews[start : start + count])
            words = self.vectors_at(position)
            weights = softmax_within(words @ vector, review, count)
            index = torch.arange(len(words), device=words.device)
            yield _weighted_sums(words, index, weights, review, count), weights
            start += count
