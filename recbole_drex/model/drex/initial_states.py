"""States before any message: zero, learned at random, or made from the ratings alone (DReX-MLP)."""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex.model.layers.evidence_table import EvidenceTable
from recbole_drex.model.layers.rating_tower import SparseRows


class StartState(nn.Module):
    r"""Start states of one side.

    * ``zero``: zeros.
    * ``random``: one learned vector per user or item (DReX).
    * ``mlp``: :math:`p_u = \mathrm{ReLU}(r_u W_1 + b_1) W_2 + b_2` from the training ratings :math:`r_u` over items,
      divided by the highest (DReX-MLP, section 4; one hidden layer of width d). The target's own rating is left
      out of the vector.

    Args:
        kind: ``zero``, ``random`` or ``mlp``.
        table: the evidence; only its ratings are used.
        n_own: number of users (or items), padding included.
        n_other: number of the other side.
        size: d.
        of_user: whether this is the users' side.
    """

    row_other: torch.Tensor
    row_value: torch.Tensor
    _device: torch.Tensor

    def __init__(self, kind: str, table: EvidenceTable, n_own: int, n_other: int, size: int, *, of_user: bool):
        super().__init__()
        self.kind, self.size = kind, size
        self.register_buffer("_device", torch.empty(0), persistent=False)
        if kind == "random":
            self.embedding = nn.Embedding(n_own, size)
            nn.init.normal_(self.embedding.weight, std=0.1)
        if kind == "mlp":
            own, other = (table.user, table.item) if of_user else (table.item, table.user)
            rated = torch.nonzero(table.rated).flatten()
            value = table.relative_rating
            self.register_buffer("row_other", other, persistent=False)
            self.register_buffer("row_value", value, persistent=False)
            self.matrix = SparseRows(own[rated], other[rated], value[rated], n_own)
            self.into_hidden = nn.Embedding(n_other, size)
            count = self.matrix.first.diff().float()
            nn.init.normal_(self.into_hidden.weight, std=1.0 / max(1.0, float(count.mean())) ** 0.5)
            self.hidden_bias = nn.Parameter(torch.zeros(size))
            self.from_hidden = nn.Linear(size, size)

    def forward(self, entity: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Start states (n, d) of ``entity`` (n,), without the rating at evidence row ``row`` (n,), -1 for none."""
        if self.kind == "zero":
            return torch.zeros(len(entity), self.size, device=self._device.device)
        if self.kind == "random":
            return self.embedding(entity)
        own = row.clamp(min=0)
        other, value = self.row_other[own], self.row_value[own] * (row >= 0)
        unique, inverse = torch.unique(entity, return_inverse=True)
        hidden = self.matrix.times(unique, self.into_hidden.weight)[inverse]
        hidden = hidden - value[:, None] * self.into_hidden(other)
        return self._from_hidden(hidden)

    def _from_hidden(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.from_hidden(torch.relu(hidden + self.hidden_bias))

    def of_unknown(self) -> torch.Tensor:
        """The start state of a user or item without ratings, (d,); for ``random`` the mean of the learned ones."""
        if self.kind == "zero":
            return torch.zeros(self.size, device=self._device.device)
        if self.kind == "random":
            return self.embedding.weight[1:].mean(0)
        return self._from_hidden(self.hidden_bias.new_zeros(self.size))

    def several(
        self, entity: int, n: int, scenario: torch.Tensor, other: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """n start states (n, d) of one user or item with changed ratings.

        Args:
            entity: internal id; 0 for a user or item without ratings, see :meth:`of_unknown`.
            n: number of states.
            scenario: index of the state that each of p changes belongs to, (p,).
            other: the item (or user) whose rating is changed, (p,).
            value: the change of the rating, divided by the highest rating, (p,).
        """
        if self.kind == "zero":
            return torch.zeros(n, self.size, device=self._device.device)
        if self.kind == "random":
            return (self.embedding.weight[entity] if entity else self.of_unknown()).expand(n, -1)
        hidden = self.matrix.times(torch.tensor([entity], device=other.device), self.into_hidden.weight)
        hidden = hidden.repeat(n, 1).index_add(0, scenario, value[:, None] * self.into_hidden(other))
        return self._from_hidden(hidden)
