"""Training that starts from the words of another data set."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import FEW_EPOCHS, SETTINGS

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.experiments import source_training
from recbole_drex.experiments.run import build, load_experiment, run_one
from recbole_drex.experiments.source_training import learn_from_source

QUICK = {**SETTINGS, **FEW_EPOCHS, "explained_users": 0, "aspects": 8, "source_epochs": 2}


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    """Folder of two prepared data sets with users and items of the same names: ``one`` and ``two``."""
    root = tmp_path_factory.mktemp("domains")
    for name, seed in (("one", 1), ("two", 2)):
        raw = generate_demo(root / f"raw_{name}", users=40, items=40, reviews=800, seed=seed)
        prepare(name, root / "data", settings(name, root), Sources((raw["reviews"],), raw["meta"]))
    return root / "data"


def settings(name, root):
    return Config("DReX", name, config_dict={**SETTINGS, "data_path": str(root / "data")}).preparation()


@pytest.fixture
def experiment(domains):
    def make(source="two", root=domains, **parameters):
        given = {**QUICK, "data_path": str(root), "source": source, **parameters}
        config = Config("DReX", "one", config_dict=given)
        return build(config, json.loads((root / "one" / "one.json").read_text()))

    return make


def words_of(model) -> dict[str, torch.Tensor]:
    """Parameters that depend on words alone."""
    state = model.state_dict()
    return {name: state[name].clone() for name in state if name.startswith(("attention.", "aspects."))}


def test_words_are_learned_from_the_source_and_nothing_else(experiment):
    made = experiment()
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    notes = learn_from_source(made)
    after = made.model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert {"attention.scorer.weight", "aspects._centres", "aspects._sentiment", "aspects._importance"} <= changed
    assert all(name.startswith(("attention.", "aspects.", "projections.review.")) for name in changed)
    assert any("lemmas with aspects are in both" in note for note in notes)
    again = experiment()
    learn_from_source(again)
    assert all(torch.equal(value, after[name]) for name, value in words_of(again.model).items())


def test_held_out_rows_are_not_read(experiment, domains, monkeypatch):
    """Neither the source's validation and test rows, nor its rows of pairs in the data set's validation and test."""
    made, seen = experiment(), []
    original = source_training.split

    def noisy(config, dataset):
        """The split of the source, with noise in its held-out parts."""
        parts = original(config, dataset)
        seen.append(parts.train_dataset)
        for part in (parts.valid, parts.test):
            feat = part.rows._dataset.inter_feat
            feat["rating"][:] = 1.0
            feat["review_row"][:] = -1.0
        return parts

    learn_from_source(made)
    expected = words_of(made.model)
    monkeypatch.setattr(source_training, "split", noisy)
    made = experiment()
    learn_from_source(made)
    assert all(torch.equal(value, expected[name]) for name, value in words_of(made.model).items())
    pairs = set()
    for part in (made.parts.valid, made.parts.test):
        feat, dataset = part.rows._dataset.inter_feat, made.dataset
        pairs |= set(zip(*(dataset.id2token(f, feat[f].numpy()) for f in ("user_id", "item_id")), strict=True))
    (source,) = seen
    whole = pd.read_csv(domains / "two" / "two.inter", sep="\t")
    assert pairs & set(zip(whole["user_id:token"], whole["item_id:token"], strict=True))  # otherwise nothing is tested
    for feat in (source.inter_feat, source.unrated):
        named = zip(*(source.id2token(f, feat[f].numpy()) for f in ("user_id", "item_id")), strict=True)
        assert not pairs & set(named)


def test_other_scales_are_mapped(experiment, domains):
    """A source with doubled ratings teaches the same, and a line says that they were mapped."""
    path = domains.parent / "raw_two" / "demo.jsonl.gz"
    frame = pd.read_json(path, lines=True)
    frame["rating"] *= 2
    frame.to_parquet(domains.parent / "doubled.parquet")
    changed = {**settings("doubled", domains.parent), "rating_range": [1, 10]}
    prepare("doubled", domains, changed, Sources((domains.parent / "doubled.parquet",)))
    (one, _), (other, notes) = ((made, learn_from_source(made)) for made in map(experiment, ("two", "doubled")))
    assert any("from 2 to 10, are mapped linearly to 1 to 5" in note for note in notes)
    for name, value in words_of(other.model).items():
        torch.testing.assert_close(value, words_of(one.model)[name], atol=1e-4, rtol=1e-3)


def test_results_name_the_source(domains, tmp_path):
    config = Config("DReX", "one", config_dict={**QUICK, "data_path": str(domains), "source": "two"})
    manifest = json.loads((domains / "one" / "one.json").read_text())
    result = run_one(config, manifest, tmp_path / "run")
    fingerprint = json.loads((domains / "two" / "two.json").read_text())["fingerprint"]
    assert result["source"] == {"dataset": "two", "fingerprint": fingerprint}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["source"] == result["source"]
    loaded = load_experiment(tmp_path / "run")
    assert np.isfinite(loaded.model.predict_unknown(1).numpy()).all()


def test_unsuitable_sources_are_refused(experiment, domains, tmp_path):
    manifest = json.loads((domains / "one" / "one.json").read_text())

    def describing(source):
        config = Config("DReX", "one", config_dict={**QUICK, "data_path": str(domains), "source": source})
        run_one(config, manifest, tmp_path / "run")

    with pytest.raises(ConfigError, match="is the data set itself"):
        describing("one")
    with pytest.raises(DataError, match="recbole-drex prepare --dataset nowhere"):
        describing("nowhere")
    with pytest.raises(ConfigError, match="modalities must have review"):
        learn_from_source(experiment(modalities=["rating"], taste=[]))
    other = experiment()
    other.manifest["encoder"] = {**other.manifest["encoder"], "static_vectors": "glove.txt"}
    with pytest.raises(ConfigError, match=r"same encoder, but static_vectors is 'glove.txt' and 'minilm'"):
        learn_from_source(other)
