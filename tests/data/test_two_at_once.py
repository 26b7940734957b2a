"""Two processes that write the same data set: one waits for the other, or names it."""

from __future__ import annotations

import subprocess
import time

import pytest
from killing import COMMAND, ENVIRONMENT, Process, content

from recbole_drex.data.prepare.manifest import TIMES

pytestmark = pytest.mark.slow


def test_a_data_set_is_prepared_once(small, tmp_path):
    command = [*COMMAND, "prepare", "--dataset", small.name, "--data_path", str(tmp_path)]
    command += ["--raw", str(small.raw["reviews"]), "--meta", str(small.raw["meta"])]
    command += [f"--{name}={value}" for name, value in small.settings.items()]
    both = [subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    while all(process.poll() is None for process in both):
        time.sleep(0.01)
    vectors = tmp_path / small.name / "features" / "vectors.npy"
    made = vectors.stat().st_mtime_ns
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert vectors.stat().st_mtime_ns == made, "by one, and used by the other"
    result, wanted = (content(root / small.name, ignored=[TIMES]) for root in (tmp_path, small.root))
    assert result.keys() == wanted.keys()


def test_a_run_has_its_folder_to_itself(small, tmp_path):
    command = [*COMMAND, "run", "--model", "BPR", "--no_references", "--dataset", small.name, "--epochs", "5000"]
    command += ["--stopping_step", "5000", "--data_path", str(small.root), "--output_dir", str(tmp_path)]
    command += [f"--{name}={value}" for name, value in small.settings.items()]
    folder = tmp_path / small.name / "BPR" / "seed-2026"
    first = Process(command, tmp_path)
    try:
        while not (folder / "last.safetensors").is_file():
            assert not first.ends_within(0.1)
        for more in ([], ["--resume"]):
            before = (folder / "last.safetensors").stat()
            second = subprocess.run([*command, *more], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
            lines = second.stderr.splitlines()
            assert second.returncode == 2 and len(lines) == 1, second.stderr
            assert lines[0].startswith(f"error: another process has been working on the run {folder} for over 10 s")
            assert not first.ends_within(0.1)
            assert (folder / "last.safetensors").stat().st_mtime_ns > before.st_mtime_ns, "the first one goes on"
    finally:
        first.kill(alone=False)
