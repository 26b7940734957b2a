"""The split that holds out whole items, and what models know of these items."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from altered import copy_of

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.cold_items import held_out_items
from recbole_drex.data.items.item_features import FOLDER, write_item_features
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.explain.counterfactual.dispatch import counterfactual_for
from recbole_drex.model.drex.item_content import _PENALTIES, _ridge

COLD = {"eval_args": {"split": {"cold_items": 0.3}}}


def items_of(part) -> set[int]:
    return set(part.inter_feat["item_id"].tolist())


def test_nothing_of_a_held_out_item_is_in_training(make_experiment):
    experiment = make_experiment("DReX", **COLD)
    parts = experiment.parts
    train, valid, test = parts.train_dataset, parts.valid.rows._dataset, parts.test.rows._dataset
    held = items_of(valid) | items_of(test)
    assert (len(items_of(valid)), len(items_of(test))) == (6, 6)  # of 40
    assert not items_of(valid) & items_of(test)
    assert not items_of(train) & held
    assert len(train) + len(valid) + len(test) == len(experiment.dataset)
    assert set(experiment.dataset.unrated["item_id"].tolist()) & held  # so that the next line is not empty
    assert not set(train.evidence().item.tolist()) & held
    assert make_experiment("DReX", **COLD).parts.test.rows._dataset.inter_feat["item_id"].tolist() == (
        test.inter_feat["item_id"].tolist()
    )
    assert items_of(make_experiment("DReX", seed=1, **COLD).parts.test.rows._dataset) != items_of(test)


def test_no_review_or_rating_of_a_held_out_item_is_read(make_experiment, small, tmp_path, train):
    """Noise in their rows changes no prediction; with one epoch, validation selects nothing."""
    experiment = make_experiment("DReX", epochs=1, **COLD)
    dataset = experiment.dataset
    held = items_of(dataset) | set(dataset.unrated["item_id"].tolist())
    held = dataset.id2token("item_id", sorted(held - items_of(experiment.parts.train_dataset)))

    def noise(frame):
        chosen = frame["item_id:token"].isin(held)
        rated = chosen & frame["rating:float"].notna()
        rng = np.random.default_rng(0)
        frame.loc[rated, "rating:float"] = rng.integers(1, 6, rated.sum()).astype(float)
        frame.loc[chosen, "review_row:float"] = rng.permutation(frame.loc[chosen, "review_row:float"])
        return frame

    root = copy_of(small.root, tmp_path, noise)
    (root / small.name / "items").symlink_to(small.root / small.name / "items")
    predictions = []
    for path in (small.root, root):
        one = make_experiment("DReX", data_path=str(path), epochs=1, **COLD)
        train(one)
        predictions.append(torch.stack([one.model.predict_unknown(user) for user in range(1, dataset.user_num)]))
    assert torch.equal(*predictions)


@pytest.mark.parametrize("name", ["Bias", "BiasedMF", "NARRE", "BPR", "LightGCN"])
def test_models_without_item_content_predict_one_value_per_user(name, make_experiment, train):
    """No random number tells new items apart, and ranking models do not sample them as disliked."""
    experiment = make_experiment(name, epochs=2, **COLD)
    train(experiment)
    new = sorted(set(range(1, experiment.dataset.item_num)) - items_of(experiment.parts.train_dataset))
    item = torch.tensor(new)
    for user in (1, 7):
        pairs = {"user_id": torch.full_like(item, user), "item_id": item}
        score = experiment.model.predict(pairs).detach()
        torch.testing.assert_close(score, score[:1].expand_as(score))


def quality(small, item: str) -> list[float]:
    truth = json.loads(small.raw["truth"].read_text())
    return [truth["items"][item].get(aspect, 0.0) for aspect in truth["aspects"]]


@pytest.fixture
def described(small, tmp_path):
    """The data set whose items have their true qualities as a modality."""
    root = copy_of(small.root, tmp_path, lambda frame: frame)
    items = sorted({f"game_{k:02d}" for k in range(40)})
    vectors = {"quality": np.array([quality(small, item) for item in items])}
    write_item_features(root / small.name / FOLDER, items, vectors)
    return root


def test_content_predicts_what_new_items_are_like(described, make_experiment, train):
    """Planted qualities as content lower the error by far; the reference is the mean item."""
    error = {}
    for content in ([], ["quality"]):
        experiment = make_experiment("DReX", data_path=str(described), item_content=content, epochs=12, **COLD)
        trainer = train(experiment)
        error[len(content)] = trainer.evaluate_part(experiment.parts.test).metrics["rmse"]
        assert np.isinf(experiment.model.content.penalty) == (not content)
    assert error[1] < 0.9 * error[0], error


def test_the_leave_one_out_error_is_that_of_leaving_each_item_out(make_experiment, described):
    """The chosen penalty is that of the literal procedure."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(20, 4))
    y = x @ rng.normal(size=4) + rng.normal(scale=2.0, size=20)
    centred = x - x.mean(0)
    grid = _PENALTIES * np.square(np.linalg.svd(centred)[1]).mean()

    def literal(penalty: float) -> float:
        total = 0.0
        for k in range(len(x)):
            # Centred by all items, as content is; the intercept is fitted without item k.
            rest = np.delete(np.arange(len(x)), k)
            design = np.c_[np.ones(len(rest)), centred[rest]]
            system = design.T @ design + np.diag([0.0] + [penalty] * 4)
            total += (y[k] - np.r_[1.0, centred[k]] @ np.linalg.solve(system, design.T @ y[rest])) ** 2
        return total

    penalty, solver = _ridge(x, y)
    assert penalty == pytest.approx(grid[np.argmin([literal(one) for one in grid])])
    expected = np.linalg.solve(centred.T @ centred + penalty * np.eye(4), centred.T)
    np.testing.assert_allclose(solver, expected, atol=1e-10)
    assert np.isinf(_ridge(rng.normal(size=(20, 4)), np.ones(20))[0])


