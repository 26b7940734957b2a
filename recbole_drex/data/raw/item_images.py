"""Downloads the images of items whose addresses the item file names, one after the other and at a limited rate."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from recbole_drex import __version__
from recbole_drex.data.items.images import SUFFIXES
from recbole_drex.data.raw.columns import ids
from recbole_drex.data.raw.formats import read_chunks
from recbole_drex.data.raw.remote import RawFile
from recbole_drex.errors import DataError, DownloadError
from recbole_drex.utils.files import locked, read_json, replacing, write_json

_FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
UNUSABLE = "unusable.json"
"""File next to the images: addresses that gave no usable image, which are not asked again, and why."""
PAUSE = 0.1  # seconds between the starts of two requests
LARGEST = 5_000_000  # bytes of an image
_CONNECT, _SILENCE = 8.0, 20.0  # seconds to wait for a connection, and for the next bytes
_ATTEMPTS, _LONGEST = 3, 60.0  # of an image; seconds that a server may ask us to wait before the next attempt
_FAILURES = 5  # consecutive images that cannot be fetched before the download ends
# Amazon Reviews 2023, then 2018, then 2014. Sizes of 2023: large has 500 pixels; thumb has 40, too few for a model.
_COLUMNS = ("images", "imageURLHighRes", "imageURL", "imUrl", "image")
_SIZES = ("large", "hi_res", "thumb")

logger = logging.getLogger(__name__)


class _UnusableError(Exception):
    """What an address gives is no image that can be used, and will not be later."""


def image_address(value: Any) -> str | None:
    """The address of an item's main image, None without one.

    Args:
        value: of the item file: Amazon's list of ``{thumb, large, hi_res, variant}`` (2023; the image of variant
            ``MAIN``, or else the first), a list of addresses (2018) or an address (2014).

    Example:
        >>> image_address([{"thumb": "t", "large": "a", "variant": "PT01"}, {"large": "b", "variant": "MAIN"}])
        'b'
        >>> image_address(["c", "d"]), image_address("e"), image_address([])
        ('c', 'e', None)
    """
    if isinstance(value, dict):  # a column for each size, as in the data set on Hugging Face
        lists = {name: each for name, each in value.items() if isinstance(each, list)}
        count = max(map(len, lists.values()), default=0)
        value = [{name: each[k] for name, each in lists.items() if k < len(each)} for k in range(count)]
    if isinstance(value, list):
        value = sorted(value, key=lambda one: not (isinstance(one, dict) and one.get("variant") == "MAIN"))
        return next(filter(None, map(_address_of, value)), None)
    return _address_of(value)


def _address_of(image: Any) -> str | None:
    if isinstance(image, dict):
        return next((image[size] for size in _SIZES if isinstance(image.get(size), str) and image[size]), None)
    return image.strip() or None if isinstance(image, str) else None


def image_addresses(meta: RawFile, items: Collection[str], columns: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The address of the image of each of these items that has one in the item file; the first row of an item counts.

    Raises:
        DataError: the file cannot be read, or names no address for any of these items.
    """
    names = {"item_id": ("item_id", "parent_asin", "asin"), "image": _COLUMNS}
    if columns and "item_id" in columns:
        names["item_id"] = (str(columns["item_id"]),)
    wanted, result = set(items), {}
    for chunk in read_chunks(meta, names, ["item_id"]):
        for item, value in zip(ids(chunk.columns["item_id"]).to_pylist(), chunk.columns["image"], strict=True):
            if item in wanted:
                wanted.remove(item)
                if address := image_address(value):
                    result[item] = address
    if not result:
        raise DataError(
            f"{meta} names no address of an image of any of the {len(items):,} items that are kept (looked for in: "
            f"{', '.join(_COLUMNS)}); leave out 'fetch_images', and name a folder of images with --images FOLDER"
        )
    return result


