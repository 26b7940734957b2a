"""Shared and private features of ratings and reviews, and their inconsistency."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn


@dataclasses.dataclass(frozen=True)
class SideFeatures:
    """Features of n users or items.

    Attributes:
        state: h, (n, d).
        rating, review: unit vectors of the shared parts of ratings and of reviews, (n, k).
        rating_private, review_private: unit vectors of the private parts, (n, k).
        gates: weights of the four parts in the state, (n, 4).
        reviewed: whether there is a review, (n,).
        inconsistency: z, (n, 2k).
    """

    state: torch.Tensor
    rating: torch.Tensor
    review: torch.Tensor
    rating_private: torch.Tensor
    review_private: torch.Tensor
    gates: torch.Tensor
    reviewed: torch.Tensor
    inconsistency: torch.Tensor


class Disentangler(nn.Module):
    """Shared and private parts of the ratings and reviews of users, or of items.

    The equations are those of :class:`~recbole_drex.model.pesi.pesi.PESI`.

    Args:
        ratings, reviews: widths of the two inputs.
        size: d, width of features and state.
        part: k, width of a part.
    """

    def __init__(self, ratings: int, reviews: int, size: int, part: int):
        super().__init__()
        self.inputs = nn.ModuleList([nn.Linear(width, size) for width in (ratings, reviews)])
        self.parts = nn.ModuleList([nn.Linear(size, 2 * part, bias=False) for _ in range(2)])
        self.gate = nn.Linear(4 * part, 4)
        self.output = nn.Linear(4 * part, size)

    def forward(self, ratings: torch.Tensor, reviews: torch.Tensor, reviewed: torch.Tensor) -> SideFeatures:
        """Features from inputs (n, ratings), (n, reviews); ``reviewed`` (n,) is false where there are no reviews."""
        parts = []
        for layer, split, given in zip(self.inputs, self.parts, (ratings, reviews), strict=True):
            parts += split(torch.tanh(layer(given))).chunk(2, -1)
        there = reviewed[:, None]
        of_ratings, of_reviews = parts[:2], [part * there for part in parts[2:]]
        parts = [*of_ratings, *of_reviews]
        mask = torch.stack([torch.ones_like(reviewed), torch.ones_like(reviewed), reviewed, reviewed], 1)
        gates = torch.softmax(self.gate(torch.cat(parts, 1)).masked_fill(~mask, -torch.inf), 1)
        gated = torch.cat([part * gate for part, gate in zip(parts, gates.split(1, 1), strict=True)], 1)
        unit = [nn.functional.normalize(part, dim=1, eps=1e-6) for part in parts]
        rating, rating_private, review, review_private = unit
        return SideFeatures(
            state=torch.tanh(self.output(gated)),
            rating=rating,
            review=review,
            rating_private=rating_private,
            review_private=review_private,
            gates=gates,
            reviewed=reviewed,
            inconsistency=torch.cat([rating - review, rating_private * review_private], 1) * there,
        )
