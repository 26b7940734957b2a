"""Finds the reviews that mention an aspect, and the sentiment of each mention."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from recbole_drex.explain.explanation import Claim, Mention, PastReview
from recbole_drex.explain.past_interactions import PastInteraction, PastReviews
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews
from recbole_drex.explain.profiles.excerpts import around
from recbole_drex.explain.profiles.quotes import Quotes
from recbole_drex.explain.profiles.topics import subjects
from recbole_drex.explain.profiles.vocabulary import ShownWords
from recbole_drex.model.drex.aspects import Lexicon, Words

if TYPE_CHECKING:
    from recbole_drex.explain.counterfactual.user_view import PostedWords
    from recbole_drex.model.drex.aspects import Aspects

_LEAST = 0.5  # minimum share of an aspect's importance that belongs to words which may name it
_LEAST_OF_MOST = 0.1  # minimum contribution of a word of a name, relative to the word that contributes most
_TRIED = 3  # occurrences tried for a quote, if texts differ from those that were encoded


@dataclasses.dataclass(frozen=True)
class Occurrences:
    """Occurrences of words that belong to an aspect.

    Attributes:
        review: index of each word's review among the attended reviews, ascending, (k,).
        token: index of each word among all words, (k,).
        word: index of its lemma in the vocabulary, (k,).
        aspect: (k,).
        importance: (k,).
        opinion: sentiment times importance, (k,).
        topic: whether the word may name an aspect, (k,).
    """

    review: np.ndarray
    token: np.ndarray
    word: np.ndarray
    aspect: np.ndarray
    importance: np.ndarray
    opinion: np.ndarray
    topic: np.ndarray

    def __getitem__(self, mask: np.ndarray) -> Occurrences:
        return Occurrences(*(getattr(self, field.name)[mask] for field in dataclasses.fields(self)))

    def __len__(self) -> int:
        return len(self.review)


class ReadReviews(NamedTuple):
    """The occurrences in the reviews of a user or an item, and the number of these reviews."""

    occurrences: Occurrences
    n_reviews: int


class AspectMentions:
    """Finds mentions of aspects in the reviews of users and items.

    Args:
        reviews: reviews that a model with aspects attends to.
        quotes: quotes of these reviews.
        shown: written forms of words.
        topic: whether each lemma of the vocabulary may name an aspect, (words,).
        aspects: the model's aspects, to read the reviews of new users.

    Attributes:
        is_subject: whether each lemma is a known subject of reviews, which may be named without its aspect.
    """

    def __init__(
        self, reviews: AttendedReviews, quotes: Quotes, shown: ShownWords, topic: np.ndarray, aspects: Aspects
    ):
        assert reviews.aspect is not None and reviews.importance is not None and reviews.sentiment is not None
        self.reviews, self.quotes, self.shown = reviews, quotes, shown
        self.past_reviews: PastReviews = quotes.past_reviews
        self._aspect, self._importance, self._sentiment = reviews.aspect, reviews.importance, reviews.sentiment
        self._topic, self._aspects = topic, aspects
        self._index = {word: index for index, word in enumerate(reviews.vocabulary)}
        self.is_subject = subjects(reviews.vocabulary)

        self._of_owner = lru_cache(maxsize=512)(self._read_occurrences)

    def _read_occurrences(self, side: str, owner: int) -> tuple[Occurrences, np.ndarray]:
        mine = np.sort(self.quotes.of_owner(side, owner))
        first, last = self.reviews.bounds[mine], self.reviews.bounds[mine + 1]
        length = last - first
        token = np.repeat(first - (np.cumsum(length) - length), length) + np.arange(length.sum())
        review = np.repeat(mine, length)
        use = self._aspect[token] >= 0
        token, review = token[use], review[use]
        word, importance = self.reviews.word[token], self._importance[token]
        opinion, topic = importance * self._sentiment[token], self._topic[word]
        return Occurrences(review, token, word, self._aspect[token], importance, opinion, topic), mine

    def of(self, side: str, owner: int, pair: tuple[int, int]) -> ReadReviews:
        """Occurrences of all aspects in the reviews of a user or an item.

        Args:
            side: ``user`` or ``item``.
            owner: internal id.
            pair: internal ids of user and item, whose own review is left out.
        """
        occurrences, mine = self._of_owner(side, owner)
        own = self._own(mine, pair)
        rest = occurrences[~np.isin(occurrences.review, own)] if len(own) else occurrences
        return ReadReviews(rest, len(mine) - len(own))

    def of_new(self, posted: PostedWords) -> ReadReviews:
        """As :meth:`of`, for the reviews that a new user posted; reviews are indexed in posted order."""
        index, word = posted.words.index, posted.words.word
        shares, sentiment = self._lexicon
        number = self._aspects.lemma[torch.where(word < len(self.reviews.vocabulary), word, -1)]
        slot = self._aspects.slot[number]
        first = torch.nonzero(torch.diff(index, prepend=index.new_full((1,), -1))).flatten()
        opinion = self._aspects.word_sentiments(Words(number, first, posted.words.sentence), sentiment)
        importance = shares.sum(1)[slot]
        inside = importance > 0
        token = torch.arange(len(index), device=index.device)
        columns = (index, token, word, shares.argmax(1)[slot], importance, importance * opinion)
        arrays = [column[inside].numpy(force=True) for column in columns]
        arrays.append(self._topic[arrays[2]])
        return ReadReviews(Occurrences(*arrays), len(first))

    def groups(self, occurrences: Occurrences, tastes: torch.Tensor) -> dict[int, dict[int, float]]:
        """Contribution to the score of each lemma of an item's reviews that may name its aspect, by aspect.

        The part of aspects is a sum over the occurrences of words in the item's reviews. With the user's tastes t and
        the item's mentions m, an occurrence of lemma w adds the sum over aspects of theta t p(a | w) g(w) s / (m + c).

        Args:
            occurrences: words of all aspects in the item's reviews.
            tastes: of the user, (A,).

        Returns:
            Per aspect, the summed contribution of each lemma by its index in the vocabulary.
        """
        lemmas, first, index = np.unique(occurrences.word, return_index=True, return_inverse=True)
        groups: dict[int, dict[int, float]] = {}
        if not len(lemmas):
            return groups
        opinion = np.bincount(index, occurrences.opinion) / np.maximum(occurrences.importance[first], 1e-12)
        aspects, lexicon = self._aspects, self._lexicon.shares
        with torch.no_grad():
            shares = lexicon[aspects.slot[aspects.lemma[torch.from_numpy(lemmas).to(lexicon.device)]]].double()
            mentions = torch.from_numpy(np.bincount(index)).to(shares) @ shares
            each = aspects.qualities(mentions, torch.ones_like(mentions))
            added = (shares @ aspects.parts(tastes.double(), each)).numpy(force=True) * opinion
        for number in np.flatnonzero(occurrences.topic[first]).tolist():
            of_aspect = groups.setdefault(int(occurrences.aspect[first[number]]), {})
            of_aspect[int(lemmas[number])] = float(added[number])
        return groups

    @cached_property
    def _lexicon(self) -> Lexicon:
        """As :meth:`Aspects.lexicon`, with zeros for lemmas without an aspect."""
        shares, sentiment = self._aspects.cached_lexicon()
        return Lexicon(torch.cat([shares, shares.new_zeros(1, shares.shape[1])]), sentiment)

    def _own(self, mine: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
        return mine[(self.reviews.user[mine] == pair[0]) & (self.reviews.item[mine] == pair[1])]

    def words(self, user: Occurrences, added: Mapping[int, float], top: int) -> tuple[str, ...]:
        """Lemmas that name an aspect of the item's reviews, by descending contribution.

        Lemmas that the user writes, too, count twice. If the user writes about the aspect with other lemmas only, the
        user's most important lemma comes last.

        Args:
            user: occurrences of the same aspect in the user's reviews.
            added: contribution to the score of each lemma (index in the vocabulary); their sum is above 0.
            top: number of lemmas.
        """
        vocabulary, (lemmas, index) = self.reviews.vocabulary, np.unique(user.word, return_inverse=True)
        mine = dict(zip(lemmas.tolist(), np.bincount(index, weights=user.importance), strict=True))
        order = sorted(added, key=lambda one: (-added[one] * (1 + (one in mine)), vocabulary[one]))
        most = max(added.values())
        names = [one for one in order if added[one] >= _LEAST_OF_MOST * most][:top]
        if mine and mine.keys().isdisjoint(names):
            names = [*names[: top - 1], min(mine, key=lambda one: (-mine[one], vocabulary[one]))]
        return tuple(vocabulary[one] for one in names)

    def claim(
        self,
        reviews: ReadReviews,
        words: tuple[str, ...],
        sign: float,
        posted: Sequence[int] | None = None,
    ) -> Claim:
        """Summarise what reviews say about an aspect.

        Args:
            reviews: its occurrences in the reviews, and the number of all reviews.
            words: lemmas of its name, which a quote should contain.
            sign: sentiment of the quote, if most reviews share it: 1 for praise, -1 for blame, 0 for either.
            posted: for the reviews of a new user, their items (internal ids); no review is quoted then.
        """
        occurrences = reviews.occurrences
        numbers, first, index = np.unique(occurrences.review, return_index=True, return_inverse=True)
        opinion = np.bincount(index, weights=occurrences.opinion, minlength=len(numbers))
        names, vocabulary = self.past_reviews.names, self.reviews.vocabulary
        mentions = tuple(
            Mention(
                names.user_name(int(self.reviews.user[review])) if posted is None else "",
                names.item_name(int(self.reviews.item[review]) if posted is None else posted[review]),
                tuple(dict.fromkeys(vocabulary[word] for word in of_review)),
                round(float(value), 4),
            )
            for review, of_review, value in zip(
                numbers.tolist(), _split(occurrences.word, first), opinion.tolist(), strict=True
            )
        )
        praise, blame = int((opinion > 0).sum()), int((opinion < 0).sum())
        if sign and (praise if sign > 0 else blame) * 2 <= len(numbers):
            sign = 0
        quote = self._quoted(occurrences, opinion[index], words, sign) if posted is None else None
        return Claim(reviews.n_reviews, len(mentions), praise, blame, quote, mentions)

    def _quoted(
        self, occurrences: Occurrences, opinion: np.ndarray, words: tuple[str, ...], sign: float
    ) -> PastReview | None:
        """The review that supports a claim most, around the supporting word."""
        if self.past_reviews.texts is None or not len(occurrences):
            return None
        is_name = np.isin(occurrences.word, [self._index[word] for word in words])
        supports = occurrences.opinion * sign > 0 if sign else np.ones(len(occurrences), dtype=bool)
        supports &= opinion * sign > 0 if sign else True
        weight = occurrences.opinion * sign if sign else occurrences.importance
        for number in np.lexsort((-weight, ~is_name, ~supports))[:_TRIED].tolist():
            if not supports[number]:
                break
            review, token = int(occurrences.review[number]), int(occurrences.token[number])
            interaction = PastInteraction(
                *(int(column[review]) for column in (self.reviews.user, self.reviews.item, self.reviews.row))
            )
            text, first = self.past_reviews.read(interaction.row), int(self.reviews.bounds[review])
            index = token - first
            lemma = self.reviews.vocabulary[self.reviews.word[token]]
            if text is None or text.lemmas[index : index + 1] != [lemma]:
                continue
            tokens = occurrences.token[occurrences.review == review]
            marks = dict(zip((tokens - first).tolist(), self._sentiment[tokens].tolist(), strict=True))
            return self.past_reviews.review(interaction, around(text, index, marks))
        return None


def _split(values: np.ndarray, first: np.ndarray) -> Iterator[list[int]]:
    """Split values at the given starts."""
    whole, bounds = values.tolist(), [*first.tolist(), len(values)]
    return (whole[start:end] for start, end in itertools.pairwise(bounds))


def nameable(occurrences: Occurrences) -> Occurrences:
    """The words that may name their aspect; empty if they have less than half of its importance in these reviews."""
    topic, importance = occurrences.topic, occurrences.importance
    return occurrences[topic & (importance[topic].sum() >= _LEAST * importance.sum())]
