"""The evidence of one user or one item, and its state without some of that evidence."""

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
    """Changes of the evidence of one side in n scenarios: p changes, each of one interaction in one scenario.

    Attributes:
        scenario: index of the scenario, below n, (p,).
        index: index of the interaction of the side, (p,); pairs of scenario and index are distinct.
        row: change of its table row, including mentions and opinions, (p, width).
        message: resulting change of its message, (p, d).
        removed: whether the whole interaction is removed, (p,).
        coordinates: change of its review's taste coordinates, (p, k); k is 0 on the user's side.
        n_reviews: change of its number of reviews, (p, 1).
    """

    scenario: torch.Tensor
    index: torch.Tensor
    row: torch.Tensor
    message: torch.Tensor
    removed: torch.Tensor
    coordinates: torch.Tensor
    n_reviews: torch.Tensor


class SideEvidence:
    """Interactions of one user or one item, their messages, and the state computed from them.

    Args:
        model: its cached sums and states must be up to date.
        side: user or item.
        entity: internal id; 0 for a new user, who has no free parameters.
        rows: numeric rows as in the model's table, (m, width).
        other: the item of each interaction of a user, or the user of each interaction of an item, (m,).
        value: rating divided by the highest one, 0 without a rating, (m,); start states are computed from it.
        time: (m,).
        row: index of each interaction in the model's table, -1 for interactions that are not in it, (m,).
        left_out: row of the model's table that is not among ``rows`` and is excluded from start states, too; -1 for
            no row.
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
    def no_change(self) -> Changes:
        """Changes that leave all evidence as it is."""
        empty = torch.zeros(0, dtype=torch.int64, device=self.rows.device)
        return self.without(empty, empty)

    @cached_property
    def each_removed(self) -> Changes:
        """One scenario per interaction, without this interaction."""
        index = torch.arange(len(self), device=self.rows.device)
        return self.without(index, index)

    def without(self, scenario: torch.Tensor, index: torch.Tensor) -> Changes:
        """Remove whole interactions: ``index`` (p,) in ``scenario`` (p,)."""
        coordinates, n_reviews = self.coordinates(index)
        removed = torch.ones_like(index, dtype=torch.bool)
        return Changes(scenario, index, -self.rows[index], -self.messages[index], removed, -coordinates, -n_reviews)

    def changes(self, scenario: torch.Tensor, index: torch.Tensor, row: torch.Tensor, *others: torch.Tensor) -> Changes:
        """Changes that add ``row`` (p, width) to the rows of ``index``; ``others`` as in :class:`Changes`."""
        return Changes(scenario, index, row, self.model.messages(row, self.side), *others)

    def coordinates(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Taste coordinates (p, k) and numbers of reviews (p, 1) of the interactions (p,)."""
        return self.rows.new_zeros(len(index), 0), self.rows.new_zeros(len(index), 1)

    def _start(self, n: int, scenario: torch.Tensor, other: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """n start states, with ``value`` subtracted from the rating of ``other`` in ``scenario``: (n, d)."""
        changes = [(scenario, other, -value)]
        all_scenarios = torch.arange(n, device=self.rows.device)
        if not self.entity:
            changes.append((all_scenarios.repeat_interleave(len(self)), self.other.repeat(n), self.value.repeat(n)))
        if self.left_out >= 0:
            table = self.model.table
            own = (table.item, table.user)[self.side][self.left_out]
            changes.append((all_scenarios, own.expand(n), -table.relative_rating[self.left_out].expand(n)))
        return self.start.several(self.entity, n, *(torch.cat(part) for part in zip(*changes, strict=True)))

    def summary(self, changes: Changes, n: int) -> SideState:
        """The state computed from all evidence, in each of n scenarios."""
        removed = changes.removed
        lost = changes.index[removed]
        start = self._start(n, changes.scenario[removed], self.other[lost], self.value[lost])
        if self.model.refinement == "sequential":
            return self._in_order(changes, n, start)
        return self.model.side_state(self.side, self._sums(changes, n), start)

    def without_each(self) -> SideState:
        """The states without each single interaction, which predict that interaction, (m, ...)."""
        m, sums = len(self), self._sums(self.no_change, 1)
        index = torch.arange(m, device=self.rows.device)
        start = self._start(m, index, self.other, self.value)
        if self.model.refinement == "sequential":
            return self._before_each(start)
        return self.model.side_state(self.side, sums - self.rows, start)

    def _sums(self, changes: Changes, n: int) -> torch.Tensor:
        """Sums of rows in n scenarios, (n, width)."""
        return self.rows.sum(0).repeat(n, 1).index_add(0, changes.scenario, changes.row)

    def _in_order(self, changes: Changes, n: int, start: torch.Tensor) -> SideState:
        """Sequential rule: one step per remaining message, in time order."""
        at = (changes.scenario, changes.index)
        messages = self.messages.expand(n, len(self), -1)
        messages = messages.index_put(at, self.messages[changes.index] + changes.message)
        available = self.precedes.expand(n, -1).index_put(at, ~changes.removed & self.precedes[changes.index])
        state = start
        for index in torch.argsort(self.time, stable=True).tolist():
            state = torch.where(available[:, index, None], self.refiner.step(messages[:, index], state), state)
        available = self.precedes[:, None]
        sums = (self.rows * available).sum(0).repeat(n, 1)
        sums = sums.index_add(0, changes.scenario, changes.row * available[changes.index])
        return self.model.sequential_state(self.side, state, self.model.table.named(sums).ratings)

    def _before_each(self, start: torch.Tensor) -> SideState:
        """Sequential rule: the state before each message, each with its own start state, (m, d)."""
        order = torch.argsort(self.time, stable=True)
        rank = torch.empty_like(order).index_put((order,), torch.arange(len(order), device=order.device))
        state = start
        for step, index in enumerate(order.tolist()):
            new = self.refiner.step(self.messages[index].expand_as(state), state)
            state = torch.where((rank > step)[:, None], new, state)
        values = self.rows[order]
        before = torch.empty_like(values).index_put((order,), values.cumsum(0) - values)
        return self.model.sequential_state(self.side, state, self.model.table.named(before).ratings)
