"""File formats: reads a raw file of any format as chunks of columns with canonical names.

Only the structure of the file is checked here (lines, fields, encoding, compression), not the values.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from recbole_drex.data.raw.columns import is_missing
from recbole_drex.data.raw.json_lines import LONGEST, array_rows, is_array, judged, shown, typed_reader
from recbole_drex.data.raw.remote import RawFile, RemoteFile, size_of
from recbole_drex.errors import DataError
from recbole_drex.utils.parquet import read_batches

_BLOCK = 1 << 22  # bytes of lines parsed together
_ROWS = 1 << 12  # rows of a CSV or Parquet file taken together
_PACKED = {  # first bytes, codec, name
    ".gz": (b"\x1f\x8b", "gzip", "gzip"),
    ".bz2": (b"BZh", "bz2", "bzip2"),
    ".zst": (b"\x28\xb5\x2f\xfd", "zstd", "Zstandard"),
}
_FIRST = 100  # lines in which the keys of a JSON file must occur
_HEAD = 1 << 12  # bytes that decide whether a JSON file is an array
_DELIMITERS = ",;\t|"  # of a .csv file, in order of preference
_CONTINUED = 1 << 10  # lines that one field of a .tsv file may span
_UNITS = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_READ = 1 << 20  # bytes taken from the disk at a time

T = TypeVar("T")
Names = Mapping[str, Sequence[str]]
Types = Mapping[str, pa.DataType]
Get = Callable[[str], list[Any]]
Record = tuple[int, list[str], str]
"""Number of a row's first line, its fields, and its flaw, empty without one."""


@dataclass
class Chunk:
    """Consecutive rows of a file.

    Attributes:
        lines: line (Parquet: row) number of every usable row, from 1.
        columns: raw values by canonical name, as long as ``lines``, None where a row lacks the value; or arrays of the
            requested types.
        bad: line number and reason of the rows that could not be parsed.
        exact: if ``columns`` are arrays, returns the same rows with raw values.
    """

    lines: Sequence[int]
    columns: Mapping[str, list[Any] | pa.Array]
    bad: list[tuple[int, str]]
    exact: Callable[[], Chunk] | None = None


def read_chunks(path: RawFile, names: Names, needed: Collection[str], types: Types | None = None) -> Iterator[Chunk]:
    """Read ``.jsonl``, ``.ndjson`` or ``.json`` (an object a line, or one array of objects), ``.csv``, ``.tsv`` (all
    also ``.gz``, ``.bz2`` or ``.zst``) or ``.parquet``.

    A ``.csv`` file may be delimited by commas, semicolons, tabs or bars. If all ``needed`` columns have numbers as
    names, a file without a header has columns 0, 1, and so on.

    Args:
        path: the file. Its first bytes determine the compression, its name determines the format.
        names: canonical name -> names in the file; the first one with a value (see :func:`is_missing`) counts.
        needed: canonical names of required columns.
        types: canonical name -> Arrow type; a chunk's columns are arrays if all values have these types. None: always
            raw values.

    Raises:
        DataError: the file is missing, a folder, unreadable, empty, truncated, not in its format or not in UTF-8, or a
            needed column is missing.
    """
    suffix = format_of(path.name)
    readers: dict[str, Callable[[BinaryIO], Iterator[Chunk]]] = {
        ".csv": lambda stream: _rows(_comma_records(stream, path, names, needed), path, names, needed),
        ".tsv": lambda stream: _rows(_tab_records(stream), path, names, needed),
        ".parquet": lambda stream: _parquet(stream, path, names, needed),
    }
    if not path.is_file():
        raise DataError(f"{path} is a folder, not a file" if path.is_dir() else f"{path} does not exist")
    if suffix not in FORMATS:
        raise DataError(
            f"{path}: unknown extension '{suffix}'. Legal values: {', '.join(FORMATS)}, also with {', '.join(_PACKED)}"
        )
    read = readers.get(suffix, lambda stream: _json(stream, path, names, needed, types or {}))
    try:
        with _opened(path) as stream:
            yield from read(stream)
    except (pa.ArrowException, UnicodeDecodeError) as error:  # the latter for the name of a column
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def format_of(name: str) -> str:
    """Lower-case extension of a file's name without that of its compression.

    Example:
        >>> format_of("reviews.JSONL.gz"), format_of("part-0.snappy.parquet"), format_of("README")
        ('.jsonl', '.parquet', '')
    """
    path = PurePath(name)
    return (path.with_suffix("") if path.suffix.lower() in _PACKED else path).suffix.lower()


