"""Explainable matrix factorisation: items that a user's neighbours rated are drawn towards the user."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import nn

from recbole_drex.config.general_parameters import RATING_TRAINING, general
from recbole_drex.config.parameters import Parameter
from recbole_drex.model.contract import ModelContract
from recbole_drex.model.layers.common import all_pairs
from recbole_drex.recbole import GeneralRecommender, InputType

_CELLS = 1 << 22  # user-by-user cosines per block


class Neighbourhood:
    """The nearest users of each user, by the cosine of their rows of the rating matrix.

    Only users with a positive cosine are neighbours, so a user may have fewer than ``size``. Ties are broken by
    internal id.

    Args:
        user, item, rating: the training ratings, each of shape ``(n,)``; of a repeated pair the last counts.
        n_users, n_items: numbers of users and items, padding included.
        size: k, the maximum number of neighbours.

    Example:
        >>> ratings = np.array([[1, 1, 5.0], [2, 1, 4.0], [2, 2, 3.0], [3, 2, 2.0]])
        >>> near = Neighbourhood(ratings[:, 0].astype(int), ratings[:, 1].astype(int), ratings[:, 2], 4, 3, size=2)
        >>> near.of(2).tolist(), near.shares(np.array([2, 3]), np.array([1, 1])).tolist()
        ([1, 3], [0.5, 1.0])
    """

    def __init__(self, user: np.ndarray, item: np.ndarray, rating: np.ndarray, n_users: int, n_items: int, size: int):
        key = user.astype(np.int64) * n_items + item
        _, last = np.unique(key[::-1], return_index=True)
        index = (user[::-1][last], item[::-1][last])
        self.size = size
        self.ratings = scipy.sparse.csr_matrix((rating[::-1][last].astype(np.float64), index), (n_users, n_items))
        # Stored in addition to the ratings, since a rating can be zero.
        self.rated = scipy.sparse.csr_matrix((np.ones(len(last)), index), (n_users, n_items))
        self.norms = np.sqrt(self.ratings.multiply(self.ratings).sum(1)).A1
        step = max(1, _CELLS // n_users)
        self._near = [near for first in range(0, n_users, step) for near in self._nearest(first, first + step)]

    def _nearest(self, first: int, end: int) -> list[np.ndarray]:
        products = self.ratings[first:end] @ self.ratings.T
        bounds = zip(products.indptr[:-1], products.indptr[1:], strict=True)
        return [
            self._best(products.indices[a:b], products.data[a:b], self.norms[user], user)
            for user, (a, b) in enumerate(bounds, start=first)
        ]

    def _best(self, others: np.ndarray, product: np.ndarray, norm: float, user: int) -> np.ndarray:
        """The nearest of ``others``, given their rows' dot products with the user's row and its norm."""
        usable = (product > 0) & (others != user)
        others, product = others[usable], product[usable]
        # Rounded, so that cosines that differ only by the order of summation are ties.
        cosine = np.round(product / (norm * self.norms[others]), 9)
        if len(others) > self.size:
            near = cosine >= np.partition(cosine, -self.size)[-self.size]  # with all ties of the last
            others, cosine = others[near], cosine[near]
        return others[np.lexsort((others, -cosine))[: self.size]]

    def of(self, user: int, without: int | None = None) -> np.ndarray:
        """Neighbours of a user, the nearest first.

        Args:
            user: internal id.
            without: an item; the user's own rating of it is left out of the cosines.
        """
        if without is None or not self.rated[user, without]:
            return self._near[user]
        rest = self.ratings[user].toarray()[0]
        rest[without] = 0.0
        return self._best(np.arange(len(self.norms)), self.ratings @ rest, float(np.sqrt(rest @ rest)), user)

    def shares(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """E of pairs: the share of each user's neighbours that rated the item, 0 without neighbours; shape ``(n,)``."""
        result = np.zeros(len(user))
        order = np.argsort(user, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(user[order])) + 1):
            near = self._near[user[rows[0]]] if len(rows) else ()
            if len(near):
                count = np.bincount(self.rated[near].indices, minlength=self.rated.shape[1])
                result[rows] = count[item[rows]] / len(near)
        return result


