"""Closes idle connections; uvicorn has no timeout for request headers."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from recbole_drex.serve import limits


def make_protocol(
    seconds: float = limits.HEADER_SECONDS, max_waiting: int = limits.MAX_CONNECTIONS
) -> type[asyncio.Protocol]:
    """uvicorn's protocol, extended to close connections without a complete request.

    Args:
        seconds: time limit for the header of a request, from the opening of the connection or the last response; it
            also applies to the rest of a refused body.
        max_waiting: maximum number of waiting connections; beyond it, the longest-waiting connection is closed.
    """
    waiting: dict[asyncio.Protocol, asyncio.TimerHandle] = {}  # oldest first

    class Protocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:  # the server is responding
                self._unwatch()
            elif self not in waiting:
                waiting[self] = self.loop.call_later(seconds, self.transport.abort)
                if len(waiting) > max_waiting:
                    next(iter(waiting)).transport.abort()  # type: ignore[attr-defined]

        def _unwatch(self) -> None:
            if self in waiting:
                waiting.pop(self).cancel()

    return Protocol
