"""The feature store: round trip, resumption, damage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_drex.data.text.feature_store import DTYPES, FeatureStore, files_of
from recbole_drex.data.text.feature_store_writer import StoreWriter, pack, pack_words, quantise
from recbole_drex.errors import DataError, StorageError
from recbole_drex.utils.files import sha256

WIDTH = 5
Shard = tuple[list[np.ndarray], list[list[str]], list[list[bool]]]


def make_shard(seed: int, lengths: list[int]) -> Shard:
    rng = np.random.default_rng(seed)
    vectors = [rng.normal(size=(n, WIDTH)).astype(np.float16) for n in lengths]
    words = [[f"word{rng.integers(9)}" for _ in range(n)] for n in lengths]
    return vectors, words, [[bool(rng.integers(2)) for _ in range(n)] for n in lengths]


def write(folder: Path, shards: list[Shard], signature: str = "s", dtype: str = "float16") -> FeatureStore:
    writer = StoreWriter(folder.with_name("shards"), WIDTH, signature, len(shards), dtype)
    for k, shard in enumerate(shards):
        writer.write_shard(k, pack(*shard, WIDTH))
    writer.finish(folder, {"encoder": {"name": "none"}})
    return FeatureStore.open(folder)


def check(store: FeatureStore, shards: list[Shard], dtype: str = "float16") -> None:
    vectors = [array for shard in shards for array in shard[0]]
    lemmas = [words for shard in shards for words in shard[1]]
    begins = [marks for shard in shards for marks in shard[2]]
    assert len(store) == len(vectors)
    assert store.width == WIDTH
    assert store.vectors.dtype == dtype == store.dtype
    assert store.offsets.dtype == np.int64
    assert store.word_ids.dtype == np.int32
    assert store.begins.dtype == bool and store.begins.shape == store.word_ids.shape
    assert len(set(store.vocabulary)) == len(store.vocabulary)
    for row, (array, words, marks) in enumerate(zip(vectors, lemmas, begins, strict=True)):
        span = slice(store.offsets[row], store.offsets[row + 1])
        result = store.read(np.arange(span.start, span.stop)).numpy()
        assert result.dtype == np.float32 and result.shape == array.shape
        if dtype == "float16":
            np.testing.assert_array_equal(store.vectors[span], array)
            np.testing.assert_array_equal(result, array)
        else:
            np.testing.assert_array_equal(store.vectors[span], quantise(array)[0])
            np.testing.assert_array_equal(store.scales[span], quantise(array)[1])
            np.testing.assert_allclose(result, array, atol=np.abs(array).max(initial=0) / 253)
        assert [store.vocabulary[i] for i in store.word_ids[span]] == words[: len(array)]
        assert store.begins[span].tolist() == marks[: len(array)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=4), max_size=4), st.sampled_from(DTYPES))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, lengths: list[list[int]], dtype: str) -> None:
    shards = [make_shard(k, shard) for k, shard in enumerate(lengths)]
    check(write(tmp_path_factory.mktemp("data") / "features", shards, dtype=dtype), shards, dtype)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bytes_that_are_needed_are_those_that_are_written(tmp_path: Path, dtype: str, static: bool) -> None:
    width, lengths = 300, [40, 0, 25]
    rng = np.random.default_rng(0)
    words = [[f"word{number}" for number in rng.integers(50, size=length)] for length in lengths]
    begins = [[False] * length for length in lengths]
    vectors = [rng.normal(size=(length, width)).astype(np.float16) for length in lengths]
    shard = pack_words(words, begins) if static else pack(vectors, words, begins, width)
    writer = StoreWriter(tmp_path / "shards", width, "s", 2, dtype, static)
    writer.write_shard(0, shard)
    if static:
        writer.write_shard(1, shard)
        lemmas = [lemma for part in writer.lemmas() for lemma in part]
        needed = writer.needed_bytes(len(lemmas), len(lemmas))
        before = _bytes(tmp_path)
        writer.write_lemmas(0, rng.normal(size=(len(lemmas), width)).astype(np.float16))
    else:
        needed, before = writer.needed_bytes(65, 130), _bytes(tmp_path)
        writer.write_shard(1, shard)
    assert writer.words() == 130
    writer.finish(tmp_path / "features", {})
    written = _bytes(tmp_path) - before
    assert needed < written < needed + 8000  # headers, and spellings of lemmas

    with pytest.raises(StorageError, match=r"^cannot write word features to .*: No space left for [\d,]{20,} bytes"):
        writer.check_space(10**15, 10**15)
    writer.check_space(0, 1)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@given(st.lists(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=3, max_size=3)))
def test_rounding_is_off_by_half_a_scale_at_most(values: list[list[float]]) -> None:
    vectors = np.array(values, dtype=np.float16).reshape(-1, 3)
    numbers, scales = quantise(vectors)
    assert numbers.dtype == np.int8 and scales.dtype == np.float32 and scales.shape == vectors.shape[:1]
    error = np.abs(vectors - numbers.astype(np.float64) * scales[:, None])
    assert (error <= scales[:, None] * 0.50001).all()
    largest = np.abs(vectors).max(1, initial=0)
    assert (np.abs(numbers).max(1, initial=0) == np.where(largest > 0, 127, 0)).all()
    np.testing.assert_allclose(scales * 127, largest, rtol=1e-6)
    # Vectors are rounded one by one, and back and forth.
    for one, other in zip(quantise(-vectors[::-1]), (-numbers[::-1], scales[::-1]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_any_positions_are_read(tmp_path: Path) -> None:
    shards = [make_shard(0, [3, 0, 2])]
    stores = [write(tmp_path / dtype, shards, dtype=dtype) for dtype in DTYPES]
    positions = np.array([4, 0, 0, 2])
    for store in stores:
        np.testing.assert_array_equal(store.read(positions), store.read(np.arange(5))[positions])
        assert store.read(positions[:0]).shape == (0, WIDTH)
        means = store.means(np.array([2, -1, 1, 0]))
        np.testing.assert_allclose(means[[0, 3]], [store.read(at).mean(0) for at in (np.arange(3, 5), np.arange(3))])
        assert not means[[1, 2]].any()


def test_bytes_of_a_word(tmp_path: Path) -> None:
    for dtype, bytes_ in (("float16", 2 * WIDTH), ("int8", WIDTH + 4)):
        store = write(tmp_path / dtype, [make_shard(0, [7])], dtype=dtype)
        files = [store.vectors] if store.scales is None else [store.vectors, store.scales]
        assert all(isinstance(file, np.memmap) and not file.flags.writeable for file in files)
        assert sum(file.nbytes for file in files) == 7 * bytes_


def test_a_store_of_another_kind_of_number_takes_the_same_shards(tmp_path: Path) -> None:
    folder, shards = tmp_path / "features", [make_shard(k, [2, 1]) for k in range(2)]
    parts = tmp_path / "shards"
    StoreWriter(parts, WIDTH, "s", 2).write_shard(1, pack(*shards[1], WIDTH))
    again = StoreWriter(parts, WIDTH, "s", 2, "int8")
    assert again.done() == {1}
    again.write_shard(0, pack(*shards[0], WIDTH))
    again.finish(folder, {})
    check(FeatureStore.open(folder), shards, "int8")
    check(write(folder, shards), shards)
    assert not (folder / "scales.npy").exists()


def test_files_are_standard_and_mapped(tmp_path: Path) -> None:
    shards = [make_shard(0, [3, 0, 2]), make_shard(1, [])]
    store = write(tmp_path / "features", shards)
    assert all(isinstance(array, np.memmap) for array in (store.vectors, store.word_ids, store.begins))
    assert not store.vectors.flags.writeable and not store.begins.flags.writeable
    np.testing.assert_array_equal(np.load(tmp_path / "features" / "vectors.npy"), np.concatenate(shards[0][0]))
    assert store.settings == {"encoder": {"name": "none"}}
    assert store.signature == "s"


@pytest.mark.parametrize("lengths", [[], [[]], [[0, 0]], [[], [0], []]])
def test_no_words_or_no_reviews(tmp_path: Path, lengths: list[list[int]]) -> None:
    store = write(tmp_path / "features", [make_shard(0, shard) for shard in lengths])
    assert len(store) == sum(map(len, lengths))
    assert store.vectors.shape == (0, WIDTH)
    assert store.offsets.tolist() == [0] * (len(store) + 1)


def test_words_beyond_the_encoders_reach_are_dropped(tmp_path: Path) -> None:
    vectors = [np.ones((2, WIDTH), dtype=np.float16)]
    store = write(tmp_path / "features", [(vectors, [["a", "b", "far", "away"]], [[True, False, True, False]])])
    assert store.vocabulary == ["a", "b"] and store.begins.tolist() == [True, False]


def test_a_store_made_in_memory_has_one_sentence_a_review():
    vectors, offsets, words = np.zeros((5, WIDTH), np.float16), np.array([0, 2, 2, 5]), np.zeros(5, np.int32)
    begins = np.array([True, True, False, False, True])
    given = FeatureStore(vectors, offsets, words, ["a"], {}, "", begins=begins)
    assert given.begins is begins
    store = FeatureStore(vectors, offsets, words, ["a"], {}, "")
    assert store.begins.tolist() == [True, False, True, False, False]
    nothing = FeatureStore(vectors[:0], offsets[:1], words[:0], [], {}, "")
    assert nothing.begins.tolist() == []


def test_resumes_and_discards_shards_of_other_settings(tmp_path: Path) -> None:
    folder, store = tmp_path / "shards", tmp_path / "features"
    shards = [make_shard(k, [2, 1]) for k in range(3)]
    StoreWriter(folder, WIDTH, "s", 3).write_shard(1, pack(*shards[1], WIDTH))
    again = StoreWriter(folder, WIDTH, "s", 3)
    assert again.done() == {1}
    with pytest.raises(DataError, match=r"lacks shards \[0, 2\]"):
        again.finish(store, {})
    assert not store.exists()
    for k in (2, 0):
        again.write_shard(k, pack(*shards[k], WIDTH))
    for _ in range(2):
        again.finish(store, {})
        check(FeatureStore.open(store), shards)
    assert StoreWriter(folder, WIDTH, "s", 3).done() == {0, 1, 2}
    assert StoreWriter(folder, WIDTH, "other", 3).done() == set()
    check(FeatureStore.open(store), shards)


def test_replaces_an_old_store(tmp_path: Path) -> None:
    write(tmp_path / "features", [make_shard(0, [4])], "old")
    shards = [make_shard(1, [1, 2])]
    check(write(tmp_path / "features", shards, "new"), shards)


def test_damaged_shard_is_removed_and_named(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "shards", WIDTH, "s", 1)
    writer.write_shard(0, pack(*make_shard(0, [200]), WIDTH))
    path = next(writer.folder.glob("shard-*"))
    content = bytearray(path.read_bytes())
    content[len(content) - 2500] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"shard-000000\.npz is damaged"):
        writer.finish(tmp_path / "features", {})
    assert writer.done() == set()


def test_leftovers_of_a_broken_finish_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "vectors.npy").write_bytes(b"half")
    shards = [make_shard(1, [1, 2])]
    check(write(tmp_path / "features", shards), shards)


LOOP = """
import sys
from test_feature_store import *
folder, shards = Path(sys.argv[1]), [make_shard(k, [3, 0, 40]) for k in range(6)]
writer = StoreWriter(folder.with_name("shards"), WIDTH, "s", 6, sys.argv[2])
print("started", flush=True)
for k in sorted(set(range(6)) - writer.done()):
    writer.write_shard(k, pack(*shards[k], WIDTH))
