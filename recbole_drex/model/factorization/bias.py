"""The baseline for rating prediction: global mean plus damped user and item effects."""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter, with_defaults
from recbole_drex.model.abstract_recommender import PointHead, RatingModel
from recbole_drex.model.layers.common import damped_mean


class Bias(RatingModel):
    r"""Damped user and item effects (Koren, Bell and Volinsky 2009, equation 1).

    .. math::
        \hat r_{ui} = \mu + b_u + b_i, \qquad
        L = \sum \ell(r_{ui}, \hat r_{ui}) + \lambda_u \textstyle\sum_u b_u^2 + \lambda_i \sum_i b_i^2

    With the squared error there is nothing to train: the minimum is the fixed point of two equations, which
    ``als_steps`` rounds of alternating least squares reach:

    .. math::
        b_i = \frac{\sum_{v \in N(i)} (r_{vi} - \mu - b_v)}{|N(i)| + \lambda_i}, \quad
        b_u = \frac{\sum_{j \in N(u)} (r_{uj} - \mu - b_j)}{|N(u)| + \lambda_u}

    With another ``loss`` or ``output`` (see :class:`RatingModel`) training starts from this point.
    """

    PARAMETERS = (
        Parameter("user_damping", float, 2.0, "lambda_u: pseudo-count that shrinks user effects.", least=0),
        Parameter("item_damping", float, 1.0, "lambda_i: pseudo-count that shrinks item effects.", least=0),
        Parameter("als_steps", int, 20, "Alternations; the fixed point is reached to 1e-6 well before.", least=1),
        *with_defaults(RatingModel.PARAMETERS, threshold_rate=1.0),
        general("learning_rate", 0.02),
    )

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        feat = dataset.inter_feat
        user, item, rating = feat[self.USER_ID], feat[self.ITEM_ID], feat[self.rating_field].float()
        self.damping = config["user_damping"], config["item_damping"]
        user_effect, item_effect = torch.zeros(self.n_users), torch.zeros(self.n_items)
        for _ in range(config["als_steps"]):
            item_effect = damped_mean(item, rating - self.mean - user_effect[user], self.n_items, self.damping[1])
            user_effect = damped_mean(user, rating - self.mean - item_effect[item], self.n_users, self.damping[0])
        self.closed_form = isinstance(self.head, PointHead) and self.head.loss_name == "mse"
        self.user_effect = nn.Parameter(user_effect, requires_grad=not self.closed_form)
        self.item_effect = nn.Parameter(item_effect, requires_grad=not self.closed_form)
        self.fake_loss = nn.Parameter(torch.zeros(1), requires_grad=self.closed_form)  # an optimiser needs a parameter
        self.n_ratings = len(rating)

    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return self.mean + self.user_effect[user] + self.item_effect[item]

    def calculate_loss(self, interaction) -> torch.Tensor:
        if self.closed_form:
            return self.fake_loss.sum()
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        loss = self.head.loss(self.score(user, item), user, interaction[self.rating_field])
        effects = zip(self.damping, (self.user_effect, self.item_effect), strict=True)
        return loss + sum(damping * effect.square().sum() for damping, effect in effects) / self.n_ratings
