"""Atomic files, RecBole's input format: tab-separated tables with a header of field names and types."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.utils.files import replacing

_BLOCK = 1 << 16  # interactions


def write_inter(
    path: Path, frame: pd.DataFrame, reviewed: np.ndarray, store: FeatureStore, part: range | None = None
) -> None:
    """Write the interactions in blocks, so that the words of all reviews are never in memory together.

    Args:
        path: the ``.inter`` file, written atomically.
        frame: ``user_id, item_id, rating, timestamp``; numbers are NaN where missing.
        reviewed: positions in ``frame`` of the rows with a review, ascending; the i-th is row i of ``store``.
        store: word features of the reviews.
        part: consecutive rows of ``frame`` that are written; None: all.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    vocabulary = np.asarray(store.vocabulary, dtype=object)
    part = range(max(1, len(frame))) if part is None else part
    starts = tqdm(part[::_BLOCK], desc="writing atomic files", delay=2, unit=f"x{_BLOCK}")
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for start in starts:
            block = frame.iloc[start : min(start + _BLOCK, part.stop)]
            lemmas = np.full(len(block), "", dtype=object)
            rows = np.full(len(block), np.nan)
            first, last = np.searchsorted(reviewed, [start, start + len(block)])
            indices, offsets = reviewed[first:last] - start, store.offsets[first : last + 1]
            words = vocabulary[store.word_ids[offsets[0] : offsets[-1]]].tolist()
            bounds = itertools.pairwise((offsets - offsets[0]).tolist())
            lemmas[indices] = [" ".join(words[begin:end]) for begin, end in bounds]
            rows[indices] = np.arange(first, last)
            table = pd.DataFrame(
                {
                    "user_id:token": block["user_id"].astype(str),
                    "item_id:token": block["item_id"].astype(str),
                    "rating:float": block["rating"],
                    "timestamp:float": block["timestamp"],
                    "review:token_seq": lemmas,
                    "review_row:float": rows,
                }
            )
            table.to_csv(file, sep="\t", index=False, header=start == part.start)


def write_items(path: Path, items: pd.DataFrame) -> None:
    """Write item descriptions to an ``.item`` file, atomically: ``item_id, title, categories, description``, and
    ``brand`` and ``features`` if any item has them.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    further = [name for name in ("brand", "features") if items[name].any()]
    texts = ["title", "categories", "description", *further]
    table = items[["item_id", *texts]].copy()
    for column in texts:
        # A token sequence is separated by single spaces, a line by tabs.
        table[column] = table[column].fillna("").astype(str).str.split().str.join(" ")
    table.columns = ["item_id:token", *(f"{name}:token_seq" for name in texts)]
    with replacing(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False)
