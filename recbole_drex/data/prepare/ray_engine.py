"""Reads by Ray tasks and encodes by a pool of Ray actors, on GPUs or CPU cores."""

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

_PER_GPU = 2  # actors that share a GPU: while one cleans texts on a core, the other uses the GPU
_PARTS = 8  # parts of a file, about a MB each, by which its reader may be ahead of this process
_RETRIES = 3  # retries of a block or a file after its process was lost
_MEMORY = 1 << 30  # bytes of memory for an actor with a small encoder
_PATIENCE = 10.0  # seconds without a result after which idle actors release their resources

Settings = tuple[dict[str, Any], dict[str, Any]]


class _Worker:
    """A :class:`ReviewEncoder` in an actor. It is loaded at the first call, so that its errors are those of a call."""

    def __init__(self, settings: Mapping[str, Any], version: str, expected: Settings | None):
        self._given, self._version, self._expected = settings, version, expected

    @cached_property
    def _encoder(self) -> ReviewEncoder:
        if __version__ != self._version:
            raise DataError(f"a machine of the Ray cluster has recbole_drex {__version__}, this one {self._version}")
        gpus = ray.get_gpu_ids()
        if not gpus:
            from recbole_drex.utils.threads import use_threads  # imports torch, which readers do not need

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
        """Index of a block and its encoding."""
        return block, self._encoder(texts)

    def count(self, block: int, texts: Sequence[str]) -> tuple[int, int]:
        """Index of a block and the number of its words that are embedded."""
        return block, self._encoder.count(texts)

    def embed(self, part: int, lemmas: Sequence[str]) -> tuple[int, np.ndarray]:
        """Index of a part and its vectors."""
        return part, self._encoder.embed(lemmas)


class RayEngine:
    """Reads files and encodes blocks of texts on the Ray cluster that this process is connected to.

    Several files are read in parallel: on any machine if they have addresses, otherwise on this one. Every free GPU
    gets two encoders, or, without GPUs, every CPU core gets one (with one thread and a GB of memory). An encoder that
    dies is restarted where resources are free, and its blocks are encoded again. Texts are sent to the encoders and
    vectors are sent back to this process, which writes them. So the machines need no shared folder, but each needs this
    package and the encoder's weights. Each encoder processes one block at a time, so that memory stays bounded.

    On CPUs the vectors are bitwise equal to those of the local engine; a GPU rounds differently.

    Args:
        settings: the parameters under "Preparation" of ``properties/overall.yaml``.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self._given = dict(settings)
        self._actors: list[Any] = []
        self.static = settings["encoder"] == STATIC
        self._from_file: StaticVectors | None = None
        if self.static and is_file(settings["static_vectors"]):
            # The file may exist only on this machine.
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
            running[parts] = number  # moved to the end, so that files take turns
            yield number, _got(reference)

    def encode(self, texts: Callable[[int], Sequence[str]], blocks: Sequence[int]) -> Iterator[tuple[int, Shard]]:
        """Encode blocks of texts; see :meth:`recbole_drex.data.prepare.engine.Engine.encode`."""
        return self._spread(lambda actor, block: actor.encode.remote(block, texts(block)), blocks)

    def count(self, texts: Callable[[int], Sequence[str]], blocks: Sequence[int]) -> int:
        """See :meth:`recbole_drex.data.prepare.engine.Engine.count`."""
        counted = self._spread(lambda actor, block: actor.count.remote(block, texts(block)), blocks)
        return sum(words for _, words in counted)

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
        self.close()  # its actors would keep the resources that the new engine needs
        with contextlib.closing(RayEngine(given)) as engine:
            yield engine

    def _spread(self, call: Callable[[Any, int], Any], blocks: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Results of ``call`` (with an actor and a block) for all blocks, with their indices, in any order."""
        described = self._described[0]
        # `auto` may differ between machines; the first machine decides.
        if described[0]:
            self._given["encoder_engine"] = described[0].get("engine", "torch")
        if "precision" in described[0]:
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
                with _task_errors():
                    done = pool.get_next_unordered(timeout=_PATIENCE)
            except TimeoutError:
                # The machine of a lost encoder may not come back: idle encoders release resources for its restart.
                for actor in iter(pool.pop_idle, None):
                    self._actors.remove(actor)
                    ray.kill(actor)
                continue
            submit()  # before the result is written, so that no encoder has to wait
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
    """Ray options for tasks that can read all of these files; None if only this process can."""
    protocols = {name for path in files for name in (path.protocols if isinstance(path, RemoteFile) else ("file",))}
    if "memory" in protocols:
        return None
    if not protocols & {"file", "local"}:
        return {}
    # A Ray client does not run on a machine of the cluster.
    return None if client.is_connected() else {"scheduling_strategy": _here()}


def _here() -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _with_gpus() -> bool:
    return ray.cluster_resources().get("GPU", 0) >= 1


def _free_slots() -> int:
    """Number of further actors for which resources are free."""
    free = ray.available_resources()
    scarce = free.get("GPU", 0) * _PER_GPU if _with_gpus() else free.get("memory", float("inf")) // _MEMORY
    return int(min(free.get("CPU", 0), scarce))


def _got(reference: Any) -> Any:
    """The value of a Ray reference, with errors as :func:`_task_errors` raises them."""
    with _task_errors():
        return ray.get(reference)


@contextlib.contextmanager
def _task_errors() -> Iterator[None]:
    """Raise the errors that tasks would raise without Ray.

    Raises:
        DrexError: the error of a task; or its process was lost too often.
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
        if isinstance(error, RayTaskError):  # a bug, whose traceback helps
            raise
        raise DataError(
            f"the preparation failed on Ray: {lines[0]} Encoded reviews are kept; the same command continues from there"
        ) from error
