"""The training ratings of users and items as sparse rows, with single ratings left out."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from recbole_drex.model.layers.common import Side
from recbole_drex.model.layers.rating_tower import SparseRows


class RatingRows(nn.Module):
    """Rows of the matrix of training ratings (users), and of its transpose (items); 0 where there is no rating.

    Ratings are numbered by (user, item); several ratings of one pair are averaged.

    Args:
        user, item: of the ratings, (n,) each.
        value: (n,).
        n_users, n_items: numbers of users and items, padding included.
    """

    key: torch.Tensor
    value: torch.Tensor
    position: torch.Tensor

    def __init__(self, user: torch.Tensor, item: torch.Tensor, value: torch.Tensor, n_users: int, n_items: int):
        super().__init__()
        self.n_items, self.counts = n_items, (n_users, n_items)
        key, index, times = torch.unique(user * n_items + item, return_inverse=True, return_counts=True)
        value = torch.zeros(len(key), dtype=value.dtype).index_add_(0, index, value) / times
        user, item = torch.div(key, n_items, rounding_mode="floor"), key % n_items
        self.sides = nn.ModuleList([SparseRows(user, item, value, n_users), SparseRows(item, user, value, n_items)])
        # Entries of users' rows are in the order of the keys; `position` holds the entry of each rating in items' rows.
        order = torch.argsort(item, stable=True)
        position = torch.empty_like(order)
        position[order] = torch.arange(len(order))
        for name, tensor in (("key", key), ("value", value), ("position", position)):
            self.register_buffer(name, tensor, persistent=False)

    def __len__(self) -> int:
        return len(self.key)

    def find(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Number of each pair's rating, -1 without one; shapes broadcast."""
        key = user * self.n_items + item
        index = torch.searchsorted(self.key, key).clamp(max=len(self) - 1)
        return torch.where(self.key[index] == key, index, -1)

    def times(
        self, side: Side, entity: torch.Tensor, weight: torch.Tensor, hidden: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Products of rows with a weight.

        Args:
            side: users or items.
            entity: whose rows, (b,).
            weight: of shape (items, d) for users, (users, d) for items.
            hidden: ratings that are left out of all rows, by number, (k,); None for none.

        Returns:
            The products (b, d), and the numbers of ratings that are left in each row (b,).
        """
        rows = cast(SparseRows, self.sides[side])
        index, begin = rows.entries(entity)
        there = torch.ones_like(rows.value)
        if hidden is not None:
            there[hidden if side == Side.USER else self.position[hidden]] = 0.0
        there = there[index].to(weight)
        product = nn.functional.embedding_bag(
            rows.column[index], weight, begin, mode="sum", per_sample_weights=rows.value[index] * there
        )
        count = rows.first[entity + 1] - rows.first[entity]
        owner = torch.repeat_interleave(torch.arange(len(entity), device=entity.device), count)
        return product, torch.zeros(len(entity), device=entity.device).to(weight).index_add_(0, owner, there)

    def term(self, side: Side, number: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """What ratings (b,), by number, add to the products of their rows with ``weight``: (b, d); 0 for -1."""
        counterpart = self.key[number] % self.n_items if side == Side.USER else self.key[number] // self.n_items
        value = torch.where(number >= 0, self.value[number], 0.0).to(weight)
        return value[:, None] * weight[counterpart]
