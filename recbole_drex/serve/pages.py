"""The two pages of the server: neither loads anything, style and script stand in them, hashed in their policy."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from recbole_drex.report.pages.rendering import environment_of, script_of, sources
from recbole_drex.serve import limits
from recbole_drex.serve.schemas import Health

# The report's, so that an explanation looks the same in both places.
_STYLES = ("report.css", "explanations.css", "page.css")
_SCRIPTS = (
    "frame.js",
    "explained-quotes.js",
    "explained-words.js",
    "explained-parts.js",
    "explained-reasons.js",
    "page.js",
)


class Page(NamedTuple):
    """HTML and the content security policy that it is sent with."""

    html: str
    policy: str


def start_page(health: Health) -> Page:
    """The page on ``/``: find users, see profiles and explained recommendations, rate items as a new user.

    Args:
        health: what is served.
    """
    about = dataclasses.asdict(health) | {"max_interactions": limits.MAX_INTERACTIONS, "max_review": limits.MAX_REVIEW}
    return _page("page.html.j2", _SCRIPTS, health=health, about=about)


def docs_page(openapi: Mapping[str, Any], max_body: int) -> Page:
    """The page on ``/docs``: addresses, parameters, answers and limits, made of the OpenAPI description.

    Args:
        openapi: as FastAPI makes it.
        max_body: bytes of a request's body.
    """
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = openapi["components"]["schemas"]
    return _page(
        "docs.html.j2",
        (),
        openapi=openapi,
        operations=operations,
        schemas={name: schema for name, schema in schemas.items() if schema.get("properties")},
        limits=limits.described(max_body),
    )


def kind(schema: Mapping[str, Any]) -> str:
    """What values a schema allows, in short.

    Example:
        >>> kind({"type": "array", "items": {"$ref": "#/components/schemas/Keyword"}})
        'list of Keyword'
        >>> kind({"anyOf": [{"type": "number"}, {"type": "null"}]})
        'number or null'
    """
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[1]
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        inner: Mapping[str, Any] = schema.get("items") or next(iter(schema.get("prefixItems", ())), {})
        return f"list of {kind(inner)}"
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "up to"))
        if key in schema
    ]
    unit = " characters" if "maxLength" in schema else ""
    name = str(schema.get("type", "any value"))
    return f"{name}, {' '.join(bounds)}{unit}" if bounds else name


def _page(template: str, scripts: Sequence[str], **values: Any) -> Page:
    environment = environment_of("recbole_drex.serve", "recbole_drex.report")
    environment.filters.update(kind=kind)
    style, code = sources(environment, _STYLES), script_of(environment, scripts) if scripts else ""
    html = environment.get_template(template).render(
        style=Markup(style),  # noqa: S704  (files of this package)  # nosec B704
        script=Markup(code),  # noqa: S704  # nosec B704
        **values,
    )
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; style-src {_hash(style)}; script-src {_hash(code)}"
    )
    return Page(html, policy)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
