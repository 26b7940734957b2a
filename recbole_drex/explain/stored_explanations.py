"""Explanations in the folder of a run: ``explanations.json``."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_drex.explain.explanation_text import Explanation
from recbole_drex.results.comparison import EXPLANATIONS
from recbole_drex.utils.files import read_json, write_json


def write_explanations(explanations: Sequence[Explanation], run_dir: Path) -> None:
    """Write explanations to ``explanations.json``: a list of objects with the fields of :class:`Explanation`.

    Raises:
        DataError: the folder cannot be written.
    """
    write_json(run_dir / EXPLANATIONS, list(explanations))


def read_explanations(run_dir: Path) -> list[dict[str, Any]]:
    """The objects that :func:`write_explanations` wrote, in its order; empty if the run has no such file.

    Raises:
        DataError: the file is damaged.
    """
    path = run_dir / EXPLANATIONS
    return read_json(path, "explanations") if path.is_file() else []


def best_item(document: dict[str, Any]) -> dict[str, Any]:
    """The object without its recommendations after the first."""
    return {**document, "recommendations": document["recommendations"][:1]}


def explanation_of(document: dict[str, Any]) -> Explanation:
    """The explanation that an object of ``explanations.json`` describes."""
    return _value(Explanation, document)


def _value(kind: Any, stored: Any) -> Any:
    """A value of the annotated type ``kind``: a dataclass, a tuple of one type, one of these or None, or plain."""
    if isinstance(kind, types.UnionType):
        kind = next(one for one in typing.get_args(kind) if one is not types.NoneType)
    if isinstance(stored, dict):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _value(hints[name], value) for name, value in stored.items()})
    if isinstance(stored, list):
        return tuple(_value(typing.get_args(kind)[0], value) for value in stored)
    return stored
