"""A full disk ends a command with one line and loses nothing; the same command continues once there is room."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import check_equal, content

from recbole_drex.cli.main import main
from recbole_drex.data.prepare.manifest import TIMES
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.errors import StorageError
from recbole_drex.tuning.trial import Task, read_trial, run_trial

pytestmark = pytest.mark.slow

SIZE = 64 << 20
DIFFERING = ("seconds", "peak_memory_mb", "command")
LOGS = ("train.log", "tensorboard", "SHA256SUMS")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "-t", "tmpfs", "-o", f"size={SIZE}", "none", folder]).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def _leave_room(disk: Path, room: int) -> None:
    """Fill the disk up to the given number of free bytes."""
    (disk / "filling").unlink(missing_ok=True)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / "filling").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - room))


def _with_ever_more_room(
    disk: Path, command: list[str], step: int, capfd: pytest.CaptureFixture[str], check: Callable[[], None]
) -> list[str]:
    """Run a command with more and more room until it succeeds; returns the lines that it ended with before."""
    told: list[str] = []
    for room in range(0, SIZE, step):
        _leave_room(disk, room)
        capfd.readouterr()
        code = main(command)
        errors = capfd.readouterr().err
        if code == 0:
            return told
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert code == 2 and len(lines) == 1 and "Traceback" not in errors, errors
        told += lines
        check()
    raise AssertionError(f"never enough room: {told}")


def test_preparation(tmp_path, disk, capfd):
    raw = generate_demo(tmp_path / "raw", users=10, items=20, reviews=120)
    command = ["prepare", "--dataset", "tiny", "--raw", str(raw["reviews"]), "--user_min", "3", "--item_min", "2"]
    older = [*command, "--data_path", str(disk)]
    newer = [*command, "--meta", str(raw["meta"]), "--use_title", "false", "--data_path"]
    assert main(older) == 0 and main([*newer, str(tmp_path / "wanted")]) == 0
    before = content(disk, ignored=[TIMES])
    wanted = content(tmp_path / "wanted", ignored=[TIMES])

    def older_is_whole() -> None:
        check_equal(content(disk, ignored=[TIMES, "filling", "features.partial"]), before)
        assert main(older) == 0

    told = _with_ever_more_room(disk, [*newer, str(disk)], 200 << 10, capfd, older_is_whole)
    print(told)
    assert len(told) >= 3 and all("No space left" in line for line in told)
    check_equal(content(disk, ignored=[TIMES, "filling"]), wanted)


RUNS: dict[str, dict[str, Any]] = {
    "DReX": {"epochs": 3, "explained_users": 3, "measured_users": 0},
    "BPR": {"epochs": 3, "embedding_size": 1024},
}


@pytest.mark.parametrize("model", RUNS)
def test_run(small, tmp_path, disk, capfd, model):
    given = {"model": model, "dataset": small.name, "data_path": small.root, **small.settings, **RUNS[model]}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    command = ["run", "--no_references", "--resume", *words, "--output_dir"]
    assert main([*command, str(tmp_path / "wanted")]) == 0
    wanted = content(tmp_path / "wanted", DIFFERING, LOGS)
    size = sum(path.stat().st_size for path in (tmp_path / "wanted").rglob("*") if path.is_file())
    told = _with_ever_more_room(disk, [*command, str(disk)], size // 8, capfd, lambda: None)
    print(told)
    assert len(told) >= 3 and all("No space left" in line for line in told)
    check_equal(content(disk, DIFFERING, [*LOGS, "filling"]), wanted)


def test_a_full_disk_does_not_count_as_a_failed_trial(small, disk):
    fixed = {**small.settings, "epochs": 2, "data_path": str(small.root)}
    task = Task("BPR", small.name, disk / "search", (2026, 2027), fixed, small.manifest)
    parameters, reports = {"embedding_size": 512}, []
    _leave_room(disk, 300 << 10)
    with pytest.raises(StorageError, match="No space left"):
        run_trial(task, parameters, reports.append)
    assert read_trial(task.trial_folder(parameters))["status"] == "running" and not reports
    _leave_room(disk, SIZE)
    run_trial(task, parameters, reports.append)
    assert read_trial(task.trial_folder(parameters))["status"] == "finished" and len(reports) == 3


def test_files_may_not_grow(tmp_path, capfd):
    """For those who cannot mount: the system's limit on the size of a file is met in the same way."""
    raw = generate_demo(tmp_path / "raw", users=10, items=20, reviews=120)
    command = ["prepare", "--dataset", "tiny", "--raw", str(raw["reviews"]), "--user_min", "3", "--item_min", "2"]
    command += ["--data_path", str(tmp_path / "data")]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (1000, 100_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            code = main(command)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        errors = capfd.readouterr().err
        assert code == 2 and "error: cannot write" in errors and "Traceback" not in errors
    assert main(command) == 0
