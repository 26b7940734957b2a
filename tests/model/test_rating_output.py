"""Point and ordinal output: the head, and its use in training, evaluation and files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from altered import copy_of
from conftest import FEW_EPOCHS, SETTINGS
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.evaluation.collector import distribution_columns
from recbole_drex.evaluation.rating_metrics import calibration_bins, distribution_metrics
from recbole_drex.experiments.quick_start import run
from recbole_drex.model.abstract_recommender import OrdinalHead, PointHead
from recbole_drex.results.run_result import read_interactions, read_users

LEVELS = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
SHARES = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.35])


def offsets() -> torch.nn.Embedding:
    """Those of seven users, as before training."""
    return torch.nn.Embedding.from_pretrained(torch.zeros(7, 4), freeze=False)


def head(seed: int = 0, spread: float = 0.5) -> OrdinalHead:
    """A head with random thresholds and users' offsets, in double precision."""
    torch.manual_seed(seed)
    made = OrdinalHead(LEVELS, SHARES, 3.8, offsets(), 0.1, 2.0).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += spread * torch.randn_like(parameter)
    return made


def test_an_untrained_head_predicts_the_shares_of_the_ratings():
    made = OrdinalHead(LEVELS, SHARES, 3.8, offsets(), 0.1, 2.0)
    predicted = made.distribution(torch.tensor([3.8]), torch.tensor([2]))
    assert torch.allclose(predicted, SHARES[None], atol=1e-3)


@settings(deadline=None)
@given(st.integers(0, 50), st.floats(-30, 30))
def test_probabilities_are_probabilities_and_rise_with_the_score(seed, score):
    made = head(seed, spread=2.0)
    user = torch.arange(7)
    scores = torch.full((7,), score, dtype=torch.float64)
    low, high = made.distribution(scores, user), made.distribution(scores + 0.5, user)
    assert (low >= 0).all() and torch.allclose(low.sum(-1), torch.ones(7, dtype=torch.float64))
    assert (high.cumsum(-1) <= low.cumsum(-1) + 1e-12).all()
    assert (made.thresholds(user).diff() > 0).all()
    assert (made.mean(scores, user) > 1 - 1e-9).all() and (made.mean(scores, user) < 5 + 1e-9).all()


def test_the_loss_is_the_negative_log_likelihood_and_the_penalty():
    made = head()
    score, user = torch.randn(20, dtype=torch.float64) + 3, torch.randint(0, 7, (20,))
    rating = LEVELS.double()[torch.randint(0, 5, (20,))]
    made.levels = made.levels.double()
    expected, scale = 0.0, made.log_scale.exp().item()
    for s, u, r in zip(score.tolist(), user.tolist(), rating.tolist(), strict=True):
        cuts = [-np.inf, *made.thresholds(torch.tensor([u]))[0].tolist(), np.inf]
        k = int(r) - 1
        below, above = (1 / (1 + np.exp(-(cut - scale * s))) for cut in (cuts[k], cuts[k + 1]))
        expected -= np.log(above - below) / 20
        expected += 0.1 * float((2.0 * made.offsets.weight[u]).square().sum()) / 20  # rate 2
    assert made.loss(score, user, rating).item() == pytest.approx(expected, rel=1e-9)


def test_gradients_of_the_ordinal_loss_agree_with_finite_differences():
    made = head(3)
    made.levels = made.levels.double()
    user, rating = torch.tensor([0, 1, 1, 4, 6]), torch.tensor([1.0, 5.0, 3.0, 2.0, 4.0], dtype=torch.float64)
    score = torch.tensor([3.0, 2.0, 8.0, -4.0, 4.0], dtype=torch.float64, requires_grad=True)
    parameters = [score, made.log_scale, made.first, made.gaps, made.offsets.weight]

    def loss(*_):
        return made.loss(score, user, rating)

    assert torch.autograd.gradcheck(loss, parameters)


def test_scores_far_out_have_finite_losses_and_gradients():
    made = OrdinalHead(LEVELS, SHARES, 3.8, offsets(), 0.1, 2.0)
    score = torch.tensor([1e4, -1e4, 80.0, -80.0], requires_grad=True)
    loss = made.loss(score, torch.zeros(4, dtype=torch.long), torch.tensor([1.0, 5.0, 3.0, 3.0]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(score.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in made.parameters())


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("mse", (0.25 + 4.0) / 2), ("l1", (0.5 + 2.0) / 2), ("huber", (0.125 + 1.5) / 2)],
)
def test_losses_of_points(loss, expected):
    made = PointHead(loss)
    user = torch.zeros(2, dtype=torch.long)
    assert made.loss(torch.tensor([3.5, 1.0]), user, torch.tensor([3.0, 3.0])).item() == pytest.approx(expected)


def test_figures_of_a_distribution():
    p = torch.tensor([[0.2, 0.3, 0.0, 0.1, 0.4], [0.0, 0.0, 0.0, 0.0, 1.0]])
    median, relevant, spread, own = distribution_columns(p, LEVELS, torch.tensor([2.0, 4.6]), 4.0)
    assert median.tolist() == [2.0, 5.0]
    assert relevant.tolist() == pytest.approx([0.5, 1.0])
    mean = 0.2 + 0.6 + 0.4 + 2.0
    variance = sum(q * (level - mean) ** 2 for q, level in zip([0.2, 0.3, 0.0, 0.1, 0.4], range(1, 6), strict=True))
    assert spread.tolist() == pytest.approx([variance**0.5, 0.0], abs=1e-3)
    assert own.tolist() == pytest.approx([0.3, 1.0])


