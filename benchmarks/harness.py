"""What the benchmarks have in common: command lines, the machine they ran on, what they found and where it goes."""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from recbole_drex.errors import DrexError
from recbole_drex.utils.files import write_json

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Finding:
    """The answer to one question: a figure, and the figure that is aimed at.

    Attributes:
        what: was measured, with the data.
        against: what the figure is a ratio to, or its unit's meaning where it is none.
        value: measured, the median of the repetitions.
        unit: such as ``times as fast``, ``s``, ``MB``, ``share``.
        aim: what should be reached; None where there is nothing to reach.
        at_most: whether the aim is a limit; else it is the least.
    """

    what: str
    against: str
    value: float
    unit: str
    aim: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached; None without one."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.at_most else self.value >= self.aim

    def row(self) -> dict[str, Any]:
        """As a row of the table of all findings, and as results keep it."""
        return {**dataclasses.asdict(self), "value": float(f"{self.value:.3g}"), "reached": self.reached}


def conclude(output: Path, findings: Iterable[Finding], **details: Any) -> None:
    """Print the findings as a table and write them with the machine and ``details`` as JSON."""
    rows = [finding.row() for finding in findings]
    print_rows(rows)
    write_json(output, {"machine": machine(), "findings": rows, **details})


def make_parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """A parser that knows ``--output``, by default ``results/<name>.json`` next to the benchmarks.

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
