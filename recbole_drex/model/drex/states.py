"""States of users and items, refined by the messages of their interactions (DReX, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import nn

from recbole_drex.errors import ConfigError
from recbole_drex.model.abstract_recommender import OrdinalHead, RatingModel
from recbole_drex.model.drex.aspects import Aspects
from recbole_drex.model.drex.initial_states import StartState
from recbole_drex.model.drex.item_content import ItemContent, content_names
from recbole_drex.model.drex.refinement import StateRefiner
from recbole_drex.model.layers.common import BLOCK_ROWS, CacheMixin, Side, cumulated
from recbole_drex.model.layers.evidence_table import EvidenceColumns, EvidenceTable, RatingColumns
from recbole_drex.model.layers.review_check import any_words
from recbole_drex.model.layers.review_sampling import ReviewSampler
from recbole_drex.model.layers.word_attention import AttendedWords, WordAttention

_ASPECT_STEPS = 4  # steps of an epoch at which aspects learn
_ASPECT_WORDS = 1 << 22  # maximum number of words that are read at such a step
_PSEUDO_COUNT = 5.0  # initial c of the deviations and of the shares of levels
_TINY = 1e-6  # lower bound of shares inside a logarithm


class SideState(NamedTuple):
    """Users, or items, as described by their evidence, without the target's if there is a target.

    Attributes:
        state: h, (..., d).
        deviation: the shrunken mean deviation of the ratings from the other side's means, (...,).
        aspects: tastes of users, qualities of items, (..., A).
        habits: for users with ordinal output, how their rating distribution differs from that of all users,
            (..., K - 1), see :meth:`StateModel.habits`; otherwise (..., 0).
    """

    state: torch.Tensor
    deviation: torch.Tensor
    aspects: torch.Tensor
    habits: torch.Tensor

    def each(self, function: Callable[[torch.Tensor], torch.Tensor]) -> SideState:
        """Apply a function to every part."""
        return SideState(*map(function, self))

    def put(self, index: torch.Tensor, other: SideState) -> SideState:
        """A copy in which the rows at ``index`` are those of ``other``."""
        return SideState(*(one.index_put((index,), new) for one, new in zip(self, other, strict=True)))


class StateModel(CacheMixin, RatingModel):
    """Base of DReX: evidence, messages, and states of users and items without the message that is predicted.

    Equations and parameters are those of :class:`~recbole_drex.model.drex.drex.DReX`, which predicts from the states.

    If no training review has words, the modality ``review`` is left out, and with it aspects and tastes.

    The attention learns from a sample of reviews at each step (:mod:`recbole_drex.model.layers.review_sampling`).
    Aspects need sums over all reviews, so they learn at four steps of an epoch: the mentions and opinions of all
    reviews (4 million words at most) are read with a gradient there, and cached until the next such step.

    Raises:
        ConfigError: an unknown modality, or aspects with ``refinement: sequential``.
        DataError: the data set lacks the features of a modality.
    """

    attention: WordAttention | None
    level_shares: torch.Tensor
    _before_users: torch.Tensor
    _before_items: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        size = config["embedding_size"]
        self.refinement = config["refinement"]
        modalities = list(config["modalities"])
        evidence = dataset.evidence(tuple(name for name in modalities if name not in ("review", "rating")))
        others = [name for name in modalities if name != "review"]
        if "review" in modalities and others and not any_words(dataset, evidence):
            read = "ratings" if others == ["rating"] else ", ".join(others)
            self.notes.append(f"{config['model']} reads {read} only: no review of the training part has words")
            modalities = others
        self.attention = WordAttention(dataset.features(), size) if "review" in modalities else None
        self.table = EvidenceTable(
            evidence,
            modalities,
            dataset.rating_levels(),
            self.attention,
            self.n_users,
            self.n_items,
            config["bias_damping"],
            joint=not self.ranks,
        )
        self.aspects: Aspects | None = None
        if config["aspects"] and self.attention is not None:
            if self.refinement == "sequential":
                raise ConfigError("aspects need refinement: leave_one_out; give aspects: 0 for refinement: sequential")
            self.aspects = Aspects(self.attention.store, self.table, config["aspects"], config["aspect_rate"])
            self.table.add_aspects(self.aspects)
            steps = -(-len(dataset.inter_feat) // config["train_batch_size"])
            self._every, self._step = max(1, steps // _ASPECT_STEPS), 0
        names = content_names(config, dataset)
        self.content = None if names is None else ItemContent(dataset, names, self.table)
        self.sampler = None
        if self.attention is not None and config["message_samples"] > 0:
            self.sampler = ReviewSampler(self.table, config["message_samples"])
        self.projections = nn.ModuleDict(
            {m.name: nn.Linear(m.width, size) for m in self.table.modalities if m.name != "review"}
        )
        if self.attention is not None:
            self.projections["review"] = self.attention.projection
        self.fuse = nn.Linear(size * len(modalities), size)
        use_adjust = config["adjust_rating"]
        self.adjust = nn.ModuleList([nn.Linear(1, size, bias=False) for _ in range(2)]) if use_adjust else None
        self.user_refiner = StateRefiner(size, config["shrinkage"])
        self.item_refiner = StateRefiner(size, config["shrinkage"])
        start = config["start"]
        self.user_start = StartState(start, self.table, self.n_users, self.n_items, size, of_user=True)
        self.item_start = StartState(start, self.table, self.n_items, self.n_users, size, of_user=False)
        # A start made from ratings must be computed for each target, without the target's rating.
        self.own_start = start == "mlp"
        # c of the deviations of users and items.
        self.pseudo_counts = nn.Parameter(torch.full((2,), _PSEUDO_COUNT).log()) if config["use_bias"] else None
        self.habit_count = (
            nn.Parameter(torch.tensor(_PSEUDO_COUNT).log()) if isinstance(self.head, OrdinalHead) else None
        )
        at_most, rated = RatingColumns.of(self.table.ratings).at_most, self.table.rated.sum()
        self.register_buffer("level_shares", at_most.sum(0) / rated.clamp(min=1), persistent=False)
        if self.refinement == "sequential":
            for name, group in (("_before_users", self.table.user), ("_before_items", self.table.item)):
                self.register_buffer(name, cumulated(self.table.ratings, group, self.table.time), persistent=False)

    # Messages and states ----------------------------------------------------------------------------------------

    def messages(self, rows: torch.Tensor, side: Side) -> torch.Tensor:
        """Messages of evidence rows, or sums of messages of summed rows: (..., width) -> (..., d).

        Args:
            rows: rows of the evidence table, or sums of them.
            side: the side that receives the messages; matters only for ``adjust_rating``.
        """
        columns, parts = self.table.named(rows), []
        for name, (vector, present) in columns.modalities.items():
            layer = cast(nn.Linear, self.projections[name])
            parts.append(nn.functional.linear(vector, layer.weight) + present * layer.bias)
        message = nn.functional.linear(torch.cat(parts, -1), self.fuse.weight) + columns.ratings.count * self.fuse.bias
        if self.adjust is not None:
            message = message + self.adjust[side](columns.ratings.adjusted[side])
        return message

    def side_state(self, side: Side, rows: torch.Tensor, start: torch.Tensor) -> SideState:
        """Leave-one-out rule: users or items from summed rows (n, width) and start states (n, d)."""
        columns = self.table.named(rows)
        ratings, refiner = columns.ratings, (self.user_refiner, self.item_refiner)[side]
        state = refiner.from_sum(self.messages(rows, side), ratings.count.detach().round(), start)
        return SideState(state, self.deviation(side, ratings), self.read(side, columns), self.habits(side, ratings))

    def deviation(self, side: Side, sums: RatingColumns) -> torch.Tensor:
        """The shrunken mean deviation of the summed ratings, (n,); zeros without ``use_bias``."""
        total, count = sums.adjusted[side][:, 0], sums.rated[:, 0]
        if self.pseudo_counts is None:
            return torch.zeros_like(total)
        return total / (count + self.pseudo_counts[side].exp())

    def _offsets(self, n: int) -> nn.Module:
        # Users get no free parameters: given a user's own level, the mean of the user's other ratings would leak the
        # target's rating with the opposite sign, and new users would have no level.
        linear = nn.Linear(n, n, bias=False)
        nn.init.zeros_(linear.weight)
        return linear

    def habits(self, side: Side, sums: RatingColumns) -> torch.Tensor:
        r"""How a user's rating distribution differs from that of all users.

        .. math:: e_{u1} = \mathrm{logit}\, \hat P_1 - \mathrm{logit}\, P_1, \qquad
            e_{uk} = \log \hat p_k - \log p_k, \quad k = 2 \dots K - 1

        :math:`P_k` is the share of ratings of at most level k among all ratings, and :math:`p_k = P_k - P_{k-1}`. Hats
        denote the user's shares, smoothed by c ratings of the average user. e are the offsets that the thresholds would
        need if nothing else were known about the user.

        Args:
            side: the side of the ratings.
            sums: n sums of ratings.

        Returns:
            (n, K - 1); (n, 0) for items and without ordinal output.
        """
        if side == Side.ITEM or self.habit_count is None:
            return sums.rated[:, :0]
        pseudo = self.habit_count.exp()
        shares = (sums.at_most + pseudo * self.level_shares) / (sums.rated + pseudo)
        return _log_shares(shares) - _log_shares(self.level_shares)

    def who(self, known: SideState, user: torch.Tensor) -> torch.Tensor:
        """The argument ``user`` of the output layer: habits, or internal ids if it has no habits."""
        return user if self.habit_count is None else known.habits

    def read(self, side: Side, sums: EvidenceColumns) -> torch.Tensor:
        """Tastes of users, or qualities of items, from n sums of rows: (n, A)."""
        if self.aspects is None:
            return sums.mentions
        if side == Side.USER:
            return self.aspects.tastes(sums.mentions)
        return self.aspects.qualities(sums.mentions, sums.opinions)

    def _leave_one_out(self, entity: torch.Tensor, row: torch.Tensor, side: Side, correction=None) -> SideState:
        """Users or items without the interactions at ``row`` (-1: with all interactions)."""
        sums = (self.table.user_sums, self.table.item_sums)[side][entity]
        rest = self.table.without(sums, row)
        if correction is not None:
            rest = rest + correction
        return self.side_state(side, rest, (self.user_start, self.item_start)[side](entity, row))

    def _in_order(self, side: Side, rows: torch.Tensor, row: torch.Tensor) -> tuple[SideState, SideState]:
        """Sequential rule: one side just before the interactions at ``row``, and after each entity's last interaction.

        Args:
            side: users or items.
            rows: the table's rows; some reviews may have been read again.
            row: (b,).
        """
        refiner, start, group, sums, earlier = (
            (self.user_refiner, self.user_start, self.table.user, self.table.user_sums, self._before_users),
            (self.item_refiner, self.item_start, self.table.item, self.table.item_sums, self._before_items),
        )[side]
        messages, entity = self.messages(rows, side), torch.arange(len(sums), device=group.device)
        before, last = refiner.in_order(messages, group, self.table.time, start(entity, torch.full_like(entity, -1)))
        if self.own_start:
            own = refiner.one_by_one(messages, group, self.table.time, row, start(group[row], row))
        else:
            own = before[row]
        all_ratings = self.table.named(sums).ratings
        own_state = self.sequential_state(side, own, RatingColumns.of(earlier[row]))
        return own_state, self.sequential_state(side, last, all_ratings)

    def sequential_state(self, side: Side, state: torch.Tensor, sums: RatingColumns) -> SideState:
        """Sequential rule: states (n, d) with the deviations and habits of sums of ratings."""
        return SideState(state, self.deviation(side, sums), state.new_zeros(len(state), 0), self.habits(side, sums))

    @torch.no_grad()
    def _refresh(self) -> None:
        """Update everything that is cached between steps to the current parameters."""
        self.table.refresh(self.attention, self.aspects)
        if self.content is not None:
            self.content.fill(self.table.item_sums)
        users = torch.arange(self.n_users, device=self.mean.device)
        items = torch.arange(self.n_items, device=self.mean.device)
        if self.refinement == "sequential":
            rows, every = self.table.rows_at(slice(None)), torch.arange(len(self.table), device=self.mean.device)
            self._users_before, self._users = self._in_order(Side.USER, rows, every)
            self._items_before, self._items = self._in_order(Side.ITEM, rows, every)
        else:
            self._users = self._leave_one_out(users, torch.full_like(users, -1), Side.USER)
            self._items = self._leave_one_out(items, torch.full_like(items, -1), Side.ITEM)
        self._step, self._stale = 0, False

    @torch.no_grad()
    def without_own(self, side: Side, entity: torch.Tensor, row: torch.Tensor) -> SideState:
        """Cached users or items (n,) without the interactions at ``row`` (n,), -1 for none."""
        everything = (self._users, self._items)[side].each(lambda part: part[entity])
        known = torch.nonzero(row >= 0).flatten()
        if not len(known):
            return everything
        if self.refinement == "sequential":
            before = (self._users_before, self._items_before)[side]
            return everything.put(known, before.each(lambda part: part[row[known]]))
        return everything.put(known, self._leave_one_out(entity[known], row[known], side))

    def precedes(self, rows: torch.Tensor, target: int) -> torch.Tensor:
        """Mask of the rows (n,) of one user or item that send messages to the state that predicts row ``target``."""
        if self.refinement == "leave_one_out" or target < 0:
            return rows != target
        # Ties are broken by the order of the table.
        time, own = self.table.time[rows], self.table.time[target]
        return (time < own) | ((time == own) & (rows < target))

    # Training ---------------------------------------------------------------------------------------------------

    def _for_training(
        self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor
    ) -> tuple[SideState, SideState, Callable[[], list[torch.Tensor]]]:
        """Users and items for the prediction of the training rows at ``row``, without these rows.

        Returns:
            Both sides, and a function that returns P (n_users - 1, d) and Q (n_items - 1, d) from all interactions.
        """
        if self.refinement == "sequential":
            rows = self.table.rows_at(slice(None))
            if self.sampler is not None and self.attention is not None:
                rows = self.sampler.refreshed(self.table, self.attention, rows)
            known = row.clamp(min=0)  # a target that sends no message is not in the table
            sent, result, all_states = row >= 0, [], []
            for side, entity in zip(Side, (user, item), strict=True):
                before, last = self._in_order(side, rows, known)
                after = SideState(*(part[entity] for part in last))
                masks = (sent[:, None], sent, sent[:, None], sent[:, None])
                result.append(SideState(*map(torch.where, masks, before, after)))
                all_states.append(last.state[1:])
            return result[0], result[1], lambda: all_states
        corrections: Sequence[torch.Tensor | None] = (None, None)
        if self.sampler is not None and self.attention is not None:
            corrections = self.sampler.corrections(self.table, self.attention, row)
        if self.aspects is not None:
            corrections = self._with_aspects(corrections, user, item, row)
        known_user = self._leave_one_out(user, row, Side.USER, corrections[Side.USER])
        known_item = self._leave_one_out(item, row, Side.ITEM, corrections[Side.ITEM])
        return known_user, known_item, self._all_states

    def _all_states(self) -> list[torch.Tensor]:
        """Leave-one-out rule: P (n_users - 1, d) and Q (n_items - 1, d) from the cached reviews."""
        entities = (torch.arange(1, n, device=self.mean.device) for n in (self.n_users, self.n_items))
        return [
            self._leave_one_out(one, torch.full_like(one, -1), side).state
            for side, one in zip(Side, entities, strict=True)
        ]

    def _with_aspects(self, corrections, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor):
        """Add the gradient of aspects to the corrections of the targets' sums, at the steps that learn aspects."""
        self._step += 1
        if (self._step - 1) % self._every:
            return corrections
        table, aspects = self.table, self.aspects
        assert aspects is not None
        reviewed = torch.nonzero(table.review >= 0).flatten()
        blocks = aspects.blocks(table.review[reviewed].numpy(force=True), _ASPECT_WORDS)
        if not blocks:
            return corrections
        # NumPy's random numbers are the same in all processes.
        rows = reviewed[blocks[np.random.randint(len(blocks)) if len(blocks) > 1 else 0]]  # noqa: NPY002
        values = aspects.read(table.review[rows])
        drift = values - table.aspect_values[rows]
        table.update_aspects(rows, values.detach())
        drift = drift - drift.detach()  # the sums now contain the value; only the gradient is missing
        index = torch.full((len(table) + 1,), -1, device=row.device).index_put((rows,), torch.arange(len(rows)).to(row))
        result = []
        for group, entity, n, correction in zip(
            (table.user, table.item), (user, item), (self.n_users, self.n_items), corrections, strict=True
        ):
            sums = drift.new_zeros(n, drift.shape[1]).index_add(0, group[rows], drift)[entity]
            own = index[row]
            sums = sums - drift[own.clamp(min=0)] * (own >= 0)[:, None]
            sums = nn.functional.pad(sums, (table.aspect_columns.start, table.width - table.aspect_columns.stop))
            result.append(sums if correction is None else correction + sums)
        return result

    def _sampled(self, items: torch.Tensor) -> SideState:
        """Sampled items (n, k) with all their interactions; the targets' users have none with them."""
        unique, index = torch.unique(items, return_inverse=True)
        return self._leave_one_out(unique, torch.full_like(unique, -1), Side.ITEM).each(lambda part: part[index])

    # Explanations -----------------------------------------------------------------------------------------------

    @property
    def reads_words(self) -> bool:
        return self.attention is not None

    def aspect_reader(self) -> Aspects | None:
        return self.aspects

    @torch.no_grad()
    def attended_words(self) -> AttendedWords | None:
        """Words of the reviews that are evidence, with attention weights; None if ``review`` is not a modality."""
        if self.attention is None:
            return None
        reviewed = torch.nonzero(self.table.review >= 0).flatten()
        parts = self.table.review[reviewed].split(BLOCK_ROWS)
        weights = torch.cat([self.attention.read_all(part)[1] for part in parts])
        index, review = (part.cpu().numpy() for part in self.attention.positions(self.table.review[reviewed]))
        rows = reviewed.cpu().numpy()[review]
        read = None if self.aspects is None else self.aspects.occurrences(self.table.review[reviewed])
        return AttendedWords(
            user=self.table.user.cpu().numpy()[rows],
            item=self.table.item.cpu().numpy()[rows],
            word=self.attention.store.word_ids[index],
            weight=weights.cpu().numpy(),
            vocabulary=self.attention.store.vocabulary,
            read=read,
        )


def _log_shares(shares: torch.Tensor) -> torch.Tensor:
    """Logit of the first and logarithms of the differences of cumulated shares of levels (..., K - 1)."""
    first, differences = shares[..., :1], shares.diff(dim=-1)
    return torch.cat([torch.logit(first, _TINY), differences.clamp(min=_TINY).log()], -1)
