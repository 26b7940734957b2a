"""Raw reviews and item descriptions, read in one streaming pass.

Every chunk of a file is checked column by column; the accepted rows become a table of ids and numbers while their texts
go to a Parquet file, so that millions of reviews fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recbole_drex.data.formats import Chunk, ahead, read_chunks
from recbole_drex.data.manifest import source
from recbole_drex.data.remote import RawFile, RemoteFile, raw_file, raw_files
from recbole_drex.data.spill import RawReviews, SpillWriter
from recbole_drex.data.values import ids, numbers, stripped, words
from recbole_drex.errors import ConfigError, DataError, unknown_name

_LATEST = 4_102_444_800.0  # 2100-01-01 in seconds
_MILLISECONDS = 1e11  # a larger timestamp counts milliseconds: as seconds it would lie in the year 5138

# Canonical name: names in the file. Those of Amazon Reviews 2023 come first, then those of 2018 and 2014.
_REVIEW = {
    "user_id": ("user_id", "reviewerID"),
    "item_id": ("item_id", "parent_asin", "asin"),
    "rating": ("rating", "overall"),
    "timestamp": ("timestamp", "unixReviewTime"),
    "title": ("title", "summary"),
    "text": ("text", "reviewText"),
}
_TYPES = {name: pa.float64() if name in ("rating", "timestamp") else pa.string() for name in _REVIEW}
_ITEM = {
    "item_id": ("item_id", "parent_asin", "asin"),
    "title": ("title",),
    "categories": ("categories", "category"),
    "description": ("description",),
}


@dataclass(frozen=True)
class Rules:
    """How review files are read; see :func:`read_reviews` for the fields that it takes.

    Attributes:
        names: canonical name -> names in the files, the first one with a value counts.
        needed: canonical names of the columns that a file must have.
    """

    names: Mapping[str, Sequence[str]]
    needed: Sequence[str]
    rating_range: tuple[float, float]
    bad_line_share: float
    use_title: bool


@dataclass(frozen=True)
class Part:
    """Consecutive accepted reviews of a file, and at its end what there is to say about it.

    Attributes:
        table: ``user_id``, ``item_id`` (string), ``rating``, ``timestamp`` (double) and ``has_review`` (bool), as in
            :class:`recbole_drex.data.spill.RawReviews`, and ``text`` (string, null = no review); none in the last part.
        source: of the last part, an entry of ``RawReviews.sources``; None before.
    """

    table: pa.Table | None
    source: dict[str, Any] | None = None


Read = Callable[[Sequence[RawFile], Rules], Iterator[tuple[int, Part]]]
"""Gives the parts of several files with the numbers of their files: those of a file in order, the files in any."""


def read_in_turn(files: Sequence[RawFile], rules: Rules) -> Iterator[tuple[int, Part]]:
    """Read one file after the other in this process; see :data:`Read`."""
    for number, path in enumerate(files):
        for part in ahead(read_file(path, rules)):
            yield number, part


def read_file(path: RawFile, rules: Rules) -> Iterator[Part]:
    """Read a review file part by part.

    Raises:
        DataError: it cannot be read, lacks a column, holds no reviews or too many malformed rows.
    """
    tally = _Tally(path)
    for chunk in ahead(read_chunks(path, rules.names, rules.needed, _TYPES)):
        table, bad = _check_reviews(chunk, rules.rating_range, rules.use_title)
        tally.add(len(table), chunk.bad + bad)
        yield Part(table)
    yield Part(None, tally.source(rules.bad_line_share))


def read_reviews(
    paths: str | RawFile | Iterable[str | RawFile],
    spill: Path,
    *,
    columns: Mapping[str, str] | None = None,
    rating_range: tuple[float, float] = (0.5, 5.0),
    bad_line_share: float = 0.001,
    use_title: bool = True,
    read: Read = read_in_turn,
) -> RawReviews:
    """Read review files into one table, in the order of the files, and their texts into ``spill``.

    A malformed row is skipped and counted: one that cannot be parsed or has no user or item id, an id with white space
    or NUL inside or that RecBole uses for nobody (``[PAD]``), a rating that is no number in ``rating_range``, a time
    before 1970 or after 2100, or another value where a text belongs. A rating, time or text that is null, absent or
    blank is missing, not malformed. Numbers may be written as strings; timestamps above 1e11 are milliseconds.

    Args:
        paths: one file or several: JSON lines (Amazon Reviews 2023, 2018 or 2014), CSV, TSV or Parquet; what holds
            ``://`` is an address that fsspec opens.
        spill: Parquet file to write, atomically, with others beside it for further files; its folder is made if needed.
        columns: canonical name (``user_id``, ``item_id``, ``rating``, ``timestamp``, ``title``, ``text``) -> name in
            the files; a column named here must exist. Default: the names above and those of the Amazon formats.
        rating_range: smallest and largest legal rating.
        bad_line_share: largest share of malformed rows in a file that is put up with, in [0, 1].
        use_title: a review is ``"<title>. <text>"`` where both are there, else whichever is; ``False``: the text alone.
        read: reads the files; whatever order it reads them in, the result is the same.

    Raises:
        ConfigError: ``columns`` has an unknown key.
        DataError: a file cannot be read, lacks a column, holds no reviews or too many malformed rows.
    """
    names: dict[str, Sequence[str]] = dict(_REVIEW)
    for canonical, name in (columns or {}).items():
        if canonical not in names:
            raise ConfigError(unknown_name("column", canonical, names))
        names[canonical] = (name,)
    needed = {"user_id": None, "item_id": None, **dict.fromkeys(columns or {})}
    files = raw_files([paths] if isinstance(paths, str | Path | RemoteFile) else paths)
    if not files:
        raise DataError("no review file was given")

    rules = Rules(names, tuple(needed), rating_range, bad_line_share, use_title)
    tables: list[list[pa.Table]] = [[] for _ in files]
    sources: dict[int, dict[str, Any]] = {}
    with SpillWriter(Path(spill), len(files)) as writer:
        for number, part in read(files, rules):
            if part.table is not None:
                writer.write(number, part.table.select(["text"]))
                tables[number].append(part.table.drop_columns(["text"]))
            if part.source is not None:
                sources[number] = part.source
    frame = _coded(pa.concat_tables(table for parts in tables for table in parts))
    return RawReviews(frame, [sources[number] for number in range(len(files))], writer.paths)


def _coded(table: pa.Table) -> pd.DataFrame:
    """The table with categorical ids and the numbers of its rows."""
    for place, name in enumerate(("user_id", "item_id")):
        table = table.set_column(place, name, table[name].dictionary_encode())
    return table.append_column("row", pa.array(np.arange(len(table)))).to_pandas()


def read_items(path: str | RawFile) -> pd.DataFrame:
    """Read item descriptions: ``meta_*.jsonl[.gz]`` of the Amazon data sets, or CSV, TSV or Parquet.

    Returns:
        ``item_id, title, categories, description``, all str, ``""`` where missing, white space collapsed to single
        spaces. A list of categories becomes words apart by spaces, with ``_`` inside a category
        (``["Video Games", "PC"]`` -> ``"Video_Games PC"``); a list of descriptions is joined by spaces. The first
        row of an item counts.

    Raises:
        DataError: as :func:`read_reviews`, with malformed rows (no item id, or no text where one belongs) up to 0.1 %.
    """
    path = raw_file(path)
    parts: list[pd.DataFrame] = []
    tally = _Tally(path)
    for chunk in read_chunks(path, _ITEM, ["item_id"]):
        items = ids(chunk.columns["item_id"])
        columns = {"title": words(chunk.columns["title"]), "description": words(chunk.columns["description"])}
        columns["categories"] = words(chunk.columns["categories"], "_")
        flaws = {"item_id": _null(items)}
        flaws |= {name: np.array([text is None for text in texts], bool) for name, texts in columns.items()}
        good, bad = _judge(chunk, flaws)
        tally.add(int(good.sum()), chunk.bad + bad)
        parts.append(pd.DataFrame({"item_id": items.to_pylist(), **columns})[good])
    tally.source(0.001)
    return pd.concat(parts).drop_duplicates("item_id", ignore_index=True)[list(_ITEM)].astype(str)


class _Tally:
    """Counts a file's rows and keeps the first reasons."""

    def __init__(self, path: RawFile) -> None:
        self.path, self.good, self.bad = path, 0, 0
        self.reasons: list[str] = []

    def add(self, good: int, bad: list[tuple[int, str]]) -> None:
        self.good += good
        self.bad += len(bad)
        if bad and len(self.reasons) < 3:
            first = sorted(bad)[: 3 - len(self.reasons)]
            self.reasons += [f"{self.path.name}:{line}: {reason}" for line, reason in first]

    def source(self, limit: float) -> dict[str, Any]:
        lines = self.good + self.bad
        if not lines:
            raise DataError(f"{self.path} holds no rows")
        if self.bad > limit * lines or not self.good:
            raise DataError(
                f"{self.path}: {self.bad:,} of {lines:,} rows are malformed ({self.bad / lines:.3%}; "
                f"at most {limit:.3%} are put up with). First: " + "; ".join(self.reasons)
            )
        return {**source(self.path), "lines": lines, "bad_lines": self.bad, "reasons": self.reasons}


