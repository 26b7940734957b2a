"""Prepares a data set from raw reviews: atomic files, texts, word features and a manifest.

The manifest records the hash of every file and every setting, so a stale or damaged data set is detected and prepared
again. The old data set stays unchanged until the new one is complete. Since encoding takes most of the time, the shards
of an interrupted preparation, and a finished store of the same texts and settings, are reused.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from recbole_drex.data.items.item_features import FOLDER, INDEX, ItemFeatures, write_item_features
from recbole_drex.data.prepare.atomic_files import write_inter, write_items
from recbole_drex.data.prepare.engine import Engine, check_engine, opened_engine
from recbole_drex.data.prepare.filter import filter_reviews
from recbole_drex.data.prepare.item_modalities import (
    CAPTIONS,
    TEXT,
    check_item_settings,
    item_sources,
    make_modalities,
    write_captions,
)
from recbole_drex.data.prepare.manifest import (
    FORMAT,
    STORE_SETTINGS,
    TIMES,
    check_origin,
    check_sources,
    fingerprint,
    foreign_manifest,
    is_foreign,
    mmrec_settings,
    usable_manifest,
    versions,
    write_manifest,
)
from recbole_drex.data.prepare.mmrec import mmrec_sources, prepare_mmrec
from recbole_drex.data.prepare.official_split import official_rows
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.prepare.staging import CACHE, FEATURES, SHARDS, install, is_complete, staged
from recbole_drex.data.prepare.statistics import dataset_statistics
from recbole_drex.data.raw.item_images import fetch_images
from recbole_drex.data.raw.readers import read_items, read_reviews
from recbole_drex.data.raw.remote import RawFile, source
from recbole_drex.data.raw.spill import RawReviews
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.feature_store_writer import LEMMAS, StoreWriter
from recbole_drex.data.text.review_texts import TEXTS, write_texts
from recbole_drex.data.text.static_encoder import static_sources
from recbole_drex.data.text.tokenizer import known_share
from recbole_drex.errors import ConfigError, DataError, StorageError
from recbole_drex.utils.files import locked, read_json, remove_folder, safe_name, sha256

logger = logging.getLogger(__name__)

SHARD = 1024  # reviews per shard; an interruption loses the encoding of at most one shard
_SAMPLE = 200  # reviews that are sampled to check their language
_KNOWN = 0.6  # share of known words: above 90 % for English reviews in English, 35 % for German ones
_CONTENT = 2  # version, changed when the same texts and settings give other features


def prepare(
    dataset: str,
    data_path: str | Path,
    settings: Mapping[str, Any],
    sources: Sources,
    *,
    hashes: Mapping[str, str] | None = None,
    rebuild: bool = False,
    engine: str = "local",
    address: str | None = None,
    parts: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Prepare a data set, unless its manifest says that it is already prepared with these settings.

    Args:
        dataset: name of the data set; its files go to ``<data_path>/<dataset>/``.
        settings: the parameters under "Preparation" of ``properties/overall.yaml``.
        sources: raw files; without raw files, a prepared data set is only checked.
        hashes: required SHA-256 of raw files by name.
        rebuild: prepare and encode again even if nothing has changed.
        engine: ``local``, or ``ray`` for encoders on all cores or GPUs of a cluster; the files are the same.
        address: of the Ray cluster, see :func:`recbole_drex.parallel.ray_cluster.connected`; None starts one on this
            machine.
        parts: names of pre-split files, RecBole's ``benchmark_filename``, which are used unchanged.

    Returns:
        The manifest.

    Raises:
        DataError: raw files that cannot be read, have another hash or are empty after filtering, damaged prepared
            files, a full disk. A previously prepared data set is left unchanged.
        ConfigError: an illegal setting, an unknown engine, or no usable Ray.
    """
    check_engine(engine, address)
    folder = Path(data_path) / safe_name(dataset, "data set")
    settings = {key: settings[key] for key in sorted(settings)}
    split = parts is not None and not (folder / f"{dataset}.json").is_file()
    if not sources.given and (split or is_foreign(folder, dataset)):
        if settings["split"]:
            raise ConfigError(
                f"split: the atomic files in {folder} are used unchanged; name raw reviews with --raw FILE"
            )
        return foreign_manifest(folder, dataset, parts)
    if settings["fetch_images"] and not settings["images"]:
        settings = {**settings, "images": str(folder.parent / "raw" / f"images_{dataset}")}
    given = _described(settings, sources)
    if given:
        check_sources(given, hashes or {})
    moving = is_complete(folder, dataset)  # the files of a finished preparation are being installed, or this was killed
    stale = (
        f"data set '{dataset}' in {folder} was prepared with other settings or is incomplete; "
        "name its raw reviews with --raw FILE so that it can be prepared again"
    )

    def existing() -> dict[str, Any] | None:
        check_origin(folder, dataset, reviews=bool(sources.reviews), mmrec=bool(sources.mmrec))
        manifest = usable_manifest(folder, dataset, settings, given)
        if manifest is not None and not rebuild and parts is not None and manifest.get("benchmark") != list(parts):
            raise ConfigError(f"benchmark_filename: data set '{dataset}' was prepared and has no such parts")
        return manifest

    # A valid data set is only read, so its folder may be read-only.
    if not moving and not rebuild and (manifest := existing()) is not None:
        return manifest
    if not moving and not sources.given:
        raise DataError(stale)
    with locked(folder, f"data set '{dataset}'"):
        install(folder, dataset)  # files of an earlier preparation that was killed after it had finished
        manifest = existing()
        if manifest is not None and not rebuild:
            return manifest
        if not sources.given:
            raise DataError(stale)
        if rebuild:
            remove_folder(folder / CACHE)
        with staged(folder, dataset) as (work, made):
            if sources.mmrec:
                return prepare_mmrec(dataset, made, sources.mmrec, settings, folder / CACHE)
            with opened_engine(engine, address, settings) as opened:
                return _build(dataset, folder, work, made, settings, sources, given, rebuild, opened)


