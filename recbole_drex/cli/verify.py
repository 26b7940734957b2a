"""Checks whether the files of runs, comparisons, searches and prepared data sets are unchanged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from recbole_drex.data.prepare.manifest import interaction_files
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.errors import CheckpointError, DataError, DrexError
from recbole_drex.results.comparison import COMPARISON, RUN, read_comparison, unfinished
from recbole_drex.results.run_result import RESULT
from recbole_drex.tuning.search_results import SEARCH, read_search
from recbole_drex.utils.checksums import SUMS, faults, read_sums
from recbole_drex.utils.files import read_json, sha256


@dataclasses.dataclass
class Verified:
    """The result of a check.

    Attributes:
        checked: number of files that were compared with their hashes.
        faults: one line per damaged or missing file.
    """

    checked: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)


def verify(folder: str | Path) -> Verified:
    """Check the files of a run, comparison, search or prepared data set, or of all of them in a folder.

    The runs of comparisons and searches are checked, too. Nothing is written.

    Raises:
        DataError: the folder contains none of these.
    """
    folder, verified = Path(folder), Verified()
    folders = dict.fromkeys(_folders(folder))
    if not folders:
        raise DataError(f"{folder} contains no run, comparison, search or prepared data set")
    for part in folders:
        if (part / COMPARISON).is_file():
            _check_comparison(part, verified, folders)
        elif (part / SEARCH).is_file():
            _check_sums(part, verified)
            _check_readable(verified, lambda part=part: read_search(part))
        elif (part / RUN).is_file() or (part / RESULT).is_file():
            _check_run(part, verified)
        else:
            _check_data_set(part, verified)
    return verified


def _folders(folder: Path) -> Iterator[Path]:
    """Folders of runs, comparisons, searches and data sets: ``folder`` itself, or those below it."""
    name = folder.resolve().name
    is_data = (folder / f"{name}.json").is_file() and ((folder / SUMS).is_file() or interaction_files(folder, name))
    if is_data or any((folder / name).is_file() for name in (COMPARISON, SEARCH, RUN, RESULT)):
        yield folder
    elif folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield from _folders(path)


def _check_comparison(folder: Path, verified: Verified, others: dict[Path, None]) -> None:
    _check_sums(folder, verified)
    listed = read_json(folder / COMPARISON, "comparison", DataError) if not verified.faults else {"runs": []}
    runs = [folder / entry["folder"] for entry in listed["runs"] if entry["status"] == "finished"]
    known = {path.resolve() for path in others}
    before = len(verified.faults)
    for run in runs:
        if run.resolve() not in known:
            _check_run(run, verified)
    if len(verified.faults) == before:
        _check_readable(verified, lambda: read_comparison(folder))


def _check_run(folder: Path, verified: Verified) -> None:
    if (folder / RESULT).is_file() or (folder / SUMS).is_file():
        _check_sums(folder, verified)
    else:
        verified.faults.append(unfinished(folder))


def _check_sums(folder: Path, verified: Verified) -> None:
    """Check a folder against its stored hashes."""
    try:
        sums = read_sums(folder)
        verified.checked += len(sums)
        verified.faults += faults(folder).values()
        if not sums:
            verified.faults.append(
                f"{folder} has no {SUMS}: it is unfinished or was made by an earlier version, so it cannot be checked"
            )
    except CheckpointError as error:
        verified.faults.append(str(error))


def _check_data_set(folder: Path, verified: Verified) -> None:
    """Check a data set against its manifest, and the manifest against its stored hash."""
    path = folder / f"{folder.resolve().name}.json"
    if (folder / SUMS).is_file():  # not written by earlier versions; the manifest names all other files
        _check_sums(folder, verified)
    try:
        files = read_json(path, "manifest")["files"]
        for name, digest in files.items():
            verified.checked += 1
            if not (folder / name).is_file() or sha256(folder / name) != digest:
                verified.faults.append(f"{folder / name} is missing or damaged: its hash differs from the manifest's")
        if "features/features.json" in files:
            FeatureStore.open(folder / "features")
    except (DrexError, KeyError, TypeError, AttributeError, OSError) as error:
        verified.faults.append(f"{path} or a file it names is damaged: {error}")


def _check_readable(verified: Verified, read) -> None:
    try:
        read()
    except DrexError as error:
        verified.faults.append(str(error))
