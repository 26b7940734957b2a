"""Word vectors from the encoder and from word2vec and GloVe files, whole and broken."""

from __future__ import annotations

import gzip
import logging
import struct
from pathlib import Path

import numpy as np
import pytest

from recbole_drex.data.text.contextual_encoder import MINILM_SHA256, encoder_folder
from recbole_drex.data.text.word_vectors import word_vectors
from recbole_drex.errors import DataError

WORDS = ["plot", "dull", "zebra", "acting", "nonesuch"]
TABLE = {
    "plot": [1.0, -2.0, 0.5],
    "dull": [0.25, 3.0, -1.0],
    "unused": [9.0, 9.0, 9.0],
    "acting": [-1.5, 1.0, 2.0],
    "zebra": [0.0, 1e-3, -4.0],
}
MINILM = {"name": "minilm", "weights_sha256": MINILM_SHA256}


def glove(table=TABLE) -> bytes:
    return "".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in table.items()).encode()


def word2vec(table=TABLE) -> bytes:
    return f"{len(table)} 3\n".encode() + glove(table)


def binary(table=TABLE, line_feeds: bool = True) -> bytes:
    """As the original word2vec writes it (with line feeds) or gensim (without)."""
    end = b"\n" if line_feeds else b""
    entries = [word.encode() + b" " + struct.pack("<3f", *vector) + end for word, vector in table.items()]
    return f"{len(table)} 3\n".encode() + b"".join(entries)


def written(folder: Path, content: bytes, name: str = "vectors") -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def known() -> np.ndarray:
    """The vectors of four known words, which are centred with the fifth, so differences and ratios are compared."""
    return np.array([TABLE[word] for word in WORDS[:4]])


def assert_same_shape(vectors: np.ndarray) -> None:
    """Differences of the vectors are those of the table, up to one factor."""
    ours, theirs = vectors[1:4] - vectors[0], known()[1:] - known()[0]
    np.testing.assert_allclose(ours / np.linalg.norm(ours), theirs / np.linalg.norm(theirs), atol=1e-6)


@pytest.mark.parametrize(
    "content", (glove(), word2vec(), binary(), binary(line_feeds=False)), ids=("glove", "word2vec", "binary", "gensim")
)
def test_formats(tmp_path, content, caplog):
    with caplog.at_level(logging.INFO):
        vectors = word_vectors(written(tmp_path, content), WORDS, {}, None)
    assert vectors.shape == (5, 3) and vectors.dtype == np.float32
    assert_same_shape(vectors)
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-6)
    assert np.square(vectors).mean() == pytest.approx(1)
    assert "4 of 5 words found" in caplog.text


def test_compressed(tmp_path):
    path = written(tmp_path, gzip.compress(binary()), "vectors.bin.gz")
    assert_same_shape(word_vectors(path, WORDS, {}, 0))


def test_a_word_may_hold_spaces_and_the_first_of_two_counts(tmp_path):
    content = glove() + b". . . 1 2 3\n" + b"plot 7 7 7\n"
    assert_same_shape(word_vectors(written(tmp_path, content), WORDS, {}, None))


def test_an_unknown_word_has_the_same_vector_in_every_run(tmp_path):
    path = written(tmp_path, glove())
    one, other = word_vectors(path, WORDS, {}, None), word_vectors(path, WORDS, {}, None)
    np.testing.assert_array_equal(one, other)
    assert 0 < np.linalg.norm(one[4] - one[:4].mean(0)) < 10


def test_reduction_keeps_the_principal_components(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 6)) * [5.0, 3.0, 1.0, 0.1, 0.1, 0.1]
    path = written(tmp_path, glove({f"w{k}": row.tolist() for k, row in enumerate(values)}))
    vectors = word_vectors(path, [f"w{k}" for k in range(200)], {}, 3)
    assert vectors.shape == (200, 3)
    left, sizes, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    expected = left[:, :3] * sizes[:3]
    expected /= np.sqrt(np.square(expected).mean())
    np.testing.assert_allclose(np.abs(vectors), np.abs(expected), atol=1e-4)


def test_the_encoders_input_table():
    """The mean of the rows of a word's pieces, as transformers gives them."""
    from transformers import AutoModel, AutoTokenizer

    folder = encoder_folder("minilm")
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    words = ["film", "cinematography", "well-made", "unwatchably"]
    table = model.get_input_embeddings().weight.detach().numpy()
    expected = np.stack([table[tokenizer(word, add_special_tokens=False)["input_ids"]].mean(0) for word in words])
    expected -= expected.mean(0)
    vectors = word_vectors("encoder", words, MINILM, None)
    np.testing.assert_allclose(vectors, expected / np.sqrt(np.square(expected).mean()), atol=1e-5)
    assert word_vectors("encoder", words, MINILM, 2).shape == (4, 2)


def test_another_encoder_than_that_of_the_features():
    with pytest.raises(DataError, match="not the encoder 'minilm' that made the word features"):
        word_vectors("encoder", WORDS, {**MINILM, "weights_sha256": "0" * 64}, None)


def test_no_words_at_all(tmp_path):
    assert len(word_vectors(written(tmp_path, glove()), [], {}, 64)) == 0
    assert len(word_vectors("encoder", [], MINILM, 64)) == 0


@pytest.mark.parametrize(
    "content, message",
    (
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"plot\n", "line 1: neither a word with its vector nor 'words width'"),
        (glove() + b"dull 1 2\n", "line 6: not a word with 3 numbers"),
        (b"plot 1 2 3\nunused 1 2\n", "line 2: not a word with 3 numbers"),
        (b"plot 1 2 3\ndull 1 two 3\n", "line 2: not a word with 3 numbers"),
        (b"plot 1 2 3\n\ndull 1 2 3\n", "line 2: not a word with 3 numbers"),
        (b"plot 1 nan 3\n", "line 1: the vector of 'plot' has values that are not finite or above 1e6"),
        (word2vec().replace(b"dull 0.25 3.0", b"dull 0.25"), "line 3: not a word with 3 numbers"),
        (b"5 4\n" + glove(), "word 1 of 5: the vector of 'plot' has values that are not finite or above 1e6"),
        (binary()[:-9], "word 5 of 5: the file is cut off"),
        (binary().replace(b"5 3", b"9 3"), "word 6 of 9: the file is cut off"),
        (binary().replace(b"5 3", b"2 3"), "more follows after the 2 words"),
        (glove({"other": [1.0, 2.0, 3.0]}), "none of the 5 words"),
    ),
)
def test_broken_files(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        word_vectors(path, WORDS, {}, None)
    assert path in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot read word vectors .*glove.*give 'encoder' or the path of a file"):
        word_vectors(str(tmp_path / "glove.txt"), WORDS, {}, None)
    with pytest.raises(DataError, match="cannot read word vectors"):
        word_vectors(written(tmp_path, b"no gzip", "vectors.gz"), WORDS, {}, None)
