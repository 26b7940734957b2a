"""Whether what explains a prediction also made it: deletion and insertion against as many at random."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from recbole_drex.explain.counterfactual.dispatch import counterfactual_for
from recbole_drex.explain.word_effects import WordDeletion
from recbole_drex.model.layers.common import Side

Unit = Any  # what a case counts: (side, place) of a past interaction, or the number of a lemma
DRAWS = 20  # random choices of as many units, per prediction
_RESAMPLES = 2000
_WORDS = 1 << 17  # that are taken away together


class Case(Protocol):
    """A prediction, and what it would be from other evidence."""

    base: float

    @property
    def pool(self) -> Sequence[Unit]:
        """All units."""

    def deltas(self) -> Mapping[Unit, float]:
        """Of each unit, by how much it raised the prediction, at least nearly."""

    def without(self, chosen: Sequence[Sequence[Unit]]) -> np.ndarray:
        """Predictions without these units of the pool, (n,)."""

    def only(self, chosen: Sequence[Sequence[Unit]]) -> np.ndarray:
        """Predictions from nothing of the pool but these units, (n,)."""


class ReviewCase:
    """Units are past interactions of user and item: pairs of side and place.

    Args:
        counterfactual: the prediction.
        sides: the sides whose interactions make the pool; those of the other side always stay.
        base: the prediction, if it has been made before.
    """

    def __init__(self, counterfactual: Any, sides: Sequence[Side] = tuple(Side), base: float | None = None):
        self.counterfactual = counterfactual
        self.base = float(counterfactual.without([[]], [[]])[0]) if base is None else base
        self.pool: Sequence[Unit] = [
            (side, place) for side in sides for place in range(len(counterfactual.pasts[side][0]))
        ]

    def without(self, chosen: Sequence[Sequence[tuple[Side, int]]]) -> np.ndarray:
        places = [[[place for number, place in one if number == side] for one in chosen] for side in Side]
        return self.counterfactual.without(*places).numpy(force=True)

    def only(self, chosen: Sequence[Sequence[tuple[Side, int]]]) -> np.ndarray:
        kept = [set(units) for units in chosen]
        return self.without([[unit for unit in self.pool if unit not in units] for units in kept])

    def deltas(self) -> dict[tuple[Side, int], float]:
        """Of each unit, the prediction less the one without it."""
        return self._deltas

    @cached_property
    def _deltas(self) -> dict[tuple[Side, int], float]:
        alone = [part.tolist() for part in self.counterfactual.without_each()]
        return {(side, place): self.base - alone[side][place] for side, place in self.pool}


class WordCase:
    """Units are lemmas in the reviews of user and item; without a lemma, all its occurrences there are taken out."""

    def __init__(self, words: WordDeletion):
        self.words = words
        self.base = words.base
        self.pool: Sequence[Unit] = words.lemmas.tolist()

    def without(self, chosen: Sequence[Sequence[int]]) -> np.ndarray:
        return self.words.without(chosen).numpy(force=True)

    def deltas(self) -> dict[int, float]:
        return dict(zip(self.pool, self.words.linear.tolist(), strict=True))

    def only(self, chosen: Sequence[Sequence[int]]) -> np.ndarray:
        everything = set(self.pool)
        # A scenario takes away nearly all words, so each is as large as the evidence.
        size = max(1, _WORDS // max(1, sum(map(len, self.words.words))))
        removals = [sorted(everything.difference(kept)) for kept in chosen]
        return np.concatenate([self.without(removals[k : k + size]) for k in range(0, len(removals), size)])


@dataclasses.dataclass(frozen=True)
class Effect:
    """How far one prediction moves: by what explains it, and on average by as many random ones of the pool.

    Attributes:
        deleted, deleted_random: distance between the prediction and the one without them.
        deleted_same: distance without random ones that each move the prediction the way that those which explain it do
            together; fewer where fewer do. NaN where none does.
        inserted, inserted_random: distance between the prediction from them alone and the one from nothing.
    """

    deleted: float
    deleted_random: float
    deleted_same: float
    inserted: float
    inserted_random: float


def effect(case: Case, explaining: Sequence[Unit], rng: np.random.Generator, draws: int = DRAWS) -> Effect:
    """Delete and insert the units that explain a prediction, and as many others.

    Args:
        case: the prediction.
        explaining: one unit or more of its pool.
        rng: of the random choices; each is drawn from the whole pool, without replacement.
        draws: number of random choices.
    """
    k = len(explaining)
    random = [[case.pool[place] for place in rng.choice(len(case.pool), k, replace=False)] for _ in range(draws)]
    few = random[: max(1, draws // 4)]
    moved = case.base - case.without([list(explaining), *random])
    alone = case.only([[], list(explaining), *few])
    inserted, deleted = np.abs(alone[1:] - alone[0]), np.abs(moved)
    same = _same_direction(case, float(moved[0]), k, rng, draws)
    found = (deleted[0], deleted[1:].mean(), same, inserted[0], inserted[1:].mean())
    return Effect(*(float(one) for one in found))


def _same_direction(case: Case, moved: float, k: int, rng: np.random.Generator, draws: int) -> float:
    """Mean distance without k random units of those that move the prediction in the direction of ``moved``."""
    peers = [unit for unit, delta in case.deltas().items() if delta * moved > 0]
    if not peers:
        return float("nan")
    k = min(k, len(peers))
    chosen = [[peers[place] for place in rng.choice(len(peers), k, replace=False)] for _ in range(draws)]
    return float(np.abs(case.base - case.without(chosen)).mean())


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as far predictions move as by random ones: ratio of the means, with a 95 % bootstrap interval.

    ``None`` where random ones move nothing, and intervals of fewer than three predictions.
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
        found = scipy.stats.bootstrap(
            (over, under),
            lambda a, b, axis: a.mean(axis) / np.maximum(b.mean(axis), 1e-300),
            paired=True,
            vectorized=True,
            method="percentile",
            n_resamples=_RESAMPLES,
            random_state=np.random.default_rng(seed),  # rng, which is the same, came with SciPy 1.15
        ).confidence_interval
        low, high = float(found.low), float(found.high)
    return Ratio(float(over.mean()), float(under.mean()), value, low, high)


@dataclasses.dataclass(frozen=True)
class Explains:
    """A way to choose what explains a prediction.

    Attributes:
        unit: ``reviews``, ``ratings`` or ``words``.
        by: what they are chosen by.
        k: how many.
        choose: from what-if to the case and its foremost units, the foremost first; none where there are too few.
    """

    unit: str
    by: str
    k: int
    choose: Callable[[Any], tuple[Case, Sequence[Unit]]]


def same_way(deltas: Mapping[Unit, float], k: int) -> list[Unit]:
    """Units by falling effect in one direction, that in which the k foremost together moved the prediction more.

    Reasons that pull in opposite directions would cancel: together they do not explain where the prediction went.

    Example:
        >>> same_way({"a": 0.3, "b": -0.25, "c": 0.1, "d": -0.2}, k=2)
        ['b', 'd']
    """
    up = sorted((unit for unit in deltas if deltas[unit] > 0), key=lambda unit: (-deltas[unit], unit))
    down = sorted((unit for unit in deltas if deltas[unit] < 0), key=lambda unit: (deltas[unit], unit))
    return max(up, down, key=lambda units: sum(abs(deltas[unit]) for unit in units[:k]))


def by_evidence(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Past interactions that moved the prediction furthest, each alone, all of them up or all of them down."""
    case = ReviewCase(counterfactual)
    return case, same_way(case.deltas(), 3)


