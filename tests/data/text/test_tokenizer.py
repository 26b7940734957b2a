"""Cleaning, kept words and lemmas."""

from __future__ import annotations

import json
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_drex.data.raw.readers import read_reviews
from recbole_drex.data.text.tokenizer import TextProcessor, clean
from recbole_drex.errors import ConfigError, DataError

PROCESSOR = TextProcessor()


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("A<br/>B<BR >C", "a b c"),
        ("a < b and c > d", "a < b and c > d"),
        ("I <3 it", "i <3 it"),
        ('see <a href="http://x.y/?q=1">this</a><!-- gone -->', "see this"),
        ("rock &amp; roll &amp;amp; jazz &#39;n&#x27; blues", "rock & roll & jazz 'n' blues"),
        ("x &amp;lt;br /&amp;gt; y", "x y"),
        ("\ufb01ne \uff27\uff21\uff2d\uff25 cafe\u0301", "fine game caf\u00e9"),
        ("a\x00b\u200bc\x07 \t\r\n\u2003 d\x85e", "abc d e"),
        ("broken \ud800 half", "broken half"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_clean(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


@pytest.mark.parametrize(
    ("text", "lemmas"),
    [
        ("The stories were told by great actors", ["story", "tell", "great", "actor"]),
        ("I don't, didn\u2019t, can't, won't, isnt", ["not"] * 5),
        ("It's the game's ending; they've we'll I'd", ["game", "ending"]),
        (
            "not good, never too long, very well, the least fun",
            ["not", "good", "never", "too", "long", "very", "well", "least", "fun"],
        ),
        ("a well-made co-op game -- stop--start", ["well-made", "co-op", "game", "stop", "start"]),
        ("O'Brien's 3 games in 2024, x y z, mp3 foo_bar", ["o'brien", "game", "mp", "foo", "bar"]),
        ("playing thinking fixed worse John", ["play", "think", "fix", "bad", "john"]),
        ("\U0001f600\U0001f44d fun \u2764\ufe0f", ["fun"]),
        ("отлично 素晴", ["отлично", "素晴"]),
        ("आनंद हिन्दी", ["आनंद", "हिन्दी"]),
        ("\u00b4A\u0301bc \u0301def", ["ábc", "def"]),
        ("the of a and we did have been", []),
        ("", []),
        ("1234 !!! ...", []),
        ("An \U00010879 ends\U00010879 words", ["end", "word"]),  # a numeral that no normal form spells out
    ],
)
def test_words(text: str, lemmas: list[str]) -> None:
    assert PROCESSOR(text).lemmas == lemmas


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Great fun. Nice plot! Boring music? Bad acting", "great fun | nice plot | boring music | bad acting"),
        ("great plot; bad music: boring, awful - loud", "great plot | bad music | boring awful loud"),
        ("no marks at all only words", "no mark only word"),
        ("great... plot\u2026music..bad", "great | plot | music | bad"),
        ("A fine game. The plot is bad", "fine game | plot bad"),  # as title and text are joined
        ("Great!. Plot", "great | plot"),
        ("one line\nsecond line\r\nthird\u2028fourth\x85fifth", "line | second line | fourth | fifth"),
        ("great fun<br/>nice plot<BR >music<p>bad</p>acting", "great fun | nice plot | music | bad | acting"),
        ("great &lt;br /&gt; plot &amp;amp; music", "great | plot music"),
        ("great <b>fun</b> <brand>nice <pre>plot", "great fun nice plot"),
        ("\n<br>\n great \t plot <br><br> \n", "great plot"),
        ("great 3.5 stars in the u.s market at 10:30 see http://shop.com/x", "great star market http shop com"),
        ("plot 3. music", "plot | music"),
        ('"great plot." (music.) bad', "great plot | music | bad"),
        ("great plot. of the. bad", "great plot | bad"),  # stop words may stand between
        ("the. great plot", "great plot"),
        ("great \U0001f600 plot \u2764\ufe0f music. \U0001f44d bad", "great plot music | bad"),
        ("素晴。物語、音楽\uff01素晴", "素晴 | 物語 音楽 | 素晴"),
        ("", ""),
        ("... !!! <br>", ""),
    ],
)
def test_sentences(text: str, sentences: str) -> None:
    words = PROCESSOR(text)
    result = [
        (" | " if begins and index else " ") + lemma
        for index, (lemma, begins) in enumerate(zip(words.lemmas, words.begins, strict=True))
    ]
    assert "".join(result).strip() == sentences
    assert words.begins[:1] in ([], [True])
    assert words.text == clean(text)


