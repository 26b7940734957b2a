"""Counterfactual EMF predictions: what EMF would predict if some users had not rated the item."""

from __future__ import annotations

import torch

from recbole_drex.explain.counterfactual.base import Counterfactual, Interactions
from recbole_drex.explain.explanation import NeighbourExplanation
from recbole_drex.model.factorization.emf import EMF


class EMFCounterfactual(Counterfactual):
    r"""The prediction for one user and one item if some other users had not rated the item.

    EMF predicts from factors alone, so removing a rating has no effect until the factors are refitted. Here the item's
    factors are refitted in closed form while all users' factors are fixed: q minimises the part of the loss that
    depends on it,

    .. math::
        \sum_{v} (r_{vi} - p_v^\top q)^2 + \tfrac{\beta}{2} \|q\|^2 + \tfrac{\lambda}{2} W_{vi} \|p_v - q\|^2

    over the users v whose rating is kept. The baseline prediction is computed in the same way.

    Args:
        model: trained.
        user, item: internal ids; a rating of the pair itself is left out.
    """

    orders = ("neighbours", "evidence")

    @torch.no_grad()
    def __init__(self, model: EMF, user: int, item: int):
        neighbourhood = model.neighbourhood
        column = neighbourhood.rated[:, [item]].tocoo()
        raters = torch.from_numpy(column.row.astype("int64"))
        raters = raters[raters != user]
        rating = neighbourhood.ratings[raters.numpy(), item].toarray().ravel()
        self.raters, self.item = raters, item
        p = model.user_factors.weight[raters].double()
        self._user, self._start = model.user_factors.weight[user].double(), model.item_factors.weight[item].double()
        pull = model.explainability_weight * model.explainability(raters, torch.full_like(raters, item)).double()
        self._gram = 2 * p[:, :, None] * p[:, None, :]
        self._gram = self._gram + torch.diag_embed((model.reg_weight + pull)[:, None].expand(-1, p.shape[1]))
        self._right = 2 * p * torch.from_numpy(rating).double()[:, None] + pull[:, None] * p
        # The neighbours counted by the explanation, nearest first.
        known = raters.tolist()
        self.neighbours = [
            known.index(one) for one in neighbourhood.of(user, without=item).tolist() if one in set(known)
        ]

    @property
    def past_interactions(self) -> tuple[Interactions, Interactions]:
        """Per side, user, item and row of the feature store (-1: a rating) of each; the user side is empty."""
        none = self.raters[:0]
        return (none, none, none), (
            self.raters,
            torch.full_like(self.raters, self.item),
            torch.full_like(self.raters, -1),
        )

    @torch.no_grad()
    def without(self, user: list[list[int]], item: list[list[int]]) -> torch.Tensor:
        """Predictions (n,) without the item's ratings at these positions; one list of positions per scenario."""
        kept = torch.ones(len(item), len(self.raters), dtype=torch.float64)
        for scenario, removed in enumerate(item):
            kept[scenario, removed] = 0.0
        size = len(self._start)
        gram = (kept @ self._gram.flatten(1)).view(-1, size, size)
        some = kept.sum(1, keepdim=True) > 0
        # Without any rating the trained factors are kept.
        gram = torch.where(some[..., None], gram, torch.eye(size, dtype=gram.dtype))
        factors = torch.linalg.solve(gram, kept @ self._right)
        return (torch.where(some, factors, self._start) @ self._user).float()


def explain_by_neighbours(model: EMF, user: int, item: int) -> NeighbourExplanation:
    """Ratings of the item by the user's k neighbours; the user's own training rating of it is excluded.

    Args:
        model: trained.
        user, item: internal ids.
    """
    neighbours = model.neighbourhood.of(user, without=item)
    rated = model.neighbourhood.rated[neighbours, item].toarray().ravel() > 0
    ratings = model.neighbourhood.ratings[neighbours, item].toarray().ravel()[rated]
    return NeighbourExplanation(
        neighbours=len(neighbours),
        rated=len(ratings),
        relevant=int((ratings >= model.relevance_threshold).sum()),
        mean_rating=float(ratings.mean()) if len(ratings) else None,
        threshold=model.relevance_threshold,
    )