class EMF(ModelContract, GeneralRecommender):
    r"""Explainable matrix factorisation (Abdollahi and Nasraoui 2016, "Explainable matrix factorization for
    collaborative filtering", WWW companion).

    .. math::
        \hat r_{ui} = p_u^\top q_i, \qquad
        J = \sum_{(u,i)} (r_{ui} - \hat r_{ui})^2 + \frac{\beta}{2} \left(\|p_u\|^2 + \|q_i\|^2\right)
            + \frac{\lambda}{2} \|p_u - q_i\|^2 \, W_{ui}

    .. math::
        E_{ui} = \frac{|\{v \in N_k(u) : v \text{ rated } i\}|}{|N_k(u)|}, \qquad
        W_{ui} = E_{ui} \text{ if } E_{ui} > \theta \text{ else } 0

    :math:`N_k(u)` are the at most k other users nearest to u by the cosine of their rows of the training matrix
    (missing ratings are zero). p and q have width d. The gradient of the last term is
    :math:`\lambda W_{ui} (p_u - q_i)` for p and its negative for q, so gradient descent brings the two together. We use
    Adam on the mean of J over a batch, where the paper uses plain gradient descent.

    As published, there are no biases and ratings are not centred. To avoid starting at 0, we initialise every factor
    with :math:`\sqrt{|\mu| / d}` (with the sign of the mean training rating :math:`\mu` for items) plus noise. All
    predictions then start near the mean, and stay there for users and items without training ratings.

    The similarities of neighbours contain the training ratings, including the target's, but they only weight a term of
    the loss. Pairs outside the training part are predicted from factors alone, and the matrix contains nothing of them.
    Counterfactual explanations leave out the pair's own rating.
    """

    PARAMETERS = (
        Parameter("embedding_size", int, 32, "d: width of the factors.", least=1),
        Parameter("reg_weight", float, 0.05, "beta: L2 on the factors of a batch.", least=0),
        Parameter(
            "explainability_weight", float, 0.1, "lambda: how strongly explainable items are drawn to the user.",
            least=0,
        ),
        Parameter("neighbours", int, 50, "k: nearest users by the cosine of their training ratings.", least=1),
        Parameter(
            "explainability_threshold", float, 0.0,
            "theta: a smaller share of neighbours that rated an item counts as none.", least=0, most=1,
        ),
        Parameter("init_std", float, 0.05, "Standard deviation of the factors' noise at the start.", least=0),
        general("learning_rate", 0.001),
        *RATING_TRAINING,
    )  # fmt: skip
    input_type = InputType.POINTWISE
    loss_name = "mse"
    weights: torch.Tensor
    keys: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.rating_field = config["RATING_FIELD"]
        self.reg_weight, self.explainability_weight = config["reg_weight"], config["explainability_weight"]
        self.relevance_threshold = float(config["relevance_threshold"])
        feat = dataset.inter_feat
        rating = feat[self.rating_field].float()
        size, mean = config["embedding_size"], rating.mean()
        self.user_factors = nn.Embedding(self.n_users, size)
        self.item_factors = nn.Embedding(self.n_items, size)
        start = (mean.abs() / size).sqrt()
        for table, centre in ((self.user_factors, start), (self.item_factors, start * mean.sign())):
            nn.init.normal_(table.weight, mean=float(centre), std=config["init_std"])
        user, item = feat[self.USER_ID].numpy(), feat[self.ITEM_ID].numpy()
        self.neighbourhood = Neighbourhood(
            user, item, rating.numpy(), self.n_users, self.n_items, size=config["neighbours"]
        )
        share = torch.from_numpy(self.neighbourhood.shares(user, item)).float()
        share[share <= config["explainability_threshold"]] = 0.0
        keys, order = torch.sort(feat[self.USER_ID] * self.n_items + feat[self.ITEM_ID])
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("weights", share[order], persistent=False)

    def explainability(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """W of training pairs, shape ``(b,)``."""
        return self.weights[torch.searchsorted(self.keys, user * self.n_items + item)]

    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Predicted ratings of users and items whose shapes broadcast."""
        return (self.user_factors(user) * self.item_factors(item)).sum(-1)

    def calculate_loss(self, interaction) -> torch.Tensor:
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        p, q = self.user_factors(user), self.item_factors(item)
        error = (interaction[self.rating_field] - (p * q).sum(-1)).square()
        norms = p.square().sum(-1) + q.square().sum(-1)
        apart = (p - q).square().sum(-1) * self.explainability(user, item)
        return (error + self.reg_weight / 2 * norms + self.explainability_weight / 2 * apart).mean()

    def predict(self, interaction) -> torch.Tensor:
        return self.score(interaction[self.USER_ID], interaction[self.ITEM_ID])

    def full_sort_predict(self, interaction) -> torch.Tensor:
        return all_pairs(self.score, interaction[self.USER_ID], self.n_items)

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The factors of users and items, each of shape ``(n, d)``."""
        return self.user_factors.weight.detach(), self.item_factors.weight.detach()
