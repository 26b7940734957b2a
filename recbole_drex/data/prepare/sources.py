"""Finds the raw files of a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from recbole_drex.data.prepare.manifest import interaction_files
from recbole_drex.data.raw.amazon import DATASETS, download_dataset, download_split, of_same_year, split_addresses
from recbole_drex.data.raw.demo import demo_raw
from recbole_drex.data.raw.remote import RawFile, raw_file, raw_files
from recbole_drex.errors import ConfigError, unknown_name
from recbole_drex.utils.files import safe_name


@dataclasses.dataclass(frozen=True)
class Sources:
    """Raw files of a data set; without any, the data set must already be prepared.

    Attributes:
        reviews: files of reviews.
        meta: file of item descriptions, next to ``reviews``.
        mmrec: a folder in MMRec's layout instead of both; see :mod:`recbole_drex.data.prepare.mmrec`.
        split: files of an official split by address, next to ``reviews``.
    """

    reviews: tuple[RawFile, ...] = ()
    meta: RawFile | None = None
    mmrec: Path | None = None
    split: Mapping[str, Path] = dataclasses.field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether there are raw files."""
        return bool(self.reviews or self.mmrec)


def find_sources(
    dataset: str,
    data_path: Path,
    raw: Sequence[str | Path] = (),
    meta: str | Path | None = None,
    raw_dir: str | None = None,
    split: str | None = None,
) -> Sources:
    """Find the raw reviews of ``dataset``, and the files of its official split.

    In this order: the files (or MMRec folder) that the user gives; ``<dataset>.jsonl.gz`` (and ``meta_...``) in
    ``raw_dir``; the generator of ``demo``; no files, if the data set is already prepared; the download of an Amazon
    Reviews category of 2023, 2018 or 2014.

    Args:
        dataset: name of the data set.
        data_path: folder of prepared data sets; generated and downloaded files go to its folder ``raw/``.
        raw: review files given by the user, by path or address (``s3://...``), or folders of Parquet files, as
            Spark writes them; or one folder in MMRec's layout.
        meta: item file given by the user.
        raw_dir: folder of raw files (environment variable ``RECBOLE_DREX_RAW``).
        split: parameter of that name.

    Raises:
        ConfigError: the name is not legal or unknown, an item file or a split is given for an MMRec folder, or the data
            set has no such split.
        DownloadError: the category or its split could not be downloaded.
    """
    if split:
        split_addresses(dataset, split)  # is there such a split?
    sources = _raw_sources(dataset, data_path, raw, meta, raw_dir)
    if not split or not sources.given:
        return sources
    if sources.mmrec:
        raise ConfigError(f"split: {split} does not apply to {sources.mmrec}: an MMRec folder has its own split")
    folder = Path(raw_dir) if raw_dir else data_path / "raw"
    return dataclasses.replace(sources, split=download_split(dataset, split, folder))


def _raw_sources(
    dataset: str, data_path: Path, raw: Sequence[str | Path], meta: str | Path | None, raw_dir: str | None
) -> Sources:
    safe_name(dataset, "data set")
    raw = [file for entry in raw for file in _expanded(entry)]
    if len(raw) == 1 and Path(raw[0]).is_dir():
        if meta:
            raise ConfigError(f"--meta does not apply to {raw[0]}: item vectors of an MMRec folder are its *_feat.npy")
        return Sources(mmrec=Path(raw[0]))
    if raw:
        return Sources(raw_files(raw), raw_file(meta) if meta else None)
    if raw_dir and (reviews := Path(raw_dir) / f"{dataset}.jsonl.gz").is_file():
        items = Path(raw_dir) / f"meta_{dataset}.jsonl.gz"
        return Sources((reviews,), items if items.is_file() else None)
    if dataset == "demo":
        made = demo_raw(data_path / "raw")
        return Sources((made["reviews"],), made["meta"])
    if interaction_files(data_path / dataset, dataset):
        return Sources()
    if dataset in DATASETS:
        reviews, items = download_dataset(dataset, Path(raw_dir) if raw_dir else data_path / "raw")
        return Sources((reviews,), items)
    prepared = [path.parent.name for path in data_path.glob("*/*.inter")]
    raise ConfigError(
        unknown_name(
            "data set", dataset, ["demo", *of_same_year(dataset), *prepared], "Or name a review file with --raw FILE."
        )
    )


def _expanded(entry: str | Path) -> Sequence[str | Path]:
    """The Parquet files in a folder, in alphabetical order; any other path, or a folder without any, unchanged."""
    folder = Path(entry)
    if not folder.is_dir() or any(folder.glob("*.inter")):
        return [entry]
    return sorted(path for path in folder.glob("*.parquet") if path.name[0] not in "._") or [entry]
