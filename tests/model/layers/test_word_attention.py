"""The fast path of the attention over words against the paper's equations taken literally."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.feature_store_writer import quantise
from recbole_drex.model.layers.word_attention import WordAttention, softmax_within


@pytest.fixture(scope="module", params=["contextual", "static"])
def attention(small, request):
    """Of the small data set, whose store is static; or of one that holds a vector of every word, by random noise."""
    torch.manual_seed(3)
    store = FeatureStore.open(small.root / small.name / "features")
    if request.param == "contextual":
        vectors = store.read(np.arange(len(store.word_ids))).numpy()
        vectors = (vectors + np.random.default_rng(0).normal(size=vectors.shape, scale=0.1)).astype(np.float16)
        store = FeatureStore(vectors, store.offsets, store.word_ids, store.vocabulary, {}, "")
    module = WordAttention(store, 16)
    torch.nn.init.normal_(module.scorer.weight, std=0.5)  # far from uniform attention
    return module


def literal(attention: WordAttention, review: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Equations 2 and 3 for one review: project every word, softmax, weighted sum; and the weights."""
    store = attention.store
    words = store.read(np.arange(store.offsets[review], store.offsets[review + 1]))
    z = words @ attention.projection.weight.T + attention.projection.bias
    weights = torch.softmax(z @ attention.scorer.weight[0], dim=0)
    return (weights[:, None] * z).sum(0), weights


def test_features_equal_the_equations(attention):
    reviews = torch.tensor([5, 0, 17, 5, 900, 3])
    fast = attention.projection(attention(reviews))
    slow = torch.stack([literal(attention, row)[0] for row in reviews.tolist()])
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)


def test_gradients_equal_those_of_the_equations(attention):
    reviews = torch.tensor([5, 0, 17, 900, 3, 44, 5])
    target = torch.randn(len(reviews), 16, generator=torch.Generator().manual_seed(0))
    parameters = list(attention.parameters())

    def gradients(features):
        return torch.autograd.grad((features * target).sum(), parameters)

    fast = gradients(attention.projection(attention(reviews)))
    slow = gradients(torch.stack([literal(attention, row)[0] for row in reviews.tolist()]))
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    assert all(gradient.abs().max() > 1e-3 for gradient in slow)


def test_the_bias_moves_no_weight(attention):
    before = attention.read_all(torch.arange(10))[1]
    with torch.no_grad():
        attention.projection.bias += 3.0
        after = attention.read_all(torch.arange(10))[1]
        slow = torch.cat([literal(attention, row)[1] for row in range(10)])
        attention.projection.bias -= 3.0
    torch.testing.assert_close(after, before, atol=0, rtol=0)
    torch.testing.assert_close(after, slow, atol=1e-5, rtol=1e-4)


def test_all_reviews_read_equal_single_ones(attention):
    reviews = torch.randperm(len(attention.store), generator=torch.Generator().manual_seed(1))[:200]
    pooled, weights = attention.read_all(reviews)
    with torch.no_grad():
        torch.testing.assert_close(pooled, attention(reviews), atol=1e-6, rtol=1e-5)
        slow = torch.cat([literal(attention, row)[1] for row in reviews.tolist()])
    torch.testing.assert_close(weights, slow, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("words", [50, 1 << 15])
def test_blocks_change_no_number(attention, monkeypatch, words):
    """In many blocks, some of one long review, or in one."""
    reviews = torch.arange(300)
    vector = attention.scoring_vector().detach().requires_grad_()
    target = torch.randn(len(reviews), attention.width, generator=torch.Generator().manual_seed(0))

    def computed():
        pooled, weights = attention._pooled(vector, reviews)
        return pooled, weights, torch.autograd.grad((pooled * target).sum(), vector)[0]

    expected = computed()
    monkeypatch.setattr("recbole_drex.model.layers.word_attention._BLOCK_WORDS", words)
    for one, other, tolerance in zip(computed(), expected, (1e-6, 1e-6, 1e-4), strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=1e-4)


def test_every_number_is_widened():
    """All float16 that are finite, as words of one number each; and int8 with a scale for each word."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)][:, None]
    store = FeatureStore(halves, np.arange(len(halves) + 1), np.zeros(len(halves), np.int32), ["word"], {}, "")
    attention = WordAttention(store, 1)
    pooled, weights = attention.read_all(torch.arange(len(halves)))
    np.testing.assert_array_equal(pooled.numpy(), halves.astype(np.float32))
    assert (weights == 1).all()
    store.vectors, store.scales = quantise(halves)
    rounded = store.vectors.astype(np.float32) * store.scales[:, None]
    np.testing.assert_array_equal(attention.read_all(torch.arange(len(halves)))[0].numpy(), rounded)


def test_gradients_in_double_precision_and_of_eight_bits(attention):
    vectors, scales = quantise(np.asarray(attention.store.vectors))
    known = attention.store
    store = FeatureStore(vectors, known.offsets, known.word_ids, known.vocabulary, {}, "", scales, known.static)
    exact = WordAttention(store, 16).double()
    reviews = torch.tensor([5, 0, 900])
    vector = exact.scoring_vector().detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: exact._pooled(v, reviews)[0], vector)


def test_threads_change_no_number(attention):
    reviews = torch.randperm(len(attention.store), generator=torch.Generator().manual_seed(1))
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        pooled = attention(reviews)
        results.append(
            (pooled, *attention.read_all(reviews), *torch.autograd.grad(pooled.square().sum(), attention.scorer.weight))
        )
    torch.set_num_threads(before)
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_a_score_that_is_not_finite_is_reported(attention):
    vector = torch.full((attention.width,), torch.nan)
    assert attention._pooled(vector, torch.arange(3))[0].isnan().all()


def test_no_review_is_no_result(attention):
    pooled, weights = attention.read_all(torch.empty(0, dtype=torch.int64))
    assert pooled.shape == (0, attention.width)
    assert weights.shape == (0,)
    assert attention(torch.empty(0, dtype=torch.int64)).shape == (0, attention.width)


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(-80, 80, width=32)), min_size=1, max_size=40),
    st.floats(-1000, 1000, width=32),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_softmax_within_groups(pairs, shift):
    group = torch.tensor([g for g, _ in pairs])
    scores = torch.tensor([s for _, s in pairs], dtype=torch.float64)
    result = softmax_within(scores, group, 6)
    for one in group.unique().tolist():
        torch.testing.assert_close(result[group == one], torch.softmax(scores[group == one], 0))
    torch.testing.assert_close(softmax_within(scores + shift, group, 6), result)
