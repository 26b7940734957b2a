"""What a server knows of a run: names, profiles, recommendations and reasons, without a word of HTTP."""

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
from recbole_drex.explain.new_user_input import NewUsers
from recbole_drex.explain.recommender import PostedInteraction, Recommended, Recommender
from recbole_drex.serve import limits
from recbole_drex.serve.answers import NotOffered, TooLarge, Unknown
from recbole_drex.serve.name_search import NameIndex
from recbole_drex.serve.recommendation_cache import Remembered
from recbole_drex.serve.schemas import (
    FoundItem,
    FoundUser,
    Health,
    Interaction,
    Items,
    Profile,
    Recommendations,
    RecommendedItem,
    Users,
)
from recbole_drex.training.run_record import Experiment


class Service:
    """Answers questions about a trained run.

    What needs the model (:meth:`recommend`, :meth:`explain` and the like) must not be called by two threads at once;
    names and what is remembered may be asked for at any time.

    Args:
        experiment: a run that was loaded or has just been trained.
        remember: number of users whose :data:`~recbole_drex.serve.limits.MAX_TOP` best items are kept, about 1 kB each.
            The model never changes, so neither do they.
    """

    def __init__(self, experiment: Experiment, remember: int = limits.REMEMBERED):
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
            # The first name is that of the padding.
            names = [str(name) for name in dataset.field2id_token[field][1:]]
            titles = [self.recommender.title(place) for place in range(1, n)] if side == "item" else [""] * (n - 1)
            self._names[side] = NameIndex(names, titles, self._ratings[side][1:])
        self._remembered = Remembered(remember)
        # The first call is the slow one: states are computed, texts opened.
        self.recommender.best(1, 1)
        if self.explainer:
            self.explainer.explain(self.recommender.user_name(1), 1)
        self._new_users = self._ready_for_new_users()

    # Names ----------------------------------------------------------------------------------------------------------

    def user(self, name: str) -> int:
        """Internal id of a user.

        Raises:
            Unknown: no such user.
        """
        return self._id("user", name)

    def item(self, name: str) -> int:
        """Internal id of an item.

        Raises:
            Unknown: no such item.
        """
        return self._id("item", name)

    def _id(self, side: str, name: str) -> int:
        try:
            return self.recommender.user_id(name) if side == "user" else self.recommender.item_id(name)
        except DataError as error:
            raise Unknown(str(error)) from error

    def users(self, query: str, limit: int) -> Users:
        """Users whose name holds ``query``."""
        places, total = self._names["user"].search(query, limit)
        found = [FoundUser(self.recommender.user_name(place + 1), self._ratings["user"][place + 1]) for place in places]
        return Users(found, total)

    def items(self, query: str, limit: int) -> Items:
        """Items whose title or name holds ``query``."""
        places, total = self._names["item"].search(query, limit)
        names = self.recommender
        found = [
            FoundItem(names.item_name(iid), names.title(iid), self._ratings["item"][iid], self._mean("item", iid))
            for iid in (place + 1 for place in places)
        ]
        return Items(found, total)

    def _mean(self, side: str, place: int) -> float | None:
        return self._means[side][place] if self._ratings[side][place] else None

    # The run ----------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """What is served, and the memory it takes now."""
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
            memory_mb=round(psutil.Process().memory_info().rss / 2**20, 1),
        )

    def profile(self, side: str, name: str) -> Profile:
        """Profile of a ``user`` or an ``item``.

        Raises:
            Unknown: no such user or item.
        """
        place = self._id(side, name)
        title = self.recommender.title(place) if side == "item" else ""
        keywords = self.explainer.profile(side, name) if self.explainer else ()
        return Profile(side, name, title, self._ratings[side][place], self._mean(side, place), keywords)

    # Recommendations --------------------------------------------------------------------------------------------

    def recommend(self, user: str, top: int) -> Recommendations:
        """The best items for a user of the data.

        Raises:
            Unknown: no such user.
        """
        found = self.remembered(user, top)
        return found if found is not None else self._named(user, self.remember(self.user(user))[:top])

    def remembered(self, user: str, top: int) -> Recommendations | None:
        """As :meth:`recommend` if that needs no computing, otherwise None; may be called from any thread."""
        best = self._remembered.get(self.user(user), top)
        return None if best is None else self._named(user, best)

    def ahead(self) -> list[int]:
        """Users (internal ids) whose best items are worth computing ahead: those with most ratings."""
        counts = np.array(self._ratings["user"])
        return (np.argsort(-counts[1:], kind="stable")[: self._remembered.most] + 1).tolist()

    def remember(self, user: int) -> list[Recommended]:
        """Compute a user's best items, to be given at once from now on."""
        best = self.recommender.best(user, limits.MAX_TOP)
        self._remembered.put(user, best)
        return best

    def explain(self, user: str, top: int) -> Explanation:
        """The best items for a user of the data, with reasons.

        Raises:
            Unknown: no such user.
            NotOffered: the model gives no reasons.
        """
        self.user(user)
        return self._explaining().explain(user, top)

    def explain_pair(self, user: str, item: str) -> Explanation:
        """What speaks for and against an item, whether it would be recommended or not.

        Raises:
            Unknown: no such user or item.
            NotOffered: the model gives no reasons.
        """
        self.user(user)
        self.item(item)
        return self._explaining().explain_pair(user, item)

    def recommend_new(self, interactions: Sequence[Interaction], top: int) -> Recommendations:
        """The best items for a new user.

        Raises:
            Unknown: no such item.
            NotOffered: the model knows only the users of the data.
            TooLarge: a review is too long.
            DataError: a rating is out of range.
        """
        posted = self._posted(interactions)
        return self._named(None, self._taking_new_users().best(posted, top)[1])

    def explain_new(self, interactions: Sequence[Interaction], top: int) -> Explanation:
        """As :meth:`recommend_new`, with reasons."""
        explainer = self._explaining()
        self._taking_new_users()
        return explainer.explain_new(self._posted(interactions), top)

    def _ready_for_new_users(self) -> NewUsers | None:
        """What takes new users; None of a model that knows only the users of the data."""
        try:
            found = self.explainer.new_users if self.explainer else NewUsers(self.recommender)
        except ConfigError:
            return None
        # A review, since what reads it is loaded with the first one.
        found.best([PostedInteraction(self.recommender.item_name(1), self.rating_range[1], "good")], 1)
        return found

    def _taking_new_users(self) -> NewUsers:
        if self._new_users is None:
            raise NotOffered(f"{self.experiment.config.model} knows only the users of the data")
        return self._new_users

    def _posted(self, interactions: Sequence[Interaction]) -> list[PostedInteraction]:
        lowest, highest = self.rating_range
        for place, one in enumerate(interactions):
            self.item(one.item)
            if one.rating is not None and not lowest <= one.rating <= highest:
                legal = f"ratings are from {lowest:g} to {highest:g}"
                raise DataError(f"interactions[{place}].rating: {legal}, not {one.rating:g}")
            if len(one.review) > limits.MAX_REVIEW:
                length = f"{len(one.review)} characters, at most {limits.MAX_REVIEW} are taken"
                raise TooLarge(f"interactions[{place}].review: has {length}")
        return [PostedInteraction(one.item, one.rating, one.review) for one in interactions]

    def _named(self, user: str | None, best: Sequence[Recommended]) -> Recommendations:
        names = self.recommender
        items = [RecommendedItem(names.item_name(iid), names.title(iid), predicted) for iid, predicted in best]
        return Recommendations(user, items)

    def _explaining(self) -> Explainer:
        if self.explainer is None:
            raise NotOffered(f"{self.experiment.config.model} explains nothing: it reads no reviews, has no neighbours")
        return self.explainer
