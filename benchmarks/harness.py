"""What the benchmarks have in common: command lines, the machine they ran on, and where their results go."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from recbole_drex.errors import DrexError

RESULTS = Path(__file__).parent / "results"


def make_parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """A parser that knows ``--output``, by default ``results/<name>.json`` beside the benchmarks.

    Args:
        doc: of the benchmark; its first line describes it.
        name: of the results.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=RESULTS / f"{name}.json", help="default: %(default)s")
    return parser


def run(measure: Callable[[argparse.Namespace], int | None], options: argparse.Namespace) -> int:
    """Measure, and return the exit code: what ``measure`` returns, 0 for None, 2 and a line if an input is at fault."""
    try:
        return measure(options) or 0
    except DrexError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def machine() -> dict[str, Any]:
    """Where something was measured."""
    return {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}


def rounded(row: Mapping[str, Any], digits: int = 2) -> dict[str, Any]:
    """A row of a table, its real numbers rounded."""
    return {key: round(value, digits) if isinstance(value, float) else value for key, value in row.items()}


def print_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as a table in Markdown; their keys are its head."""
    print(tabulate(list(rows), headers="keys", tablefmt="github"))
