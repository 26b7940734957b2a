"""Data frames of raw reviews, stored as files, so that a data set can be prepared from them again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from recbole_drex.errors import DataError
from recbole_drex.utils.files import replacing


def frame_file(frame: pd.DataFrame, path: Path) -> Path:
    """Write a data frame as a Parquet file (equal content gives equal bytes) and return its path.

    Raises:
        DataError: a column holds values of several types, or the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            frame.to_parquet(temporary, index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"the data frame cannot be written as {path}: {error}") from error
    return path
