"""File formats: a raw file becomes chunks of columns under canonical names, whatever it is written in.

Only the shape of the file is judged here (lines, fields, encoding, compression), not what a value may be.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from recbole_drex.data.remote import RawFile, RemoteFile, size_of
from recbole_drex.errors import DataError

_BLOCK = 1 << 20  # bytes of lines parsed together
_ROWS = 1 << 12  # rows of a CSV or Parquet file taken together
_LONGEST = 1 << 24  # bytes; no review is longer, so a longer line is a damaged one
_PACKED = {".gz": (b"\x1f\x8b", "gzip"), ".zst": (b"\x28\xb5\x2f\xfd", "Zstandard")}  # first bytes, name
_FIRST = 100  # rows in which the keys of a JSON file must show up

Names = Mapping[str, Sequence[str]]
Get = Callable[[str], list[Any]]


@dataclass
class Chunk:
    """Consecutive rows of a file.

    Attributes:
        lines: line (Parquet: row) number of every usable row, from 1.
        columns: raw values by canonical name, as long as ``lines``; None where a row has no such value.
        bad: line number and reason of the rows that could not be parsed.
    """

    lines: list[int]
    columns: dict[str, list[Any]]
    bad: list[tuple[int, str]]


def read_chunks(path: RawFile, names: Names, needed: Collection[str]) -> Iterator[Chunk]:
    """Read ``.jsonl``, ``.json`` (an object a line), ``.csv``, ``.tsv`` (all also ``.gz`` or ``.zst``) or ``.parquet``.

    Args:
        path: the file. The compression is recognised by its first bytes, the format by the name.
        names: canonical name -> names in the file, the first one with a value counts.
        needed: canonical names without which the file is of no use.

    Raises:
        DataError: the file is missing, a folder, unreadable, empty, truncated, not in its format or not in UTF-8, or a
            needed column is missing.
    """
    name = PurePath(path.name)
    suffix = (name.with_suffix("") if name.suffix in _PACKED else name).suffix.lower()
    readers: dict[str, Callable[[BinaryIO], Iterator[Chunk]]] = {
        ".jsonl": lambda stream: _json(stream, path, names, needed),
        ".json": lambda stream: _json(stream, path, names, needed),
        ".csv": lambda stream: _csv(stream, path, names, needed, ","),
        ".tsv": lambda stream: _csv(stream, path, names, needed, "\t"),
        ".parquet": lambda stream: _parquet(stream, path, names, needed),
    }
    if not path.is_file():
        raise DataError(f"{path} is a folder, not a file" if path.is_dir() else f"{path} does not exist")
    if suffix not in readers:
        raise DataError(
            f"{path}: unknown extension '{suffix}'. Legal values: {', '.join(readers)}, also with .gz or .zst"
        )
    try:
        with _opened(path) as stream:
            yield from readers[suffix](stream)
    except EOFError as error:
        raise DataError(f"{path} is truncated: its gzip data end in the middle; fetch it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} holds damaged gzip data ({error}); fetch it again") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:  # the latter from the name of a column
        raise DataError(f"{path} is no readable Parquet file: {error}") from error
    except OSError as error:
        if "zstd" in str(error).lower() or "compressed stream" in str(error):
            raise DataError(f"{path} holds damaged or truncated Zstandard data ({error}); fetch it again") from error
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


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
        ending = PurePath(path.name).suffix
        if ending in _PACKED and not magic.startswith(_PACKED[ending][0]):
            raise DataError(f"{path} is named {ending} but holds no {_PACKED[ending][1]} data")
        with tqdm.wrapattr(file, "read", total=size, desc=f"reading {path.name}", delay=2) as counted:
            raw = cast(BinaryIO, counted)
            if magic.startswith(_PACKED[".gz"][0]):
                yield cast(BinaryIO, gzip.GzipFile(fileobj=raw))
            elif magic.startswith(_PACKED[".zst"][0]):
                yield cast(BinaryIO, pa.CompressedInputStream(raw, "zstd"))
            else:
                yield raw


def _require(path: RawFile, found: Collection[str], names: Names, needed: Collection[str], where: str) -> None:
    times = Counter(list(found))
    for canonical in needed:
        if not set(names[canonical]) & set(found):
            listed = ", ".join(map(str, found)) or "nothing"
            looked = ", ".join(names[canonical])
            raise DataError(f"{path}: no column '{canonical}' (looked for {looked}) in {where}; found: {listed:.500}")
    for name in itertools.chain.from_iterable(names.values()):
        if times[name] > 1:
            raise DataError(f"{path}: column '{name}' is there {times[name]} times in {where}")


def _columns(names: Names, found: Collection[str], size: int, get: Get) -> dict[str, list[Any]]:
    """Take the first name's values and, where one is None, the next name's."""
    columns: dict[str, list[Any]] = {}
    for canonical, accepted in names.items():
        present = [name for name in accepted if name in found]
        values = get(present[0]) if present else [None] * size
        for name in present[1:]:
            if None in values:
                values = [new if old is None else old for old, new in zip(values, get(name), strict=True)]
        columns[canonical] = values
    return columns


def _blocks(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Yield lines without their ends, many at a time. Of a line that is too long only the beginning is kept."""
    head, tail = stream.read(3).removeprefix(b"\xef\xbb\xbf"), b""
    while block := head + stream.read(_BLOCK):
        head = b""
        lines = block.split(b"\n")
        lines[0] = tail + lines[0]
        tail = lines.pop()[: _LONGEST + 1]
        yield lines
    yield [tail]


