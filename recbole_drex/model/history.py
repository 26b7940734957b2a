"""Target-aware attention: the target item looks through what else the user has interacted with."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from recbole_drex.model.evidence import EvidenceTable
from recbole_drex.model.layers import blocks_of

_NUMBERS = 1 << 20  # of keys, or of scores, that are in memory at a time


class HistoryAttention(nn.Module):
    r"""For target (u, i): :math:`z = W_v \sum_t \beta_t e_t` over u's other interactions t = (u, j), with
    :math:`\beta = \mathrm{softmax}_t\left((W_q h_i)^\top k_t / \sqrt d\right)`.

    Keys :math:`k_t` (the state of item j without the message of t) and values :math:`e_t` (messages) are those of the
    last refresh, in 16 bits: they take no gradient, so a step costs no more than the histories of its batch. In
    training a sample of at most ``max_history`` interactions is looked through, afterwards all of them. The target is
    always masked.

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

    def remember(self, n: int, of_rows: Callable[[slice], tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Set the keys and values of all n rows, which are looked through until the next call.

        Args:
            of_rows: gives the keys (m, d) and values (m, d) of some rows.
        """
        self.keys, self.messages = self.query.weight.new_empty(2, n, self.query.in_features, dtype=torch.float16)
        for place in blocks_of(n):
            self.keys[place], self.messages[place] = of_rows(place)

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
        usable = (place < count) & (rows != own_row[:, None])
        query = self.query(item_state) * self.scale
        return self.value(_Attention.apply(query, self.keys, self.messages, rows, usable))

    def full(
        self,
        table: EvidenceTable,
        user: int,
        item_state: torch.Tensor,
        own_row: torch.Tensor | None,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """z of several targets of one user, over the whole history, or its product with a matrix: (n, d).

        Args:
            table: who interacted with what.
            user: internal id.
            item_state: h_i of the targets without their own messages, (n, d).
            own_row: the targets' rows of the table, -1 for none, (n,); None where no target has any.
            weight: the matrix W of W z, (d, d).
        """
        rows = table.rows_of(user)
        # All but the softmax is linear, so the history is projected, which is shorter than the catalogue.
        keys = self.keys[rows].to(item_state)
        queries, bias = (keys @ self.query.weight).T * self.scale, keys @ self.query.bias * self.scale
        values = self.messages[rows].to(item_state) @ self.value.weight.T
        added: torch.Tensor = self.value.bias
        if weight is not None:
            values, added = values @ weight.T, weight @ added
        seen = torch.empty_like(item_state)
        for part in blocks_of(len(item_state), max(1, _NUMBERS // max(1, len(rows)))):
            scores = item_state[part] @ queries + bias
            if own_row is None:
                weights = scores.softmax(-1)
            else:
                # A user's rows follow each other, so a target's own is a place among them, one number of its scores.
                target = torch.nonzero(own_row[part] >= 0).flatten()
                scores[target, own_row[part][target] - rows[:1]] = -torch.inf
                weights = scores.softmax(-1)
                if len(rows) == 1:
                    weights[target] = 0.0
            torch.addmm(added, weights, values, out=seen[part])
        return seen


class _Attention(torch.autograd.Function):
    """Softmax attention of queries (n, t, d) over sampled rows (n, w) of keys and messages (rows, d): (n, t, d).

    Keys and messages are gathered some targets at a time, and again for the gradient, so that those of a whole batch,
    n w d numbers, are never in memory.
    """

    @staticmethod
    def forward(ctx, query, keys, messages, rows, usable):
        seen = torch.empty_like(query)
        weights = query.new_empty(*query.shape[:2], rows.shape[1])
        for part in _Attention.parts(query, rows):
            scores = query[part] @ keys[rows[part]].to(query).mT
            mask = usable[part, None]
            weights[part] = scores.masked_fill_(~mask, -1e9).softmax(-1) * mask
            seen[part] = weights[part] @ messages[rows[part]].to(query)
        ctx.save_for_backward(query, keys, messages, rows, weights)
        return seen

    @staticmethod
    def backward(ctx, gradient):
        query, keys, messages, rows, weights = ctx.saved_tensors
        result = torch.empty_like(query)
        for part in _Attention.parts(query, rows):
            of_weights = gradient[part] @ messages[rows[part]].to(query).mT
            of_weights -= (of_weights * weights[part]).sum(-1, keepdim=True)
            result[part] = (of_weights * weights[part]) @ keys[rows[part]].to(query)
        return result, None, None, None, None

    @staticmethod
    def parts(query, rows):
        return blocks_of(len(rows), max(1, _NUMBERS // (rows.shape[1] * query.shape[2])))
