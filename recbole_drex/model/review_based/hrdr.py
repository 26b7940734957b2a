"""HRDR: users and items described by their ratings and by their reviews, which the ratings weigh."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from recbole_drex.config.parameters import Parameter, with_defaults
from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.attentive import AttentiveModel, WeightedReviews
from recbole_drex.model.review_based.rating_rows import RatingRows
from recbole_drex.model.review_based.review_recommender import mean_squares
from recbole_drex.parallel import collectives

Pair = tuple[torch.Tensor, torch.Tensor]


def shares_of_scale(rating: torch.Tensor) -> torch.Tensor:
    """Ratings (n,) as positive numbers up to 1, so that none equals the 0 of items without a rating.

    The lowest rating lies one level above 0; a level is the smallest difference between two ratings.

    Example:
        >>> shares_of_scale(torch.tensor([1.0, 5.0, 4.0])), shares_of_scale(torch.tensor([0.0, 1.0]))
        (tensor([0.2000, 1.0000, 0.8000]), tensor([0.5000, 1.0000]))
    """
    levels = torch.unique(rating)
    gap = levels.diff().min() if len(levels) > 1 else torch.ones(())
    return (rating - levels[0] + gap) / (levels[-1] - levels[0] + gap)


class RatingEncoder(nn.Module):
    r"""x, what the ratings of one side say: an MLP over rating rows, then batch normalisation.

    The input is the row divided by the square root of its number of ratings, or 0 without ratings.

    Args:
        rows: the ratings.
        side: whose rows.
        counterparts: width of a row.
        sizes: widths of the layers.
    """

    rows: RatingRows

    def __init__(self, rows: RatingRows, side: Side, counterparts: int, sizes: list[int]):
        super().__init__()
        self.rows, self.side = rows, side
        self.first = nn.Parameter(torch.empty(counterparts, sizes[0]))
        self.bias = nn.Parameter(torch.zeros(sizes[0]))
        self.others = nn.ModuleList([nn.Linear(*pair) for pair in itertools.pairwise(sizes)])
        self.norm = nn.BatchNorm1d(sizes[-1])
        nn.init.normal_(self.first, std=1.0 / sizes[0] ** 0.5)

    def forward(self, entity: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """x of users or items (b,), distinct in training, without the ``hidden`` ratings (k,): (b, width)."""
        rated = self._encode(*self.rows.times(self.side, entity, self.first, hidden))
        # One row has no variance.
        return self.norm(rated) if len(rated) > 1 else self._normalised(rated)

    @torch.no_grad()
    def refresh(self) -> None:
        """Multiply all rows by the first layer, for :meth:`known`."""
        # In double precision, since what is subtracted later must not remain in the rounding.
        self._weight = self.first.detach().double()
        everyone = torch.arange(self.rows.counts[self.side], device=self.first.device)
        self._products = self.rows.times(self.side, everyone, self._weight)

    def known(self, entity: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """x of users or items (b,) for prediction, each without one of its ratings (b,), -1 for none: (b, width)."""
        product, count = (part[entity] for part in self._products)
        product = product - self.rows.term(self.side, own, self._weight)
        rated = self._encode(product.to(self.first), (count - (own >= 0).to(count)).to(self.first))
        return self._normalised(rated)

    def _encode(self, product: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(product / count.clamp(min=1)[:, None].sqrt() + self.bias)
        for layer in self.others:
            hidden = torch.relu(layer(hidden))
        return hidden

    def _normalised(self, rated: torch.Tensor) -> torch.Tensor:
        """By the running mean and variance."""
        norm = self.norm
        return nn.functional.batch_norm(rated, norm.running_mean, norm.running_var, norm.weight, norm.bias)


class RatingAttention(nn.Module):
    r"""Weight of a review before the softmax: :math:`w_2^\top \mathrm{ReLU}(W_1 (o_s \odot x) + b_1)`.

    x is what the ratings of the review's user say (of its item, on the item side). :math:`b_2` is left out: the softmax
    cancels it.

    Args:
        filters: width of o and x.
        size: width of the hidden layer.
    """

    def __init__(self, filters: int, size: int):
        super().__init__()
        self.hidden = nn.Linear(filters, size)
        self.output = nn.Linear(size, 1, bias=False)

    def forward(self, review: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """Logits (n,) of reviews (n, filters) of owners (n, filters)."""
        return self.output(torch.relu(self.hidden(review * owner))).squeeze(-1)


def _looked_up(logits: torch.Tensor, slot: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda review, _: logits[slot[review]]


class HRDR(AttentiveModel):
    r"""Hybrid neural recommendation with joint deep representation (Liu et al., Neurocomputing 2020).

    :math:`\rho_u` is u's row of training ratings and :math:`x_u` of width F what an MLP reads from it, see
    :class:`RatingEncoder`; :math:`o_s` of width F are the outputs of the filters for review s, see
    :class:`~recbole_drex.model.review_based.text_cnn.TextCNN`; :math:`D_u` are u's training reviews and :math:`a_s` is
    the weight of :class:`RatingAttention`.

    .. math::
        x_u &= \mathrm{BN}(\mathrm{MLP}_U(\rho_u)), \qquad
            O_u = \textstyle\sum_{s \in D_u} \mathrm{softmax}_{s \in D_u}(a_s) \, o_s \\
        h_u &= [x_u; W_U \, \mathrm{dropout}(O_u) + g_U; q_u], \qquad h_i \text{ likewise} \\
        \hat r_{ui} &= w^\top (h_u \odot h_i) + b_u + b_i + \mu

    with free embeddings q of users and items. Only real reviews take part in the softmax; a user or item without
    (other) reviews has O = 0.

    Unlike the paper: in training, the rating rows lack all ratings of the batch, so that neither a state nor the
    statistics of the batch normalisation contain a target's rating; in prediction, the rows of a pair with a training
    rating lack this rating. Its review takes part on neither side. ``exclude_target_review: false`` leaves out neither
    rating nor review. The batch normalisation sees each user and item of a batch once. Both sides share the filters.

    Raises:
        DataError: the data set has no word features, or the word vectors cannot be read.
    """

    PARAMETERS = (
        Parameter("rating_size", int, 128, "Width of the first layer over rating rows; the second has half.", least=2),
        Parameter("attention_size", int, 16, "Width of the attention's hidden layer.", least=1),
        Parameter("latent_size", int, 32, "Width of a user's or an item's reviews in its state.", least=1),
        Parameter("embedding_size", int, 32, "Width of the free embeddings.", least=1),
        Parameter("init_std", float, 0.1, "Standard deviation of the free embeddings at the start.", least=0),
        Parameter("dropout", float, 0.5, "Dropout on a user's or an item's pooled reviews.", least=0, most=1),
        Parameter("reg_weight", float, 0.1, "L2 on the free embeddings of a batch.", least=0),
        *with_defaults(AttentiveModel.PARAMETERS, filters=64, bias_reg_weight=0.1, train_batch_size=4096),
    )

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.reg_weight, self.bias_reg_weight = config["reg_weight"], config["bias_reg_weight"]
        filters, latent, size = config["filters"], config["latent_size"], config["embedding_size"]
        counts = self.n_users, self.n_items
        feat = dataset.inter_feat
        value = shares_of_scale(feat[self.rating_field].float())
        self.rows = RatingRows(feat[self.USER_ID], feat[self.ITEM_ID], value, *counts)
        sizes = [config["rating_size"], config["rating_size"] // 2, filters]
        self.encoders = nn.ModuleList(
            [RatingEncoder(self.rows, side, n, sizes) for side, n in zip(Side, counts[::-1], strict=True)]
        )
        self.attention_of_side = nn.ModuleList([RatingAttention(filters, config["attention_size"]) for _ in counts])
        self.dense = nn.ModuleList([nn.Linear(filters, latent) for _ in counts])
        self.embeddings = nn.ModuleList([nn.Embedding(n, size) for n in counts])
        self.biases = self.biases_of(dataset)
        for weight in self.embeddings.parameters():
            nn.init.normal_(weight, std=config["init_std"])
        self.dropout = nn.Dropout(config["dropout"])
        self.output = nn.Linear(filters + latent + size, 1, bias=False)
        nn.init.normal_(self.output.weight, std=0.01)  # predictions start near the biases

    # States -----------------------------------------------------------------------------------------------------

    def _read(self, review: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Read distinct reviews (n,); several processes share the work, so all must pass the same reviews.

        Returns:
            The index of each review of the data among these, -1 for none; and the filters' outputs (n, filters).
        """
        own = review[collectives.own_part(len(review))]
        reading = self.cnn.read(own)
        slot = torch.full((len(self.documents),), -1, device=review.device)
        slot[review] = torch.arange(len(review), device=review.device)
        return slot, collectives.joined(self.cnn.answer(reading, reading.position), len(review))

    def _state(self, side: Side, entity: torch.Tensor, rated: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """h of users or items (b,) with x and O of (b, filters)."""
        return torch.cat([rated, self.dense[side](self.dropout(pooled)), self.embeddings[side](entity)], -1)

    # Training ---------------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction) -> torch.Tensor:
        user, item, rating = (interaction[name] for name in (self.USER_ID, self.ITEM_ID, self.rating_field))
        own = self.own_review(user, item)
        slot, answers = self._read(collectives.union(self.documents.read_for(user, item), len(self.documents)))
        hidden = collectives.union(self.rows.find(user, item), len(self.rows)) if self.exclude_target_review else None
        states = []
        for side, entity, n in zip(Side, (user, item), (self.n_users, self.n_items), strict=True):
            # Users of the whole batch, so that the normalisation is the same in all processes.
            distinct = collectives.union(entity, n)
            rated = self.encoders[side](distinct, hidden)
            index = torch.searchsorted(distinct, entity)
            logits = self._logits_of_all(side, slot, answers, distinct, rated)
            reviews = self.weighted(side, entity, own, _looked_up(logits, slot))
            pooled = self.pooled(len(entity), reviews, slot, answers)
            states.append(self._state(side, entity, rated.index_select(0, index), pooled))
        score = self.score_of_states(states[Side.USER], states[Side.ITEM], user, item)
        free, bias = (mean_squares(tables, user, item) for tables in (self.embeddings, self.biases))
        return self.head.loss(score, user, rating) + self.reg_weight * free + self.bias_reg_weight * bias

    def _logits_of_all(
        self, side: Side, slot: torch.Tensor, answers: torch.Tensor, entity: torch.Tensor, rated: torch.Tensor
    ) -> torch.Tensor:
        """Logits of all reviews that were read, (n,), by x (b, filters) of their users or items (b,), ascending."""
        review = torch.nonzero(slot >= 0).flatten()
        owner = torch.searchsorted(entity, (self.documents.user, self.documents.item)[side][review])
        # Reviews of others are read for the other side only; their logits are not used.
        return self.attention_of_side[side](answers, rated.index_select(0, owner.clamp(max=len(entity) - 1)))

    # Prediction -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def refresh(self) -> None:
        device = self.mean.device
        self._slot, self._answers = self._read(torch.arange(len(self.documents), device=device))
        self._states = []
        for side, n in zip(Side, (self.n_users, self.n_items), strict=True):
            entity = torch.arange(n, device=device)
            none = torch.full_like(entity, -1)
            self._encoder(side).refresh()
            rated = self._encoder(side).known(entity, none)
            logits = self._logits_of_all(side, self._slot, self._answers, entity, rated)
            reviews = self.weighted(side, entity, none, _looked_up(logits, self._slot))
            self._states.append(self._state(side, entity, rated, self.pooled(n, reviews, self._slot, self._answers)))

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The states of users and items, each of shape ``(n, d)``, from all training ratings and reviews."""
        self.make_ready()
        return self._states[Side.USER], self._states[Side.ITEM]

    def own_rating(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Rating to leave out of the prediction of each pair, by number, -1 for none; shapes broadcast."""
        number = self.rows.find(user, item)
        return number if self.exclude_target_review else torch.full_like(number, -1)

    def has_own_evidence(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return super().has_own_evidence(user, item) | (self.own_rating(user, item) >= 0)

    def score_of_others(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        product = (self._states[Side.USER] * self.output.weight)[user] * self._states[Side.ITEM][item]
        return product.sum(-1) + self._biases(user, item) + self.mean

    def score_of_reviewed(self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        states = []
        for side in Side:
            reviews = self.cached_weights(side, (user, item), row)
            states.append(self.state_of(side, (user, item), self.pooled(len(user), reviews, self._slot, self._answers)))
        return self.score_of_states(states[Side.USER], states[Side.ITEM], user, item)

    def _encoder(self, side: Side) -> RatingEncoder:
        return cast(RatingEncoder, self.encoders[side])

    def _rated(self, side: Side, pair: Pair) -> torch.Tensor:
        return self._encoder(side).known(pair[side], self.own_rating(*pair))

    def cached_weights(self, side: Side, pair: Pair, own: torch.Tensor) -> WeightedReviews:
        rated = self._rated(side, pair)

        def logits(review: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
            return self.attention_of_side[side](self._answers[self._slot[review]], rated[owner])

        return self.weighted(side, pair[side], own, logits)

    def state_of(self, side: Side, pair: Pair, pooled: torch.Tensor) -> torch.Tensor:
        return self._state(side, pair[side], self._rated(side, pair), pooled)
