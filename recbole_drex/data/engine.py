"""Where a preparation reads its files and encodes their texts: in this process or on Ray, with the same result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from recbole_drex.data.encoder import Encoder, load_encoder
from recbole_drex.data.readers import Part, Rules, read_in_turn
from recbole_drex.data.remote import RawFile
from recbole_drex.data.store import Shard, pack
from recbole_drex.data.text import TextProcessor
from recbole_drex.errors import ConfigError, unknown_name

ENGINES = ("local", "ray")


class ReviewEncoder:
    """Cleans and lemmatises texts and embeds the words they keep.

    Args:
        settings: the parameters under "Preparation" of ``properties/overall.yaml``.
        device: of the encoder, as :func:`recbole_drex.data.encoder.load_encoder` takes it.
    """

    def __init__(self, settings: Mapping[str, Any], device: str = "cpu"):
        self._given, self._device = settings, device

    @cached_property
    def _encoder(self) -> Encoder:
        names = ("precision", "max_length", "encode_text")
        return load_encoder(self._given["encoder"], device=self._device, **{name: self._given[name] for name in names})

    @cached_property
    def _processor(self) -> TextProcessor:
        return TextProcessor(self._given["lemmatizer"])

    @property
    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All that decides the result, of the encoder and of the words, for a manifest."""
        return self._encoder.settings, self._processor.settings

    @property
    def width(self) -> int:
        """Length of a word's vector."""
        return self._encoder.width

    def __call__(self, texts: Sequence[str]) -> Shard:
        """Encode some thousand texts; those without words to keep give no vectors.

        Raises:
            DataError: the weights of the encoder are missing or damaged.
            ConfigError: a setting is illegal.
        """
        words = [self._processor(text) for text in texts]
        vectors = self._encoder.encode(words)
        lemmas = [review.lemmas[: len(vector)] for review, vector in zip(words, vectors, strict=True)]
        return pack(vectors, lemmas, self.width)


class Engine(Protocol):
    """What a preparation needs of an engine."""

    @property
    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """As :attr:`ReviewEncoder.settings`."""

    @property
    def width(self) -> int:
        """Length of a word's vector."""

    def read(self, files: Sequence[RawFile], rules: Rules) -> Iterator[tuple[int, Part]]:
        """Read review files; see :data:`recbole_drex.data.readers.Read`."""

    def encode(self, texts: Callable[[int], Sequence[str]], blocks: Sequence[int]) -> Iterator[tuple[int, Shard]]:
        """Encode blocks of texts, each by itself, so that the result does not depend on where it was encoded.

        Args:
            texts: gives the texts of a block; asked in the order of ``blocks`` and not far ahead, so that few blocks
                are in memory at a time.
            blocks: numbers of the blocks.

        Yields:
            Number and encoded texts of every block, in any order.

        Raises:
            DataError: the weights of the encoder are missing or damaged.
        """


class LocalEngine(ReviewEncoder):
    """Reads file after file and encodes block after block in this process, with all of torch's threads."""

    def read(self, files: Sequence[RawFile], rules: Rules) -> Iterator[tuple[int, Part]]:
        """Read review files one after the other."""
        return read_in_turn(files, rules)

    def encode(self, texts: Callable[[int], Sequence[str]], blocks: Sequence[int]) -> Iterator[tuple[int, Shard]]:
        """Encode blocks of texts; see :meth:`Engine.encode`."""
        for block in blocks:
            yield block, self(texts(block))


def check_engine(name: str, address: str | None = None) -> None:
    """Check the choice of an engine.

    Raises:
        ConfigError: there is no such engine, or an address for one that knows none.
    """
    if name not in ENGINES:
        raise ConfigError(unknown_name("engine", name, ENGINES))
    if address is not None and name != "ray":
        raise ConfigError(f"an address of a cluster was given ({address}), but not the engine 'ray'")


@contextlib.contextmanager
def opened_engine(name: str, address: str | None, settings: Mapping[str, Any]) -> Iterator[Engine]:
    """An engine, for as long as the block runs.

    Args:
        name: ``local`` or ``ray``.
        address: of a Ray cluster, see :func:`recbole_drex.cluster.connected`; None: a Ray of this machine.
        settings: the parameters under "Preparation" of ``properties/overall.yaml``.

    Raises:
        ConfigError: as :func:`check_engine`; or Ray is missing, too old or not at ``address``.
    """
    check_engine(name, address)
    if name == "local":
        yield LocalEngine(settings)
        return
    from recbole_drex.cluster import connected

    with connected(address):
        from recbole_drex.data.rayengine import RayEngine

        with contextlib.closing(RayEngine(settings)) as engine:
            yield engine
