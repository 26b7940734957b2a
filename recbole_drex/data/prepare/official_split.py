"""Rows of an official split of Amazon Reviews 2023, with the reviews that belong to them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_drex.data.prepare.manifest import PARTS
from recbole_drex.data.raw.readers import read_reviews
from recbole_drex.data.raw.spill import RawReviews
from recbole_drex.errors import DataError

logger = logging.getLogger(__name__)

_COLUMNS = {"user_id": "user_id", "item_id": "parent_asin", "rating": "rating", "timestamp": "timestamp"}
_KEYS = ["user_id", "item_id", "timestamp"]


@dataclasses.dataclass(frozen=True)
class OfficialRows:
    """The rows of an official split.

    Attributes:
        frame: as :func:`recbole_drex.data.prepare.filter.filter_reviews` returns it; the parts one after the other,
            each in the order of its file. ``row`` is -1 without a review.
        counts: as there: the raw file (``read``), and each part (``train``, ``valid``, ``test``, or ``kept`` if the
            split has one file).
        sources: of the split's files, as in ``RawReviews.sources``.
    """

    frame: pd.DataFrame
    counts: list[dict[str, Any]]
    sources: list[dict[str, Any]]

    @property
    def parts(self) -> dict[str, range]:
        """Rows of ``frame`` by part."""
        stops = np.cumsum([0, *(count["interactions"] for count in self.counts[1:])]).tolist()
        names = [count["step"] for count in self.counts[1:]]
        return {name: range(*stops[index : index + 2]) for index, name in enumerate(names)}


def official_rows(raw: RawReviews, files: Sequence[Path], spill: Path, settings: Mapping[str, Any]) -> OfficialRows:
    """Read an official split and join the reviews by user, item and timestamp.

    Rows and ratings are those of the split. A row without a review in the raw file keeps its rating.

    Args:
        raw: the reviews of the category.
        files: of the split: ``.csv`` or ``.csv.gz`` with the columns ``user_id``, ``parent_asin``, ``rating``,
            ``timestamp``; others (``history``) are not read.
        spill: temporary file.
        settings: the parameters under "Preparation": ``rating_range`` and ``bad_line_share``.

    Raises:
        DataError: a file cannot be read, lacks a column, or has no rows or too many malformed ones; a row has no
            rating; a (user, item) pair occurs twice; or the raw reviews are not those of the split: more than a share
            ``bad_line_share`` of its rows has users without a raw review, or no row has a review.
    """
    split = read_reviews(
        files,
        spill,
        columns=_COLUMNS,
        rating_range=settings["rating_range"],
        bad_line_share=settings["bad_line_share"],
        use_title=False,
    )
    frame, sizes = split.frame, [source["lines"] - source["bad_lines"] for source in split.sources]
    where = np.repeat([str(file) for file in files], sizes)
    _refuse(frame, where, frame["rating"].isna(), "has no rating")
    _refuse(frame, where, frame.duplicated(["user_id", "item_id"]), "is there twice; a pair may occur once in a split")
    names = ", ".join(source["name"] for source in raw.sources)
    unknown = ~frame["user_id"].isin(raw.frame["user_id"].cat.categories)
    if unknown.sum() > settings["bad_line_share"] * len(frame):
        advice = f"has no review in {names} (such rows: {unknown.sum():,} of {len(frame):,}); give the reviews of the"
        _refuse(frame, where, unknown, f"{advice} same category", ["user_id"])

    reviews = raw.frame.loc[raw.frame["has_review"], [*_KEYS, "row"]]
    for name in ("user_id", "item_id"):  # equal categories are joined by their codes
        reviews = reviews.assign(**{name: reviews[name].cat.set_categories(frame[name].cat.categories)})
    reviews = reviews.dropna(subset=["user_id", "item_id"]).drop_duplicates(_KEYS)
    frame = frame.drop(columns=["row", "has_review"]).merge(reviews, "left", _KEYS)
    frame["has_review"] = frame["row"].notna()
    frame["row"] = frame["row"].fillna(-1).astype(np.int64)
    without = int((~frame["has_review"]).sum())
    if without == len(frame) and raw.frame["has_review"].any():
        raise DataError(f"no row of {files[0]} has a review in {names}: user, item and timestamp are never the same")
    if without:
        logger.warning(f"{without:,} of {len(frame):,} rows of the official split have no review in {names}")

    steps = PARTS if len(sizes) > 1 else ("kept",)
    parts = np.split(np.arange(len(frame)), np.cumsum(sizes)[:-1])
    counts = [_counts("read", raw.frame)]
    counts += [_counts(step, frame.iloc[part]) for step, part in zip(steps, parts, strict=True)]
    return OfficialRows(frame, counts, split.sources)


def _refuse(
    frame: pd.DataFrame, where: np.ndarray, bad: pd.Series, flaw: str, named: Sequence[str] = ("user_id", "item_id")
) -> None:
    """Raise an error that names the file and the first row that ``bad`` marks, if there is one."""
    if bad.any():
        row = int(bad.to_numpy().argmax())
        pair = ", ".join(f"{name.removesuffix('_id')} '{frame[name].iloc[row]}'" for name in named)
        raise DataError(f"{where[row]}: {pair} {flaw}")


def _counts(step: str, rows: pd.DataFrame) -> dict[str, Any]:
    users, items = rows["user_id"].nunique(), rows["item_id"].nunique()
    rated = int(rows["rating"].notna().sum())
    return {"step": step, "users": users, "items": items, "interactions": len(rows), "rated": rated}
