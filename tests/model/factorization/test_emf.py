"""EMF against its definitions in literal loops, its gradient against finite differences, its explanations."""

from __future__ import annotations

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from altered import copy_of

from recbole.data.interaction import Interaction

from recbole_drex.errors import ConfigError
from recbole_drex.explain.counterfactual.dispatch import neighbours_of
from recbole_drex.model.factorization.emf import Neighbourhood

Ratings = dict[tuple[int, int], float]


def literal_neighbours(ratings: Ratings, user: int, size: int) -> list[int]:
    """The nearest users by cosine, by definition; ties go to the lower id."""
    rows: dict[int, dict[int, float]] = {}
    for (u, i), r in ratings.items():
        rows.setdefault(u, {})[i] = r

    def cosine(other: int) -> float:
        mine, its = rows[user], rows[other]
        product = sum(r * its[i] for i, r in mine.items() if i in its)
        scale = math.sqrt(sum(r * r for r in mine.values())) * math.sqrt(sum(r * r for r in its.values()))
        return round(product / scale, 9) if scale else 0.0

    others = [other for other in rows if other != user and user in rows and cosine(other) > 0]
    return sorted(others, key=lambda other: (-cosine(other), other))[:size]


def literal_share(ratings: Ratings, user: int, item: int, size: int) -> float:
    near = literal_neighbours(ratings, user, size)
    return sum((other, item) in ratings for other in near) / len(near) if near else 0.0


def of(ratings: Ratings, size: int, n_users: int = 9, n_items: int = 7) -> Neighbourhood:
    user, item = (np.array([pair[side] for pair in ratings], dtype=np.int64) for side in (0, 1))
    return Neighbourhood(user, item, np.array(list(ratings.values())), n_users, n_items, size)


some_ratings = st.dictionaries(
    st.tuples(st.integers(1, 8), st.integers(1, 6)), st.sampled_from([0.0, 1.0, 2.5, 4.0, 5.0]), min_size=1, max_size=40
)


@hypothesis.given(ratings=some_ratings, size=st.integers(1, 10))
@hypothesis.settings(max_examples=100, deadline=None)
def test_neighbours_and_shares_are_those_of_the_definition(ratings, size):
    fast = of(ratings, size)
    pairs = [(user, item) for user in range(1, 9) for item in range(1, 7)]
    for user in range(1, 9):
        assert fast.of(user).tolist() == literal_neighbours(ratings, user, size)
    shares = fast.shares(*np.array(pairs).T)
    assert shares == pytest.approx([literal_share(ratings, user, item, size) for user, item in pairs])
    assert ((shares >= 0) & (shares <= 1)).all()


@hypothesis.given(ratings=some_ratings, size=st.integers(1, 10), data=st.data())
@hypothesis.settings(max_examples=100, deadline=None)
def test_neighbours_without_a_rating_are_those_of_data_without_it(ratings, size, data):
    user, item = data.draw(st.sampled_from(sorted(ratings)))
    rest = {pair: rating for pair, rating in ratings.items() if pair != (user, item)}
    expected = literal_neighbours({**rest, (user, 0): 0.0}, user, size)
    assert of(ratings, size).of(user, without=item).tolist() == expected


def test_a_repeated_pair_counts_once_with_its_last_rating():
    user, item = np.array([1, 1, 2, 1]), np.array([1, 2, 1, 1])
    twice = Neighbourhood(user, item, np.array([5.0, 3.0, 4.0, 1.0]), 3, 3, 1)
    assert twice.ratings.toarray().tolist() == [[0, 0, 0], [0, 1, 3], [0, 4, 0]]
    assert twice.shares(np.array([1]), np.array([1])).tolist() == [1.0]


@pytest.fixture(scope="module")
def emf(make_experiment):
    return make_experiment("EMF", neighbours=7)


@pytest.fixture(scope="module")
def training(emf) -> Ratings:
    feat = emf.parts.train_dataset.inter_feat
    pairs = zip(feat["user_id"].tolist(), feat["item_id"].tolist(), strict=True)
    return dict(zip(pairs, feat["rating"].tolist(), strict=True))


