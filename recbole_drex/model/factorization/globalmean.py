"""The simplest baseline: every prediction is the mean of the training ratings."""

from __future__ import annotations

import torch

from recbole_drex.model.layers.common import ClosedFormRecommender


class GlobalMean(ClosedFormRecommender):
    r"""Predicts the mean of the training ratings: :math:`\hat r_{ui} = \mu`."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.register_buffer("mean", self.train_rating.mean())

    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return self.mean.expand(torch.broadcast_shapes(user.shape, item.shape))