def _json(stream: BinaryIO, path: RawFile, names: Names, needed: Collection[str]) -> Iterator[Chunk]:
    known = {name for accepted in names.values() for name in accepted}
    number, checked = 0, False
    for block in _blocks(stream):
        lines: list[int] = []
        rows: list[dict[str, Any]] = []
        bad: list[tuple[int, str]] = []
        for number, line in enumerate(block, number + 1):  # noqa: B020 - it goes on where the last block stopped
            if len(line) > _LONGEST:
                bad.append((number, "longer than 16 MiB"))
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                if line.strip():
                    bad.append((number, f"no JSON: {error}"))
                continue
            if type(row) is dict:
                lines.append(number)
                rows.append(row)
            else:
                bad.append((number, "no JSON object"))
        if rows and not checked:
            found = dict.fromkeys(itertools.chain.from_iterable(rows[:_FIRST]))
            _require(path, found, names, needed, f"the first {len(rows[:_FIRST])} rows")
            checked = True
        yield Chunk(lines, _columns(names, known, len(rows), _getter(rows)), bad)


def _getter(rows: list[dict[str, Any]]) -> Get:
    return lambda name: [row.get(name) for row in rows]


def _csv(stream: BinaryIO, path: RawFile, names: Names, needed: Collection[str], delimiter: str) -> Iterator[Chunk]:
    foreign: list[int] = []  # lines that are not UTF-8, until their row is judged

    def text() -> Iterator[str]:
        for number, line in enumerate(itertools.chain.from_iterable(_blocks(stream)), 1):
            # Some writers leave a lone carriage return unquoted; inside a field it is a space.
            line = line.rstrip(b"\r").replace(b"\r", b" ")
            try:
                yield line.decode() + "\n"
            except UnicodeDecodeError:
                foreign.append(number)
                yield line.decode(errors="replace") + "\n"

    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))  # the module's default is 128 KiB
    records = csv.reader(text(), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    more = True
    while more:
        lines: list[int] = []
        rows: list[list[str]] = []
        bad: list[tuple[int, str]] = []
        while len(lines) < _ROWS:
            foreign.clear()
            line = records.line_num + 1
            try:
                row = next(records, None)
            except csv.Error as error:
                if "end of data" in str(error):
                    raise DataError(f"{path}:{line}: a quotation mark opens here and never closes") from error
                bad.append((line, str(error)))
                continue
            if row is None:
                more = False
                break
            if header is None:
                header = [name.strip() for name in row]
                _require(path, header, names, needed, "the header")
            elif foreign:
                bad.append((foreign[0], "not UTF-8"))
            elif row and len(row) != len(header):
                bad.append((line, f"{len(row)} fields where the header has {len(header)}"))
            elif row:
                lines.append(line)
                rows.append(row)
        table = dict(zip(header or [], map(list, zip(*rows, strict=True)), strict=bool(rows)))
        yield Chunk(lines, _columns(names, table, len(rows), table.__getitem__), bad)


def _parquet(stream: BinaryIO, path: RawFile, names: Names, needed: Collection[str]) -> Iterator[Chunk]:
    file = pq.ParquetFile(stream)
    found = file.schema_arrow.names
    _require(path, found, names, needed, "the schema")
    wanted = [name for accepted in names.values() for name in accepted if name in found]
    start = 1
    for batch in file.iter_batches(_ROWS, columns=wanted):
        lines = list(range(start, start + batch.num_rows))
        start += batch.num_rows
        yield Chunk(lines, _columns(names, wanted, batch.num_rows, _plain(batch)), [])


def _plain(batch: pa.RecordBatch) -> Get:
    def get(name: str) -> list[Any]:
        column = batch.column(name)
        if pa.types.is_timestamp(column.type):  # a moment becomes seconds, as everywhere
            column = column.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64(), safe=False)
            return [None if moment is None else moment / 1e6 for moment in column.to_pylist()]
        try:
            return column.to_pylist()
        except (ValueError, OverflowError) as error:  # text that is not UTF-8, a date that no calendar has
            raise pa.ArrowInvalid(f"column '{name}': {error}") from error

    return get
