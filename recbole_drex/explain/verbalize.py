"""Explanations in words: deterministic sentences from templates.

Every number and name in a sentence is a value of the explanation, rounded for display. *Because* lists only what raises
the prediction and *although* only what lowers it, each by at least 0.05.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from recbole_drex.explain.explanation import (
    SMALLEST,
    EvidenceEffect,
    Part,
    Recommendation,
    adding_up,
    agrees,
)
from recbole_drex.explain.wording import ENGLISH, Language

_REASONS = (3, 2)  # maximum number of reasons for and against
_ASPECTS = 4  # aspects named in a sum, by descending effect
_RARE = 0.1  # if fewer of the user's reviews mention an aspect, the sentence omits the user's side
_NAMED = ("aspect", "topic", "own topic", "taste")
_REASONED = ("item", *_NAMED)  # kinds of parts that may be reasons


class HasMeanRating(Protocol):
    """The field of an :class:`~recbole_drex.explain.explanation_text.Explanation` that sentences use."""

    @property
    def mean_rating(self) -> float | None:
        """Mean of the user's training ratings; None without ratings."""


def sentence(explanation: HasMeanRating, item: Recommendation, language: Language = ENGLISH) -> str:
    """Explain in words why an item is recommended to a user.

    Args:
        explanation: the user's explanation, of which the mean rating is used.
        item: the recommendation.
        language: the wording.

    Returns:
        Sentences on one line, if no name contains a line break; empty if there is no reason, rating or mean to state.

    Example:
        >>> from recbole_drex.explain.explanation import Claim, Part
        >>> from recbole_drex.explain.explanation_text import Explanation
        >>> mine, its = Claim(40, 23, 12, 11), Claim(31, 11, 9, 2)
        >>> parts = (Part("average", "average", 3.6, 3.6), Part("aspect", "story", 0.8, 0.8, ("story",), mine, its))
        >>> item = Recommendation("g1", "Abyss", 4.4, score=4.4, parts=parts, mean_rating=4.2, ratings=31)
        >>> for one in sentence(Explanation("ada", 3.8, (), (item,)), item).split(". "):
        ...     print(one.removeprefix("Recommended because "))
        you write about story (23 of your 40 reviews) and its reviewers praise it (9 of 11 who mention it)
        Predicted 4.4
        Its average is 4.2 from 31 ratings, your average is 3.8.
    """
    sentences = _of_parts(item, language) if item.parts else _of_evidence(item, language)
    if item.known is not None:
        rating = item.known.rating
        sentences.append(
            language.known_unrated if rating is None else language.known.format(rating=language.number(rating))
        )
    if item.predicted is not None:
        sentences.append(language.predicted.format(predicted=language.number(item.predicted)))
    means = _means(explanation, item, language)
    return " ".join([*sentences, means] if means else sentences)


def sum_in_words(item: Recommendation, language: Language = ENGLISH) -> str:
    """The parts of a prediction on one line, rounded so that they add up; empty without parts.

    Example:
        >>> from recbole_drex.explain.explanation import Part
        >>> parts = (Part("average", "average", 3.9, 3.9), Part("user", "you", 0.3, 0.3), Part("rest", "", -0.1, -0.1))
        >>> sum_in_words(Recommendation("g1", "Abyss", 4.1, score=4.1, parts=parts))
        '4.10 = 3.90 average + 0.30 you - 0.10 other patterns'
    """
    if not item.parts:
        return ""
    parts = _merged(item, language)
    total, ratings = adding_up([part.rating for part in parts], 2)
    terms = ""
    for part, rating in zip(parts, ratings, strict=True):
        if rating or part.kind == "average":
            sign = ("-" if rating < 0 else "") if not terms else " - " if rating < 0 else " + "
            name = part.name.split(", ")[0] if part.words else language.parts[part.kind]
            terms += f"{sign}{language.number(abs(rating), 2)} {name}"
    whole = language.number(total, 2)
    if item.predicted is not None and language.number(item.predicted, 2) != whole:
        whole = language.before_limit.format(sum=whole, predicted=language.number(item.predicted, 2))
    return f"{whole} = {terms}"


def _merged(item: Recommendation, language: Language) -> list[Part]:
    """The parts of a prediction, with all aspects merged except the largest ones and the reasons."""
    parts, named = item.parts, sorted((part for part in item.parts if part.words), key=lambda part: -abs(part.rating))
    raised, lowered = reasons_of(item)
    kept = [part for part in parts if part.kind != "aspect" or part in [*named[:_ASPECTS], *raised, *lowered]]
    rest = [part for part in parts if part not in kept]
    if not rest:
        return kept
    merged = Part("aspect", language.parts["aspect"], sum(one.value for one in rest), sum(one.rating for one in rest))
    position = max(parts.index(part) for part in rest)
    before = sum(part in kept for part in parts[:position])
    return [*kept[:before], merged, *kept[before:]]


def is_reason(part: Part) -> bool:
    """Whether a part is a reason: it moves the rating by at least 0.05, and most reviewers agree with its sign."""
    confirmed = part.item is None or agrees(part)
    return part.kind in _REASONED and confirmed and abs(part.rating) >= SMALLEST


