"""Which reviews mention an aspect, and what they say of it at the very words."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from recbole_drex.explain.explanation import Claim, Mention, PastReview
from recbole_drex.explain.past_interactions import Past, PastReviews
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews
from recbole_drex.explain.profiles.excerpts import around
from recbole_drex.explain.profiles.quotes import Quotes
from recbole_drex.explain.profiles.topics import subjects
from recbole_drex.explain.profiles.vocabulary import ShownWords
from recbole_drex.model.drex.aspects import Words

if TYPE_CHECKING:
    from recbole_drex.explain.counterfactual.user_view import PostedWords
    from recbole_drex.model.drex.aspects import Aspects

_LEAST = 0.5  # share of an aspect's weight that words which may name it have
_LEAST_OF_MOST = 0.1  # of what the foremost word of a name adds, what every other one must add
_TRIED = 3  # occurrences that are tried for a quote, where the texts are not those that were encoded


@dataclasses.dataclass(frozen=True)
class Occurrences:
    """Words that belong to an aspect.

    Attributes:
        review: position of each word's review among the attended ones, ascending, (k,).
        at: position of each word among all words, (k,).
        word: lemma, as a position in the vocabulary, (k,).
        aspect: (k,).
        importance: (k,).
        said: sentiment times importance, (k,).
        topic: whether the word may name an aspect, (k,).
    """

    review: np.ndarray
    at: np.ndarray
    word: np.ndarray
    aspect: np.ndarray
    importance: np.ndarray
    said: np.ndarray
    topic: np.ndarray

    def __getitem__(self, which: np.ndarray) -> Occurrences:
        return Occurrences(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))

    def __len__(self) -> int:
        return len(self.review)


class AspectMentions:
    """Looks aspects up in the reviews of users and items.

    Args:
        reviews: what a model with aspects attends to.
        quotes: of these reviews.
        shown: how words are written.
        topic: whether each lemma of the vocabulary may name an aspect, (words,).
        aspects: of the model, to read what new users write.

    Attributes:
        judged: whether each lemma is known to be what reviews judge, so that it may be named without its aspect.
    """

    def __init__(
        self, reviews: AttendedReviews, quotes: Quotes, shown: ShownWords, topic: np.ndarray, aspects: Aspects
    ):
        assert reviews.aspect is not None and reviews.importance is not None and reviews.sentiment is not None
        self.reviews, self.quotes, self.shown = reviews, quotes, shown
        self.pasts: PastReviews = quotes.pasts
        self._aspect, self._importance, self._sentiment = reviews.aspect, reviews.importance, reviews.sentiment
        self._topic, self._aspects = topic, aspects
        self._place = {word: place for place, word in enumerate(reviews.vocabulary)}
        self.judged = subjects(reviews.vocabulary)

        @lru_cache(maxsize=512)
        def found(side: str, owner: int) -> tuple[Occurrences, np.ndarray]:
            return self._found(side, owner)

        self._of_owner = found

    def _found(self, side: str, owner: int) -> tuple[Occurrences, np.ndarray]:
        mine = np.sort(self.quotes.of_owner(side, owner))
        first, last = self.reviews.bounds[mine], self.reviews.bounds[mine + 1]
        length = last - first
        at = np.repeat(first - (np.cumsum(length) - length), length) + np.arange(length.sum())
        review = np.repeat(mine, length)
        use = self._aspect[at] >= 0
        at, review = at[use], review[use]
        word, importance = self.reviews.word[at], self._importance[at]
        said, topic = importance * self._sentiment[at], self._topic[word]
        return Occurrences(review, at, word, self._aspect[at], importance, said, topic), mine

    def of(self, side: str, owner: int, pair: tuple[int, int]) -> tuple[Occurrences, int]:
        """The words of all aspects in the reviews of a user or an item, and the number of all these reviews.

        Args:
            side: ``user`` or ``item``.
            owner: internal id.
            pair: internal ids of user and item: the one's review of the other is left out.
        """
        found, mine = self._of_owner(side, owner)
        own = self._own(mine, pair)
        return (found[~np.isin(found.review, own)] if len(own) else found), len(mine) - len(own)

    def of_new(self, posted: PostedWords) -> tuple[Occurrences, int]:
        """As :meth:`of`, in what a new user posted; reviews are numbered as what was posted is."""
        place, word = posted.words.place, posted.words.word
        shares, sentiment = self._lexicon
        number = self._aspects.lemma[torch.where(word < len(self.reviews.vocabulary), word, -1)]
        slot = self._aspects.slot[number]
        first = torch.nonzero(torch.diff(place, prepend=place.new_full((1,), -1))).flatten()
        said = self._aspects.said(Words(number, first, posted.words.sentence), sentiment)
        importance = shares.sum(1)[slot]
        inside = importance > 0
        at = torch.arange(len(place), device=place.device)
        columns = (place, at, word, shares.argmax(1)[slot], importance, importance * said)
        found = [column[inside].numpy(force=True) for column in columns]
        found.append(self._topic[found[2]])
        return Occurrences(*found), len(first)

    def groups(self, found: Occurrences, tastes: torch.Tensor) -> dict[int, dict[int, float]]:
        """What each lemma of an item's reviews that may name its aspect adds to the score, by aspect.

        The part of aspects is a sum over the occurrences of words in the item's reviews: with the user's tastes t and
        the item's mentions m, an occurrence of lemma w adds the sum over aspects of theta t p(a | w) g(w) s / (m + c).

        Args:
            found: the words of all aspects in the item's reviews.
            tastes: of the user, (A,).

        Returns:
            Number of an aspect to position in the vocabulary to what all occurrences of that lemma add.
        """
        lemmas, first, place = np.unique(found.word, return_index=True, return_inverse=True)
        groups: dict[int, dict[int, float]] = {}
        if not len(lemmas):
            return groups
        said = np.bincount(place, found.said) / np.maximum(found.importance[first], 1e-12)
        aspects, (lexicon, _) = self._aspects, self._lexicon
        with torch.no_grad():
            shares = lexicon[aspects.slot[aspects.lemma[torch.from_numpy(lemmas).to(lexicon.device)]]].double()
            mentions = torch.from_numpy(np.bincount(place)).to(shares) @ shares
            each = aspects.qualities(mentions, torch.ones_like(mentions))
            added = (shares @ aspects.parts(tastes.double(), each)).numpy(force=True) * said
        for number in np.flatnonzero(found.topic[first]).tolist():
            of_aspect = groups.setdefault(int(found.aspect[first[number]]), {})
            of_aspect[int(lemmas[number])] = float(added[number])
        return groups

    @cached_property
    def _lexicon(self) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`Aspects.lexicon`, with zeros for lemmas that belong to no aspect."""
        shares, sentiment = self._aspects.remembered_lexicon()
        return torch.cat([shares, shares.new_zeros(1, shares.shape[1])]), sentiment

    def _own(self, mine: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
        return mine[(self.reviews.user[mine] == pair[0]) & (self.reviews.item[mine] == pair[1])]

    def words(self, user: Occurrences, added: Mapping[int, float], top: int) -> tuple[str, ...]:
        """Lemmas that name what the item's reviews say, those that add most first.

        Lemmas that the user writes too count twice. If the user writes about the same aspect, but in other words than
        these, the foremost of the user's comes last.

        Args:
            user: of the same aspect, in the user's reviews.
            added: what each lemma (position in the vocabulary) adds to the score, all of them together more than 0.
            top: number of lemmas.
        """
        vocabulary, (lemmas, place) = self.reviews.vocabulary, np.unique(user.word, return_inverse=True)
        mine = dict(zip(lemmas.tolist(), np.bincount(place, weights=user.importance), strict=True))
        order = sorted(added, key=lambda one: (-added[one] * (1 + (one in mine)), vocabulary[one]))
        most = max(added.values())
        found = [one for one in order if added[one] >= _LEAST_OF_MOST * most][:top]
        if mine and mine.keys().isdisjoint(found):
            found = [*found[: top - 1], min(mine, key=lambda one: (-mine[one], vocabulary[one]))]
        return tuple(vocabulary[one] for one in found)

    def claim(
        self, found: Occurrences, total: int, words: tuple[str, ...], sign: float, posted: Sequence[int] | None = None
    ) -> Claim:
        """What reviews say of an aspect.

        Args:
            found: its occurrences in them.
            total: number of all reviews.
            words: lemmas of its name, which a quote should have.
            sign: of what is to be quoted, if reviews of that kind are the most: 1 praise, -1 blame; 0: whatever.
            posted: items (internal ids) that a new user's reviews are about, if these are the reviews; none is quoted.
        """
        reviews, first, place = np.unique(found.review, return_index=True, return_inverse=True)
        said = np.bincount(place, weights=found.said, minlength=len(reviews))
        names, vocabulary = self.pasts.names, self.reviews.vocabulary
        mentions = tuple(
            Mention(
                names.user_name(int(self.reviews.user[review])) if posted is None else "",
                names.item_name(int(self.reviews.item[review]) if posted is None else posted[review]),
                tuple(dict.fromkeys(vocabulary[word] for word in of_review)),
                round(float(value), 4),
            )
            for review, of_review, value in zip(reviews.tolist(), _split(found.word, first), said.tolist(), strict=True)
        )
        praise, blame = int((said > 0).sum()), int((said < 0).sum())
        if sign and (praise if sign > 0 else blame) * 2 <= len(reviews):
            sign = 0
        quote = self._quoted(found, said[place], words, sign) if posted is None else None
        return Claim(total, len(mentions), praise, blame, quote, mentions)

    def _quoted(self, found: Occurrences, said: np.ndarray, words: tuple[str, ...], sign: float) -> PastReview | None:
        """The review that speaks for a claim the most, around the word at which it does."""
        if self.pasts.texts is None or not len(found):
            return None
        named = np.isin(found.word, [self._place[word] for word in words])
        right = found.said * sign > 0 if sign else np.ones(len(found), dtype=bool)
        right &= said * sign > 0 if sign else True
        weight = found.said * sign if sign else found.importance
        for number in np.lexsort((-weight, ~named, ~right))[:_TRIED].tolist():
            if not right[number]:
                break
            review, at = int(found.review[number]), int(found.at[number])
            past = Past(*(int(column[review]) for column in (self.reviews.user, self.reviews.item, self.reviews.row)))
            text, first = self.pasts.read(past.row), int(self.reviews.bounds[review])
            place = at - first
            lemma = self.reviews.vocabulary[self.reviews.word[at]]
            if text is None or text.lemmas[place : place + 1] != [lemma]:
                continue
            inside = found.review == review
            places, sentiments = (found.at[inside] - first).tolist(), self._sentiment[found.at[inside]].tolist()
            marks = dict(zip(places, sentiments, strict=True))
            return self.pasts.review(past, around(text, place, marks))
        return None


def _split(values: np.ndarray, first: np.ndarray) -> Iterator[list[int]]:
    """Consecutive parts of values, given where each begins."""
    whole, bounds = values.tolist(), [*first.tolist(), len(values)]
    return (whole[start:end] for start, end in itertools.pairwise(bounds))


def named(found: Occurrences) -> Occurrences:
    """The words that may name their aspect; none where they are the smaller part of what belongs to it here, for then
    the aspect is about something else."""
    may = found.topic & (found.importance[found.topic].sum() >= _LEAST * found.importance.sum())
    return found[may]
