"""NARRE from raw reviews to rating errors, as a script of pandas, transformers and torch: the other side of `whole.py`.

It needs nothing of this project. Reviews of the training part are encoded by a plain loop (MiniLM in float32, 32
reviews together, padded to the longest), and the vectors of their first words are kept per review. NARRE (Chen, Zhang,
Liu and Ma, WWW 2018) follows its equations pair by pair: the latest reviews of the user and of the item are convolved,
pooled by attention and joined with free embeddings. The review of the pair that is predicted is left out. Training
stops as in the other runs, by the RMSE on the validation part; the test part is read once.

With ``--share``, a random share of the reviews is encoded and the first share of the steps of two epochs is trained;
seconds are divided by the share, and the epochs are the fewest that patience allows, so that the estimate is low.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

import plain_data

BATCH_TEXTS, BATCH = 32, 128
MAX_PIECES, WORDS, REVIEWS = 256, 100, 10
"""Word pieces of a text that are read, words of a review that are kept, and reviews of a user or an item."""
FILTERS, WINDOW, LATENT, ATTENTION, DROPOUT, RATE = 100, 3, 32, 32, 0.5, 1e-3
TIMED_EPOCHS = 2
"""Epochs of which a share is trained with ``--share``."""


@torch.no_grad()
def encode(texts: Sequence[str], tokenizer: Any, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of the words of each text.

    Args:
        texts: n reviews.
        tokenizer, model: MiniLM's.

    Returns:
        Float16 (n, WORDS, width), zeros after the last word, and the number of words (n,).
    """
    vectors = torch.zeros(len(texts), WORDS, model.config.hidden_size, dtype=torch.float16)
    lengths = torch.zeros(len(texts), dtype=torch.long)
    for start in range(0, len(texts), BATCH_TEXTS):
        batch = list(texts[start : start + BATCH_TEXTS])
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=MAX_PIECES, return_tensors="pt")
        hidden = model(**inputs).last_hidden_state
        for k in range(len(batch)):
            pieces: dict[int, list[int]] = {}
            for position, word in enumerate(inputs.word_ids(k)):
                if word is not None:
                    pieces.setdefault(word, []).append(position)
            for n, positions in enumerate(list(pieces.values())[:WORDS]):
                vectors[start + k, n] = hidden[k, positions].mean(0)
            lengths[start + k] = min(len(pieces), WORDS)
    return vectors, lengths


