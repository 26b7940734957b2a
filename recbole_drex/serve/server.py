"""Loads a run and serves it over HTTP."""

from __future__ import annotations

import gc
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_drex.errors import ConfigError
from recbole_drex.experiments.run import load_experiment
from recbole_drex.serve import limits
from recbole_drex.utils.progress import stage
from recbole_drex.utils.threads import use_threads

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Loopback names of this machine."""


def serve(
    run_dir: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_body: int = limits.MAX_BODY,
    hosts: Sequence[str] = (),
    cached_users: int = limits.CACHED_USERS,
) -> None:
    """Load a run and answer requests until the process receives SIGINT or SIGTERM.

    Args:
        run_dir: folder of a finished run.
        host: address to listen on.
        port: 0 for any free port, which is printed.
        max_body: maximum number of bytes of a request body.
        hosts: allowed names in the ``Host`` header; default: :data:`LOOPBACK` if ``host`` is a loopback address, and
            any name otherwise.
        cached_users: number of users whose best items are cached; they are computed in advance while the server is
            idle.

    Raises:
        ConfigError: fastapi or uvicorn is not installed, the server cannot listen on the address, or a value is
            illegal.
        CheckpointError: the folder contains no run, or a run of another version.
        DataError: its prepared data set is missing or damaged.
    """
    try:
        import uvicorn

        from recbole_drex.serve.app import create_app
        from recbole_drex.serve.connections import make_protocol
        from recbole_drex.serve.service import Service
    except ImportError as error:
        raise ConfigError(f"serve needs {error.name}: pip install fastapi uvicorn") from error
    if max_body < 1:
        raise ConfigError(f"--max_body must be 1 or more bytes, not {max_body}")
    if cached_users < 0:
        raise ConfigError(f"--remember must be 0 or more users, not {cached_users}")
    # Bind first, so that an unavailable address is reported before the run is loaded.
    with _listening(host, port) as listener:
        experiment = load_experiment(run_dir)
        # One thread uses the model; more threads would slow down its many small steps.
        use_threads(1)
        local = host == "localhost" or host == "::1" or host.startswith("127.")
        app = create_app(Service(experiment, cached_users), hosts or (LOOPBACK if local else ()), max_body)
        # Loaded objects stay until the end; scanning them in every garbage collection would delay requests.
        gc.collect()
        gc.freeze()
        options: dict[str, Any] = {"log_level": "warning", "access_log": False, "timeout_graceful_shutdown": 5}
        config = uvicorn.Config(app, http=make_protocol(), ws="none", **options)
        listener.listen(config.backlog)
        name = f"[{host}]" if ":" in host else host
        print(
            f"{experiment.config.model} on {experiment.config.dataset}: http://{name}:{listener.getsockname()[1]}/"
            " (Ctrl+C stops)",
            flush=True,
        )
        with stage(""):
            uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must be from 0 to 65535, not {port}")
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; choose another --port or --host") from error
    return listener