@contextlib.contextmanager
def _opened(path: RawFile) -> Iterator[BinaryIO]:
    """Open a file for its uncompressed bytes, with a progress bar over the bytes on disk."""
    size = size_of(path)
    if not size:
        raise DataError(f"{path} is empty")
    with path.open() if isinstance(path, RemoteFile) else path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path}:1: encoded as UTF-16; convert the file to UTF-8")
        with tqdm.wrapattr(file, "read", total=size, desc=f"reading {path.name}", delay=2) as counted:
            raw = cast(BinaryIO, counted)
            packed = [(codec, name) for first, codec, name in _PACKED.values() if magic.startswith(first)]
            if not packed:  # may be named .gz: browsers and download tools may decompress a file and keep its name
                yield raw
                return
            codec, name = packed[0]
            buffered = pa.BufferedInputStream(pa.PythonFile(raw, "r"), _READ)
            try:
                yield cast(BinaryIO, pa.CompressedInputStream(buffered, codec))
            except OSError as error:
                if not re.search("zlib|zstd|bz2|compressed stream", str(error), re.IGNORECASE):
                    raise
                raise DataError(f"{path} has damaged or truncated {name} data ({error}); fetch it again") from error


def _require(path: RawFile, available: Collection[str], names: Names, needed: Collection[str], where: str) -> None:
    times = Counter(list(available))
    for canonical in needed:
        if not set(names[canonical]) & set(available):
            listed = ", ".join(map(str, available)) or "nothing"
            looked = ", ".join(names[canonical])
            hint = ""
            if where == "the header":
                hint = (
                    '. If that is a row of data, number the columns from 0: --columns "{user_id: 0, item_id: 1, ...}"'
                )
            raise DataError(
                f"{path}: no column '{canonical}' (looked for {looked}) in {where}; found: {listed:.500}{hint}"
            )
    for name in itertools.chain.from_iterable(names.values()):
        if times[name] > 1:
            raise DataError(f"{path}: column '{name}' occurs {times[name]} times in {where}")


def _columns(names: Names, available: Collection[str], size: int, get: Get) -> dict[str, list[Any]]:
    """Take the values of the first name, and where they are missing, those of the next."""
    columns: dict[str, list[Any]] = {}
    for canonical, accepted in names.items():
        present = [name for name in accepted if name in available]
        values = get(present[0]) if present else [None] * size
        for name in present[1:]:
            if any(map(is_missing, values)):
                pairs = zip(values, get(name), strict=True)
                values = [
                    new if old is None or (is_missing(old) and not is_missing(new)) else old for old, new in pairs
                ]
        columns[canonical] = values
    return columns


def _head(stream: BinaryIO, size: int = 3) -> bytes:
    """At most ``size`` first bytes, without the byte order mark of UTF-8."""
    return stream.read(size).removeprefix(b"\xef\xbb\xbf")


def _blocks(stream: BinaryIO, head: bytes) -> Iterator[bytes]:
    """Yield blocks of whole lines, without the last line's end. A line that is too long is truncated.

    ``head`` has already been read.
    """
    tail = b""
    while block := head + stream.read(_BLOCK):
        head = b""
        lines, end, tail = (tail + block).rpartition(b"\n")
        tail = tail[: LONGEST + 1]
        if end:
            yield lines
    yield tail


