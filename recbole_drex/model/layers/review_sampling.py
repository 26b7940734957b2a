"""Reads a few reviews again at each step, so that the attention over words learns at a cost linear in the data.

Between refreshes every pooled review is cached. The cached sum over a user's n other reviews lacks the drift of the
attention since the last refresh, and carries no gradient. We draw one of these reviews uniformly and read it again:
``n * (fresh - cached)`` is an unbiased estimate of the drift, and its gradient an unbiased estimate of the gradient
(the control variate of Chen, Zhu and Song 2018, "Stochastic training of graph convolutional networks"). This is done
for some targets of a step; their gradient is scaled up to all targets.
"""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex.model.layers.common import Side
from recbole_drex.model.layers.evidence_table import EvidenceTable
from recbole_drex.model.layers.word_attention import WordAttention
from recbole_drex.parallel import collectives


class ReviewSampler(nn.Module):
    """Draws other reviews of a target's user or item.

    Args:
        table: the evidence.
        samples: number of targets per step for which one review per side is read again.
    """

    reviewed: torch.Tensor

    def __init__(self, table: EvidenceTable, samples: int):
        super().__init__()
        self.samples = samples
        reviewed = torch.nonzero(table.review >= 0).flatten()
        self.register_buffer("reviewed", reviewed, persistent=False)
        for side, group, size in ((Side.USER, table.user, table.n_users), (Side.ITEM, table.item, table.n_items)):
            members = reviewed[torch.argsort(group[reviewed], stable=True)]
            count = torch.bincount(group[members], minlength=size)
            first = torch.cumsum(count, 0) - count
            index = torch.full((len(table),), -1)
            index[members] = torch.arange(len(members)) - first[group[members]]
            parts = {"group": group, "members": members, "count": count, "first": first, "index": index}
            for name, value in parts.items():
                self.register_buffer(f"{name}{side:d}", value, persistent=False)

    def draw(self, row: torch.Tensor, side: Side) -> tuple[torch.Tensor, torch.Tensor]:
        """Another reviewed row of each target's user or item.

        Args:
            row: the targets' rows of the table, (n,), all in the table.

        Returns:
            Rows (n,), -1 where there is no other review; and the number of other reviews (n,).
        """
        group, members, count, first, index = (
            getattr(self, f"{name}{side:d}") for name in ("group", "members", "count", "first", "index")
        )
        owner, own = group[row], index[row]  # own: index of the target's review among its owner's, -1 for none
        others = count[owner] - (own >= 0).long()
        drawn = (torch.rand(len(row), device=row.device) * others).long()
        drawn = drawn + ((own >= 0) & (drawn >= own)).long()  # skip the target
        chosen = members[(first[owner] + drawn).clamp(max=len(members) - 1)]
        return torch.where(others > 0, chosen, -1), others

    def corrections(self, table: EvidenceTable, attention: WordAttention, row: torch.Tensor) -> list[torch.Tensor]:
        """Per side, what to add to the leave-one-out sums of the targets at ``row``: (n, width of the table)."""
        if not len(self.reviewed):
            return [torch.zeros(1, table.width, device=row.device)] * 2
        known = torch.nonzero(row >= 0).flatten()  # a target that sends no message is not in the table
        # Each process reads reviews for its share of the rows.
        samples = -(-self.samples // collectives.world_size())
        picked = known[torch.randperm(len(known), device=row.device)[:samples]]
        draws = [self.draw(row[picked], side) for side in Side]
        chosen = torch.cat([rows for rows, _ in draws])
        real = torch.nonzero(chosen >= 0).flatten()
        unique, inverse = torch.unique(chosen[real], return_inverse=True)
        drift = attention(table.review[unique]) - table.pooled[unique]
        # The value is exact for the picked targets; the gradient is scaled up to all targets of the step.
        drift = drift.detach() + (drift - drift.detach()) * (len(known) / max(1, len(picked)))
        drift = torch.zeros(len(chosen), attention.width, device=row.device).index_put((real,), drift[inverse])
        padding = (table.review_columns.start, table.width - table.review_columns.stop)
        result = []
        for part, (_, others) in zip(drift.chunk(2), draws, strict=True):
            padded = nn.functional.pad(part * others[:, None], padding)
            result.append(torch.zeros(len(row), padded.shape[1], device=row.device).index_put((picked,), padded))
        return result

    def refreshed(self, table: EvidenceTable, attention: WordAttention, rows: torch.Tensor) -> torch.Tensor:
        """All ``rows`` of the table with some randomly drawn reviews read again, for the sequential rule."""
        if not len(self.reviewed):
            return rows
        drawn = torch.randint(len(self.reviewed), (self.samples,), device=self.reviewed.device)
        chosen = torch.unique(self.reviewed[drawn])
        columns = torch.arange(table.width, device=chosen.device)[table.review_columns]
        return rows.index_put((chosen[:, None], columns[None, :]), attention(table.review[chosen]))
