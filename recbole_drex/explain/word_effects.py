"""What single words of the reviews behind a prediction did to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import torch

from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual
from recbole_drex.explain.counterfactual.review_words import (
    EvidenceWords,
    pooled_change,
    said_change,
    without_words,
    words_of,
)
from recbole_drex.explain.counterfactual.scenarios import Changes, SideEvidence
from recbole_drex.model.layers.common import Side

_CANDIDATES = 12  # words whose effect is computed exactly, the foremost by its linear approximation


@dataclasses.dataclass(frozen=True)
class PlaceOfWord:
    """An occurrence of a word in the evidence of a side."""

    side: Side
    token: int


class WordDeletion:
    """The prediction of a pair without some words of the reviews behind it.

    Args:
        counterfactual: the prediction; its model reads reviews.
    """

    def __init__(self, counterfactual: DReXCounterfactual):
        self.counterfactual = counterfactual
        posted = counterfactual.user.posted
        self.words = (words_of(counterfactual.user) if posted is None else posted.words, words_of(counterfactual.item))
        self._more = posted.lemmas if posted is not None else []
        self.base = float(counterfactual.predict().detach())

    @classmethod
    def of(cls, counterfactual: DReXCounterfactual) -> WordDeletion:
        """Made once for a prediction, since several ways to explain it ask for the same words."""
        if counterfactual.read is None:
            counterfactual.read = cls(counterfactual)
        return counterfactual.read

    @cached_property
    def lemmas(self) -> torch.Tensor:
        """Numbers of the distinct lemmas in these reviews, ascending, (w,)."""
        return torch.cat([words.word for words in self.words]).unique()

    def attention(self) -> torch.Tensor:
        """Sum of the attention weights of each of :attr:`lemmas`, (w,)."""
        return self._sums([words.attention for words in self.words])

    def occurrences(self) -> torch.Tensor:
        """Number of occurrences of each of :attr:`lemmas`, (w,)."""
        return self._sums([torch.ones_like(words.attention) for words in self.words])

    def _sums(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        place = torch.searchsorted(self.lemmas, torch.cat([words.word for words in self.words]))
        return torch.zeros(len(self.lemmas), device=place.device).index_add(0, place, torch.cat(list(values)))

    def names(self, lemmas: Sequence[int]) -> list[str]:
        """Lemmas by their numbers."""
        attention = self.counterfactual.model.attention
        assert attention is not None
        known = attention.store.vocabulary
        return [known[lemma] if lemma < len(known) else self._more[lemma - len(known)] for lemma in lemmas]

    def places(self, side: Side, lemma: int) -> list[int]:
        """Interactions of a side whose reviews hold a lemma, as places among them, ascending."""
        words = self.words[side]
        return words.place[words.word == lemma].unique().tolist()

    def reviews(self, lemma: int) -> int:
        """How many of the reviews hold a lemma."""
        return sum(len(self.places(side, lemma)) for side in Side)

    def foremost(self, top: int) -> list[tuple[int, float]]:
        """The lemmas that moved the prediction furthest, with the exact effect of each: (lemma, delta).

        Args:
            top: how many at most.
        """
        candidates = self.candidates(top)
        return furthest(candidates, self.effects([[lemma] for lemma in candidates]))[:top]

    def candidates(self, top: int) -> list[int]:
        """Lemmas, ``top`` of them or somewhat more, that move the prediction far by a linear approximation."""
        if not len(self.lemmas):
            return []
        return self.lemmas[self.linear.abs().argsort(descending=True)[: max(top, _CANDIDATES)]].tolist()

    def effects(self, removals: Sequence[Sequence[int] | PlaceOfWord]) -> list[float]:
        """The prediction less those of :meth:`without`."""
        return (self.base - self.without(removals)).tolist() if removals else []

    @torch.no_grad()
    def without(self, removals: Sequence[Sequence[int] | PlaceOfWord]) -> torch.Tensor:
        """Predictions (n,) without some words, exact but for rounding.

        Args:
            removals: what each of n scenarios lacks: all occurrences of some lemmas, or a single occurrence.
        """
        lemmas = [
            (k, one) for k, chosen in enumerate(removals) if not isinstance(chosen, PlaceOfWord) for one in chosen
        ]
        changes = []
        for number, side in zip(Side, self.counterfactual.sides, strict=True):
            at = [
                (k, one.token) for k, one in enumerate(removals) if isinstance(one, PlaceOfWord) and one.side == number
            ]
            found = torch.cat([self._holding(number, lemmas), self._pairs(at)], 1)
            changes.append(self._taken(side, self.words[number], *found))
        # What follows from a side that nothing is taken from need not be made again.
        user, item = (one if len(one.scenario) else None for one in changes)
        return self.counterfactual.predict(user, item, len(removals))

    def _pairs(self, pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
        return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.to(self.words[0].place.device)

    def _holding(self, side: Side, lemmas: Sequence[tuple[int, int]]) -> torch.Tensor:
        """All occurrences of lemmas on a side, scenario and token, (2, k)."""
        scenario, lemma = self._pairs(lemmas)
        order, ordered = self._by_lemma[side]
        first, end = torch.searchsorted(ordered, torch.stack([lemma, lemma + 1]))
        count = end - first
        shift = torch.repeat_interleave(first - (count.cumsum(0) - count), count)
        return torch.stack([scenario.repeat_interleave(count), order[shift + torch.arange(len(shift)).to(shift)]])

    @cached_property
    def _by_lemma(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per side, tokens by ascending lemma, and these lemmas."""
        orders = [torch.argsort(words.word, stable=True) for words in self.words]
        return [(order, words.word[order]) for order, words in zip(orders, self.words, strict=True)]

    def _taken(self, side: SideEvidence, words: EvidenceWords, scenario: torch.Tensor, token: torch.Tensor) -> Changes:
        m = max(len(side), 1)
        cases, case = (scenario * m + words.place[token]).unique(return_inverse=True)
        return without_words(side, words, cases // m, cases % m, case, token)

    @cached_property
    def linear(self) -> torch.Tensor:
        """Effects of all :attr:`lemmas` (w,), by the gradient of the prediction to the evidence."""
        lemmas = self.lemmas
        none = [_no_change(side) for side in self.counterfactual.sides]
        with torch.enable_grad():
            inputs = [one for changes in none for one in (changes.row, changes.coordinates)]
            predicted = self.counterfactual.predict(none[0], none[1])
            # Zeros where a score reads no states, or no tastes.
            slopes = torch.autograd.grad(predicted.sum(), inputs, allow_unused=True, materialize_grads=True)
        effect = torch.zeros(len(lemmas), device=lemmas.device)
        for number, (side, words) in enumerate(zip(self.counterfactual.sides, self.words, strict=True)):
            if not len(words):
                continue
            by_row, by_coordinates = slopes[2 * number : 2 * number + 2]
            lemma = torch.searchsorted(lemmas, words.word)
            pairs, case = (words.place * len(lemmas) + lemma).unique(return_inverse=True)
            place = pairs // len(lemmas)
            moved = pooled_change(side, words, by_row, place, case)
            if by_coordinates.shape[1]:
                # Coordinates are summed up, so the slope is the same for all reviews.
                moved = moved + said_change(side, words, by_coordinates[0], place, case)
            effect.index_add_(0, pairs % len(lemmas), -moved)
        return effect


def furthest(lemmas: Sequence[int], deltas: Sequence[float]) -> list[tuple[int, float]]:
    """Lemmas with their effects, by falling distance that they moved the prediction."""
    return sorted(zip(lemmas, deltas, strict=True), key=lambda one: (-abs(one[1]), one[0]))


def _no_change(side: SideEvidence) -> Changes:
    """A change of every interaction of a side in one scenario, which changes nothing but lets gradients through."""
    place = torch.arange(len(side), device=side.rows.device)
    coordinates, spoken = side.coordinates(place)
    return side.changes(
        torch.zeros_like(place),
        place,
        torch.zeros_like(side.rows).requires_grad_(),
        torch.zeros_like(place, dtype=torch.bool),
        torch.zeros_like(coordinates).requires_grad_(),
        torch.zeros_like(spoken),
    )
