"""Images of items from a small HTTP server on this machine that behaves as real ones do."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
import tiny_models
from PIL import Image
from transformers import ViTConfig, ViTModel

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw import item_images
from recbole_drex.data.raw.item_images import UNUSABLE, fetch_images, image_address, image_addresses
from recbole_drex.errors import ConfigError, DataError, DownloadError


def picture(kind="JPEG", size=(20, 30), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.content`` by path; ``server.answers`` are statuses of the next requests of a path."""

    def do_GET(self) -> None:
        self.server.requests.append((self.path, time.monotonic(), self.headers["User-Agent"]))
        answers = self.server.answers.get(self.path, [])
        status = answers.pop(0) if answers else 200 if self.path in self.server.content else 404
        body = self.server.content.get(self.path, b"") if status == 200 else b""
        if status == "broken":
            body, status = self.server.content[self.path], 200
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:100])
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.content, http.answers, http.requests = {}, {}, []
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    http.url = f"http://127.0.0.1:{http.server_port}"
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def meta_of(tmp_path, addresses):
    """An item file of Amazon Reviews 2023 with these addresses by item."""
    rows = [
        {"parent_asin": item, "title": item, "images": [{"thumb": "https://x/t.jpg", "large": url, "variant": "MAIN"}]}
        for item, url in addresses.items()
    ]
    path = tmp_path / "meta.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def paths_of(server):
    return [path for path, _, _ in server.requests]


def images_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".json" and path.name[0] != ".")


def test_the_main_image_of_ten_counts():
    ten = [{"thumb": f"t{k}", "large": f"l{k}", "hi_res": None, "variant": f"PT0{k}"} for k in range(10)]
    assert image_address(ten) == "l0"
    ten[6]["variant"] = "MAIN"
    assert image_address(ten) == "l6"
    ten[6] |= {"large": None}
    assert image_address(ten) == "t6"
    ten[6] |= {"thumb": ""}
    assert image_address(ten) == "l0", "the main image has no address"
    columns = {name: [row[name] for row in ten] for name in ("thumb", "large", "hi_res", "variant")}
    assert image_address(columns) == "l0"
    assert image_address(["a", "b"]) == image_address(" a ") == "a"
    assert [image_address(value) for value in (None, [], {}, [None], [{}], 3, [3], "")] == [None] * 8


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"parent_asin": "i1", "images": [{"large": "u", "variant": "MAIN"}]}, None),
        ({"asin": "i1", "imageURL": ["small"], "imageURLHighRes": ["u", "v"]}, None),
        ({"asin": "i1", "imUrl": "u"}, None),
        ({"number": "i1", "imUrl": "u"}, {"item_id": "number"}),
    ],
)
def test_addresses_of_2023_2018_and_2014(tmp_path, row, column):
    path = tmp_path / "meta.jsonl"
    others = [{**row, next(iter(row)): "i2"}, {next(iter(row)): "i3"}]
    path.write_text("".join(json.dumps(each) + "\n" for each in (row, *others)))
    assert image_addresses(path, ["i1", "i3"], column) == {"i1": "u"}
    with pytest.raises(DataError, match=r"meta\.jsonl names no address of an image of any of the 1 items"):
        image_addresses(path, ["i3"], column)


def test_addresses_in_a_table(tmp_path):
    frame = pd.DataFrame({"parent_asin": ["i1"], "images": [[{"large": "u", "variant": "MAIN"}]]})
    frame.to_parquet(tmp_path / "meta.parquet")
    assert image_addresses(tmp_path / "meta.parquet", ["i1"]) == {"i1": "u"}


def test_images_of_the_kept_items_are_fetched_once(server, tmp_path, caplog):
    server.content = {"/a": picture(), "/b": picture("PNG"), "/c": picture("WEBP"), "/d": picture()}
    addresses = {f"i{k}": f"{server.url}/{name}" for k, name in enumerate("abcd")}
    meta, folder = meta_of(tmp_path, addresses), tmp_path / "new" / "images"
    with caplog.at_level(logging.INFO):
        fetch_images(meta, ["i0", "i1", "i2", "unknown"], folder, pause=0.05)
    assert images_in(folder) == ["i0.jpg", "i1.png", "i2.webp"]
    assert (folder / "i1.png").read_bytes() == server.content["/b"]
    assert "images of 3 of 4 items; 1 have no address" in caplog.text
    times = [moment for _, moment, _ in server.requests]
    assert np.diff(times).min() >= 0.04, "not faster than asked"
    assert all("recbole_drex" in agent for _, _, agent in server.requests)
    fetch_images(meta, ["i0", "i1", "i2", "i3"], folder, pause=0)
    assert paths_of(server) == ["/a", "/b", "/c", "/d"], "only what is missing"
    (folder / "i0.jpg").rename(folder / "i0.JPEG")
    fetch_images(meta, ["i0"], folder, pause=0)
    assert len(server.requests) == 4


