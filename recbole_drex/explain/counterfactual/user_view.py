"""A user as the model sees one: the evidence, the tastes, and the user's own parameters."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from recbole_drex.explain.counterfactual.scenarios import Changes, SideEvidence
from recbole_drex.model.drex.states import SideState
from recbole_drex.model.layers.common import Side

if TYPE_CHECKING:
    from recbole_drex.explain.counterfactual.review_words import EvidenceWords
    from recbole_drex.model.drex.drex import DReX

_NUMBERS = 1 << 22  # numbers held in memory while the tastes of many scenarios are solved


@dataclasses.dataclass(frozen=True)
class OwnParameters:
    """Parameters of one user; None where the model has no such parameters.

    Attributes:
        factors: (f,).
        tastes: learned tastes, (k,); None where they are computed from the evidence.
    """

    factors: torch.Tensor | None
    tastes: torch.Tensor | None


@dataclasses.dataclass(frozen=True)
class PostedWords:
    """Words of reviews that are not in the data set.

    Attributes:
        words: the words; lemmas that are not in the vocabulary are numbered from the vocabulary's length on.
        lemmas: the lemmas that are not in the vocabulary.
    """

    words: EvidenceWords
    lemmas: list[str]


class UserView(SideEvidence):
    """The evidence of a user, with tastes and own parameters.

    Args:
        model: its cached states must be up to date.
        user: internal id, 0 for a new user.
        rows, item, rating, time: of the user's interactions, as in the model's table, (m, ...); rating NaN if missing.
        row: index of each interaction in the table, -1 for interactions that are not in it, (m,).
        own: the user's parameters.
        left_out: as in :class:`SideEvidence`.
        posted: words of the reviews of a new user.
    """

    def __init__(
        self,
        model: DReX,
        user: int,
        rows: torch.Tensor,
        item: torch.Tensor,
        rating: torch.Tensor,
        time: torch.Tensor,
        row: torch.Tensor,
        own: OwnParameters,
        left_out: int = -1,
        posted: PostedWords | None = None,
    ):
        value = torch.nan_to_num(rating / model.table.highest)
        super().__init__(model, Side.USER, user, rows, item, value, time, row, left_out)
        self.item, self.rating, self.own, self.posted = item, rating, own, posted

    @classmethod
    def known(cls, model: DReX, user: int, left_out: int = -1) -> UserView:
        """The view of a user of the data set, without the interaction at row ``left_out`` of the table."""
        table = model.table
        row = table.rows_of(user)
        row = row[row != left_out]
        tastes = model.taste_weights.weight[user] if model.ranks and model.taste is not None else None
        own = OwnParameters(
            model.user_factors.weight[user] if model.factor_size else None,
            tastes,
        )
        columns = (table.rows_at(row), table.item[row], table.rating[row], table.time[row], row)
        return cls(model, user, *columns, own, left_out)

    def rating_of(self, score: torch.Tensor, known: SideState | None = None) -> torch.Tensor:
        """Expected ratings of scores, (...,); the scores themselves for ranking models.

        Args:
            score: (...,).
            known: the user's states, of the same shape; by default the state from all evidence.
        """
        if known is None:
            known = self.full_state.each(lambda part: part[0])  # broadcasts
        user = torch.full(score.shape, self.entity, device=score.device)
        return self.model.head.mean(score, self.model.who(known, user))

    @cached_property
    @torch.no_grad()
    def full_state(self) -> SideState:
        """The user's state from all evidence, (1, ...)."""
        return self.summary(self.no_change, 1)

    def product(self, item: torch.Tensor) -> torch.Tensor:
        """Contribution of the free factors to the scores of items (n,): (n,)."""
        if self.own.factors is None:
            return self.rows.new_zeros(len(item))
        return self.model.item_factors(item) @ self.own.factors

    # Tastes -----------------------------------------------------------------------------------------------------

    @cached_property
    @torch.no_grad()
    def _regression(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The regression of the user's tastes: z of the rated items (m, k), and residuals (m,), NaN without a rating.

        Residuals are computed from all evidence, even where tastes are fitted to a part of it.
        """
        model, row = self.model, self.row
        assert model.taste is not None
        vectors = model.taste.items(self.item, row)
        if self.entity and model.residual is not None:
            return vectors, model.residual[row]
        items = model.without_own(Side.ITEM, self.item, row)
        mine = self.without_each()
        return vectors, self.rating - self.rating_of(self.scores_of(mine, items, self.item), mine)

    @cached_property
    @torch.no_grad()
    def full_tastes(self) -> torch.Tensor:
        """The user's tastes, (1, k)."""
        return self.tastes(self.no_change, 1)

    @cached_property
    @torch.no_grad()
    def tastes_without_each(self) -> torch.Tensor:
        """The user's tastes without each single interaction, (m, k); they do not depend on the predicted item."""
        if self.own.tastes is not None:
            return self.own.tastes.expand(len(self), -1)
        assert self.model.taste is not None
        return self.model.taste.solve_without_each(*self._regression)

    def tastes(self, changes: Changes, n: int) -> torch.Tensor:
        """The user's tastes (n, k), fitted in each scenario to the remaining interactions."""
        if self.own.tastes is not None:
            return self.own.tastes.expand(n, -1)
        taste, m = self.model.taste, len(self)
        assert taste is not None
        vectors, residual = self._regression
        rated = ~torch.isnan(residual)
        lost = changes.removed & rated[changes.index]
        changed, number = changes.scenario[lost].unique(return_inverse=True)
        tastes = taste.solve(vectors, rated[None], torch.nan_to_num(residual)[None]).repeat(n, 1)
        size = max(1, _NUMBERS // max(1, m * (m + len(taste.strength))))
        for first in range(0, len(changed), size):
            inside = (number >= first) & (number < first + size)
            usable = rated.repeat(min(size, len(changed) - first), 1)
            usable[number[inside] - first, changes.index[lost][inside]] = False
            solution = taste.solve(vectors, usable, torch.nan_to_num(residual).expand_as(usable))
            tastes[changed[first : first + size]] = solution
        return tastes

    @torch.no_grad()
    def scores(self) -> torch.Tensor:
        """Predicted ratings (scores for ranking models) of all items, (n_items,), none of them as evidence."""
        model = self.model
        items = torch.arange(model.n_items, device=self.rows.device)
        mine = self.full_state.each(lambda part: part.expand(len(items), *part.shape[1:]))
        score = self.scores_of(mine, model.without_own(Side.ITEM, items, torch.full_like(items, -1)), items)
        if model.taste is not None:
            score = score + model.taste.described @ self.full_tastes[0]
        return self.rating_of(score)

    def scores_of(self, mine: SideState, its: SideState, item: torch.Tensor) -> torch.Tensor:
        """Scores of items (n,) without tastes, from the two sides (n, ...): (n,)."""
        zeros = torch.zeros_like(its.deviation)
        return self.model.parts_of(mine, its, zeros, self.product(item)).total
