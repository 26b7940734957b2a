"""Keyword profiles from attention weights, and explanations by overlapping keywords (paper, section 3.6).

``score(w, u)`` is the sum of the attention weights of word w (by lemma) over u's training reviews, and
likewise for items; the n words with the highest scores are the profile. A recommendation is explained by the
words that stand in both profiles, each with a quote from both sides.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from recbole_drex.data.text import JUDGING_WORDS
from recbole_drex.errors import DataError
from recbole_drex.explain.explanation import Keyword, SharedKeyword
from recbole_drex.explain.quotes import Quotes
from recbole_drex.model.attention import AttendedWords
from recbole_drex.record import Experiment


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


class KeywordProfiles:
    """Keyword profiles of users and items, and what they share.

    Args:
        experiment: a run that was loaded or has just been trained.
        words: number of keywords in a profile; default ``profile_words`` of the configuration.

    Raises:
        DataError: the model reads no reviews.
    """

    def __init__(self, experiment: Experiment, words: int | None = None):
        self.dataset = experiment.dataset
        n = words or experiment.config["profile_words"]
        attended = _attended_words(experiment)
        self.quotes = Quotes(experiment, attended)
        top = _score(experiment, attended).groupby(["side", "id"], sort=False).head(n)
        self._profiles = {
            key: dict(zip(group["word"], group["score"].astype(float), strict=True))
            for key, group in top.groupby(["side", "id"], sort=False)
        }

    def profile(self, side: str, token: str) -> tuple[Keyword, ...]:
        """Keywords of a ``user`` or an ``item``, by falling score; empty without reviews."""
        return tuple(Keyword(word, word, score) for word, score in self._profiles.get((side, token), {}).items())

    def overlap(self, user: str, item: str) -> tuple[SharedKeyword, ...]:
        """Words in both profiles, by falling sum of both scores."""
        mine, its = self._profiles.get(("user", user), {}), self._profiles.get(("item", item), {})
        shared = sorted((word for word in mine if word in its), key=lambda word: (-(mine[word] + its[word]), word))
        if not shared:
            return ()
        dataset, quote = self.dataset, self.quotes.quote
        uid, iid = dataset.token2id(dataset.uid_field, user), dataset.token2id(dataset.iid_field, item)
        return tuple(
            SharedKeyword(
                word, word, mine[word], its[word], quote("user", uid, word), quote("item", iid, word, other_than=uid)
            )
            for word in shared
        )
