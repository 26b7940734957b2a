"""What single words of the reviews behind a prediction did to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from recbole_drex.model.reviewwords import ReviewWords, pooled_change, said_change, without_words, words_of
from recbole_drex.model.scenarios import Changes, SideEvidence
from recbole_drex.model.whatif import WhatIf

_CANDIDATES = 12  # words whose effect is computed exactly, the foremost by its linear approximation


class PlaceOfWord(NamedTuple):
    """An occurrence of a word in the evidence of a side."""

    side: int
    token: int


class WordDeletion:
    """The prediction of a pair without some words of the reviews behind it.

    Args:
        whatif: the prediction; its model reads reviews.
    """

    def __init__(self, whatif: WhatIf):
        self.whatif = whatif
        posted = whatif.user.posted
        self.words = (words_of(whatif.user) if posted is None else posted.words, words_of(whatif.item))
        self._more = posted.lemmas if posted is not None else []
        self.base = float(whatif.predict().detach())

    @property
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
        attention = self.whatif.model.attention
        assert attention is not None
        known = attention.store.vocabulary
        return [known[lemma] if lemma < len(known) else self._more[lemma - len(known)] for lemma in lemmas]

    def places(self, side: int, lemma: int) -> list[int]:
        """Interactions of a side whose reviews hold a lemma, as places among them, ascending."""
        words = self.words[side]
        return words.place[words.word == lemma].unique().tolist()

    def reviews(self, lemma: int) -> int:
        """How many of the reviews hold a lemma."""
        return sum(len(self.places(side, lemma)) for side in (0, 1))

    def foremost(self, top: int) -> list[tuple[int, float]]:
        """The lemmas that moved the prediction furthest, with the exact effect of each: (lemma, delta).

        Candidates are found by a linear approximation of all effects.

        Args:
            top: how many at most.
        """
        lemmas = self.lemmas
        if not len(lemmas):
            return []
        effect = self._linear(lemmas)
        candidates = lemmas[effect.abs().argsort(descending=True)[: max(top, _CANDIDATES)]].tolist()
        deltas = self.base - self.without([[lemma] for lemma in candidates])
        order = sorted(range(len(candidates)), key=lambda k: (-abs(float(deltas[k])), candidates[k]))
        return [(candidates[k], float(deltas[k])) for k in order[:top]]

    @torch.no_grad()
    def without(self, lemmas: Sequence[Sequence[int]]) -> torch.Tensor:
        """Predictions (n,) without all occurrences of these lemmas, a collection of them per scenario."""
        changes = []
        for side, words in zip(self.whatif.sides, self.words, strict=True):
            order = torch.argsort(words.word, stable=True)
            ordered = words.word[order]
            scenario, token = [], []
            for number, one in enumerate(lemmas):
                wanted = torch.tensor(sorted(one), device=order.device, dtype=ordered.dtype)
                bounds = torch.searchsorted(ordered, torch.stack([wanted, wanted + 1]))
                found = torch.cat([order[a:b] for a, b in bounds.T.tolist()]) if len(one) else order[:0]
                token.append(found)
                scenario.append(torch.full_like(found, number))
            changes.append(self._taken(side, words, torch.cat(scenario), torch.cat(token)))
        return self._predict(changes, len(lemmas))

    @torch.no_grad()
    def without_each(self, places: Sequence[PlaceOfWord]) -> torch.Tensor:
        """Predictions (n,) without one occurrence of a word each."""
        changes = []
        for number, (side, words) in enumerate(zip(self.whatif.sides, self.words, strict=True)):
            chosen = [(scenario, place.token) for scenario, place in enumerate(places) if place.side == number]
            scenario, token = torch.tensor(chosen, dtype=torch.int64).reshape(-1, 2).T.to(words.place.device)
            changes.append(self._taken(side, words, scenario, token))
        return self._predict(changes, len(places))

    def _predict(self, changes: list[Changes], n: int) -> torch.Tensor:
        # What follows from a side that nothing is taken from need not be made anew.
        user, item = (one if len(one.scenario) else None for one in changes)
        return self.whatif.predict(user, item, n)

    def _taken(self, side: SideEvidence, words: ReviewWords, scenario: torch.Tensor, token: torch.Tensor) -> Changes:
        m = max(len(side), 1)
        cases, case = (scenario * m + words.place[token]).unique(return_inverse=True)
        return without_words(side, words, cases // m, cases % m, case, token)

    def _linear(self, lemmas: torch.Tensor) -> torch.Tensor:
        """Effects of all lemmas (w,), by the gradient of the prediction to the evidence."""
        none = [_no_change(side) for side in self.whatif.sides]
        with torch.enable_grad():
            inputs = [one for changes in none for one in (changes.row, changes.coordinates)]
            predicted = self.whatif.predict(none[0], none[1])
            slopes = torch.autograd.grad(predicted.sum(), inputs, allow_unused=True)
        effect = torch.zeros(len(lemmas), device=lemmas.device)
        for number, (side, words) in enumerate(zip(self.whatif.sides, self.words, strict=True)):
            by_row, by_coordinates = slopes[2 * number : 2 * number + 2]
            lemma = torch.searchsorted(lemmas, words.word)
            pairs, case = (words.place * len(lemmas) + lemma).unique(return_inverse=True)
            place = pairs // len(lemmas)
            moved = pooled_change(side, words, by_row, place, case)
            if by_coordinates is not None and by_coordinates.shape[1]:
                # Coordinates are summed up, so the slope is the same for all reviews.
                moved = moved + said_change(side, words, by_coordinates[0], place, case)
            effect.index_add_(0, pairs % len(lemmas), -moved)
        return effect


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
