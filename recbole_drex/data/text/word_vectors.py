"""Fixed word vectors from the input embeddings of the encoder, or from a word2vec or GloVe file."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import zlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from recbole_drex.data.text.contextual_encoder import encoder_folder
from recbole_drex.errors import DataError
from recbole_drex.utils.files import sha256

ENCODER = "encoder"
_LONGEST = 1 << 10  # bytes of a word in a binary file; a longer word means that the file is damaged
_WIDEST = 1 << 16  # numbers of a vector; a wider vector means that the file is damaged
_LARGEST = 1e6  # much larger than any value of a trained vector; larger values could overflow in sums of squares

Vectors = dict[int, np.ndarray]  # index of a requested word -> its vector


def word_vectors(source: str, words: Sequence[str], encoder: Mapping[str, Any], size: int | None) -> np.ndarray:
    """Vectors of words.

    A word that the source lacks gets a random vector of average length, seeded by the word, so that it is the same in
    every run. The number of words found is logged.

    Args:
        source: ``encoder``: the mean of the input embeddings of a word's pieces in the encoder of the features; or the
            path of a word2vec file (text or binary) or GloVe file (text), also ``.gz``. Words are looked up unchanged
            (lower-case lemmas).
        words: distinct words.
        encoder: settings of the feature store: ``name`` (or ``sentence_encoder``, if ``name`` is not an encoder) and
            ``weights_sha256`` are read.
        size: wider vectors are reduced to this many principal components of these words; None or 0: no reduction.

    Returns:
        float32 (words, width), with mean zero and mean square 1 over all values; width is at most ``size``.

    Raises:
        DataError: the source is missing, damaged or has none of the words; the message names file and line.
    """
    index = {word: k for k, word in enumerate(words)}
    result = _from_encoder(encoder, words) if source == ENCODER else _from_file(Path(source), index)
    if words and not result:
        raise DataError(f"word vectors {source}: none of the {len(words)} words of the reviews is there")
    logging.getLogger(__name__).info("word vectors %s: %d of %d words found", source, len(result), len(words))
    width = len(next(iter(result.values()))) if result else size or 1
    length = float(np.mean([np.linalg.norm(vector) for vector in result.values()])) if result else 1.0
    return _reduced(_filled(result, words, length, width), size)


def _random(word: str, width: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(width)


def _reduced(vectors: np.ndarray, size: int | None) -> np.ndarray:
    """Centred vectors, reduced to the first ``size`` principal components, scaled together to a mean square of 1."""
    if not len(vectors):
        return vectors
    vectors = vectors - vectors.mean(0)
    if size and size < vectors.shape[1]:
        _, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
        axes = axes[:, : -size - 1 : -1]
        # The sign of an eigenvector is arbitrary; we fix it, so that results do not depend on the library.
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
        vectors = vectors @ axes
    scale = np.sqrt(np.mean(np.square(vectors, dtype=np.float64)))
    return (vectors / max(scale, 1e-12)).astype(np.float32)


def _from_encoder(settings: Mapping[str, Any], words: Sequence[str]) -> Vectors:
    """Mean input embeddings of each word's pieces."""
    from safetensors import SafetensorError, safe_open
    from tokenizers import Tokenizer

    name = settings.get("sentence_encoder", settings["name"])
    folder = encoder_folder(name)
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256(weights) != settings["weights_sha256"]:
        raise DataError(f"{weights} is missing or is not the encoder '{name}' that made the word features")
    try:
        with safe_open(weights, framework="np") as file:
            keys = [key for key in file.keys() if key.endswith("word_embeddings.weight")]  # noqa: SIM118
            if len(keys) != 1:
                raise DataError(f"{weights} has no table of word embeddings; give 'word_vectors' a file")
            table = file.get_tensor(keys[0]).astype(np.float32)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"encoder '{name}' cannot be read from {folder}: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    unknown = tokenizer.token_to_id("[UNK]")
    result = {}
    for k, encoding in enumerate(tokenizer.encode_batch(list(words), add_special_tokens=False)):
        pieces = [piece for piece in encoding.ids if piece != unknown]
        if pieces:
            result[k] = table[pieces].mean(0)
    return result


def head_of_file(path: Path, words: int = 1000) -> list[np.ndarray]:
    """The vectors of the first words of a word2vec or GloVe file, at least one.

    Raises:
        DataError: the file cannot be read; the message names file and line.
    """
    with _opened(path) as file:
        result = [vector for _, _, vector in islice(_entries(file, path, _Everything()), words)]
    if not result:
        raise DataError(f"word vectors {path}: the file has no words")
    return result


