"""Base of the models that weigh the reviews of users and items by attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.review_recommender import ReviewModel


class WeightedReviews(NamedTuple):
    """Reviews of several users or items with their attention weights.

    Attributes:
        review: (m,).
        owner: index of the user or item that each belongs to, (m,), ascending.
        weight: (m,); the weights of one owner sum to 1.
    """

    review: torch.Tensor
    owner: torch.Tensor
    weight: torch.Tensor


class AttentiveModel(ReviewModel):
    """Base of NARRE and HRDR: the softmax over a user's or an item's reviews, and what explanations read of it.

    A subclass implements, besides the methods of :class:`ReviewModel`, ``cached_weights`` and ``state_of``; it sets
    ``output``, ``biases``, and in ``refresh`` the cache ``_slot`` and ``_answers``: the index of each review in the
    outputs of the filters, and these outputs.
    """

    output: nn.Linear
    _slot: torch.Tensor
    _answers: torch.Tensor

    def weighted(
        self,
        side: Side,
        entity: torch.Tensor,
        own: torch.Tensor,
        logits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> WeightedReviews:
        """Softmax over the reviews of each of ``entity`` (b,) without its ``own`` (b,), -1 for none.

        Args:
            side: users or items.
            entity: (b,).
            own: (b,).
            logits: function of reviews (m,) and of the index in ``entity`` that each belongs to (m,).
        """
        review, owner = self.documents.of(side, entity)
        others = review != own[owner]
        review, owner = review[others], owner[others]
        value = logits(review, owner)
        zero = torch.zeros(len(entity), device=entity.device)
        highest = zero.scatter_reduce(0, owner, value.detach(), "amax", include_self=False)
        value = torch.exp(value - highest[owner])
        return WeightedReviews(review, owner, value / zero.index_add(0, owner, value)[owner])

    def pooled(self, n: int, reviews: WeightedReviews, slot: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Weighted sums of the filters' outputs of n users' or items' reviews, (n, filters); zero without reviews.

        Args:
            n: number of users or items.
            reviews: of these.
            slot: index of each review of the data in ``answers``, (reviews,).
            answers: outputs of the filters, (k, filters).
        """
        review, owner, weight = reviews
        if not len(review):
            return torch.zeros(n, self.cnn.filters, device=review.device)
        counts = torch.bincount(owner, minlength=n)
        return nn.functional.embedding_bag(
            slot[review], answers, counts.cumsum(0) - counts, mode="sum", per_sample_weights=weight
        )

    def score_of_states(
        self, user_state: torch.Tensor, item_state: torch.Tensor, user: torch.Tensor, item: torch.Tensor
    ) -> torch.Tensor:
        """Scores (n,) of pairs (n,) with states (n, width)."""
        return self.output(user_state * item_state).squeeze(-1) + self._biases(user, item) + self.mean

    # Explanations -----------------------------------------------------------------------------------------------

    def cached_weights(self, side: Side, pair: tuple[torch.Tensor, torch.Tensor], own: torch.Tensor) -> WeightedReviews:
        """Reviews of a side of pairs (b,) without their ``own`` reviews (b,), from the cache."""
        raise NotImplementedError

    def state_of(self, side: Side, pair: tuple[torch.Tensor, torch.Tensor], pooled: torch.Tensor) -> torch.Tensor:
        """States of a side of pairs (b,) whose pooled reviews are (b, filters), from the cache: (b, width)."""
        raise NotImplementedError

    @torch.no_grad()
    def weights_of(
        self, side: Side, pair: tuple[torch.Tensor, torch.Tensor], own: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reviews of one side of one pair, (1,) each, without its ``own`` (1,), -1 for none; and their weights,
        descending."""
        self.make_ready()
        review, _, weight = self.cached_weights(side, pair, own)
        order = torch.argsort(weight, descending=True, stable=True)
        return review[order], weight[order]

    @torch.no_grad()
    def rating_without(
        self, pair: tuple[torch.Tensor, torch.Tensor], reviews: list[torch.Tensor], shares: list[torch.Tensor]
    ) -> torch.Tensor:
        """Expected ratings (n,) of one pair with changed weights of its reviews.

        Args:
            pair: the user (1,) and the item (1,).
            reviews: per side, (m,).
            shares: per side, their weights, (n, m).
        """
        user, item = (entity.expand(len(shares[0])) for entity in pair)
        of_user, of_item = (
            self.state_of(side, (user, item), share @ self._answers[self._slot[review]])
            for side, review, share in zip(Side, reviews, shares, strict=True)
        )
        return self.head.mean(self.score_of_states(of_user, of_item, user, item), user)
