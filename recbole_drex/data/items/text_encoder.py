"""Vectors of texts by a language model of ``transformers``: one per text, from all its word pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_drex.data.items.pretrained import load_pretrained, placed, pretrained_folder
from recbole_drex.data.text.contextual_encoder import same_shape_batches
from recbole_drex.errors import ConfigError, DataError, unknown_name

KIND = "item encoder"
KNOWN_ITEM_ENCODERS = ("minilm", "intfloat/e5-base-v2", "BAAI/bge-base-en-v1.5", "Qwen/Qwen3-Embedding-0.6B")
POOLINGS = ("mean", "cls", "last")
BATCH_PIECES = {"cpu": 512, "cuda": 8192}  # word pieces per batch, padding included


class TextEncoder:
    """A language model that computes one vector per text; see :func:`load_text_encoder`.

    With the last hidden states ``h_1, ..., h_n`` of a text's word pieces, special ones included, the vector is
    ``1/n sum_p h_p`` (``mean``), ``h_1`` (``cls``) or ``h_n`` (``last``). It depends only on its text, to the last bit:
    all batches of texts of similar length have the same shape.

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
        longest = self.settings["max_length"]
        pieces = [self._tokenizer(text, truncation=True, max_length=longest)["input_ids"] for text in texts]
        vectors = np.zeros((len(texts), self._model.config.get_text_config().hidden_size), dtype=np.float32)
        lengths = np.array([len(ids) for ids in pieces])
        there = np.flatnonzero(lengths)
        for length, rows, batch in same_shape_batches(lengths[there], BATCH_PIECES[self._device], longest):
            vectors[there[batch]] = self._embed([pieces[row] for row in there[batch]], rows, length)
        if not np.isfinite(vectors).all():
            raise DataError(f"{KIND} '{self.settings['name']}' returns NaN or infinite values: its weights are damaged")
        return vectors

    def _embed(self, pieces: list[list[int]], rows: int, length: int) -> np.ndarray:
        import torch

        # Padded on the right, where a decoder does not see it, so that a model without padding token works, too.
        ids = torch.full((rows, length), self._tokenizer.pad_token_id or 0)
        mask = torch.zeros((rows, length), dtype=torch.int64)
        mask[:, 0] = 1  # attention over an empty row would be NaN
        for row, known in enumerate(pieces):
            ids[row, : len(known)], mask[row, : len(known)] = torch.tensor(known), 1
        with torch.inference_mode():
            states = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device))[0].float().cpu()
        if self.settings["pooling"] == "cls":
            vectors = states[:, 0]
        elif self.settings["pooling"] == "last":
            vectors = states[torch.arange(rows), mask.sum(1) - 1]
        else:
            vectors = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return vectors[: len(pieces)].numpy()

    def is_causal(self) -> bool:
        """Whether a word piece does not see those after it, so that the first one says nothing of the text."""
        import torch

        with torch.inference_mode():
            one, other = (self._model(input_ids=torch.tensor([[0, k]]).to(self._device))[0][0, 0] for k in (1, 2))
        return bool(torch.equal(one, other))


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