def test_parts_of_a_new_item_add_up(described, make_experiment, train):
    experiment = make_experiment("DReX", data_path=str(described), item_content=["quality"], epochs=2, **COLD)
    train(experiment)
    item = min(set(range(1, experiment.dataset.item_num)) - items_of(experiment.parts.train_dataset))
    counterfactual = counterfactual_for(experiment.model, 3, item)
    pair = {"user_id": torch.tensor([3]), "item_id": torch.tensor([item])}
    torch.testing.assert_close(counterfactual.predict(), experiment.model.predict(pair), atol=1e-4, rtol=1e-4)
    parts = counterfactual.parts()
    assert not parts.aspects.any() and not parts.taste.any()  # nobody has reviewed it


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": {"cold_items": 0}}, "above 0 and below 1"),
        ({"split": {"cold_items": 1}}, "above 0 and below 1"),
        ({"split": {"cold_items": "a tenth"}}, "above 0 and below 1"),
        ({"split": {"cold_items": 0.1}, "group_by": "user"}, "leave group_by out"),
        ({"split": {"cold_items": 0.1}, "order": "TO"}, "leave order out"),
    ],
)
def test_unsuitable_splits_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Config("DReX", "small", config_dict={"eval_args": given})


@pytest.mark.parametrize(
    ("n", "share", "remedy"), [(1, 0.5, "another split"), (8, 0.1, "larger"), (8, 0.99, "smaller")]
)
def test_too_few_items_are_refused(n, share, remedy):
    with pytest.raises(DataError, match=remedy):
        held_out_items(np.arange(n), share, 2026, "table")


def test_content_of_reviews_or_in_sequential_order_is_refused(make_experiment):
    with pytest.raises(ConfigError, match="name another item modality"):
        make_experiment("DReX", item_content=["reviews"], **COLD)
    with pytest.raises(ConfigError, match="leave_one_out"):
        make_experiment("DReX", item_content=["text"], refinement="sequential", aspects=0, **COLD)
