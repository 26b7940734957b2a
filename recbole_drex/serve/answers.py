"""JSON responses, with one readable line per error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recbole_drex.errors import DrexError

_SHOWN = 3  # maximum number of errors named per request
_LONGEST = 500  # maximum length of a reason
RETRY = {"retry-after": "1"}
"""Header of responses to requests that may succeed later."""


class Unknown(DrexError):
    """A user or item is not in the data; status 404."""


class NotOffered(DrexError):
    """The model of the run does not offer what was requested; status 501."""


class Busy(DrexError):
    """The server has no capacity or no time for the request; status 503."""


class TooLarge(DrexError):
    """A part of the request exceeds its limit; status 413."""


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response with ``value`` (plain values and data classes); NaN becomes null."""
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, dict(headers or {}), media_type="application/json")


def failed(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error response ``{"detail": reason}``, on one line of bounded length."""
    line = " ".join(reason.encode("utf-8", "replace").decode().split())
    return answer({"detail": line if len(line) <= _LONGEST else f"{line[:_LONGEST]}\u2026"}, status, headers)


def reason_of(errors: Sequence[Any]) -> str:
    """Summarise the errors of a request on one line, in terms of the request.

    Args:
        errors: as pydantic lists them.

    Example:
        >>> reason_of([{"loc": ("body", "interactions", 1, "item"), "msg": "Field required", "type": "missing"}])
        'interactions[1].item: field required'
    """
    lines = []
    for error in errors[:_SHOWN]:
        # The first part is the part of the request: body or query.
        where, message = error["loc"][1:], error["msg"]
        if error["type"] == "json_invalid":
            context = error.get("ctx", {}).get("error", message)
            lines.append(f"the body is not valid JSON: {context} (character {error['loc'][-1]})")
        elif not where and error["type"] == "missing":
            lines.append("the request has no body; send a JSON object")
        elif not where and error["type"] != "value_error":
            lines.append("the body must be a JSON object, sent with the header content-type: application/json")
        else:
            path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
            text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
            text = "unknown name" if error["type"] == "extra_forbidden" else text[:1].lower() + text[1:]
            lines.append(f"{path}: {text}" if path else text)
    more = len(errors) - _SHOWN
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def methods(app: FastAPI, path: str) -> set[str]:
    """The methods of all routes of a path."""
    return {method for route in app.routes if getattr(route, "path", "") == path for method in route.methods}  # type: ignore[attr-defined]


def answer_errors(app: FastAPI) -> None:
    """Answer every error of ``app`` with ``{"detail": reason}``."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return failed(422, reason_of(error.errors()))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        reason, headers = str(error.detail), error.headers
        if error.status_code == 404:
            reason = f"there is no {request.url.path}; see / for the page and /docs for all addresses"
        elif error.status_code == 405:
            # Starlette's header names only the methods of the first route.
            legal = ", ".join(sorted(methods(app, request.url.path)))
            reason, headers = f"{request.url.path} takes {legal}, not {request.method}", {"allow": legal}
        elif error.status_code == 400:
            reason = "the body is not valid JSON"
        return failed(error.status_code, reason, headers)

    @app.exception_handler(DrexError)
    async def faulty(request: Request, error: Exception) -> Response:
        kinds: dict[type[Exception], int] = {Unknown: 404, NotOffered: 501, TooLarge: 413, Busy: 503}
        headers = RETRY if isinstance(error, Busy) else None
        return failed(kinds.get(type(error), 422), str(error), headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # Starlette raises it again after the response; the guard logs it.
        return failed(500, f"the server failed ({type(error).__name__}); see its log")
