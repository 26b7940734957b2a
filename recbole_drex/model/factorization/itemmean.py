"""Baseline: the mean rating of the item."""

from __future__ import annotations

import torch

from recbole_drex.model.layers.common import ClosedFormRecommender, damped_mean


class ItemMean(ClosedFormRecommender):
    r"""Predicts the mean training rating of the item, or the global mean if it has none:
    :math:`\hat r_{ui} = \mu + \frac{1}{|N(i)|} \sum_{v \in N(i)} (r_{vi} - \mu)`."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        mean = self.train_rating.mean()
        effect = damped_mean(self.train_item, self.train_rating - mean, self.n_items, damping=0.0)
        self.register_buffer("item_mean", mean + effect)

    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return self.item_mean[item].expand(torch.broadcast_shapes(user.shape, item.shape))
