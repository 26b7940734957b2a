"""Towers: MLPs over the sparse rating vectors of users and items."""

from __future__ import annotations

import itertools

import torch
from torch import nn


class SparseRows(nn.Module):
    """Rows of a sparse matrix, multiplied by a dense weight without densifying them.

    Args:
        row, column, value: the entries, each of shape ``(n,)``.
        n_rows: number of rows; a row without entries is zero.
    """

    column: torch.Tensor
    value: torch.Tensor
    first: torch.Tensor

    def __init__(self, row: torch.Tensor, column: torch.Tensor, value: torch.Tensor, n_rows: int):
        super().__init__()
        order = torch.argsort(row, stable=True)
        first = torch.nn.functional.pad(torch.cumsum(torch.bincount(row, minlength=n_rows), 0), (1, 0))
        for name, tensor in (("column", column[order]), ("value", value[order]), ("first", first)):
            self.register_buffer(name, tensor, persistent=False)

    def entries(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of the entries of ``rows``, ``(entries,)``, and position of each row's first, ``(b,)``."""
        count = self.first[rows + 1] - self.first[rows]
        begin = torch.cumsum(count, 0) - count
        shift = torch.repeat_interleave(self.first[rows] - begin, count)
        return shift + torch.arange(len(shift), device=rows.device), begin

    def times(self, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Product of these rows with ``weight`` of shape ``(n_columns, d)``: shape ``(b, d)``."""
        index, begin = self.entries(rows)
        return nn.functional.embedding_bag(
            self.column[index], weight, begin, mode="sum", per_sample_weights=self.value[index]
        )


class Tower(nn.Module):
    r"""MLP over sparse rows x: :math:`l_1 = W_1 x, \; l_n = \mathrm{ReLU}(W_n l_{n-1} + b_n)`, output of unit length.

    The first layer has neither bias nor ReLU, so :math:`W_2 W_1` is computed first and rows are summed at the width of
    the second layer. An entry that is left out of a row is subtracted there.

    Args:
        matrix: the rows.
        n_columns: their width.
        widths: of the layers, two or more.
    """

    def __init__(self, matrix: SparseRows, n_columns: int, widths: list[int]):
        super().__init__()
        self.matrix = matrix
        self.first = nn.Linear(n_columns, widths[0], bias=False)
        self.second, *others = (nn.Linear(*sizes) for sizes in itertools.pairwise(widths))
        self.others = nn.ModuleList(others)
        for layer in (self.first, self.second, *others):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(
        self, entity: torch.Tensor, left_out: torch.Tensor | None = None, value: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Outputs of unit length, shape ``(b, d)``.

        Args:
            entity: rows of the matrix, ``(b,)``.
            left_out: the column that is left out of each row, ``(b,)``.
            value: the value in that column, ``(b,)``; 0 leaves out nothing.
        """
        weight = self.first.weight.T @ self.second.weight.T
        unique, inverse = torch.unique(entity, return_inverse=True)
        hidden = self.matrix.times(unique, weight)[inverse]
        if left_out is not None and value is not None:
            hidden = hidden - value[:, None] * weight[left_out]
        hidden = torch.relu(hidden + self.second.bias)
        for layer in self.others:
            hidden = torch.relu(layer(hidden))
        return nn.functional.normalize(hidden, dim=-1, eps=1e-12)
