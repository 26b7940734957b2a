"""An explanation, and its rendering as text (optionally with colours) and as HTML."""

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
_SHOWN = 3  # entries of a list of quoted keywords, reviews or interactions
_BLACK = "\x1b[38;5;16m"
_RESET = "\x1b[0m"
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
# Background colours (of 256), weak to strong: yellow for attention, green for raising and red for lowering words.
_ATTENTION = (230, 229, 228, 227, 226)
_RAISED = (194, 157, 120, 83, 46)
_LOWERED = (224, 217, 210, 203, 196)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A user's keyword profile (empty if the model offers none) and explained recommendations.

    ``print`` shows it as text; ``dataclasses.asdict`` converts it to one JSON document.

    Attributes:
        user: name; for a new user, the name given by the caller.
        mean_rating: mean of the user's training ratings; None without ratings.
        profile: the user's keywords.
        recommendations: by descending score.

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
        """The explanation as plain text."""
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
    """An HTML table for notebooks; all texts are escaped.

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
    """Whether to colour output to ``stream``.

    Args:
        choice: one of :data:`COLORS`; ``auto`` colours for terminals, unless the environment variable ``NO_COLOR``
            (https://no-color.org) is set or ``TERM`` is ``dumb``.
        stream: output stream.
    """
    if choice == "auto":
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"


def render(explanation: Explanation, color: bool = False, width: int = 100, quoted: int | None = None) -> str:
    """An explanation as text for the terminal.

    Args:
        explanation: the explanation.
        color: colour the words of quotes by attention, or in evidence by their effect on the prediction. Words below a
            fifth of the maximum are not coloured.
        width: maximum line length; longer lines are wrapped at words.
        quoted: number of reasons to quote, without the user's keywords; default: all reasons and the keywords.
    """
    lines = [f"User {printable(explanation.user)}"]
    if explanation.mean_rating is not None:
        lines[0] += f", average rating {explanation.mean_rating:.2f}"
    if quoted is None and explanation.profile:
        lines.append(f"  profile: {', '.join(map(_keyword, explanation.profile[:_WORDS]))}")
    for rank, item in enumerate(explanation.recommendations, 1):
        rating = "" if item.predicted is None else f": predicted {item.predicted:.2f}"
        lines.append(f"  {rank}. {printable(item.title or item.item)}{rating}")
        lines += [f"     {line}" for line in _reasons(item, color, quoted)]
    return "\n".join(wrapped for line in lines for wrapped in _wrap(line, width))


def _wrap(line: str, width: int) -> list[str]:
    """Wrap a line at words to at most ``width`` characters; continuation lines are indented by two more.

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
    lines += [_effect(one, color) for one in item.evidence[:_SHOWN]]
    if item.words:
        words = ", ".join(f"{printable(one.word)} {one.delta:+.2f}" for one in item.words)
        lines.append(f"words that moved it: {words}")
    return lines


def _claims(part: Part, color: bool) -> list[str]:
    """Quotes of a user's review and of an item's review about an aspect."""
    lines = []
    for claim, who in ((part.user, "this user on {title}"), (part.item, "{user} on this item")):
        interaction = None if claim is None else claim.quote
        if interaction is not None and interaction.quote is not None:
            words = dict.fromkeys(
                interaction.quote.text[mark.start : mark.end].lower() for mark in interaction.quote.marks
            )
            of = printable(
                f"{', '.join(words)}, {who.format(title=interaction.title or interaction.item, user=interaction.user)}"
            )
            lines.append(f'  {of}: "{_quoted(interaction.quote, color)}"')
    return lines


def _effect(evidence: EvidenceEffect, color: bool) -> str:
    interaction = evidence.review
    who = (
        f"this user on {interaction.title or interaction.item}"
        if evidence.side == "user"
        else f"{interaction.user} on this item"
    )
    rating = "" if interaction.rating is None else f", rated {interaction.rating:g}"
    quote = f': "{_quoted(interaction.quote, color)}"' if interaction.quote else ""
    return f"{evidence.delta:+.2f} by {printable(who)}{rating}{quote}"


def _quoted(quote: Quote, color: bool) -> str:
    """A quote with coloured marks: by effect on the prediction or sentiment if known, else by attention."""
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
