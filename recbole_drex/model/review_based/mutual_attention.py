"""Mutual attention of the words of two documents (DAML), without the matrix of all pairs in memory."""

from __future__ import annotations

from typing import Any

import torch

_EPSILON = 1e-6  # under the root, whose derivative at 0 is infinite
_PAIRS = {"cpu": 16, "cuda": 512}  # pairs of documents per block; on a CPU their matrices fit into its cache


class _MutualAttention(torch.autograd.Function):
    """See :func:`mutual_attention`; the matrices are computed again for the gradient."""

    @staticmethod
    def forward(ctx: Any, left, right, left_mask, right_mask):
        ctx.save_for_backward(left, right, left_mask, right_mask)
        of_left, of_right = torch.empty_like(left_mask), torch.empty_like(right_mask)
        for part in _blocks(left):
            alike = _distances(left[part], right[part]).add_(1).reciprocal_()
            torch.bmm(alike, right_mask[part, :, None], out=of_left[part, :, None])
            torch.bmm(alike.mT, left_mask[part, :, None], out=of_right[part, :, None])
        return of_left, of_right

    @staticmethod
    def backward(ctx: Any, *gradients):
        left, right, left_mask, right_mask = ctx.saved_tensors
        to_left, to_right = torch.empty_like(left), torch.empty_like(right)
        for part in _blocks(left):
            one, other = left[part], right[part]
            distance = _distances(one, other)
            alike = (1 + distance).reciprocal_()
            slope = gradients[0][part, :, None] * right_mask[part, None, :]
            slope.addcmul_(left_mask[part, :, None], gradients[1][part, None, :])
            # d A / d |x - y|^2 = - A^2 / (2 |x - y|)
            slope.mul_(alike).mul_(alike).div_(distance).neg_()
            to_left[part] = torch.baddbmm(one * slope.sum(2)[:, :, None], slope, other, alpha=-1)
            to_right[part] = torch.baddbmm(other * slope.sum(1)[:, :, None], slope.mT, one, alpha=-1)
        return to_left, to_right, None, None


def mutual_attention(
    left: torch.Tensor, right: torch.Tensor, left_mask: torch.Tensor, right_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Sums of rows and columns of :math:`A_{jk} = 1 / (1 + \|x_j - y_k\|_2)` over the words that are there.

    The distance is :math:`\sqrt{\max(\|x_j\|^2 + \|y_k\|^2 - 2 x_j^\top y_k, 0) + \epsilon}` with
    :math:`\epsilon = 10^{-6}`.

    Args:
        left: features x of the words of n documents, (n, l, d).
        right: features y of the words of n others, (n, m, d).
        left_mask: 1 for a word and 0 for padding, (n, l).
        right_mask: (n, m).

    Returns:
        For each word on the left its sum over the words on the right, (n, l), and the reverse, (n, m). The sums of
        padding mean nothing.

    Example:
        >>> left, right = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]]), torch.tensor([[[0.0, 0.0], [6.0, 8.0]]])
        >>> mutual_attention(left, right, torch.ones(1, 2), torch.ones(1, 2))
        (tensor([[1.0899, 0.3333]]), tensor([[1.1657, 0.2576]]))
    """
    return _MutualAttention.apply(left, right, left_mask, right_mask)


def _blocks(left: torch.Tensor) -> list[slice]:
    size = _PAIRS[left.device.type]
    return [slice(start, start + size) for start in range(0, len(left), size)]


def _distances(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    squares = (left.square().sum(2) + _EPSILON)[:, :, None] + right.square().sum(2)[:, None, :]
    return squares.baddbmm_(left, right.mT, alpha=-2).clamp_(min=_EPSILON).sqrt_()
