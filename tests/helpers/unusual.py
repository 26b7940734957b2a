"""Small raw data that are unusual in one way each: what a model makes of them must be defined."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
_PARTS = ("story", "combat", "music", "graphics", "puzzle", "price")
_OPINIONS = ("superb", "clumsy", "lovely", "boring", "clever", "ugly")
NAMES = {"user_001": "NA", "user_002": "null", "user_003": '"', "user_004": "nan"}
"""What users are called in the case ``names``."""


def review(user: int, item: int) -> Row:
    """A rating and a review, which follow from the user and the item."""
    part, opinion = _PARTS[(user + item) % 6], _OPINIONS[(user * 7 + item * 3) % 6]
    return {
        "user_id": f"user_{user:03d}",
        "parent_asin": f"item_{item:03d}",
        "rating": 1.0 + (user * 3 + item * 5) % 5,
        "timestamp": 1_600_000_000 + 1000 * user + item,
        "text": f"The {part} of this game is {opinion}.",
    }


def ordinary(users: int = 12, items: int = 14) -> list[Row]:
    """Every user has rated and reviewed 10 of the items."""
    return [review(user, (user + index) % items) for user in range(users) for index in range(10)]


def _one_review() -> list[Row]:
    return [{**row, "text": row["text"] if index == 5 else ""} for index, row in enumerate(ordinary())]


def _unseen_level() -> list[Row]:
    """One rating of 1, all others 3 to 5: the pair is in the test part of seed 2026."""
    rows = [{**row, "rating": max(row["rating"], 3.0)} for row in ordinary()]
    tested = next(row for row in rows if (row["user_id"], row["parent_asin"]) == ("user_001", "item_006"))
    tested["rating"] = 1.0
    return rows


def _long_reviews() -> list[Row]:
    rng, rows = np.random.default_rng(3), ordinary()
    for index in (0, 25, 50):
        rows[index]["text"] = " ".join(rng.choice([*_PARTS, *_OPINIONS, "the", "of"], 10_000)) + "."
    return rows


CASES: dict[str, Callable[[], list[Row]]] = {
    "one-user": lambda: [review(0, item) for item in range(40)],
    "one-item": lambda: [review(user, 0) for user in range(40)],
    "one-interaction": lambda: [review(0, 0)],
    "one-review": _one_review,
    "no-words": lambda: [{**row, "text": "\U0001f600 ... the of 123 !"} for row in ordinary()],
    "constant-ratings": lambda: [{**row, "rating": 4.0} for row in ordinary()],
    "unseen-level": _unseen_level,
    "long-reviews": _long_reviews,
    "names": lambda: [{**row, "user_id": NAMES.get(row["user_id"], row["user_id"])} for row in ordinary()],
}


def busy(interactions: int, reviews: int = 500) -> list[Row]:
    """One user with ``n`` interactions, the first ones with a review, and 30 users who know some of the items."""
    rows = [review(0, item) for item in range(interactions)]
    rows += [review(user, user * 10 + index) for user in range(1, 31) for index in range(20)]
    # Of items that the busy user does not know, since no user may know them all.
    rows += [review(user, interactions + user % 5) for user in range(1, 31)]
    return [row if index < reviews else {**row, "text": ""} for index, row in enumerate(rows)]


def write(path: Path, rows: list[Row]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
