"""All benchmarks of speed and cost, one after the other, and one table of what they found.

    python benchmarks/bench.py                 # all
    python benchmarks/bench.py startup store   # some

Each is a file of its own that can be run alone, writes ``benchmarks/results/<name>.json`` and makes the data that it
needs. Nothing else should run on the machine meanwhile. The table of docs/performance.md is written again from these
files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

import harness
from recbole_drex.errors import ConfigError, DrexError, unknown_name
from recbole_drex.utils.files import read_json

NAMES = ("startup", "preparing", "encoding", "attention", "store", "epoch", "scoring", "whole", "growth")

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_BEGIN, _END = "<!-- benchmarks -->\n", "<!-- end -->\n"


def page_table() -> str:
    """The findings with a goal, of all stored results, as a table in Markdown."""
    stored = [path for name in NAMES if (path := harness.RESULTS / f"{name}.json").is_file()]
    found = [row for path in stored for row in read_json(path)["findings"]]
    rows = [
        {
            "measured": row["what"],
            "compared with": row["against"],
            "value": f"{row['value']:g} {row['unit']}".strip(),
            "goal": f"{'at most' if row['at_most'] else 'at least'} {row['aim']:g}",
            "reached": "yes" if row["reached"] else "**no**",
        }
        for row in found
        if row["aim"] is not None
    ]
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True) + "\n"


def with_table(text: str) -> str:
    """The text of docs/performance.md with the table of the stored results."""
    before, _, rest = text.partition(_BEGIN)
    return before + _BEGIN + page_table() + _END + rest.partition(_END)[2]


def _run(options: argparse.Namespace) -> int:
    for name in options.names:
        if name not in NAMES:
            raise ConfigError(unknown_name("benchmark", name, NAMES))
    rows: list[dict[str, Any]] = []
    failed = []
    for name in options.names or NAMES:
        print(f"== {name}", flush=True)
        started = time.perf_counter()
        done = subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=False)
        print(f"== {name} took {time.perf_counter() - started:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
            continue
        rows += read_json(harness.RESULTS / f"{name}.json")["findings"]
    harness.print_rows(rows)
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    if failed:
        raise DrexError(f"{', '.join(failed)} failed")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
