"""Runs a command and watches what it takes: wall time, and the memory of its process with all processes below it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from recbole_drex.errors import DrexError

_EVERY = 0.05  # seconds between two looks


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes:
        began: the time of its start, as :func:`time.time` gives it.
        seconds: of wall time.
        memory: peak of the resident bytes of all its processes together. Pages that two of them share count twice.
    """

    began: float
    seconds: float
    memory: int


def run(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end; what it prints goes to the file ``log``.

    Args:
        command: with its arguments.
        log: file that is written.
        env: variables that are set in its environment.

    Raises:
        DrexError: the command fails; the message has its last line.
    """
    began, started, peaks, done = time.time(), time.perf_counter(), [0], threading.Event()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )  # fmt: skip
        watch = threading.Thread(target=_watch, args=(process.pid, peaks, done), daemon=True)
        watch.start()
        process.wait()
    seconds = time.perf_counter() - started
    done.set()
    watch.join()
    if process.returncode:
        raise DrexError(f"{' '.join(command)} failed with exit code {process.returncode}: {last_line(log)}; see {log}")
    return Usage(began, seconds, peaks[0])


def last_line(log: Path) -> str:
    """The last line of a file that is not empty."""
    lines = [line.strip() for line in log.read_text(errors="replace").replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line), "it printed nothing")


def _watch(pid: int, peaks: list[int], done: threading.Event) -> None:
    # The kernel's own maximum (ru_maxrss) is of no use: it counts what this process held when it started the command.
    while not done.wait(_EVERY):
        resident = 0
        with contextlib.suppress(psutil.Error):  # has ended
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    resident += one.memory_info().rss
        peaks[0] = max(peaks[0], resident)
