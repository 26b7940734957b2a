"""Counterfactual predictions of models that weigh reviews (NARRE, HRDR, DAML): what they would predict without some."""

from __future__ import annotations

import torch

from recbole_drex.explain.counterfactual.base import Counterfactual, Interactions
from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.attentive import AttentiveModel
from recbole_drex.model.review_based.daml import DAML
from recbole_drex.model.review_based.review_recommender import DocumentModel
from recbole_drex.model.review_based.word_documents import DocumentWords


class OfReviews(Counterfactual):
    """Base of predictions that rest on weighted reviews.

    Attributes:
        reviews: per side, the indices of the reviews that are read, by descending weight.
        weights: per side, their weights; they sum to 1.
    """

    unit = "reviews"
    orders = ("usefulness", "evidence")
    reviews: list[torch.Tensor]
    weights: list[torch.Tensor]

    def __init__(self, model: DocumentModel, user: int, item: int):
        device = model.mean.device
        self.documents = model.documents
        self.pair = torch.tensor([user], device=device), torch.tensor([item], device=device)
        self.own_review = model.documents.find(*self.pair)

    @property
    def past_interactions(self) -> tuple[Interactions, ...]:
        """Per side, user, item and row of the feature store of each review, (m,) each."""
        documents = self.documents
        return tuple((documents.user[one], documents.item[one], documents.row[one]) for one in self.reviews)


class ReviewCounterfactual(OfReviews):
    """The prediction of NARRE or HRDR for one user and one item in scenarios that lack reviews; all else is kept.

    Args:
        model: trained.
        user, item: internal ids; a review of the pair itself is never part of the prediction.
    """

    def __init__(self, model: AttentiveModel, user: int, item: int):
        super().__init__(model, user, item)
        self.model = model
        weighted = [model.weights_of(side, self.pair, self.own_review) for side in Side]
        self.reviews = [reviews for reviews, _ in weighted]
        self.weights = [weights for _, weights in weighted]

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


class DocumentCounterfactual(OfReviews):
    """The prediction of DAML for one user and one item in scenarios whose documents lack the words of some reviews.

    All weights are computed again from the remaining words; no other words take the place of those that are removed. A
    review's weight is its share in the weights of its document's words.

    Args:
        model: trained.
        user, item: internal ids; a review of the pair itself is never part of the prediction.
    """

    def __init__(self, model: DAML, user: int, item: int):
        super().__init__(model, user, item)
        self.model = model
        self.words, attended = model.documents_of(*self.pair, self.own_review)
        self.reviews, self.weights = [], []
        for words, _, weight in attended:
            there = words.mask[0].bool()
            review, index = torch.unique(words.review[0][there], return_inverse=True)
            total = torch.zeros(len(review), device=weight.device).index_add_(0, index, weight[0][there])
            share, order = torch.sort(total / total.sum().clamp(min=1e-30), descending=True, stable=True)
            self.reviews.append(review[order])
            self.weights.append(share)

    def without(self, user: list[list[int]], item: list[list[int]]) -> torch.Tensor:
        """Predictions (n,) without the reviews at these positions; one list of positions per side and scenario."""
        scenarios = []
        for words, reviews, positions in zip(self.words, self.reviews, (user, item), strict=True):
            mask = words.mask.repeat(len(positions), 1)
            for scenario, removed in enumerate(positions):
                mask[scenario, torch.isin(words.review[0], reviews[removed])] = 0.0
            shape = mask.shape
            scenarios.append(DocumentWords(words.position.expand(shape), words.review.expand(shape), mask))
        return self.model.rating_of(scenarios, *self.pair)
