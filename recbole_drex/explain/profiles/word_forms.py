"""The written forms of words: "battles" for the lemma "battle", where that is what an owner writes most often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from recbole_drex.data.text.tokenizer import TextProcessor, clean

_Form = tuple[str, str]  # lemma and written form, in lower case

# Of these, no word has one inside.
_BETWEEN = str.maketrans(dict.fromkeys((c for c in map(chr, range(128)) if not c.isalpha() and c not in "'-"), " "))


class WrittenForms:
    """Finds the written forms of some lemmas in texts.

    Texts are cut into pieces where no word can be, and each distinct piece is taken apart only once. That is many times
    faster than taking every review apart.

    Args:
        processor: as the features were made with.
        lemmas: the only ones that are looked for; phrases are looked for word by word.

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
        self._forms: dict[str, list[_Form]] = {}  # of pieces that hold such a lemma
        self._known: set[str] = set()

    def of(self, text: str) -> Iterator[tuple[str, str, int]]:
        """Lemma, written form and number of times of the looked-for words in a review as it was written."""
        pieces = Counter(clean(text).translate(_BETWEEN).split())
        new = pieces.keys() - self._known
        if new:
            self._known |= new
            self._learn(" ".join(new))
        for piece in pieces.keys() & self._forms.keys():
            for lemma, form in self._forms[piece]:
                yield lemma, form, pieces[piece]

    def _learn(self, pieces: str) -> None:
        words = self._processor(pieces)
        for lemma, start, end in zip(words.lemmas, words.starts, words.ends, strict=True):
            if lemma in self._lemmas:
                first, last = words.text.rfind(" ", 0, start) + 1, words.text.find(" ", end)
                piece = words.text[first : last if last >= 0 else None]
                self._forms.setdefault(piece, []).append((lemma, words.text[start:end]))


class FormCounts:
    """Counts how often an owner writes each form of some lemmas.

    Args:
        lemmas: words and phrases of the owner's profile.
    """

    def __init__(self, lemmas: Sequence[str]):
        self.lemmas = lemmas
        self._forms: dict[str, Counter[str]] = {part: Counter() for lemma in lemmas for part in lemma.split(" ")}

    def add(self, forms: Iterable[tuple[str, str, int]]) -> None:
        """Count what :meth:`WrittenForms.of` found in one of the owner's reviews; other lemmas are passed over."""
        for lemma, form, times in forms:
            if lemma in self._forms:
                self._forms[lemma][form] += times

    def chosen(self) -> list[str]:
        """The most common form of each lemma; of equally common ones the first by name, and the lemma itself where none
        was found. A phrase is made of the forms of its two words."""
        best = {
            lemma: min(forms, key=lambda form: (-forms[form], form), default=lemma)
            for lemma, forms in self._forms.items()
        }
        return [" ".join(best[part] for part in lemma.split(" ")) for lemma in self.lemmas]
