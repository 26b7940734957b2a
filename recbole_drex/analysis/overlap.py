"""Similarity of rankings."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def rank_biased_overlap(one: Sequence[Hashable], other: Sequence[Hashable], p: float = 0.9) -> float:
    r"""Similarity of two rankings without repetitions, extrapolated (Webber, Moffat and Zobel, TOIS 2010, eq. 30, 32).

    With :math:`A_d` the share of the first d that both have in common, and both rankings cut to the shorter length k,

    .. math:: \frac{1 - p}{p} \sum_{d=1}^{k} A_d p^d + A_k p^k

    Args:
        one, other: best first.
        p: how far down a reader looks; 0.9 gives the first ten 86 % of the weight.

    Returns:
        0 (nothing in common, or empty) to 1 (equal).

    Example:
        >>> round(rank_biased_overlap("abc", "acb"), 3)
        0.955
    """
    k = min(len(one), len(other))
    if not k:
        return 0.0
    shares = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, k + 1)]
    weighted = sum(share * p**d for d, share in enumerate(shares, 1))
    return (1 - p) / p * weighted + shares[-1] * p**k
