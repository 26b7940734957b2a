"""Keyword profiles from attention weights, and explanations by overlapping keywords (paper, section 3.6).

``score(w, u)`` is the sum of the attention weights of word w (by lemma) over u's training reviews, and
likewise for items; the n words with the highest scores are the profile. A recommendation is explained by the
words that stand in both profiles, each with a quote from both sides.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender

from recbole_drex.data.text import JUDGING_WORDS
from recbole_drex.errors import DataError, unknown_name
from recbole_drex.explain.quotes import Quotes
from recbole_drex.model.attention import AttendedWords
from recbole_drex.record import Experiment

_QUOTED = 2  # shared keywords of a recommendation that are quoted in the terminal


@dataclasses.dataclass(frozen=True)
class Keyword:
    """A word of a profile and its summed attention weight."""

    word: str
    score: float


@dataclasses.dataclass(frozen=True)
class SharedKeyword:
    """A word that stands in the profiles of a user and of an item.

    Attributes:
        word: the lemma.
        user_score, item_score: its score in either profile.
        user_quote: excerpt of the user's training review that speaks for the word, see :class:`Quotes`.
        item_quote: the same of another user's training review of the item. Quotes may be empty.
    """

    word: str
    user_score: float
    item_score: float
    user_quote: str
    item_quote: str


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """An item recommended to a user, with its profile, and why."""

    item: str
    title: str
    predicted: float
    profile: tuple[Keyword, ...]
    keywords: tuple[SharedKeyword, ...]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A user's profile and explained recommendations."""

    user: str
    profile: tuple[Keyword, ...]
    recommendations: tuple[Recommendation, ...]


def keyword_profiles(experiment: Experiment) -> pd.DataFrame:
    """Score every word of every user and item that has training reviews.

    Returns:
        Columns ``side`` (user, item), ``id`` (token), ``word`` (lemma), ``score``; sorted by side, id, falling score.

    Raises:
        DataError: the model reads no reviews, so it has no attention to make profiles of.
    """
    return _score(experiment, _attended_words(experiment))


def _attended_words(experiment: Experiment) -> AttendedWords:
    words = getattr(experiment.model, "attended_words", lambda: None)()
    if words is None:
        raise DataError(f"{experiment.config.model} has no attention over words, so it has no keyword profiles")
    return words


