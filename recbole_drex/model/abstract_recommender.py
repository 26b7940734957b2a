"""Models of observed ratings: a score becomes a rating (``output: point``) or a distribution (``output: ordinal``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import nn

from recbole_drex.config.general_parameters import RATING_TRAINING
from recbole_drex.config.parameters import Parameter
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.model.contract import ModelContract
from recbole_drex.model.layers.common import all_pairs
from recbole_drex.model.output_parameters import OUTPUT
from recbole_drex.parallel import collectives
from recbole_drex.recbole import GeneralRecommender, InputType

_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "mse": nn.functional.mse_loss,
    "huber": nn.functional.huber_loss,
    "l1": nn.functional.l1_loss,
}
_WEIGHTS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "equal": lambda rating, largest: torch.ones_like(rating),
    "rating": lambda rating, largest: rating,
    # Only ratios count, so we divide by the largest 2^r, which overflows on long scales.
    "gain": lambda rating, largest: torch.exp2(rating - largest) - torch.exp2(-largest),
}
_SCALE = 2.0  # logits per rating level before training; trained models reach 2 to 3
_MIN_GAP = 1e-3  # between neighbouring thresholds: a level may become improbable, never impossible


class PointHead(nn.Module):
    """The score is the rating.

    Args:
        loss: ``mse``, ``huber`` (quadratic below an error of 1, linear beyond) or ``l1``.
    """

    def __init__(self, loss: str):
        super().__init__()
        self.loss_name = loss

    def loss(self, score: torch.Tensor, user: torch.Tensor, rating: torch.Tensor) -> torch.Tensor:
        """Mean loss of a batch; all arguments of shape ``(b,)``."""
        return _LOSSES[self.loss_name](score, rating)

    def mean(self, score: torch.Tensor, user: torch.Tensor) -> torch.Tensor:
        """Predicted ratings."""
        return score


class OrdinalHead(nn.Module):
    r"""A distribution over the rating levels :math:`l_1 < \dots < l_K` (Koren and Sill, OrdRec, RecSys 2011).

    .. math::
        P(r_{ui} \le l_k) = \sigma(t_{uk} - s f_{ui}), \qquad
        t_{u1} = t_1 + o_{u1}, \quad t_{uk} = t_{u,k-1} + \exp(g_k + o_{uk}), \quad k = 2 \dots K - 1

    f is the model's score in rating units. The scale s > 0 is learned, so that penalties on the terms of f have the
    same meaning as for point output. The global thresholds start at the shares of the training ratings. The user's
    offsets :math:`o_u` start at zero and are regularised by :math:`\lambda_t \|o_u\|^2`. They are free parameters, or
    a linear function of the user's other ratings. The loss is the negative log-likelihood.

    The argument ``user`` of every method is passed to ``offsets``: internal ids, or vectors with one more dimension.

    Args:
        levels: the rating levels, ascending, of shape ``(K,)``.
        shares: share of each among the training ratings, of shape ``(K,)``.
        centre: typical score before training.
        offsets: returns the offsets of users, of shape ``(..., K - 1)``, zero before training.
        reg_weight: lambda_t.
        rate: multiplies the learning rate of the offsets. Adam takes equal steps for all parameters, and a user's few
            ratings would otherwise hardly move them.
    """

    loss_name = "ordinal"
    levels: torch.Tensor

    def __init__(
        self,
        levels: torch.Tensor,
        shares: torch.Tensor,
        centre: float,
        offsets: nn.Module,
        reg_weight: float,
        rate: float,
    ):
        super().__init__()
        self.register_buffer("levels", levels)
        self.log_scale = nn.Parameter(torch.tensor(_SCALE).log())
        start = torch.logit(torch.cumsum(shares, 0)[:-1].clamp(1e-4, 1 - 1e-4)) + _SCALE * centre
        self.first = nn.Parameter(start[:1])
        self.gaps = nn.Parameter(torch.log(start.diff().clamp(min=_MIN_GAP)))
        self.offsets = offsets
        self.reg_weight, self.rate = reg_weight, rate

    def _offset(self, user: torch.Tensor) -> torch.Tensor:
        return self.rate * self.offsets(user)

    def thresholds(self, user: torch.Tensor) -> torch.Tensor:
        """Thresholds of each user, shape ``(..., K - 1)``, ascending."""
        offset = self._offset(user)
        gaps = torch.exp(self.gaps + offset[..., 1:]) + _MIN_GAP
        return self.first + offset[..., :1] + torch.cat([torch.zeros_like(offset[..., :1]), gaps.cumsum(-1)], -1)

    def loss(self, score: torch.Tensor, user: torch.Tensor, rating: torch.Tensor) -> torch.Tensor:
        """Mean negative log-likelihood of a batch and the penalty; all arguments of shape ``(b,)``."""
        distance = self.thresholds(user) - self.log_scale.exp() * score[:, None]
        infinite = torch.full_like(distance[:, :1], torch.inf)
        upper, lower = torch.cat([distance, infinite], 1), torch.cat([-infinite, distance], 1)
        level = torch.searchsorted(self.levels, rating.contiguous())[:, None]
        above, below = upper.gather(1, level).squeeze(1), lower.gather(1, level).squeeze(1)
        # log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)), which stays precise where both are near 1.
        logsigmoid = nn.functional.logsigmoid
        gap = (above - below).clamp(min=_MIN_GAP)
        likelihood = logsigmoid(above) + logsigmoid(-below) + torch.log(-torch.expm1(-gap))
        return self.reg_weight * self._offset(user).square().sum(-1).mean() - likelihood.mean()

    def distribution(self, score: torch.Tensor, user: torch.Tensor) -> torch.Tensor:
        """Probability of each level, shape ``(..., K)``; ``score`` and ``user`` broadcast."""
        below = torch.sigmoid(self.thresholds(user) - self.log_scale.exp() * score[..., None])
        ends = torch.zeros_like(below[..., :1])
        return torch.cat([below, ends + 1], -1) - torch.cat([ends, below], -1)

    def mean(self, score: torch.Tensor, user: torch.Tensor) -> torch.Tensor:
        """Expected ratings; ``score`` and ``user`` broadcast."""
        # The sum of levels times probabilities, by summation by parts.
        below = torch.sigmoid(self.thresholds(user) - self.log_scale.exp() * score[..., None])
        return self.levels[-1] - below @ self.levels.diff()


class RankingHead(nn.Module):
    r"""The score is not a rating: it ranks the items that a user chose above sampled items.

    .. math:: L = -\frac{\sum w_{u i_0} \log p_{u i_0}}{\sum w_{u i_0}}, \qquad
        p_{u i_0} = \frac{\exp f_{u i_0}}{\sum_{k = 0}^{K} \exp f_{u i_k}}

    :math:`i_0` is the item of an interaction, the other K items are sampled without an interaction. This is the sampled
    softmax loss; for K = 1 it is the BPR loss (Rendle et al., UAI 2009).

    Args:
        sampled: K.
        weight: w: ``equal``, ``rating`` (the rating) or ``gain`` (:math:`2^r - 1`, the gain of a rating r in NDCG).
            With the last two, liked items weigh more than merely chosen ones. Ratings must not be negative.
    """

    def __init__(self, sampled: int, weight: str):
        super().__init__()
        self.loss_name, self.weight = "BPR" if sampled == 1 else "sampled softmax", weight

    def loss(self, score: torch.Tensor, user: torch.Tensor, rating: torch.Tensor) -> torch.Tensor:
        """Weighted mean loss of a batch of scores ``(b, 1 + K)``, the chosen item's first, and its ratings ``(b,)``."""
        first = torch.zeros(len(score), dtype=torch.long, device=score.device)
        weight = _WEIGHTS[self.weight](rating, collectives.largest_in_batch(rating))
        each = nn.functional.cross_entropy(score, first, reduction="none")
        # Each process holds some rows of the batch, so we divide by the mean weight of the whole batch.
        return (weight * each).mean() / collectives.mean_over_batch(weight).clamp(min=1e-12)

    def mean(self, score: torch.Tensor, user: torch.Tensor) -> torch.Tensor:
        """The scores themselves."""
        return score


