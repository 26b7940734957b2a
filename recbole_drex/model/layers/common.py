"""Functions and base classes that several models share."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from recbole_drex.config.general_parameters import RATING_TRAINING
from recbole_drex.model.contract import ModelContract
from recbole_drex.recbole import GeneralRecommender, InputType


class Side(enum.IntEnum):
    """The two sides of an interaction, as positions in pairs of users and items."""

    USER = 0
    ITEM = 1


BLOCK_ROWS = 8192
"""Rows per block, where processing all interactions together would take much memory."""


def damped_mean(group: torch.Tensor, value: torch.Tensor, n_groups: int, damping: float) -> torch.Tensor:
    """Mean of ``value`` in each group, shrunk towards zero by ``damping`` additional zeros.

    Args:
        group: group of each of n values, int64, shape ``(n,)``.
        value: shape ``(n,)``.
        n_groups: number of groups; an empty group's mean is zero.
        damping: pseudo-count, 0 or more.

    Returns:
        Shape ``(n_groups,)``.

    Example:
        >>> damped_mean(torch.tensor([0, 0, 1]), torch.tensor([1.0, 3.0, 5.0]), 3, damping=1.0)
        tensor([1.3333, 2.5000, 0.0000])
    """
    total = torch.zeros(n_groups, dtype=value.dtype).index_add_(0, group, value)
    count = torch.bincount(group, minlength=n_groups).to(value.dtype) + damping
    return torch.where(count > 0, total / count.clamp(min=1e-12), torch.zeros_like(total))


def residual_idf(reviews: np.ndarray, users: np.ndarray, of_user: np.ndarray) -> np.ndarray:
    """Log of the expected number of users of a word, if its reviews were distributed at random, over the observed one.

    It is the residual inverse document frequency of Church and Gale (1995), with users as documents of unequal length.

    Args:
        reviews, users: number of reviews and of users with each word, (words,).
        of_user: number of reviews of each user, (n_users,).

    Example:
        Both users wrote two reviews; one of them wrote the first word twice, both the second word once.

        >>> residual_idf(np.array([2, 2]), np.array([1, 2]), np.array([2, 2])).round(3).tolist()
        [0.405, -0.288]
    """
    share = reviews / max(1, of_user.sum())
    expected = np.zeros(len(share))
    for size, number in zip(*np.unique(of_user[of_user > 0], return_counts=True), strict=True):
        expected += number * (1 - (1 - share) ** int(size))
    return np.log(np.maximum(expected, 1e-12) / np.maximum(users, 1))


def learned_biases(dataset, n_users: int, n_items: int, damping: float = 10.0) -> nn.ModuleList:
    """Learned biases of users and of items, (n, 1) each, initialised with damped means of the training ratings.

    Args:
        dataset: the training part.
        n_users, n_items: numbers of users and items, padding included.
        damping: pseudo-count of the means.
    """
    feat = dataset.inter_feat
    user, item, rating = feat[dataset.uid_field], feat[dataset.iid_field], feat[dataset.rating_field].float()
    rest = rating - rating.mean()
    of_item = damped_mean(item, rest, n_items, damping)
    of_user = damped_mean(user, rest - of_item[item], n_users, damping)
    return nn.ModuleList([nn.Embedding.from_pretrained(x[:, None], freeze=False) for x in (of_user, of_item)])


def sums_of_blocks(rows: Callable[[slice], torch.Tensor], group: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Add rows to the sums of their groups, in blocks.

    Args:
        rows: returns the rows of a slice, float32 (m, width).
        group: group of each of n rows, int64, shape ``(n,)``.
        total: the sums, (n_groups, width); changed in place and returned.

    Example:
        >>> rows = torch.tensor([[1.0], [2.0], [4.0]])
        >>> sums_of_blocks(rows.__getitem__, torch.tensor([1, 0, 1]), torch.zeros(2, 1)).tolist()
        [[2.0], [5.0]]
    """
    for index in blocks_of(len(group)):
        total.index_add_(0, group[index], rows(index))
    return total


