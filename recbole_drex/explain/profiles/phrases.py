"""Two-word phrases: adjacent words that occur together more often than by chance ("battery life")."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from recbole_drex.data.text.review_texts import ReviewTexts
from recbole_drex.data.text.tokenizer import JUDGING_WORDS, TextProcessor
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews

_REVIEWS = 5  # minimum number of reviews that contain a phrase
_ASSOCIATION = 0.3  # smallest normalised pointwise mutual information
_BLOCK = 1024  # reviews whose texts are read in one batch

Terms = tuple[np.ndarray, np.ndarray, list[str]]


def merge_phrases(reviews: AttendedReviews, texts: ReviewTexts | None, processor: TextProcessor) -> Terms:
    """Find phrases in the attended reviews, and replace the words of each phrase by the phrase.

    A phrase is two words separated only by blanks in the cleaned text. At least five reviews contain it, and its
    normalised pointwise mutual information is at least 0.3 (Bouma 2009, "Normalized (pointwise) mutual information in
    collocation extraction", GSCL). This measure is 0 for independent words and 1 for words that only occur together.
    Of overlapping phrases, the first one in the text counts. Phrases contain no judging words ("not", "very").

    Args:
        reviews: reviews that the model attends to.
        texts: the original reviews; without them no phrases are found and a warning is logged.
        processor: the processor with which the features were made.

    Returns:
        The term of each word, its attention, and the vocabulary extended by the phrases. The first word of a phrase has
        the phrase as its term, with the summed attention of both words; the second word has no term, -1.
    """
    if texts is None:
        logging.getLogger().warning("profile_phrases: the data set has no texts of reviews, so no phrases are found")
        return reviews.word, reviews.weight, reviews.vocabulary
    neighbours = _neighbours(reviews, texts, processor)
    n_words = len(reviews.vocabulary)
    pair = reviews.word[neighbours] * n_words + reviews.word[neighbours + 1]
    kept = _associated(reviews, pair, reviews.of_words()[neighbours], n_words)
    index = neighbours[np.isin(pair, kept)]
    # In "a b c" with phrases "a b" and "b c", the second is dropped: its first word is taken.
    free = np.ones(len(index), dtype=bool)
    for k in np.flatnonzero(np.diff(index) == 1).tolist():
        free[k + 1] = not free[k]
    index = index[free]
    term, weight = reviews.word.copy(), reviews.weight.copy()
    term[index] = n_words + np.searchsorted(kept, reviews.word[index] * n_words + reviews.word[index + 1])
    weight[index] += weight[index + 1]
    term[index + 1] = -1
    names = reviews.vocabulary
    phrases = [f"{names[first]} {names[second]}" for first, second in zip(kept // n_words, kept % n_words, strict=True)]
    return term, weight, [*names, *phrases]


def _neighbours(reviews: AttendedReviews, texts: ReviewTexts, processor: TextProcessor) -> np.ndarray:
    """Indices of words that only blanks separate from the next word, ascending."""
    parts = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(reviews), _BLOCK):
        block = range(start, min(start + _BLOCK, len(reviews)))
        for review, text in zip(block, texts[reviews.row[start : block.stop]], strict=True):
            words = processor(text)
            first, last = reviews.bounds[review : review + 2].tolist()
            n = min(last - first, len(words.lemmas))
            # Another version of the lemmatizer may yield words that differ from those that were encoded.
            if [reviews.vocabulary[word] for word in reviews.word[first : first + n].tolist()] != words.lemmas[:n]:
                continue
            gaps = zip(words.ends[: n - 1], words.starts[1:n], strict=True) if n else ()
            parts.append(first + np.flatnonzero([words.text[end:start].isspace() for end, start in gaps]))
    return np.concatenate(parts)


def _associated(reviews: AttendedReviews, pair: np.ndarray, review: np.ndarray, n_words: int) -> np.ndarray:
    """The pairs that are phrases, ascending, given the pair and the review of all adjacent words."""
    from nltk.collocations import BigramAssocMeasures, BigramCollocationFinder
    from nltk.probability import FreqDist

    pairs, inverse, times = np.unique(pair, return_inverse=True, return_counts=True)
    _, once = np.unique(review * len(pairs) + inverse, return_index=True)
    frequent = np.bincount(inverse[once], minlength=len(pairs)) >= _REVIEWS
    judging = np.isin(reviews.vocabulary, list(JUDGING_WORDS))
    frequent &= ~judging[pairs // n_words] & ~judging[pairs % n_words]
    words = FreqDist(dict(enumerate(np.bincount(reviews.word, minlength=n_words).tolist())))
    number = zip(pairs[frequent].tolist(), times[frequent].tolist(), strict=True)
    together = FreqDist({divmod(key, n_words): n for key, n in number})

    def association(n_both: int, n_each: tuple[int, int], n_all: int) -> Any:
        information = BigramAssocMeasures.pmi(n_both, n_each, n_all)
        return information / np.log2(n_all / n_both) if n_both < n_all else 1.0

    scored = BigramCollocationFinder(words, together).score_ngrams(association)
    return np.array(sorted(a * n_words + b for (a, b), score in scored if score >= _ASSOCIATION), dtype=np.int64)
