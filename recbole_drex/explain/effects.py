"""The effects of past interactions, and of words in their reviews, on a prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from recbole_drex.data.text.tokenizer import ReviewWords
from recbole_drex.explain.explanation import EvidenceEffect, Quote, WordEffect
from recbole_drex.explain.faithfulness import EvidenceUnit, ReviewCase, same_direction
from recbole_drex.explain.past_interactions import PastInteraction, PastReviews
from recbole_drex.explain.profiles.excerpts import marked
from recbole_drex.explain.profiles.vocabulary import ShownWords
from recbole_drex.explain.word_effects import WordDeletion, WordOccurrence, strongest_first
from recbole_drex.model.layers.common import Side

SAME, OTHER = 4, 2  # interactions shown that moved the prediction in the main direction, and in the opposite one
WORDS, USEFUL = 8, 3
_MOVED = 0.01  # smallest effect of a word that is shown


def find_evidence(
    counterfactual: Any, past_reviews: PastReviews, shown_words: ShownWords | None = None, word_effects: bool = True
) -> dict[str, Any]:
    """The evidence that moved a prediction, measured by removing it.

    Args:
        counterfactual: the prediction, see :func:`~recbole_drex.explain.counterfactual.dispatch.counterfactual_for`.
        past_reviews: names and quotes past interactions.
        shown_words: words that may be shown; None for all.
        word_effects: also measure the effects of single words, which takes most of the time.

    Returns:
        Fields of :class:`~recbole_drex.explain.explanation.Recommendation`. ``evidence``: interactions by descending
        absolute effect, at most :data:`SAME` in the main direction and :data:`OTHER` in the opposite one. ``words``:
        for models with attention over words, the :data:`WORDS` words with the largest effects. ``reviews``: for models
        with review weights, the :data:`USEFUL` reviews of the item with the largest weights.
    """
    reads_words = counterfactual.reads_words
    words = WordDeletion(counterfactual) if word_effects and reads_words else None
    deltas = ReviewCase(counterfactual, base=words.base if words is not None else None).deltas()
    agreeing = same_direction(deltas, SAME)
    opposing = sorted(deltas.keys() - set(agreeing), key=lambda unit: (-abs(deltas[unit]), unit))
    shown = [unit for unit in [*agreeing[:SAME], *opposing[:OTHER]] if deltas[unit] != 0]
    shown.sort(key=lambda unit: (-abs(deltas[unit]), unit))
    weights = counterfactual.weights
    useful = [unit for unit in deltas if unit.side == Side.ITEM][:USEFUL] if weights is not None else []
    quotes: list[Quote | None] = [None] * len(shown)
    effects: tuple[WordEffect, ...] = ()
    if words is not None:
        quotes, effects = _word_effects(words, shown, past_reviews, shown_words)

    def evidence(unit: EvidenceUnit, quote: Quote | None = None) -> EvidenceEffect:
        side, index = unit
        share = None if weights is None else float(weights[side][index])
        review = past_reviews.review(_interaction(counterfactual, unit), quote)
        if side == Side.USER and counterfactual.is_new_user:
            rating = float(counterfactual.user.rating[index])  # posted ratings are not in the data set
            review = dataclasses.replace(review, user="", rating=None if np.isnan(rating) else rating)
        return EvidenceEffect(side.name.lower(), review, deltas[unit], share)

    return {
        "evidence": tuple(evidence(unit, quote) for unit, quote in zip(shown, quotes, strict=True)),
        "words": effects,
        "reviews": tuple(evidence(unit) for unit in useful),
    }


def _interaction(counterfactual: Any, unit: EvidenceUnit) -> PastInteraction:
    side, index = unit
    return PastInteraction(*(int(column[index]) for column in counterfactual.past_interactions[side]))


def _word_effects(
    words: WordDeletion, units: Sequence[EvidenceUnit], past_reviews: PastReviews, shown_words: ShownWords | None
) -> tuple[list[Quote | None], tuple[WordEffect, ...]]:
    """Excerpts of the reviews of ``units`` around the word with the highest attention, with the effect of removing each
    occurrence; and the words of all reviews with the largest effects."""
    quotes: list[Quote | None] = []
    occurrences: list[WordOccurrence] = []
    for unit in units:
        side, index = unit
        text, of_side = past_reviews.read(_interaction(words.counterfactual, unit).row), words.words[side]
        tokens = (of_side.index == index).nonzero().flatten()
        if text is None or not _reads(words, of_side.word[tokens], text):
            quotes.append(None)
            continue
        attention = of_side.attention[tokens].tolist()
        quote, inside = marked(text, int(np.argmax(attention)), 1, attention)
        quotes.append(quote)
        occurrences += [WordOccurrence(side, int(tokens[number])) for number in inside if number < len(tokens)]
    lemmas = words.candidates(2 * WORDS)
    if shown_words is not None:
        named = zip(lemmas, words.names(lemmas), strict=True)
        lemmas = [lemma for lemma, name in named if not shown_words.hides(name)]
    deltas = words.effects([*([lemma] for lemma in lemmas), *occurrences])  # one batch is cheaper
    of_places = iter(deltas[len(lemmas) :])
    ordered = strongest_first(lemmas, deltas[: len(lemmas)])[:WORDS]
    strongest = [effect for effect in ordered if abs(effect.delta) >= _MOVED]
    effects = []
    for (number, delta), lemma in zip(strongest, words.names([effect.lemma for effect in strongest]), strict=True):
        written = _written_form(words, number, lemma, past_reviews, units)
        written = written if shown_words is None else shown_words.written(lemma, written)
        effects.append(WordEffect(written, lemma, delta, words.reviews(number)))
    return [quote and _with_effects(quote, of_places) for quote in quotes], tuple(effects)


def _reads(words: WordDeletion, numbers: torch.Tensor, text: ReviewWords) -> bool:
    """Whether a text yields the words that were encoded; another version of the lemmatizer may yield others."""
    return bool(len(numbers)) and words.names(numbers.tolist()) == text.lemmas[: len(numbers)]


def _with_effects(quote: Quote, deltas: Iterator[float]) -> Quote:
    """The quote with the next deltas at its marks; marks without attention are words beyond the model's input."""
    marks = [
        mark if mark.attention is None else dataclasses.replace(mark, delta=round(next(deltas), 5))
        for mark in quote.marks
    ]
    return dataclasses.replace(quote, marks=tuple(marks))


def _written_form(
    words: WordDeletion, number: int, lemma: str, past_reviews: PastReviews, shown: Sequence[EvidenceUnit]
) -> str:
    """The written form of a lemma in a ``shown`` interaction, else in the item's first, else in the user's first."""
    containing = [
        EvidenceUnit(side, int(index)) for side in (Side.ITEM, Side.USER) for index in words.indices(side, number)
    ]
    for unit in [*(unit for unit in shown if unit in containing), *containing][:1]:
        text = past_reviews.read(_interaction(words.counterfactual, unit).row)
        if text is not None and lemma in text.lemmas:
            index = text.lemmas.index(lemma)
            return text.text[text.starts[index] : text.ends[index]].lower()
    return lemma
