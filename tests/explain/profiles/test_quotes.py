"""Quotes come from the training review with the highest attention to the word, and are short and cut at words."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts, write_texts
from recbole_drex.data.text.tokenizer import TextProcessor, clean
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation_text import render
from recbole_drex.explain.profiles.excerpts import LONGEST, excerpt
from recbole_drex.explain.verbalize import reasons_of


@pytest.fixture(scope="module")
def marked(small, tmp_path_factory) -> Path:
    """``small`` with the review's row after every word of every text: ``great [17] fun [17]``."""
    root = tmp_path_factory.mktemp("marked")
    shutil.copytree(small.root / small.name, root / small.name)
    texts = ReviewTexts(small.root / small.name / TEXTS)
    rows = enumerate(texts[range(len(texts))])
    write_texts(root / small.name / TEXTS, [[re.sub(r"(\s|$)", f" [{row}] ", text) for row, text in rows]])
    return root


@pytest.fixture(scope="module")
def trained(make_experiment, train, marked):
    experiment = make_experiment("DReX", data_path=str(marked))
    train(experiment)
    return experiment


@pytest.fixture(scope="module")
def explanations(trained):
    return Explainer(trained).explain_users(40, top=4)


def _evidence(experiment) -> dict[int, tuple[str, str]]:
    """User and item of every training review, by row, read from the parts of the split."""
    dataset = experiment.dataset
    result = {}
    for feat in (experiment.parts.train_dataset.inter_feat, dataset.unrated):
        for user, item, row in zip(feat["user_id"], feat["item_id"], feat["review_row"].long().tolist(), strict=True):
            if row >= 0:
                result[row] = (str(dataset.id2token("user_id", user)), str(dataset.id2token("item_id", item)))
    return result


def test_quotes_come_from_training_reviews_of_the_user_and_of_others_about_the_item(trained, explanations):
    evidence = _evidence(trained)
    held_out = {
        row
        for loaders in (trained.parts.valid, trained.parts.test)
        for row in loaders.rows._dataset.inter_feat["review_row"].long().tolist()
        if row >= 0
    }
    assert len(held_out) > 100 and not held_out & evidence.keys()
    quotes = 0
    for explanation in explanations:
        for item in explanation.recommendations:
            for keyword in item.keywords:
                for quote, of_user in ((keyword.user_quote, True), (keyword.item_quote, False)):
                    (row,) = {int(number) for number in re.findall(r"\[(\d+)\]", quote.text)}
                    user, about = evidence[row]
                    assert (user == explanation.user) == of_user
                    assert of_user or about == item.item
                    quotes += 1
    assert quotes > 100


def _heaviest(experiment, word: str, rows: list[int]) -> int:
    """The row of the review with the highest single weight of ``word``, from a softmax over each review's words."""
    attention = experiment.model.attention
    store, vector = attention.store, attention.scoring_vector().detach().numpy()
    best, result = -np.inf, -1
    for row in rows:
        words = slice(store.offsets[row], store.offsets[row + 1])
        score = store.read(np.arange(words.start, words.stop)).numpy() @ vector
        weight = np.exp(score - score.max()) / np.exp(score - score.max()).sum()
        there = [w for w, index in zip(weight, store.word_ids[words], strict=True) if store.vocabulary[index] == word]
        if there and max(there) > best:
            best, result = max(there), row
    return result


def test_the_review_with_the_highest_attention_weight_is_quoted_around_the_word(trained, explanations):
    evidence, lemmas = _evidence(trained), TextProcessor()
    for explanation in explanations[:8]:
        for item in explanation.recommendations:
            for keyword in item.keywords:
                mine = [row for row, (user, _) in evidence.items() if user == explanation.user]
                its = [row for row, pair in evidence.items() if pair[1] == item.item and pair[0] != explanation.user]
                for quote, rows in ((keyword.user_quote, mine), (keyword.item_quote, its)):
                    assert f"[{_heaviest(trained, keyword.lemma, rows)}]" in quote.text
                    assert keyword.lemma in lemmas(quote.text).lemmas and len(quote.text) <= LONGEST


