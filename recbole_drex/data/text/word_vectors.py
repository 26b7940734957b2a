"""Fixed vectors of words: from the input table of the encoder, or from a word2vec or GloVe file."""

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
_LONGEST = 1 << 10  # bytes of a word in a binary file; more means that the file is broken
_WIDEST = 1 << 16  # numbers of a vector; more, too
_LARGEST = 1e6  # no trained vector comes near; beyond, sums of squares would soon be infinite

Found = dict[int, np.ndarray]  # place of a word among those asked for -> its vector


def word_vectors(source: str, words: Sequence[str], encoder: Mapping[str, Any], size: int | None) -> np.ndarray:
    """Vectors of some words.

    A word that the source does not know gets a random vector as long as the average one, by the word alone, so the same
    in every run. How many were found is logged.

    Args:
        source: ``encoder``: the mean of the input embeddings of a word's pieces in the encoder that made the features;
            or the path of a word2vec file (text or binary) or GloVe file (text), ``.gz`` too. Words are looked up as
            they are: lemmas, lower-case.
        words: distinct.
        encoder: settings of the feature store: ``name`` (or ``sentence_encoder``, where ``name`` is no encoder) and
            ``weights_sha256`` are read.
        size: width to which wider vectors are reduced by principal components of these words; None or 0 for none.

    Returns:
        float32 (words, width), of mean zero and mean square 1 over all values; width is ``size`` or less.

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
    """Centred, on its first ``size`` principal components, scaled as a whole to a mean square of 1."""
    if not len(vectors):
        return vectors
    vectors = vectors - vectors.mean(0)
    if size and size < vectors.shape[1]:
        _, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
        axes = axes[:, : -size - 1 : -1]
        # An eigenvector's sign is arbitrary; fixed, so that libraries agree.
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
        vectors = vectors @ axes
    scale = np.sqrt(np.mean(np.square(vectors, dtype=np.float64)))
    return (vectors / max(scale, 1e-12)).astype(np.float32)


def _from_encoder(settings: Mapping[str, Any], words: Sequence[str]) -> Found:
    """Means over the pieces of each word of rows of the encoder's input table."""
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
    """The vectors of the first words of a word2vec or GloVe file, whichever they are; there is one at least.

    Raises:
        DataError: the file cannot be read; the message names file and line.
    """
    with _opened(path) as file:
        result = [vector for _, _, vector in islice(_entries(file, path, _Everything()), words)]
    if not result:
        raise DataError(f"word vectors {path}: the file holds no word")
    return result


def vectors_of_file(path: Path, words: Sequence[str], length: float, width: int) -> np.ndarray:
    """Vectors of words in a word2vec or GloVe file, as they are there.

    A word that the file lacks gets a random vector by the word alone, of about the given length.

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


def _filled(result: Found, words: Sequence[str], length: float, width: int) -> np.ndarray:
    """Vectors of all words, random ones of about the given length where none was found."""
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


def _from_file(path: Path, index: Mapping[str, int]) -> Found:
    """Vectors of the wanted words; of a word that is there twice, the first counts."""
    result: Found = {}
    with _opened(path) as file:
        for where, word, vector in _entries(file, path, index):
            if not (np.abs(vector) <= _LARGEST).all():
                raise DataError(f"{where}: the vector of '{word}' holds values that are not finite or above 1e6")
            result.setdefault(index[word], vector)
    return result


def _entries(file: BinaryIO, path: Path, wanted: Container[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Where it stands, word and vector of each wanted entry of a file of any of the formats."""
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
        # A word may hold spaces (some of GloVe's do), a number may not.
        word = line.rsplit(None, width)[0].decode("utf-8", "replace") if line.strip() else ""
        numbers = _numbers(line, width) if word in wanted or len(line.split()) != width + 1 else None
        if numbers is None and (word in wanted or len(line.split()) != width + 1):
            raise DataError(f"{path}, line {number}: not a word with {width} numbers")
        if word in wanted and numbers is not None:
            yield f"{path}, line {number}", word, numbers


def _numbers(line: bytes, width: int) -> np.ndarray | None:
    """The last ``width`` fields of a line as numbers; None if they are none, or if no word is before them."""
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
    """word2vec's binary format: a word, a space, ``width`` floats of 32 bits, perhaps a line feed; ``count`` times."""
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
