"""JSON: whole blocks of lines read by Arrow, those that are not so plain judged line by line, and arrays of objects."""

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

LONGEST = 1 << 24  # bytes; no review is longer, so a longer line is a damaged one
_LITERAL = 1 << 20  # bytes of a line that is read as Python
_READ = 1 << 22  # bytes of an array taken at a time
_SHARE = 1 << 20  # bytes that a core parses together
_NO_NUMBERS = [re.compile(rb"NaN\s*[,}\]]"), re.compile(rb"Inf(?:inity)?\s*[,}\]]")]  # Arrow takes them, JSON does not


def judged(block: bytes, start: int) -> tuple[list[int], list[dict[str, Any]], list[tuple[int, str]]]:
    """Read line by line.

    Args:
        block: lines; blank ones do not count.
        start: number of the first one.

    Returns:
        Numbers and objects of the lines that hold one, and numbers of the others with what is wrong.
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
                    bad.append((number, f"no JSON: {error}{shown(line[:200].decode(errors='replace'))}"))
                continue
        if type(row) is dict:
            lines.append(number)
            rows.append(row)
        else:
            bad.append((number, "no JSON object"))
    return lines, rows, bad


def shown(row: Any) -> str:
    """A malformed row as its message shows it."""
    text = repr(row)
    return f", in {text if len(text) <= 160 else text[:157] + '...'}"


def _nearly_json(line: bytes) -> Any:
    """What a line says that is JSON but for NaN, which is null, or a Python literal, as item files of 2014 hold; None
    for any other."""
    try:
        if line.lstrip().startswith(b"{'") and len(line) <= _LITERAL:
            return _plain(ast.literal_eval(line.decode().strip()))
        if any(pattern.search(line) for pattern in _NO_NUMBERS):
            return _plain(json.loads(line.decode(), parse_constant=_constant))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pass
    return None


def _constant(name: str) -> str | None:
    """NaN is a missing value; an infinite number is left to be judged as a text that is no number."""
    return None if name == "NaN" else name


def _plain(value: Any) -> Any:
    """The value as JSON has it.

    Raises:
        TypeError: JSON has no such value: half a pair of surrogates, a set, a number beyond 64 bits.
    """
    return orjson.loads(orjson.dumps(value))


def _object(value: Any) -> dict[str, Any] | None:
    try:
        return _plain(value) if isinstance(value, dict) else None
    except TypeError:
        return None


def is_array(head: bytes) -> bool:
    """Whether a file that begins so is an array of objects rather than lines.

    Example:
        >>> is_array(b' [{"a": 1},'), is_array(b'[1, 2]'), is_array(b'{"a": []}')
        (True, False, False)
    """
    return re.match(rb"\s*\[\s*[{\]]", head) is not None


def array_rows(head: bytes, stream: BinaryIO, path: RawFile) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The elements of an array with the numbers of their lines, a few megabytes in memory at a time.

    Args:
        head: what has been read of the file before.
        stream: the rest.
        path: names the file in messages.

    Yields:
        Number of the line that an element begins in, and the element; None for one that is no object.

    Raises:
        DataError: the array is cut off or damaged, or not UTF-8; names the line.
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
    """How blocks of lines are read at once, some five times as fast as line by line.

    Args:
        names: canonical name -> keys, the first one with a value counts.
        types: canonical name -> type of its values; without one for every name, no block is read at once.

    Returns:
        Gives the columns of a block of so many lines by canonical name, a row a line, null where a row has no such
        value. None, unless every line is an object without blanks around it whose values are of their types or null,
        so that line by line the same would come out (but for objects nested over a thousand times under keys that
        nobody asked for).
    """
    wanted = [(name, types.get(canonical)) for canonical, accepted in names.items() for name in accepted]
    schema = dict(wanted)
    if any(kind is None or schema[name] != kind for name, kind in wanted):  # a key may be wanted in two types
        return lambda block, lines: None
    options = pj.ParseOptions(explicit_schema=pa.schema(schema.items()), unexpected_field_behavior="ignore")

    def read(block: bytes, lines: int) -> dict[str, pa.Array] | None:
        # No object goes over such a line's end, so with as many rows as lines every line is an object.
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
    """Of each row the first value that says something, or else the first."""
    first = columns[0]
    for column in columns[1:]:
        if column.null_count == len(column):
            continue
        if pa.types.is_string(first.type):
            first = pc.if_else(pc.and_(is_blank(first), pc.invert(is_blank(column))), column, first)
        elif first.null_count:
            first = pc.coalesce(first, column)
    return first.combine_chunks()
