"""Recommendations and their reasons, in one form for every model that gives any.

What a model offers decides: keywords that user and item share (DReX), the reviews of the item that count most (NARRE),
what the user's neighbours say (EMF), a written sentence (PESI).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recbole_drex.data.text import clean
from recbole_drex.data.texts import TEXTS, ReviewTexts
from recbole_drex.errors import DataError
from recbole_drex.explain.explanation import Evidence, Explanation, Keyword, PastReview, Quote, Recommendation
from recbole_drex.explain.keywords import KeywordProfiles
from recbole_drex.explain.quotes import excerpt
from recbole_drex.explain.recommender import Recommended, Recommender
from recbole_drex.record import Experiment

_QUOTED = 2  # shared keywords, or reviews, of a recommendation that are quoted in the terminal
_REVIEWS = 3  # most useful reviews of an item


class Explainer:
    """Explains the recommendations of a trained run.

    Args:
        experiment: a run that was loaded or has just been trained.
        words: number of keywords in a profile; default ``profile_words`` of the configuration.

    Raises:
        DataError: the model gives no reasons.
    """

    def __init__(self, experiment: Experiment, words: int | None = None):
        if not experiment.explains:
            raise DataError(f"{experiment.config.model} explains nothing: it reads no reviews and has no neighbours")
        self.experiment, self.model = experiment, experiment.model
        self.recommender = Recommender(experiment)
        self.keywords = KeywordProfiles(experiment, words) if experiment.attends else None

    def profile(self, side: str, token: str) -> tuple[Keyword, ...]:
        """Keywords of a ``user`` or an ``item``, by falling score; empty without reviews."""
        return self.keywords.profile(side, token) if self.keywords else ()

    def explain_users(self, n: int, top: int = 3) -> list[Explanation]:
        """Explain up to ``n`` users, spread evenly over all users with training reviews (or ratings, if the model reads
        no reviews) from the most to the fewest; those with most come first, and equal ones by name.

        Args:
            n: number of users, 0 or more.
            top: recommendations of each, as in :meth:`explain`.
        """
        if self.keywords:
            by_id = self.keywords.quotes.user_counts()
        else:
            ids, numbers = np.unique(self._ratings[0], return_counts=True)
            by_id = dict(zip(ids.tolist(), numbers.tolist(), strict=True))
        counts = {self.recommender.user_name(uid): count for uid, count in by_id.items()}
        users = sorted(counts, key=lambda user: (-counts[user], user))
        places = np.unique(np.linspace(0, len(users) - 1, min(n, len(users))).round().astype(int))
        return [self.explain(users[place], top) for place in places]

    def explain(self, user: str, top: int = 3) -> Explanation:
        """Recommend the ``top`` items the user has not interacted with, by the model's score, and explain them.

        Raises:
            DataError: no such user.
        """
        uid = self.recommender.user_id(user)
        recommendations = self._explained(uid, self.recommender.best(uid, top))
        who, rating = self._ratings
        mine = rating[who == uid]
        mean = float(mine.mean()) if len(mine) else None
        return Explanation(user, mean, self.profile("user", user), recommendations)

    def _explained(self, uid: int, best: Sequence[Recommended]) -> tuple[Recommendation, ...]:
        names, model = self.recommender, self.model
        reasons: list[dict[str, Any]] = [{} for _ in best]
        for (iid, _), reason in zip(best, reasons, strict=True):
            if self.keywords:
                user, item = names.user_name(uid), names.item_name(iid)
                reason |= {"profile": self.profile("item", item), "keywords": self.keywords.overlap(user, item)}
            if hasattr(model, "useful_reviews"):
                reason["reviews"] = self._useful_reviews(uid, iid)
            if hasattr(model, "explanation"):
                reason["neighbours"] = model.explanation(uid, iid)  # type: ignore[operator]
        if self.experiment.writes:
            items = [iid for iid, _ in best]
            for reason, sentence in zip(reasons, model.generate([uid] * len(items), items), strict=True):  # type: ignore[operator]
                reason["written"] = sentence
        return tuple(
            Recommendation(names.item_name(iid), names.title(iid), predicted, **reason)
            for (iid, predicted), reason in zip(best, reasons, strict=True)
        )

    def _useful_reviews(self, uid: int, iid: int) -> tuple[Evidence, ...]:
        names = self.recommender
        item, title = names.item_name(iid), names.title(iid)
        # One more, since the user's own review is no news.
        found = [one for one in self.model.useful_reviews("item", iid, _REVIEWS + 1) if one.user != uid]  # type: ignore[operator]
        return tuple(
            Evidence(
                "item",
                PastReview(names.user_name(one.user), item, title, None, self._beginning(one.row)),
                0.0,
                one.weight,
            )
            for one in found[:_REVIEWS]
        )

    def _beginning(self, row: int) -> Quote | None:
        if self._texts is None:
            return None
        text = clean(self._texts[row][0], lower=False)
        return Quote(excerpt(text, 0, 1)) if text else None

    @cached_property
    def _texts(self) -> ReviewTexts | None:
        path = Path(self.experiment.dataset.dataset_path) / TEXTS
        # Shuffled reviews are not those of their users.
        return ReviewTexts(path) if path.is_file() and not self.experiment.config["shuffle_reviews"] else None

    @cached_property
    def _ratings(self) -> tuple[np.ndarray, np.ndarray]:
        """Users and ratings of the training part."""
        part = self.experiment.parts.train_dataset
        return part.inter_feat[part.uid_field].numpy(), part.inter_feat[part.rating_field].numpy()


def render(explanation: Explanation) -> str:
    """An explanation as plain text for the terminal; the first reasons are quoted."""
    lines = [f"User {explanation.user}"]
    if explanation.profile:
        profile = ", ".join(f"{k.word} ({k.score:.2f})" for k in explanation.profile)
        lines.append(f"  often writes about: {profile}")
    for place, item in enumerate(explanation.recommendations, 1):
        rating = "" if item.predicted is None else f": predicted {item.predicted:.2f}"
        lines.append(f"  {place}. {item.title or item.item}{rating}")
        lines += [f"     {line}" for line in _reasons(item)]
    return "\n".join(lines)


def _reasons(item: Recommendation) -> list[str]:
    lines = []
    if item.written:
        lines.append(f'"{item.written}"')
    if item.neighbours:
        lines.append(str(item.neighbours))
    for review in item.reviews[:_QUOTED]:
        quote = review.review.quote.text if review.review.quote else ""
        lines.append(f'useful review by {review.review.user} ({review.weight:.2f}): "{quote}"')
    if item.keywords or item.profile:
        words = ", ".join(f"{k.word} (user {k.user_score:.2f}, item {k.item_score:.2f})" for k in item.keywords)
        lines.append(f"shared keywords: {words or 'none'}")
    for keyword in item.keywords[:_QUOTED]:
        if keyword.user_quote and keyword.item_quote:
            lines.append(f'  {keyword.word}, this user: "{keyword.user_quote.text}"')
            lines.append(f'  {keyword.word}, this item: "{keyword.item_quote.text}"')
    return lines