class Reader(nn.Module):
    """One side of NARRE: the state of users (or of items) from their reviews and a free embedding."""

    def __init__(self, width: int, owners: int, counterparts: int):
        super().__init__()
        self.convolution = nn.Conv1d(width, FILTERS, WINDOW)
        self.counterpart = nn.Embedding(counterparts, LATENT)
        self.hidden = nn.Linear(FILTERS + LATENT, ATTENTION)
        self.usefulness = nn.Linear(ATTENTION, 1)
        self.dropout = nn.Dropout(DROPOUT)
        self.dense = nn.Linear(FILTERS, LATENT)
        self.free = nn.Embedding(owners, LATENT)

    def forward(self, words: torch.Tensor, real: torch.Tensor, who: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """States (b, LATENT).

        Args:
            words: (b, REVIEWS, WORDS, width).
            real: which reviews there are, (b, REVIEWS).
            who: wrote them, or what they are about, (b, REVIEWS).
            owner: (b,).
        """
        n, reviews = real.shape
        convolved = self.convolution(words.flatten(0, 1).transpose(1, 2))
        answer = torch.relu(convolved).amax(2).view(n, reviews, FILTERS)
        useful = self.usefulness(torch.relu(self.hidden(torch.cat([answer, self.counterpart(who)], 2)))).squeeze(2)
        weight = torch.softmax(useful.masked_fill(~real, -1e9), 1) * real
        pooled = (weight.unsqueeze(2) * answer).sum(1)
        return self.free(owner) + self.dense(self.dropout(pooled))


class Narre(nn.Module):
    """Ratings of pairs, read from the latest reviews of both sides but their own."""

    def __init__(self, train: pd.DataFrame, users: int, items: int, vectors: torch.Tensor, slots: torch.Tensor):
        super().__init__()
        self.vectors, self.slots = vectors, slots
        self.columns = [torch.tensor(train[name].to_numpy()) for name in ("user", "item")]
        self.latest = [latest(train, name, n) for name, n in (("user", users), ("item", items))]
        width = vectors.shape[2]
        self.readers = nn.ModuleList([Reader(width, users, items), Reader(width, items, users)])
        self.biases = nn.ModuleList([nn.Embedding(users, 1), nn.Embedding(items, 1)])
        self.output = nn.Linear(LATENT, 1, bias=False)
        self.mean = nn.Parameter(torch.tensor(float(train["rating"].mean())))
        for table in (*self.biases, *(reader.free for reader in self.readers)):
            nn.init.normal_(table.weight, std=0.01)

    def forward(self, user: torch.Tensor, item: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Ratings (b,) of pairs; ``own`` (b,) are their rows in the training part, -1 for none."""
        states = []
        for side, owner in enumerate((user, item)):
            rows = self.latest[side][owner]
            usable = (rows >= 0) & (rows != own[:, None])
            order = torch.argsort(~usable, dim=1, stable=True)[:, :REVIEWS]
            rows, usable = rows.gather(1, order), usable.gather(1, order)
            words = self.vectors[self.slots[rows]].float() * usable[:, :, None, None]
            states.append(self.readers[side](words, usable, self.columns[1 - side][rows], owner))
        score = self.output(states[0] * states[1]) + self.biases[0](user) + self.biases[1](item)
        return score.squeeze(1) + self.mean


def latest(train: pd.DataFrame, side: str, count: int) -> torch.Tensor:
    """Rows of the latest REVIEWS + 1 reviews of each user or item, the latest first; -1 where there are no more."""
    table = np.full((count, REVIEWS + 1), -1)
    for owner, rows in train[train["review"] != ""].groupby(side).groups.items():
        chosen = rows.to_numpy()[::-1][: REVIEWS + 1]
        table[owner, : len(chosen)] = chosen
    return torch.tensor(table)


def batches(rows: pd.DataFrame, order: np.ndarray, own: bool) -> Iterator[tuple[torch.Tensor, ...]]:
    """Users, items, own rows and ratings of ``rows`` in this order."""
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        part = rows.iloc[chosen]
        rating = torch.tensor(part["rating"].to_numpy(), dtype=torch.float32)
        known = torch.tensor(chosen if own else np.full(len(chosen), -1))
        yield torch.tensor(part["user"].to_numpy()), torch.tensor(part["item"].to_numpy()), known, rating


@torch.no_grad()
def predict(model: Narre, rows: pd.DataFrame) -> np.ndarray:
    """Ratings of rows outside of the training part."""
    model.eval()
    scores = [model(*inputs).numpy() for *inputs, _ in batches(rows, np.arange(len(rows)), own=False)]
    return np.concatenate(scores)


def train_epoch(model: Narre, optimizer: torch.optim.Optimizer, rows: pd.DataFrame, order: np.ndarray) -> None:
    """One pass over the training rows ``order``."""
    model.train()
    for *inputs, rating in batches(rows, order, own=True):
        optimizer.zero_grad()
        (model(*inputs) - rating).square().mean().backward()
        optimizer.step()


def fit(model: Narre, train: pd.DataFrame, valid: pd.DataFrame, options: argparse.Namespace) -> dict[str, Any]:
    """Train until validation stops improving, and load the best epoch.

    Returns:
        ``seconds`` of training and validation, ``epochs``, and ``best`` (from 0); of a share of the rows, the seconds
        and epochs are estimates.
    """
    rng, optimizer = np.random.default_rng(options.seed), torch.optim.Adam(model.parameters(), RATE)
    seconds, best, state, epoch = {"train": 0.0, "validate": 0.0}, (np.inf, 0), None, 0
    used = math.ceil(options.share * len(train))
    valid = valid.iloc[: math.ceil(options.share * len(valid))]
    shares = {"train": used / len(train), "validate": options.share}
    most = options.epochs if options.share == 1 else TIMED_EPOCHS
    while epoch < most and epoch - best[1] <= options.patience:
        started = time.perf_counter()
        train_epoch(model, optimizer, train, rng.permutation(len(train))[:used])
        seconds["train"] += time.perf_counter() - started
        started = time.perf_counter()
        rmse = plain_data.errors(valid["rating"], predict(model, valid), train["rating"])["rmse"]
        seconds["validate"] += time.perf_counter() - started
        if rmse < best[0]:
            best, state = (rmse, epoch), copy.deepcopy(model.state_dict())
        epoch += 1
    model.load_state_dict(state)
    if options.share < 1:
        epochs = min(options.epochs, options.patience + 1)
        seconds = {name: value / shares[name] / epoch * epochs for name, value in seconds.items()}
        return {"seconds": seconds, "epochs": epochs, "best": None}
    return {"seconds": seconds, "epochs": epoch, "best": best[1]}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("raw", "split", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--encoder", required=True, help="folder of MiniLM")
    for name in ("user_min", "item_min", "epochs", "patience", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--share", type=float, default=1.0, help="of reviews and steps that are measured (default: 1)")
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    clock = [time.perf_counter()]

    rows = plain_data.rated_rows(options.raw, options.split, options.user_min, options.item_min)
    train, valid, test = (rows[rows["split"] == part].reset_index(drop=True) for part in ("train", "valid", "test"))
    clock.append(time.perf_counter())

    tokenizer = AutoTokenizer.from_pretrained(options.encoder)  # nosec B615
    encoder = AutoModel.from_pretrained(options.encoder).eval()  # nosec B615
    clock.append(time.perf_counter())

    written = np.flatnonzero(train["review"] != "")
    count = math.ceil(options.share * len(written))
    chosen = np.sort(np.random.default_rng(options.seed).choice(written, count, replace=False))
    vectors, lengths = encode(train["review"].iloc[chosen].tolist(), tokenizer, encoder)
    clock.append(time.perf_counter())

    # Of a share, the other reviews get the vectors of an encoded one, which take the same time to read.
    slots = np.zeros(len(train), dtype=np.int64)
    slots[written] = np.arange(len(written)) % count
    slots[chosen] = np.arange(count)
    model = Narre(train, rows["user"].max() + 1, rows["item"].max() + 1, vectors, torch.tensor(slots))
    clock.append(time.perf_counter())
    fitted = fit(model, train, valid, options)

    started = time.perf_counter()
    measured = test.iloc[: math.ceil(options.share * len(test))]
    errors = plain_data.errors(measured["rating"], predict(model, measured), train["rating"])
    evaluated = time.perf_counter() - started
    read, loaded, encoded, built = np.diff(clock).tolist()
    seconds = {
        "read": read, "encode": loaded + encoded / options.share, "build": built, **fitted.pop("seconds"),
        "evaluate": evaluated / options.share,
    }  # fmt: skip
    result = {"seconds": seconds, **fitted, "reviews": len(written), "words": int(lengths.sum() / options.share)}
    if options.share == 1:
        result |= errors
    result["took"] = time.perf_counter() - clock[0]
    options.output.write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
