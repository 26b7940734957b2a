"""Recommendations and their reasons, in one form for every model that gives any.

What a model offers decides: the parts of a prediction (DReX), the reviews of the item that count most (NARRE), what the
user's neighbours say (EMF), a written sentence (PESI).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from recbole_drex.errors import DataError
from recbole_drex.explain.aspect_mentions import AspectMentions
from recbole_drex.explain.counterfactual.dispatch import (
    counterfactual_class,
    counterfactual_for,
    explains,
    neighbours_of,
)
from recbole_drex.explain.counterfactual.new_user import counterfactual_for_new
from recbole_drex.explain.effects import find_evidence
from recbole_drex.explain.explanation import Keyword, PastReview, Recommendation
from recbole_drex.explain.explanation_text import Explanation
from recbole_drex.explain.interruption import between_steps
from recbole_drex.explain.new_user_input import NewUsers
from recbole_drex.explain.past_interactions import PastReviews
from recbole_drex.explain.prediction_parts import Parts
from recbole_drex.explain.profiles.keywords import KeywordProfiles
from recbole_drex.explain.recommender import PostedInteraction, Recommended, Recommender
from recbole_drex.explain.verbalize import sentence
from recbole_drex.model.contract import contract_of
from recbole_drex.recbole import Interaction
from recbole_drex.training.run_record import Experiment


class Explainer:
    """Explains the recommendations of a trained run.

    Args:
        experiment: a run that was loaded or has just been trained.
        words: number of keywords in a profile; default ``profile_words`` of the configuration.
        quotes: reviews that each keyword of a user's profile quotes, at most.
        word_effects: find what single words of the reviews did to each prediction, too. That takes several times as
            long as all the rest.

    Raises:
        DataError: the model gives no reasons.
    """

    def __init__(self, experiment: Experiment, words: int | None = None, quotes: int = 0, word_effects: bool = False):
        if not explains(experiment.model):
            raise DataError(f"{experiment.config.model} explains nothing: it reads no reviews and has no neighbours")
        self.experiment, self.model = experiment, experiment.model
        self.quotes, self.word_effects = quotes, word_effects
        self.recommender = Recommender(experiment)
        self.pasts = PastReviews(self.recommender)
        offered = contract_of(self.model)
        self.keywords = KeywordProfiles(experiment, words, self.pasts) if offered.reads_words else None
        aspects = offered.aspect_reader()
        mentions = None
        if (found := self.keywords) is not None and found.topics is not None and aspects:
            mentions = AspectMentions(found.reviews, found.quotes, found.shown, found.topics, aspects)
        self.parts = Parts(mentions)
        # What the first request would wait for.
        offered.make_ready()

    def profile(self, side: str, token: str, quotes: int = 2) -> tuple[Keyword, ...]:
        """As :meth:`KeywordProfiles.profile`; empty if the model has no keywords."""
        return self.keywords.profile(side, token, quotes) if self.keywords else ()

    def explain_users(self, n: int, top: int = 3) -> list[Explanation]:
        """Explain up to ``n`` users, spread evenly over all users with training reviews (or ratings, if the model reads
        no reviews) from the most to the fewest; those with most come first, and equal ones by name.

        Args:
            n: number of users, 0 or more.
            top: recommendations of each, as in :meth:`explain`.
        """
        users = self.users_by_evidence()
        places = np.unique(np.linspace(0, len(users) - 1, min(n, len(users))).round().astype(int))
        return [self.explain(self.recommender.user_name(users[place]), top) for place in places]

    def leaves_out(self, uid: int) -> bool:
        """Whether what moved predictions for a user (internal id) is found by leaving it out."""
        return counterfactual_class(self.model) is not None

    def users_by_evidence(self) -> list[int]:
        """Users (internal ids) with training reviews, or ratings if the model reads no reviews: those with most come
        first, and equal ones by name."""
        if self.keywords:
            counts = self.keywords.quotes.user_counts()
        else:
            counts = {uid: number for uid, number in enumerate(self._sums["user"][1].tolist()) if number}
        return sorted(counts, key=lambda uid: (-counts[uid], self.recommender.user_name(uid)))

    def explain(self, user: str, top: int = 3) -> Explanation:
        """Recommend the ``top`` items the user has not interacted with, by the model's score, and explain them.

        Raises:
            DataError: no such user.
        """
        uid = self.recommender.user_id(user)
        return self._explanation(user, uid, self.recommender.best(uid, top))

    def explain_pair(self, user: str, item: str) -> Explanation:
        """Explain one item to a user, be it recommended or not, as the only recommendation of the explanation.

        Of an item that the user has interacted with in training, ``known`` has that interaction; quotes, shared
        keywords and whatever else is said leave it out.

        Raises:
            DataError: no such user or item.
        """
        uid, iid = self.recommender.user_id(user), self.recommender.item_id(item)
        dataset = self.experiment.dataset
        pair = {dataset.uid_field: torch.tensor([uid]), dataset.iid_field: torch.tensor([iid])}
        with torch.no_grad():
            score = self.model.predict(Interaction(pair).to(self.experiment.config["device"]))  # type: ignore[operator]
        chosen = [Recommended(iid, self.recommender.rating(score.flatten()[0]))]
        return self._explanation(user, uid, chosen, asked=True)

    def explain_new(self, interactions: Sequence[PostedInteraction], top: int = 3) -> Explanation:
        """Recommend ``top`` items to somebody who is not in the data, and explain them by what they posted.

        The user's name is empty. They have no keyword profile: how much a word means is told by all reviews of a user
        against those of others, not by a few.

        Args:
            interactions: what they rate and write, of each item once.
            top: number of recommendations, fewer if fewer items are left.

        Raises:
            DataError, ConfigError: as :class:`~recbole_drex.explain.new_user_input.NewUsers`.
        """
        view, best = self.new_users.best(interactions, top)
        rated = [one.rating for one in interactions if one.rating is not None]
        names, recommendations = self.recommender, []
        for iid, predicted in best:
            between_steps()
            profile = self.keywords.profile("item", names.item_name(iid), quotes=0) if self.keywords else ()
            reasons = {**self._means(0, iid), **self._moved(counterfactual_for_new(view, iid)), "profile": profile}
            recommendations.append(Recommendation(names.item_name(iid), names.title(iid), predicted, **reasons))
        return _told(Explanation("", float(np.mean(rated)) if rated else None, (), tuple(recommendations)))

    @cached_property
    def new_users(self) -> NewUsers:
        """Takes what new users post."""
        return NewUsers(self.recommender)

    def _explanation(self, user: str, uid: int, chosen: Sequence[Recommended], asked: bool = False) -> Explanation:
        total, number = self._sums["user"]
        mean = float(total[uid] / number[uid]) if number[uid] else None
        profile = self.profile("user", user, self.quotes)
        found = tuple(dataclasses.replace(one, asked=asked) for one in self._explained(uid, chosen))
        return _told(Explanation(user, mean, profile, found))

    def _explained(self, uid: int, chosen: Sequence[Recommended]) -> tuple[Recommendation, ...]:
        names, model = self.recommender, self.model
        reasons: list[dict[str, Any]] = [{"known": self._known(uid, iid), **self._means(uid, iid)} for iid, _ in chosen]
        for (iid, _), reason in zip(chosen, reasons, strict=True):
            between_steps()
            if self.keywords:
                user, item = names.user_name(uid), names.item_name(iid)
                # Its reviews are quoted by the words that it shares with the user; the whole profile would be long.
                profile = self.keywords.profile("item", item, quotes=0)
                reason |= {"profile": profile, "keywords": self.keywords.overlap(user, item)}
            if self.leaves_out(uid):
                reason |= self._moved(counterfactual_for(model, uid, iid))
            reason["neighbours"] = neighbours_of(model, uid, iid)
        if contract_of(model).writes:
            items = [iid for iid, _ in chosen]
            for reason, written in zip(reasons, model.generate([uid] * len(items), items), strict=True):  # type: ignore[operator]
                reason["written"] = written
        return tuple(
            Recommendation(names.item_name(iid), names.title(iid), predicted, **reason)
            for (iid, predicted), reason in zip(chosen, reasons, strict=True)
        )

    def _known(self, uid: int, iid: int) -> PastReview | None:
        """The user's own interaction with an item in the training part, or without a rating."""
        past = self.pasts.find(uid, iid)
        return past and self.pasts.review(past)

    def _moved(self, counterfactual: Any) -> dict[str, Any]:
        """What a prediction is made of, and what moved it."""
        shown = self.keywords.shown if self.keywords else None
        found = find_evidence(counterfactual, self.pasts, shown, self.word_effects)
        return {**self.parts.of(counterfactual)._asdict(), **found} if counterfactual.sums else found

    def _means(self, uid: int, iid: int) -> dict[str, Any]:
        """Mean and number of the ratings of an item by others than a user."""
        total, number = (float(column[iid]) for column in self._sums["item"])
        own = self.pasts.find(uid, iid) if uid else None
        rating = own and self.pasts.rating(own)
        if rating is not None:
            total, number = total - rating, number - 1
        return {"mean_rating": total / number if number else None, "ratings": int(number)}

    @cached_property
    def _sums(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Sums and numbers of the training ratings of users and items, by internal id."""
        part = self.experiment.parts.train_dataset
        rating, found = part.inter_feat[part.rating_field].double().numpy(), {}
        for side, field, n in (("user", part.uid_field, part.user_num), ("item", part.iid_field, part.item_num)):
            owner = part.inter_feat[field].numpy()
            found[side] = np.bincount(owner, rating, n), np.bincount(owner, minlength=n)
        return found


def _told(explanation: Explanation) -> Explanation:
    """The explanation with its sentences, which speak of all the rest."""
    told = (dataclasses.replace(one, sentence=sentence(explanation, one)) for one in explanation.recommendations)
    return dataclasses.replace(explanation, recommendations=tuple(told))
