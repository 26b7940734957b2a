"""The baseline that every rating model must beat: global mean plus damped user and item effects."""

from __future__ import annotations

import torch

from recbole_drex.model.layers import ClosedFormRecommender, damped_mean


class Bias(ClosedFormRecommender):
    r"""Damped user and item effects (Koren, Bell and Volinsky 2009, equation 1), fitted by alternating least squares.

    .. math::
        \hat r_{ui} = \mu + b_u + b_i, \quad
        b_i = \frac{\sum_{v \in N(i)} (r_{vi} - \mu - b_v)}{|N(i)| + \lambda_i}, \quad
        b_u = \frac{\sum_{j \in N(u)} (r_{uj} - \mu - b_j)}{|N(u)| + \lambda_u}

    The fixed point of the two equations minimises
    :math:`\sum (r - \hat r)^2 + \lambda_u \sum b_u^2 + \lambda_i \sum b_i^2`.

    Parameters: ``user_damping``, ``item_damping`` (the lambdas), ``als_steps``.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        mean = self.train_rating.mean()
        user_effect = torch.zeros(self.n_users)
        item_effect = torch.zeros(self.n_items)
        for _ in range(config["als_steps"]):
            rest = self.train_rating - mean - user_effect[self.train_user]
            item_effect = damped_mean(self.train_item, rest, self.n_items, config["item_damping"])
            rest = self.train_rating - mean - item_effect[self.train_item]
            user_effect = damped_mean(self.train_user, rest, self.n_users, config["user_damping"])
        self.register_buffer("mean", mean)
        self.register_buffer("user_effect", user_effect)
        self.register_buffer("item_effect", item_effect)

    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return self.mean + self.user_effect[user] + self.item_effect[item]
