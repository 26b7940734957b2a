"""Arrays in files without a name, for what is too large to fill memory with and can be made again."""

from __future__ import annotations

import math
import os
import tempfile
from typing import Any

import numpy as np

from recbole_drex.errors import DataError


def scratch_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of zeros, mapped from a file in the system's temporary folder (``TMPDIR``).

    The system keeps in memory what it has room for; the file is gone with the array.

    Raises:
        DataError: the file cannot be written, e.g. as the disk is full.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)  # no file of no bytes can be mapped
    try:
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):
                # Were there no room when a page is first written, the system would end the process.
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise DataError(f"cannot write {size:,} bytes to {tempfile.gettempdir()}: {error.strerror or error}") from error