def fetch_images(
    meta: RawFile, items: Collection[str], folder: Path, *, columns: Mapping[str, Any] | None = None,
    pause: float = PAUSE,
) -> None:  # fmt: skip
    """Download the images of items that are not in a folder yet, as ``<item_id>.jpg``, ``.png`` or ``.webp``.

    There is one connection and one request at a time. An image is stored when it is complete and can be decoded, so an
    interrupted download continues with the next one. Addresses that are gone, or give something else than an image of
    more than one pixel and at most :data:`LARGEST` bytes, are noted in :data:`UNUSABLE` and not asked again.

    Args:
        meta: the item file; see :func:`image_addresses`.
        items: ids of the items.
        folder: where images go.
        columns: names in the item file, of which ``item_id`` is used.
        pause: seconds between the starts of two requests, at least.

    Raises:
        DataError: the item file names no images of these items.
        DownloadError: images could not be fetched, for reasons that may pass; those that were are kept.
    """
    addresses = image_addresses(meta, items, columns)
    with locked(folder, f"the images in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / UNUSABLE
        unusable = read_json(note, "note of addresses") if note.is_file() else {}
        there = {path.stem for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
        asked = {item: url for item, url in addresses.items() if item not in there and url not in unusable}
        try:
            failed = list(_fetch(asked, folder, unusable, pause))
        finally:
            if unusable:
                write_json(note, unusable)
    missing = [item for item, url in addresses.items() if url in unusable and item not in there]
    logger.info(
        f"{folder}: images of {len(addresses) - len(missing) - len(failed):,} of {len(items):,} items; "
        f"{len(items) - len(addresses):,} have no address, those of {len(missing):,} cannot be used ({UNUSABLE})"
    )
    if failed:
        raise DownloadError(
            f"{len(failed):,} of {len(asked):,} images could not be fetched; the first: {failed[0]}. Run again to "
            f"continue, or leave out 'fetch_images' and use what there is with --images {folder}"
        )


def _fetch(asked: Mapping[str, str], folder: Path, unusable: dict[str, str], pause: float) -> Iterator[str]:
    """Fetch images; yields why one could not be fetched, and ends after a number of such in a row."""
    failures = 0
    with requests.Session() as session:
        session.headers["User-Agent"] = f"recbole_drex/{__version__} (research; one request at a time)"
        for item, url in tqdm(asked.items(), desc="fetching images", delay=2):
            started = time.monotonic()
            try:
                content = _content(session, url)
                path = folder / f"{item}{_suffix(content)}"
                if path.name != f"{item}{path.suffix}" or item.startswith("."):
                    raise _UnusableError(f"'{item}' is no name of a file")
                with replacing(path) as temporary:
                    temporary.write_bytes(content)
                failures = 0
            except _UnusableError as error:
                unusable[url], failures = str(error), 0
            except (requests.RequestException, OSError) as error:
                failures += 1
                yield f"{url} ({error})"
                if failures == _FAILURES:
                    return
            time.sleep(max(0.0, started + pause - time.monotonic()))


def _content(session: requests.Session, url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost"):
        url = parts._replace(scheme="https").geturl()
    elif parts.scheme not in ("http", "https"):
        raise _UnusableError("not an https:// address")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with session.get(url, stream=True, timeout=(_CONNECT, _SILENCE), allow_redirects=False) as response:
                if response.status_code == requests.codes.ok:
                    return _body(response)
                answer = f"the server answers {response.status_code} {response.reason}"
                if response.status_code < 500 and response.status_code not in (408, 429):
                    raise _UnusableError(answer)
                asked = response.headers.get("Retry-After", "")
                wait = min(float(asked) if asked.isdecimal() else attempt, _LONGEST)
                failure: Exception = requests.HTTPError(answer)
        except requests.RequestException as error:
            failure, wait = error, attempt
        if attempt < _ATTEMPTS:
            time.sleep(wait)
    raise failure


def _body(response: requests.Response) -> bytes:
    content = b""
    for block in response.iter_content(1 << 16):
        content += block
        if len(content) > LARGEST:
            raise _UnusableError(f"more than {LARGEST:,} bytes")
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and "Content-Encoding" not in response.headers and len(content) != int(announced):
        raise requests.ConnectionError(f"{len(content):,} bytes were received where {announced} were announced")
    return content


def _suffix(content: bytes) -> str:
    """The suffix for the kind of an image, which is decoded to see that it is whole."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=list(_FORMATS)) as image:
            image.load()
            if image.size == (1, 1):
                raise _UnusableError("an image of one pixel")
            return _FORMATS[str(image.format)]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _UnusableError(f"not a JPEG, PNG or WebP image ({error})") from error
