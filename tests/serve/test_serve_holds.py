"""A server under attack: unfinished requests, heavy requests, and clients that disconnect."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from recbole_drex.experiments.run import load_experiment

pytest.importorskip("fastapi", reason="needs the extra serve")

import uvicorn

from recbole_drex.explain.interruption import between_steps
from recbole_drex.serve.answers import Busy
from recbole_drex.serve.app import create_app
from recbole_drex.serve.connections import make_protocol
from recbole_drex.serve.service import Service
from recbole_drex.serve.worker import Worker
from serve import measure_mixed, served

USER = "user_05"
HEADER_SECONDS, MOST = 1.0, 100
LONG_REVIEWS = [
    {"item": f"game_0{n}", "rating": 4, "review": " ".join(f"qx{n}z{m}v" for m in range(3000))} for n in range(9)
]
"""27,000 words that are not in the data set, which take minutes."""


@pytest.fixture(scope="module")
def service(hostile_run: Path) -> Service:
    return Service(load_experiment(hostile_run))


@pytest.fixture(scope="module")
def port(service: Service) -> Iterator[int]:
    """A real server in a thread of this process."""
    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "ws": "none"}
    server = uvicorn.Server(uvicorn.Config(create_app(service), http=make_protocol(HEADER_SECONDS, MOST), **options))
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20)


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any, float]:
    """Status, content and seconds of a request."""
    connection, started = http.client.HTTPConnection("127.0.0.1", port, timeout=30), time.perf_counter()
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {} if body is None else {"content-type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer, time.perf_counter() - started


@contextmanager
def opened(port: int, content: bytes) -> Iterator[socket.socket]:
    """A connection on which ``content`` was sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(content)
        yield connection


def sent_back(connection: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    content = b""
    try:
        while more := connection.recv(65536):
            content += more
    except ConnectionResetError:
        pass
    return content


def post(headers: str, body: str = "") -> bytes:
    headers = f"host: 127.0.0.1\r\ncontent-type: application/json\r\n{headers}"
    return f"POST /recommend HTTP/1.1\r\n{headers}\r\n{body}".encode()


# Legal bodies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("rating", [None, 4])
@pytest.mark.parametrize("review", ["\U0001f600", "10/10", "...", "\u7269", "the of and", "<br>", "\u200b", "a" * 5000])
def test_a_review_without_known_words(port: int, review: str, rating: float | None, explain: bool) -> None:
    """It has no effect, neither alone nor together with another review."""
    wordless = {"item": "game_00", "rating": rating, "review": review}
    status, alone, _ = ask(port, "POST", "/recommend", {"interactions": [wordless], "top": 2, "explain": explain})
    assert status == 200 and len(alone["recommendations"]) == 2
    both = [wordless, {"item": "game_01", "review": "Superb story"}]
    status, both_items, _ = ask(port, "POST", "/recommend", {"interactions": both, "top": 2, "explain": explain})
    assert status == 200 and len(both_items["recommendations"]) == 2
    if rating is None and review != "a" * 5000:
        _, other, _ = ask(port, "POST", "/recommend", {"interactions": both[1:], "top": 3, "explain": explain})
        items = {one["item"]: one["predicted"] for one in other["recommendations"]}
        for one in both_items["recommendations"]:
            assert items[one["item"]] == pytest.approx(one["predicted"], abs=1e-4)


# Requests that are not finished ----------------------------------------------------------------------------------


def test_both_length_and_transfer_encoding_are_refused(port: int) -> None:
    chunked = "5\r\nhello\r\n0\r\n\r\n"
    with opened(port, post("transfer-encoding: chunked\r\ncontent-length: 4\r\n", chunked)) as connection:
        content = sent_back(connection)
    assert content.startswith(b"HTTP/1.1 400 ") and b"Content-Length and Transfer-Encoding" in content
    assert content.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "started_request", [b"", b"GET /health HTTP/1.1\r\nhost: x\r\n", b"GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /he"]
)
def test_unfinished_headers_time_out(port: int, started_request: bytes) -> None:
    """Also after a response on the same connection."""
    started = time.perf_counter()
    with opened(port, started_request) as connection:
        assert sent_back(connection).count(b"200 OK") == started_request.count(b"\r\n\r\n")
    assert HEADER_SECONDS / 2 < time.perf_counter() - started < HEADER_SECONDS + 3


def test_the_rest_of_a_refused_body_times_out(port: int) -> None:
    with opened(port, post("content-length: 9999999\r\n", "{")) as connection:
        assert sent_back(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("number", "content"),
    [(70, post("content-length: 100\r\n", "{")), (MOST + 20, b"GET /health HTTP/1.1\r\n")],
    ids=["bodies", "headers"],
)
def test_unfinished_requests_do_not_block_others(port: int, number: int, content: bytes) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(opened(port, content)) for _ in range(number)]
        status, _, seconds = ask(port, "GET", "/health")
        assert (status, seconds < 1) == (200, True)
        status, answer, seconds = ask(port, "POST", "/recommend", {"user": USER, "top": 1})
        assert (status, len(answer["recommendations"]), seconds < 1) == (200, 1, True)
        first = sent_back(connections[0])
    if b"POST" in content:  # the oldest body was cancelled
        assert first.startswith(b"HTTP/1.1 408 ") and b"others waited" in first
    else:
        assert first == b""


