"""The original review texts, stored next to the atomic files so that reviews can be quoted."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from recbole_drex.errors import DataError
from recbole_drex.utils.files import replacing
from recbole_drex.utils.parquet import check_sizes

TEXTS = "reviews.parquet"
_SCHEMA = pa.schema([("text", pa.string())])
_GROUP = 128  # reviews that are decompressed together; reading a single one takes well under a millisecond


def write_texts(path: str | Path, blocks: Iterable[list[str]]) -> None:
    """Write review texts, with one block in memory at a time.

    Args:
        path: the file, written atomically; usually :data:`TEXTS` in the data set's folder.
        blocks: the texts in the order of the feature store: text i is that of ``review_row`` i.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    # Statistics would copy the alphabetically first and last text of every group into the footer.
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False, "store_schema": False}
    with replacing(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, **options) as writer:
        for block in blocks:
            writer.write_table(pa.table([pa.array(block, pa.string())], schema=_SCHEMA), row_group_size=_GROUP)


class ReviewTexts:
    """Random access to the texts that :func:`write_texts` wrote; the file is opened at the first use.

    Args:
        path: the file.

    Raises:
        DataError: on use, if the file is missing or damaged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "reviews.parquet"
        >>> write_texts(path, [["Great fun.", "Too long"], ["No plot!"]])
        >>> texts = ReviewTexts(path)
        >>> len(texts), texts[[2, 0]]
        (3, ['No plot!', 'Great fun.'])
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @cached_property
    def _file(self) -> pq.ParquetFile:
        try:
            file = pq.ParquetFile(self.path)
            check_sizes(file, self.path.stat().st_size)
            return file
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    @cached_property
    def _starts(self) -> np.ndarray:
        """First row of each row group, and the number of rows."""
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def __len__(self) -> int:
        """Number of reviews."""
        return int(self._starts[-1])

    def __getitem__(self, rows: ArrayLike) -> list[str]:
        """Texts of the reviews at ``rows`` (n,), in that order; rows may repeat.

        Raises:
            IndexError: a row is below 0 or not below ``len(self)``.
            DataError: the file is missing or damaged.
        """
        wanted = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} wanted, {self.path} has {len(self)}")
        texts = [""] * len(wanted)
        order = np.argsort(wanted, kind="stable")
        bounds = np.searchsorted(wanted[order], self._starts)
        try:
            for group in np.flatnonzero(np.diff(bounds)).tolist():
                indices = order[bounds[group] : bounds[group + 1]]
                column = self._file.read_row_group(group, columns=["text"]).column("text")
                for index, text in zip(
                    indices, column.take(wanted[indices] - self._starts[group]).to_pylist(), strict=True
                ):
                    texts[index] = text or ""
        except (OSError, KeyError, pa.ArrowException) as error:
            raise self._unreadable(error) from error
        return texts

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(
            f"cannot read the review texts in {self.path}: {error}. Prepare the data set again by --raw FILE --rebuild"
        )
