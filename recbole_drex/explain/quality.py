"""Evaluation of explanations: coverage, specificity, diversity and faithfulness."""

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
from recbole_drex.explain.faithfulness import UnitSelection, measure
from recbole_drex.training.run_record import Experiment
from recbole_drex.utils.files import read_json

TOP = 3  # recommendations per user
_GRID = (8, 4)  # users and items whose pairs are explained, to measure specificity
_UNITS = 5  # units per explanation that are compared
_PAIRS, _DEPTH = 16, 10  # pairs and their top units that every run stores, to compare runs
_REVIEWS = 20  # fewest training reviews of a user whose profile is compared with planted tastes


_ORDERS = {
    "neighbours": faithfulness.by_nearness,
    "usefulness": faithfulness.by_usefulness,
    "evidence": faithfulness.by_evidence,
}


@dataclasses.dataclass(frozen=True)
class ExplanationMethod:
    """An explanation method: its units for a user and an item, most important first, and its faithfulness selection.

    ``name`` converts a unit to a name that does not depend on the run.
    """

    unit: str
    by: str
    units: Callable[[int, int], Sequence[Hashable]]
    name: Callable[[Any], str]
    faithful: UnitSelection | None


def explanation_methods(explainer: Explainer) -> list[ExplanationMethod]:
    """The explanation methods of a model; empty for models that only generate sentences."""
    model, names = explainer.model, explainer.recommender
    methods: list[ExplanationMethod] = []
    # All methods share the counterfactual of a pair.
    counterfactual_of = lru_cache(maxsize=1)(lambda user, item: counterfactual_for(model, user, item))

    def units_of(selection: UnitSelection) -> Callable[[int, int], Sequence[Hashable]]:
        def units(user: int, item: int) -> Sequence[Hashable]:
            if not explainer.has_counterfactuals:
                return []
            counterfactual = counterfactual_of(user, item)
            case, chosen = selection.choose(counterfactual)
            if isinstance(case, faithfulness.WordCase):
                return list(chosen)
            # An index is only valid for this prediction; the pair of user and item identifies the interaction.
            pairs = [(part[0].tolist(), part[1].tolist()) for part in counterfactual.past_interactions]
            return [(pairs[side][0][index], pairs[side][1][index]) for side, index in chosen]

        return units

    def interaction(unit: tuple[int, int]) -> str:
        return f"{names.user_name(unit[0])} {names.item_name(unit[1])}"

    def word(unit: int) -> str:
        return str(model.attention.store.vocabulary[unit])  # type: ignore[union-attr,index]

    def add(unit: str, by: str, k: int, choose: Callable[[Any], Any]) -> None:
        selection = UnitSelection(unit, by, k, choose)
        methods.append(
            ExplanationMethod(unit, by, units_of(selection), word if unit == "words" else interaction, selection)
        )

    if explainer.keywords is not None:
        keywords = explainer.keywords

        def shared(user: int, item: int) -> Sequence[Hashable]:
            return [one.lemma for one in keywords.overlap(names.user_name(user), names.item_name(item))]

        methods.append(ExplanationMethod("words", "keywords", shared, str, None))
        add("reviews", "evidence", 3, faithfulness.by_evidence)
        add("words", "evidence", 5, faithfulness.words_by_evidence)
        add("words", "attention", 5, faithfulness.words_by_attention)
        add("words", "frequency", 5, faithfulness.words_by_frequency)
    elif (kind := counterfactual_class(model)) is not None:
        for order in kind.orders:
            add(kind.unit, order, 3, _ORDERS[order])
    return methods


