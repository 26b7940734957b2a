"""Encoding the texts of a preparation: cleaned, lemmatised and embedded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from recbole_drex.data.text.contextual_encoder import Encoder, load_encoder
from recbole_drex.data.text.feature_store_writer import Shard, pack, pack_words
from recbole_drex.data.text.static_encoder import STATIC, StaticVectors, sentence_encoder
from recbole_drex.data.text.tokenizer import TextProcessor


class ReviewEncoder:
    """Cleans and lemmatises texts and embeds their kept words, or, for ``encoder: static``, their lemmas.

    Args:
        settings: the parameters under "Preparation" of ``properties/overall.yaml``. If ``static_vectors`` is None,
            lemmas are embedded elsewhere.
        device: device of the encoder, see :func:`recbole_drex.data.text.contextual_encoder.load_encoder`.

    Attributes:
        static: whether :meth:`embed` embeds lemmas; otherwise a call embeds words.
    """

    def __init__(self, settings: Mapping[str, Any], device: str = "cpu"):
        self._given, self._device = settings, device
        self.static = settings["encoder"] == STATIC

    @cached_property
    def _encoder(self) -> Encoder:
        names = ("precision", "max_length", "encode_text")
        return load_encoder(
            self._given["encoder"],
            device=self._device,
            engine=self._given["encoder_engine"],
            **{name: self._given[name] for name in names},
        )

    @cached_property
    def _vectors(self) -> StaticVectors:
        return StaticVectors(self._given["static_vectors"], self._device, self._given["encoder_engine"])

    @cached_property
    def _processor(self) -> TextProcessor:
        return TextProcessor(self._given["lemmatizer"], self._given["language"])

    @property
    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All settings that determine the result, of the encoder and of the words, for a manifest."""
        if self.static and self._given["static_vectors"] is None:
            return {}, self._processor.settings
        return (self._vectors if self.static else self._encoder).settings, self._processor.settings

    @property
    def width(self) -> int:
        """Length of a word's vector."""
        return (self._vectors if self.static else self._encoder).width

    def __call__(self, texts: Sequence[str]) -> Shard:
        """Encode a block of texts; texts without kept words have no vectors.

        Raises:
            DataError: the weights of the encoder are missing or damaged.
            ConfigError: a setting is illegal.
        """
        words = [self._processor(text) for text in texts]
        if self.static:
            return pack_words([review.lemmas for review in words], [review.begins for review in words])
        vectors = self._encoder.encode(words)
        return pack(vectors, [review.lemmas for review in words], [review.begins for review in words], self.width)

    def count(self, texts: Sequence[str]) -> int:
        """Number of words that :meth:`__call__` embeds in texts, unless ``static``."""
        return self._encoder.count([self._processor(text) for text in texts])

    def embed(self, lemmas: Sequence[str]) -> np.ndarray:
        """Static vectors of distinct lemmas, float16 (lemmas, width).

        Raises:
            DataError: as :class:`~recbole_drex.data.text.static_encoder.StaticVectors`.
        """
        return self._vectors(lemmas)


def with_sentences(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with an encoder for sentences, see :func:`sentence_encoder`."""
    return {**settings, "encoder": sentence_encoder(settings)}


def embed_from_file(file: StaticVectors, parts: Mapping[int, Sequence[str]]) -> Iterator[tuple[int, np.ndarray]]:
    """As :meth:`Engine.embed`, from a file of word vectors, which is read once for all parts."""
    vectors = file([lemma for lemmas in parts.values() for lemma in lemmas])
    start = 0
    for number, lemmas in parts.items():
        yield number, vectors[start : start + len(lemmas)]
        start += len(lemmas)
