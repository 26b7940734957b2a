"""The sentence of a review that is chosen by its keywords."""

import numpy as np
import pytest

from recbole_drex.data.text.tokenizer import TextProcessor
from recbole_drex.model.generative.keyword_sentences import KeywordSentences
from recbole_drex.model.pesi.sentence_data import split_sentences

TEXTS = [
    "a good film. the plots are thin here",
    "the plot was thin. so it continues",
    "what a plot it had. the music played on",
    "the music is great. a good film",
    "music from the start. nothing else to say",
    "the music again. a good film",
]
USERS = np.array([1, 1, 1, 2, 2, 2])


@pytest.fixture
def keywords():
    return KeywordSentences([split_sentences(text) for text in TEXTS], USERS, TextProcessor(), 6)


def test_scores_are_the_residual_idf_of_lemmas(keywords):
    """ "plot" and "plots" are one lemma of three reviews by user 1; "music" is in four reviews, by both users."""
    expected = 2 * (1 - (1 - 3 / 6) ** 3)  # users that would have "plot" by chance, of whom there is one
    assert keywords.score == {"plot": pytest.approx(np.log(expected / 1))}
    assert keywords.features == {"plot"}


def test_the_sentence_with_the_highest_score_is_chosen(keywords):
    assert keywords.choose(split_sentences(TEXTS[0])) == (["the", "plots", "are", "thin", "here"], True)
    assert keywords.feature(["the", "plots", "are", "thin"]) == "plot"
    # Without a keyword, or where no sentence with one fits, as PESI chooses.
    assert keywords.choose(split_sentences(TEXTS[5])) == (["the", "music", "again"], True)
    assert keywords.choose([["plot", "one", "two", "three", "four", "five", "six"]])[1] is False
    assert keywords.choose([]) == ([], False)
    assert keywords.feature(["unheard", "of"]) is None


def test_no_reviews():
    empty = KeywordSentences([], np.zeros(0, dtype=np.int64), TextProcessor(), 15)
    assert empty.score == {} and empty.features == set() and empty.choose([["a", "good", "film"]])[1]
