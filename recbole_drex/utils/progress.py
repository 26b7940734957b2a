"""Progress on the terminal during long operations."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

WITHOUT_REST = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
"""Format of a tqdm bar without estimated end: training may stop early, and runs of other models take longer."""

_SILENT = 1.0  # seconds without output after which the stage is shown
_stages: list[tuple[str, float]] = []


@contextlib.contextmanager
def stage(title: str) -> Iterator[None]:
    """Set the current stage for :func:`never_silent`; an empty title shows nothing."""
    _stages.append((title, monotonic()))
    try:
        yield
    finally:
        _stages.pop()


@contextlib.contextmanager
def never_silent(title: str) -> Iterator[None]:
    """After a second without output, refresh the tqdm bars, or show the current stage.

    If standard error is not a terminal, only named stages are shown.

    Args:
        title: the text outside of any :func:`stage`.
    """
    if os.environ.get("RANK", "0") != "0":  # of several processes that share a terminal
        yield
        return
    outputs, watch, stop = (sys.stdout, sys.stderr), _Watch(sys.stderr, title), threading.Event()

    def tick() -> None:
        while not stop.wait(0.5):
            watch.tick()

    thread = threading.Thread(target=tick, name="never_silent", daemon=True)
    sys.stdout, sys.stderr = (_Watched(output, watch) for output in outputs)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sys.stdout, sys.stderr = outputs
        watch.clear()


class _Watch:
    """Records the time of the last output, and shows the current stage in a line that it removes again."""

    def __init__(self, stream: Any, title: str):
        self.stream, self.title, self.started, self.last = stream, title, monotonic(), monotonic()
        self.lock, self.shown = threading.RLock(), 0

    def tick(self) -> None:
        if monotonic() - self.last < _SILENT or self._refreshed():
            return
        named, started = _stages[-1] if _stages else (self.title, self.started)
        if named and (_stages or self.stream.isatty()):
            with self.lock:
                self.clear()
                text = f"{named}: {monotonic() - started:.0f} s"
                self.stream.write(text)
                self.stream.flush()
                self.shown = len(text)

    def clear(self) -> None:
        with self.lock:
            if self.shown:
                self.stream.write(f"\r{' ' * self.shown}\r")
                self.stream.flush()
                self.shown = 0

    def _refreshed(self) -> bool:
        """Whether there are bars, which show the elapsed time."""
        if "tqdm" not in sys.modules:
            return False
        from tqdm import tqdm

        with tqdm.get_lock():
            bars = list(getattr(tqdm, "_instances", ()))
            for bar in bars:
                bar.delay = 0  # what is shown is removed at its end
                bar.refresh(nolock=True)
        return bool(bars)


class _Watched:
    """An output stream that records the time of the last write."""

    def __init__(self, stream: Any, watch: _Watch):
        self._stream, self._watch = stream, watch

    def write(self, text: str) -> int:
        with self._watch.lock:
            self._watch.clear()
            self._watch.last = monotonic()
            return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
