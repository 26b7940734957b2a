"""Evidence about new items, predicted from their content: text, images or other vectors of items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from recbole_drex.config.recbole_settings import COLD_ITEMS
from recbole_drex.data.dataset import ITEM_REVIEWS, ReviewDataset
from recbole_drex.errors import ConfigError
from recbole_drex.model.layers.common import Side
from recbole_drex.model.layers.evidence_table import EvidenceTable, RatingColumns

_PENALTIES = np.logspace(-3, 3, 13)  # times the mean squared singular value of the content
_PSEUDO_COUNT = 5.0  # of the mean deviations by which the penalty is chosen


def content_names(config, dataset: ReviewDataset) -> list[str] | None:
    """The item modalities that describe new items; None if items without evidence stay without.

    Raises:
        ConfigError: ``reviews`` is named, or content together with ``refinement: sequential``.
    """
    names, cold = config["item_content"], COLD_ITEMS in config["eval_args"]["split"]
    sequential = config["refinement"] == "sequential"
    if names == "auto":
        there: list[str] = [name for name in ("text", "image") if name in dataset.item_modalities]
        return there if cold and not sequential else None
    if ITEM_REVIEWS in names:
        raise ConfigError(f"item_content: a new item has no {ITEM_REVIEWS}; name another item modality, such as text")
    if names and sequential:
        raise ConfigError("item_content needs refinement: leave_one_out; leave it out for refinement: sequential")
    return names if names or (cold and not sequential) else None


class ItemContent(nn.Module):
    r"""Predicts values of items without evidence by a ridge regression on the content of the items with evidence.

    With x the content of an item (each modality centred and scaled to mean length 1; a missing vector is 0), X that of
    the n items with evidence, and :math:`\bar v` the mean of their values v,

    .. math:: \hat v(x) = \bar v + x^\top (X^\top X + \rho I)^{-1} X^\top V

    :math:`\rho` minimises the squared leave-one-out error of the items' mean deviations in the training part (a
    closed form; Allen's PRESS statistic). If no :math:`\rho` is better than the mean, or there is no content, all
    predictions are :math:`\bar v`.

    Args:
        dataset: the training part.
        names: item modalities.
        table: the evidence; items with rows there have evidence.

    Attributes:
        new, known: items without and with evidence, (m,) and (n,).
        penalty: the chosen :math:`\rho`, infinity for the mean.
        n_rows: number of interactions that a new item counts as having: the median of the known items.
    """

    new: torch.Tensor
    known: torch.Tensor
    count: torch.Tensor
    content: torch.Tensor
    solver: torch.Tensor

    def __init__(self, dataset: ReviewDataset, names: Sequence[str], table: EvidenceTable):
        super().__init__()
        count = torch.bincount(table.item, minlength=table.n_items)
        there = count > 0
        known, new = torch.nonzero(there).flatten(), torch.nonzero(~there).flatten()[1:]  # the first is the padding
        self.n_rows = int(count[known].median())
        x = np.concatenate([np.zeros((table.n_items, 0)), *(_scaled(dataset.item_vectors(n), known) for n in names)], 1)
        ratings = RatingColumns.of(table.named(table.item_sums[known]).ratings.joined())
        deviation = ratings.adjusted[Side.ITEM] / (ratings.rated + _PSEUDO_COUNT)
        self.penalty, solver = _ridge(x[known.numpy()], deviation.flatten().double().numpy())
        buffers = {"new": new, "known": known, "count": count[known][:, None].float()}
        buffers |= {"content": torch.from_numpy(x[new.numpy()]).float(), "solver": torch.from_numpy(solver).float()}
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def predicted(self, values: torch.Tensor) -> torch.Tensor:
        """Values of the new items (m, k) from those of the known items (n, k)."""
        return values.mean(0) + self.content @ (self.solver @ values)

    def fill(self, sums: torch.Tensor) -> None:
        """Write the predicted sums of rows of the new items into ``sums`` (n_items, width)."""
        sums[self.new] = self.n_rows * self.predicted(sums[self.known] / self.count)


def _scaled(vectors: torch.Tensor, known: torch.Tensor) -> np.ndarray:
    """Vectors minus the mean of the known ones, scaled to mean length 1; missing vectors (zeros) stay zero."""
    x = vectors.double().numpy()
    there = (x != 0).any(1)
    fitted = known.numpy()[there[known.numpy()]]
    if not len(fitted):
        return np.zeros_like(x)
    x = np.where(there[:, None], x - x[fitted].mean(0), 0.0)
    return x / max(float(np.sqrt(np.square(x[fitted]).sum(1).mean())), 1e-12)


def _ridge(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    r"""The penalty of least leave-one-out error for targets y (n,), and :math:`(X^\top X + \rho I)^{-1} X^\top`."""
    n, nothing = len(y), np.zeros(x.shape[::-1])
    if n < 3 or not x.any():
        return np.inf, nothing
    x = x - x.mean(0)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    square = s**2

    def error(penalty: float) -> float:
        share = square / (square + penalty)
        rest = y - y.mean() - u @ (share * (u.T @ y))
        return float(np.square(rest / (1 - 1 / n - np.square(u) @ share)).sum())

    penalties = _PENALTIES * square.mean()
    errors = [error(penalty) for penalty in penalties]
    best = float(penalties[int(np.argmin(errors))])
    if min(errors) >= error(np.inf):
        return np.inf, nothing
    return best, (vt.T * (s / (square + best))) @ u.T
