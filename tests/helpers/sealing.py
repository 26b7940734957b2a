"""Changes to the files of runs that their hashes do not give away."""

from __future__ import annotations

from pathlib import Path

from recbole_drex.utils.checksums import SUMS, read_sums, write_sums


def unseal(root: Path) -> Path:
    """Remove the hashes of all runs and comparisons below ``root``, as earlier versions left them; returns ``root``."""
    for path in root.rglob(SUMS):
        path.unlink()
    return root


def reseal(folder: Path) -> None:
    """Note the hashes of the files as they are now."""
    write_sums(folder, read_sums(folder))
