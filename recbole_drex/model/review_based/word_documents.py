"""Users and items as sequences of words: the latest words of their reviews, without the review of the target."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.documents import Documents


@dataclasses.dataclass(frozen=True)
class DocumentWords:
    """The words of n documents, padded.

    Attributes:
        position: of each word in ``text`` of :class:`WordDocuments`, (n, L).
        review: that it belongs to, (n, L).
        mask: 1 for a word and 0 for padding, (n, L).
    """

    position: torch.Tensor
    review: torch.Tensor
    mask: torch.Tensor


class WordDocuments(nn.Module):
    """The first L words of the reviews of a user or item, latest review first.

    Without a review, a document is what it would be if the review had never been written: later words move up.

    Args:
        documents: the reviews.
        n_users, n_items: numbers of users and items, padding included.
        size: L.
        gap: number of paddings between reviews in ``text``.

    Attributes:
        text: the words of all reviews with paddings between them, as positions in the vocabulary; padding is the size
            of the vocabulary.
    """

    text: torch.Tensor
    length: torch.Tensor

    def __init__(self, documents: Documents, n_users: int, n_items: int, size: int, gap: int):
        super().__init__()
        self.size = size
        length = documents.offsets.diff()
        start = documents.offsets[:-1] + gap * torch.arange(1, len(length) + 1)
        text = torch.full((len(documents.words) + gap * (len(length) + 1),), len(documents.vocabulary))
        of_word = torch.repeat_interleave(start - documents.offsets[:-1], length)
        text[torch.arange(len(documents.words)) + of_word] = documents.words
        self.register_buffer("text", text, persistent=False)
        # Enough words for L without any one review.
        enough = size + (int(length.max()) if len(length) else 0)
        for side, n in ((Side.USER, n_users), (Side.ITEM, n_items)):
            review, owner = documents.of(side, torch.arange(n))
            before = length[review].cumsum(0) - length[review]
            words = torch.zeros(n, dtype=torch.int64).index_add_(0, owner, length[review])
            before = before - (words.cumsum(0) - words)[owner]
            kept = (enough - before).clamp(min=0).minimum(length[review])
            number = torch.arange(int(kept.sum())) - torch.repeat_interleave(kept.cumsum(0) - kept, kept)
            begin = torch.full((len(documents),), -1)
            begin[review] = before
            count = torch.zeros(n, dtype=torch.int64).index_add_(0, owner, kept)
            buffers = {
                "position": torch.repeat_interleave(start[review], kept) + number,
                "review": torch.repeat_interleave(review, kept),
                "first": count.cumsum(0) - count,
                "count": count,
                "begin": begin,
            }
            for name, value in buffers.items():
                self.register_buffer(f"{name}{side:d}", value, persistent=False)
        self.register_buffer("length", length, persistent=False)

    def _of(self, side: Side, *names: str) -> list[torch.Tensor]:
        return [getattr(self, f"{name}{side:d}") for name in names]

    def positions(self) -> list[torch.Tensor]:
        """Positions in ``text`` of the words that documents of users, and of items, may hold."""
        return [self._of(side, "position")[0] for side in Side]

    def of(self, side: Side, entity: torch.Tensor, own: torch.Tensor) -> DocumentWords:
        """Documents of users or items (b,), each without one review (b,), -1 for none."""
        position, review, first, count, begin = self._of(side, "position", "review", "first", "count", "begin")
        index = torch.arange(self.size, device=entity.device).expand(len(entity), -1)
        if not len(position):
            nothing = torch.zeros_like(index)
            return DocumentWords(nothing, nothing, nothing.float())
        skipped = (own >= 0) & (begin[own] >= 0)
        later = skipped[:, None] & (index >= begin[own][:, None])
        index = index + later * self.length[own][:, None]
        there = index < count[entity][:, None]
        index = (first[entity][:, None] + index).clamp(max=len(position) - 1)
        return DocumentWords(position[index], review[index], there.float())
