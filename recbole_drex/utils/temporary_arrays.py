"""Arrays in unnamed temporary files, for large data that can be computed again."""

from __future__ import annotations

import math
import os
import tempfile
from typing import Any

import numpy as np

from recbole_drex.errors import DataError


def scratch_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of zeros, mapped from a file in the system's temporary folder (``TMPDIR``).

    The system keeps as much of it in memory as fits; the file is removed with the array.

    Raises:
        DataError: the file cannot be written, e.g. as the disk is full.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)  # an empty file cannot be mapped
    try:
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):
                # Reserve the space now: without space at the first write of a page, the system would kill the process.
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise DataError(f"cannot write {size:,} bytes to {tempfile.gettempdir()}: {error.strerror or error}") from error
