"""Raw values of a column, checked and converted many at a time."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd

_NO_NUMBER = -math.inf
_NOBODY = "[PAD]"  # RecBole's name for no user and no item
_INSIDE = re.compile(r"[\s\0]")


class IdCodes(dict[Any, int]):
    """Raw id -> code from 0 in the order of appearance, -1 for what is no id.

    It fills itself while it is looked up in, so that every distinct id is judged only once.

    Example:
        >>> ids = IdCodes()
        >>> ids.codes(["u7", " u7 ", 12, "u 7", None]).tolist()
        [0, 0, 1, -1, -1]
        >>> list(ids.names())
        ['u7', '12']
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []

    def __missing__(self, raw: str) -> int:
        name = raw.strip()
        if not name or name == _NOBODY or _INSIDE.search(name):
            code = -1
        elif name != raw:
            code = self[name]
        else:
            code = len(self._names)
            self._names.append(name)
        self[raw] = code
        return code

    def codes(self, values: list[Any]) -> np.ndarray:
        """Code texts and whole numbers, shape ``(len(values),)``, int32; anything else is no id."""
        if set(map(type, values)) - {str}:
            values = [value if type(value) is str else str(value) if type(value) is int else "" for value in values]
        return np.fromiter(map(self.__getitem__, values), np.int32, len(values))

    def names(self) -> pd.Index:
        """The ids in the order of their codes."""
        return pd.Index(self._names, dtype=None if self._names else "str")

    def since(self, code: int) -> list[str]:
        """The ids from ``code`` on, in the order of their codes."""
        return self._names[code:]


def numbers(values: list[Any]) -> np.ndarray:
    """Convert to float64: NaN where missing (None or blank), -inf where it is no finite number.

    Example:
        >>> numbers([4, "4.5", None, " ", "four", True, float("nan")]).tolist()
        [4.0, 4.5, nan, nan, -inf, -inf, -inf]
    """
    if set(map(type, values)) - {int, float, type(None)}:
        values = [_number(value) for value in values]
        return np.array(values, dtype=np.float64)
    array = np.array(values, dtype=np.float64)
    odd = ~np.isfinite(array)
    if odd.any():
        array[odd & np.array([value is not None for value in values])] = _NO_NUMBER
    return array


def _number(value: Any) -> float:
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        number = _NO_NUMBER if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return _NO_NUMBER
    return number if math.isfinite(number) else _NO_NUMBER


def stripped(values: list[Any]) -> list[str | None]:
    """Strip texts: ``""`` where missing, None where the value is no text.

    Example:
        >>> stripped([" good ", None, 3])
        ['good', '', None]
    """
    if not set(map(type, values)) - {str}:
        return [value.strip() for value in values]
    return [value.strip() if isinstance(value, str) else "" if value is None else None for value in values]


def words(values: list[Any], joint: str = " ") -> list[str | None]:
    """Turn texts, or lists of texts, into words apart by single spaces; None where the value is neither.

    Args:
        values: texts, lists of texts, or None (``""``).
        joint: stands between the words of one entry of a list.

    Example:
        >>> words([["Video Games", "PC"], " a\\tb ", None, 3], joint="_")
        ['Video_Games PC', 'a b', '', None]
    """
    joined: list[str | None] = []
    for value in values:
        if isinstance(value, str):
            joined.append(" ".join(value.split()))
        elif value is None:
            joined.append("")
        elif isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            joined.append(" ".join(joint.join(entry.split()) for entry in value if entry.strip()))
        else:
            joined.append(None)
    return joined
