"""The result files of a run: ``result.json``, ``interactions.parquet`` and ``users.parquet``.

The format of ``result.json`` is described by ``result.schema.json`` next to this file.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recbole_drex.errors import CheckpointError
from recbole_drex.utils.checksums import check_sum
from recbole_drex.utils.files import json_text, read_json, replacing, write_text
from recbole_drex.utils.parquet import read_table

SCHEMA = 1
RESULT, INTERACTIONS, USERS = "result.json", "interactions.parquet", "users.parquet"
SPLITS = ("train", "valid", "test")

_COLUMNS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("rating", pa.float64()),
        ("split", pa.string()),
        ("prediction", pa.float64()),
        ("prediction_median", pa.float64()),
        ("prediction_std", pa.float64()),
        ("probability_relevant", pa.float64()),
        ("has_review", pa.bool_()),
    ]
)
_USER_COLUMNS = {"train_ratings", "train_reviews", "test_ratings", "mae", "mse"}


def write_result(run_dir: str | Path, result: Mapping[str, Any]) -> Path:
    """Write ``result.json`` to a run's folder, atomically.

    Numbers that JSON lacks (NaN, infinities) become null; numpy numbers and tuples become their plain
    counterparts.

    Args:
        run_dir: the run's folder, made if needed.
        result: as described by the JSON Schema.

    Returns:
        Path of the file.

    Raises:
        ValueError: ``result`` does not follow the schema; the message names the key.
        TypeError: a value has no JSON form; the message names the key.
        DataError: the folder cannot be written.
    """
    path = Path(run_dir) / RESULT
    write_text(path, result_text(result))
    return path


def result_text(result: Mapping[str, Any]) -> str:
    """The text that :func:`write_result` writes; raises the same errors."""
    plain = _plain(result, "result")
    if fault := _fault(plain):
        raise ValueError(f"result does not follow result.schema.json: {fault}")
    return json_text(plain)


def read_result(path: str | Path) -> dict[str, Any]:
    """Read a ``result.json``, given its path or its folder.

    Raises:
        CheckpointError: the file is missing, damaged, not ours, or has another schema number; the message names it.
    """
    path = Path(path)
    path = path / RESULT if path.is_dir() else path
    check_sum(path.parent, path.name)
    result = read_json(path, "result", CheckpointError)
    if not isinstance(result, dict) or "schema" not in result:
        raise CheckpointError(f"{path} is not a result file of recbole_drex: it has no 'schema' number")
    if result["schema"] != SCHEMA:
        raise CheckpointError(f"{path} has schema {result['schema']!r}; this version reads {SCHEMA}")
    if fault := _fault(result):
        raise CheckpointError(f"{path} is damaged: {fault}")
    result["protocol"].setdefault("mask", "train+valid")  # results of versions that had no other
    return result


def write_interactions(run_dir: str | Path, frame: pd.DataFrame) -> Path:
    """Write ``interactions.parquet``: every interaction a run used, with its part of the split and its prediction.

    Args:
        run_dir: the run's folder, made if needed.
        frame: columns ``user_id, item_id`` (text), ``rating`` (NaN where missing), ``split`` (train, valid or test),
            ``prediction`` in rating units (or a score, for a model that predicts no rating; NaN for train),
            ``prediction_median, prediction_std, probability_relevant`` of models that predict a distribution (NaN
            otherwise), and ``has_review``.

    Returns:
        Path of the file.

    Raises:
        ValueError: columns are missing, or the split has other values.
        DataError: the folder cannot be written.
    """
    if missing := sorted(set(_COLUMNS.names) - set(frame.columns)):
        raise ValueError(f"interactions lack the columns {', '.join(missing)}")
    if odd := sorted(set(map(str, frame["split"].unique())) - set(SPLITS)):
        raise ValueError(f"split has values other than {', '.join(SPLITS)}: {', '.join(odd)}")
    convert = {pa.string(): str, pa.float64(): np.float64, pa.bool_(): bool}
    arrays = []
    for field in _COLUMNS:
        values = frame[field.name].astype(convert[field.type]).to_numpy()
        arrays.append(pa.array(values, field.type, from_pandas=True))
    return _write_parquet(Path(run_dir) / INTERACTIONS, pa.Table.from_arrays(arrays, schema=_COLUMNS))


def read_interactions(run_dir: str | Path) -> pd.DataFrame:
    """Read what :func:`write_interactions` wrote, rows in the same order; missing numbers are NaN.

    Raises:
        CheckpointError: the file is missing, damaged or has other columns; the message names it.
    """
    path = Path(run_dir) / INTERACTIONS
    return _read_parquet(path, "interactions", _COLUMNS)


def write_users(run_dir: str | Path, frame: pd.DataFrame) -> Path:
    """Write ``users.parquet``: the metrics of every test user, which paired tests and groups are made from.

    Args:
        run_dir: the run's folder, made if needed.
        frame: indexed by user, columns ``train_ratings, train_reviews, test_ratings, mae, mse`` and metrics at k.

    Returns:
        Path of the file.

    Raises:
        ValueError: columns are missing.
        DataError: the folder cannot be written.
    """
    if missing := sorted(_USER_COLUMNS - set(frame.columns)):
        raise ValueError(f"users lack the columns {', '.join(missing)}")
    table = frame.rename_axis("user_id").reset_index().astype({"user_id": str})
    return _write_parquet(Path(run_dir) / USERS, pa.Table.from_pandas(table, preserve_index=False))


def read_users(run_dir: str | Path) -> pd.DataFrame:
    """Read what :func:`write_users` wrote.

    Raises:
        CheckpointError: the file is missing, damaged or has other columns; the message names it.
    """
    path = Path(run_dir) / USERS
    frame = _read_parquet(path, "users")
    if not {"user_id", *_USER_COLUMNS} <= set(frame.columns):
        raise CheckpointError(f"{path} is no users file of this version: it has columns {list(frame.columns)}")
    return frame.set_index("user_id")


def _write_parquet(path: Path, table: pa.Table) -> Path:
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def _read_parquet(path: Path, what: str, columns: pa.Schema | None = None) -> pd.DataFrame:
    check_sum(path.parent, path.name)
    try:
        table = read_table(path)
        if columns is not None and not table.schema.equals(columns):
            raise CheckpointError(f"{path} is no {what} file of this version: it has columns {table.schema.names}")
        table.validate(full=True)
        return table.replace_schema_metadata(None).to_pandas()
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise CheckpointError(f"cannot read {what} {path}: {error}") from error


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    text = resources.files("recbole_drex.results").joinpath("result.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def _fault(result: dict[str, Any]) -> str:
    """The first breach of the schema, with its place; empty if the schema is met."""
    error = jsonschema.exceptions.best_match(_validator().iter_errors(result))
    return "" if error is None else f"at {error.json_path}: {error.message[:300]}"


def _plain(value: Any, position: str) -> Any:
    """``value`` as JSON knows it."""
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{position}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{position}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist(), position)
    if isinstance(value, np.generic):
        return _plain(value.item(), position)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    raise TypeError(f"{position} is a {type(value).__name__}, which has no JSON form")
