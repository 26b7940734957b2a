"""A user's taste for what reviews say about items: a ridge regression on the residuals of a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from recbole_drex.model.drex.item_text import item_coordinates
from recbole_drex.model.drex.review_features import ReviewFeatures
from recbole_drex.model.layers.common import sums_of_blocks
from recbole_drex.model.layers.evidence_table import EvidenceTable
from recbole_drex.utils.array_cache import kept, latest, write_kept

_T = TypeVar("_T")
_BLOCK = 1 << 20  # numbers per block while the regressions of many users are solved


class TextTaste(nn.Module):
    r"""One ridge regression per user, from reviews of an item to the residual rating.

    Let :math:`y_t` be the coordinates of review t, and :math:`\lambda` their strengths, from
    :func:`~recbole_drex.model.drex.item_text.item_coordinates`. What users other than u say about item i is

    .. math::
        z_{ui} = \frac{\tilde z_{ui}}{\|\tilde z_{ui}\|}, \qquad
        \tilde z_{uik} = \frac{\lambda_k \sum_{t \in N(i),\, t \notin N(u)} y_{tk}}{1 + n_{ui} \lambda_k}

    with :math:`n_{ui}` the number of these reviews. With :math:`\epsilon_t = r_t - \hat r_t` the residual of u's rating
    t = (u, j), where :math:`\hat r_t` is the model's prediction without the message of t,

    .. math::
        \beta_u = \arg\min_\beta \textstyle\sum_{t = (u, j)} (\epsilon_t - \beta^\top z_{uj})^2
            + \tfrac{1}{w} \|\beta\|^2, \qquad g_{ui} = \beta_u^\top z_{ui}

    :math:`g_{ui}` is added to the score of pairs that are not evidence. The residuals of a user's other ratings contain
    the message of t, so a pair that is evidence is predicted without g, and training does not use g.

    The directions are fitted to the training reviews once, in closed form. :math:`\beta` is solved again whenever the
    model predicts with changed parameters.

    Args:
        table: the evidence; its rows are the reviews and ratings t.
        store: word features.
        sources: ``encoder``, ``words`` or both, see :func:`~recbole_drex.model.drex.review_features.ReviewFeatures`.
        size: maximum number of directions.
        weight: w, 0 or more; a larger w allows stronger tastes.
        seed: random seed of the decomposition of the words.
    """

    coordinates: torch.Tensor
    strength: torch.Tensor
    directions: torch.Tensor
    has_words: torch.Tensor
    sums: torch.Tensor
    described: torch.Tensor
    counts: torch.Tensor
    rated: torch.Tensor

    def __init__(self, table: EvidenceTable, store, sources: list[str], size: int, weight: float, seed: int):
        super().__init__()
        self.weight = weight
        review, item = table.review.numpy(), table.item.numpy()
        self._described = store, review, tuple(sources), seed
        self._inputs = {
            "features": store.signature, "dtype": store.dtype,
            "review": review, "sources": tuple(sources), "seed": seed,
        }  # fmt: skip

        def fitted() -> dict[str, np.ndarray]:
            result = item_coordinates(self.text.blocks, item, size)
            arrays = result._asdict()
            arrays["spoken"] = arrays.pop("has_words")[:, None].astype(np.float16)  # its name in files
            return arrays

        inputs = {**self._inputs, "item": item, "size": size}
        arrays = _shared("tastes", inputs, lambda: kept("tastes", inputs, fitted))
        self._fitted = inputs, arrays
        result = {name: torch.from_numpy(value) for name, value in arrays.items()}
        result["has_words"] = result.pop("spoken")
        buffers = {
            **result,
            "sums": self._sums(result["coordinates"], table),
            "counts": self._sums(result["has_words"], table),
            "rated": torch.nonzero(table.rated).flatten(),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("described", self.vectors(self.sums, self.counts), persistent=False)
        self.n_users = table.n_users

    @staticmethod
    def _sums(part: torch.Tensor, table: EvidenceTable) -> torch.Tensor:
        """Sums per item, (n_items, k), of the reviews' values (n, k)."""
        return sums_of_blocks(lambda index: part[index].float(), table.item, torch.zeros(table.n_items, part.shape[1]))

    def write_fitted(self, path: Path) -> None:
        """Write the directions and coordinates, so that a loaded model need not fit them again."""
        write_kept(path, "tastes", *self._fitted)

    @cached_property
    def text(self) -> ReviewFeatures:
        """The static features of the reviews, from which the coordinates are computed."""
        return _shared("features", self._inputs, lambda: ReviewFeatures(*self._described))

    def vectors(self, sums: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """z (..., k) from sums of coordinates (..., k) and the numbers of reviews (..., 1)."""
        return nn.functional.normalize(sums * self.strength / (1 + counts * self.strength), dim=-1)

    def items(self, item: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """z of items for users whose review of the item is the table's row ``row``, -1 for none: (..., k)."""
        vectors, known = self.described[item], row >= 0
        own, item = row[known], item[known]
        vectors[known] = self.vectors(self.sums[item] - self.coordinates[own], self.counts[item] - self.has_words[own])
        return vectors

    @torch.no_grad()
    def fit(self, table: EvidenceTable, residual: torch.Tensor) -> torch.Tensor:
        """beta of every user, (n_users, k); zero for users without ratings.

        Args:
            table: the evidence.
            residual: epsilon of every row of the table, (n,); those of unrated rows are not used.
        """
        weights = self.sums.new_zeros(self.n_users, len(self.strength))
        if not len(self.strength) or self.weight == 0:
            return weights
        rows = self.rated  # the table is sorted by user
        user, count = torch.unique_consecutive(table.user[rows], return_counts=True)
        first = count.cumsum(0) - count
        order = torch.argsort(count)
        user, count, first = user[order], count[order], first[order]
        start = 0
        while start < len(user):
            # Users with similar numbers of ratings form a block, padded to the largest number.
            most = 2 * int(count[start])
            alike = int((count[start:] <= most).sum())
            block = slice(start, start + max(1, min(alike, _BLOCK // (most * len(self.strength)))))
            longest = int(count[block].max())
            index = torch.arange(longest, device=rows.device)
            real = index < count[block, None]
            chosen = rows[(first[block, None] + index).clamp(max=len(rows) - 1)]
            weights[user[block]] = self.solve(self.items(table.item[chosen], chosen), real, residual[chosen])
            start = block.stop
        return weights

    def solve(self, vectors: torch.Tensor, usable: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """beta (n, k) of n users, or of one user in n scenarios.

        Args:
            vectors: z of their items, (n, m, k), or (m, k) if the same in all scenarios.
            usable: mask of the items that count, (n, m).
            residual: (n, m); ignored where ``usable`` is false.
        """
        if not len(self.strength) or self.weight == 0:
            return vectors.new_zeros(len(usable), len(self.strength))
        return _ridge(vectors, usable.to(vectors), torch.where(usable, residual, 0.0), self.weight)

    def solve_without_each(self, vectors: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        r"""beta (m, k) of one user without each of m ratings.

        With :math:`A = Z^\top Z + I / w`, leaving row t out gives
        :math:`\beta - A^{-1} z_t (\epsilon_t - \beta^\top z_t) / (1 - z_t^\top A^{-1} z_t)`.

        Args:
            vectors: z of the items, (m, k).
            residual: (m,), NaN for unrated items.
        """
        rated = ~torch.isnan(residual)
        beta = self.solve(vectors, rated[None], torch.nan_to_num(residual)[None])[0]
        if not len(self.strength) or self.weight == 0:
            return beta.expand(len(vectors), -1)
        z = (vectors * rated[:, None]).double()
        system = z.T @ z
        system.diagonal().add_(1 / self.weight)
        solved = torch.linalg.solve(system, z.T).T
        left = torch.nan_to_num(residual).double() - z @ beta.double()
        return (beta - solved * (left / (1 - (solved * z).sum(1)))[:, None]).to(vectors)


def _shared(name: str, inputs: dict[str, Any], make: Callable[[], _T]) -> _T:
    """As :func:`~recbole_drex.utils.array_cache.latest`; not cached if the word features have no signature."""
    return latest(name, inputs, make) if inputs["features"] else make()


def _ridge(x: torch.Tensor, mask: torch.Tensor, y: torch.Tensor, weight: float) -> torch.Tensor:
    """Ridge regressions of y (b, n) on the rows of x (b, n, k) or (n, k) where ``mask`` (b, n) is 1, with penalty
    1 / weight: (b, k). The smaller of the two equivalent systems is solved."""
    n, k = x.shape[-2:]
    # If x is shared, so is the product of its rows.
    smaller = (x @ x.mT) * (mask[:, :, None] * mask[:, None, :]) if n < k else (x * mask[..., None]).mT @ x
    smaller.diagonal(dim1=-2, dim2=-1).add_(1 / weight)
    result = torch.linalg.solve(smaller, y[..., None] if n < k else x.mT @ y[..., None])
    return (x.mT @ (result * mask[..., None]) if n < k else result).squeeze(-1)