writer.finish(folder, {})
"""


@pytest.mark.parametrize("dtype", ["float16", pytest.param("int8", marks=pytest.mark.slow)])
def test_kill_at_any_moment(tmp_path: Path, dtype: str) -> None:
    folder, root = tmp_path / "features", Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{Path(__file__).parent}"}
    for milliseconds in (1, 4, 8, 12, 16, 20):
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(folder), dtype], cwd=root, env=environment, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    subprocess.run([sys.executable, "-c", LOOP, str(folder), dtype], cwd=root, env=environment, check=True)
    check(FeatureStore.open(folder), [make_shard(k, [3, 0, 40]) for k in range(6)], dtype)


@pytest.mark.parametrize("name", [*files_of("int8"), "features.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_damage_is_noticed_and_named(tmp_path: Path, name: str, damage: str) -> None:
    write(tmp_path / "Games" / "features", [make_shard(0, [3, 2])], dtype="int8")
    path = tmp_path / "Games" / "features" / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-9 if name != "features.json" else 0] ^= 255
    path.write_bytes({"cut": content[:-3], "empty": b""}.get(damage, content))
    if damage == "remove":
        path.unlink()
    with pytest.raises(DataError) as caught:
        FeatureStore.open(path.parent)
    assert name in str(caught.value)
    assert "recbole-drex prepare --dataset Games --rebuild" in str(caught.value)


def test_wrong_sizes_are_noticed_without_hashes(tmp_path: Path) -> None:
    store = tmp_path / "features"
    write(store, [make_shard(0, [3, 2])])
    with (store / "vectors.npy").open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=r"vectors\.npy has"):
        FeatureStore.open(store, verify=False)


def test_files_of_two_stores_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "a", [make_shard(0, [3, 2])])
    description = json.loads((tmp_path / "a" / "features.json").read_text())
    description["words"] = 4
    (tmp_path / "a" / "features.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="do not belong together"):
        FeatureStore.open(tmp_path / "a")


def test_numbers_of_another_kind_are_not_taken_for_the_right_ones(tmp_path: Path) -> None:
    write(tmp_path / "a", [make_shard(0, [3, 2])], dtype="int8")
    description = json.loads((tmp_path / "a" / "features.json").read_text())
    assert description["format"] == 6
    (tmp_path / "a" / "features.json").write_text(json.dumps({**description, "format": 5}))
    with pytest.raises(DataError, match="do not belong together"):
        FeatureStore.open(tmp_path / "a")


@pytest.mark.parametrize("older", [1, 2, 3, 4])
def test_a_store_without_sentence_bounds_is_refused(tmp_path: Path, older: int) -> None:
    folder = tmp_path / "Games" / "features"
    write(folder, [make_shard(0, [3, 2])])
    description = json.loads((folder / "features.json").read_text())
    del description["files"]["begins.npy"]
    (folder / "begins.npy").unlink()
    (folder / "features.json").write_text(json.dumps({**description, "format": older}))
    with pytest.raises(DataError, match=r"of another version: rebuild with .*--dataset Games --rebuild`$"):
        FeatureStore.open(folder)


@pytest.mark.parametrize("marks", [np.ones(4, bool), np.ones(5, np.uint8), np.ones((5, 1), bool)])
def test_marks_of_other_words_are_noticed(tmp_path: Path, marks: np.ndarray) -> None:
    write(tmp_path / "a", [make_shard(0, [3, 2])])
    path, description = tmp_path / "a" / "begins.npy", json.loads((tmp_path / "a" / "features.json").read_text())
    path.unlink()  # it is mapped
    np.save(path, marks)
    description["files"][path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    (tmp_path / "a" / "features.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="do not belong together"):
        FeatureStore.open(tmp_path / "a")


def test_shards_that_know_no_sentences_are_discarded(tmp_path: Path) -> None:
    folder, shard = tmp_path / "shards", make_shard(0, [3, 2])
    StoreWriter(folder, WIDTH, "s", 2).write_shard(0, pack(*shard, WIDTH))
    plan = json.loads((folder / "plan.json").read_text())
    assert StoreWriter(folder, WIDTH, "s", 2).done() == {0}
    (folder / "plan.json").write_text(json.dumps({**plan, "format": 1}))
    assert StoreWriter(folder, WIDTH, "s", 2).done() == set()


def test_missing_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no feature store"):
        FeatureStore.open(tmp_path / "features")


def test_arguments_must_fit(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "features", WIDTH, "s", 1)
    good = np.ones((1, WIDTH), dtype=np.float16)
    for k, vectors, lemmas, begins in (
        (1, [good], [["a"]], [[True]]),
        (0, [good], [], []),
        (0, [good], [[]], [[]]),
        (0, [good], [["a"]], [[]]),
        (0, [good], [["a"]], []),
        (0, [good[:, :2]], [["a"]], [[True]]),
        (0, [good.astype(np.float32)], [["a"]], [[True]]),
    ):
        with pytest.raises(ValueError, match=r"shard|lemma|float16|shorter"):
            writer.write_shard(k, pack(vectors, lemmas, begins, WIDTH))
    with pytest.raises(ValueError, match="wide"):
        writer.write_shard(0, pack([good[:, :2]], [["a"]], [[True]], 2))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot write"):
        StoreWriter(tmp_path / "features", WIDTH, "s", 1)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(DataError, match="cannot write"):
        StoreWriter(tmp_path / "taken" / "features", WIDTH, "s", 1)