def _check_reviews(
    chunk: Chunk, rating_range: tuple[float, float], use_title: bool
) -> tuple[pa.Table, list[tuple[int, str]]]:
    """Split a chunk into the table of its good rows and what is wrong with the others, which raw values tell."""
    columns = chunk.columns
    user, item = ids(columns["user_id"]), ids(columns["item_id"])
    rating, time = numbers(columns["rating"]), numbers(columns["timestamp"])
    time = np.where(time > _MILLISECONDS, time / 1000, time)
    low, high = rating_range
    title, text = stripped(columns["title"]), stripped(columns["text"])
    flaws = {
        "user_id": _null(user),
        "item_id": _null(item),
        "rating": (rating < low) | (rating > high),
        "timestamp": (time < 0) | (time > _LATEST),
        "title": _null(title),
        "text": _null(text),
    }
    if chunk.exact and any(mask.any() for mask in flaws.values()):
        return _check_reviews(chunk.exact(), rating_range, use_title)
    good, bad = _judge(chunk, flaws)
    title, text = _present(title), _present(text)
    if use_title:
        text = pc.coalesce(pc.binary_join_element_wise(title, text, ". "), title, text)
    arrays = {"user_id": user, "item_id": item, "rating": rating, "timestamp": time, "has_review": text.is_valid()}
    table = pa.table({**arrays, "text": text})
    return (table.filter(pa.array(good)) if bad else table), bad


def _null(array: pa.Array) -> np.ndarray:
    """Which values are null."""
    return array.is_null().to_numpy(zero_copy_only=False)


def _present(texts: pa.StringArray) -> pa.StringArray:
    """The texts, null where they are empty."""
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _judge(chunk: Chunk, flaws: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Tell which rows have no flaw, and the first flaw of each of the others."""
    good = ~np.logical_or.reduce(list(flaws.values()))
    bad = []
    for place in np.flatnonzero(~good).tolist():
        name = next(name for name, mask in flaws.items() if mask[place])
        bad.append((chunk.lines[place], f"{name} is {chunk.columns[name][place]!r:.80}"))
    return good, bad
