"""Asking a server in tests: the JSON of its answers, and of its refusals the reason."""

from __future__ import annotations

from typing import Any


def get(client: Any, path: str, status: int = 200, **parameters: Any) -> Any:
    return checked(client.get(path, params=parameters), status)


def post(client: Any, body: Any, status: int = 200) -> Any:
    return checked(client.post("/recommend", json=body), status)


def checked(response: Any, status: int) -> Any:
    """The JSON of an answer with this status; of a failure, its reason, which is one line without a traceback."""
    assert response.status_code == status, response.text
    content = response.json()
    if status < 400:
        return content
    assert set(content) == {"detail"}
    reason = content["detail"]
    assert isinstance(reason, str) and reason and "\n" not in reason and "Traceback" not in reason
    return reason
