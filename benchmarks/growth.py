"""How the cost of DReX grows with the data: time to encode, train and evaluate, and memory.

    python benchmarks/growth.py
    python benchmarks/growth.py --sizes 30000 100000 --encoded 1000 4000

Data are generated (``generated.py``): reviews of some ten words with a vector, as critics' have, 30 interactions a
user, and a catalogue of one size, since ranking whole catalogues costs users times items. Each size has a process of
its own, in which everything runs as in ``recbole-drex run``: loading, split, one epoch with default settings,
validation, checkpoints, and the evaluation of the test part. Encoding is measured by the real preparation of the demo's
reviews, at sizes that can be afforded.

Memory is what the process holds by itself (its resident pages less those of files, which the system takes back when it
needs room: libraries, word features and the scratch file of pooled reviews), at its peak, less what it held after its
imports. Its slope between the smallest and the largest size leaves out what does not grow. Prints a table and writes
``benchmarks/results/growth.json``. A size that would start after ``--minutes`` is left out, with a note.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import generated
import harness
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.manifest import TIMES
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.errors import DrexError
from recbole_drex.experiments.run import build
from recbole_drex.training.trainer import make_trainer
from recbole_drex.utils.files import read_json

WORDS = 10.4
"""With a vector, of a review: as many as Movie_Critics has."""


class Memory(threading.Thread):
    """Watches this process's own memory, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.done = 0, threading.Event()

    @staticmethod
    def held() -> int:
        memory = psutil.Process().memory_info()
        return memory.rss - memory.shared

    def run(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.held())


def train(root: Path, threads: int) -> dict[str, Any]:
    """One training on the data set in ``root``: seconds of its parts and bytes at its peak."""
    config = Config("DReX", generated.NAME, [], {"data_path": str(root), "threads": threads, "epochs": 1})
    before, watch = Memory.held(), Memory()
    watch.start()
    started = time.perf_counter()
    experiment = build(config, {})
    built = time.perf_counter() - started
    trainer = make_trainer(config, experiment.model, root / "run", experiment.parts)
    trainer.train_model()
    started = time.perf_counter()
    trainer.evaluate_part(experiment.parts.test)
    evaluated = time.perf_counter() - started
    watch.done.set()
    watch.join()
    seconds = {"build": built, "epoch": trainer.history[0]["seconds"], "evaluate": evaluated}
    return {"seconds": seconds, "bytes": watch.peak - before}


def measure(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Generate a data set and train on it in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="recbole-drex-") as folder:
        made = generated.generate(Path(folder), size, options.items, WORDS)
        command = [sys.executable, __file__, "--train", folder, "--threads", str(options.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise DrexError(f"the training on {size:,} interactions failed")
        return {**made, **json.loads(done.stdout.splitlines()[-1])}


def encode(size: int) -> float:
    """Seconds that the preparation needs to encode a number of reviews of the demo."""
    with tempfile.TemporaryDirectory(prefix="recbole-drex-") as folder:
        raw = generate_demo(Path(folder) / "raw", users=size // 30, items=max(100, size // 50), reviews=size)
        settings = Config("DReX", "demo", [], {"user_min": 1, "item_min": 1}).preparation()
        prepare("demo", folder, settings, Sources((raw["reviews"],), raw["meta"]))
        return read_json(Path(folder) / "demo" / TIMES)["encode"]


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Of log time over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _slope_finding(what: str, sizes: Sequence[int], seconds: Sequence[float]) -> harness.Finding:
    against = f"{min(sizes):,} to {max(sizes):,}: {seconds[0]:.3g} to {seconds[-1]:.3g} s"
    return harness.Finding(f"growth of {what}", against, slope(sizes, seconds), "log/log", 1.1, at_most=True)


def findings(rows: Sequence[dict[str, Any]], encoded: dict[int, float]) -> list[harness.Finding]:
    """What the measured sizes, smallest first, say."""
    found = []
    if len(encoded) > 1:
        found.append(_slope_finding("encode", list(encoded), list(encoded.values())))
    sizes = [row["interactions"] for row in rows]
    if len(rows) > 1:
        for part in ("build", "epoch", "evaluate"):
            found.append(_slope_finding(part, sizes, [row["seconds"][part] for row in rows]))
        grown = (rows[-1]["bytes"] - rows[0]["bytes"]) / (sizes[-1] - sizes[0]) / 1000
        against = f"{sizes[0]:,} to {sizes[-1]:,}"
        found.append(harness.Finding("memory of training, as it grows", against, grown, "kB/row", 1.5, at_most=True))
    whole = rows[-1]["bytes"] / sizes[-1] / 1000
    what = "memory of training, all of it"
    found.append(harness.Finding(what, f"{sizes[-1]:,} interactions", whole, "kB/row", 1.5, at_most=True))
    return found


def _run(options: argparse.Namespace) -> None:
    if options.train is not None:
        print(json.dumps(train(options.train, options.threads)))
        return
    started, rows = time.monotonic(), []
    encoded = {size: encode(size) for size in sorted(options.encoded)}
    for size in sorted(options.sizes):
        if rows and time.monotonic() - started > 60 * options.minutes:
            print(f"note: {size:,} interactions and more are left out: {options.minutes:g} minutes are over")
            break
        rows.append(measure(size, options))
        print(f"{size:,} interactions: {rows[-1]['seconds']}, {rows[-1]['bytes'] / 2**20:.0f} MB", flush=True)
    neighbours = {
        part: [
            round(slope([a["interactions"], b["interactions"]], [a["seconds"][part], b["seconds"][part]]), 3)
            for a, b in itertools.pairwise(rows)
        ]
        for part in ("build", "epoch", "evaluate")
    }
    details = {"encoded": {str(size): round(value, 2) for size, value in encoded.items()}, "neighbours": neighbours}
    harness.conclude(options.output, findings(rows, encoded), sizes=rows, items=options.items, **details)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "growth")
    sizes = {"type": int, "nargs": "+"}
    parser.add_argument("--sizes", **sizes, default=[30_000, 100_000, 300_000, 1_000_000], help="interactions")
    parser.add_argument("--encoded", **sizes, default=[1000, 2000, 4000, 8000, 16_000], help="reviews that are encoded")
    parser.add_argument("--items", type=int, default=2000, help="in the catalogue (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=9, help="after which no size is begun (default: %(default)s)")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)  # the data of a process that only trains
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
