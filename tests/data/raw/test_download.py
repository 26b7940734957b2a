"""Downloads from a small HTTP server on this machine, with and without faults."""

from __future__ import annotations

import gzip
import socket
import time

import numpy as np
import pytest
from file_server import serving

from recbole_drex.data.raw.amazon import MIRROR, download_dataset
from recbole_drex.data.raw.download import download
from recbole_drex.data.raw.readers import read_reviews
from recbole_drex.errors import DownloadError

CONTENT = gzip.compress(np.random.default_rng(7).bytes(300_000))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(CONTENT) as http:
        yield http


def left(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def break_off(server, target, size):
    """Leave a part of ``size`` bytes: the server breaks the connection and then sends nothing."""
    server.remote.break_after = [size, 0, 0, 0]
    with pytest.raises(DownloadError, match="broke off"):
        download(f"{server.url}/x.gz", target)
    assert left(target.parent) == ["x.gz.part", "x.gz.part.json"]
    assert target.with_name("x.gz.part").read_bytes() == CONTENT[:size]
    server.remote.break_after, server.remote.requests = [], []


@pytest.mark.parametrize("length", [True, False])
def test_whole_file_and_reuse_without_network(server, tmp_path, length):
    server.remote.length = length
    target = download(f"{server.url}/x.gz", tmp_path / "new" / "x.gz")
    assert target.read_bytes() == CONTENT
    assert left(target.parent) == ["x.gz"]
    assert download("https://nowhere.invalid/x.gz", target) == target
    assert len(server.remote.requests) == 1


def test_a_broken_connection_is_resumed(server, tmp_path):
    server.remote.break_after = [100_000, 50_000]
    assert download(f"{server.url}/x.gz", tmp_path / "x.gz").read_bytes() == CONTENT
    assert [asked for _, asked in server.remote.requests] == ["", "bytes=100000-", "bytes=150000-"]
    assert left(tmp_path) == ["x.gz"]


def test_next_run_resumes(server, tmp_path):
    break_off(server, tmp_path / "x.gz", 120_000)
    assert download(f"{server.url}/x.gz", tmp_path / "x.gz").read_bytes() == CONTENT
    assert [asked for _, asked in server.remote.requests] == ["bytes=120000-"]


def test_server_without_range_starts_over(server, tmp_path):
    break_off(server, tmp_path / "x.gz", 120_000)
    server.remote.ranges = False
    assert download(f"{server.url}/x.gz", tmp_path / "x.gz").read_bytes() == CONTENT
    assert [asked for _, asked in server.remote.requests] == ["bytes=120000-"]


@pytest.mark.parametrize("change", ["etag", "longer", "shorter", "other address"])
def test_changed_remote_starts_over(server, tmp_path, change):
    break_off(server, tmp_path / "x.gz", 120_000)
    address = f"{server.url}/x.gz"
    if change == "etag":
        server.remote.content, server.remote.etag = gzip.compress(gzip.decompress(CONTENT)[::-1]), '"two"'
    elif change == "longer":
        server.remote.content = gzip.compress(CONTENT * 2)
    elif change == "shorter":
        server.remote.content = gzip.compress(b"short")
    else:
        address = f"{server.url}/other/x.gz"
    assert download(address, tmp_path / "x.gz").read_bytes() == server.remote.content
    assert server.remote.requests[-1][1] == ""
    assert left(tmp_path) == ["x.gz"]


def test_part_that_is_complete_is_accepted(server, tmp_path):
    break_off(server, tmp_path / "x.gz", 120_000)
    (tmp_path / "x.gz.part").write_bytes(CONTENT)
    assert download(f"{server.url}/x.gz", tmp_path / "x.gz").read_bytes() == CONTENT
    assert [asked for _, asked in server.remote.requests] == [f"bytes={len(CONTENT)}-"]


def test_less_than_announced_never_becomes_the_file(server, tmp_path):
    server.remote.ranges, server.remote.announce_more = False, 10
    with pytest.raises(DownloadError, match="broke off"):
        download(f"{server.url}/x.gz", tmp_path / "x.gz")
    assert "x.gz" not in left(tmp_path)


@pytest.mark.parametrize(("content", "reason"), [(b"<html>Sign in</html>", "not a gzip"), (b"", "empty file")])
def test_wrong_content(server, tmp_path, content, reason):
    server.remote.content = content
    with pytest.raises(DownloadError, match=reason):
        download(f"{server.url}/x.gz", tmp_path / "x.gz")
    assert left(tmp_path) == []


def test_json_that_came_unpacked_is_the_file_if_its_size_is_known(server, tmp_path):
    server.remote.content = b'{"user_id": "u", "parent_asin": "i", "rating": 5}\n'
    path = download(f"{server.url}/x.jsonl.gz", tmp_path / "x.jsonl.gz")
    assert read_reviews(path, tmp_path / "s.parquet").frame["rating"].tolist() == [5]
    server.remote.length = False
    with pytest.raises(DownloadError, match="not a gzip"):
        download(f"{server.url}/y.jsonl.gz", tmp_path / "y.jsonl.gz")


@pytest.mark.parametrize("content", [CONTENT[:-20], CONTENT[:-8] + bytes(8)], ids=["cut short", "another check sum"])
def test_gzip_is_checked_to_its_end(server, tmp_path, content):
    server.remote.content = content
    with pytest.raises(DownloadError, match="damaged"):
        download(f"{server.url}/x.gz", tmp_path / "x.gz")
    assert left(tmp_path) == []


def test_not_found_names_file_address_and_folder(server, tmp_path):
    with pytest.raises(DownloadError) as caught:
        download(f"{server.url}/missing.gz", tmp_path / "m.gz")
    for part in ("404", "m.gz", f"{server.url}/missing.gz", str(tmp_path)):
        assert part in str(caught.value)
    assert left(tmp_path) == []


def test_a_missing_network_is_reported_quickly(tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        start = time.monotonic()
        monkeypatch.setenv(MIRROR, f"https://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(DownloadError, match="the connection failed") as caught:
            download_dataset("Software", tmp_path)
    assert time.monotonic() - start < 30
    assert str(tmp_path) in str(caught.value)
    assert "review_categories/Software.jsonl.gz" in str(caught.value)


@pytest.mark.parametrize("url", ["http://example.com/x.gz", "ftp://127.0.0.1/x.gz", "x.gz"])
def test_insecure_addresses_are_refused(tmp_path, url):
    with pytest.raises(DownloadError, match="not an https"):
        download(url, tmp_path / "x.gz")


def test_redirect_to_an_insecure_address_is_refused(server, tmp_path):
    server.remote.location = "http://example.com/x.gz"
    with pytest.raises(DownloadError, match=r"http://example\.com/x\.gz is not an https"):
        download(f"{server.url}/x.gz", tmp_path / "x.gz")
    assert left(tmp_path) == []


@pytest.mark.parametrize("fault", ["404", "page", "broken", "no answer"])
def test_second_address_is_tried_where_the_first_fails(server, tmp_path, fault):
    first, second = f"{server.url}/first.gz", f"{server.url}/second.gz"
    if fault == "404":
        first = f"{server.url}/missing.gz"
    elif fault == "page":
        server.remote.files = {"/first.gz": b"<html>Sign in</html>", "/second.gz": CONTENT}
    elif fault == "broken":
        server.remote.break_after = [100_000, 0, 0, 0]
    else:
        first = "https://127.0.0.1:1/first.gz"
    assert download([first, second], tmp_path / "x.gz").read_bytes() == CONTENT
    assert server.remote.requests[-1] == ("/second.gz", "")
    assert left(tmp_path) == ["x.gz"]


def test_part_of_the_first_address_survives_a_second_one_that_fails(server, tmp_path):
    urls = [f"{server.url}/x.gz", f"{server.url}/missing.gz"]
    server.remote.break_after = [120_000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"/x\.gz: the connection broke off .*, nor from .*/missing\.gz: .* 404 "):
        download(urls, tmp_path / "x.gz")
    assert (tmp_path / "x.gz.part").read_bytes() == CONTENT[:120_000]
    server.remote.break_after, server.remote.requests = [], []
    download(urls, tmp_path / "x.gz")
    assert server.remote.requests == [("/x.gz", "bytes=120000-")]


def test_second_address_is_resumed(server, tmp_path):
    urls = [f"{server.url}/missing.gz", f"{server.url}/x.gz"]
    server.remote.break_after = [120_000, 0, 0, 0]
    with pytest.raises(DownloadError, match="broke off"):
        download(urls, tmp_path / "x.gz")
    server.remote.break_after, server.remote.requests = [], []
    assert download(urls, tmp_path / "x.gz").read_bytes() == CONTENT
    assert server.remote.requests == [("/x.gz", "bytes=120000-")]


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot write"):
        download(f"{server.url}/x.gz", tmp_path / "file" / "x.gz")
