"""The folder of a run: its identity, the working folder of a new run, and the installation of a finished one.

A finished run is kept until another one is finished: a new run is made in a folder inside and moved out of it when it
is complete. Only files that runs write are removed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recbole_drex.errors import CheckpointError, StorageError, printable
from recbole_drex.explain.profiles.keywords import PROFILES
from recbole_drex.results.comparison import EXPLANATIONS, HISTORY, RUN
from recbole_drex.results.run_result import INTERACTIONS, RESULT, USERS, read_result, result_text, write_result
from recbole_drex.training.run_record import identity
from recbole_drex.training.trainer import BEST, LAST
from recbole_drex.utils import checkpoint
from recbole_drex.utils.checksums import SUMS, faults, read_sums, write_sums
from recbole_drex.utils.files import read_json, remove_folder, sync_folder, write_json

NEW = "unfinished"
"""Folder inside that of a finished run, in which a new run is made to replace it."""
LOG, ERRORS, TENSORBOARD = "train.log", "error.log", "tensorboard"
FITTED = "fitted.safetensors"
"""Arrays that follow from the training part alone (directions of taste), which loading the run would make again."""
_RECORDED = (
    *(RUN, INTERACTIONS, USERS, HISTORY, EXPLANATIONS, f"{PROFILES}.json", f"{PROFILES}.parquet", BEST),
    *(LOG, TENSORBOARD, FITTED),
)
# The result is first, so that a partly removed run does not look finished.
_OURS = (RESULT, *_RECORDED, LAST, ERRORS, "report.html", SUMS)


@dataclasses.dataclass
class Plan:
    """How a run will be made.

    Attributes:
        folder: working folder.
        continues: whether to continue an unfinished run in it.
        result: result of a finished run that is kept; None otherwise.
        damaged: damaged or missing files, each with its fault.
    """

    folder: Path
    continues: bool = False
    result: dict[str, Any] | None = None
    damaged: dict[Path, str] = dataclasses.field(default_factory=dict)


def plan(run_dir: Path, described: Mapping[str, Any], *, resume: bool, replace: bool, overwrite: bool) -> Plan:
    """Plan where a run will be made and what it can reuse. The caller has locked the folder.

    Args:
        run_dir: folder of the run.
        described: description of the run, see :func:`recbole_drex.training.run_record.describe`.
        resume: keep a finished run of the same description and continue with an unfinished one.
        replace: with ``resume``, replace an unfinished run of another description.
        overwrite: replace a finished run of another description.

    Raises:
        CheckpointError: the existing run must not be replaced.
    """
    if (run_dir / NEW / RESULT).is_file():
        install(run_dir)  # an earlier installation was killed
    if not overwrite:
        check_replaceable(run_dir, described)
    damaged = {run_dir / name: fault for name, fault in _damaged(run_dir).items()}
    if not (run_dir / RESULT).is_file() or run_dir / RESULT in damaged:
        results = unfinished_plan(run_dir, described, resume=resume and run_dir / RUN not in damaged)
        is_other = (run_dir / RUN).is_file() and not (results.continues or results.damaged or damaged)
        if is_other and resume and not replace:
            raise CheckpointError(
                f"{run_dir} has an unfinished run of another configuration, data or version; "
                "start again without --resume"
            )
        return dataclasses.replace(results, damaged=damaged | results.damaged)
    if resume and not damaged and identity(_read(run_dir)) == identity(described):
        remove_folder(run_dir / NEW)
        (run_dir / LAST).unlink(missing_ok=True)  # left by a run that was killed after writing its result
        return Plan(run_dir, True, read_result(run_dir))
    results = unfinished_plan(run_dir / NEW, described, resume=resume)
    return dataclasses.replace(results, damaged=damaged | results.damaged)


def unfinished_plan(folder: Path, described: Mapping[str, Any], resume: bool = True) -> Plan:
    """Plan to continue an unfinished run in ``folder`` if it has the same description and undamaged checkpoints."""
    results = Plan(folder)
    if not resume or not (folder / RUN).is_file():
        return results
    try:
        if identity(_read(folder)) != identity(described):
            return results
    except CheckpointError as error:
        results.damaged[folder / RUN] = str(error)
    for name in (LAST, BEST):
        try:
            if (folder / name).is_file():
                checkpoint.load(folder / name)
        except CheckpointError as error:
            results.damaged[folder / name] = str(error)
    results.continues = not results.damaged
    return results


def set_aside(damaged: Mapping[Path, str]) -> None:
    """Rename damaged files, with a message each."""
    for path, why in damaged.items():
        aside, kept = path.with_name(f"{path.name}.damaged"), path.exists()
        try:
            if kept:
                path.replace(aside)
        except OSError as error:
            raise StorageError(f"cannot rename {path}: {error.strerror or error}") from error
        where = f"It is kept as {aside.name}, and the" if kept else "The"
        tqdm.write(f"note: {printable(why)}. {where} run is made again", file=sys.stderr)


def check_replaceable(run_dir: Path, described: Mapping[str, Any]) -> None:
    """Refuse to replace a finished run of another configuration, unless it is damaged.

    Raises:
        CheckpointError: names what differs.
    """
    if not (run_dir / RESULT).is_file():
        return
    try:
        there, wanted = identity(_read(run_dir)), identity(described)
    except CheckpointError:
        return
    if there != wanted and RUN not in _damaged(run_dir):
        raise CheckpointError(
            f"{run_dir} has a finished run of another configuration, data or version ({_difference(there, wanted)}); "
            "choose another --output_dir, or add --overwrite to replace it once the new run is finished"
        )


def is_finished(run_dir: Path, described: Mapping[str, Any]) -> bool:
    """Whether ``run_dir`` has an undamaged finished run of this description."""
    if not (run_dir / RESULT).is_file() or not (run_dir / RUN).is_file():
        return False
    try:
        read_result(run_dir)
        return not faults(run_dir) and identity(_read(run_dir)) == identity(described)
    except CheckpointError:
        return False


def begin(folder: Path, described: Mapping[str, Any]) -> None:
    """Replace an unfinished run in the folder by a new run."""
    for name in (*_OURS, NEW):
        _remove(folder / name)
    write_json(folder / RUN, described)


def seal(run_dir: Path, folder: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Record the hashes of the files of a run in ``folder``, write its result, and move it to ``run_dir``.

    Returns:
        The contents of the result file.
    """
    result = {**result, "config": {**result["config"], "checkpoint_dir": str(run_dir)}}
    write_sums(folder, _recorded(folder), {RESULT: hashlib.sha256(result_text(result).encode()).hexdigest()})
    write_result(folder, result)
    (folder / LAST).unlink(missing_ok=True)
    if folder == run_dir:
        remove_folder(run_dir / NEW)
    else:
        install(run_dir)
    return read_result(run_dir)


