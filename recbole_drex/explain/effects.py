"""Which past interactions, and which words in their reviews, moved a prediction, and how far."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from recbole_drex.data.text.tokenizer import ReviewWords
from recbole_drex.explain.explanation import EvidenceEffect, Quote, WordEffect
from recbole_drex.explain.faithfulness import ReviewCase, same_way
from recbole_drex.explain.past_interactions import Past, PastReviews
from recbole_drex.explain.profiles.excerpts import marked
from recbole_drex.explain.profiles.vocabulary import ShownWords
from recbole_drex.explain.word_effects import PlaceOfWord, WordDeletion, furthest
from recbole_drex.model.layers.common import Side

SAME, OTHER = 4, 2  # interactions shown that moved the prediction where they together did, and that held against it
WORDS, USEFUL = 8, 3
_MOVED = 0.01  # least effect of a word that is shown: less would be said to be 0.00


def find_evidence(
    counterfactual: Any, pasts: PastReviews, shown_words: ShownWords | None = None, word_effects: bool = True
) -> dict[str, Any]:
    """What moved a prediction, found by leaving it out.

    Args:
        counterfactual: the prediction, see :func:`~recbole_drex.explain.counterfactual.dispatch.counterfactual_for`.
        pasts: to name and quote past interactions.
        shown_words: which words may be named; None for all.
        word_effects: find what single words did, too, which takes most of the time.

    Returns:
        Fields of :class:`~recbole_drex.explain.explanation.Recommendation`. ``evidence``: interactions by falling
        distance that they moved the prediction, at most :data:`SAME` that moved it where the foremost of them together
        did and :data:`OTHER` that held against it. ``words``: of models with attention over words, the :data:`WORDS`
        words of the reviews behind the prediction that moved it furthest. ``reviews``: of models that weigh reviews,
        the :data:`USEFUL` reviews of the item that weigh most.
    """
    reads_words = counterfactual.reads_words
    words = WordDeletion(counterfactual) if word_effects and reads_words else None
    deltas = ReviewCase(counterfactual, base=words.base if words is not None else None).deltas()
    way = same_way(deltas, SAME)
    against = sorted(deltas.keys() - set(way), key=lambda unit: (-abs(deltas[unit]), unit))
    shown = [unit for unit in [*way[:SAME], *against[:OTHER]] if deltas[unit] != 0]
    shown.sort(key=lambda unit: (-abs(deltas[unit]), unit))
    weights = counterfactual.weights
    useful = [unit for unit in deltas if unit[0] == Side.ITEM][:USEFUL] if weights is not None else []
    quotes: list[Quote | None] = [None] * len(shown)
    effects: tuple[WordEffect, ...] = ()
    if words is not None:
        quotes, effects = _told_by_words(words, shown, pasts, shown_words)

    def evidence(unit: tuple[Side, int], quote: Quote | None = None) -> EvidenceEffect:
        side, place = unit
        share = None if weights is None else float(weights[side][place])
        review = pasts.review(_past(counterfactual, unit), quote)
        if side == Side.USER and counterfactual.is_new_user:
            rating = float(counterfactual.user.rating[place])  # what somebody posted is in no data
            review = dataclasses.replace(review, user="", rating=None if np.isnan(rating) else rating)
        return EvidenceEffect(side.name.lower(), review, deltas[unit], share)

    return {
        "evidence": tuple(evidence(unit, quote) for unit, quote in zip(shown, quotes, strict=True)),
        "words": effects,
        "reviews": tuple(evidence(unit) for unit in useful),
    }


def _past(counterfactual: Any, unit: tuple[Side, int]) -> Past:
    side, place = unit
    return Past(*(int(column[place]) for column in counterfactual.pasts[side]))


def _told_by_words(
    words: WordDeletion, units: Sequence[tuple[Side, int]], pasts: PastReviews, shown_words: ShownWords | None
) -> tuple[list[Quote | None], tuple[WordEffect, ...]]:
    """Excerpts of the reviews of ``units`` around the word of most attention, each word with the effect of leaving out
    this occurrence; and the words of all reviews that moved the prediction furthest."""
    quotes: list[Quote | None] = []
    places: list[PlaceOfWord] = []
    for side, place in units:
        text, of_side = pasts.read(_past(words.counterfactual, (side, place)).row), words.words[side]
        tokens = (of_side.place == place).nonzero().flatten()
        if text is None or not _reads(words, of_side.word[tokens], text):
            quotes.append(None)
            continue
        attention = of_side.attention[tokens].tolist()
        quote, inside = marked(text, int(np.argmax(attention)), 1, attention)
        quotes.append(quote)
        places += [PlaceOfWord(side, int(tokens[number])) for number in inside if number < len(tokens)]
    lemmas = words.candidates(2 * WORDS)
    if shown_words is not None:
        named = zip(lemmas, words.names(lemmas), strict=True)
        lemmas = [lemma for lemma, name in named if not shown_words.hides(name)]
    deltas = words.effects([*([lemma] for lemma in lemmas), *places])  # at once, which is cheaper
    of_places = iter(deltas[len(lemmas) :])
    found = [one for one in furthest(lemmas, deltas[: len(lemmas)])[:WORDS] if abs(one[1]) >= _MOVED]
    effects = []
    for (number, delta), lemma in zip(found, words.names([number for number, _ in found]), strict=True):
        form = _written(words, number, lemma, pasts, units)
        form = form if shown_words is None else shown_words.written(lemma, form)
        effects.append(WordEffect(form, lemma, delta, words.reviews(number)))
    return [quote and _with_effects(quote, of_places) for quote in quotes], tuple(effects)


def _reads(words: WordDeletion, numbers: torch.Tensor, text: ReviewWords) -> bool:
    """Whether a text holds the words that were encoded; another version of the lemmatizer may find others."""
    return bool(len(numbers)) and words.names(numbers.tolist()) == text.lemmas[: len(numbers)]


def _with_effects(quote: Quote, deltas: Iterator[float]) -> Quote:
    """The quote with the next deltas at its marks; those without attention stand for words that are not read."""
    marks = [
        mark if mark.attention is None else dataclasses.replace(mark, delta=round(next(deltas), 5))
        for mark in quote.marks
    ]
    return dataclasses.replace(quote, marks=tuple(marks))


def _written(
    words: WordDeletion, number: int, lemma: str, pasts: PastReviews, shown: Sequence[tuple[Side, int]]
) -> str:
    """As a review writes a lemma: one of the ``shown`` interactions, else the first of the item, else of the user."""
    holding = [(side, int(place)) for side in (Side.ITEM, Side.USER) for place in words.places(side, number)]
    for unit in [*(unit for unit in shown if unit in holding), *holding][:1]:
        text = pasts.read(_past(words.counterfactual, unit).row)
        if text is not None and lemma in text.lemmas:
            place = text.lemmas.index(lemma)
            return text.text[text.starts[place] : text.ends[place]].lower()
    return lemma
