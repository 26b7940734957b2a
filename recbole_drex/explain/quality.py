"""Measures of explanations: how often there is one, how specific and varied it is, and whether it is faithful."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_drex.explain import faithfulness
from recbole_drex.explain.counterfactual.dispatch import counterfactual_class, counterfactual_for
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.faithfulness import Explains, measure
from recbole_drex.training.run_record import Experiment
from recbole_drex.utils.files import read_json

TOP = 3  # recommendations of a user that are looked at
_GRID = (8, 4)  # users and items that are explained to each other, for specificity
_UNITS = 5  # units of an explanation that are compared
_PAIRS, _DEPTH = 16, 10  # pairs of which every run notes the foremost units, so that runs can be compared
_REVIEWS = 20  # training reviews from which on a user's profile is compared with planted tastes


_ORDERS = {
    "neighbours": faithfulness.by_nearness,
    "usefulness": faithfulness.by_usefulness,
    "evidence": faithfulness.by_evidence,
}


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to explain: its units for a user and an item, the foremost first, and how its faithfulness is measured.

    ``name`` says what a unit is in words that hold for any run.
    """

    unit: str
    by: str
    units: Callable[[int, int], Sequence[Hashable]]
    name: Callable[[Any], str]
    faithful: Explains | None


def ways_of(explainer: Explainer) -> list[Way]:
    """The ways in which a model's predictions are explained; none of a model that only writes sentences."""
    model, names = explainer.model, explainer.recommender
    found: list[Way] = []
    # All ways to explain a pair share what they read of it.
    counterfactual_of = lru_cache(maxsize=1)(lambda user, item: counterfactual_for(model, user, item))

    def foremost(way: Explains) -> Callable[[int, int], Sequence[Hashable]]:
        def units(user: int, item: int) -> Sequence[Hashable]:
            if not explainer.leaves_out(user):
                return []
            counterfactual = counterfactual_of(user, item)
            case, chosen = way.choose(counterfactual)
            if isinstance(case, faithfulness.WordCase):
                return list(chosen)
            # A place is one of this prediction; who wrote about what is the same in all of them.
            pasts = [(part[0].tolist(), part[1].tolist()) for part in counterfactual.pasts]
            return [(pasts[side][0][place], pasts[side][1][place]) for side, place in chosen]

        return units

    def past(unit: tuple[int, int]) -> str:
        return f"{names.user_name(unit[0])} {names.item_name(unit[1])}"

    def word(unit: int) -> str:
        return str(model.attention.store.vocabulary[unit])  # type: ignore[union-attr,index]

    def add(unit: str, by: str, k: int, choose: Callable[[Any], Any]) -> None:
        way = Explains(unit, by, k, choose)
        found.append(Way(unit, by, foremost(way), word if unit == "words" else past, way))

    if explainer.keywords is not None:
        keywords = explainer.keywords

        def shared(user: int, item: int) -> Sequence[Hashable]:
            return [one.lemma for one in keywords.overlap(names.user_name(user), names.item_name(item))]

        found.append(Way("words", "keywords", shared, str, None))
        add("reviews", "evidence", 3, faithfulness.by_evidence)
        add("words", "evidence", 5, faithfulness.words_by_evidence)
        add("words", "attention", 5, faithfulness.words_by_attention)
        add("words", "frequency", 5, faithfulness.words_by_frequency)
    elif (kind := counterfactual_class(model)) is not None:
        for order in kind.orders:
            add(kind.unit, order, 3, _ORDERS[order])
    return found


def explanation_quality(explainer: Explainer, users: int, seed: int) -> list[dict[str, Any]]:
    """Measure every way in which a model explains, on recommendations to some users.

    Args:
        explainer: of a trained run.
        users: how many, drawn at random among those with training interactions, if these can be left out.
        seed: of all random choices.

    Returns:
        Per way ``unit``, ``by``, ``users`` and

        * ``coverage``: share of the users' three best recommendations that have at least one unit;
        * ``user_specificity``: how little explanations of one item to two users share, 1 less the mean Jaccard index of
          their five foremost units, over pairs of explanations of which at least one has units;
        * ``item_specificity``: the same for explanations of two items to one user;
        * ``diversity``: distinct units among all units shown for the recommendations;
        * ``foremost``: of some pairs that do not depend on ``seed``, by name, the foremost units; runs with other seeds
          are compared by them (:func:`~recbole_drex.analysis.overlap.rank_biased_overlap`);
        * ``faithfulness``: as :func:`~recbole_drex.explain.faithfulness.measure`, on one of each user's ten best items,
          with ``untrained``, the same of the model before training, and ``excess``, by how much the ratio against
          units of the same direction exceeds that one's; None where a way names no part of the prediction's evidence;
        * ``planted``: of keywords, where the data set comes with a truth, as :func:`planted_agreement`; None otherwise.

        Values are None where there is nothing to measure.
    """
    if not (ways := ways_of(explainer)):
        return []
    rng = np.random.default_rng(seed)
    who = [user for user in explainer.users_by_evidence() if explainer.leaves_out(user)]
    chosen = [who[place] for place in sorted(rng.permutation(len(who))[:users])]
    names = explainer.recommender
    best = {user: [item for item, _ in names.best(user, 10)] for user in chosen}
    cases = [(user, items[rng.integers(len(items))]) for user, items in best.items() if items]
    grid, fixed = _grid(best, explainer), _fixed_pairs(explainer)
    shown = [(user, item) for user, items in best.items() for item in items[:TOP]]
    asked = dict.fromkeys([*shown, *filter(None, itertools.chain.from_iterable(grid)), *fixed])
    units = {pair: [way.units(*pair) for way in ways] for pair in asked}
    faithful = _faithfulness(cases, explainer, [way.faithful for way in ways if way.faithful], seed)
    found = []
    for number, way in enumerate(ways):
        of_way = {pair: each[number] for pair, each in units.items()}
        measured = _quality(way, len(best), shown, grid, of_way)
        measured["faithfulness"] = next(faithful) if way.faithful else None
        measured["foremost"] = [[way.name(unit) for unit in of_way[pair][:_DEPTH]] for pair in fixed]
        measured["planted"] = planted_agreement(explainer) if way.by == "keywords" else None
        found.append(measured)
    return found


