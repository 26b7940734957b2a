"""Selects the words that explanations may name, and their written forms.

Two kinds of words are hidden, both detected from the data. A word that most users write is not specific to any of them.
A first name alone is ambiguous: "john" may be a different person in every review.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from recbole_drex.data.text.review_texts import ReviewTexts
from recbole_drex.data.text.tokenizer import TextProcessor, clean
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews
from recbole_drex.explain.profiles.word_forms import FormCounts, WrittenForms

_MOST_USERS = 0.5  # a word written by more than this share of users is hidden
_FEW_USERS = 5  # minimum number of users who write a hidden word
_SAMPLE, _BLOCK = 10_000, 2048  # reviews that are searched for names, and batch size
_FORMS = 2_000  # reviews that are searched for written forms
# A word is shown as a full name if this share of its occurrences is part of it; the second value is for last names.
_TOGETHER, _LAST_TOGETHER = 0.6, 0.4
_LONGEST = 4  # maximum number of words of a full name
_CAPITALISED = 0.25  # above this share of capitalised words, capitals do not mark names (German, headlines)

_CAPITALS = "".join(filter(str.isupper, map(chr, range(0x600))))
_NAME = re.compile(rf"[{_CAPITALS}][^\W\d_]+(?:['\-][^\W\d_]+)*")


class Names:
    """Proper names, detected by capitals within sentences.

    Args:
        texts: original reviews.
        times: number of occurrences of each lemma in these texts.
        processor: finds lemmas.

    Attributes:
        alone: lemmas that are names without a known full name, mostly first names.
        whole: for each lemma of a name, the full name to which it mostly belongs.

    Example:
        >>> texts = ["I saw John Malkovich, and John Boyega", "so was John Malkovich here", "the plots of John Sayles"]
        >>> times = {"john": 4, "malkovich": 2, "boyega": 1, "sayles": 1, "plot": 1, "film": 30}
        >>> names = Names(texts, times, TextProcessor())
        >>> sorted(names.alone), names.whole
        (['boyega', 'john', 'sayles'], {'malkovich': 'John Malkovich'})
    """

    def __init__(self, texts: Iterable[str], times: Mapping[str, int], processor: TextProcessor):
        name_counts: Counter[str] = Counter()
        within_sentence: Counter[str] = Counter()
        sequences: Counter[tuple[str, ...]] = Counter()  # adjacent names
        for text in texts:
            line, end = clean(text, lower=False), -2
            sequence: list[str] = []
            for match in _NAME.finditer(line):
                name, start = match[0], match.start()
                name_counts[name] += 1
                # Only after another word or a comma: the first word of a sentence is always capitalised.
                inside = start > 1 and line[start - 1] == " " and (line[start - 2].isalpha() or line[start - 2] in ",;")
                if start != end + 1 or not inside or line[start - 2] in ",;":
                    sequences[tuple(sequence)] += 1
                    sequence = []
                if inside:
                    within_sentence[name] += 1
                    sequence.append(name)
                end = match.end()
            sequences[tuple(sequence)] += 1
        lemma = _lemmas(name_counts.keys(), processor)
        capitalised, all_counts = (_by_lemma(counts, lemma) for counts in (within_sentence, name_counts))
        lower_case = {one: max(times.get(one, 0) - number, 0) for one, number in all_counts.items()}
        capitals_mark_names = capitalised.total() <= _CAPITALISED * max(sum(times.values()), 1)
        names = {one for one, number in capitalised.items() if capitals_mark_names and number > lower_case[one]}
        self.whole = _whole_names(names, capitalised, sequences, lemma)
        self.alone = frozenset(names - self.whole.keys())


def _lemmas(word_forms: Iterable[str], processor: TextProcessor) -> dict[str, str]:
    """Lemma of each written form that is a single known word and not in capitals only."""
    lower: dict[str, list[str]] = defaultdict(list)
    for word_form in word_forms:
        if not word_form.isupper():
            lower[word_form.lower()].append(word_form)
    words = processor(" ".join(lower))
    result = {}
    for lemma, start, end in zip(words.lemmas, words.starts, words.ends, strict=True):
        first, last = words.text.rfind(" ", 0, start) + 1, words.text.find(" ", end)
        for word_form in lower.get(words.text[first : last if last >= 0 else None], ()):
            result[word_form] = lemma
    return result


def _by_lemma(counts: Counter[str], lemma: Mapping[str, str]) -> Counter[str]:
    total: Counter[str] = Counter()
    for word_form, number in counts.items():
        if word_form in lemma:
            total[lemma[word_form]] += number
    return total


def _whole_names(
    names: set[str], times: Counter[str], sequences: Counter[tuple[str, ...]], lemma: Mapping[str, str]
) -> dict[str, str]:
    parts: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for sequence, number in sequences.items():
        if 2 <= len(sequence) <= _LONGEST and all(word_form in lemma for word_form in sequence):
            for word_form in {lemma[word_form] for word_form in sequence} & names:
                parts[word_form][sequence] += number
    whole: dict[str, str] = {}
    for one in sorted(parts):
        sequence, number = min(parts[one].items(), key=lambda entry: (-entry[1], entry[0]))
        last = lemma[sequence[-1]]
        # One word per name is enough: the last name, if it belongs to this full name.
        known_by_last = last in parts and parts[last][sequence] > _LAST_TOGETHER * times[last]
        share = _LAST_TOGETHER if one == last else _TOGETHER
        if number >= 2 and number > share * times[one] and (one == last or not known_by_last):
            whole[one] = " ".join(sequence)
    return whole


class ShownWords:
    """Selects the lemmas of a vocabulary that may be shown, and their written forms.

    Args:
        reviews: reviews that the model reads.
        texts: the original reviews; without them no names are detected.
        processor: finds lemmas.
        lemmas: lemmas whose common written forms are computed.

    Attributes:
        hidden: whether each lemma of the vocabulary must not be shown, (words,).
    """

    def __init__(
        self,
        reviews: AttendedReviews,
        texts: ReviewTexts | None,
        processor: TextProcessor,
        lemmas: Iterable[str] = (),
    ):
        self._texts, self._rows = texts, np.unique(reviews.row)
        chosen, vocabulary = self._sample(_SAMPLE), reviews.vocabulary
        held = np.isin(reviews.row, chosen)[reviews.of_words()]
        times = np.bincount(reviews.word[held], minlength=len(vocabulary)).tolist()
        self.names = Names(self._read(chosen), dict(zip(vocabulary, times, strict=True)), processor)
        self.hidden = written_by_most(reviews) | np.array([word in self.names.alone for word in vocabulary], dtype=bool)
        self._hidden = {vocabulary[index] for index in np.flatnonzero(self.hidden).tolist()}
        self._word_forms = self._common_word_forms(sorted(lemmas), processor)

    def hides(self, lemma: str) -> bool:
        """Whether a lemma, or every word of a phrase, must not be shown."""
        return all(part in self._hidden for part in lemma.split(" "))

    def written(self, lemma: str, word_form: str | None = None) -> str:
        """The displayed form of a lemma: its full name, else ``word_form``, else its common written form."""
        return self.names.whole.get(lemma) or word_form or self._word_forms.get(lemma, lemma)

    def texts(self, most: int, characters: int) -> Iterator[str]:
        """Some original reviews, spread evenly over all of them.

        Args:
            most: maximum number of reviews.
            characters: approximate maximum of their total length.
        """
        for text in self._read(self._sample(most)):
            if characters <= 0:
                return
            characters -= len(text)
            yield text

    def _common_word_forms(self, lemmas: list[str], processor: TextProcessor) -> dict[str, str]:
        word_forms, counts = WrittenForms(processor, lemmas), FormCounts(lemmas)
        for text in self._read(self._sample(_FORMS)) if lemmas else ():
            counts.add(word_forms.of(text))
        return dict(zip(lemmas, counts.chosen(), strict=True))

    def _sample(self, most: int) -> np.ndarray:
        """Rows of reviews, spread evenly over all of them."""
        n = len(self._rows) if self._texts is not None else 0
        return self._rows[np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))]

    def _read(self, rows: np.ndarray) -> Iterator[str]:
        for start in range(0, len(rows), _BLOCK):
            assert self._texts is not None
            yield from self._texts[rows[start : start + _BLOCK]]


def written_by_most(reviews: AttendedReviews) -> np.ndarray:
    """Whether more than half of the users with reviews, and at least five, write each word of the vocabulary."""
    n = len(reviews.vocabulary)
    pairs = np.unique(reviews.user[reviews.of_words()] * n + reviews.word)
    users = np.bincount(pairs % n, minlength=n) if n else np.zeros(0)
    return (users > _MOST_USERS * len(np.unique(reviews.user))) & (users >= _FEW_USERS)
