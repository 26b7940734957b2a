"""Users and items as states that the messages of their interactions refine (DReX, section 3)."""

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
from recbole_drex.model.drex.refinement import StateRefiner
from recbole_drex.model.layers.common import BLOCK_ROWS, Remembering, Side, cumulated
from recbole_drex.model.layers.evidence_table import EvidenceColumns, EvidenceTable, RatingColumns
from recbole_drex.model.layers.review_check import any_words
from recbole_drex.model.layers.review_sampling import ReviewSampler
from recbole_drex.model.layers.word_attention import AttendedWords, WordAttention

_ASPECT_STEPS = 4  # of an epoch, in which aspects learn from all reviews
_ASPECT_WORDS = 1 << 22  # words of these reviews that are read for one step, at most
_PSEUDO_COUNT = 5.0  # where c of the deviations and of the shares of levels starts
_TINY = 1e-6  # shares are no smaller where their logarithm is taken


class SideState(NamedTuple):
    """What the evidence of users, or of items, comes to; the target's own is left out where there is a target.

    Attributes:
        state: h, (..., d).
        deviation: the shrunken mean of ratings minus what the other side's means explain, (...,).
        aspects: tastes of users, qualities of items, (..., A).
        habits: of users with ordinal output, how much more often than others they give each level or less,
            (..., K - 1); else (..., 0).
    """

    state: torch.Tensor
    deviation: torch.Tensor
    aspects: torch.Tensor
    habits: torch.Tensor

    def each(self, function: Callable[[torch.Tensor], torch.Tensor]) -> SideState:
        """A function of every part."""
        return SideState(*map(function, self))

    def put(self, place: torch.Tensor, other: SideState) -> SideState:
        """With the rows of another one at some places."""
        return SideState(*(one.index_put((place,), new) for one, new in zip(self, other, strict=True)))


