"""Properties of all review-based models."""

from __future__ import annotations

import pytest
import torch
from altered import copy_of

ATTENTIVE = ("DAML", "HRDR", "NARRE")


@pytest.mark.parametrize("model", ATTENTIVE)
def test_constant_ratings(model, make_experiment, small, tmp_path, train):
    def constant(frame):
        return frame.assign(**{"rating:float": frame["rating:float"].where(frame["rating:float"].isna(), 4.0)})

    root = copy_of(small.root, tmp_path / "data", constant)
    experiment = make_experiment(model, data_path=str(root), epochs=1, dropout=0.0)
    assert train(experiment).evaluate_part(experiment.parts.valid).metrics["rmse"] < 0.5


@pytest.mark.parametrize("model", ATTENTIVE)
def test_every_parameter_learns(model, make_experiment):
    experiment = make_experiment(model)
    trained = experiment.model.train()
    trained.calculate_loss(next(iter(experiment.parts.train))).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in trained.parameters())


@pytest.mark.parametrize("model", ("DeepCoNN", *ATTENTIVE))
def test_ordinal_output(model, make_experiment):
    experiment = make_experiment(model, output="ordinal")
    trained, batch = experiment.model.train(), experiment.parts.train_dataset.inter_feat[torch.arange(50)]
    trained.calculate_loss(batch).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in trained.parameters())
    probability = trained.eval().predict_distribution(batch)
    torch.testing.assert_close(probability.sum(1), torch.ones(50))
    torch.testing.assert_close(probability @ trained.head.levels, trained.predict(batch))