def ahead(values: Iterator[T]) -> Iterator[T]:
    """The same values; a thread computes the next one while the current one is used."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, values, end)
        while (value := coming.result()) is not end:
            coming = thread.submit(next, values, end)
            yield cast(T, value)


def _json(stream: BinaryIO, path: RawFile, names: Names, needed: Collection[str], types: Types) -> Iterator[Chunk]:
    head = _head(stream, _HEAD)
    if is_array(head):
        yield from _array(head, stream, path, names, needed)
        return
    read = typed_reader(names, types)
    start, checked = 1, False
    for block in ahead(_blocks(stream, head)):
        exact = functools.partial(_exact, block, start, names)
        if not checked:
            _, rows, _ = judged(b"\n".join(block.split(b"\n", _FIRST)[:_FIRST]), start)
            if rows:
                available = dict.fromkeys(itertools.chain.from_iterable(rows))
                _require(path, available, names, needed, f"the first {len(rows)} rows")
                checked = True
        stop = start + block.count(b"\n") + 1
        columns = read(block, stop - start)
        yield exact() if columns is None else Chunk(range(start, stop), columns, [], exact)
        start = stop


def _exact(block: bytes, start: int, names: Names) -> Chunk:
    lines, rows, bad = judged(block, start)
    return Chunk(lines, _values(names, rows), bad)


def _values(names: Names, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    known = {name for accepted in names.values() for name in accepted}
    return _columns(names, known, len(rows), lambda name: [row.get(name) for row in rows])


def _array(head: bytes, stream: BinaryIO, path: RawFile, names: Names, needed: Collection[str]) -> Iterator[Chunk]:
    elements, checked = array_rows(head, stream, path), False
    while part := list(itertools.islice(elements, _ROWS)):
        rows = [(line, row) for line, row in part if row is not None]
        bad = [(line, "not a JSON object") for line, row in part if row is None]
        if rows and not checked:
            available = dict.fromkeys(itertools.chain.from_iterable(row for _, row in rows[:_FIRST]))
            _require(path, available, names, needed, f"the first {len(rows[:_FIRST])} rows")
            checked = True
        yield Chunk([line for line, _ in rows], _values(names, [row for _, row in rows]), bad)


class _Lines:
    """Decoded lines without their ends.

    Attributes:
        undecoded: numbers of the lines so far that are not UTF-8, ascending.
    """

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self.undecoded: list[int] = []

    def __iter__(self) -> Iterator[str]:
        blocks = _blocks(self._stream, _head(self._stream))
        for number, line in enumerate((line for block in blocks for line in block.split(b"\n")), 1):
            # Some writers leave a single carriage return unquoted; inside a field it is a space.
            line = line.rstrip(b"\r").replace(b"\r", b" ")
            try:
                yield line.decode()
            except UnicodeDecodeError:
                self.undecoded.append(number)
                yield line.decode(errors="replace")


def _comma_records(stream: BinaryIO, path: RawFile, names: Names, needed: Collection[str]) -> Iterator[Record]:
    """Rows of a CSV file, in which a quoted field may span several lines."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))  # the module's default is 128 KiB
    lines = _Lines(stream)
    texts = iter(lines)
    first = next(texts, "")
    delimiter = _delimiter(first, [names[canonical] for canonical in needed])
    ended = (text + "\n" for text in itertools.chain([first], texts))
    records = csv.reader(ended, delimiter=delimiter, strict=True)
    while True:
        line = records.line_num + 1
        try:
            fields = next(records, None)
        except csv.Error as error:
            if "end of data" in str(error):
                raise DataError(f"{path}:{line}: a quotation mark opens here and never closes") from error
            # All lines that were parsed as this row are lost.
            yield from ((number, [], str(error)) for number in range(line, records.line_num + 1))
            continue
        if fields is None:
            return
        if fields:
            undecoded = lines.undecoded and lines.undecoded[-1] >= line
            yield line, fields, "not UTF-8" if undecoded else ""


def _delimiter(header: str, wanted: Sequence[Sequence[str]]) -> str:
    """The delimiter of a CSV file: the one that gives the most wanted names, or else the most columns."""

    def score(delimiter: str) -> tuple[int, int]:
        try:
            fields = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        except csv.Error:
            return 0, 0
        fields += map(str, range(len(fields))) if _are_numbers(wanted) else []
        there = sum(not set(accepted).isdisjoint(fields) for accepted in wanted)
        return there, 0 if there else len(fields)

    return max(_DELIMITERS, key=score)


def _are_numbers(wanted: Sequence[Sequence[str]]) -> bool:
    """Whether all wanted columns are named by numbers."""
    return all(name.isdecimal() for accepted in wanted for name in accepted)


