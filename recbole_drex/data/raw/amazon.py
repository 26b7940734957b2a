"""Addresses of the Amazon Reviews data sets of 2023, 2018 and 2014, and of the official splits of 2023."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from recbole_drex.config.general_parameters import OFFICIAL_SPLITS
from recbole_drex.data.raw.download import download
from recbole_drex.errors import ConfigError, unknown_name

MIRROR = "RECBOLE_DREX_MIRROR"
"""Environment variable: address of a mirror with the files of each host in a folder of its name, as ``wget -x`` makes
them. It takes the place of all hosts."""

_UCSD = "https://mcauleylab.ucsd.edu/public_datasets/data/"
_HUGGING_FACE = "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/"
_STANFORD = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"

_ALL_YEARS = (
    "Automotive", "Books", "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry",
    "Digital_Music", "Electronics", "Grocery_and_Gourmet_Food", "Home_and_Kitchen", "Kindle_Store", "Movies_and_TV",
    "Musical_Instruments", "Office_Products", "Patio_Lawn_and_Garden", "Pet_Supplies", "Sports_and_Outdoors",
    "Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games",
)  # fmt: skip
_OF_2023 = (
    "All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Baby_Products",
    "Beauty_and_Personal_Care", "Gift_Cards", "Handmade_Products", "Health_and_Household",
    "Health_and_Personal_Care", "Industrial_and_Scientific", "Magazine_Subscriptions", "Software",
    "Subscription_Boxes", "Unknown",
)  # fmt: skip
_OF_2018 = (
    "AMAZON_FASHION", "All_Beauty", "Appliances", "Arts_Crafts_and_Sewing", "Gift_Cards",
    "Industrial_and_Scientific", "Luxury_Beauty", "Magazine_Subscriptions", "Prime_Pantry", "Software",
)  # fmt: skip
_OF_2014 = (
    "Amazon_Instant_Video", "Apps_for_Android", "Baby", "Beauty", "Health_and_Personal_Care",
)  # fmt: skip
_WITHOUT_5CORE = (
    "Amazon_Fashion", "Appliances", "Digital_Music", "Handmade_Products", "Health_and_Personal_Care",
    "Subscription_Boxes",
)  # fmt: skip

CATEGORIES: tuple[str, ...] = tuple(sorted((*_ALL_YEARS, *_OF_2023)))
"""The categories of Amazon Reviews 2023."""
DATASETS: tuple[str, ...] = (
    *CATEGORIES,
    *(f"{category}_2018" for category in (*_ALL_YEARS, *_OF_2018)),
    *(f"{category}_2014" for category in (*_ALL_YEARS, *_OF_2014)),
)
"""The data sets that can be downloaded: all reviews of a category (2023), or its 5-core (2018, 2014)."""


def of_same_year(dataset: str) -> list[str]:
    """The data sets of the year that a name ends with, 2023 without one: what a misspelt name may stand for.

    Example:
        >>> len(of_same_year("Beuty_2014")), len(of_same_year("Beuty_2018")), len(of_same_year("Beuty"))
        (24, 29, 34)
    """
    year = dataset[-5:]
    return [name for name in DATASETS if name.endswith(year)] if year in ("_2018", "_2014") else list(CATEGORIES)


def addresses(dataset: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Addresses of the reviews and of the items of a data set; the later ones are tried where the earlier ones fail.

    Args:
        dataset: one of :data:`DATASETS`.

    Raises:
        ConfigError: there is no such data set.

    Example:
        >>> addresses("Video_Games_2014")[0]
        ('https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_Video_Games_5.json.gz',)
    """
    if dataset not in DATASETS:
        raise ConfigError(unknown_name("data set", dataset, of_same_year(dataset)))
    category, year = dataset[:-5], dataset[-5:]
    if year == "_2014":
        return (f"{_STANFORD}reviews_{category}_5.json.gz",), (f"{_STANFORD}meta_{category}.json.gz",)
    if year == "_2018":
        folder = f"{_UCSD}amazon_v2/"
        return (f"{folder}categoryFilesSmall/{category}_5.json.gz",), (f"{folder}metaFiles2/meta_{category}.json.gz",)
    reviews, items = (
        (f"{_UCSD}amazon_2023/{name}.jsonl.gz", f"{_HUGGING_FACE}{name}.jsonl")
        for name in (f"raw/review_categories/{dataset}", f"raw/meta_categories/meta_{dataset}")
    )
    return reviews, items


def download_dataset(dataset: str, folder: str | Path) -> tuple[Path, Path]:
    """Download the reviews and the item descriptions of a data set.

    Args:
        dataset: one of :data:`DATASETS`.
        folder: where the files go.

    Returns:
        ``<folder>/<dataset>.jsonl.gz`` and ``<folder>/meta_<dataset>.jsonl.gz``; existing files are reused.

    Raises:
        ConfigError: there is no such data set.
        DownloadError: as :func:`~recbole_drex.data.raw.download.download`.
    """
    reviews, items = addresses(dataset)
    folder = Path(folder)
    return (
        download(_mirrored(reviews), folder / f"{dataset}.jsonl.gz"),
        download(_mirrored(items), folder / f"meta_{dataset}.jsonl.gz"),
    )


def split_addresses(dataset: str, split: str) -> list[tuple[str, ...]]:
    """Addresses of the files of an official split: training, validation and test, or one file (``rating_only``).

    Args:
        dataset: a category of 2023.
        split: one of :data:`~recbole_drex.config.general_parameters.OFFICIAL_SPLITS`.

    Raises:
        ConfigError: there is no such split of this data set; the message names those that there are.
    """
    if split not in OFFICIAL_SPLITS:
        raise ConfigError(unknown_name("value of 'split':", split, OFFICIAL_SPLITS))
    if dataset not in CATEGORIES:
        kind = "data set of Amazon Reviews 2023 with an official split:"
        raise ConfigError(unknown_name(kind, dataset, CATEGORIES, f"Leave out split: {split}, or choose one of them."))
    core, kind = split.removeprefix("official:").split("/")
    if core == "5core" and dataset in _WITHOUT_5CORE:
        raise ConfigError(f"split: '{dataset}' has no official 5-core; write split: official:0core/{kind}")
    names = [dataset] if kind == "rating_only" else [f"{dataset}.{part}" for part in ("train", "valid", "test")]
    paths = [f"benchmark/{core}/{kind}/{name}.csv" for name in names]
    return [(f"{_UCSD}amazon_2023/{path}.gz", f"{_HUGGING_FACE}{path}") for path in paths]


def download_split(dataset: str, split: str, folder: str | Path) -> dict[str, Path]:
    """Download the files of an official split to ``<folder>/benchmark/<core>/<kind>/``.

    Args:
        dataset, split: as for :func:`split_addresses`.
        folder: folder of raw files.

    Returns:
        The files by their first address, in the order of :func:`split_addresses`.

    Raises:
        ConfigError: as :func:`split_addresses`.
        DownloadError: as :func:`~recbole_drex.data.raw.download.download`.
    """
    target = Path(folder) / "benchmark" / split.removeprefix("official:")
    return {
        urls[0]: download(_mirrored(urls), target / urls[0].rpartition("/")[2])
        for urls in split_addresses(dataset, split)
    }


def _mirrored(urls: tuple[str, ...]) -> tuple[str, ...]:
    """The same files at the mirror, if there is one."""
    mirror = os.environ.get(MIRROR)
    return tuple(f"{mirror.rstrip('/')}/{urlsplit(url).netloc}{urlsplit(url).path}" for url in urls) if mirror else urls
