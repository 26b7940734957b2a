"""Which words name something that reviews talk about and judge, as "story" does and "superb" or "simply" do not."""

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

_IMPORTANT = 0.5  # least importance
_ONE_SIDED = 0.85  # share of occurrences with one sentiment from which on a word judges and is not judged
_RETURNED_TO = 0.1  # least residual inverse document frequency over users
_NOUN = 0.3  # least share of occurrences that stand as a noun does
_ENGLISH_NOUNS = 0.05  # share of all words below which nothing is known of nouns: another language
_TEXTS, _CHARACTERS = 4000, 4_000_000  # that nouns are looked for in, at most

_TOKEN = re.compile(r"[^\W\d_]+(?:['\-][^\W\d_]+)*|[.,;:!?()\"]")
# Behind these, at once or with one word between, and before the others stands a noun.
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
    """How often each lemma stands as a noun does: behind an article, a possessive or a preposition, perhaps with one
    word between, and before a function word or the end of a clause.

    Example:
        >>> shares = noun_shares(["The slow plot is simply odd", "a plot, simply of its own"], TextProcessor())
        >>> shares["plot"], shares["simply"], shares["slow"]
        (1.0, 0.0, 0.0)
    """
    number: dict[str, int] = {}
    tokens = (token for text in texts for token in ("", "", *_TOKEN.findall(clean(text)), "."))
    code = np.array([number.setdefault(token, len(number)) for token in tokens], dtype=np.int64)
    before, after = (np.array([form in words for form in number], dtype=bool)[code] for words in (_BEFORE, _AFTER))
    stands = after[3:] & (before[1:-2] | (before[:-3] & ~after[1:-2]))
    nouns, total = (
        Counter(dict(zip(number, np.bincount(codes, minlength=len(number)).tolist(), strict=True)))
        for codes in (code[2:-1][stands], code)
    )
    forms = [form for form in total if form]
    words = processor(" ".join(forms))
    counts: dict[str, list[int]] = {}
    for lemma, start, end in zip(words.lemmas, words.starts, words.ends, strict=True):
        form = words.text[start:end]
        count = counts.setdefault(lemma, [0, 0])
        count[0] += total[form]
        count[1] += nouns[form]
    return {lemma: of_noun / number for lemma, (number, of_noun) in counts.items() if number}


def topics(reviews: AttendedReviews, shown: ShownWords, processor: TextProcessor) -> np.ndarray:
    """Whether each lemma of the vocabulary may name an aspect, (words,).

    Such a word may be shown at all, is important to the model, is written by fewer users than chance would have it
    (they return to it), is both praised and blamed, and mostly stands where nouns stand. The last two are told from the
    texts: a word that is nearly always found good, or bad, is itself the judgement. In languages of which no articles
    are known, nouns are not told apart.

    What the reviews of many things judge (:data:`~recbole_drex.data.text.stop_words.SUBJECTS`) may be named whatever
    these
    counts say: critics praise acting nearly always, and most of them write about it.

    Args:
        reviews: what a model with aspects attends to.
        shown: which words may be shown.
        processor: finds lemmas.
    """
    assert reviews.importance is not None and reviews.sentiment is not None
    n, word = len(reviews.vocabulary), reviews.word
    times = np.bincount(word, minlength=n)
    importance = np.bincount(word, reviews.importance, n) / np.maximum(times, 1)
    praised = np.bincount(word, reviews.sentiment > 0, n)
    one_sided = (np.maximum(praised, times - praised) + 1) / (times + 2)
    counts, _ = count_words(reviews, word, reviews.weight, n)
    found = ~shown.hidden & (importance >= _IMPORTANT) & (one_sided <= _ONE_SIDED)
    found &= residual_idf(counts, n) >= _RETURNED_TO
    shares = noun_shares(shown.texts(_TEXTS, _CHARACTERS), processor)
    noun = np.array([shares.get(lemma, 0.0) for lemma in reviews.vocabulary])
    if (noun * times).sum() >= _ENGLISH_NOUNS * times.sum():
        found &= noun >= _NOUN
    return found | subjects(reviews.vocabulary) & ~np.array([word in shown.names.alone for word in reviews.vocabulary])


def subjects(vocabulary: Iterable[str]) -> np.ndarray:
    """Which words of a vocabulary are known to be what reviews judge."""
    return np.array([word in SUBJECTS for word in vocabulary], dtype=bool)
