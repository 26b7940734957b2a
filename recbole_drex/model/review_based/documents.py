"""The reviews of users and items as word ids: the input of models that read documents (DeepCoNN, NARRE)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from recbole_drex.data.dataset import Evidence
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.model.layers.common import Side
from recbole_drex.model.layers.review_check import with_words


class Documents(nn.Module):
    """The reviews of each user and item, from evidence only; reviews without words are left out.

    Reviews are numbered 0 to n - 1 by (user, item); of several reviews of one pair the latest is kept. The document of
    a user or item is the set of its ``max_reviews`` latest reviews (ties: the last in the data).

    Args:
        evidence: training rows and unrated rows.
        store: the words of the reviews.
        n_users, n_items: numbers of users and items, padding included.
        max_reviews: number of reviews of a user or an item that are read.
        review_words: number of words of a review that are read; longer reviews are truncated.

    Attributes:
        user, item: of each review, int64 (n,).
        row: its row of the feature store, (n,).
        vocabulary: the distinct words that are read, in the order of the store's vocabulary.
        words: words of all reviews, concatenated, as positions in ``vocabulary``, (words,).
        offsets: words of review r are ``offsets[r]`` to ``offsets[r + 1]`` of ``words``, (n + 1,).
    """

    user: torch.Tensor
    item: torch.Tensor
    row: torch.Tensor
    key: torch.Tensor
    words: torch.Tensor
    offsets: torch.Tensor

    def __init__(
        self, evidence: Evidence, store: FeatureStore, n_users: int, n_items: int, max_reviews: int, review_words: int
    ):
        super().__init__()
        self.n_items = n_items
        offsets = torch.from_numpy(np.asarray(store.offsets, dtype=np.int64))
        keep = torch.nonzero(with_words(evidence.review_row, offsets)).flatten()
        keep = keep[torch.argsort(evidence.timestamp[keep], stable=True)]
        key = evidence.user[keep] * n_items + evidence.item[keep]
        order = torch.argsort(key, stable=True)
        keep, key = keep[order], key[order]
        latest = torch.ones(len(keep), dtype=torch.bool)
        latest[:-1] = key[1:] != key[:-1]
        keep, key = keep[latest], key[latest]
        row = evidence.review_row[keep]
        length = (offsets[row + 1] - offsets[row]).clamp(max=review_words)
        index = torch.repeat_interleave(offsets[row], length) + _within(length)
        used, words = np.unique(np.asarray(store.word_ids)[index.numpy()], return_inverse=True)
        self.vocabulary = [store.vocabulary[word] for word in used.tolist()]
        buffers = {
            "user": evidence.user[keep],
            "item": evidence.item[keep],
            "row": row,
            "key": key,
            "words": torch.from_numpy(words.astype(np.int64)),
            "offsets": torch.cat([torch.zeros(1, dtype=torch.int64), length.cumsum(0)]),
        }
        # Latest first; ties and missing times by the order of the data.
        newest = torch.argsort(keep, descending=True)
        newest = newest[torch.argsort(evidence.timestamp[keep][newest], stable=True, descending=True)]
        for side, owner, size in ((Side.USER, buffers["user"], n_users), (Side.ITEM, buffers["item"], n_items)):
            members = newest[torch.argsort(owner[newest], stable=True)]
            members = members[_within(torch.bincount(owner, minlength=size)) < max_reviews]
            count = torch.bincount(owner[members], minlength=size)
            parts = {"members": members, "count": count, "first": count.cumsum(0) - count}
            buffers |= {f"{name}{side:d}": value for name, value in parts.items()}
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def __len__(self) -> int:
        """Number of reviews."""
        return len(self.user)

    def find(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Review that each user wrote about an item, -1 without one; shapes broadcast."""
        key = user * self.n_items + item
        if not len(self):
            return torch.full_like(key, -1)
        index = torch.searchsorted(self.key, key).clamp(max=len(self) - 1)
        return torch.where(self.key[index] == key, index, -1)

    def of(self, side: Side, entity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Reviews of several users or items, concatenated.

        Args:
            side: users or items.
            entity: internal ids, (b,).

        Returns:
            Reviews (m,), and the index in ``entity`` that each belongs to, (m,), ascending.
        """
        members, first, count = (getattr(self, f"{name}{side:d}") for name in ("members", "first", "count"))
        counts = count[entity]
        owner = torch.repeat_interleave(torch.arange(len(entity), device=entity.device), counts)
        return members[first[entity][owner] + _within(counts)], owner

    def read_for(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """The distinct reviews in the documents of these users (b,) and items (c,), ascending."""
        needed = torch.zeros(len(self), dtype=torch.bool, device=self.key.device)
        for side, entity in zip(Side, (user, item), strict=True):
            needed[self.of(side, torch.unique(entity))[0]] = True
        return torch.nonzero(needed).flatten()


def _within(counts: torch.Tensor) -> torch.Tensor:
    """``0, ..., counts[0] - 1, 0, ..., counts[1] - 1, ...``."""
    ends = counts.cumsum(0)
    return torch.arange(int(counts.sum()), device=counts.device) - torch.repeat_interleave(ends - counts, counts)
