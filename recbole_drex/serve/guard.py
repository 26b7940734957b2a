"""What every request passes before it reaches the application, and every answer on its way out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_drex.serve import limits
from recbole_drex.serve.answers import failed

SECURITY = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer that does not set them itself. None allows another site to read it (no CORS)."""


class Guard:
    """Refuses foreign hosts, bodies that are too large or too slow, and more requests at once than there is room for.

    A body is read here and handed on whole, so that it counts what really comes, whatever ``Content-Length`` says, and
    no more than ``max_body`` bytes of it are ever held. Together with ``max_requests`` that bounds the memory.

    Args:
        app: the application.
        hosts: legal names in the ``Host`` header, without a port; empty for any. A page of another site whose name was
            made to point to this machine (DNS rebinding) is refused by it.
        max_body: bytes of a body.
        max_requests: requests at once.
        body_seconds: time in which a body must have come.
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

        if self._requests >= self.max_requests:
            refusal = failed(503, f"{self.max_requests} requests are being answered; try again", {"retry-after": "1"})
            await refusal(scope, receive, secured)
            return
        self._requests += 1
        try:
            await self._pass(scope, receive, secured)
        finally:
            self._requests -= 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        host = _host(headers.get("host", ""))
        if self.hosts and host not in self.hosts:
            reason = f"this server answers to {', '.join(sorted(self.hosts))}, not to the host {host[:100]!r}"
            await failed(421, reason)(scope, receive, send)
            return
        if "content-length" not in headers and "transfer-encoding" not in headers:
            await self.app(scope, receive, send)  # there is no body
            return
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self.max_body:
            await failed(413, f"the body has more than {self.max_body} bytes")(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._body(receive), self.body_seconds)
        except asyncio.TimeoutError:
            reason = f"the body did not come within {self.body_seconds:g} seconds"
            await failed(408, reason, {"connection": "close"})(scope, receive, send)
            return
        if body is None:
            return
        if len(body) > self.max_body:
            reason = f"the body has more than {self.max_body} bytes"
            # More may be on its way without an end.
            await failed(413, reason, {"connection": "close"})(scope, receive, send)
            return
        await self.app(scope, _replayed(bytes(body), receive), send)

    async def _body(self, receive: Receive) -> bytearray | None:
        """The body, or what came of it until it was too large; None of a client that has gone."""
        body = bytearray()
        while len(body) <= self.max_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives ``body`` first and then what the server says."""
    waiting: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _host(header: str) -> str:
    """The name in a ``Host`` header, in small letters, without a port.

    Example:
        >>> _host("LocalHost:8000"), _host("[::1]:8000"), _host("127.0.0.1")
        ('localhost', '[::1]', '127.0.0.1')
    """
    name, _, port = header.lower().rpartition(":")
    return name if name and (port.isdecimal() or not port) else header.lower()
