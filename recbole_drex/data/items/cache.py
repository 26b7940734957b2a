"""Captions and vectors that were computed before, by the hash of what determines them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from recbole_drex.errors import StorageError

T = TypeVar("T")


def cache_key(*parts: Any) -> str:
    """SHA-256 of the values that determine a result, such as a model's settings and an image's hash."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


class Cache:
    """Texts or vectors by key, in a file of JSON lines that grows while they are computed.

    A line holds the key, the value (a vector as base64 of its float32) and a checksum. A line that is incomplete or
    damaged is ignored, and its value is computed again.

    Args:
        path: the file; its folder is created when it is first written.
    """

    def __init__(self, path: Path):
        self._path = path
        self._values: dict[str, str] = {}
        for line in path.read_bytes().split(b"\n") if path.is_file() else []:
            try:
                entry = json.loads(line)
                if entry["sum"] == _sum(entry["key"], entry["value"]):
                    self._values[entry["key"]] = entry["value"]
            except (ValueError, KeyError, TypeError, AttributeError):
                continue

    def texts(self, items: Sequence[T], keys: Sequence[str], make: Callable[[T], str], title: str) -> list[str]:
        """The text of each item; those of unknown keys are made and stored one by one.

        Args:
            items: what ``make`` takes.
            keys: of the items; equal keys have equal texts.
            make: computes the text of one item.
            title: of the progress bar.

        Raises:
            StorageError: the file cannot be written.
        """
        missing = self._missing(items, keys)
        for key, item in tqdm(missing, desc=title, delay=2, total=len(keys), initial=len(keys) - len(missing)):
            self._add([(key, make(item))])
        return [self._values[key] for key in keys]

    def vectors(
        self, items: Sequence[T], keys: Sequence[str], make: Callable[[list[T]], np.ndarray], size: int, title: str
    ) -> np.ndarray:
        """The vectors (items, width) of one item or more, float32; see :meth:`texts`.

        Args:
            items, keys, title: as for :meth:`texts`.
            make: computes the vectors of at most ``size`` items, each from its item alone.
            size: items after which the file is written.
        """
        missing = self._missing(items, keys)
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        for batch in tqdm(batches, desc=title, unit=f"x{size}", delay=2):
            vectors = make([item for _, item in batch]).astype("<f4")
            self._add((key, base64.b64encode(row).decode()) for (key, _), row in zip(batch, vectors, strict=True))
        return np.stack([np.frombuffer(base64.b64decode(self._values[key]), "<f4") for key in keys])

    def _missing(self, items: Sequence[T], keys: Sequence[str]) -> list[tuple[str, T]]:
        return list({key: item for key, item in zip(keys, items, strict=True) if key not in self._values}.items())

    def _add(self, entries: Iterable[tuple[str, str]]) -> None:
        new = dict(entries)
        lines = [{"key": key, "sum": _sum(key, value), "value": value} for key, value in new.items()]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                # Begins with a line break, since an interruption may have left half a line.
                file.write("".join(f"\n{json.dumps(line)}" for line in lines).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror or error}") from error
        self._values |= new


def _sum(key: str, value: str) -> int:
    return zlib.crc32(f"{key}{value}".encode("utf-8", "surrogatepass"))
