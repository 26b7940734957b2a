"""The evidence of one user or one item, and its state were some of that evidence not there."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from recbole_drex.model.drex.states import SideState
from recbole_drex.model.layers.common import Side

if TYPE_CHECKING:
    from recbole_drex.model.drex.drex import DReX


@dataclasses.dataclass(frozen=True)
class Changes:
    """What is different in n scenarios: p changes, each of one interaction in one scenario.

    Attributes:
        scenario: which scenario, below n, (p,).
        place: which interaction of the side, (p,); no pair of scenario and place comes twice.
        row: what is added to its row of numbers, mentions and opinions included, (p, width).
        message: what that adds to its message, (p, d).
        gone: whether the whole interaction is taken away, (p,).
        coordinates: what is added to its review's coordinates of taste, (p, k); only the item's side has any.
        spoken: what is added to the number of reviews there, (p, 1).
    """

    scenario: torch.Tensor
    place: torch.Tensor
    row: torch.Tensor
    message: torch.Tensor
    gone: torch.Tensor
    coordinates: torch.Tensor
    spoken: torch.Tensor


class SideEvidence:
    """Interactions of one user or one item, the messages they send, and the state these make.

    Args:
        model: its remembered sums and states are up to date.
        side: of the user or of the item.
        entity: internal id; 0 for somebody who is not in the data, whose free parameters are those of nobody.
        rows: rows of numbers as in the model's table, (m, width).
        other: item of each interaction of a user, user of each one of an item, (m,).
        value: rating divided by the highest, 0 without one, (m,): what start states are made of.
        time: (m,).
        row: rows of the model's table, -1 for those that are not in it, (m,).
        left_out: row of the model's table that is in no message above and must not be in a start state; -1 for none.
    """

    def __init__(self, model: DReX, side: Side, entity: int, rows, other, value, time, row, left_out: int = -1):
        self.model, self.side, self.entity, self.left_out = model, side, entity, left_out
        self.rows, self.other, self.value, self.time, self.row = rows, other, value, time, row
        self.precedes = model.precedes(row, left_out)
        self.messages = model.messages(rows, side)
        self.refiner = (model.user_refiner, model.item_refiner)[side]
        self.start = (model.user_start, model.item_start)[side]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def nothing(self) -> Changes:
        """No change at all."""
        none = torch.zeros(0, dtype=torch.int64, device=self.rows.device)
        return self.without(none, none)

    @cached_property
    def each_gone(self) -> Changes:
        """As many scenarios as interactions, each without one of them."""
        place = torch.arange(len(self), device=self.rows.device)
        return self.without(place, place)

    def without(self, scenario: torch.Tensor, place: torch.Tensor) -> Changes:
        """Take whole interactions away: those at ``place`` (p,) in ``scenario`` (p,)."""
        coordinates, spoken = self.coordinates(place)
        gone = torch.ones_like(place, dtype=torch.bool)
        return Changes(scenario, place, -self.rows[place], -self.messages[place], gone, -coordinates, -spoken)

    def changes(self, scenario: torch.Tensor, place: torch.Tensor, row: torch.Tensor, *others: torch.Tensor) -> Changes:
        """What follows from adding ``row`` (p, width) to the rows at ``place``; ``others`` as in :class:`Changes`."""
        return Changes(scenario, place, row, self.model.messages(row, self.side), *others)

    def coordinates(self, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Coordinates of taste (p, k) and numbers of reviews (p, 1) of the interactions at ``place`` (p,)."""
        return self.rows.new_zeros(len(place), 0), self.rows.new_zeros(len(place), 1)

    def _start(self, n: int, scenario: torch.Tensor, other: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """n start states, after ``value`` has been taken from the rating of ``other`` in ``scenario``: (n, d)."""
        changes = [(scenario, other, -value)]
        everywhere = torch.arange(n, device=self.rows.device)
        if not self.entity:
            changes.append((everywhere.repeat_interleave(len(self)), self.other.repeat(n), self.value.repeat(n)))
        if self.left_out >= 0:
            table = self.model.table
            own = (table.item, table.user)[self.side][self.left_out]
            changes.append((everywhere, own.expand(n), -table.relative_rating[self.left_out].expand(n)))
        return self.start.several(self.entity, n, *(torch.cat(part) for part in zip(*changes, strict=True)))

    def summary(self, changes: Changes, n: int) -> SideState:
        """What all evidence comes to, in each of n scenarios."""
        gone = changes.gone
        lost = changes.place[gone]
        start = self._start(n, changes.scenario[gone], self.other[lost], self.value[lost])
        if self.model.refinement == "sequential":
            return self._in_order(changes, n, start)
        return self.model.side_state(self.side, self._sums(changes, n), start)

    def without_each(self) -> SideState:
        """What the evidence comes to without each single interaction: what predicts that one, (m, ...)."""
        m, sums = len(self), self._sums(self.nothing, 1)
        place = torch.arange(m, device=self.rows.device)
        start = self._start(m, place, self.other, self.value)
        if self.model.refinement == "sequential":
            return self._before_each(start)
        return self.model.side_state(self.side, sums - self.rows, start)

    def _sums(self, changes: Changes, n: int) -> torch.Tensor:
        """Sums of rows in n scenarios, (n, width)."""
        return self.rows.sum(0).repeat(n, 1).index_add(0, changes.scenario, changes.row)

    def _in_order(self, changes: Changes, n: int, start: torch.Tensor) -> SideState:
        """Sequential rule: one step per message that is left, in time order."""
        at = (changes.scenario, changes.place)
        messages = self.messages.expand(n, len(self), -1)
        messages = messages.index_put(at, self.messages[changes.place] + changes.message)
        there = self.precedes.expand(n, -1).index_put(at, ~changes.gone & self.precedes[changes.place])
        state = start
        for place in torch.argsort(self.time, stable=True).tolist():
            state = torch.where(there[:, place, None], self.refiner.step(messages[:, place], state), state)
        there = self.precedes[:, None]
        sums = (self.rows * there).sum(0).repeat(n, 1)
        sums = sums.index_add(0, changes.scenario, changes.row * there[changes.place])
        return self.model.in_sequence(self.side, state, self.model.table.named(sums).ratings)

    def _before_each(self, start: torch.Tensor) -> SideState:
        """Sequential rule: just before each message, with a start state of its own, (m, d)."""
        order = torch.argsort(self.time, stable=True)
        rank = torch.empty_like(order).index_put((order,), torch.arange(len(order), device=order.device))
        state = start
        for step, place in enumerate(order.tolist()):
            new = self.refiner.step(self.messages[place].expand_as(state), state)
            state = torch.where((rank > step)[:, None], new, state)
        values = self.rows[order]
        before = torch.empty_like(values).index_put((order,), values.cumsum(0) - values)
        return self.model.in_sequence(self.side, state, self.model.table.named(before).ratings)
