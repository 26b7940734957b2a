"""Reading by tasks and encoding by a pool of actors on Ray, one a GPU or a CPU core."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import ActorPool
from ray.util.client import ray as client
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from recbole_drex import __version__
from recbole_drex.data.prepare.encoding import ReviewEncoder, embed_from_file, with_sentences
from recbole_drex.data.raw.readers import RawPart, Rules, read_file, read_in_turn
from recbole_drex.data.raw.remote import RawFile, RemoteFile
from recbole_drex.data.text.feature_store_writer import Shard
from recbole_drex.data.text.static_encoder import STATIC, StaticVectors, is_file
from recbole_drex.errors import DataError, DrexError

_PER_GPU = 2  # actors that share a GPU: while one cleans texts on a core, the other has it
_PARTS = 8  # parts of a file, of a MB or so each, that its reader may be ahead of this process
_RETRIES = 3  # times that a block is encoded, or a file read, again because the process that had it was lost
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
            from recbole_drex.utils.threads import use_threads  # brings torch, which those that only read do not need

            use_threads(1)  # an actor has one core
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
        """Settings, and width if texts or lemmas are embedded here."""
        encoder = self._encoder
        return encoder.settings, encoder.width if encoder.settings[0] else 0

    def encode(self, block: int, texts: Sequence[str]) -> tuple[int, Shard]:
        """A block with its number."""
        return block, self._encoder(texts)

    def embed(self, part: int, lemmas: Sequence[str]) -> tuple[int, np.ndarray]:
        """A part with its number."""
        return part, self._encoder.embed(lemmas)


class RayEngine:
    """Reads files and encodes blocks of texts on the Ray that this process is connected to.

    Several files are read at the same time: by any machine, if they have addresses, else on this one. Every GPU that is
    free gets two encoders, or without GPUs every CPU core one (of one thread, and a GB of memory). One that dies is
    started again, where there is a place for it, and given its blocks again. The texts travel to the encoders and the
    vectors back to this process, which writes them: the machines need no folder in common, but this package and the
    encoder's weights each. One block an encoder is under way, so that memory stays bounded.

    On CPUs the vectors have the same bits as those of the local engine; a GPU rounds otherwise.

    Args:
        settings: the parameters under "Preparation" of ``properties/overall.yaml``.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self._given = dict(settings)
        self._actors: list[Any] = []
        self.static = settings["encoder"] == STATIC
        self._from_file: StaticVectors | None = None
        if self.static and is_file(settings["static_vectors"]):
            # The file is on this machine, perhaps on no other.
            self._from_file, self._given["static_vectors"] = StaticVectors(settings["static_vectors"]), None

    @cached_property
    def _described(self) -> tuple[Settings, int]:
        self._actors.append(self._actor(None))
        return _got(self._actors[0].describe.remote())

    @property
    def settings(self) -> Settings:
        """All that decides the result, of the encoder and of the words, for a manifest."""
        encoder, words = self._described[0]
        return encoder if self._from_file is None else self._from_file.settings, words

    @property
    def width(self) -> int:
        """Length of a word's vector."""
        return self._described[1] if self._from_file is None else self._from_file.width

    def read(self, files: Sequence[RawFile], rules: Rules) -> Iterator[tuple[int, RawPart]]:
        """Read review files, several at the same time; see :data:`recbole_drex.data.raw.readers.Read`."""
        options = _reading(files)
        if len(files) == 1 or options is None:
            yield from read_in_turn(files, rules)
            return
        reader = ray.remote(read_file).options(
            num_returns="streaming", num_cpus=0, max_retries=_RETRIES, _generator_backpressure_num_objects=_PARTS,
            **options,
        )  # fmt: skip
        cores = int(ray.cluster_resources().get("CPU", 1))
        limit = max(1, min(cores, os.cpu_count() or 1) if "scheduling_strategy" in options else cores)
        waiting = iter(enumerate(files))
        running: dict[Any, int] = {}
        while True:
            while len(running) < limit and (entry := next(waiting, None)) is not None:
                running[reader.remote(entry[1], rules)] = entry[0]
            if not running:
                return
            parts: Any = ray.wait(list(running), num_returns=1)[0][0]
            number = running.pop(parts)
            try:
                reference = next(parts)
            except StopIteration:
                continue
            running[parts] = number  # after the others, so that each has its turn
            yield number, _got(reference)

    def encode(self, texts: Callable[[int], Sequence[str]], blocks: Sequence[int]) -> Iterator[tuple[int, Shard]]:
        """Encode blocks of texts; see :meth:`recbole_drex.data.prepare.engine.Engine.encode`."""
        return self._spread(lambda actor, block: actor.encode.remote(block, texts(block)), blocks)

    def embed(self, parts: Mapping[int, Sequence[str]]) -> Iterator[tuple[int, np.ndarray]]:
        """Static vectors of lemmas; see :meth:`recbole_drex.data.prepare.engine.Engine.embed`."""
        if self._from_file is not None:
            return embed_from_file(self._from_file, parts)
        return self._spread(lambda actor, part: actor.embed.remote(part, parts[part]), list(parts))

    @contextlib.contextmanager
    def sentences(self) -> Iterator[RayEngine]:
        """See :meth:`recbole_drex.data.prepare.engine.Engine.sentences`; its actors end with the block."""
        if not self.static:
            yield self
            return
        source = self._given["static_vectors"] if self._from_file is None else self._from_file.source
        given = with_sentences({**self._given, "static_vectors": source})
        self.close()  # they would keep the places of those that are needed now
        with contextlib.closing(RayEngine(given)) as engine:
            yield engine

    def _spread(self, call: Callable[[Any, int], Any], blocks: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """What actors make of blocks, with their numbers, in any order: ``call`` gives the call of an actor."""
        described = self._described[0]
        if "precision" in described[0]:
            # `auto` may mean something else on another machine; what it means on the first one holds for all.
            self._given["precision"] = described[0]["precision"]
        n_actors = max(1, min(len(blocks), len(self._actors) + _free_slots()))
        self._actors += [self._actor(described) for _ in range(n_actors - len(self._actors))]
        pool, waiting = ActorPool(self._actors), iter(blocks)

        def submit() -> None:
            while pool.has_free() and (block := next(waiting, None)) is not None:
                pool.submit(call, block)

        submit()
        while pool.has_next():
            try:
                with _told():
                    done = pool.get_next_unordered(timeout=_PATIENCE)
            except TimeoutError:
                # The machine of an encoder that was lost may be gone for good: encoders without work give it a place.
                for actor in iter(pool.pop_idle, None):
                    self._actors.remove(actor)
                    ray.kill(actor)
                continue
            submit()  # before the result is written, so that no encoder waits for that
            yield done

    def close(self) -> None:
        """End the actors."""
        while self._actors:
            ray.kill(self._actors.pop())

    def _actor(self, expected: Settings | None) -> Any:
        gpus = 1 / _PER_GPU if _with_gpus() else 0
        options = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": _RETRIES}
        return ray.remote(_Worker).options(**options).remote(dict(self._given), __version__, expected)


def _reading(files: Sequence[RawFile]) -> dict[str, Any] | None:
    """Where tasks can read all of these files, as options of Ray; None where this process alone can."""
    protocols = {name for path in files for name in (path.protocols if isinstance(path, RemoteFile) else ("file",))}
    if "memory" in protocols:
        return None
    if not protocols & {"file", "local"}:
        return {}
    # A client of Ray's is on no machine of the cluster.
    return None if client.is_connected() else {"scheduling_strategy": _here()}


def _here() -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _with_gpus() -> bool:
    return ray.cluster_resources().get("GPU", 0) >= 1


def _free_slots() -> int:
    """How many more actors there is room for now."""
    free = ray.available_resources()
    scarce = free.get("GPU", 0) * _PER_GPU if _with_gpus() else free.get("memory", float("inf")) // _MEMORY
    return int(min(free.get("CPU", 0), scarce))


def _got(reference: Any) -> Any:
    """What Ray keeps for ``reference``, with errors as :func:`_told` raises them."""
    with _told():
        return ray.get(reference)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raise errors as they would be without Ray.

    Raises:
        DrexError: what was wrong in a task; or the process that had it was lost too often.
    """
    try:
        yield
    except RayError as error:
        if isinstance(error, RayTaskError) and isinstance(error.cause, DrexError):
            raise error.cause from None
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        if "ModuleNotFoundError" in lines[-1]:
            raise DataError(
                f"a machine of the Ray cluster cannot run this package: {lines[-1]}. Install recbole_drex "
                f"{__version__} and what it needs on every machine"
            ) from error
        if isinstance(error, RayTaskError):  # what is wrong is the code, and its traceback tells
            raise
        raise DataError(
            f"the preparation failed on Ray: {lines[0]} Encoded reviews are kept; the same command continues from there"
        ) from error
