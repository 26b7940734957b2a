"""Raw reviews and item descriptions, read in one streaming pass.

Every chunk of a file is checked column by column. The accepted rows form a table of ids and numbers; their texts go to
a Parquet file, so that millions of reviews fit in memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recbole_drex.data.raw.columns import ids, is_missing, moments, numbers, stripped, words
from recbole_drex.data.raw.formats import Chunk, ahead, read_chunks
from recbole_drex.data.raw.json_lines import shown
from recbole_drex.data.raw.remote import RawFile, RemoteFile, raw_file, raw_files, source
from recbole_drex.data.raw.spill import RawReviews, SpillWriter
from recbole_drex.errors import ConfigError, DataError, unknown_name

_LATEST = 4_102_444_800.0  # 2100-01-01 in seconds
AUTO = "auto"
"""Value of ``rating_range`` that allows all ratings."""
_ANY = (float(np.finfo(float).min), float(np.finfo(float).max))

# Canonical name: names in the file. Amazon Reviews 2023 comes first, then 2018 and 2014.
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
    "brand": ("brand", "store"),
    "features": ("features", "feature"),
}


@dataclass(frozen=True)
class Rules:
    """How review files are read; see :func:`read_reviews` for the other fields.

    Attributes:
        names: canonical name -> names in the files; the first one with a value counts.
        needed: canonical names of required columns.
    """

    names: Mapping[str, Sequence[str]]
    needed: Sequence[str]
    rating_range: tuple[float, float]
    bad_line_share: float
    use_title: bool
    missing_rating: float | None = None


@dataclass(frozen=True)
class RawPart:
    """Consecutive accepted reviews of a file; the last part has the summary of the file instead.

    Attributes:
        table: ``user_id``, ``item_id`` (string), ``rating``, ``timestamp`` (double) and ``has_review`` (bool), as in
            :class:`recbole_drex.data.raw.spill.RawReviews`, and ``text`` (string, null = no review); None in the last
            part.
        source: in the last part, the entry of ``RawReviews.sources``; None before.
    """

    table: pa.Table | None
    source: dict[str, Any] | None = None


Read = Callable[[Sequence[RawFile], Rules], Iterator[tuple[int, RawPart]]]
"""Returns the parts of several files with the indices of their files; parts are in order, files in any order."""


def read_in_turn(files: Sequence[RawFile], rules: Rules) -> Iterator[tuple[int, RawPart]]:
    """Read one file after the other in this process; see :data:`Read`."""
    for number, path in enumerate(files):
        for part in ahead(read_file(path, rules)):
            yield number, part


def read_file(path: RawFile, rules: Rules) -> Iterator[RawPart]:
    """Read a review file part by part.

    Raises:
        DataError: it cannot be read, lacks a column, or has no reviews or too many malformed rows.
    """
    tally = _Tally(path, rules.rating_range)
    for chunk in ahead(read_chunks(path, rules.names, rules.needed, _TYPES)):
        table, bad, ratings = _check_reviews(chunk, rules)
        tally.add(len(table), chunk.bad + bad, ratings)
        yield RawPart(table)
    yield RawPart(None, tally.source(rules.bad_line_share))


def read_reviews(
    paths: str | RawFile | Iterable[str | RawFile],
    spill: Path,
    *,
    columns: Mapping[str, str | int] | None = None,
    rating_range: tuple[float, float] | str = (0.5, 5.0),
    bad_line_share: float = 0.001,
    use_title: bool = True,
    missing_rating: float | None = None,
    read: Read = read_in_turn,
) -> RawReviews:
    """Read review files into one table, in the order of the files, and their texts into ``spill``.

    Malformed rows are skipped and counted. A row is malformed if it cannot be parsed; if it has no user or item id, or
    an id with a tab, line break or NUL inside, or RecBole's padding (``[PAD]``); if its rating is not a number in
    ``rating_range``; if its time is before 1970 or after 2100; or if a text is not a string. A rating, time or text
    that is null, absent, NaN or blank is missing, not malformed. Numbers may be written as strings. Times are read by
    :func:`recbole_drex.data.raw.columns.moments`.

    Args:
        paths: one file or several: JSON (Amazon Reviews 2023, 2018 or 2014), CSV, TSV or Parquet, see
            :func:`recbole_drex.data.raw.formats.read_chunks`; fsspec opens addresses with ``://``.
        spill: Parquet file to write, atomically; further input files get files next to it. Its folder is created.
        columns: canonical name (``user_id``, ``item_id``, ``rating``, ``timestamp``, ``title``, ``text``) -> name in
            the files; a column named here must exist. Default: the names above and those of the Amazon formats. In CSV
            and TSV files without a header, numbers of columns from 0.
        rating_range: smallest and largest legal rating, or ``auto``: all numbers are legal.
        bad_line_share: largest allowed share of malformed rows in a file, in [0, 1].
        use_title: a review is ``"<title>. <text>"``, or the one that is present; ``False``: the text alone.
        missing_rating: a rating of this value is missing.
        read: function that reads the files; their order does not change the result.

    Raises:
        ConfigError: ``columns`` has an unknown key.
        DataError: a file cannot be read, lacks a column, or has no reviews or too many malformed rows.
    """
    names = _named(_REVIEW, columns)
    needed = {"user_id": None, "item_id": None, **dict.fromkeys(columns or {})}
    files = raw_files([paths] if isinstance(paths, str | Path | RemoteFile) else paths)
    if not files:
        raise DataError("no review file was given")

    if isinstance(rating_range, str):
        rating_range = _ANY
    rules = Rules(names, tuple(needed), rating_range, bad_line_share, use_title, missing_rating)
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


def _named(names: Mapping[str, Sequence[str]], columns: Mapping[str, Any] | None) -> dict[str, Sequence[str]]:
    """The names in a file by canonical name, some of them replaced by ``columns``."""
    for canonical in columns or {}:
        if canonical not in names:
            raise ConfigError(unknown_name("column", canonical, names))
    return {**names, **{canonical: (str(name),) for canonical, name in (columns or {}).items()}}


def _coded(table: pa.Table) -> pd.DataFrame:
    """The table with categorical ids and the numbers of its rows."""
    for index, name in enumerate(("user_id", "item_id")):
        table = table.set_column(index, name, table[name].dictionary_encode())
    return table.append_column("row", pa.array(np.arange(len(table)))).to_pandas()


def read_items(
    path: str | RawFile, *, columns: Mapping[str, str | int] | None = None, bad_line_share: float = 0.001
) -> pd.DataFrame:
    """Read item descriptions: ``meta_*.jsonl[.gz]`` of the Amazon data sets, or CSV, TSV or Parquet.

    Args:
        path: the file.
        columns: canonical name (``item_id``, ``title``, ``categories``, ``description``, ``brand``, ``features``) ->
            name in the file, as for :func:`read_reviews`.
        bad_line_share: largest allowed share of malformed rows (no item id, or a text that is not a string).

    Returns:
        These columns in this order, all str, ``""`` if missing, white space collapsed to single spaces.
        A list of categories, or of such lists, becomes words separated by spaces, with ``_`` inside a category
        (``["Video Games", "PC"]`` -> ``"Video_Games PC"``). A list of features or descriptions is joined by
        spaces. The first row of an item counts.

    Raises:
        ConfigError, DataError: as :func:`read_reviews`.
    """
    path = raw_file(path)
    parts: list[pd.DataFrame] = []
    tally = _Tally(path)
    for chunk in read_chunks(path, _named(_ITEM, columns), list({"item_id": None, **(columns or {})})):
        items = ids(chunk.columns["item_id"])
        texts = {name: words(chunk.columns[name], "_" if name == "categories" else " ") for name in _ITEM}
        del texts["item_id"]
        for name in ("brand", "features"):  # of other types in tables of other origin
            texts[name] = [text or "" for text in texts[name]]
        flaws = {"item_id": _null(items)}
        flaws |= {name: np.array([text is None for text in column], bool) for name, column in texts.items()}
        good, bad = _judge(chunk, flaws)
        tally.add(int(good.sum()), chunk.bad + bad)
        parts.append(pd.DataFrame({"item_id": items.to_pylist(), **texts})[good])
    tally.source(bad_line_share)
    return pd.concat(parts).drop_duplicates("item_id", ignore_index=True)[list(_ITEM)].astype(str)


class _Tally:
    """Counts a file's rows and keeps the first reasons and, for reviews, the smallest and largest rating."""

    def __init__(self, path: RawFile, rating_range: tuple[float, float] = _ANY) -> None:
        self.path, self.rating_range, self.good, self.bad = path, rating_range, 0, 0
        self.low, self.high = math.inf, -math.inf
        self.reasons: list[str] = []
        self.flaws: Counter[str] = Counter()

    def add(self, good: int, bad: list[tuple[int, str]], ratings: np.ndarray | None = None) -> None:
        self.good += good
        self.bad += len(bad)
        self.flaws.update(reason.partition(" is ")[0] for _, reason in bad)
        if bad and len(self.reasons) < 3:
            first = sorted(bad, key=itemgetter(0))[: 3 - len(self.reasons)]
            self.reasons += [f"{self.path.name}:{line}: {reason}" for line, reason in first]
        if ratings is not None and len(ratings):
            self.low, self.high = min(self.low, ratings.min()), max(self.high, ratings.max())

    def source(self, limit: float) -> dict[str, Any]:
        lines = self.good + self.bad
        if not lines:
            raise DataError(f"{self.path} has no rows")
        if self.bad > limit * lines or not self.good:
            raise DataError(
                f"{self.path}: {self.bad:,} of {lines:,} rows ({self.bad / lines:.3%}) are malformed, "
                f"more than bad_line_share = {limit:.3%} allows. {self._advice()}. "
                f"First: {'; '.join(self.reasons)}"
            )
        return {**source(self.path), "lines": lines, "bad_lines": self.bad, "reasons": self.reasons}

    def _advice(self) -> str:
        """The remedy for the most common flaw."""
        flaw = self.flaws.most_common(1)[0][0]
        low, high = self.rating_range
        if flaw == "rating" and not low <= self.low <= self.high <= high and self.low <= self.high:
            zero = ", or --missing_rating 0 if 0 says that there is no rating" if self.low == 0 else ""
            return (
                f"Ratings are between {self.low:g} and {self.high:g}, but rating_range allows {low:g} to {high:g}: "
                f'give --rating_range "[{self.low:g}, {self.high:g}]" or --rating_range auto{zero}'
            )
        if flaw == "timestamp":
            return "Times are s, ms, us or ns since 1970, or dates such as 2014-03-01 10:11:12; --columns names theirs"
        if flaw in ("user_id", "item_id"):
            return "Ids are texts or whole numbers; --columns and --item_columns say which column holds them"
        return (
            f"If they may be left out, --bad_line_share {math.ceil(1000 * self.bad / (self.good + self.bad)) / 1000:g}"
        )


