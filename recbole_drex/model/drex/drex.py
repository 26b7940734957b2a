"""DReX: states of users and items refined by multimodal interactions (arXiv 2602.19702). Unofficial implementation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from recbole_drex.errors import ConfigError
from recbole_drex.model.abstract_recommender import OrdinalHead
from recbole_drex.model.drex.drex_parameters import DREX_PARAMETERS
from recbole_drex.model.drex.states import SideState, StateModel
from recbole_drex.model.drex.taste import TextTaste
from recbole_drex.model.layers.common import Side, blocks_of
from recbole_drex.model.layers.evidence_table import RatingColumns
from recbole_drex.parallel import collectives

_PAIRS = 4096  # pairs per block


class ScoreParts(NamedTuple):
    """A score as a sum of parts.

    Attributes:
        average: the score of an unknown user and an unknown item, (...,).
        user: contribution of the user's evidence, independent of the item, (...,).
        item: contribution of the item's evidence, independent of the user, (...,).
        aspects: contribution of each aspect, (..., A).
        taste: contribution of the user's taste for what others say about the item, (...,).
        rest: interaction of the states of user and item, (...,).
    """

    average: torch.Tensor
    user: torch.Tensor
    item: torch.Tensor
    aspects: torch.Tensor
    taste: torch.Tensor
    rest: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """The score, (...,)."""
        return self.average + self.user + self.item + self.aspects.sum(-1) + self.taste + self.rest


class DReX(StateModel):
    r"""States of users and items, refined by reviews and ratings (paper, section 3); ``start: mlp`` makes it DReX-MLP.

    An interaction s of user u and item i has a rating, review words with embeddings :math:`x_k`, further vectors, or
    some of these. With d = ``embedding_size``:

    .. math::
        T_s &= W_t \textstyle\sum_k a_k x_k + b_t, \quad a = \mathrm{softmax}_k\, w_a^\top (W_t x_k + b_t)
            && \text{eq. 2, 3; 0 without words} \\
        R_s &= W_r\, \mathrm{onehot}(r_s) + b_r && \text{section 3.2.2; 0 without a rating} \\
        e_s &= W_f [T_s; R_s; \dots] + b_f && \text{section 3.3; nothing at all: no message} \\
        h_u &= \mathrm{GRU}_u(\text{messages of } u \text{ other than } s), \quad h_i \text{ likewise}
            && \text{eq. 4-7} \\
        \hat r_s &= \mathrm{MLP}([h_u; h_i]) && \text{section 3.5} \\
        L &= \tfrac{1}{|B|} \textstyle\sum_{s \in B} \ell(r_s, \hat r_s) + \lambda (\|h_u\|^2 + \|h_i\|^2)
            && \text{eq. 8 by } \texttt{reg\_states: targets} \\
        L &= \tfrac{1}{|B|} \textstyle\sum_{s \in B} \ell(r_s, \hat r_s) + \lambda (\|P\|_F^2 + \|Q\|_F^2)
            && \text{eq. 8 by } \texttt{reg\_states: all}, P \text{ and } Q \text{ all states}

    :math:`\ell` is the squared error in the paper, or what ``output`` and ``loss`` of
    :class:`~recbole_drex.model.abstract_recommender.RatingModel` say; for ordinal output :math:`\hat r_s` is the score.

    The state that predicts s never contains the message of s, neither in training nor in evaluation. (The paper does
    not say so; taken literally, it would train by copying.) ``refinement: leave_one_out`` takes one GRU step with the
    mean of the other messages; ``sequential`` takes one step per earlier message, in time order.

    Beyond the paper, and off in ``DReX-paper``:

    * ``use_bias`` adds :math:`\mu + \alpha_u d_u + \alpha_i d_i`. :math:`d_u` is the shrunken mean deviation of the
      user's other ratings from the items' means:
      :math:`d_u = \sum_{t \in N(u)} (r_t - \mu_{j(t)}) / (|N(u)| + c_u)`; :math:`d_i` likewise. :math:`\alpha` and
      c are learned. So users and items have no free parameters, and new users are treated like those in the data.
    * With ordinal output, the offsets of a user's thresholds are a linear function of how the distribution of the
      user's other ratings differs from that of all users
      (:meth:`~recbole_drex.model.drex.states.StateModel.habits`).
    * ``adjust_rating`` adds to each side's message a projection of the rating minus the other side's mean.
    * ``use_bilinear`` adds :math:`h_u^\top B h_i`, since an MLP learns products of its inputs badly; ``use_mlp: false``
      leaves the MLP out; ``factor_size`` adds :math:`p_u^\top q_i`, with free vectors.
    * ``aspects`` adds, over aspects, how much the user mentions the aspect times what others think of it, see
      :class:`~recbole_drex.model.drex.aspects.Aspects`; it needs the leave-one-out rule.
    * ``taste`` adds the user's taste for what others say about the item, see
      :class:`~recbole_drex.model.drex.taste.TextTaste`. Pairs that are evidence are predicted without it.

    The evidence about an item that has none can be predicted from its text and images (``item_content``,
    :class:`~recbole_drex.model.drex.item_content.ItemContent`): the item then has the predicted sum of rows.

    A score is a sum of parts (:class:`ScoreParts`). Let f be the MLP plus the bilinear term, and :math:`h_0` the state
    of a user or item without evidence (for ``start: random`` the mean of the learned ones). Then :math:`f(h_u, h_i)` is
    split into :math:`f(h_0, h_0)` for the average, :math:`f(h_u, h_0) - f(h_0, h_0)` for the user, likewise for the
    item, and the rest.

    ``train_target: implicit`` (``DReX-implicit``) ranks instead of predicting ratings. The score of a target is
    compared with the scores of K sampled items without an interaction, all from states without the message of the
    target; ``target_weight`` weights the interactions in the loss
    (:class:`~recbole_drex.model.abstract_recommender.RankingHead`). It needs the leave-one-out rule. Tastes
    :math:`\beta_u` are then free vectors that are learned with the other parameters, and :math:`z_{ui}` leaves out the
    review of a pair that is evidence. The directions of z are fitted once, to all training reviews, that one included.

    Training costs O(interactions) per epoch. Pooled reviews are refreshed once per epoch; everything linear in them is
    exact at every step. The gradient of the attention comes from reviews that are read again for ``message_samples``
    targets of each step, see :mod:`recbole_drex.model.layers.review_sampling`. For the gradient of aspects see
    :class:`~recbole_drex.model.drex.states.StateModel`.

    Raises:
        ConfigError: an unknown modality, or incompatible parameters.
        DataError: the data set lacks the features of a modality.
    """

    PARAMETERS = DREX_PARAMETERS
    takes_new_users = True
    _tastes: torch.Tensor | None
    residual: torch.Tensor | None

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.explained: dict[int, Any] = {}  # cache of explanations by user, until the parameters change
        self._from_items: torch.Tensor | None = None
        size, self.reg_weight = config["embedding_size"], config["reg_weight"]
        self.reg_states = config["reg_states"]
        self.dropout = nn.Dropout(config["dropout"])
        self.use_mlp = config["use_mlp"]
        if self.use_mlp:
            self.hidden = nn.Linear(size * 2, size)
            self.scorer = nn.Linear(size, 1)
        self.bilinear = nn.Linear(size, size, bias=False) if config["use_bilinear"] else None
        self.use_bias = config["use_bias"]
        self.slopes = nn.Parameter(torch.ones(2)) if self.use_bias else None  # alpha
        if self.use_bias:
            # States add nothing at first, so training starts from the means.
            for layer in filter(None, (self.bilinear, self.scorer if self.use_mlp else None)):
                nn.init.zeros_(layer.weight)
        if self.use_mlp:
            nn.init.constant_(self.scorer.bias, 0.0 if self.use_bias else float(self.mean))
        self.factor_size = config["factor_size"]
        if self.factor_size:
            self.user_factors = nn.Embedding(self.n_users, self.factor_size)
            self.item_factors = nn.Embedding(self.n_items, self.factor_size)
            for factors in (self.user_factors, self.item_factors):
                nn.init.normal_(factors.weight, std=0.1)
        if not (self.use_mlp or self.bilinear or self.factor_size):
            raise ConfigError("use_mlp, use_bilinear and factor_size: at least one must be part of the score")
        if self.ranks and self.refinement != "leave_one_out":
            raise ConfigError("train_target: implicit needs refinement: leave_one_out; see DReX-implicit")
        sources = list(config["taste"])
        self.taste = None
        if sources and self.attention is not None:
            store, size = self.attention.store, config["taste_size"]
            weight = 0.0 if self.ranks else config["taste_weight"]
            self.taste = TextTaste(self.table, store, sources, size, weight, config["seed"])
            if self.content is not None:
                self.taste.described[self.content.new] = self.content.predicted(
                    self.taste.described[self.content.known]
                )
            if self.ranks:
                self.taste_weights = nn.Embedding(self.n_users, len(self.taste.strength))
                nn.init.normal_(self.taste_weights.weight, std=0.1)

    # Cached between steps ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def _refresh(self) -> None:
        super()._refresh()
        self.explained.clear()
        self._from_items = None
        self._tastes = self.residual = None

    @torch.no_grad()
    def make_ready(self) -> None:
        """Update what predictions need: states, and the tastes that are fitted to their residuals.

        Several processes share the work, so the trainer calls this in all processes before any of them predicts.
        """
        if self._stale or self.training:
            self._refresh()
        if self.taste is None or self._tastes is not None:
            return
        if self.ranks:
            self._tastes = self.taste_weights.weight.detach()
            return
        table = self.table
        part = collectives.own_part(len(table))
        rows = torch.arange(part.start, part.stop, device=self.mean.device).split(_PAIRS)
        own = torch.cat([self._residual(row) for row in rows])
        self.residual = collectives.joined(own, len(table))
        self._tastes = self.taste.fit(table, self.residual)

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The states of users and items, each of shape ``(n, d)``, from all training interactions."""
        self.make_ready()
        return self._users.state, self._items.state

    def _residual(self, row: torch.Tensor) -> torch.Tensor:
        """Residuals of the ratings of the table's rows (b,), predicted without tastes: (b,)."""
        user, item = self.table.user[row], self.table.item[row]
        known = self.without_own(Side.USER, user, row)
        score = self._score(known, self.without_own(Side.ITEM, item, row), user, item)
        return self.table.rating[row] - self.head.mean(score, self.who(known, user))

    # Training ---------------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction) -> torch.Tensor:
        if self._stale:
            self._refresh()
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        n = int(interaction[self.label_field].sum()) if self.ranks else len(user)
        # RecBole puts all targets first, then one sampled item for each, then a second one, ...
        user, items = user[:n], item.view(-1, n).T
        row = self.table.find(user, items[:, 0])
        known_user, known_item, all_states = self._for_training(user, items[:, 0], row)
        known_item = known_item.each(lambda part: part[:, None])
        if self.ranks:
            sampled = self._sampled(items[:, 1:])
            both = zip(known_item, sampled, strict=True)
            known_item = SideState(*(torch.cat(parts, 1) for parts in both))
        who = self.who(known_user, user)
        if self.reg_states == "all":
            norm = torch.stack([states.square().sum() for states in all_states()]).sum()
        else:
            norm = (known_user.state.square().sum(-1) + known_item.state.square().sum(-1).mean(-1)).mean()
        known_user = known_user._replace(state=self.dropout(known_user.state))
        known_user = known_user.each(lambda part: part[:, None].expand(*items.shape, *part.shape[1:]))
        known_item = known_item._replace(state=self.dropout(known_item.state))
        score = self._score(known_user, known_item, user[:, None].expand_as(items), items)
        if self.ranks and self.taste is not None:
            rows = torch.cat([row[:, None], torch.full_like(items[:, 1:], -1)], 1)
            score = score + (self.taste_weights(user)[:, None] * self.taste.items(items, rows)).sum(-1)
        rating = interaction[self.rating_field][:n]
        return self.head.loss(score if self.ranks else score[:, 0], who, rating) + self.reg_weight * norm

    def score_of_states(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """f of states (..., d): (...,)."""
        value = self.mean.new_zeros(item.shape[:-1])
        if self.use_mlp:
            value = self.scorer(torch.relu(self.hidden(torch.cat([user, item], -1)))).squeeze(-1)
        if self.bilinear is not None:
            value = value + (self.bilinear(user) * item).sum(-1)
        return value

    def _score(
        self, known_user: SideState, known_item: SideState, user: torch.Tensor, item: torch.Tensor
    ) -> torch.Tensor:
        """Scores (...,) without tastes; all arguments start with the same shape (...,)."""
        value = self.score_of_states(known_user.state, known_item.state)
        if self.factor_size:
            value = value + (self.user_factors(user) * self.item_factors(item)).sum(-1)
        if self.aspects is not None:
            value = value + self.aspects.parts(known_user.aspects, known_item.aspects).sum(-1)
        if self.slopes is not None:
            user_slope, item_slope = self.slopes
            value = value + self.mean + user_slope * known_user.deviation + item_slope * known_item.deviation
        return value

    def parts_of(
        self, known_user: SideState, known_item: SideState, taste: torch.Tensor, product: torch.Tensor
    ) -> ScoreParts:
        """The score as a sum of parts.

        Args:
            known_user, known_item: the two sides, of the same shape (...,).
            taste: contribution of tastes, (...,).
            product: contribution of factors, (...,).
        """
        of_user, of_item = (one.state for one in (known_user, known_item))
        no_user = self.user_start.of_unknown().expand_as(of_user)
        no_item = self.item_start.of_unknown().expand_as(of_item)
        nothing, both = self.score_of_states(no_user, no_item), self.score_of_states(of_user, of_item)
        user_alone, item_alone = self.score_of_states(of_user, no_item), self.score_of_states(no_user, of_item)
        parts = ScoreParts(
            nothing,
            user_alone - nothing,
            item_alone - nothing,
            self.aspects.parts(known_user.aspects, known_item.aspects)
            if self.aspects is not None
            else of_user.new_zeros(*of_user.shape[:-1], 0),
            taste,
            both - user_alone - item_alone + nothing + product,
        )
        if self.slopes is None:
            return parts
        return parts._replace(
            average=parts.average + self.mean,
            user=parts.user + self.slopes[Side.USER] * known_user.deviation,
            item=parts.item + self.slopes[Side.ITEM] * known_item.deviation,
        )

    # Prediction -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Scores of pairs, shape ``(b,)``; a pair that is evidence is scored without its own message."""
        self.make_ready()
        return self._score_pairs(user, item, self.table.find(user, item))

    def predict(self, interaction) -> torch.Tensor:
        """Predicted (expected) ratings of pairs, shape ``(b,)``."""
        return self._of_pairs(self.head.mean, interaction)

    def write_fitted(self, path: Path) -> None:
        if self.taste is not None:
            self.taste.write_fitted(path)

    def predict_distribution(self, interaction) -> torch.Tensor | None:
        """Probability of each rating level for pairs, shape ``(b, K)``; None unless the output is ordinal."""
        return self._of_pairs(self.head.distribution, interaction) if isinstance(self.head, OrdinalHead) else None

    @torch.no_grad()
    def _of_pairs(self, output: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], interaction) -> torch.Tensor:
        self.make_ready()
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        return self._output(output, user, item, self.table.find(user, item))

    def _output(self, output: Callable[..., torch.Tensor], user, item, row) -> torch.Tensor:
        """Output for the scores of pairs (b,) at rows ``row`` (b,) of the table, -1 for none."""
        score = self._score_pairs(user, item, row)
        return output(score, self.who(self.without_own(Side.USER, user, row), user))

    def _score_pairs(self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Scores of pairs (b,) at rows ``row`` (b,) of the table, -1 for none."""
        score = self._score_states(user, item, row)
        if self.taste is None or self._tastes is None:
            return score
        tasted = (self._tastes[user] * self.taste.items(item, row)).sum(-1)
        # Tastes that are fitted to residuals contain the message of every row, so rows are predicted without them.
        return score + (tasted if self.ranks else tasted * (row < 0))

    def _score_states(self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """As :meth:`_score_pairs`, without tastes."""
        return self._score(self.without_own(Side.USER, user, row), self.without_own(Side.ITEM, item, row), user, item)

    @torch.no_grad()
    def full_sort_predict(self, interaction) -> torch.Tensor:
        """Predicted ratings of each user with every item, (b * n_items,); agrees with :meth:`predict`."""
        self.make_ready()
        users = interaction[self.USER_ID]
        rating = torch.stack([self._ratings(user, self._scores_of_all(int(user))) for user in users])
        rows = [self.table.rows_of(user) for user in users.tolist()]
        index = torch.repeat_interleave(torch.tensor([len(row) for row in rows], device=users.device))
        for at, row in zip(index.split(_PAIRS), torch.cat(rows).split(_PAIRS), strict=True):
            known = self.table.item[row]
            rating[at, known] = self._output(self.head.mean, users[at], known, row)
        return rating.flatten()

    @torch.no_grad()
    def predict_unknown(self, user: int) -> torch.Tensor:
        """Predicted ratings of a user with every item, (n_items,), valid only for items without the user's evidence.

        A few times as fast as :meth:`full_sort_predict`, which leaves out the message of each item that is evidence.
        """
        self.make_ready()
        return self._ratings(torch.tensor(user, device=self.mean.device), self._scores_of_all(user))

    def _ratings(self, user: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
        """Predicted ratings (n,) from scores (n,) of one user."""
        who = self.who(self._users.each(lambda part: part[user[None]]), user[None])
        return torch.cat([self.head.mean(part, who) for part in score.split(_PAIRS)])

    def rating_of_unknown_user(self, score: torch.Tensor) -> torch.Tensor:
        """Expected ratings from scores (...,) of a user without evidence."""
        nothing = RatingColumns.of(torch.zeros_like(self.table.ratings[:1]))
        return self.head.mean(score, self.habits(Side.USER, nothing)[0])

    def _scores_of_all(self, user: int) -> torch.Tensor:
        """Scores of all items, (n_items,), as if the user had interacted with none of them; in blocks."""
        return torch.cat([self._scores_of(user, items) for items in blocks_of(self.n_items, _PAIRS)])

    def _scores_of(self, user: int, items: slice) -> torch.Tensor:
        known_user, known_item = self._users.each(lambda part: part[user]), self._items.each(lambda part: part[items])
        value = self.mean.new_zeros(len(known_item.deviation))
        if self.use_mlp:
            weight_user, weight_item = self.hidden.weight.split(known_user.state.shape[0], 1)
            # The first layer of the MLP is linear in its parts, so each part is computed once, not once per pair.
            if self._from_items is None:
                self._from_items = self._items.state @ weight_item.T + self.hidden.bias
            hidden = self._from_items[items] + weight_user @ known_user.state
            value = self.scorer(hidden.relu_()).squeeze(-1)
        if self.bilinear is not None:
            value = value + known_item.state @ self.bilinear(known_user.state)
        if self.factor_size:
            value = value + self.item_factors.weight[items] @ self.user_factors.weight[user]
        if self.aspects is not None:
            value = value + self.aspects.parts(known_user.aspects, known_item.aspects).sum(-1)
        if self.slopes is not None:
            user_slope, item_slope = self.slopes
            value = value + self.mean + user_slope * known_user.deviation + item_slope * known_item.deviation
        if self.taste is not None and self._tastes is not None:
            value = value + self.taste.described[items] @ self._tastes[user]
        return value
