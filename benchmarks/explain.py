"""How long one explained recommendation takes.

    python benchmarks/explain.py results/Movie_Critics/DReX/seed-2026 results/Movie_Reviews/DReX/seed-2026

Loads each run, explains to a few users so that everything is loaded that is loaded on first use, and then recommends
one item to each of 200 other users at random and explains it, twice over: the second time the user's profile, quotes
and tastes are remembered. Prints a table and writes ``benchmarks/results/explain.json``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import harness
from recbole_drex.experiments.run import load_experiment
from recbole_drex.explain.explainer import Explainer
from recbole_drex.utils.files import write_json

_WARM_UP = 20


def measure(run: Path, users: int) -> list[dict[str, Any]]:
    """Percentiles of the milliseconds that explaining takes to users who are asked for the first and second time."""
    explainer = Explainer(load_experiment(run))
    names = explainer.recommender
    ids = np.random.default_rng(0).permutation(explainer.users_by_evidence())[: _WARM_UP + users]
    chosen = [names.user_name(int(uid)) for uid in ids]
    for user in chosen[:_WARM_UP]:
        explainer.explain(user, top=1)
    rows = []
    for turn in ("first", "again"):
        milliseconds = []
        for user in chosen[_WARM_UP:]:
            started = time.perf_counter()
            explainer.explain(user, top=1)
            milliseconds.append(1000 * (time.perf_counter() - started))
        p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).round(1).tolist()
        row = {"run": str(Path(*run.parts[-3:])), "users": len(milliseconds), "asked": turn}
        rows.append({**row, "p50_ms": p50, "p90_ms": p90, "p99_ms": p99})
    return rows


def _run(options: argparse.Namespace) -> None:
    rows = [row for run in options.runs for row in measure(run.resolve(), options.users)]
    machine = {**harness.machine(), "threads": torch.get_num_threads()}
    write_json(options.output, {"machine": machine, "measured": rows})
    harness.print_rows(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "explain")
    parser.add_argument("runs", type=Path, nargs="+", metavar="DIR", help="folders of finished runs")
    parser.add_argument("--users", type=int, default=200, help="that are explained to (default: 200)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
