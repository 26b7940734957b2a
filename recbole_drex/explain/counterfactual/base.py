"""A prediction, and what it would be without some of its evidence: what every model's class for this offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch

Interactions = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""User, item and row of the feature store (-1: no review) of interactions, (m,) each."""


class Counterfactual(ABC):
    """The prediction of one user for one item, in scenarios that lack some of its evidence.

    Attributes:
        unit: what is left out, ``ratings`` or ``reviews``.
        orders: in which orders the model itself ranks this evidence: a subset of ``neighbours``, ``usefulness``,
            ``evidence``; the last is by the effect of leaving it out.
        sums: whether the prediction is a sum of parts (method ``parts``).
        reads_words: whether single words can be left out.
        is_new_user: whether the user is not in the data.
        weights: per side, the weight of each piece of evidence; None of models without weights.
    """

    unit: ClassVar[str] = "ratings"
    orders: ClassVar[tuple[str, ...]] = ("evidence",)
    sums: ClassVar[bool] = False
    weights: list[torch.Tensor] | None = None

    @property
    def reads_words(self) -> bool:
        return False

    @property
    def is_new_user(self) -> bool:
        return False

    @property
    @abstractmethod
    def pasts(self) -> Sequence[Interactions]:
        """The evidence of the user's side and of the item's."""

    @abstractmethod
    def without(self, user: list[list[int]], item: list[list[int]]) -> torch.Tensor:
        """Predictions (n,) without the evidence at these places of either side, one list of places a scenario."""

    def without_each(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Predictions without each single piece of the user's evidence, (m,), and of the item's, likewise."""
        user, item = ([[place] for place in range(len(past[0]))] for past in self.pasts)
        return self.without(user, [[]] * len(user)), self.without([[]] * len(item), item)