def test_calibration_error_against_a_loop():
    rng = np.random.default_rng(0)
    probability = np.append(rng.random(500), [0.0, 1.0])
    relevant = rng.random(502) < probability**2
    error = 0.0
    for low in np.arange(10) / 10:
        inside = (probability >= low) & ((probability < low + 0.1) | ((low == 0.9) & (probability == 1.0)))
        error += abs(probability[inside].mean() - relevant[inside].mean()) * inside.sum() / 502
    assert distribution_metrics(relevant, probability, np.full(502, 0.5))["calibration_error"] == pytest.approx(error)
    assert calibration_bins(relevant, probability)["rows"].sum() == 502
    assert np.isfinite(distribution_metrics([True], [1.0], [0.0])["nll"])


@pytest.mark.parametrize("model", ["DReX", "DReX-MLP", "BiasedMF", "Bias"])
def test_ordinal_output_through_training_and_files(small, tmp_path, model):
    parameters = {**SETTINGS, **FEW_EPOCHS, "output": "ordinal"}
    options = {"data_path": small.root, "output": tmp_path, "references": False, "parameters": parameters}
    (result,) = run([model], "small", **options)
    assert (result["loss"], result["output"]) == ("ordinal", "distribution")
    own = result["test"]["own_test"]
    folder = tmp_path / "small" / model / "seed-2026"
    test = read_interactions(folder).query("split == 'test'")
    assert (test["prediction_median"] - test["rating"]).abs().mean() == pytest.approx(own["mae_median"], abs=1e-9)
    assert (test["prediction"] - test["rating"]).abs().mean() == pytest.approx(own["mae"], abs=1e-6)
    assert set(test["prediction_median"]) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert test["probability_relevant"].between(0, 1).all() and (test["prediction_std"] > 0).all()
    users = read_users(folder)
    weighted = (users["mae_median"] * users["test_ratings"]).sum() / users["test_ratings"].sum()
    assert weighted == pytest.approx(own["mae_median"], abs=1e-9)
    assert own["nll"] < np.log(5) and 0 <= own["calibration_error"] < 0.5


@pytest.mark.parametrize("model", ["DReX", "BiasedMF", "Bias"])
def test_expected_ratings_and_distributions_agree_in_every_view(make_experiment, train, model):
    experiment = make_experiment(model, output="ordinal")
    train(experiment)
    part = experiment.parts.test.rows._dataset.inter_feat[:40]
    distribution = experiment.model.predict_distribution(part)
    assert torch.allclose(experiment.model.predict(part), distribution @ experiment.model.head.levels, atol=1e-5)
    full = experiment.model.full_sort_predict(part[:3]).view(3, -1)
    rows = torch.arange(3)
    assert torch.allclose(full[rows, part["item_id"][:3]], experiment.model.predict(part[:3]), atol=1e-4)


def test_the_bias_model_has_a_closed_form_for_squared_errors_only(make_experiment, train):
    fitted = {}
    for loss in ("mse", "huber"):
        experiment = make_experiment("Bias", loss=loss, weight_decay=0.1, epochs=3)
        before = experiment.model.user_effect.detach().clone()
        trainer = train(experiment)
        fitted[loss] = torch.equal(before, experiment.model.user_effect)
        assert len(trainer.history) == (1 if loss == "mse" else 3)
    assert fitted == {"mse": True, "huber": False}


def test_ratings_that_are_all_the_same_have_no_order(small, make_experiment, tmp_path):
    def flat(frame):
        return frame.assign(**{"rating:float": frame["rating:float"].where(frame["rating:float"].isna(), 4.0)})

    root = copy_of(small.root, tmp_path / "data", flat)
    with pytest.raises(DataError, match="all training ratings are 4"):
        make_experiment("BiasedMF", output="ordinal", data_path=str(root))


@pytest.mark.parametrize(("key", "value"), [("output", "ordnal"), ("loss", "mae"), ("output", None)])
def test_unknown_outputs_and_losses_are_named(make_experiment, key, value):
    with pytest.raises(ConfigError, match=key):
        make_experiment("BiasedMF", **{key: value})


@pytest.mark.parametrize("model", ("DReX", "DReX-MLP", "BiasedMF"))
def test_two_levels(model, small, make_experiment, train, tmp_path):
    """Ratings 0 and 1: ordinal output is a logistic regression."""

    def change(frame):
        rating = frame["rating:float"]
        return frame.assign(**{"rating:float": (rating > 3).astype(float).where(rating.notna())})

    root = copy_of(small.root, tmp_path / "data", change)
    experiment = make_experiment(model, output="ordinal", data_path=str(root), rating_range=[0, 1])
    trainer = train(experiment)
    part = experiment.parts.test.rows._dataset.inter_feat
    distribution = experiment.model.predict_distribution(part)
    assert distribution.shape == (len(part), 2)
    torch.testing.assert_close(experiment.model.predict(part), distribution[:, 1])
    assert 0 < trainer.evaluate_part(experiment.parts.test).metrics["rmse"] < 0.6
