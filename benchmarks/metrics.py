"""Times the vectorised metrics against loops over users, and compares their values.

    python benchmarks/metrics.py

One million test rows, about ten per user; rating errors, and NDCG, precision, recall and F1 at every k with each user's
own test items ranked. Two loops do the same: ``loop`` with numpy inside a user, one function per metric and k, as
libraries that evaluate user by user do; ``pure`` without numpy and with all that metrics share computed once, the
fastest loop we could write. Times are of the processor, so other work on the machine does not count.

Prints a table, writes ``benchmarks/results/metrics.json``, and fails unless the vectorised metrics are at least 50
times faster than ``loop`` and every value of every user agrees with both to 1e-12.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from time import process_time

import numpy as np
from tabulate import tabulate

import harness
from recbole_drex.evaluation.protocol import Protocol
from recbole_drex.evaluation.ranking_metrics import own_test_ranks, ranking_per_user
from recbole_drex.evaluation.rating_metrics import rating_metrics
from recbole_drex.utils.files import write_json

LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)
TOPK = Protocol().topk
FASTER, NEARER = 50.0, 1e-12
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Values = dict[str, np.ndarray]


def make_rows(n: int, seed: int = 2026) -> Rows:
    """User, score, tie key and rating of ``n`` test rows of ``n // 10`` users, user by user; a few scores are tied."""
    rng = np.random.default_rng(seed)
    users = max(n // 10, 1)
    user = np.sort(np.concatenate([np.arange(users), rng.integers(0, users, n - users)]))
    rating = rng.choice(LEVELS, n, p=[0.05, 0.07, 0.15, 0.28, 0.45])
    score = np.round(rating + rng.normal(0, 1.2, n), 3)
    return user, score, rng.permutation(n), rating


def vectorised(rows: Rows) -> Values:
    """Rating errors, and the ranking metrics of every user in rising order, as the evaluation computes them."""
    user, score, tie_key, rating = rows
    errors = rating_metrics(rating, score, LEVELS)
    rank, _ = own_test_ranks(user, score, tie_key)
    frame = ranking_per_user(user, rank, rating, Protocol())
    values = {str(name): column.to_numpy() for name, column in frame.items()}
    return {**values, **{name: np.array([errors[name]]) for name in ("mae", "rmse", "mae_rounded")}}


def loop(rows: Rows) -> Values:
    """The same, one user after the other, with one function per metric."""
    user, score, tie_key, rating = rows
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    absolute, squares, rounded = [], [], []
    values: dict[str, list[float]] = defaultdict(list)
    for start, end in zip(starts, np.append(starts[1:], len(user)), strict=True):
        clipped = np.clip(score[start:end], LEVELS[0], LEVELS[-1])
        absolute.extend(np.abs(clipped - rating[start:end]))
        squares.extend((clipped - rating[start:end]) ** 2)
        rounded.extend(np.abs(np.ceil(clipped - 0.5) - rating[start:end]))
        ranked = rating[start:end][np.lexsort((tie_key[start:end], -score[start:end]))]
        for k in TOPK:
            for metric in (ndcg, precision, recall, f1):
                values[f"{metric.__name__}@{k}"].append(metric(ranked, k))
    return _as_arrays(values, absolute, squares, rounded)


def ndcg(ranked: np.ndarray, k: int) -> float:
    best = _dcg(np.sort(ranked)[::-1][:k])
    return _dcg(ranked[:k]) / best if best else math.nan


def _dcg(ratings: np.ndarray) -> float:
    return ((2.0**ratings - 1) / np.log2(np.arange(2, len(ratings) + 2))).sum()


def precision(ranked: np.ndarray, k: int) -> float:
    return (ranked[:k] >= 4).sum() / k if (ranked >= 4).any() else math.nan


def recall(ranked: np.ndarray, k: int) -> float:
    relevant = (ranked >= 4).sum()
    return (ranked[:k] >= 4).sum() / relevant if relevant else math.nan


def f1(ranked: np.ndarray, k: int) -> float:
    p, r = precision(ranked, k), recall(ranked, k)
    return 2 * p * r / (p + r) if p + r else p + r


def pure(rows: Rows) -> Values:
    """The same again, in plain Python."""
    absolute, squares, rounded = [], [], []
    lists: dict[int, list[tuple[float, int, float]]] = defaultdict(list)
    for user, score, tie_key, rating in zip(*(column.tolist() for column in rows), strict=True):
        lists[user].append((-score, tie_key, rating))
        clipped = min(max(score, LEVELS[0]), LEVELS[-1])
        absolute.append(abs(clipped - rating))
        squares.append((clipped - rating) ** 2)
        rounded.append(abs(math.ceil(clipped - 0.5) - rating))
    values: dict[str, list[float]] = defaultdict(list)
    for user in sorted(lists):
        ranked = [rating for _, _, rating in sorted(lists[user])]
        ideal = sorted(ranked, reverse=True)
        relevant = sum(rating >= 4 for rating in ranked)
        for k in TOPK:
            dcg = sum((2**rating - 1) / math.log2(place + 2) for place, rating in enumerate(ranked[:k]))
            best = sum((2**rating - 1) / math.log2(place + 2) for place, rating in enumerate(ideal[:k]))
            hits = sum(rating >= 4 for rating in ranked[:k])
            p, r = (hits / k, hits / relevant) if relevant else (math.nan, math.nan)
            values[f"ndcg@{k}"].append(dcg / best if best else math.nan)
            values[f"precision@{k}"].append(p)
            values[f"recall@{k}"].append(r)
            values[f"f1@{k}"].append(2 * p * r / (p + r) if p + r else p + r)
    return _as_arrays(values, absolute, squares, rounded)


def _as_arrays(
    values: dict[str, list[float]], absolute: list[float], squares: list[float], rounded: list[float]
) -> Values:
    n = len(absolute)
    errors = {
        "mae": [math.fsum(absolute) / n],
        "rmse": [math.sqrt(math.fsum(squares) / n)],
        "mae_rounded": [math.fsum(rounded) / n],
    }
    return {name: np.array(column, dtype=np.float64) for name, column in {**values, **errors}.items()}


def largest_difference(one: Values, other: Values) -> float:
    """Over all values of all users; infinite where the metrics differ, or only one of two values is NaN."""
    if one.keys() != other.keys() or any(
        not np.array_equal(np.isnan(one[name]), np.isnan(other[name])) for name in one
    ):
        return math.inf
    return max(float(np.nanmax(np.abs(one[name] - other[name]))) for name in one)


def measure(n: int) -> dict[str, float]:
    """Time the three on ``n`` rows, the vectorised one as the median of five runs."""
    rows = make_rows(n)
    quick = sorted(_timed(vectorised, rows)[0] for _ in range(5))[2]
    loop_seconds, looped = _timed(loop, rows)
    pure_seconds, in_python = _timed(pure, rows)
    values = vectorised(rows)
    return {
        "rows": n,
        "users": len(np.unique(rows[0])),
        "vectorised_seconds": quick,
        "loop_seconds": loop_seconds,
        "pure_seconds": pure_seconds,
        "loop_ratio": loop_seconds / quick,
        "pure_ratio": pure_seconds / quick,
        "largest_difference": max(largest_difference(values, looped), largest_difference(values, in_python)),
    }


def _timed(function: Callable[[Rows], Values], rows: Rows) -> tuple[float, Values]:
    started = process_time()
    values = function(rows)
    return process_time() - started, values


def _run(options: argparse.Namespace) -> int:
    measured = measure(options.rows)
    machine = {**harness.machine(), "numpy": np.__version__}
    shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in measured.items()}
    print(tabulate([*shown.items(), *machine.items()], headers=["measured", "value"], tablefmt="github"))
    write_json(options.output, {**measured, "machine": machine})
    good = measured["loop_ratio"] >= FASTER and measured["largest_difference"] <= NEARER
    if not good:
        print(f"wanted: {FASTER:g} times as fast as the loop, differences of at most {NEARER:g}", file=sys.stderr)
    return 0 if good else 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "metrics")
    parser.add_argument("--rows", type=int, default=1_000_000)
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
