"""File formats: a raw file becomes chunks of columns under canonical names, whatever it is written in.

Only the shape of the file is judged here (lines, fields, encoding, compression), not what a value may be.
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

from recbole_drex.data.jsonlines import LONGEST, judged, typed_reader
from recbole_drex.data.remote import RawFile, RemoteFile, size_of
from recbole_drex.errors import DataError

_BLOCK = 1 << 22  # bytes of lines parsed together
_ROWS = 1 << 12  # rows of a CSV or Parquet file taken together
_PACKED = {  # first bytes, codec, name
    ".gz": (b"\x1f\x8b", "gzip", "gzip"),
    ".zst": (b"\x28\xb5\x2f\xfd", "zstd", "Zstandard"),
}
_FIRST = 100  # lines in which the keys of a JSON file must show up
_READ = 1 << 20  # bytes taken from the disk at a time

T = TypeVar("T")
Names = Mapping[str, Sequence[str]]
Types = Mapping[str, pa.DataType]
Get = Callable[[str], list[Any]]


@dataclass
class Chunk:
    """Consecutive rows of a file.

    Attributes:
        lines: line (Parquet: row) number of every usable row, from 1.
        columns: raw values by canonical name, as long as ``lines``, None where a row has no such value; or arrays of
            the types that were asked for.
        bad: line number and reason of the rows that could not be parsed.
        exact: where ``columns`` are arrays, gives the same rows with raw values.
    """

    lines: Sequence[int]
    columns: Mapping[str, list[Any] | pa.Array]
    bad: list[tuple[int, str]]
    exact: Callable[[], Chunk] | None = None


def read_chunks(path: RawFile, names: Names, needed: Collection[str], types: Types | None = None) -> Iterator[Chunk]:
    """Read ``.jsonl``, ``.json`` (an object a line), ``.csv``, ``.tsv`` (all also ``.gz`` or ``.zst``) or ``.parquet``.

    Args:
        path: the file. The compression is recognised by its first bytes, the format by the name.
        names: canonical name -> names in the file, the first one with a value counts.
        needed: canonical names without which the file is of no use.
        types: canonical name -> type of the arrays that columns may come in, where all of a chunk's values are of it;
            None for raw values always.

    Raises:
        DataError: the file is missing, a folder, unreadable, empty, truncated, not in its format or not in UTF-8, or a
            needed column is missing.
    """
    name = PurePath(path.name)
    suffix = (name.with_suffix("") if name.suffix in _PACKED else name).suffix.lower()
    readers: dict[str, Callable[[BinaryIO], Iterator[Chunk]]] = {
        ".jsonl": lambda stream: _json(stream, path, names, needed, types or {}),
        ".json": lambda stream: _json(stream, path, names, needed, types or {}),
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
    except (pa.ArrowException, UnicodeDecodeError) as error:  # the latter from the name of a column
        raise DataError(f"{path} is no readable Parquet file: {error}") from error
    except OSError as error:
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
            raise DataError(f"{path} is named {ending} but holds no {_PACKED[ending][2]} data")
        with tqdm.wrapattr(file, "read", total=size, desc=f"reading {path.name}", delay=2) as counted:
            raw = cast(BinaryIO, counted)
            packed = [(codec, name) for first, codec, name in _PACKED.values() if magic.startswith(first)]
            if not packed:
                yield raw
                return
            codec, name = packed[0]
            buffered = pa.BufferedInputStream(pa.PythonFile(raw, "r"), _READ)
            try:
                yield cast(BinaryIO, pa.CompressedInputStream(buffered, codec))
            except OSError as error:
                if not re.search("zlib|zstd|compressed stream", str(error), re.IGNORECASE):
                    raise
                raise DataError(f"{path} holds damaged or truncated {name} data ({error}); fetch it again") from error


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
            if (missing := values.count(None)) == size:
                values = get(name)
            elif missing:
                values = [new if old is None else old for old, new in zip(values, get(name), strict=True)]
        columns[canonical] = values
    return columns


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield whole lines, many at a time, without the last one's end. Of one that is too long the beginning is kept."""
    head, tail = stream.read(3).removeprefix(b"\xef\xbb\xbf"), b""
    while block := head + stream.read(_BLOCK):
        head = b""
        lines, end, tail = (tail + block).rpartition(b"\n")
        tail = tail[: LONGEST + 1]
        if end:
            yield lines
    yield tail


def ahead(values: Iterator[T]) -> Iterator[T]:
    """The same values, each made by a thread while the one before it is used."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, values, end)
        while (value := coming.result()) is not end:
            coming = thread.submit(next, values, end)
            yield cast(T, value)


def _json(stream: BinaryIO, path: RawFile, names: Names, needed: Collection[str], types: Types) -> Iterator[Chunk]:
    read = typed_reader(names, types)
    start, checked = 1, False
    for block in ahead(_blocks(stream)):
        exact = functools.partial(_exact, block, start, names)
        if not checked:
            _, rows, _ = judged(b"\n".join(block.split(b"\n", _FIRST)[:_FIRST]), start)
            if rows:
                found = dict.fromkeys(itertools.chain.from_iterable(rows))
                _require(path, found, names, needed, f"the first {len(rows)} rows")
                checked = True
        stop = start + block.count(b"\n") + 1
        columns = read(block, stop - start)
        yield exact() if columns is None else Chunk(range(start, stop), columns, [], exact)
        start = stop


def _exact(block: bytes, start: int, names: Names) -> Chunk:
    lines, rows, bad = judged(block, start)
    known = {name for accepted in names.values() for name in accepted}
    return Chunk(lines, _columns(names, known, len(rows), lambda name: [row.get(name) for row in rows]), bad)


def _csv(stream: BinaryIO, path: RawFile, names: Names, needed: Collection[str], delimiter: str) -> Iterator[Chunk]:
    foreign: list[int] = []  # lines that are not UTF-8, until their row is judged

    def text() -> Iterator[str]:
        for number, line in enumerate((line for block in _blocks(stream) for line in block.split(b"\n")), 1):
            # Some writers leave a lone carriage return unquoted; inside a field it is a space.
            line = line.rstrip(b"\r").replace(b"\r", b" ")
            try:
                yield line.decode() + "\n"
            except UnicodeDecodeError:
                foreign.append(number)
                yield line.decode(errors="replace") + "\n"

    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))  # the module's default is 128 KiB
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
