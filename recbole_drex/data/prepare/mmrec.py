"""MMRec's folder layout: pre-split interactions, and item vectors by row."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from recbole_drex.data.items.item_features import (
    FOLDER,
    INDEX,
    ItemFeatures,
    check_modality,
    check_vectors,
    read_table,
    write_item_features,
)
from recbole_drex.data.prepare.engine import LocalEngine
from recbole_drex.data.prepare.item_modalities import (
    CAPTIONS,
    Modalities,
    item_sources,
    make_modalities,
    write_captions,
)
from recbole_drex.data.prepare.manifest import (
    FORMAT,
    PARTS,
    fingerprint,
    mmrec_settings,
    versions,
    write_manifest,
)
from recbole_drex.data.prepare.statistics import dataset_statistics
from recbole_drex.data.raw.remote import source
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.utils.files import replacing, sha256

_NAMES = {"user_id": ("userID", "user_id"), "item_id": ("itemID", "item_id"), "rating": ("rating",)}
_NAMES |= {"timestamp": ("timestamp",), "part": ("x_label",)}
_NEEDED = ("user_id", "item_id", "part")
_SUFFIX = "_feat.npy"


def mmrec_files(folder: Path) -> tuple[Path, dict[str, Path]]:
    """The interactions of a folder in MMRec's layout, and its item vectors by modality.

    Raises:
        DataError: not exactly one ``.inter`` file, or no ``*_feat.npy``.
        ConfigError: the name of a modality is not legal or is taken.
    """
    inter = sorted(folder.glob("*.inter"))
    if len(inter) != 1:
        result = ", ".join(path.name for path in inter) or "none"
        raise DataError(f"{folder} must have one .inter file (MMRec's layout) or Parquet files; .inter files: {result}")
    files = sorted(folder.glob(f"?*{_SUFFIX}"))
    vectors = {path.name.removesuffix(_SUFFIX): path for path in files}
    if not vectors:
        raise DataError(f"{folder} has no item vectors, such as image{_SUFFIX} or text{_SUFFIX}")
    for name in vectors:
        check_modality(name)
    return inter[0], vectors


def mmrec_sources(folder: Path) -> list[dict[str, Any]]:
    """Manifest entries of the folder's files."""
    inter, vectors = mmrec_files(folder)
    return [source(path) for path in (inter, *vectors.values())]


def read_mmrec(path: Path) -> pd.DataFrame:
    """Read the interactions of MMRec's layout; every row must be valid, since the split includes all rows.

    Args:
        path: tab-separated with a header: ``userID`` and ``itemID`` (whole numbers; or ``user_id`` and ``item_id``),
            ``x_label`` (0, 1, 2: training, validation, test), ``rating`` (1 if the column is absent), ``timestamp``.

    Returns:
        In the file's order ``user_id, item_id, part`` (int64), ``rating`` and, if present, ``timestamp`` (float64).

    Raises:
        DataError: the file or a row cannot be used, a pair occurs twice, or a part is empty; names file and line.
    """
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,
            index_col=False,  # rows longer than the header would make the first column row names
        ).fillna("")  # in rows that are too short
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    table = table[(table != "").any(axis=1)]  # the index is still the line number
    columns = {}
    for name, accepted in _NAMES.items():
        result = [column for column in accepted if column in table]
        if result:
            columns[name] = table[result[0]].str.strip()
        elif name in _NEEDED:
            raise DataError(f"{path}: no column '{accepted[0]}' in the header; found: {', '.join(table.columns)}")
    # The first flaw of the file in the order of its columns.
    for name in ("user_id", "item_id"):
        _check(path, columns[name], columns[name].str.fullmatch("[0-9]{1,18}"), "not an id: ids are integers from 0")
    _check(path, columns["part"], columns["part"].isin(["0", "1", "2"]), "not a part: 0 trains, 1 validates, 2 tests")
    frame = pd.DataFrame({name: columns[name].astype(np.int64) for name in _NEEDED})
    for name in ("rating", "timestamp"):
        if name in columns:
            numbers = pd.to_numeric(columns[name], errors="coerce").astype(np.float64)
            _check(path, columns[name], np.isfinite(numbers), "not a number")
            frame[name] = numbers
    if "rating" not in frame:
        frame["rating"] = 1.0
    if frame.duplicated(["user_id", "item_id"]).any():
        row = frame[frame.duplicated(["user_id", "item_id"])].iloc[0]
        same = frame.index[(frame["user_id"] == row["user_id"]) & (frame["item_id"] == row["item_id"])] + 2
        raise DataError(
            f"{path}:{same[1]}: user {row['user_id']:.0f} and item {row['item_id']:.0f} already occur in line {same[0]}"
            "; a pair may occur once"
        )
    for number, part in enumerate(PARTS):
        if not (frame["part"] == number).any():
            raise DataError(f"{path}: no row has x_label {number}, so the {part} part is empty")
    return frame