def test_title_ends_a_sentence(tmp_path: Path) -> None:
    review = {"user_id": "u", "parent_asin": "i", "rating": 5, "timestamp": 1, "title": "Nice plot", "text": "Bad fun"}
    (tmp_path / "reviews.jsonl").write_text(json.dumps(review))
    read = read_reviews(tmp_path / "reviews.jsonl", tmp_path / "spill.parquet")
    (text,) = read.texts(np.arange(1))
    words = PROCESSOR(text)
    assert words.lemmas == ["nice", "plot", "bad", "fun"]
    assert words.begins == [True, False, True, False]


def test_contraction_spans_cover_what_was_kept() -> None:
    words = PROCESSOR("The game's plot isn't bad")
    assert [words.text[s:e] for s, e in zip(words.starts, words.ends, strict=True)] == ["game", "plot", "isn't", "bad"]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="ab n't'-<>/&;amp \n\u0301\u2019\u00df", max_size=80))
def test_any_text_gives_ordered_spans(raw: str) -> None:
    words = PROCESSOR(raw)
    assert len(words.lemmas) == len(words.starts) == len(words.ends) == len(words.begins)
    assert all(words.begins[:1]) and words.text == clean(raw)
    before = 0
    for start, end in zip(words.starts, words.ends, strict=True):
        assert before <= start < end <= len(words.text)
        assert words.text[start].isalpha()
        assert all(c.isalpha() or c in "'-\u2010" or unicodedata.category(c)[0] == "M" for c in words.text[start:end])
        before = end
    assert all(lemma == lemma.lower() and len(lemma) >= 2 for lemma in words.lemmas if lemma.isascii())
    assert words.text == " ".join(words.text.split())
    words.text.encode()
    assert words == PROCESSOR(raw)


@pytest.mark.parametrize(
    "raw",
    ["<a " * 35000, "&" * 100_000, "don't " * 17_000, "a" * 100_000, "a-" * 50_000, "ab. " * 25_000, "ab<p>" * 20_000],
)
def test_100_kilobytes_in_no_time(raw: str) -> None:
    start = time.perf_counter()
    PROCESSOR(raw)
    assert time.perf_counter() - start < 2


def test_speed() -> None:
    text = (
        "The stories of this lovely game were told by great actors, and I couldn't stop playing its many levels. " * 5
    )
    PROCESSOR(text)
    start = time.perf_counter()
    for _ in range(500):
        PROCESSOR(text)
    assert 500 * len(text.split()) / (time.perf_counter() - start) > 20_000


def test_lemmatizers() -> None:
    assert TextProcessor("none")("great stories did it").lemmas == ["great", "stories", "did"]
    assert TextProcessor("simplemma", "de")("schöne Geschichten").lemmas == ["schön", "geschichte"]
    with pytest.raises(ConfigError, match=r"unknown lemmatizer 'simplema'; did you mean 'simplemma'\?.*wordnet"):
        TextProcessor("simplema")
    with pytest.raises(ConfigError, match="unknown language 'xx'"):
        TextProcessor("simplemma", "xx")
    with pytest.raises(ConfigError, match="Legal values: en"):
        TextProcessor("wordnet", "de")


def test_wordnet_works_or_the_error_names_its_installation() -> None:
    try:
        processor = TextProcessor("wordnet")
    except DataError as error:
        assert "python -m nltk.downloader wordnet" in str(error)
    else:
        assert processor("great stories").lemmas == ["great", "story"]


def test_settings_are_json_and_tell_processors_apart() -> None:
    settings = PROCESSOR.settings
    assert json.loads(json.dumps(settings)) == settings == TextProcessor().settings
    assert settings["lemmatizer_version"]
    assert TextProcessor("none").settings != settings != TextProcessor("simplemma", "de").settings
