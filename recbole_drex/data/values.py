"""Raw values of a column, checked and converted many at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NO_NUMBER = -math.inf
_NOBODY = "[PAD]"  # RecBole's name for no user and no item
_SPACE = "".join(filter(str.isspace, map(chr, range(0x10000))))  # Arrow's own idea of white space is another
_ID = rf"^[^{_SPACE}\x00]+$"


def ids(values: list[Any] | pa.StringArray) -> pa.StringArray:
    """Ids without the white space around them; null where a value is no id.

    An id is a text or a whole number, not blank, with neither white space nor NUL inside, and not RecBole's ``[PAD]``.

    Example:
        >>> ids(["u7", " u7 ", 12, "u 7", None]).to_pylist()
        ['u7', 'u7', '12', None, None]
    """
    if isinstance(values, list):
        values = [value if type(value) is str else str(value) if type(value) is int else None for value in values]
    names = pa.array(values, pa.string())
    if _visible(names):
        legal = pc.not_equal(names, "")
    else:
        names = pc.utf8_trim(names, _SPACE)
        legal = pc.match_substring_regex(names, _ID)
    return pc.if_else(pc.and_(legal, pc.not_equal(names, _NOBODY)), names, pa.scalar(None, pa.string()))


def _visible(texts: pa.StringArray) -> bool:
    """Whether all characters are visible ones of ASCII, as those of ids mostly are: told from the bytes of all texts at
    once, which is cheaper than a pattern for each."""
    data = texts.buffers()[2]
    characters = np.frombuffer(data or b"", np.uint8)
    return not len(characters) or bool(characters.min() > ord(" ") and characters.max() < 0x7F)


def numbers(values: list[Any] | pa.DoubleArray) -> np.ndarray:
    """Convert to float64: NaN where missing (None or blank), -inf where it is no finite number.

    Example:
        >>> numbers([4, "4.5", None, " ", "four", True, float("nan")]).tolist()
        [4.0, 4.5, nan, nan, -inf, -inf, -inf]
    """
    if isinstance(values, pa.Array):
        array = values.to_numpy(zero_copy_only=False)
        return np.where(np.isinf(array), _NO_NUMBER, array)
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


def stripped(values: list[Any] | pa.StringArray) -> pa.StringArray:
    """Strip texts: ``""`` where missing, null where the value is no text.

    Example:
        >>> stripped([" good ", None, 3]).to_pylist()
        ['good', '', None]
    """
    if isinstance(values, list):
        values = [value if isinstance(value, str) else "" if value is None else None for value in values]
    else:
        values = values.fill_null("")
    return pc.utf8_trim(pa.array(values, pa.string()), _SPACE)


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
