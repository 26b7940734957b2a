"""Controls how this process takes memory from the system and returns it, if it uses the GNU C library.

Training allocates and frees the same large tensors repeatedly. By default glibc asks the system for many of
them each time and returns them immediately, and the system clears every page before its first use: a tenth of the time
of training DReX or NARRE, and a third in a thread, which has its own heap. Besides, consecutive trainings in new
threads, as in Ray Tune, leave more and more memory in such heaps.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt, see <malloc.h>
_LARGE = 1 << 30  # bytes; larger allocations are requested from the system, and returned, separately
_KEPT = 256 << 20  # bytes at the end of the heap that are kept for the next allocation
_CHOSEN = ("MALLOC_", "GLIBC_TUNABLES")


@cache
def _glibc() -> Any:
    """The GNU C library; None on other systems."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


@cache
def keep_freed_memory() -> None:
    """Let the process reuse freed memory instead of asking the system, from now on and in all threads.

    Does nothing with another C library, or if environment variables configure it (``MALLOC_...``,
    ``GLIBC_TUNABLES``).
    """
    if (library := _glibc()) is None or any(name.startswith(_CHOSEN) for name in os.environ):
        return
    for parameter, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _KEPT)):
        library.mallopt(parameter, value)


def return_freed_memory() -> None:
    """Return all freed memory to the system."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)
