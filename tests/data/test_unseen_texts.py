"""The leak rule from the raw file on: what validation and test rows say and rate reaches no prediction."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from altered import pairs

from recbole.data.interaction import Interaction

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.experiments.run import build
from recbole_drex.training.run_record import Experiment
from recbole_drex.training.trainer import make_trainer

NAME = "raw"
OPTIONS: dict[str, Any] = {
    "user_min": 5, "item_min": 3, "threads": 1, "epochs": 1, "train_batch_size": 128, "measured_users": 0,
}  # fmt: skip
# Lemmas before, between and after those of the other reviews, and some of theirs, repeated.
WORDS = [
    "aardvark",
    "abacus",
    "gameplay",
    "story",
    "boring",
    "superb",
    "controls",
    "not",
    "mizzen",
    "quokka",
    "zyzzyva",
    "zwieback",
    "awful",
    "music",
]


def experiment_of(root: Path, model: str, encoder: str) -> Experiment:
    config = Config(model, NAME, config_dict={**OPTIONS, "data_path": str(root), "encoder": encoder})
    return build(config, json.loads((root / NAME / f"{NAME}.json").read_text()))


def prepared(root: Path, reviews: Path, meta: Path, encoder: str) -> Path:
    config = Config("DReX", NAME, config_dict={**OPTIONS, "encoder": encoder})
    prepare(NAME, root, config.preparation(), Sources((reviews,), meta))
    return root


def with_noise(reviews: Path, target: Path, unseen: set[tuple[str, str]]) -> Path:
    """The raw reviews, in which the rows of the given pairs exchange their ratings and have other texts."""
    with gzip.open(reviews, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rng = np.random.default_rng(0)
    chosen = [row for row in rows if (row["user_id"], row["parent_asin"]) in unseen]
    rated = [row for row in chosen if row["rating"] is not None]
    for row, rating in zip(rated, rng.permutation([row["rating"] for row in rated]).tolist(), strict=True):
        row["rating"] = rating
    for row in chosen:
        if row.get("text"):
            row["text"] = " ".join(rng.choice(WORDS, rng.integers(1, 90)))
    with gzip.open(target, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return target


@pytest.fixture(scope="module", params=["static", "minilm"])
def roots(request, tmp_path_factory) -> tuple[str, Path, Path]:
    """Name of the encoder; the data set, and the one with noise."""
    folder = tmp_path_factory.mktemp(request.param)
    raw = generate_demo(folder, users=30, items=32, reviews=450)
    first = prepared(folder / "first", raw["reviews"], raw["meta"], request.param)
    unseen = pairs(experiment_of(first, "GlobalMean", request.param), "valid", "test")
    noisy = with_noise(raw["reviews"], folder / "noisy.jsonl.gz", unseen)
    return request.param, first, prepared(folder / "second", noisy, raw["meta"], request.param)


def trained(root: Path, model: str, encoder: str, folder: Path) -> Experiment:
    experiment = experiment_of(root, model, encoder)
    trainer = make_trainer(experiment.config, experiment.model, folder, experiment.parts)
    trainer.fit(experiment.parts.train, saved=False)
    experiment.model.eval()
    return experiment


@torch.no_grad()
def predictions(experiment: Experiment) -> np.ndarray:
    """Of all test pairs, and of all pairs."""
    feat = experiment.parts.test.rows._dataset.inter_feat
    users = torch.arange(1, experiment.dataset.user_num)
    own = experiment.model.predict(Interaction({name: feat[name] for name in ("user_id", "item_id")}))
    every = experiment.model.full_sort_predict(Interaction({"user_id": users}))
    return np.concatenate([np.asarray(own), np.asarray(every).reshape(len(users), -1)[:, 1:].ravel()])


def test_the_noise_is_there(roots):
    encoder, *folders = roots
    first, second = (experiment_of(root, "GlobalMean", encoder) for root in folders)
    for part in ("train", "valid", "test"):
        assert pairs(first, part) == pairs(second, part)
    ratings = [e.parts.test.rows._dataset.inter_feat["rating"] for e in (first, second)]
    assert not torch.equal(*ratings)
    old, new = (set(e.dataset.features().vocabulary) for e in (first, second))
    assert {"aardvark", "quokka", "zyzzyva"} <= new - old and old - new, "other words, before and after the others"


@pytest.mark.parametrize("model", ["DReX", "DReX-MLP", "DReX-paper", "NARRE", "DeepCoNN", "PESI", "PETER", "LIRDRec"])
def test_unseen_ratings_and_texts_reach_no_prediction(roots, model, tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_drex.model.drex.review_features._COMPONENTS", 8)  # fewer than the words have
    encoder, *folders = roots
    first, second = (predictions(trained(root, model, encoder, tmp_path / root.name)) for root in folders)
    assert np.isfinite(first).all() and first.std() > 0
    np.testing.assert_allclose(second, first, atol=1e-5, rtol=0)