def _check(path: Path, values: pd.Series, good: Any, flaw: str) -> None:
    bad = values.index[~good]
    if len(bad):
        result = f"{values.name} {values[bad[0]]!r:.80}"
        raise DataError(f"{path}:{bad[0] + 2}: {result} is {flaw} (such rows: {len(bad):,})")


def prepare_mmrec(dataset: str, folder: Path, raw: Path, settings: Mapping[str, Any], cached: Path) -> dict[str, Any]:
    """Convert a folder in MMRec's layout to pre-split atomic files, item vectors and a manifest, without filtering.

    Args:
        dataset: name of the data set.
        folder: empty folder for its files.
        raw: the folder in MMRec's layout.
        settings: the parameters under "Preparation", of which those of images apply.
        cached: folder of captions and vectors by item, as for :func:`make_modalities`.

    Returns:
        The manifest; its ``benchmark`` names the parts.

    Raises:
        DataError: a file, row or image cannot be used, or a ``.npy`` file has fewer rows than there are items.
        ConfigError: a parameter is set that does not apply, or gives a modality that the folder has.
    """
    started = perf_counter()
    inter, files = mmrec_files(raw)
    sources = [*mmrec_sources(raw), *item_sources(settings)]
    frame = read_mmrec(inter)
    items, modalities = _item_vectors(files, int(frame["item_id"].max()) + 1, inter)
    chosen, pictured = mmrec_settings(settings), Modalities(items)
    if chosen:
        pictured = make_modalities(items, None, settings, LocalEngine(settings), None, cached)
        if twice := modalities.keys() & pictured.vectors.keys():
            raise ConfigError(f"'{min(twice)}' is given twice: by {files[min(twice)]} and by 'images'")
        modalities |= pictured.vectors

    hashes = {}
    parts = [frame[frame["part"] == number].drop(columns="part") for number in range(len(PARTS))]
    for part, rows in zip(PARTS, parts, strict=True):
        name = f"{dataset}.{part}.inter"
        _write(folder / name, rows)
        hashes[name] = sha256(folder / name)
    write_item_features(folder / FOLDER, items, modalities)
    if pictured.captions:
        write_captions(folder / FOLDER, pictured)
    hashes |= {f"{FOLDER}/{name}.npy": sha256(folder / FOLDER / f"{name}.npy") for name in sorted(modalities)}
    mark = fingerprint(list(hashes.values()))
    others = [INDEX, CAPTIONS] if pictured.captions else [INDEX]
    hashes |= {f"{FOLDER}/{name}": sha256(folder / FOLDER / name) for name in others}
    manifest = {
        "format": FORMAT,
        "dataset": dataset,
        "benchmark": list(PARTS),
        "fingerprint": mark,
        "sources": sources,
        "malformed": {},
        "settings": chosen,
        "counts": [_counts(part, rows) for part, rows in zip(PARTS, parts, strict=True)],
        "statistics": dataset_statistics(pd.DataFrame({"timestamp": np.nan, **frame, "has_review": False})),
        "items": ItemFeatures(folder / FOLDER).described,
        **({"item_models": pictured.models} if pictured.models else {}),
        "files": hashes,
        "versions": versions(),
    }
    write_manifest(folder, dataset, manifest, {"prepare": perf_counter() - started, "encode": 0.0})
    return manifest


def _item_vectors(files: Mapping[str, Path], n_items: int, inter: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Ids of the items and their vectors by modality; rows beyond the largest item are ignored."""
    tables = {name: read_table(path) for name, path in files.items()}
    for name, table in tables.items():
        if len(table) < n_items:
            raise DataError(
                f"{files[name]} has {len(table):,} rows, the last for item {len(table) - 1}, "
                f"but {inter} names item {n_items - 1}"
            )
    items = [str(item) for item in range(n_items)]
    return items, {name: check_vectors(table[:n_items], items, files[name]) for name, table in tables.items()}


def _counts(step: str, rows: pd.DataFrame) -> dict[str, Any]:
    users, items = rows["user_id"].nunique(), rows["item_id"].nunique()
    return {"step": step, "users": users, "items": items, "interactions": len(rows), "rated": len(rows)}


def _write(path: Path, rows: pd.DataFrame) -> None:
    kinds = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
    table = rows[[name for name in kinds if name in rows]].rename(columns=lambda name: f"{name}:{kinds[name]}")
    with replacing(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False)
