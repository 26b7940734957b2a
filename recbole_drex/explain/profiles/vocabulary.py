"""Which words an explanation may name, and how they are written.

A word that most users write tells nothing about one of them. A first name alone tells nothing either: "john" in one
review is another person than "john" in the next. Both are found in the data themselves.
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

_MOST_USERS = 0.5  # share of users from which on a word is everybody's
_FEW_USERS = 5  # that many must write it
_SAMPLE, _BLOCK = 10_000, 2048  # reviews that are read for names, and that are read at once
_FORMS = 2_000  # reviews that are read for written forms
# Shares of a word's occurrences that stand in the same whole name, which is shown then; of its last word less will do.
_TOGETHER, _LAST_TOGETHER = 0.6, 0.4
_LONGEST = 4  # words of a whole name
_CAPITALISED = 0.25  # share of capitals among all words from which on they mark no names (German nouns, headlines)

_CAPITALS = "".join(filter(str.isupper, map(chr, range(0x600))))
_NAME = re.compile(rf"[{_CAPITALS}][^\W\d_]+(?:['\-][^\W\d_]+)*")


class Names:
    """Proper names, found by their capitals within sentences.

    Args:
        texts: reviews as they were written.
        times: how often each lemma stands in them.
        processor: finds lemmas.

    Attributes:
        alone: lemmas that are names, of which no whole name is known: first names, mostly.
        whole: lemma of a name to the whole name that it mostly is a part of.

    Example:
        >>> texts = ["I saw John Malkovich, and John Boyega", "so was John Malkovich here", "the plots of John Sayles"]
        >>> times = {"john": 4, "malkovich": 2, "boyega": 1, "sayles": 1, "plot": 1, "film": 30}
        >>> names = Names(texts, times, TextProcessor())
        >>> sorted(names.alone), names.whole
        (['boyega', 'john', 'sayles'], {'malkovich': 'John Malkovich'})
    """

    def __init__(self, texts: Iterable[str], times: Mapping[str, int], processor: TextProcessor):
        anywhere: Counter[str] = Counter()
        within: Counter[str] = Counter()
        runs: Counter[tuple[str, ...]] = Counter()  # of names that follow one another
        for text in texts:
            line, end = clean(text, lower=False), -2
            run: list[str] = []
            for match in _NAME.finditer(line):
                name, start = match[0], match.start()
                anywhere[name] += 1
                # Behind another word or a comma; of a sentence's first word a capital says nothing.
                inside = start > 1 and line[start - 1] == " " and (line[start - 2].isalpha() or line[start - 2] in ",;")
                if start != end + 1 or not inside or line[start - 2] in ",;":
                    runs[tuple(run)] += 1
                    run = []
                if inside:
                    within[name] += 1
                    run.append(name)
                end = match.end()
            runs[tuple(run)] += 1
        lemma = _lemmas(anywhere.keys(), processor)
        capital, everywhere = (_by_lemma(counts, lemma) for counts in (within, anywhere))
        small = {one: max(times.get(one, 0) - number, 0) for one, number in everywhere.items()}
        marked = capital.total() <= _CAPITALISED * max(sum(times.values()), 1)
        found = {one for one, number in capital.items() if marked and number > small[one]}
        self.whole = _whole_names(found, capital, runs, lemma)
        self.alone = frozenset(found - self.whole.keys())


def _lemmas(forms: Iterable[str], processor: TextProcessor) -> dict[str, str]:
    """Lemma of each written form but those in capitals only; none of forms that are no single kept word."""
    lower: dict[str, list[str]] = defaultdict(list)
    for form in forms:
        if not form.isupper():
            lower[form.lower()].append(form)
    words = processor(" ".join(lower))
    found = {}
    for lemma, start, end in zip(words.lemmas, words.starts, words.ends, strict=True):
        first, last = words.text.rfind(" ", 0, start) + 1, words.text.find(" ", end)
        for form in lower.get(words.text[first : last if last >= 0 else None], ()):
            found[form] = lemma
    return found


def _by_lemma(counts: Counter[str], lemma: Mapping[str, str]) -> Counter[str]:
    total: Counter[str] = Counter()
    for form, number in counts.items():
        if form in lemma:
            total[lemma[form]] += number
    return total


def _whole_names(
    found: set[str], times: Counter[str], runs: Counter[tuple[str, ...]], lemma: Mapping[str, str]
) -> dict[str, str]:
    parts: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for run, number in runs.items():
        if 2 <= len(run) <= _LONGEST and all(form in lemma for form in run):
            for form in {lemma[form] for form in run} & found:
                parts[form][run] += number
    whole: dict[str, str] = {}
    for one in sorted(parts):
        run, number = min(parts[one].items(), key=lambda entry: (-entry[1], entry[0]))
        last = lemma[run[-1]]
        # One word of a name is enough: the last, by which people are known, if it belongs to this name.
        known_by_last = last in parts and parts[last][run] > _LAST_TOGETHER * times[last]
        share = _LAST_TOGETHER if one == last else _TOGETHER
        if number >= 2 and number > share * times[one] and (one == last or not known_by_last):
            whole[one] = " ".join(run)
    return whole


class ShownWords:
    """Which lemmas of a vocabulary may be named, and how.

    Args:
        reviews: what the model reads.
        texts: the reviews as they were written; without them there are no names.
        processor: finds lemmas.
        lemmas: those whose common written forms are wanted.

    Attributes:
        hidden: whether each lemma of the vocabulary must not be named, (words,).
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
        self._hidden = {vocabulary[place] for place in np.flatnonzero(self.hidden).tolist()}
        self._forms = self._common_forms(sorted(lemmas), processor)

    def hides(self, lemma: str) -> bool:
        """Whether a lemma, or every word of a phrase, must not be named."""
        return all(part in self._hidden for part in lemma.split(" "))

    def written(self, lemma: str, form: str | None = None) -> str:
        """A lemma as it is shown: as the whole name that it belongs to, else as ``form``, else in its common form."""
        return self.names.whole.get(lemma) or form or self._forms.get(lemma, lemma)

    def texts(self, most: int, characters: int) -> Iterator[str]:
        """Some reviews as they were written, spread evenly over all of them.

        Args:
            most: number of reviews.
            characters: of all of them together, or little more.
        """
        for text in self._read(self._sample(most)):
            if characters <= 0:
                return
            characters -= len(text)
            yield text

    def _common_forms(self, lemmas: list[str], processor: TextProcessor) -> dict[str, str]:
        forms, counts = WrittenForms(processor, lemmas), FormCounts(lemmas)
        for text in self._read(self._sample(_FORMS)) if lemmas else ():
            counts.add(forms.of(text))
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
    """Whether more than half of the users with reviews, and five or more, write each word of the vocabulary."""
    n = len(reviews.vocabulary)
    pairs = np.unique(reviews.user[reviews.of_words()] * n + reviews.word)
    users = np.bincount(pairs % n, minlength=n) if n else np.zeros(0)
    return (users > _MOST_USERS * len(np.unique(reviews.user))) & (users >= _FEW_USERS)
