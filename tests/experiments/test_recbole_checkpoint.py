"""Checkpoints that RecBole wrote are evaluated on the rows that RecBole tests, and read only where they are trusted."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hostile import RunsCode

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_drex.cli.main import main
from recbole_drex.errors import CheckpointError, ConfigError
from recbole_drex.experiments.recbole_checkpoint import evaluate_checkpoint
from recbole_drex.experiments.run import load_experiment
from recbole_drex.results.run_result import read_result

ALL_RELEVANT = {"relevance": "threshold", "relevance_threshold": 0.0, "gain": "binary"}


def write_ratings(root: Path, missing: int = 0) -> None:
    rng = np.random.default_rng(3)
    pairs = [(user, item) for user in range(40) for item in rng.choice(60, 20, replace=False)]
    table = pd.DataFrame(pairs, columns=["user_id:token", "item_id:token"]).sample(frac=1, random_state=1)
    table["rating:float"] = rng.integers(1, 6, len(table)).astype(float)
    table.iloc[:missing, 2] = np.nan
    (root / "plain").mkdir(parents=True, exist_ok=True)
    table.to_csv(root / "plain" / "plain.inter", sep="\t", index=False)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """``trained(model, **parameters)``: train by RecBole alone; the checkpoint and its metrics on the test part."""
    monkeypatch.chdir(tmp_path)  # RecBole writes into the working directory
    monkeypatch.setattr(sys, "argv", ["recbole"])

    def train(model, **parameters):
        given = {
            "data_path": str(tmp_path / "data"),
            "checkpoint_dir": str(tmp_path / "saved"),
            "epochs": 1,
            "gpu_id": "",
            "load_col": {"inter": ["user_id", "item_id"]},
            "eval_args": {"split": {"RS": [0.7, 0.1, 0.2]}},
            **parameters,
        }
        config = RecBoleConfig(model, "plain", config_dict=given)
        init_seed(config["seed"], config["reproducibility"])
        train_data, valid_data, test_data = data_preparation(config, create_dataset(config))
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(
            config, get_model(config["model"])(config, train_data._dataset).to(config["device"])
        )
        trainer.fit(train_data, valid_data)
        return Path(trainer.saved_model_file), trainer.evaluate(test_data, load_best_model=False)

    return train


@pytest.mark.parametrize("model, parameters", [("BPR", {"embedding_size": 16, "seed": 7}), ("MultiDAE", {})])
def test_metrics_are_those_of_recbole(model, parameters, trained, tmp_path):
    write_ratings(tmp_path / "data")
    path, theirs = trained(model, **parameters)
    result = evaluate_checkpoint(path, trusted=True, output=tmp_path / "results", parameters=ALL_RELEVANT)
    assert result["test"]["full"]["recall@10"] == pytest.approx(theirs["recall@10"], abs=1e-4)  # RecBole rounds
    assert result["test"]["full"]["ndcg@10"] == pytest.approx(theirs["ndcg@10"], abs=1e-4)
    assert result["epochs_run"] == 0
    folder = tmp_path / "results" / "plain" / model / f"seed-{parameters.get('seed', 2020)}"
    assert read_result(folder) == result
    experiment = load_experiment(folder)  # without pickle, and without RecBole's file
    saved = torch.load(path, weights_only=False)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in experiment.model.state_dict().items())


def test_a_split_that_cannot_be_made_again_is_refused(trained, tmp_path):
    write_ratings(tmp_path / "data", missing=9)  # rows that RecBole splits with the others where it reads no ratings
    path, _ = trained("BPR")
    with pytest.raises(CheckpointError, match="splits 'plain' differently"):
        evaluate_checkpoint(path, trusted=True, output=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_parameters_of_the_checkpoint_cannot_be_changed(trained, tmp_path):
    write_ratings(tmp_path / "data")
    path, _ = trained("BPR")
    for name, value in (("seed", 1), ("embedding_size", 8), ("eval_args", {"order": "TO"})):
        with pytest.raises(ConfigError, match=f"'{name}' is set by"):
            evaluate_checkpoint(path, trusted=True, parameters={name: value})


def test_nothing_is_read_without_trust(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(RunsCode(tmp_path / "ran")))
    assert main(["evaluate", str(path)]) == 2
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert "pickles, which can run arbitrary code; add --trust-checkpoint" in output
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({"epoch": 1})])
def test_other_files_are_named(content, tmp_path, capsys):
    (tmp_path / "x.pth").write_bytes(content)
    assert main(["evaluate", str(tmp_path / "x.pth"), "--trust-checkpoint"]) == 2
    assert main(["evaluate", str(tmp_path / "none.pth"), "--trust-checkpoint"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
