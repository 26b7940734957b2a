"""Deep matrix factorisation as published: cosine of two towers, and a loss weighted by ratings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.model.contract import ModelContract
from recbole_drex.model.layers.common import CacheMixin
from recbole_drex.model.layers.rating_tower import SparseRows, Tower
from recbole_drex.recbole import GeneralRecommender, InputType

_CLIP = 1e-6  # mu of the paper


def _is_widths(widths: list[Any]) -> bool:
    return len(widths) >= 2 and all(type(width) is int and width >= 1 for width in widths)


class DMFPaper(CacheMixin, ModelContract, GeneralRecommender):
    r"""Deep matrix factorisation (Xue, Dai, Zhang, Huang and Chen 2017, "Deep matrix factorization models for
    recommender systems", IJCAI).

    .. math::
        p_u = \mathrm{MLP}_U(Y_{u*} / \max R), \qquad q_i = \mathrm{MLP}_I(Y_{*i} / \max R), \qquad
        \hat Y_{ui} = \max(10^{-6}, \cos(p_u, q_i))

    .. math::
        L = -\frac{1}{|B|} \sum_{(u,i) \in B} \frac{Y_{ui}}{\max R} \log \hat Y_{ui}
            + \left(1 - \frac{Y_{ui}}{\max R}\right) \log (1 - \hat Y_{ui})

    Y is the training matrix, (n_users, n_items), zero where there is no rating. A tower's first layer is linear, the
    others have a bias and a ReLU. B holds training ratings and, for each, ``sample_num`` items that the user has not
    rated. We also clip the cosine at 1 - 1e-6, where the paper's loss would be infinite. The score is a similarity
    between 0 and 1, not a rating: MAE and RMSE are undefined.

    ``exclude_target: true`` (default) removes the entry :math:`Y_{ui}` from row and column when (u, i) is scored, in
    training and in prediction. As published (``false``), a training target is part of its own input.

    RecBole's ``DMF`` differs: it uses a dot product and a sigmoid instead of the cosine, by default zeros and ones
    instead of ratings, and the target is always part of its own input.

    Raises:
        ConfigError: the towers end in different widths.
        DataError: a rating is negative, or no rating is positive.
    """

    PARAMETERS = (
        Parameter(
            "user_hidden_size_list", list, [512, 64], "Widths of the user tower's layers, first to last.",
            accepts=_is_widths, legal="two or more widths, such as [512, 64]",
        ),
        Parameter(
            "item_hidden_size_list", list, [1024, 64],
            "Widths of the item tower's layers; the last as the user tower's.",
            accepts=_is_widths, legal="two or more widths, such as [512, 64]",
        ),
        Parameter(
            "exclude_target", bool, True,
            "Take the scored entry out of its own row and column; false as published.",
        ),
        Parameter(
            "train_target", str, "implicit", "Scores are similarities, no ratings: MAE and RMSE are undefined.",
            choices=("implicit",),
        ),
        general("learning_rate", 0.0003),
        general("train_batch_size", 2048, "Pairs per step, the sampled ones included."),
        general(
            "train_neg_sample_args", {"distribution": "uniform", "sample_num": 7},
            "Sampled items without a rating, per rating.",
        ),
        general("valid_metric", "full_ndcg@10"),
    )  # fmt: skip
    input_type = InputType.POINTWISE
    loss_name = "normalised cross-entropy"
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.exclude_target = config["exclude_target"]
        feat = dataset.inter_feat
        rating = feat[config["RATING_FIELD"]].float()
        if rating.min() < 0 or rating.max() <= 0:
            raise DataError("DMF-paper divides by the largest rating: ratings must be 0 or more, and one above 0")
        # A repeated pair counts once, with its last rating, so that it can be left out completely.
        pairs = (feat[self.USER_ID] * self.n_items + feat[self.ITEM_ID]).numpy()
        unique, last = np.unique(pairs[::-1], return_index=True)
        keys, values = torch.from_numpy(unique), (rating / rating.max()).flip(0)[last]
        user, item = keys // self.n_items, keys % self.n_items
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("values", values, persistent=False)
        user_widths, item_widths = (config[f"{side}_hidden_size_list"] for side in ("user", "item"))
        if user_widths[-1] != item_widths[-1]:
            raise ConfigError(
                "user_hidden_size_list and item_hidden_size_list must end in the same width, "
                f"not in {user_widths[-1]} and {item_widths[-1]}"
            )
        self.user_tower = Tower(SparseRows(user, item, values, self.n_users), self.n_items, user_widths)
        self.item_tower = Tower(SparseRows(item, user, values, self.n_items), self.n_users, item_widths)

    def known(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Training ratings of pairs divided by the maximum, 0 without one; shape ``(b,)``."""
        key = user * self.n_items + item
        index = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[index] == key, self.values[index], 0.0)

    # Training ---------------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction) -> torch.Tensor:
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        target = self.known(user, item)  # a sampled negative has no entry
        score = self._alone(user, item, target) if self.exclude_target else self._cosine(user, item)
        return nn.functional.binary_cross_entropy(score.clamp(_CLIP, 1 - _CLIP), target)

    def _alone(self, user: torch.Tensor, item: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Cosines of pairs with their own entry removed from row and column, ``(b,)``."""
        return (self.user_tower(user, item, value) * self.item_tower(item, user, value)).sum(-1)

    def _cosine(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return (self.user_tower(user) * self.item_tower(item)).sum(-1)

    # Prediction -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs of the two towers, each of shape ``(n, d)``."""
        self._refresh()
        return self._users, self._items

    def _refresh(self) -> None:
        if self._stale or self.training:
            self._users = self.user_tower(torch.arange(self.n_users, device=self.keys.device))
            self._items = self.item_tower(torch.arange(self.n_items, device=self.keys.device))
            self._stale = False

    @torch.no_grad()
    def predict(self, interaction) -> torch.Tensor:
        """Scores of pairs between 0 and 1, ``(b,)``."""
        self._refresh()
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        score = (self._users[user] * self._items[item]).sum(-1)
        if self.exclude_target:
            value = self.known(user, item)
            own = torch.nonzero(value).flatten()
            if len(own):
                score[own] = self._alone(user[own], item[own], value[own])
        return score.clamp(_CLIP, 1 - _CLIP)

    @torch.no_grad()
    def full_sort_predict(self, interaction) -> torch.Tensor:
        """Scores of each user with every item, ``(b * n_items,)``; agrees with :meth:`predict`."""
        self._refresh()
        user = interaction[self.USER_ID]
        scores = self._users[user] @ self._items.T
        if self.exclude_target:
            position, begin = self.user_tower.matrix.entries(user)
            item, value = self.user_tower.matrix.column[position], self.user_tower.matrix.value[position]
            index = torch.searchsorted(begin, torch.arange(len(position), device=user.device), right=True) - 1
            if len(position):
                scores[index, item] = self._alone(user[index], item, value)
        return scores.clamp(_CLIP, 1 - _CLIP).flatten()
