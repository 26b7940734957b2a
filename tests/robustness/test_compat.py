"""RecBole 1.2.1 works on the installed numpy, scipy, pandas and torch."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hostile import RunsCode
from scored import every_pair, fixed_epochs

import recbole_drex.compat as compat
import recbole.data.dataset.dataset as recbole_dataset
from recbole.data.dataset import Dataset

from recbole_drex.data.dataset import ReviewDataset
from recbole_drex.errors import CheckpointError
from recbole_drex.experiments.run import build
from recbole_drex.registry import get_model


def test_names_are_restored():
    assert np.float64 is np.float64
    assert np.complex128 is np.complex128
    assert np.str_ is np.str_
    matrix = scipy.sparse.dok_matrix((2, 2))
    matrix._update({(0, 1): 3.0})
    assert matrix.toarray().tolist() == [[0, 3], [0, 0]]


def test_applying_twice_changes_nothing():
    before = (recbole_dataset.pd, Dataset._fill_nan, scipy.sparse.dok_matrix._update)
    compat.apply()
    assert before == (recbole_dataset.pd, Dataset._fill_nan, scipy.sparse.dok_matrix._update)
    assert recbole_dataset.pd.DataFrame is pd.DataFrame
    assert pd.read_csv is not recbole_dataset.pd.read_csv


TABLE = """\
user_id:token\titem_id:token\trating:float\ttimestamp:float\treview_row:float\ttags:token_seq\tvector:float_seq
a\tx\t5\t10\t0\tred green\t0.5 1.5
a\ty\t3\t\t\t\t
b\tx\t\t30\t2\tblue\t1.0 2.0
b\ty\t4\t40\t\t\t
c\tx\t1\t50\t4\t\t3.0 4.0
"""
FIELDS = ["user_id", "item_id", "rating", "timestamp", "review_row", "tags", "vector"]


@pytest.fixture
def table_config(tmp_path, make_config):
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "table.inter").write_text(TABLE)
    return make_config("BPR", "table", data_path=str(tmp_path), load_col={"inter": FIELDS})


@pytest.mark.parametrize("kind", (Dataset, ReviewDataset))
def test_missing_values_are_filled(kind, table_config):
    dataset = kind(table_config)
    frame = dataset.inter_feat
    rows = [
        (dataset.id2token("user_id", u), dataset.id2token("item_id", i))
        for u, i in zip(frame["user_id"], frame["item_id"], strict=True)
    ]
    tags = dict(zip(rows, frame["tags"], strict=True))
    vectors = dict(zip(rows, frame["vector"], strict=True))
    assert not frame[["user_id", "item_id", "rating", "timestamp", "review_row"]].isna().any().any()
    assert [dataset.id2token("tags", tag) for tag in tags["a", "x"]] == ["red", "green"]
    assert len(tags["a", "y"]) == len(tags["c", "x"]) == 0
    assert vectors["a", "x"].tolist() == [0.5, 1.5]
    assert len(vectors["a", "y"]) == len(vectors["b", "y"]) == 0
    if kind is ReviewDataset:
        assert ("b", "x") not in rows
        assert len(dataset.unrated) == 1
        values = dict(zip(rows, zip(frame["timestamp"], frame["review_row"], strict=True), strict=True))
        assert values["a", "y"] == (0.0, -1.0)
        assert values["c", "x"] == (50.0, 4.0)
    else:
        rating = dict(zip(rows, frame["rating"], strict=True))
        assert rating["b", "x"] == pytest.approx(13 / 4)  # RecBole's rule: the column's mean
    built = dataset._dataframe_to_interaction(frame)
    assert built["tags"].shape[1] >= 2
    assert torch.isfinite(built["vector"]).all()


@pytest.mark.parametrize("name", ("BPR", "LightGCN"))
def test_recbole_models_train_on_recboles_own_data(name, make_config, tmp_path):
    example = Path(recbole_dataset.__file__).parents[2] / "dataset_example"
    options = {
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "train_batch_size": 2048,
        "learning_rate": 0.01,
    }
    config = make_config(name, "ml-100k", data_path=str(example), **options)
    experiment = build(config, {"fingerprint": ""})
    assert len(experiment.dataset) == 100_000
    fixed_epochs(experiment, tmp_path, epochs=1)
    scores = every_pair(experiment)
    assert np.isfinite(scores).all()
    train, test = np.zeros_like(scores, dtype=bool), np.zeros_like(scores, dtype=bool)
    for part, mask in ((experiment.parts.train_dataset, train), (experiment.parts.test.rows._dataset, test)):
        mask[part.inter_feat["user_id"].numpy() - 1, part.inter_feat["item_id"].numpy() - 1] = True
    assert scores[test].mean() > scores[~train & ~test].mean()


@pytest.mark.parametrize("name, function", (("NeuMF", "torch"), ("LDiffRec", "np")))
def test_models_of_recbole_read_numbers_and_no_code(name, function, tmp_path):
    loads = vars(sys.modules[get_model(name).__module__])[function].load
    ran = tmp_path / "ran"
    (tmp_path / "evil").write_bytes(pickle.dumps(RunsCode(ran)))
    with pytest.raises(CheckpointError, match="evil holds more than numbers"):
        loads(tmp_path / "evil")
    assert not ran.exists()
    torch.save({"state_dict": {"w": torch.ones(2)}}, tmp_path / "good.pth")
    np.save(tmp_path / "good.npy", np.ones(2))
    good = loads(tmp_path / "good.pth")["state_dict"]["w"] if function == "torch" else loads(tmp_path / "good.npy")
    assert good.tolist() == [1, 1]


def test_ract_is_trained_in_stages_each_from_the_checkpoint_of_the_one_before(make_experiment, train):
    before, actors = {}, []
    # RecBole saves every save_step-th epoch of a pretraining: here none of the first stage's.
    for stage, step in (("actor_pretrain", 10), ("critic_pretrain", 2), ("finetune", 10)):
        experiment = make_experiment(
            "RaCT", train_stage=stage, pretrain_epochs=2, save_step=step, metrics_k=20, **before
        )
        trainer = train(experiment)
        before = {"pre_model_path": trainer.saved_model_file}
        actors.append(torch.cat([weight.flatten() for weight in experiment.model.encoder.parameters()]).detach())
        assert not list(trainer.run_dir.rglob("*.pth"))
    assert actors[0].equal(actors[1]) and not actors[1].equal(actors[2])


def test_without_recbole_the_error_is_the_line_that_installs_it(tmp_path):
    """In a process that sees all installed packages but RecBole."""
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if not entry.name.startswith("recbole"):
                (tmp_path / entry.name).symlink_to(entry)
    paths = [str(tmp_path), str(Path(compat.__file__).parents[1])]
    command = [sys.executable, "-S", "-c", "import recbole_drex.compat"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path)
    assert result.returncode == 1
    assert "ImportError: recbole_drex extends RecBole" in result.stderr
    assert compat.INSTALL_LINE in result.stderr
    assert f"recbole=={compat.RECBOLE_VERSION}" in compat.INSTALL_LINE
