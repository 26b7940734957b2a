"""The conventions of an evaluation, so that every result states how it was measured."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from recbole_drex.errors import ConfigError, unknown_name

LEGAL = {
    "candidates": ("own_test", "full", "sampled"),
    "mask": ("train+valid", "train"),
    "relevance": ("graded", "threshold", "above_user_mean"),
    "gain": ("exponential", "linear", "binary"),
    "ideal": ("truncated", "full"),
    "empty_user": ("skip", "zero", "error"),
}


@dataclass(frozen=True)
class Protocol:
    """Which items are ranked, what counts as relevant, and what happens to users without a relevant item.

    Public libraries differ in each of these, so a ranking metric means little without them.

    Attributes:
        candidates: the items in a user's list: the user's ``own_test`` items, the ``full`` catalogue without the user's
            earlier items, or test items and ``sampled`` others.
        mask: the earlier items that are no candidates when the test part is ranked in the full catalogue: those of the
            training and the validation part (``train+valid``, as in RecBole), or of the training part alone
            (``train``, as in MMRec). When the validation part is ranked, those of the training part in either case.
        relevance: the relevance ``rel`` of a test item that NDCG is computed from: the rating itself (``graded``),
            1 if the rating reaches ``threshold``, or 1 if it exceeds the user's mean training rating
            (``above_user_mean``).
        threshold: rating from which an item is relevant, in rating levels; if the configuration sets none, that of
            :func:`threshold_of_scale`. Precision, recall and F1 need a yes or no:
            they use this rule unless ``relevance`` is ``above_user_mean``, which then replaces it.
        gain: what a relevant item adds to DCG: ``2**rel - 1`` (``exponential``), ``rel`` (``linear``), or 1 if it is
            relevant by the yes-or-no rule (``binary``).
        ideal: the ideal list that DCG@k is divided by: its first k items (``truncated``) or all of it (``full``).
        empty_user: users without a relevant item are left out of the mean (``skip``), count as 0 (``zero``) or stop
            the evaluation (``error``).
        topk: the list lengths k, increasing.

    Raises:
        ConfigError: a value is not legal, in which case the message lists the legal ones; or ``mask`` is ``train`` for
            ``sampled`` candidates, to which it does not apply.

    Example:
        >>> Protocol(gain="linear", topk=(5, 10)).describe()
        'candidates=own_test, relevance=graded, threshold=4, gain=linear, ideal=truncated, empty_user=skip'
        >>> Protocol(candidates="full", mask="train").describe()[:27]
        'candidates=full, mask=train'
    """

    candidates: str = "own_test"
    mask: str = "train+valid"
    relevance: str = "graded"
    threshold: float = 4.0
    gain: str = "exponential"
    ideal: str = "truncated"
    empty_user: str = "skip"
    topk: tuple[int, ...] = (1, 2, 3, 4, 5, 10, 15, 20)

    def __post_init__(self) -> None:
        for key, legal in LEGAL.items():
            if getattr(self, key) not in legal:
                raise ConfigError(unknown_name(f"value of '{key}'", getattr(self, key), legal))
        if self.candidates == "sampled" and self.mask == "train":
            raise ConfigError(
                "'mask' does not apply to candidates: sampled, which are drawn from items of neither training nor "
                "validation; write candidates: full, or leave mask out"
            )
        threshold = self.threshold
        if isinstance(threshold, bool) or not isinstance(threshold, Real) or not math.isfinite(threshold):
            raise ConfigError(f"'relevance_threshold' must be a number, a rating level; got {threshold!r}")
        topk = self.topk if isinstance(self.topk, (list, tuple)) else (self.topk,)
        if not topk or any(isinstance(k, bool) or not isinstance(k, Integral) or k < 1 for k in topk):
            raise ConfigError(f"'topk' must be whole numbers of 1 or more, such as [5, 10]; got {self.topk!r}")
        object.__setattr__(self, "topk", tuple(sorted({int(k) for k in topk})))
        object.__setattr__(self, "threshold", float(threshold))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Protocol:
        """Read the conventions from a configuration; keys that are absent or empty keep their default.

        The keys are the attributes' names, except ``relevance_threshold`` for ``threshold``. Anything that knows
        ``in`` and ``[]`` will do, RecBole's ``Config`` included.

        Raises:
            ConfigError: a value is not legal; the message lists the legal ones and the nearest spelling.
        """
        keys = {**{key: key for key in LEGAL}, "threshold": "relevance_threshold", "topk": "topk"}
        given = {field: config[key] for field, key in keys.items() if key in config and config[key] is not None}
        return cls(**given)

    def describe(self) -> str:
        """One line for the header of a table; the list lengths stand in the column names, and ``mask`` does not apply
        to own test items."""
        absent = ("topk", "mask") if self.candidates == "own_test" else ("topk",)
        return ", ".join(
            f"{key}={value:g}" if key == "threshold" else f"{key}={value}"
            for key, value in asdict(self).items()
            if key not in absent
        )

    def as_dict(self) -> dict[str, Any]:
        """The conventions as JSON values, under the attributes' names; ``Protocol(**d)`` reads them back."""
        return {**asdict(self), "topk": list(self.topk)}


def threshold_of_scale(levels: np.ndarray) -> float:
    """The default rating from which an item is relevant.

    It is 4 on scales to 5 that have ratings below and from 4 on, else the first rating at three quarters of the way
    from the lowest to the highest. So where all ratings are equal, every interaction is relevant.

    Args:
        levels: the ratings that occur, ascending.

    Example:
        >>> [threshold_of_scale(np.arange(low, high + 1.0)) for low, high in ((1, 5), (1, 10), (0, 1), (1, 1))]
        [4.0, 8.0, 1.0, 1.0]
    """
    low, high = float(levels[0]), float(levels[-1])
    if low < 4 <= high <= 5:
        return 4.0
    return float(levels[np.searchsorted(levels, low + 0.75 * (high - low))])


def tie_keys(item_tokens: Iterable[str]) -> np.ndarray:
    """Order in which items with equal scores are ranked: by a hash of their names.

    The order does not depend on popularity, row order or internal ids, and two items keep their order
    whatever other items there are.

    Args:
        item_tokens: names of items as in the data.

    Returns:
        One int64 per name: its position when the different names are sorted by BLAKE2b hash. The lower key ranks first.

    Example:
        >>> tie_keys(["a", "b", "c", "a"])
        array([0, 1, 2, 0])
    """
    hashes = [hashlib.blake2b(str(token).encode(), digest_size=16).digest() for token in item_tokens]
    position = {value: index for index, value in enumerate(sorted(set(hashes)))}
    return np.fromiter((position[value] for value in hashes), dtype=np.int64, count=len(hashes))
