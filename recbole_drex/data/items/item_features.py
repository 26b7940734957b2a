"""Item vectors by modality (text, image, ...), next to the atomic files: one ``.npy`` file each, one row per item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.utils.files import read_json, replacing, safe_name, sha256, write_json
from recbole_drex.utils.npy_files import map_array

FORMAT = 1
FOLDER, INDEX = "items", "items.json"
_TAKEN = ("rating", "review", "reviews")  # modalities from interactions


def check_modality(name: str) -> None:
    """Check a modality's name.

    Raises:
        ConfigError: it is not a legal file name, or is taken by a modality from interactions.
    """
    if safe_name(name, "modality") in _TAKEN:
        raise ConfigError(f"modality name '{name}' is taken: {', '.join(_TAKEN)} come from the interactions")


def check_vectors(vectors: np.ndarray, items: Sequence[str], where: str | Path) -> np.ndarray:
    """Check item vectors, and return them as float32.

    Args:
        vectors: one row per item; a row of zeros means that the item lacks the modality.
        items: ids of the items, in the order of the rows.
        where: their file, for messages.

    Raises:
        DataError: not a table of finite numbers with one row per item, or all rows are zero; the message names the file
            and the first bad row (counted from 0) with its item.
    """
    _check_table(vectors, where)
    if len(vectors) != len(items):
        raise DataError(f"{where} has {len(vectors):,} rows for {len(items):,} items; rows and items must match")
    with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite and is named below
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        raise DataError(
            f"{where}, row {bad[0]} (item '{items[bad[0]]}') has NaN or an infinite number; {len(bad):,} rows do"
        )
    if not vectors.any():
        raise DataError(f"{where} has only zeros, which mean that an item lacks the modality")
    return vectors


def read_table(path: str | Path) -> np.ndarray:
    """Read a table of numbers from a ``.npy`` file; :func:`check_vectors` checks the numbers.

    Raises:
        DataError: the file is missing, not a ``.npy`` file, not a table of numbers, or has pickled objects (which could
            run code).
    """
    table = _mapped(Path(path))
    _check_table(table, path)
    return np.array(table)


def _mapped(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file, mapped from disk; DataError if it is not one."""
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                raise DataError(f"{path} has several arrays (.npz); give one .npy file for each modality")
        return map_array(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable .npy file of numbers: {error}") from error


def _check_table(table: np.ndarray, where: str | Path) -> None:
    if table.ndim != 2 or table.dtype.kind not in "fiu" or not table.shape[1]:
        raise DataError(f"{where} must be a table of numbers, one row per item, not {table.dtype}{table.shape}")


def write_item_features(
    folder: str | Path,
    items: Sequence[str],
    modalities: Mapping[str, np.ndarray],
    signatures: Mapping[str, str] | None = None,
) -> Path:
    """Write item vectors to ``folder``, replacing its content; the index is written last.

    Args:
        folder: ``items/`` of a prepared data set.
        items: distinct ids.
        modalities: by name, vectors (items, width) that :func:`check_vectors` accepts.
        signatures: by name, a hash of everything that determines the vectors, for :meth:`ItemFeatures.reusable`.

    Returns:
        The index file, which contains the hashes of the others.

    Raises:
        DataError: invalid vectors, or a folder that cannot be written.
        ConfigError: a name is not a legal file name.
    """
    folder = Path(folder)
    described: dict[str, dict] = {}
    (folder / INDEX).unlink(missing_ok=True)
    for name, vectors in modalities.items():
        path = folder / f"{safe_name(name, 'modality')}.npy"
        checked = check_vectors(vectors, items, path)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, checked)
        missing = int((~checked.any(1)).sum())
        described[name] = {"width": checked.shape[1], "missing": missing, "sha256": sha256(path)}
        if signatures and name in signatures:
            described[name]["signature"] = signatures[name]
    write_json(folder / INDEX, {"format": FORMAT, "items": list(items), "modalities": described})
    for path in folder.glob("*.npy"):
        if path.stem not in modalities:
            path.unlink()
    return folder / INDEX


class ItemFeatures:
    """Reads the vectors that :func:`write_item_features` wrote.

    Args:
        folder: ``items/`` of a prepared data set; an absent folder has no modalities.

    Raises:
        DataError: the index is damaged.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.items: list[str] = []
        self._described: dict[str, dict] = {}
        if not (self.folder / INDEX).is_file():
            return
        index = read_json(self.folder / INDEX, "item features")
        try:
            if index["format"] != FORMAT:
                raise DataError(f"{self.folder / INDEX} is of another version; prepare the data set again")
            self.items = [str(item) for item in index["items"]]
            for name, entry in index["modalities"].items():
                sizes = {key: int(entry[key]) for key in ("width", "missing")}
                self._described[safe_name(name, "modality")] = {**entry, **sizes, "sha256": entry["sha256"]}
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise DataError(f"{self.folder / INDEX} is damaged ({error!r}); prepare the data set again") from error

    @property
    def names(self) -> list[str]:
        """Names of the modalities."""
        return list(self._described)

    @property
    def described(self) -> dict[str, dict[str, int]]:
        """By modality, the ``width`` of its vectors and the number of items with ``missing`` vectors."""
        return {name: {key: entry[key] for key in ("width", "missing")} for name, entry in self._described.items()}

    def reusable(self, name: str, signature: str) -> np.ndarray | None:
        """Vectors (items, width) of all items, if they were written with this signature and are undamaged."""
        if self._described.get(name, {}).get("signature") != signature:
            return None
        try:
            return self.vectors(name, self.items)
        except DataError:  # damaged: computed again
            return None

    def vectors(self, name: str, items: Sequence[str]) -> np.ndarray:
        """Vectors (items, width), float32, of the given items in their order; zeros for items without vector.

        Raises:
            ConfigError: there is no such modality.
            DataError: its file is missing or damaged.
        """
        if name not in self._described:
            raise ConfigError(unknown_name("item modality", name, self.names))
        path = self.folder / f"{name}.npy"
        if not path.is_file() or sha256(path) != self._described[name]["sha256"]:
            raise DataError(f"{path} is missing or damaged: its hash is not the index's; prepare the data set again")
        stored = _mapped(path)
        if stored.shape != (len(self.items), self._described[name]["width"]):
            raise DataError(f"{path} and {INDEX} do not belong together; prepare the data set again")
        index = {item: row for row, item in enumerate(self.items)}
        rows = np.array([index.get(item, -1) for item in items], dtype=np.int64)
        vectors = np.zeros((len(items), stored.shape[1]), dtype=np.float32)
        vectors[rows >= 0] = stored[rows[rows >= 0]]
        return vectors
