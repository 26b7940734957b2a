"""Cleans raw reviews and extracts the lemmas of their content words."""

from __future__ import annotations

import hashlib
import html
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from itertools import accumulate

from recbole_drex.errors import ConfigError, DataError, unknown_name

LEMMATIZERS = ("none", "simplemma", "wordnet")
UNSPACED = ("bo", "dz", "ja", "km", "lo", "my", "th", "yue", "zh")
"""Languages that are written without spaces between words. Their words are not segmented here."""
_LONG = 8  # letters; a longer run in such a language is probably a clause rather than a word

# scikit-learn's English stop words include words that negate or scale a judgement ("not good", "too long", "least
# fun"). Dropping them would make praise and blame look alike, so we keep them, without lemmatisation.
JUDGING_WORDS = frozenset(
    ("not", "no", "never", "nor", "cannot", "without", "neither", "none", "nothing", "nobody", "nowhere", "too", "very")
).union(("most", "mostly", "more", "much", "less", "least", "almost", "rather", "well", "enough", "only"))
# The list also includes content words.
CONTENT_WORDS = frozenset(
    ("amount", "bill", "bottom", "cry", "describe", "detail", "empty", "fire", "full", "interest", "mill", "serious")
).union(("sincere", "system", "thick", "thin", "top"))

# Common words that simplemma 2.0's English dictionary lemmatises wrongly ("playing" -> "playe").
_CORRECTIONS = {
    **dict.fromkeys(("crafted", "crafting"), "craft"),
    **dict.fromkeys(("developed", "developing"), "develop"),
    **dict.fromkeys(("fixed", "fixing"), "fix"),
    **dict.fromkeys(("mixed", "mixing"), "mix"),
    **dict.fromkeys(("thanked", "thanking"), "thank"),
    **dict.fromkeys(("unfolded", "unfolding"), "unfold"),
    "gone": "go",
    "growing": "grow",
    "opera": "opera",
    "playing": "play",
    "singing": "sing",
    "swearing": "swear",
    "swinging": "swing",
    "thinking": "think",
    "worse": "bad",
}

# Needs a letter right after "<": "a < b" and "<3" are not tags. The group matches tags that begin a new line.
_TAG = re.compile(r"<[/!]?(?:((?i:br|p|div|li|ul|ol|tr|table|hr|h[1-6]|blockquote)(?=[\s/>]))|[A-Za-z\-])[^<>]*>")
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_NEGATION = re.compile(r"\w+n't|(?:do|does|did|is|was|are|were|ca|could|wo|would|should|has|have|had|ai)nt")
_CLITIC = re.compile(r"'(?:s|re|ve|ll|d|m)$")
_LONGEST_WORD = 64  # longer runs of letters are noise
# Ends of sentences and clauses. NFKC has replaced an ellipsis by "..." and wide characters by ASCII. The list includes
# the full stops of Chinese, Hindi and Urdu, and the Arabic marks. The points of "3.5" and "u.s" and the colons of
# "10:30" and "http://" do not end a sentence.
_ENDS = re.compile(r"[.!?;:\u3002\u0964\u0965\u06d4\u061f\u061b](?<!\.(?=\w))(?<!:(?=\d|//))")
_RULES = 1  # version of the rules for words and ends


@dataclass(frozen=True)
class ReviewWords:
    """One review after cleaning.

    Attributes:
        text: the natural sentence, lower-case, as input of an encoder.
        lemmas: the kept words as lemmas, in order.
        starts: position in ``text`` of each kept word's first character.
        ends: position in ``text`` after each kept word's last character.
        begins: whether a sentence, a clause or a line of the raw text ended between the previous kept word and this
            one; true for the first. Sentences and clauses end with ``. ! ? ; :``, an ellipsis or a full stop of another
            script, but not with a point or colon within a number, an abbreviation or an address ("3.5", "u.s",
            "10:30").
    """

    text: str
    lemmas: list[str]
    starts: list[int]
    ends: list[int]
    begins: list[bool]


def clean(text: str, lower: bool = True) -> str:
    """Convert raw review text to one line of natural language, lower-case unless ``lower`` is false.

    Entities are unescaped (twice, since scraped text is often escaped twice), tags are dropped, Unicode is normalised
    to NFKC, control and other invisible characters are removed and white space is collapsed.

    Example:
        >>> clean("Great&amp;amp; <b>FUN</b><br/>but a < b")
        'great& fun but a < b'
    """
    return " ".join(_plain(text, lower).split())