def _score(experiment: Experiment, words: AttendedWords) -> pd.DataFrame:
    dataset, n_words = experiment.dataset, len(words.vocabulary)
    parts = []
    for side, field, owner in (("user", dataset.uid_field, words.user), ("item", dataset.iid_field, words.item)):
        key, inverse = np.unique(owner.astype(np.int64) * n_words + words.word, return_inverse=True)
        parts.append(
            pd.DataFrame(
                {
                    "side": side,
                    "id": dataset.field2id_token[field][key // n_words],
                    "word": np.asarray(words.vocabulary, dtype=object)[key % n_words],
                    "score": np.bincount(inverse, weights=words.weight),
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    # "not" and "very" are kept for what they do to other words; alone they name nothing that one could like.
    table = table[~table["word"].isin(JUDGING_WORDS)]
    # The word breaks ties, so that a profile does not depend on the order of reviews.
    return table.sort_values(["side", "id", "score", "word"], ascending=[True, True, False, True], ignore_index=True)


class Explainer:
    """Explains the recommendations of a trained run.

    Args:
        experiment: a run that was loaded or has just been trained.
        words: number of keywords in a profile; default ``profile_words`` of the configuration.

    Raises:
        DataError: the model reads no reviews.
    """

    def __init__(self, experiment: Experiment, words: int | None = None):
        self.experiment = experiment
        n = words or experiment.config["profile_words"]
        attended = _attended_words(experiment)
        self._quotes = Quotes(experiment, attended)
        top = _score(experiment, attended).groupby(["side", "id"], sort=False).head(n)
        self._profiles = {
            key: dict(zip(group["word"], group["score"].astype(float), strict=True))
            for key, group in top.groupby(["side", "id"], sort=False)
        }

    def profile(self, side: str, token: str) -> tuple[Keyword, ...]:
        """Keywords of a ``user`` or an ``item``, by falling score; empty without reviews."""
        return tuple(Keyword(word, score) for word, score in self._profiles.get((side, token), {}).items())

    def overlap(self, user: str, item: str) -> tuple[SharedKeyword, ...]:
        """Words in both profiles, by falling sum of both scores."""
        mine, its = self._profiles.get(("user", user), {}), self._profiles.get(("item", item), {})
        shared = sorted((word for word in mine if word in its), key=lambda word: (-(mine[word] + its[word]), word))
        if not shared:
            return ()
        dataset, quote = self.experiment.dataset, self._quotes.quote
        uid, iid = dataset.token2id(dataset.uid_field, user), dataset.token2id(dataset.iid_field, item)
        return tuple(
            SharedKeyword(
                word, mine[word], its[word], quote("user", uid, word), quote("item", iid, word, other_than=uid)
            )
            for word in shared
        )

    def explain_users(self, n: int, top: int = 3) -> list[Explanation]:
        """Explain up to ``n`` users, spread evenly over all users with training reviews from the most reviews to the
        fewest; those with most come first, and equal ones by name.

        Args:
            n: number of users, 0 or more.
            top: recommendations of each, as in :meth:`explain`.
        """
        tokens = self.experiment.dataset.field2id_token[self.experiment.dataset.uid_field]
        counts = {str(tokens[uid]): count for uid, count in self._quotes.user_counts().items()}
        users = sorted(counts, key=lambda user: (-counts[user], user))
        places = np.unique(np.linspace(0, len(users) - 1, min(n, len(users))).round().astype(int))
        return [self.explain(users[place], top) for place in places]

    def explain(self, user: str, top: int = 3) -> Explanation:
        """Recommend the ``top`` items the user has not interacted with, by predicted rating, and explain them.

        Raises:
            DataError: no such user.
        """
        dataset, model = self.experiment.dataset, self.experiment.model
        known = dataset.field2token_id[dataset.uid_field]
        if user not in known or user == "[PAD]":
            raise DataError(_unknown_user(user, list(known)))
        uid = known[user]
        wanted = Interaction({dataset.uid_field: torch.tensor([uid])}).to(self.experiment.config["device"])
        scores = cast(GeneralRecommender, model).full_sort_predict(wanted).clone()
        scores[0] = -torch.inf
        for feat in (dataset.inter_feat, dataset.unrated):
            scores[feat[dataset.iid_field][feat[dataset.uid_field] == uid]] = -torch.inf
        best = torch.topk(scores, min(top, int(torch.isfinite(scores).sum()))).indices.tolist()
        levels = self.experiment.parts.train_dataset.rating_levels()
        recommendations = []
        for index in best:
            item = str(dataset.field2id_token[dataset.iid_field][index])
            predicted = float(scores[index].clamp(levels[0], levels[-1]))
            profile, shared = self.profile("item", item), self.overlap(user, item)
            recommendations.append(Recommendation(item, self._titles.get(item, ""), predicted, profile, shared))
        return Explanation(user, self.profile("user", user), tuple(recommendations))

    @cached_property
    def _titles(self) -> dict[str, str]:
        path = Path(self.experiment.dataset.dataset_path) / f"{self.experiment.dataset.dataset_name}.item"
        if not path.is_file():
            return {}
        items = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        return dict(zip(items["item_id:token"], items["title:token_seq"], strict=True))


def _unknown_user(user: str, known: list[str]) -> str:
    known.remove("[PAD]")
    if len(known) <= 20:
        return unknown_name("user", user, known)
    return f"unknown user '{user}'; the data set has {len(known)} users, for example {', '.join(known[:3])}"


def render(explanation: Explanation) -> str:
    """An explanation as plain text for the terminal; the first shared keywords are quoted."""
    lines = [f"User {explanation.user}"]
    profile = ", ".join(f"{k.word} ({k.score:.2f})" for k in explanation.profile)
    lines.append(f"  often writes about: {profile or 'no reviews in training'}")
    for place, item in enumerate(explanation.recommendations, 1):
        lines.append(f"  {place}. {item.title or item.item}: predicted {item.predicted:.2f}")
        words = ", ".join(f"{k.word} (user {k.user_score:.2f}, item {k.item_score:.2f})" for k in item.keywords)
        lines.append(f"     shared keywords: {words or 'none'}")
        for keyword in item.keywords[:_QUOTED]:
            if keyword.user_quote and keyword.item_quote:
                lines.append(f'       {keyword.word}, this user: "{keyword.user_quote}"')
                lines.append(f'       {keyword.word}, this item: "{keyword.item_quote}"')
    return "\n".join(lines)
