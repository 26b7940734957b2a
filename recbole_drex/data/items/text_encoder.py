"""Vectors of texts by a language model of ``transformers``: one per text, from all its word pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from recbole_drex.data.text.pretrained import load_pretrained, placed, pretrained_folder
from recbole_drex.errors import ConfigError, DataError, unknown_name

KIND = "item encoder"
KNOWN_ITEM_ENCODERS = ("minilm", "intfloat/e5-base-v2", "BAAI/bge-base-en-v1.5", "Qwen/Qwen3-Embedding-0.6B")
POOLINGS = ("mean", "cls", "last")


class TextEncoder:
    """A language model that computes one vector per text; see :func:`load_text_encoder`.

    With the last hidden states ``h_1, ..., h_n`` of a text's word pieces, special ones included, the vector is
    ``1/n sum_p h_p`` (``mean``), ``h_1`` (``cls``) or ``h_n`` (``last``). Texts are encoded one by one: in a batch, the
    last bits of a vector depend on its row and on the padding, which many decoders have no token for.

    Attributes:
        settings: all settings that determine the vectors.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str, settings: dict[str, Any]):
        self.settings = settings
        self._model, self._tokenizer, self._device = model, tokenizer, device

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts in any order.

        Returns:
            (texts, width) float32; zeros for a text without word pieces.

        Raises:
            DataError: a vector is NaN or infinite.
        """
        vectors = np.zeros((len(texts), self._model.config.get_text_config().hidden_size), dtype=np.float32)
        for row, text in enumerate(texts):
            pieces = self._tokenizer(text, truncation=True, max_length=self.settings["max_length"])["input_ids"]
            if pieces:
                vectors[row] = self._POOL[self.settings["pooling"]](self._states(pieces)).float().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise DataError(f"{KIND} '{self.settings['name']}' returns NaN or infinite values: its weights are damaged")
        return vectors

    _POOL: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "mean": lambda states: states.float().mean(0),
        "cls": lambda states: states[0],
        "last": lambda states: states[-1],
    }

    def _states(self, pieces: list[int]) -> Any:
        """The last hidden states (pieces, width)."""
        import torch

        with torch.inference_mode():
            return self._model(input_ids=torch.tensor([pieces], device=self._device))[0][0]

    def is_causal(self) -> bool:
        """Whether a word piece does not see those after it, so that the first one says nothing of the text."""
        return bool((self._states([0, 1])[0] == self._states([0, 2])[0]).all())


def load_text_encoder(name: str, pooling: str = "mean", max_length: int = 256) -> TextEncoder:
    """Load a language model: an encoder, the encoder of a model that has a decoder, too, or a decoder.

    Args:
        name: ``minilm``, a local folder, or a Hugging Face name such as ``intfloat/e5-base-v2``.
        pooling: ``mean``, ``cls`` or ``last``: how a text's hidden states become one vector.
        max_length: word pieces of a text that are read; at most the model's own maximum.

    Raises:
        ConfigError: no such pooling, or ``cls`` for a decoder.
        DataError: the model is missing, damaged or lacks weights.
    """
    from transformers import AutoModel, AutoTokenizer

    if pooling not in POOLINGS:
        raise ConfigError(unknown_name("item_pooling", pooling, POOLINGS))

    def load_tokenizer(folder: Path) -> Any:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)  # nosec B615

    folder, weights = pretrained_folder(KIND, name, KNOWN_ITEM_ENCODERS)
    tokenizer, model, _ = load_pretrained(KIND, name, folder, AutoModel, load_tokenizer)
    model, device = placed(model.get_encoder() if model.config.is_encoder_decoder else model)
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", max_length)
    longest = min(max_length, tokenizer.model_max_length, positions)
    settings = {"name": name, "weights_sha256": weights, "pooling": pooling, "max_length": longest}
    encoder = TextEncoder(model, tokenizer, device, settings)
    if pooling == "cls" and encoder.is_causal():
        raise ConfigError(
            f"{KIND} '{name}' is a decoder, whose first state knows only the first word: use last or mean"
        )
    return encoder
