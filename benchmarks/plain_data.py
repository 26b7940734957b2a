"""Raw reviews by pandas alone, as a script without this project reads them; needs no other package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

COLUMNS = ["user_id", "parent_asin", "rating", "timestamp", "title", "text"]
BLOCK = 100_000
"""Lines that pandas parses together."""
_SPLIT = ["user_id", "item_id", "split"]


def read(raw: Path) -> pd.DataFrame:
    """The needed columns of compressed JSON lines, by pandas' own parser, in pieces."""
    pieces = pd.read_json(raw, lines=True, chunksize=BLOCK, dtype=False)
    return pd.concat((piece[COLUMNS] for piece in pieces), ignore_index=True)


def core(frame: pd.DataFrame, user_min: int, item_min: int) -> pd.DataFrame:
    """Legal rows, the latest of each pair, of users and items that have enough ratings; their text is ``review``."""
    rated = frame["rating"]
    legal = frame["user_id"].notna() & frame["parent_asin"].notna() & (rated.isna() | rated.between(0.5, 5))
    frame = frame[legal & ~(pd.to_numeric(frame["timestamp"]) < 0)]
    title, text = frame["title"].str.strip(), frame["text"].str.strip()
    frame = frame.assign(review=(title + ". " + text).where((title != "") & (text != ""), title + text))
    frame = frame[frame["rating"].notna() | (frame["review"] != "")]
    # Of a repeated pair a rated row goes before an unrated one, and a later before an earlier.
    order = frame.assign(rated=frame["rating"].notna()).sort_values(["rated", "timestamp"], kind="stable")
    frame = frame.loc[order.drop_duplicates(["user_id", "parent_asin"], keep="last").index.sort_values()]
    while True:
        ratings = frame["rating"].notna()
        by_user = ratings.groupby(frame["user_id"]).transform("sum")
        by_item = ratings.groupby(frame["parent_asin"]).transform("sum")
        kept = frame[(by_user >= user_min) & (by_item >= item_min)]
        if len(kept) == len(frame):
            return frame
        frame = kept


def write_split(path: Path, interactions: pd.DataFrame) -> None:
    """Write which part each rated row of a finished run belongs to, for :func:`rated_rows`."""
    interactions[_SPLIT].to_csv(path, index=False)


def rated_rows(raw: Path, split: Path, user_min: int, item_min: int) -> pd.DataFrame:
    """The rated rows of the core, oldest first, with the part of a split that each belongs to.

    Args:
        raw: compressed JSON lines.
        split: the file of :func:`write_split`.
        user_min, item_min: ratings that each user and each item has at least.

    Returns:
        Columns ``user``, ``item`` (both from 0), ``rating``, ``review`` and ``split`` (train, valid or test).

    Raises:
        ValueError: the rows are not those of the split.
    """
    frame = core(read(raw), user_min, item_min)
    frame = frame[frame["rating"].notna()].rename(columns={"parent_asin": "item_id"})
    parts = pd.read_csv(split, dtype=str, keep_default_na=False)
    rows = frame.merge(parts, on=_SPLIT[:2], how="left", validate="one_to_one")
    if rows["split"].isna().any() or len(rows) != len(parts):
        raise ValueError(
            f"{raw} has {len(rows)} rated rows in its core, and {split} {len(parts)}, which are not the same"
        )
    rows = rows.sort_values("timestamp", kind="stable", ignore_index=True)
    numbered = {name: pd.factorize(rows[f"{name}_id"])[0] for name in ("user", "item")}
    return rows.assign(**numbered)[["user", "item", "rating", "review", "split"]]


def errors(rating: Iterable[float], predicted: Iterable[float], levels: Iterable[float]) -> dict[str, float]:
    """MAE and RMSE of predictions, clipped to the range of the training ratings ``levels``."""
    low, high = float(min(levels)), float(max(levels))
    differences = [min(max(float(p), low), high) - r for r, p in zip(rating, predicted, strict=True)]
    n = len(differences)
    return {"mae": sum(map(abs, differences)) / n, "rmse": (sum(d * d for d in differences) / n) ** 0.5}