def test_what_is_no_usable_image_is_noted_and_not_asked_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(item_images, "LARGEST", 50_000)
    server.content = {
        "/one": picture(size=(1, 1)), "/gif": picture("GIF"), "/page": b"<html>", "/cut": picture(size=(80, 80))[:-500],
        "/large": picture(size=(300, 300)), "/good": picture(), "/moved": picture(),
    }  # fmt: skip
    server.answers = {"/moved": [302]}
    addresses = {name[1:]: server.url + name for name in [*server.content, "/gone"]}
    addresses |= {"../out": f"{server.url}/good", "file": f"file://{tmp_path}/meta.jsonl"}
    meta, folder = meta_of(tmp_path, addresses), tmp_path / "images"
    for _ in range(2):
        fetch_images(meta, list(addresses), folder, pause=0)
    assert images_in(folder) == ["good.jpg"] and not list(tmp_path.glob("out*"))
    assert sorted(paths_of(server)) == sorted([*server.content, "/gone", "/good"])
    reasons = {url.rpartition("/")[2]: reason for url, reason in json.loads((folder / UNUSABLE).read_text()).items()}
    assert reasons.pop("one") == "an image of one pixel" and reasons.pop("large") == "more than 50,000 bytes"
    assert reasons.pop("gone").startswith("the server answers 404")
    assert reasons.pop("moved").startswith("the server answers 302")
    assert reasons.pop("good") == "'../out' is no name of a file"
    assert reasons.pop("meta.jsonl") == "not an https:// address"
    assert all(reason.startswith("not a JPEG, PNG or WebP image") for reason in reasons.values()) and len(reasons) == 3


def test_a_busy_server_and_a_broken_connection_are_tried_again(server, tmp_path):
    server.content = {"/a": picture(size=(50, 50)), "/b": picture(), "/c": picture()}
    server.answers = {"/a": ["broken"], "/b": [429, 503], "/c": [500, 500, 500]}
    addresses = {name[1:]: server.url + name for name in server.content}
    meta, folder = meta_of(tmp_path, addresses), tmp_path / "images"
    with pytest.raises(DownloadError, match=r"1 of 3 images could not be fetched; the first: .*/c .*500.* Run again"):
        fetch_images(meta, list(addresses), folder, pause=0)
    assert images_in(folder) == ["a.jpg", "b.jpg"]
    assert (folder / "a.jpg").read_bytes() == server.content["/a"]
    fetch_images(meta, list(addresses), folder, pause=0)
    assert images_in(folder) == ["a.jpg", "b.jpg", "c.jpg"]
    assert paths_of(server) == ["/a"] * 2 + ["/b"] * 3 + ["/c"] * 4


def test_without_a_server_the_download_ends_soon(server, tmp_path, monkeypatch):
    monkeypatch.setattr(item_images, "_ATTEMPTS", 1)
    addresses = {f"i{k}": f"http://127.0.0.1:9/{k}" for k in range(50)}
    meta = meta_of(tmp_path, addresses)
    with pytest.raises(DownloadError, match=r"5 of 50 images could not be fetched") as caught:
        fetch_images(meta, list(addresses), tmp_path / "images", pause=0)
    assert "\n" not in str(caught.value) and "--images" in str(caught.value)


def test_a_preparation_fetches_the_images_of_the_items_that_it_keeps(server, tmp_path):
    server.content = {f"/{k}": picture(seed=k) for k in range(4)}
    meta = meta_of(tmp_path, {f"i{k}": f"{server.url}/{k}" for k in range(4)})
    pairs = [(user, item) for user in range(3) for item in range(3)] + [(0, 3)]  # item 3 is left out
    rows = [{"user_id": f"u{user}", "parent_asin": f"i{item}", "rating": 3.0 + user % 2} for user, item in pairs]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tiny_models.saved(ViTModel(ViTConfig(**tiny_models.VISION)), tmp_path / "vit")
    encoder = str(tiny_models.with_preparation(model))

    def run(meta=meta, raw=True, **parameters):
        given = {"user_min": 2, "item_min": 2, "fetch_images": True, "image_encoder": encoder, **parameters}
        config = Config("DReX", "shop", config_dict={**given, "data_path": str(tmp_path / "data")})
        sources = Sources((tmp_path / "reviews.jsonl",), meta) if raw else Sources()
        return prepare("shop", tmp_path / "data", config.preparation(), sources)

    manifest = run()
    assert manifest["items"]["image"] == {"width": 16, "missing": 0}
    assert images_in(tmp_path / "data" / "raw" / "images_shop") == ["i0.jpg", "i1.jpg", "i2.jpg"]
    assert run() == manifest and sorted(paths_of(server)) == ["/0", "/1", "/2"], "nothing is fetched again"
    (tmp_path / "data" / "raw" / "images_shop" / "i1.jpg").unlink()
    assert run() == manifest and paths_of(server)[3:] == ["/1"]
    with pytest.raises(ConfigError, match=r"'fetch_images' needs an item file \(--meta FILE\)"):
        run(meta=None)
