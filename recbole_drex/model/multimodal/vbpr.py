"""Visual Bayesian personalised ranking: matrix factorisation with item features."""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex.config.parameters import Parameter
from recbole_drex.model.contract import ModelContract
from recbole_drex.model.layers.common import CacheMixin, bpr_loss
from recbole_drex.model.multimodal.item_vectors import (
    ITEM_MODALITIES,
    RANKING_TRAINING,
    fit_modalities,
    modality_vectors,
)
from recbole_drex.recbole import GeneralRecommender, InputType


def unit_scale(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors divided by one number, so that the mean length of the non-zero vectors is 1.

    This makes modalities from different encoders comparable, and keeps angles and relative lengths.

    Args:
        vectors: (n_items, width), at least one of them not zero; rows of zeros stay zeros.

    Example:
        >>> unit_scale(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 15.0]]))
        tensor([[0.0000, 0.0000],
                [0.3000, 0.4000],
                [0.0000, 1.5000]])
    """
    lengths = vectors.norm(dim=1)
    return vectors / lengths[lengths > 0].mean()


class VBPR(CacheMixin, ModelContract, GeneralRecommender):
    r"""VBPR (He and McAuley, AAAI 2016, equations 4 and 7), for any number of modalities.

    .. math::
        \hat x_{ui} = \beta_i + \gamma_u^\top \gamma_i + \theta_u^\top E f_i + \beta'^\top f_i

    .. math::
        L = -\frac{1}{|D|} \sum_{(u,i,j) \in D} \log \sigma(\hat x_{ui} - \hat x_{uj})
            + \frac{\lambda}{|D|} \sum_D \left(\|\gamma_u\|^2 + \|\theta_u\|^2 + \|\gamma_i\|^2 + \|\gamma_j\|^2
            + \beta_i^2 + \beta_j^2\right) + \lambda_f \left(\|E\|^2 + \|\beta'\|^2\right)

    :math:`f_i` are the item's vectors of all modalities, concatenated, each modality scaled by :func:`unit_scale`;
    zeros if the item lacks it. :math:`\gamma` have width K, :math:`\theta` and :math:`E f` width D. The set D holds
    training pairs, each with a sampled item that the user has not interacted with. Without vectors this is BPR with
    item biases.

    A user without training pairs has zero :math:`\gamma` and :math:`\theta`, so its items are ranked by
    :math:`\beta_i + \beta'^\top f_i`. An item without training pairs is sampled like the others, so its terms decrease.

    Raises:
        ConfigError: modalities that the data set lacks.
        DataError: no item has a named modality.
    """

    PARAMETERS = (
        Parameter("embedding_size", int, 256, "K: width of the free factors of users and items.", least=1),
        Parameter(
            "feature_size", int, 128,
            "D: width of the projected vectors, and of the users' factors that meet them.", least=1,
        ),
        ITEM_MODALITIES,
        Parameter("init_std", float, 0.1, "Standard deviation of the factors at the start.", least=0),
        Parameter("reg_weight", float, 0.01, "lambda: L2 on the factors and biases of a batch.", least=0),
        Parameter(
            "feature_reg_weight", float, 0.01,
            "lambda_f: L2 on the projection and on the bias of the vectors.", least=0,
        ),
        *RANKING_TRAINING,
    )  # fmt: skip
    input_type = InputType.PAIRWISE
    loss_name = "bpr"
    features: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.reg_weight, self.feature_reg_weight = config["reg_weight"], config["feature_reg_weight"]
        size, feature_size, std = config["embedding_size"], config["feature_size"], config["init_std"]
        self.notes = fit_modalities(config, dataset)
        tables = [unit_scale(vectors) for vectors in modality_vectors(config, dataset).values()]
        self.register_buffer("features", torch.cat(tables, dim=1), persistent=False)
        self.projection = nn.Linear(self.features.shape[1], feature_size, bias=False)
        self.feature_bias = nn.Linear(self.features.shape[1], 1, bias=False)
        # gamma and theta in one table.
        self.user_factors = nn.Embedding(self.n_users, size + feature_size)
        self.item_factors = nn.Embedding(self.n_items, size)
        self.item_bias = nn.Embedding(self.n_items, 1)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.feature_bias.weight)
        nn.init.zeros_(self.item_bias.weight)
        for table in (self.user_factors, self.item_factors):
            nn.init.normal_(table.weight, std=std)
        seen = torch.bincount(dataset.inter_feat[self.USER_ID], minlength=self.n_users) > 0
        self.user_factors.weight.data[~seen] = 0.0

    def item_side(self, item: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors and projected features, and the sum of the biases, of items ``(n,)``: ``(n, K + D)``, ``(n,)``."""
        features = self.features[item]
        factors = torch.cat([self.item_factors(item), self.projection(features)], dim=1)
        return factors, (self.item_bias(item) + self.feature_bias(features)).squeeze(1)

    def calculate_loss(self, interaction) -> torch.Tensor:
        user, positive, negative = (interaction[key] for key in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        # Each item of a batch is projected once, however often it occurs.
        unique, index = torch.unique(torch.cat([positive, negative]), return_inverse=True)
        factors, bias = self.item_side(unique)
        user_factors, (first, second) = self.user_factors(user), index.chunk(2)
        margin = bias[first] - bias[second]
        margin = margin + (user_factors * (factors.index_select(0, first) - factors.index_select(0, second))).sum(-1)
        own = self.item_factors(unique).square().sum(-1) + self.item_bias(unique).square().squeeze(1)
        penalty = user_factors.square().sum(-1).mean() + own[first].mean() + own[second].mean()
        features = self.projection.weight.square().sum() + self.feature_bias.weight.square().sum()
        return bpr_loss(margin) + self.reg_weight * penalty + self.feature_reg_weight * features

    @torch.no_grad()
    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors of users, and of items with their projected features, each of shape ``(n, K + D)``."""
        self._refresh()
        return self.user_factors.weight.detach(), self._items

    def _refresh(self) -> None:
        if self._stale or self.training:
            self._items, self._bias = self.item_side(torch.arange(self.n_items, device=self.features.device))
            self._stale = False

    @torch.no_grad()
    def predict(self, interaction) -> torch.Tensor:
        """Scores of pairs, ``(b,)``, for ranking; they are not ratings."""
        self._refresh()
        item = interaction[self.ITEM_ID]
        return (self.user_factors(interaction[self.USER_ID]) * self._items[item]).sum(-1) + self._bias[item]

    @torch.no_grad()
    def full_sort_predict(self, interaction) -> torch.Tensor:
        """Scores of each user with every item, ``(b * n_items,)``; agrees with :meth:`predict`."""
        self._refresh()
        return (self.user_factors(interaction[self.USER_ID]) @ self._items.T + self._bias).flatten()
