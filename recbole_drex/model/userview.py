"""What a model knows of one user: the evidence, the tastes, and the parameters of the user's own."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from recbole_drex.model.scenarios import Changes, SideEvidence

if TYPE_CHECKING:
    from recbole_drex.model.drex import DReX
    from recbole_drex.model.reviewwords import ReviewWords

_NUMBERS = 1 << 22  # held at once where the tastes of many scenarios are solved


@dataclasses.dataclass(frozen=True)
class OwnParameters:
    """Parameters that belong to one user alone; None where the model has none of the kind.

    Attributes:
        bias: scalar.
        factors: (f,).
        tastes: learned ones, (k,); None where they follow from the evidence.
    """

    bias: torch.Tensor | None
    factors: torch.Tensor | None
    tastes: torch.Tensor | None


@dataclasses.dataclass(frozen=True)
class PostedWords:
    """Words of reviews that are not in the data.

    Attributes:
        words: the words; those of lemmas that the data do not have are numbered from the vocabulary's length on.
        lemmas: these lemmas.
    """

    words: ReviewWords
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
        super().__init__(model, 0, user, rows, item, value, time, row, left_out)
        self.item, self.rating, self.own, self.posted = item, rating, own, posted
        # What the items are to others than this user.
        self.item_states = model.item_states_without(item, row)

    @classmethod
    def known(cls, model: DReX, user: int, left_out: int = -1) -> UserView:
        """A user of the data, perhaps without the interaction at a row of the table."""
        table = model.table
        row = table.rows_of(user)
        row = row[row != left_out]
        tastes = model.taste_weights.weight[user] if model.ranks and model.taste is not None else None
        own = OwnParameters(
            model.user_bias.weight[user, 0] if model.use_bias else None,
            model.user_factors.weight[user] if model.factor_size else None,
            tastes,
        )
        columns = (table.rows_at(row), table.item[row], table.rating[row], table.time[row], row)
        return cls(model, user, *columns, own, left_out)

    # The score --------------------------------------------------------------------------------------------------

    def score(self, parts: list[torch.Tensor], item: torch.Tensor) -> torch.Tensor:
        """Scores of items (n,), without tastes, from the inputs (n, d) of the model's MLP: (n,)."""
        model, value = self.model, self.model.score_of_inputs(parts, item)
        if self.own.factors is not None:
            value = value + model.item_factors(item) @ self.own.factors
        if self.own.bias is not None:
            value = value + model.mean + self.own.bias + model.item_bias(item).squeeze(-1)
        return value

    def rating_of(self, score: torch.Tensor) -> torch.Tensor:
        """Expected ratings of scores, (...,); the scores themselves where the model ranks."""
        user = torch.full(score.shape, self.entity, device=score.device)
        return self.model.head.mean(score, user)

    # History ----------------------------------------------------------------------------------------------------

    def seen(self, item_state: torch.Tensor, changes: Changes, n: int) -> torch.Tensor:
        """What target items (n, d), one per scenario, see in the user's history: (n, d)."""
        history = self.model.history
        assert history is not None
        at = (changes.scenario, changes.place)
        scores = history.query(item_state) @ self.item_states.T * history.scale
        usable = torch.ones(n, len(self), dtype=torch.bool, device=scores.device).index_put(at, ~changes.gone)
        weights = scores.masked_fill(~usable, -1e9).softmax(-1) * usable if len(self) else scores
        changed = weights[at][:, None] * changes.message
        return history.value((weights @ self.messages).index_add(0, changes.scenario, changed))

    @cached_property
    @torch.no_grad()
    def _looks(self) -> torch.Tensor:
        """How much each item of the history (rows) looks at each other one before a softmax's division, (m, m)."""
        history = self.model.history
        assert history is not None
        scores = (history.query(self.item_states) @ self.item_states.T * history.scale).double()
        scores = scores.fill_diagonal_(-torch.inf)
        return torch.exp(scores - scores.amax(1, keepdim=True).clamp(min=-1e30)) if len(self) else scores

    def _seen_by_each(self, changes: Changes, n: int) -> torch.Tensor:
        """What each item of the history sees in the rest of it: (n, m, d)."""
        history, gone = self.model.history, changes.gone
        assert history is not None
        # What is left of a softmax after its largest part is gone would be rounding errors in single precision.
        looks = self._looks if bool(gone.any()) else self._looks.float()
        messages, change = self.messages.to(looks), changes.message.to(looks)
        # Sums over the whole history, and what has changed of them: cheaper than a sum per scenario.
        slot, width = _slots(changes.scenario, n)
        padded = [
            part.new_zeros(n * width, part.shape[1]).index_put((slot,), part).view(n, width, part.shape[1])
            for part in (looks.T[changes.place], change, gone[:, None].to(looks))
        ]
        at_change, change, lost = padded
        total = looks @ messages + at_change.mT @ change
        mass = looks.sum(1, keepdim=True) - at_change.mT @ lost
        left = mass > 1e-9 * looks.sum(1, keepdim=True).clamp(min=1e-30)
        return history.value(torch.where(left, total / torch.where(left, mass, 1.0), 0.0).to(self.messages))

    # Tastes -----------------------------------------------------------------------------------------------------

    @cached_property
    def tastes_now(self) -> torch.Tensor:
        """The user's tastes, (1, k)."""
        if self.own.tastes is not None:
            return self.own.tastes[None]
        with torch.no_grad():
            return self._tastes(self.nothing, 1)

    @cached_property
    def tastes_without_each(self) -> torch.Tensor:
        """The user's tastes without each single interaction, (m, k); the same whatever item is predicted."""
        with torch.no_grad():
            return self.tastes(self.each_gone, len(self))

    def tastes(self, changes: Changes, n: int) -> torch.Tensor:
        """The user's tastes (n, k), in each scenario fitted to what the model leaves unexplained then."""
        if self.own.tastes is not None:
            return self.own.tastes.expand(n, -1)
        assert self.model.taste is not None
        width = len(self.model.taste.strength) + 4 * self.messages.shape[1] + len(self)
        size = max(1, _NUMBERS // max(1, len(self) * width))
        changed, number = changes.scenario.unique(return_inverse=True)
        parts = []
        for first in range(0, len(changed), size):
            inside = (number >= first) & (number < first + size)
            chosen = Changes(*(getattr(changes, one.name)[inside] for one in dataclasses.fields(changes)))
            chosen = dataclasses.replace(chosen, scenario=number[inside] - first)
            parts.append(self._tastes(chosen, min(size, len(changed) - first)))
        if parts and len(changed) == n:
            return torch.cat(parts)
        # Where nothing of the user's is different, tastes are what they are.
        now = self._tastes(self.nothing, 1) if torch.is_grad_enabled() else self.tastes_now
        return now.repeat(n, 1).index_put((changed,), torch.cat(parts)) if parts else now.expand(n, -1)

    def _tastes(self, changes: Changes, n: int) -> torch.Tensor:
        model, m = self.model, len(self)
        assert model.taste is not None
        rated = ~torch.isnan(self.rating)
        usable = rated.expand(n, m).index_put((changes.scenario, changes.place), ~changes.gone & rated[changes.place])
        expected = self.rating_of(self.each_score(changes, n))
        residual = torch.nan_to_num(self.rating) - expected
        return model.taste.solve(model.taste.items(self.item, self.row), usable, residual)

    def each_score(self, changes: Changes, n: int) -> torch.Tensor:
        """Scores of the user's own interactions, each without its message and without tastes: (n, m)."""
        m = len(self)
        inputs = [self.each(changes, n), self.item_states.expand(n, m, -1)]
        if self.model.history is not None:
            inputs.append(self._seen_by_each(changes, n))
        return self.score([part.flatten(0, 1) for part in inputs], self.item.repeat(n)).view(n, m)

    @torch.no_grad()
    def scores(self) -> torch.Tensor:
        """Predicted ratings (scores of models that rank) of all items, (n_items,); none of them as evidence."""
        model = self.model
        items = torch.arange(model.n_items, device=self.rows.device)
        states = model.item_states_without(items, torch.full_like(items, -1))
        parts = [self.state(self.nothing, 1).expand(len(items), -1), states]
        if model.history is not None:
            parts.append(self.seen(states, self.nothing, len(items)))
        score = self.score(parts, items)
        if model.taste is not None:
            score = score + model.taste.described @ self.tastes(self.nothing, 1)[0]
        return self.rating_of(score)


def _slots(scenario: torch.Tensor, n: int) -> tuple[torch.Tensor, int]:
    """A place for each change (p,) in n rows of equal length, the row of its scenario; and that length."""
    order = torch.argsort(scenario, stable=True)
    count = torch.bincount(scenario, minlength=n)
    before = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[scenario[order]]
    width = int(count.max()) if len(order) else 0
    return torch.empty_like(order).index_put((order,), scenario[order] * width + before), width
