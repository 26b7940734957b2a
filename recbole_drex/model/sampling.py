"""Reads a few reviews anew at each step, so that the attention over words learns at a cost linear in the data.

Between refreshes every pooled review is remembered. The sum over a user's other reviews is then known but for the drift
of the attention since, and carries no gradient to it. K of the n other reviews, drawn uniformly and read anew, give
``n / K * sum(fresh - remembered)``: an unbiased estimate of the drift, whose gradient is one of the gradient
(the control variate of Chen, Zhu and Song 2018, "Stochastic training of graph convolutional networks").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from recbole_drex.model.attention import WordAttention
from recbole_drex.model.evidence import EvidenceTable


class ReviewSampler(nn.Module):
    """Draws other reviews of a target's user or item.

    Args:
        table: the evidence.
        samples: K, reviews drawn per target and side.
    """

    reviewed: torch.Tensor

    def __init__(self, table: EvidenceTable, samples: int):
        super().__init__()
        self.samples = samples
        reviewed = torch.nonzero(table.review >= 0).flatten()
        self.register_buffer("reviewed", reviewed, persistent=False)
        for side, (group, size) in enumerate(((table.user, table.n_users), (table.item, table.n_items))):
            members = reviewed[torch.argsort(group[reviewed], stable=True)]
            count = torch.bincount(group[members], minlength=size)
            first = torch.cumsum(count, 0) - count
            place = torch.full((len(table),), -1)
            place[members] = torch.arange(len(members)) - first[group[members]]
            parts = {"group": group, "members": members, "count": count, "first": first, "place": place}
            for name, value in parts.items():
                self.register_buffer(f"{name}{side}", value, persistent=False)

    def draw(self, row: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Other reviewed rows of the targets' users (side 0) or items (side 1).

        Args:
            row: the targets' rows of the table, (n,), all in the table.

        Returns:
            Rows (n, K), -1 where there is no other review; and n_other / K, (n, 1).
        """
        group, members, count, first, place = (
            getattr(self, f"{name}{side}") for name in ("group", "members", "count", "first", "place")
        )
        owner, own = group[row], place[row]  # own: place of the target's review among its owner's, -1 without one
        others = (count[owner] - (own >= 0).long())[:, None]
        drawn = (torch.rand((len(row), self.samples), device=row.device) * others).long()
        drawn = drawn + ((own >= 0)[:, None] & (drawn >= own[:, None])).long()  # step over the target
        chosen = members[(first[owner][:, None] + drawn).clamp(max=len(members) - 1)]
        return torch.where(others > 0, chosen, -1), others.float() / self.samples

    def corrections(self, table: EvidenceTable, attention: WordAttention, row: torch.Tensor) -> Sequence[torch.Tensor]:
        """Per side, what to add to the leave-one-out sums of the targets at ``row``: (n, width of the table)."""
        columns = table.review_columns
        if not len(self.reviewed):
            return [torch.zeros(1, table.rows.shape[1], device=row.device)] * 2
        samples = [self.draw(row, side) for side in (0, 1)]
        chosen = torch.cat([rows.flatten() for rows, _ in samples])
        real = chosen >= 0
        unique, inverse = torch.unique(chosen[real], return_inverse=True)
        drift = attention(table.review[unique]) - table.rows[unique][:, columns]
        drift = torch.zeros(len(chosen), attention.width, device=row.device).index_put(
            (torch.nonzero(real).flatten(),), drift[inverse]
        )
        result = []
        for part, (_, scale) in zip(drift.chunk(2), samples, strict=True):
            summed = part.view(len(row), self.samples, -1).sum(1) * scale
            padding = (columns.start, table.rows.shape[1] - columns.stop)
            result.append(nn.functional.pad(summed, padding))
        return result

    def freshened(self, table: EvidenceTable, attention: WordAttention, n: int) -> torch.Tensor:
        """Rows of the table with up to ``n * K`` randomly drawn reviews read anew, for the sequential rule."""
        if not len(self.reviewed):
            return table.rows
        drawn = torch.randint(len(self.reviewed), (n * self.samples,), device=self.reviewed.device)
        chosen = torch.unique(self.reviewed[drawn])
        columns = torch.arange(table.rows.shape[1], device=chosen.device)[table.review_columns]
        return table.rows.index_put((chosen[:, None], columns[None, :]), attention(table.review[chosen]))
