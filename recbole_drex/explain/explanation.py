"""What an explanation holds: plain values that become one JSON document.

Texts are those of training reviews, in one line and without tags; whoever shows them in HTML must escape them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

PRAISED, CRITICISED, NEUTRAL = "praised", "criticised", "neutral"
"""Sides of a keyword."""
SMALLEST = 0.05
"""Effect on the rating below which nothing is called a reason, and an aspect is not shown by itself."""


@dataclasses.dataclass(frozen=True)
class NeighbourExplanation:
    """What a user's neighbours say about an item, from training ratings alone.

    Attributes:
        neighbours: number of the user's neighbours: k, or fewer if fewer users have an item in common.
        rated: how many of them rated the item.
        relevant: how many of them rated it with ``threshold`` or more.
        mean_rating: mean of their ratings of it; None if none rated it.
        threshold: the rating level that counts as relevant.
    """

    neighbours: int
    rated: int
    relevant: int
    mean_rating: float | None
    threshold: float

    def __str__(self) -> str:
        return (
            f"{self.rated} of the {self.neighbours} nearest users rated it, "
            f"{self.relevant} of them {self.threshold:g} or more"
        )


@dataclasses.dataclass(frozen=True)
class Mark:
    """A word of a quote that the model reads.

    Attributes:
        start, end: its place in the quote's text.
        attention: its attention weight within the whole review; None of a model without attention over words.
        delta: by how much it raised the prediction (the prediction less the one without this word, in rating units, or
            score units of models that rank); None where that was not computed.
        sentiment: what the text says at this word by the model's reading, from -1 (blame) to 1 (praise); None of words
            that a quote is not about.
    """

    start: int
    end: int
    attention: float | None = None
    delta: float | None = None
    sentiment: float | None = None


@dataclasses.dataclass(frozen=True)
class Quote:
    """An excerpt of a training review, on one line; ``marks`` in the order of the text."""

    text: str
    marks: tuple[Mark, ...] = ()


@dataclasses.dataclass(frozen=True)
class PastReview:
    """A training interaction, with or without a rating and a review.

    Attributes:
        user, item: names.
        title: of the item, empty if the data have none.
        rating: None without one.
        quote: None without a review, or where the data set has no texts.
    """

    user: str
    item: str
    title: str
    rating: float | None
    quote: Quote | None


@dataclasses.dataclass(frozen=True)
class Keyword:
    """A word of a profile.

    Attributes:
        word: the written form that is met most often in the owner's reviews; of equally frequent ones the first by
            name.
        lemma: what it is counted by; two lemmas with a blank between them for a phrase.
        score: see :class:`~recbole_drex.explain.profiles.keywords.KeywordProfiles`.
        reviews: number of the owner's training reviews that hold it.
        mean_rating: of those reviews that have a rating; None if none has.
        side: ``praised`` or ``criticised``, by what these reviews say where they hold the word; ``neutral`` where they
            disagree, or the model does not tell.
        quotes: from reviews of that side, those first in which the model attends to it the most.
    """

    word: str
    lemma: str
    score: float
    reviews: int = 0
    mean_rating: float | None = None
    side: str = NEUTRAL
    quotes: tuple[PastReview, ...] = ()


@dataclasses.dataclass(frozen=True)
class SharedKeyword:
    """A word that stands in the profiles of a user and of an item.

    Attributes:
        word: as the item's reviews write it most often.
        lemma: what it is counted by.
        user_score, item_score: its score in either profile.
        user_quote: from the user's training review that speaks for the word; None if there is none.
        item_quote: the same of another user's training review of the item.
    """

    word: str
    lemma: str
    user_score: float
    item_score: float
    user_quote: Quote | None = None
    item_quote: Quote | None = None


@dataclasses.dataclass(frozen=True)
class EvidenceEffect:
    """A past interaction and what it did to a prediction.

    Attributes:
        side: ``user``: one of the user's; ``item``: another user's, of the recommended item.
        review: the interaction.
        delta: the prediction less the one without this interaction: above 0 if it raised the prediction. In rating
            units; score units of models that rank.
        weight: the model's own weight of the review (NARRE's usefulness); None of models without.
    """

    side: str
    review: PastReview
    delta: float
    weight: float | None = None


@dataclasses.dataclass(frozen=True)
class WordEffect:
    """A word and what it did to a prediction.

    Attributes:
        word, lemma: as in :class:`Keyword`.
        delta: the prediction less the one without all occurrences of the word in the reviews of user and item.
        reviews: number of these reviews that hold it.
    """

    word: str
    lemma: str
    delta: float
    reviews: int


@dataclasses.dataclass(frozen=True)
class Mention:
    """A review that a claim about an aspect counts.

    Attributes:
        user, item: names of the review's user and item.
        words: lemmas of the occurrences that belong to the aspect.
        sentiment: what it says at these occurrences, weighted by their importance: above 0 praise, below 0 blame.
    """

    user: str
    item: str
    words: tuple[str, ...]
    sentiment: float


@dataclasses.dataclass(frozen=True)
class Claim:
    """What the reviews of one side say of an aspect. The pair's own review is never among them.

    Attributes:
        total: number of reviews by the user, or of the item by others.
        reviews: number of those that mention the aspect.
        praise, blame: number of mentions of either kind.
        quote: one of these reviews, with the very word marked; None where nothing can be quoted.
        mentions: all of them.
    """

    total: int
    reviews: int
    praise: int
    blame: int
    quote: PastReview | None = None
    mentions: tuple[Mention, ...] = ()


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a prediction. The values of all parts sum to the score, their ratings to the predicted rating.

    Attributes:
        kind: ``average`` (what is predicted of an unknown user for an unknown item), ``user``, ``item``, ``aspect``
            (what the user writes about, times what reviewers say of it), ``taste`` (what reviews of the item say, as
            the user's ratings of other items weigh it) or ``rest`` (patterns in past ratings and reviews).
        name: to be shown; of an aspect its foremost words in these reviews, as they are mostly written.
        value: in units of the score, see ``scale`` of :class:`Recommendation`.
        rating: in rating units; those of the score for models that rank.
        words: of an aspect, the lemmas of the name; empty for all small aspects together.
        user: of a named aspect, what the user's reviews say of it.
        item: of a named aspect, what other users' reviews of the item say of it; of all small aspects together, what
            they say at these words, if most of them say what the part's direction says.
    """

    kind: str
    name: str
    value: float
    rating: float
    words: tuple[str, ...] = ()
    user: Claim | None = None
    item: Claim | None = None


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """An item recommended to a user, and why; what the model does not offer is empty.

    Attributes:
        item, title: its name, and its title if the data have one.
        predicted: rating, clipped to the range of the training ratings; None of a model whose scores are no ratings.
        score: what the parts' values sum to; None of models without parts.
        scale: of the score: ``rating``, ``ordinal score`` (a function of which is the rating) or ``ranking score``;
            empty without parts.
        parts: of the score, see :class:`Part`; in a fixed order of kinds, aspects by falling effect.
        mean_rating: of the other users' training ratings of the item; None without any.
        ratings: number of these ratings.
        sentence: the reasons below in words.
        profile: the item's keywords.
        keywords: those that the user's profile holds too.
        evidence: past interactions of user and item, those that moved the prediction furthest first.
        words: the words of these reviews that moved the prediction furthest.
        reviews: the item's most useful reviews by the model's own weights, the most useful first.
        neighbours: what the user's neighbours say.
        written: a sentence that the model itself wrote.
        asked: whether the item was asked about, be it recommended or not.
        known: the user's own training interaction with the item, which no reason is taken from; None of new items.
    """

    item: str
    title: str
    predicted: float | None
    sentence: str = ""
    profile: tuple[Keyword, ...] = ()
    keywords: tuple[SharedKeyword, ...] = ()
    evidence: tuple[EvidenceEffect, ...] = ()
    words: tuple[WordEffect, ...] = ()
    reviews: tuple[EvidenceEffect, ...] = ()
    neighbours: NeighbourExplanation | None = None
    written: str = ""
    known: PastReview | None = None
    asked: bool = False
    score: float | None = None
    scale: str = ""
    parts: tuple[Part, ...] = ()
    mean_rating: float | None = None
    ratings: int = 0


def agrees(part: Part) -> bool:
    """Whether most of the item's reviews that an aspect's claim counts say what the part's direction says."""
    agreeing = 0 if part.item is None else part.item.praise if part.rating > 0 else part.item.blame
    return part.item is not None and 2 * agreeing > part.item.reviews


def adding_up(values: Sequence[float], digits: int) -> tuple[float, list[float]]:
    """Numbers rounded so that they sum to the rounded sum: what would be off goes to those nearest to a half.

    Returns:
        The rounded sum and the rounded numbers.

    Example:
        >>> adding_up([0.144, 0.144, 0.144], 2)
        (0.43, [0.15, 0.14, 0.14])
    """
    unit = 10**-digits
    total, parts = round(sum(values) / unit), [round(value / unit) for value in values]
    missing = total - sum(parts)
    step = 1 if missing > 0 else -1
    order = sorted(range(len(parts)), key=lambda k: step * (parts[k] - values[k] / unit))
    for k in order[: abs(missing)]:
        parts[k] += step
    return round(total * unit, digits), [round(part * unit, digits) for part in parts]
