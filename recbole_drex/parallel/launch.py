"""Runs by several processes, started here, by torchrun, or by Ray Train; see ``collectives`` for shared work."""

from __future__ import annotations

import contextlib
import datetime
import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import connection, parent_process
from pathlib import Path
from time import monotonic
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from recbole_drex.errors import ConfigError, DrexError, ProcessError
from recbole_drex.utils.threads import use_threads

_WORKER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables in which torchrun, and we, pass its rank to a process."""

_OURS = "RECBOLE_DREX_WORKER"  # set in processes that were started by launch()
_MEETING = datetime.timedelta(minutes=10)
"""How long processes wait for each other at the start."""
_PATIENCE = datetime.timedelta(hours=24)
"""How long the others wait while the first process explains; a process that ends is noticed immediately."""
_RESULT, _ERROR, _TRACE = "result", "error", "trace"
_GRACE = 10.0  # seconds for cleaning up

# Who this process is --------------------------------------------------------------------------------------------------


def is_worker() -> bool:
    """Whether this process was started as one of several, by :func:`launch`, torchrun or Ray Train."""
    return all(os.environ.get(name) for name in _WORKER)


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return not is_worker() or os.environ["RANK"] == "0"


def local_rank() -> int | None:
    """Local rank of this process, which is the index of its GPU; None if it is the only process."""
    return int(os.environ.get("LOCAL_RANK", "0")) if is_worker() else None


# Configuration ------------------------------------------------------------------------------------------------------


def check_processes(values: Mapping[str, Any]) -> int:
    """Check ``nproc``, ``world_size``, ``offset`` and ``port`` against each other, and return how many processes to
    start on this machine.

    Args:
        values: the configuration.

    Returns:
        ``nproc``; 0 if this process does the work, alone or as one of several.

    Raises:
        ConfigError: inconsistent numbers, or fewer GPUs or rows in a batch than processes.
    """
    nproc, world, offset, port = (values[key] for key in ("nproc", "world_size", "offset", "port"))
    if is_worker():
        world, here = int(os.environ["WORLD_SIZE"]), (local_rank() or 0) + 1
        if nproc > 1 and _OURS not in os.environ:
            raise ConfigError(f"nproc: {nproc} is for processes that are to be started; {world} are there already")
    else:
        world, here = nproc if world == -1 else world, nproc
        if offset + nproc > world:
            raise ConfigError(f"offset {offset} and nproc {nproc} go beyond the {world} processes of world_size")
        if world > nproc and port is None:
            raise ConfigError("processes on several machines need 'ip' and 'port' to meet at")
    batch = values.get("train_batch_size")
    if isinstance(batch, int) and world > batch:
        raise ConfigError(f"{world} processes cannot share batches of {batch} rows (train_batch_size)")
    if values["device"].type == "cuda" and here > torch.cuda.device_count():
        raise ConfigError(f"each process needs a GPU of its own; gpu_id names {torch.cuda.device_count()}")
    return 0 if world == 1 or is_worker() else nproc


# A group --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def group() -> Iterator[None]:
    """Join the process group that the environment describes for the duration of the block, if there is one.

    An existing group (made by Ray Train) is used and kept.

    Raises:
        ProcessError: the others cannot be found.
    """
    if dist.is_initialized() or not is_worker():
        yield
        return
    use_cuda = torch.cuda.is_available()
    if use_cuda:
        torch.cuda.set_device(local_rank() or 0)
    try:
        store, rank, world_size = next(dist.rendezvous("env://", timeout=_MEETING))
        backend = "cpu:gloo,cuda:nccl" if use_cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        index = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).strip().split("\n")[0]
        raise ProcessError(f"the processes cannot meet at {index}: {reason}") from error
    yield
    # Not after an error: the process ends, which the others notice.
    dist.destroy_process_group()


# Processes of our own -------------------------------------------------------------------------------------------------


def launch(function: Callable[..., Any], arguments: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """Call a function in ``nproc`` new processes.

    Args:
        function: importable by its name; it joins the group by :func:`group`.
        arguments: its keyword arguments.
        values: the configuration, with the number of processes and their address.

    Returns:
        The return value in the first of these processes.

    Raises:
        DrexError: the error of the process that failed first; the others are terminated.
        ProcessError: the port is in use, or a signal ended a process.
    """
    nproc, offset = values["nproc"], values["offset"]
    world = nproc if values["world_size"] == -1 else values["world_size"]
    address, port = str(values["ip"]), int(values["port"] or _free_port())
    if offset == 0:
        _check_port(port)
    environment = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    environment[_OURS] = "1"
    threads = max(1, torch.get_num_threads() // nproc)
    with tempfile.TemporaryDirectory(prefix="recbole-drex-") as folder:
        # Ctrl-C reaches every process of a terminal; only this one handles it, and terminates the others.
        with _ignored_interrupts():
            context = torch.multiprocessing.spawn(
                _work, (Path(folder), offset, environment, threads, function, dict(arguments)), nproc, join=False
            )
        try:
            _wait(context.processes, Path(folder))
        finally:
            _end(context.processes)
        return pickle.loads((Path(folder) / _RESULT).read_bytes())  # noqa: S301  (written by our own process)  # nosec B301


def _work(
    index: int, folder: Path, offset: int, environment: dict, threads: int, function: Callable, arguments: dict
) -> None:
    """One process: writes the return value of the function, or the first error, to ``folder``."""
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment, RANK=str(offset + index), LOCAL_RANK=str(index))
    use_threads(threads)
    try:
        result = function(**arguments)
        if index == 0:
            (folder / _RESULT).write_bytes(pickle.dumps(result))
    except DrexError as error:
        _leave(folder / _ERROR, pickle.dumps(error))
        _exit(2)
    except Exception:
        _leave(folder / _TRACE, traceback.format_exc().encode())
        _exit(1)
    except SystemExit as stopped:
        _exit(int(stopped.code or 0))


def _stop(number: int, frame: Any) -> None:
    # Raised like any other exception, so that no half-written file is left.
    raise SystemExit(128 + number)


def _exit(code: int) -> None:
    """End without messages of libraries whose connections are still open."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _leave(path: Path, content: bytes) -> None:
    # The first failure is the cause; the others fail since they lose their connection.
    with contextlib.suppress(FileExistsError), path.open("xb") as file:
        file.write(content)


