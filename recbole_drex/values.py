"""Parameters as YAML, without objects that run code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from recbole_drex.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as a number, which YAML 1.1 does only for 1.0e-3."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_value(text: str) -> Any:
    """Read one command line value as YAML does: ``3`` int, ``1e-3`` float, ``true`` bool, ``[1,2]`` list, else text.

    Example:
        >>> parse_value("1e-3"), parse_value("False"), parse_value("[1, 2]"), parse_value("DReX")
        (0.001, False, [1, 2], 'DReX')
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe loader)
    except yaml.YAMLError:
        return text


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, no YAML, or not a mapping; the message names the file (and the line).
    """
    try:
        value = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  (a safe loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read configuration {path}: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"configuration {path} must hold 'name: value' lines, not a {type(value).__name__}")
    return value
