"""The folder of a run: whose it is, where a new run works, and how a finished one takes its place.

A finished run stays whole until another one is finished: what replaces it is made in a folder inside its own and moved
out of there when all of it is there. Only files that runs write are ever removed.
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
"""Folder inside that of a finished run in which another run is made to replace it."""
LOG, ERRORS, TENSORBOARD = "train.log", "error.log", "tensorboard"
FITTED = "fitted.safetensors"
"""Arrays that follow from the training part alone (directions of taste), which loading the run would make again."""
_RECORDED = (
    *(RUN, INTERACTIONS, USERS, HISTORY, EXPLANATIONS, f"{PROFILES}.json", f"{PROFILES}.parquet", BEST),
    *(LOG, TENSORBOARD, FITTED),
)
# What tells of a run goes first, so that one that is half removed is not taken for a finished one.
_OURS = (RESULT, *_RECORDED, LAST, ERRORS, "report.html", SUMS)


@dataclasses.dataclass
class Plan:
    """How a run is to be made.

    Attributes:
        folder: to work in.
        go_on: whether to continue with what is in it.
        result: of a finished run that is kept, so that there is nothing to do.
        damaged: damaged or missing files, with what is wrong with each.
    """

    folder: Path
    go_on: bool = False
    result: dict[str, Any] | None = None
    damaged: dict[Path, str] = dataclasses.field(default_factory=dict)


def plan(run_dir: Path, described: Mapping[str, Any], *, resume: bool, replace: bool, overwrite: bool) -> Plan:
    """Where a run is to be made, and what of it is there. The caller has locked the folder.

    Args:
        run_dir: of the run.
        described: what is to be run, see :func:`recbole_drex.training.run_record.describe`.
        resume: keep a finished run of the same description and continue with an unfinished one.
        replace: with ``resume``, replace an unfinished run of another description.
        overwrite: replace a finished run of another description.

    Raises:
        CheckpointError: the run that is there is not to be replaced.
    """
    if (run_dir / NEW / RESULT).is_file():
        install(run_dir)  # it was killed on the way
    if not overwrite:
        check_replaceable(run_dir, described)
    damaged = {run_dir / name: fault for name, fault in _damaged(run_dir).items()}
    if not (run_dir / RESULT).is_file() or run_dir / RESULT in damaged:
        results = unfinished_plan(run_dir, described, resume=resume and run_dir / RUN not in damaged)
        is_other = (run_dir / RUN).is_file() and not (results.go_on or results.damaged or damaged)
        if is_other and resume and not replace:
            raise CheckpointError(
                f"{run_dir} holds an unfinished run of another configuration, data or version; "
                "start again without --resume"
            )
        return dataclasses.replace(results, damaged=damaged | results.damaged)
    if resume and not damaged and identity(_read(run_dir)) == identity(described):
        remove_folder(run_dir / NEW)
        (run_dir / LAST).unlink(missing_ok=True)  # of a run that was killed as soon as it had its result
        return Plan(run_dir, True, read_result(run_dir))
    results = unfinished_plan(run_dir / NEW, described, resume=resume)
    return dataclasses.replace(results, damaged=damaged | results.damaged)


def unfinished_plan(folder: Path, described: Mapping[str, Any], resume: bool = True) -> Plan:
    """Whether to continue with an unfinished run in ``folder``: it has the same description and whole checkpoints."""
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
    results.go_on = not results.damaged
    return results


def set_aside(damaged: Mapping[Path, str]) -> None:
    """Rename damaged files, with a line each."""
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
    """Refuse to replace a finished run of another configuration; a damaged one may be.

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
            f"{run_dir} holds a finished run of another configuration, data or version ({_difference(there, wanted)}); "
            "choose another --output_dir, or add --overwrite to replace it once the new run is finished"
        )


def is_finished(run_dir: Path, described: Mapping[str, Any]) -> bool:
    """Whether ``run_dir`` holds a whole finished run of this description."""
    if not (run_dir / RESULT).is_file() or not (run_dir / RUN).is_file():
        return False
    try:
        read_result(run_dir)
        return not faults(run_dir) and identity(_read(run_dir)) == identity(described)
    except CheckpointError:
        return False


def begin(folder: Path, described: Mapping[str, Any]) -> None:
    """Replace an unfinished run in the folder by what is to be run."""
    for name in (*_OURS, NEW):
        _remove(folder / name)
    write_json(folder / RUN, described)


def seal(run_dir: Path, index: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Note the hashes of the files that a run has made in ``index``, write its result, and put it into ``run_dir``.

    Returns:
        The contents of the result file.
    """
    result = {**result, "config": {**result["config"], "checkpoint_dir": str(run_dir)}}
    write_sums(index, _recorded(index), {RESULT: hashlib.sha256(result_text(result).encode()).hexdigest()})
    write_result(index, result)
    (index / LAST).unlink(missing_ok=True)
    if index == run_dir:
        remove_folder(run_dir / NEW)
    else:
        install(run_dir)
    return read_result(run_dir)


def install(run_dir: Path) -> None:
    """Let the finished run in the folder inside take the place of an earlier one; continues where it was stopped.

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
        raise StorageError(f"cannot put {run_dir} in place: {error.strerror or error}") from error
    remove_folder(new)


def _recorded(folder: Path) -> Iterator[str]:
    """Paths below ``folder`` of the files whose hashes are noted."""
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
    """Damaged or missing files of a finished run, with what is wrong with each; empty for an unfinished one."""
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
    """The first thing in which two descriptions differ, and how many more."""

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