def _plain(text: str, lower: bool = True) -> str:
    """As :func:`clean`, but with the original white space, and a line break for a tag that begins a line."""
    if "&" in text:
        text = html.unescape(html.unescape(text))
    if "<" in text:
        text = _TAG.sub(_blank, text)
    text = unicodedata.normalize("NFKC", text)
    if lower:
        text = text.lower()
    if not text.isprintable():  # faster than a search; text with such characters is not printable
        text = _CONTROL.sub("", text)
    return text.replace("\u2019", "'")


def _blank(tag: re.Match[str]) -> str:
    return " " if tag[1] is None else "\n"


class TextProcessor:
    """Cleans a review, keeps its content words and lemmatises them.

    A word is kept if it consists of letters (inner apostrophes and hyphens are allowed), has at least two letters (one
    in the languages of :data:`UNSPACED`, whose words must be separated by spaces), and neither the word nor its lemma
    is a stop word. Stop words are those of scikit-learn for English without :data:`JUDGING_WORDS` and
    :data:`CONTENT_WORDS`; other languages have none. A negated verb ("don't", "isn't") is kept as "not".

    Args:
        lemmatizer: ``simplemma`` (includes its data), ``wordnet`` (NLTK's, English) or ``none``.
        language: ISO 639 code of the reviews' language.

    Raises:
        ConfigError: unknown lemmatizer, or a language that it does not support.
        DataError: the WordNet corpus is not installed.

    Example:
        >>> words = TextProcessor()("The plots weren't <i>boring</i>!")
        >>> words.text, words.lemmas
        ("the plots weren't boring !", ['plot', 'not', 'boring'])
        >>> [words.text[start:end] for start, end in zip(words.starts, words.ends)]
        ['plots', "weren't", 'boring']
        >>> TextProcessor()("Great fun. Nice plot").begins
        [True, False, True, False]
    """

    def __init__(self, lemmatizer: str = "simplemma", language: str = "en"):
        self.lemmatizer, self.language = lemmatizer, language
        # We use `re`, since NLTK's RegexpTokenizer changes its engine, and the meaning of \w, between versions, and
        # newer versions raise a TimeoutError when a match is suspended for seconds.
        letters = rf"[^\W\d_]+(?:[{_characters('Mn', 'Mc')}]+[^\W\d_]*)*"  # marks belong to the letter before them
        # Numerals that are not digits match as letters and are removed first; excluding them here is five times slower.
        self._no_numerals = str.maketrans(dict.fromkeys(_characters("No", "Nl"), " "))
        self._words = re.compile(rf"{letters}(?:['\-\u2010\u2011]{letters})*")

        self._keep, self._stop_words = _keeper(lemmatizer, language)

    def __call__(self, text: str) -> ReviewWords:
        """Clean ``text`` and find its kept words; empty text gives no words."""
        text, stops = _sentences(text)
        stop, following = -1, iter(stops)
        keep = self._keep
        lemmas: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        begins: list[bool] = []
        for match in self._words.finditer(text if text.isascii() else text.translate(self._no_numerals)):
            kept = keep(match[0])
            if kept is not None:
                start = match.start()
                lemmas.append(kept[0])
                starts.append(start)
                ends.append(start + kept[1])
                begins.append(stop < start)
                while stop < start:
                    stop = next(following)
        return ReviewWords(text, lemmas, starts, ends, begins)

    @property
    def settings(self) -> dict[str, str]:
        """All settings that determine the words, for a manifest: equal settings give equal words."""
        library = {"simplemma": "simplemma", "wordnet": "nltk"}.get(self.lemmatizer)
        return {
            "lemmatizer": self.lemmatizer,
            "lemmatizer_version": version(library) if library else "",
            "language": self.language,
            "rules": str(_RULES),
            "word_lists": hashlib.sha256(repr((sorted(self._stop_words), _CORRECTIONS)).encode()).hexdigest()[:16],
        }


