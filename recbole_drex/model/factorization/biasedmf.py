"""Tuned biased matrix factorisation: a strong baseline for rating prediction."""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter, with_defaults
from recbole_drex.model.abstract_recommender import RatingModel


class BiasedMF(RatingModel):
    r"""Biased matrix factorisation (Koren, Bell and Volinsky 2009, equation 4), trained by Adam.

    .. math::
        \hat r_{ui} = \mu + b_u + b_i + p_u^\top q_i, \qquad
        L = \frac{1}{|B|} \sum_{(u,i) \in B} \ell(r_{ui}, \hat r_{ui})
            + \lambda \left(\|p_u\|^2 + \|q_i\|^2\right) + \lambda_b \left(b_u^2 + b_i^2\right)

    :math:`\mu` is the mean training rating. p and q of width d are initialised with small random numbers, b with zero.
    Regularisation applies to the rows of a batch, so its strength per rating is the same for frequent and rare users
    and items. The loss of a rating is the squared error by default; ``output`` and ``loss`` of :class:`RatingModel`
    select others.
    """

    PARAMETERS = (
        Parameter("embedding_size", int, 64, "d: width of the factors.", least=1),
        Parameter("reg_weight", float, 0.17, "lambda: L2 on the factors of a batch.", least=0),
        Parameter("bias_reg_weight", float, 0.05, "lambda_b: L2 on the biases of a batch.", least=0),
        Parameter("init_std", float, 0.1, "Standard deviation of the factors at the start.", least=0),
        *with_defaults(RatingModel.PARAMETERS, threshold_rate=1.0),
        general("learning_rate", 0.005),
    )

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.reg_weight, self.bias_reg_weight = config["reg_weight"], config["bias_reg_weight"]
        size = config["embedding_size"]
        self.user_factors = nn.Embedding(self.n_users, size)
        self.item_factors = nn.Embedding(self.n_items, size)
        self.user_bias = nn.Embedding(self.n_users, 1)
        self.item_bias = nn.Embedding(self.n_items, 1)
        for table in (self.user_factors, self.item_factors):
            nn.init.normal_(table.weight, std=config["init_std"])
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        biases = self.user_bias(user) + self.item_bias(item)
        return self.mean + biases.squeeze(-1) + (self.user_factors(user) * self.item_factors(item)).sum(-1)

    def calculate_loss(self, interaction) -> torch.Tensor:
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        factors = self.user_factors(user).square().sum(-1) + self.item_factors(item).square().sum(-1)
        biases = self.user_bias(user).square() + self.item_bias(item).square()
        loss = self.head.loss(self.score(user, item), user, interaction[self.rating_field])
        return loss + self.reg_weight * factors.mean() + self.bias_reg_weight * biases.mean()

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The factors of users and items, each of shape ``(n, d)``."""
        return self.user_factors.weight.detach(), self.item_factors.weight.detach()
