"""Vectorised checks and conversions of a column's raw values."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_NO_NUMBER = -math.inf
_PADDING = "[PAD]"  # RecBole's token for padding
_SPACE = "".join(filter(str.isspace, map(chr, range(0x10000))))  # Arrow defines white space differently
_ID = r"^[^\x00\t-\r\x1c-\x1f\x{85}\x{2028}\x{2029}]+$"  # no tab and no line break of any kind
_DATES = ("ISO8601", "%m %d, %Y", "%b %d, %Y", "%B %d, %Y", "%a %b %d %H:%M:%S %z %Y")
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # larger numbers are ns, us or ms: in s they are past the year 5138


def is_missing(value: Any) -> bool:
    """Whether a raw value is missing: None, a blank text, NaN or an empty list.

    Example:
        >>> [is_missing(value) for value in (None, " ", float("nan"), [], 0, "0")]
        [True, True, True, True, False, False]
    """
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or value == [] or (isinstance(value, float) and math.isnan(value))


def is_blank(texts: pa.StringArray) -> pa.BooleanArray:
    """Mask of the texts that are null or blank."""
    return pc.equal(pc.utf8_trim(texts.fill_null(""), _SPACE), "")


def ids(values: list[Any] | pa.StringArray) -> pa.StringArray:
    """Ids without surrounding white space; null where a value is not a valid id.

    An id is a text or a whole number (100.0 is 100), not blank, without tabs, line breaks and NUL inside, and not
    RecBole's ``[PAD]``.

    Example:
        >>> ids(["u7", " Ann Lee ", 12, 100.0, 0.5, "u\\t7", None]).to_pylist()
        ['u7', 'Ann Lee', '12', '100', None, None, None]
    """
    if isinstance(values, list):
        values = [value if type(value) is str else _whole(value) for value in values]
    names = pa.array(values, pa.string())
    if _visible(names):
        legal = pc.not_equal(names, "")
    else:
        names = pc.utf8_trim(names, _SPACE)
        legal = pc.match_substring_regex(names, _ID)
    return pc.if_else(pc.and_(legal, pc.not_equal(names, _PADDING)), names, pa.scalar(None, pa.string()))


def _whole(value: Any) -> str | None:
    """A whole number as text; floats hold those up to 2 ** 53."""
    if type(value) is float and value.is_integer() and abs(value) <= 1 << 53:
        value = int(value)
    return str(value) if type(value) is int else None


def _visible(texts: pa.StringArray) -> bool:
    """Whether all characters are visible ASCII, as in most ids. Checking the bytes of all texts together is faster than
    matching a pattern for each."""
    data = texts.buffers()[2]
    characters = np.frombuffer(data or b"", np.uint8)
    return not len(characters) or bool(characters.min() > ord(" ") and characters.max() < 0x7F)


def numbers(values: list[Any] | pa.DoubleArray) -> np.ndarray:
    """Convert to float64: NaN if missing (None or blank), -inf if the value is not a finite number.

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


def moments(values: list[Any] | pa.DoubleArray) -> np.ndarray:
    """Convert to seconds since 1970 (UTC): NaN if missing, -inf if the value is not a time.

    Numbers are seconds, milliseconds, microseconds or nanoseconds, depending on their size. Texts are numbers or dates:
    ISO 8601 (UTC, unless they name another zone), ``03 1, 2014`` and ``Mar 1, 2014`` as in Amazon's data sets, or
    ``Sat Mar 01 10:11:12 -0800 2014`` as in Goodreads.

    Example:
        >>> moments([1393668672, 1393668672000, "2014-03-01T10:11:12Z", "03 1, 2014", None, "monday"]).tolist()
        [1393668672.0, 1393668672.0, 1393668672.0, 1393632000.0, nan, -inf]
    """
    seconds = numbers(values)
    for least, unit in _UNITS:
        seconds = np.where(seconds > least, seconds / unit, seconds)
    rows = np.flatnonzero(seconds == _NO_NUMBER).tolist()
    # Texts without a digit are skipped, since pandas parses "now" as a date.
    texts = {row: values[row] for row in rows if isinstance(values[row], str) and re.search("[0-9]", values[row])}
    dates = pd.Series(texts, dtype=object).str.strip() if texts else pd.Series(dtype=object)
    for form in _DATES:
        if dates.empty:
            break
        parsed = pd.to_datetime(dates, format=form, utc=True, errors="coerce").dropna()
        seconds[parsed.index] = parsed.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
        dates = dates.drop(parsed.index)
    return seconds


def stripped(values: list[Any] | pa.StringArray) -> pa.StringArray:
    """Strip texts: ``""`` if missing, null if the value is not a text.

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
    """Convert texts, or lists of texts, to words separated by single spaces; None if the value is neither.

    Args:
        values: texts, lists of texts, lists of such lists (repeated entries count once), or None (``""``).
        joint: separator of the words of one entry of a list.

    Example:
        >>> words([["Video Games", "PC"], " a\\tb ", None, 3], joint="_")
        ['Video_Games PC', 'a b', '', None]
        >>> words([[["Sports", "Water Sports"], ["Sports", "Boats"]]], joint="_")
        ['Sports Water_Sports Boats']
    """
    joined: list[str | None] = []
    for value in values:
        if isinstance(value, list):
            value = _entries(value)
        if isinstance(value, str):
            joined.append(" ".join(value.split()))
        elif value is None:
            joined.append("")
        elif isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            joined.append(" ".join(joint.join(entry.split()) for entry in value if entry.strip()))
        else:
            joined.append(None)
    return joined


def _entries(values: list[Any]) -> list[Any]:
    """The entries of a list; for a list of lists (categories of 2014), the distinct entries of all lists."""
    values = [value for value in values if value is not None]
    if values and all(isinstance(value, list) for value in values):
        return list(dict.fromkeys(entry for value in values for entry in value if isinstance(entry, str)))
    return values
