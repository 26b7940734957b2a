"""A small HTTP server on this machine that sends files as those of the data sets do, with and without faults."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Remote:
    """What the server has and how it answers.

    Attributes:
        files: content by path; empty: every path without "missing" in it has ``content``.
        break_after: bytes sent by the next answers before the connection breaks.
        requests: path and header ``Range`` of every request.
    """

    def __init__(self, content: bytes = b"") -> None:
        self.content, self.etag, self.ranges = content, '"one"', True
        self.files: dict[str, bytes] = {}
        self.break_after: list[int] = []
        self.announce_more = 0
        self.length = True
        self.location = ""
        self.requests: list[tuple[str, str]] = []

    @property
    def paths(self) -> list[str]:
        """The paths of all requests."""
        return [path for path, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        remote: Remote = self.server.remote  # type: ignore[attr-defined]
        asked = self.headers.get("Range", "")
        remote.requests.append((self.path, asked))
        if remote.location:
            self.send_response(302)
            self.send_header("Location", remote.location)
            self.end_headers()
            return
        if "missing" in self.path or (remote.files and self.path not in remote.files):
            self.send_error(404)
            return
        content = remote.files.get(self.path, remote.content)
        size, start = len(content), 0
        if asked and remote.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("ETag", remote.etag)
        if remote.length:
            self.send_header("Content-Length", str(size - start + remote.announce_more))
        self.end_headers()
        body = content[start:]
        if remote.break_after:
            body = body[: remote.break_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(content: bytes = b"") -> Iterator[ThreadingHTTPServer]:
    """A server with the attributes ``remote`` and ``url``; set NO_PROXY to 127.0.0.1 before."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.remote = Remote(content)  # type: ignore[attr-defined]
    http.url = f"http://127.0.0.1:{http.server_port}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield http
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
