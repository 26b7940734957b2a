"""Predicts the ratings of an item that is not in the data from posted ratings and reviews of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.explain.counterfactual.drex_counterfactual import view_of
from recbole_drex.explain.counterfactual.new_user import rows_of_new
from recbole_drex.explain.counterfactual.scenarios import SideEvidence
from recbole_drex.explain.interruption import between_steps
from recbole_drex.explain.new_user_input import NewUsers
from recbole_drex.model.layers.common import Side


class PostedReview(NamedTuple):
    """A rating of a new item, a review of it, or both.

    Attributes:
        rating: None without a rating.
        review: the original text; empty without a review.
        user: who wrote it, by name; empty or unknown for someone who is not in the data.
    """

    rating: float | None = None
    review: str = ""
    user: str = ""


class NewItems:
    """Predicts ratings of new items, without training.

    Without any post, the prediction is what the model predicts from the user's evidence alone. Posts add the item's
    deviation, which is computed from their ratings, and its aspects, from their texts. So a higher rating never lowers
    a prediction, nor does one more rating of 5 by someone unknown. This would not be certain with the item's state,
    which is used only by models without deviations (``use_bias: false``); and the authors' own levels are subtracted
    from the ratings, so 5 by someone who always rates 5 says little. Tastes and vectors of items are not used.

    Args:
        new_users: reads posts for the same run.

    Raises:
        ConfigError: the model predicts no ratings.
    """

    def __init__(self, new_users: NewUsers):
        self._posts, self.model, self.recommender = new_users, new_users.model, new_users.recommender
        if self.model.ranks:
            name = self.recommender.experiment.config.model
            raise ConfigError(f"{name} ranks items and predicts no rating of a new item. Use DReX")

    @torch.no_grad()
    def predict(self, posted: Sequence[PostedReview], users: Sequence[str]) -> list[float | None]:
        """Predicted ratings of one new item for users of the data set, one per user, clipped to the range of ratings.

        A user's own post is not used to predict for this user. Ratings are rounded to levels as for new users.

        Raises:
            DataError: an unknown user in ``users``, a user who posted twice, a rating outside the range of the data, or
                a post with neither rating nor review.
        """
        model, device = self.model, self.model.mean.device
        wanted = [self.recommender.user_id(user) for user in users]
        known = self.recommender.ids("user")
        authors = [known.get(one.user, 0) for one in posted]
        ratings = []
        for position, one in enumerate(posted):
            if authors[position] and authors[position] in authors[:position]:
                raise DataError(f"user '{one.user}' posted twice about the new item")
            ratings.append(self._posts.level(one.rating, one.review, f"post {position} about the new item"))
        model.make_ready()
        author = torch.tensor(authors, dtype=torch.int64, device=device)
        rating = torch.tensor(ratings, dtype=torch.float32, device=device)
        reviews, lemmas, begins = self._posts.words([one.review for one in posted]) if posted else ([], [], [])
        rows, there = rows_of_new(model, Side.ITEM, author, rating, reviews, lemmas, begins)
        # Ratings of unknown users say nothing to a start state that is made from ratings by users.
        value = torch.nan_to_num(rating / model.table.highest) * (author > 0)
        result = []
        for user in wanted:
            between_steps()
            index: torch.Tensor = torch.nonzero(there & (author != user)).flatten()
            columns = (rows[index], author[index], value[index], index.double(), torch.full_like(index, -1))
            evidence = SideEvidence(model, Side.ITEM, 0, *columns)
            view, nothing = view_of(model, user), torch.zeros(1, device=device)
            item = evidence.summary(evidence.no_change, 1)
            parts = model.parts_of(view.full_state, item, nothing, nothing)
            if model.slopes is not None:
                deviation = model.slopes[Side.ITEM] * item.deviation
                parts = parts._replace(item=deviation, rest=nothing)
            result.append(self.recommender.rating(view.rating_of(parts.total)[0]))
        return result