def explanation_quality(explainer: Explainer, users: int, seed: int) -> list[dict[str, Any]]:
    """Evaluate every explanation method of a model, on recommendations to some users.

    Args:
        explainer: explainer of a trained run.
        users: number of users, drawn at random from those with training interactions.
        seed: seed of all random choices.

    Returns:
        Per method ``unit``, ``by``, ``users`` and

        * ``coverage``: share of the users' three best recommendations that have at least one unit;
        * ``user_specificity``: difference between explanations of one item to two users: 1 minus the mean Jaccard index
          of their top five units, over pairs of explanations of which at least one has units;
        * ``item_specificity``: the same for explanations of two items to one user;
        * ``diversity``: share of distinct units among all units shown for the recommendations;
        * ``foremost``: names of the top units of some pairs that do not depend on ``seed``; runs with different seeds
          are compared by them (:func:`~recbole_drex.analysis.overlap.rank_biased_overlap`);
        * ``faithfulness``: as :func:`~recbole_drex.explain.faithfulness.measure`, on one of each user's ten best items,
          with ``untrained``, the same for the model before training, and ``excess``, the difference of the two ratios
          against units of the same direction; None for methods whose units are not evidence of the prediction;
        * ``planted``: for keywords, :func:`planted_agreement` if the data set has a known truth; None otherwise.

        Undefined values are None.
    """
    if not (methods := explanation_methods(explainer)):
        return []
    rng = np.random.default_rng(seed)
    candidates = explainer.users_by_evidence() if explainer.has_counterfactuals else []
    chosen = [candidates[index] for index in sorted(rng.permutation(len(candidates))[:users])]
    names = explainer.recommender
    best = {user: [item for item, _ in names.best(user, 10)] for user in chosen}
    cases = [(user, items[rng.integers(len(items))]) for user, items in best.items() if items]
    grid, fixed = _grid(best, explainer), _fixed_pairs(explainer)
    shown = [(user, item) for user, items in best.items() for item in items[:TOP]]
    pairs_to_explain = dict.fromkeys([*shown, *filter(None, itertools.chain.from_iterable(grid)), *fixed])
    units = {pair: [method.units(*pair) for method in methods] for pair in pairs_to_explain}
    faithful = _faithfulness(cases, explainer, [method.faithful for method in methods if method.faithful], seed)
    results = []
    for number, method in enumerate(methods):
        of_method = {pair: each[number] for pair, each in units.items()}
        measured = _quality(method, len(best), shown, grid, of_method)
        measured["faithfulness"] = next(faithful) if method.faithful else None
        measured["foremost"] = [[method.name(unit) for unit in of_method[pair][:_DEPTH]] for pair in fixed]
        measured["planted"] = planted_agreement(explainer) if method.by == "keywords" else None
        results.append(measured)
    return results


def _fixed_pairs(explainer: Explainer) -> list[tuple[int, int]]:
    """Pairs of users and items that are the same in every run on a data set, for any split."""
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
    """Agreement of users' profiles with the aspects planted by the data set's generator; None without a known truth.

    Args:
        explainer: explainer of a run on a data set whose raw files include ``truth_<data set>.json``.
        k: number of keywords per profile.

    Returns:
        ``users`` (number of users with at least 20 training reviews), ``k``, ``precision`` (mean share of their
        keywords that name one of the user's planted aspects) and ``recall`` (mean share of these aspects that a keyword
        names).
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
    """Pairs of some users with some of the items recommended most; None for items that the user has interacted with."""
    counts = Counter(itertools.chain.from_iterable(best.values()))
    items = sorted(counts, key=lambda item: (-counts[item], item))[: _GRID[1]]
    users = list(best)[: _GRID[0]]
    known = {user: set(explainer.recommender.known(user).tolist()) for user in users}
    return [[None if item in known[user] else (user, item) for item in items] for user in users]


def _untrained(experiment: Experiment) -> Any:
    """The model with its initial parameters, on the same evidence."""
    config = experiment.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        return config.model_class(config, experiment.parts.train_dataset).to(config["device"]).eval()


def _faithfulness(
    cases, explainer: Explainer, selections: Sequence[UnitSelection], seed: int
) -> Iterator[dict[str, Any]]:
    """Faithfulness of each selection, for the trained and the untrained model."""
    models = (explainer.model, _untrained(explainer.experiment)) if selections else ()
    for trained, untrained in zip(*(measure(cases, model, selections, seed) for model in models), strict=True):
        ratios = [one["same_direction"]["ratio"] for one in (trained, untrained)]
        yield {
            **trained,
            "untrained": {name: untrained[name] for name in ("deletion", "same_direction")},
            "excess": None if None in ratios else ratios[0] - ratios[1],
        }


def _quality(
    method: ExplanationMethod, users: int, pairs, grid, units: Mapping[tuple[int, int], Sequence[Hashable]]
) -> dict[str, Any]:
    shown = [units[pair][:_UNITS] for pair in pairs]
    all_units = list(itertools.chain.from_iterable(shown))
    by_user = [[units[pair][:_UNITS] if pair else None for pair in row] for row in grid]
    return {
        "unit": method.unit,
        "by": method.by,
        "users": users,
        "coverage": float(np.mean([bool(one) for one in shown])) if shown else None,
        "user_specificity": _specificity(zip(*by_user, strict=True)),
        "item_specificity": _specificity(by_user),
        "diversity": len(set(all_units)) / len(all_units) if all_units else None,
    }


def _specificity(groups: Iterable[Sequence[Sequence[Hashable] | None]]) -> float | None:
    """One minus the mean Jaccard index of two explanations of a group, over all pairs with at least one unit."""
    distances = []
    for group in groups:
        for one, other in itertools.combinations([set(units) for units in group if units is not None], 2):
            if one or other:
                distances.append(1 - len(one & other) / len(one | other))
    return float(np.mean(distances)) if distances else None
