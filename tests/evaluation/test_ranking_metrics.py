"""Ranking metrics against scikit-learn, torchmetrics and a literal loop over users, and by their properties."""

import itertools
import math
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from torchmetrics.functional.retrieval import retrieval_precision, retrieval_recall

from recbole_drex.errors import DataError
from recbole_drex.evaluation.protocol import LEGAL, Protocol, tie_keys
from recbole_drex.evaluation.ranking_metrics import (
    order_matters,
    own_test_metrics,
    own_test_ranks,
    ranking_metrics,
    ranking_per_user,
)
from recbole_drex.evaluation.reference_rows import oracle_scores, reference_rows

GRID = [
    {"relevance": relevance, "gain": gain, "ideal": ideal, "empty_user": empty}
    for relevance, gain, ideal, empty in itertools.product(
        LEGAL["relevance"], LEGAL["gain"], LEGAL["ideal"], ("skip", "zero")
    )
]


def sample(seed=0, users=40, longest=12, catalogue=0):
    """Half-star test rows of users with 1 to ``longest`` items each; with ``catalogue``, ranks in a longer list."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, longest + 1, users)
    user = np.repeat(generator.permutation(users), sizes)
    rating = generator.integers(1, 11, len(user)) / 2
    rating[np.isin(user, generator.choice(users, users // 5))] = 2.0
    if catalogue:
        rank = np.concatenate([generator.permutation(catalogue)[:size] + 1 for size in sizes])
    else:
        rank = np.concatenate([generator.permutation(size) + 1 for size in sizes])
    mean = (generator.integers(2, 11, users) / 2)[user]  # often equal to a rating, which must then not count
    order = generator.permutation(len(user))
    return user[order], rank[order], rating[order], mean[order]


def literal(user, rank, rating, mean, protocol):
    """The definitions, one user and one item at a time."""
    rows = {}
    for one in sorted(set(user)):
        items = [(r, x, m) for u, r, x, m in zip(user, rank, rating, mean, strict=True) if u == one]

        def is_relevant(x, m):
            return x > m if protocol.relevance == "above_user_mean" else x >= protocol.threshold

        def gain(x, m):
            if protocol.gain == "binary":
                return float(is_relevant(x, m))
            rel = x if protocol.relevance == "graded" else float(is_relevant(x, m))
            return 2**rel - 1 if protocol.gain == "exponential" else rel

        gains = sorted((gain(x, m) for _, x, m in items), reverse=True)
        n_relevant = sum(is_relevant(x, m) for _, x, m in items)
        empty = math.nan if protocol.empty_user == "skip" else 0.0
        row = {}
        for k in protocol.topk:
            dcg = sum(gain(x, m) / math.log2(r + 1) for r, x, m in items if r <= k)
            best = gains[:k] if protocol.ideal == "truncated" else gains
            idcg = sum(g / math.log2(i + 2) for i, g in enumerate(best))
            row[f"ndcg@{k}"] = dcg / idcg if idcg > 0 else empty
            hits = sum(is_relevant(x, m) for r, x, m in items if r <= k)
            p, r = hits / k, hits / n_relevant if n_relevant else empty
            row[f"precision@{k}"] = p if n_relevant else empty
            row[f"recall@{k}"] = r
            row[f"f1@{k}"] = (2 * p * r / (p + r) if hits else 0.0) if n_relevant else empty
        rows[one] = row
    return pd.DataFrame.from_dict(rows, orient="index")


@pytest.mark.parametrize("catalogue", [0, 50])
@pytest.mark.parametrize("conventions", GRID, ids=lambda c: "-".join(c.values()))
def test_agrees_with_a_literal_loop_under_every_convention(conventions, catalogue):
    protocol = Protocol(**conventions)
    rows = sample(catalogue=catalogue)
    expected = literal(*rows, protocol)
    result = ranking_per_user(*rows[:3], protocol, rows[3])
    pd.testing.assert_frame_equal(result[expected.columns], expected, check_names=False, atol=1e-12, rtol=0)
    means = ranking_metrics(*rows[:3], protocol, rows[3])
    assert {name: means[name] for name in expected} == pytest.approx(expected.mean().to_dict())
    assert means["users"] == 40
    assert 0 < means["users_without_relevant"] < 40


@pytest.mark.parametrize("size", [2, 3, 7, 25])
@pytest.mark.parametrize("gain", ["linear", "exponential"])
def test_ndcg_agrees_with_scikit_learn(size, gain):
    generator = np.random.default_rng(size)
    rating = generator.integers(1, 11, (30, size)) / 2
    score = generator.permuted(np.tile(np.arange(size), (30, 1)), axis=1).astype(float)
    protocol = Protocol(gain=gain, topk=(1, 2, 3, 5, 10, 20, 40))
    user = np.repeat(np.arange(30), size)
    rank, tied = own_test_ranks(user, score.ravel(), np.tile(np.arange(size), 30))
    assert not tied.any()
    result = ranking_metrics(user, rank, rating.ravel(), protocol)
    truth = rating if gain == "linear" else 2**rating - 1
    for k in protocol.topk:
        assert result[f"ndcg@{k}"] == pytest.approx(ndcg_score(truth, score, k=k), abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10, 20])
def test_precision_and_recall_agree_with_torchmetrics(k):
    generator = np.random.default_rng(k)
    user = np.sort(np.concatenate([np.arange(50), generator.integers(0, 50, 400)]))
    rating = generator.integers(1, 11, len(user)) / 2
    score = generator.permutation(len(user)) / len(user)
    rank, _ = own_test_ranks(user, score, np.arange(len(user)))
    result = ranking_per_user(user, rank, rating, Protocol(topk=(k,), empty_user="zero"))
    for one in range(50):
        mine = user == one
        pair = torch.tensor(score[mine]), torch.tensor(rating[mine] >= 4)
        assert result.loc[one, f"precision@{k}"] == pytest.approx(float(retrieval_precision(*pair, top_k=k)), abs=1e-6)
        assert result.loc[one, f"recall@{k}"] == pytest.approx(float(retrieval_recall(*pair, top_k=k)), abs=1e-6)


rows = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(np.arange(1, 11) / 2), st.sampled_from([0.25, 1.0, 2.5, 3.75, 4.0])),
    min_size=1,
    max_size=40,
)
protocols = st.builds(
    Protocol,
    relevance=st.sampled_from(["graded", "threshold"]),
    gain=st.sampled_from(LEGAL["gain"]),
    ideal=st.sampled_from(LEGAL["ideal"]),
    empty_user=st.sampled_from(["skip", "zero"]),
    threshold=st.sampled_from([0.0, 3.5, 4.0, 9.0]),
    topk=st.lists(st.integers(1, 30), min_size=1, max_size=4).map(tuple),
)


def columns(values):
    user, rating, score = map(np.array, zip(*values, strict=True))
    return user, rating, score, tie_keys([f"item {n}" for n in range(len(user))])


@settings(deadline=None)
@given(rows, protocols, st.randoms(use_true_random=False))
def test_properties_of_any_ranking(values, protocol, random):
    user, rating, score, key = columns(values)
    result = own_test_metrics(user, score, key, rating, protocol)
    metrics = {name: value for name, value in result.items() if "@" in name and not math.isnan(value)}
    assert all(-1e-12 <= value <= 1 + 1e-12 for value in metrics.values())
    for k in protocol.topk:
        if f"f1@{k}" in metrics:
            assert metrics[f"f1@{k}"] <= max(metrics[f"precision@{k}"], metrics[f"recall@{k}"]) + 1e-12
    recalls = [metrics.get(f"recall@{k}", 0.0) for k in protocol.topk]
    assert recalls == sorted(recalls)

    order = list(range(len(user)))
    random.shuffle(order)
    shuffled = own_test_metrics(user[order], score[order], key[order], rating[order], protocol)
    assert shuffled == pytest.approx(result, nan_ok=True, abs=1e-12)

    stretched = own_test_metrics(user, np.exp(score) * 3 - 100, key, rating, protocol)
    assert stretched == pytest.approx(result, nan_ok=True, abs=1e-12)

    renamed = own_test_metrics(np.array([f"user {9 - u}" for u in user]), score, key, rating, protocol)
    assert renamed == pytest.approx(result, nan_ok=True, abs=1e-12)


@settings(deadline=None)
@given(rows, protocols)
def test_no_order_beats_the_oracle(values, protocol):
    user, rating, score, key = columns(values)
    result = own_test_metrics(user, score, key, rating, protocol)
    best = own_test_metrics(user, oracle_scores(rating), key, rating, protocol)
    for k in protocol.topk:
        for name in ("ndcg", "precision", "recall", "f1"):
            if not math.isnan(best[f"{name}@{k}"]):
                assert result[f"{name}@{k}"] <= best[f"{name}@{k}"] + 1e-12
    if protocol.ideal == "truncated" and protocol.empty_user == "skip":
        ideal = [best[f"ndcg@{k}"] for k in protocol.topk]
        assert all(math.isnan(value) or value == pytest.approx(1, abs=1e-12) for value in ideal)


def test_a_worked_example():
    # One user, ranked 3, 5, 4 stars. DCG@2 = 7/1 + 31/log2(3); IDCG@2 = 31/1 + 15/log2(3).
    protocol = Protocol(topk=(2,))
    result = ranking_metrics(["u"] * 3, [1, 2, 3], [3, 5, 4], protocol)
    assert result["ndcg@2"] == pytest.approx((7 + 31 / math.log2(3)) / (31 + 15 / math.log2(3)))
    assert (result["precision@2"], result["recall@2"], result["f1@2"]) == (0.5, 0.5, 0.5)


def test_ties_are_broken_by_name_and_counted():
    items = ["b", "a", "c", "d"]
    rank, tied = own_test_ranks(["u"] * 4, [1.0, 1.0, 2.0, 1.0], tie_keys(items))
    assert tied.tolist() == [True, True, False, True]
    tied_items = [0, 1, 3]
    assert np.argsort(rank[tied_items]).tolist() == np.argsort(tie_keys(items)[tied_items]).tolist()
    order = np.array([3, 0, 2, 1])
    again, _ = own_test_ranks(["u"] * 4, np.array([1.0, 1.0, 2.0, 1.0])[order], tie_keys([items[n] for n in order]))
    assert again.tolist() == rank[order].tolist()
    assert sorted(rank) == [1, 2, 3, 4]
    assert rank[2] == 1
    share = own_test_metrics(["u"] * 4, [1.0, 1.0, 2.0, 1.0], tie_keys(items), [1, 2, 3, 4], Protocol())["tied_share"]
    assert share == 0.75


def test_users_without_relevant_items_follow_the_convention():
    user, rank, rating = ["a", "a", "b"], [1, 2, 1], [5.0, 1.0, 3.0]
    kwargs = {"relevance": "threshold", "topk": (1,)}
    skip = ranking_metrics(user, rank, rating, Protocol(**kwargs))
    zero = ranking_metrics(user, rank, rating, Protocol(empty_user="zero", **kwargs))
    assert (skip["ndcg@1"], zero["ndcg@1"], skip["f1@1"], zero["f1@1"]) == (1.0, 0.5, 1.0, 0.5)
    assert skip["users_without_relevant"] == zero["users_without_relevant"] == 1
    with pytest.raises(DataError, match="1 of 2 test users have no relevant item"):
        ranking_metrics(user, rank, rating, Protocol(empty_user="error", **kwargs))
    nobody = ranking_metrics(user, rank, rating, Protocol(threshold=9.0, topk=(1,)))
    assert math.isnan(nobody["precision@1"])
    assert nobody["users_without_gain"] == 0
    assert nobody["ndcg@1"] == 1.0


def test_reference_rows_bracket_every_ranking():
    generator = np.random.default_rng(0)
    user = np.repeat(np.arange(200), 10)
    rating = generator.integers(1, 6, 2000).astype(float)
    key = tie_keys([f"i{n}" for n in range(2000)])
    protocol = Protocol(topk=(1, 5))
    rows = reference_rows(user, key, rating, [1, 2, 3, 4, 5], protocol)
    assert rows["Random"]["mae"] is None
    assert rows["Oracle"]["mae"] == rows["Oracle"]["rmse"] == 0.0
    assert rows["Oracle"]["ndcg@1"] == pytest.approx(1.0)
    model = own_test_metrics(user, rating + generator.normal(size=2000), key, rating, protocol)
    assert rows["Random"]["ndcg@5"] < model["ndcg@5"] < rows["Oracle"]["ndcg@5"]
    # The first of ten random items is an average one: its expected precision is the share of relevant items.
    assert rows["Random"]["precision@1"] == pytest.approx(skipping_mean(user, rating >= 4))


def skipping_mean(user, relevant):
    """Mean over users who have a relevant item of their shares of relevant items."""
    shares = pd.Series(relevant).groupby(user).mean()
    return shares[shares > 0].mean()


@pytest.mark.parametrize("ideal", ["truncated", "full"])
@pytest.mark.parametrize("empty_user", ["skip", "zero"])
@pytest.mark.parametrize("gain", ["exponential", "binary"])
def test_a_random_order_is_the_mean_over_all_orders(ideal, empty_user, gain):
    ratings = {"a": [5.0, 3.0, 4.0, 1.0], "b": [2.0, 2.0], "c": [5.0], "d": [1.0, 4.5, 4.0]}
    protocol = Protocol(ideal=ideal, empty_user=empty_user, gain=gain, topk=(1, 2, 5))
    expected = pd.concat(
        {
            user: pd.concat(
                [
                    ranking_per_user([user] * len(rating), order, rating, protocol)
                    for order in itertools.permutations(range(1, len(rating) + 1))
                ]
            ).mean()
            for user, rating in ratings.items()
        },
        axis=1,
    ).T
    users, rows = zip(*[(user, value) for user, rating in ratings.items() for value in rating], strict=True)
    pd.testing.assert_frame_equal(ranking_per_user(users, None, rows, protocol), expected)


def test_bad_rows_are_refused():
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        own_test_ranks(["u", "u"], [1.0, np.nan], [0, 1])
    with pytest.raises(ValueError, match="1 of 1 ratings are NaN"):
        ranking_metrics(["u"], [1], [np.nan], Protocol())
    with pytest.raises(ValueError, match="from 1 on"):
        ranking_metrics(["u"], [0], [3.0], Protocol())
    with pytest.raises(ValueError, match="mean training ratings"):
        ranking_metrics(["u"], [1], [3.0], Protocol(relevance="above_user_mean"))
    with pytest.raises(DataError, match="ratings of 0 or more"):
        ranking_metrics(["u"], [1], [-3.0], Protocol())
    with pytest.raises(DataError, match="no test row"):
        ranking_metrics([], [], [], Protocol())


def test_two_hundred_thousand_rows_are_at_least_twenty_times_faster_than_the_loop():
    user, rank, rating, mean = sample(users=31_000)
    protocol = Protocol()
    assert len(user) > 200_000
    start = time.perf_counter()
    ranking_metrics(user, rank, rating, protocol)
    fast = time.perf_counter() - start
    # The loop is timed on every twentieth user, whose rows it is handed already gathered.
    few = np.isin(user, np.arange(1550))
    bounds = np.argsort(user[few], kind="stable")
    arrays = [values[few][bounds] for values in (user, rank, rating, mean)]
    cuts = np.flatnonzero(np.diff(arrays[0])) + 1
    start = time.perf_counter()
    for part in zip(*(np.split(values, cuts) for values in arrays), strict=True):
        literal(*part, protocol)
    slow = (time.perf_counter() - start) * 20
    print(f"vectorised {fast:.3f} s, loop {slow:.1f} s, {slow / fast:.0f} times")
    assert slow > 20 * fast


def test_order_matters_where_the_best_and_the_worst_order_differ():
    user, _, rating, _ = sample(3, users=60, longest=6)
    protocol = Protocol(topk=(1, 2, 5), empty_user="zero")
    worst = ranking_per_user(user, own_test_ranks(user, -rating, np.arange(len(user)))[0], rating, protocol)
    best = ranking_per_user(user, own_test_ranks(user, rating, np.arange(len(user)))[0], rating, protocol)
    result = order_matters(user, rating, protocol)
    assert result["order_matters"] == pytest.approx((best["ndcg@1"] > worst["ndcg@1"] + 1e-12).mean())
    for k in protocol.topk:
        for name in ("precision", "recall", "f1"):
            expected = (best[f"{name}@{k}"] > worst[f"{name}@{k}"] + 1e-12).mean()
            assert result[f"order_matters@{k}"] == pytest.approx(expected)
    assert own_test_metrics(user, rating, np.arange(len(user)), rating, protocol).items() >= result.items()
