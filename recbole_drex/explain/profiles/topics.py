"""Selects words that name what reviews judge, such as "story", but not "superb" or "simply"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from recbole_drex.data.text.stop_words import SUBJECTS
from recbole_drex.data.text.tokenizer import TextProcessor, clean
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews
from recbole_drex.explain.profiles.vocabulary import ShownWords
from recbole_drex.explain.profiles.word_scores import count_words, residual_idf

_IMPORTANT = 0.5  # minimum importance
_ONE_SIDED = 0.85  # maximum share of occurrences with the same sentiment; above it a word is a judgement
_RETURNED_TO = 0.1  # minimum residual inverse document frequency over users
_NOUN = 0.3  # minimum share of occurrences in noun position
_ENGLISH_NOUNS = 0.05  # share of nouns among all words; below it the language is not English, and nouns are unknown
_TEXTS, _CHARACTERS = 4000, 4_000_000  # maximum sample in which nouns are counted

_TOKEN = re.compile(r"[^\W\d_]+(?:['\-][^\W\d_]+)*|[.,;:!?()\"]")
# A noun follows these words, directly or after one other word, and precedes the words of _AFTER.
_BEFORE = frozenset(
    ("the", "a", "an", "this", "that", "these", "those", "its", "his", "her", "their", "my", "your", "our", "no", "any")
).union(("some", "every", "each", "of", "in", "with", "for", "about", "by", "such", "what", "and", "or", "as"))
_AFTER = frozenset(
    ("is", "was", "are", "were", "be", "been", "has", "had", "have", "does", "did", "can", "could", "will", "would")
).union(
    ("in", "of", "on", "at", "to", "for", "from", "with", "by", "as", "and", "or", "but", "that", "which", "who"),
    ("while", "when", "where", "because", "so", "here", "itself", "seems", "became", *'.,;:!?()"'),
)


def noun_shares(texts: Iterable[str], processor: TextProcessor) -> dict[str, float]:
    """Share of each lemma's occurrences in noun position: after an article, a possessive or a preposition, possibly
    with one word in between, and before a function word or the end of a clause.

    Example:
        >>> shares = noun_shares(["The slow plot is simply odd", "a plot, simply of its kind"], TextProcessor())
        >>> shares["plot"], shares["simply"], shares["slow"]
        (1.0, 0.0, 0.0)
    """
    number: dict[str, int] = {}
    tokens = (token for text in texts for token in ("", "", *_TOKEN.findall(clean(text)), "."))
    code = np.array([number.setdefault(token, len(number)) for token in tokens], dtype=np.int64)
    before, after = (
        np.array([word_form in words for word_form in number], dtype=bool)[code] for words in (_BEFORE, _AFTER)
    )
    is_noun = after[3:] & (before[1:-2] | (before[:-3] & ~after[1:-2]))
    nouns, total = (
        Counter(dict(zip(number, np.bincount(codes, minlength=len(number)).tolist(), strict=True)))
        for codes in (code[2:-1][is_noun], code)
    )
    word_forms = [word_form for word_form in total if word_form]
    words = processor(" ".join(word_forms))
    counts: dict[str, list[int]] = {}
    for lemma, start, end in zip(words.lemmas, words.starts, words.ends, strict=True):
        word_form = words.text[start:end]
        count = counts.setdefault(lemma, [0, 0])
        count[0] += total[word_form]
        count[1] += nouns[word_form]
    return {lemma: of_noun / number for lemma, (number, of_noun) in counts.items() if number}


def topics(reviews: AttendedReviews, shown: ShownWords, processor: TextProcessor) -> np.ndarray:
    """Whether each lemma of the vocabulary may name an aspect, (words,).

    Such a word may be shown, is important to the model, is used repeatedly by fewer users than expected by chance, is
    both praised and blamed, and mostly occurs in noun position. A word with nearly always the same sentiment is itself
    a judgement. Nouns are recognised in English only; in other languages this condition is dropped.

    Common subjects of reviews (:data:`~recbole_drex.data.text.stop_words.SUBJECTS`) may be named regardless of these
    conditions. For example, most reviewers of films write about acting and praise it.

    Args:
        reviews: reviews that a model with aspects attends to.
        shown: words that may be shown.
        processor: finds lemmas.
    """
    assert reviews.importance is not None and reviews.sentiment is not None
    n, word = len(reviews.vocabulary), reviews.word
    times = np.bincount(word, minlength=n)
    importance = np.bincount(word, reviews.importance, n) / np.maximum(times, 1)
    praised = np.bincount(word, reviews.sentiment > 0, n)
    one_sided = (np.maximum(praised, times - praised) + 1) / (times + 2)
    counts, _ = count_words(reviews, word, reviews.weight, n)
    may_name = ~shown.hidden & (importance >= _IMPORTANT) & (one_sided <= _ONE_SIDED)
    may_name &= residual_idf(counts, n) >= _RETURNED_TO
    shares = noun_shares(shown.texts(_TEXTS, _CHARACTERS), processor)
    noun = np.array([shares.get(lemma, 0.0) for lemma in reviews.vocabulary])
    if (noun * times).sum() >= _ENGLISH_NOUNS * times.sum():
        may_name &= noun >= _NOUN
    return may_name | subjects(reviews.vocabulary) & ~np.array(
        [word in shown.names.alone for word in reviews.vocabulary]
    )


def subjects(vocabulary: Iterable[str]) -> np.ndarray:
    """Whether each word of a vocabulary is a known subject of reviews."""
    return np.array([word in SUBJECTS for word in vocabulary], dtype=bool)
