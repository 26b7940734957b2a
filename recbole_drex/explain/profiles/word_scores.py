r"""Scores of words in the profiles of users and items, and the sentiment of reviews at each word.

For an owner o (a user or an item) with :math:`n_o` reviews, :math:`a_{rw}` is the attention weight of word w in review
r, summed over its occurrences.

``attention`` is the paper's score (section 3.6):

.. math:: A_{ow} = \sum_{r \in o} a_{rw}

``attention_lift`` reduces the influence of single reviews and favours words that distinguish owners:

.. math::
    S_{ow} = \Big(A_{ow} - z \big(\textstyle\sum_{r \in o} a_{rw}^2\big)^{1/2}\Big)
        \min\big(1, L^{user}_w + L^{item}_w\big), \qquad
    L_w = \max\Big(0, \log \frac{\sum_o 1 - (1 - p_w)^{n_o}}{|\{o : w \text{ in a review of } o\}|}\Big)

The root estimates the standard error of a sum over reviews. With z = 0.9, a word of one review keeps a tenth of its
attention. :math:`p_w` is the share of all reviews that contain w. The numerator is the expected number of owners with w
if w were spread over reviews at random. It exceeds the observed number if few owners use w repeatedly. This is the
residual inverse document frequency (Church and Gale 1995, "Inverse document frequency (IDF): a measure of deviations
from Poisson", 3rd workshop on very large corpora), with owners as documents of unequal length. It is near 0 for words
that most owners use ("film", "like") and for rare words. Both sides are summed, so that words which distinguish users
also count for items. The sum is limited to 1, so that names specific to one item do not displace the words that it
shares with others.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from recbole_drex.explain.explanation import CRITICISED, NEUTRAL, PRAISED
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews

_DOUBT = 0.9  # standard errors subtracted; below one, so that words of single reviews keep a positive score
_AGREE = 2 / 3  # minimum share of reviews with the same sentiment at a word


@dataclasses.dataclass(frozen=True)
class WordCounts:
    """Word statistics of one side, one entry per owner and word, sorted by owner and then by word.

    Attributes:
        owner, word: internal id, and index in the vocabulary, (n,).
        attention: sum of the word's attention weights over the owner's reviews, (n,).
        squares: sum over reviews of the squared attention of the word, (n,).
        reviews: number of reviews that contain the word, (n,).
        rated: number of these reviews with a rating, (n,).
        ratings: sum of their ratings, (n,).
        praise, blame: number of these reviews with positive and negative sentiment at the word; 0 if unknown, (n,).
        of_owner: number of reviews of each owner, by internal id, (n_owners,).
    """

    owner: np.ndarray
    word: np.ndarray
    attention: np.ndarray
    squares: np.ndarray
    reviews: np.ndarray
    rated: np.ndarray
    ratings: np.ndarray
    praise: np.ndarray
    blame: np.ndarray
    of_owner: np.ndarray

    @property
    def mean_rating(self) -> np.ndarray:
        """Mean rating of the rated reviews that contain the word, NaN without such reviews, (n,)."""
        return np.divide(self.ratings, self.rated, out=np.full(len(self.word), np.nan), where=self.rated > 0)


def count_words(
    reviews: AttendedReviews, term: np.ndarray, weight: np.ndarray, n_terms: int, opinions: np.ndarray | None = None
) -> list[WordCounts]:
    """Count words per user and per item.

    Args:
        reviews: reviews that the model attends to.
        term: term of each word, -1 without a term, (words,).
        weight: attention weight of each word, (words,).
        n_terms: number of terms.
        opinions: sentiment at each word: above 0 praise, below 0 blame, 0 without sentiment, (words,).

    Returns:
        The counts of users and of items.
    """
    use = np.flatnonzero(term >= 0)
    key, inverse = np.unique(reviews.of_words()[use] * n_terms + term[use], return_inverse=True)
    attention = np.bincount(inverse, weights=weight[use], minlength=len(key))
    opinion = (
        np.zeros(len(key)) if opinions is None else np.bincount(inverse, weights=opinions[use], minlength=len(key))
    )
    review, word = key // n_terms, key % n_terms
    rated = ~np.isnan(reviews.rating)
    rating = np.where(rated, reviews.rating, 0.0)
    counts = []
    for side in ("user", "item"):
        owner = reviews.owner(side)
        key, inverse = np.unique(owner[review] * n_terms + word, return_inverse=True)

        def total(values: np.ndarray | None, inverse: np.ndarray = inverse, n: int = len(key)) -> np.ndarray:
            return np.bincount(inverse, weights=values, minlength=n)

        counts.append(
            WordCounts(
                owner=key // n_terms,
                word=key % n_terms,
                attention=total(attention),
                squares=total(attention**2),
                reviews=total(None),
                rated=total(rated[review].astype(float)).astype(np.int64),
                ratings=total(rating[review]),
                praise=total((opinion > 0).astype(float)).astype(np.int64),
                blame=total((opinion < 0).astype(float)).astype(np.int64),
                of_owner=np.bincount(owner),
            )
        )
    return counts


def score_words(counts: list[WordCounts], score: str, n_terms: int) -> list[np.ndarray]:
    """The ``attention`` or ``attention_lift`` score of every entry of each side; positive if the attention is."""
    if score == "attention":
        return [side.attention for side in counts]
    lift = sum(residual_idf(side, n_terms) for side in counts)
    # Words without lift rank last, by attention.
    lift = np.clip(lift, 1e-6, 1.0)
    return [(side.attention - _DOUBT * np.sqrt(side.squares)) * lift[side.word] for side in counts]


def residual_idf(counts: WordCounts, n_terms: int) -> np.ndarray:
    """Residual IDF L of every word on one side (n_terms,), 0 for words that do not occur.

    Example:
        Of two owners with two reviews each, one writes "plot" twice; both write "film" once. By chance alone
        2 (1 - 0.5²) = 1.5 owners would have either word.

        >>> one, two = np.ones(3), np.array([2, 1, 1])
        >>> counts = WordCounts(np.array([0, 0, 1]), np.array([0, 1, 1]), one, one, two, two, one, one, one,
        ...                     np.array([2, 2]))
        >>> residual_idf(counts, 2).round(3).tolist()  # log 1.5 of "plot"; "film" has more owners than expected
        [0.405, 0.0]
    """
    owners_with_word = np.bincount(counts.word, minlength=n_terms)
    share = np.bincount(counts.word, weights=counts.reviews, minlength=n_terms) / counts.of_owner.sum()
    with np.errstate(divide="ignore"):
        without = np.log1p(-np.minimum(share, 1.0))
    expected = np.zeros(n_terms)
    # There are few distinct numbers of reviews, so a loop over them is cheap.
    sizes, owners = np.unique(counts.of_owner[counts.of_owner > 0], return_counts=True)
    for size, number in zip(sizes.tolist(), owners.tolist(), strict=True):
        expected -= number * np.expm1(size * without)
    return np.log(
        np.maximum(expected, owners_with_word) / np.maximum(owners_with_word, 1),
        where=owners_with_word > 0,
        out=np.zeros(n_terms),
    )


def sides(counts: WordCounts) -> np.ndarray:
    """Sentiment of the owner's reviews at each word, (n,): :data:`PRAISED`, :data:`CRITICISED` or :data:`NEUTRAL`.

    A word is praised (criticised) if two reviews or more, and two thirds of those with the word, praise (criticise) it.
    """
    enough = np.maximum(2, counts.reviews * _AGREE)
    criticised = np.where(counts.blame >= enough, CRITICISED, NEUTRAL)
    return np.where(counts.praise >= enough, PRAISED, criticised)
