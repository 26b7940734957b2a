"""Schemas of requests and responses; explanations are those of :mod:`recbole_drex.explain.explanation`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recbole_drex.explain.explanation import Keyword
from recbole_drex.explain.explanation_text import Explanation
from recbole_drex.serve import limits

Name = Annotated[str, Field(min_length=1, max_length=limits.MAX_NAME)]


class _Posted(BaseModel):
    # Misspelt keys are errors, and "5" or true are not accepted as numbers.
    model_config = ConfigDict(extra="forbid", strict=True)


class Opinion(_Posted):
    """A rating, a review or both."""

    rating: float | None = Field(None, allow_inf_nan=False, description="within rating_range of /health")
    review: str = Field("", description=f"at most {limits.MAX_REVIEW} characters")

    @model_validator(mode="after")
    def _has_content(self) -> Opinion:
        if self.rating is None and not self.review.strip():
            raise ValueError("give a rating, a review or both")
        return self


class Interaction(Opinion):
    """An item with a rating, a review or both."""

    item: Name = Field(description="name in the data set")


class Review(Opinion):
    """A rating of a new item, a review of it, or both."""

    user: str = Field("", max_length=limits.MAX_NAME, description="name in the data set, if the author has one there")


class RecommendationRequest(_Posted):
    """A request for recommendations: for a ``user``, several ``users``, or a new user with ``interactions``."""

    user: Name | None = Field(None, description="name in the data set")
    users: list[Name] | None = Field(None, min_length=1, max_length=limits.MAX_USERS)
    interactions: list[Interaction] | None = Field(None, min_length=1, max_length=limits.MAX_INTERACTIONS)
    top: int = Field(10, ge=1, le=limits.MAX_TOP, description="recommendations per user")
    explain: bool = Field(False, description=f"with explanations; at most {limits.MAX_EXPLAINED} over all users")

    @model_validator(mode="after")
    def _has_one_target(self) -> RecommendationRequest:
        given = [name for name in ("user", "users", "interactions") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of user (a name), users (names) or interactions ([{item, rating, review}] of a new "
                f"user), not {' and '.join(given) or 'none'}"
            )
        if len(set(self.users or ())) < len(self.users or ()):
            raise ValueError("users: a user is named twice")
        for item, times in Counter(one.item for one in self.interactions or ()).items():
            if times > 1:
                raise ValueError(f"interactions: item '{item}' is given {times} times; give each item once")
        return self


class NewItemRequest(_Posted):
    """A new item, as its ``reviews`` describe it, and the ``users`` for whom its rating is predicted."""

    users: list[Name] = Field(min_length=1, max_length=limits.MAX_USERS)
    reviews: list[Review] = Field(max_length=limits.MAX_INTERACTIONS)


@dataclasses.dataclass(frozen=True)
class PredictedRating:
    """The predicted rating of a new item for a user."""

    user: str
    predicted: float | None


@dataclasses.dataclass(frozen=True)
class NewItemRatings:
    """One prediction per user, in the order of the request."""

    predictions: list[PredictedRating]


@dataclasses.dataclass(frozen=True)
class Problem:
    """The reason why a request failed, on one line."""

    detail: str


@dataclasses.dataclass(frozen=True)
class RecommendedItem:
    """An item, its title (empty without a title) and its predicted rating (null for ranking models)."""

    item: str
    title: str
    predicted: float | None


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The best items for a user, without known items; ``user`` is null for a new user."""

    user: str | None
    recommendations: list[RecommendedItem]


@dataclasses.dataclass(frozen=True)
class ForUsers:
    """One response per user, in the order of the request."""

    users: list[Recommendations | Explanation]


@dataclasses.dataclass(frozen=True)
class Profile:
    """Training ratings and keywords of a user or an item.

    Attributes:
        side: ``user`` or ``item``.
        id: name in the data set.
        title: of the item, empty without a title.
        ratings: number of training ratings.
        mean_rating: their mean, null without ratings.
        keywords: keywords of the training reviews, by descending score; empty without reviews, or if the model offers
            no profiles.
    """

    side: str
    id: str
    title: str
    ratings: int
    mean_rating: float | None
    keywords: tuple[Keyword, ...]


@dataclasses.dataclass(frozen=True)
class FoundUser:
    """A user and the number of their training ratings."""

    user: str
    ratings: int


@dataclasses.dataclass(frozen=True)
class FoundItem:
    """An item, its title, and the number and mean of its training ratings."""

    item: str
    title: str
    ratings: int
    mean_rating: float | None


@dataclasses.dataclass(frozen=True)
class Users:
    """The best matches, and the number of all matches."""

    users: list[FoundUser]
    total: int


@dataclasses.dataclass(frozen=True)
class Items:
    """The best matches, and the number of all matches."""

    items: list[FoundItem]
    total: int


@dataclasses.dataclass(frozen=True)
class Health:
    """Information about the served run.

    Attributes:
        status: ``ok``.
        model, dataset, fingerprint: of the run.
        version: version of this program.
        users, items: number of users and items.
        rating_range: lowest and highest training rating; posted ratings must be in this range.
        predicts_ratings: whether ``predicted`` is a rating; it is null for ranking models.
        explains: whether the model offers explanations.
        new_users: whether the model recommends to new users.
        explains_new_users: whether it also explains these recommendations.
        new_items: whether the model predicts ratings of new items.
        memory_mb: resident memory of the process, in MiB.
    """

    status: str
    model: str
    dataset: str
    version: str
    fingerprint: str
    users: int
    items: int
    rating_range: tuple[float, float]
    predicts_ratings: bool
    explains: bool
    new_users: bool
    explains_new_users: bool
    new_items: bool
    memory_mb: float
