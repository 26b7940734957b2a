"""Past interactions with names, ratings and texts."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from recbole_drex.data.text.tokenizer import ReviewWords, TextProcessor
from recbole_drex.explain.explanation import PastReview, Quote
from recbole_drex.explain.profiles.attended_reviews import review_texts
from recbole_drex.explain.profiles.excerpts import marked, read_review
from recbole_drex.explain.recommender import Recommender


class PastInteraction(NamedTuple):
    """An interaction by internal ids, and the row of its review in the feature store, -1 without a review."""

    user: int
    item: int
    row: int


class PastReviews:
    """Looks up names, ratings and texts of interactions that are evidence.

    Args:
        names: recommender of a trained run.

    Attributes:
        texts: the original reviews; None if the data set has no texts.
        processor: finds the words that the model reads.
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

    def find(self, user: int, item: int) -> PastInteraction | None:
        """The evidence of a user (internal id) about an item; None without evidence."""
        position = self._position(user, item)
        return None if position is None else PastInteraction(user, item, int(self._rows[position]))

    def rating(self, interaction: PastInteraction) -> float | None:
        """The rating of an interaction; None without a rating."""
        position = self._position(interaction.user, interaction.item)
        return None if position is None or np.isnan(self._ratings[position]) else float(self._ratings[position])

    def _position(self, user: int, item: int) -> int | None:
        key = user * self.names.dataset.item_num + item
        position = int(np.searchsorted(self._keys, key))
        return position if position < len(self._keys) and self._keys[position] == key else None

    def beginning(self, interaction: PastInteraction) -> Quote | None:
        """The beginning of its review; None without a review."""
        words = self.read(interaction.row)
        return marked(words, 0)[0] if words is not None and words.text else None

    def review(self, interaction: PastInteraction, quote: Quote | None = None) -> PastReview:
        """The interaction with a quote, by default the beginning of its review."""
        user, item = self.names.user_name(interaction.user), self.names.item_name(interaction.item)
        return PastReview(
            user,
            item,
            self.names.title(interaction.item),
            self.rating(interaction),
            quote or self.beginning(interaction),
        )
