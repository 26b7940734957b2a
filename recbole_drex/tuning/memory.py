"""Checks that the memory of this machine suffices for the parallel trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from recbole_drex.errors import ConfigError
from recbole_drex.tuning.ray_tune import Resources

PROCESS = 600  # MB of a worker with torch, Ray and RecBole before any data
ROW = 3_000  # bytes per interaction; DReX of width 64 takes 1,240 (benchmarks/growth.py), wider ones more
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_USED = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def check_memory(resources: Resources, manifest: Mapping[str, Any], local: bool) -> None:
    """Refuse a search whose parallel trials would need more memory than is free.

    A trial is assumed to need :data:`PROCESS` and :data:`ROW` per interaction, which is rather too much; the
    feature store is memory-mapped and is not counted.

    Args:
        resources: resources, with the number of parallel trials.
        manifest: of the data set.
        local: whether the trials run on this machine; the memory of a cluster is unknown.

    Raises:
        ConfigError: it does not suffice.
    """
    if not local:
        return
    rows = (manifest.get("statistics") or {"interactions": 0})["interactions"]
    each = PROCESS + rows * ROW / 2**20
    free = free_memory() / 2**20
    if resources.at_once * each > free:
        fits = int(free // each)
        advice = f"--parallel {fits} would fit" if fits else "not even one would fit"
        raise ConfigError(
            f"{resources.at_once} trials at once need about {resources.at_once * each / 1024:.1f} GiB of memory, but "
            f"{free / 1024:.1f} GiB are free; {advice}"
        )


def free_memory() -> int:
    """Bytes that are free for this process and its children, in the machine or in its container."""
    free = psutil.virtual_memory().available
    for limit, used in zip(_LIMITS, _USED, strict=True):
        if Path(limit).is_file() and Path(used).is_file():
            text = Path(limit).read_text().strip()
            if text.isdecimal():
                free = min(free, int(text) - int(Path(used).read_text()))
    return free
