"""Parses parameters as YAML, without objects that run code."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recbole_drex.errors import ConfigError

_DEEPEST = 100


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as a number (YAML 1.1 needs 1.0e-3), without aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            # A few lines of aliases can expand to more values than fit in memory, or to a value that contains itself.
            raise yaml.YAMLError(f"aliases are not read: *{self.peek_event().anchor}{self.peek_event().start_mark}")
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        if self.flow_level == _DEEPEST:  # every bracket is compared with all that are open
            raise yaml.YAMLError(f"more than {_DEEPEST} brackets in one another")
        super().fetch_flow_collection_start(token_class)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _parse(text: str) -> Any:
    """Parse ``text`` as YAML.

    Raises:
        YAMLError: it is not YAML, is nested too deeply, or has an impossible date or number.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe loader)  # nosec B506
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    except ValueError as error:  # 2020-13-45; an integer of thousands of digits
        raise yaml.YAMLError(str(error)) from error


def parse_value(text: str) -> Any:
    """Read one command line value as YAML does: ``3`` int, ``1e-3`` float, ``true`` bool, ``[1,2]`` list, else text.

    An empty value is None. White space is text (such as a separator), which YAML would read as empty.

    Example:
        >>> parse_value("1e-3"), parse_value("False"), parse_value("[1, 2]"), parse_value("DReX"), parse_value(" ")
        (0.001, False, [1, 2], 'DReX', ' ')
    """
    try:
        return _parse(text) if text.strip() or not text else text
    except yaml.YAMLError:
        return text


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, not YAML, or not a mapping; the message names the file (and the line).
    """
    try:
        value = _parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read configuration {path}: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"configuration {path} must have 'name: value' lines, not a {type(value).__name__}")
    return value


_LARGEST = (1 << 63) - 1
_NO_TEXT = re.compile("[\\0\ud800-\udfff]")  # not allowed in file names


def refuse_odd(value: Any, what: str) -> None:
    """Refuse values that neither a file name nor the record of a run can represent.

    Raises:
        ConfigError: NaN, an infinite number, an integer of more than 64 bits, a NUL or a lone surrogate in
            ``value`` or in what it consists of; ``what`` names it in the message.
    """
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        for one in value:
            refuse_odd(one, what)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{what} must be finite, but there is {value}")
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise ConfigError(f"{what} has a number of more than 64 bits: {value!s:.40}")
    elif isinstance(value, str) and _NO_TEXT.search(value):
        raise ConfigError(f"{what} has an illegal character: {value!r:.200}")
