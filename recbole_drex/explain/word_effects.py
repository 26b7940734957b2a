"""The effect of single words of the reviews on a prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch

from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual
from recbole_drex.explain.counterfactual.review_words import (
    EvidenceWords,
    coordinate_change,
    pooled_change,
    without_words,
    words_of,
)
from recbole_drex.explain.counterfactual.scenarios import Changes, SideEvidence
from recbole_drex.model.layers.common import Side

_CANDIDATES = 12  # words whose effect is computed exactly, selected by its linear approximation


@dataclasses.dataclass(frozen=True)
class WordOccurrence:
    """One occurrence of a word in the evidence of a side."""

    side: Side
    token: int


class LemmaEffect(NamedTuple):
    """How far all occurrences of a lemma move a prediction.

    Attributes:
        lemma: its index.
        delta: the prediction minus the prediction without it.
    """

    lemma: int
    delta: float


class WordDeletion:
    """The prediction for a pair without some words of its reviews.

    Args:
        counterfactual: the prediction of a model that reads reviews.
    """

    def __init__(self, counterfactual: DReXCounterfactual):
        self.counterfactual = counterfactual
        posted = counterfactual.user.posted
        self.words = (words_of(counterfactual.user) if posted is None else posted.words, words_of(counterfactual.item))
        self._new_lemmas = posted.lemmas if posted is not None else []
        self.base = float(counterfactual.predict().detach())

    @classmethod
    def of(cls, counterfactual: DReXCounterfactual) -> WordDeletion:
        """The word deletion of a prediction; cached, since several explanation methods use it."""
        if counterfactual.word_deletion is None:
            counterfactual.word_deletion = cls(counterfactual)
        return counterfactual.word_deletion

    @cached_property
    def lemmas(self) -> torch.Tensor:
        """Indices of the distinct lemmas in these reviews, ascending, (w,)."""
        return torch.cat([words.word for words in self.words]).unique()

    def attention(self) -> torch.Tensor:
        """Summed attention weight of each of :attr:`lemmas`, (w,)."""
        return self._sums([words.attention for words in self.words])

    def occurrences(self) -> torch.Tensor:
        """Number of occurrences of each of :attr:`lemmas`, (w,)."""
        return self._sums([torch.ones_like(words.attention) for words in self.words])

    def _sums(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        index = torch.searchsorted(self.lemmas, torch.cat([words.word for words in self.words]))
        return torch.zeros(len(self.lemmas), device=index.device).index_add(0, index, torch.cat(list(values)))

    def names(self, lemmas: Sequence[int]) -> list[str]:
        """The lemmas with these indices."""
        attention = self.counterfactual.model.attention
        assert attention is not None
        known = attention.store.vocabulary
        return [known[lemma] if lemma < len(known) else self._new_lemmas[lemma - len(known)] for lemma in lemmas]

    def indices(self, side: Side, lemma: int) -> list[int]:
        """Indices of a side's interactions whose reviews contain a lemma, ascending."""
        words = self.words[side]
        return words.index[words.word == lemma].unique().tolist()

    def reviews(self, lemma: int) -> int:
        """Number of reviews that contain a lemma."""
        return sum(len(self.indices(side, lemma)) for side in Side)

    def strongest(self, top: int) -> list[LemmaEffect]:
        """The lemmas with the largest effects on the prediction, which are exact.

        Args:
            top: maximum number of lemmas.
        """
        candidates = self.candidates(top)
        return strongest_first(candidates, self.effects([[lemma] for lemma in candidates]))[:top]

    def candidates(self, top: int) -> list[int]:
        """At least ``top`` lemmas with the largest effects by a linear approximation, if there are enough."""
        if not len(self.lemmas):
            return []
        return self.lemmas[self.linear.abs().argsort(descending=True)[: max(top, _CANDIDATES)]].tolist()

    def effects(self, removals: Sequence[Sequence[int] | WordOccurrence]) -> list[float]:
        """The prediction minus the predictions of :meth:`without`."""
        return (self.base - self.without(removals)).tolist() if removals else []

    @torch.no_grad()
    def without(self, removals: Sequence[Sequence[int] | WordOccurrence]) -> torch.Tensor:
        """Predictions (n,) without some words, exact up to rounding.

        Args:
            removals: what each of n scenarios removes: all occurrences of some lemmas, or a single occurrence.
        """
        lemmas = [
            (k, one) for k, chosen in enumerate(removals) if not isinstance(chosen, WordOccurrence) for one in chosen
        ]
        changes = []
        for number, side in zip(Side, self.counterfactual.sides, strict=True):
            single = [
                (k, one.token)
                for k, one in enumerate(removals)
                if isinstance(one, WordOccurrence) and one.side == number
            ]
            targets = torch.cat([self._occurrences_of(number, lemmas), self._pairs(single)], 1)
            changes.append(self._changes(side, self.words[number], *targets))
        # The state of a side without changes is not recomputed.
        user, item = (one if len(one.scenario) else None for one in changes)
        return self.counterfactual.predict(user, item, len(removals))

    def _pairs(self, pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
        return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.to(self.words[0].index.device)

    def _occurrences_of(self, side: Side, lemmas: Sequence[tuple[int, int]]) -> torch.Tensor:
        """All occurrences of lemmas on a side as scenario and token, (2, k)."""
        scenario, lemma = self._pairs(lemmas)
        order, ordered = self._by_lemma[side]
        first, end = torch.searchsorted(ordered, torch.stack([lemma, lemma + 1]))
        count = end - first
        shift = torch.repeat_interleave(first - (count.cumsum(0) - count), count)
        return torch.stack([scenario.repeat_interleave(count), order[shift + torch.arange(len(shift)).to(shift)]])

    @cached_property
    def _by_lemma(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per side, tokens sorted by lemma, and these lemmas."""
        orders = [torch.argsort(words.word, stable=True) for words in self.words]
        return [(order, words.word[order]) for order, words in zip(orders, self.words, strict=True)]

    def _changes(
        self, side: SideEvidence, words: EvidenceWords, scenario: torch.Tensor, token: torch.Tensor
    ) -> Changes:
        m = max(len(side), 1)
        cases, case = (scenario * m + words.index[token]).unique(return_inverse=True)
        return without_words(side, words, cases // m, cases % m, case, token)

    @cached_property
    def linear(self) -> torch.Tensor:
        """Effects of all :attr:`lemmas` (w,), approximated by the gradient of the prediction."""
        lemmas = self.lemmas
        unchanged = [_no_change(side) for side in self.counterfactual.sides]
        with torch.enable_grad():
            inputs = [one for changes in unchanged for one in (changes.row, changes.coordinates)]
            predicted = self.counterfactual.predict(unchanged[0], unchanged[1])
            # Zeros where the score does not depend on states or tastes.
            slopes = torch.autograd.grad(predicted.sum(), inputs, allow_unused=True, materialize_grads=True)
        effect = torch.zeros(len(lemmas), device=lemmas.device)
        for number, (side, words) in enumerate(zip(self.counterfactual.sides, self.words, strict=True)):
            if not len(words):
                continue
            by_row, by_coordinates = slopes[2 * number : 2 * number + 2]
            lemma = torch.searchsorted(lemmas, words.word)
            pairs, case = (words.index * len(lemmas) + lemma).unique(return_inverse=True)
            index = pairs // len(lemmas)
            moved = pooled_change(side, words, by_row, index, case)
            if by_coordinates.shape[1]:
                # Coordinates are summed over reviews, so the slope is the same for all of them.
                moved = moved + coordinate_change(side, words, by_coordinates[0], index, case)
            effect.index_add_(0, pairs % len(lemmas), -moved)
        return effect


def strongest_first(lemmas: Sequence[int], deltas: Sequence[float]) -> list[LemmaEffect]:
    """Effects of lemmas, by descending absolute effect."""
    effects = [LemmaEffect(lemma, delta) for lemma, delta in zip(lemmas, deltas, strict=True)]
    return sorted(effects, key=lambda effect: (-abs(effect.delta), effect.lemma))


def _no_change(side: SideEvidence) -> Changes:
    """A zero change of every interaction of a side in one scenario, through which gradients flow."""
    index = torch.arange(len(side), device=side.rows.device)
    coordinates, n_reviews = side.coordinates(index)
    return side.changes(
        torch.zeros_like(index),
        index,
        torch.zeros_like(side.rows).requires_grad_(),
        torch.zeros_like(index, dtype=torch.bool),
        torch.zeros_like(coordinates).requires_grad_(),
        torch.zeros_like(n_reviews),
    )
