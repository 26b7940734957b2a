"""An explanation, and the same as text, with the model's attention as colour if wanted, or as HTML."""

from __future__ import annotations

import dataclasses
import os
import re
from html import escape
from typing import TextIO

from recbole_drex.errors import printable, without_controls
from recbole_drex.explain.explanation import NEUTRAL, EvidenceEffect, Keyword, Mark, Part, Quote, Recommendation
from recbole_drex.explain.verbalize import reasons_of, sum_in_words

COLORS = ("auto", "always", "never")

_WORDS = 10  # of a profile
_SHARED = 5  # keywords of both the user and the item
_SHOWN = 3  # keywords with quotes, or reviews, of a list
_BLACK = "\x1b[38;5;16m"
_RESET = "\x1b[0m"
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
# Backgrounds of the 256 colours, from weak to strong: yellow for attention, green and red for what raised and lowered.
_ATTENTION = (230, 229, 228, 227, 226)
_RAISED = (194, 157, 120, 83, 46)
_LOWERED = (224, 217, 210, 203, 196)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A user's keyword profile (empty, if the model makes none) and explained recommendations.

    ``print`` shows it as text; ``dataclasses.asdict`` makes one JSON document of it.

    Attributes:
        user: name; of a user who is not in the data, what the caller calls them.
        mean_rating: of the user's training ratings; None without any.
        profile: the user's keywords.
        recommendations: the best first.

    Example:
        >>> print(Explanation("ada", 3.8, (), (Recommendation("g1", "Abyss", 4.4, "Predicted 4.4."),)))
        User ada, average rating 3.80
          1. Abyss: predicted 4.40
             Predicted 4.4.
    """

    user: str
    mean_rating: float | None
    profile: tuple[Keyword, ...]
    recommendations: tuple[Recommendation, ...]

    def __str__(self) -> str:
        """The explanation as text, as the terminal shows it."""
        return render(self)

    def __repr__(self) -> str:
        """The user and the recommended items."""
        return f"Explanation(user={self.user!r}, items={[one.item for one in self.recommendations]!r})"

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        rows = [
            [one.title or one.item, "" if one.predicted is None else f"{one.predicted:.2f}", one.sentence]
            for one in self.recommendations
        ]
        return html_table(f"Recommendations for {self.user}", ["item", "predicted", "why"], rows)


def html_table(caption: str, header: list[str], rows: list[list[str]]) -> str:
    """A small table of texts for notebooks; all texts are escaped.

    Example:
        >>> html_table("a < b", ["x"], [["<b>"]])
        '<table><caption>a &lt; b</caption><tr><th>x</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    lines = [("th", header), *(("td", row) for row in rows)]
    body = "".join(
        f"<tr>{''.join(f'<{tag}>{escape(printable(text))}</{tag}>' for text in row)}</tr>" for tag, row in lines
    )
    return f"<table><caption>{escape(printable(caption))}</caption>{body}</table>"


def use_color(choice: str, stream: TextIO) -> bool:
    """Whether to colour what goes to ``stream``.

    Args:
        choice: one of :data:`COLORS`; ``auto`` colours for terminals, unless the environment has ``NO_COLOR``
            (https://no-color.org) or says that the terminal is a dumb one.
        stream: where the text goes.
    """
    if choice == "auto":
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"


def render(explanation: Explanation, color: bool = False, width: int = 100, quoted: int | None = None) -> str:
    """An explanation as text for the terminal.

    Args:
        explanation: what is shown.
        color: colour the words of quotes by the model's attention, or in evidence by what they did to the prediction.
            Words that got less than a fifth of the strongest one's share stay plain.
        width: characters of a line; longer ones are wrapped at words.
        quoted: number of reasons that are quoted, without the user's keywords; default: all, with the keywords.
    """
    lines = [f"User {printable(explanation.user)}"]
    if explanation.mean_rating is not None:
        lines[0] += f", average rating {explanation.mean_rating:.2f}"
    if quoted is None and explanation.profile:
        lines.append(f"  profile: {', '.join(map(_keyword, explanation.profile[:_WORDS]))}")
    for place, item in enumerate(explanation.recommendations, 1):
        rating = "" if item.predicted is None else f": predicted {item.predicted:.2f}"
        lines.append(f"  {place}. {printable(item.title or item.item)}{rating}")
        lines += [f"     {line}" for line in _reasons(item, color, quoted)]
    return "\n".join(wrapped for line in lines for wrapped in _wrap(line, width))


