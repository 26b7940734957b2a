"""Downloads raw files; interrupted downloads are resumed, and a second address is tried where the first one fails."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from tqdm import tqdm

from recbole_drex.errors import DataError, DownloadError
from recbole_drex.utils.files import locked, read_json, write_json

_CONNECT, _SILENCE = 8.0, 20.0  # seconds to wait for a connection, and for the next bytes
_BLOCK = 1 << 20
_FRUITLESS = 2  # consecutive attempts without new bytes that are allowed


_TEXTS = (b"{", b"user_id,")  # beginnings of uncompressed files: JSON lines, and the CSV files of official splits


class _ChangedError(Exception):
    """The part on disk no longer belongs to the remote file."""


class _FailedError(Exception):
    """An address does not give the file; the message says why."""


def download(urls: str | Sequence[str], target: str | Path) -> Path:
    """Download a file unless it exists; an interrupted download continues with ``<target>.part``.

    A broken connection is resumed as long as it brings new bytes. The target is created only if its size is the one
    that the server announced and, for ``.gz``, if it decompresses with correct checksums, or if it is JSON or an
    official split of that size that the server sent uncompressed.

    Args:
        urls: ``https://`` addresses, or ``http://`` on this machine. Each is tried where those before it fail; the one
            of an interrupted download comes first.
        target: file to write; its folder is created if needed.

    Raises:
        DownloadError: no network, no such file, or unexpected content; names the addresses and where to put the file by
            hand. A usable part is kept for the next attempt.
    """
    urls, target = [urls] if isinstance(urls, str) else urls, Path(target)
    if target.is_file():
        return target
    reasons = []
    try:
        for url in sorted(urls, key=lambda url: url != _noted(target).get("url")):
            try:
                _check_address(url)
                with locked(target, f"the download of {target.name}"):
                    if not target.is_file():
                        _fetch(url, target)
                return target
            except requests.RequestException as error:
                reasons.append(f"{url}: the connection failed ({_root(error)})")
            except _FailedError as error:
                reasons.append(f"{url}: {error}")
    except DataError as error:
        raise DownloadError(str(error)) from error
    except OSError as error:
        raise DownloadError(f"cannot write {target}: {error.strerror or error}") from error
    raise DownloadError(
        f"cannot download {target.name} from {', nor from '.join(reasons)}. Run again to continue, "
        f"or fetch the file by other means and save it as {target.name} in {target.parent.resolve()}"
    )


def _fetch(url: str, target: Path) -> None:
    part, note = target.with_name(target.name + ".part"), _note(target)
    furthest, fruitless = _size(part) if _noted(target).get("url") == url else 0, 0
    while True:
        try:
            expected = _continue(url, target, part)
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
            raise _FailedError(reason)
    flaw = _flaw(part, expected, target.suffix == ".gz")
    if flaw:
        part.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
        raise _FailedError(flaw)
    part.replace(target)
    note.unlink(missing_ok=True)


def _note(target: Path) -> Path:
    """The file that says what an interrupted download has fetched."""
    return target.with_name(target.name + ".part.json")


def _noted(target: Path) -> dict[str, Any]:
    """Address, size and tag of an interrupted download; empty without one."""
    return read_json(_note(target), "download note") if _note(target).is_file() else {}


def _continue(url: str, target: Path, part: Path) -> int | None:
    """Fetch the rest of ``part``; returns the size of the whole file if the server announced it."""
    known = _noted(target)
    # The part of another address stays until this one answers.
    have = _size(part) if known.get("url") == url else 0
    # Without this header a server may compress the bytes again, and sizes and ranges would not be the file's.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})

    def check_redirect(response: requests.Response, **_: object) -> None:
        if response.is_redirect:
            _check_address(urljoin(response.url, response.headers["Location"]))

    hooks = {"response": check_redirect}
    with requests.get(url, headers=headers, stream=True, timeout=(_CONNECT, _SILENCE), hooks=hooks) as response:
        total = _total(response)
        if response.status_code == requests.codes.requested_range_not_satisfiable and have:
            if have == total == known.get("size"):
                return total
            raise _ChangedError
        if not response.ok:
            raise _FailedError(f"the server answers {response.status_code} {response.reason}")
        remote = {"url": url, "size": total, "etag": response.headers.get("ETag")}
        if response.status_code == requests.codes.partial_content:
            start = response.headers.get("Content-Range", "")
            if total is None or remote != known or not start.startswith(f"bytes {have}-"):
                raise _ChangedError
        else:
            have = 0
            part.unlink(missing_ok=True)
        write_json(_note(target), remote)
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
    if zipped and not (expected is not None and _is_text(part)):
        try:
            with gzip.open(part) as file:
                while file.read(_BLOCK):
                    pass
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            return f"the received file is not a gzip file, or is damaged ({error})"
    return None


def _is_text(part: Path) -> bool:
    """Whether a file begins as an uncompressed one does: some servers decompress files before sending them."""
    with part.open("rb") as file:
        return file.read(max(map(len, _TEXTS))).startswith(_TEXTS)


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")):
        raise _FailedError(f"{address} is not an https:// address, so its content cannot be trusted")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _root(error: BaseException) -> str:
    """The message of the root cause of a failed connection."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error)
