"""Arrays in ``.npy`` files that anybody may have written or damaged."""

from __future__ import annotations

import tokenize
from pathlib import Path

import numpy as np


def map_array(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file, mapped from disk, read-only.

    A file that is shorter than its header says is noticed before memory is taken for what it says, and pickled objects,
    which could run code, are never read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OverflowError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        # The header is a Python literal: these are the ways in which numpy fails to read one.
        raise ValueError(f"its header is damaged: {error}") from error
