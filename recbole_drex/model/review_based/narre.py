"""NARRE: users and items described by their reviews, weighted by usefulness; the most useful reviews explain."""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex.config.parameters import Parameter, with_defaults
from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.attentive import AttentiveModel, WeightedReviews
from recbole_drex.model.review_based.review_recommender import mean_squares
from recbole_drex.parallel import collectives


class ReviewAttention(nn.Module):
    r"""Usefulness of a review of one side: :math:`h^\top \mathrm{ReLU}(W_O o_s + W_e e_c + b_1)`.

    :math:`e_c` is the embedding of the counterpart c: the item of a user's review, the writer of an item's. NARRE's
    :math:`b_2` is left out: the softmax cancels it.

    Args:
        filters: width of o.
        counterparts: number of counterparts.
        embedding_size: width of e.
        size: width of the hidden layer.
    """

    def __init__(self, filters: int, counterparts: int, embedding_size: int, size: int):
        super().__init__()
        self.from_review = nn.Linear(filters, size)
        self.counterpart = nn.Embedding(counterparts, embedding_size)
        self.from_counterpart = nn.Linear(embedding_size, size, bias=False)
        self.output = nn.Linear(size, 1, bias=False)
        nn.init.normal_(self.counterpart.weight, std=0.1)

    def forward(self, review: torch.Tensor, counterpart: torch.Tensor) -> torch.Tensor:
        """Logits (n,) of reviews (n, filters) with counterparts (n,)."""
        # Projected once per counterpart, not once per review.
        known = self.from_counterpart(self.counterpart.weight)
        return self.output(torch.relu(self.from_review(review) + known[counterpart])).squeeze(-1)