def _wrap(line: str, width: int) -> list[str]:
    """The line in pieces of at most ``width`` characters that end at words; later ones are indented by two more.

    Example:
        >>> _wrap("  story: praised by many", 16)
        ['  story: praised', '    by many']
    """
    indent = " " * (len(line) - len(line.lstrip(" ")))
    lines, length = [indent], len(indent)
    for word in line.split():
        size = len(_ESCAPE.sub("", word))
        if length + size > width and lines[-1].strip():
            lines.append(f"{indent}  ")
            length = len(indent) + 2
        lines[-1] += f"{word} "
        length += size + 1
    return [one.rstrip(" ") for one in lines]


def _keyword(keyword: Keyword) -> str:
    reviews = f"{keyword.reviews} review{'s' if keyword.reviews != 1 else ''}"
    side = "" if keyword.side == NEUTRAL else f", {keyword.side}"
    return f"{printable(keyword.word)} ({reviews}{side})"


def _reasons(item: Recommendation, color: bool, quoted: int | None) -> list[str]:
    lines = [printable(sum_in_words(item))] if item.parts else []
    if item.sentence:
        lines.append(printable(item.sentence))
    if item.parts:
        claims = [_claims(part, color) for parts in reasons_of(item) for part in parts]
        return lines + [line for lines_of_one in [one for one in claims if one][:quoted] for line in lines_of_one]
    if item.written:
        lines.append(f'the model writes: "{printable(item.written)}"')
    if item.neighbours:
        lines.append(str(item.neighbours))
    for review in item.reviews[:_SHOWN]:
        text = f': "{_quoted(review.review.quote, color)}"' if review.review.quote else ""
        weight = "" if review.weight is None else f" ({review.weight:.2f})"
        lines.append(f"useful review by {printable(review.review.user)}{weight}{text}")
    if item.profile:
        lines.append(f"its profile: {', '.join(map(_keyword, item.profile[:_WORDS]))}")
    if item.keywords or item.profile:
        shared = [word for word in item.keywords if min(word.user_score, word.item_score) >= 0.005][:_SHARED]
        words = ", ".join(f"{printable(k.word)} (user {k.user_score:.2f}, item {k.item_score:.2f})" for k in shared)
        lines.append(f"shared keywords: {words or 'none'}")
    for keyword in item.keywords[:_SHOWN]:
        for who, quote in (("user", keyword.user_quote), ("item", keyword.item_quote)):
            if quote:
                lines.append(f'  {printable(keyword.word)}, this {who}: "{_quoted(quote, color)}"')
    lines += [_moved(one, color) for one in item.evidence[:_SHOWN]]
    if item.words:
        words = ", ".join(f"{printable(one.word)} {one.delta:+.2f}" for one in item.words)
        lines.append(f"words that moved it: {words}")
    return lines


def _claims(part: Part, color: bool) -> list[str]:
    """A quote of the user's and one of the item's reviews of an aspect."""
    lines = []
    for claim, who in ((part.user, "this user on {title}"), (part.item, "{user} on this item")):
        past = None if claim is None else claim.quote
        if past is not None and past.quote is not None:
            words = dict.fromkeys(past.quote.text[mark.start : mark.end].lower() for mark in past.quote.marks)
            of = printable(f"{', '.join(words)}, {who.format(title=past.title or past.item, user=past.user)}")
            lines.append(f'  {of}: "{_quoted(past.quote, color)}"')
    return lines


def _moved(evidence: EvidenceEffect, color: bool) -> str:
    past = evidence.review
    who = f"this user on {past.title or past.item}" if evidence.side == "user" else f"{past.user} on this item"
    rating = "" if past.rating is None else f", rated {past.rating:g}"
    quote = f': "{_quoted(past.quote, color)}"' if past.quote else ""
    return f"{evidence.delta:+.2f} by {printable(who)}{rating}{quote}"


def _quoted(quote: Quote, color: bool) -> str:
    """A quote with its marks coloured: by what they did to the prediction if that is known, else by attention."""
    if not color or not quote.marks:
        return printable(quote.text)
    strengths = [_strength(mark) for mark in quote.marks]
    strongest = max(map(abs, strengths)) or 1.0
    parts, end = [], 0
    for mark, strength in zip(quote.marks, strengths, strict=True):
        signed = mark.delta is not None or mark.sentiment is not None
        shades = _ATTENTION if not signed else _RAISED if strength > 0 else _LOWERED
        level = int(abs(strength) / strongest * len(shades))
        if level == 0:
            continue
        background = shades[min(level, len(shades) - 1)]
        word = without_controls(quote.text[mark.start : mark.end])
        parts.append(f"{without_controls(quote.text[end : mark.start])}\x1b[48;5;{background}m{_BLACK}{word}{_RESET}")
        end = mark.end
    return "".join([*parts, without_controls(quote.text[end:])])


def _strength(mark: Mark) -> float:
    if mark.delta is not None:
        return mark.delta
    return mark.attention or mark.sentiment or 0.0
