"""How much concurrent trials speed up a search of hyper-parameters, the overhead of Ray per trial, and memory.

    python benchmarks/tune.py --dataset Movie_Critics --model DReX

Runs the same grid of 12 trials twice, one by one and two at a time, with one core each and Ray started again each
time. A trial's own seconds are those that it noted; what the search took beyond them, after the first trial had begun,
is Ray's. Memory is that of the workers at its peak; pages of files, such as libraries, count once, as the workers share
them. Prints a table and writes ``benchmarks/results/tune.json``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

import harness
from recbole_drex.tuning.ray_tune import Resources
from recbole_drex.tuning.search import tune
from recbole_drex.tuning.trial import TRIAL
from recbole_drex.utils.files import write_json

WORKER = "ray::ImplicitFunc.train"  # what Ray calls a process at work on a trial
SPACE = {"learning_rate": [0.01, 0.005, 0.002, 0.001], "embedding_size": [32, 64, 128]}


class Memory(threading.Thread):
    """Watches the memory of the workers: their own pages added up, and those of files, which they share, once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.workers, self.done = 0.0, 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.5):
            own, shared = [], []
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.cmdline()[:1] == [WORKER]:
                        memory = process.memory_info()
                        own.append(memory.rss - memory.shared)
                        shared.append(memory.shared)
                except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                    continue  # it ended while it was looked at
            total = (sum(own) + max(shared, default=0)) / 2**20
            if total > self.peak:
                self.peak, self.workers = total, len(own)


def measure(options: argparse.Namespace, parallel: int, folder: Path) -> dict[str, Any]:
    """One search with the given number of concurrent trials."""
    space = folder / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE), encoding="utf-8")
    watch = Memory()
    watch.start()
    found = tune(
        [options.model],
        options.dataset,
        space=space,
        output=folder / f"parallel-{parallel}",
        resources=Resources(parallel=parallel),
        data_path=options.data_path,
        parameters={
            "epochs": options.epochs,
            "stopping_step": options.epochs,
            "measured_users": 0,
            "explained_users": 0,
        },
    )
    watch.done.set()
    trials = found.trials[options.model]
    # A trial's file is written last when it ends; what is done with the winner afterwards leaves it alone.
    spans = [((trial["folder"] / TRIAL).stat().st_mtime, trial["seconds"]) for trial in trials]
    wall = max(end for end, _ in spans) - min(end - seconds for end, seconds in spans)
    busy = sum(seconds for _, seconds in spans)
    return {
        "parallel": parallel,
        "trials": len(trials),
        "search_s": found.described["seconds"][options.model],
        "trials_s": wall,
        "mean_trial_s": busy / len(trials),
        "overhead_per_trial_s": (wall * parallel - busy) / len(trials),
        "peak_mb": watch.peak,
        "workers": watch.workers,
    }


def _run(options: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        rows = []
        for _ in range(options.repetitions):
            for parallel in (1, 2):
                rows.append(measure(options, parallel, folder))
                shutil.rmtree(folder / f"parallel-{parallel}")
                time.sleep(2)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows = [harness.rounded(row) for row in rows]
    one, two = ([row["search_s"] for row in rows if row["parallel"] == parallel] for parallel in (1, 2))
    ratio = sum(two) / sum(one)
    harness.print_rows(rows)
    print(f"two at once took {ratio:.2f} of the time of one after another")
    asked = {"model": options.model, "dataset": options.dataset, "epochs": options.epochs}
    write_json(options.output, {**asked, "machine": harness.machine(), "ratio": round(ratio, 3), "measured": rows})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "tune")
    parser.add_argument("--model", default="DReX")
    parser.add_argument("--dataset", default="Movie_Critics")
    parser.add_argument("--data_path", metavar="DIR", help="prepared data sets (default: atomic_data)")
    parser.add_argument("--epochs", type=int, default=10, help="of each trial, without early stopping (default: 10)")
    parser.add_argument("--repetitions", type=int, default=1, help="of both searches (default: 1)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
