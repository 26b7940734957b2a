"""Middleware that checks every request and secures every response."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterable
from pathlib import Path

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_drex.serve import limits
from recbole_drex.serve.answers import RETRY, failed

_LOG = logging.getLogger(__name__)
_FRAMES = 8  # maximum number of logged stack frames of a failure

SECURITY = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Default headers of every response. No header allows other sites to read it (no CORS)."""


class Guard:
    """Refuses unknown hosts, bodies that are too large or too slow, and requests above the concurrency limit.

    The guard reads a body and passes it on as a whole. It counts the bytes that arrive, regardless of
    ``Content-Length``, and holds at most ``max_body`` bytes. Together with ``max_requests`` this bounds the memory.
    Incomplete bodies do not count as requests. A request ends when its client disconnects. Failures are logged on one
    line.

    Args:
        app: the application.
        hosts: allowed names in the ``Host`` header, without a port; empty for any. This refuses pages of other sites
            whose name was made to point to this machine (DNS rebinding).
        max_body: maximum number of bytes of a body.
        max_requests: maximum number of concurrent requests, and of concurrently read bodies; beyond it, the reading of
            the oldest body is cancelled.
        body_seconds: time limit for a body.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str] = (),
        max_body: int = limits.MAX_BODY,
        max_requests: int = limits.MAX_REQUESTS,
        body_seconds: float = limits.BODY_SECONDS,
    ):
        self.app, self.hosts = app, {host.lower() for host in hosts}
        self.max_body, self.max_requests, self.body_seconds = max_body, max_requests, body_seconds
        self._requests = 0
        self._bodies: dict[asyncio.Task[bytearray | None], None] = {}  # oldest first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._pass(scope, receive, secured)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        host = _host(headers.get("host", ""))
        if self.hosts and host not in self.hosts:
            reason = f"this server answers requests for {', '.join(sorted(self.hosts))}, not for host {host[:100]!r}"
            await failed(421, reason)(scope, receive, send)
            return
        if "content-length" not in headers and "transfer-encoding" not in headers:
            await self._answer(scope, b"", receive, send)
            return
        if "content-length" in headers and "transfer-encoding" in headers:
            # Servers that disagree about the end of the body may read a part of it as another request.
            reason = "Content-Length and Transfer-Encoding exclude each other"
            await failed(400, reason, {"connection": "close"})(scope, receive, send)
            return
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self.max_body:
            await failed(413, f"the body has more than {self.max_body} bytes")(scope, receive, send)
            return
        if self._requests >= self.max_requests:
            await self._refuse(scope, receive, send)
            return
        try:
            body = await self._read(receive)
        except asyncio.TimeoutError as error:
            await failed(408, str(error), {"connection": "close"})(scope, receive, send)
            return
        if body is None:
            return
        if len(body) > self.max_body:
            reason = f"the body has more than {self.max_body} bytes"
            # The rest of the body may be endless.
            await failed(413, reason, {"connection": "close"})(scope, receive, send)
            return
        await self._answer(scope, bytes(body), receive, send)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Let the application respond, until the client disconnects."""
        if self._requests >= self.max_requests:
            await self._refuse(scope, receive, send)
            return
        self._requests += 1
        try:
            async with anyio.create_task_group() as tasks:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    tasks.cancel_scope.cancel()

                tasks.start_soon(watch)
                try:
                    await self.app(scope, _replayed(body), send)
                except Exception as error:
                    _LOG.error("%s %r failed: %s", scope["method"], scope["path"], in_one_line(error))
                tasks.cancel_scope.cancel()
        finally:
            self._requests -= 1

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await failed(503, f"{self.max_requests} requests are being answered; try again", RETRY)(scope, receive, send)

    async def _read(self, receive: Receive) -> bytearray | None:
        """As :meth:`_body`.

        Raises:
            TimeoutError: the body was too slow, or other bodies took its place.
        """
        if len(self._bodies) >= self.max_requests:
            next(iter(self._bodies)).cancel()
        task = asyncio.ensure_future(self._body(receive))
        self._bodies[task] = None
        try:
            done, _ = await asyncio.wait([task], timeout=self.body_seconds)
        finally:
            task.cancel()
            del self._bodies[task]
        if not done:
            raise asyncio.TimeoutError(f"the body did not arrive within {self.body_seconds:g} seconds")
        if task.cancelled():
            raise asyncio.TimeoutError("the body arrived too slowly while others waited; try again")
        return task.result()

    async def _body(self, receive: Receive) -> bytearray | None:
        """The body, or its beginning if it is too large; None if the client disconnected."""
        body = bytearray()
        while len(body) <= self.max_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        return body


def _replayed(body: bytes) -> Receive:
    """A ``receive`` that returns ``body`` and then waits; the guard itself watches for the end of the connection."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop()

    return replay


def in_one_line(error: BaseException) -> str:
    """Type, message and stack frames of an error, innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[::-1][:_FRAMES]
    locations = ", ".join(f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames)
    return " ".join(f"{type(error).__name__}: {error} ({locations})".split())


def _host(header: str) -> str:
    """The name in a ``Host`` header, in lower case and without a port.

    Example:
        >>> _host("LocalHost:8000"), _host("[::1]:8000"), _host("127.0.0.1")
        ('localhost', '[::1]', '127.0.0.1')
    """
    name, _, port = header.lower().rpartition(":")
    return name if name and (port.isdecimal() or not port) else header.lower()