def _tab_records(stream: BinaryIO) -> Iterator[Record]:
    """Rows of a TSV file, in which a row is a line and a quotation mark is an ordinary character.

    TSV written by CSV writers (pandas, R) is also read: quotation marks around a whole field are removed, and a last
    field with an opening mark continues over the following lines without a tab until one of them closes it.
    """
    lines = _Lines(stream)
    held: list[Record] = []
    width = 0
    for number, text in enumerate(lines, 1):
        reason = "not UTF-8" if lines.undecoded and lines.undecoded[-1] == number else ""
        if held and "\t" not in text and len(held) < _CONTINUED:
            held.append((number, [text], reason))
            if text.endswith('"') and (whole := _joined(held)):
                yield whole
                held = []
            continue
        yield from held
        held = []
        if not text:
            continue
        fields = list(map(_unquoted, text.split("\t"))) if '"' in text else text.split("\t")
        width = width or len(fields)
        if len(fields) == width and fields[-1].startswith('"'):
            held = [(number, fields, reason)]
        else:
            yield number, fields, reason
    yield from held


def _joined(records: Sequence[Record]) -> Record | None:
    """A row whose last field opens a quotation mark, joined with the lines after it if the last line closes it."""
    (line, fields, _), *more = records
    last = "\n".join([fields[-1], *(text for _, (text,), _ in more)])
    whole = _unquoted(last)
    reasons = [reason for *_, reason in records if reason]
    return (line, [*fields[:-1], whole], "".join(reasons[:1])) if whole != last else None


def _unquoted(field: str) -> str:
    """A field without surrounding quotation marks, if it has them and those inside are doubled."""
    inner = field[1:-1]
    quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else field


def _rows(records: Iterator[Record], path: RawFile, names: Names, needed: Collection[str]) -> Iterator[Chunk]:
    header: list[str] | None = None
    while part := list(itertools.islice(records, _ROWS)):
        if header is None:
            header = [name.strip() for name in part[0][1]]
            wanted = [names[canonical] for canonical in needed]
            if _are_numbers(wanted) and not set(itertools.chain.from_iterable(wanted)) & set(header):
                header = list(map(str, range(len(header))))
            else:
                del part[0]
            _require(path, header, names, needed, "the header")
        lines: list[int] = []
        rows: list[list[str]] = []
        bad: list[tuple[int, str]] = []
        for line, fields, reason in part:
            if fields == [""]:  # a blank line
                continue
            if not reason and len(fields) == len(header):
                lines.append(line)
                rows.append(fields)
            else:
                reason = reason or f"{len(fields)} fields where the header has {len(header)}"
                bad.append((line, reason + (shown(fields) if fields else "")))
        table = dict(zip(header, map(list, zip(*rows, strict=True)), strict=bool(rows)))
        yield Chunk(lines, _columns(names, table, len(rows), table.__getitem__), bad)


def _parquet(stream: BinaryIO, path: RawFile, names: Names, needed: Collection[str]) -> Iterator[Chunk]:
    file = pq.ParquetFile(stream)
    available = file.schema_arrow.names
    _require(path, available, names, needed, "the schema")
    wanted = [name for accepted in names.values() for name in accepted if name in available]
    start = 1
    for batch in read_batches(file, size_of(path), wanted, _ROWS):
        lines = list(range(start, start + batch.num_rows))
        start += batch.num_rows
        yield Chunk(lines, _columns(names, wanted, batch.num_rows, _plain(batch)), [])


def _values_of(column: pa.Array, name: str) -> list[Any]:
    """The values of a column.

    Raises:
        ArrowInvalid: text that is not UTF-8, or an impossible date.
    """
    try:
        return column.to_pylist()
    except (ValueError, OverflowError) as error:
        raise pa.ArrowInvalid(f"column '{name}': {error}") from error


def _plain(batch: pa.RecordBatch) -> Get:
    def get(name: str) -> list[Any]:
        column = batch.column(name)
        if pa.types.is_date(column.type):
            _values_of(column, name)  # raises for impossible dates
            column = column.cast(pa.timestamp("ms"))
        if pa.types.is_timestamp(column.type):  # converted to seconds, as everywhere
            unit = _UNITS[column.type.unit]
            return [None if moment is None else moment / unit for moment in column.cast(pa.int64()).to_pylist()]
        values = _values_of(column, name)
        # Some writers store a missing number as NaN.
        return [None if value != value else value for value in values] if pa.types.is_floating(column.type) else values

    return get
