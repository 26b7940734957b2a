"""How many words a second are encoded, compared with a plain loop over `transformers`, and what bfloat16 does to DReX.

    python benchmarks/encoding.py

Reviews of a data set (Movie_Critics, where ``RECBOLE_DREX_RAW`` names a folder with its raw files; else the generated
demo, whose reviews are shorter) are cleaned once and encoded in turn: by the plain loop (float32, 32 reviews at a time
in the order of the data, padded to the longest) and by the encoder, with the same number of threads. Where the encoder
computes in bfloat16, the data set is prepared in float32 too, and DReX trained on both with the same seeds. Prints a
table and writes ``benchmarks/results/encoding.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

import harness
import trained
from recbole_drex.data.text.contextual_encoder import encoder_folder, load_encoder, quiet_transformers
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.data.text.tokenizer import ReviewWords, TextProcessor

BATCH = 32
_AIMS = {"bfloat16": 4.0, "float32": 2.0}


class PlainLoop:
    """MiniLM as one would run it without further thought."""

    def __init__(self) -> None:
        with quiet_transformers():
            folder = encoder_folder("minilm")  # local, its hash checked
            self.tokenizer = AutoTokenizer.from_pretrained(folder)  # nosec B615
            self.model = AutoModel.from_pretrained(folder).eval()  # nosec B615

    @torch.no_grad()
    def encode(self, reviews: Sequence[ReviewWords]) -> list[np.ndarray]:
        """Embeddings of the kept words of each review, float32 (words, width)."""
        result = []
        for start in range(0, len(reviews), BATCH):
            batch = reviews[start : start + BATCH]
            inputs = self.tokenizer(
                [review.text for review in batch], padding=True, truncation=True, max_length=256,
                return_offsets_mapping=True, return_tensors="pt",
            )  # fmt: skip
            offsets = inputs.pop("offset_mapping").tolist()
            hidden = self.model(**inputs).last_hidden_state
            for review, pieces, states in zip(batch, offsets, hidden, strict=True):
                rows = [np.zeros((0, hidden.shape[2]), dtype=np.float32)]
                for start_, end in zip(review.starts, review.ends, strict=True):
                    inside = [k for k, (a, b) in enumerate(pieces) if b > a and a < end and b > start_]
                    if inside:
                        rows.append(states[inside].mean(0, keepdim=True).numpy())
                result.append(np.concatenate(rows))
        return result


def seconds(encode: Callable[[Sequence[ReviewWords]], Any], reviews: Sequence[ReviewWords]) -> float:
    """Wall time of encoding these reviews once."""
    started = time.perf_counter()
    encode(reviews)
    return time.perf_counter() - started


def least_cosine(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """The smallest cosine between the two embeddings of a word."""
    a, b = (np.concatenate(arrays).astype(np.float64) for arrays in (some, others))
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def _run(options: argparse.Namespace) -> None:
    runs: dict[str, trained.Runs] = {}
    with trained.workplace(options) as work:
        texts = ReviewTexts(trained.prepared(work / "auto", options) / TEXTS)
        n = min(options.reviews, len(texts))
        chosen = np.sort(np.random.default_rng(0).choice(len(texts), n, replace=False))
        processor = TextProcessor()
        reviews = [processor(text) for text in texts[chosen]]
        plain, encoder = PlainLoop(), load_encoder()
        cosine = least_cosine(plain.encode(reviews), encoder.encode(reviews))
        pairs = [(seconds(plain.encode, reviews), seconds(encoder.encode, reviews)) for _ in range(options.repetitions)]
        ratio = statistics.median(slow / fast for slow, fast in pairs)
        words = sum(len(review.lemmas) for review in reviews)
        rates = [words / statistics.median(side) for side in zip(*pairs, strict=True)]
        data = f"{n} reviews of {options.dataset}, {words / n:.0f} words each"
        findings = [
            harness.Finding(
                f"encoding in {encoder.precision}; {data}, {torch.get_num_threads()} thread(s)",
                f"plain float32 loop: {rates[0]:.0f} words/s", ratio, "times as fast", _AIMS[encoder.precision],
            ),
            harness.Finding("least cosine of a word's two embeddings", "plain float32 loop", cosine, "cosine", 0.999),
        ]  # fmt: skip
        if encoder.precision != "float32":
            for precision in ("float32", "auto"):
                given = {"precision": precision, "encoder": "minilm"}
                trained.prepared(work / precision, options, **given)
                runs[precision] = trained.errors(work / precision, options, **given)
            change = f"features computed in {encoder.precision}, not float32"
            findings += trained.effect(change, runs["float32"], runs["auto"], options)
    rounded = {"plain": round(rates[0]), "encoder": round(rates[1])}
    harness.conclude(options.output, findings, words_per_s=rounded, runs=runs)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = trained.make_parser(__doc__, "encoding")
    parser.add_argument("--reviews", type=int, default=2048, help="that are encoded by both (default: 2048)")
    parser.add_argument("--repetitions", type=int, default=5, help="of both (default: 5)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
