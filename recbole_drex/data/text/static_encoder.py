"""Static vectors of lemmas, independent of their context: ``encoder: static``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recbole_drex.data.text.contextual_encoder import MINILM_SHA256, Encoder, load_encoder
from recbole_drex.data.text.encoder_engine import engine_setting, same_engine
from recbole_drex.data.text.tokenizer import ReviewWords
from recbole_drex.data.text.word_vectors import head_of_file, vectors_of_file
from recbole_drex.errors import DataError
from recbole_drex.utils.files import sha256

STATIC = "static"
"""Value of ``encoder`` that gives every lemma one vector."""
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def is_file(source: str) -> bool:
    """Whether ``static_vectors`` names a file of word vectors; otherwise it names an encoder."""
    return Path(source).is_file()


def sentence_encoder(settings: Mapping[str, Any]) -> str:
    """Name of the encoder for sentences, such as item texts; it may differ from that of the words of reviews.

    Args:
        settings: ``encoder`` and ``static_vectors``.
    """
    if settings["encoder"] != STATIC:
        return settings["encoder"]
    return "minilm" if is_file(settings["static_vectors"]) else settings["static_vectors"]


def static_sources(settings: Mapping[str, Any]) -> list[Path]:
    """The file of static vectors, if there is one."""
    wanted = settings["encoder"] == STATIC and is_file(settings["static_vectors"])
    return [Path(settings["static_vectors"])] if wanted else []


class StaticVectors:
    """One vector per lemma, from an encoder whose input is the lemma alone, or from a file of word vectors.

    An encoder computes in float32. The vector of a lemma depends only on the lemma.

    Args:
        source: name of an encoder as :func:`~recbole_drex.data.text.contextual_encoder.load_encoder` takes it, or the
            path of a word2vec or GloVe file. A lemma that the file lacks gets a random vector, seeded by its spelling,
            with the mean length of the file's first thousand vectors.
        device: device of the encoder.
        engine: what computes the encoder, as for :func:`~recbole_drex.data.text.contextual_encoder.load_encoder`.
        batch_words: word pieces of a batch, as for :func:`~recbole_drex.data.text.contextual_encoder.load_encoder`.

    Raises:
        DataError: the source is missing or damaged.
        ConfigError: the engine cannot be used.
    """

    def __init__(self, source: str, device: str = "cpu", engine: str = "auto", batch_words: int | None = None):
        self.source, self.from_file, self._device = source, is_file(source), device
        self._engine, self._batch_words = engine, batch_words

    @cached_property
    def _encoder(self) -> Encoder:
        options: dict[str, Any] = {"device": self._device, "engine": self._engine, "batch_words": self._batch_words}
        return load_encoder(self.source, precision="float32", max_length=None, **options)

    @cached_property
    def _head(self) -> tuple[int, float]:
        """Width and mean length of the first vectors of the file."""
        vectors = np.stack(head_of_file(Path(self.source)))
        return vectors.shape[1], float(np.linalg.norm(vectors, axis=1).mean())

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings that determine the vectors, for a manifest; and the matching encoder of sentences.

        Without ``engine`` it was torch, or there was no encoder.
        """
        if self.from_file:
            names = {"static_vectors": Path(self.source).name, "vectors_sha256": sha256(Path(self.source))}
            return {"name": STATIC, **names, "sentence_encoder": "minilm", "weights_sha256": MINILM_SHA256}
        return {
            "name": STATIC,
            "static_vectors": self.source,
            "sentence_encoder": self.source,
            "weights_sha256": self._encoder.weights_hash,
            **engine_setting(self._encoder.engine),
        }

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._head[0] if self.from_file else self._encoder.width

    def __call__(self, lemmas: Sequence[str]) -> np.ndarray:
        """Vectors of distinct lemmas, float16 (lemmas, width), finite; zeros where the encoder ignores a lemma.

        Raises:
            DataError: the weights give NaN, or the file is damaged or has none of the lemmas.
        """
        if self.from_file:
            width, length = self._head
            vectors = vectors_of_file(Path(self.source), lemmas, length, width)
            return np.clip(vectors, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
        result = np.zeros((len(lemmas), self.width), dtype=np.float16)
        words = [ReviewWords(lemma, [lemma], [0], [len(lemma)], [True]) for lemma in lemmas]
        for row, vectors in enumerate(self._encoder.encode(words)):
            result[row] = vectors.sum(0)
        return result


def static_vectors_of(settings: Mapping[str, Any], source: str, batch_words: int | None = None) -> StaticVectors:
    """The static vectors with which a data set was prepared; by PyTorch, if its engine cannot be used here.

    Args:
        settings: of the feature store, as :attr:`StaticVectors.settings`.
        source: their current location, parameter ``static_vectors``.
        batch_words: as for :class:`StaticVectors`.

    Raises:
        DataError: the source is missing or differs.
    """
    result = StaticVectors(source, engine=same_engine(settings), batch_words=batch_words)
    if any(settings[name] != value for name, value in result.settings.items() if name != "engine"):
        raise DataError(f"static_vectors '{source}' differs from the source with which the data set was prepared")
    return result
