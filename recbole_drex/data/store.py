"""Word embeddings of all reviews in memory-mapped files, written shard by shard so that a break costs little."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_drex.data.arrays import map_array
from recbole_drex.errors import DataError
from recbole_drex.files import read_json, remove_folder, replacing, sha256, write_json

if TYPE_CHECKING:
    import torch

DTYPES = ("float16", "int8")
"""How vectors may be stored."""
_FORMATS = {"float16": 1, "int8": 2}  # programs that know no int8 know no format 2
_SHARDS = 1  # format of the shards
_FILES = ("vectors.npy", "offsets.npy", "word_ids.npy", "vocabulary.json")
_SCALES = "scales.npy"
_LARGEST = 127  # of the whole numbers that stand for the largest value of a vector
_BLOCK_WORDS = 1 << 13  # words widened to float32 at a time


@dataclass(frozen=True)
class Shard:
    """Consecutive encoded reviews, packed so that they travel and are written without much ado; see :func:`pack`.

    Attributes:
        counts: number of words of each review, int64 (reviews,).
        word_ids: of each word its place in ``vocabulary``, int32 (words,).
        vocabulary: the distinct lemmas in the order of appearance.
        vectors: float16 (words, width).
    """

    counts: np.ndarray
    word_ids: np.ndarray
    vocabulary: list[str]
    vectors: np.ndarray

    def reviews(self) -> list[np.ndarray]:
        """The vectors of each review, (words, width) each."""
        return np.split(self.vectors, np.cumsum(self.counts)[:-1]) if len(self.counts) else []


def pack(vectors: Sequence[np.ndarray], lemmas: Sequence[Sequence[str]], width: int) -> Shard:
    """Pack consecutive encoded reviews.

    Args:
        vectors: per review a float16 array (words, ``width``), finite.
        lemmas: per review at least as many lemmas; those without a vector are dropped.
        width: length of a word's vector.

    Raises:
        ValueError: arguments that do not fit each other.

    Example:
        >>> shard = pack([np.zeros((2, 3), np.float16), np.ones((1, 3), np.float16)], [["fun", "plot"], ["fun"]], 3)
        >>> shard.counts.tolist(), shard.word_ids.tolist(), shard.vocabulary
        ([2, 1], [0, 1, 0], ['fun', 'plot'])
        >>> shard.reviews()[1].tolist()
        [[1.0, 1.0, 1.0]]
    """
    counts = np.array([len(array) for array in vectors], dtype=np.int64)
    if len(vectors) != len(lemmas) or any(n > len(words) for n, words in zip(counts, lemmas, strict=True)):
        raise ValueError("every review needs a lemma for each of its vectors")
    if any(array.shape[1:] != (width,) or array.dtype != np.float16 for array in vectors):
        raise ValueError(f"vectors must be float16 and {width} wide")
    words = [word for n, review in zip(counts, lemmas, strict=True) for word in review[:n]]
    vocabulary: dict[str, int] = {}
    ids = np.array([vocabulary.setdefault(word, len(vocabulary)) for word in words], dtype=np.int32)
    return Shard(counts, ids, list(vocabulary), np.concatenate([np.zeros((0, width), dtype=np.float16), *vectors]))


def quantise(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round vectors to whole numbers of 8 bits times a scale of their own, symmetrically.

    A value is off by half a scale at most, so by 1/254 of the largest value of its vector.

    Args:
        vectors: float16 (n, width), finite.

    Returns:
        int8 (n, width) from -127 to 127, and the scales, float32 (n,), 0 for a vector of zeros.

    Example:
        >>> numbers, scales = quantise(np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]], np.float16))
        >>> numbers.tolist(), scales.round(6).tolist()
        ([[64, -127, 32], [0, 0, 0]], [0.015748, 0.0])
    """
    wide = vectors.astype(np.float32)
    scales = np.abs(wide).max(1, initial=0) / np.float32(_LARGEST)
    steps = wide / np.where(scales > 0, scales, 1)[:, None]
    return np.rint(steps).astype(np.int8), scales


