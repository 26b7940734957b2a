"""Table files, in the format of their extension: Parquet, CSV or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.utils.files import replacing
from recbole_drex.utils.parquet import read_table

FORMATS = (".parquet", ".csv", ".jsonl")


def check_format(path: str | Path) -> None:
    """Check the name of a file of tables.

    Raises:
        ConfigError: its extension is not one of :data:`FORMATS`.

    Example:
        >>> check_format("best.xlsx")
        Traceback (most recent call last):
        recbole_drex.errors.ConfigError: best.xlsx: files of tables end in .parquet, .csv or .jsonl
    """
    if Path(path).suffix not in FORMATS:
        raise ConfigError(f"{path}: files of tables end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")


def write_table(path: str | Path, parts: Iterable[pd.DataFrame]) -> int:
    """Write a table of numbers and texts, given in parts, atomically.

    Args:
        path: its extension determines the format.
        parts: at least one; all have the same columns.

    Returns:
        The number of rows.

    Raises:
        ConfigError: as :func:`check_format`.
        StorageError: the file cannot be written.
    """
    check_format(path)
    rows = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        writer = None
        for part in parts:
            if Path(path).suffix == ".csv":
                part.to_csv(file, index=False, header=not file.tell(), lineterminator="\n")
            elif Path(path).suffix == ".jsonl":
                part.to_json(file, orient="records", lines=True, force_ascii=False, double_precision=15)
            else:
                table = pa.Table.from_pandas(part, _schema(part), preserve_index=False)
                writer = writer or pq.ParquetWriter(file, table.schema)
                writer.write_table(table)
            rows += len(part)
        if writer is not None:
            writer.close()
    return rows


def _schema(part: pd.DataFrame) -> pa.Schema:
    """An empty column of texts has no type, so every column without numbers is a column of texts."""
    kinds = {"f": pa.float64(), "i": pa.int64()}
    return pa.schema([(str(name), kinds.get(part[name].dtype.kind, pa.string())) for name in part])


def read_texts(path: str | Path) -> pd.DataFrame:
    """Read a table with all values as unchanged texts.

    Raises:
        ConfigError: as :func:`check_format`.
        DataError: there is no such file, or it cannot be read.
    """
    check_format(path)
    path = Path(path)
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        if path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as file:
                return pd.DataFrame([json.loads(line) for line in file if line.strip()])
        return read_table(path).to_pandas()
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot read {path}: {reason}") from error