def _fixed_pairs(explainer: Explainer) -> list[tuple[int, int]]:
    """Pairs of users and items that every run on a data set agrees on, whatever its split."""
    names, dataset = explainer.recommender, explainer.recommender.dataset
    rng = np.random.default_rng(0)
    by_name = [
        sorted(range(1, n), key=name)
        for n, name in ((dataset.user_num, names.user_name), (dataset.item_num, names.item_name))
    ]
    return [
        (by_name[0][rng.integers(len(by_name[0]))], by_name[1][rng.integers(len(by_name[1]))]) for _ in range(_PAIRS)
    ]


def planted_agreement(explainer: Explainer, k: int = 5) -> dict[str, Any] | None:
    """How well users' profiles name the aspects that the data set's generator planted; None where it has no truth.

    Args:
        explainer: of a run on a data set whose raw files include ``truth_<data set>.json``.
        k: keywords of a profile that count.

    Returns:
        ``users`` (with 20 training reviews or more), ``k``, ``precision``: share of their keywords that name an aspect
        which the user was planted to care for, and ``recall``: share of these aspects that a keyword names; means.
    """
    dataset = explainer.recommender.dataset
    path = Path(dataset.dataset_path).parent / "raw" / f"truth_{dataset.dataset_name}.json"
    if explainer.keywords is None or not path.is_file():
        return None
    truth, precision, recall = read_json(path), [], []
    aspect_of = {word: aspect for aspect, words in truth["aspects"].items() for word in words}
    for user, reviews in explainer.keywords.quotes.user_counts().items():
        name = explainer.recommender.user_name(user)
        cares = {aspect for aspect, weight in truth["users"].get(name, {}).items() if weight > 0}
        if reviews < _REVIEWS or not cares:
            continue
        named = [aspect_of.get(keyword.lemma) for keyword in explainer.profile("user", name, quotes=0)[:k]]
        precision.append(sum(aspect in cares for aspect in named) / max(len(named), 1))
        recall.append(len(cares.intersection(named)) / len(cares))
    if not precision:
        return None
    return {"users": len(precision), "k": k, "precision": float(np.mean(precision)), "recall": float(np.mean(recall))}


def _grid(best: dict[int, list[int]], explainer: Explainer) -> list[list[tuple[int, int] | None]]:
    """Some users by some of the items that are recommended most; None where a user knows the item."""
    counts = Counter(itertools.chain.from_iterable(best.values()))
    items = sorted(counts, key=lambda item: (-counts[item], item))[: _GRID[1]]
    users = list(best)[: _GRID[0]]
    known = {user: set(explainer.recommender.known(user).tolist()) for user in users}
    return [[None if item in known[user] else (user, item) for item in items] for user in users]


def _untrained(experiment: Experiment) -> Any:
    """The model with the parameters that training starts from, on the same evidence."""
    config = experiment.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        return config.model_class(config, experiment.parts.train_dataset).to(config["device"]).eval()


def _faithfulness(cases, explainer: Explainer, ways: Sequence[Explains], seed: int) -> Iterator[dict[str, Any]]:
    """Of each way, of the trained model beside the untrained one."""
    models = (explainer.model, _untrained(explainer.experiment)) if ways else ()
    for trained, untrained in zip(*(measure(cases, model, ways, seed) for model in models), strict=True):
        ratios = [one["same_direction"]["ratio"] for one in (trained, untrained)]
        yield {
            **trained,
            "untrained": {name: untrained[name] for name in ("deletion", "same_direction")},
            "excess": None if None in ratios else ratios[0] - ratios[1],
        }


def _quality(way: Way, users: int, pairs, grid, units: Mapping[tuple[int, int], Sequence[Hashable]]) -> dict[str, Any]:
    shown = [units[pair][:_UNITS] for pair in pairs]
    together = list(itertools.chain.from_iterable(shown))
    by_user = [[units[pair][:_UNITS] if pair else None for pair in row] for row in grid]
    return {
        "unit": way.unit,
        "by": way.by,
        "users": users,
        "coverage": float(np.mean([bool(one) for one in shown])) if shown else None,
        "user_specificity": _apart(zip(*by_user, strict=True)),
        "item_specificity": _apart(by_user),
        "diversity": len(set(together)) / len(together) if together else None,
    }


def _apart(groups: Iterable[Sequence[Sequence[Hashable] | None]]) -> float | None:
    """One less the mean Jaccard index of two explanations of a group, over all pairs with at least one unit."""
    found = []
    for group in groups:
        for one, other in itertools.combinations([set(units) for units in group if units is not None], 2):
            if one or other:
                found.append(1 - len(one & other) / len(one | other))
    return float(np.mean(found)) if found else None
