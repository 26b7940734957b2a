"""Whether what explanations claim agrees with the words from which the demo's generator wrote its reviews."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from recbole_drex.data.raw import demo
from recbole_drex.explain.explanation import Keyword, PastReview, Quote
from recbole_drex.explain.explanation_text import Explanation

PRAISE = {*demo._PRAISE, *(word for praise in demo._OWN.values() for word in praise[1].split())}
BLAME = {*demo._BLAME, *(word for praise in demo._OWN.values() for word in praise[0].split())}
ASPECT = {word: aspect for aspect, words in demo.ASPECTS.items() for word in words}


def verdict(quote: Quote, start: int) -> int | None:
    """1 where the generator praised in the sentence around a place of a quote, -1 where it blamed, None if neither."""
    first = max(quote.text.rfind(sign, 0, start) for sign in ".!\u2026") + 1
    last = min((quote.text.find(sign, start) % (len(quote.text) + 1) for sign in ".!\u2026"), default=0)
    words = re.findall(r"[a-z]+", quote.text[first:last].lower())
    result = [1 if word in PRAISE else -1 for word in words if word in PRAISE or word in BLAME]
    return result[0] if len(set(result)) == 1 else None


def claims(explanation: Explanation) -> Iterator[tuple[str, int, PastReview]]:
    """Everything that is said to be praised or criticised, with the review that is quoted for it: side, 1 or -1, and
    the review."""
    for item in explanation.recommendations:
        for part in item.parts:
            if part.item and part.item.quote:
                for sign, n in ((1, part.item.praise), (-1, part.item.blame)):
                    if sign * part.rating > 0 and 2 * n > part.item.reviews:
                        yield "item", sign, part.item.quote
        yield from _keywords("item", item.profile)
    yield from _keywords("user", explanation.profile)


def _keywords(side: str, profile: Iterable[Keyword]) -> Iterator[tuple[str, int, PastReview]]:
    for keyword in profile:
        for past in keyword.quotes if keyword.side != "neutral" else ():
            yield side, 1 if keyword.side == "praised" else -1, past


def agreement(explanations: Iterable[Explanation]) -> dict[str, tuple[int, int]]:
    """Per side, the number of claims that the quoted sentence bears out, and of all claims."""
    result = {"user": [0, 0], "item": [0, 0]}
    for explanation in explanations:
        for side, sign, past in claims(explanation):
            assert past.quote is not None
            result[side][1] += 1
            result[side][0] += _borne_out(past.quote, sign)
    return {side: (agreeing, number) for side, (agreeing, number) in result.items()}


def _borne_out(quote: Quote, sign: int) -> bool:
    """Of the marked words that name an aspect, the one by which the claim is made: read most strongly that way."""
    marks = [mark for mark in quote.marks if quote.text[mark.start : mark.end].lower() in ASPECT]
    if all(mark.sentiment is not None for mark in marks):
        marks = sorted(marks, key=lambda mark: -sign * (mark.sentiment or 0))[:1]
    return any(verdict(quote, mark.start) == sign for mark in marks)
