"""The benchmarks of word features, on little data: what they compare is the same, and what they find is written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import attention
import encoding
import store
from recbole_drex.data.text.contextual_encoder import load_encoder
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.tokenizer import TextProcessor


@pytest.fixture
def few_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _findings(path) -> list[dict]:
    return json.loads(path.read_text())["findings"]


def test_attention_equals_the_equations(tmp_path, few_threads, capsys):
    output = tmp_path / "attention.json"
    lengths = ["--words", "6000", "--lengths", "10", "40"]
    assert attention.main([*lengths, "--repetitions", "1", "--output", str(output)]) == 0
    findings = _findings(output)
    for found, words in ((findings[:5], 10), (findings[5:], 40)):
        speed, features, gradients, *shares = found
        assert speed["value"] > 0 and float(speed["what"].split()[-4]) == pytest.approx(words, rel=0.1)
        assert features["reached"] and gradients["reached"]
        assert all(share["value"] > 0 for share in shares)
    for measured in json.loads(output.read_text())["stores"]:
        assert measured["apart"]["gradients"] < 1e-4, "rounding in single precision"
    assert "the store read once" in capsys.readouterr().out


def test_attention_reads_a_store(small, tmp_path, few_threads):
    output = tmp_path / "attention.json"
    features = small.root / small.name / "features"
    assert attention.main(["--features", str(features), "--repetitions", "1", "--output", str(output)]) == 0
    (measured,) = json.loads(output.read_text())["stores"]
    assert measured["words"] == small.manifest["words"]


def test_the_plain_loop_gives_the_encoders_features():
    reviews = [TextProcessor()(text) for text in ("Fun!", "", "The plots weren't boring, the heroes were.") * 12]
    plain, ours = encoding.PlainLoop().encode(reviews), load_encoder(precision="float32").encode(reviews)
    assert [len(one) for one in plain] == [len(one) for one in ours]
    for one, other in zip(plain, ours, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
    assert encoding.least_cosine(plain, ours) > 0.99999


def test_a_rounded_data_set_is_what_its_setting_prepares(small, tmp_path, make_experiment):
    rounded = store.round_dataset(small.root / small.name, tmp_path / small.name)
    whole = FeatureStore.open(small.root / small.name / "features")
    assert (store.share_of_float32(whole), store.share_of_float32(rounded)) == (
        0.5,
        (whole.width + 4) / whole.width / 4,
    )
    positions = np.arange(len(whole.word_ids))
    atol = float(whole.read(positions).abs().max()) / 253
    torch.testing.assert_close(rounded.read(positions), whole.read(positions), atol=atol, rtol=0)
    np.testing.assert_array_equal(rounded.word_ids, whole.word_ids)
    assert rounded.vocabulary == whole.vocabulary
    experiment = make_experiment("DReX", data_path=str(tmp_path), store_dtype="int8")
    assert experiment.model.attention.store.dtype == "int8"


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", [encoding, store])
def test_effects_on_drex_are_written(benchmark, tmp_path, few_threads, monkeypatch):
    monkeypatch.delenv("RECBOLE_DREX_RAW", raising=False)
    output = tmp_path / "found.json"
    arguments = ["--epochs", "1", "--seeds", "1,2", "--output", str(output), "--work", str(tmp_path / "work")]
    arguments += ["--dataset", "demo", *(["--reviews", "64", "--repetitions", "1"] if benchmark is encoding else [])]
    assert benchmark.main(arguments) == 0
    effects = [finding for finding in _findings(output) if finding["unit"] == "MAE"]
    assert len(effects) == (0 if load_encoder().precision == "float32" and benchmark is encoding else 2)
    assert all(0 <= effect["value"] < 0.05 and "demo, 2 seed(s)" in effect["what"] for effect in effects)
    assert (tmp_path / "work" / "auto" / "demo").is_dir()