class NARRE(AttentiveModel):
    r"""Neural attentional regression with review-level explanations (Chen, Zhang, Liu and Ma, WWW 2018).

    :math:`o_s` of width F are the outputs of the filters for review s, see
    :class:`~recbole_drex.model.review_based.text_cnn.TextCNN`; :math:`D_u` are u's training reviews and :math:`a_s` is
    the usefulness of :class:`ReviewAttention`. With latent size l:

    .. math::
        \alpha_{us} &= \mathrm{softmax}_{s \in D_u} a_s, \qquad O_u = \textstyle\sum_s \alpha_{us} o_s
            && \text{eq. 5-7} \\
        h_u &= q_u + W_U O_u + g_U, \qquad h_i \text{ likewise} && \text{eq. 8, 10} \\
        \hat r_{ui} &= w_1^\top (h_u \odot h_i) + b_u + b_i + \mu && \text{eq. 10, 11}

    with free embeddings q of users and items. Only real reviews take part in the softmax; a user or item without
    (other) reviews has O = 0. Unlike the paper: the review of the pair that is predicted takes part on neither side
    (``exclude_target_review``); both sides share the filters, so each review is convolved once.

    Raises:
        DataError: the data set has no word features, or the word vectors cannot be read.
    """

    PARAMETERS = (
        Parameter("embedding_size", int, 32, "Width of the counterparts' embeddings in the attention.", least=1),
        Parameter("attention_size", int, 32, "Width of the attention's hidden layer.", least=1),
        Parameter("latent_size", int, 64, "l: width of a user's or an item's state.", least=1),
        Parameter("init_std", float, 0.1, "Standard deviation of the free embeddings at the start.", least=0),
        Parameter("dropout", float, 0.5, "Dropout on the product of the two states.", least=0, most=1),
        Parameter("reg_weight", float, 0.1, "L2 on the free embeddings of a batch.", least=0),
        *with_defaults(AttentiveModel.PARAMETERS, bias_reg_weight=0.1, train_batch_size=4096),
    )

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.reg_weight, self.bias_reg_weight = config["reg_weight"], config["bias_reg_weight"]
        filters, latent, sizes = config["filters"], config["latent_size"], (self.n_users, self.n_items)
        self.attention_of_side = nn.ModuleList(
            [ReviewAttention(filters, n, config["embedding_size"], config["attention_size"]) for n in sizes[::-1]]
        )
        self.dense = nn.ModuleList([nn.Linear(filters, latent) for _ in sizes])
        self.embeddings = nn.ModuleList([nn.Embedding(n, latent) for n in sizes])
        self.biases = self.biases_of(dataset)
        for weight in self.embeddings.parameters():
            nn.init.normal_(weight, std=config["init_std"])
        self.dropout = nn.Dropout(config["dropout"])
        self.output = nn.Linear(latent, 1, bias=False)
        nn.init.normal_(self.output.weight, std=0.01)  # predictions start near the biases

    # Reviews ----------------------------------------------------------------------------------------------------

    def _read(self, review: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Read distinct reviews (n,); several processes share the work, so all must pass the same reviews.

        Returns:
            The index of each review of the data among these, -1 for none; the filters' outputs (n, filters); and per
            side the logits (n,) of :meth:`_logits`.
        """
        n = len(review)
        own = review[collectives.own_part(n)]
        reading = self.cnn.read(own)
        answers = self.cnn.answer(reading, reading.position)
        logits = [collectives.joined(logit, n) for logit in self._logits(own, answers)]
        slot = torch.full((len(self.documents),), -1, device=review.device)
        slot[review] = torch.arange(len(review), device=review.device)
        return slot, collectives.joined(answers, n), logits

    def _logits(self, review: torch.Tensor, answers: torch.Tensor) -> list[torch.Tensor]:
        """Per side, usefulness before the softmax of reviews (n,) with filter outputs (n, filters): (n,)."""
        counterparts = (self.documents.item[review], self.documents.user[review])
        return [attend(answers, who) for attend, who in zip(self.attention_of_side, counterparts, strict=True)]

    def _state(
        self,
        side: Side,
        entity: torch.Tensor,
        own: torch.Tensor,
        slot: torch.Tensor,
        answers: torch.Tensor,
        logits: torch.Tensor,
    ) -> torch.Tensor:
        """h of users or items (b,) without their ``own`` reviews: (b, latent).

        Args:
            side: users or items.
            entity: (b,).
            own: (b,), -1 for none.
            slot: index of each review of the data in ``answers`` and ``logits``, (reviews,).
            answers: outputs of the filters, (n, filters).
            logits: of this side, (n,).
        """
        reviews = self.weighted(side, entity, own, lambda review, _: logits[slot[review]])
        return self.embeddings[side](entity) + self.dense[side](self.pooled(len(entity), reviews, slot, answers))

    # Training ---------------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction) -> torch.Tensor:
        user, item, rating = (interaction[name] for name in (self.USER_ID, self.ITEM_ID, self.rating_field))
        own = self.own_review(user, item)
        slot, answers, logits = self._read(collectives.union(self.documents.read_for(user, item), len(self.documents)))
        user_state, item_state = (
            self._state(side, entity, own, slot, answers, logits[side])
            for side, entity in zip(Side, (user, item), strict=True)
        )
        product = self.dropout(user_state * item_state)
        score = self.output(product).squeeze(-1) + self._biases(user, item) + self.mean
        free, bias = (mean_squares(tables, user, item) for tables in (self.embeddings, self.biases))
        return self.head.loss(score, user, rating) + self.reg_weight * free + self.bias_reg_weight * bias

    # Prediction -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def refresh(self) -> None:
        device = self.mean.device
        self._slot, self._answers, self._usefulness = self._read(torch.arange(len(self.documents), device=device))
        self._states = []
        for side, size in ((Side.USER, self.n_users), (Side.ITEM, self.n_items)):
            entity = torch.arange(size, device=device)
            self._states.append(self._cached_state(side, entity, torch.full_like(entity, -1)))

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The states of users and items, each of shape ``(n, d)``, from all training reviews."""
        self.make_ready()
        return self._states[Side.USER], self._states[Side.ITEM]

    def _cached_state(self, side: Side, entity: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        return self._state(side, entity, own, self._slot, self._answers, self._usefulness[side])

    def score_of_others(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        product = (self._states[Side.USER] * self.output.weight)[user] * self._states[Side.ITEM][item]
        return product.sum(-1) + self._biases(user, item) + self.mean

    def score_of_reviewed(self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        return self.score_of_states(
            self._cached_state(Side.USER, user, row), self._cached_state(Side.ITEM, item, row), user, item
        )

    # Explanations -----------------------------------------------------------------------------------------------

    def cached_weights(self, side: Side, pair: tuple[torch.Tensor, torch.Tensor], own: torch.Tensor) -> WeightedReviews:
        return self.weighted(side, pair[side], own, lambda review, _: self._usefulness[side][self._slot[review]])

    def state_of(self, side: Side, pair: tuple[torch.Tensor, torch.Tensor], pooled: torch.Tensor) -> torch.Tensor:
        return self.embeddings[side](pair[side]) + self.dense[side](pooled)
