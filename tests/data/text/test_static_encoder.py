"""One vector per lemma: its computation, its storage, interruptions and changes."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_engines import ENGINES, needs_openvino
from transformers import AutoModel, AutoTokenizer

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.items.item_features import FOLDER, ItemFeatures
from recbole_drex.data.prepare import pipeline as preparation
from recbole_drex.data.prepare.manifest import TIMES
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.data.text import feature_store_writer
from recbole_drex.data.text.contextual_encoder import MINILM_SHA256, _minilm_folder
from recbole_drex.data.text.feature_store import DTYPES, FeatureStore, files_of
from recbole_drex.data.text.feature_store_writer import StoreWriter, pack, pack_words, quantise
from recbole_drex.data.text.static_encoder import StaticVectors, static_vectors_of
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.explain.new_user_input import NewUsers
from recbole_drex.explain.recommender import PostedInteraction, Recommender

NAME, WIDTH = "tiny", 4
LEMMAS = ["awful", "boring", "photorealistic", "plot", "well-made", "великолепный"]
GLOVE = "plot 1 0 0 0\nawful 0 -2 0 0\nboring 0 0 .5 1e5\nunused 3 3 3 3\n"
REVIEWS = [[["plot", "awful", "plot"], []], [], [["boring"]], [["zoo", "plot"]]]
BEGINS = [[[True, False, True], []], [], [[True]], [[True, False]]]


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "glove.txt"
    path.write_text(GLOVE)
    return path


# Where vectors come from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_an_encoder_reads_each_lemma_on_its_own(engine):
    result = StaticVectors("minilm", engine=engine)(LEMMAS)
    tokenizer, model = AutoTokenizer.from_pretrained(_minilm_folder()), AutoModel.from_pretrained(_minilm_folder())
    for lemma, vector in zip(LEMMAS, result, strict=True):
        with torch.no_grad():
            hidden = model.eval()(**tokenizer(lemma, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(vector, hidden[1:-1].mean(0), atol=2e-3)
    assert result.dtype == np.float16 and result.shape == (len(LEMMAS), 384)


@pytest.mark.parametrize("engine", ENGINES)
def test_other_lemmas_change_no_bit(engine):
    vectors = StaticVectors("minilm", engine=engine)
    together = vectors(LEMMAS)
    for k, lemma in enumerate(LEMMAS):
        np.testing.assert_array_equal(vectors([lemma])[0], together[k])
    assert vectors([]).shape == (0, 384)


def test_a_lemma_that_the_encoder_ignores_is_zero():
    assert not StaticVectors("minilm")(["\u0301\u0301"]).any()


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_a_file_gives_vectors_as_they_are(tmp_path, suffix):
    path = tmp_path / f"glove{suffix}"
    path.write_bytes(gzip.compress(GLOVE.encode()) if suffix.endswith("gz") else GLOVE.encode())
    vectors = StaticVectors(str(path))
    result = vectors(["awful", "boring", "missing", "plot"])
    np.testing.assert_array_equal(result[[0, 1, 3]], [[0, -2, 0, 0], [0, 0, 0.5, 65504], [1, 0, 0, 0]])
    # The vector of a lemma depends only on its spelling.
    np.testing.assert_array_equal(vectors(["missing", "plot"])[0], result[2])
    assert result[2].any() and vectors.width == WIDTH
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert vectors.settings == {
        "name": "static", "static_vectors": path.name, "vectors_sha256": digest,
        "sentence_encoder": "minilm", "weights_sha256": MINILM_SHA256,
    }  # fmt: skip


def test_sources_that_are_of_no_use(tmp_path, glove, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="none of the 1 words"):
        StaticVectors(str(glove))(["zoo"])
    with pytest.raises(DataError, match=r"unknown encoder '.*absent\.txt'"):
        StaticVectors(str(tmp_path / "absent.txt"))(["plot"])
    (tmp_path / "empty").write_text("")
    with pytest.raises(DataError, match="the file is empty"):
        StaticVectors(str(tmp_path / "empty"))(["plot"])
    settings = StaticVectors(str(glove)).settings
    assert static_vectors_of(settings, str(glove)).settings == settings
    glove.write_text(GLOVE.replace("3 3 3 3", "3 3 3 4"))
    with pytest.raises(DataError, match="differs from the source with which the data set was prepared"):
        static_vectors_of(settings, str(glove))


# The store --------------------------------------------------------------------------------------------------------


def table_of(vocabulary: list[str]) -> np.ndarray:
    return np.array([StaticTable.row(word) for word in vocabulary], dtype=np.float16).reshape(-1, WIDTH)


class StaticTable:
    @staticmethod
    def row(word: str) -> np.ndarray:
        return np.random.default_rng(sum(word.encode())).normal(size=WIDTH)


def write(folder: Path, dtype: str = "float16", signature: str = "s") -> FeatureStore:
    writer = StoreWriter(folder.with_name("shards"), WIDTH, signature, len(REVIEWS), dtype, static=True)
    for k in set(range(len(REVIEWS))) - writer.done():
        writer.write_shard(k, pack_words(REVIEWS[k], BEGINS[k]))
    for k, lemmas in enumerate(writer.lemmas()):
        if k not in writer.lemmas_done():
            writer.write_lemmas(k, table_of(lemmas))
    writer.finish(folder, {"name": "static"})
    return FeatureStore.open(folder)


@pytest.mark.parametrize("part", [2, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(tmp_path, monkeypatch, dtype, part):
    monkeypatch.setattr(feature_store_writer, "LEMMAS", part)
    store = write(tmp_path / "features", dtype)
    assert store.static and store.dtype == dtype and store.width == WIDTH and len(store) == 4
    assert store.vocabulary == ["awful", "boring", "plot", "zoo"], "by spelling, not in the order of appearance"
    assert store.offsets.tolist() == [0, 3, 3, 4, 6]
    assert store.word_ids.tolist() == [2, 0, 2, 1, 3, 2] and store.word_ids.dtype == np.int32
    assert store.begins.tolist() == [True, False, True, True, True, False] and store.begins.dtype == bool
    assert isinstance(store.begins, np.memmap) and not store.begins.flags.writeable
    expected = table_of(store.vocabulary)
    if dtype == "int8":
        numbers, scales = quantise(expected)
        expected = numbers * scales[:, None]
    assert store.vectors.shape == (4, WIDTH) and isinstance(store.vectors, np.memmap)
    table = store.table
    assert table is not None and table.dtype == np.float32
    np.testing.assert_allclose(table, expected, rtol=1e-6)
    np.testing.assert_array_equal(store.read(np.arange(6)), table[store.word_ids])
    np.testing.assert_array_equal(store.read_lemmas(np.array([3, 0])), table[[3, 0]])
    means = store.means(np.array([1, 0, -1, 3]))
    np.testing.assert_allclose(means[1], table[[2, 0, 2]].mean(0), rtol=1e-5)
    np.testing.assert_allclose(means[3], table[[3, 2]].mean(0), rtol=1e-5)
    assert not means[[0, 2]].any()


def test_a_contextual_store_has_no_table(tmp_path):
    writer = StoreWriter(tmp_path / "shards", WIDTH, "s", 1)
    with pytest.raises(ValueError, match="a static store takes shards without vectors"):
        writer.write_shard(0, pack_words([["plot"]], [[True]]))
    writer.write_shard(0, pack([np.ones((2, WIDTH), np.float16)], [["plot", "awful"]], [[True, False]], WIDTH))
    writer.finish(tmp_path / "features", {})
    store = FeatureStore.open(tmp_path / "features")
    assert not store.static and store.table is None and store.vocabulary == ["awful", "plot"]
    assert store.word_ids.tolist() == [1, 0]
    with pytest.raises(ValueError, match="contextual"):
        store.read_lemmas(np.array([0]))
    # Shards of the other kind are discarded.
    assert StoreWriter(tmp_path / "shards", WIDTH, "s", 1, static=True).done() == set()


def test_lemmas_that_are_missing_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_store_writer, "LEMMAS", 2)
    writer = StoreWriter(tmp_path / "shards", WIDTH, "s", len(REVIEWS), static=True)
    with pytest.raises(DataError, match=r"lacks shards \[0, 1, 2, 3\]"):
        writer.lemmas()
    for k, reviews in enumerate(REVIEWS):
        writer.write_shard(k, pack_words(reviews, BEGINS[k]))
    assert writer.lemmas() == [["awful", "boring"], ["plot", "zoo"]]
    writer.write_lemmas(1, table_of(["plot", "zoo"]))
    assert writer.lemmas_done() == {1}
    with pytest.raises(DataError, match=r"lacks vectors of lemmas \[0\]"):
        writer.finish(tmp_path / "features", {})
    with pytest.raises(ValueError, match="wide"):
        writer.write_lemmas(0, np.zeros((2, 3), np.float16))
    path = tmp_path / "shards" / "lemmas-000001.npz"
    path.write_bytes(path.read_bytes()[:-40])
    writer.write_lemmas(0, table_of(["awful", "boring"]))
    with pytest.raises(DataError, match=r"lemmas-000001\.npz is damaged"):
        writer.finish(tmp_path / "features", {})
    assert writer.lemmas_done() == {0}
    assert write(tmp_path / "features").vocabulary == ["awful", "boring", "plot", "zoo"]


@pytest.mark.parametrize("name", [*files_of("int8"), "features.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_noticed_and_named(tmp_path, name, damage):
    write(tmp_path / "features", "int8")
    path = tmp_path / "features" / name
    content = bytearray(path.read_bytes())
    content[-9 if name != "features.json" else 0] ^= 255
    path.write_bytes(content[:-3] if damage == "cut" else content)
    if damage == "remove":
        path.unlink()
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        FeatureStore.open(path.parent)


def test_a_table_is_not_taken_for_vectors_of_words(tmp_path):
    write(tmp_path / "features")
    description = json.loads((tmp_path / "features" / "features.json").read_text())
    assert description["format"] == 7
    (tmp_path / "features" / "features.json").write_text(json.dumps({**description, "format": 5}))
    with pytest.raises(DataError, match="do not belong together"):
        FeatureStore.open(tmp_path / "features")


# Preparation ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Sources:
    made = generate_demo(tmp_path_factory.mktemp("raw"), users=10, items=20, reviews=120)
    return Sources((made["reviews"],), made["meta"])


def make(root: Path, sources: Sources, **changes: Any) -> dict[str, Any]:
    limits = {"user_min": 3, "item_min": 2, "threads": 1}
    return prepare(NAME, root, Config("DReX", NAME, config_dict={**limits, **changes}).preparation(), sources)


def content(root: Path) -> dict[str, str]:
    paths = [path for path in (root / NAME).rglob("*") if path.is_file() and path.name != TIMES]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def test_an_interrupted_encoding_of_lemmas_resumes(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "SHARD", 16)
    monkeypatch.setattr(feature_store_writer, "LEMMAS", 32)
    make(tmp_path / "whole", raw)
    call, calls = StaticVectors.__call__, []

    def failing(self, lemmas):
        calls.append(len(lemmas))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return call(self, lemmas)

    monkeypatch.setattr(StaticVectors, "__call__", failing)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "stopped", raw)
    folder = tmp_path / "stopped" / NAME
    assert len(list((folder / "features.partial").glob("lemmas-*.npz"))) == 2
    make(tmp_path / "stopped", raw)
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")
    assert len(calls) == 1 + -(-len(FeatureStore.open(folder / "features").vocabulary) // 32)


def test_words_beyond_max_length_are_kept(raw, tmp_path):
    store = [
        FeatureStore.open(tmp_path / str(length) / NAME / "features")
        for length in (8, 256)
        if make(tmp_path / str(length), raw, max_length=length)
    ]
    assert len(store[0].word_ids) == len(store[1].word_ids) and store[0].signature == store[1].signature


def test_other_settings_of_sentences_encode_no_lemma_again(raw, tmp_path, monkeypatch):
    make(tmp_path, raw)
    before = content(tmp_path)
    monkeypatch.setattr(StaticVectors, "__call__", lambda *arguments: pytest.fail("encoded again"))
    make(tmp_path, raw, precision="float32", max_length=32)
    after = content(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {
        f"{NAME}/SHA256SUMS", f"{NAME}/{NAME}.json", f"{NAME}/items/items.json", f"{NAME}/items/text.npy",
    }  # fmt: skip


@needs_openvino
def test_a_data_set_encoded_by_openvino_is_used_without_it(raw, tmp_path, monkeypatch, caplog):
    made = {
        engine: make(tmp_path / engine, raw, encoder_engine=engine, precision="float32")
        for engine in ("torch", "openvino", "auto")
    }
    assert made["auto"]["encoder"] == made["openvino"]["encoder"] == {**made["torch"]["encoder"], "engine": "openvino"}
    assert [one["settings"].get("encoder_engine") for one in made.values()] == ["torch", "openvino", None]
    stores = [FeatureStore.open(tmp_path / engine / NAME / "features") for engine in ("torch", "openvino")]
    np.testing.assert_allclose(stores[0].table, stores[1].table, atol=2e-3)

    monkeypatch.setitem(sys.modules, "openvino", None)
    assert make(tmp_path / "openvino", Sources(), encoder_engine="openvino", precision="float32") == made["openvino"]
    assert make(tmp_path / "auto", raw, precision="float32") == made["auto"]
    assert not caplog.messages
    vectors = static_vectors_of(made["openvino"]["encoder"], "minilm")(["xylophone"])
    assert ["encoded by OpenVINO, which cannot be used here" in line for line in caplog.messages] == [True]
    np.testing.assert_array_equal(vectors, StaticVectors("minilm", engine="torch")(["xylophone"]))
    with pytest.raises(ConfigError, match="encoder_engine 'openvino' needs OpenVINO"):
        make(tmp_path / "new", raw, encoder_engine="openvino")


def test_texts_of_items_are_read_by_a_sentence_encoder(raw, tmp_path, monkeypatch):
    make(tmp_path / "static", raw, precision="float32")
    make(tmp_path / "contextual", raw, precision="float32", encoder="minilm")
    words = {
        word
        for path in ("static", "contextual")
        for word in FeatureStore.open(tmp_path / path / NAME / "features").vocabulary
    }
    lines = [f"{word} {k % 7} 1 {k % 3}" for k, word in enumerate(sorted(words))]
    (tmp_path / "glove.txt").write_text("\n".join(lines))
    make(tmp_path / "file", raw, precision="float32", static_vectors=str(tmp_path / "glove.txt"))
    result = [ItemFeatures(tmp_path / path / NAME / FOLDER) for path in ("static", "contextual", "file")]
    vectors = [one.vectors("text", result[0].items) for one in result]
    assert vectors[0].any()
    np.testing.assert_array_equal(vectors[1], vectors[0])
    np.testing.assert_array_equal(vectors[2], vectors[0])
    assert FeatureStore.open(tmp_path / "file" / NAME / "features").width == 3


def test_another_file_of_vectors_is_noticed(raw, tmp_path):
    make(tmp_path / "minilm", raw)
    vocabulary = FeatureStore.open(tmp_path / "minilm" / NAME / "features").vocabulary
    path = tmp_path / "glove.txt"
    path.write_text("".join(f"{word} 1 {k}\n" for k, word in enumerate(vocabulary)))
    first = make(tmp_path / "file", raw, static_vectors=str(path))
    store = FeatureStore.open(tmp_path / "file" / NAME / "features")
    np.testing.assert_array_equal(store.table, np.stack([np.ones(len(vocabulary)), np.arange(len(vocabulary))], 1))
    before = content(tmp_path / "file")
    assert make(tmp_path / "file", raw, static_vectors=str(path)) == first
    assert content(tmp_path / "file") == before
    path.write_text("".join(f"{word} 2 {k}\n" for k, word in enumerate(vocabulary)))
    second = make(tmp_path / "file", raw, static_vectors=str(path))
    assert second["fingerprint"] != first["fingerprint"]
    assert FeatureStore.open(tmp_path / "file" / NAME / "features").table[:, 0].tolist() == [2.0] * len(vocabulary)
    path.unlink()
    assert make(tmp_path / "file", Sources(), static_vectors=str(path)) == second, "a prepared data set does without it"


def test_a_data_set_that_was_prepared_before_there_were_static_vectors(raw, tmp_path):
    made = make(tmp_path, raw, encoder="minilm")
    assert "static_vectors" not in made["settings"]
    assert make(tmp_path, Sources(), encoder="minilm") == made
    with pytest.raises(DataError, match="other settings"):
        make(tmp_path, Sources())


# Models -----------------------------------------------------------------------------------------------------------


def test_new_users_may_write_words_that_are_not_in_the_data_set(make_experiment, train):
    experiment = make_experiment("DReX", epochs=1)
    train(experiment)
    users = NewUsers(Recommender(experiment))
    store = experiment.model.attention.store
    posted = [
        PostedInteraction(str(experiment.dataset.field2id_token["item_id"][1]), 4.0, f"{store.vocabulary[3]} xylophone")
    ]
    (vectors,), ((known, unknown),), (begins,) = users.words([one.review for one in posted])
    assert begins == [True, False]
    assert (known, unknown) == (store.vocabulary[3], "xylophone") and "xylophone" not in store.vocabulary
    np.testing.assert_array_equal(vectors[0], store.table[3])
    np.testing.assert_array_equal(vectors[1].numpy(), StaticVectors("minilm", engine="torch")(["xylophone"])[0])
    assert torch.isfinite(users.view(posted).scores()[1:]).all()
