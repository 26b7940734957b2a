"""What a model knows of one user: the evidence, the tastes, and the parameters of the user's own."""

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

_NUMBERS = 1 << 22  # held at once where the tastes of many scenarios are solved


@dataclasses.dataclass(frozen=True)
class OwnParameters:
    """Parameters that belong to one user alone; None where the model has none of the kind.

    Attributes:
        factors: (f,).
        tastes: learned ones, (k,); None where they follow from the evidence.
    """

    factors: torch.Tensor | None
    tastes: torch.Tensor | None


@dataclasses.dataclass(frozen=True)
class PostedWords:
    """Words of reviews that are not in the data.

    Attributes:
        words: the words; those of lemmas that the data do not have are numbered from the vocabulary's length on.
        lemmas: these lemmas.
    """

    words: EvidenceWords
    lemmas: list[str]


class UserView(SideEvidence):
    """A user in n scenarios.

    Args:
        model: its remembered states are up to date.
        user: internal id, 0 for somebody who is not in the data.
        rows, item, rating, time: of the user's interactions, as in the model's table, (m, ...); rating NaN for none.
        row: their rows of the table, -1 for those that are not in it, (m,).
        own: the user's parameters.
        left_out: as in :class:`SideEvidence`.
        posted: words of the reviews of somebody who is not in the data.
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
        """A user of the data, perhaps without the interaction at a row of the table."""
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
        """Expected ratings of scores, (...,); the scores themselves where the model ranks.

        Args:
            score: (...,).
            known: what is known of the user, of the same shape; all that there is by default.
        """
        if known is None:
            known = self.now.each(lambda part: part[0])  # broadcasts
        user = torch.full(score.shape, self.entity, device=score.device)
        return self.model.head.mean(score, self.model.who(known, user))

    @cached_property
    @torch.no_grad()
    def now(self) -> SideState:
        """What all that is known of the user comes to, (1, ...)."""
        return self.summary(self.nothing, 1)

    def product(self, item: torch.Tensor) -> torch.Tensor:
        """What free factors add to the scores of items (n,): (n,)."""
        if self.own.factors is None:
            return self.rows.new_zeros(len(item))
        return self.model.item_factors(item) @ self.own.factors

    # Tastes -----------------------------------------------------------------------------------------------------

    @cached_property
    @torch.no_grad()
    def _regression(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the user's tastes are fitted to: z of the rated items (m, k), and residuals (m,), NaN without a rating.

        Residuals are those of the whole evidence, also where tastes are fitted to less of it.
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
    def tastes_now(self) -> torch.Tensor:
        """The user's tastes, (1, k)."""
        return self.tastes(self.nothing, 1)

    @cached_property
    @torch.no_grad()
    def tastes_without_each(self) -> torch.Tensor:
        """The user's tastes without each single interaction, (m, k); the same whatever item is predicted."""
        if self.own.tastes is not None:
            return self.own.tastes.expand(len(self), -1)
        assert self.model.taste is not None
        return self.model.taste.solve_without_each(*self._regression)

    def tastes(self, changes: Changes, n: int) -> torch.Tensor:
        """The user's tastes (n, k), in each scenario fitted to the interactions that are left."""
        if self.own.tastes is not None:
            return self.own.tastes.expand(n, -1)
        taste, m = self.model.taste, len(self)
        assert taste is not None
        vectors, residual = self._regression
        rated = ~torch.isnan(residual)
        lost = changes.gone & rated[changes.place]
        changed, number = changes.scenario[lost].unique(return_inverse=True)
        now = taste.solve(vectors, rated[None], torch.nan_to_num(residual)[None]).repeat(n, 1)
        size = max(1, _NUMBERS // max(1, m * (m + len(taste.strength))))
        for first in range(0, len(changed), size):
            inside = (number >= first) & (number < first + size)
            usable = rated.repeat(min(size, len(changed) - first), 1)
            usable[number[inside] - first, changes.place[lost][inside]] = False
            found = taste.solve(vectors, usable, torch.nan_to_num(residual).expand_as(usable))
            now[changed[first : first + size]] = found
        return now

    @torch.no_grad()
    def scores(self) -> torch.Tensor:
        """Predicted ratings (scores of models that rank) of all items, (n_items,); none of them as evidence."""
        model = self.model
        items = torch.arange(model.n_items, device=self.rows.device)
        mine = self.now.each(lambda part: part.expand(len(items), *part.shape[1:]))
        score = self.scores_of(mine, model.without_own(Side.ITEM, items, torch.full_like(items, -1)), items)
        if model.taste is not None:
            score = score + model.taste.described @ self.tastes_now[0]
        return self.rating_of(score)

    def scores_of(self, mine: SideState, its: SideState, item: torch.Tensor) -> torch.Tensor:
        """Scores of items (n,) without tastes, from the two sides (n, ...): (n,)."""
        none = torch.zeros_like(its.deviation)
        return self.model.parts_of(mine, its, none, self.product(item)).total
