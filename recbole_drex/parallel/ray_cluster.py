"""Connects to Ray: to a running cluster, or to a new local one."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from recbole_drex.errors import ConfigError

OLDEST = (2, 52)
INSTALL_LINE = "pip install 'ray[tune]>=2.52'"

_KNOCK = 5.0  # seconds to wait for a port to answer
_JOIN = 20.0  # seconds to wait for a sign that the listener is Ray; together well below 30
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": Ray takes 127.0.0.1 for this machine's address
_CLIENT_PORT = 10001  # of ray://host without a port
# Run in a separate process: connecting to something other than Ray blocks for minutes, ignoring signals.
_TRIAL = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR'); ray.shutdown()"


@contextlib.contextmanager
def connected(
    address: str | None = None, *, cpus: int | None = None, object_store_mb: int | None = None
) -> Iterator[None]:
    """Connect to Ray for the duration of the block.

    If this process is already connected, that Ray is used regardless of the arguments, and left running. Otherwise a
    local Ray is started without its dashboard and stopped afterwards (``address=None``), or the cluster at ``address``
    is joined and left afterwards. An address is tried first, so that a wrong one is reported within 30 s.
    A local Ray listens only on 127.0.0.1. The output of Ray and its workers is not shown, and no usage
    statistics are sent.

    Args:
        address: ``host:port`` of a cluster's head, ``ray://host:port`` of its client server, or ``auto`` for the
            cluster that the environment variable ``RAY_ADDRESS`` names or this machine belongs to; None starts a local
            Ray.
        cpus: CPU cores that the local Ray may give away; None: all.
        object_store_mb: size of the local Ray's object store in MB; None: Ray's choice (a third of the memory).

    Raises:
        ConfigError: Ray is missing or older than :data:`OLDEST`, an address where no Ray answers, ``cpus`` or
            ``object_store_mb`` given with an address (a cluster has its own), or a local Ray that does not start.

    Example:
        >>> with connected("127.0.0.1:9"):
        ...     pass
        Traceback (most recent call last):
        ...
        recbole_drex.errors.ConfigError: no Ray answers at 127.0.0.1:9: ...
    """
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        size = None if object_store_mb is None else object_store_mb << 20
        try:
            with _on_this_machine_alone():
                ray.init(
                    address="local", num_cpus=cpus, object_store_memory=size, include_dashboard=False,
                    configure_logging=True, **quiet,
                )  # fmt: skip
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(f"Ray cannot be started on this machine: {error}") from error
    else:
        if cpus is not None or object_store_mb is not None:
            raise ConfigError(
                f"the Ray at {address} has its own cores and memory; only those of a local one can be set"
            )
        check_address(address)
        try:
            with _on_this_machine_alone(_is_local(address)):
                ray.init(address=address, **quiet)
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(f"cannot join the Ray at {address}: {_last_line(str(error))}") from error
    try:
        yield
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Find out within 30 s whether a Ray of this version answers at ``address``.

    Args:
        address: as :func:`connected` takes it.

    Raises:
        ConfigError: it does not; the message says what was tried and what happened.
    """
    named = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    if named == "auto":
        tried = "auto: RAY_ADDRESS is not set, and a Ray of this machine was looked for"
    else:
        host, port = _host_and_port(named)
        tried = named if named == address else f"auto, which RAY_ADDRESS says is {named}"
        try:
            socket.create_connection((host, port), timeout=_KNOCK).close()
        except OSError as error:
            raise ConfigError(
                f"no Ray answers at {tried}: a TCP connection to port {port} of {host} failed "
                f"({error.strerror or error}). Is `ray start --head` running there?"
            ) from error
    environment = {**os.environ, **({_CLUSTERS: "0"} if _is_local(named) else {})}
    command = [sys.executable, "-c", _TRIAL, named]
    try:
        trial = subprocess.run(command, capture_output=True, text=True, timeout=_JOIN, env=environment)
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"no Ray answers at {tried}: something listens there, but gave no sign of being one for {_JOIN:.0f} s"
        ) from None
    if trial.returncode:
        raise ConfigError(f"no Ray answers at {tried}: {_last_line(trial.stderr)}")


def _host_and_port(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``ray://host[:port]``."""
    client, _, index = address.rpartition("://")
    if client and ":" not in index:
        index = f"{index}:{_CLIENT_PORT}"
    host, _, port = index.rpartition(":")
    if client not in ("", "ray") or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"Ray address '{address}' is not legal. Legal values: auto, host:port, ray://host:port")
    return host.strip("[]"), int(port)


def _is_local(address: str) -> bool:
    """Whether an address is a loopback one of this machine."""
    return address not in ("", "auto") and _host_and_port(address)[0] in ("127.0.0.1", "localhost", "::1")


@contextlib.contextmanager
def _on_this_machine_alone(wanted: bool = True) -> Iterator[None]:
    """Let a Ray that is started in the block listen on 127.0.0.1, as on systems without cluster support.

    Otherwise it uses an address that other machines can reach, even if it is given 127.0.0.1, and listens on all;
    whoever can reach its ports can run code. A Ray that listens there is joined in the same way.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = before and not wanted
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _ray() -> Any:
    """The library, if it is new enough."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"Ray is not installed; install it with: {INSTALL_LINE}") from error
    result = tuple(int(number) for number in re.findall(r"\d+", ray.__version__)[:2])
    if result < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ConfigError(f"Ray {ray.__version__} is too old, {oldest} is needed; install it with: {INSTALL_LINE}")
    return ray


def _last_line(text: str) -> str:
    """The last non-empty line: of a traceback, the error."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason was given")
