"""Written forms, sentiments and phrases of profiles, and the files of all profiles."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts, write_texts
from recbole_drex.data.text.tokenizer import TextProcessor
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews
from recbole_drex.explain.profiles.keywords import KeywordProfiles, write_profiles
from recbole_drex.explain.profiles.phrases import merge_phrases
from recbole_drex.explain.profiles.word_scores import count_words, sides


@pytest.fixture(scope="module")
def trained(make_experiment, train):
    experiment = make_experiment("DReX")
    train(experiment)
    return experiment


@pytest.fixture(scope="module")
def profiles(trained):
    return KeywordProfiles(trained)


# Written forms ------------------------------------------------------------------------------------------------------


def test_the_form_that_the_owner_writes_most_often_is_shown(trained, profiles, small):
    texts, processor, reviews = ReviewTexts(small.root / small.name / TEXTS), TextProcessor(), profiles.reviews
    table = profiles.table()
    changed = table[table["word"] != table["lemma"]]
    assert len(changed) > 3
    for row in pd.concat([changed[:20], table[::41]]).itertuples():
        owner = trained.dataset.token2id(f"{row.side}_id", row.id)
        word_forms: Counter[str] = Counter()
        for text in texts[reviews.row[reviews.owner(row.side) == owner]]:
            words = processor(text)
            spans = zip(words.lemmas, words.starts, words.ends, strict=True)
            word_forms.update(words.text[start:end] for lemma, start, end in spans if lemma == row.lemma)
        assert row.word == min(word_forms, key=lambda word_form: (-word_forms[word_form], word_form))


def test_single_look_ups_equal_the_table_and_are_fast(trained, profiles):
    for side in ("user", "item"):
        tokens = trained.dataset.field2id_token[f"{side}_id"][1:20]
        fresh = KeywordProfiles(trained)
        for token in map(str, tokens):
            result = [(k.word, k.lemma, k.score, k.reviews, k.side) for k in fresh.profile(side, token)]
            rows = profiles.table().query("side == @side and id == @token")
            columns = rows[["word", "lemma", "score", "reviews", "sentiment"]]
            assert result == list(columns.itertuples(index=False, name=None)) and len(result) <= 20
        start = time.perf_counter()
        for token in map(str, tokens):
            fresh.profile(side, token)
        assert (time.perf_counter() - start) / len(tokens) < 1e-3


def test_without_texts_lemmas_are_shown(small, make_experiment, tmp_path):
    shutil.copytree(small.root / small.name, tmp_path / small.name)
    (tmp_path / small.name / TEXTS).unlink()
    table = KeywordProfiles(make_experiment("DReX", data_path=str(tmp_path))).table()
    assert len(table) and (table["word"] == table["lemma"]).all()


# Quotes -------------------------------------------------------------------------------------------------------------


def test_keywords_quote_training_reviews_with_the_attention_of_each_word(trained, profiles, small):
    evidence = trained.parts.train_dataset.evidence()
    texts, processor, reviews = ReviewTexts(small.root / small.name / TEXTS), TextProcessor(), profiles.reviews
    dataset, seen = trained.dataset, 0
    rows = dict(zip(zip(evidence.user.tolist(), evidence.item.tolist(), strict=True), evidence.review_row, strict=True))
    weight = {
        (int(reviews.row[k]), index): value
        for k in range(len(reviews))
        for index, value in enumerate(reviews.weight[reviews.bounds[k] : reviews.bounds[k + 1]].tolist())
    }
    for side in ("user", "item"):
        for token in map(str, dataset.field2id_token[f"{side}_id"][1:8]):
            for keyword in profiles.profile(side, token):
                assert 1 <= len(keyword.quotes) <= min(2, keyword.reviews) or keyword.reviews == 0
                for past in keyword.quotes:
                    assert getattr(past, side) == token
                    row = int(rows[dataset.token2id("user_id", past.user), dataset.token2id("item_id", past.item)])
                    words, quote = processor(texts[row][0]), past.quote
                    shown = [quote.text[mark.start : mark.end].lower() for mark in quote.marks]
                    assert shown == processor_words(quote.text, processor)
                    index = words.text.index(quote.text.strip("\u2026").lower())
                    first = sum(start < index for start in words.starts)
                    expected = [weight[row, first + k] for k in range(len(shown))]
                    assert [mark.attention for mark in quote.marks] == pytest.approx(expected, abs=1e-5)
                    assert all(mark.delta is None for mark in quote.marks)
                    assert keyword.lemma in processor(quote.text).lemmas
                    seen += 1
    assert seen > 100


def processor_words(text: str, processor: TextProcessor) -> list[str]:
    words = processor(text)
    return [words.text[start:end] for start, end in zip(words.starts, words.ends, strict=True)]


# Sides --------------------------------------------------------------------------------------------------------------


def reviews_of(rows: list[tuple[int, list[int], float]], words: int = 8) -> AttendedReviews:
    """Reviews by users, each of a different item, with words and a rating."""
    lengths = [len(held) for _, held, _ in rows]
    return AttendedReviews(
        user=np.array([user for user, _, _ in rows]),
        item=np.arange(1, len(rows) + 1),
        row=np.arange(len(rows)),
        rating=np.array([rating for _, _, rating in rows]),
        bounds=np.concatenate([[0], np.cumsum(lengths)]),
        word=np.array([word for _, held, _ in rows for word in held], dtype=np.int64),
        weight=np.concatenate([np.full(n, 1 / n) for n in lengths]),
        vocabulary=[chr(ord("a") + k) for k in range(words)],
    )


def user_sides(rows: list[tuple[int, list[int], float]], opinions: list[float]) -> dict[tuple[int, int], str]:
    reviews = reviews_of(rows)
    counts, _ = count_words(reviews, reviews.word, reviews.weight, len(reviews.vocabulary), np.array(opinions))
    return dict(zip(zip(counts.owner.tolist(), counts.word.tolist(), strict=True), sides(counts).tolist(), strict=True))


def test_sides_follow_what_is_said_and_not_the_ratings():
    rows = [(1, [0, 1], 1.0), (1, [0, 1], 1.0), (1, [0, 0, 2], 1.0), (2, [0], 5.0)]
    result = user_sides(rows, [0.9, -0.9, 0.4, 0.1, -0.5, 0.4, 0.3, -0.2])
    assert result[1, 0] == "praised"  # two of three; the two occurrences in the third sum to blame
    assert result[1, 1] == "neutral"  # one of each
    assert result[1, 2] == "neutral" == result[2, 0]  # one review is not enough
    assert set(user_sides(rows, [0.0] * 8).values()) == {"neutral"}


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.lists(st.integers(0, 7), min_size=1, max_size=5), st.just(3.0)),
        min_size=1,
        max_size=30,
    ).map(lambda rows: sorted(rows, key=lambda row: row[0])),
    st.randoms(use_true_random=False),
)
def test_sides_are_what_most_reviews_say(rows, random):
    sentiments = [random.choice([-1.0, -0.5, 0.0, 0.5, 1.0]) for _, held, _ in rows for _ in held]
    result, index, opinions = user_sides(rows, sentiments), 0, {}
    for user, held, _ in rows:
        sums = Counter()
        for word in held:
            sums[word] += sentiments[index]
            index += 1
        for word in set(held):
            opinions.setdefault((user, word), []).append(sums[word])
    for key, side in result.items():
        praise, blame = (sum(sign * value > 0 for value in opinions[key]) for sign in (1, -1))
        enough = max(2, len(opinions[key]) * 2 / 3)
        assert side == ("praised" if praise >= enough else "criticised" if blame >= enough else "neutral")


# Phrases ------------------------------------------------------------------------------------------------------------


def test_phrases_are_neighbours_that_belong_together(tmp_path):
    texts = ["The battery life is great, screen: poor"] * 6 + ["battery: life; great, screen"] * 3
    texts += ["Life is great. Not great. Screen? Battery"] * 4 + ["poor battery life Battery life"] * 2
    processor = TextProcessor()
    vocabulary = sorted({lemma for text in texts for lemma in processor(text).lemmas})
    lemmas = [processor(text).lemmas for text in texts]
    reviews = AttendedReviews(
        user=np.arange(len(texts)),
        item=np.arange(len(texts)),
        row=np.arange(len(texts)),
        rating=np.full(len(texts), 3.0),
        bounds=np.concatenate([[0], np.cumsum([len(words) for words in lemmas])]),
        word=np.array([vocabulary.index(word) for words in lemmas for word in words]),
        weight=np.concatenate([np.arange(1.0, len(words) + 1) for words in lemmas]),
        vocabulary=vocabulary,
    )
    write_texts(tmp_path / TEXTS, [texts])
    term, weight, names = merge_phrases(reviews, ReviewTexts(tmp_path / TEXTS), processor)
    assert names == [*vocabulary, "battery life"]
    shown = [
        [(names[t] if t >= 0 else None, w) for t, w in zip(term[a:b], weight[a:b], strict=True)]
        for a, b in zip(reviews.bounds, reviews.bounds[1:], strict=False)
    ]
    # "battery" and "life" are the first two kept words, with attention 1 and 2.
    assert shown[0] == [("battery life", 3.0), (None, 2.0), ("great", 3.0), ("screen", 4.0), ("poor", 5.0)]
    assert shown[6][:2] == [("battery", 1.0), ("life", 2.0)]
    assert [name for name, _ in shown[-1]] == ["poor", "battery life", None, "battery life", None]


def test_phrases_by_flag(trained, small, make_experiment, tmp_path, caplog):
    trained.config["profile_phrases"] = True
    try:
        profiles = KeywordProfiles(trained)
        table = profiles.table()
        phrases = table[table["lemma"].str.contains(" ")]
        for row in phrases[::5].itertuples():
            (keyword,) = [one for one in profiles.profile(row.side, row.id) if one.lemma == row.lemma]
            assert keyword.word in keyword.quotes[0].quote.text.lower() and keyword.quotes[0].quote.marks
    finally:
        trained.config["profile_phrases"] = False
    shutil.copytree(small.root / small.name, tmp_path / small.name)
    (tmp_path / small.name / TEXTS).unlink()
    KeywordProfiles(make_experiment("DReX", data_path=str(tmp_path), profile_phrases=True))
    assert "no texts of reviews, so no phrases" in caplog.text


# Files and bad input ------------------------------------------------------------------------------------------------


def test_files_hold_all_profiles(profiles, tmp_path):
    write_profiles(profiles, tmp_path)
    table, document = profiles.table(), json.loads((tmp_path / "profiles.json").read_text(encoding="utf-8"))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "profiles.parquet"), table, check_dtype=False)
    assert document.keys() == {"users", "items"}
    rows = [
        (f"{side[:-1]}", name, rank, *keyword.values())
        for side, owners in document.items()
        for name, keywords in owners.items()
        for rank, keyword in enumerate(keywords, 1)
    ]
    columns = ["side", "id", "rank", "word", "lemma", "score", "reviews", "mean_rating", "sentiment"]
    result = pd.DataFrame(rows, columns=columns)
    pd.testing.assert_frame_equal(result.astype({"mean_rating": float}), table, check_dtype=False)
    assert set(table["sentiment"]) <= {"praised", "criticised", "neutral"}
    assert table["mean_rating"].dropna().between(1, 5).all()


def test_unknown_names_and_scores(trained, profiles, make_config):
    for call in (lambda: profiles.profile("user", "nobody"), lambda: profiles.overlap("nobody", "x")):
        with pytest.raises(DataError, match="unknown user 'nobody'"):
            call()
    with pytest.raises(DataError, match="unknown item"):
        profiles.profile("item", "user_01")
    with pytest.raises(ConfigError, match="'attention_lft'; did you mean 'attention_lift'"):
        make_config("DReX", profile_score="attention_lft")
