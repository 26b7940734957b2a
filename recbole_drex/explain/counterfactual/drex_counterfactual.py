"""Counterfactual DReX predictions: what DReX would predict without some of its evidence."""

from __future__ import annotations

from typing import Any

import torch

from recbole_drex.explain.counterfactual.base import Counterfactual, Interactions
from recbole_drex.explain.counterfactual.scenarios import Changes, SideEvidence
from recbole_drex.explain.counterfactual.user_view import UserView
from recbole_drex.model.drex.drex import DReX, ScoreParts
from recbole_drex.model.drex.states import SideState
from recbole_drex.model.layers.common import Side

_USERS = 64  # users whose evidence is cached


class ItemView(SideEvidence):
    """The evidence about an item.

    Args:
        model: its cached states must be up to date.
        item: internal id.
        left_out: row of the table to leave out, -1 for no row.
    """

    def __init__(self, model: DReX, item: int, left_out: int = -1):
        table = model.table
        row = table.rows_of_item(item)
        row = row[row != left_out]
        columns = (table.rows_at(row), table.user[row], table.relative_rating[row], table.time[row], row)
        super().__init__(model, Side.ITEM, item, *columns, left_out)

    @property
    def is_new(self) -> bool:
        """Whether the item has no evidence, so that the model predicts it from content, if at all."""
        return not len(self) and self.left_out < 0

    def _sums(self, changes: Changes, n: int) -> torch.Tensor:
        return self.model.table.item_sums[self.entity].repeat(n, 1) if self.is_new else super()._sums(changes, n)

    def coordinates(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        taste = self.model.taste
        if taste is None:
            return super().coordinates(index)
        return taste.coordinates[self.row[index]].float(), taste.has_words[self.row[index]].float()

    def described(self, changes: Changes, n: int) -> torch.Tensor:
        """The item's vector z for tastes in n scenarios, (n, k)."""
        taste = self.model.taste
        assert taste is not None
        if self.is_new:
            return taste.described[self.entity].expand(n, -1)
        sums, counts = (
            total[self.entity].expand(n, -1).index_add(0, changes.scenario, part)
            for total, part in ((taste.sums, changes.coordinates), (taste.counts, changes.n_reviews))
        )
        if self.left_out >= 0:
            sums, counts = sums - taste.coordinates[self.left_out], counts - taste.has_words[self.left_out]
        return taste.vectors(sums, counts)


class DReXCounterfactual(Counterfactual):
    """The prediction for one user and one item in n scenarios, exact up to rounding.

    Trained parameters are kept. States, deviations, aspects and tastes are recomputed from the remaining evidence.
    A scenario without an interaction thus gives the prediction of the same model without that evidence. The pair's own
    interaction is never part of the evidence. Two quantities are not recomputed: the residuals of the other ratings,
    to which tastes are fitted, and what the other side's ratings explain of each rating.

    Args:
        user: view of the user, without the user's own interaction with the item.
        item: internal id.
    """

    sums = True

    def __init__(self, user: UserView, item: int):
        self.user, self.item = user, ItemView(user.model, item, user.left_out)
        self.model = user.model
        self.word_deletion: Any = None  # cache of :meth:`WordDeletion.of`

    @classmethod
    def of(cls, model: DReX, user: int, item: int) -> DReXCounterfactual:
        """The prediction for a user of the data set."""
        model.make_ready()
        row = int(model.table.find(*(torch.tensor(one, device=model.mean.device) for one in (user, item))))
        return cls(view_of(model, user) if row < 0 else UserView.known(model, user, row), item)

    @property
    def reads_words(self) -> bool:
        return self.model.reads_words

    @property
    def is_new_user(self) -> bool:
        return not self.user.entity

    @property
    def sides(self) -> tuple[SideEvidence, SideEvidence]:
        """The user's evidence and the item's."""
        return self.user, self.item

    @property
    def past_interactions(self) -> tuple[Interactions, ...]:
        """Per side, user, item and row of the feature store (-1: no review) of each interaction, (m,) each."""
        table, interactions = self.model.table, []
        for side in self.sides:
            entity = torch.full_like(side.other, side.entity)
            review = torch.where(side.row >= 0, table.review[side.row.clamp(min=0)], -1)
            interactions.append(
                (side.other, entity, review) if side.side == Side.ITEM else (entity, side.other, review)
            )
        return tuple(interactions)

    def parts(self, user: Changes | None = None, item: Changes | None = None, n: int = 1) -> ScoreParts:
        """The parts of the score in n scenarios, (n, ...).

        Args:
            user, item: changes of the evidence of either side; none by default.
            n: number of scenarios.
        """
        return self._parts(self.user.summary(user or self.user.no_change, n), user, item, n)

    def _parts(self, known: SideState, user: Changes | None, item: Changes | None, n: int) -> ScoreParts:
        """As :meth:`parts`, given the user's state in the n scenarios."""
        by_user, by_item = user or self.user.no_change, item or self.item.no_change
        model, index = self.model, torch.full((n,), self.item.entity, device=self.model.mean.device)
        taste = torch.zeros(n, device=index.device)
        # As in training: tastes that are fitted to residuals contain the pair's own message, so they are not used here.
        if model.taste is not None and (model.ranks or self.user.left_out < 0):
            if user is None:
                tastes = self.user.full_tastes
            else:
                tastes = (
                    self.user.tastes_without_each if user is self.user.each_removed else self.user.tastes(by_user, n)
                )
            taste = (tastes * self.item.described(by_item, n)).sum(-1)
        parts = model.parts_of(known, self.item.summary(by_item, n), taste, self.user.product(index))
        if not self.item.is_new:
            return parts
        # Nobody has reviewed a new item, so no part may be explained by what its reviewers say.
        rest = parts.rest + parts.aspects.sum(-1) + parts.taste
        return parts._replace(aspects=torch.zeros_like(parts.aspects), taste=torch.zeros_like(taste), rest=rest)

    def predict(self, user: Changes | None = None, item: Changes | None = None, n: int = 1) -> torch.Tensor:
        """Predicted ratings (scores for ranking models) in n scenarios, (n,); arguments as for :meth:`parts`."""
        known = self.user.summary(user or self.user.no_change, n)
        return self.user.rating_of(self._parts(known, user, item, n).total, known)

    @torch.no_grad()
    def without_each(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Predictions without each single interaction of the user, (m,), and of the item, (k,)."""
        user, item = self.sides
        return self.predict(user.each_removed, None, len(user)), self.predict(None, item.each_removed, len(item))

    @torch.no_grad()
    def without(self, user: list[list[int]], item: list[list[int]]) -> torch.Tensor:
        """Predictions (n,) without the interactions at these positions; one list of positions per side and scenario."""
        changes = []
        for side, positions in zip(self.sides, (user, item), strict=True):
            scenario = [number for number, one in enumerate(positions) for _ in one]
            removed = [position for one in positions for position in one]
            device = side.rows.device
            changes.append(side.without(torch.tensor(scenario, device=device, dtype=torch.int64),
                                        torch.tensor(removed, device=device, dtype=torch.int64)))  # fmt: skip
        return self.predict(changes[0], changes[1], len(user))


def view_of(model: DReX, user: int) -> UserView:
    """The view of a user of the data set; cached until the model is trained further."""
    if user not in model.explained:
        if len(model.explained) >= _USERS:
            model.explained.clear()
        model.explained[user] = UserView.known(model, user)
    return model.explained[user]
