"""The interface of counterfactual predictions: what a model would predict without some of its evidence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

Interactions = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""User, item and row of the feature store (-1: no review) of interactions, (m,) each."""


class Counterfactual(ABC):
    """The prediction for one user and one item, in scenarios that lack some of its evidence.

    Attributes:
        unit: kind of evidence that is removed, ``ratings`` or ``reviews``.
        orders: rankings of this evidence that the model offers: a subset of ``neighbours``, ``usefulness`` and
            ``evidence``. ``evidence`` ranks by the effect of removal.
        sums: whether the prediction is a sum of parts (method ``parts``).
        reads_words: whether single words can be removed.
        is_new_user: whether the user is not in the data set.
        weights: per side, the weight of each piece of evidence; None of models without weights.
    """

    unit: ClassVar[str] = "ratings"
    orders: ClassVar[tuple[str, ...]] = ("evidence",)
    sums: ClassVar[bool] = False
    weights: list[torch.Tensor] | None = None

    @classmethod
    def of(cls, model: Any, user: int, item: int) -> Counterfactual:
        """The prediction of a trained model for a user and an item, by internal ids."""
        return cls(model, user, item)  # type: ignore[call-arg]

    @property
    def reads_words(self) -> bool:
        return False

    @property
    def is_new_user(self) -> bool:
        return False

    @property
    @abstractmethod
    def past_interactions(self) -> Sequence[Interactions]:
        """The evidence of the user and of the item."""

    @abstractmethod
    def without(self, user: list[list[int]], item: list[list[int]]) -> torch.Tensor:
        """Predictions (n,) without the evidence at these positions; one list of positions per side and scenario."""

    def without_each(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Predictions without each single piece of the user's evidence, (m,), and of the item's, (k,)."""
        user, item = ([[index] for index in range(len(interactions[0]))] for interactions in self.past_interactions)
        return self.without(user, [[]] * len(user)), self.without([[]] * len(item), item)
