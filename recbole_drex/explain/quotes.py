"""Short excerpts of training reviews around the words that a model attends to."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path

import numpy as np

from recbole_drex.data.text import ReviewWords, TextProcessor, clean
from recbole_drex.data.texts import TEXTS, ReviewTexts
from recbole_drex.explain.explanation import Quote
from recbole_drex.model.attention import AttendedWords
from recbole_drex.record import Experiment

LONGEST = 160
_CUT = "\u2026"


def excerpt(text: str, start: int, end: int, longest: int = LONGEST) -> str:
    """Cut ``text`` to at most ``longest`` characters around the word ``text[start:end]``, at blanks if there are any.

    Args:
        text: one line with single blanks.
        start, end: where the word stands.
        longest: characters of the result, the ellipsis at a cut end included; the word must fit in.

    Example:
        >>> text = "a film with a plot that nobody could have foreseen"
        >>> excerpt(text, 14, 18, longest=24)
        '\u2026with a plot that\u2026'
    """
    if len(text) <= longest:
        return text
    room = longest - 2 * len(_CUT)
    first = min(max((start + end - room) // 2, 0), len(text) - room)
    last = first + room
    if first > 0 and text[first - 1] != " ":
        first = max(first, text.find(" ", first, start) + 1)
    if last < len(text) and text[last] != " ":
        blank = text.rfind(" ", end, last)
        last = last if blank < 0 else blank
    left, right = (_CUT if first > 0 else ""), (_CUT if last < len(text) else "")
    return f"{left}{text[first:last].strip()}{right}"


class Quotes:
    """Finds, for a word, the review that speaks for it: the one in which the model attends to the word the most.

    Only the model's evidence is searched, so no validation or test review is ever quoted.

    Args:
        experiment: a trained run.
        words: what its model attends to.
    """

    def __init__(self, experiment: Experiment, words: AttendedWords):
        dataset, evidence = experiment.dataset, experiment.parts.train_dataset.evidence()
        self._word, self._weight = words.word, words.weight
        self._word_id = {word: index for index, word in enumerate(words.vocabulary)}
        # The words of a review lie together, and a user has one review of an item.
        pair = words.user.astype(np.int64) * dataset.item_num + words.item
        first = np.flatnonzero(np.diff(pair, prepend=-1))
        self._bounds = np.append(first, len(pair))
        self._owner = {"user": words.user[first], "item": words.item[first]}
        self._order = {side: np.argsort(owner, kind="stable") for side, owner in self._owner.items()}
        reviewed = evidence.review_row >= 0
        known = dataset.pair_key(evidence.user, evidence.item)[reviewed].numpy()
        order = np.argsort(known)
        self._row = evidence.review_row[reviewed].numpy()[order[np.searchsorted(known, pair[first], sorter=order)]]
        path = Path(dataset.dataset_path) / TEXTS
        # Shuffled reviews are not those of their users.
        self._texts = ReviewTexts(path) if path.is_file() and not experiment.config["shuffle_reviews"] else None
        processor = TextProcessor(experiment.config["lemmatizer"])

        @lru_cache(maxsize=4096)
        def read(row: int) -> ReviewWords:
            assert self._texts is not None
            (text,) = self._texts[row]
            review, shown = processor(text), clean(text, lower=False)
            # A few letters are longer in lower case; places would shift.
            return dataclasses.replace(review, text=shown) if len(shown) == len(review.text) else review

        self._read = read

    def user_counts(self) -> dict[int, int]:
        """Number of reviews with words of each user (internal id) that has any."""
        users, counts = np.unique(self._owner["user"], return_counts=True)
        return dict(zip(users.tolist(), counts.tolist(), strict=True))

    def quote(self, side: str, owner: int, word: str, other_than: int | None = None) -> Quote | None:
        """Excerpt of the review by a user, or about an item, in which ``word`` has the highest attention weight.

        Args:
            side: ``user`` or ``item``.
            owner: internal id of the user or item.
            word: lemma.
            other_than: a user whose reviews are left aside, by internal id.

        Returns:
            At most :data:`LONGEST` characters, on one line and without tags; None where no such review holds the word,
            or the data set has no texts.
        """
        if self._texts is None:
            return None
        order = self._order[side]
        bounds = np.searchsorted(self._owner[side], [owner, owner + 1], sorter=order)
        reviews = order[slice(*bounds)]
        if other_than is not None:
            reviews = reviews[self._owner["user"][reviews] != other_than]
        best, place = -np.inf, None
        for review in reviews.tolist():
            start, end = self._bounds[review : review + 2]
            positions = np.flatnonzero(self._word[start:end] == self._word_id[word])
            if len(positions):
                weights = self._weight[start + positions]
                if weights.max() > best:
                    best, place = weights.max(), (int(self._row[review]), int(positions[weights.argmax()]))
        return None if place is None else self._around(*place, word)

    def _around(self, row: int, position: int, word: str) -> Quote | None:
        review = self._read(row)
        # Another version of the lemmatizer may find other words than those that were encoded.
        if position >= len(review.lemmas) or review.lemmas[position] != word:
            return None
        return Quote(excerpt(review.text, review.starts[position], review.ends[position]))
