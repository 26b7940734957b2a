"""What a change of the word features does to DReX: data sets, and its errors after training on them."""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
from recbole_drex.cli.options import seed_list
from recbole_drex.config.recbole_config import Config
from recbole_drex.experiments.quick_start import prepare_dataset, run

REAL = "Movie_Critics"
"""Data set that is taken if ``RECBOLE_DREX_RAW`` names a folder with its raw files; else the generated ``demo``."""
Runs = Sequence[Mapping[str, Any]]


def make_parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """As :func:`harness.make_parser`, with options of the data and of DReX's runs."""
    folder = os.environ.get("RECBOLE_DREX_RAW")
    dataset = REAL if folder and (Path(folder) / f"{REAL}.jsonl.gz").is_file() else "demo"
    parser = harness.make_parser(doc, name)
    parser.add_argument("--dataset", default=dataset, help="default: %(default)s")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the prepared data sets here, and use them again")
    parser.add_argument("--seeds", type=seed_list, default=[2026], help="of the runs of DReX (default: 2026)")
    parser.add_argument("--epochs", type=int, default=10, help="of a run at most (default: 10)")
    return parser


@contextlib.contextmanager
def workplace(options: argparse.Namespace) -> Iterator[Path]:
    """The folder of ``--work``, or a temporary one."""
    with tempfile.TemporaryDirectory() as temporary:
        yield options.work or Path(temporary)


def prepared(data_path: Path, options: argparse.Namespace, **parameters: Any) -> Path:
    """The folder of the data set, which is prepared below ``data_path`` if it is not there yet."""
    prepare_dataset(Config("DReX", options.dataset, [], {**parameters, "data_path": str(data_path)}))
    return data_path / options.dataset


def errors(data_path: Path, options: argparse.Namespace, **parameters: Any) -> Runs:
    """DReX's MAE on validation and test, and the epochs that it learned, for each seed; on one core."""
    given = {"epochs": options.epochs, "threads": 1, "explained_users": 0, "measured_users": 0, **parameters}
    with tempfile.TemporaryDirectory() as output:
        results = run(
            ["DReX"], options.dataset, data_path=data_path, output=output, seeds=options.seeds, parameters=given,
            references=False,
        )  # fmt: skip
    return [
        {
            "seed": seed,
            "valid": result["valid"]["mae"],
            "test": result["test"]["own_test"]["mae"],
            "epochs": result["epochs_run"],
        }
        for seed, result in zip(options.seeds, results, strict=True)
    ]


def effect(what: str, before: Runs, after: Runs, options: argparse.Namespace) -> list[harness.Finding]:
    """How far a change moves the mean MAE over the same seeds, on validation and test."""
    found = []
    for part in ("valid", "test"):
        old, new = (statistics.mean(run[part] for run in runs) for runs in (before, after))
        label = f"DReX's MAE ({part}) with {what}; {options.dataset}, {len(before)} seed(s)"
        found.append(harness.Finding(label, f"MAE without: {old:.4f}", abs(new - old), "MAE", 0.001, at_most=True))
    return found