def _check_reviews(chunk: Chunk, rules: Rules) -> tuple[pa.Table, list[tuple[int, str]], np.ndarray]:
    """Split a chunk into the table of its good rows, the line numbers and flaws of the others, and all ratings that are
    numbers."""
    columns = chunk.columns
    user, item = ids(columns["user_id"]), ids(columns["item_id"])
    rating, time = numbers(columns["rating"]), moments(columns["timestamp"])
    if rules.missing_rating is not None:
        rating = np.where(rating == rules.missing_rating, np.nan, rating)
    low, high = rules.rating_range
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
        return _check_reviews(chunk.exact(), rules)
    good, bad = _judge(chunk, flaws)
    title, text = _present(title), _present(text)
    if rules.use_title:
        text = pc.coalesce(pc.binary_join_element_wise(title, text, ". "), title, text)
    arrays = {"user_id": user, "item_id": item, "rating": rating, "timestamp": time, "has_review": text.is_valid()}
    table = pa.table({**arrays, "text": text})
    return (table.filter(pa.array(good)) if bad else table), bad, rating[np.isfinite(rating)]


def _null(array: pa.Array) -> np.ndarray:
    """Mask of the null values."""
    return array.is_null().to_numpy(zero_copy_only=False)


def _present(texts: pa.StringArray) -> pa.StringArray:
    """The texts; empty ones become null."""
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _judge(chunk: Chunk, flaws: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Mask of the rows without a flaw, and the first flaw of each of the others."""
    good = ~np.logical_or.reduce(list(flaws.values()))
    bad: list[tuple[int, str]] = []
    for index in np.flatnonzero(~good).tolist():
        name = next(name for name, mask in flaws.items() if mask[index])
        reason = f"{name} is {chunk.columns[name][index]!r:.80}"
        if not bad:
            row = {name: values[index] for name, values in chunk.columns.items() if not is_missing(values[index])}
            reason += shown(row)
        bad.append((chunk.lines[index], reason))
    return good, bad
