"""How this process takes memory from the system and gives it back, where that is up to the GNU C library.

A training allocates and frees the same large tensors again and again. By default glibc asks the system for many of
them each time and gives them back at once, and the system clears every page before its first use: a tenth of the time
of training DReX or NARRE, and a third in a thread, which has a heap of its own. Trainings one after the other in new
threads, as Ray Tune makes them, besides leave ever more behind in such heaps.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt, see <malloc.h>
_LARGE = 1 << 30  # bytes of an allocation from which on it is asked of the system, and given back, by itself
_KEPT = 256 << 20  # bytes at the end of the heap that are kept for the next allocation
_CHOSEN = ("MALLOC_", "GLIBC_TUNABLES")


@cache
def _glibc() -> Any:
    """The C library, if it is that of GNU; None elsewhere."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


@cache
def keep_freed_memory() -> None:
    """Let the process use again what it has freed instead of asking the system, from now on and in all threads.

    Nothing is done where the C library is another one, or the environment tells it what to do (``MALLOC_...``,
    ``GLIBC_TUNABLES``).
    """
    if (library := _glibc()) is None or any(name.startswith(_CHOSEN) for name in os.environ):
        return
    for parameter, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _KEPT)):
        library.mallopt(parameter, value)


def return_freed_memory() -> None:
    """Give the system all memory that the process has freed."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)
