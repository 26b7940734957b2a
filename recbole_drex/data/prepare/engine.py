"""Engines that read files and encode texts: in this process or on Ray, with the same result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from recbole_drex.data.prepare.encoding import ReviewEncoder, embed_from_file, with_sentences
from recbole_drex.data.raw.readers import RawPart, Rules, read_in_turn
from recbole_drex.data.raw.remote import RawFile
from recbole_drex.data.text.feature_store_writer import Shard
from recbole_drex.data.text.static_encoder import StaticVectors, is_file
from recbole_drex.errors import ConfigError, unknown_name

ENGINES = ("local", "ray")


class Engine(Protocol):
    """Interface of the engines."""

    static: bool

    @property
    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """As :attr:`ReviewEncoder.settings`."""

    @property
    def width(self) -> int:
        """Length of a word's vector."""

    def read(self, files: Sequence[RawFile], rules: Rules) -> Iterator[tuple[int, RawPart]]:
        """Read review files; see :data:`recbole_drex.data.raw.readers.Read`."""

    def encode(self, texts: Callable[[int], Sequence[str]], blocks: Sequence[int]) -> Iterator[tuple[int, Shard]]:
        """Encode blocks of texts independently, so that the result does not depend on where a block was encoded.

        Args:
            texts: returns the texts of a block; called in the order of ``blocks`` and only shortly before they are
                needed, so that few blocks are in memory at a time.
            blocks: indices of the blocks.

        Yields:
            Index and encoded texts of every block, in any order.

        Raises:
            DataError: the weights of the encoder are missing or damaged.
        """

    def count(self, texts: Callable[[int], Sequence[str]], blocks: Sequence[int]) -> int:
        """Number of words that :meth:`encode` embeds in these blocks, for an engine that is not ``static``."""

    def embed(self, parts: Mapping[int, Sequence[str]]) -> Iterator[tuple[int, np.ndarray]]:
        """Static vectors of lemmas, for a ``static`` engine.

        Args:
            parts: distinct lemmas by the index of their part.

        Yields:
            Index and vectors, float16 (lemmas, width), of every part, in any order.

        Raises:
            DataError: as :meth:`ReviewEncoder.embed`.
        """

    def sentences(self) -> contextlib.AbstractContextManager[Engine]:
        """An engine of the same kind that is not static, for contextual embeddings."""


class LocalEngine:
    """Reads file after file and encodes block after block in this process, with all of torch's threads.

    Args:
        settings: the parameters under "Preparation" of ``properties/overall.yaml``.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self._given, self._encoder = settings, ReviewEncoder(settings)
        self.static = self._encoder.static

    @property
    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """As :attr:`ReviewEncoder.settings`."""
        return self._encoder.settings

    @property
    def width(self) -> int:
        """Length of a word's vector."""
        return self._encoder.width

    def read(self, files: Sequence[RawFile], rules: Rules) -> Iterator[tuple[int, RawPart]]:
        """Read review files one after the other."""
        return read_in_turn(files, rules)

    def encode(self, texts: Callable[[int], Sequence[str]], blocks: Sequence[int]) -> Iterator[tuple[int, Shard]]:
        """Encode blocks of texts; see :meth:`Engine.encode`."""
        for block in blocks:
            yield block, self._encoder(texts(block))

    def count(self, texts: Callable[[int], Sequence[str]], blocks: Sequence[int]) -> int:
        """See :meth:`Engine.count`."""
        return sum(self._encoder.count(texts(block)) for block in blocks)

    def embed(self, parts: Mapping[int, Sequence[str]]) -> Iterator[tuple[int, np.ndarray]]:
        """Static vectors of lemmas; see :meth:`Engine.embed`."""
        if is_file(self._given["static_vectors"]):
            yield from embed_from_file(StaticVectors(self._given["static_vectors"]), parts)
            return
        for number, lemmas in parts.items():
            yield number, self._encoder.embed(lemmas)

    @contextlib.contextmanager
    def sentences(self) -> Iterator[LocalEngine]:
        """See :meth:`Engine.sentences`."""
        yield LocalEngine(with_sentences(self._given)) if self.static else self


def check_engine(name: str, address: str | None = None) -> None:
    """Check the choice of an engine.

    Raises:
        ConfigError: there is no such engine, or it does not take an address.
    """
    if name not in ENGINES:
        raise ConfigError(unknown_name("engine", name, ENGINES))
    if address is not None and name != "ray":
        raise ConfigError(f"the address of a cluster ({address}) needs the engine 'ray'")


@contextlib.contextmanager
def opened_engine(name: str, address: str | None, settings: Mapping[str, Any]) -> Iterator[Engine]:
    """An engine for the duration of the block.

    Args:
        name: ``local`` or ``ray``.
        address: of a Ray cluster, see :func:`recbole_drex.parallel.ray_cluster.connected`; None: a Ray of this machine.
        settings: the parameters under "Preparation" of ``properties/overall.yaml``.

    Raises:
        ConfigError: as :func:`check_engine`; or Ray is missing, too old or not at ``address``.
    """
    check_engine(name, address)
    if name == "local":
        yield LocalEngine(settings)
        return
    from recbole_drex.parallel.ray_cluster import connected

    with connected(address):
        from recbole_drex.data.prepare.ray_engine import RayEngine

        with contextlib.closing(RayEngine(settings)) as engine:
            yield engine