def test_weights_of_a_real_data_set(emf, training):
    feat = emf.parts.train_dataset.inter_feat
    weights = emf.model.explainability(feat["user_id"], feat["item_id"])
    expected = [literal_share(training, user, item, 7) for user, item in list(training)[::9]]
    assert weights[::9].tolist() == pytest.approx(expected)
    assert len(set(expected)) > 4


def test_shares_up_to_the_threshold_weigh_nothing(emf, make_experiment):
    strict = make_experiment("EMF", neighbours=7, explainability_threshold=3 / 7)
    free, kept = emf.model.weights, strict.model.weights
    assert torch.equal(kept, torch.where(free > 3 / 7, free, 0.0))
    assert 0 < (kept == 0).sum() < len(kept)


# The loss -----------------------------------------------------------------------------------------------------------


def batch_of(experiment, size: int = 64) -> Interaction:
    return experiment.parts.train_dataset.inter_feat[np.arange(size)]


def written_out(model, batch, beta: float, weight: float, ratings: Ratings) -> float:
    """J as published, pair by pair, divided by the number of pairs."""
    total = 0.0
    for user, item, rating in zip(*(batch[name].tolist() for name in ("user_id", "item_id", "rating")), strict=True):
        p, q = model.user_factors.weight[user].detach().numpy(), model.item_factors.weight[item].detach().numpy()
        share = literal_share(ratings, user, item, 7)
        total += (rating - p @ q) ** 2 + beta / 2 * (p @ p + q @ q) + weight / 2 * ((p - q) @ (p - q)) * share
    return total / len(batch)


def test_the_loss_is_the_published_one(make_experiment, training):
    experiment = make_experiment("EMF", neighbours=7, reg_weight=0.3, explainability_weight=0.7, init_std=0.5)
    model, batch = experiment.model.double(), batch_of(experiment)
    expected = written_out(model, batch, 0.3, 0.7, training)
    assert model.calculate_loss(batch).item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_equals_finite_differences(make_experiment, training):
    options = {"reg_weight": 0.1, "explainability_weight": 5.0, "init_std": 0.5, "embedding_size": 3}
    experiment = make_experiment("EMF", neighbours=7, **options)
    model, batch = experiment.model.double(), batch_of(experiment, 16)
    model.calculate_loss(batch).backward()
    for table, row in ((model.user_factors, batch["user_id"][0]), (model.item_factors, batch["item_id"][0])):
        for column in range(3):
            values = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    table.weight[row, column] += step
                    values.append(written_out(model, batch, 0.1, 5.0, training))
                    table.weight[row, column] -= step
            slope = (values[0] - values[1]) / 2e-5
            assert table.weight.grad[row, column].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_a_step_brings_user_and_explainable_item_together(make_experiment):
    """With the sign reversed, as in some public code, the vectors would diverge."""
    experiment = make_experiment("EMF", neighbours=7, reg_weight=0.0, init_std=0.5)
    model, batch = experiment.model, batch_of(experiment, 1)
    assert model.explainability(batch["user_id"], batch["item_id"]) > 0

    user, item = int(batch["user_id"][0]), int(batch["item_id"][0])
    tables = model.user_factors.weight, model.item_factors.weight

    def distance(weight: float) -> float:
        model.explainability_weight = weight
        slope = torch.autograd.grad(model.calculate_loss(batch), tables)
        p, q = tables[0][user] - 1e-3 * slope[0][user], tables[1][item] - 1e-3 * slope[1][item]
        return float((p - q).norm())

    distances = [distance(weight) for weight in (0.0, 0.1, 1.0, 10.0)]
    assert distances == sorted(distances, reverse=True) and distances[0] > distances[-1] + 1e-3


def test_a_larger_weight_leaves_explainable_pairs_nearer_after_training(make_experiment, train):
    def distance(**options) -> tuple[float, torch.Tensor]:
        experiment = make_experiment("EMF", neighbours=7, epochs=6, learning_rate=0.005, init_std=0.5, **options)
        train(experiment)
        model, feat = experiment.model, experiment.parts.train_dataset.inter_feat
        p, q = model.user_factors(feat["user_id"]), model.item_factors(feat["item_id"])
        apart = (p - q).square().sum(-1)[model.explainability(feat["user_id"], feat["item_id"]) > 0]
        return float(apart.mean()) if len(apart) else math.nan, model.user_factors.weight.detach()

    distances = [distance(explainability_weight=weight)[0] for weight in (0.0, 0.5, 5.0)]
    assert distances[0] > 1.02 * distances[1] > 1.02**2 * distances[2]
    # If nothing passes the threshold, the weight of the term has no effect.
    one, other = (distance(explainability_weight=weight, explainability_threshold=1.0)[1] for weight in (0.0, 5.0))
    assert torch.equal(one, other)


