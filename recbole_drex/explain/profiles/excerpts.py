"""Short excerpts of reviews, with marks at the words that a model reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from recbole_drex.data.text.review_texts import ReviewTexts
from recbole_drex.data.text.tokenizer import ReviewWords, TextProcessor, clean
from recbole_drex.explain.explanation import Mark, Quote

LONGEST = 160
_CUT = "\u2026"


def window(text: str, start: int, end: int, longest: int = LONGEST) -> tuple[int, int]:
    """Start and end of an excerpt of ``text`` around ``text[start:end]``; see :func:`excerpt`."""
    if len(text) <= longest:
        return 0, len(text)
    room = longest - 2 * len(_CUT)
    first = min(max((start + end - room) // 2, 0), len(text) - room)
    last = first + room
    if first > 0 and text[first - 1] != " ":
        first = max(first, text.find(" ", first, start) + 1)
    if last < len(text) and text[last] != " ":
        blank = text.rfind(" ", end, last)
        last = last if blank < 0 else blank
    inside = text[first:last]
    return first + len(inside) - len(inside.lstrip()), last - len(inside) + len(inside.rstrip())


def excerpt(text: str, start: int, end: int, longest: int = LONGEST) -> str:
    """Cut ``text`` to at most ``longest`` characters around the word ``text[start:end]``, at blanks if possible.

    Args:
        text: one line without repeated blanks.
        start, end: position of the word.
        longest: maximum length of the result, including ellipses; the word must fit.

    Example:
        >>> text = "a film with a plot that surprises until the end"
        >>> excerpt(text, 14, 18, longest=24)
        '\u2026with a plot that\u2026'
    """
    return _cut(text, *window(text, start, end, longest))


def _cut(text: str, first: int, last: int) -> str:
    return f"{_CUT if first > 0 else ''}{text[first:last]}{_CUT if last < len(text) else ''}"


def read_review(texts: ReviewTexts, row: int, processor: TextProcessor) -> ReviewWords:
    """The original text of a review without tags and repeated blanks, with the words that a model reads.

    Args:
        texts: all reviews.
        row: row of the feature store.
        processor: the processor with which the reviews were encoded.
    """
    (text,) = texts[row]
    review, shown = processor(text), clean(text, lower=False)
    # A few letters are longer in lower case, so positions would shift.
    return dataclasses.replace(review, text=shown) if len(shown) == len(review.text) else review


def marked(words: ReviewWords, index: int, length: int = 1, attention: Sequence[float] = ()) -> tuple[Quote, range]:
    """Excerpt of a review around some of its words.

    Args:
        words: the review.
        index, length: the words in the middle of the excerpt; a review without words is quoted from its start.
        attention: weights of the words; marks of words beyond its length have no attention.

    Returns:
        The quote, and the indices of the words that are marked.
    """
    start, end = (words.starts[index], words.ends[index + length - 1]) if words.starts else (0, 1)
    first, last = window(words.text, start, end)
    shift = (len(_CUT) if first > 0 else 0) - first
    inside = [k for k, (a, b) in enumerate(zip(words.starts, words.ends, strict=True)) if first <= a and b <= last]
    marks = tuple(
        Mark(words.starts[k] + shift, words.ends[k] + shift, round(attention[k], 5) if k < len(attention) else None)
        for k in inside
    )
    return Quote(_cut(words.text, first, last), marks), range(inside[0], inside[-1] + 1) if inside else range(0)


def around(words: ReviewWords, index: int, sentiments: Mapping[int, float]) -> Quote:
    """Excerpt of a review around one of its words.

    Args:
        words: the review.
        index: the word in the middle of the excerpt.
        sentiments: sentiment of each marked word, by index.
    """
    first, last = window(words.text, words.starts[index], words.ends[index])
    shift = (len(_CUT) if first > 0 else 0) - first
    marks = tuple(
        Mark(words.starts[k] + shift, words.ends[k] + shift, sentiment=round(sentiments[k], 4))
        for k in sorted(sentiments)
        if k < len(words.starts) and first <= words.starts[k] and words.ends[k] <= last
    )
    return Quote(_cut(words.text, first, last), marks)
