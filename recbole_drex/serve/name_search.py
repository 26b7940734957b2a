"""Search for users and items by a part of their name or title."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def fold(text: str) -> str:
    """Normalise ``text`` for comparison: case-insensitive, without accents, with single blanks.

    Example:
        >>> fold("  Am\u00e9lie\\n(2001)")
        'amelie (2001)'
    """
    letters = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).split())


class NameIndex:
    """A searchable list of names.

    Args:
        names: names of users or items.
        titles: title of each, empty without a title.
        counts: number of ratings of each; equally good matches are sorted by it, descending.

    Example:
        >>> names = NameIndex(["b1", "b2", "b3"], ["The Red Planet", "Red", "Sacred Stones"], [5, 1, 9])
        >>> names.search("red", 2)
        ([1, 0], 3)
    """

    def __init__(self, names: Sequence[str], titles: Sequence[str], counts: Sequence[int]):
        self._folded = [(fold(name), fold(title)) for name, title in zip(names, titles, strict=True)]
        self._order = [(-count, title or name) for count, (name, title) in zip(counts, self._folded, strict=True)]
        self._best = sorted(range(len(names)), key=self._order.__getitem__)

    def search(self, query: str, limit: int) -> tuple[list[int], int]:
        """Indices of the best matches, and the number of all matches.

        All words of the query must occur. Exact matches come first, then names and titles that begin with the query,
        then those in which all words of the query begin a word, then the rest. An empty query matches everything.
        """
        wanted = fold(query)
        if not wanted:
            return self._best[:limit], len(self._best)
        words, matches = wanted.split(), []
        for index, texts in enumerate(self._folded):
            text = "\n".join(texts)
            if all(word in text for word in words):
                if wanted in texts:
                    grade = 0
                elif any(one.startswith(wanted) for one in texts):
                    grade = 1
                else:
                    grade = 2 if all(f" {word}" in f" {text}".replace("\n", " ") for word in words) else 3
                matches.append((grade, self._order[index], index))
        matches.sort()
        return [index for _, _, index in matches[:limit]], len(matches)
