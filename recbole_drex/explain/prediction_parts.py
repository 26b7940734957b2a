"""A prediction as a sum of parts, each with its evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from recbole_drex.explain.aspect_mentions import AspectMentions, Occurrences, ReadReviews, nameable
from recbole_drex.explain.explanation import SMALLEST, Part, agrees
from recbole_drex.model.abstract_recommender import OrdinalHead, RankingHead

if TYPE_CHECKING:
    from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual


RATING, ORDINAL, RANKING = "rating", "ordinal score", "ranking score"
"""Scales of scores."""

OTHER_ASPECTS = "other aspects"
_NAMES = {"average": "average", "user": "you", "item": "the item", "taste": "your taste", "rest": "other patterns"}
_WORDS = 3  # maximum number of words in the name of an aspect
_STEP = 1e-2  # step of the difference quotient for scores close to the average


class Sum(NamedTuple):
    """A score and its parts.

    Attributes:
        score: sum of the parts' values.
        scale: of the score, one of :data:`RATING`, :data:`ORDINAL` and :data:`RANKING`.
        parts: in the order average, user, item, aspects by descending effect, small aspects, taste, rest.
    """

    score: float
    scale: str
    parts: tuple[Part, ...]


def in_ratings(
    average: float, total: float, global_rating: Callable[[float], float], user_rating: Callable[[float], float]
) -> tuple[float, float, float]:
    r"""Convert the parts of a score to parts of the corresponding rating.

    With g the rating of a score by the user's thresholds and :math:`g_0` by the global ones, the average part becomes
    :math:`g_0(\text{average})`; every other part is multiplied by the mean slope of g between the average and the whole
    score (their Aumann-Shapley values along a straight line); and the user's own thresholds add
    :math:`g(\text{average}) - g_0(\text{average})` to the user's part. So the ratings sum to :math:`g(\text{total})`.

    Args:
        average, total: the average part and the whole score.
        global_rating: :math:`g_0`.
        user_rating: g.

    Returns:
        The average part's rating, the slope, and the addition to the user's part.

    Example:
        >>> in_ratings(1.0, 3.0, lambda score: score**2, lambda score: score**2 + 1)
        (1.0, 4.0, 1.0)
    """
    start, own = global_rating(average), user_rating(average)
    if abs(total - average) > _STEP:
        slope = (user_rating(total) - own) / (total - average)
    else:
        slope = (user_rating(average + _STEP) - user_rating(average - _STEP)) / (2 * _STEP)
    return start, slope, own - start


class Parts:
    """Splits predictions into parts.

    Args:
        mentions: finds aspects in reviews; None for models without aspects.
    """

    def __init__(self, mentions: AspectMentions | None):
        self.mentions = mentions

    @torch.no_grad()
    def of(self, counterfactual: DReXCounterfactual) -> Sum:
        """The parts of a prediction."""
        model, view = counterfactual.model, counterfactual.user
        score = counterfactual.parts()
        single = {name: float(getattr(score, name)[0]) for name in _NAMES}
        aspects = score.aspects[0].double().tolist()
        total = sum(single.values()) + sum(aspects)

        def global_rating(score: float) -> float:
            return float(model.rating_of_unknown_user(torch.tensor(score, device=model.mean.device)))

        def user_rating(score: float) -> float:
            return float(view.rating_of(torch.tensor([score], device=model.mean.device)))

        start, slope, own = in_ratings(single["average"], total, global_rating, user_rating)
        parts = {kind: Part(kind, name, single[kind], single[kind] * slope) for kind, name in _NAMES.items()}
        parts["average"] = dataclasses.replace(parts["average"], rating=start)
        parts["user"] = dataclasses.replace(parts["user"], rating=parts["user"].rating + own)
        shown = [parts[kind] for kind in ("average", "user", "item")]
        if aspects:
            shown += self._aspects(counterfactual, sum(aspects), slope)
        if model.taste is not None:
            shown.append(parts["taste"])
        return Sum(total, scale_of(model.head), (*shown, parts["rest"]))

    def _aspects(self, counterfactual: DReXCounterfactual, total: float, slope: float) -> list[Part]:
        """The part of aspects, split by words of the item's reviews.

        It is a sum over the occurrences of these words. Words that may be named are grouped by aspect. Small groups are
        merged by the direction in which they move the rating, since several words together may be a reason.
        """
        mentions = self.mentions
        assert mentions is not None
        pair, posted = (counterfactual.user.entity, counterfactual.item.entity), counterfactual.user.posted
        mine = mentions.of("user", pair[0], pair) if posted is None else mentions.of_new(posted)
        its = mentions.of("item", pair[1], pair)
        tastes = counterfactual.user.full_state.aspects[0]
        groups, small = mentions.groups(its.occurrences, tastes), dict[int, float]()
        shown, used = [], list[int]()

        def add(added: dict[int, float], user: Occurrences) -> None:
            part = self._part(counterfactual, added, slope, mine._replace(occurrences=user), its)
            # A part is named only if most reviewers agree with its sign.
            if agrees(part):
                shown.append(part)
                used.extend(added)

        for aspect, added in groups.items():
            if abs(sum(added.values()) * slope) >= SMALLEST:
                add(added, nameable(mine.occurrences[mine.occurrences.aspect == aspect]))
            else:
                small.update({one: add for one, add in added.items() if mentions.is_subject[one]})
        for sign in (1, -1):
            added = {one: add for one, add in small.items() if sign * slope * add > 0}
            if abs(sum(added.values()) * slope) >= SMALLEST:
                add(added, mine.occurrences[np.isin(mine.occurrences.word, list(added))])
        shown.sort(key=lambda part: (-abs(part.rating), part.name))
        rest = total - sum(part.value for part in shown)
        other = Part("aspect", OTHER_ASPECTS, rest, rest * slope)
        if abs(other.rating) >= SMALLEST:
            unused = its._replace(occurrences=its.occurrences[~np.isin(its.occurrences.word, used)])
            claimed = dataclasses.replace(other, item=mentions.claim(unused, (), 1 if rest > 0 else -1))
            if agrees(claimed):
                other = claimed
        return [*shown, other]

    def _part(
        self,
        counterfactual: DReXCounterfactual,
        added: dict[int, float],
        slope: float,
        mine: ReadReviews,
        its: ReadReviews,
    ) -> Part:
        mentions, value = self.mentions, sum(added.values())
        assert mentions is not None
        sign, posted = 1 if value > 0 else -1, counterfactual.user.posted
        words = mentions.words(mine.occurrences, {one: sign * add for one, add in added.items()}, _WORDS)
        name = ", ".join(dict.fromkeys(mentions.shown.written(word) for word in words))
        item = its._replace(occurrences=its.occurrences[np.isin(its.occurrences.word, list(added))])
        return Part(
            "aspect",
            name,
            value,
            value * slope,
            words,
            mentions.claim(mine, words, 0, None if posted is None else counterfactual.user.item.tolist()),
            mentions.claim(item, words, sign),
        )


def scale_of(head: Any) -> str:
    """The scale of a model's scores, by its head."""
    return ORDINAL if isinstance(head, OrdinalHead) else RANKING if isinstance(head, RankingHead) else RATING
