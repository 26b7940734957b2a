"""Quotes of training reviews around the words that a model attends to."""

from __future__ import annotations

import numpy as np

from recbole_drex.explain.explanation import NEUTRAL, PRAISED, PastReview, Quote
from recbole_drex.explain.past_interactions import Past, PastReviews
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews
from recbole_drex.explain.profiles.excerpts import marked


class Quotes:
    """Quotes reviews that the model attends to, each around a word and with the attention of all words in it.

    Only the model's evidence is quoted, so no validation or test review ever is.

    Args:
        reviews: what a model attends to.
        pasts: to name and read them.
        term: what each of the reviews' words counts for, (words,).
        vocabulary: the names of these terms.
        said: what the text says at each word, as :func:`~recbole_drex.explain.profiles.word_scores.count_words` takes
            it.
    """

    def __init__(
        self,
        reviews: AttendedReviews,
        pasts: PastReviews,
        term: np.ndarray,
        vocabulary: list[str],
        said: np.ndarray | None = None,
    ):
        self.reviews, self.pasts, self._said = reviews, pasts, said
        self._term, self._term_id = term, {name: index for index, name in enumerate(vocabulary)}
        self._order = {side: np.argsort(reviews.owner(side), kind="stable") for side in ("user", "item")}

    def user_counts(self) -> dict[int, int]:
        """Number of reviews with words of each user (internal id) that has any."""
        users, counts = np.unique(self.reviews.user, return_counts=True)
        return dict(zip(users.tolist(), counts.tolist(), strict=True))

    def of_owner(self, side: str, owner: int) -> np.ndarray:
        """Positions, among the attended reviews, of those by a user or about an item, ascending."""
        order = self._order[side]
        bounds = np.searchsorted(self.reviews.owner(side), [owner, owner + 1], sorter=order)
        return order[slice(*bounds)]

    def holding(self, side: str, owner: int, word: str) -> list[tuple[int, int]]:
        """Reviews by a user or about an item that hold a word, those in which it has the highest attention first.

        Args:
            side: ``user`` or ``item``.
            owner: internal id of the user or item.
            word: lemma, or two of them.

        Returns:
            Of each its position among the attended reviews, and the place of the heaviest occurrence within it.
        """
        bounds, weight, term = self.reviews.bounds, self.reviews.weight, self._term_id.get(word, -2)
        found = []
        for review in self.of_owner(side, owner).tolist():
            start, end = bounds[review : review + 2]
            places = np.flatnonzero(self._term[start:end] == term)
            if len(places):
                weights = weight[start + places]
                found.append((-float(weights.max()), review, int(places[weights.argmax()])))
        return [(review, place) for _, review, place in sorted(found, key=lambda one: one[:2])]

    def quote(self, side: str, owner: int, word: str, left_out: tuple[int, int] | None = None) -> Quote | None:
        """Excerpt of the review by a user, or about an item, in which ``word`` has the highest attention weight.

        Args:
            side: ``user`` or ``item``.
            owner: internal id of the user or item.
            word: lemma, or two of them.
            left_out: internal ids of a user and an item: the one's review of the other is not quoted. The reviews of
                an item are quoted without any by that user.

        Returns:
            At most :data:`~recbole_drex.explain.profiles.excerpts.LONGEST` characters, on one line and without tags;
            None where no such review holds the word, or the data set has no texts.
        """
        for review, place in self.holding(side, owner, word) if self.pasts.texts is not None else ():
            own = left_out is not None and (self.reviews.user[review], self.reviews.item[review]) == left_out
            if not own:
                return self.around(review, place, word)
        return None

    def past_reviews(self, side: str, owner: int, word: str, top: int, speaks: str = NEUTRAL) -> tuple[PastReview, ...]:
        """The ``top`` reviews by a user, or about an item, in which ``word`` has the highest attention weight.

        Args:
            side: ``user`` or ``item``.
            owner: internal id of the user or item.
            word: lemma, or two of them.
            top: number of reviews.
            speaks: reviews that praise, or criticise, the word where they are to be quoted for that; those that do so
                the most come first then.
        """
        found = self.holding(side, owner, word)
        if speaks != NEUTRAL and self._said is not None:
            sign = 1 if speaks == PRAISED else -1
            said = {review: sign * self._opinion(review, word) for review, _ in found}
            found = sorted((one for one in found if said[one[0]] > 0), key=lambda one: -said[one[0]])
            found = [(review, self._place_said(review, word, sign)) for review, _ in found]
        return tuple(self.past_review(*one, word) for one in found[:top])

    def _opinion(self, review: int, word: str) -> float:
        assert self._said is not None
        start, end = self.reviews.bounds[review : review + 2]
        return float(self._said[start:end][self._term[start:end] == self._term_id[word]].sum())

    def _place_said(self, review: int, word: str, sign: int) -> int:
        """Where a review praises, or criticises, a word the most."""
        assert self._said is not None
        start, end = self.reviews.bounds[review : review + 2]
        here = self._term[start:end] == self._term_id[word]
        return int(np.where(here, sign * self._said[start:end], -np.inf).argmax())

    def past_review(self, review: int, place: int, word: str) -> PastReview:
        """An attended review, quoted around the word at ``place``; both as :meth:`holding` gives them."""
        columns = (self.reviews.user, self.reviews.item, self.reviews.row)
        past = Past(*(int(column[review]) for column in columns))
        return self.pasts.review(past, self.around(review, place, word))

    def around(self, review: int, place: int, word: str) -> Quote | None:
        """Excerpt of an attended review around the word at ``place``, with a mark at every word that the model reads.

        None where the data set has no texts, or none that belong to the features.
        """
        words = self.pasts.read(int(self.reviews.row[review]))
        if words is None:
            return None
        start, end = self.reviews.bounds[review : review + 2].tolist()
        length = len(word.split(" "))
        # Another version of the lemmatizer may find other words than those that were encoded.
        if words.lemmas[place : place + length] != word.split(" "):
            return None
        return marked(words, place, length, self.reviews.weight[start:end].tolist())[0]
