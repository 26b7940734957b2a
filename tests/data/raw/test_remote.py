"""Raw files at addresses are read like local ones; errors take one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from fsspec.registry import known_implementations

from recbole_drex.cli.main import main
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import find_sources
from recbole_drex.data.raw.readers import read_items, read_reviews
from recbole_drex.data.raw.remote import RemoteFile, raw_file, raw_files
from recbole_drex.errors import DataError

REVIEWS = [{"user_id": f"u{k}", "asin": f"i{k % 3}", "rating": 4, "text": f"review {k}"} for k in range(9)]


@pytest.fixture
def memory():
    """An empty file system in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def _content(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.csv", "r.parquet"])
def test_an_address_may_replace_a_path(name, memory, tmp_path):
    frame = pd.DataFrame(REVIEWS)
    if name.startswith("r.jsonl"):
        content = _content(REVIEWS)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    elif name.endswith("csv"):
        frame.to_csv(tmp_path / name, index=False)
    else:
        frame.to_parquet(tmp_path / name)
    memory.pipe(f"/bucket/{name}", (tmp_path / name).read_bytes())
    expected = read_reviews(tmp_path / name, tmp_path / "a.parquet")
    for address in (f"memory://bucket/{name}", (tmp_path / name).as_uri()):
        result = read_reviews(address, tmp_path / "b.parquet")
        pd.testing.assert_frame_equal(result.frame, expected.frame)
        assert result.sources == expected.sources
        assert result.texts(range(9)) == expected.texts(range(9))


def test_a_wildcard_matches_several_files(memory):
    for name in ("b.jsonl", "a.jsonl", "c.csv"):
        memory.pipe(f"/bucket/{name}", b"x")
    files = raw_files(["memory://bucket/*.jsonl", "here.csv", "memory://bucket/c.csv"])
    assert [file.name for file in files] == ["a.jsonl", "b.jsonl", "here.csv", "c.csv"]
    assert isinstance(files[2], Path) and isinstance(files[0], RemoteFile)
    with pytest.raises(DataError, match=r"no file matches memory://bucket/\*\.tsv"):
        raw_files(["memory://bucket/*.tsv"])


def test_a_data_set_from_addresses_equals_that_from_files(small, memory, monkeypatch):
    addresses = {}
    for kind in ("reviews", "meta"):
        memory.pipe(f"/bucket/{small.raw[kind].name}", small.raw[kind].read_bytes())
        addresses[kind] = f"memory://bucket/{small.raw[kind].name}"
    sources = find_sources(small.name, small.root, [addresses["reviews"]], addresses["meta"])
    config = Config("DReX", small.name, config_dict=small.settings)
    before = (small.root / small.name / f"{small.name}.json").stat().st_mtime_ns
    assert prepare(small.name, small.root, config.preparation(), sources) == small.manifest
    assert (small.root / small.name / f"{small.name}.json").stat().st_mtime_ns == before, "nothing is made again"
    pd.testing.assert_frame_equal(read_items(addresses["meta"]), read_items(small.raw["meta"]))


def test_names_of_addresses(memory):
    assert RemoteFile("memory://bucket/r.jsonl.gz?version=3").name == "r.jsonl.gz"
    assert str(raw_file("memory://bucket/r.csv")) == "memory://bucket/r.csv"
    assert raw_file("r.csv") == Path("r.csv")


def test_an_unreadable_address_is_an_error_of_one_line(memory, tmp_path, capsys):
    memory.pipe("/bucket/empty.jsonl", b"")
    memory.pipe("/bucket/bad.jsonl", b"no json\n")
    memory.pipe("/bucket/folder/inside.jsonl", b"{}\n")
    output = {
        "nothing://bucket/r.jsonl": "nothing://bucket/r.jsonl cannot be read: Protocol not known",
        "memory://bucket/gone.jsonl": "no such raw file: memory://bucket/gone.jsonl",
        "memory://bucket/folder": "no such raw file: memory://bucket/folder",
        "memory://bucket/empty.jsonl": "memory://bucket/empty.jsonl is empty",
        "memory://bucket/bad.jsonl": "memory://bucket/bad.jsonl: no column|bad.jsonl:1: not JSON",
    }
    for address, message in output.items():
        words = ["prepare", "--dataset", "tiny", "--data_path", str(tmp_path), "--raw", address]
        assert main(words) == 2
        err = capsys.readouterr().err
        assert any(part in err for part in message.split("|")), err
        assert err.startswith("error: ") and err.count("\n") == 1


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(
        known_implementations, "lacking", {"class": "no_such_package.FileSystem", "err": "Install lacking_fs"}
    )
    with pytest.raises(DataError, match=r"lacking://b/r\.csv cannot be read without another package: Install lacking"):
        RemoteFile("lacking://b/r.csv")
