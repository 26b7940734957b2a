"""Prepares a data set in a working folder and installs it when it is complete; an older one stays valid until then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from recbole_drex.data.items.item_features import FOLDER
from recbole_drex.data.prepare.manifest import PARTS, TIMES, WORK
from recbole_drex.data.text.review_texts import TEXTS
from recbole_drex.errors import StorageError
from recbole_drex.utils.checksums import SUMS
from recbole_drex.utils.files import read_json, remove_folder, sync_folder

FEATURES, SHARDS = "features", "features.partial"
"""The word features of a data set, and those of an unfinished preparation, which the next one continues."""
MADE = "made"
CACHE = "item_cache"
"""Captions and vectors of items that were computed for a data set, which stay when it is prepared again."""


@contextlib.contextmanager
def staged(folder: Path, dataset: str) -> Iterator[tuple[Path, Path]]:
    """Replace a data set's files by new ones, all of them or none.

    Args:
        folder: of the data set.
        dataset: its name.

    Yields:
        An empty folder for temporary files, and one for the new files. The block writes the manifest last; then the new
        files are moved to the data set's folder, and the old files are removed.

    Raises:
        StorageError: files of an earlier preparation cannot be removed.
    """
    work = folder / WORK
    remove_folder(work)
    try:
        yield work, work / MADE
        install(folder, dataset)
    finally:
        if not is_complete(folder, dataset):
            remove_folder(work)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def install(folder: Path, dataset: str) -> None:
    """Install the files of a complete preparation, if there is one; continues after an interruption.

    It only moves and removes files, so it also works on a full disk.

    Raises:
        StorageError: the folder cannot be written.
    """
    if not is_complete(folder, dataset):
        return
    made, manifest = folder / WORK / MADE, f"{dataset}.json"
    belongs = {Path(name).parts[0] for name in read_json(made / manifest, "manifest")["files"]} | {
        TIMES,
        SUMS,
        manifest,
    }
    inters = [f"{dataset}.inter", *(f"{dataset}.{part}.inter" for part in PARTS)]
    # Word features first and the manifest last, so that an interruption is detected.
    for name in (FEATURES, FOLDER, *inters, f"{dataset}.item", TEXTS, TIMES, SHARDS, SUMS, manifest):
        new, old = made / name, folder / name
        try:
            if old.is_dir() and (new.exists() or name not in belongs):
                remove_folder(old)
            elif name not in belongs:
                old.unlink(missing_ok=True)
            if new.exists():
                new.replace(old)
        except OSError as error:
            raise StorageError(f"cannot install {old}: {error.strerror or error}") from error
    sync_folder(folder)
    remove_folder(folder / WORK)


def is_complete(folder: Path, dataset: str) -> bool:
    """Whether a preparation in ``folder`` has written all its files."""
    return (folder / WORK / MADE / f"{dataset}.json").is_file()
