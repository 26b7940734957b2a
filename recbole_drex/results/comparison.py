"""A comparison, read from its folder: variants of models, their finished runs, and failures.

Tables, plots and reports are made from it; nothing here trains or loads a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import pandas as pd

from recbole_drex.errors import CheckpointError, DataError, StorageError
from recbole_drex.results.run_result import RESULT, read_interactions, read_result, read_users
from recbole_drex.utils.checksums import SUMS, check_sum, write_sums
from recbole_drex.utils.files import json_text, read_json, sha256, write_text

COMPARISON, RUN, HISTORY, EXPLANATIONS = "comparison.json", "run.json", "history.json", "explanations.json"
REFERENCES = ("GlobalMean", "ItemMean", "Bias", "BiasedMF")
"""Reference models (baselines) that every command also runs."""
SCHEMA = 1
_TABLES = (
    *(f"table{block}.{kind}" for block in ("", "_full", "_sampled") for kind in ("csv", "md", "tex")),
    *("explanations.csv", "explanations.md", "significance.csv"),
)
_DERIVED = (SUMS, *_TABLES, "report.html", "paper/table-[145].*", "paper/figure-[34567]*.*")
"""Files that this project writes to a comparison's folder in addition to its JSON file."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A model in a comparison.

    Attributes:
        label: label in tables and plots: the model's name and changed parameters, ``DReX+start=random``.
        model: name of the model.
        parameters: changed parameters by name.
        reference: whether it is one of the reference models that are added automatically.
    """

    label: str
    model: str
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    reference: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: one variant on one split of one data set."""

    folder: Path
    result: dict[str, Any]

    @property
    def label(self) -> str:
        return self.result["label"]

    @property
    def dataset(self) -> str:
        return self.result["dataset"]

    @property
    def replicate(self) -> str:
        """Name of the split: ``2026``, or ``2026-fold-1``."""
        return replicate_name(self.result["seed"], self.result["fold"])

    def interactions(self) -> pd.DataFrame:
        """As :func:`recbole_drex.results.run_result.read_interactions`."""
        return read_interactions(self.folder)

    def users(self) -> pd.DataFrame:
        """As :func:`recbole_drex.results.run_result.read_users`."""
        return read_users(self.folder)

    def history(self) -> list[dict[str, Any]]:
        """Per epoch ``{epoch, seconds, train_loss, valid_score}``; empty for a model without epochs."""
        check_sum(self.folder, HISTORY)
        history = read_json(self.folder / HISTORY, "history", CheckpointError)
        if not isinstance(history, list) or not all(_is_epoch(entry) for entry in history):
            raise CheckpointError(f"{self.folder / HISTORY} is damaged: it has no epochs")
        return history

    @property
    def explains(self) -> bool:
        """Whether the run has explanations."""
        return (self.folder / EXPLANATIONS).is_file()

    def explanations(self) -> list[dict[str, Any]]:
        """Explained recommendations of some users; empty for a model that does not explain."""
        if not self.explains:
            return []
        check_sum(self.folder, EXPLANATIONS)
        return read_json(self.folder / EXPLANATIONS, "explanations", CheckpointError)


