"""Quotes of training reviews around words that a model attends to."""

from __future__ import annotations

import numpy as np

from recbole_drex.explain.explanation import NEUTRAL, PRAISED, PastReview, Quote
from recbole_drex.explain.past_interactions import PastInteraction, PastReviews
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews
from recbole_drex.explain.profiles.excerpts import marked


class Quotes:
    """Quotes reviews that the model attends to, around a word and with the attention weights of all quoted words.

    Only the model's evidence is quoted, so validation and test reviews are never quoted.

    Args:
        reviews: reviews that the model attends to.
        past_reviews: names and texts of these reviews.
        term: term of each word of the reviews, (words,).
        vocabulary: the names of these terms.
        opinions: sentiment at each word, as in :func:`~recbole_drex.explain.profiles.word_scores.count_words`.
    """

    def __init__(
        self,
        reviews: AttendedReviews,
        past_reviews: PastReviews,
        term: np.ndarray,
        vocabulary: list[str],
        opinions: np.ndarray | None = None,
    ):
        self.reviews, self.past_reviews, self._opinions = reviews, past_reviews, opinions
        self._term, self._term_id = term, {name: index for index, name in enumerate(vocabulary)}
        self._order = {side: np.argsort(reviews.owner(side), kind="stable") for side in ("user", "item")}

    def user_counts(self) -> dict[int, int]:
        """Number of reviews with words per user (internal id), for users with such reviews."""
        users, counts = np.unique(self.reviews.user, return_counts=True)
        return dict(zip(users.tolist(), counts.tolist(), strict=True))

    def of_owner(self, side: str, owner: int) -> np.ndarray:
        """Indices of the attended reviews by a user or about an item, ascending."""
        order = self._order[side]
        bounds = np.searchsorted(self.reviews.owner(side), [owner, owner + 1], sorter=order)
        return order[slice(*bounds)]

    def containing(self, side: str, owner: int, word: str) -> list[tuple[int, int]]:
        """Reviews by a user or about an item that contain a word, by descending attention to the word.

        Args:
            side: ``user`` or ``item``.
            owner: internal id of the user or item.
            word: lemma, or two lemmas of a phrase.

        Returns:
            For each review, its index among the attended reviews and the index of its word with the highest attention.
        """
        bounds, weight, term = self.reviews.bounds, self.reviews.weight, self._term_id.get(word, -2)
        matches = []
        for review in self.of_owner(side, owner).tolist():
            start, end = bounds[review : review + 2]
            indices = np.flatnonzero(self._term[start:end] == term)
            if len(indices):
                weights = weight[start + indices]
                matches.append((-float(weights.max()), review, int(indices[weights.argmax()])))
        return [(review, index) for _, review, index in sorted(matches, key=lambda one: one[:2])]

    def quote(self, side: str, owner: int, word: str, left_out: tuple[int, int] | None = None) -> Quote | None:
        """Excerpt of the review by a user, or about an item, in which ``word`` has the highest attention weight.

        Args:
            side: ``user`` or ``item``.
            owner: internal id of the user or item.
            word: lemma, or two lemmas of a phrase.
            left_out: internal ids of a user and an item; the user's review of this item is not quoted.

        Returns:
            At most :data:`~recbole_drex.explain.profiles.excerpts.LONGEST` characters, on one line and without tags;
            None if no such review contains the word, or if the data set has no texts.
        """
        for review, index in self.containing(side, owner, word) if self.past_reviews.texts is not None else ():
            own = left_out is not None and (self.reviews.user[review], self.reviews.item[review]) == left_out
            if not own:
                return self.around(review, index, word)
        return None

    def quoted_reviews(
        self, side: str, owner: int, word: str, top: int, sentiment: str = NEUTRAL
    ) -> tuple[PastReview, ...]:
        """The ``top`` reviews by a user, or about an item, in which ``word`` has the highest attention weight.

        Args:
            side: ``user`` or ``item``.
            owner: internal id of the user or item.
            word: lemma, or two lemmas of a phrase.
            top: number of reviews.
            sentiment: ``praised`` or ``criticised`` to quote only reviews with this sentiment at the word, strongest
                first.
        """
        matches = self.containing(side, owner, word)
        if sentiment != NEUTRAL and self._opinions is not None:
            sign = 1 if sentiment == PRAISED else -1
            opinions = {review: sign * self._opinion(review, word) for review, _ in matches}
            chosen = sorted((one for one in opinions if opinions[one] > 0), key=lambda one: -opinions[one])
            matches = [(review, self._strongest_opinion(review, word, sign)) for review in chosen]
        return tuple(self.quoted_review(*one, word) for one in matches[:top])

    def _opinion(self, review: int, word: str) -> float:
        assert self._opinions is not None
        start, end = self.reviews.bounds[review : review + 2]
        return float(self._opinions[start:end][self._term[start:end] == self._term_id[word]].sum())

    def _strongest_opinion(self, review: int, word: str, sign: int) -> int:
        """Index of the word's occurrence with the strongest praise (sign 1) or criticism (sign -1) in a review."""
        assert self._opinions is not None
        start, end = self.reviews.bounds[review : review + 2]
        is_word = self._term[start:end] == self._term_id[word]
        return int(np.where(is_word, sign * self._opinions[start:end], -np.inf).argmax())

    def quoted_review(self, review: int, index: int, word: str) -> PastReview:
        """An attended review, quoted around the word at ``index``; both as returned by :meth:`containing`."""
        columns = (self.reviews.user, self.reviews.item, self.reviews.row)
        interaction = PastInteraction(*(int(column[review]) for column in columns))
        return self.past_reviews.review(interaction, self.around(review, index, word))

    def around(self, review: int, index: int, word: str) -> Quote | None:
        """Excerpt of an attended review around the word at ``index``, with a mark at every word that the model reads.

        None if the data set has no texts, or if its texts do not match its features.
        """
        words = self.past_reviews.read(int(self.reviews.row[review]))
        if words is None:
            return None
        start, end = self.reviews.bounds[review : review + 2].tolist()
        length = len(word.split(" "))
        # Another version of the lemmatizer may yield words that differ from those that were encoded.
        if words.lemmas[index : index + length] != word.split(" "):
            return None
        return marked(words, index, length, self.reviews.weight[start:end].tolist())[0]
