"""The service of a run: names, profiles, recommendations and explanations, independent of HTTP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import psutil

from recbole_drex import __version__
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.evaluation.metrics import predicts_ratings
from recbole_drex.explain.counterfactual.dispatch import explains
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation_text import Explanation
from recbole_drex.explain.new_item_input import NewItems, PostedReview
from recbole_drex.explain.new_user_input import NewUsers
from recbole_drex.explain.recommender import PostedInteraction, Recommended, Recommender
from recbole_drex.serve import limits
from recbole_drex.serve.answers import NotOffered, TooLarge, Unknown
from recbole_drex.serve.name_search import NameIndex
from recbole_drex.serve.recommendation_cache import RecommendationCache
from recbole_drex.serve.schemas import (
    FoundItem,
    FoundUser,
    Health,
    Interaction,
    Items,
    NewItemRatings,
    Opinion,
    PredictedRating,
    Profile,
    Recommendations,
    RecommendedItem,
    Review,
    Users,
)
from recbole_drex.training.run_record import Experiment


class Service:
    """Names, profiles, recommendations and explanations of a trained run.

    Methods that use the model (:meth:`recommend`, :meth:`explain` and similar) must not be called concurrently. Names
    and cached results may be read from any thread.

    Args:
        experiment: a loaded or newly trained run.
        cached_users: number of users whose :data:`~recbole_drex.serve.limits.MAX_TOP` best items are cached, about 1 kB
            each. The model does not change, so cached items remain valid.
    """

    def __init__(self, experiment: Experiment, cached_users: int = limits.CACHED_USERS):
        self.experiment = experiment
        self.explainer = Explainer(experiment) if explains(experiment.model) else None
        self.recommender = self.explainer.recommender if self.explainer else Recommender(experiment)
        dataset, train = experiment.dataset, experiment.parts.train_dataset
        levels = train.rating_levels()
        self.rating_range = (float(levels[0]), float(levels[-1]))
        self._ratings, self._means, self._names = {}, {}, {}
        rating = train.inter_feat[train.rating_field].double().numpy()
        for side, field, n in (
            ("user", dataset.uid_field, dataset.user_num),
            ("item", dataset.iid_field, dataset.item_num),
        ):
            owner = train.inter_feat[field].numpy()
            counts = np.bincount(owner, minlength=n)
            self._ratings[side] = counts.tolist()
            self._means[side] = (np.bincount(owner, rating, n) / np.maximum(counts, 1)).tolist()
            # The first name is the padding token.
            names = [str(name) for name in dataset.field2id_token[field][1:]]
            titles = [self.recommender.title(index) for index in range(1, n)] if side == "item" else [""] * (n - 1)
            self._names[side] = NameIndex(names, titles, self._ratings[side][1:])
        self._cache = RecommendationCache(cached_users)
        # The first call is slow: it computes states and opens texts.
        self.recommender.best(1, 1)
        if self.explainer:
            self.explainer.explain(self.recommender.user_name(1), 1)
        self._new_users = self._ready_for_new_users()
        ratings = self._new_users is not None and predicts_ratings(experiment.config)
        self._new_items = NewItems(self._new_users) if self._new_users and ratings else None

    # Names ----------------------------------------------------------------------------------------------------------

    def user(self, name: str) -> int:
        """Internal id of a user.

        Raises:
            Unknown: unknown user.
        """
        return self._id("user", name)

    def item(self, name: str) -> int:
        """Internal id of an item.

        Raises:
            Unknown: unknown item.
        """
        return self._id("item", name)

    def _id(self, side: str, name: str) -> int:
        try:
            return self.recommender.user_id(name) if side == "user" else self.recommender.item_id(name)
        except DataError as error:
            raise Unknown(str(error)) from error

    def users(self, query: str, limit: int) -> Users:
        """Users whose name contains ``query``."""
        indices, total = self._names["user"].search(query, limit)
        matches = [
            FoundUser(self.recommender.user_name(index + 1), self._ratings["user"][index + 1]) for index in indices
        ]
        return Users(matches, total)

    def items(self, query: str, limit: int) -> Items:
        """Items whose title or name contains ``query``."""
        indices, total = self._names["item"].search(query, limit)
        names = self.recommender
        matches = [
            FoundItem(names.item_name(iid), names.title(iid), self._ratings["item"][iid], self._mean("item", iid))
            for iid in (index + 1 for index in indices)
        ]
        return Items(matches, total)

    def _mean(self, side: str, index: int) -> float | None:
        return self._means[side][index] if self._ratings[side][index] else None

    # The run ----------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """Information about the served run, and the current memory usage."""
        experiment = self.experiment
        return Health(
            status="ok",
            model=experiment.config.model,
            dataset=experiment.config.dataset,
            version=__version__,
            fingerprint=experiment.manifest["fingerprint"],
            users=experiment.dataset.user_num - 1,
            items=experiment.dataset.item_num - 1,
            rating_range=self.rating_range,
            predicts_ratings=predicts_ratings(experiment.config),
            explains=self.explainer is not None,
            new_users=self._new_users is not None,
            explains_new_users=self._new_users is not None and self.explainer is not None,
            new_items=self._new_items is not None,
            memory_mb=round(psutil.Process().memory_info().rss / 2**20, 1),
        )

    def profile(self, side: str, name: str) -> Profile:
        """Profile of a ``user`` or an ``item``.

        Raises:
            Unknown: unknown user or item.
        """
        index = self._id(side, name)
        title = self.recommender.title(index) if side == "item" else ""
        keywords = self.explainer.profile(side, name) if self.explainer else ()
        return Profile(side, name, title, self._ratings[side][index], self._mean(side, index), keywords)

    # Recommendations --------------------------------------------------------------------------------------------

    def recommend(self, user: str, top: int) -> Recommendations:
        """The best items for a user of the data set.

        Raises:
            Unknown: unknown user.
        """
        result = self.cached(user, top)
        return result if result is not None else self._named(user, self.cache_best(self.user(user))[:top])

    def cached(self, user: str, top: int) -> Recommendations | None:
        """The cached result of :meth:`recommend`, or None; may be called from any thread."""
        best = self._cache.get(self.user(user), top)
        return None if best is None else self._named(user, best)

    def users_to_cache(self) -> list[int]:
        """Users (internal ids) whose best items are computed in advance: those with most ratings."""
        counts = np.array(self._ratings["user"])
        return (np.argsort(-counts[1:], kind="stable")[: self._cache.max_users] + 1).tolist()

    def cache_best(self, user: int) -> list[Recommended]:
        """Compute and cache a user's best items."""
        best = self.recommender.best(user, limits.MAX_TOP)
        self._cache.put(user, best)
        return best

    def explain(self, user: str, top: int) -> Explanation:
        """The best items for a user of the data set, with explanations.

        Raises:
            Unknown: unknown user.
            NotOffered: the model offers no explanations.
        """
        self.user(user)
        return self._checked_explainer().explain(user, top)

    def explain_pair(self, user: str, item: str) -> Explanation:
        """Explain an item to a user; it need not be a recommended item.

        Raises:
            Unknown: unknown user or item.
            NotOffered: the model offers no explanations.
        """
        self.user(user)
        self.item(item)
        return self._checked_explainer().explain_pair(user, item)

    def recommend_new(self, interactions: Sequence[Interaction], top: int) -> Recommendations:
        """The best items for a new user.

        Raises:
            Unknown: unknown item.
            NotOffered: the model cannot recommend to new users.
            TooLarge: a review is too long.
            DataError: a rating is out of range.
        """
        posted = self._posted(interactions)
        return self._named(None, self._checked_new_users().best(posted, top)[1])

    def explain_new(self, interactions: Sequence[Interaction], top: int) -> Explanation:
        """As :meth:`recommend_new`, with explanations."""
        explainer = self._checked_explainer()
        self._checked_new_users()
        return explainer.explain_new(self._posted(interactions), top)

    def predict_new_item(self, users: Sequence[str], reviews: Sequence[Review]) -> NewItemRatings:
        """Predicted ratings of a new item, from posted ratings and reviews of it.

        Raises:
            Unknown: unknown user in ``users``.
            NotOffered: the model cannot predict ratings of new items.
            TooLarge: a review is too long.
            DataError: a rating is out of range, or a user of the data set posted twice.
        """
        for user in users:
            self.user(user)
        if self._new_items is None:
            raise NotOffered(f"{self.experiment.config.model} cannot predict ratings of new items; DReX can")
        self._check_posts("reviews", reviews)
        posted = [PostedReview(one.rating, one.review, one.user) for one in reviews]
        predicted = self._new_items.predict(posted, users)
        return NewItemRatings([PredictedRating(*one) for one in zip(users, predicted, strict=True)])

    def _ready_for_new_users(self) -> NewUsers | None:
        """Recommends to new users; None if the model cannot."""
        try:
            new_users = self.explainer.new_users if self.explainer else NewUsers(self.recommender)
        except ConfigError:
            return None
        # The first review loads the encoder.
        new_users.best([PostedInteraction(self.recommender.item_name(1), self.rating_range[1], "good")], 1)
        return new_users

    def _checked_new_users(self) -> NewUsers:
        if self._new_users is None:
            raise NotOffered(f"{self.experiment.config.model} cannot recommend to new users; DReX can")
        return self._new_users

    def _posted(self, interactions: Sequence[Interaction]) -> list[PostedInteraction]:
        for one in interactions:
            self.item(one.item)
        self._check_posts("interactions", interactions)
        return [PostedInteraction(one.item, one.rating, one.review) for one in interactions]

    def _check_posts(self, what: str, posts: Sequence[Opinion]) -> None:
        lowest, highest = self.rating_range
        for index, one in enumerate(posts):
            if one.rating is not None and not lowest <= one.rating <= highest:
                legal = f"ratings are from {lowest:g} to {highest:g}"
                raise DataError(f"{what}[{index}].rating: {legal}, not {one.rating:g}")
            if len(one.review) > limits.MAX_REVIEW:
                length = f"{len(one.review)} characters, at most {limits.MAX_REVIEW} are allowed"
                raise TooLarge(f"{what}[{index}].review: has {length}")

    def _named(self, user: str | None, best: Sequence[Recommended]) -> Recommendations:
        names = self.recommender
        items = [RecommendedItem(names.item_name(iid), names.title(iid), predicted) for iid, predicted in best]
        return Recommendations(user, items)

    def _checked_explainer(self) -> Explainer:
        if self.explainer is None:
            raise NotOffered(
                f"{self.experiment.config.model} offers no explanations: it reads no reviews and has no neighbours"
            )
        return self.explainer
