"""Texts of raw reviews, stored on disk, so that millions of reviews fit in memory while they are filtered."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recbole_drex.data.text.review_texts import ReviewTexts
from recbole_drex.utils.files import replacing

_GROUP = 1 << 12  # texts read together
SCHEMA = pa.schema([("text", pa.string())])


@dataclass(frozen=True)
class RawReviews:
    """The reviews that :func:`recbole_drex.data.raw.readers.read_reviews` accepted.

    Attributes:
        frame: one row per review in file order: ``user_id`` and ``item_id`` (categorical of str), ``rating`` (float64,
            NaN = missing), ``timestamp`` (float64, seconds since 1970, NaN = missing), ``has_review`` (bool) and
            ``row`` (int64, the review's row in ``spills``).
        sources: per file ``name``, ``bytes``, ``sha256``, ``lines`` (rows that are not blank), ``bad_lines`` (malformed
            rows) and ``reasons`` (of the first three).
        spills: per file a Parquet file with the one column ``text``; null = no review.
    """

    frame: pd.DataFrame
    sources: list[dict[str, Any]]
    spills: list[Path]

    def texts(self, rows: np.ndarray) -> list[str]:
        """Return the review texts of ``rows`` in that order (``""`` = no review), one row group in memory at a time.

        Raises:
            DataError: the spill is missing or damaged.
            IndexError: a row is outside the spill.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self._starts[-1]:
            raise IndexError(f"rows {rows.min()} to {rows.max()} wanted, {self._starts[-1]} were read")
        texts = np.full(len(rows), "", dtype=object)
        files = np.searchsorted(self._starts, rows, side="right") - 1
        for file in np.unique(files):
            indices = np.flatnonzero(files == file)
            texts[indices] = self._files[file][rows[indices] - self._starts[file]]
        return texts.tolist()

    @cached_property
    def _files(self) -> list[ReviewTexts]:
        return [ReviewTexts(path) for path in self.spills]

    @cached_property
    def _starts(self) -> np.ndarray:
        """First row of each file, and the number of rows."""
        return np.concatenate([[0], np.cumsum([len(file) for file in self._files], dtype=np.int64)])


class SpillWriter(contextlib.ExitStack):
    """Writes the texts of several raw files, each to its own Parquet file; all files are written, or none.

    Args:
        path: ``s.parquet`` gives ``s.parquet``, ``1-s.parquet``, ``2-s.parquet`` and so on, one per raw file.
        n_files: number of raw files.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """

    def __init__(self, path: Path, n_files: int):
        super().__init__()
        self.paths = [path.with_name(f"{file}-{path.name}") if file else path for file in range(n_files)]
        self._writers: dict[int, pq.ParquetWriter] = {}

    def write(self, file: int, texts: pa.Table) -> None:
        """Append texts of raw file number ``file``: a table with the one column ``text``, null = no review."""
        if file not in self._writers:
            temporary = self.enter_context(replacing(self.paths[file]))
            options = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}
            self._writers[file] = self.enter_context(pq.ParquetWriter(temporary, SCHEMA, **options))
        if len(texts):
            self._writers[file].write_table(texts, row_group_size=_GROUP)
