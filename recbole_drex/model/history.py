"""Target-aware attention: the target item looks through what else the user has interacted with."""

from __future__ import annotations

import math

import torch
from torch import nn

from recbole_drex.model.evidence import EvidenceTable


class HistoryAttention(nn.Module):
    r"""For target (u, i): :math:`z = W_v \sum_t \beta_t e_t` over u's other interactions t = (u, j), with
    :math:`\beta = \mathrm{softmax}_t\left((W_q h_i)^\top k_t / \sqrt d\right)`.

    Keys :math:`k_t` (the state of item j without the message of t) and values :math:`e_t` (messages) are those of the
    last refresh: they take no gradient, so a step costs no more than the histories of its batch. In training a sample
    of at most ``max_history`` interactions is looked through, afterwards all of them. The target is always masked.

    Args:
        size: d.
        max_history: size of the sample in training.
    """

    def __init__(self, size: int, max_history: int):
        super().__init__()
        self.max_history, self.scale = max_history, 1.0 / math.sqrt(size)
        self.query = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.keys: torch.Tensor
        self.messages: torch.Tensor

    def remember(self, keys: torch.Tensor, messages: torch.Tensor) -> None:
        """Set the key (n, d) and value (n, d) of every row, which are looked through until the next call."""
        self.keys, self.messages = keys.detach(), messages.detach()

    def sampled(
        self, table: EvidenceTable, user: torch.Tensor, item_state: torch.Tensor, own_row: torch.Tensor
    ) -> torch.Tensor:
        """z of candidates for each user, over one sample of the user's history: (n, t, d).

        Args:
            table: who interacted with what.
            user: (n,).
            item_state: h_i of t items per user, the target's without its message, (n, t, d).
            own_row: the target's row of the table, -1 if it has none, (n,); it is hidden from all t.
        """
        count = table.user_count[user][:, None]
        width = max(1, min(self.max_history, int(count.max())))
        place = torch.arange(width, device=user.device)[None, :].expand(len(user), -1)
        drawn = (torch.rand(len(user), width, device=user.device) * count).long()
        place = torch.where(count > width, drawn, place)
        rows = (table.user_first[user][:, None] + place).clamp(max=len(table) - 1)
        usable = ((place < count) & (rows != own_row[:, None]))[:, None]
        scores = self.query(item_state) @ self.keys[rows].mT * self.scale
        weights = scores.masked_fill(~usable, -1e9).softmax(-1) * usable
        return self.value(weights @ self.messages[rows])

    def full(
        self, table: EvidenceTable, user: int, item_state: torch.Tensor, own_row: torch.Tensor | None
    ) -> torch.Tensor:
        """z of several targets of one user, over the whole history: (n, d).

        Args:
            table: who interacted with what.
            user: internal id.
            item_state: h_i of the targets without their own messages, (n, d).
            own_row: the targets' rows of the table, -1 for none, (n,); None where no target has any.
        """
        rows = table.rows_of(user)
        # Queries and values are linear, so the history is projected, which is shorter than the catalogue.
        keys = self.keys[rows]
        scores = (item_state @ (keys @ self.query.weight).T + keys @ self.query.bias) * self.scale
        if own_row is None:
            weights = scores.softmax(-1)
        else:
            usable = rows[None, :] != own_row[:, None]
            weights = scores.masked_fill(~usable, -1e9).softmax(-1) * usable
        return weights @ (self.messages[rows] @ self.value.weight.T) + self.value.bias
