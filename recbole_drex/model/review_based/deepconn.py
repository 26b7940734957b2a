"""DeepCoNN: users and items described by documents, the sets of their reviews."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter
from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.review_recommender import ReviewModel, mean_squares
from recbole_drex.model.review_based.text_cnn import Reading


class SideTerms(NamedTuple):
    """A side's part of the factorisation machine.

    Attributes:
        alone: its own terms, (b,).
        factors: what is multiplied by the factors of the other side, (b, k).
    """

    alone: torch.Tensor
    factors: torch.Tensor

    def of(self, index: torch.Tensor) -> SideTerms:
        """Those of some users or items."""
        return SideTerms(self.alone[index], self.factors[index])


class Highest(NamedTuple):
    """Of each document and filter, the reviews with the two highest outputs, (b, filters) each; -1 without one."""

    first: torch.Tensor
    second: torch.Tensor

    def of(self, index: torch.Tensor) -> Highest:
        """Those of some documents."""
        return Highest(self.first[index], self.second[index])


class DeepCoNN(ReviewModel):
    r"""Deep cooperative neural networks (Zheng, Noroozi and Yu, WSDM 2017).

    The document of user u is :math:`D_u`, the set of u's training reviews; :math:`o_s` of width F are the outputs of
    the filters for review s, see :class:`~recbole_drex.model.review_based.text_cnn.TextCNN`. With latent size l and k
    factors:

    .. math::
        d_u &= \max_{s \in D_u} o_s, \qquad x_u = \mathrm{ReLU}(W_U d_u + g_U), \qquad y_i \text{ likewise} \\
        z &= [x_u; y_i] \in \mathbb{R}^{2l} \\
        \hat r_{ui} &= w_0 + w^\top z + \textstyle\sum_{a < b} \langle v_a, v_b \rangle z_a z_b,
            \qquad v_a \in \mathbb{R}^k

    :math:`w_0` starts at the mean rating. The factorisation machine splits into a part of the user, one of the item and
    :math:`(V_U^\top x_u)^\top (V_I^\top y_i)`, so all pairs cost one matrix product.

    Unlike the paper: the review of the pair that is predicted is in neither document (``exclude_target_review``); both
    sides share the filters, so each review is convolved once; windows stay within a review; ``use_bias`` adds
    :math:`b_u + b_i`. A user or item without (other) reviews has d = 0.

    Raises:
        DataError: the data set has no word features, or the word vectors cannot be read.
    """

    PARAMETERS = (
        Parameter("latent_size", int, 64, "l: width of a user's or an item's vector.", least=1),
        Parameter("factors", int, 8, "k: factors of the factorisation machine.", least=1),
        Parameter(
            "dropout", float, 0.2, "Dropout on the input of the factorisation machine.", least=0, most=1
        ),
        Parameter("use_bias", bool, True, "Add learned user and item biases."),
        *ReviewModel.PARAMETERS,
        general("weight_decay", 0.00001),
    )  # fmt: skip

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.bias_reg_weight = config["bias_reg_weight"]
        latent = config["latent_size"]
        self.dense = nn.ModuleList([nn.Linear(config["filters"], latent) for _ in range(2)])
        self.dropout = nn.Dropout(config["dropout"])
        self.linear = nn.ModuleList([nn.Linear(latent, 1, bias=False) for _ in range(2)])
        self.factors = nn.ModuleList([nn.Linear(latent, config["factors"], bias=False) for _ in range(2)])
        for layer in (*self.linear, *self.factors):
            nn.init.normal_(layer.weight, std=0.05)
        self.constant = nn.Parameter(self.mean.clone())
        self.biases = self.biases_of(dataset) if config["use_bias"] else None

    # Documents --------------------------------------------------------------------------------------------------

    def _two_highest(self, reading: Reading, side: Side, entity: torch.Tensor) -> Highest:
        """Reviews with the highest and the second highest output of each filter."""
        result = torch.full((2, len(entity), self.cnn.filters), -1, device=entity.device)
        review, owner = self.documents.of(side, entity)
        there, counts = torch.unique_consecutive(owner, return_counts=True)
        if not len(review):
            return Highest(*result)
        value, indices = reading.value[reading.slot[review]], torch.arange(len(review), device=entity.device)
        first = counts.cumsum(0) - counts
        for rank in range(2):
            highest, _, _, index = torch.embedding_bag(value, indices, first, mode=2)  # maximum, and where it is
            result[rank, there] = torch.where(highest > -torch.inf, review[index], -1)
            value.scatter_(0, index, -torch.inf)
        return Highest(*result)

    def _document(self, reading: Reading, highest: Highest, own: torch.Tensor) -> torch.Tensor:
        """d of documents without the reviews ``own`` (b,), -1 for none: (b, filters).

        Args:
            reading: computed with the current parameters.
            highest: from :meth:`_two_highest`.
            own: (b,).
        """
        review = torch.where(highest.first == own[:, None], highest.second, highest.first)
        if not len(reading.value):
            return torch.zeros(review.shape, device=review.device)
        position = reading.position.gather(0, reading.slot[review.clamp(min=0)].clamp(min=0))
        return self.cnn.answer(reading, position) * ((highest.first >= 0) & (review >= 0))

    def _side(self, side: Side, document: torch.Tensor) -> SideTerms:
        """A side's terms from its documents d, (b, filters)."""
        latent = self.dropout(torch.relu(self.dense[side](document)))
        factors = self.factors[side](latent)
        squares = latent.square() @ self.factors[side].weight.T.square()  # type: ignore[operator]
        alone = self.linear[side](latent).squeeze(-1) + 0.5 * (factors.square() - squares).sum(-1)
        return SideTerms(alone, factors)

    # Training ---------------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction) -> torch.Tensor:
        user, item, rating = (interaction[name] for name in (self.USER_ID, self.ITEM_ID, self.rating_field))
        own = self.own_review(user, item)
        reading = self.cnn.read(self.documents.read_for(user, item))
        sides = []
        for side, entity in zip(Side, (user, item), strict=True):
            distinct, index = torch.unique(entity, return_inverse=True)
            highest = self._two_highest(reading, side, distinct).of(index)
            sides.append(self._side(side, self._document(reading, highest, own)))
        loss = self.head.loss(self._sum(*sides) + self._biases(user, item), user, rating)
        return loss + self.bias_reg_weight * mean_squares(self.biases, user, item)

    def _sum(self, user: SideTerms, item: SideTerms) -> torch.Tensor:
        return self.constant + user.alone + item.alone + (user.factors * item.factors).sum(-1)

    # Prediction -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def refresh(self) -> None:
        device = self.constant.device
        self._reading = self.cnn.read(torch.arange(len(self.documents), device=device))
        self._highest, self._sides = [], []
        for side, size in ((Side.USER, self.n_users), (Side.ITEM, self.n_items)):
            entity = torch.arange(size, device=device)
            self._highest.append(self._two_highest(self._reading, side, entity))
            document = self._document(self._reading, self._highest[side], torch.full_like(entity, -1))
            self._sides.append(self._side(side, document))

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The factors of the documents of users and items, each of shape ``(n, k)``."""
        self.make_ready()
        return self._sides[Side.USER].factors, self._sides[Side.ITEM].factors

    def score_of_others(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return self._sum(self._sides[Side.USER].of(user), self._sides[Side.ITEM].of(item)) + self._biases(user, item)

    def score_of_reviewed(self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        users, items = (
            self._side(side, self._document(self._reading, self._highest[side].of(entity), row))
            for side, entity in zip(Side, (user, item), strict=True)
        )
        return self._sum(users, items) + self._biases(user, item)
