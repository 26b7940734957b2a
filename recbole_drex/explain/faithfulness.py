"""Faithfulness of explanations: deletion and insertion tests against random evidence of the same size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from recbole_drex.explain.counterfactual.dispatch import counterfactual_for
from recbole_drex.explain.word_effects import WordDeletion
from recbole_drex.model.layers.common import Side

Unit = Any  # what is removed: an EvidenceUnit, or the index of a lemma
DRAWS = 20  # random selections per prediction
_RESAMPLES = 2000
_WORDS = 1 << 17  # words removed in one batch


class EvidenceUnit(NamedTuple):
    """A past interaction of one side, by its position in the counterfactual's ``past_interactions``."""

    side: Side
    position: int


class Case(Protocol):
    """A prediction, with predictions from less evidence."""

    base: float

    @property
    def pool(self) -> Sequence[Unit]:
        """All units."""

    def deltas(self) -> Mapping[Unit, float]:
        """The effect of each unit on the prediction, possibly approximated."""

    def without(self, chosen: Sequence[Sequence[Unit]]) -> np.ndarray:
        """Predictions without these units of the pool, (n,)."""

    def only(self, chosen: Sequence[Sequence[Unit]]) -> np.ndarray:
        """Predictions from only these units of the pool, (n,)."""


class ReviewCase:
    """Units are past interactions of user and item.

    Args:
        counterfactual: the prediction.
        sides: the sides whose interactions form the pool; interactions of the other side are always kept.
        base: the prediction, if it is known.
    """

    def __init__(self, counterfactual: Any, sides: Sequence[Side] = tuple(Side), base: float | None = None):
        self.counterfactual = counterfactual
        self.base = float(counterfactual.without([[]], [[]])[0]) if base is None else base
        self.pool: Sequence[Unit] = [
            EvidenceUnit(side, index)
            for side in sides
            for index in range(len(counterfactual.past_interactions[side][0]))
        ]

    def without(self, chosen: Sequence[Sequence[EvidenceUnit]]) -> np.ndarray:
        positions = [[[index for number, index in one if number == side] for one in chosen] for side in Side]
        return self.counterfactual.without(*positions).numpy(force=True)

    def only(self, chosen: Sequence[Sequence[EvidenceUnit]]) -> np.ndarray:
        kept = [set(units) for units in chosen]
        return self.without([[unit for unit in self.pool if unit not in units] for units in kept])

    def deltas(self) -> dict[EvidenceUnit, float]:
        """The prediction minus the prediction without each unit."""
        return self._deltas

    @cached_property
    def _deltas(self) -> dict[EvidenceUnit, float]:
        alone = [part.tolist() for part in self.counterfactual.without_each()]
        return {unit: self.base - alone[unit.side][unit.position] for unit in self.pool}


