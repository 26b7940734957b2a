"""Models that a user's program registers: in runs and comparisons, with checked parameters, and loaded again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole.model.general_recommender import BPR

import recbole_drex
from recbole_drex import registry
from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter, with_defaults
from recbole_drex.config.recbole_config import Config
from recbole_drex.errors import CheckpointError, ConfigError
from recbole_drex.evaluation.metrics import predicts_ratings
from recbole_drex.model.abstract_recommender import RatingModel
from recbole_drex.model.factorization.biasedmf import BiasedMF
from recbole_drex.utils.files import read_json


class UserMean(RatingModel):
    """Mean rating plus an effect of the user."""

    PARAMETERS = (
        Parameter("start", float, 0.25, "Effects before training.", least=0, most=1),
        *with_defaults(RatingModel.PARAMETERS, loss="l1"),
        general("epochs", 1),
    )

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.effect = nn.Parameter(torch.full((self.n_users,), config["start"]))

    def score(self, user, item):
        return self.mean + self.effect[user] + torch.zeros(item.shape)

    def calculate_loss(self, interaction):
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        return self.head.loss(self.score(user, item), user, interaction[self.rating_field])


class PairwiseMF(BPR):
    """RecBole's BPR under another name."""

    PARAMETERS = (Parameter("embedding_size", int, 4, "Width.", least=1),)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    assert recbole_drex.register_model(UserMean) is UserMean and recbole_drex.register_model(PairwiseMF) is PairwiseMF


@pytest.fixture
def given(small, tmp_path):
    parameters = {**small.settings, "explained_users": 0, "measured_users": 0}
    return {"data_path": small.root, "output": tmp_path, "parameters": parameters, "references": False}


def test_declared_defaults_win_over_those_that_every_model_has():
    config = Config("usermean", "x")
    assert (config.model, config["start"], config["loss"], config["epochs"]) == ("UserMean", 0.25, "l1", 1)
    assert config["valid_metric"] == "rmse" and config["train_batch_size"] == 1024
    assert Config("UserMean", "x", config_dict={"epochs": 3})["epochs"] == 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"start": 2}, "parameter 'start' must be 0 to 1, not 2"),
        ({"start": "x"}, "parameter 'start' must be float, like 0.25, but is 'x'"),
        ({"loss": "hubre"}, "unknown value of 'loss': 'hubre'; did you mean 'huber'"),
        ({"stort": 1}, "unknown parameter of UserMean: 'stort'; did you mean 'start'"),
    ],
)
def test_its_parameters_are_checked(parameters, message):
    with pytest.raises(ConfigError, match=message):
        Config("UserMean", "x", config_dict=parameters)


def test_a_model_of_ratings_runs_is_compared_and_loaded(small, given, tmp_path, monkeypatch):
    (result,) = recbole_drex.run([UserMean], small.name, **given)
    assert result["model"] == "UserMean" and result["test"]["own_test"]["rmse"] < 2
    comparison = recbole_drex.compare([UserMean, "UserMean+start=0.5"], [small.name], seeds=[2026], **given)
    assert [run.label for run in comparison.runs] == ["UserMean", "UserMean+start=0.5"]
    folder = tmp_path / small.name / "UserMean" / "seed-2026"
    assert type(recbole_drex.load(folder).experiment.model) is UserMean
    monkeypatch.setattr(registry, "_registered", {})
    with pytest.raises(CheckpointError, match="unknown model 'UserMean': before it is loaded, import the module that"):
        recbole_drex.load(folder)


def test_a_subclass_of_a_model_of_recbole_predicts_no_ratings(small, given, tmp_path):
    assert not predicts_ratings(Config("PairwiseMF", "x")) and predicts_ratings(Config("UserMean", "x"))
    with pytest.raises(ConfigError, match="'embedding_size' must be 1 or more, not 0"):
        Config("PairwiseMF", "x", config_dict={"embedding_size": 0})
    given["parameters"] |= {"epochs": 1}
    recbole_drex.run(["pairwisemf"], small.name, **given)
    result = read_json(tmp_path / small.name / "PairwiseMF" / "seed-2026" / "result.json")
    assert "rmse" not in result["test"]["own_test"] and result["test"]["full"]["ndcg@10"] > 0


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (type("drex", (BiasedMF,), {}), "model drex exists already; give the class another name"),
        (type("lightgcn", (BiasedMF,), {}), "model lightgcn exists already"),
        (type("_Mine", (BiasedMF,), {}), "model name '_Mine' is not legal"),
        (type("Mine", (nn.Module,), {}), "class Mine is not a model: derive it from RecBole's GeneralRecommender"),
    ],
)
def test_what_cannot_be_registered(cls, message):
    with pytest.raises(ConfigError, match=message):
        recbole_drex.register_model(cls)


def test_a_class_or_name_that_is_not_registered(small, given):
    for model, message in (("UserMeen", "did you mean 'UserMean'.* import the module that registers it"),):
        with pytest.raises(ConfigError, match=message):
            recbole_drex.run([model], small.name, **given)
