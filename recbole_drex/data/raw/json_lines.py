"""JSON: blocks of lines are read by Arrow if possible, otherwise line by line; and arrays of objects."""

from __future__ import annotations

import ast
import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from recbole_drex.data.raw.columns import is_blank
from recbole_drex.data.raw.remote import RawFile
from recbole_drex.errors import DataError

LONGEST = 1 << 24  # bytes; a longer line is damaged
_LITERAL = 1 << 20  # bytes of a line that is read as Python
_READ = 1 << 22  # bytes of an array read at a time
_SHARE = 1 << 20  # bytes that a core parses together
_NO_NUMBERS = [re.compile(rb"NaN\s*[,}\]]"), re.compile(rb"Inf(?:inity)?\s*[,}\]]")]  # valid for Arrow, not in JSON


def judged(block: bytes, start: int) -> tuple[list[int], list[dict[str, Any]], list[tuple[int, str]]]:
    """Read line by line.

    Args:
        block: lines; blank lines are skipped.
        start: number of the first line.

    Returns:
        Numbers and objects of the valid lines, and numbers of the others with the reason.
    """
    lines: list[int] = []
    rows: list[dict[str, Any]] = []
    bad: list[tuple[int, str]] = []
    for number, line in enumerate(block.split(b"\n"), start):
        if len(line) > LONGEST:
            bad.append((number, "longer than 16 MiB"))
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            row = _nearly_json(line)
            if row is None:
                if line.strip():
                    bad.append((number, f"not JSON: {error}{shown(line[:200].decode(errors='replace'))}"))
                continue
        if type(row) is dict:
            lines.append(number)
            rows.append(row)
        else:
            bad.append((number, "not a JSON object"))
    return lines, rows, bad


def shown(row: Any) -> str:
    """A malformed row as messages show it."""
    text = repr(row)
    return f", in {text if len(text) <= 160 else text[:157] + '...'}"


def _nearly_json(line: bytes) -> Any:
    """The value of a line that is JSON with NaN (read as null), or a Python literal, as in item files of 2014; None for
    any other line."""
    try:
        if line.lstrip().startswith(b"{'") and len(line) <= _LITERAL:
            return _plain(ast.literal_eval(line.decode().strip()))
        if any(pattern.search(line) for pattern in _NO_NUMBERS):
            return _plain(json.loads(line.decode(), parse_constant=_constant))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pass
    return None


def _constant(name: str) -> str | None:
    """NaN is a missing value; an infinite number stays a text and is rejected later."""
    return None if name == "NaN" else name


def _plain(value: Any) -> Any:
    """The value after a round trip through JSON.

    Raises:
        TypeError: the value does not exist in JSON: a lone surrogate, a set, a number beyond 64 bits.
    """
    return orjson.loads(orjson.dumps(value))


def _object(value: Any) -> dict[str, Any] | None:
    try:
        return _plain(value) if isinstance(value, dict) else None
    except TypeError:
        return None


def is_array(head: bytes) -> bool:
    """Whether a file with these first bytes is an array of objects rather than lines.

    Example:
        >>> is_array(b' [{"a": 1},'), is_array(b'[1, 2]'), is_array(b'{"a": []}')
        (True, False, False)
    """
    return re.match(rb"\s*\[\s*[{\]]", head) is not None


def array_rows(head: bytes, stream: BinaryIO, path: RawFile) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The elements of an array with their line numbers, a few megabytes in memory at a time.

    Args:
        head: the bytes that have already been read.
        stream: the rest of the file.
        path: the file, for messages.

    Yields:
        Number of the line in which an element begins, and the element; None if it is not an object.

    Raises:
        DataError: the array is truncated or damaged, or not UTF-8; names the line.
    """
    decoder = json.JSONDecoder(parse_constant=_constant)
    decode = codecs.getincrementaldecoder("utf-8")().decode
    between = re.compile(r"[\s,]*")
    line = 1
    try:
        text, index = decode(head), 0
        index = text.index("[") + 1
        line += text.count("\n", 0, index)
        while True:
            start, index = index, between.match(text, index).end()  # type: ignore[union-attr]
            line += text.count("\n", start, index)
            if text[index : index + 1] == "]":
                return
            try:
                value, end = decoder.raw_decode(text, index)
            except ValueError:
                more = stream.read(_READ)
                if not more or len(text) - index > LONGEST:
                    raise
                text, index = text[index:] + decode(more), 0
                continue
            yield line, _object(value)
            line += text.count("\n", index, end)
            index = end
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{line}: damaged or cut off JSON array: {error}") from error


def typed_reader(
    names: Mapping[str, Sequence[str]], types: Mapping[str, pa.DataType]
) -> Callable[[bytes, int], dict[str, pa.Array] | None]:
    """A reader of whole blocks of lines, about five times as fast as line by line.

    Args:
        names: canonical name -> keys; the first one with a value counts.
        types: canonical name -> type of its values; if a name has no type, no block is read as a whole.

    Returns:
        Function of a block and its number of lines. It returns the columns by canonical name, one row per line, null
        where a row lacks the value; or None if the result could differ from reading line by line, that is unless every
        line is an object without surrounding blanks whose values have their types or are null. (Objects nested more
        than a thousand times under unused keys are the exception.)
    """
    wanted = [(name, types.get(canonical)) for canonical, accepted in names.items() for name in accepted]
    schema = dict(wanted)
    if any(kind is None or schema[name] != kind for name, kind in wanted):  # a key may be wanted in two types
        return lambda block, lines: None
    options = pj.ParseOptions(explicit_schema=pa.schema(schema.items()), unexpected_field_behavior="ignore")

    def read(block: bytes, lines: int) -> dict[str, pa.Array] | None:
        # No object spans such a line end, so with as many rows as lines every line is an object.
        whole = block[:1] == b"{" and block[-1:] == b"}" and block.count(b"}\n{") == lines - 1
        if not whole or len(block) > LONGEST or any(pattern.search(block) for pattern in _NO_NUMBERS):
            return None
        try:
            pa.array([block], pa.string())  # is it UTF-8? The parser does not look
            table = pj.read_json(pa.BufferReader(block), pj.ReadOptions(block_size=_SHARE), options)
        except pa.ArrowInvalid:
            return None
        if len(table) != lines:
            return None
        return {canonical: _first([table[name] for name in accepted]) for canonical, accepted in names.items()}

    return read


def _first(columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    """For each row the first value that is not missing, or else the first."""
    first = columns[0]
    for column in columns[1:]:
        if column.null_count == len(column):
            continue
        if pa.types.is_string(first.type):
            first = pc.if_else(pc.and_(is_blank(first), pc.invert(is_blank(column))), column, first)
        elif first.null_count:
            first = pc.coalesce(first, column)
    return first.combine_chunks()
