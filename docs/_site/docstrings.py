"""Docstrings hold a little of Sphinx's language; the site's pages are Markdown."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_MATH = re.compile(r"^( *)\.\. math::\n((?:\1 +.*\n|\n)+)", re.MULTILINE)
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([\w.]+)`")


def markdown(text: str) -> str:
    r"""A docstring's text as Markdown.

    Example:
        >>> print(markdown("See :func:`a.b` for :math:`x_i`."))
        See `a.b` for \(x_i\).
    """

    def block(found: re.Match[str]) -> str:
        indent, formula = found[1], textwrap.dedent(found[2]).strip()
        return textwrap.indent(f"\\[\n{formula}\n\\]\n\n", indent)

    text = _MATH.sub(block, text + "\n")
    return _ROLE.sub(r"`\1`", re.sub(r":math:`([^`]+)`", r"\\(\1\\)", text)).rstrip("\n")


class Markdown(griffe.Extension):
    """Translates every docstring that is shown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Translate one."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