def test_training_starts_near_the_mean(make_experiment):
    model = make_experiment("EMF").model
    users, items = torch.arange(1, model.n_users)[:, None], torch.arange(1, model.n_items)[None, :]
    scores = model.score(users, items)
    mean = make_experiment("GlobalMean").model.mean
    assert float(scores.mean()) == pytest.approx(float(mean), abs=0.1)
    assert float(scores.std()) < 0.5


# Explanations -------------------------------------------------------------------------------------------------------


def test_explanations_count_what_neighbours_rated(emf, training):
    result = []
    for user, item in [(3, 5), (8, 2), (1, 1), (20, 30), *list(training)[::40]]:
        others = {pair: rating for pair, rating in training.items() if pair != (user, item)}
        near = literal_neighbours(others, user, 7)
        ratings = [others[other, item] for other in near if (other, item) in others]
        explanation = neighbours_of(emf.model, user, item)
        assert (explanation.neighbours, explanation.rated) == (len(near), len(ratings))
        assert explanation.relevant == sum(rating >= 4 for rating in ratings)
        assert explanation.mean_rating == (pytest.approx(np.mean(ratings)) if ratings else None)
        result.append(explanation.rated)
    assert max(result) > 2
    assert str(explanation) == (
        f"{explanation.rated} of the 7 nearest users rated it, {explanation.relevant} of them 4 or more"
    )


def test_an_explanation_excludes_the_rating_of_its_pair(emf, training, small, make_experiment, tmp_path):
    user, item = next(iter(training))
    dataset = emf.dataset
    tokens = dataset.id2token("user_id", user), dataset.id2token("item_id", item)

    def change(frame):
        own = (frame["user_id:token"] == tokens[0]) & (frame["item_id:token"] == tokens[1])
        frame.loc[own, "rating:float"] = 6 - frame.loc[own, "rating:float"]
        assert own.sum() == 1
        return frame

    other = make_experiment("EMF", neighbours=7, data_path=str(copy_of(small.root, tmp_path / "data", change)))
    assert neighbours_of(other.model, user, item) == neighbours_of(emf.model, user, item)
    assert (other.model.neighbourhood.ratings != emf.model.neighbourhood.ratings).nnz == 1


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameter, message",
    [
        ({"neighbours": 0}, "'neighbours' must be 1 or more"),
        ({"explainability_weight": -0.1}, "'explainability_weight' must be 0 or more"),
        ({"explainability_threshold": 1.5}, "'explainability_threshold' must be 0 to 1, not 1.5"),
    ],
)
def test_numbers_out_of_range(parameter, message, make_config):
    with pytest.raises(ConfigError, match=message):
        make_config("EMF", **parameter)


def test_neighbours_must_be_a_whole_number(make_config):
    with pytest.raises(ConfigError, match="'neighbours' must be int"):
        make_config("EMF", neighbours=2.5)


def test_more_neighbours_than_users_are_all_users(make_experiment):
    model = make_experiment("EMF", neighbours=10_000).model
    assert neighbours_of(model, 1, 1).neighbours <= model.n_users - 2


def test_a_user_without_ratings_has_no_neighbours():
    alone = of({(1, 1): 4.0, (2, 1): 3.0, (3, 2): 5.0}, size=5)
    assert [alone.of(user).tolist() for user in (1, 2, 3, 4)] == [[2], [1], [], []]
    assert alone.shares(np.array([3, 4]), np.array([2, 1])).tolist() == [0.0, 0.0]


def all_threes(frame):
    return frame.assign(**{"rating:float": frame["rating:float"].where(frame["rating:float"].isna(), 3.0)})


def test_constant_ratings(small, make_experiment, train, tmp_path):
    root = copy_of(small.root, tmp_path / "data", all_threes)
    experiment = make_experiment("EMF", data_path=str(root))
    metrics = train(experiment).evaluate_part(experiment.parts.valid).metrics
    assert metrics["rmse"] < 0.5
