"""Protection of the server: limits, hosts, headers, pages that load nothing, and unexpected bodies."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_drex.experiments.run import load_experiment

pytest.importorskip("fastapi", reason="needs the extra serve")

from fastapi.testclient import TestClient

from recbole_drex.serve import limits
from recbole_drex.serve.app import create_app
from recbole_drex.serve.guard import Guard, _host
from recbole_drex.serve.server import LOOPBACK
from recbole_drex.serve.service import Service

USER = "user_05"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def service(hostile_run: Path) -> Service:
    return Service(load_experiment(hostile_run))


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    app = create_app(service, LOOPBACK, max_body=200_000)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def reason(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    (detail,) = response.json().values()
    assert "\n" not in detail and "Traceback" not in detail
    return detail


# Bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "not valid JSON"),
        (b"", "no body"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"user": "user_05", "top": NaN}', "top"),
        (b'{"interactions": [{"item": "game_00", "rating": NaN}]}', r"interactions\[0\].rating: .*finite"),
        (b'{"interactions": [{"item": "game_00", "rating": Infinity}]}', "finite"),
        (b'{"interactions": [{"item": "game_00", "rating": -1e999}]}', "finite"),
        (b'{"user": "\\ud800"}', "user"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"user": ' + b"9" * 5000 + b"}", "not valid JSON|user"),
    ],
)
def test_malformed_bodies(client: TestClient, content: bytes, expected: str) -> None:
    response = client.post("/recommend", content=content, headers=JSON)
    assert re.search(expected, reason(response, 422 if response.status_code != 400 else 400))


def test_body_of_another_kind(client: TestClient) -> None:
    response = client.post("/recommend", content=json.dumps({"user": USER}), headers={"content-type": "text/plain"})
    assert "content-type: application/json" in reason(response, 422)


def test_body_above_the_limit(client: TestClient) -> None:
    content = json.dumps({"user": USER, "padding": "x" * 200_000})
    assert "200000 bytes" in reason(client.post("/recommend", content=content, headers=JSON), 413)
    pieces = (b"x" * 10_000 for _ in range(30))
    assert "200000 bytes" in reason(client.post("/recommend", content=pieces, headers=JSON), 413)


@pytest.mark.parametrize("length", [None, b"5", b"0"])
def test_the_length_header_is_not_trusted(service: Service, length: bytes | None) -> None:
    """Bytes are counted as they arrive, whatever the header says, and reading stops at the limit."""
    n_received = 0

    async def receive() -> dict[str, Any]:
        nonlocal n_received
        n_received += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    header = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", length)
    status, content = asyncio.run(_asked(create_app(service, max_body=10_000), [header], receive))
    assert status == 413
    assert n_received == 11
    assert "10000 bytes" in json.loads(content)["detail"]


async def _asked(app: Any, headers: list[tuple[bytes, bytes]], receive: Any) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/recommend",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), *headers],
    }
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


def test_a_body_that_does_not_arrive() -> None:
    async def receive() -> Any:
        await asyncio.sleep(60)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nothing to answer")

    status, content = asyncio.run(_asked(Guard(app, body_seconds=0.05), [(b"transfer-encoding", b"chunked")], receive))
    assert status == 408
    assert "0.05 seconds" in json.loads(content)["detail"]


def test_too_many_concurrent_requests() -> None:
    async def ask_together() -> list[int]:
        open_gate = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await open_gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        guard = Guard(app, max_requests=3)
        responses = [asyncio.create_task(_asked(guard, [], asyncio.Event().wait)) for _ in range(5)]
        await asyncio.sleep(0)
        open_gate.set()
        first = [status for status, _ in await asyncio.gather(*responses)]
        return [*first, (await _asked(guard, [], asyncio.Event().wait))[0]]

    statuses = asyncio.run(ask_together())
    assert sorted(statuses[:5]) == [200, 200, 200, 503, 503]
    assert statuses[5] == 200


# Hosts, methods, failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:8000", "[::1]"])
def test_own_host_names(client: TestClient, host: str) -> None:
    assert client.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:80@evil", "", "evil:8000", "::1"]
)
def test_other_host_names_are_refused(client: TestClient, host: str) -> None:
    for path in ("/", "/health"):
        assert "answers requests for 127.0.0.1" in reason(client.get(path, headers={"host": host}), 421)


def test_any_host_name_by_default(service: Service) -> None:
    any_host = TestClient(create_app(service), base_url="http://films.example")
    assert any_host.get("/health").status_code == 200
    assert _host("films.example:80") == "films.example"


@pytest.mark.parametrize(
    ("method", "path", "legal"), [("PUT", "/recommend", "GET, POST"), ("POST", "/users", "GET"), ("DELETE", "/", "GET")]
)
def test_wrong_method(client: TestClient, method: str, path: str, legal: str) -> None:
    response = client.request(method, path)
    assert reason(response, 405) == f"{path} takes {legal}, not {method}"
    assert response.headers["allow"] == legal


def test_every_answer_is_secured(client: TestClient) -> None:
    for path in ("/", "/docs", "/openapi.json", "/health", "/nowhere", "/recommend"):
        headers = client.get(path, headers={"origin": "https://other.example"}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"].startswith("default-src 'none';")
        assert not [name for name in headers if name.startswith("access-control")]


def test_a_server_error_is_reported_without_a_traceback(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(service.recommender, "best", broken)
    app = create_app(service)
    with caplog.at_level(logging.ERROR):
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        response = client.get("/explain", params={"user": USER})
    assert reason(response, 500) == "the server failed (ZeroDivisionError); see its log"
    assert response.headers["x-content-type-options"] == "nosniff"
    # One line with the location; the web server, which would log a traceback, gets no exception.
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    line = record.getMessage()
    assert line.startswith("GET '/explain' failed: ZeroDivisionError: secret (test_serve_guard.py:")
    assert "in broken, explainer.py:" in line and "\n" not in line
    assert TestClient(app, base_url="http://127.0.0.1").get("/explain", params={"user": USER}).status_code == 500


# Pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing(client: TestClient, path: str) -> None:
    response = client.get(path)
    page, policy = response.text, response.headers["content-security-policy"]
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert not re.findall(r"<[^>]+\s(?:style|on\w+)=", page)
    assert "'unsafe-inline'" not in policy and "innerHTML" not in page
    for tag in ("style", "script"):
        for text in re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy


def test_docs_name_every_address_and_limit(client: TestClient) -> None:
    page, described = client.get("/docs").text, client.get("/openapi.json").json()
    addresses = {"/health", "/users", "/items/search", "/items/predict", "/profile", "/recommend", "/explain"}
    assert set(described["paths"]) == addresses
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in page
            for parameter in operation.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in page
    for _, number in limits.described(200_000):
        assert f"{number:,}" in page


# Any body --------------------------------------------------------------------------------------------------------

_TEXTS = st.one_of(st.sampled_from(["user_05", "game_00", "game_01", ""]), st.text(max_size=20))
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=4)),
    max_leaves=8,
)
_INTERACTIONS = st.fixed_dictionaries(
    {}, optional={"item": _TEXTS | _VALUES, "rating": st.floats() | _VALUES, "review": _TEXTS | _VALUES}
)
_REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "user": _TEXTS | _VALUES,
        "users": st.lists(_TEXTS, max_size=4) | _VALUES,
        "interactions": st.lists(_INTERACTIONS, max_size=4) | _VALUES,
        "top": st.integers(-2, 120) | _VALUES,
        "explain": st.booleans() | _VALUES,
    },
)


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@given(st.one_of(_REQUESTS, _VALUES, st.binary(max_size=60)))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_makes_the_server_fail(client: TestClient, quiet: None, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = client.post("/recommend", content=content, headers=JSON)
    assert response.status_code < 500 or response.status_code == 501, response.text
    if response.status_code >= 400:
        reason(response, response.status_code)
