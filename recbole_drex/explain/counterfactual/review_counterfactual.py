"""Counterfactual predictions of models that weigh reviews (NARRE, HRDR): what they would predict without some."""

from __future__ import annotations

import torch

from recbole_drex.explain.counterfactual.base import Counterfactual, Interactions
from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.attentive import AttentiveModel


class ReviewCounterfactual(Counterfactual):
    """The prediction for one user and one item in scenarios that lack reviews; all else is kept.

    Args:
        model: trained.
        user, item: internal ids; a review of the pair itself is never part of the prediction.

    Attributes:
        reviews: per side, the indices of the reviews that are read, by descending weight.
        weights: per side, their attention weights; they sum to 1.
    """

    unit = "reviews"
    orders = ("usefulness", "evidence")

    def __init__(self, model: AttentiveModel, user: int, item: int):
        self.model = model
        device = model.mean.device
        self.pair = torch.tensor([user], device=device), torch.tensor([item], device=device)
        own_review = model.documents.find(*self.pair)
        weighted = [model.weights_of(side, self.pair, own_review) for side in Side]
        self.reviews = [reviews for reviews, _ in weighted]
        self.weights: list[torch.Tensor] = [weights for _, weights in weighted]

    @property
    def past_interactions(self) -> tuple[Interactions, ...]:
        """Per side, user, item and row of the feature store of each review, (m,) each."""
        documents = self.model.documents
        return tuple((documents.user[one], documents.item[one], documents.row[one]) for one in self.reviews)

    @torch.no_grad()
    def without(self, user: list[list[int]], item: list[list[int]]) -> torch.Tensor:
        """Predictions (n,) without the reviews at these positions; one list of positions per side and scenario."""
        shares = [self._shares(side, positions) for side, positions in zip(Side, (user, item), strict=True)]
        return self.model.rating_without(self.pair, self.reviews, shares)

    def _shares(self, side: Side, positions: list[list[int]]) -> torch.Tensor:
        weight = self.weights[side].repeat(len(positions), 1)
        for scenario, removed in enumerate(positions):
            weight[scenario, removed] = 0.0
        total = weight.sum(1, keepdim=True)
        # The softmax over the remaining reviews equals their old weights, normalised.
        return torch.where(total > 0, weight / total.clamp(min=1e-30), 0.0)
