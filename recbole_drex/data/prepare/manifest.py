"""The manifest of a prepared data set: the hashes of all files and everything that determined their content."""

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
"""Parameters that older formats lack, with the values that correspond to those formats."""
IMAGE_SETTINGS: dict[str, Any] = {
    "fetch_images": False,
    "image_captioner": None,
    "caption_prompt": None,
    "item_encoder": None,
    "item_pooling": "mean",
}
MMREC_SETTINGS = (
    "images",
    "image_encoder",
    "image_captioner",
    "caption_prompt",
    "item_encoder",
    "item_pooling",
    "max_length",
)
"""Parameters that apply to an MMRec folder, if it comes with images."""
STORE_SETTINGS: dict[str, Any] = {
    "store_dtype": "float16",
    "static_vectors": "minilm",
    "item_columns": None,
    "missing_rating": None,
    "language": "en",
    "encoder_engine": "auto",
    "split": None,
    "rm_dup_inter": "last",
    **IMAGE_SETTINGS,
}
"""Parameters that a manifest names only if they differ from these, so that it equals that of an older version."""
TIMES = "seconds.json"
"""File next to the manifest: the duration of the preparation."""
WORK = "work"
"""Working folder of a preparation inside the data set's folder."""
PARTS = ("train", "valid", "test")
"""Parts of a pre-split data set, as in ``<dataset>.train.inter``."""
_LIBRARIES = ("numpy", "pandas", "torch", "transformers", "nltk", "simplemma", "openvino", "recbole", "recbole_drex")

logger = logging.getLogger(__name__)


def interaction_files(folder: Path, dataset: str) -> list[Path]:
    """``<dataset>.inter`` or, if it is absent, the existing files ``<dataset>.<part>.inter``."""
    whole = folder / f"{dataset}.inter"
    parts = [folder / f"{dataset}.{part}.inter" for part in PARTS]
    return [whole] if whole.is_file() else [path for path in parts if path.is_file()]


def write_manifest(folder: Path, dataset: str, manifest: Mapping[str, Any], times: Mapping[str, Any]) -> None:
    """Write the durations, the hash of the manifest (which contains the hashes of all other files), and the manifest.

    The manifest is last, since its existence means that the data set is complete."""
    write_json(folder / TIMES, times)
    write_sums(folder, [], {f"{dataset}.json": hashlib.sha256(json_text(manifest).encode()).hexdigest()})
    write_json(folder / f"{dataset}.json", manifest)


def is_foreign(folder: Path, dataset: str) -> bool:
    """Whether there are atomic files that were not prepared (or partly prepared) by this package."""
    ours = (folder / f"{dataset}.json").is_file() or (folder / "features").is_dir() or (folder / WORK).is_dir()
    return bool(interaction_files(folder, dataset)) and not ours


def foreign_manifest(folder: Path, dataset: str, parts: Sequence[str] | None = None) -> dict[str, Any]:
    """Manifest for atomic files from elsewhere (RecBole users' own files), which are used unchanged.

    Args:
        folder: of the data set.
        dataset: its name.
        parts: names of the training, validation and test part, if the user gives them (``benchmark_filename``).

    Raises:
        DataError: the files are split, and a part is missing.
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
            raise DataError(f"{file} is missing: data set '{dataset}' is read as the parts {', '.join(names)}")
    return {**manifest, "fingerprint": fingerprint([sha256(path) for path in files]), "benchmark": names}


def check_sources(given: Sequence[Mapping[str, Any]], expected: Mapping[str, str]) -> None:
    """Check the hashes of raw files against those that the user or the data set's YAML file sets.

    Args:
        given: the raw files, from :func:`~recbole_drex.data.raw.remote.source`.
        expected: SHA-256 by name, parameter ``raw_sha256``.

    Raises:
        DataError: a file has another hash.
        ConfigError: there is no file of this name.
    """
    hashes = {one["name"]: one["sha256"] for one in given}
    for name, digest in expected.items():
        if name not in hashes:
            raise ConfigError(unknown_name("raw file in 'raw_sha256':", name, hashes))
        if hashes[name] != str(digest).lower():
            raise DataError(f"raw file {name} differs from 'raw_sha256': its SHA-256 is {hashes[name]}")


def fingerprint(hashes: Sequence[str]) -> str:
    """The fingerprint that results record: a hash over the hashes of the files that a model reads."""
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
    """Refuse to overwrite files of another origin.

    Raises:
        DataError: there are atomic files from elsewhere, or from a preparation with the other kind of source.
    """
    whole = (folder / f"{dataset}.inter").is_file() or (folder / "features").is_dir()
    if is_foreign(folder, dataset):
        inter = interaction_files(folder, dataset)[0]
        why = f"{inter} was not prepared from raw files"
    elif mmrec and whole:
        why = f"data set '{dataset}' in {folder} was prepared from reviews"
    elif reviews and not whole and interaction_files(folder, dataset):
        why = f"data set '{dataset}' in {folder} was prepared from an MMRec folder"
    else:
        return
    raise DataError(f"{why} and is not overwritten; choose another name with --dataset")


def stored_settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters under "Preparation" of a prepared data set; empty if it was not prepared from reviews."""
    settings = manifest.get("settings")
    return {**ITEM_SETTINGS, **STORE_SETTINGS, **settings} if settings else {}


