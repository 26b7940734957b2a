"""Compact explanations for the report's page: repeated values are stored once, and numbers are rounded.

The same reviews are quoted for every user to whom an item is recommended, and a quote has a mark for each of its words.
``templates/explained-data.js`` unpacks the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_UNITS = {"attention": 1e-3, "delta": 1e-4, "sentiment": 1e-2}


def packed(users: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pack the explanations of one run for the page.

    Args:
        users: the content of ``explanations.json``.

    Returns:
        ``users`` as in :class:`~recbole_drex.explain.explanation_text.Explanation`, without empty values and with
        numbers of four decimals. Quotes, reviews and items' profiles are replaced by their indices in the lists
        ``quotes``, ``reviews`` and ``profiles``; ``titles`` contains titles by item. A quote's marks are columns:
        ``positions`` (distance from the end of the previous mark, then length, both in characters), ``attention`` in
        thousandths, ``delta`` in ten-thousandths and ``sentiment`` in hundredths. Mentions of aspects are omitted.

    Example:
        >>> quote = {"text": "a fine story", "marks": [{"start": 2, "end": 6, "attention": 0.25}]}
        >>> review = {"user": "u", "item": "i", "title": "Go", "rating": 4.0, "quote": quote}
        >>> word = {"word": "fine", "lemma": "fine", "score": 1.0, "quotes": [review, review]}
        >>> result = packed([{"user": "u", "profile": [word], "recommendations": []}])
        >>> result["users"][0]["profile"]
        [{'word': 'fine', 'lemma': 'fine', 'score': 1.0, 'quotes': [0, 0]}]
        >>> result["reviews"], result["titles"]
        ([{'user': 'u', 'item': 'i', 'rating': 4.0, 'quote': 0}], {'i': 'Go'})
        >>> result["quotes"]
        [{'text': 'a fine story', 'positions': [2, 4], 'attention': [250]}]
    """
    packing = _Packing()
    return {"users": [packing.user(user) for user in users], **packing.lists()}


class _Packing:
    def __init__(self) -> None:
        self._quotes, self._reviews, self._profiles = _Distinct(), _Distinct(), _Distinct()
        self._titles: dict[str, str] = {}

    def lists(self) -> dict[str, Any]:
        return {
            "quotes": self._quotes.values,
            "reviews": self._reviews.values,
            "profiles": self._profiles.values,
            "titles": self._titles,
        }

    def user(self, user: dict[str, Any]) -> dict[str, Any]:
        recommended = [self._recommendation(item) for item in user["recommendations"]]
        return _short({**user, "profile": self._profile(user["profile"]), "recommendations": recommended})

    def _recommendation(self, item: dict[str, Any]) -> dict[str, Any]:
        self._title(item)
        quotes = ("user_quote", "item_quote")
        keywords = [{**word, **{name: self._quote(word[name]) for name in quotes}} for word in item["keywords"]]
        return _short(
            {
                **item,
                "title": None,
                "profile": self._profiles.index(self._profile(item["profile"])) if item["profile"] else None,
                "keywords": [_short(keyword) for keyword in keywords],
                "evidence": self._evidence(item["evidence"]),
                "words": [_short(word) for word in item["words"]],
                "reviews": self._evidence(item["reviews"]),
                "known": self._review(item["known"]) if item["known"] else None,
                "parts": [self._part(part) for part in item["parts"]],
            }
        )

    def _part(self, part: dict[str, Any]) -> dict[str, Any]:
        return _short({**part, **{side: self._claim(part[side]) for side in ("user", "item")}})

    def _claim(self, claim: dict[str, Any] | None) -> dict[str, Any] | None:
        if claim is None:
            return None
        return _short({**claim, "mentions": None, "quote": self._review(claim["quote"]) if claim["quote"] else None})

    def _profile(self, profile: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [_short({**word, "quotes": [self._review(one) for one in word["quotes"]]}) for word in profile]

    def _evidence(self, evidence: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [_short({**one, "review": self._review(one["review"])}) for one in evidence]

    def _review(self, review: dict[str, Any]) -> int:
        self._title(review)
        return self._reviews.index(_short({**review, "title": None, "quote": self._quote(review["quote"])}))

    def _quote(self, quote: dict[str, Any] | None) -> int | None:
        if quote is None:
            return None
        positions, end = [], 0
        for mark in quote["marks"]:
            positions += [mark["start"] - end, mark["end"] - mark["start"]]
            end = mark["end"]
        columns = {name: [_whole(mark.get(name), unit) for mark in quote["marks"]] for name, unit in _UNITS.items()}
        known = {name: values for name, values in columns.items() if any(value is not None for value in values)}
        return self._quotes.index(_short({"text": quote["text"], "positions": positions, **known}))

    def _title(self, named: dict[str, Any]) -> None:
        if named["title"]:
            self._titles[named["item"]] = named["title"]


class _Distinct:
    """Distinct values, each identified by its index."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._indices: dict[str, int] = {}

    def index(self, value: Any) -> int:
        key = json.dumps(value, ensure_ascii=False)
        if key not in self._indices:
            self._indices[key] = len(self.values)
            self.values.append(value)
        return self._indices[key]


def _short(value: dict[str, Any]) -> dict[str, Any]:
    return {name: _rounded(entry) for name, entry in value.items() if entry is not None and entry not in ("", [], ())}


def _whole(value: float | None, unit: float) -> int | None:
    return None if value is None else round(value / unit)


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