def test_a_quote_is_an_excerpt_of_the_review_as_it_was_written(small, make_experiment):
    texts = ReviewTexts(small.root / small.name / TEXTS)
    cleaned = {clean(text, lower=False) for text in texts[range(len(texts))]}
    explainer = Explainer(make_experiment("DReX"))
    for explanation in explainer.explain_users(5):
        for item in explanation.recommendations:
            for keyword in item.keywords:
                for quote in (keyword.user_quote, keyword.item_quote):
                    assert any(quote.text.strip("\u2026") in text for text in cleaned)
                for part in item.parts:
                    for past in (claim.quote for claim in (part.user, part.item) if claim and claim.quote):
                        assert any(past.quote.text.strip("\u2026") in text for text in cleaned)
                        assert past.quote.marks and all(mark.sentiment is not None for mark in past.quote.marks)
                for part in itertools.chain(*reasons_of(item)):
                    for claim in (part.user, part.item):
                        assert claim is None or f'"{claim.quote.quote.text}"' in render(explanation, width=10_000)


def test_a_known_item_is_not_explained_by_the_users_own_review(trained):
    explainer, evidence = Explainer(trained), _evidence(trained)
    quoted = 0
    for user, item in list(evidence.values())[:300]:
        for keyword in explainer.keywords.overlap(user, item):
            if keyword.item_quote:
                (row,) = set(re.findall(r"\[(\d+)\]", keyword.item_quote.text))
                assert evidence[int(row)][0] != user
                quoted += 1
    assert quoted > 50


def test_without_texts_or_with_shuffled_reviews_there_are_no_quotes(small, make_experiment, tmp_path):
    shutil.copytree(small.root / small.name, tmp_path / small.name)
    (tmp_path / small.name / TEXTS).unlink()
    for parameters in ({"data_path": str(tmp_path)}, {"shuffle_reviews": True}):
        explanations = Explainer(make_experiment("DReX", **parameters)).explain_users(20)
        keywords = [k for explanation in explanations for item in explanation.recommendations for k in item.keywords]
        assert keywords and all(keyword.user_quote is keyword.item_quote is None for keyword in keywords)
        assert not any('"' in render(explanation, width=10_000) for explanation in explanations)


def test_texts_that_are_not_those_of_the_features_are_not_quoted(small, make_experiment, tmp_path):
    shutil.copytree(small.root / small.name, tmp_path / small.name)
    texts = ReviewTexts(tmp_path / small.name / TEXTS)
    write_texts(tmp_path / small.name / TEXTS, [["nothing like it"] * len(texts)])
    (explanation,) = Explainer(make_experiment("DReX", data_path=str(tmp_path))).explain_users(1)
    assert all(keyword.user_quote is None for item in explanation.recommendations for keyword in item.keywords)


def test_users_are_spread_from_most_reviews_to_fewest(trained):
    explainer, counts = Explainer(trained), {}
    for user, _ in _evidence(trained).values():
        counts[user] = counts.get(user, 0) + 1
    chosen = [explanation.user for explanation in explainer.explain_users(5, top=1)]
    numbers = [counts[user] for user in chosen]
    assert numbers == sorted(numbers, reverse=True) and len(set(chosen)) == 5
    assert numbers[0] == max(counts.values()) and numbers[-1] == min(counts.values())
    middle = sorted(counts.values())[len(counts) // 2]
    assert abs(numbers[2] - middle) <= 2
    assert chosen == [explanation.user for explanation in explainer.explain_users(5, top=1)]
    everyone = [explanation.user for explanation in explainer.explain_users(1000, top=1)]
    assert len(everyone) == len(set(everyone)) == len(counts)
    assert explainer.explain_users(0) == [] and explainer.explain_users(1, top=1)[0].user == chosen[0]


@given(
    st.lists(st.text("abcdefgh'-.", min_size=1, max_size=30), min_size=1, max_size=80),
    st.integers(0, 79),
    st.integers(34, 200),
)
def test_an_excerpt_holds_the_word_and_is_cut_between_words(words, index, longest):
    index %= len(words)
    text, start = " ".join(words), sum(len(word) + 1 for word in words[:index])
    cut = excerpt(text, start, start + len(words[index]), longest)
    assert len(cut) <= longest
    kept = cut.strip("\u2026").split(" ")
    assert words[index] in kept
    assert any(words[first : first + len(kept)] == kept for first in range(index + 1))
    assert (cut == text) == (len(text) <= longest)


def test_an_excerpt_of_a_text_without_blanks_still_holds_the_word():
    text = "x" * 300 + "plot" + "y" * 300
    cut = excerpt(text, 300, 304)
    assert "plot" in cut and len(cut) == LONGEST and cut[0] == cut[-1] == "\u2026"