def reused_settings(folder: Path, dataset: str, settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The settings with those of the prepared data set, so that it is used again.

    Args:
        folder: of the data set.
        dataset: its name.
        settings: the configured parameters under "Preparation".
        given: names of the parameters that the user has set; they must equal those of the data set.

    Raises:
        DataError: one of them differs; the message names it and both values.
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
            "unchanged, or name its raw reviews with --raw FILE to prepare it again"
        )


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in now if now[key] != then.get(key)]
    return ", ".join(f"{key} was {then.get(key)!r} and is {now[key]!r}" for key in keys)


def usable_manifest(
    folder: Path, dataset: str, settings: Mapping[str, Any], given: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The manifest, if the data set is complete and has these settings; None if it must be prepared again.

    Args:
        folder: of the data set.
        dataset: its name.
        settings: the parameters under "Preparation"; ignored for data sets from an MMRec folder.
        given: the available raw files, from :func:`~recbole_drex.data.raw.remote.source`; may be empty.

    Raises:
        DataError: it is damaged or was prepared with other settings, and there are no raw files.
        ConfigError: parameters of item vectors or a split are set for an MMRec folder.
    """
    path = folder / f"{dataset}.json"
    if not path.is_file():
        return None
    try:
        check_sum(folder, path.name, remedy="")
        manifest = read_json(path, "manifest")
        # Without raw files, a data set of an older format is used.
        if manifest["format"] != FORMAT and (given or manifest["format"] not in _OLDER):
            return None
        if manifest.get("benchmark", list(PARTS)) != list(PARTS):
            raise DataError(f"manifest {path} names other parts than {', '.join(PARTS)}")
        of_mmrec = "benchmark" in manifest and "split" not in (manifest["settings"] or {})
        if of_mmrec:
            none = dict.fromkeys(MMREC_SETTINGS)
            then, settings = manifest["settings"] or none, mmrec_settings(settings) or none
        else:
            then = stored_settings(manifest)
        if then != settings:
            if not given:
                _refuse_others(folder, dataset, then, settings)
            logger.warning("data set '%s' is prepared again: %s", dataset, _changes(then, settings))
            return None
        if given and manifest["sources"] != given:
            return None
        for name, expected in manifest["files"].items():
            if not (folder / name).is_file() or sha256(folder / name) != expected:
                raise DataError(f"{folder / name} is missing or damaged: its hash is not the manifest's")
        if not of_mmrec:
            # Without raw reviews, the content of the features is checked when a model opens them.
            FeatureStore.open(folder / "features", verify=bool(given))
    except (DataError, CheckpointError, KeyError, TypeError, AttributeError) as error:
        if given:
            logger.warning("data set '%s' is prepared again: %s", dataset, error)
            return None
        if isinstance(error, DrexError):
            raise DataError(f"{error}. Prepare it again with --raw FILE") from error
        raise DataError(f"manifest {path} is damaged ({error!r}). Prepare it again with --raw FILE") from error
    return manifest


def mmrec_settings(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameters that shape a data set from an MMRec folder; None if it has no images besides its ``*_feat.npy``.

    Raises:
        ConfigError: a parameter is set that does not apply to such a folder; the message names it.
    """
    for name in ("item_features", "fetch_images", "split"):
        if settings.get(name):
            raise ConfigError(
                f"parameter '{name}' does not apply to an MMRec folder: its *_feat.npy and its x_label are used"
            )
    if not settings.get("images"):
        return None
    if settings["image_captioner"] and not settings["item_encoder"]:
        raise ConfigError("parameter 'image_captioner' needs 'item_encoder' for an MMRec folder, which has no texts")
    return {name: settings[name] for name in MMREC_SETTINGS}
