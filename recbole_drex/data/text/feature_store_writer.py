"""Writes feature stores shard by shard, so that an interrupted preparation resumes."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from recbole_drex.data.text.feature_store import FORMATS, SCALES, files_of, read_if_whole
from recbole_drex.errors import DataError, StorageError
from recbole_drex.utils.files import remove_folder, replacing, sha256, write_json

LEMMAS = 8192
"""Lemmas per part of the table of a static store."""
_SHARDS = 2  # format of the shards
_LARGEST = 127  # the integer that represents the largest value of a vector


@dataclass(frozen=True)
class Shard:
    """Consecutive encoded reviews as flat arrays, cheap to transfer and to write; see :func:`pack`.

    Attributes:
        counts: number of words of each review, int64 (reviews,).
        word_ids: position of each word in ``vocabulary``, int32 (words,).
        begins: whether a sentence ended before each word, bool (words,).
        vocabulary: the distinct lemmas in the order of appearance.
        vectors: float16 (words, width); None in a static store.
    """

    counts: np.ndarray
    word_ids: np.ndarray
    begins: np.ndarray
    vocabulary: list[str]
    vectors: np.ndarray | None

    def reviews(self) -> list[np.ndarray]:
        """The vectors of each review, (words, width) each."""
        if self.vectors is None:
            raise ValueError("these words have no vectors yet")
        return np.split(self.vectors, np.cumsum(self.counts)[:-1]) if len(self.counts) else []


def pack(
    vectors: Sequence[np.ndarray], lemmas: Sequence[Sequence[str]], begins: Sequence[Sequence[bool]], width: int
) -> Shard:
    """Pack consecutive encoded reviews.

    Args:
        vectors: per review a finite float16 array (words, ``width``).
        lemmas: per review at least as many lemmas; lemmas without a vector are dropped.
        begins: per review as many marks, see :class:`~recbole_drex.data.text.tokenizer.ReviewWords`.
        width: length of a word's vector.

    Raises:
        ValueError: inconsistent arguments.

    Example:
        >>> vectors = [np.zeros((2, 3), np.float16), np.ones((1, 3), np.float16)]
        >>> shard = pack(vectors, [["fun", "plot"], ["fun"]], [[True, False], [True]], 3)
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
    shard = pack_words(
        [words[:n] for n, words in zip(counts, lemmas, strict=True)],
        [marks[:n] for n, marks in zip(counts, begins, strict=True)],
    )
    return replace(shard, vectors=np.concatenate([np.zeros((0, width), dtype=np.float16), *vectors]))


def pack_words(lemmas: Iterable[Sequence[str]], begins: Iterable[Sequence[bool]]) -> Shard:
    """Pack the words of consecutive reviews, without vectors.

    Args:
        lemmas: of each review.
        begins: of each review, whether a sentence ended before each word.

    Raises:
        ValueError: inconsistent arguments.

    Example:
        >>> shard = pack_words([["fun", "plot"], [], ["fun"]], [[True, False], [], [True]])
        >>> shard.counts.tolist(), shard.word_ids.tolist(), shard.begins.tolist(), shard.vocabulary
        ([2, 0, 1], [0, 1, 0], [True, False, True], ['fun', 'plot'])
    """
    vocabulary: dict[str, int] = {}
    counts, ids = [], []
    marks: list[bool] = []
    for review, marked in zip(lemmas, begins, strict=True):
        if len(review) != len(marked):
            raise ValueError("every lemma needs a mark whether a sentence ended before it")
        counts.append(len(review))
        ids += [vocabulary.setdefault(word, len(vocabulary)) for word in review]
        marks += marked
    numbers = np.array(counts, dtype=np.int64), np.array(ids, dtype=np.int32)
    return Shard(*numbers, np.array(marks, dtype=np.bool_), list(vocabulary), None)


