"""How fast raw reviews are prepared, compared with pandas, and how time and memory grow with their number.

    python benchmarks/preparing.py

Preparing is all of `recbole-drex prepare` but the encoder: reading compressed JSON lines, checking them, keeping the
latest of repeated pairs and the core of users and items, and writing the atomic file and the review texts. The reviews
are the demo's, dealt out to users and items as unevenly as in Amazon Reviews 2023, where most users write only one.

pandas does the same in its plainest form: `read_json(lines=True)` in pieces, of which only the needed columns are kept,
and a loop of two groupbys for the core; both keep the same interactions, or the benchmark fails. It takes 2 GB for a
million reviews, so it is given a share of them, which is to its advantage: its sorting grows faster than the data.
Every measurement is a process of its own, without the time to import; the sides take turns. Prints a table and writes
``benchmarks/results/preparing.json``.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import harness
import plain_data
from plain_data import BLOCK, COLUMNS
from recbole_drex.data.prepare.atomic_files import write_inter
from recbole_drex.data.prepare.filter import filter_reviews
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.data.raw.readers import read_reviews
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.review_texts import write_texts
from recbole_drex.errors import DrexError

USER_MIN, ITEM_MIN = 20, 5  # the paper's, and the defaults
SHARD = 1024  # reviews whose texts are taken together, as in recbole_drex.data.prepare.pipeline
LIMIT = 2048  # MB


def generate(path: Path, reviews: int, seed: int = 2026, items: int | None = None, distinct: bool = False) -> Path:
    """Write a number of reviews, with texts and ratings of the demo and new users, items and times.

    A user has k reviews with a probability in proportion to k ** -2.4, which is two on average; the most popular tenth
    of the items, 36 reviews each on average, has half of the reviews.

    Args:
        path: of the compressed JSON lines.
        reviews: how many.
        seed: of all that is random.
        items: so many; None: one for 36 reviews.
        distinct: no two texts are the same: each ends with its number.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        made = generate_demo(folder, seed=seed, users=1000, items=1000, reviews=30_000)
        with gzip.open(made["reviews"], "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
    heads, texts = [], []
    for row in rows:
        text = json.dumps(row.pop("text"), ensure_ascii=False)
        heads.append(json.dumps({key: row[key] for key in ("rating", "title", "images")}, ensure_ascii=False)[:-1])
        texts.append(text[:-1])  # without the closing quote
    user = np.repeat(np.arange(reviews), np.minimum(rng.zipf(2.4, reviews), 1000))[:reviews]
    items = items or max(20, reviews // 36)
    number = 0
    with gzip.open(path, "wt", compresslevel=4, encoding="utf-8") as file:
        for users in np.split(user, range(BLOCK, reviews, BLOCK)):
            head = rng.integers(0, len(heads), len(users))
            item = (items * rng.random(len(users)) ** 3.3).astype(int)
            moment = 1_600_000_000_000 + rng.integers(0, 100_000_000_000, len(users))
            for k, u, i, t in zip(*(values.tolist() for values in (head, users, item, moment)), strict=True):
                number += 1
                text = f"{texts[k]} ({number})" if distinct and len(texts[k]) > 1 else texts[k]
                ids = f'"asin": "B{i:09d}", "parent_asin": "B{i:09d}", "user_id": "AE{u:026d}"'
                file.write(f'{heads[k]}, "text": {text}", {ids}, "timestamp": {t}}}\n')
    return path


def by_us(raw: Path, folder: Path) -> None:
    """The steps of :func:`recbole_drex.data.prepare.pipeline.prepare` with an encoder that keeps no word."""
    read = read_reviews(raw, folder / "spill.parquet")
    frame, _ = filter_reviews(read.frame, user_min=USER_MIN, item_min=ITEM_MIN)
    reviewed = np.flatnonzero(frame["has_review"].to_numpy())
    rows = frame["row"].to_numpy()[reviewed]
    offsets = np.zeros(len(rows) + 1, np.int64)
    wordless = FeatureStore(np.zeros((0, 1), np.float16), offsets, np.zeros(0, np.int32), [], {}, "")
    write_inter(folder / "reviews.inter", frame, reviewed, wordless)
    shards = [rows[start : start + SHARD] for start in range(0, len(rows), SHARD)]
    write_texts(folder / "texts.parquet", map(read.texts, shards))


def by_pandas(raw: Path, folder: Path, engine: str = "ujson") -> None:
    """The same with pandas: in chunks by its own parser, or whole by Arrow's, which has no chunks."""
    frame = plain_data.read(raw) if engine == "ujson" else pd.read_json(raw, lines=True, engine="pyarrow")[COLUMNS]
    frame = plain_data.core(frame, USER_MIN, ITEM_MIN)
    names = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    frame[COLUMNS[:4]].set_axis(names, axis=1).to_csv(folder / "reviews.inter", sep="\t", index=False)
    frame.loc[frame["review"] != "", ["review"]].to_parquet(folder / "texts.parquet", compression="zstd")


ARROW = "pandas, Arrow's parser"
WAYS: dict[str, Callable[[Path, Path], None]] = {
    "recbole_drex": by_us,
    "pandas": by_pandas,
    ARROW: functools.partial(by_pandas, engine="pyarrow"),
}


def one(way: str, raw: Path) -> None:
    """Prepare once and print what it took, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        WAYS[way](raw, Path(folder))
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
        made = pd.read_csv(Path(folder) / "reviews.inter", sep="\t", usecols=[0, 1, 2])
    kept = sorted(made.astype(str).itertuples(index=False, name=None))
    content = hashlib.sha256(repr(kept).encode()).hexdigest()
    json.dump({"s": seconds, "MB": peak, "kept": len(kept), "content": content}, sys.stdout)


def measure(way: str, raw: Path) -> dict[str, Any]:
    """What a preparation in a process of its own took.

    Returns:
        ``s``, ``MB`` (largest memory of the process), ``kept`` (interactions) and ``content``, a hash of those.
    """
    command = [sys.executable, __file__, "--way", way, "--raw", str(raw)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DrexError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def _run(options: argparse.Namespace) -> None:
    if options.way:
        one(options.way, options.raw)
        return
    with tempfile.TemporaryDirectory() as folder:
        numbers = {options.reviews, options.share, *options.sizes}
        raw = {n: generate(Path(folder) / f"{n}.jsonl.gz", n) for n in sorted(numbers)}
        plan = [("recbole_drex", n) for n in options.sizes] + [(way, options.share) for way in WAYS]
        measured = [(way, n, measure(way, raw[n])) for _ in range(options.repetitions) for way, n in plan]
        whole = measure("recbole_drex", raw[options.reviews])
    if len({found["content"] for _, n, found in measured if n == options.share}) > 1:
        raise DrexError("pandas keeps other interactions")

    def median(way: str, n: int, what: str = "s") -> float:
        return statistics.median(
            found[what] for measured_way, size, found in measured if (measured_way, size) == (way, n)
        )

    rows = [
        {"by": way, "reviews": n, "s": median(way, n), "reviews_per_s": n / median(way, n), "MB": median(way, n, "MB")}
        for way, n in dict.fromkeys(plan)
    ]
    rate = options.reviews / whole["s"]
    rows.append(
        {"by": "recbole_drex", "reviews": options.reviews, "s": whole["s"], "reviews_per_s": rate, "MB": whole["MB"]}
    )
    of_pandas = {way: options.share / median(way, options.share) for way in WAYS}
    slope = np.polyfit(np.log(options.sizes), np.log([median("recbole_drex", n) for n in options.sizes]), 1)[0]
    what = f"preparing {options.reviews:,} raw reviews"
    findings = [
        harness.Finding(
            f"{what}, rate", f"pandas with {options.share:,} of them: {of_pandas['pandas']:,.0f} reviews/s",
            rate / of_pandas["pandas"], "times as fast", 5.0,
        ),
        harness.Finding(
            f"{what}, rate", f"pandas with Arrow's parser: {of_pandas[ARROW]:,.0f} reviews/s",
            rate / of_pandas[ARROW], "times as fast",
        ),
        harness.Finding(f"{what}, memory", "largest of the process", whole["MB"], "MB", LIMIT, at_most=True),
        harness.Finding(
            f"preparing {options.sizes[0]:,} to {options.sizes[-1]:,} raw reviews", "log seconds over log reviews",
            float(slope), "slope", 1.1, at_most=True,
        ),
    ]  # fmt: skip
    harness.print_rows(harness.rounded(row) for row in rows)
    harness.conclude(options.output, findings, kept=whole["kept"], measured=[harness.rounded(row) for row in rows])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "preparing")
    parser.add_argument("--reviews", type=int, default=5_000_000, help="(default: %(default)s)")
    parser.add_argument("--share", type=int, default=1_000_000, help="what pandas is given (default: %(default)s)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="N", default=[30_000, 100_000, 300_000, 1_000_000],
        help="numbers of reviews for the growth of time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--repetitions", type=int, default=3, help="of all but the largest (default: %(default)s)")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
