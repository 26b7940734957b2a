"""Convolution over the words of reviews, once per review, independent of the number of documents with it."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from recbole_drex.model.review_based.documents import Documents

_WINDOWS = {"cpu": 4096, "cuda": 1 << 19}  # windows per block; on a CPU they fit into its cache


@dataclasses.dataclass(frozen=True)
class Reading:
    """The highest outputs of the filters in the reviews that were read.

    Attributes:
        words: per tap of the window, contribution of every word to each filter, (vocabulary + 1, filters).
        slot: index of each review of the data in ``value`` and ``position``, -1 if it was not read, (reviews,).
        value: highest output, before bias and ReLU, (n, filters); without gradient.
        position: position of that window's first word, (n, filters).
    """

    words: tuple[torch.Tensor, ...]
    slot: torch.Tensor
    value: torch.Tensor
    position: torch.Tensor


class TextCNN(nn.Module):
    r"""Convolution, ReLU and maximum over time (Kim 2014) of each review.

    With word vectors :math:`x` of width w, windows of n words and F filters:

    .. math::
        o_f = \max_t \mathrm{ReLU}\Big(b_f + \textstyle\sum_{j=1}^{n} W_{jf}^\top x_{t+j}\Big)

    A review of k words has k windows, each centred at a word (the left of the two middle words for even n). Reviews are
    padded with zeros, so a window never spans two reviews. The maximum over a document is the maximum over its reviews.

    Word vectors are fixed, so a window's output is a sum of n rows of ``vectors @ W_j``, which is computed once per
    distinct word and step. The highest window is found without gradient; then only that window is computed with
    gradient, which is the gradient of the maximum.

    Args:
        documents: the reviews.
        vectors: word vectors, float32 (vocabulary, w), fixed.
        filters: F.
        window: n, 1 or more.
    """

    vectors: torch.Tensor
    text: torch.Tensor
    start: torch.Tensor
    length: torch.Tensor

    def __init__(self, documents: Documents, vectors: torch.Tensor, filters: int, window: int):
        super().__init__()
        self.window, self.filters = window, filters
        nothing = len(vectors)  # index of the zero vector
        length = documents.offsets.diff()
        gap = window - 1  # padding between reviews and at both ends
        start = documents.offsets[:-1] + gap * torch.arange(1, len(length) + 1)
        text = torch.full((len(documents.words) + gap * (len(length) + 1),), nothing)
        shift = torch.repeat_interleave(start - documents.offsets[:-1], length)
        text[torch.arange(len(documents.words)) + shift] = documents.words
        buffers = {
            "vectors": torch.cat([vectors, torch.zeros(1, vectors.shape[1])]),
            "text": text,
            "start": start - gap // 2,
            "length": length,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)
        self.weight = nn.Parameter(torch.empty(window, vectors.shape[1], filters))
        self.bias = nn.Parameter(torch.zeros(filters))
        # Small: the maximum over hundreds of windows lies several standard deviations above zero.
        nn.init.normal_(self.weight, std=0.5 / (window * vectors.shape[1]) ** 0.5)

    def extra_repr(self) -> str:
        words, width = self.vectors.shape
        return f"words={words - 1}, width={width}, filters={self.filters}, window={self.window}"

    def read(self, review: torch.Tensor) -> Reading:
        """Find the highest window of each filter in these reviews (n,), distinct."""
        words = self.vectors @ self.weight
        with torch.no_grad():
            slot = torch.full((len(self.length),), -1, device=review.device)
            slot[review] = torch.arange(len(review), device=review.device)
            value = words.new_zeros(len(review), self.filters)
            position = slot.new_zeros(len(review), self.filters)
            table = words.detach().reshape(-1, self.filters)
            # Reviews of one length make a block without padding.
            length, order = torch.sort(self.length[review], stable=True)
            sizes = torch.unique_consecutive(length, return_counts=True)
            for size, group in zip(sizes[0].tolist(), torch.split(order, sizes[1].tolist()), strict=True):
                for part in torch.split(group, max(1, _WINDOWS[review.device.type] // size)):
                    first = self.start[review[part]]
                    value[part], index = self._highest(table, first, size)
                    position[part] = first[:, None] + index
        return Reading(words.unbind(), slot, value, position)

    def _highest(self, table: torch.Tensor, first: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Highest outputs in blocks of ``size`` windows that start at ``first`` (n,), and the index of that window."""
        indices = torch.arange(size + self.window - 1, device=first.device)
        windows = self.text[first[:, None] + indices].unfold(1, self.window, 1).reshape(-1, self.window)
        index = windows + indices[: self.window] * len(self.vectors)
        answers = nn.functional.embedding_bag(index, table, mode="sum").view(len(first), size, self.filters)
        highest = answers.amax(1)
        # Twice as fast as the index that max() returns.
        at = answers.eq_(highest[:, None]).mul_((indices[:size] + 1.0)[:, None]).amax(1)
        return highest, at.long() - 1

    def answer(self, reading: Reading, position: torch.Tensor) -> torch.Tensor:
        """ReLU of each filter's output at one window, with gradient.

        Args:
            reading: computed with the current parameters.
            position: position of the first word of each filter's window, (n, filters).

        Returns:
            (n, filters).
        """
        total = self.bias.expand(position.shape)
        for tap in range(self.window):
            total = total + reading.words[tap].gather(0, self.text[position + tap])
        return torch.relu(total)
