"""Raw reviews to a prepared data set: atomic files, texts, word features and a manifest that vouches for them.

The manifest is written last and names the hash of every file and every setting, so a stale or half-made data set is
noticed and made anew. Encoding is what takes time: shards of an interrupted preparation, and a finished store of the
same texts and settings, are used again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm

from recbole_drex.data.atomic import write_inter, write_items
from recbole_drex.data.demo import generate_demo
from recbole_drex.data.download import CATEGORIES, download_category
from recbole_drex.data.encoder import load_encoder
from recbole_drex.data.filter import filter_reviews
from recbole_drex.data.readers import RawReviews, read_items, read_reviews
from recbole_drex.data.statistics import dataset_statistics
from recbole_drex.data.store import FeatureStore, StoreWriter
from recbole_drex.data.text import TextProcessor
from recbole_drex.data.texts import TEXTS, write_texts
from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.files import locked, read_json, safe_name, sha256, write_json

FORMAT = 2
_WITHOUT_TEXTS = 1  # the format before it: no review texts, otherwise the same
TIMES = "seconds.json"
SHARD = 1024  # reviews; what an interruption can cost is the encoding of so many
_LIBRARIES = ("numpy", "pandas", "torch", "transformers", "nltk", "simplemma", "recbole", "recbole_drex")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Sources:
    """Raw files of a data set; no reviews means that only what is prepared already can be used."""

    reviews: tuple[Path, ...] = ()
    meta: Path | None = None


def find_sources(
    dataset: str,
    data_path: Path,
    raw: Sequence[str | Path] = (),
    meta: str | Path | None = None,
    raw_dir: str | None = None,
) -> Sources:
    """Where the raw reviews of ``dataset`` are.

    In this order: the files given; ``<dataset>.jsonl.gz`` (and ``meta_...``) in ``raw_dir``; the generator of ``demo``;
    the download of an Amazon Reviews 2023 category; nothing, if the data set is prepared already.

    Args:
        dataset: name of the data set.
        data_path: folder of prepared data sets; ``raw/`` in it takes generated and downloaded files.
        raw: review files given by the user.
        meta: item file given by the user.
        raw_dir: folder of raw files (environment variable ``RECBOLE_DREX_RAW``).

    Raises:
        ConfigError: the name is not legal, or nothing of that name is known.
        DownloadError: the category could not be downloaded.
    """
    safe_name(dataset, "data set")
    if raw:
        return Sources(tuple(Path(path) for path in raw), Path(meta) if meta else None)
    if raw_dir and (reviews := Path(raw_dir) / f"{dataset}.jsonl.gz").is_file():
        items = Path(raw_dir) / f"meta_{dataset}.jsonl.gz"
        return Sources((reviews,), items if items.is_file() else None)
    if dataset == "demo":
        made = generate_demo(data_path / "raw")
        return Sources((made["reviews"],), made["meta"])
    if (data_path / dataset / f"{dataset}.inter").is_file():
        return Sources()
    if dataset in CATEGORIES:
        reviews, items = download_category(dataset, Path(raw_dir) if raw_dir else data_path / "raw")
        return Sources((reviews,), items)
    prepared = [path.parent.name for path in data_path.glob("*/*.inter")]
    raise ConfigError(
        unknown_name("data set", dataset, ["demo", *CATEGORIES, *prepared], "Or name a review file with --raw FILE.")
    )


def prepare(
    dataset: str, data_path: str | Path, settings: Mapping[str, Any], sources: Sources, *, rebuild: bool = False
) -> dict[str, Any]:
    """Prepare a data set, unless its manifest says that it is prepared just so.

    Args:
        dataset: name of the data set; its files go to ``<data_path>/<dataset>/``.
        settings: the parameters under "Preparation" of ``properties/overall.yaml``.
        sources: raw files; without any, a prepared data set is only checked.
        rebuild: prepare and encode even what matches.

    Returns:
        The manifest.

    Raises:
        DataError: raw files that cannot be read or are emptied by the filter, damaged prepared files, a full disk. A
            data set that was prepared before is left as it was.
    """
    folder = Path(data_path) / safe_name(dataset, "data set")
    settings = {key: settings[key] for key in sorted(settings)}
    if not sources.reviews and _is_foreign(folder, dataset):
        return _foreign_manifest(folder, dataset)
    with locked(Path(data_path) / f".{dataset}.lock", f"data set '{dataset}'"):
        manifest = _usable_manifest(folder, dataset, settings, sources)
        if manifest is not None and not rebuild:
            return manifest
        if not sources.reviews:
            raise DataError(
                f"data set '{dataset}' in {folder} was prepared with other settings or is incomplete; "
                "name its raw reviews with --raw FILE so that it can be prepared anew"
            )
        work = folder / "work"
        try:
            return _build(dataset, folder, work, settings, sources, rebuild)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _usable_manifest(folder: Path, dataset: str, settings: dict, sources: Sources) -> dict[str, Any] | None:
    """The manifest, if the data set is whole and was prepared so; an error where it is not and cannot be made anew."""
    path = folder / f"{dataset}.json"
    if _is_foreign(folder, dataset):
        raise DataError(
            f"{folder / dataset}.inter was not made from raw reviews here and is not overwritten; "
            "choose another name with --dataset"
        )
    if not path.is_file():
        return None
    given = [_source(source) for source in (*sources.reviews, sources.meta) if source]
    try:
        manifest = read_json(path, "manifest")
        # Without raw files nothing better can be had than a data set without texts.
        if manifest["format"] != FORMAT and (given or manifest["format"] != _WITHOUT_TEXTS):
            return None
        if manifest["settings"] != settings:
            return None
        if given and manifest["sources"] != given:
            return None
        for name, expected in manifest["files"].items():
            if not (folder / name).is_file() or sha256(folder / name) != expected:
                raise DataError(f"{folder / name} is missing or damaged: its hash is not the manifest's")
        # Without raw reviews the content of the features is checked when a model opens them.
        FeatureStore.open(folder / "features", verify=bool(sources.reviews))
    except (DataError, KeyError, TypeError, AttributeError) as error:
        if sources.reviews:
            logger.warning("data set '%s' is prepared anew: %s", dataset, error)
            return None
        if isinstance(error, DataError):
            raise DataError(f"{error}. Prepare it anew with --raw FILE") from error
        raise DataError(f"manifest {path} is damaged ({error!r}). Prepare it anew with --raw FILE") from error
    return manifest


def _is_foreign(folder: Path, dataset: str) -> bool:
    """Whether there are atomic files of somebody else; a stopped preparation of ours has left word features."""
    ours = (folder / f"{dataset}.json").is_file() or (folder / "features").is_dir()
    return (folder / f"{dataset}.inter").is_file() and not ours


def _foreign_manifest(folder: Path, dataset: str) -> dict[str, Any]:
    """Atomic files that were not made by us (RecBole users' own): used as they are."""
    digest = sha256(folder / f"{dataset}.inter")
    return {"format": FORMAT, "dataset": dataset, "fingerprint": digest[:16], "statistics": None, "settings": None}


def _source(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"no such raw file: {path}")
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _build(dataset: str, folder: Path, work: Path, settings: dict, sources: Sources, rebuild: bool) -> dict[str, Any]:
    started = perf_counter()
    fingerprints = [_source(path) for path in (*sources.reviews, sources.meta) if path]
    raw = read_reviews(
        sources.reviews,
        work / "reviews.parquet",
        columns=settings["columns"],
        rating_range=tuple(settings["rating_range"]),
        bad_line_share=settings["bad_line_share"],
        use_title=settings["use_title"],
    )
    frame, counts = filter_reviews(raw.frame, user_min=settings["user_min"], item_min=settings["item_min"])
    items = read_items(sources.meta) if sources.meta else None
    frame = frame.reset_index(drop=True)
    reviewed = np.flatnonzero(frame["has_review"].to_numpy())
    rows = frame["row"].to_numpy()[reviewed]
    shards = [rows[start : start + SHARD] for start in range(0, len(rows), SHARD)]
    encoding = perf_counter()
    encoder, encoded = _encode(dataset, folder, settings, raw, shards, rebuild)
    encode_seconds = perf_counter() - encoding
    store = FeatureStore.open(folder / "features", verify=False)

    # From here on files of an older preparation are replaced: without a manifest nobody trusts them.
    (folder / f"{dataset}.json").unlink(missing_ok=True)
    write_inter(folder / f"{dataset}.inter", frame, reviewed, store)
    files = [f"{dataset}.inter"]
    if items is not None:
        write_items(folder / f"{dataset}.item", items[items["item_id"].isin(frame["item_id"].astype(str))])
        files.append(f"{dataset}.item")
    files.append("features/features.json")
    hashes = {name: sha256(folder / name) for name in files}
    # What a model is given; the texts are only shown.
    fingerprint = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()[:16]
    write_texts(folder / TEXTS, (raw.texts(shard) for shard in shards))
    hashes[TEXTS] = sha256(folder / TEXTS)
    manifest = {
        "format": FORMAT,
        "dataset": dataset,
        "fingerprint": fingerprint,
        "sources": fingerprints,
        "malformed": {source["name"]: source["bad_lines"] for source in raw.sources},
        "settings": settings,
        "counts": counts,
        "statistics": dataset_statistics(frame),
        "encoder": encoder,
        "words": len(store.word_ids),
        "vocabulary": len(store.vocabulary),
        "files": hashes,
        "versions": {name: _version(name) for name in _LIBRARIES},
    }
    # Beside the manifest, which is the same for the same data however long it took.
    times: dict[str, float | None] = {"prepare": perf_counter() - started - encode_seconds, "encode": encode_seconds}
    if not encoded:
        # What it took to encode the features that are used again, if that is known.
        times["encode"] = read_json(folder / TIMES)["encode"] if (folder / TIMES).is_file() else None
    write_json(folder / TIMES, times)
    write_json(folder / f"{dataset}.json", manifest)
    return manifest


def _encode(
    dataset: str, folder: Path, settings: dict, raw: RawReviews, shards: list[np.ndarray], rebuild: bool
) -> tuple[dict[str, Any], bool]:
    """Fill the feature store with the reviews at the rows ``shards`` of the spilled texts, unless it holds them.

    Returns:
        The encoder's settings, and whether anything was encoded.
    """
    encoder = load_encoder(
        settings["encoder"],
        precision=settings["precision"],
        max_length=settings["max_length"],
        encode_text=settings["encode_text"],
    )
    processor = TextProcessor(settings["lemmatizer"])
    described = {**encoder.settings, **processor.settings}
    signature = hashlib.sha256(repr((described, SHARD)).encode())
    for shard in tqdm(shards, desc=f"{dataset}: reading reviews", delay=2):
        for text in raw.texts(shard):
            signature.update(text.encode("utf-8", "surrogatepass") + b"\0")
    if not rebuild and _holds(folder / "features", signature.hexdigest()):
        return described, False
    writer = StoreWriter(folder / "features", encoder.width, signature.hexdigest(), len(shards))
    done = writer.done()
    for index, shard in enumerate(tqdm(shards, desc=f"{dataset}: encoding reviews", unit=f"x{SHARD}", delay=2)):
        if index in done:
            continue
        words = [processor(text) for text in raw.texts(shard)]
        vectors = encoder.encode(words)
        lemmas = [review.lemmas[: len(vector)] for review, vector in zip(words, vectors, strict=True)]
        writer.write_shard(index, vectors, lemmas)
    writer.finish(described)
    return described, True


def _holds(folder: Path, signature: str) -> bool:
    """Whether a whole feature store of this signature lies in ``folder``."""
    try:
        return FeatureStore.open(folder).signature == signature
    except DataError:  # absent or damaged: made anew, as if it had never been
        return False


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
