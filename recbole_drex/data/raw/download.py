"""Downloads raw files of Amazon Reviews 2023 from its public page; interrupted downloads are resumed."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from tqdm import tqdm

from recbole_drex.errors import ConfigError, DataError, DownloadError, unknown_name
from recbole_drex.utils.files import locked, read_json, write_json

BASE_URL = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/"

CATEGORIES: tuple[str, ...] = (
    "All_Beauty",
    "Amazon_Fashion",
    "Appliances",
    "Arts_Crafts_and_Sewing",
    "Automotive",
    "Baby_Products",
    "Beauty_and_Personal_Care",
    "Books",
    "CDs_and_Vinyl",
    "Cell_Phones_and_Accessories",
    "Clothing_Shoes_and_Jewelry",
    "Digital_Music",
    "Electronics",
    "Gift_Cards",
    "Grocery_and_Gourmet_Food",
    "Handmade_Products",
    "Health_and_Household",
    "Health_and_Personal_Care",
    "Home_and_Kitchen",
    "Industrial_and_Scientific",
    "Kindle_Store",
    "Magazine_Subscriptions",
    "Movies_and_TV",
    "Musical_Instruments",
    "Office_Products",
    "Patio_Lawn_and_Garden",
    "Pet_Supplies",
    "Software",
    "Sports_and_Outdoors",
    "Subscription_Boxes",
    "Tools_and_Home_Improvement",
    "Toys_and_Games",
    "Video_Games",
    "Unknown",
)

_CONNECT, _SILENCE = 8.0, 20.0  # seconds to wait for a connection, and for the next bytes
_BLOCK = 1 << 20
_FRUITLESS = 2  # consecutive attempts without new bytes that are allowed


class _ChangedError(Exception):
    """The part on disk no longer belongs to the remote file."""


def download_category(category: str, folder: str | Path, *, base_url: str = BASE_URL) -> tuple[Path, Path]:
    """Download the reviews and the item descriptions of a category.

    Returns:
        ``<folder>/<category>.jsonl.gz`` and ``<folder>/meta_<category>.jsonl.gz``; existing files are reused.

    Raises:
        ConfigError: there is no such category.
        DownloadError: as :func:`download`.
    """
    if category not in CATEGORIES:
        raise ConfigError(unknown_name("category", category, CATEGORIES))
    base = base_url.rstrip("/")
    names = (f"review_categories/{category}.jsonl.gz", f"meta_categories/meta_{category}.jsonl.gz")
    reviews, items = (download(f"{base}/{name}", Path(folder) / Path(name).name) for name in names)
    return reviews, items


def download(url: str, target: str | Path) -> Path:
    """Download a file unless it exists; an interrupted download continues with ``<target>.part``.

    A broken connection is resumed as long as it brings new bytes. The target is created only if its size is the one
    that the server announced and, for ``.gz``, if it decompresses with correct checksums, or if it is JSON of that size
    that the server sent uncompressed.

    Args:
        url: ``https://`` address, or ``http://`` on this machine.
        target: file to write; its folder is created if needed.

    Raises:
        DownloadError: no network, no such file, or unexpected content; names the address and where to put the file by
            hand. A usable part is kept for the next attempt.
    """
    target = Path(target)
    if target.is_file():
        return target
    _check_address(url, url, target)
    try:
        with locked(target, f"the download of {target.name}"):
            if not target.is_file():
                _fetch(url, target)
    except requests.RequestException as error:
        raise _failure(url, target, f"the connection failed ({_root(error)})") from error
    except DataError as error:
        raise DownloadError(str(error)) from error
    except OSError as error:
        raise DownloadError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _fetch(url: str, target: Path) -> None:
    part, note = target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json")
    furthest, fruitless = _size(part), 0
    while True:
        try:
            expected = _continue(url, target, part, note)
            break
        except _ChangedError:
            part.unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            reason = "the file changes while it is downloaded"
        except (
            urllib3.exceptions.HTTPError
        ) as error:  # the transfer was interrupted; if there is no response, requests raises its own errors
            reason = f"the connection broke off ({_root(error)})"
        furthest, fruitless = max(furthest, _size(part)), 0 if _size(part) > furthest else fruitless + 1
        if fruitless > _FRUITLESS:
            raise _failure(url, target, reason)
    flaw = _flaw(part, expected, target.suffix == ".gz")
    if flaw:
        part.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
        raise _failure(url, target, flaw)
    part.replace(target)
    note.unlink(missing_ok=True)


def _continue(url: str, target: Path, part: Path, note: Path) -> int | None:
    """Fetch the rest of ``part``; returns the size of the whole file if the server announced it."""
    known = read_json(note, "download note") if note.is_file() else {}
    if known.get("url") != url:
        part.unlink(missing_ok=True)
    have = _size(part)
    # Without this header a server may compress the bytes again, and sizes and ranges would not be the file's.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})

    def check_redirect(response: requests.Response, **_: object) -> None:
        if response.is_redirect:
            _check_address(urljoin(response.url, response.headers["Location"]), url, target)

    hooks = {"response": check_redirect}
    with requests.get(url, headers=headers, stream=True, timeout=(_CONNECT, _SILENCE), hooks=hooks) as response:
        total = _total(response)
        if response.status_code == requests.codes.requested_range_not_satisfiable and have:
            if have == total == known.get("size"):
                return total
            raise _ChangedError
        if not response.ok:
            raise _failure(url, target, f"the server answers {response.status_code} {response.reason}")
        remote = {"url": url, "size": total, "etag": response.headers.get("ETag")}
        if response.status_code == requests.codes.partial_content:
            start = response.headers.get("Content-Range", "")
            if total is None or remote != known or not start.startswith(f"bytes {have}-"):
                raise _ChangedError
        else:
            have = 0
        write_json(note, remote)
        with tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=target.name, delay=2) as bar:
            with part.open("ab" if have else "wb") as file:
                for block in response.raw.stream(_BLOCK, decode_content=False):
                    file.write(block)
                    bar.update(len(block))
                file.flush()
                os.fsync(file.fileno())
    if total is not None and _size(part) < total:
        raise urllib3.exceptions.IncompleteRead(_size(part), total - _size(part))
    return total


def _total(response: requests.Response) -> int | None:
    ranged = response.headers.get("Content-Range", "").rpartition("/")[2]
    size = ranged or response.headers.get("Content-Length", "")
    return int(size) if size.isdecimal() else None


def _flaw(part: Path, expected: int | None, zipped: bool) -> str | None:
    """The flaw of a finished download, None without one."""
    if expected is not None and _size(part) != expected:
        return f"{_size(part):,} bytes were received where {expected:,} were announced"
    if not _size(part):
        return "an empty file was received"
    if zipped and not (expected is not None and _is_json(part)):
        try:
            with gzip.open(part) as file:
                while file.read(_BLOCK):
                    pass
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            return f"the received file is not a gzip file, or is damaged ({error})"
    return None


def _is_json(part: Path) -> bool:
    """Whether a file begins like JSON lines: some servers decompress files before sending them."""
    with part.open("rb") as file:
        return file.read(1) == b"{"


def _check_address(address: str, url: str, target: Path) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")):
        raise _failure(url, target, f"{address} is not an https:// address, so its content cannot be trusted")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _root(error: BaseException) -> str:
    """The message of the root cause of a failed connection."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error)


def _failure(url: str, target: Path, reason: str) -> DownloadError:
    return DownloadError(
        f"cannot download {target.name} from {url}: {reason}. Run again to continue, "
        f"or fetch the file by other means and save it as {target.name} in {target.parent.resolve()}"
    )
