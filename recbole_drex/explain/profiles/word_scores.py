r"""How much a word says about a user or an item, and how their reviews speak of it.

For owner o (a user or an item) with :math:`n_o` reviews of its own, :math:`a_{rw}` is the attention that word w gets in
review r, summed over its occurrences there.

``attention`` is the paper's score (section 3.6):

.. math:: A_{ow} = \sum_{r \in o} a_{rw}

``attention_lift`` takes off what a single review may do, and lifts words that tell owners apart:

.. math::
    S_{ow} = \Big(A_{ow} - z \big(\textstyle\sum_{r \in o} a_{rw}^2\big)^{1/2}\Big)
        \min\big(1, L^{user}_w + L^{item}_w\big), \qquad
    L_w = \max\Big(0, \log \frac{\sum_o 1 - (1 - p_w)^{n_o}}{|\{o : w \text{ in a review of } o\}|}\Big)

The root estimates the standard error of a sum over reviews, z = 0.9: a word of one review keeps a tenth of its
attention. :math:`p_w` is the share of all reviews that hold w. If w fell on reviews by chance, the number of owners
with w would be the numerator; it is larger than the number found where few owners use w again and again. This is the
residual inverse document frequency (Church and Gale 1995, "Inverse document frequency (IDF): a measure of deviations
from Poisson", 3rd workshop on very large corpora), with owners as documents of unequal length. It is near 0 for words
that everybody uses ("film", "like") and for rare words that anybody might have used. Both sides count, so that words
which tell users apart serve items too, and at most as 1, so that names which belong to one item only do not drive out
what it shares with others.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from recbole_drex.explain.explanation import CRITICISED, NEUTRAL, PRAISED
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews

_DOUBT = 0.9  # standard errors that are taken off; below one, so that words of single reviews rank last, but do rank
_AGREE = 2 / 3  # share of reviews that must speak of a word in one way


@dataclasses.dataclass(frozen=True)
class WordCounts:
    """Words of the owners of one side, one entry for an owner and a word, by owner and then by word.

    Attributes:
        owner, word: internal id, and position in the vocabulary, (n,).
        attention: sum of the word's attention weights over the owner's reviews, (n,).
        squares: sum over reviews of the square of the word's attention there, (n,).
        reviews: number of reviews that hold the word, (n,).
        rated: number of these that have a rating, (n,).
        ratings: sum of their ratings, (n,).
        praise, blame: number of these reviews that speak well and badly of the word; 0 where that is not known, (n,).
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
        """Mean rating of the rated reviews that hold the word, NaN if there are none, (n,)."""
        return np.divide(self.ratings, self.rated, out=np.full(len(self.word), np.nan), where=self.rated > 0)


def count_words(
    reviews: AttendedReviews, term: np.ndarray, weight: np.ndarray, n_terms: int, said: np.ndarray | None = None
) -> list[WordCounts]:
    """Add up words by user and by item.

    Args:
        reviews: what the model attends to.
        term: what each word counts for, -1 for nothing, (words,).
        weight: the attention that it brings, (words,).
        n_terms: terms are below this.
        said: what the text says at each word: above 0 praise, below 0 blame, 0 where nothing is claimed, (words,).

    Returns:
        The users' counts and the items'.
    """
    use = np.flatnonzero(term >= 0)
    key, inverse = np.unique(reviews.of_words()[use] * n_terms + term[use], return_inverse=True)
    attention = np.bincount(inverse, weights=weight[use], minlength=len(key))
    opinion = np.zeros(len(key)) if said is None else np.bincount(inverse, weights=said[use], minlength=len(key))
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
    """The ``attention`` or ``attention_lift`` of every entry of each side; above 0 where the word's attention is."""
    if score == "attention":
        return [side.attention for side in counts]
    lift = sum(residual_idf(side, n_terms) for side in counts)
    # A word without any lift ranks behind all others, by its attention.
    lift = np.clip(lift, 1e-6, 1.0)
    return [(side.attention - _DOUBT * np.sqrt(side.squares)) * lift[side.word] for side in counts]


def residual_idf(counts: WordCounts, n_terms: int) -> np.ndarray:
    """L of every word on one side (n_terms,), 0 for words that do not occur.

    Example:
        Of two owners with two reviews each, one writes "plot" twice; both write "film" once. By chance alone
        2 (1 - 0.5²) = 1.5 owners would have either word.

        >>> one, two = np.ones(3), np.array([2, 1, 1])
        >>> counts = WordCounts(np.array([0, 0, 1]), np.array([0, 1, 1]), one, one, two, two, one, one, one,
        ...                     np.array([2, 2]))
        >>> residual_idf(counts, 2).round(3).tolist()  # log 1.5 of "plot"; "film" has more owners than expected
        [0.405, 0.0]
    """
    found = np.bincount(counts.word, minlength=n_terms)
    share = np.bincount(counts.word, weights=counts.reviews, minlength=n_terms) / counts.of_owner.sum()
    with np.errstate(divide="ignore"):
        without = np.log1p(-np.minimum(share, 1.0))
    expected = np.zeros(n_terms)
    # Few numbers of reviews are distinct, so a step for each is cheap.
    sizes, owners = np.unique(counts.of_owner[counts.of_owner > 0], return_counts=True)
    for size, number in zip(sizes.tolist(), owners.tolist(), strict=True):
        expected -= number * np.expm1(size * without)
    return np.log(np.maximum(expected, found) / np.maximum(found, 1), where=found > 0, out=np.zeros(n_terms))


def sides(counts: WordCounts) -> np.ndarray:
    """How the owner's reviews speak of each word: :data:`PRAISED`, :data:`CRITICISED` or :data:`NEUTRAL`, (n,).

    A word is praised (criticised) if two reviews or more, and two thirds of those that hold it, praise (criticise) it.
    """
    enough = np.maximum(2, counts.reviews * _AGREE)
    criticised = np.where(counts.blame >= enough, CRITICISED, NEUTRAL)
    return np.where(counts.praise >= enough, PRAISED, criticised)
