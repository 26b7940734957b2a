"""Answers as JSON, and one readable line for everything that goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recbole_drex.errors import DrexError

_SHOWN = 3  # faults of a request that are named
_LONGEST = 500  # characters of a reason
RETRY = {"retry-after": "1"}
"""Header of an answer to a request that may succeed later."""


class Unknown(DrexError):
    """What was asked for is not in the data; answered 404."""


class NotOffered(DrexError):
    """The model of the run cannot do what was asked; answered 501."""


class Busy(DrexError):
    """There is no room or no time for the request; answered 503."""


class TooLarge(DrexError):
    """A part of the request is above its limit; answered 413."""


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``value`` (plain values and data classes) as JSON; NaN becomes null."""
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, dict(headers or {}), media_type="application/json")


def failed(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """``{"detail": reason}``, in one line of bounded length."""
    line = " ".join(reason.encode("utf-8", "replace").decode().split())
    return answer({"detail": line if len(line) <= _LONGEST else f"{line[:_LONGEST]}\u2026"}, status, headers)


def reason_of(errors: Sequence[Any]) -> str:
    """One line for what is wrong with a request, in the words of the one who made it.

    Args:
        errors: as pydantic lists them.

    Example:
        >>> reason_of([{"loc": ("body", "interactions", 1, "item"), "msg": "Field required", "type": "missing"}])
        'interactions[1].item: field required'
    """
    lines = []
    for error in errors[:_SHOWN]:
        # The first part says where in the request: body or query.
        where, message = error["loc"][1:], error["msg"]
        if error["type"] == "json_invalid":
            context = error.get("ctx", {}).get("error", message)
            lines.append(f"the body is no JSON: {context} (character {error['loc'][-1]})")
        elif not where and error["type"] == "missing":
            lines.append("the request has no body; send a JSON object")
        elif not where and error["type"] != "value_error":
            lines.append("the body must be a JSON object, sent with the header content-type: application/json")
        else:
            place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
            text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
            text = "unknown name" if error["type"] == "extra_forbidden" else text[:1].lower() + text[1:]
            lines.append(f"{place}: {text}" if place else text)
    more = len(errors) - _SHOWN
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def methods(app: FastAPI, path: str) -> set[str]:
    """Methods of all routes of a path."""
    return {method for route in app.routes if getattr(route, "path", "") == path for method in route.methods}  # type: ignore[attr-defined]


def answer_errors(app: FastAPI) -> None:
    """Let every error of ``app`` be answered by ``{"detail": reason}``."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return failed(422, reason_of(error.errors()))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        reason, headers = str(error.detail), error.headers
        if error.status_code == 404:
            reason = f"there is no {request.url.path}; / is the page, /docs lists what there is"
        elif error.status_code == 405:
            # Starlette's own header names the methods of the first route only.
            legal = ", ".join(sorted(methods(app, request.url.path)))
            reason, headers = f"{request.url.path} takes {legal}, not {request.method}", {"allow": legal}
        elif error.status_code == 400:
            reason = "the body is no JSON that can be read"
        return failed(error.status_code, reason, headers)

    @app.exception_handler(DrexError)
    async def faulty(request: Request, error: Exception) -> Response:
        kinds: dict[type[Exception], int] = {Unknown: 404, NotOffered: 501, TooLarge: 413, Busy: 503}
        headers = RETRY if isinstance(error, Busy) else None
        return failed(kinds.get(type(error), 422), str(error), headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # Starlette raises it again after the answer; the guard logs it.
        return failed(500, f"the server failed ({type(error).__name__}); its log says why")
