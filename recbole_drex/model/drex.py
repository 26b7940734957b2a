"""DReX: states of users and items refined by multimodal interactions (arXiv 2602.19702). Unofficial implementation."""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex import ranks
from recbole_drex.errors import ConfigError
from recbole_drex.model.history import HistoryAttention
from recbole_drex.model.layers import blocks_of
from recbole_drex.model.states import StateModel
from recbole_drex.model.taste import TextTaste
from recbole_drex.model.userview import UserView
from recbole_drex.model.whatif import WhatIf
from recbole_drex.values import choice

_PAIRS = 4096  # pairs that are scored at once
_VIEWS = 64  # users whose evidence is remembered
MOST_LEFT_OUT = 2000  # interactions of a user that are left out one by one


class DReX(StateModel):
    r"""DReX (paper, section 3); ``start: mlp`` makes it DReX-MLP.

    An interaction s of user u and item i has a rating, review words with embeddings :math:`x_k`, further vectors, or
    only some of them. With d = ``embedding_size``:

    .. math::
        T_s &= W_t \textstyle\sum_k a_k x_k + b_t, \quad a = \mathrm{softmax}_k\, w_a^\top (W_t x_k + b_t)
            && \text{eq. 2, 3; 0 without words} \\
        R_s &= W_r\, \mathrm{onehot}(r_s) + b_r && \text{section 3.2.2; 0 without a rating} \\
        e_s &= W_f [T_s; R_s; \dots] + b_f && \text{section 3.3; nothing at all: no message} \\
        h_u &= \mathrm{GRU}_u(\text{messages of } u \text{ other than } s), \quad h_i \text{ likewise}
            && \text{eq. 4-7} \\
        \hat r_s &= \mathrm{MLP}([h_u; h_i]) && \text{section 3.5} \\
        L &= \tfrac{1}{|B|} \textstyle\sum_{s \in B} \ell(r_s, \hat r_s) + \lambda (\|h_u\|^2 + \|h_i\|^2)
            && \text{eq. 8}

    :math:`\ell` is the squared error in the paper, or what ``output`` and ``loss`` of
    :class:`~recbole_drex.model.rating.RatingModel` say; for ordinal output :math:`\hat r_s` is the score.

    The state that predicts s never contains the message of s, in training as in evaluation (the paper does not say
    so; taken literally it would train by copying). ``refinement: leave_one_out`` takes one GRU step with the mean of
    the other messages; ``sequential`` one step per earlier message, in time order. Beyond the paper, and off
    in ``DReX-paper``: ``use_bias`` adds :math:`\mu + b_u + b_i`; ``adjust_rating`` adds to the message of each side
    a projection of the rating minus what the other side's mean explains; ``use_bilinear`` adds :math:`h_u^\top B h_i`,
    since an MLP learns products of its inputs badly; ``use_mlp: false`` leaves the MLP away; ``factor_size`` adds
    :math:`p_u^\top q_i`, with free vectors; ``history: target_attention`` gives the MLP a third input, see
    :class:`~recbole_drex.model.history.HistoryAttention`; ``taste`` adds to the score of pairs that are no evidence
    what the user likes of what others say about the item, see :class:`~recbole_drex.model.taste.TextTaste`.

    ``train_target: implicit`` (``DReX-implicit``) ranks instead of predicting ratings: the score of a target is
    compared with those of K sampled items without an interaction, all of them from states and a history without the
    message of the target, by a loss that counts an interaction for ``target_weight``
    (:class:`~recbole_drex.model.rating.RankingHead`). It needs the leave-one-out rule. Tastes :math:`\beta_u` are then
    free vectors, learned with all else, and :math:`z_{ui}` leaves out the review of a pair that is evidence; the
    directions that z is measured along are fitted once, to all training reviews, that one among them.

    Training costs O(interactions) per epoch: pooled reviews are refreshed once an epoch, everything linear in them is
    exact at every step, and the gradient of the attention comes from reviews that are read anew for ``message_samples``
    targets of each step, see :mod:`recbole_drex.model.sampling`.

    Raises:
        ConfigError: an unknown modality or an illegal value.
        DataError: the data set lacks the features of a modality.
    """

    _tastes: torch.Tensor | None

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self._views: dict[int, UserView] = {}
        self._from_items: torch.Tensor | None = None
        size, self.reg_weight = config["embedding_size"], config["reg_weight"]
        use_history = choice(config, "history", ("mean", "target_attention")) == "target_attention"
        self.history = HistoryAttention(size, config["max_history"]) if use_history else None
        self.dropout = nn.Dropout(config["dropout"])
        self.use_mlp = config["use_mlp"]
        if self.use_mlp:
            self.hidden = nn.Linear(size * (2 + use_history), size)
            self.scorer = nn.Linear(size, 1)
        elif use_history:
            raise ConfigError("history: target_attention is an input of the MLP and needs use_mlp: true")
        self.bilinear = nn.Linear(size, size, bias=False) if config["use_bilinear"] else None
        self.use_bias = config["use_bias"]
        if self.use_bias:
            self.user_bias = nn.Embedding.from_pretrained(torch.zeros(self.n_users, 1), freeze=False)
            self.item_bias = nn.Embedding.from_pretrained(torch.zeros(self.n_items, 1), freeze=False)
        elif self.use_mlp:
            nn.init.constant_(self.scorer.bias, float(self.mean))
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
            weight = 0.0 if self.ranks else config["taste_weight"]  # of the ridge regressions
            self.taste = TextTaste(self.table, store, sources, size, weight, config["seed"])
            if self.ranks:
                self.taste_weights = nn.Embedding(self.n_users, len(self.taste.strength))
                nn.init.normal_(self.taste_weights.weight, std=0.1)

    # Remembered between steps -----------------------------------------------------------------------------------

    @torch.no_grad()
    def _refresh(self) -> None:
        super()._refresh()
        self._views.clear()
        self._from_items = None
        if self.history is not None:
            self.history.remember(len(self.table), self._looked_at)
        self._tastes = None

    def _looked_at(self, place: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the history at some rows of the table, (m, d) each."""
        return self._states_for_others(place), self.messages(self.table.rows_at(place), 0)

    @torch.no_grad()
    def make_ready(self) -> None:
        """Bring what predictions need up to date: states, and tastes for what they leave unexplained.

        Several processes share the work, so the trainer calls this in all of them before any predicts.
        """
        if self._stale or self.training:
            self._refresh()
        if self.taste is None or self._tastes is not None:
            return
        if self.ranks:
            self._tastes = self.taste_weights.weight.detach()
            return
        table = self.table
        part = ranks.own_part(len(table))
        rows = torch.arange(part.start, part.stop, device=self.mean.device).split(_PAIRS)
        own = torch.cat([self._residual(row) for row in rows])
        self._tastes = self.taste.fit(table, ranks.joined(own, len(table)))

    def _residual(self, row: torch.Tensor) -> torch.Tensor:
        """What states and history leave unexplained of the ratings of the table's rows (b,): (b,)."""
        user = self.table.user[row]
        score = self._score_states(user, self.table.item[row], row)
        return self.table.rating[row] - self.head.mean(score, user)

    # Training ---------------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction) -> torch.Tensor:
        if self._stale:
            self._refresh()
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        n = int(interaction[self.label_field].sum()) if self.ranks else len(user)
        # RecBole puts all targets first, then a sampled item for each, and another one, ...
        user, items = user[:n], item.view(-1, n).T
        row = self.table.find(user, items[:, 0])
        user_state, item_state = self._states_for_training(user, items[:, 0], row)
        item_state = item_state[:, None]
        if self.ranks:
            item_state = torch.cat([item_state, self._states_of_sampled(items[:, 1:])], 1)
        norm = user_state.square().sum(-1) + item_state.square().sum(-1).mean(-1)
        parts = [self.dropout(user_state)[:, None].expand_as(item_state), self.dropout(item_state)]
        if self.history is not None:
            parts.append(self.dropout(self.history.sampled(self.table, user, item_state, row)))
        score = self._score(parts, user[:, None].expand_as(items), items)
        if self.ranks and self.taste is not None:
            rows = torch.cat([row[:, None], torch.full_like(items[:, 1:], -1)], 1)
            score = score + (self.taste_weights(user)[:, None] * self.taste.items(items, rows)).sum(-1)
        rating = interaction[self.rating_field][:n]
        return self.head.loss(score if self.ranks else score[:, 0], user, rating) + self.reg_weight * norm.mean()

    def score_of_inputs(self, inputs: list[torch.Tensor], item: torch.Tensor) -> torch.Tensor:
        """What states and history (..., d) say of the items (...,), without parameters of user and item: (...,)."""
        value = self.mean.new_zeros(item.shape)
        if self.use_mlp:
            value = self.scorer(torch.relu(self.hidden(torch.cat(inputs, -1)))).squeeze(-1)
        if self.bilinear is not None:
            value = value + (self.bilinear(inputs[0]) * inputs[1]).sum(-1)
        return value

    def _score(self, inputs: list[torch.Tensor], user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        value = self.score_of_inputs(inputs, item)
        if self.factor_size:
            value = value + (self.user_factors(user) * self.item_factors(item)).sum(-1)
        return self._add_bias(value, user, item)

    def _add_bias(self, value: torch.Tensor, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        if not self.use_bias:
            return value
        return value + self.mean + self.user_bias(user).squeeze(-1) + self.item_bias(item).squeeze(-1)

    # Prediction -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Scores of pairs, shape ``(b,)``; a pair that is evidence itself is scored without its own message."""
        self.make_ready()
        return self._score_pairs(user, item, self.table.find(user, item))

    def _score_pairs(self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Scores of pairs (b,) whose rows of the table are ``row`` (b,), -1 for none."""
        score = self._score_states(user, item, row)
        if self.taste is None or self._tastes is None:
            return score
        tasted = (self._tastes[user] * self.taste.items(item, row)).sum(-1)
        # Tastes that are fitted to residuals know the message of every row.
        return score + (tasted if self.ranks else tasted * (row < 0))

    def _score_states(self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """What states and history alone say of pairs, without tastes; as :meth:`_score_pairs`."""
        user_state, item_state = self._user_states[user], self._item_states[item]
        known = torch.nonzero(row >= 0).flatten()
        if len(known):
            if self.refinement == "sequential":
                own_user, own_item = self._user_before[row[known]], self._item_before[row[known]]
            else:
                own_user = self._leave_one_out(user[known], row[known], 0)
                own_item = self._leave_one_out(item[known], row[known], 1)
            user_state = user_state.index_put((known,), own_user)
            item_state = item_state.index_put((known,), own_item)
        inputs = [user_state, item_state]
        if self.history is not None:
            seen = torch.empty_like(item_state)
            order = torch.argsort(user, stable=True)
            who, counts = torch.unique_consecutive(user[order], return_counts=True)
            for one, index in zip(who.tolist(), torch.split(order, counts.tolist()), strict=True):
                seen[index] = self.history.full(self.table, one, item_state[index], row[index])
            inputs.append(seen)
        return self._score(inputs, user, item)

    def view_of(self, user: int) -> UserView:
        """A user of the data as evidence; remembered until the model learns."""
        if user not in self._views:
            if len(self._views) >= _VIEWS:
                self._views.clear()
            self._views[user] = UserView.known(self, user)
        return self._views[user]

    def can_leave_out(self, user: int) -> bool:
        """Whether what moved predictions for a user is found by leaving it out: all of the history looks at all of it
        then, so time and memory grow with its square."""
        return int(self.table.user_count[user]) <= MOST_LEFT_OUT

    def what_if(self, user: int, item: int) -> WhatIf:
        """The prediction for a user (internal id) and an item, and what it would be from less evidence."""
        return WhatIf.of(self, user, item)

    @torch.no_grad()
    def full_sort_predict(self, interaction) -> torch.Tensor:
        """Predicted ratings of each user with every item, (b * n_items,); agrees with :meth:`predict`."""
        self.make_ready()
        users = interaction[self.USER_ID]
        score = torch.stack([self._scores_of_all(user) for user in users.tolist()])
        rows = [self.table.rows_of(user) for user in users.tolist()]
        place = torch.repeat_interleave(torch.tensor([len(row) for row in rows], device=users.device))
        for at, row in zip(place.split(_PAIRS), torch.cat(rows).split(_PAIRS), strict=True):
            known = self.table.item[row]
            score[at, known] = self._score_pairs(users[at], known, row)
        return torch.cat([self._ratings(user, one) for user, one in zip(users, score, strict=True)])

    @torch.no_grad()
    def predict_unknown(self, user: int) -> torch.Tensor:
        """Predicted ratings of a user with every item, (n_items,); those of items that are evidence mean nothing.

        A few times as fast as :meth:`full_sort_predict`, which leaves each known item's own message out.
        """
        self.make_ready()
        return self._ratings(torch.tensor(user, device=self.mean.device), self._scores_of_all(user))

    def _ratings(self, user: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
        """Predicted ratings (n,) of scores (n,) that are all one user's."""
        return torch.cat([self.head.mean(part, user[None]) for part in score.split(_PAIRS)])

    def _scores_of_all(self, user: int) -> torch.Tensor:
        """Scores of all items as if the user knew none of them, (n_items,); some thousand at a time."""
        return torch.cat([self._scores_of(user, items) for items in blocks_of(self.n_items, _PAIRS)])

    def _scores_of(self, user: int, items: slice) -> torch.Tensor:
        user_state, states = self._user_states[user], self._item_states[items]
        value = self.mean.new_zeros(len(states))
        if self.use_mlp:
            weight_user, weight_item, *weight_seen = self.hidden.weight.split(states.shape[1], 1)
            # The first layer of the MLP is linear in its parts, so each part is computed once, not once per pair.
            if self._from_items is None:
                self._from_items = self._item_states @ weight_item.T + self.hidden.bias
            hidden = self._from_items[items] + user_state @ weight_user.T
            if self.history is not None:
                hidden += self.history.full(self.table, user, states, None, weight_seen[0])
            value = self.scorer(hidden.relu_()).squeeze(-1)
        if self.bilinear is not None:
            value = value + states @ self.bilinear(user_state)
        if self.factor_size:
            value = value + self.item_factors.weight[items] @ self.user_factors.weight[user]
        if self.use_bias:
            value = value + self.mean + self.user_bias.weight[user] + self.item_bias.weight[items, 0]
        if self.taste is not None and self._tastes is not None:
            value = value + self.taste.described[items] @ self._tastes[user]
        return value