class WordCase:
    """Units are lemmas in the reviews of user and item; removing a lemma removes all its occurrences."""

    def __init__(self, words: WordDeletion):
        self.words = words
        self.base = words.base
        self.pool: Sequence[Unit] = words.lemmas.tolist()

    def without(self, chosen: Sequence[Sequence[int]]) -> np.ndarray:
        return self.words.without(chosen).numpy(force=True)

    def deltas(self) -> dict[int, float]:
        return dict(zip(self.pool, self.words.linear.tolist(), strict=True))

    def only(self, chosen: Sequence[Sequence[int]]) -> np.ndarray:
        all_lemmas = set(self.pool)
        # A scenario removes nearly all words, so it is as large as the evidence.
        size = max(1, _WORDS // max(1, sum(map(len, self.words.words))))
        removals = [sorted(all_lemmas.difference(kept)) for kept in chosen]
        return np.concatenate([self.without(removals[k : k + size]) for k in range(0, len(removals), size)])


@dataclasses.dataclass(frozen=True)
class Effect:
    """Absolute changes of one prediction by the explaining units, and mean changes by as many random units of the pool.

    Attributes:
        deleted, deleted_random: change when the units are deleted.
        deleted_same: change when random units are deleted that each move the prediction in the direction of the
            explaining units; fewer units if fewer are available. NaN if there are no such units.
        inserted, inserted_random: change when the units are inserted into an empty pool.
    """

    deleted: float
    deleted_random: float
    deleted_same: float
    inserted: float
    inserted_random: float


def effect(case: Case, explaining: Sequence[Unit], rng: np.random.Generator, draws: int = DRAWS) -> Effect:
    """Delete and insert the units that explain a prediction, and as many random units.

    Args:
        case: the prediction.
        explaining: one unit or more of its pool.
        rng: draws each random selection from the whole pool, without replacement.
        draws: number of random selections.
    """
    k = len(explaining)
    random = [[case.pool[index] for index in rng.choice(len(case.pool), k, replace=False)] for _ in range(draws)]
    few = random[: max(1, draws // 4)]
    moved = case.base - case.without([list(explaining), *random])
    alone = case.only([[], list(explaining), *few])
    inserted, deleted = np.abs(alone[1:] - alone[0]), np.abs(moved)
    same = _random_same_direction(case, float(moved[0]), k, rng, draws)
    values = (deleted[0], deleted[1:].mean(), same, inserted[0], inserted[1:].mean())
    return Effect(*(float(one) for one in values))


def _random_same_direction(case: Case, moved: float, k: int, rng: np.random.Generator, draws: int) -> float:
    """Mean absolute change without k random units that each move the prediction in the direction of ``moved``."""
    peers = [unit for unit, delta in case.deltas().items() if delta * moved > 0]
    if not peers:
        return float("nan")
    k = min(k, len(peers))
    chosen = [[peers[index] for index in rng.choice(len(peers), k, replace=False)] for _ in range(draws)]
    return float(np.abs(case.base - case.without(chosen)).mean())


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Mean change by explaining units divided by mean change by random units, with a 95 % bootstrap interval.

    The ratio is ``None`` if random units have no effect; the interval also for fewer than three predictions.
    """

    explaining: float
    random: float
    ratio: float | None
    low: float | None
    high: float | None


def ratio(explaining: ArrayLike, random: ArrayLike, seed: int = 0) -> Ratio:
    """Ratio of the means of two paired samples (n,), resampled by prediction.

    Example:
        >>> ratio([0.2, 0.4], [0.1, 0.1]).ratio
        3.0000000000000004
    """
    over, under = np.asarray(explaining, dtype=float), np.asarray(random, dtype=float)
    if not len(over) or under.mean() <= 0:
        return Ratio(float(over.mean()) if len(over) else 0.0, 0.0, None, None, None)
    value, low, high = float(over.mean() / under.mean()), None, None
    if len(over) >= 3 and np.ptp(over) + np.ptp(under) > 0:
        interval = scipy.stats.bootstrap(
            (over, under),
            lambda a, b, axis: a.mean(axis) / np.maximum(b.mean(axis), 1e-300),
            paired=True,
            vectorized=True,
            method="percentile",
            n_resamples=_RESAMPLES,
            random_state=np.random.default_rng(seed),  # renamed to rng in SciPy 1.15
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    return Ratio(float(over.mean()), float(under.mean()), value, low, high)


@dataclasses.dataclass(frozen=True)
class UnitSelection:
    """A method that selects the units that explain a prediction.

    Attributes:
        unit: ``reviews``, ``ratings`` or ``words``.
        by: criterion of the selection.
        k: number of units.
        choose: maps a counterfactual to the case and its units, most important first.
    """

    unit: str
    by: str
    k: int
    choose: Callable[[Any], tuple[Case, Sequence[Unit]]]


def same_direction(deltas: Mapping[Unit, float], k: int) -> list[Unit]:
    """Units by descending effect in one direction: the one in which the k strongest units have the larger total effect.

    Units with opposite effects would cancel, so together they would not explain the prediction.

    Example:
        >>> same_direction({"a": 0.3, "b": -0.25, "c": 0.1, "d": -0.2}, k=2)
        ['b', 'd']
    """
    up = sorted((unit for unit in deltas if deltas[unit] > 0), key=lambda unit: (-deltas[unit], unit))
    down = sorted((unit for unit in deltas if deltas[unit] < 0), key=lambda unit: (deltas[unit], unit))
    return max(up, down, key=lambda units: sum(abs(deltas[unit]) for unit in units[:k]))


def by_evidence(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Past interactions with the largest single effects, all in the same direction."""
    case = ReviewCase(counterfactual)
    return case, same_direction(case.deltas(), 3)


def by_usefulness(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Reviews of the item by descending weight of the model; the pool is the item's reviews."""
    case = ReviewCase(counterfactual, sides=(Side.ITEM,))
    return case, case.pool  # sorted by descending weight


def by_nearness(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Ratings of the item by the user's EMF neighbours; the pool is the item's ratings."""
    return ReviewCase(counterfactual, sides=(Side.ITEM,)), [(Side.ITEM, index) for index in counterfactual.neighbours]


def words_by_evidence(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Words with the largest single effects, all in the same direction."""
    words = WordDeletion.of(counterfactual)
    return WordCase(words), same_direction(dict(words.strongest(32)), 5)


def words_by_attention(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Words by descending attention in the reviews of user and item."""
    words = WordDeletion.of(counterfactual)
    order = words.attention().argsort(descending=True, stable=True)
    return WordCase(words), words.lemmas[order].tolist()


def words_by_frequency(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Words by descending frequency in these reviews, a baseline for explanations by words."""
    words = WordDeletion.of(counterfactual)
    order = words.occurrences().argsort(descending=True, stable=True)
    return WordCase(words), words.lemmas[order].tolist()


def measure(
    cases: Sequence[tuple[int, int]], model: Any, selections: Sequence[UnitSelection], seed: int
) -> list[dict[str, Any]]:
    """Measure the faithfulness of selections of explaining units.

    Args:
        cases: users and items, by internal id; one item per user, so that predictions are independent.
        model: a trained model with counterfactual predictions.
        selections: the selections to measure.
        seed: seed of the random selections; results of one selection do not depend on the others.

    Returns:
        Per selection ``unit``, ``by``, ``k``, ``predictions`` (number of predictions with at least k explaining units),
        and under ``deletion``, ``same_direction`` (against random units of the same direction) and ``insertion`` the
        fields of :class:`Ratio`.
    """
    generators = [np.random.default_rng(seed) for _ in selections]
    effects: list[list[Effect]] = [[] for _ in selections]
    for user, item in cases:
        counterfactual = counterfactual_for(model, user, item)
        for selection, rng, measured in zip(selections, generators, effects, strict=True):
            case, units = selection.choose(counterfactual)
            if len(units) >= selection.k:
                measured.append(effect(case, units[: selection.k], rng))
    return [_summary(selection, measured) for selection, measured in zip(selections, effects, strict=True)]


def _summary(selection: UnitSelection, effects: Sequence[Effect]) -> dict[str, Any]:
    table = np.array([dataclasses.astuple(one) for one in effects]).reshape(-1, 5)
    known = ~np.isnan(table[:, 2])
    return {
        "unit": selection.unit,
        "by": selection.by,
        "k": selection.k,
        "predictions": len(effects),
        "deletion": dataclasses.asdict(ratio(table[:, 0], table[:, 1])),
        "same_direction": dataclasses.asdict(ratio(table[known, 0], table[known, 2])),
        "insertion": dataclasses.asdict(ratio(table[:, 3], table[:, 4])),
    }
