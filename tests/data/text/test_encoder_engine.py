"""Which engine computes an encoder, and what happens where OpenVINO is missing, broken or cannot run a model."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_engines import needs_openvino
from transformers import BertConfig, BertModel, BertTokenizerFast, GPT2Config, GPT2Model, PreTrainedModel

from recbole_drex.data.text import contextual_encoder
from recbole_drex.data.text.contextual_encoder import Encoder, load_encoder
from recbole_drex.data.text.encoder_engine import ConversionError, OpenVinoModel, choose_engine, same_engine
from recbole_drex.data.text.tokenizer import TextProcessor
from recbole_drex.errors import ConfigError

REVIEWS = [TextProcessor()(text) for text in ("superb plot", "awful controls, and not even music", "fun")]
SIZE = {"vocab_size": 57, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def load(model: str, **options: Any) -> Encoder:
    return load_encoder(model, max_length=64, **options)


def saved(folder: Path, model: PreTrainedModel) -> str:
    """A folder with a model and a vocabulary of single letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    return saved(tmp_path_factory.mktemp("models") / "bert", BertModel(BertConfig(**SIZE, max_position_embeddings=64)))


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An OpenVINO whose import fails."""
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("raise RuntimeError('no\\nlibrary')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # Python's way to declare a module absent


def test_missing(missing: None, bert: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert load(bert, precision="float32").engine == "torch"
    assert caplog.messages == [f"encoder {bert}: computed by torch on cpu in float32"]
    with pytest.raises(ConfigError, match=r"^encoder_engine 'openvino' needs OpenVINO: pip install 'openvino>="):
        load(bert, engine="openvino")


def test_broken(broken: None, bert: str, caplog: pytest.LogCaptureFixture) -> None:
    assert load(bert, precision="float32").engine == "torch"
    assert caplog.messages == [
        "OpenVINO is installed but cannot be imported (RuntimeError: no library): PyTorch is used"
    ]
    with pytest.raises(ConfigError, match=r"^encoder_engine 'openvino': .* \(RuntimeError: no library\); install it"):
        load(bert, engine="openvino")


def test_illegal() -> None:
    with pytest.raises(ConfigError, match=r"unknown encoder_engine 'onnx'.*auto, openvino, torch"):
        choose_engine("onnx", "cpu")
    with pytest.raises(ConfigError, match="computes on a CPU, not on 'cuda:0': use auto or torch"):
        choose_engine("openvino", "cuda:0")
    assert choose_engine("auto", "cuda:0") == "torch"


@needs_openvino
def test_auto_is_openvino(bert: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        encoder = load(bert, precision="float32")
    assert encoder.engine == encoder.settings["engine"] == "openvino"
    assert caplog.messages == [f"encoder {bert}: computed by openvino on cpu in float32"]
    by_torch = load(bert, precision="float32", engine="torch")
    assert "engine" not in by_torch.settings
    for some, others in zip(encoder.encode(REVIEWS), by_torch.encode(REVIEWS), strict=True):
        np.testing.assert_allclose(some, others, atol=2e-3)


@needs_openvino
def test_a_model_that_cannot_be_converted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes = {"vocab_size": 57, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    model = saved(tmp_path / "gpt2", GPT2Model(GPT2Config(**sizes, bos_token_id=2, eos_token_id=3)))
    root = logging.getLogger()
    state = root.level, list(root.handlers), list(root.filters)
    encoder = load(model, precision="float32")  # its cache of keys cannot be traced
    assert encoder.engine == "torch" and encoder.encode(REVIEWS)[0].shape == (2, 16)
    (line,) = caplog.messages
    assert line.startswith(f"OpenVINO cannot run encoder '{model}' (") and line.endswith("): PyTorch is used")
    assert (root.level, root.handlers, root.filters) == state
    with pytest.raises(ConfigError, match=r"^encoder_engine 'openvino' cannot run encoder '.*\(.*\): use auto or"):
        load(model, precision="float32", engine="openvino")


class Branching(torch.nn.Module):
    """A module whose trace keeps a number that depends on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.config = BertConfig(**SIZE)
        self.table = torch.nn.Embedding(57, 16)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.table(input_ids) * int(attention_mask.sum()),)


@needs_openvino
def test_a_conversion_with_another_output_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"^the output of the converted model is off by \d\d%$"):
        OpenVinoModel(Branching().eval(), "float32")


@needs_openvino
def test_no_telemetry_is_sent() -> None:
    lines = [
        "import sys",
        "from recbole_drex.data.text.contextual_encoder import load_encoder",
        "load_encoder(engine='openvino')",
        "print('openvino' in sys.modules, 'openvino_telemetry' in sys.modules)",
    ]
    output = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert output.stdout == "True False\n"


def test_a_processor_without_bfloat16(
    bert: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contextual_encoder, "_computes_bfloat16", lambda device: False)
    assert load(bert).precision == "float32" and not caplog.messages
    encoder = load(bert, precision="bfloat16")
    assert (encoder.engine, encoder.precision) == ("torch", "bfloat16")
    assert caplog.messages == ["device 'cpu' has no instructions for bfloat16: precision float32 would be faster"]
    assert all(np.isfinite(vectors).all() for vectors in encoder.encode(REVIEWS))


def test_the_engine_of_a_data_set(missing: None, caplog: pytest.LogCaptureFixture) -> None:
    assert same_engine({"name": "static"}) == "torch" and not caplog.messages
    assert same_engine({"name": "static", "engine": "openvino"}) == "torch"
    (line,) = caplog.messages
    assert line.startswith("the data set was encoded by OpenVINO, which cannot be used here: new texts are encoded by")


@needs_openvino
def test_the_engine_of_a_data_set_is_used() -> None:
    assert same_engine({"name": "static"}) == "torch"
    assert same_engine({"name": "static", "engine": "openvino"}) == "auto"
