"""Item vectors of a preparation: from item texts, from images, and from files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_drex.data.items.image_encoder import image_files, image_source, load_image_encoder
from recbole_drex.data.items.item_features import ItemFeatures, check_modality, check_vectors, read_table
from recbole_drex.data.prepare.engine import Engine
from recbole_drex.data.prepare.item_texts import encode_texts, item_texts, texts_signature
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.remote import source
from recbole_drex.errors import ConfigError, DataError

TEXT, IMAGE = "text", "image"


@dataclasses.dataclass
class Modalities:
    """Vectors of the kept items.

    Attributes:
        items: ids of the items, in the order of the rows.
        vectors: by modality, (items, width) float32; a row of zeros if an item lacks it.
        signatures: by encoded modality, a hash of everything that determines the vectors.
    """

    items: list[str]
    vectors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    signatures: dict[str, str] = dataclasses.field(default_factory=dict)


def check_item_settings(settings: Mapping[str, Any], sources: Sources) -> None:
    """Check the parameters of item vectors against each other and against the raw files.

    Raises:
        ConfigError: ``item_features`` without an item file, or with an illegal or taken name or an illegal path;
            ``images`` without ``image_encoder``.
    """
    given = settings["item_features"]
    if given and not sources.meta:
        raise ConfigError("parameter 'item_features' needs an item file (--meta FILE) with the same order of rows")
    for name, path in given.items():
        check_modality(str(name))
        if not isinstance(path, str):
            raise ConfigError(f"parameter 'item_features': {name}: {path!r} is not the path of a .npy file")
    if settings["images"] is None:
        return
    if not isinstance(settings["images"], str):
        raise ConfigError(f"parameter 'images' must be a folder of image files, not {settings['images']!r}")
    if not isinstance(settings["image_encoder"], str):
        raise ConfigError("parameter 'images' needs 'image_encoder': a Hugging Face name or folder of a vision model")
    if IMAGE in given:
        raise ConfigError(f"'{IMAGE}' is given twice: by 'item_features' and by 'images'")


def item_sources(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Manifest entries of the files that the parameters of item vectors name.

    Raises:
        DataError: one is missing.
    """
    files = [source(Path(path)) for _, path in sorted(settings["item_features"].items())]
    return files + ([image_source(Path(settings["images"]))] if settings["images"] else [])


def make_modalities(
    kept: Sequence[str],
    items: pd.DataFrame | None,
    settings: Mapping[str, Any],
    engine: Engine,
    earlier: Path | None,
) -> Modalities:
    """Vectors of the items that the filter keeps.

    Args:
        kept: their ids.
        items: all rows of the item file, from :func:`recbole_drex.data.raw.readers.read_items`.
        settings: the parameters under "Preparation", checked by :func:`check_item_settings`.
        engine: encodes texts.
        earlier: folder of item vectors that are reused if nothing has changed; None computes all again.

    Raises:
        DataError: a file cannot be used; the message names file and row.
        ConfigError: the image encoder is unknown.
    """
    made = Modalities(sorted(kept))
    before = _earlier(earlier)
    if items is not None and TEXT not in settings["item_features"]:
        with engine.sentences() as reader:
            _add_texts(made, items, reader, before)
    if settings["images"]:
        _add_images(made, Path(settings["images"]), settings["image_encoder"], before)
    for name, path in sorted(settings["item_features"].items()):
        assert items is not None
        ids = items["item_id"].tolist()
        index = {item: row for row, item in enumerate(ids)}
        rows = np.array([index.get(item, -1) for item in made.items])
        vectors = np.where(rows[:, None] >= 0, check_vectors(read_table(path), ids, path)[rows], np.float32(0))
        if not vectors.any():
            raise DataError(f"{path} has only zeros for the {len(rows):,} items that the filter keeps")
        made.vectors[name] = vectors
    return made


def _earlier(folder: Path | None) -> ItemFeatures | None:
    try:
        return None if folder is None else ItemFeatures(folder)
    except DataError:  # damaged: computed again
        return None


def _add_texts(made: Modalities, items: pd.DataFrame, engine: Engine, before: ItemFeatures | None) -> None:
    described = items.set_index("item_id").reindex(made.items).fillna("")
    texts = item_texts(described)
    if not any(texts):
        return
    signature = texts_signature(made.items, texts, engine)
    vectors = before.reusable(TEXT, signature) if before else None
    if vectors is None:
        vectors = encode_texts(texts, engine)
    if vectors.any():  # texts may have no kept words
        made.vectors[TEXT], made.signatures[TEXT] = vectors, signature


def _add_images(made: Modalities, folder: Path, name: str, before: ItemFeatures | None) -> None:
    files = image_files(folder, made.items)
    encoder = load_image_encoder(name)
    signature = encoder.signature(files)
    vectors = before.reusable(IMAGE, signature) if before else None
    made.vectors[IMAGE] = encoder.encode(files) if vectors is None else vectors
    made.signatures[IMAGE] = signature
