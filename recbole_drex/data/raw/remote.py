"""Raw files at addresses such as ``s3://bucket/reviews.jsonl.gz``, through fsspec."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast

from recbole_drex.errors import DataError
from recbole_drex.utils.files import sha256

_BLOCK = 1 << 22
T = TypeVar("T")


class RemoteFile:
    """A file at an address, with the methods of ``pathlib.Path`` that the readers use.

    Args:
        address: address with ``://`` for fsspec. Its backend finds further settings (keys, a region) as usual, in the
            environment or in its own configuration files.

    Raises:
        DataError: fsspec does not know the protocol, or its package is not installed; the message names it.

    Example:
        >>> import fsspec
        >>> with fsspec.open("memory://bucket/reviews.csv", "wb") as file:
        ...     _ = file.write(b"user_id,item_id")
        >>> remote = RemoteFile("memory://bucket/reviews.csv")
        >>> remote.name, remote.size, remote.is_file()
        ('reviews.csv', 15, True)
    """

    def __init__(self, address: str):
        self.address = address
        self._system, self._path = _file_system(address)

    def __str__(self) -> str:
        """The address."""
        return self.address

    def __repr__(self) -> str:
        """The address."""
        return f"RemoteFile({self.address!r})"

    @property
    def name(self) -> str:
        """The last part of the address, without what follows a question mark."""
        return PurePosixPath(self._path.partition("?")[0]).name

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols (before ``://``) of addresses of this kind."""
        result = self._system.protocol
        return (result,) if isinstance(result, str) else tuple(result)

    def is_file(self) -> bool:
        """Whether there is such a file."""
        return bool(self._asked(self._system.isfile))

    def is_dir(self) -> bool:
        """Whether there is a folder of this name."""
        return bool(self._asked(self._system.isdir))

    @cached_property
    def size(self) -> int:
        """Bytes of the file."""
        return int(self._asked(self._system.size))

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal SHA-256; the file is fetched once to compute it."""
        digest = hashlib.sha256()
        with self.open() as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def open(self) -> BinaryIO:
        """Open the file for reading its bytes."""
        return cast(BinaryIO, self._asked(lambda path: self._system.open(path, "rb")))

    def _asked(self, question: Callable[[str], T]) -> T:
        # Backends raise their own errors: those of botocore, for example, are not OSErrors.
        try:
            return question(self._path)
        except Exception as error:
            raise DataError(f"cannot read {self.address}: {_first_line(error)}") from error


RawFile = Path | RemoteFile


def raw_file(given: str | Path | RemoteFile) -> RawFile:
    """A path, or a :class:`RemoteFile` for an address with ``://``."""
    if isinstance(given, RemoteFile):
        return given
    return RemoteFile(given) if isinstance(given, str) and "://" in given else Path(given)


def raw_files(given: Iterable[str | Path | RemoteFile]) -> tuple[RawFile, ...]:
    """All files named; ``*`` in an address matches files in alphabetical order (a shell expands local paths).

    Raises:
        DataError: as :class:`RemoteFile`; or no file matches.
    """
    files: list[RawFile] = []
    for entry in given:
        if not (isinstance(entry, str) and "://" in entry and "*" in entry):
            files.append(raw_file(entry))
            continue
        system, pattern = _file_system(entry)
        try:
            result = sorted(system.glob(pattern))
        except Exception as error:  # of any backend, as above
            raise DataError(f"cannot list {entry}: {_first_line(error)}") from error
        if not result:
            raise DataError(f"no file matches {entry}")
        files += [RemoteFile(system.unstrip_protocol(path)) for path in result]
    return tuple(files)


def size_of(path: RawFile) -> int:
    """Bytes of a file.

    Raises:
        OSError: a local file is missing.
        DataError: a remote file cannot be queried.
    """
    return path.size if isinstance(path, RemoteFile) else path.stat().st_size


def _file_system(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(address)
    except ImportError as error:
        raise DataError(f"{address} cannot be read without another package: {_first_line(error)}") from error
    except ValueError as error:
        raise DataError(f"{address} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def source(path: RawFile) -> dict[str, Any]:
    """A raw file's entry in a manifest.

    Raises:
        DataError: it is missing.
    """
    if not path.is_file():
        raise DataError(f"no such raw file: {path}")
    if isinstance(path, RemoteFile):
        return {"name": path.name, "bytes": path.size, "sha256": path.sha256}
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