class RatingModel(ModelContract, GeneralRecommender):
    """Base of models that are trained on observed ratings by gradient descent.

    A subclass implements ``score`` for prediction and ``calculate_loss`` for training, which ends in
    ``self.head.loss(scores, user, rating)``. ``self.mean`` is the mean training rating.

    ``PARAMETERS`` declares the parameters; a subclass puts its own before those of this class. A model with the
    parameter ``train_target`` can be trained to rank instead (``implicit``), with sampled items and a
    :class:`RankingHead`.

    Raises:
        ConfigError: rating prediction with sampled items, or ranking without.
        DataError: ordinal output, but all ratings are equal.
    """

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (*OUTPUT, *RATING_TRAINING)
    input_type = InputType.POINTWISE
    mean: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.rating_field, self.label_field = config["RATING_FIELD"], config["LABEL_FIELD"]
        rating = dataset.inter_feat[self.rating_field].float()
        self.register_buffer("mean", rating.mean())
        self.head: PointHead | OrdinalHead | RankingHead
        sampled = config["train_neg_sample_args"]
        sampled = sampled["sample_num"] if sampled["distribution"] != "none" else 0
        self.ranks = config["train_target"] == "implicit"
        self.notes: list[str] = []  # messages for the user, logged before training
        if self.ranks != bool(sampled):
            raise ConfigError(
                f"train_neg_sample_args of {config['model']}: "
                + ("ranking needs sampled items" if self.ranks else "sampled items have no rating to learn from")
            )
        if self.ranks:
            self.head = RankingHead(sampled, config["target_weight"])
        elif config["output"] == "point":
            self.head = PointHead(config["loss"])
        else:
            levels, counts = torch.unique(rating, return_counts=True)
            if len(levels) < 2:
                raise DataError(
                    f"ordinal output needs two rating levels; all training ratings are {levels[0]:g}: use output: point"
                )
            shares, centre = counts / len(rating), float(self.mean)
            reg_weight, rate = config["threshold_reg_weight"], config["threshold_rate"]
            self.head = OrdinalHead(levels, shares, centre, self._offsets(len(levels) - 1), reg_weight, rate)
        self.loss_name = self.head.loss_name

    def _offsets(self, n: int) -> nn.Module:
        """Module that returns the n offsets of a user's thresholds; see :class:`OrdinalHead`."""
        return nn.Embedding.from_pretrained(torch.zeros(self.n_users, n), freeze=False)

    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Scores, in rating units for point output, of users and items whose shapes broadcast."""
        raise NotImplementedError

    def predict(self, interaction) -> torch.Tensor:
        """Predicted (expected) ratings of pairs, shape ``(b,)``."""
        user = interaction[self.USER_ID]
        return self.head.mean(self.score(user, interaction[self.ITEM_ID]), user)

    def predict_distribution(self, interaction) -> torch.Tensor | None:
        """Probability of each rating level for pairs, shape ``(b, K)``; None unless the output is ordinal."""
        if not isinstance(self.head, OrdinalHead):
            return None
        user = interaction[self.USER_ID]
        return self.head.distribution(self.score(user, interaction[self.ITEM_ID]), user)

    def full_sort_predict(self, interaction) -> torch.Tensor:
        """Predicted (expected) ratings of each user with every item, shape ``(b * n_items,)``."""

        def ratings(user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
            return self.head.mean(self.score(user, item), user)

        return all_pairs(ratings, interaction[self.USER_ID], self.n_items)