def by_usefulness(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Reviews of the item by NARRE's weights, among the reviews of the item."""
    case = ReviewCase(counterfactual, sides=(Side.ITEM,))
    return case, case.pool  # they come by falling weight


def by_nearness(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Ratings of the item by EMF's neighbours of the user, among the ratings of the item."""
    return ReviewCase(counterfactual, sides=(Side.ITEM,)), [(Side.ITEM, place) for place in counterfactual.neighbours]


def words_by_evidence(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Words that moved the prediction furthest, each alone, all of them up or all of them down."""
    words = WordDeletion.of(counterfactual)
    return WordCase(words), same_way(dict(words.foremost(32)), 5)


def words_by_attention(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """Words of most attention in the reviews behind the prediction: what attention itself calls important."""
    words = WordDeletion.of(counterfactual)
    order = words.attention().argsort(descending=True, stable=True)
    return WordCase(words), words.lemmas[order].tolist()


def words_by_frequency(counterfactual: Any) -> tuple[Case, Sequence[Unit]]:
    """The words that occur most often there: what any explanation by words must be better than."""
    words = WordDeletion.of(counterfactual)
    order = words.occurrences().argsort(descending=True, stable=True)
    return WordCase(words), words.lemmas[order].tolist()


def measure(cases: Sequence[tuple[int, int]], model: Any, ways: Sequence[Explains], seed: int) -> list[dict[str, Any]]:
    """Faithfulness of some ways to explain.

    Args:
        cases: users and items, by internal id; one item per user, so that predictions may count as independent.
        model: trained, with counterfactual predictions.
        ways: what explains.
        seed: of the random choices; those of a way do not depend on which others there are.

    Returns:
        Per way ``unit``, ``by``, ``k``, ``predictions`` (those with k units or more in the pool, and k that explain),
        and under ``deletion``, ``same_direction`` (against random units of the same direction) and ``insertion`` the
        fields of :class:`Ratio`.
    """
    generators = [np.random.default_rng(seed) for _ in ways]
    effects: list[list[Effect]] = [[] for _ in ways]
    for user, item in cases:
        counterfactual = counterfactual_for(model, user, item)
        for way, rng, found in zip(ways, generators, effects, strict=True):
            case, foremost = way.choose(counterfactual)
            if len(foremost) >= way.k:
                found.append(effect(case, foremost[: way.k], rng))
    return [_summary(way, found) for way, found in zip(ways, effects, strict=True)]


def _summary(way: Explains, effects: Sequence[Effect]) -> dict[str, Any]:
    table = np.array([dataclasses.astuple(one) for one in effects]).reshape(-1, 5)
    known = ~np.isnan(table[:, 2])
    return {
        "unit": way.unit,
        "by": way.by,
        "k": way.k,
        "predictions": len(effects),
        "deletion": dataclasses.asdict(ratio(table[:, 0], table[:, 1])),
        "same_direction": dataclasses.asdict(ratio(table[known, 0], table[known, 2])),
        "insertion": dataclasses.asdict(ratio(table[:, 3], table[:, 4])),
    }