def vectors_of_file(path: Path, words: Sequence[str], length: float, width: int) -> np.ndarray:
    """Unchanged vectors of words in a word2vec or GloVe file.

    A word that the file lacks gets a random vector of about the given length, seeded by the word.

    Returns:
        float32 (words, width).

    Raises:
        DataError: the file cannot be read, or has none of the words; the message names file and line.
    """
    result = _from_file(path, {word: k for k, word in enumerate(words)})
    if words and not result:
        raise DataError(f"word vectors {path}: none of the {len(words)} words of the reviews is there")
    logging.getLogger(__name__).info("word vectors %s: %d of %d words found", path, len(result), len(words))
    return _filled(result, words, length, width)


def _filled(result: Vectors, words: Sequence[str], length: float, width: int) -> np.ndarray:
    """Vectors of all words; missing words get random vectors of about the given length."""
    vectors = np.empty((len(words), width), dtype=np.float32)
    for k, word in enumerate(words):
        vectors[k] = result[k] if k in result else _random(word, width) * (length / width**0.5)
    return vectors


class _Everything:
    def __contains__(self, word: object) -> bool:
        return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read word vectors {path}: {error}; give 'encoder' or the path of a file") from error


def _from_file(path: Path, index: Mapping[str, int]) -> Vectors:
    """Vectors of the wanted words; the first entry of a repeated word counts."""
    result: Vectors = {}
    with _opened(path) as file:
        for where, word, vector in _entries(file, path, index):
            if not (np.abs(vector) <= _LARGEST).all():
                raise DataError(f"{where}: the vector of '{word}' has values that are not finite or above 1e6")
            result.setdefault(index[word], vector)
    return result


def _entries(file: BinaryIO, path: Path, wanted: Container[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Location, word and vector of each wanted entry of a file in any of the formats."""
    first = file.readline(1 << 20)
    if not first.strip():
        raise DataError(f"word vectors {path}: the file is empty")
    header = first.split()
    counted = len(header) == 2 and all(part.isdigit() and len(part) < 10 for part in header)
    count, width = (int(header[0]), int(header[1])) if counted else (0, len(header) - 1)
    if not 2 <= width <= _WIDEST:
        raise DataError(f"{path}, line 1: neither a word with its vector nor 'words width'")
    begin, start = (file.tell(), 2) if counted else (0, 1)
    line = file.readline(width * 64 + _LONGEST) if counted else first
    file.seek(begin)
    if counted and _numbers(line, width) is None and len(line.split()) != width + 1:
        yield from _binary(file, path, count, width, wanted)
        return
    for number, line in enumerate(file, start):
        # A word may contain spaces (some in GloVe do), a number may not.
        word = line.rsplit(None, width)[0].decode("utf-8", "replace") if line.strip() else ""
        numbers = _numbers(line, width) if word in wanted or len(line.split()) != width + 1 else None
        if numbers is None and (word in wanted or len(line.split()) != width + 1):
            raise DataError(f"{path}, line {number}: not a word with {width} numbers")
        if word in wanted and numbers is not None:
            yield f"{path}, line {number}", word, numbers


def _numbers(line: bytes, width: int) -> np.ndarray | None:
    """The last ``width`` fields of a line as numbers; None if they are not numbers or no word precedes them."""
    fields = line.split()
    if len(fields) <= width:
        return None
    try:
        return np.array([float(field) for field in fields[-width:]], dtype=np.float32)
    except ValueError:
        return None


def _binary(
    file: BinaryIO, path: Path, count: int, width: int, wanted: Container[str]
) -> Iterator[tuple[str, str, np.ndarray]]:
    """word2vec's binary format: ``count`` times a word, a space, ``width`` 32-bit floats and an optional line feed."""
    for number in range(1, count + 1):
        word = bytearray()
        while (char := file.read(1)) != b" " and char and len(word) <= _LONGEST:
            word += char
        vector = file.read(4 * width)
        where = f"{path}, word {number} of {count}"
        if not word or len(word) > _LONGEST or len(vector) < 4 * width:
            raise DataError(f"{where}: the file is cut off or damaged, or is not {width} numbers wide")
        text = bytes(word).lstrip(b"\n").decode("utf-8", "replace")
        if text in wanted:
            yield where, text, np.frombuffer(vector, dtype="<f4").astype(np.float32)
    if file.read(2).strip(b"\n"):
        raise DataError(f"{path}: more follows after the {count} words of {width} numbers that line 1 announces")
