"""Attention over stored words compared with the paper's equations taken literally, and with the memory's bandwidth.

    python benchmarks/attention.py

Reviews are drawn in batches of 512, as many as a step of DReX reads, until all are read once. Their pooled and
projected features and the gradients of all parameters are computed in turn by ``WordAttention`` and by projecting every
word. The words are generated, as many a review on average as in Movie_Critics and in Movie_Reviews, unless
``--features`` names a feature store. The fewer words a review has, the more of the time goes into projecting the pooled
reviews, which both ways must do. Prints a table and writes ``benchmarks/results/attention.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import harness
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.feature_store_writer import Shard, StoreWriter
from recbole_drex.model.layers.word_attention import WordAttention, softmax_within
from recbole_drex.utils.allocator import keep_freed_memory

BATCH = 512
WIDTH, SIZE = 384, 64  # of MiniLM's vectors; of DReX's messages
_SHARD = 1024  # reviews
_LARGE = 1 << 26  # numbers that no cache holds
LENGTHS = (10.4, 85.0)  # words of a review, of Movie_Critics and Movie_Reviews

Compute = Callable[[WordAttention, torch.Tensor], torch.Tensor]


def generate(folder: Path, words: int, length: float) -> FeatureStore:
    """A store of about ``n_words`` random words, in reviews of ``length`` words on average."""
    rng = np.random.default_rng(0)
    reviews = round(words / length)
    writer = StoreWriter(folder / "shards", WIDTH, "generated", -(-reviews // _SHARD))
    for number in range(writer.n_shards):
        counts = 1 + rng.poisson(length - 1, size=min(_SHARD, reviews - number * _SHARD))
        vectors = rng.standard_normal((counts.sum(), WIDTH), dtype=np.float32).astype(np.float16)
        word, begins = np.zeros(len(vectors), dtype=np.int32), np.zeros(len(vectors), dtype=bool)
        begins[np.cumsum(counts) - counts] = True  # no review is without words
        writer.write_shard(number, Shard(counts, word, begins, ["word"], vectors))
    writer.finish(folder / "features", {})
    return FeatureStore.open(folder / "features")


def learned(attention: WordAttention, reviews: torch.Tensor) -> torch.Tensor:
    """The features as DReX computes them."""
    return attention.projection(attention(reviews))


def literal(attention: WordAttention, reviews: torch.Tensor) -> torch.Tensor:
    """Equations 2 and 3: every word is projected, then scored, then pooled."""
    position, review = attention.positions(reviews)
    z = attention.projection(attention.vectors_at(position))
    weight = softmax_within(attention.scorer(z)[:, 0], review, len(reviews))
    return z.new_zeros(len(reviews), z.shape[1]).index_add(0, review, weight[:, None] * z)


def gradients(attention: WordAttention, features: torch.Tensor) -> list[torch.Tensor]:
    """Of all parameters, for one linear function of the features."""
    slope = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).reshape(features.shape)
    return list(torch.autograd.grad((features * slope).sum(), list(attention.parameters())))


def differences(attention: WordAttention, reviews: torch.Tensor) -> dict[str, float]:
    """Largest differences from the equations in double precision, relative to the largest value of each parameter: of
    the features and gradients in single precision, of the gradients in double, and of the equations' own in single."""
    exact = WordAttention(attention.store, SIZE).double()
    exact.load_state_dict(attention.state_dict())
    expected = literal(exact, reviews)
    slopes = gradients(exact, expected)

    def worst(module: WordAttention, compute: Compute) -> float:
        pairs = zip(gradients(module, compute(module, reviews)), slopes, strict=True)
        return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)

    return {
        "features": float(
            (learned(attention, reviews) - expected).detach().abs().max() / expected.detach().abs().max()
        ),
        "gradients": worst(attention, learned),
        "gradients_in_float64": worst(exact, learned),
        "gradients_of_the_equations_in_float32": worst(attention, literal),
    }


def bandwidth(repetitions: int) -> float:
    """Bytes a second of the sum of a large array, the best of several."""
    large = torch.ones(_LARGE)
    return 4 * _LARGE / min(seconds(lambda: large.sum()) for _ in range(repetitions))


def seconds(act: Callable[[], object]) -> float:
    """Wall time."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def measure(store: FeatureStore, repetitions: int, best: float) -> tuple[list[harness.Finding], dict[str, Any]]:
    """What one store shows, and the figures behind it; ``best`` is the memory's bandwidth in bytes a second."""
    attention = WordAttention(store, SIZE)
    torch.nn.init.normal_(attention.scorer.weight, std=0.3)
    reviewed = torch.nonzero(torch.diff(attention.offsets)).flatten()
    batches = reviewed[torch.randperm(len(reviewed), generator=torch.Generator().manual_seed(0))].split(BATCH)

    def learn(compute: Compute) -> Callable[[], object]:
        return lambda: [gradients(attention, compute(attention, batch)) for batch in batches]

    apart = differences(attention, batches[0])
    tasks = {"fast": learn(learned), "slow": learn(literal), "read": lambda: attention.read_all(reviewed)}
    taken = [{name: seconds(task) for name, task in tasks.items()} for _ in range(repetitions)]
    read = store.vectors.nbytes / best
    shares = {name: read / statistics.median(one[name] for one in taken) for name in ("fast", "read")}
    equations, memory = "projecting every word", f"a sum: {best / 1e9:.1f} GB/s"
    length = f"{len(store.word_ids) / len(reviewed):.1f} words a review"
    findings = [
        harness.Finding(
            f"attention, forward and backward, {BATCH} reviews at a time; {length}", equations,
            statistics.median(one["slow"] / one["fast"] for one in taken), "times as fast", 5.0,
        ),
        harness.Finding("its features", f"{equations}, float64", apart["features"], "difference", 1e-5, at_most=True),
        harness.Finding(
            "its gradients, float64", f"{equations}, float64", apart["gradients_in_float64"], "difference", 1e-5,
            at_most=True,
        ),
        harness.Finding(
            f"the store read once, forward and backward; {length}", memory, shares["fast"], "of bandwidth", 0.4
        ),
        harness.Finding(
            f"the store read once, forward alone, all reviews; {length}", memory, shares["read"], "of bandwidth", 0.4
        ),
    ]  # fmt: skip
    measured = [harness.rounded(one, 4) for one in taken]
    return findings, {"words": len(store.word_ids), "reviews": len(reviewed), "apart": apart, "seconds": measured}


def _run(options: argparse.Namespace) -> None:
    keep_freed_memory()  # as a training does
    best, threads = bandwidth(2 * options.repetitions), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        made = (generate(Path(folder) / str(length), options.words, length) for length in options.lengths)
        stores = [FeatureStore.open(options.features)] if options.features else made
        measured = [measure(store, options.repetitions, best) for store in stores]
    findings = [finding for found, _ in measured for finding in found]
    details = [one for _, one in measured]
    harness.conclude(options.output, findings, threads=threads, gb_per_s=round(best / 1e9, 1), stores=details)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "attention")
    parser.add_argument("--features", type=Path, metavar="DIR", help="feature store of a prepared data set")
    parser.add_argument("--words", type=int, default=300_000, help="to generate otherwise (default: %(default)s)")
    parser.add_argument("--lengths", type=float, nargs="+", default=LENGTHS, help="of reviews, in words")
    parser.add_argument("--repetitions", type=int, default=7, help="of all (default: 7)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
