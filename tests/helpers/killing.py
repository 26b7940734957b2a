"""Kills a command at random moments, again and again, until it has ended as if nothing had happened."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import psutil
from safetensors import safe_open

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "recbole_drex"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
PATIENCE = 300.0  # seconds that a command may take
# Agents of Ray that hold and write nothing may outlive it by minutes.
HARMLESS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}


class Process:
    """A command that writes into a folder."""

    def __init__(self, command: list[str], folder: Path):
        self._folder, self._before = folder, _times(folder)
        # A pipe would be kept open by what the process leaves behind.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=self._errors)
        self.started = time.monotonic()

    def wait_for_a_file(self) -> float:
        """Wait until it has written something, or has ended; returns the seconds that took."""
        while self._process.poll() is None and _times(self._folder) == self._before:
            assert time.monotonic() < self.started + PATIENCE
            time.sleep(0.01)
        return time.monotonic() - self.started

    def ends_within(self, seconds: float) -> bool:
        """Wait so long for it to end; if it does, it must have done what it was to do."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._errors.seek(0)
        errors = self._errors.read()
        assert self._process.returncode == 0 and "Traceback" not in errors, errors
        return True

    def kill(self, alone: bool) -> list[psutil.Process]:
        """Kill it: alone, or with all that it has started; returns the processes that it leaves behind."""
        below = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        for child in () if alone else below:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        return below


@dataclasses.dataclass
class Victim:
    """A command, and what must be the same however often it was killed on the way.

    Attributes:
        command: what begins, or continues with, what is to be done in a folder.
        content: what a folder holds once that is done, without what differs from run to run.
        phase: what the command is at, going by what lies in the folder.
        begin: makes the folder, with what is to be there before.
        after_kill: checks what must hold in the folder after every kill.
    """

    command: Callable[[Path], list[str]]
    content: Callable[[Path], dict[str, Any]]
    phase: Callable[[Path], str]
    begin: Callable[[Path], Any] = Path.mkdir
    after_kill: Callable[[Path], None] = lambda folder: None

    def is_killed(self, folder: Path, kills: int, seed: int) -> collections.Counter[str]:
        """Kill the command several times; when it ends by itself, start it again in another folder.

        Before a process writes its first file it can do no harm. From there on moments are drawn from as long as an
        undisturbed process takes, and only kills that hit a running process count. Half of them hit it alone, as when
        memory runs out, and half hit with it all that it has started, as when power fails.

        Returns:
            How many kills hit which phase.
        """
        rng, hits, number = random.Random(seed), collections.Counter[str](), 0
        left: list[psutil.Process] = []
        index = folder / "undisturbed"
        self.begin(index)
        process = Process(self.command(index), index)
        start = process.wait_for_a_file()
        assert process.ends_within(PATIENCE)
        seconds, expected = time.monotonic() - process.started - start, self.content(index)
        print(f"undisturbed: {start:.1f} s to the first file, {seconds:.1f} s from there; seed of the kills: {seed}")
        begun = time.monotonic()
        while (index := folder / str(number)).exists() or sum(hits.values()) < kills:
            if not index.exists():
                self.begin(index)
            process = Process(self.command(index), index)
            process.wait_for_a_file()
            if process.ends_within(rng.uniform(0, seconds) if sum(hits.values()) < kills else PATIENCE):
                check_equal(self.content(index), expected)
                number += 1
            else:
                hits[self.phase(index)] += 1
                left += process.kill(alone=rng.random() < 0.5)
                self.after_kill(index)
        print(f"{sum(hits.values())} kills, {number} ends in {time.monotonic() - begun:.0f} s: {dict(hits)}")
        _, alive = psutil.wait_procs(left, timeout=20)
        names = {child.name() for child in alive}
        for child in alive:
            child.kill()
        assert names <= HARMLESS
        return hits


def check_equal(result: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare what two folders hold, file by file."""
    assert sorted(result) == sorted(expected)
    for name in expected:
        assert result[name] == expected[name], name


def content(folder: Path, differing: Collection[str] = (), ignored: Collection[str] = ()) -> dict[str, Any]:
    """What the files in a folder hold, by their paths: bytes, or the value of JSON; where the folder lies is left out.

    Args:
        folder: the folder.
        differing: entries of JSON, at any depth, that are left out.
        ignored: names of files and folders that are left out.
    """
    result: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not set(parts) & set(ignored) and path.suffix != ".lock":
            result["/".join(parts)] = _read(path, folder, differing)
    return result


def _read(path: Path, folder: Path, differing: Collection[str]) -> Any:
    if path.suffix == ".safetensors":  # whose header has no order of its own
        with safe_open(str(path), "np") as file:
            return file.metadata()  # a hash of the tensors among it
    whole = path.read_bytes().replace(bytes(folder), b"FOLDER")
    return _without(json.loads(whole), differing) if path.suffix == ".json" else whole


def _without(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    return [_without(item, names) for item in value] if isinstance(value, list) else value


def _times(folder: Path) -> dict[Path, int]:
    """When each file and folder below was written last."""
    times = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            times[path] = path.stat().st_mtime_ns
    return times
