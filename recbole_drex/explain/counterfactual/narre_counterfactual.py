"""Counterfactual NARRE predictions: what NARRE would predict without some of the reviews."""

from __future__ import annotations

import torch

from recbole_drex.explain.counterfactual.base import Counterfactual, Interactions
from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.narre import NARRE


class NARRECounterfactual(Counterfactual):
    """The prediction of one user for one item in scenarios that lack reviews; embeddings and biases stay.

    Args:
        model: trained.
        user, item: internal ids; a review of the pair itself is never part of the prediction.

    Attributes:
        reviews: per side, the numbers of the reviews that are read, by falling weight.
        weights: per side, their shares in the user's or item's state; they sum to 1.
    """

    unit = "reviews"
    orders = ("usefulness", "evidence")

    def __init__(self, model: NARRE, user: int, item: int):
        self.model = model
        self.entities = [torch.tensor([one], device=model.mean.device) for one in (user, item)]
        own = model.documents.find(*self.entities)
        found = [model.weights_of(side, self.entities[side], own) for side in Side]
        self.reviews = [reviews for reviews, _ in found]
        self.weights: list[torch.Tensor] = [weights for _, weights in found]

    @property
    def pasts(self) -> tuple[Interactions, ...]:
        """Per side, user, item and row of the feature store of each review, (m,) each."""
        documents = self.model.documents
        return tuple((documents.user[one], documents.item[one], documents.row[one]) for one in self.reviews)

    @torch.no_grad()
    def without(self, user: list[list[int]], item: list[list[int]]) -> torch.Tensor:
        """Predictions (n,) without the reviews at these places of either side, one list of places a scenario."""
        shares = [self._shares(side, places) for side, places in zip(Side, (user, item), strict=True)]
        return self.model.rating_without(self.entities, self.reviews, shares)

    def _shares(self, side: Side, places: list[list[int]]) -> torch.Tensor:
        weight = self.weights[side].repeat(len(places), 1)
        for scenario, gone in enumerate(places):
            weight[scenario, gone] = 0.0
        total = weight.sum(1, keepdim=True)
        # The softmax over those that stay is what they had, made to sum to one.
        return torch.where(total > 0, weight / total.clamp(min=1e-30), 0.0)
