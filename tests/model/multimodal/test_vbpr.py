"""VBPR against its equations in numpy, its loss by finite differences, and items that are not in the training part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from altered import copy_of, shake, with_item_vectors

from recbole.data.interaction import Interaction

from recbole_drex.errors import ConfigError
from recbole_drex.evaluation.metrics import predicts_ratings
from recbole_drex.model.multimodal.vbpr import unit_scale

MISSING = {"text": [4, 9, 30], "image": [2, 9]}  # item 9 has neither
OPTIONS = {"item_modalities": ["text", "image"], "embedding_size": 6, "feature_size": 4}


@pytest.fixture(scope="module")
def items(small, tmp_path_factory):
    """The data set whose items have vectors of text and image too, but for some."""
    return with_item_vectors(small.root, tmp_path_factory.mktemp("items") / "data", MISSING)


@pytest.fixture(scope="module")
def make(items, make_experiment):
    """``make(**parameters)``: an untrained, small VBPR on :func:`items`."""

    def build(**options):
        return make_experiment("VBPR", **{**OPTIONS, "data_path": str(items), **options})

    return build


def features_of(experiment) -> np.ndarray:
    """f: both modalities, each divided by the mean length of the vectors that are there."""
    parts = []
    for name in experiment.config["item_modalities"]:
        vectors = experiment.parts.train_dataset.item_vectors(name).double().numpy()
        lengths = [np.sqrt(row @ row) for row in vectors if row.any()]
        parts.append(vectors / np.mean(lengths))
    return np.concatenate(parts, axis=1)


def parameters_of(model) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in model.named_parameters()}


def literal_score(values: dict[str, np.ndarray], features: np.ndarray, user: int, item: int, size: int) -> float:
    """beta_i + gamma_u . gamma_i + theta_u . (E f_i) + beta' . f_i, term by term."""
    gamma, theta = values["user_factors.weight"][user, :size], values["user_factors.weight"][user, size:]
    score = values["item_bias.weight"][item, 0]
    for k in range(size):
        score += gamma[k] * values["item_factors.weight"][item, k]
    for d in range(len(theta)):
        for index, feature in enumerate(features[item]):
            score += theta[d] * values["projection.weight"][d, index] * feature
    return score + sum(values["feature_bias.weight"][0] * features[item])


def literal_loss(values, features, batch, size: int, reg: float, feature_reg: float) -> float:
    total = 0.0
    for user, positive, negative in batch:
        scores = [literal_score(values, features, user, item, size) for item in (positive, negative)]
        total += np.log1p(np.exp(scores[1] - scores[0]))
        rows = [values["user_factors.weight"][user]]
        for item in (positive, negative):
            rows += [values["item_factors.weight"][item], values["item_bias.weight"][item]]
        total += reg * sum(np.square(row).sum() for row in rows)
    shared = np.square(values["projection.weight"]).sum() + np.square(values["feature_bias.weight"]).sum()
    return total / len(batch) + feature_reg * shared


def test_scores_are_those_of_the_equation(make):
    experiment = shake(make())
    model, values, features = experiment.model, parameters_of(experiment.model), features_of(experiment)
    pairs = [(user, item) for user in (1, 7, 30) for item in range(1, model.n_items)]
    slow = [literal_score(values, features, user, item, 6) for user, item in pairs]
    user, item = torch.tensor(pairs).T
    np.testing.assert_allclose(model.predict(Interaction({"user_id": user, "item_id": item})), slow, atol=1e-5)
    full = model.full_sort_predict(Interaction({"user_id": torch.arange(model.n_users)})).view(model.n_users, -1)
    np.testing.assert_allclose(full[user, item], slow, atol=1e-5)
    assert np.std(slow) > 0.1