def _wait(processes: list[Any], folder: Path) -> None:
    """Wait until all processes are done or one has failed, and raise its error."""
    running = list(processes)
    while running:
        connection.wait([process.sentinel for process in running])
        running = [process for process in running if process.exitcode is None]
        codes = [process.exitcode or 0 for process in processes]
        if (folder / _ERROR).is_file():
            raise pickle.loads((folder / _ERROR).read_bytes())  # noqa: S301  (written by our own process)  # nosec B301
        for index, code in enumerate(codes):
            number = -code if code < 0 else code - 128
            if number > 0:
                reason = f"by {signal.Signals(number).name}" + ("; is there enough memory?" if number == 9 else "")
                raise ProcessError(f"process {index} of {len(processes)} on this machine was ended {reason}")
        if any(codes):
            raise RuntimeError((folder / _TRACE).read_text() if (folder / _TRACE).is_file() else f"exit codes {codes}")


def _end(processes: list[Any]) -> None:
    """Terminate running processes, so that no half-written file is left, and kill them if that fails."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    deadline = monotonic() + _GRACE
    for process in processes:
        process.join(max(0.0, deadline - monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


@contextlib.contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Processes that are started in the block ignore Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # where Python lets no handler be set
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return one.getsockname()[1]


def _check_port(port: int) -> None:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("", port))
        except OSError as error:
            raise ProcessError(f"port {port} of this machine cannot be used ({error.strerror}); choose one") from error
