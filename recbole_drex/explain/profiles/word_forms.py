"""The written forms of words, for example "battles" for the lemma "battle" if an owner mostly writes it so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from recbole_drex.data.text.tokenizer import TextProcessor, clean

_Form = tuple[str, str]  # lemma and written form, in lower case

# Characters that no word contains.
_BETWEEN = str.maketrans(dict.fromkeys((c for c in map(chr, range(128)) if not c.isalpha() and c not in "'-"), " "))


class WrittenForms:
    """Finds the written forms of some lemmas in texts.

    Texts are split at characters that no word contains, and each distinct piece is tokenised only once. This is much
    faster than tokenising every review.

    Args:
        processor: the processor with which the features were made.
        lemmas: the lemmas to find; the words of phrases are found separately.

    Example:
        >>> forms = WrittenForms(TextProcessor(), ["battle", "save", "battery life", "film"])
        >>> texts = ["Battles! Long battles;", "no battle", "a well-known battle-cry, won't save battery life"]
        >>> counts = FormCounts(["battle", "save", "battery life", "film"])
        >>> for text in texts:
        ...     counts.add(forms.of(text))
        >>> counts.chosen()
        ['battles', 'save', 'battery life', 'film']
    """

    def __init__(self, processor: TextProcessor, lemmas: Iterable[str]):
        self._processor = processor
        self._lemmas = {part for lemma in lemmas for part in lemma.split(" ")}
        self._word_forms: dict[str, list[_Form]] = {}  # by piece
        self._seen: set[str] = set()

    def of(self, text: str) -> Iterator[tuple[str, str, int]]:
        """Lemma, written form and number of occurrences of the given lemmas in an original review."""
        pieces = Counter(clean(text).translate(_BETWEEN).split())
        new = pieces.keys() - self._seen
        if new:
            self._seen |= new
            self._learn(" ".join(new))
        for piece in pieces.keys() & self._word_forms.keys():
            for lemma, word_form in self._word_forms[piece]:
                yield lemma, word_form, pieces[piece]

    def _learn(self, pieces: str) -> None:
        words = self._processor(pieces)
        for lemma, start, end in zip(words.lemmas, words.starts, words.ends, strict=True):
            if lemma in self._lemmas:
                first, last = words.text.rfind(" ", 0, start) + 1, words.text.find(" ", end)
                piece = words.text[first : last if last >= 0 else None]
                self._word_forms.setdefault(piece, []).append((lemma, words.text[start:end]))


class FormCounts:
    """Counts how often an owner writes each form of some lemmas.

    Args:
        lemmas: words and phrases of the owner's profile.
    """

    def __init__(self, lemmas: Sequence[str]):
        self.lemmas = lemmas
        self._word_forms: dict[str, Counter[str]] = {part: Counter() for lemma in lemmas for part in lemma.split(" ")}

    def add(self, word_forms: Iterable[tuple[str, str, int]]) -> None:
        """Count the results of :meth:`WrittenForms.of` for one of the owner's reviews; other lemmas are ignored."""
        for lemma, word_form, times in word_forms:
            if lemma in self._word_forms:
                self._word_forms[lemma][word_form] += times

    def chosen(self) -> list[str]:
        """The most common form of each lemma; ties are broken by name, and a lemma without any form is returned itself.
        Phrases are composed of the forms of their two words."""
        best = {
            lemma: min(word_forms, key=lambda word_form: (-word_forms[word_form], word_form), default=lemma)
            for lemma, word_forms in self._word_forms.items()
        }
        return [" ".join(best[part] for part in lemma.split(" ")) for lemma in self.lemmas]