class StoreWriter:
    """Collects encoded reviews, shard by shard, and assembles them into a store when all are there.

    Shards are whole or absent, so a run that was stopped goes on with those that :meth:`done` does not list. Shards of
    another signature, width or number belong to other data and are discarded.

    Args:
        folder: where the shards lie.
        width: length of a word's vector.
        signature: hash of all that decides the content (texts, settings of text and encoder).
        n_shards: number of shards that make up the store; may be 0 for a data set without reviews.
        dtype: how the finished store keeps vectors, one of :data:`DTYPES`. Shards are float16 and serve for either.

    Raises:
        DataError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, width: int, signature: str, n_shards: int, dtype: str = "float16"):
        self.folder, self.dtype = Path(folder), dtype
        self.width, self.signature, self.n_shards = width, signature, n_shards
        plan = {"format": _SHARDS, "width": width, "signature": signature, "shards": n_shards}
        if _read_if_whole(self.folder / "plan.json") != plan:
            remove_folder(self.folder)
            write_json(self.folder / "plan.json", plan)

    def done(self) -> set[int]:
        """Numbers of the shards already written."""
        return {k for k in range(self.n_shards) if self._shard(k).exists()}

    def write_shard(self, k: int, shard: Shard) -> None:
        """Write shard ``k``: consecutive reviews with their words; the shards may come in any order.

        Args:
            k: number of the shard, ``0 <= k < n_shards``.
            shard: as :func:`pack` makes it.

        Raises:
            ValueError: there is no shard ``k``, or its vectors are of another width.
            DataError: the disk is full or not writable.
        """
        if not 0 <= k < self.n_shards:
            raise ValueError(f"shard {k} is not one of {self.n_shards}")
        if shard.vectors.shape[1:] != (self.width,):
            raise ValueError(f"vectors must be {self.width} wide")
        arrays = {
            "counts": shard.counts,
            "word_ids": shard.word_ids,
            "vocabulary": np.frombuffer(json.dumps(shard.vocabulary).encode(), dtype=np.uint8),
            "vectors": shard.vectors,
        }
        # As numpy.savez does it, but that before NumPy 2 it leaves the archive open on a full disk and prints so.
        with replacing(self._shard(k)) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)

    def finish(self, target: str | Path, extra: dict[str, Any]) -> None:
        """Assemble all shards into a store; they stay where they are, so that this can be done again.

        Args:
            target: folder of the store, made anew; what describes it is written last.
            extra: settings to keep with the store (encoder, text), as JSON values.

        Raises:
            DataError: a shard is missing or damaged (it is removed, so that the next run makes it anew), or the disk
                is full.
        """
        target = Path(target)
        missing = sorted(set(range(self.n_shards)) - self.done())
        if missing:
            raise DataError(f"feature store {target} lacks shards {missing[:10]}: run the preparation again")
        remove_folder(target)
        sizes = self._assemble(target)
        files = {
            name: {"bytes": (target / name).stat().st_size, "sha256": sha256(target / name)}
            for name in _files(self.dtype)
        }
        described = {"format": _FORMATS[self.dtype], "signature": self.signature, **sizes}
        write_json(target / "features.json", {**described, "files": files, "settings": extra})

    def _shard(self, k: int) -> Path:
        return self.folder / f"shard-{k:06d}.npz"

    def _load(self, k: int, *names: str) -> list[np.ndarray]:
        path = self._shard(k)
        try:
            with np.load(path) as archive:
                return [archive[name] for name in names]
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            path.unlink()
            raise DataError(f"shard {path} is damaged ({error}) and was removed: run the preparation again") from error

    def _assemble(self, target: Path) -> dict[str, int]:
        """Write the final files, holding one shard at a time; gives their sizes."""
        parts = [self._load(k, "counts", "word_ids", "vocabulary") for k in range(self.n_shards)]
        vocabulary: dict[str, int] = {}
        ids = [np.zeros(0, dtype=np.int32)]
        for _, local_ids, words in parts:
            known = [vocabulary.setdefault(word, len(vocabulary)) for word in json.loads(words.tobytes())]
            ids.append(np.array(known, dtype=np.int32)[local_ids])
        word_ids = np.concatenate(ids)
        counts = np.concatenate([np.zeros(1, dtype=np.int64), *(part[0] for part in parts)])
        others = {"offsets.npy": np.cumsum(counts), "word_ids.npy": word_ids}
        scales = [np.zeros(0, dtype=np.float32)]
        with replacing(target / "vectors.npy") as path, path.open("wb") as file:
            descr = np.dtype(self.dtype).newbyteorder("<").str
            header = {"descr": descr, "fortran_order": False, "shape": (len(word_ids), self.width)}
            np.lib.format.write_array_header_1_0(file, header)
            for k in range(self.n_shards):
                (vectors,) = self._load(k, "vectors")
                if self.dtype == "int8":
                    vectors, part = quantise(vectors)
                    scales.append(part)
                file.write(vectors.astype(descr, copy=False).data)
        if self.dtype == "int8":
            others[_SCALES] = np.concatenate(scales)
        for name, array in others.items():
            with replacing(target / name) as path, path.open("wb") as file:
                np.save(file, array)
        write_json(target / "vocabulary.json", list(vocabulary))
        return {"reviews": len(counts) - 1, "words": len(word_ids), "width": self.width, "vocabulary": len(vocabulary)}


class FeatureStore:
    """The finished store, read through memory maps.

    Words of review ``r`` are at positions ``offsets[r]`` to ``offsets[r + 1]`` of the store; :meth:`read` gives their
    vectors, however they are stored.

    Attributes:
        vectors: float16 or int8 (words, width), mapped from disk, read-only.
        scales: what int8 vectors are multiplied by, float32 (words,), mapped from disk; None for float16.
        offsets: int64 (reviews + 1).
        word_ids: int32 (words), positions in ``vocabulary``, mapped from disk as well.
        vocabulary: the distinct lemmas.
        settings: what :meth:`StoreWriter.finish` was given.
        signature: hash of all that decided the content.
    """

    def __init__(self, vectors: np.ndarray, offsets: np.ndarray, word_ids: np.ndarray, vocabulary: list[str],
                 settings: dict[str, Any], signature: str, scales: np.ndarray | None = None):  # fmt: skip
        self.vectors, self.offsets, self.word_ids, self.vocabulary = vectors, offsets, word_ids, vocabulary
        self.settings, self.signature, self.scales = settings, signature, scales

    @classmethod
    def open(cls, folder: str | Path, verify: bool = True) -> FeatureStore:
        """Open the store in ``folder``.

        Args:
            folder: what :meth:`StoreWriter.finish` was given; the folder above it bears the data set's name.
            verify: compare the hashes of all files (about a second per GB) and not their sizes alone.

        Raises:
            DataError: the store is missing, damaged or of another format; the message names the file.
        """
        folder = Path(folder)
        rebuild = f"rebuild with `recbole-drex prepare --dataset {folder.absolute().parent.name} --rebuild`"
        if not folder.is_dir():
            raise DataError(f"there is no feature store {folder}: {rebuild}")
        description = _read_if_whole(folder / "features.json")
        number = description.get("format") if isinstance(description, dict) else None
        dtype = next((name for name, known in _FORMATS.items() if known == number), None)
        if dtype is None:
            raise DataError(f"{folder / 'features.json'} is missing, damaged or of another version: {rebuild}")
        try:
            for name in _files(dtype):
                path, expected = folder / name, description["files"][name]
                if not path.is_file():
                    raise DataError(f"{path} is missing: {rebuild}")
                if path.stat().st_size != expected["bytes"]:
                    raise DataError(f"{path} has {path.stat().st_size} bytes, not {expected['bytes']}: {rebuild}")
                if verify and sha256(path) != expected["sha256"]:
                    raise DataError(f"{path} is damaged (its SHA-256 is not the one recorded): {rebuild}")
            store = cls(
                map_array(folder / "vectors.npy"),
                np.array(map_array(folder / "offsets.npy")),
                map_array(folder / "word_ids.npy"),
                read_json(folder / "vocabulary.json", "vocabulary"),
                description["settings"],
                description["signature"],
                map_array(folder / _SCALES) if dtype == "int8" else None,
            )
            sizes = tuple(description[key] for key in ("reviews", "words", "width", "vocabulary"))
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise DataError(f"feature store {folder} is damaged ({error}): {rebuild}") from error
        if sizes != (len(store), len(store.word_ids), store.width, len(store.vocabulary)) or (
            store.vectors.shape[0] != sizes[1] or store.offsets[-1] != sizes[1] or store.dtype != dtype
        ):
            raise DataError(f"the files of feature store {folder} do not belong together: {rebuild}")
        return store

    def __len__(self) -> int:
        """Number of reviews."""
        return len(self.offsets) - 1

    @property
    def width(self) -> int:
        """Length of a word's vector."""
        return int(self.vectors.shape[1])

    @property
    def dtype(self) -> str:
        """How vectors are stored, one of :data:`DTYPES`."""
        return self.vectors.dtype.name

    def read(self, positions: np.ndarray) -> torch.Tensor:
        """Vectors of words, float32 (k, width).

        Args:
            positions: of the words in the store, in any order, int64 (k,).
        """
        import torch

        # Torch widens numbers of 16 bits many times faster than NumPy.
        vectors = torch.from_numpy(np.take(self.vectors, positions, axis=0)).float()
        if self.scales is not None:
            vectors *= torch.from_numpy(np.take(self.scales, positions))[:, None]
        return vectors

    def means(self, reviews: np.ndarray) -> np.ndarray:
        """Mean of the words' vectors of each review, (n, width) float32; zeros for -1 and for reviews without words.

        Args:
            reviews: rows of the store, -1 for none, (n,).
        """
        import torch

        result = np.zeros((len(reviews), self.width), dtype=np.float32)
        lengths = np.where(reviews >= 0, self.offsets[reviews + 1] - self.offsets[reviews], 0)
        spoken = np.flatnonzero(lengths)
        blocks = np.cumsum(lengths[spoken]) // _BLOCK_WORDS
        for block in np.split(spoken, np.flatnonzero(np.diff(blocks)) + 1):
            starts = np.cumsum(lengths[block]) - lengths[block]
            place = np.arange(lengths[block].sum())
            words = self.read(place + np.repeat(self.offsets[reviews[block]] - starts, lengths[block]))
            result[block] = torch.nn.functional.embedding_bag(
                torch.from_numpy(place), words, torch.from_numpy(starts), mode="mean"
            ).numpy()
        return result


def _files(dtype: str) -> tuple[str, ...]:
    """What a store is made of, beside its description."""
    return (*_FILES, _SCALES) if dtype == "int8" else _FILES


def _read_if_whole(path: Path) -> Any:
    """Content of a JSON file, or None where it is absent or damaged."""
    try:
        return read_json(path)
    except DataError:
        return None