@lru_cache(maxsize=4)
def _keeper(lemmatizer: str, language: str) -> tuple[Callable[[str], tuple[str, int] | None], frozenset[str]]:
    """Function from a word to its kept lemma, and the stop words. Processors with equal settings share its cache."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    lemmatize = _lemmatizer(lemmatizer, language)
    stop_words = ENGLISH_STOP_WORDS - JUDGING_WORDS - CONTENT_WORDS if language == "en" else frozenset()
    shortest = 1 if language in UNSPACED else 2

    @lru_cache(maxsize=1 << 18)
    def keep(word: str) -> tuple[str, int] | None:
        """Lemma and length of the kept part, or None for a word that is dropped."""
        if _NEGATION.fullmatch(word):
            return "not", len(word)
        word = _CLITIC.sub("", word)
        if word in JUDGING_WORDS:
            return word, len(word)
        if not shortest <= len(word) <= _LONGEST_WORD or word in stop_words:
            return None
        lemma = lemmatize(word)
        return None if lemma in stop_words else (sys.intern(lemma), len(word))

    return keep, stop_words


def known_share(texts: Sequence[str], language: str) -> float | None:
    """Share of the words of ``texts`` that belong to ``language``; None if this cannot be determined.

    These are the words in simplemma's dictionary; in the languages of :data:`UNSPACED`, runs of at most 8 letters and
    marks.

    Example:
        >>> known_share(["Great story"], "en"), known_share(["Una historia hermosa"], "en")
        (1.0, 0.0)
    """
    import simplemma

    text = clean(" ".join(texts))
    words = "".join(char if unicodedata.category(char)[0] in "LM" else " " for char in text).split()
    if not words or not _is_known(language):
        return None
    if language in UNSPACED:
        return sum(len(word) <= _LONG for word in words) / len(words)
    return float(simplemma.in_target_language(text, lang=language))


def _is_known(language: str) -> bool:
    from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES

    return language in SUPPORTED_LANGUAGES or language in UNSPACED


def _sentences(text: str) -> tuple[str, list[int]]:
    """The result of :func:`clean`, and the positions in it where sentences, clauses or lines end, ascending.

    The last position is the end of the text.
    """
    text = _plain(text)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    if len(lines) > 1:
        lines = [line for line in lines if line]
    text = " ".join(lines)
    stops = [match.start() for match in _ENDS.finditer(text)]
    if len(lines) > 1:
        stops += [start - 1 for start in accumulate(len(line) + 1 for line in lines[:-1])]
        stops.sort()
    stops.append(len(text))
    return text, stops


def sentence_ends(review: ReviewWords) -> list[int]:
    """Positions in ``review.text`` after the end of each sentence, clause or line.

    The text has no line breaks; such an end counts as that of the last kept word before it.

    Example:
        >>> sentence_ends(TextProcessor()("Great fun. Nice plot\\nand more"))
        [10, 20]
    """
    ends = {match.end() for match in _ENDS.finditer(review.text)}
    for end, start, begins in zip(review.ends, review.starts[1:], review.begins[1:], strict=False):
        if begins and not any(stop in ends for stop in range(end + 1, start + 1)):
            ends.add(end)
    return sorted(ends)


def _lemmatizer(name: str, language: str) -> Callable[[str], str]:
    if name == "none":
        return lambda word: word
    if name == "simplemma":
        return _simplemma(language)
    if name == "wordnet":
        if language != "en":
            raise ConfigError(unknown_name("language of lemmatizer 'wordnet'", language, ["en"]))
        return _wordnet()
    raise ConfigError(unknown_name("lemmatizer", name, LEMMATIZERS))


def _simplemma(language: str) -> Callable[[str], str]:
    import simplemma
    from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES

    if language in UNSPACED:
        raise ConfigError(
            f"language '{language}' is written without spaces between words, and words are not segmented here: put "
            "spaces between the words of the raw reviews and give --lemmatizer none"
        )
    if language not in SUPPORTED_LANGUAGES:
        raise ConfigError(unknown_name("language", language, SUPPORTED_LANGUAGES))
    corrections = _CORRECTIONS if language == "en" else {}

    def lemmatize(word: str) -> str:
        if word in corrections or "-" in word:  # simplemma lemmatises the parts of a compound: "well-make"
            return corrections.get(word, word)
        lemma = simplemma.lemmatize(word, lang=language).lower()  # names are capitalised
        return lemma if len(lemma) > 1 and "." not in lemma and " " not in lemma else word

    return lemmatize


def _wordnet() -> Callable[[str], str]:
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise DataError(
            "lemmatizer 'wordnet' needs NLTK's WordNet corpus; install it with: python -m nltk.downloader wordnet"
        ) from error
    return lambda word: wordnet.morphy(word) or word


@lru_cache
def _characters(*categories: str) -> str:
    """All characters of these Unicode categories that are not ASCII."""
    return "".join(filter(lambda char: unicodedata.category(char) in categories, map(chr, range(0x80, 0x20000))))
