"""Atomic writing of files (temporary name, sync, rename), hashes and locks."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from recbole_drex.errors import BusyError, ConfigError, DataError, StorageError

_BLOCK = 1 << 22
_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
"""Temporary names of :func:`replacing`, in this and earlier versions."""


def properties_dir() -> Path:
    """Folder of the YAML files: inside an installed wheel, or at the top of a checkout."""
    inside = Path(__file__).parents[1] / "properties"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "properties"


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path next to ``path``; on a clean exit sync it and rename it to ``path``.

    So a reader sees either the old file or the complete new one, and a failure leaves no temporary file.

    Raises:
        StorageError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        fresh.touch(exist_ok=False)  # with the permissions that the umask leaves
        temporary, mode = fresh, fresh.stat().st_mode
        yield temporary
        if temporary.stat().st_mode != mode:  # a library has replaced the file
            temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush new and removed names in a folder to disk, so that they survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; a dataclass becomes an object. NaN is refused: JSON has no such
    number."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """The text that :func:`write_json` writes.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: a value is of no JSON type, or an integer has more than 64 bits.
    """
    json.dumps(value, ensure_ascii=False, allow_nan=False, default=_fields)  # orjson would write null for NaN
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(value, option=options).decode()


def _fields(value: Any) -> dict[str, Any]:
    if not dataclasses.is_dataclass(value):
        raise TypeError(f"{type(value).__name__} is of no JSON type")
    return vars(value)


def read_json(path: str | Path, what: str = "file", error: type[Exception] = DataError) -> Any:
    """Read a JSON file; ``error`` names the path when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:  # not UTF-8, not JSON, or excessive numbers or nesting
        raise error(f"cannot read {what} {path}: {cause}") from cause


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read block by block."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: str | Path, what: str, timeout: float = 3600.0) -> Iterator[None]:
    """Lock a file or folder for this process during the block.

    Temporary files of killed processes, in that folder or next to that file, are removed.

    Args:
        path: the file or folder, which need not exist; the lock file is next to it.
        what: name in the error message if it is locked.
        timeout: seconds to wait for the other process.

    Raises:
        BusyError: another process holds the lock.
        StorageError: nothing can be written there.
    """
    path = Path(path).resolve()
    lock = FileLock(str(path.with_name(f".{path.name}.lock")), timeout=timeout)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"another process has been working on {what} for over {timeout:.0f} s (lock {lock.lock_file})"
        ) from error
    except OSError as error:
        raise StorageError(f"cannot write in {path.parent}: {error.strerror or error}") from error
    try:
        remove_unfinished(path)
        yield
    finally:
        lock.release()


def remove_unfinished(path: str | Path) -> None:
    """Remove temporary files of killed processes: directly in the folder ``path``, or of that file.

    The caller has locked it, so no other process writes there.
    """
    path = Path(path)
    folder, start = (path, ".") if path.is_dir() else (path.parent, f".{path.name}.")
    for left_over in folder.glob(".*.tmp"):
        if left_over.name.startswith(start) and _UNFINISHED.fullmatch(left_over.name):
            left_over.unlink(missing_ok=True)


def remove_folder(path: str | Path) -> None:
    """Remove a folder with its content, if it exists.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        if Path(path).exists():
            shutil.rmtree(path)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror or error}") from error


def safe_name(name: str, kind: str) -> str:
    """Return ``name`` if it is a valid folder name; used for data sets, models and runs.

    Raises:
        ConfigError: it is empty, leaves its folder (``../x``), or has separators or unusual characters.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) or ".." in name:
        raise ConfigError(
            f"{kind} name {name!r} is not legal: use letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    return name
