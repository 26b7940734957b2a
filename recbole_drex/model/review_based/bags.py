"""Reviews as bags of words, found by the training rating that they belong to: the text of topic models (HFT)."""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex.model.layers.common import Side
from recbole_drex.model.layers.rating_tower import SparseRows
from recbole_drex.model.review_based.documents import Documents


class ReviewBags(nn.Module):
    """The words of all reviews, divided among the training ratings of their users or items.

    Visiting each rating once visits each review once. A rating carries its own review. A review without a rating is
    carried by a rating of the same user or item; several such reviews are dealt out in turn. It is left out if there is
    no such rating.

    Args:
        documents: the reviews.
        user, item: of the training ratings, (n,) each.
        side: whether reviews describe their user or their item.
        vocabulary_size: number of words that are kept, the most frequent; ties are broken by name.

    Attributes:
        vocabulary: the words, most frequent first.
        frequency: number of occurrences of each, (words,).
        side: as given.
    """

    key: torch.Tensor
    entity: torch.Tensor
    frequency: torch.Tensor

    def __init__(self, documents: Documents, user: torch.Tensor, item: torch.Tensor, side: Side, vocabulary_size: int):
        super().__init__()
        self.side, self.n_items = side, documents.n_items
        times = torch.bincount(documents.words, minlength=len(documents.vocabulary)).tolist()
        order = sorted(range(len(times)), key=lambda word: (-times[word], documents.vocabulary[word]))[:vocabulary_size]
        self.vocabulary = [documents.vocabulary[word] for word in order]
        number = torch.full((len(times),), -1)
        number[order] = torch.arange(len(order))
        key = torch.unique(user * self.n_items + item)
        carrier = _carriers(documents, key, side)
        review = torch.repeat_interleave(torch.arange(len(documents)), documents.offsets.diff())
        row, word = carrier[review], number[documents.words]
        kept = (row >= 0) & (word >= 0)
        entry, count = torch.unique(row[kept] * len(order) + word[kept], return_counts=True)
        row, word = torch.div(entry, len(order), rounding_mode="floor"), entry % len(order)
        self.counts = SparseRows(row, word, count.float(), len(key))
        self.register_buffer("key", key, persistent=False)
        self.register_buffer("entity", _entity(key, side, self.n_items), persistent=False)
        self.register_buffer("frequency", torch.tensor([times[one] for one in order]), persistent=False)

    def of(self, user: torch.Tensor, item: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Words that training ratings (b,) carry.

        Returns:
            Index of the rating (m,), word (m,) and how often it occurs (m,).
        """
        row = torch.searchsorted(self.key, user * self.n_items + item)
        index, begin = self.counts.entries(row)
        end = torch.cat([begin[1:], begin.new_tensor([len(index)])])
        owner = torch.repeat_interleave(torch.arange(len(row), device=row.device), end - begin)
        return owner, self.counts.column[index], self.counts.value[index]

    def document(self, user: int, item: int) -> torch.Tensor:
        """Counts of the words (words,) that ratings of the item carry, or of the user, by ``side``; without those of
        the pair itself."""
        rows = torch.nonzero((self.entity == (user, item)[self.side]) & (self.key != user * self.n_items + item))
        index, _ = self.counts.entries(rows.flatten())
        total = torch.zeros(len(self.vocabulary), device=self.key.device)
        return total.index_add(0, self.counts.column[index], self.counts.value[index])


def _entity(key: torch.Tensor, side: Side, n_items: int) -> torch.Tensor:
    return torch.div(key, n_items, rounding_mode="floor") if side == Side.USER else key % n_items


def _carriers(documents: Documents, key: torch.Tensor, side: Side) -> torch.Tensor:
    """Position in ``key``, the sorted pairs with a rating, of the pair that carries each review; -1 for none."""
    if not len(documents):
        return documents.key
    own = torch.searchsorted(key, documents.key).clamp(max=len(key) - 1)
    carrier = torch.where(key[own] == documents.key, own, -1)
    entity = (documents.user, documents.item)[side]
    owner = _entity(key, side, documents.n_items)
    pairs = torch.argsort(owner, stable=True)  # the pairs of each entity together
    count = torch.bincount(owner, minlength=int(entity.max()) + 1)
    first = count.cumsum(0) - count
    unrated = torch.nonzero(carrier < 0).flatten()
    unrated = unrated[torch.argsort(entity[unrated], stable=True)]
    of_entity = entity[unrated]
    turn = torch.arange(len(unrated)) - torch.searchsorted(of_entity, of_entity)
    index = first[of_entity] + turn % count[of_entity].clamp(min=1)
    carrier[unrated] = torch.where(count[of_entity] > 0, pairs[index.clamp(max=len(pairs) - 1)], -1)
    return carrier
