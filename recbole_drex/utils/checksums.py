"""Writes the SHA-256 of a folder's files in the format of ``sha256sum -c``, and checks files against it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from recbole_drex.errors import CheckpointError
from recbole_drex.utils.files import sha256, write_text

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)\n")


def write_sums(folder: Path, names: Iterable[str], known: Mapping[str, str] | None = None) -> None:
    """Write the hashes of files of ``folder``.

    Args:
        folder: folder of the files and of the checksum file.
        names: paths below ``folder``, with ``/``.
        known: hashes of further files by path; the files need not exist yet.

    Raises:
        StorageError: it cannot be written.
    """
    sums = {name: sha256(folder / name) for name in names} | dict(known or {})
    write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def read_sums(folder: Path) -> dict[str, str]:
    """The hashes by path below ``folder``; empty without a checksum file (earlier versions wrote none).

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / SUMS
    if not path.is_file():
        return {}
    try:
        text = path.read_bytes().decode("utf-8")  # newlines unchanged
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not text or _LINE.sub("", text):
        raise CheckpointError(f"{path} is damaged: it must have lines of a SHA-256, two spaces and a file")
    return {name: digest for digest, name in _LINE.findall(text)}


def check_sum(folder: Path, name: str, remedy: str = ". Run the command that made it again") -> None:
    """Check one file of ``folder`` before it is read; ``remedy`` ends the message.

    Raises:
        CheckpointError: its hash differs from the recorded one, or it is not recorded.
    """
    check_sums(folder, [name], remedy)


def check_sums(folder: Path, names: Iterable[str], remedy: str) -> None:
    """As :func:`check_sum`, for several files."""
    sums = read_sums(folder)
    for name in names if sums else ():
        if fault := _fault(folder, name, sums.get(name)):
            raise CheckpointError(f"{fault}{remedy}")


def faults(folder: Path) -> dict[str, str]:
    """The faults of the recorded files of ``folder``: messages by path below it.

    Raises:
        CheckpointError: the record itself is damaged.
    """
    result = {name: _fault(folder, name, digest) for name, digest in read_sums(folder).items()}
    return {name: fault for name, fault in result.items() if fault}


def _fault(folder: Path, name: str, expected: str | None) -> str:
    path = folder / name
    if expected is None:
        return f"{path} is not listed in {SUMS} in the same folder" if path.is_file() else ""
    if not path.is_file():
        return f"{path} is missing, though {folder / SUMS} lists it"
    try:
        same = sha256(path) == expected
    except OSError as error:
        return f"cannot read {path}: {error.strerror or error}"
    return "" if same else f"{path} is damaged: its SHA-256 is not the one in {SUMS}"
