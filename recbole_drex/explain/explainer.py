"""Recommendations with explanations, in one form for all models.

An explanation contains what the model offers: the parts of a prediction (DReX, HFT), the item's most useful reviews
(NARRE, HRDR, DAML), ratings by the user's neighbours (EMF), or a generated sentence (PESI,
PETER, PEPLER).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from recbole_drex.errors import DataError
from recbole_drex.explain.aspect_mentions import AspectMentions
from recbole_drex.explain.counterfactual.dispatch import (
    counterfactual_class,
    counterfactual_for,
    explains,
    neighbours_of,
    sum_of,
)
from recbole_drex.explain.counterfactual.new_user import counterfactual_for_new
from recbole_drex.explain.effects import find_evidence
from recbole_drex.explain.explanation import Keyword, PastReview, Recommendation
from recbole_drex.explain.explanation_text import Explanation
from recbole_drex.explain.interruption import between_steps
from recbole_drex.explain.new_item_input import NewItems
from recbole_drex.explain.new_user_input import NewUsers
from recbole_drex.explain.past_interactions import PastReviews
from recbole_drex.explain.prediction_parts import Parts
from recbole_drex.explain.profiles.keywords import KeywordProfiles
from recbole_drex.explain.recommender import PostedInteraction, Recommended, Recommender
from recbole_drex.explain.verbalize import sentence
from recbole_drex.model.contract import contract_of
from recbole_drex.recbole import Interaction
from recbole_drex.training.run_record import Experiment


class RatingSums(NamedTuple):
    """Sum and number of ratings per user or per item, by internal id, (n,) each."""

    total: np.ndarray
    number: np.ndarray


class Explainer:
    """Explains the recommendations of a trained run.

    Args:
        experiment: a loaded or newly trained run.
        words: number of keywords in a profile; default ``profile_words`` of the configuration.
        quotes: maximum number of quotes per keyword of a user's profile.
        word_effects: also measure the effect of single words on each prediction. This takes several times as long as
            everything else.

    Raises:
        DataError: the model offers no explanations.
    """

    def __init__(self, experiment: Experiment, words: int | None = None, quotes: int = 0, word_effects: bool = False):
        if not explains(experiment.model):
            raise DataError(
                f"{experiment.config.model} offers no explanations: it reads no reviews and has no neighbours"
            )
        self.experiment, self.model = experiment, experiment.model
        self.quotes, self.word_effects = quotes, word_effects
        self.recommender = Recommender(experiment)
        self.past_reviews = PastReviews(self.recommender)
        offered = contract_of(self.model)
        self.keywords = KeywordProfiles(experiment, words, self.past_reviews) if offered.reads_words else None
        aspects = offered.aspect_reader()
        mentions = None
        if (keywords := self.keywords) is not None and keywords.topics is not None and aspects:
            mentions = AspectMentions(keywords.reviews, keywords.quotes, keywords.shown, keywords.topics, aspects)
        self.parts = Parts(mentions)
        # Compute caches now, so that the first request need not wait.
        offered.make_ready()

    def profile(self, side: str, token: str, quotes: int = 2) -> tuple[Keyword, ...]:
        """As :meth:`KeywordProfiles.profile`; empty if the model has no keywords."""
        return self.keywords.profile(side, token, quotes) if self.keywords else ()

    def explain_users(self, n: int, top: int = 3) -> list[Explanation]:
        """Explain up to ``n`` users, spread evenly over all users with training reviews (or ratings, if the model reads
        no reviews), by descending number of these and then by name.

        Args:
            n: number of users, 0 or more.
            top: number of recommendations per user.
        """
        users = self.users_by_evidence()
        positions = np.unique(np.linspace(0, len(users) - 1, min(n, len(users))).round().astype(int))
        return [self.explain(self.recommender.user_name(users[position]), top) for position in positions]

    @property
    def has_counterfactuals(self) -> bool:
        """Whether the model offers counterfactual predictions."""
        return counterfactual_class(self.model) is not None

    def users_by_evidence(self) -> list[int]:
        """Users (internal ids) with training reviews, or ratings if the model reads no reviews, by descending number of
        these and then by name."""
        if self.keywords:
            counts = self.keywords.quotes.user_counts()
        else:
            counts = {uid: number for uid, number in enumerate(self._sums["user"].number.tolist()) if number}
        return sorted(counts, key=lambda uid: (-counts[uid], self.recommender.user_name(uid)))

    def explain(self, user: str, top: int = 3) -> Explanation:
        """Recommend the ``top`` items that the user has not interacted with, by the model's score, and explain them.

        Raises:
            DataError: unknown user.
        """
        uid = self.recommender.user_id(user)
        return self._explanation(user, uid, self.recommender.best(uid, top))

    def explain_pair(self, user: str, item: str) -> Explanation:
        """Explain one item to a user, as the only recommendation of the explanation. It need not be a recommended item.

        If the user has a training interaction with the item, ``known`` contains it, and everything else of the
        explanation excludes it.

        Raises:
            DataError: unknown user or item.
        """
        uid, iid = self.recommender.user_id(user), self.recommender.item_id(item)
        dataset = self.experiment.dataset
        pair = {dataset.uid_field: torch.tensor([uid]), dataset.iid_field: torch.tensor([iid])}
        with torch.no_grad():
            score = self.model.predict(Interaction(pair).to(self.experiment.config["device"]))  # type: ignore[operator]
        chosen = [Recommended(iid, self.recommender.rating(score.flatten()[0]))]
        return self._explanation(user, uid, chosen, asked=True)

    def explain_new(self, interactions: Sequence[PostedInteraction], top: int = 3) -> Explanation:
        """Recommend ``top`` items to a new user, and explain them by the posted interactions.

        The user's name is empty. A new user has no keyword profile, since word scores need many reviews of a user.

        Args:
            interactions: ratings and reviews of distinct items.
            top: maximum number of recommendations.

        Raises:
            DataError, ConfigError: as :class:`~recbole_drex.explain.new_user_input.NewUsers`.
        """
        view, best = self.new_users.best(interactions, top)
        rated = [one.rating for one in interactions if one.rating is not None]
        names, recommendations = self.recommender, []
        for iid, predicted in best:
            between_steps()
            profile = self.keywords.profile("item", names.item_name(iid), quotes=0) if self.keywords else ()
            reasons = {**self._means(0, iid), **self._effects(counterfactual_for_new(view, iid)), "profile": profile}
            recommendations.append(Recommendation(names.item_name(iid), names.title(iid), predicted, **reasons))
        return _with_sentences(Explanation("", float(np.mean(rated)) if rated else None, (), tuple(recommendations)))

    @cached_property
    def new_users(self) -> NewUsers:
        """Recommends to new users."""
        return NewUsers(self.recommender)

    @cached_property
    def new_items(self) -> NewItems:
        """Predicts ratings of new items."""
        return NewItems(self.new_users)

    def _explanation(self, user: str, uid: int, chosen: Sequence[Recommended], asked: bool = False) -> Explanation:
        total, number = self._sums["user"]
        mean = float(total[uid] / number[uid]) if number[uid] else None
        profile = self.profile("user", user, self.quotes)
        recommendations = tuple(dataclasses.replace(one, asked=asked) for one in self._explained(uid, chosen))
        return _with_sentences(Explanation(user, mean, profile, recommendations))

    def _explained(self, uid: int, chosen: Sequence[Recommended]) -> tuple[Recommendation, ...]:
        names, model = self.recommender, self.model
        reasons: list[dict[str, Any]] = [{"known": self._known(uid, iid), **self._means(uid, iid)} for iid, _ in chosen]
        for (iid, _), reason in zip(chosen, reasons, strict=True):
            between_steps()
            if self.keywords:
                user, item = names.user_name(uid), names.item_name(iid)
                # Only shared keywords quote the item's reviews; quotes for its whole profile would be long.
                profile = self.keywords.profile("item", item, quotes=0)
                reason |= {"profile": profile, "keywords": self.keywords.overlap(user, item)}
            if self.has_counterfactuals:
                reason |= self._effects(counterfactual_for(model, uid, iid))
            reason["neighbours"] = neighbours_of(model, uid, iid)
            if (parts := sum_of(model, uid, iid)) is not None:
                reason |= parts._asdict()
        if contract_of(model).writes:
            items = [iid for iid, _ in chosen]
            for reason, written in zip(reasons, model.generate([uid] * len(items), items), strict=True):  # type: ignore[operator]
                reason["written"] = written
        return tuple(
            Recommendation(names.item_name(iid), names.title(iid), predicted, **reason)
            for (iid, predicted), reason in zip(chosen, reasons, strict=True)
        )

    def _known(self, uid: int, iid: int) -> PastReview | None:
        """The user's own interaction with an item, from the training part or without a rating."""
        interaction = self.past_reviews.find(uid, iid)
        return interaction and self.past_reviews.review(interaction)

    def _effects(self, counterfactual: Any) -> dict[str, Any]:
        """The parts of a prediction, and the evidence that moved it."""
        shown = self.keywords.shown if self.keywords else None
        evidence = find_evidence(counterfactual, self.past_reviews, shown, self.word_effects)
        return {**self.parts.of(counterfactual)._asdict(), **evidence} if counterfactual.sums else evidence

    def _means(self, uid: int, iid: int) -> dict[str, Any]:
        """Mean and number of the item's ratings by other users."""
        total, number = (float(column[iid]) for column in self._sums["item"])
        own = self.past_reviews.find(uid, iid) if uid else None
        rating = own and self.past_reviews.rating(own)
        if rating is not None:
            total, number = total - rating, number - 1
        return {"mean_rating": total / number if number else None, "ratings": int(number)}

    @cached_property
    def _sums(self) -> dict[str, RatingSums]:
        """Those of training ratings, of users and of items."""
        part = self.experiment.parts.train_dataset
        rating, sums = part.inter_feat[part.rating_field].double().numpy(), dict[str, RatingSums]()
        for side, field, n in (("user", part.uid_field, part.user_num), ("item", part.iid_field, part.item_num)):
            owner = part.inter_feat[field].numpy()
            sums[side] = RatingSums(np.bincount(owner, rating, n), np.bincount(owner, minlength=n))
        return sums


def _with_sentences(explanation: Explanation) -> Explanation:
    """Add the sentences, which summarise the other fields."""
    explained = (dataclasses.replace(one, sentence=sentence(explanation, one)) for one in explanation.recommendations)
    return dataclasses.replace(explanation, recommendations=tuple(explained))