class StateModel(Remembering, RatingModel):
    """Base of DReX: evidence, messages, and states of users and items without the message that is predicted.

    Equations and parameters are those of :class:`~recbole_drex.model.drex.drex.DReX`, which predicts from the states.

    Where no training review has words, the modality ``review`` is left out, and with it aspects and tastes.

    The attention learns from a sample of reviews at each step (:mod:`recbole_drex.model.layers.review_sampling`).
    Aspects need sums
    over all reviews, so they learn at four steps of an epoch: there the mentions and opinions of all reviews (of
    4 million words at most) are read with a gradient, and remembered until the next of these steps.

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
            self.notes.append(f"{config['model']} reads {read} alone: no review of the training part has words")
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
        # A start made of ratings must be made for each target, without the target's own.
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
            side: whose states the messages go to; differs only by ``adjust_rating``.
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
        """What summed rows (n, width) come to by the leave-one-out rule, from start states (n, d)."""
        columns = self.table.named(rows)
        ratings, refiner = columns.ratings, (self.user_refiner, self.item_refiner)[side]
        state = refiner.from_sum(self.messages(rows, side), ratings.count.detach().round(), start)
        return SideState(state, self.deviation(side, ratings), self.read(side, columns), self.habits(side, ratings))

    def deviation(self, side: Side, sums: RatingColumns) -> torch.Tensor:
        """The shrunken mean of the ratings that are summed, (n,); zeros without ``use_bias``."""
        total, count = sums.adjusted[side][:, 0], sums.rated[:, 0]
        if self.pseudo_counts is None:
            return torch.zeros_like(total)
        return total / (count + self.pseudo_counts[side].exp())

    def _offsets(self, n: int) -> nn.Module:
        # No free parameters of users: given a user's own level, the mean of the user's other ratings would tell the
        # target's rating with the opposite sign, and users who are not in the data would have no level.
        linear = nn.Linear(n, n, bias=False)
        nn.init.zeros_(linear.weight)
        return linear

    def habits(self, side: Side, sums: RatingColumns) -> torch.Tensor:
        r"""How a user's shares of the levels differ from those of all users.

        With :math:`P_k` the share of ratings of at most level k among all ratings, :math:`p_k = P_k - P_{k-1}`, and
        hats for the user's, as if c ratings of the average user were there too,

        .. math:: e_{u1} = \mathrm{logit}\, \hat P_1 - \mathrm{logit}\, P_1, \qquad
            e_{uk} = \log \hat p_k - \log p_k, \quad k = 2 \dots K - 1

        which are the offsets that thresholds would need if nothing else were known of the user.

        Args:
            side: whose ratings.
            sums: the n sums of ratings.

        Returns:
            (n, K - 1); (n, 0) of items and without ordinal output.
        """
        if side == Side.ITEM or self.habit_count is None:
            return sums.rated[:, :0]
        pseudo = self.habit_count.exp()
        shares = (sums.at_most + pseudo * self.level_shares) / (sums.rated + pseudo)
        return _log_shares(shares) - _log_shares(self.level_shares)

    def who(self, known: SideState, user: torch.Tensor) -> torch.Tensor:
        """What the output layer wants to know of users: habits, or internal ids where it needs none."""
        return user if self.habit_count is None else known.habits

    def read(self, side: Side, sums: EvidenceColumns) -> torch.Tensor:
        """Tastes of users, or qualities of items, from n sums of rows: (n, A)."""
        if self.aspects is None:
            return sums.mentions
        if side == Side.USER:
            return self.aspects.tastes(sums.mentions)
        return self.aspects.qualities(sums.mentions, sums.opinions)

    def _leave_one_out(self, entity: torch.Tensor, row: torch.Tensor, side: Side, correction=None) -> SideState:
        """Users or items without the interactions at ``row`` (-1: with all)."""
        sums = (self.table.user_sums, self.table.item_sums)[side][entity]
        rest = self.table.without(sums, row)
        if correction is not None:
            rest = rest + correction
        return self.side_state(side, rest, (self.user_start, self.item_start)[side](entity, row))

    def _in_order(self, side: Side, rows: torch.Tensor, row: torch.Tensor) -> tuple[SideState, SideState]:
        """Sequential rule: one side just before the interactions at ``row``, and after the last of each entity.

        Args:
            side: of users or of items.
            rows: the table's rows, some of them perhaps read again.
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
        own_state = self.in_sequence(side, own, RatingColumns.of(earlier[row]))
        return own_state, self.in_sequence(side, last, all_ratings)

    def in_sequence(self, side: Side, state: torch.Tensor, sums: RatingColumns) -> SideState:
        """Sequential rule: states (n, d) with what sums of ratings come to."""
        return SideState(state, self.deviation(side, sums), state.new_zeros(len(state), 0), self.habits(side, sums))

    @torch.no_grad()
    def _refresh(self) -> None:
        """Bring everything that is remembered between steps up to date with the parameters."""
        self.table.refresh(self.attention, self.aspects)
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
        """Remembered users or items (n,) without the interactions at ``row`` (n,), -1 for none."""
        everything = (self._users, self._items)[side].each(lambda part: part[entity])
        known = torch.nonzero(row >= 0).flatten()
        if not len(known):
            return everything
        if self.refinement == "sequential":
            before = (self._users_before, self._items_before)[side]
            return everything.put(known, before.each(lambda part: part[row[known]]))
        return everything.put(known, self._leave_one_out(entity[known], row[known], side))

    def precedes(self, rows: torch.Tensor, target: int) -> torch.Tensor:
        """Which rows (n,) of one user or item send messages to the state that predicts row ``target``: (n,)."""
        if self.refinement == "leave_one_out" or target < 0:
            return rows != target
        # Equal times go by the order of the table.
        time, own = self.table.time[rows], self.table.time[target]
        return (time < own) | ((time == own) & (rows < target))

    # Training ---------------------------------------------------------------------------------------------------

    def _for_training(
        self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor
    ) -> tuple[SideState, SideState, Callable[[], list[torch.Tensor]]]:
        """Users and items that predict the training rows at ``row``, without their own interactions.

        Returns:
            Both, and a function that gives P (n_users - 1, d) and Q (n_items - 1, d), with all interactions.
        """
        if self.refinement == "sequential":
            rows = self.table.rows_at(slice(None))
            if self.sampler is not None and self.attention is not None:
                rows = self.sampler.freshened(self.table, self.attention, rows)
            known = row.clamp(min=0)  # a target that sends no message is not in the table
            sent, found, all_states = row >= 0, [], []
            for side, entity in zip(Side, (user, item), strict=True):
                before, last = self._in_order(side, rows, known)
                after = SideState(*(part[entity] for part in last))
                masks = (sent[:, None], sent, sent[:, None], sent[:, None])
                found.append(SideState(*map(torch.where, masks, before, after)))
                all_states.append(last.state[1:])
            return found[0], found[1], lambda: all_states
        corrections: Sequence[torch.Tensor | None] = (None, None)
        if self.sampler is not None and self.attention is not None:
            corrections = self.sampler.corrections(self.table, self.attention, row)
        if self.aspects is not None:
            corrections = self._with_aspects(corrections, user, item, row)
        known_user = self._leave_one_out(user, row, Side.USER, corrections[Side.USER])
        known_item = self._leave_one_out(item, row, Side.ITEM, corrections[Side.ITEM])
        return known_user, known_item, self._all_states

    def _all_states(self) -> list[torch.Tensor]:
        """Leave-one-out rule: P and Q from what is remembered of reviews, (n_users - 1, d) and (n_items - 1, d)."""
        entities = (torch.arange(1, n, device=self.mean.device) for n in (self.n_users, self.n_items))
        return [
            self._leave_one_out(one, torch.full_like(one, -1), side).state
            for side, one in zip(Side, entities, strict=True)
        ]

    def _with_aspects(self, corrections, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor):
        """Add to what corrects the sums of a step's targets the gradient of aspects, at the steps that learn them."""
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
        said = aspects.read(table.review[rows])
        drift = said - table.said[rows]
        table.remember_said(rows, said.detach())
        drift = drift - drift.detach()  # the sums know the value by now; the gradient is what they lack
        place = torch.full((len(table) + 1,), -1, device=row.device).index_put((rows,), torch.arange(len(rows)).to(row))
        found = []
        for group, entity, n, correction in zip(
            (table.user, table.item), (user, item), (self.n_users, self.n_items), corrections, strict=True
        ):
            sums = drift.new_zeros(n, drift.shape[1]).index_add(0, group[rows], drift)[entity]
            own = place[row]
            sums = sums - drift[own.clamp(min=0)] * (own >= 0)[:, None]
            sums = nn.functional.pad(sums, (table.said_columns.start, table.width - table.said_columns.stop))
            found.append(sums if correction is None else correction + sums)
        return found

    def _sampled(self, items: torch.Tensor) -> SideState:
        """Sampled items (n, k), with all their interactions. Their users sent them none."""
        unique, place = torch.unique(items, return_inverse=True)
        return self._leave_one_out(unique, torch.full_like(unique, -1), Side.ITEM).each(lambda part: part[place])

    # Explanations -----------------------------------------------------------------------------------------------

    @property
    def reads_words(self) -> bool:
        return self.attention is not None

    def aspect_reader(self) -> Aspects | None:
        return self.aspects

    @torch.no_grad()
    def attended_words(self) -> AttendedWords | None:
        """Words of the reviews that are evidence, with their attention weights; None if reviews are no modality."""
        if self.attention is None:
            return None
        reviewed = torch.nonzero(self.table.review >= 0).flatten()
        parts = self.table.review[reviewed].split(BLOCK_ROWS)
        weights = torch.cat([self.attention.read_all(part)[1] for part in parts])
        place, review = (part.cpu().numpy() for part in self.attention.positions(self.table.review[reviewed]))
        rows = reviewed.cpu().numpy()[review]
        read = None if self.aspects is None else self.aspects.occurrences(self.table.review[reviewed])
        return AttendedWords(
            user=self.table.user.cpu().numpy()[rows],
            item=self.table.item.cpu().numpy()[rows],
            word=self.attention.store.word_ids[place],
            weight=weights.cpu().numpy(),
            vocabulary=self.attention.store.vocabulary,
            read=read,
        )


def _log_shares(shares: torch.Tensor) -> torch.Tensor:
    """Of cumulated shares of levels (..., K - 1) the logit of the first and the logarithms of the differences."""
    first, differences = shares[..., :1], shares.diff(dim=-1)
    return torch.cat([torch.logit(first, _TINY), differences.clamp(min=_TINY).log()], -1)