def quantise(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise vectors symmetrically to 8-bit integers with one scale per vector.

    The error of a value is at most half a scale, that is 1/254 of the largest value of its vector.

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
    """Collects encoded reviews, shard by shard, and assembles them into a store when all shards are written.

    Shards are written atomically, so an interrupted run continues with those that :meth:`done` does not list. Shards
    with another signature, width or number belong to other data and are discarded. A static store takes shards without
    vectors; after the last shard it takes the vectors of :meth:`lemmas`, part by part, which can be resumed, too.

    Args:
        folder: folder of the shards.
        width: length of a word's vector.
        signature: hash of everything that determines the content (texts, settings of text and encoder).
        n_shards: number of shards of the store; may be 0 for a data set without reviews.
        dtype: number type of the finished store, one of :data:`~recbole_drex.data.text.feature_store.DTYPES`. Shards
            are always float16.
        static: whether there is one vector per lemma instead of one per word.

    Raises:
        DataError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        width: int,
        signature: str,
        n_shards: int,
        dtype: str = "float16",
        static: bool = False,
    ):
        self.folder, self.dtype, self.static = Path(folder), dtype, static
        self.width, self.signature, self.n_shards = width, signature, n_shards
        plan = {"format": _SHARDS, "width": width, "signature": signature, "shards": n_shards}
        plan |= {"static": True} if static else {}
        if read_if_whole(self.folder / "plan.json") != plan:
            remove_folder(self.folder)
            write_json(self.folder / "plan.json", plan)

    def done(self) -> set[int]:
        """Indices of the shards that are already written."""
        return {k for k in range(self.n_shards) if self._shard(k).exists()}

    def write_shard(self, k: int, shard: Shard) -> None:
        """Write shard ``k``: consecutive reviews with their words; the shards may come in any order.

        Args:
            k: index of the shard, ``0 <= k < n_shards``.
            shard: from :func:`pack`, or :func:`pack_words` for a static store.

        Raises:
            ValueError: there is no shard ``k``, or its vectors have another width.
            DataError: the disk is full or not writable.
        """
        if not 0 <= k < self.n_shards:
            raise ValueError(f"shard {k} is not one of {self.n_shards}")
        arrays = {
            "counts": shard.counts,
            "word_ids": shard.word_ids,
            "begins": shard.begins,
            "vocabulary": np.frombuffer(json.dumps(shard.vocabulary).encode(), dtype=np.uint8),
        }
        if (shard.vectors is None) != self.static:
            raise ValueError("a static store takes shards without vectors, and no other store does")
        if shard.vectors is not None:
            self._check_width(shard.vectors)
            arrays["vectors"] = shard.vectors
        _save(self._shard(k), arrays)

    def words(self) -> int:
        """Number of words in the shards that are already written.

        Raises:
            DataError: a shard is damaged.
        """
        return sum(int(self._load(self._shard(k), "counts")[0].sum()) for k in self.done())

    def needed_bytes(self, new: int, total: int) -> int:
        """Bytes on disk for all that is still to be written.

        Until the store is installed, its vectors exist twice: in the shards and in the store. Spellings of lemmas and
        headers of files are not counted; they need about a thousandth of the space of contextual vectors.

        Args:
            new: number of vectors that are still to be written, of words, or of lemmas in a static store, whose shards
                must all be written.
            total: number of vectors of the finished store.
        """
        word = np.dtype(np.int32).itemsize + np.dtype(bool).itemsize  # position of its lemma, and begins
        vector = self.width * np.dtype(self.dtype).itemsize + (4 if self.dtype == "int8" else 0)
        shards = new * (2 * self.width + (0 if self.static else word))
        return shards + total * vector + (self.words() if self.static else total) * word

    def check_space(self, new: int, total: int) -> None:
        """Check that the disk has room for :meth:`needed_bytes`.

        Raises:
            StorageError: there is less room; the message has the bytes that are needed and free.
        """
        needed, free = self.needed_bytes(new, total), shutil.disk_usage(self.folder).free
        if needed > free:
            raise StorageError(
                f"cannot write word features to {self.folder.parent}: No space left for {needed:,} bytes, only "
                f"{free:,} are free; make room or choose another --data_path"
            )

    def lemmas(self) -> list[list[str]]:
        """The vocabulary of all shards in alphabetical order, in parts of :data:`LEMMAS`.

        Raises:
            DataError: a shard is missing or damaged.
        """
        self._check_all(self.n_shards, self.done(), "shards")
        words = {word for k in range(self.n_shards) for word in _decoded(self._load(self._shard(k), "vocabulary")[0])}
        vocabulary = sorted(words)
        return [vocabulary[start : start + LEMMAS] for start in range(0, len(vocabulary), LEMMAS)]

    def lemmas_done(self) -> set[int]:
        """Indices of the parts of :meth:`lemmas` whose vectors are already written."""
        return {int(path.stem.rpartition("-")[2]) for path in self.folder.glob("lemmas-*.npz")}

    def write_lemmas(self, k: int, vectors: np.ndarray) -> None:
        """Write the vectors of part ``k`` of :meth:`lemmas`, float16 (lemmas, width); the parts may come in any order.

        Raises:
            ValueError: the vectors have another width.
            DataError: the disk is full or not writable.
        """
        self._check_width(vectors)
        _save(self._part(k), {"vectors": vectors})

    def finish(self, target: str | Path, extra: dict[str, Any]) -> None:
        """Assemble all shards into a store; the shards are kept, so that this can be repeated.

        Args:
            target: folder of the store, replaced; its description is written last.
            extra: settings stored with the store (encoder, text), as JSON values.

        Raises:
            DataError: a shard is missing or damaged (it is removed, so that the next run creates it again), or the disk
                is full.
        """
        target = Path(target)
        self._check_all(self.n_shards, self.done(), "shards")
        remove_folder(target)
        sizes = self._assemble(target)
        files = {
            name: {"bytes": (target / name).stat().st_size, "sha256": sha256(target / name)}
            for name in files_of(self.dtype)
        }
        described = {"format": FORMATS[self.dtype, self.static], "signature": self.signature, **sizes}
        write_json(target / "features.json", {**described, "files": files, "settings": extra})

    def _shard(self, k: int) -> Path:
        return self.folder / f"shard-{k:06d}.npz"

    def _part(self, k: int) -> Path:
        return self.folder / f"lemmas-{k:06d}.npz"

    def _check_width(self, vectors: np.ndarray) -> None:
        if vectors.shape[1:] != (self.width,):
            raise ValueError(f"vectors must be {self.width} wide")

    def _check_all(self, number: int, done: set[int], what: str) -> None:
        missing = sorted(set(range(number)) - done)
        if missing:
            raise DataError(f"feature store {self.folder} lacks {what} {missing[:10]}: run the preparation again")

    def _load(self, path: Path, *names: str) -> list[np.ndarray]:
        try:
            with np.load(path) as archive:
                return [archive[name] for name in names]
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            path.unlink()
            raise DataError(f"shard {path} is damaged ({error}) and was removed: run the preparation again") from error

    def _assemble(self, target: Path) -> dict[str, int]:
        """Write the final files, with one shard's vectors in memory at a time; returns their sizes."""
        names = ("counts", "word_ids", "begins", "vocabulary")
        parts = [self._load(self._shard(k), *names) for k in range(self.n_shards)]
        spelled = [_decoded(part[3]) for part in parts]
        # Alphabetical, since models must not depend on the order of reviews that they do not see.
        vocabulary = sorted({word for words in spelled for word in words})
        number = {word: k for k, word in enumerate(vocabulary)}
        ids = [np.zeros(0, dtype=np.int32)]
        for (_, local_ids, _, _), words in zip(parts, spelled, strict=True):
            ids.append(np.array([number[word] for word in words], dtype=np.int32)[local_ids])
        word_ids = np.concatenate(ids)
        counts = np.concatenate([np.zeros(1, dtype=np.int64), *(part[0] for part in parts)])
        begins = np.concatenate([np.zeros(0, dtype=bool), *(part[2] for part in parts)])
        others = {"offsets.npy": np.cumsum(counts), "word_ids.npy": word_ids, "begins.npy": begins}
        if self.static:
            count = -(-len(vocabulary) // LEMMAS)
            self._check_all(count, self.lemmas_done(), "vectors of lemmas")
            sources, rows = [self._part(k) for k in range(count)], len(vocabulary)
        else:
            sources, rows = [self._shard(k) for k in range(self.n_shards)], len(word_ids)
        with replacing(target / "vectors.npy") as path, path.open("wb") as file:
            scales = self._write_vectors(file, sources, rows)
        if self.dtype == "int8":
            others[SCALES] = scales
        for name, array in others.items():
            with replacing(target / name) as path, path.open("wb") as file:
                np.save(file, array)
        write_json(target / "vocabulary.json", vocabulary)
        return {"reviews": len(counts) - 1, "words": len(word_ids), "width": self.width, "vocabulary": len(vocabulary)}

    def _write_vectors(self, file: BinaryIO, sources: Sequence[Path], rows: int) -> np.ndarray:
        """Write the ``rows`` vectors of ``sources`` as one ``.npy`` file; returns the scales of int8."""
        descr = np.dtype(self.dtype).newbyteorder("<").str
        header = {"descr": descr, "fortran_order": False, "shape": (rows, self.width)}
        np.lib.format.write_array_header_1_0(file, header)
        scales = [np.zeros(0, dtype=np.float32)]
        for source in sources:
            (vectors,) = self._load(source, "vectors")
            if self.dtype == "int8":
                vectors, part = quantise(vectors)
                scales.append(part)
            file.write(vectors.astype(descr, copy=False).data)
        return np.concatenate(scales)


def _decoded(vocabulary: np.ndarray) -> list[str]:
    """The words of a shard, as :meth:`StoreWriter.write_shard` wrote them."""
    return json.loads(vocabulary.tobytes())


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    # Like numpy.savez, which before NumPy 2 leaves the archive open on a full disk and prints a warning.
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
