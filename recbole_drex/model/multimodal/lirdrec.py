"""LIRDRec: item representations from modalities alone, without item embeddings, on graphs of users and items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import scipy.fft
import torch
from torch import nn

from recbole_drex.config.general_parameters import ablations_parameter
from recbole_drex.config.parameters import Parameter, names_once
from recbole_drex.errors import ConfigError
from recbole_drex.model.contract import ModelContract
from recbole_drex.model.layers.common import CacheMixin, bpr_loss
from recbole_drex.model.multimodal.fusion import SCHEDULES, WeightCopying
from recbole_drex.model.multimodal.graphs import Graph, item_graph, user_item_graph
from recbole_drex.model.multimodal.item_vectors import (
    ITEM_MODALITIES,
    RANKING_TRAINING,
    fit_modalities,
    modality_vectors,
    refuse_others,
)
from recbole_drex.recbole import GeneralRecommender, InputType

SHARED = "shared"
"""The block that is encoded from all modalities."""


def shared_features(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Orthonormal discrete cosine transform (DCT-II) of each modality along its features, concatenated.

    Args:
        vectors: of each modality, (n_items, width); zeros for items that lack it, which stay zeros.

    Returns:
        (n_items, sum of the widths).

    Example:
        >>> shared_features([torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0]])])
        tensor([[1.4142, 0.0000, 3.0000]])
    """
    parts = [scipy.fft.dct(table.cpu().numpy(), type=2, norm="ortho", axis=1) for table in vectors]
    return torch.cat([torch.from_numpy(part) for part in parts], dim=1)


class BlockEncoder(nn.Module):
    r"""Block of all items from fixed features: :math:`x_i = W_2\, \mathrm{LeakyReLU}(W_1 F_i + b)`, of unit length.

    Args:
        features: F, (n_items, width); an item whose features are all zero has a block of zeros.
        size: d; the hidden layer has 4 d.
    """

    features: torch.Tensor
    present: torch.Tensor

    def __init__(self, features: torch.Tensor, size: int):
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("present", (features != 0).any(1, keepdim=True).float(), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(features.shape[1], 4 * size), nn.LeakyReLU(inplace=True), nn.Linear(4 * size, size, bias=False)
        )

    def forward(self) -> torch.Tensor:
        """Blocks of all items, ``(n_items, d)``."""
        return nn.functional.normalize(self.layers(self.features), dim=1) * self.present


def _are_weights(weights: list[Any]) -> bool:
    numbers = all(type(weight) in (int, float) and weight >= 0 for weight in weights)
    return numbers and abs(sum(weights) - 1) <= 1e-6