def reasons_of(item: Recommendation) -> tuple[list[Part], list[Part]]:
    """The parts named in the sentence: those that raised the prediction most, and those that lowered it most. The sum
    of all unnamed aspects comes last."""
    reasons = sorted(
        filter(is_reason, item.parts), key=lambda part: (part.kind == "aspect" and not part.words, -abs(part.rating))
    )
    raised, lowered = ([part for part in reasons if sign * part.rating > 0] for sign in (1, -1))
    return raised[: _REASONS[0]], lowered[: _REASONS[1]]


def _of_parts(item: Recommendation, language: Language) -> list[str]:
    reasons = [[_reason(item, part, language) for part in parts] for parts in reasons_of(item)]
    sentences = _for_and_against(item, reasons, language)
    if not any(part.kind in _NAMED and abs(part.rating) >= SMALLEST for part in item.parts):
        rest = sum(part.rating for part in item.parts if part.kind == "rest")
        by = f"{'-' if rest < 0 else '+'}{language.number(abs(rest), 2)}"
        sentences.append(language.patterns.format(by=by) if abs(rest) >= SMALLEST else language.averages)
    return sentences


def _for_and_against(item: Recommendation, reasons: Sequence[Sequence[str]], language: Language) -> list[str]:
    templates = (language.in_favour, language.against) if item.asked else (language.because, language.although)
    return [
        template.format(reasons=language.reasons.join(some[:most]))
        for template, some, most in zip(templates, reasons, _REASONS, strict=True)
        if some
    ]


def _reason(item: Recommendation, part: Part, language: Language) -> str:
    raises = part.rating > 0
    if part.kind == "taste":
        return language.taste_raises if raises else language.taste_lowers
    if part.kind == "item":
        usual = sum(one.rating for one in item.parts if one.kind == "average")
        mean = item.mean_rating if item.predicted is not None else None
        shown = language.number(usual)
        if mean is not None and language.number(mean) != shown and (mean - usual) * part.rating > 0:
            return (language.rated_high if raises else language.rated_low).format(usual=shown)
        template = language.item_raises if raises else language.item_lowers
        return template.format(by=language.number(abs(part.rating), 2))
    if part.kind in ("topic", "own topic"):
        template = (language.topic if part.kind == "topic" else language.own_topic)["raises" if raises else "lowers"]
        return template.format(words=language.choice(part.name.split(", ")))
    kind = "praise" if raises else "blame"
    if part.item is None:
        return language.others_raise if raises else language.others_lower
    its, agree = part.item, part.item.praise if raises else part.item.blame
    if part.user is None:
        some_named = any(one.words for one in item.parts)
        template = (language.others_praise if some_named else language.all_praise)[kind]
        return template.format(n=agree, total=its.reviews)
    mine = part.user
    both = mine.reviews >= max(1, _RARE * mine.total)
    aspect = language.choice(part.name.split(", "))
    claims = (mine, its) if both else (its,)
    counted = {word for claim in claims for mention in claim.mentions for word in mention.words}
    if not counted <= set(part.words):
        aspect = language.alike.format(words=aspect)
    if not both:
        return language.they_alone[kind].format(aspect=aspect, n=agree, total=its.reviews)
    template = language.you_wrote if mine.total == 1 else language.you_write
    wrote = template.format(aspect=aspect, n=mine.reviews, total=mine.total)
    return wrote + language.they[kind].format(n=agree, total=its.reviews)


def _of_evidence(item: Recommendation, language: Language) -> list[str]:
    moved = [[one for one in item.evidence if sign * one.delta >= SMALLEST] for sign in (1, -1)]
    sentences = _for_and_against(item, [[_effect(one, language) for one in some] for some in moved], language)
    if item.evidence and not sentences:
        sentences.append(language.nothing)
    if item.reviews:
        users = language.join([review.review.user for review in item.reviews])
        sentences.append((language.useful_one if len(item.reviews) == 1 else language.useful_many).format(users=users))
    near = item.neighbours
    if near is not None and (not near.rated or near.mean_rating is None):
        sentences.append(language.no_neighbours.format(neighbours=near.neighbours))
    elif near is not None and near.mean_rating is not None:
        numbers = {"neighbours": near.neighbours, "rated": near.rated, "relevant": near.relevant}
        threshold = f"{near.threshold:g}".replace(".", language.decimal)
        sentences.append(
            language.neighbours.format(**numbers, threshold=threshold, mean=language.number(near.mean_rating))
        )
    return sentences


def _effect(evidence: EvidenceEffect, language: Language) -> str:
    interaction, mine = evidence.review, evidence.side == "user"
    if interaction.quote is not None:
        template = language.wrote if mine else language.they_wrote
    elif interaction.rating is not None:
        template = language.rated if mine else language.they_rated
    else:
        template = language.reviewed if mine else language.they_reviewed
    what = template.format(title=interaction.title or interaction.item, user=interaction.user)
    if interaction.rating is not None:
        what = language.with_rating.format(what=what, rating=language.number(interaction.rating))
    effect = language.raises if evidence.delta > 0 else language.lowers
    return effect.format(what=what, by=language.number(abs(evidence.delta), 2))


def _means(explanation: HasMeanRating, item: Recommendation, language: Language) -> str:
    """The mean ratings of item and user in one sentence."""
    mine, its = explanation.mean_rating, item.mean_rating
    if its is not None:
        template = language.its_one_rating if item.ratings == 1 else language.its_mean
        clauses = [template.format(mean=language.number(its), n=item.ratings)]
    else:
        clauses = [language.its_none]
    if mine is not None:
        clauses.append(language.your_mean.format(mean=language.number(mine)))
    return f"{language.separator.join(clauses)}."
