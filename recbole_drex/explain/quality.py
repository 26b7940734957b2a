"""Measures of explanations: how often there is one, how specific and varied it is, and whether it is faithful."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from recbole_drex.explain import faithfulness
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.faithfulness import Explains, measure

TOP = 3  # recommendations of a user that are looked at
_GRID = (12, 6)  # users and items that are explained to each other, for specificity
_UNITS = 5  # units of an explanation that are compared


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to explain: its units for a user and an item, the foremost first, and how its faithfulness is measured."""

    unit: str
    by: str
    units: Callable[[int, int], Sequence[Hashable]]
    faithful: Explains | None


def ways_of(explainer: Explainer) -> list[Way]:
    """The ways in which a model's predictions are explained; none of a model that only writes sentences."""
    model, names = explainer.model, explainer.recommender
    found: list[Way] = []

    def foremost(way: Explains) -> Callable[[int, int], Sequence[Hashable]]:
        def units(user: int, item: int) -> Sequence[Hashable]:
            whatif = model.what_if(user, item)  # type: ignore[operator]
            case, chosen = way.choose(whatif)
            if isinstance(case, faithfulness.WordCase):
                return list(chosen)
            # A place is one of this prediction; who wrote about what is the same in all of them.
            pasts = [(part[0].tolist(), part[1].tolist()) for part in whatif.pasts]
            return [(pasts[side][0][place], pasts[side][1][place]) for side, place in chosen]

        return units

    def add(unit: str, by: str, k: int, choose: Callable[[Any], Any]) -> None:
        way = Explains(unit, by, k, choose)
        found.append(Way(unit, by, foremost(way), way))

    if explainer.keywords is not None:
        keywords = explainer.keywords

        def shared(user: int, item: int) -> Sequence[Hashable]:
            return [one.lemma for one in keywords.overlap(names.user_name(user), names.item_name(item))]

        found.append(Way("words", "keywords", shared, None))
        add("reviews", "evidence", 3, faithfulness.by_evidence)
        add("words", "evidence", 5, faithfulness.words_by_evidence)
        add("words", "attention", 5, faithfulness.words_by_attention)
        add("words", "frequency", 5, faithfulness.words_by_frequency)
    elif hasattr(model, "useful_reviews"):
        add("reviews", "usefulness", 3, faithfulness.by_usefulness)
        add("reviews", "evidence", 3, faithfulness.by_evidence)
    elif hasattr(model, "explanation"):
        add("ratings", "neighbours", 3, faithfulness.by_nearness)
        add("ratings", "evidence", 3, faithfulness.by_evidence)
    return found


def explanation_quality(explainer: Explainer, users: int, seed: int) -> list[dict[str, Any]]:
    """Measure every way in which a model explains, on recommendations to some users.

    Args:
        explainer: of a trained run.
        users: how many, drawn at random among those with training interactions.
        seed: of all random choices.

    Returns:
        Per way ``unit``, ``by``, ``users`` and

        * ``coverage``: share of the users' three best recommendations that have at least one unit;
        * ``user_specificity``: how little explanations of one item to two users share, 1 less the mean Jaccard index of
          their five foremost units, over pairs of explanations of which at least one has units;
        * ``item_specificity``: the same for explanations of two items to one user;
        * ``diversity``: distinct units among all units shown for the recommendations;
        * ``faithfulness``: as :func:`~recbole_drex.explain.faithfulness.measure`, on one of each user's ten best items;
          None where a way names no part of the prediction's evidence.

        Values are None where there is nothing to measure.
    """
    rng = np.random.default_rng(seed)
    who = explainer.users_by_evidence()
    chosen = [who[place] for place in sorted(rng.permutation(len(who))[:users])]
    names = explainer.recommender
    best = {user: [item for item, _ in names.best(user, 10)] for user in chosen}
    cases = [(user, items[rng.integers(len(items))]) for user, items in best.items() if items]
    grid = _grid(best, explainer)
    return [_quality(way, best, cases, grid, explainer.model, seed) for way in ways_of(explainer)]


def _grid(best: dict[int, list[int]], explainer: Explainer) -> list[list[tuple[int, int]]]:
    """Some users by some items that are recommended most and that none of them knows."""
    users = list(best)[: _GRID[0]]
    known = set(itertools.chain.from_iterable(explainer.recommender.known(user).tolist() for user in users))
    counts: dict[int, int] = {}
    for item in itertools.chain.from_iterable(best.values()):
        counts[item] = counts.get(item, 0) + 1
    items = [item for item in sorted(counts, key=lambda one: (-counts[one], one)) if item not in known][: _GRID[1]]
    return [[(user, item) for item in items] for user in users]


def _quality(way: Way, best, cases, grid, model: Any, seed: int) -> dict[str, Any]:
    shown = [way.units(user, item)[:_UNITS] for user, items in best.items() for item in items[:TOP]]
    units = list(itertools.chain.from_iterable(shown))
    by_user = [[way.units(*pair)[:_UNITS] for pair in row] for row in grid]
    faithful = measure(cases, model, way.faithful, seed) if way.faithful else None
    return {
        "unit": way.unit,
        "by": way.by,
        "users": len(best),
        "coverage": float(np.mean([bool(one) for one in shown])) if shown else None,
        "user_specificity": _apart(zip(*by_user, strict=True)),
        "item_specificity": _apart(by_user),
        "diversity": len(set(units)) / len(units) if units else None,
        "faithfulness": faithful,
    }


def _apart(groups: Iterable[Sequence[Sequence[Hashable]]]) -> float | None:
    """One less the mean Jaccard index of two explanations of a group, over all pairs with at least one unit."""
    found = []
    for group in groups:
        for one, other in itertools.combinations(map(set, group), 2):
            if one or other:
                found.append(1 - len(one & other) / len(one | other))
    return float(np.mean(found)) if found else None


def rank_biased_overlap(one: Sequence[Hashable], other: Sequence[Hashable], p: float = 0.9) -> float:
    r"""Likeness of two rankings without repetitions, extrapolated (Webber, Moffat and Zobel, TOIS 2010, eq. 30 and 32).

    With :math:`A_d` the share of the first d that both have in common, and both rankings cut to the shorter length k,

    .. math:: \frac{1 - p}{p} \sum_{d=1}^{k} A_d p^d + A_k p^k

    Args:
        one, other: the foremost first.
        p: how far down a reader looks; 0.9 gives the first ten 86 % of the weight.

    Returns:
        0 (nothing in common, or nothing at all) to 1 (the same).

    Example:
        >>> round(rank_biased_overlap("abc", "acb"), 3)
        0.95
    """
    k = min(len(one), len(other))
    if not k:
        return 0.0
    shares = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, k + 1)]
    weighted = sum(share * p**d for d, share in enumerate(shares, 1))
    return (1 - p) / p * weighted + shares[-1] * p**k
