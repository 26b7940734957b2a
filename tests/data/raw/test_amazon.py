"""The data sets of Amazon Reviews by name, from a server on this machine that has the files of all hosts."""

from __future__ import annotations

import gzip
import json

import pytest
from file_server import serving

from recbole_drex.data.prepare.sources import find_sources
from recbole_drex.data.raw.amazon import CATEGORIES, DATASETS, MIRROR, addresses, download_dataset, split_addresses
from recbole_drex.data.raw.readers import read_items, read_reviews
from recbole_drex.errors import ConfigError, DownloadError

UCSD = "/mcauleylab.ucsd.edu/public_datasets/data/"
HUGGING_FACE = "/huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/"
STANFORD = "/snap.stanford.edu/data/amazon/productGraph/categoryFiles/"

OF_2018 = {
    "overall": 5.0, "vote": "1,234", "verified": True, "reviewTime": "03 1, 2014", "reviewerID": "A1", "asin": "B1",
    "style": {"Format:": " DVD"}, "reviewerName": "x", "reviewText": "Good fun.", "summary": "Fun",
    "unixReviewTime": 1393632000, "image": ["https://images.example/1.jpg"],
}  # fmt: skip
ITEM_2018 = {
    "category": ["Video Games", "PC"], "description": ["A puzzle."], "title": "Chess", "brand": "Ravens",
    "feature": ["For two."], "asin": "B1", "imageURLHighRes": [],
}  # fmt: skip
OF_2014 = {
    "reviewerID": "A1", "asin": "B1", "reviewerName": "x", "helpful": [8, 12], "reviewText": "Good fun.",
    "overall": 5.0, "summary": "Fun", "unixReviewTime": 1393632000, "reviewTime": "03 1, 2014",
}  # fmt: skip
ITEM_2014 = {
    "asin": "B1", "title": "Chess: the king's game", "imUrl": "http://images.example/1.jpg", "brand": "Ravens",
    "categories": [["Video Games", "PC"]], "description": "A puzzle.", "salesRank": {"Toys": 3},
}  # fmt: skip


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as http:
        monkeypatch.setenv(MIRROR, http.url + "/")
        yield http


def packed(row, text=json.dumps) -> bytes:
    return gzip.compress(f"{text(row)}\n".encode())


def test_names_and_addresses():
    assert (len(CATEGORIES), len(set(DATASETS))) == (34, 34 + 29 + 24)
    assert addresses("Video_Games") == (
        (
            "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/review_categories/Video_Games.jsonl.gz",
            "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/raw/review_categories/"
            "Video_Games.jsonl",
        ),
        (
            "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/meta_categories/meta_Video_Games.jsonl.gz",
            "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/raw/meta_categories/"
            "meta_Video_Games.jsonl",
        ),
    )
    with pytest.raises(ConfigError, match="did you mean 'Video_Games_2014'"):
        addresses("Video_Gmes_2014")
    cores = [name for name in CATEGORIES if name not in _without_5core()]
    assert len(cores) == 28


def _without_5core() -> list[str]:
    without = []
    for name in CATEGORIES:
        try:
            split_addresses(name, "official:5core/last_out")
        except ConfigError as error:
            assert "write split: official:0core/last_out" in str(error)
            without.append(name)
        assert len(split_addresses(name, "official:0core/last_out")) == 3
    return without


def test_files_of_2023_and_their_second_address(server, tmp_path):
    row = {"rating": 4.0, "title": "Fun", "text": "Good fun.", "asin": "B1", "parent_asin": "P1", "user_id": "A1"}
    item = {"parent_asin": "P1", "title": "Chess", "store": "Ravens", "features": ["For two."], "description": []}
    server.remote.files = {
        f"{UCSD}amazon_2023/raw/review_categories/Software.jsonl.gz": packed(row),
        f"{HUGGING_FACE}raw/meta_categories/meta_Software.jsonl": json.dumps(item).encode(),
    }
    reviews, items = download_dataset("Software", tmp_path)
    assert (reviews.name, items.name) == ("Software.jsonl.gz", "meta_Software.jsonl.gz")
    assert server.remote.paths == [
        f"{UCSD}amazon_2023/raw/review_categories/Software.jsonl.gz",
        f"{UCSD}amazon_2023/raw/meta_categories/meta_Software.jsonl.gz",
        f"{HUGGING_FACE}raw/meta_categories/meta_Software.jsonl",
    ]
    assert read_reviews(reviews, tmp_path / "s.parquet").frame["item_id"].tolist() == ["P1"]
    assert read_items(items).to_numpy().tolist() == [["P1", "Chess", "", "", "Ravens", "For two."]]


def test_a_category_that_no_address_has_names_both(server, tmp_path):
    server.remote.files = {"/": b""}
    with pytest.raises(DownloadError) as caught:
        download_dataset("Software", tmp_path)
    text = str(caught.value)
    assert f"{server.url}{UCSD}" in text and f", nor from {server.url}{HUGGING_FACE}" in text and text.count("404") == 2
    assert f"save it as Software.jsonl.gz in {tmp_path}" in text and "\n" not in text


@pytest.mark.parametrize(
    "year, files",
    [
        (
            2018,
            {
                f"{UCSD}amazon_v2/categoryFilesSmall/Video_Games_5.json.gz": packed(OF_2018),
                f"{UCSD}amazon_v2/metaFiles2/meta_Video_Games.json.gz": packed(ITEM_2018),
            },
        ),
        (
            2014,
            {
                f"{STANFORD}reviews_Video_Games_5.json.gz": packed(OF_2014),
                f"{STANFORD}meta_Video_Games.json.gz": packed(ITEM_2014, repr),
            },
        ),
    ],
)
def test_sets_of_earlier_years_by_name(server, tmp_path, year, files):
    server.remote.files = files
    sources = find_sources(f"Video_Games_{year}", tmp_path)
    assert server.remote.paths == list(files)
    (path,), meta = sources.reviews, sources.meta
    assert (path, meta) == (
        tmp_path / f"raw/Video_Games_{year}.jsonl.gz",
        tmp_path / f"raw/meta_Video_Games_{year}.jsonl.gz",
    )
    reviews = read_reviews(path, tmp_path / "s.parquet")
    assert reviews.frame[["user_id", "item_id", "rating", "timestamp"]].to_numpy().tolist() == [
        ["A1", "B1", 5.0, 1393632000.0]
    ]
    assert reviews.texts([0]) == ["Fun. Good fun."]
    (item,) = read_items(meta).to_numpy().tolist()
    if year == 2018:
        assert item == ["B1", "Chess", "Video_Games PC", "A puzzle.", "Ravens", "For two."]
    else:
        assert item == ["B1", "Chess: the king's game", "Video_Games PC", "A puzzle.", "Ravens", ""]
    with pytest.raises(ConfigError, match=f"did you mean 'Video_Games_{year}'.*Or name a review file with --raw"):
        find_sources(f"Video_Game_{year}", tmp_path)
