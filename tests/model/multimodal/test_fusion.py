"""Progressive weight copying: its schedule against the published numbers, its weights against numpy."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from recbole_drex.model.multimodal.fusion import SCHEDULES, WeightCopying, learned_share

PUBLISHED = [0.890, 0.868, 0.827, 0.758, 0.649, 0.496, 0.320, 0.169, 0.073, 0.027]  # epochs 1-10, both 0.9


def step_by_step(epochs: int, decay_weight: float, decay_base: float) -> float:
    """The official rule as a loop over epochs."""
    first, second = decay_weight, 1 - decay_weight
    for epoch in range(1, epochs + 1):
        first *= decay_base**epoch
        first, second = first / (first + second), second / (first + second)
    return first


def test_official_schedule_is_the_published_one():
    assert [round(learned_share("official", epoch, 0.9, 0.9), 3) for epoch in range(1, 11)] == PUBLISHED


@hypothesis.given(st.integers(0, 30), st.floats(0.01, 0.99), st.floats(0.5, 1.0))
def test_official_schedule_is_the_rule_repeated(epoch, decay_weight, decay_base):
    share = learned_share("official", epoch, decay_weight, decay_base)
    assert share == pytest.approx(step_by_step(epoch, decay_weight, decay_base), rel=1e-9)


def test_other_schedules_and_the_ends_of_their_ranges():
    assert [learned_share("power", epoch, 0.9, 0.5) for epoch in (0, 1, 2)] == pytest.approx([1.0, 0.9, 0.81])
    assert [learned_share("none", epoch, 0.9, 0.9) for epoch in (0, 1, 100)] == [1.0, 1.0, 1.0]
    assert learned_share("official", 5, 1.0, 0.9) == 1.0  # nothing to copy from
    assert learned_share("official", 5, 0.0, 0.9) == 0.0
    assert learned_share("official", 0, 1.0, 0.0) == 1.0 and learned_share("official", 1, 1.0, 0.0) == 0.0
    assert learned_share("official", 10_000, 0.9, 0.9) == 0.0


def literal_weights(module: WeightCopying, blocks: np.ndarray, theta: np.ndarray, share: float) -> np.ndarray:
    """softmax(w1 f + w2 theta), scorer by scorer and user by user."""
    result = np.zeros(blocks.shape[:2])
    for user in range(len(blocks)):
        scores = []
        for block, scorer in enumerate(module.scorers):
            first, _, second = scorer
            hidden = first.weight.detach().numpy() @ blocks[user, block] + first.bias.detach().numpy()
            hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
            scores.append((second.weight.detach().numpy() @ hidden + second.bias.detach().numpy())[0])
        logits = share * np.array(scores) + (1 - share) * theta[user]
        result[user] = np.exp(logits) / np.exp(logits).sum()
    return result


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weights_over_three_epochs(schedule):
    torch.manual_seed(2)
    module = WeightCopying(6, 3, 8, schedule, decay_weight=0.8, decay_base=0.7)
    assert module.scorers[0][0].weight.shape == (2, 8)  # d / 4
    theta = np.full((6, 3), 1 / 3)
    blocks = torch.zeros(6, 3, 8)
    for epoch in range(3):
        before = blocks
        if epoch > 0:  # what the blocks give now, with the shares of the epoch that has ended
            theta = literal_weights(module, before.numpy(), theta, learned_share(schedule, epoch, 0.8, 0.7))
        module.before_epoch(epoch, before)
        share = learned_share(schedule, epoch + 1, 0.8, 0.7)
        assert module.w1.item() == pytest.approx(share) and module.w2.item() == pytest.approx(1 - share)
        np.testing.assert_allclose(module.theta, theta, atol=1e-6)
        blocks = 3 * torch.randn(6, 3, 8)
        weights = module(blocks).detach()
        np.testing.assert_allclose(weights, literal_weights(module, blocks.numpy(), theta, share), atol=1e-6)
        np.testing.assert_allclose(weights.sum(1), np.ones(6), atol=1e-6)


def test_what_was_copied_is_saved_and_has_no_gradient():
    module = WeightCopying(4, 2, 8, "official", 0.9, 0.9)
    assert {"theta", "w1", "w2"} <= set(module.state_dict())
    assert not {"theta", "w1", "w2"} & {name for name, _ in module.named_parameters()}
    for epoch in range(3):
        module.before_epoch(epoch, torch.randn(4, 2, 8))
    other = WeightCopying(4, 2, 8, "official", 0.9, 0.9)
    other.load_state_dict(module.state_dict())
    blocks = torch.randn(4, 2, 8)
    assert torch.equal(other(blocks), module(blocks))


def test_late_weights_are_equal_ones():
    """Probabilities stand where logits do, so each copy is flatter than what it is copied from."""
    module = WeightCopying(3, 3, 8, "official", 0.9, 0.9)
    blocks = 5 * torch.randn(3, 3, 8)
    module.before_epoch(0, blocks)
    assert module(blocks).std() > 0.05
    for epoch in range(1, 40):
        module.before_epoch(epoch, blocks)
    np.testing.assert_allclose(module(blocks).detach(), np.full((3, 3), 1 / 3), atol=1e-6)
