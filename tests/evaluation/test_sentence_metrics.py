"""Metrics of generated sentences, against figures computed by hand."""

import math

import numpy as np
import pytest

from recbole_drex.evaluation.sentence_metrics import (
    bleu,
    feature_coverage_ratio,
    feature_diversity,
    feature_matching_ratio,
    rouge_l,
    rouge_n,
    unique_sentence_ratio,
)

FEATURES = [{"a", "b"}, {"b"}, {"c"}]


def words(*texts):
    return [text.split() for text in texts]


def test_features_have_the_values_of_the_worked_example():
    assert feature_matching_ratio(FEATURES, ["b", "c", "c"]) == pytest.approx(0.6667, abs=5e-5)
    assert feature_coverage_ratio(FEATURES, 4) == 0.75
    assert feature_diversity(FEATURES) == pytest.approx(0.3333, abs=5e-5)
    assert unique_sentence_ratio(words("a b", "a b", "b a")) == pytest.approx(2 / 3)


def test_diversity_is_the_mean_over_all_pairs():
    rng = np.random.default_rng(1)
    sets = [set(rng.choice(9, rng.integers(0, 5), replace=False).tolist()) for _ in range(40)]
    pairs = [len(sets[i] & sets[j]) for i in range(40) for j in range(i)]
    assert feature_diversity(sets) == pytest.approx(np.mean(pairs))


def test_bleu_is_that_of_the_corpus():
    """Precisions 7/8 of words and 5/6 of pairs of words; neither side is shorter."""
    written = words("the cat sat on mats", "a good film")
    targets = words("the cat sat on it", "a good film")
    assert bleu(written, targets, 1) == pytest.approx(7 / 8)
    assert bleu(written, targets, 2) == pytest.approx(math.sqrt(7 / 8 * 5 / 6))
    assert bleu(words("a b c d"), words("e f g h"), 1) == 0.0
    assert bleu(words("a b c d"), words("a c b d"), 4) == 0.0  # no two words follow each other in both
    assert bleu(words("a b c d"), words("a b c d"), 4) == 1.0
    assert bleu([[], []], words("a b", "c"), 4) == 0.0


def test_rouge_counts_shared_parts():
    rouge = rouge_n(words("the cat the cat", "x"), words("the cat sat", "y z"), 2)
    # "the cat" is shared once, of three and of two pairs of words; the second pair of sentences shares nothing.
    assert rouge == pytest.approx((1 / 6, 1 / 4, 0.2))
    assert rouge_l(words("police kill the gunman"), words("police killed the gunman")).f1 == pytest.approx(0.75)
    assert rouge_l(words("the gunman kill police"), words("police killed the gunman")).f1 == pytest.approx(0.5)
    assert rouge_l([[]], words("a b")) == (0.0, 0.0, 0.0)


def test_what_is_undefined_is_not_a_number():
    assert all(map(math.isnan, (*rouge_n([], [], 1), unique_sentence_ratio([]), feature_diversity([{"a"}]))))
    assert math.isnan(feature_matching_ratio(FEATURES, [None, None, None]))
    assert math.isnan(feature_coverage_ratio(FEATURES, 0))