def install(run_dir: Path) -> None:
    """Replace an earlier run by the finished one in the inner folder; continues after an interruption.

    Raises:
        StorageError: the folder cannot be written.
    """
    new = run_dir / NEW
    try:
        (run_dir / RESULT).unlink(missing_ok=True)
        if (new / SUMS).is_file():
            belongs = {name.split("/")[0] for name in read_sums(new)}
            for name in _OURS[1:]:
                if name not in belongs or (new / name).exists():
                    _remove(run_dir / name)
                if (new / name).exists():
                    (new / name).replace(run_dir / name)
        (new / RESULT).replace(run_dir / RESULT)
        sync_folder(run_dir)
    except OSError as error:
        raise StorageError(f"cannot install {run_dir}: {error.strerror or error}") from error
    remove_folder(new)


def _recorded(folder: Path) -> Iterator[str]:
    """Relative paths in ``folder`` of the files whose hashes are recorded."""
    for name in _RECORDED:
        path = folder / name
        files = path.rglob("*") if path.is_dir() else [path]
        yield from (file.relative_to(folder).as_posix() for file in files if file.is_file())


def _read(folder: Path) -> dict[str, Any]:
    described = read_json(folder / RUN, "run", CheckpointError)
    if not isinstance(described, dict):
        raise CheckpointError(f"{folder / RUN} is damaged: it describes no run")
    return described


def _damaged(run_dir: Path) -> dict[str, str]:
    """Damaged or missing files of a finished run, each with its fault; empty for an unfinished run."""
    if not (run_dir / RESULT).is_file():
        return {}
    try:
        results = faults(run_dir)
    except CheckpointError as error:
        return {SUMS: str(error)}
    for name, read in ((RUN, _read), (RESULT, read_result)):
        try:
            read(run_dir)
        except CheckpointError as error:
            results.setdefault(name, str(error))
    return results


def _difference(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first difference between two descriptions, and the number of others."""

    def flat(described: Mapping[str, Any]) -> dict[str, Any]:
        config = described.get("config")
        return {**described, **(config if isinstance(config, dict) else {}), "config": None}

    old, new = flat(there), flat(wanted)
    first, *others = [key for key in {**old, **new} if old.get(key) != new.get(key)] or ["config"]
    more = f" and {len(others)} more" if others else ""
    return f"{first}: {old.get(first)!r:.80} there, {new.get(first)!r:.80} now{more}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)
