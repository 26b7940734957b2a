"""Splits that hold out whole items: all interactions of a new item are in validation or test."""

from __future__ import annotations

import numpy as np

from recbole_drex.errors import DataError


def held_out_items(items: np.ndarray, share: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Items of validation and of test: a random ``share`` of all items, divided in halves.

    Args:
        items: the item of each interaction.
        share: above 0 and below 1.
        seed: random seed.
        name: data set, for messages.

    Returns:
        Two arrays of distinct items; test has the odd one.

    Raises:
        DataError: validation, test or training would have no item.

    Example:
        >>> [len(half) for half in held_out_items(np.arange(10), 0.3, 2026, "table")]
        [1, 2]
    """
    distinct = np.unique(items)
    n = round(share * len(distinct))
    if n < 2 or n == len(distinct):
        remedy = f"write a {'larger' if n < 2 else 'smaller'} share" if len(distinct) > 2 else "choose another split"
        raise DataError(
            f"eval_args.split cold_items {share:g} holds out {n} of the {len(distinct)} items of '{name}', but "
            f"validation, test and training need one each: {remedy}"
        )
    chosen = np.random.default_rng(seed).permutation(distinct)[:n]
    return chosen[: n // 2], chosen[n // 2 :]
