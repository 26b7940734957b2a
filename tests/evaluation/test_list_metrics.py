"""Metrics of recommended lists, against values computed by hand, RecBole's metrics and literal loops."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_drex.evaluation.collector import best_items
from recbole_drex.evaluation.list_metrics import LIST_METRICS, list_metrics
from recbole_drex.evaluation.protocol import tie_keys
from recbole_drex.recbole import register

# Items 1 to 5 with 4, 2, 1, 1 and 0 of 4 training users.
TRAIN = {1: [1, 2, 3], 2: [1, 2], 3: [1], 4: [1, 4]}
LISTS = {1: [4, 5], 2: [3, 4], 3: [2, 4]}


def columns(train):
    return np.array([(user, item) for user, items in train.items() for item in items]).T


def computed(lists=LISTS, train=TRAIN, n_items=5, topk=(1, 2)):
    return list_metrics(np.array(list(lists)), np.array(list(lists.values())), *columns(train), n_items, topk)


def test_values_by_hand():
    values = computed()
    assert set(values) == {
        *(f"{name}@{k}" for name in LIST_METRICS for k in (1, 2) if (name, k) != ("diversity", 1)),
        "historypopularity",
    }
    # First places: 4, 3, 2. First two places: 4 three times, 2, 3 and 5 once each.
    assert values["itemcoverage@1"] == 3 / 5 and values["itemcoverage@2"] == 4 / 5
    # Counts 0, 0, 1, 1, 1 and 0, 1, 1, 1, 3, with weights -4, -2, 0, 2, 4.
    assert values["giniindex@1"] == pytest.approx((0 + 2 + 4) / (5 * 3))
    assert values["giniindex@2"] == pytest.approx((-2 + 0 + 2 + 12) / (5 * 6))
    assert values["averagepopularity@1"] == pytest.approx((1 + 1 + 2) / 3)
    assert values["averagepopularity@2"] == pytest.approx((0.5 + 1 + 1.5) / 3)
    # Users 1, 2 and 3 have items of 4, 2, 1; 4, 2; and 4 users.
    assert values["historypopularity"] == pytest.approx((7 / 3 + 3 + 4) / 3)
    # Of 4 users: items of one user have 2 bits, of two 1 bit, and those of none count as of one.
    assert values["novelty@1"] == pytest.approx((2 + 2 + 1) / 3)
    assert values["novelty@2"] == pytest.approx((2 + 2 + 1.5) / 3)
    # Item 4 has user 4 only, who has neither 5, 3 nor 2.
    assert values["diversity@2"] == 1.0
    # Items 1 and 2 share two users: cosine 2 / sqrt(8). Items 2 and 3 share one: 1 / sqrt(2). Items 1 and 3: 1 / 2.
    cosines = (2 / math.sqrt(8), 1 / 2, 1 / math.sqrt(2))
    values = computed({9: [1, 2, 3]}, topk=(2, 3))
    assert values["diversity@2"] == pytest.approx(1 - cosines[0])
    assert values["diversity@3"] == pytest.approx(1 - sum(cosines) / 3)
    assert math.isnan(values["historypopularity"]), "user 9 has no training interaction"


def test_short_and_empty_lists():
    values = computed({1: [4, 0], 2: [0, 0], 3: [1, 2]})
    assert values["averagepopularity@2"] == pytest.approx((1 + 3) / 2)
    assert values["novelty@2"] == pytest.approx((2 + 0.5) / 2)
    assert values["itemcoverage@2"] == 3 / 5
    assert values["diversity@2"] == pytest.approx(1 - 2 / math.sqrt(8)), "only the last list has two items"
    nothing = computed({1: [0, 0]})
    assert nothing["itemcoverage@2"] == 0
    assert all(math.isnan(nothing[f"{name}@2"]) for name in LIST_METRICS[1:])


def test_equal_interactions_count_once():
    assert computed(train={**TRAIN, 3: [1, 1, 1]}) == computed()


@pytest.fixture
def random_lists():
    rng = np.random.default_rng(3)
    train = {user: rng.choice(np.arange(1, 41), rng.integers(1, 12), replace=False) for user in range(1, 31)}
    lists = {user: rng.choice(np.arange(1, 41), 10, replace=False) for user in range(1, 26)}
    return lists, train


def test_recboles_metrics_are_the_same_but_for_the_padding(random_lists):
    """RecBole counts the padding as an item."""
    lists, train = random_lists
    items = torch.tensor(np.array(list(lists.values())))
    data = {"rec.items": items, "data.num_items": 40, "data.count_items": Counter(columns(train)[1].tolist())}
    config = {"topk": [1, 5, 10], "metric_decimal_place": 12}
    values = computed(lists, train, 40, (1, 5, 10))
    for metric in ("itemcoverage", "giniindex", "averagepopularity"):
        for name, value in register.metrics_dict[metric](config).calculate_metric(data).items():
            assert values[name] == pytest.approx(value), name


def test_diversity_is_that_of_a_loop_in_blocks_of_any_size(random_lists, monkeypatch):
    lists, train = random_lists
    fans = {item: {user for user, items in train.items() if item in items} for item in range(1, 41)}

    def distance(one, other):
        if not fans[one] or not fans[other]:
            return 1.0
        return 1 - len(fans[one] & fans[other]) / math.sqrt(len(fans[one]) * len(fans[other]))

    expected = np.mean([np.mean([distance(*pair) for pair in itertools.combinations(of, 2)]) for of in lists.values()])
    for cells in (1, 100, 1 << 22):
        monkeypatch.setattr("recbole_drex.evaluation.list_metrics._CELLS", cells)
        assert computed(lists, train, 40, (10,))["diversity@10"] == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.randoms(use_true_random=False))
def test_lists_are_ordered_by_score_then_by_tie_key(users, k, random):
    items = 7
    scores = [[random.choice([-math.inf, 0.0, 1.0, 2.0]) for _ in range(items)] for _ in range(users)]
    keys = tie_keys([f"i{n}" for n in range(items)])
    result = best_items(torch.tensor(scores), torch.from_numpy(keys), k)
    for row, of in zip(result.tolist(), scores, strict=True):
        candidates = [item for item in range(items) if of[item] > -math.inf]
        expected = sorted(candidates, key=lambda item, of=of: (-of[item], keys[item]))[:k]
        assert row == expected + [0] * (k - len(expected))


def test_every_result_over_the_full_catalogue_has_them(comparison):
    for run in comparison.runs:
        full = run.result["test"]["full"]
        for name in LIST_METRICS:
            assert full[f"{name}@10"] is not None, name
        assert 0 < full["itemcoverage@20"] <= 1 and 0 <= full["giniindex@10"] < 1 and 0 <= full["diversity@10"] <= 1
        assert full["historypopularity"] > 0
        assert "itemcoverage@10" not in run.result["test"]["own_test"]


def test_the_first_of_a_list_has_rank_one(make_experiment, train):
    """Lists and ranks follow from the same scores: a test item is in the list exactly if its rank is within it."""
    trainer = train(make_experiment("ItemMean"))
    collector, lists = trainer.eval_collector, {}
    collected = collector.get_data_struct

    def kept():
        data = collected()
        if "drex.lists" in data:
            lists.update({row[0]: row[1:] for row in data.get("drex.lists").tolist()})
        return data

    collector.get_data_struct = kept
    full = trainer.evaluate_part(trainer.parts.test).full.astype(int)
    assert set(lists) == set(full[:, 0].tolist())
    for user, item, _, rank, _ in full.tolist():
        listed = lists[user]
        assert listed[rank - 1] == item if rank <= len(listed) else item not in listed
