"""A model of cornac from raw reviews to rating errors: the other side of `whole.py`, run where cornac is installed.

It needs cornac (Salah, Truong and Lauw, JMLR 2020), pandas and, for NARRE, TensorFlow; nothing of this project. Models
have cornac's default settings and its own tokenizer. NARRE keeps the best of its epochs on the validation part. With
``--share`` below 1, one iteration is trained and its seconds are multiplied by the default number of iterations.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cornac
import numpy as np
import pandas as pd
from cornac.data import Dataset, ReviewModality, TextModality
from cornac.data.text import BaseTokenizer

import plain_data

VOCABULARY = {"max_vocab": 4000, "max_doc_freq": 0.5}
"""Words that models read: the most frequent ones that at most half of the texts have, as in cornac's examples."""
MODELS = ("NARRE", "HFT", "MF")


def data_of(rows: pd.DataFrame, known: Dataset | None = None) -> Dataset:
    """Rated rows as cornac holds them, with the numbers of users and items of ``known``."""
    triples = list(zip(rows["user"].tolist(), rows["item"].tolist(), rows["rating"].tolist(), strict=True))
    if known is None:
        return Dataset.from_uir(triples)
    return Dataset.build(triples, global_uid_map=known.uid_map, global_iid_map=known.iid_map, exclude_unknowns=True)


def tokenized(name: str, train: pd.DataFrame, data: Dataset) -> dict[str, Any]:
    """Give ``data`` the texts that a model reads; returns the parameters that follow from them."""
    tokenizer = BaseTokenizer(stop_words="english")
    if name == "NARRE":
        triples = list(zip(train["user"].tolist(), train["item"].tolist(), train["review"].tolist(), strict=True))
        reviews = ReviewModality(data=triples, tokenizer=tokenizer, **VOCABULARY)
        reviews.build(uid_map=data.uid_map, iid_map=data.iid_map, dok_matrix=data.dok_matrix)
        data.add_modalities(review_text=reviews)
    elif name == "HFT":
        texts = train.groupby("item")["review"].agg(" ".join)
        words = TextModality(corpus=[texts[item] for item in data.item_ids], tokenizer=tokenizer, **VOCABULARY).build()
        data.add_modalities(item_text=words)
        return {"vocab_size": words.count_matrix.shape[1]}
    return {}


def predicted(model: Any, data: Dataset, rows: pd.DataFrame) -> list[float]:
    """Ratings of rows; cornac's default score for users and items that it has not seen."""
    pairs = [(data.uid_map.get(u), data.iid_map.get(i)) for u, i in zip(rows["user"], rows["item"], strict=True)]
    scores = [model.default_score() if None in pair else model.rate(*pair) for pair in pairs]
    return [float(np.asarray(score).reshape(-1)[0]) for score in scores]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("raw", "split", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("user_min", "item_min", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--share", type=float, default=1.0, help="below 1: train one iteration (default: 1)")
    options = parser.parse_args(arguments)
    clock = [time.perf_counter()]

    rows = plain_data.rated_rows(options.raw, options.split, options.user_min, options.item_min)
    train, valid, test = (rows[rows["split"] == part].reset_index(drop=True) for part in ("train", "valid", "test"))
    # cornac's SGD goes through the rows as given, and its own splits are in random order.
    train = train.sample(frac=1, random_state=options.seed).reset_index(drop=True)
    clock.append(time.perf_counter())

    data = data_of(train)
    given = tokenized(options.model, train, data)
    clock.append(time.perf_counter())

    if options.model == "NARRE":
        import tensorflow  # noqa: F401  (before training, which may be extrapolated)
    clock.append(time.perf_counter())

    model = getattr(cornac.models, options.model)(seed=options.seed, verbose=False, **given)
    factor = 1
    if options.share < 1 and options.model != "MF":
        factor, model.max_iter = model.max_iter, 1
    validation = {}
    if options.model == "NARRE":
        model.model_selection, validation = "best", {"val_set": data_of(valid, data)}
    model.fit(data, **validation)
    clock.append(time.perf_counter())

    errors = plain_data.errors(test["rating"], predicted(model, data, test), train["rating"])
    clock.append(time.perf_counter())
    read, encoded, imported, trained, evaluated = np.diff(clock).tolist()
    seconds = {"read": read, "encode": encoded, "build": imported, "train": trained * factor, "evaluate": evaluated}
    result = {"seconds": seconds, "epochs": model.max_iter * factor, "extrapolated": factor > 1}
    result["took"] = time.perf_counter() - clock[0]
    options.output.write_text(json.dumps(result | ({} if factor > 1 else errors)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