def test_loss_and_gradient_are_those_of_the_equation(make):
    """The gradient by central differences of the loss in numpy, at the largest entries of every parameter."""
    experiment = shake(make(reg_weight=0.03, feature_reg_weight=0.02))
    model, values, features = experiment.model, parameters_of(experiment.model), features_of(experiment)
    batch = [(1, 2, 3), (1, 2, 5), (4, 3, 2), (9, 30, 31)]  # users and items that occur again
    user, positive, negative = torch.tensor(batch).T
    loss = model.calculate_loss(Interaction({"user_id": user, "item_id": positive, "neg_item_id": negative}))
    assert loss.item() == pytest.approx(literal_loss(values, features, batch, 6, 0.03, 0.02), rel=1e-5)
    loss.backward()
    for name, parameter in model.named_parameters():
        gradient = parameter.grad.numpy()
        for position in np.argsort(np.abs(gradient), axis=None)[-3:]:
            index = np.unravel_index(position, gradient.shape)
            slopes = []
            for step in (1e-5, -1e-5):
                moved = {**values, name: values[name].copy()}
                moved[name][index] += step
                slopes.append(literal_loss(moved, features, batch, 6, 0.03, 0.02))
            assert gradient[index] == pytest.approx((slopes[0] - slopes[1]) / 2e-5, rel=1e-3, abs=1e-5), (name, index)
        assert np.abs(gradient).max() > 1e-3


def test_modalities_have_equal_weight_at_any_scale():
    vectors = torch.randn(9, 4)
    vectors[3] = 0.0
    scaled = unit_scale(vectors)
    assert scaled.norm(dim=1).sum().item() == pytest.approx(8.0, rel=1e-6)
    torch.testing.assert_close(unit_scale(vectors * 1000.0), scaled)
    assert not scaled[3].any()


def test_it_learns_from_item_vectors_alone(make_experiment, train):
    """One factor of zeros, so that only reviews can be learned from."""
    options = {"embedding_size": 1, "epochs": 10, "stopping_step": 10, "learning_rate": 0.01}
    experiment = make_experiment("VBPR", **options)
    assert not predicts_ratings(experiment.config)
    experiment.model.item_factors.weight.requires_grad_(False).zero_()
    trainer = train(experiment)
    losses = [entry["train_loss"] for entry in trainer.history]
    assert losses[-1] < 0.95 * losses[0]
    metrics = trainer.evaluate_part(experiment.parts.valid).metrics
    assert not {"rmse", "mae"} & set(metrics) and metrics["full_recall@20"] > 0
    assert experiment.model.feature_bias.weight.abs().max() > 0


def test_a_user_without_training_rows_gets_items_by_their_biases(small, train, make_experiment, tmp_path):
    """The newest rows are the test part, and those of one user are all new."""

    def change(frame):
        frame.loc[frame["user_id:token"] == frame["user_id:token"].iloc[0], "timestamp:float"] += 10**9
        return frame

    copy_of(small.root, tmp_path / "first", change)
    root = with_item_vectors(tmp_path / "first", tmp_path / "data", MISSING)
    eval_args = {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": None, "order": "TO", "mode": "full"}
    experiment = make_experiment("VBPR", **{**OPTIONS, "data_path": str(root), "eval_args": eval_args})
    model, seen = experiment.model, experiment.parts.train_dataset.inter_feat["user_id"].tolist()
    user = next(number for number in range(1, model.n_users) if number not in seen)
    train(experiment)
    scores = model.full_sort_predict(Interaction({"user_id": torch.tensor([user])}))
    values = parameters_of(model)
    known = values["item_bias.weight"][:, 0] + features_of(experiment) @ values["feature_bias.weight"][0]
    np.testing.assert_allclose(scores, known, atol=1e-6)
    assert scores[1:].std() > 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"item_modalities": ["image", "txt"]}, "value of 'item_modalities': 'txt'; did you mean 'text'"),
        ({"item_modalities": []}, "'item_modalities' must be a list of one name or more"),
        ({"train_target": "rating"}, "value of 'train_target': 'rating'"),
    ],
)
def test_parameters_that_make_no_sense(options, message, make):
    with pytest.raises(ConfigError, match=message):
        make(**options)


@pytest.mark.parametrize(
    "value, message",
    [
        ({"feature_size": 0}, "'feature_size' must be 1 or more"),
        ({"feature_reg_weight": -1.0}, "'feature_reg_weight' must be 0 or more"),
    ],
)
def test_numbers_out_of_range(value, message, make_config):
    with pytest.raises(ConfigError, match=message):
        make_config("VBPR", **value)
