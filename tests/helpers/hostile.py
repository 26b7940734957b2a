"""A small data set with unusual texts: scripts, emoji, other writing systems, no review at all."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from recbole_drex.data.raw.demo import generate_demo

NAME = "hostile"
EVIL = "<script>alert(1)</script>"
TITLED = "game_02"
"""The item whose title is a script."""
SILENT = "user_03"
"""The user without a review."""
TEXTS = (
    f"The story is superb. {EVIL} The combat is <img src=x onerror=alert(1)> clumsy.",
    "Superb story \U0001f600\U0001f3ae, I love the combat \u2764\ufe0f",
    "\u041e\u0447\u0435\u043d\u044c \u0445\u043e\u0440\u043e\u0448\u0430\u044f \u0438\u0433\u0440\u0430",
    "\u7269\u8a9e\u304c\u3059\u3070\u3089\u3057\u3044\u3002 story",
)


def raw_files(folder: Path) -> dict[str, Path]:
    """Reviews and titles of 30 users and 30 items, about 500 rows; every fifth row has one of :data:`TEXTS`."""
    raw = generate_demo(folder, users=30, items=30, reviews=500, seed=5)
    reviews = _lines(raw["reviews"])
    for index, row in enumerate(reviews):
        if row["user_id"] == SILENT:
            row |= {"text": "", "title": "", "rating": row["rating"] or 4.0}
        elif index % 5 == 0 and row["text"]:
            row["text"] = TEXTS[index // 5 % len(TEXTS)]
    _write(raw["reviews"], reviews)
    items = _lines(raw["meta"])
    for row in items:
        if row["parent_asin"] == TITLED:
            row["title"] = f"{EVIL} Pok\u00e9 & Co"
    _write(raw["meta"], items)
    return raw


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


class RunsCode:
    """A pickle of this makes a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
