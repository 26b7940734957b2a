"""Vectors of texts by small language models with random weights, against their definition."""

import numpy as np
import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel, GPT2Model, T5EncoderModel

from recbole_drex.data.items.text_encoder import load_text_encoder
from recbole_drex.errors import ConfigError, DataError

TEXTS = ["a red film", "poster of a man with a car", "blue", "a red film"]
CLASSES = {"bert": BertModel, "gpt2": GPT2Model, "t5": T5EncoderModel}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: str(getattr(tiny_models, name)(tmp_path_factory.mktemp(name))) for name in CLASSES}


def states(folders, name, text):
    """The last hidden states of a text, (pieces, width), with the ids written out."""
    ids = [tiny_models.WORDS.index(word) for word in text.split()]
    ids = ids if name == "gpt2" else [1, *ids, 2]
    model = CLASSES[name].from_pretrained(folders[name]).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state[0].numpy()


@pytest.mark.parametrize(
    ("name", "pooling"), [("bert", "mean"), ("bert", "cls"), ("gpt2", "last"), ("gpt2", "mean"), ("t5", "mean")]
)
def test_a_vector_is_the_pooled_last_hidden_state(folders, name, pooling):
    encoder = load_text_encoder(folders[name], pooling)
    result = encoder.encode(TEXTS)
    assert result.shape == (4, 16) and result.dtype == np.float32
    for text, vector in zip(TEXTS, result, strict=True):
        expected = {"mean": lambda h: h.mean(0), "cls": lambda h: h[0], "last": lambda h: h[-1]}[pooling]
        np.testing.assert_allclose(vector, expected(states(folders, name, text)), atol=1e-5)
        np.testing.assert_array_equal(encoder.encode([text])[0], vector, "it depends on its text alone")


def test_a_model_without_padding_token_reads_texts_of_any_length(folders):
    encoder = load_text_encoder(folders["gpt2"], "last", max_length=4)
    result = encoder.encode(["", *TEXTS, "red " * 500])
    assert not result[0].any() and np.isfinite(result).all()
    np.testing.assert_allclose(result[2], states(folders, "gpt2", "poster of a man")[-1], atol=1e-5)
    assert load_text_encoder(folders["gpt2"], "last", max_length=999).settings["max_length"] == 24


def test_settings_tell_models_and_poolings_apart(folders):
    chosen = [(name, pooling) for name in ("bert", "t5") for pooling in ("mean", "last")]
    assert len({repr(load_text_encoder(folders[name], pooling).settings) for name, pooling in chosen}) == 4


def test_models_that_cannot_be_used(folders, tmp_path):
    with pytest.raises(ConfigError, match="unknown item_pooling 'men'; did you mean 'mean'"):
        load_text_encoder(folders["bert"], "men")
    with pytest.raises(ConfigError, match="is a decoder, whose first state knows only the first word: use last"):
        load_text_encoder(folders["gpt2"], "cls")
    with pytest.raises(DataError, match=r"has no model\.safetensors"):
        load_text_encoder(str(tmp_path))
    folder = tiny_models.bert(tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({key: value * np.nan for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="returns NaN or infinite values"):
        load_text_encoder(str(folder)).encode(["red"])
    save_file(dict(list(weights.items())[3:]), folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="lacks weights, such as"):
        load_text_encoder(str(folder))


def test_a_name_that_is_not_found_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError) as caught:
        load_text_encoder("intfloat/e5-bsae-v2")
    message = str(caught.value)
    assert "unknown item encoder 'intfloat/e5-bsae-v2'; did you mean 'intfloat/e5-base-v2'?" in message
    assert "Any Hugging Face name or local folder of transformers works as well" in message and "\n" not in message
