"""The manifest vouches for a prepared data set: it names the hash of every file and all that decided them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.errors import CheckpointError, ConfigError, DataError, DrexError, unknown_name
from recbole_drex.utils.checksums import check_sum, write_sums
from recbole_drex.utils.files import json_text, read_json, sha256, write_json

FORMAT = 3
_OLDER = (1, 2)  # without review texts (1) and without item vectors (1, 2), otherwise the same
ITEM_SETTINGS: dict[str, Any] = {"item_features": {}, "images": None, "image_encoder": None}
"""Parameters that older formats did not know, with the values that make no difference."""
STORE_SETTINGS: dict[str, Any] = {
    "store_dtype": "float16",
    "static_vectors": "minilm",
    "item_columns": None,
    "missing_rating": None,
    "language": "en",
}
"""Parameters that a manifest names only where they differ from this, so that manifests of older versions stay equal."""
TIMES = "seconds.json"
"""Beside the manifest: how long the preparation took."""
WORK = "work"
"""Folder in a data set's own that a preparation works in."""
PARTS = ("train", "valid", "test")
"""Parts of a data set that comes split, as in ``<dataset>.train.inter``."""
_LIBRARIES = ("numpy", "pandas", "torch", "transformers", "nltk", "simplemma", "recbole", "recbole_drex")

logger = logging.getLogger(__name__)


def interaction_files(folder: Path, dataset: str) -> list[Path]:
    """``<dataset>.inter`` or, where it is absent, those of ``<dataset>.<part>.inter`` that are there."""
    whole = folder / f"{dataset}.inter"
    parts = [folder / f"{dataset}.{part}.inter" for part in PARTS]
    return [whole] if whole.is_file() else [path for path in parts if path.is_file()]


def write_manifest(folder: Path, dataset: str, manifest: Mapping[str, Any], times: Mapping[str, Any]) -> None:
    """Write the times that a preparation took, the hash of the manifest, which names those of all other files, and the
    manifest; that comes last, since a data set is there when it is."""
    write_json(folder / TIMES, times)
    write_sums(folder, [], {f"{dataset}.json": hashlib.sha256(json_text(manifest).encode()).hexdigest()})
    write_json(folder / f"{dataset}.json", manifest)


def is_foreign(folder: Path, dataset: str) -> bool:
    """Whether there are atomic files that were not made here; a stopped preparation of ours has left its work."""
    ours = (folder / f"{dataset}.json").is_file() or (folder / "features").is_dir() or (folder / WORK).is_dir()
    return bool(interaction_files(folder, dataset)) and not ours


def foreign_manifest(folder: Path, dataset: str, parts: Sequence[str] | None = None) -> dict[str, Any]:
    """Atomic files that were not made by us (RecBole users' own): used as they are, with their split if they have one.

    Args:
        folder: of the data set.
        dataset: its name.
        parts: names of the training, validation and test part, where the user gives them (``benchmark_filename``).

    Raises:
        DataError: they are split, and a part is missing.
        ConfigError: ``parts`` are not three names.
    """
    manifest = {"format": FORMAT, "dataset": dataset, "statistics": None, "settings": None}
    whole = folder / f"{dataset}.inter"
    if parts is None and whole.is_file():
        return {**manifest, "fingerprint": sha256(whole)[:16]}
    names = list(PARTS if parts is None else parts)
    if len(names) != 3 or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"benchmark_filename must name a training, a validation and a test part, not {names}")
    files = [folder / f"{dataset}.{name}.inter" for name in names]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing: data set '{dataset}' is to be read as the parts {', '.join(names)}")
    return {**manifest, "fingerprint": fingerprint([sha256(path) for path in files]), "benchmark": names}


def check_sources(given: Sequence[Mapping[str, Any]], expected: Mapping[str, str]) -> None:
    """Refuse raw files that are not those that the user or the data set's YAML file names by their hash.

    Args:
        given: the raw files, as :func:`~recbole_drex.data.raw.remote.source` describes them.
        expected: SHA-256 by name, parameter ``raw_sha256``.

    Raises:
        DataError: a file has another hash.
        ConfigError: a name is none of the files'.
    """
    result = {one["name"]: one["sha256"] for one in given}
    for name, digest in expected.items():
        if name not in result:
            raise ConfigError(unknown_name("raw file in 'raw_sha256':", name, result))
        if result[name] != str(digest).lower():
            raise DataError(f"raw file {name} is another than 'raw_sha256' says: its SHA-256 is {result[name]}")


