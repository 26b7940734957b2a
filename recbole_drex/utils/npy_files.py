"""Safe reading of arrays in untrusted ``.npy`` files."""

from __future__ import annotations

import tokenize
from pathlib import Path

import numpy as np


def map_array(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file, mapped from disk, read-only.

    A file that is shorter than its header says is rejected before memory is allocated, and pickled objects,
    which could run code, are never read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OverflowError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        # The header is a Python literal; numpy raises these errors for an invalid one.
        raise ValueError(f"its header is damaged: {error}") from error
