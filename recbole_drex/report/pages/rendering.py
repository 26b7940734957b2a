"""Pages from templates. Every text is escaped, and the content security policy allows only the page's own script."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recbole_drex import __version__

REPORT = "report.html"


def rendered(template: str, base: Path, styles: Sequence[str], scripts: Sequence[str], **sections: Any) -> str:
    """Render a page that extends ``frame.html.j2``, the common frame of all pages.

    Args:
        template: file of the template.
        base: folder to which the page's links are relative.
        styles: files of its style sheet, in order of dependence.
        scripts: files of its script, in order of dependence.
        sections: variables of the template.
    """
    from markupsafe import Markup

    environment = environment_of("recbole_drex.report")
    script = script_of(environment, scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(
        link=lambda run: link_to(run.folder, base) + "/",
        style=Markup(sources(environment, styles)),  # noqa: S704  (files of this package)  # nosec B704
        script=Markup(script),  # noqa: S704  # nosec B704
        script_hash=f"sha256-{digest}",
        version=__version__,
    )
    return environment.get_template(template).render(**sections)


def environment_of(*packages: str) -> Any:
    """Jinja environment with the templates, styles and scripts of some packages; earlier packages take precedence."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number, p_value=p_value, seconds=seconds, value=value, for_script=for_script, breakable=breakable
    )
    return environment


def script_of(environment: Any, names: Sequence[str]) -> str:
    """The script of a page, in a block, so that its names stay local."""
    return f'"use strict";\n{{\n{sources(environment, names)}}}\n'


def sources(environment: Any, names: Sequence[str]) -> str:
    """Concatenate files."""
    return "\n".join(environment.loader.get_source(environment, name)[0] for name in names)


def link_to(path: Path, base: Path) -> str:
    """URL of a file or folder relative to the page."""
    return quote(Path(os.path.relpath(path, base)).as_posix())


def for_script(data: Any) -> Any:
    """``data`` as JSON that is safe inside a script element: no character can end the element."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  (nothing in it can end the element now)  # nosec B704


def breakable(label: str) -> Any:
    """A variant's label with optional line breaks after + and =.

    Example:
        >>> breakable("DReX+output=point")
        Markup('DReX+<wbr>output=<wbr>point')
    """
    from markupsafe import Markup, escape

    return Markup(re.sub("([+=])", r"\1<wbr>", str(escape(label))))  # noqa: S704  (escaped before the breaks come in)  # nosec B704


def number(value: float | None, digits: int = 4) -> str:
    """A number with a fixed number of decimals, or a dash for a missing value.

    Example:
        >>> number(0.51139), number(None), number(33101.0, 0)
        ('0.5114', '-', '33,101')
    """
    return "-" if value is None or value != value else f"{value:,.{digits}f}"


def p_value(value: float | None) -> str:
    """A p-value in the usual format.

    Example:
        >>> p_value(0.0312), p_value(2e-9), p_value(float("nan"))
        ('.031', '< .001', '-')
    """
    if value is None or value != value:
        return "-"
    if value < 0.001:
        return "< .001"
    return f"{value:.3f}".removeprefix("0")


def seconds(value: float | None) -> str:
    """A duration in a suitable unit.

    Example:
        >>> seconds(1.42), seconds(254.0), seconds(None)
        ('1.4 s', '4 min 14 s', '-')
    """
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def value(setting: Any) -> str:
    """A parameter's value as JSON, but text without quotes."""
    return setting if isinstance(setting, str) else json.dumps(setting, ensure_ascii=False)
