"""How many words a second are encoded, compared with a plain loop over `transformers`, and what bfloat16 does to DReX.

    python benchmarks/encoding.py

Reviews of a data set (Movie_Critics, where ``RECBOLE_DREX_RAW`` names a folder with its raw files; else the generated
demo, whose reviews are shorter) are cleaned once and encoded in turn: by the plain loop (float32, 32 reviews at a time
in the order of the data, padded to the longest) and by the encoder, with the same number of threads. The encoder is
measured with PyTorch, with OpenVINO where it is installed, in float32 and, where ``precision: auto`` chooses it, in
bfloat16. In that case the data set is prepared in float32 too, and DReX trained on both with the same seeds. Prints a
table and writes ``benchmarks/results/encoding.json``. For long reviews: ``--dataset Movie_Reviews --reviews 300``.
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
from recbole_drex.data.text.contextual_encoder import Encoder, encoder_folder, load_encoder, quiet_transformers
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.data.text.tokenizer import ReviewWords, TextProcessor

BATCH = 32
LONGEST = 256
_AIMS = {"bfloat16": 4.0, "float32": 2.0}


class PlainLoop:
    """MiniLM as one would run it without further thought."""

    def __init__(self) -> None:
        with quiet_transformers():
            folder = encoder_folder("minilm")  # local, its hash checked
            self.tokenizer = AutoTokenizer.from_pretrained(folder)  # nosec B615
            self.model = AutoModel.from_pretrained(folder).eval()  # nosec B615

    def n_pieces(self, review: ReviewWords) -> int:
        """Number of word pieces of a review."""
        return len(self.tokenizer(review.text)["input_ids"])

    @torch.no_grad()
    def encode(self, reviews: Sequence[ReviewWords]) -> list[np.ndarray]:
        """Embeddings of the kept words of each review, float32 (words, width)."""
        result = []
        for start in range(0, len(reviews), BATCH):
            batch = reviews[start : start + BATCH]
            inputs = self.tokenizer(
                [review.text for review in batch], padding=True, truncation=True, max_length=LONGEST,
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


def encoders() -> dict[str, Encoder]:
    """By engine and precision; the last is the one that ``auto`` chooses."""
    chosen = load_encoder()
    kinds = [(e, p) for e in ("torch", chosen.engine) for p in ("float32", chosen.precision)]
    return {f"{engine}, {precision}": load_encoder(engine=engine, precision=precision) for engine, precision in kinds}


def n_words(vectors: Sequence[np.ndarray]) -> int:
    """Number of embedded words."""
    return sum(map(len, vectors))


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
        plain, ours = PlainLoop(), encoders()
        expected = plain.encode(reviews)
        whole = np.flatnonzero([plain.n_pieces(review) <= LONGEST for review in reviews])  # not cut by either
        vectors = {kind: encoder.encode(reviews) for kind, encoder in ours.items()}  # the first call compiles
        ways: dict[str, Callable[[Sequence[ReviewWords]], Any]] = {"plain": plain.encode}
        ways |= {kind: encoder.encode for kind, encoder in ours.items()}
        times = [{way: seconds(encode, reviews) for way, encode in ways.items()} for _ in range(options.repetitions)]
        words = {"plain": n_words(expected)} | {kind: n_words(arrays) for kind, arrays in vectors.items()}
        # Of the same reviews, the encoder embeds fewer words: it cuts long ones at the end of a sentence.
        rates = {way: words[way] / statistics.median(time[way] for time in times) for way in ways}
        data = f"{n} reviews of {options.dataset}, {words['plain'] / n:.0f} words each"
        findings = []
        for kind, encoder in ours.items():
            findings += [
                harness.Finding(
                    f"encoding, {kind}; {data}, {torch.get_num_threads()} thread(s)",
                    f"plain float32 loop: {rates['plain']:.0f} words/s", rates[kind] / rates["plain"],
                    "times as fast", _AIMS[encoder.precision],
                ),
                harness.Finding(
                    f"least cosine of a word's two embeddings, {kind}", "plain float32 loop",
                    least_cosine(*([arrays[row] for row in whole] for arrays in (expected, vectors[kind]))),
                    "cosine", 0.999,
                ),
            ]  # fmt: skip
        if encoder.precision != "float32":
            for precision in ("float32", "auto"):
                given = {"precision": precision, "encoder": "minilm"}
                trained.prepared(work / precision, options, **given)
                runs[precision] = trained.errors(work / precision, options, **given)
            change = f"features computed in {encoder.precision}, not float32"
            findings += trained.effect(change, runs["float32"], runs["auto"], options)
    rounded = {way: round(rate) for way, rate in rates.items()}
    harness.conclude(options.output, findings, words_per_s=rounded, runs=runs)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = trained.make_parser(__doc__, "encoding")
    parser.add_argument("--reviews", type=int, default=2048, help="that are encoded (default: 2048)")
    parser.add_argument("--repetitions", type=int, default=5, help="of each (default: 5)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
