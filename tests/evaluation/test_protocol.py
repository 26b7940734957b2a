"""The named conventions, their errors, and the tie order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_drex.errors import ConfigError
from recbole_drex.evaluation.protocol import Protocol, tie_keys


@given(st.sets(st.text(max_size=4), min_size=2, max_size=20), st.randoms(use_true_random=False))
def test_tie_keys_depend_on_names_only(names, random):
    names = sorted(names)
    key = dict(zip(names, tie_keys(names), strict=True))
    assert sorted(key.values()) == list(range(len(names)))
    random.shuffle(names)
    assert dict(zip(names, tie_keys(names), strict=True)) == key
    part = names[: len(names) // 2 + 1]
    assert sorted(part, key=dict(zip(part, tie_keys(part), strict=True)).get) == sorted(part, key=key.get)


def test_tie_keys_do_not_follow_the_order_of_the_data():
    key = tie_keys([f"i{n}" for n in range(2000)])
    assert abs(np.corrcoef(key, np.arange(2000))[0, 1]) < 0.08


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"gain": "exponental"}, "did you mean 'exponential'. Legal values: binary, exponential, linear"),
        ({"candidates": "all"}, "Legal values: full, own_test, sampled"),
        ({"ideal": ["full"]}, "unknown value of 'ideal'"),
        ({"empty_user": True}, "Legal values: error, skip, zero"),
        ({"relevance_threshold": "four"}, "'relevance_threshold' must be a number"),
        ({"relevance_threshold": float("nan")}, "'relevance_threshold' must be a number"),
        ({"topk": [0, 5]}, "'topk' must be whole numbers"),
        ({"topk": []}, "'topk' must be whole numbers"),
        ({"topk": [2.5]}, "'topk' must be whole numbers"),
    ],
)
def test_an_illegal_convention_lists_the_legal_ones(config, message):
    with pytest.raises(ConfigError, match=message):
        Protocol.from_config(config)


def test_the_protocol_comes_from_a_config_and_goes_back():
    protocol = Protocol.from_config({"gain": "linear", "topk": [10, 5, 5], "relevance_threshold": 3, "ideal": None})
    assert protocol == Protocol(gain="linear", topk=(5, 10), threshold=3.0)
    assert Protocol(**protocol.as_dict()) == protocol
    assert Protocol.from_config({"topk": 7}).topk == (7,)
    assert "gain=linear" in protocol.describe()


@pytest.mark.parametrize(("model", "remedy"), [("BiasedMF", "rmse"), ("BPR", "full_ndcg@10")])
def test_a_metric_that_no_order_changes_selects_nothing(model, remedy, make_experiment, train):
    """With one validation item per user, NDCG over own items is 1 whatever the order."""
    split = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "RO", "mode": "full"}
    experiment = make_experiment(model, eval_args=split, valid_metric="ndcg@5", epochs=2)
    with pytest.raises(ConfigError, match=rf"'ndcg@5' cannot select.* for no user; use valid_metric: {remedy}$"):
        train(experiment)
