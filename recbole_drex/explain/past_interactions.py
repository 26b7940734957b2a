"""Past interactions by their names, ratings and texts."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from recbole_drex.data.text.tokenizer import ReviewWords, TextProcessor
from recbole_drex.explain.explanation import PastReview, Quote
from recbole_drex.explain.profiles.attended_reviews import review_texts
from recbole_drex.explain.profiles.excerpts import marked, read_review
from recbole_drex.explain.recommender import Recommender


class Past(NamedTuple):
    """An interaction by internal ids, and the row of its review in the feature store, -1 without one."""

    user: int
    item: int
    row: int


class PastReviews:
    """Turns interactions that are evidence into what people can read.

    Args:
        names: of a trained run.

    Attributes:
        texts: the reviews as they were written, None without them.
        processor: finds the words in them that the model reads.
    """

    def __init__(self, names: Recommender):
        self.names = names
        experiment = names.experiment
        evidence = experiment.parts.train_dataset.evidence()
        keys = experiment.dataset.pair_key(evidence.user, evidence.item).numpy()
        order = np.argsort(keys, kind="stable")
        self._keys, self._ratings = keys[order], evidence.rating.numpy()[order]
        self._rows = evidence.review_row.numpy()[order]
        self.texts = texts = review_texts(experiment)
        self.processor = processor = TextProcessor(experiment.config["lemmatizer"], experiment.config["language"])

        @lru_cache(maxsize=4096)
        def read(row: int) -> ReviewWords | None:
            return None if texts is None or row < 0 else read_review(texts, row, processor)

        self.read = read

    def find(self, user: int, item: int) -> Past | None:
        """The evidence of a user (internal id) on an item; None if there is none."""
        place = self._place(user, item)
        return None if place is None else Past(user, item, int(self._rows[place]))

    def rating(self, past: Past) -> float | None:
        """The rating of an interaction that is evidence; None without one."""
        place = self._place(past.user, past.item)
        return None if place is None or np.isnan(self._ratings[place]) else float(self._ratings[place])

    def _place(self, user: int, item: int) -> int | None:
        key = user * self.names.dataset.item_num + item
        place = int(np.searchsorted(self._keys, key))
        return place if place < len(self._keys) and self._keys[place] == key else None

    def beginning(self, past: Past) -> Quote | None:
        """The beginning of its review; None without one."""
        words = self.read(past.row)
        return marked(words, 0)[0] if words is not None and words.text else None

    def review(self, past: Past, quote: Quote | None = None) -> PastReview:
        """The interaction with a quote, by default of its review's beginning."""
        user, item = self.names.user_name(past.user), self.names.item_name(past.item)
        return PastReview(user, item, self.names.title(past.item), self.rating(past), quote or self.beginning(past))
