"""Word embeddings of all reviews, or one embedding per lemma and the reviews' lemmas, in memory-mapped files."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_drex.errors import DataError
from recbole_drex.utils.files import read_json, sha256
from recbole_drex.utils.npy_files import map_array

if TYPE_CHECKING:
    import torch

DTYPES = ("float16", "int8")
"""Number types in which vectors can be stored."""
FORMATS = {("float16", False): 5, ("int8", False): 6, ("float16", True): 7, ("int8", True): 8}
"""Number of the format by number type and whether the store is static; 1 to 4 had no sentence boundaries."""
_FILES = ("vectors.npy", "offsets.npy", "word_ids.npy", "begins.npy", "vocabulary.json")
SCALES = "scales.npy"
_BLOCK_WORDS = 1 << 13  # words per block that is converted to float32


class FeatureStore:
    """The finished store, read through memory maps.

    It contains a vector for every word (contextual) or for every lemma (static).

    Words of review ``r`` are at positions ``offsets[r]`` to ``offsets[r + 1]`` of the store; :meth:`read` returns their
    vectors for all formats.

    Attributes:
        vectors: float16 or int8, mapped from disk, read-only: (words, width), or (vocabulary, width) if ``static``.
        scales: factors of int8 vectors, float32 (rows of vectors,), mapped from disk; None for float16.
        offsets: int64 (reviews + 1).
        word_ids: int32 (words), positions in ``vocabulary``, mapped from disk.
        begins: bool (words), whether a sentence, clause or line of the review ended before the word, mapped from disk;
            see :class:`~recbole_drex.data.text.tokenizer.ReviewWords`. By default (stores in memory), a review is one
            sentence.
        vocabulary: the distinct lemmas in alphabetical order.
        static: whether there is one vector per lemma.
        settings: the settings passed to :meth:`~recbole_drex.data.text.feature_store_writer.StoreWriter.finish`.
        signature: hash of everything that determines the content.
    """

    def __init__(self, vectors: np.ndarray, offsets: np.ndarray, word_ids: np.ndarray, vocabulary: list[str],
                 settings: dict[str, Any], signature: str, scales: np.ndarray | None = None,
                 static: bool = False, begins: np.ndarray | None = None):  # fmt: skip
        self.static = static
        self.vectors, self.offsets, self.word_ids, self.vocabulary = vectors, offsets, word_ids, vocabulary
        self.settings, self.signature, self.scales = settings, signature, scales
        self._begins = begins

    @classmethod
    def open(cls, folder: str | Path, verify: bool = True) -> FeatureStore:
        """Open the store in ``folder``.

        Args:
            folder: the folder passed to :meth:`~recbole_drex.data.text.feature_store_writer.StoreWriter.finish`; its
                parent has the data set's name.
            verify: compare the hashes of all files (about a second per GB), not only their sizes.

        Raises:
            DataError: the store is missing, damaged or of another format; the message names the file.
        """
        folder = Path(folder)
        rebuild = f"rebuild with `recbole-drex prepare --dataset {folder.absolute().parent.name} --rebuild`"
        if not folder.is_dir():
            raise DataError(f"there is no feature store {folder}: {rebuild}")
        description = read_if_whole(folder / "features.json")
        number = description.get("format") if isinstance(description, dict) else None
        dtype, static = next((kind for kind, known in FORMATS.items() if known == number), (None, False))
        if dtype is None:
            raise DataError(f"{folder / 'features.json'} is missing, damaged or of another version: {rebuild}")
        try:
            for name in files_of(dtype):
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
                map_array(folder / SCALES) if dtype == "int8" else None,
                static,
                map_array(folder / "begins.npy"),
            )
            sizes = tuple(description[key] for key in ("reviews", "words", "width", "vocabulary"))
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise DataError(f"feature store {folder} is damaged ({error}): {rebuild}") from error
        if sizes != (len(store), len(store.word_ids), store.width, len(store.vocabulary)) or (
            store.vectors.shape[0] != sizes[3 if static else 1] or store.offsets[-1] != sizes[1] or store.dtype != dtype
            or store.begins.shape != store.word_ids.shape or store.begins.dtype != bool
        ):  # fmt: skip
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
        """Number type of the stored vectors, one of :data:`DTYPES`."""
        return self.vectors.dtype.name

    @cached_property
    def begins(self) -> np.ndarray:
        """Whether a sentence ended before each word, bool (words,)."""
        if self._begins is not None:
            return self._begins
        begins = np.zeros(len(self.word_ids), dtype=bool)
        begins[self.offsets[:-1][np.diff(self.offsets) > 0]] = True
        return begins

    @cached_property
    def table(self) -> np.ndarray | None:
        """Vectors of all lemmas, float32 (vocabulary, width), if the store is static; None if it is contextual."""
        return self._rows(np.arange(len(self.vocabulary))).numpy() if self.static else None

    def read(self, positions: np.ndarray) -> torch.Tensor:
        """Vectors of words, float32 (k, width).

        Args:
            positions: positions of the words in the store, in any order, int64 (k,).
        """
        return self._rows(np.take(self.word_ids, positions) if self.static else positions)

    def read_lemmas(self, lemmas: np.ndarray) -> torch.Tensor:
        """Vectors of lemmas of a static store, float32 (k, width).

        Args:
            lemmas: positions in ``vocabulary``, (k,).

        Raises:
            ValueError: the store is contextual.
        """
        if not self.static:
            raise ValueError("a contextual store has no vectors of lemmas")
        return self._rows(lemmas)

    def _rows(self, rows: np.ndarray) -> torch.Tensor:
        import torch

        # Torch converts 16-bit numbers many times faster than NumPy.
        vectors = torch.from_numpy(np.take(self.vectors, rows, axis=0)).float()
        if self.scales is not None:
            vectors *= torch.from_numpy(np.take(self.scales, rows))[:, None]
        return vectors

    def means(self, reviews: np.ndarray) -> np.ndarray:
        """Mean of the words' vectors of each review, (n, width) float32; zeros for -1 and for reviews without words.

        Args:
            reviews: rows of the store, -1 for none, (n,).
        """
        import torch

        result = np.zeros((len(reviews), self.width), dtype=np.float32)
        lengths = np.where(reviews >= 0, self.offsets[reviews + 1] - self.offsets[reviews], 0)
        reviewed = np.flatnonzero(lengths)
        blocks = np.cumsum(lengths[reviewed]) // _BLOCK_WORDS
        for block in np.split(reviewed, np.flatnonzero(np.diff(blocks)) + 1):
            starts = np.cumsum(lengths[block]) - lengths[block]
            index = np.arange(lengths[block].sum())
            words = self.read(index + np.repeat(self.offsets[reviews[block]] - starts, lengths[block]))
            result[block] = torch.nn.functional.embedding_bag(
                torch.from_numpy(index), words, torch.from_numpy(starts), mode="mean"
            ).numpy()
        return result


def files_of(dtype: str) -> tuple[str, ...]:
    """Names of the files of a store, without its description."""
    return (*_FILES, SCALES) if dtype == "int8" else _FILES


def read_if_whole(path: Path) -> Any:
    """Content of a JSON file, or None if it is absent or damaged."""
    try:
        return read_json(path)
    except DataError:
        return None
