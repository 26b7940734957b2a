"""Counterfactual EMF predictions: what EMF would predict if some users had not rated the item."""

from __future__ import annotations

import torch

from recbole_drex.explain.counterfactual.base import Counterfactual, Interactions
from recbole_drex.explain.explanation import NeighbourExplanation
from recbole_drex.model.factorization.emf import EMF


class EMFCounterfactual(Counterfactual):
    r"""The prediction of one user for one item, had other users not rated the item.

    EMF predicts by factors alone, so taking a rating away changes nothing until the factors are learned again. Here
    those of the item are, in closed form, with all users' factors as they are: the q that minimises the part of the
    loss that holds it,

    .. math::
        \sum_{v} (r_{vi} - p_v^\top q)^2 + \tfrac{\beta}{2} \|q\|^2 + \tfrac{\lambda}{2} W_{vi} \|p_v - q\|^2

    over the users v whose rating stays. The prediction that others are compared with is made in the same way.

    Args:
        model: trained.
        user, item: internal ids; a rating of the pair itself is left out.
    """

    orders = ("neighbours", "evidence")

    @torch.no_grad()
    def __init__(self, model: EMF, user: int, item: int):
        near = model.neighbourhood
        column = near.rated[:, [item]].tocoo()
        raters = torch.from_numpy(column.row.astype("int64"))
        raters = raters[raters != user]
        rating = near.ratings[raters.numpy(), item].toarray().ravel()
        self.raters, self.item = raters, item
        p = model.user_factors.weight[raters].double()
        self._user, self._start = model.user_factors.weight[user].double(), model.item_factors.weight[item].double()
        pull = model.explainability_weight * model.explainability(raters, torch.full_like(raters, item)).double()
        self._gram = 2 * p[:, :, None] * p[:, None, :]
        self._gram = self._gram + torch.diag_embed((model.reg_weight + pull)[:, None].expand(-1, p.shape[1]))
        self._right = 2 * p * torch.from_numpy(rating).double()[:, None] + pull[:, None] * p
        # Neighbours in the order of nearness, as the explanation counts them.
        known = raters.tolist()
        self.neighbours = [known.index(one) for one in near.of(user, without=item).tolist() if one in set(known)]

    @property
    def pasts(self) -> tuple[Interactions, Interactions]:
        """Per side, user, item and row of the feature store (-1: a rating) of each; nothing of the user's."""
        nobody = self.raters[:0]
        return (nobody, nobody, nobody), (
            self.raters,
            torch.full_like(self.raters, self.item),
            torch.full_like(self.raters, -1),
        )

    @torch.no_grad()
    def without(self, user: list[list[int]], item: list[list[int]]) -> torch.Tensor:
        """Predictions (n,) without the ratings at these places of the item, one list of places a scenario."""
        stays = torch.ones(len(item), len(self.raters), dtype=torch.float64)
        for scenario, gone in enumerate(item):
            stays[scenario, gone] = 0.0
        size = len(self._start)
        gram = (stays @ self._gram.flatten(1)).view(-1, size, size)
        some = stays.sum(1, keepdim=True) > 0
        # Nothing to learn from: the factors stay what they are.
        gram = torch.where(some[..., None], gram, torch.eye(size, dtype=gram.dtype))
        factors = torch.linalg.solve(gram, stays @ self._right)
        return (torch.where(some, factors, self._start) @ self._user).float()


def explain_by_neighbours(model: EMF, user: int, item: int) -> NeighbourExplanation:
    """What the user's k neighbours say about the item; a rating that the user gave it in training is left out.

    Args:
        model: trained.
        user, item: internal ids.
    """
    near = model.neighbourhood.of(user, without=item)
    rated = model.neighbourhood.rated[near, item].toarray().ravel() > 0
    ratings = model.neighbourhood.ratings[near, item].toarray().ravel()[rated]
    return NeighbourExplanation(
        neighbours=len(near),
        rated=len(ratings),
        relevant=int((ratings >= model.relevance_threshold).sum()),
        mean_rating=float(ratings.mean()) if len(ratings) else None,
        threshold=model.relevance_threshold,
    )
