"""Tastes against ridge regressions user by user, by themselves and in DReX."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from altered import shake
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import every_pair, pair_by_pair

from recbole.data.interaction import Interaction

from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.errors import ConfigError
from recbole_drex.model.drex import taste as taste_module
from recbole_drex.model.drex.taste import TextTaste, _ridge
from recbole_drex.recbole import recbole_trainer
from recbole_drex.training.trainer import make_trainer

# The regression by itself -------------------------------------------------------------------------------------------


def make_table(seed: int, n_users: int, n_items: int, spoken: float = 0.8, rated: float = 0.8) -> SimpleNamespace:
    """A table of random pairs, by (user, item).

    Users have more pairs the larger their id, but user 0 and the last have none; item 0 is in none, the last in few.
    """
    rng = np.random.default_rng(seed)
    likely = np.linspace(0, 0.8, n_users)[:, None] * (np.arange(n_users) < n_users - 1)[:, None]
    likely = likely * np.clip(n_items - np.arange(n_items), 0.5, 5) / 5 * (np.arange(n_items) > 0)
    user, item = np.nonzero(rng.random((n_users, n_items)) < likely)
    review = np.where(rng.random(len(user)) < spoken, rng.permutation(len(user)), -1)
    return SimpleNamespace(
        user=torch.from_numpy(user),
        item=torch.from_numpy(item),
        review=torch.from_numpy(review),
        rated=torch.from_numpy(rng.random(len(user)) < rated),
        n_users=n_users,
        n_items=n_items,
    )


def make_taste(seed: int, table: SimpleNamespace, size: int, weight: float) -> TextTaste:
    """Reviews of 0 to 3 words whose vectors, 8 wide, tell the items apart."""
    rng = np.random.default_rng(seed + 1)
    n = len(table.user)
    length = rng.integers(0, 4, n)
    item_of = np.zeros(n, dtype=int)
    reviewed = table.review.numpy() >= 0
    item_of[table.review.numpy()[reviewed]] = table.item.numpy()[reviewed]
    centre = 2 * rng.normal(size=(table.n_items, 8))
    vectors = (centre[item_of] + rng.normal(size=(n, 8))).repeat(length, 0).astype(np.float16)
    words = np.arange(length.sum(), dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(length)])
    store = FeatureStore(vectors, offsets, words, [str(word) for word in words], {}, "")
    table.has_words = reviewed & (length[table.review.numpy()] > 0)
    return TextTaste(table, store, ["encoder"], size, weight, seed)  # type: ignore[arg-type]


def literal_vector(taste: TextTaste, table, has_words: np.ndarray, user: int, item: int) -> np.ndarray:
    """z of one pair, from the reviews one by one."""
    strength = taste.strength.numpy().astype(float)
    total, n = np.zeros(len(strength)), 0
    for t in np.flatnonzero(table.item.numpy() == item):
        if table.user[t] != user and has_words[t]:
            total += taste.coordinates[t].numpy()
            n += 1
    vector = strength * total / (1 + n * strength)
    return vector / np.linalg.norm(vector) if n else vector


def literal_tastes(taste: TextTaste, table, has_words: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """beta of all users, by least squares with one more row per direction for the penalty."""
    k = len(taste.strength)
    tastes = np.zeros((table.n_users, k))
    for user in range(table.n_users):
        own = [t for t in range(len(table.user)) if table.user[t] == user and table.rated[t]]
        vectors = [literal_vector(taste, table, has_words, user, int(table.item[t])) for t in own]
        x = np.concatenate([np.reshape(vectors, (len(own), k)), np.eye(k) / np.sqrt(taste.weight)])
        tastes[user] = np.linalg.lstsq(x, np.concatenate([residual[own], np.zeros(k)]), rcond=None)[0]
    return tastes


def random_residual(table: SimpleNamespace, seed: int = 0) -> torch.Tensor:
    """Of rated rows; NaN for others."""
    residual = torch.randn(len(table.user), generator=torch.Generator().manual_seed(seed))
    return torch.where(table.rated, residual, torch.nan)


@pytest.fixture
def table() -> SimpleNamespace:
    return make_table(0, 24, 40)


@pytest.fixture
def taste(table) -> TextTaste:
    return make_taste(0, table, 8, 0.5)


def test_the_sample_has_all_cases(table, taste):
    ratings = np.bincount(table.user[table.rated], minlength=table.n_users)
    k = len(taste.strength)
    assert 4 < k <= 8
    assert (ratings == 0).sum() > 1 and ((ratings > 0) & (ratings < k)).sum() > 2 and (ratings > 2 * k).sum() > 2
    assert (~table.rated).sum() > 10 and (~table.has_words).sum() > 10
    alone = [t for t in torch.nonzero(table.rated).flatten() if table.has_words[table.item == table.item[t]].sum() < 2]
    assert len(alone) > 1  # ratings of items without other reviews


@pytest.mark.parametrize("weight", (0.02, 0.5, 30.0))
def test_tastes_are_ridge_regressions_of_each_user(weight, table):
    taste, residual = make_taste(0, table, 8, weight), random_residual(table)
    tastes = taste.fit(table, residual)
    expected = literal_tastes(taste, table, table.has_words, residual.numpy())
    np.testing.assert_allclose(tastes, expected, atol=1e-4)
    strangers = np.bincount(table.user[table.rated], minlength=table.n_users) == 0
    assert (tastes[strangers] == 0).all() and (tastes[~strangers] != 0).any(1).sum() > 15


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_users=st.integers(2, 9),
    n_items=st.integers(2, 9),
    size=st.integers(1, 8),
    spoken=st.sampled_from([0.0, 0.4, 1.0]),
    rated=st.sampled_from([0.0, 0.5, 1.0]),
    weight=st.floats(0.01, 10),
)
def test_any_small_table(seed, n_users, n_items, size, spoken, rated, weight):
    table = make_table(seed, n_users, n_items, spoken, rated)
    taste, residual = make_taste(seed, table, size, weight), random_residual(table, seed)
    expected = literal_tastes(taste, table, table.has_words, residual.numpy())
    tastes = taste.fit(table, residual)
    assert tastes.shape == expected.shape
    np.testing.assert_allclose(tastes, expected, atol=1e-3 * (1 + np.abs(expected).max(initial=0)))


@pytest.mark.parametrize("block", (1, 100))
def test_users_may_be_solved_in_blocks_of_any_size(block, table, taste, monkeypatch):
    residual = random_residual(table)
    calls: list[int] = []
    monkeypatch.setattr(taste_module, "_ridge", lambda x, *rest: calls.append(len(x)) or _ridge(x, *rest))
    together = taste.fit(table, residual)
    few = len(calls)
    monkeypatch.setattr(taste_module, "_BLOCK", block)
    torch.testing.assert_close(taste.fit(table, residual), together, atol=1e-5, rtol=0)
    assert few < 8 < len(calls) - few
    assert sum(calls[:few]) == sum(calls[few:]) == len(table.user[table.rated].unique())


@pytest.mark.parametrize(("n", "k"), [(1, 5), (4, 7), (5, 5), (9, 4), (6, 1)])
def test_both_systems_of_a_ridge_regression(n, k):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, n, k)), rng.normal(size=(3, n))
    mask = np.ones((3, n))
    mask[1, n // 2 :], y[1, n // 2 :] = 0, 0  # as where a user is filled up to the longest
    parts = [torch.from_numpy(part) for part in (x, mask, y)]

    def literal(vectors, values):
        return np.linalg.solve(vectors.T @ vectors + np.eye(k) / 0.7, vectors.T @ values)

    for result, own, uses, values in zip(_ridge(*parts, 0.7), x, mask > 0, y, strict=True):
        np.testing.assert_allclose(result, literal(own[uses], values[uses]))
    for result, uses, values in zip(_ridge(parts[0][0], *parts[1:], 0.7), mask > 0, y, strict=True):
        np.testing.assert_allclose(result, literal(x[0][uses], values[uses]))  # one user in three scenarios


def test_no_weight_and_no_directions_give_no_taste(table):
    residual = random_residual(table)
    assert torch.equal(make_taste(0, table, 8, 0.0).fit(table, residual), torch.zeros(table.n_users, 8))
    table.review[:] = -1
    silent = make_taste(0, table, 8, 0.5)
    assert silent.fit(table, residual).shape == (table.n_users, 0)
    assert silent.described.shape == (table.n_items, 0)


def test_vectors_of_items_come_from_all_reviews(table, taste):
    stranger = table.n_users - 1
    expected = [literal_vector(taste, table, table.has_words, stranger, item) for item in range(table.n_items)]
    np.testing.assert_allclose(taste.described, expected, atol=1e-5)
    norm = taste.described.norm(dim=1)
    assert (norm[0] == 0) and ((norm - 1).abs() < 1e-6).sum() > 15


def test_own_reviews_never_enter_ones_own_vectors(table, taste):
    """Directions and residuals as they are: other words of a user change the tastes of others, not the own."""
    residual = random_residual(table)
    before = taste.fit(table, residual)
    user = table.n_users - 3
    own = torch.nonzero((table.user == user) & torch.from_numpy(table.has_words)).flatten()
    noise = 3 * torch.randn(len(own), len(taste.strength), generator=torch.Generator().manual_seed(1))
    output = taste.coordinates[own].float()
    taste.coordinates[own] += noise
    taste.sums.index_add_(0, table.item[own], taste.coordinates[own].float() - output)
    after = taste.fit(table, residual)
    torch.testing.assert_close(after[user], before[user], atol=1e-4, rtol=0)
    others = torch.tensor([one for one in table.user[table.rated].unique() if one != user])
    assert ((after - before)[others].abs().amax(1) > 1e-2).sum() > 15
    np.testing.assert_allclose(after, literal_tastes(taste, table, table.has_words, residual.numpy()), atol=1e-4)


# In DReX ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shaken(make_experiment):
    """``shaken(**parameters)``: an untrained small DReX with random parameters, the same for the same modalities."""

    def make(**parameters):
        return shake(make_experiment("DReX", **{"embedding_size": 8, "taste_weight": 1.0, **parameters}))

    return make


def evidence_mask(model) -> np.ndarray:
    """Which pairs of :func:`every_pair` are evidence."""
    mask = np.zeros((model.n_users, model.n_items), dtype=bool)
    mask[model.table.user, model.table.item] = True
    return mask[1:, 1:]


def scores(experiment) -> np.ndarray:
    model = experiment.model
    user, item = torch.arange(1, model.n_users)[:, None], torch.arange(1, model.n_items)[None]
    shape = torch.broadcast_shapes(user.shape, item.shape)
    return model.score(user.expand(shape).flatten(), item.expand(shape).flatten()).view(shape).numpy()


VARIANTS = [
    {"output": "point"},
    {"output": "ordinal", "refinement": "sequential", "aspects": 0},
    {"taste": ["words"], "taste_size": 5, "aspects": 0, "start": "mlp"},
]


@pytest.fixture(scope="module", params=VARIANTS, ids=["point", "ordinal", "words"])
def tasted_and_not(request, shaken):
    """A DReX with tastes, and one with the same parameters without."""
    return shaken(**request.param), shaken(**{**request.param, "taste": []})


def test_full_sort_agrees_with_predict(tasted_and_not):
    for experiment in tasted_and_not:
        np.testing.assert_allclose(every_pair(experiment), pair_by_pair(experiment), atol=1e-5)


def test_an_evaluation_scores_candidates_as_recbole_does(tasted_and_not, tmp_path):
    for experiment in tasted_and_not:
        trainer = make_trainer(experiment.config, experiment.model, tmp_path, experiment.parts)
        trainer.tot_item_num = experiment.dataset.item_num
        known = np.pad(evidence_mask(experiment.model), ((1, 0), (1, 0)))
        for batch in experiment.parts.test.full:
            ours = trainer._full_sort_batch_eval(batch)[1].numpy()
            theirs = recbole_trainer.Trainer._full_sort_batch_eval(trainer, batch)[1].numpy()
            # Items whose review has no rating are masked later, by the collector.
            candidates = ~known[batch[0]["user_id"]]
            assert np.isinf(ours).sum() == np.isinf(theirs).sum() > len(ours)
            np.testing.assert_allclose(ours[candidates], theirs[candidates], atol=1e-5)


def test_evidence_is_predicted_as_without_tastes(tasted_and_not):
    tasted, plain = tasted_and_not
    known = evidence_mask(tasted.model)
    for predict in (every_pair, pair_by_pair, scores):
        one, other = predict(tasted), predict(plain)
        np.testing.assert_array_equal(one[known], other[known])
        assert (one[~known] != other[~known]).mean() > 0.9


def test_a_taste_is_what_the_model_without_leaves_unexplained(tasted_and_not):
    """Scores of pairs that are not evidence differ by beta_u . z_i, computed independently."""
    tasted, plain = tasted_and_not
    model, table = tasted.model, tasted.model.table
    has_words = (table.review >= 0).numpy()
    pairs = Interaction({"user_id": table.user, "item_id": table.item})
    with torch.no_grad():
        residual = (table.rating - plain.model.predict(pairs)).numpy()
    tastes = literal_tastes(model.taste, table, has_words, residual)
    vectors = [literal_vector(model.taste, table, has_words, 0, item) for item in range(1, model.n_items)]
    expected = tastes[1:] @ np.stack(vectors).T
    known = evidence_mask(model)
    difference = scores(tasted) - scores(plain)
    np.testing.assert_allclose(difference[~known], expected[~known], atol=1e-4)
    assert np.abs(expected[~known]).mean() > 0.1


def test_tastes_are_no_parameters(tasted_and_not):
    tasted, plain = tasted_and_not
    assert tasted.model.taste is not None and plain.model.taste is None
    assert list(plain.model.state_dict()) == list(tasted.model.state_dict())


def test_a_weight_of_zero_is_the_model_without(shaken):
    weightless = shaken(taste_weight=0.0)
    assert weightless.model.taste.described.shape[1] > 10
    np.testing.assert_array_equal(every_pair(weightless), every_pair(shaken(taste=[])))


def test_tastes_follow_the_parameters(shaken):
    tasted, plain = shaken(), shaken(taste=[])
    every_pair(tasted)
    before = tasted.model._tastes
    every_pair(tasted)
    assert tasted.model._tastes is before
    state = {key: 1.2 * value for key, value in plain.model.state_dict().items()}
    for experiment in (tasted, plain):
        experiment.model.load_state_dict(state)
    pairs = Interaction({"user_id": tasted.model.table.user, "item_id": tasted.model.table.item})
    residual = tasted.model.table.rating - plain.model.predict(pairs)
    every_pair(tasted)
    torch.testing.assert_close(tasted.model._tastes, tasted.model.taste.fit(tasted.model.table, residual))
    assert (tasted.model._tastes - before).abs().max() > 0.01


def test_training_does_not_know_tastes(make_experiment):
    losses = []
    for parameters in ({}, {"taste": []}):
        experiment = make_experiment("DReX", embedding_size=8, **parameters)
        feat = experiment.parts.train_dataset.inter_feat
        every_pair(experiment)
        torch.manual_seed(0)
        losses.append(experiment.model.train().calculate_loss(feat[torch.arange(100)]))
    assert torch.equal(*losses)


@pytest.mark.parametrize("parameters", [{"hide_reviews": 1.0}, {"hide_reviews": 1.0, "taste": ["words"]}])
def test_without_any_review_there_are_no_tastes(parameters, shaken):
    tasted, plain = shaken(**parameters), shaken(**{**parameters, "taste": []})
    assert tasted.model.taste is None and (tasted.model.table.review < 0).all()
    np.testing.assert_array_equal(every_pair(tasted), every_pair(plain))
    assert np.isfinite(pair_by_pair(tasted)).all()


@pytest.mark.parametrize(("hidden", "some"), [(0.0, True), (1.0, False)])
def test_tastes_of_reviews_alone(hidden, some, shaken):
    """Reviews are the only modality; where all reviewed rows lost their rating, there is nothing to explain."""
    experiment = shaken(modalities=["review"], hide_ratings=hidden)
    model = experiment.model
    full = every_pair(experiment)
    assert (model.table.rated.any(), (model._tastes != 0).any()) == (some, some)
    assert model._tastes.shape[1] > 10 and np.isfinite(full).all()
    np.testing.assert_allclose(full, pair_by_pair(experiment), atol=1e-5)


def test_without_the_review_modality_tastes_are_off(shaken):
    tasted, plain = shaken(modalities=["rating"]), shaken(modalities=["rating"], taste=[])
    assert tasted.config["taste"] and tasted.model.taste is None
    np.testing.assert_array_equal(every_pair(tasted), every_pair(plain))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["word"], "unknown value of 'taste': 'word'; did you mean 'words'? Legal values: encoder, words"),
        (
            ["encoder", "encoder"],
            "parameter 'taste' must name each of encoder, words at most once, not ['encoder', 'encoder']",
        ),
        (["words", "encoder", "images"], "unknown value of 'taste': 'images'. Legal values: encoder, words"),
    ],
)
def test_illegal_sources_are_named(sources, message, make_config):
    with pytest.raises(ConfigError) as caught:
        make_config("DReX", taste=sources)
    assert str(caught.value) == message
