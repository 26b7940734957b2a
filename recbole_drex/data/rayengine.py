"""Encoding by a pool of actors on Ray, one a GPU or a CPU core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import ActorPool

from recbole_drex import __version__
from recbole_drex.data.engine import ReviewEncoder
from recbole_drex.data.store import Shard
from recbole_drex.errors import DataError, DrexError

_AHEAD = 2  # blocks that an actor has at a time: one that it encodes and one that waits, so that it never does
_RETRIES = 3  # times that a block is encoded again because the actor that had it was lost
_MEMORY = 1 << 30  # bytes that an actor with a small encoder may take
_PATIENCE = 10.0  # seconds without a result after which actors without work give way to those that look for a place

Settings = tuple[dict[str, Any], dict[str, Any]]


class _Worker:
    """A :class:`ReviewEncoder` in an actor. It loads at the first call, so that its errors are those of a call."""

    def __init__(self, settings: Mapping[str, Any], version: str, expected: Settings | None):
        self._given, self._version, self._expected = settings, version, expected

    @cached_property
    def _encoder(self) -> ReviewEncoder:
        if __version__ != self._version:
            raise DataError(f"a machine of the Ray cluster has recbole_drex {__version__}, this one {self._version}")
        gpus = ray.get_gpu_ids()
        if not gpus:
            import torch

            torch.set_num_threads(1)  # an actor has one core
        encoder = ReviewEncoder(self._given, "cuda" if gpus else "cpu")
        for mine, theirs in zip(encoder.settings, self._expected or encoder.settings, strict=True):
            for name in mine:
                if mine[name] != theirs.get(name):
                    raise DataError(
                        "the machines of the Ray cluster would encode texts in different ways: "
                        f"{name} is {mine[name]!r} on one and {theirs.get(name)!r} on another"
                    )
        return encoder

    def describe(self) -> tuple[Settings, int]:
        """Settings and width."""
        return self._encoder.settings, self._encoder.width

    def encode(self, block: int, texts: Sequence[str]) -> tuple[int, Shard]:
        """A block with its number."""
        return block, self._encoder(texts)


class RayEngine:
    """Encodes blocks of texts on the Ray that this process is connected to.

    Every GPU that is free gets an actor, or without GPUs every CPU core (of one thread, and a GB of memory). An actor
    that dies is started again, where there is a place for it, and given its blocks again. The texts travel to the
    actors and the vectors back to this process, which writes them: the machines need no folder in common, but this
    package and the encoder's weights each. At most two blocks an actor are under way, so that memory stays bounded.

    On CPUs the vectors have the same bits as those of the local engine; a GPU rounds otherwise.

    Args:
        settings: the parameters under "Preparation" of ``properties/overall.yaml``.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self._given = dict(settings)
        self._actors: list[Any] = [self._actor(None)]
        self._description = self._actors[0].describe.remote()  # it loads while the reviews are read

    @cached_property
    def _described(self) -> tuple[Settings, int]:
        return _got(lambda: ray.get(self._description))

    @property
    def settings(self) -> Settings:
        """All that decides the result, of the encoder and of the words, for a manifest."""
        return self._described[0]

    @property
    def width(self) -> int:
        """Length of a word's vector."""
        return self._described[1]

    def encode(self, texts: Callable[[int], Sequence[str]], blocks: Sequence[int]) -> Iterator[tuple[int, Shard]]:
        """Encode blocks of texts; see :meth:`recbole_drex.data.engine.Engine.encode`."""
        places = min(len(blocks), len(self._actors) + _free_places())
        # `auto` may mean something else on another machine; what it means on the first one holds for all.
        self._given["precision"] = self.settings[0]["precision"]
        self._actors += [self._actor(self.settings) for _ in range(places - len(self._actors))]
        pool = ActorPool(self._actors * _AHEAD)
        waiting = iter(blocks)
        while True:
            while pool.has_free() and (block := next(waiting, None)) is not None:
                pool.submit(lambda actor, block: actor.encode.remote(block, texts(block)), block)
            if not pool.has_next():
                return
            try:
                done = _got(lambda: pool.get_next_unordered(timeout=_PATIENCE))
            except TimeoutError:
                self._release(pool)
                continue
            yield done

    def close(self) -> None:
        """End the actors."""
        while self._actors:
            ray.kill(self._actors.pop())

    def _actor(self, expected: Settings | None) -> Any:
        # A GPU's actor needs a core as well, to clean the texts.
        options = {"num_cpus": 1, "num_gpus": int(_with_gpus()), "max_restarts": -1, "max_task_retries": _RETRIES}
        return ray.remote(_Worker).options(**options).remote(dict(self._given), __version__, expected)

    def _release(self, pool: ActorPool) -> None:
        """End actors that have nothing to do any more: the machine of one that was lost may be gone for good."""
        idle = list(iter(pool.pop_idle, None))
        for actor in self._actors.copy():
            if idle.count(actor) == _AHEAD:
                self._actors.remove(actor)
                ray.kill(actor)
            else:
                for _ in range(idle.count(actor)):
                    pool.push(actor)


def _with_gpus() -> bool:
    return ray.cluster_resources().get("GPU", 0) >= 1


def _free_places() -> int:
    """How many more actors there is room for now."""
    free = ray.available_resources()
    scarce = free.get("GPU", 0) if _with_gpus() else free.get("memory", 0) // _MEMORY
    return int(min(free.get("CPU", 0), scarce))


def _got(get: Callable[[], Any]) -> Any:
    """What ``get`` fetches from Ray, with errors as they would be without Ray.

    Raises:
        DrexError: what was wrong in the actor; or the actor was lost more often than is put up with.
    """
    try:
        return get()
    except RayTaskError as error:
        if isinstance(error.cause, DrexError):
            raise error.cause from None
        raise
    except RayError as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"texts could not be encoded on Ray: {reason}. Blocks that were finished are kept; the same command goes on"
        ) from error
