"""Freed memory: used again without asking the system, and given back when asked to."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not that of GNU")

SCRIPT = """
import resource
import numpy as np
from recbole_drex.utils.allocator import keep_freed_memory, return_freed_memory

def own_pages():
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return resident - shared

keep_freed_memory()
np.ones(10_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(10_000_000)  # 80 MB, freed immediately
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
kept = own_pages()
return_freed_memory()
print(faults, kept - own_pages())
"""


def _measured(**environment: str) -> tuple[int, int]:
    """Pages that were asked of the system in 20 allocations, and that were given back at the end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env={**clean, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    faults, returned = map(int, done.stdout.split())
    return faults, returned


def test_freed_memory_is_reused_and_returned_on_request():
    faults, returned = _measured()
    usual_faults, nothing_left = _measured(MALLOC_ARENA_MAX="8")  # what the environment says is left alone
    assert usual_faults > 200 > faults  # even with pages of 2 MB, 20 allocations are 800
    assert returned > 15_000 > nothing_left  # of the 20,000 pages of 4 kB that are 80 MB
