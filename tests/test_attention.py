"""The fast path of the attention over words against the paper's equations taken literally."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from recbole_drex.data.store import FeatureStore
from recbole_drex.model.attention import WordAttention, softmax_within


@pytest.fixture(scope="module")
def attention(small):
    torch.manual_seed(3)
    module = WordAttention(FeatureStore.open(small.root / small.name / "features"), 16)
    torch.nn.init.normal_(module.scorer.weight, std=0.5)  # far from uniform attention
    return module


def literal(attention: WordAttention, review: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Equations 2 and 3 for one review: project every word, softmax, weighted sum; and the weights."""
    store = attention.store
    words = torch.from_numpy(store.vectors[store.offsets[review] : store.offsets[review + 1]].astype(np.float32))
    z = words @ attention.projection.weight.T + attention.projection.bias
    weights = torch.softmax(z @ attention.scorer.weight[0], dim=0)
    return (weights[:, None] * z).sum(0), weights


@pytest.fixture(autouse=True, params=[50, 1 << 11])
def _many_blocks_or_one(request, monkeypatch):
    """Words of a block: many blocks, some of one long review; or all in one."""
    monkeypatch.setattr("recbole_drex.model.attention._BLOCK_WORDS", request.param)


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