def fingerprint(hashes: Sequence[str]) -> str:
    """What results name: a hash over the hashes of the files that a model reads."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def versions() -> dict[str, str | None]:
    """Installed versions of the libraries that a preparation uses."""
    result: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            result[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            result[name] = None
    return result


def check_origin(folder: Path, dataset: str, *, reviews: bool, mmrec: bool) -> None:
    """Refuse to overwrite files of another origin than those that are to be prepared.

    Raises:
        DataError: atomic files that were not made here, or of a preparation from the other kind of source.
    """
    whole = (folder / f"{dataset}.inter").is_file() or (folder / "features").is_dir()
    if is_foreign(folder, dataset):
        inter = interaction_files(folder, dataset)[0]
        why = f"{inter} was not made from raw files here"
    elif mmrec and whole:
        why = f"data set '{dataset}' in {folder} was made from reviews"
    elif reviews and not whole and interaction_files(folder, dataset):
        why = f"data set '{dataset}' in {folder} was made from an MMRec folder"
    else:
        return
    raise DataError(f"{why} and is not overwritten; choose another name with --dataset")


def stored_settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters under "Preparation" that a data set was prepared with; none for one that was not made from
    reviews."""
    settings = manifest.get("settings")
    return {**ITEM_SETTINGS, **STORE_SETTINGS, **settings} if settings else {}


def reused_settings(folder: Path, dataset: str, settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The settings that a prepared data set is found again with: its own.

    Args:
        folder: of the data set.
        dataset: its name.
        settings: the parameters under "Preparation" as they are configured.
        given: names of those that the user has given, which must be the data set's own, too.

    Raises:
        DataError: one of them is another; the message names it and both values.
    """
    path = folder / f"{dataset}.json"
    if not path.is_file():
        return dict(settings)
    manifest = read_json(path, "manifest")
    then = stored_settings(manifest) if isinstance(manifest, dict) else {}
    then = {key: value for key, value in then.items() if key in settings}
    asked = {key: settings[key] if key in given else value for key, value in then.items()}
    _refuse_others(folder, dataset, then, asked)
    return {**settings, **then}


def _refuse_others(folder: Path, dataset: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if changes := _changes(then, now):
        raise DataError(
            f"data set '{dataset}' in {folder} was prepared with other settings ({changes}); leave them out to use it "
            "as it is, or name its raw reviews with --raw FILE so that it can be prepared again"
        )


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in now if now[key] != then.get(key)]
    return ", ".join(f"{key} was {then.get(key)!r} and is {now[key]!r}" for key in keys)


def usable_manifest(
    folder: Path, dataset: str, settings: Mapping[str, Any], given: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The manifest, if the data set is whole and was prepared so; None if it must be made again.

    Args:
        folder: of the data set.
        dataset: its name.
        settings: the parameters under "Preparation"; a data set with a split of its own knows none of them.
        given: the raw files at hand, as :func:`~recbole_drex.data.raw.remote.source` describes them; empty without any.

    Raises:
        DataError: it is damaged or was prepared with other settings, and there are no raw files to make it again.
        ConfigError: item vectors are asked for where only those of an MMRec folder can be had.
    """
    path = folder / f"{dataset}.json"
    if not path.is_file():
        return None
    try:
        check_sum(folder, path.name, remedy="")
        manifest = read_json(path, "manifest")
        # Without raw files nothing better can be had than a data set of an older format.
        if manifest["format"] != FORMAT and (given or manifest["format"] not in _OLDER):
            return None
        if "benchmark" in manifest:
            if manifest["benchmark"] != list(PARTS):
                raise DataError(f"manifest {path} names other parts than {', '.join(PARTS)}")
            refuse_item_settings(settings)
        elif (then := stored_settings(manifest)) != settings:
            if not given:
                _refuse_others(folder, dataset, then, settings)
            logger.warning("data set '%s' is prepared again: %s", dataset, _changes(then, settings))
            return None
        if given and manifest["sources"] != given:
            return None
        for name, expected in manifest["files"].items():
            if not (folder / name).is_file() or sha256(folder / name) != expected:
                raise DataError(f"{folder / name} is missing or damaged: its hash is not the manifest's")
        if "benchmark" not in manifest:
            # Without raw reviews the content of the features is checked when a model opens them.
            FeatureStore.open(folder / "features", verify=bool(given))
    except (DataError, CheckpointError, KeyError, TypeError, AttributeError) as error:
        if given:
            logger.warning("data set '%s' is prepared again: %s", dataset, error)
            return None
        if isinstance(error, DrexError):
            raise DataError(f"{error}. Prepare it again with --raw FILE") from error
        raise DataError(f"manifest {path} is damaged ({error!r}). Prepare it again with --raw FILE") from error
    return manifest


def refuse_item_settings(settings: Mapping[str, Any]) -> None:
    """Refuse parameters of item vectors for an MMRec folder, which brings its own.

    Raises:
        ConfigError: one of them is given; the message names it.
    """
    for name, default in ITEM_SETTINGS.items():
        if settings.get(name, default) != default:
            raise ConfigError(f"parameter '{name}' does not apply to an MMRec folder: its *_feat.npy are used")