class LIRDRec(CacheMixin, ModelContract, GeneralRecommender):
    r"""Learning item representations directly from multimodal features (Zhou, Zhang, Niyato and Shen 2025,
    arXiv 2505.04960), for any number of modalities.

    .. math::
        x_i = [x_{i1}; \ldots; x_{iB}], \qquad X = \sum_{l=0}^{L} \hat A^l \begin{bmatrix} P \\ x \end{bmatrix}, \qquad
        q_i = X_i + \sum_j S_{ij} X_j, \qquad p_u = [\alpha_{u1} X_{u1}; \ldots; \alpha_{uB} X_{uB}]

    .. math::
        \hat y_{ui} = p_u^\top q_i, \qquad
        L = -\frac{1}{|D|} \sum_{(u,i,j) \in D} \log \sigma(\hat y_{ui} - \hat y_{uj})
            + \lambda \left(\overline{p^2} + \overline{q^2}\right)

    An item is described by B blocks of width d: one per modality, encoded from the item's vector, and one that is
    encoded from the cosine transforms of all modalities (:func:`shared_features`, :class:`BlockEncoder`). Users have a
    free block P for each, also of unit length. :math:`\hat A` is the graph of the training pairs
    (:func:`user_item_graph`), L the number of layers, S the graph of nearest items by their vectors, averaged over the
    modalities (:func:`item_graph`). :math:`\alpha_u` weights a user's blocks (:class:`WeightCopying`). D holds training
    pairs, each with a sampled item that the user has not interacted with. The bar is the mean over all users or items
    and columns.

    An item that lacks a modality has a block of zeros and no edge in its graph; one that lacks all is described by its
    users alone. A user without training pairs gets the mean representation of the others. As in every model of this
    kind, a training pair is an edge of the graph that predicts it, and with ``reviews`` its review is in the item's
    mean. Validation and test pairs, and their reviews, are not used.

    Raises:
        ConfigError: modalities or blocks that the data set lacks, or weights that do not match the modalities.
        DataError: no item has a named modality.
    """

    PARAMETERS = (
        Parameter("embedding_size", int, 64, "d: width of a block.", least=1),
        ITEM_MODALITIES,
        Parameter(
            "blocks", list, None,
            "Blocks of a representation: names of modalities, and shared; empty: all of them.",
            accepts=names_once, legal="a list of one name or more, each once",
        ),
        Parameter("n_layers", int, 3, "L: layers of propagation between users and items.", least=0),
        Parameter(
            "item_graph", bool, True, "Items also take from the items that are nearest by their vectors."
        ),
        Parameter("knn_k", int, 5, "k: nearest items of an item, itself included.", least=1),
        Parameter(
            "modality_weights", list, None,
            "Weights of the modalities in the item graph, summing to 1; empty: equal.",
            accepts=_are_weights, legal="numbers of 0 or more that sum to 1",
        ),
        Parameter("weigh_blocks", bool, True, "Users weigh their blocks; false: all count alike."),
        Parameter(
            "pwc_schedule", str, "official", "How fast weights are copied rather than learned.", choices=SCHEDULES
        ),
        Parameter("decay_weight", float, 0.9, "Share of the learned weights before training.", least=0, most=1),
        Parameter(
            "decay_base", float, 0.9, "How fast that share falls in the official schedule: smaller is faster.",
            least=0, most=1,
        ),
        Parameter(
            "reg_weight", float, 0.0001, "lambda: weight of the mean squares of users and items.", least=0
        ),
        *RANKING_TRAINING,
        ablations_parameter(
            [{"item_graph": False}, {"weigh_blocks": False}, {"pwc_schedule": "none"}], "blocks and modalities"
        ),
    )  # fmt: skip
    input_type = InputType.PAIRWISE
    loss_name = "bpr"
    seen: torch.Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        size, self.n_layers, self.reg_weight = config["embedding_size"], config["n_layers"], config["reg_weight"]
        self.notes = fit_modalities(config, dataset)
        vectors = modality_vectors(config, dataset)
        self.blocks = _blocks(config["blocks"], list(vectors))
        self.encoders = nn.ModuleList(
            BlockEncoder(shared_features(list(vectors.values())) if name == SHARED else vectors[name], size)
            for name in self.blocks
        )
        self.user_blocks = nn.Parameter(torch.empty(self.n_users, len(self.blocks), size))
        for number in range(len(self.blocks)):
            nn.init.xavier_normal_(self.user_blocks.data[:, number])
        nn.init.zeros_(self.user_blocks.data[0])  # padding, as the features of item 0 are zeros
        user, item = dataset.inter_feat[self.USER_ID], dataset.inter_feat[self.ITEM_ID]
        self.user_items = Graph(user_item_graph(user, item, self.n_users, self.n_items), symmetric=True)
        self.items = None
        if config["item_graph"]:
            weights = _weights(config["modality_weights"], list(vectors))
            self.items = Graph(item_graph(list(vectors.values()), weights, config["knn_k"]), symmetric=False)
        self.fusion = None
        if config["weigh_blocks"]:
            schedule = (config["pwc_schedule"], config["decay_weight"], config["decay_base"])
            self.fusion = WeightCopying(self.n_users, len(self.blocks), size, *schedule)
        self.register_buffer("seen", torch.bincount(user, minlength=self.n_users) > 0, persistent=False)

    def propagated(self) -> tuple[torch.Tensor, torch.Tensor]:
        """X before the block weights and the item graph are applied: ``(n_users, B, d)`` and ``(n_items, B d)``."""
        users = nn.functional.normalize(self.user_blocks, dim=-1)
        items = torch.cat([encoder() for encoder in self.encoders], dim=1)
        start = torch.cat([users.flatten(1), items])
        total = start
        for _ in range(self.n_layers):  # Horner's scheme for the sum of all layers: x + A (x + A (x + ...))
            total = start + self.user_items(total)
        users, items = total.split([self.n_users, self.n_items])
        return users.unflatten(1, (len(self.blocks), -1)), items

    def representations(self) -> tuple[torch.Tensor, torch.Tensor]:
        """p of all users and q of all items, ``(n_users, B d)`` and ``(n_items, B d)``."""
        users, items = self.propagated()
        users = users / len(self.blocks) if self.fusion is None else users * self.fusion(users)[..., None]
        return users.flatten(1), items if self.items is None else items + self.items(items)

    # Training ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def before_epoch(self, epoch: int) -> None:
        """Copy the current weights of the users' blocks; the trainer calls this before every epoch, from 0."""
        if self.fusion is not None:
            self.fusion.before_epoch(epoch, self.propagated()[0])
            self._stale = True

    def calculate_loss(self, interaction) -> torch.Tensor:
        users, items = self.representations()
        # `index_select`, since the gradient of indexing with a tensor takes twice as long.
        user = users.index_select(0, interaction[self.USER_ID])
        positive = items.index_select(0, interaction[self.ITEM_ID])
        negative = items.index_select(0, interaction[self.NEG_ITEM_ID])
        margin = (user * (positive - negative)).sum(-1)
        # Rows of padding are zero.
        squares = users.square().sum() / (self.n_users - 1) + items.square().sum() / (self.n_items - 1)
        return bpr_loss(margin) + self.reg_weight * squares / users.shape[1]

    # Prediction -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """p of users and q of items, each of shape ``(n, B d)``."""
        self._refresh()
        return self._users, self._items

    def _refresh(self) -> None:
        if self._stale or self.training:
            self._users, self._items = self.representations()
            self._users[~self.seen] = self._users[self.seen].mean(0)
            self._stale = False

    @torch.no_grad()
    def predict(self, interaction) -> torch.Tensor:
        """Scores of pairs, ``(b,)``, for ranking; they are not ratings."""
        self._refresh()
        return (self._users[interaction[self.USER_ID]] * self._items[interaction[self.ITEM_ID]]).sum(-1)

    @torch.no_grad()
    def full_sort_predict(self, interaction) -> torch.Tensor:
        """Scores of each user with every item, ``(b * n_items,)``; agrees with :meth:`predict`."""
        self._refresh()
        return (self._users[interaction[self.USER_ID]] @ self._items.T).flatten()


def _blocks(names: list[str] | None, modalities: list[str]) -> list[str]:
    legal = [*modalities, SHARED]
    if names is not None:
        refuse_others("blocks", names, legal)
    return legal if names is None else names


def _weights(weights: list[float] | None, modalities: list[str]) -> list[float]:
    if weights is None:
        return [1 / len(modalities)] * len(modalities)
    if len(weights) != len(modalities):
        raise ConfigError(f"parameter 'modality_weights' must have a number for each of {modalities}, not {weights!r}")
    return weights
