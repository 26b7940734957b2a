"""The reviews that a model attends to, with their users, items, ratings and words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.errors import DataError
from recbole_drex.model.contract import contract_of
from recbole_drex.training.run_record import Experiment


@dataclasses.dataclass(frozen=True)
class AttendedReviews:
    """Reviews that are evidence and contain at least one known word, sorted by user and then by item.

    Only training reviews and reviews of rows without a rating are evidence, so these values contain no information
    from validation or test rows.

    Attributes:
        user, item: internal ids of each review's user and item, (n,).
        row: rows of the feature store and of the texts, (n,).
        rating: NaN without a rating, (n,).
        bounds: words of review r are entries ``bounds[r]`` to ``bounds[r + 1]`` of ``word`` and ``weight``, (n + 1,).
        word: indices in ``vocabulary``, (words,).
        weight: attention weight of each word within its review, (words,).
        vocabulary: lemmas.
        aspect: aspect of each word, -1 without one, (words,); None for models without aspects, as are the next two.
        importance: importance of each word, from 0 to 1, (words,).
        sentiment: sentiment of the text at each word, from -1 to 1, (words,).
    """

    user: np.ndarray
    item: np.ndarray
    row: np.ndarray
    rating: np.ndarray
    bounds: np.ndarray
    word: np.ndarray
    weight: np.ndarray
    vocabulary: list[str]
    aspect: np.ndarray | None = None
    importance: np.ndarray | None = None
    sentiment: np.ndarray | None = None

    @classmethod
    def of(cls, experiment: Experiment) -> AttendedReviews:
        """Read the reviews of a trained run.

        Raises:
            DataError: the model has no attention over the words of reviews.
        """
        words = contract_of(experiment.model).attended_words()
        if words is None:
            raise DataError(f"{experiment.config.model} has no attention over words, so it has no keyword profiles")
        dataset, evidence = experiment.dataset, experiment.parts.train_dataset.evidence()
        # The words of a review are contiguous, and a user has one review per item.
        pair = words.user.astype(np.int64) * dataset.item_num + words.item
        first = np.flatnonzero(np.diff(pair, prepend=-1))
        reviewed = evidence.review_row >= 0
        known = dataset.pair_key(evidence.user, evidence.item)[reviewed].numpy()
        order = np.argsort(known)
        index = order[np.searchsorted(known, pair[first], sorter=order)]
        return cls(
            user=words.user[first].astype(np.int64),
            item=words.item[first].astype(np.int64),
            row=evidence.review_row[reviewed].numpy()[index],
            rating=evidence.rating[reviewed].double().numpy()[index],
            bounds=np.append(first, len(pair)),
            word=np.asarray(words.word, dtype=np.int64),
            weight=words.weight,
            vocabulary=words.vocabulary,
            aspect=None if words.read is None else words.read.aspect,
            importance=None if words.read is None else words.read.importance,
            sentiment=None if words.read is None else words.read.sentiment,
        )

    def __len__(self) -> int:
        """Number of reviews."""
        return len(self.user)

    def owner(self, side: str) -> np.ndarray:
        """Internal ids of the reviews' users, or items, (n,)."""
        return self.user if side == "user" else self.item

    def of_words(self) -> np.ndarray:
        """The review of each word, (words,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.bounds))


def review_texts(experiment: Experiment) -> ReviewTexts | None:
    """The original reviews; None if the data set has no texts, or if reviews are shuffled and thus not their users'."""
    path = Path(experiment.dataset.dataset_path) / TEXTS
    return ReviewTexts(path) if path.is_file() and not experiment.config["shuffle_reviews"] else None
