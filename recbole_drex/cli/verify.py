"""Whether the files of runs, comparisons, searches and prepared data sets are those that were written."""

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
    """What was found.

    Attributes:
        checked: number of files that were compared with their hashes.
        faults: one line for everything that is wrong.
    """

    checked: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)


def verify(folder: str | Path) -> Verified:
    """Check the files of a run, comparison, search or prepared data set, or of all that lie in a folder.

    Of a comparison and a search, their runs are checked too. Nothing is written.

    Raises:
        DataError: there is none of these.
    """
    folder, found = Path(folder), Verified()
    places = dict.fromkeys(_places(folder))
    if not places:
        raise DataError(f"{folder} holds no run, comparison, search or prepared data set")
    for place in places:
        if (place / COMPARISON).is_file():
            _comparison(place, found, places)
        elif (place / SEARCH).is_file():
            _recorded(place, found)
            _reads(found, lambda place=place: read_search(place))
        elif (place / RUN).is_file() or (place / RESULT).is_file():
            _run(place, found)
        else:
            _data_set(place, found)
    return found


def _places(folder: Path) -> Iterator[Path]:
    """Folders of runs, comparisons, searches and data sets: ``folder`` itself, or those below it."""
    name = folder.resolve().name
    is_data = (folder / f"{name}.json").is_file() and ((folder / SUMS).is_file() or interaction_files(folder, name))
    if is_data or any((folder / name).is_file() for name in (COMPARISON, SEARCH, RUN, RESULT)):
        yield folder
    elif folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield from _places(path)


def _comparison(folder: Path, found: Verified, others: dict[Path, None]) -> None:
    _recorded(folder, found)
    listed = read_json(folder / COMPARISON, "comparison", DataError) if not found.faults else {"runs": []}
    runs = [folder / entry["folder"] for entry in listed["runs"] if entry["status"] == "finished"]
    known = {path.resolve() for path in others}
    before = len(found.faults)
    for run in runs:
        if run.resolve() not in known:
            _run(run, found)
    if len(found.faults) == before:
        _reads(found, lambda: read_comparison(folder))


def _run(folder: Path, found: Verified) -> None:
    if (folder / RESULT).is_file() or (folder / SUMS).is_file():
        _recorded(folder, found)
    else:
        found.faults.append(unfinished(folder))


def _recorded(folder: Path, found: Verified) -> None:
    """Check a folder against its own record."""
    try:
        sums = read_sums(folder)
        found.checked += len(sums)
        found.faults += faults(folder).values()
        if not sums:
            found.faults.append(
                f"{folder} has no {SUMS}: it is unfinished or an earlier version made it, so it cannot be checked"
            )
    except CheckpointError as error:
        found.faults.append(str(error))


def _data_set(folder: Path, found: Verified) -> None:
    """Check a data set against its manifest, and its manifest against its record."""
    path = folder / f"{folder.resolve().name}.json"
    if (folder / SUMS).is_file():  # earlier versions wrote none, but the manifest names all other files
        _recorded(folder, found)
    try:
        files = read_json(path, "manifest")["files"]
        for name, digest in files.items():
            found.checked += 1
            if not (folder / name).is_file() or sha256(folder / name) != digest:
                found.faults.append(f"{folder / name} is missing or damaged: its hash is not the manifest's")
        if "features/features.json" in files:
            FeatureStore.open(folder / "features")
    except (DrexError, KeyError, TypeError, AttributeError, OSError) as error:
        found.faults.append(f"{path} or a file it names is damaged: {error}")


def _reads(found: Verified, read) -> None:
    try:
        read()
    except DrexError as error:
        found.faults.append(str(error))
