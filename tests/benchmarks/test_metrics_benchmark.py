"""The benchmark of the metrics: values always, speed where there is time for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(path: Path, rows: int) -> tuple[int, dict]:
    script = [sys.executable, str(ROOT / "benchmarks" / "metrics.py"), "--rows", str(rows), "--output", str(path)]
    done = subprocess.run(script, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "| rows " in done.stdout, done.stderr
    return done.returncode, json.loads(path.read_text())


def test_loops_over_users_give_the_same_values(tmp_path):
    status, measured = _run(tmp_path / "metrics.json", 2000)
    assert measured["users"] == 200 and measured["largest_difference"] <= 1e-12
    assert (status == 0) == (measured["loop_ratio"] >= 50)


@pytest.mark.slow
def test_vectorised_metrics_are_fifty_times_faster_than_a_loop_over_users(tmp_path):
    status, measured = _run(tmp_path / "metrics.json", 200_000)
    assert status == 0 and measured["largest_difference"] <= 1e-12, measured