def _described(settings: Mapping[str, Any], sources: Sources) -> list[dict[str, Any]]:
    """Manifest entries of the available raw files; may be empty."""
    if sources.mmrec:
        if mmrec_settings(settings):
            check_item_settings(settings, sources)
        return [*mmrec_sources(sources.mmrec), *item_sources(settings)]
    if not sources.reviews:
        return []
    check_item_settings(settings, sources)
    return [source(path) for path in (*sources.reviews, sources.meta) if path] + [
        *({**source(path), "address": address} for address, path in sources.split.items()),
        *item_sources(settings),
        *map(source, static_sources(settings)),
    ]


def _build(
    dataset: str,
    folder: Path,
    work: Path,
    made: Path,
    settings: dict,
    sources: Sources,
    given: list[dict],
    rebuild: bool,
    engine: Engine,
) -> dict[str, Any]:
    started = perf_counter()
    raw = read_reviews(
        sources.reviews,
        work / "reviews.parquet",
        columns=settings["columns"],
        rating_range=settings["rating_range"],
        bad_line_share=settings["bad_line_share"],
        use_title=settings["use_title"],
        missing_rating=settings["missing_rating"],
        read=engine.read,
    )
    official = None
    if sources.split:
        official = official_rows(raw, list(sources.split.values()), work / "split.parquet", settings)
        frame, counts = official.frame, official.counts
    else:
        limits = {name: settings[name] for name in ("user_min", "item_min")}
        frame, counts = filter_reviews(raw.frame, **limits, keep=settings["rm_dup_inter"])
    items = _items(sources.meta, frame, settings) if sources.meta else None
    frame = frame.reset_index(drop=True)
    reviewed = np.flatnonzero(frame["has_review"].to_numpy())
    rows = frame["row"].to_numpy()[reviewed]
    _check_language(raw.texts(rows[:: 1 + len(rows) // _SAMPLE]), settings["language"])
    shards = [rows[start : start + SHARD] for start in range(0, len(rows), SHARD)]
    kept = sorted(frame["item_id"].astype(str).unique())
    making_vectors = perf_counter()
    if settings["fetch_images"]:
        assert sources.meta
        fetch_images(sources.meta, kept, Path(settings["images"]), columns=settings["item_columns"])
        given = _described(settings, sources)
    modalities = make_modalities(kept, items, settings, engine, None if rebuild else folder / FOLDER, folder / CACHE)
    encoding = perf_counter()
    features = _encode(dataset, folder, made, engine, raw, shards, settings, rebuild)
    encode_seconds = perf_counter() - encoding
    store = FeatureStore.open(features, verify=False)

    parts = official.parts if official and len(official.parts) > 1 else {}
    inters: dict[str, range | None] = {f"{dataset}.{name}.inter": rows for name, rows in parts.items()}
    inters = inters or {f"{dataset}.inter": None}
    for name, part in inters.items():
        write_inter(made / name, frame, reviewed, store, part)
    hashes = {name: sha256(made / name) for name in inters}
    if items is not None:
        write_items(made / f"{dataset}.item", items[items["item_id"].isin(kept)])
        hashes[f"{dataset}.item"] = sha256(made / f"{dataset}.item")
    hashes[f"{FEATURES}/features.json"] = sha256(features / "features.json")
    if modalities.vectors:
        write_item_features(made / FOLDER, modalities.items, modalities.vectors, modalities.signatures)
    if modalities.captions:
        write_captions(made / FOLDER, modalities)
    described = ItemFeatures(made / FOLDER).described
    vectors = {name: f"{FOLDER}/{name}.npy" for name in described}
    # The vectors of texts follow from the other files, unless a language model computes them.
    follows = settings["item_encoder"] is None and TEXT not in settings["item_features"]
    given_vectors = [file for name, file in vectors.items() if name != TEXT or not follows]
    hashes |= {file: sha256(made / file) for file in given_vectors}
    # Only files that models read; texts are only displayed.
    mark = fingerprint(list(hashes.values()))
    write_texts(made / TEXTS, (raw.texts(shard) for shard in shards))
    others = [TEXTS, *vectors.values(), *([f"{FOLDER}/{INDEX}"] if vectors else [])]
    others += [f"{FOLDER}/{CAPTIONS}"] if modalities.captions else []
    hashes |= {name: sha256(made / name) for name in others}
    manifest = {
        "format": FORMAT,
        "dataset": dataset,
        **({"benchmark": list(parts)} if parts else {}),
        "fingerprint": mark,
        "sources": given,
        "malformed": {
            source["name"]: source["bad_lines"] for source in (*raw.sources, *(official.sources if official else ()))
        },
        "settings": {key: value for key, value in settings.items() if (key, value) not in STORE_SETTINGS.items()},
        "counts": counts,
        "statistics": dataset_statistics(frame),
        "encoder": _described_encoder(engine),
        "words": len(store.word_ids),
        "vocabulary": len(store.vocabulary),
        "items": described,
        **({"item_models": modalities.models} if modalities.models else {}),
        "files": hashes,
        "versions": versions(),
    }
    # Not in the manifest, which is the same for the same data.
    item_seconds = encoding - making_vectors
    prepare_seconds = perf_counter() - started - item_seconds - encode_seconds
    times: dict[str, float | None] = {"prepare": prepare_seconds, "items": item_seconds, "encode": encode_seconds}
    if features == folder / FEATURES:
        # The duration of encoding the reused features, if known.
        times["encode"] = read_json(folder / TIMES)["encode"] if (folder / TIMES).is_file() else None
    write_manifest(made, dataset, manifest, times)
    return manifest


def _items(meta: RawFile, frame: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """The item file; warns if it describes none of the items that the filter keeps."""
    items = read_items(meta, columns=settings["item_columns"], bad_line_share=settings["bad_line_share"])
    kept = frame["item_id"].astype(str)
    if not kept.isin(items["item_id"]).any():
        logger.warning(
            f"{meta} describes none of the {kept.nunique():,} items of the reviews: its ids look like "
            f"'{items['item_id'].iloc[0]}', those of the reviews like '{kept.iloc[0]}'; "
            "name the column of the ids with --item_columns"
        )
    return items


def _check_language(texts: Sequence[str], language: str) -> None:
    """Warn if most words do not belong to the configured language."""
    share = known_share(texts, language)
    if share is not None and share < _KNOWN:
        logger.warning(
            f"{1 - share:.0%} of the words in the reviews do not belong to language '{language}': set it with "
            "--language, such as de. Languages without spaces between words (Chinese, Japanese, Thai) are not "
            "segmented: put spaces between their words first"
        )


def _encode(
    dataset: str,
    folder: Path,
    made: Path,
    engine: Engine,
    raw: RawReviews,
    shards: list[np.ndarray],
    settings: Mapping[str, Any],
    rebuild: bool,
) -> Path:
    """Make a feature store of the reviews at the rows ``shards`` of the spilled texts, unless it exists.

    Returns:
        The folder of the store: the new one in ``made``, or the existing one in ``folder``.
    """
    described, dtype = _described_encoder(engine), settings["store_dtype"]
    signature = hashlib.sha256(repr((_CONTENT, described, SHARD)).encode())
    most = []  # words that each shard has at most
    for shard in tqdm(shards, desc=f"{dataset}: reading reviews", delay=2):
        texts = raw.texts(shard)
        for text in texts:
            signature.update(text.encode("utf-8", "surrogatepass") + b"\0")
        most.append(sum(min(settings["max_length"], (len(text) + 1) // 2) for text in texts))
    if not rebuild and _holds(folder / FEATURES, signature.hexdigest(), dtype):
        return folder / FEATURES
    writer = StoreWriter(folder / SHARDS, engine.width, signature.hexdigest(), len(shards), dtype, engine.static)
    done = writer.done()
    missing = [index for index in range(len(shards)) if index not in done]
    if not engine.static:
        _check_space(writer, engine, lambda index: raw.texts(shards[index]), {index: most[index] for index in missing})
    encoded = engine.encode(lambda index: raw.texts(shards[index]), missing)
    title = f"{dataset}: encoding reviews"
    with tqdm(encoded, desc=title, unit=f"x{SHARD}", delay=2, total=len(shards), initial=len(done)) as progress:
        for index, reviews in progress:
            writer.write_shard(index, reviews)
    if engine.static:
        _embed(dataset, engine, writer)
    writer.finish(made / FEATURES, described)
    return made / FEATURES


def _check_space(
    writer: StoreWriter, engine: Engine, texts: Callable[[int], Sequence[str]], missing: Mapping[int, int]
) -> None:
    """Check that the disk has room for the vectors of words in the ``missing`` shards, by number of words at most."""
    stored, words = writer.words(), sum(missing.values())
    try:
        writer.check_space(words, stored + words)
    except StorageError:  # counting takes a few seconds a million words, so it is done only where it matters
        words = engine.count(texts, list(missing))
        writer.check_space(words, stored + words)


def _embed(dataset: str, engine: Engine, writer: StoreWriter) -> None:
    """Add the missing vectors of lemmas to a static store whose shards are all written."""
    parts, done = writer.lemmas(), writer.lemmas_done()
    missing = {number: lemmas for number, lemmas in enumerate(parts) if number not in done}
    writer.check_space(sum(map(len, missing.values())), sum(map(len, parts)))
    title = f"{dataset}: encoding lemmas"
    with tqdm(engine.embed(missing), desc=title, unit=f"x{LEMMAS}", delay=2, total=len(missing)) as progress:
        for number, vectors in progress:
            writer.write_lemmas(number, vectors)


def _described_encoder(engine: Engine) -> dict[str, Any]:
    """All settings that determine the word features, for the manifest."""
    encoder, words = engine.settings
    return {**encoder, **words}


def _holds(folder: Path, signature: str, dtype: str) -> bool:
    """Whether ``folder`` has a valid feature store with this signature and number type."""
    try:
        store = FeatureStore.open(folder)
    except DataError:  # absent or damaged
        return False
    return (store.signature, store.dtype) == (signature, dtype)
