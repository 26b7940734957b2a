"""What is posted and what is answered; explanations are those of :mod:`recbole_drex.explain.explanation`."""

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
    # A misspelt key is a fault, not something to be overlooked; "5" and true are no numbers.
    model_config = ConfigDict(extra="forbid", strict=True)


class Interaction(_Posted):
    """An item with a rating, a review or both."""

    item: Name = Field(description="as named in the data")
    rating: float | None = Field(None, allow_inf_nan=False, description="within the range that /health gives")
    review: str = Field("", description=f"at most {limits.MAX_REVIEW} characters")

    @model_validator(mode="after")
    def _says_something(self) -> Interaction:
        if self.rating is None and not self.review.strip():
            raise ValueError("give a rating, a review or both")
        return self


class Wish(_Posted):
    """Whom to recommend something to: a ``user``, several ``users``, or a new user with ``interactions``."""

    user: Name | None = Field(None, description="as named in the data")
    users: list[Name] | None = Field(None, min_length=1, max_length=limits.MAX_USERS)
    interactions: list[Interaction] | None = Field(None, min_length=1, max_length=limits.MAX_INTERACTIONS)
    top: int = Field(10, ge=1, le=limits.MAX_TOP, description="recommendations of each user")
    explain: bool = Field(False, description=f"with reasons; at most {limits.MAX_EXPLAINED} over all users")

    @model_validator(mode="after")
    def _is_one_wish(self) -> Wish:
        given = [name for name in ("user", "users", "interactions") if getattr(self, name) is not None]
        if len(given) != 1:
            found = "none of them" if not given else " and ".join(given)
            raise ValueError(
                "give user (a name), users (names) or interactions ([{item, rating, review}] of a new user), "
                f"one of the three, not {found}"
            )
        if len(set(self.users or ())) < len(self.users or ()):
            raise ValueError("users: a user is named twice")
        for item, times in Counter(one.item for one in self.interactions or ()).items():
            if times > 1:
                raise ValueError(f"interactions: item '{item}' is there {times} times; an item counts once")
        return self


@dataclasses.dataclass(frozen=True)
class Problem:
    """Why a request was not answered, in one line."""

    detail: str


@dataclasses.dataclass(frozen=True)
class RecommendedItem:
    """An item, its title (empty without one) and the predicted rating (null of models that rank)."""

    item: str
    title: str
    predicted: float | None


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The best items for a user, without those the user has interacted with; ``user`` is null for a new user."""

    user: str | None
    recommendations: list[RecommendedItem]


@dataclasses.dataclass(frozen=True)
class ForUsers:
    """One answer for each of several users, in the order of the request."""

    users: list[Recommendations | Explanation]


@dataclasses.dataclass(frozen=True)
class Profile:
    """What the training part says about a user or an item.

    Attributes:
        side: ``user`` or ``item``.
        id: name in the data.
        title: of the item, empty if there is none.
        ratings: number of training ratings.
        mean_rating: their mean, null without any.
        keywords: what the training reviews write about, by falling score; empty without reviews, or if the model makes
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
    """A user and the number of training ratings."""

    user: str
    ratings: int


@dataclasses.dataclass(frozen=True)
class FoundItem:
    """An item, its title, and number and mean of its training ratings."""

    item: str
    title: str
    ratings: int
    mean_rating: float | None


@dataclasses.dataclass(frozen=True)
class Users:
    """The best matches, and how many there are in all."""

    users: list[FoundUser]
    total: int


@dataclasses.dataclass(frozen=True)
class Items:
    """The best matches, and how many there are in all."""

    items: list[FoundItem]
    total: int


@dataclasses.dataclass(frozen=True)
class Health:
    """What is served.

    Attributes:
        status: ``ok``.
        model, dataset, fingerprint: of the run.
        version: of this program.
        users, items: numbers of them.
        rating_range: lowest and highest training rating, which a posted rating lies between.
        predicts_ratings: whether ``predicted`` is a rating; otherwise it is null, and the model ranks.
        explains: whether the model gives reasons.
        new_users: whether a new user can be given recommendations.
        explains_new_users: whether with reasons.
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
    memory_mb: float
