"""Item vectors of a preparation: from item texts, from images and their captions, and from files."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_drex.data.items.cache import Cache, cache_key
from recbole_drex.data.items.captioner import load_captioner, plain_caption
from recbole_drex.data.items.efficientnet import EFFICIENTNET
from recbole_drex.data.items.image_encoder import load_image_encoder
from recbole_drex.data.items.images import image_files, image_source
from recbole_drex.data.items.item_features import ItemFeatures, check_modality, check_vectors, read_table
from recbole_drex.data.items.text_encoder import load_text_encoder
from recbole_drex.data.prepare.engine import Engine
from recbole_drex.data.prepare.item_texts import encode_texts, item_texts, texts_signature
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.remote import source
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.utils.files import sha256, write_text

TEXT, IMAGE, CAPTION = "text", "image", "caption"
CAPTIONS = "captions.jsonl"
"""File next to the item vectors: the caption of each item that has an image, one JSON object a line."""
_IMAGES, _TEXTS = 16, 64  # images and texts that are encoded before their vectors are stored

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Modalities:
    """Vectors of the kept items.

    Attributes:
        items: ids of the items, in the order of the rows.
        vectors: by modality, (items, width) float32; a row of zeros if an item lacks it.
        signatures: by modality that is not cached by item, a hash of everything that determines the vectors.
        models: settings of the models that made captions and vectors, by modality; for the manifest.
        captions: of the items that have an image: ``item_id``, SHA-256 of the ``image``, ``caption`` (may be empty).
    """

    items: list[str]
    vectors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    signatures: dict[str, str] = dataclasses.field(default_factory=dict)
    models: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    captions: list[dict[str, str]] = dataclasses.field(default_factory=list)


def check_item_settings(settings: Mapping[str, Any], sources: Sources) -> None:
    """Check the parameters of item vectors against each other and against the raw files.

    Raises:
        ConfigError: ``item_features`` without an item file, or with an illegal or taken name or an illegal path;
            ``images`` without ``image_encoder`` and ``image_captioner``, or one of these without ``images``;
            ``fetch_images`` without an item file.
    """
    given = settings["item_features"]
    if given and not sources.meta:
        raise ConfigError("parameter 'item_features' needs an item file (--meta FILE) with the same order of rows")
    for name, path in given.items():
        check_modality(str(name))
        if not isinstance(path, str):
            raise ConfigError(f"parameter 'item_features': {name}: {path!r} is not the path of a .npy file")
    if settings["fetch_images"] and not sources.meta:
        raise ConfigError("parameter 'fetch_images' needs an item file (--meta FILE) with the addresses of images")
    if settings["images"] is None:
        if name := settings["image_captioner"]:
            raise ConfigError(f"parameter 'image_captioner' ({name}) needs 'images' or 'fetch_images'")
        return
    if not isinstance(settings["images"], str):
        raise ConfigError(f"parameter 'images' must be a folder of image files, not {settings['images']!r}")
    if not (settings["image_encoder"] or settings["image_captioner"]):
        raise ConfigError(
            f"parameter 'images' needs 'image_encoder' ({EFFICIENTNET}, a Hugging Face name or folder of a vision "
            "model) or 'image_captioner'"
        )
    for name, by in ((IMAGE, "image_encoder"), (CAPTION, "image_captioner")):
        if name in given and settings[by]:
            raise ConfigError(f"'{name}' is given twice: by 'item_features' and by 'images' with '{by}'")


def item_sources(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Manifest entries of the files that the parameters of item vectors name.

    Raises:
        DataError: one is missing.
    """
    files = [source(Path(path)) for _, path in sorted(settings["item_features"].items())]
    if not settings["images"] or (settings["fetch_images"] and not Path(settings["images"]).is_dir()):
        return files
    return [*files, image_source(Path(settings["images"]))]


def make_modalities(
    kept: Sequence[str],
    items: pd.DataFrame | None,
    settings: Mapping[str, Any],
    engine: Engine,
    earlier: Path | None,
    cached: Path,
) -> Modalities:
    """Vectors of the items that the filter keeps.

    Args:
        kept: their ids, in the order of the vectors' rows.
        items: all rows of the item file, from :func:`recbole_drex.data.raw.readers.read_items`.
        settings: the parameters under "Preparation", checked by :func:`check_item_settings`.
        engine: encodes texts.
        earlier: folder of item vectors that are reused if nothing has changed; None computes all again.
        cached: folder of captions and vectors by item, which an interrupted preparation leaves.

    Raises:
        DataError: a file cannot be used; the message names file and row.
        ConfigError: a parameter does not fit its model.
    """
    made = Modalities(list(kept))
    texts: dict[str, list[str]] = {}
    if items is not None and TEXT not in settings["item_features"]:
        texts[TEXT] = item_texts(items.set_index("item_id").reindex(made.items).fillna(""))
    if settings["images"]:
        files = image_files(Path(settings["images"]), made.items)
        if settings["image_captioner"]:
            texts[CAPTION] = _captions(made, files, settings, cached)
        if settings["image_encoder"]:
            made.vectors[IMAGE] = _image_vectors(made, files, settings["image_encoder"], cached)
    _add_texts(made, texts, settings, engine, earlier, cached)
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