# Large requests --------------------------------------------------------------------------------------------------


def test_large_requests_do_not_block_others_and_end_with_their_clients(port: int) -> None:
    body = json.dumps({"interactions": LONG_REVIEWS, "explain": True})
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(opened(port, post(f"content-length: {len(body)}\r\n", body)))
        time.sleep(0.3)
        for path in (f"/recommend?user={USER}", f"/profile?user={USER}", "/items/search?query=a", "/health"):
            status, _, seconds = ask(port, "GET", path)
            assert (status, seconds < 2) == (200, True)
        rated = {"interactions": [{"item": "game_00", "rating": 5}]}
        status, _, seconds = ask(port, "POST", "/recommend", rated)
        assert (status, seconds < 2) == (200, True)
    # Each of the five would have taken minutes.
    status, answer, seconds = ask(port, "GET", f"/explain?user={USER}&top=1")
    assert (status, len(answer["recommendations"]), seconds < 5) == (200, 1, True)


def _working(steps: list[int], number: int = 1000) -> str:
    for step in range(number):
        between_steps()
        steps.append(step)
        time.sleep(0.005)
    return "done"


def test_small_jobs_run_between_the_steps_of_a_large_one() -> None:
    async def use() -> tuple[list[int], int, str]:
        worker, steps = Worker(), list[int]()
        large = asyncio.create_task(worker.large("a", _working, steps, 20))
        await asyncio.sleep(0.02)
        seen = await worker.small(lambda: between_steps() or len(steps))
        return steps, seen, await large

    steps, seen, end = asyncio.run(use())
    assert end == "done" and steps == list(range(20)) and 0 < seen < 20


def test_abandoned_jobs_stop_or_never_start() -> None:
    async def use() -> tuple[list[int], list[int], str]:
        worker, first, second = Worker(), list[int](), list[int]()
        tasks = [asyncio.create_task(worker.large("a", _working, steps)) for steps in (first, second)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        return first, second, await worker.large("a", lambda: "next")

    first, second, end = asyncio.run(use())
    assert 0 < len(first) < 500 and second == [] and end == "next"


def test_large_jobs_are_limited_in_number_and_time() -> None:
    async def use() -> list[Any]:
        worker = Worker(max_large=3, max_of_client=2, seconds=0.2)
        clients = ("a", "a", "a", "b", "c")
        jobs = [worker.large(client, _working, list[int]()) for client in clients]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert not worker._clients  # idle clients are dropped
        return [str(one) for one in results if isinstance(one, Busy)] + [await worker.large("a", lambda: "free")]

    late, room = "the request took longer than 0.2 seconds", "large requests are in progress"
    results = asyncio.run(use())
    assert [late in one for one in results] == [True, True, False, True, False, False]
    assert room in results[2] and room in results[4] and results[5] == "free"


def test_nothing_was_logged(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), opened(port, post("content-length: 100\r\n", "{")):
        pass
    ask(port, "GET", "/health")
    assert not caplog.records


# The server as a separate process --------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_thousand_requests_of_all_kinds(hostile_run: Path) -> None:
    """All requests are answered, and memory does not grow. `benchmarks/serve.py` measures times."""
    with served(hostile_run, 10_000) as (host, port, process):
        row = measure_mixed(host, port, process, clients=8, requests=3000)
    assert set(row["statuses"]) <= {"200", "422", "503"} and row["statuses"]["200"] > 2000
    assert row["memory_mb_after"] < 1.03 * row["memory_mb_after_a_third"]


@pytest.mark.slow
def test_two_hundred_slow_connections(hostile_run: Path) -> None:
    """Half of them send a header, half a body, one byte per second."""
    body = json.dumps({"user": USER})
    parts = (b"GET /health HTTP/1.1\r\nx-slow: ", post(f"content-length: {len(body) + 1000}\r\n", body))
    with served(hostile_run, 10_000) as (_, port, _), ExitStack() as stack:
        connections = [stack.enter_context(opened(port, parts[n % 2])) for n in range(200)]
        worst = 0.0
        for _ in range(15):  # longer than any of them may take
            for connection in connections:
                with suppress(OSError):  # closed by the server, as it should be in the end
                    connection.send(b" ")
            for path in ("/health", f"/recommend?user={USER}", f"/explain?user={USER}&top=1"):
                status, _, seconds = ask(port, "GET", path)
                assert status == 200
                worst = max(worst, seconds)
            time.sleep(1)
        assert worst < 3
        assert all(b"200 OK" not in sent_back(connection) for connection in connections)
