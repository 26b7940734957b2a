"""How fast `prepare --engine ray` is compared with the local engine, on the cores of this machine.

    python benchmarks/engines.py --raw Movie_Reviews.jsonl.gz --reviews 4096

Prepares the first reviews of a raw file, all of them kept, with both engines in turn, each time in a process and a
folder of its own, so that starting Ray and loading the encoders counts. The manifests, which name the hash of every
file, must be equal. Prints a table and writes ``benchmarks/results/engines.json``.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
from recbole_drex.data.prepare.engine import ENGINES
from recbole_drex.data.prepare.manifest import TIMES
from recbole_drex.errors import DrexError
from recbole_drex.utils.files import read_json, write_json

NAME = "reviews"


def cut(raw: Path, reviews: int, folder: Path) -> Path:
    """The first lines of a compressed file, compressed again."""
    path = folder / f"{NAME}.jsonl.gz"
    with gzip.open(raw, "rt", encoding="utf-8") as lines, gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(itertools.islice(lines, reviews))
    return path


def measure(engine: str, raw: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds of one preparation, and its manifest."""
    command = [sys.executable, "-m", "recbole_drex", "prepare", "--dataset", NAME, "--raw", str(raw)]
    command += ["--data_path", str(folder), "--engine", engine, "--user_min", "1", "--item_min", "1"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise DrexError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1]}")
    manifest = read_json(folder / NAME / f"{NAME}.json")
    times = read_json(folder / NAME / TIMES)
    n = manifest["counts"][-1]["interactions"]
    row = {"engine": engine, "reviews": n, "s": seconds, "reviews_per_s": n / seconds}
    return row | {"encoding_s": times["encode"], "encoded_per_s": n / times["encode"]}, manifest


def _run(options: argparse.Namespace) -> None:
    rows, manifests = [], []
    with tempfile.TemporaryDirectory() as folder:
        raw = cut(options.raw, options.reviews, Path(folder))
        for repetition in range(options.repetitions):
            for engine in ENGINES:
                row, manifest = measure(engine, raw, Path(folder) / f"{engine}-{repetition}")
                rows.append(harness.rounded(row))
                manifests.append(manifest)
    if any(manifest != manifests[0] for manifest in manifests):
        raise DrexError("the engines made different files")
    ratios = {
        name: statistics.median(row[name] for row in rows if row["engine"] == "ray")
        / statistics.median(row[name] for row in rows if row["engine"] == "local")
        for name in ("reviews_per_s", "encoded_per_s")
    }
    harness.print_rows(rows)
    print(f"Ray's rate is {ratios['reviews_per_s']:.2f} of the local one, without start {ratios['encoded_per_s']:.2f}")
    ratios = {name: round(value, 3) for name, value in ratios.items()}
    words = manifests[0]["words"]
    write_json(options.output, {"machine": harness.machine(), "words": words, "ratios": ratios, "measured": rows})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "engines")
    parser.add_argument("--raw", type=Path, required=True, metavar="FILE", help="compressed JSON lines")
    parser.add_argument("--reviews", type=int, default=4096, help="of its first lines (default: 4096)")
    parser.add_argument("--repetitions", type=int, default=3, help="of both engines (default: 3)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
