"""Raw reviews and item descriptions, read in one streaming pass.

Every chunk of a file is checked column by column; the accepted rows become a table of coded ids and numbers while their
texts go to a Parquet file, so that millions of reviews fit in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recbole_drex.data.formats import Chunk, read_chunks
from recbole_drex.data.manifest import source
from recbole_drex.data.remote import RawFile, RemoteFile, raw_file, raw_files
from recbole_drex.data.spill import RawReviews, SpillWriter
from recbole_drex.data.values import IdCodes, numbers, stripped, words
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
        frame: ``user_id`` and ``item_id`` (codes in the order of appearance in this file), ``rating``, ``timestamp``
            and ``has_review`` as in :class:`recbole_drex.data.spill.RawReviews`.
        texts: the reviews, null = none.
        users, items: ids that the parts before did not know, in the order of their codes.
        source: of the last part, which has no rows, an entry of ``RawReviews.sources``; None before.
    """

    frame: pd.DataFrame | None
    texts: pa.Array | None
    users: list[str]
    items: list[str]
    source: dict[str, Any] | None = None


Read = Callable[[Sequence[RawFile], Rules], Iterator[tuple[int, Part]]]
"""Gives the parts of several files with the numbers of their files: those of a file in order, the files in any."""


def read_in_turn(files: Sequence[RawFile], rules: Rules) -> Iterator[tuple[int, Part]]:
    """Read one file after the other in this process; see :data:`Read`."""
    for number, path in enumerate(files):
        for part in read_file(path, rules):
            yield number, part


def read_file(path: RawFile, rules: Rules) -> Iterator[Part]:
    """Read a review file part by part.

    Raises:
        DataError: it cannot be read, lacks a column, holds no reviews or too many malformed rows.
    """
    users, items, tally = IdCodes(), IdCodes(), _Tally(path)
    n_users = n_items = 0
    with _without_collector():
        for chunk in read_chunks(path, rules.names, rules.needed):
            frame, texts, bad = _check_reviews(chunk, users, items, rules.rating_range, rules.use_title)
            tally.add(len(frame), chunk.bad + bad)
            part = Part(frame, pa.array(texts, pa.string()), users.since(n_users), items.since(n_items))
            n_users, n_items = n_users + len(part.users), n_items + len(part.items)
            yield part
    yield Part(None, None, [], [], tally.source(rules.bad_line_share))


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
    parts: list[list[Part]] = [[] for _ in files]
    with SpillWriter(Path(spill), len(files)) as writer:
        for number, part in read(files, rules):
            if part.texts is not None and len(part.texts):
                writer.write(number, part.texts)
            parts[number].append(dataclasses.replace(part, texts=None))
    frame = _merge(parts)
    return RawReviews(frame, [part.source for file in parts for part in file if part.source], writer.paths)


def _merge(files: list[list[Part]]) -> pd.DataFrame:
    """One table of the parts of all files, in which an id has one code everywhere."""
    frames = [pd.concat([part.frame for part in parts if part.frame is not None]) for parts in files]
    frame = pd.concat(frames, ignore_index=True)
    for column, known in (("user_id", "users"), ("item_id", "items")):
        codes: dict[str, int] = {}
        coded = []
        for parts, table in zip(files, frames, strict=True):
            ids = [name for part in parts for name in getattr(part, known)]
            codes_of_file = np.fromiter((codes.setdefault(name, len(codes)) for name in ids), np.int32, len(ids))
            coded.append(codes_of_file[table[column].to_numpy()])
        values = pd.Categorical.from_codes(np.concatenate(coded), pd.Index(list(codes), dtype=None if codes else "str"))
        # Ids of rows that were malformed elsewhere must not count.
        frame[column] = values.remove_unused_categories()
    frame["row"] = np.arange(len(frame), dtype=np.int64)
    return frame


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
    items = IdCodes()
    parts: list[pd.DataFrame] = []
    tally = _Tally(path)
    for chunk in read_chunks(path, _ITEM, ["item_id"]):
        codes = items.codes(chunk.columns["item_id"])
        columns = {"title": words(chunk.columns["title"]), "description": words(chunk.columns["description"])}
        columns["categories"] = words(chunk.columns["categories"], "_")
        flaws = {"item_id": codes < 0}
        flaws |= {name: np.array([text is None for text in texts], bool) for name, texts in columns.items()}
        good, bad = _judge(chunk, flaws)
        tally.add(int(good.sum()), chunk.bad + bad)
        parts.append(pd.DataFrame({"item_id": codes, **columns})[good])
    tally.source(0.001)
    frame = pd.concat(parts).drop_duplicates("item_id", ignore_index=True)
    frame["item_id"] = items.names()[frame["item_id"].to_numpy()]
    return frame[list(_ITEM)].astype(str)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Suspend the search for reference cycles: parsed rows have none, and looking takes a fifth of the reading time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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
    chunk: Chunk, users: IdCodes, items: IdCodes, rating_range: tuple[float, float], use_title: bool
) -> tuple[pd.DataFrame, list[str | None], list[tuple[int, str]]]:
    """Split a chunk into the table of its good rows, their texts and what is wrong with the others."""
    columns = chunk.columns
    user, item = users.codes(columns["user_id"]), items.codes(columns["item_id"])
    rating, time = numbers(columns["rating"]), numbers(columns["timestamp"])
    time = np.where(time > _MILLISECONDS, time / 1000, time)
    low, high = rating_range
    titles, texts = stripped(columns["title"]), stripped(columns["text"])
    flaws = {
        "user_id": user < 0,
        "item_id": item < 0,
        "rating": (rating < low) | (rating > high),
        "timestamp": (time < 0) | (time > _LATEST),
        "title": np.array([title is None for title in titles], bool),
        "text": np.array([text is None for text in texts], bool),
    }
    good, bad = _judge(chunk, flaws)
    if use_title:
        texts = [
            f"{title}. {text}" if title and text else title or text for title, text in zip(titles, texts, strict=True)
        ]
    reviews = [text or None for text, kept in zip(texts, good.tolist(), strict=True) if kept]
    part = {"user_id": user[good], "item_id": item[good], "rating": rating[good], "timestamp": time[good]}
    has_review = np.array([text is not None for text in reviews], bool)
    return pd.DataFrame({**part, "has_review": has_review}), reviews, bad


def _judge(chunk: Chunk, flaws: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Tell which rows have no flaw, and the first flaw of each of the others."""
    good = ~np.logical_or.reduce(list(flaws.values()))
    bad = []
    for place in np.flatnonzero(~good):
        name = next(name for name, mask in flaws.items() if mask[place])
        bad.append((chunk.lines[place], f"{name} is {chunk.columns[name][place]!r:.80}"))
    return good, bad
