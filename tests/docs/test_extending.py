"""``docs/extending.md``: its blocks, in one program, do what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from recbole_drex import load, registry
from recbole_drex.data.items.item_features import ItemFeatures
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.utils.files import read_json

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Any:
    """The names that the page's blocks define, after they ran in an empty folder."""
    known = dict(registry._registered)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        from recbole.evaluator import metric_types, register

        for table in (metric_types, register.metrics_dict, register.metric_information):
            patch.setitem(table, "twohits", None)  # taken out again afterwards
        names: dict[str, Any] = {"__name__": "page"}
        for block in BLOCKS:
            exec(compile(block, str(PAGE), "exec"), names)
        yield names
    registry._registered.clear()
    registry._registered.update(known)


def test_a_model_has_at_most_thirty_lines():
    (block,) = [block for block in BLOCKS if "@recbole_drex.register_model" in block]
    assert len(block.partition("@recbole_drex")[2].splitlines()) <= 30


def test_a_registered_model_is_trained_and_loaded(done):
    assert type(done["run"].experiment.model) is done["ProductMF"]
    result = read_json("results/mine/ProductMF/seed-2026/result.json")
    assert done["run"].experiment.model.users.weight.shape[1] == 4 and result["test"]["own_test"]["rmse"] < 2


def test_a_metric_is_computed(done):
    result = read_json("results/mine/Bias/seed-2026/result.json")
    assert result["test"]["recbole"] == done["result"]["test"]["recbole"]
    assert 0 <= result["test"]["recbole"]["twohits@10"] <= 1


def test_an_encoder_gives_the_words_vectors(done):
    store = FeatureStore.open("atomic_data/encoded/features")
    assert store.vectors.shape[1] == 16


def test_a_modality_reaches_the_models(done):
    assert "sound" in ItemFeatures("atomic_data/heard/items").names
    assert load("results/heard/VBPR/seed-2026").experiment.model.features.shape[1] == 2
    assert load("results/heard/DReX/seed-2026").experiment.model.projections["sound"].in_features == 2