def _add_texts(
    made: Modalities,
    texts: Mapping[str, list[str]],
    settings: Mapping[str, Any],
    engine: Engine,
    earlier: Path | None,
    cached: Path,
) -> None:
    texts = {name: each for name, each in texts.items() if any(each)}
    if texts and settings["item_encoder"]:
        encoder = load_text_encoder(settings["item_encoder"], settings["item_pooling"], settings["max_length"])
        cache = Cache(cached / "texts.jsonl")
        for name, each in texts.items():
            keys = [cache_key(encoder.settings, text) for text in each if text]
            title = f"encoding {name}s of items"
            vectors = cache.vectors([text for text in each if text], keys, encoder.encode, _TEXTS, title)
            made.vectors[name] = _with_zeros(vectors, [bool(text) for text in each])
            made.models.setdefault(name, {})["item_encoder"] = encoder.settings
    elif texts:
        before = _earlier(earlier)
        with engine.sentences() as reader:
            for name, each in texts.items():
                signature = texts_signature(made.items, each, reader)
                reused = before.reusable(name, signature) if before else None
                vectors = encode_texts(each, reader) if reused is None else reused
                if vectors.any():  # texts may have no kept words
                    made.vectors[name], made.signatures[name] = vectors, signature


def _image_vectors(made: Modalities, files: Sequence[Path | None], name: str, cached: Path) -> np.ndarray:
    encoder = load_image_encoder(name)
    made.models[IMAGE] = {"image_encoder": encoder.settings}
    paths = [path for path in files if path]
    keys = [cache_key(encoder.settings, sha256(path)) for path in paths]
    cache = Cache(cached / "images.jsonl")
    vectors = cache.vectors(paths, keys, encoder.encode, _IMAGES, "encoding images")
    return _with_zeros(vectors, [bool(path) for path in files])


def _captions(made: Modalities, files: Sequence[Path | None], settings: Mapping[str, Any], cached: Path) -> list[str]:
    """The captions of all items, "" for those without an image; also fills ``made.captions``."""
    captioner = load_captioner(settings["image_captioner"], settings["caption_prompt"])
    made.models[CAPTION] = {"image_captioner": captioner.settings}
    paths = {item: path for item, path in zip(made.items, files, strict=True) if path}
    images = {item: sha256(path) for item, path in paths.items()}
    keys = [cache_key(captioner.settings, image) for image in images.values()]
    answers = Cache(cached / CAPTIONS).texts(list(paths.values()), keys, captioner, "describing images")
    captions = {item: plain_caption(answer) for item, answer in zip(paths, answers, strict=True)}
    empty = [item for item, caption in captions.items() if not caption]
    if len(empty) == len(captions):
        raise DataError(
            f"parameter 'image_captioner': '{settings['image_captioner']}' returns no words for any of {len(empty):,} "
            f"images; its answer for {paths[empty[0]]} is {answers[0][:80]!r}. Give another model or 'caption_prompt'"
        )
    if empty:
        logger.warning(
            f"image captioner '{settings['image_captioner']}' returns no words for {len(empty):,} of {len(captions):,} "
            f"images, such as {paths[empty[0]]}: these items have no caption"
        )
    made.captions = [{"item_id": item, "image": images[item], "caption": caption} for item, caption in captions.items()]
    return [captions.get(item, "") for item in made.items]


def write_captions(folder: Path, made: Modalities) -> None:
    """Write :data:`CAPTIONS` to a folder, a line per item with an image, with the model and the prompt.

    Raises:
        StorageError: the folder cannot be written.
    """
    settings = made.models[CAPTION]["image_captioner"]
    model = {"model": settings["name"], "prompt": settings["prompt"]}
    lines = [json.dumps({**caption, **model}, ensure_ascii=False) + "\n" for caption in made.captions]
    write_text(folder / CAPTIONS, "".join(lines))


def _with_zeros(vectors: np.ndarray, there: Sequence[bool]) -> np.ndarray:
    result = np.zeros((len(there), vectors.shape[1]), dtype=np.float32)
    result[np.array(there)] = vectors
    return result
