"""Attention over the words of reviews, read straight from the feature store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from recbole_drex.data.store import FeatureStore

# Words widened to float32 at a time: few enough to stay in a processor's cache until they are scored and summed.
_BLOCK_WORDS = 1 << 11
_GPU_BLOCK_WORDS = 1 << 15


@dataclasses.dataclass(frozen=True)
class AttendedWords:
    """Every occurrence of a word in a review that is evidence.

    Attributes:
        user, item: internal ids of the review's user and item, (n,).
        word: position of the word's lemma in ``vocabulary``, (n,).
        weight: its attention weight within the review, (n,).
        vocabulary: lemmas.
    """

    user: np.ndarray
    item: np.ndarray
    word: np.ndarray
    weight: np.ndarray
    vocabulary: list[str]


def softmax_within(scores: torch.Tensor, group: torch.Tensor, n_groups: int) -> torch.Tensor:
    """Softmax of ``scores`` (n,) within the groups given by ``group`` (n,), sorted or not."""
    top = torch.full((n_groups,), -torch.inf, dtype=scores.dtype, device=scores.device)
    top = top.scatter_reduce(0, group, scores.detach(), "amax")  # cancels, so it needs no gradient
    exponential = torch.exp(scores - top[group])
    total = torch.zeros(n_groups, dtype=scores.dtype, device=scores.device).index_add_(0, group, exponential)
    return exponential / total[group]


def _weighted_sums(words: torch.Tensor, weights: torch.Tensor, review: torch.Tensor, n_reviews: int) -> torch.Tensor:
    """Sum of ``weights[k] * words[k]`` per review; ``review`` is ascending. No weighted copy of the words is made."""
    starts = torch.zeros(n_reviews + 1, dtype=torch.int64, device=words.device)
    starts[1:] = torch.cumsum(torch.bincount(review, minlength=n_reviews), 0)
    index = torch.arange(len(words), device=words.device)
    return nn.functional.embedding_bag(
        index, words, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


class _Pooling(torch.autograd.Function):
    r"""Pooled words of reviews as a function of the scoring vector.

    Nothing of a word is kept for the backward pass but its weight: words are read again, block by block. With the
    weights :math:`a_k` of a review, its pooled words :math:`p` and the gradient :math:`g` with respect to them, the
    gradient with respect to the scoring vector is :math:`\sum_k a_k (g^\top x_k - g^\top p) x_k`.
    """

    @staticmethod
    def forward(ctx: Any, vector: torch.Tensor, attention: WordAttention, reviews: torch.Tensor) -> torch.Tensor:
        pooled, weights = attention.pool(vector, reviews)
        ctx.attention = attention
        ctx.save_for_backward(reviews, pooled, weights)
        return pooled

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,), (reviews, pooled, weights) = gradients, ctx.saved_tensors
        mean = (gradient * pooled).sum(1)
        result = pooled.new_zeros(pooled.shape[1])
        start = 0
        for rows, words, review in ctx.attention.blocks(reviews):
            weight = weights[start : start + len(words)].requires_grad_()
            with torch.enable_grad():
                sums = _weighted_sums(words, weight, review, rows.stop - rows.start)
            (slope,) = torch.autograd.grad(sums, weight, gradient[rows])
            result += words.T @ (weight.detach() * (slope - mean[rows][review]))
            start += len(words)
        return result, None, None


class WordAttention(nn.Module):
    r"""Turns reviews into attention-weighted means of their words' raw embeddings (paper, section 3.2.1).

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
        """Pooled raw embeddings (n, width) of the reviews at store rows ``reviews`` (n,), each with a word or more."""
        return _Pooling.apply(self.scoring_vector(), self, reviews)

    def positions(self, reviews: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Words of the reviews at store rows ``reviews``: their positions in the store, and which review each is of."""
        starts = self.offsets[reviews]
        lengths = self.offsets[reviews + 1] - starts
        review = torch.repeat_interleave(torch.arange(len(reviews), device=reviews.device), lengths)
        first = torch.cumsum(lengths, 0) - lengths
        index = torch.arange(len(review), device=reviews.device) - first[review] + starts[review]
        return index, review

    def vectors_at(self, positions: torch.Tensor) -> torch.Tensor:
        """Embeddings of words at positions in the store (k,): (k, width)."""
        return self.store.read(positions.cpu().numpy()).to(self.scorer.weight)

    def blocks(self, reviews: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Words of many reviews, a block of whole reviews at a time.

        Args:
            reviews: store rows (n,).

        Yields:
            Which of the reviews; the embeddings of their words (k, width); which review of the block each is of, (k,).
        """
        size = _BLOCK_WORDS if reviews.device.type == "cpu" else _GPU_BLOCK_WORDS
        ends = torch.cumsum(self.offsets[reviews + 1] - self.offsets[reviews], 0)
        counts = torch.unique_consecutive(torch.div(ends, size, rounding_mode="floor"), return_counts=True)[1]
        start = 0
        for count in counts.tolist():
            index, review = self.positions(reviews[start : start + count])
            yield slice(start, start + count), self.vectors_at(index), review
            start += count

    def read_all(self, reviews: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pool reviews, without a gradient.

        Args:
            reviews: store rows (n,), each with at least one word.

        Returns:
            Pooled raw embeddings (n, width), and the attention weights of their words, one after the other.
        """
        with torch.no_grad():
            return self.pool(self.scoring_vector(), reviews)

    def pool(self, vector: torch.Tensor, reviews: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`read_all`, with words scored by ``vector`` (width,)."""
        pooled, weights = vector.new_empty(len(reviews), self.width), [vector.new_empty(0)]
        for rows, words, review in self.blocks(reviews):
            weights.append(softmax_within(words @ vector, review, rows.stop - rows.start))
            pooled[rows] = _weighted_sums(words, weights[-1], review, rows.stop - rows.start)
        return pooled, torch.cat(weights)
