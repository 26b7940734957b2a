"""Connections that keep a server waiting: uvicorn itself waits for a header without an end."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from recbole_drex.serve import limits


def make_protocol(seconds: float = limits.HEADER_SECONDS, most: int = limits.MAX_CONNECTIONS) -> type[asyncio.Protocol]:
    """uvicorn's protocol, closing connections on which no request comes.

    Args:
        seconds: time in which the header of a request must have come, after the connection was opened or the last
            answer given; what is left of a body that was refused must have come by then, too.
        most: connections that wait; one more closes the one that has been waiting for longest.
    """
    waiting: dict[asyncio.Protocol, asyncio.TimerHandle] = {}  # from the oldest to the newest

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
            self._forget()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:  # the server's turn
                self._forget()
            elif self not in waiting:
                waiting[self] = self.loop.call_later(seconds, self.transport.abort)
                if len(waiting) > most:
                    next(iter(waiting)).transport.abort()  # type: ignore[attr-defined]

        def _forget(self) -> None:
            if self in waiting:
                waiting.pop(self).cancel()

    return Protocol