@dataclasses.dataclass(frozen=True)
class Failure:
    """A failed run, and the reason."""

    label: str
    dataset: str
    replicate: str
    error: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs that belong together.

    Attributes:
        folder: its folder, which also gets its report and tables.
        command: command line that makes it.
        variants: in the order asked for, references last.
        datasets: in the order asked for.
        runs: the finished ones.
        failures: the failed runs.
        vary: varied parameters with their values; empty if none.
        reference: label of the model that all others are tested against; by default the first.
    """

    folder: Path
    command: str
    variants: tuple[Variant, ...]
    datasets: tuple[str, ...]
    runs: tuple[Run, ...]
    failures: tuple[Failure, ...] = ()
    vary: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    reference: str = ""

    def __post_init__(self):
        if not self.reference:
            object.__setattr__(self, "reference", self.variants[0].label)

    def of(self, label: str | None = None, dataset: str | None = None) -> list[Run]:
        """The runs of a variant, of a data set, or of both."""
        return [run for run in self.runs if label in (None, run.label) and dataset in (None, run.dataset)]

    @property
    def results(self) -> list[dict[str, Any]]:
        """The contents of all result files."""
        return [run.result for run in self.runs]


def _is_epoch(entry: Any) -> bool:
    keys = ("epoch", "seconds", "train_loss", "valid_score")
    return isinstance(entry, dict) and all(isinstance(entry.get(key, ""), (int, float, NoneType)) for key in keys)


def replicate_name(seed: int, fold: int | None) -> str:
    """Name of a split: ``2026``, or ``2026-fold-1`` for one of several folds."""
    return str(seed) if fold is None else f"{seed}-fold-{fold}"


def read_run(folder: str | Path) -> Run:
    """Read a finished run.

    Raises:
        CheckpointError: it does not exist, its ``result.json`` is damaged or foreign, or its ``run.json`` was changed.
    """
    check_sum(Path(folder), RUN)  # the description of the result
    return Run(Path(folder), read_result(Path(folder)))


def comparison_of(folders: Sequence[str | Path], references: Sequence[str] = ()) -> Comparison:
    """Compare finished runs from any folders.

    Args:
        folders: the runs' folders.
        references: labels of reference models.

    Raises:
        CheckpointError: a folder holds no readable run.
        DataError: no folder was given.
    """
    if not folders:
        raise DataError("there is no run to compare")
    runs = tuple(read_run(folder) for folder in folders)
    models = {run.label: run.result["model"] for run in runs}
    variants = [Variant(label, model, reference=label in references) for label, model in models.items()]
    return Comparison(
        folder=Path(folders[0]),
        command=runs[0].result["command"],
        variants=tuple(sorted(variants, key=lambda variant: variant.reference)),
        datasets=tuple(dict.fromkeys(run.dataset for run in runs)),
        runs=runs,
    )


def run_with_references(folder: Path) -> Comparison:
    """A finished run and the runs of the reference models on the same split of the same data.

    Raises:
        CheckpointError: a folder holds no readable run.
    """
    run = read_run(folder)
    root = folder.resolve().parents[1]
    reference_folders = [root / name / folder.resolve().name for name in REFERENCES if name != run.result["model"]]
    matches = [read_run(path) for path in reference_folders if (path / RESULT).is_file()]
    kept = [one.folder for one in matches if _split_of(one.result) == _split_of(run.result)]
    return comparison_of([folder, *kept], [one.label for one in matches if one.folder in kept])


def _split_of(result: dict[str, Any]) -> list[Any]:
    return [result["data"]["fingerprint"], *(result[name] for name in ("dataset", "split", "protocol", "seed", "fold"))]


def read_comparison(folder: str | Path) -> Comparison:
    """Read a comparison's folder, or that of a single run with its references (:func:`run_with_references`).

    Raises:
        CheckpointError: neither is there; a file is damaged or foreign; or a run was replaced by another one since.
    """
    folder = Path(folder)
    if not (folder / COMPARISON).is_file():
        if (folder / RESULT).is_file():
            return run_with_references(folder)
        if (folder / RUN).is_file():
            raise CheckpointError(unfinished(folder))
        raise CheckpointError(f"{folder} holds no {COMPARISON} (a comparison) and no {RESULT} (a finished run)")
    path = folder / COMPARISON
    check_sum(folder, COMPARISON)
    content = read_json(path, "comparison", CheckpointError)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is no comparison that this version reads (schema {SCHEMA})")
    try:
        runs, failures = [], []
        for entry in content["runs"]:
            if entry["status"] == "finished":
                runs.append(_same_run(folder / entry["folder"], entry["identity"], content["command"]))
            elif entry["status"] == "failed":
                failures.append(Failure(entry["label"], entry["dataset"], entry["replicate"], entry["error"]))
        return Comparison(
            folder=folder,
            command=content["command"],
            variants=tuple(Variant(**variant) for variant in content["variants"]),
            datasets=tuple(content["datasets"]),
            runs=tuple(runs),
            failures=tuple(failures),
            vary=dict(content["vary"]),
            reference=content.get("reference", ""),
        )
    except (LookupError, TypeError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error


def write_comparison(folder: Path, content: dict[str, Any]) -> None:
    """Write a comparison's file and remove tables, report and figures of other content.

    Raises:
        StorageError: files cannot be written or removed.
    """
    text = json_text(content)
    try:
        if not (folder / COMPARISON).is_file() or (folder / COMPARISON).read_bytes() != text.encode():
            for path in (path for pattern in _DERIVED for path in folder.glob(pattern)):
                path.unlink()
    except OSError as error:
        raise StorageError(f"cannot remove what an earlier comparison left in {folder}: {error}") from error
    write_text(folder / COMPARISON, text)


def record_comparison(folder: Path) -> None:
    """Record the hashes of a comparison's file and tables."""
    write_sums(folder, [name for name in (COMPARISON, *_TABLES) if (folder / name).is_file()])


def _same_run(folder: Path, identity: str, command: str) -> Run:
    run = read_run(folder)
    if identity_of(folder) != identity:
        raise CheckpointError(f"the run in {folder} was replaced by another one since; compare again: {command}")
    return run


def unfinished(folder: Path) -> str:
    """Message about a folder with a run without result."""
    return f"{folder} holds an unfinished run: it has no {RESULT}. Finish it by its own command with --resume"


def identity_of(folder: Path) -> str:
    """Hash of a run's identity: configuration, data and version."""
    if not (folder / RUN).is_file():
        raise CheckpointError(f"{folder} is no run folder: it has no {RUN}")
    check_sum(folder, RUN)
    return sha256(folder / RUN)[:16]
