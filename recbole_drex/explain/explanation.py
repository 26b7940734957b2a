"""The values of an explanation, which are written as one JSON document.

Texts come from training reviews, on one line and without tags. Escape them before showing them in HTML.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

PRAISED, CRITICISED, NEUTRAL = "praised", "criticised", "neutral"
"""Sentiments of a keyword."""
SMALLEST = 0.05
"""Smallest effect on the rating of a reason, and of an aspect that is shown by itself."""


@dataclasses.dataclass(frozen=True)
class NeighbourExplanation:
    """Training ratings of an item by a user's neighbours.

    Attributes:
        neighbours: number of the user's neighbours, at most k.
        rated: number of neighbours who rated the item.
        relevant: number of neighbours who rated it ``threshold`` or higher.
        mean_rating: mean of their ratings; None if no neighbour rated it.
        threshold: lowest rating that counts as relevant.
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
    """A word of a quote that the model reads, ``text[start:end]``.

    Attributes:
        start, end: its position in the quote's text.
        attention: its attention weight within the whole review; None for models without attention over words.
        delta: the prediction minus the prediction without this word, in rating units, or in score units for ranking
            models; None if not computed.
        sentiment: sentiment of the text at this word by the model, from -1 (blame) to 1 (praise); None for words that
            the quote does not support.
    """

    start: int
    end: int
    attention: float | None = None
    delta: float | None = None
    sentiment: float | None = None


@dataclasses.dataclass(frozen=True)
class Quote:
    """An excerpt of a training review, on one line; ``marks`` are in text order."""

    text: str
    marks: tuple[Mark, ...] = ()


@dataclasses.dataclass(frozen=True)
class PastReview:
    """A training interaction, with or without a rating and a review.

    Attributes:
        user, item: names.
        title: of the item; empty if the data set has no titles.
        rating: None without a rating.
        quote: None without a review, or if the data set has no texts.
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
        word: the most frequent written form in the owner's reviews; ties are broken by name.
        lemma: its lemma; for a phrase, two lemmas separated by a blank.
        score: see :class:`~recbole_drex.explain.profiles.keywords.KeywordProfiles`.
        reviews: number of the owner's training reviews that contain it.
        mean_rating: mean rating of these reviews; None if no review has a rating.
        side: ``praised`` or ``criticised``, by the sentiment of these reviews at the word; ``neutral`` if they disagree
            or the model reads no sentiment.
        quotes: from reviews with that sentiment, by descending attention to the word.
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
    """A keyword in the profiles of both a user and an item.

    Attributes:
        word: the most frequent written form in the item's reviews.
        lemma: its lemma.
        user_score, item_score: its scores in the two profiles.
        user_quote: from the user's training review with the highest attention to the word; None without a quote.
        item_quote: the same, from another user's training review of the item.
    """

    word: str
    lemma: str
    user_score: float
    item_score: float
    user_quote: Quote | None = None
    item_quote: Quote | None = None


@dataclasses.dataclass(frozen=True)
class EvidenceEffect:
    """A past interaction and its effect on a prediction.

    Attributes:
        side: ``user`` for an interaction of the user, ``item`` for one of another user with the recommended item.
        review: the interaction.
        delta: the prediction minus the prediction without this interaction: above 0 if it raised the prediction. In
            rating units, or in score units for ranking models.
        weight: the model's weight of the review (NARRE's usefulness); None for models without weights.
    """

    side: str
    review: PastReview
    delta: float
    weight: float | None = None


@dataclasses.dataclass(frozen=True)
class WordEffect:
    """A word and its effect on a prediction.

    Attributes:
        word, lemma: as in :class:`Keyword`.
        delta: the prediction minus the prediction without all occurrences of the word in the reviews of user and item.
        reviews: number of these reviews that contain it.
    """

    word: str
    lemma: str
    delta: float
    reviews: int


@dataclasses.dataclass(frozen=True)
class Mention:
    """A review that mentions an aspect.

    Attributes:
        user, item: names of the review's user and item.
        words: lemmas of the words that belong to the aspect.
        sentiment: sentiment at these words, weighted by importance: above 0 praise, below 0 blame.
    """

    user: str
    item: str
    words: tuple[str, ...]
    sentiment: float


@dataclasses.dataclass(frozen=True)
class Claim:
    """What the reviews of one side say about an aspect. The pair's own review is never counted.

    Attributes:
        total: number of reviews by the user, or by other users of the item.
        reviews: number of reviews that mention the aspect.
        praise, blame: number of positive and negative mentions.
        quote: one of these reviews, with the words of the aspect marked; None without a quote.
        mentions: the reviews that mention the aspect.
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
        kind: ``average`` (prediction for an unknown user and an unknown item), ``user``, ``item``, ``aspect`` (aspects
            that the user writes about, times the item's opinions), ``topic`` (a topic of the item's reviews that the
            user likes or dislikes), ``own topic`` (a topic of the user's reviews), ``taste`` (the item's reviews,
            weighted by the user's ratings of other items) or ``rest`` (patterns in past ratings and reviews).
        name: display name; for an aspect, its main words in these reviews in their common written forms; for a topic,
            the lemmas that distinguish it.
        value: in units of the score, see ``scale`` of :class:`Recommendation`.
        rating: in rating units; in score units for ranking models.
        words: for an aspect or topic, the lemmas of the name; empty for the sum of all small aspects.
        user: for a named aspect, what the user's reviews say about it.
        item: for a named aspect, what other users' reviews of the item say about it. For the sum of all small aspects,
            what they say at these words, if most of them agree with the part's sign.
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
    """An item recommended to a user, with its explanation; fields that the model does not offer are empty.

    Attributes:
        item, title: its name, and its title if the data set has titles.
        predicted: rating, clipped to the range of the training ratings; None for models that do not predict ratings.
        score: sum of the parts' values; None for models without parts.
        scale: scale of the score: ``rating``, ``ordinal score`` (from which the rating is computed) or ``ranking
            score``; empty without parts.
        parts: parts of the score, see :class:`Part`, in a fixed order of kinds; aspects by descending effect.
        mean_rating: mean of the other users' training ratings of the item; None without ratings.
        ratings: number of these ratings.
        sentence: the explanation in words.
        profile: the item's keywords.
        keywords: keywords that are also in the user's profile.
        evidence: past interactions of user and item with the largest effects, largest first.
        words: the words of these reviews with the largest effects.
        reviews: the item's most useful reviews by the model's weights, most useful first.
        neighbours: ratings by the user's neighbours.
        written: a sentence generated by the model.
        asked: whether the user asked about this item.
        known: the user's own training interaction with the item, which the explanation excludes; None for new items.
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
    """Whether most of the item's reviews that mention an aspect agree with the part's sign."""
    agreeing = 0 if part.item is None else part.item.praise if part.rating > 0 else part.item.blame
    return part.item is not None and 2 * agreeing > part.item.reviews


def adding_up(values: Sequence[float], digits: int) -> tuple[float, list[float]]:
    """Round numbers so that they sum to the rounded sum; numbers closest to a half absorb the difference.

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
