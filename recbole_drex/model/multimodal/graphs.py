"""Graphs for propagation: users and items by interactions, items by the similarity of their vectors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import nn

_BLOCK_BYTES = 2**27  # of similarities per block
_RESOLUTION = 1e9  # cosines that differ by less than 1e-9 are ties


class Graph(nn.Module):
    """A fixed sparse matrix that is multiplied by dense matrices.

    Args:
        matrix: square, (n, n), in compressed sparse rows (CSR).
        symmetric: whether it equals its transpose. The gradient needs the transpose, which is stored otherwise.

    Example:
        >>> graph = Graph(user_item_graph(torch.tensor([0]), torch.tensor([0]), 1, 1), symmetric=True)
        >>> graph(torch.tensor([[1.0], [2.0]])).tolist()
        [[2.0], [1.0]]
    """

    matrix: torch.Tensor

    def __init__(self, matrix: torch.Tensor, symmetric: bool):
        super().__init__()
        transposed = None if symmetric else _csr(_scipy(matrix).T)
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("transposed", transposed, persistent=False)

    def forward(self, dense: torch.Tensor) -> torch.Tensor:
        """Product with ``dense`` of shape ``(n, d)``: shape ``(n, d)``; gradients flow to ``dense``."""
        return _Product.apply(self.matrix, self.matrix if self.transposed is None else self.transposed, dense)


class _Product(torch.autograd.Function):
    """Sparse times dense; PyTorch's gradient would transpose the sparse factor in every step."""

    @staticmethod
    def forward(ctx: Any, matrix: torch.Tensor, transposed: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        ctx.transposed = transposed
        return _times(matrix, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        return None, None, _times(ctx.transposed, gradients[0].contiguous())


def _times(matrix: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    # A weighted sum of rows is three times as fast on CPUs as the product with a CSR tensor.
    return nn.functional.embedding_bag(
        matrix.col_indices(),
        dense,
        matrix.crow_indices(),
        mode="sum",
        per_sample_weights=matrix.values(),
        include_last_offset=True,
    )


def user_item_graph(user: torch.Tensor, item: torch.Tensor, n_users: int, n_items: int) -> torch.Tensor:
    r"""Symmetrically normalised adjacency of users and items (LightGCN, He et al., SIGIR 2020, equation 8).

    The entries of an interaction (u, i) are :math:`1 / \sqrt{|N_u| |N_i|}`, at (u, n_users + i) and its mirror image;
    :math:`N` are the neighbours.

    Args:
        user, item: of each interaction, shape ``(n,)``; a repeated pair counts once.
        n_users, n_items: numbers of users and items; users come first in rows and columns.

    Returns:
        CSR, float32, (n_users + n_items, n_users + n_items); rows of users and items without interactions are empty.

    Example:
        >>> user_item_graph(torch.tensor([0, 0]), torch.tensor([0, 1]), 1, 2).to_dense()[0]
        tensor([0.0000, 0.7071, 0.7071])
    """
    pairs = np.unique(user.cpu().numpy().astype(np.int64) * n_items + item.cpu().numpy())
    rows, columns = pairs // n_items, pairs % n_items
    user_degree, item_degree = np.bincount(rows, minlength=n_users), np.bincount(columns, minlength=n_items)
    value = 1 / np.sqrt(user_degree[rows].astype(np.float64) * item_degree[columns])
    half = scipy.sparse.csr_matrix((value, (rows, columns)), shape=(n_users, n_items))
    return _csr(scipy.sparse.bmat([[None, half], [half.T, None]], format="csr"))


def item_graph(vectors: Sequence[torch.Tensor], weights: Sequence[float], k: int) -> torch.Tensor:
    """Weighted sum of the nearest-neighbour graphs of items, one graph per modality.

    Every edge of a modality's graph has weight 1 / k, so that a row sums to 1; see :func:`nearest` for the edges.

    Args:
        vectors: of each modality, (n_items, width); zeros for items that lack it.
        weights: of each modality.
        k: number of edges of an item, including the one to itself.

    Returns:
        CSR, float32, (n_items, n_items); row i holds the weights of the neighbours of item i.

    Example:
        >>> item_graph([torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.0, 0.0]])], [1.0], k=2).to_dense()
        tensor([[0.5000, 0.5000, 0.0000, 0.0000],
                [0.5000, 0.5000, 0.0000, 0.0000],
                [0.0000, 0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000, 0.0000]])
    """
    n_items = len(vectors[0])
    total = scipy.sparse.csr_matrix((n_items, n_items))
    for table, weight in zip(vectors, weights, strict=True):
        item, neighbour = nearest(table, k)
        edges = max(1, neighbour.shape[1])
        indices = np.repeat(item, neighbour.shape[1]), neighbour.reshape(-1)
        value = np.full(neighbour.size, weight / edges)
        total = total + scipy.sparse.csr_matrix((value, indices), shape=total.shape)
    return _csr(total)


def nearest(vectors: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest items of each item by cosine, itself first.

    Ties (to nine decimals) are broken by id. Similarities are computed in blocks of items that fit into 128 MiB, so
    memory grows linearly with the number of items.

    Args:
        vectors: (n_items, width); an item of zeros has no neighbours and is no neighbour of others.
        k: number of neighbours of an item, 1 or more; fewer if there are fewer items.

    Returns:
        The m items that have a vector, ascending, (m,), and their neighbours, nearest first, (m, min(k, m)).

    Example:
        >>> nearest(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), k=2)[1].tolist()
        [[1, 3], [2, 3], [3, 1]]
    """
    item = torch.nonzero((vectors != 0).any(1)).flatten()
    unit = nn.functional.normalize(vectors[item].double(), eps=0.0)
    n = len(item)
    number = torch.arange(n)
    neighbour = torch.empty(n, min(k, n), dtype=torch.int64)
    size = max(1, _BLOCK_BYTES // (8 * max(1, n)))
    for start in range(0, n, size):
        own = number[start : start + size]
        # One distinct integer per item that orders by similarity, then by id.
        order = (unit[own] @ unit.T).mul_(_RESOLUTION).round_().long().mul_(n).sub_(number)
        order[own - start, own] = torch.iinfo(torch.int64).max
        neighbour[own] = order.topk(neighbour.shape[1], dim=1).indices
    return item.numpy(), item[neighbour].numpy()


def _csr(matrix: scipy.sparse.spmatrix) -> torch.Tensor:
    """As a tensor of float32, with 32-bit indices, which sparse products need not convert."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data.astype(np.float32)),
            size=matrix.shape,
            check_invariants=False,  # explicit, so that PyTorch does not warn
        )


def _scipy(matrix: torch.Tensor) -> scipy.sparse.csr_matrix:
    parts = (matrix.values(), matrix.col_indices(), matrix.crow_indices())
    return scipy.sparse.csr_matrix(tuple(part.numpy() for part in parts), shape=tuple(matrix.shape))
