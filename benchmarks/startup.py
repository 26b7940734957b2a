"""How long `recbole-drex --help` takes, compared with Python's own start.

    python benchmarks/startup.py

Whole processes, in turn. Prints a table and writes ``benchmarks/results/startup.json``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import harness

HELP = [sys.executable, "-m", "recbole_drex", "--help"]
NOTHING = [sys.executable, "-c", "pass"]


def seconds(command: Sequence[str]) -> float:
    """Wall time of a process that must succeed."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _run(options: argparse.Namespace) -> None:
    seconds(HELP)  # what is compiled and cached once is not counted
    pairs = [(seconds(HELP), seconds(NOTHING)) for _ in range(options.repetitions)]
    ours, nothing = (statistics.median(side) for side in zip(*pairs, strict=True))
    finding = harness.Finding("recbole-drex --help", f"Python alone: {nothing:.3f} s", ours, "s", 1.0, at_most=True)
    harness.conclude(options.output, [finding], python_s=round(nothing, 3))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "startup")
    parser.add_argument("--repetitions", type=int, default=9, help="of both processes (default: 9)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