def cumulated(values: torch.Tensor, group: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """For each row, the sum of the earlier rows of its group; ties are broken by the order of the rows.

    Args:
        values: (n, width).
        group: (n,).
        time: (n,).

    Example:
        >>> values, group = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 1, 0])
        >>> cumulated(values, group, torch.tensor([5.0, 1.0, 9.0])).flatten().tolist()
        [0.0, 0.0, 1.0]
    """
    order = torch.argsort(time, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    ordered = values[order].double()
    before = ordered.cumsum(0) - ordered
    count = torch.bincount(group)
    first = (count.cumsum(0) - count)[group[order]]
    result = torch.empty_like(ordered).index_put((order,), before - before[first])
    return result.to(values)


def blocks_of(n: int, size: int = BLOCK_ROWS) -> Iterator[slice]:
    """Consecutive blocks of n rows.

    Example:
        >>> list(blocks_of(5, 3))
        [slice(0, 3, None), slice(3, 5, None)]
    """
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def all_pairs(score: Callable, user: torch.Tensor, n_items: int) -> torch.Tensor:
    """Scores of each user with every item, as RecBole's ``full_sort_predict`` returns them.

    Args:
        score: function of users of shape ``(b, 1)`` and items of shape ``(1, n_items)``.
        user: shape ``(b,)``.

    Returns:
        Shape ``(b * n_items,)``.
    """
    item = torch.arange(n_items, device=user.device)
    # RecBole writes into the scores, so they must not be an expanded view.
    return score(user[:, None], item[None, :]).contiguous().reshape(-1)


def bpr_loss(margin: torch.Tensor) -> torch.Tensor:
    r"""Bayesian personalised ranking (Rendle et al. 2009): the mean of :math:`-\log \sigma(m)`.

    Args:
        margin: m, score of an item that a user has interacted with minus that of one without interaction, ``(n,)``.

    Returns:
        Scalar, finite for any finite margins.

    Example:
        >>> bpr_loss(torch.tensor([0.0, -1000.0]))
        tensor(500.3466)
    """
    return nn.functional.softplus(-margin).mean()


class CacheMixin:
    """Mixin for models that cache what they compute from their parameters.

    ``_stale`` says that the cache is out of date; a subclass checks it before it uses the cache. It is set when the
    parameters have changed: ``train``, which RecBole calls before every epoch and every evaluation, compares PyTorch's
    version counters, and loading a checkpoint sets it. So an evaluation's cache serves the next epoch.
    """

    _stale = True
    _versions: tuple[int, ...] = ()

    def train(self, mode: bool = True):
        versions = tuple(parameter._version for parameter in self.parameters())  # type: ignore[attr-defined]
        self._stale |= versions != self._versions
        self._versions = versions
        return super().train(mode)  # type: ignore[misc]

    def _apply(self, *args, **kwargs):
        self._stale = True  # the cache does not move to another device with the parameters
        return super()._apply(*args, **kwargs)  # type: ignore[misc]

    def _load_from_state_dict(self, *args, **kwargs):
        self._stale = True
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[misc]


class ClosedFormRecommender(ModelContract, GeneralRecommender):
    """Base of models that are computed from the training ratings in closed form; RecBole "trains" them for one epoch.

    A subclass registers its results as buffers and implements ``score(user, item)``, which broadcasts.
    """

    PARAMETERS = RATING_TRAINING
    input_type = InputType.POINTWISE
    loss_name = "mse"
    closed_form = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        feat = dataset.inter_feat
        self.train_user, self.train_item = feat[self.USER_ID], feat[self.ITEM_ID]
        self.train_rating = feat[config["RATING_FIELD"]].float()
        self.fake_loss = nn.Parameter(torch.zeros(1))  # an optimiser needs at least one parameter

    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Predicted ratings of users and items whose shapes broadcast."""
        raise NotImplementedError

    def calculate_loss(self, interaction) -> torch.Tensor:
        return self.fake_loss.sum()

    def predict(self, interaction) -> torch.Tensor:
        return self.score(interaction[self.USER_ID], interaction[self.ITEM_ID])

    def full_sort_predict(self, interaction) -> torch.Tensor:
        return all_pairs(self.score, interaction[self.USER_ID], self.n_items)
