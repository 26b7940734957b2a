"""Raw reviews to a prepared data set: reuse, rebuilding, interruption, damage, and data sets of other origin."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from recbole_drex.cli.main import main
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.dataset import ReviewDataset
from recbole_drex.data.prepare import atomic_files
from recbole_drex.data.prepare import pipeline as module
from recbole_drex.data.prepare.manifest import TIMES
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.data.text.contextual_encoder import MINILM_SHA256, Encoder
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts, write_texts
from recbole_drex.data.text.tokenizer import TextProcessor
from recbole_drex.errors import ConfigError, DataError, StorageError
from recbole_drex.utils.checksums import SUMS
from recbole_drex.utils.files import locked

ROOT = Path(__file__).parents[3]
NAME = "tiny"
LIMITS: dict[str, Any] = {"user_min": 3, "item_min": 2, "threads": 1}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> dict[str, Path]:
    """120 reviews by 10 users about 20 items."""
    return generate_demo(tmp_path_factory.mktemp("raw"), users=10, items=20, reviews=120)


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory) -> Path:
    """A prepared data set, never written to; tests copy it."""
    root = tmp_path_factory.mktemp("atomic_data")
    _prepare(root, _sources(raw))
    return root


@pytest.fixture
def root(prepared, tmp_path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "atomic_data"))


def _sources(raw: dict[str, Path]) -> Sources:
    return Sources((raw["reviews"],), raw["meta"])


def _settings(**changes: Any) -> dict[str, Any]:
    return Config("DReX", NAME, config_dict={**LIMITS, **changes}).preparation()


def _prepare(root: Path, sources: Sources, rebuild: bool = False, **changes: Any) -> dict[str, Any]:
    return prepare(NAME, root, _settings(**changes), sources, rebuild=rebuild)


def _files(root: Path) -> dict[str, tuple[int, str]]:
    """Time of writing and hash of every file of the data set."""
    paths = sorted(path for path in (root / NAME).rglob("*") if path.is_file() and path.name != TIMES)
    return {
        str(path.relative_to(root / NAME)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in paths
    }


def _content(root: Path) -> dict[str, str]:
    return {name: digest for name, (_, digest) in _files(root).items()}


def _inter(root: Path, name: str = NAME) -> pd.DataFrame:
    return pd.read_csv(root / name / f"{name}.inter", sep="\t", dtype={"user_id:token": str, "item_id:token": str})


# What is made ---------------------------------------------------------------------------------------------------


def test_files_agree_with_each_other_and_with_the_raw_reviews(prepared, raw):
    manifest = json.loads((prepared / NAME / f"{NAME}.json").read_text())
    table, store = _inter(prepared), FeatureStore.open(prepared / NAME / "features")
    assert set(_files(prepared)) == {
        SUMS,
        f"{NAME}.inter", f"{NAME}.item", f"{NAME}.json", "features/features.json", "features/vectors.npy",
        "features/offsets.npy", "features/word_ids.npy", "features/begins.npy", "features/vocabulary.json",
        "reviews.parquet", "items/items.json", "items/text.npy",
    }  # fmt: skip
    reviewed = table["review_row:float"].notna()
    assert table.loc[reviewed, "review_row:float"].tolist() == list(range(len(store)))
    vocabulary = np.array(store.vocabulary)
    for row, text in enumerate(table.loc[reviewed, "review:token_seq"].fillna("")):
        words = vocabulary[store.word_ids[store.offsets[row] : store.offsets[row + 1]]]
        assert text == " ".join(words)
    assert manifest["words"] == store.offsets[-1] and manifest["vocabulary"] == len(store.vocabulary)
    files = [prepared / NAME / name for name in (f"{NAME}.inter", f"{NAME}.item", "features/features.json")]
    hashes = "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    assert manifest["fingerprint"] == hashlib.sha256(hashes.encode()).hexdigest()[:16], "of what models read alone"

    with gzip.open(raw["reviews"], "rt", encoding="utf-8") as file:
        lines = pd.DataFrame([json.loads(line) for line in file])
    latest = lines.assign(rated=lines["rating"].notna())
    latest = latest.sort_values(["rated", "timestamp"], kind="stable")
    latest = latest.drop_duplicates(["user_id", "parent_asin"], keep="last").set_index(["user_id", "parent_asin"])
    for user, item, rating, timestamp in table.iloc[:, :4].itertuples(index=False):
        row = latest.loc[(user, item)]
        assert (np.isnan(rating) and pd.isna(row["rating"])) or rating == row["rating"]
        assert (np.isnan(timestamp) and pd.isna(row["timestamp"])) or timestamp == row["timestamp"] / 1000
    texts = ReviewTexts(prepared / NAME / TEXTS)
    assert len(texts) == len(store)
    for pair, text in zip(
        table.loc[reviewed].iloc[:, :2].itertuples(index=False), texts[range(len(texts))], strict=True
    ):
        row = latest.loc[tuple(pair)]
        title, body = (str(row[name]).strip() if pd.notna(row[name]) else "" for name in ("title", "text"))
        assert text == (f"{title}. {body}" if title and body else title or body)
    sources = [{"name": path.name, "bytes": path.stat().st_size} for path in (raw["reviews"], raw["meta"])]
    assert [{key: source[key] for key in ("name", "bytes")} for source in manifest["sources"]] == sources
    for source, path in zip(manifest["sources"], (raw["reviews"], raw["meta"]), strict=True):
        assert source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    described = {name: manifest["encoder"][name] for name in ("name", "static_vectors", "sentence_encoder")}
    assert described == {"name": "static", "static_vectors": "minilm", "sentence_encoder": "minilm"}
    assert manifest["encoder"]["weights_sha256"] == MINILM_SHA256


def test_statistics_are_those_of_the_interactions(prepared, raw, tmp_path, capsys):
    arguments = ["--raw", str(raw["reviews"]), "--meta", str(raw["meta"]), "--data_path", str(prepared)]
    assert main(["prepare", "--dataset", NAME, *arguments, "--user_min", "3", "--item_min", "2"]) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith(f"| {NAME}"))
    table = _inter(prepared)
    users, items, rated = table["user_id:token"].nunique(), table["item_id:token"].nunique(), table["rating:float"]
    shares = [1 - rated.count() / (users * items), table["review_row:float"].isna().mean(), rated.isna().mean()]
    expected = [NAME, str(users), str(items), str(len(table)), *(f"{100 * share:.2f}" for share in shares)]
    assert [cell.strip() for cell in row.strip("|").split("|")] == expected


# Reuse and rebuilding -------------------------------------------------------------------------------------------


def test_a_second_call_rewrites_nothing(root, raw):
    before = _files(root)
    with_raw = _prepare(root, _sources(raw))
    without = _prepare(root, Sources())
    assert with_raw == without == json.loads((root / NAME / f"{NAME}.json").read_text())
    assert _files(root) == before


def test_rebuilding_gives_the_same_bytes(root, raw):
    before = _files(root)
    _prepare(root, _sources(raw), rebuild=True)
    after = _files(root)
    assert {name: digest for name, (_, digest) in after.items()} == {name: d for name, (_, d) in before.items()}
    assert all(after[name][0] > before[name][0] for name in after)


def test_interactions_written_in_blocks_are_the_same(root, raw, monkeypatch):
    before = _content(root)
    (root / NAME / f"{NAME}.json").unlink()
    monkeypatch.setattr(atomic_files, "_BLOCK", 7)
    _prepare(root, _sources(raw))
    assert _content(root) == before


@pytest.mark.parametrize("change", [{"user_min": 4}, {"lemmatizer": "none"}, {"max_length": 16}, {"use_title": False}])
def test_other_settings_prepare_again(root, raw, change):
    before = _content(root)
    manifest = _prepare(root, _sources(raw), **change)
    (key, value), *_ = change.items()
    assert manifest["settings"][key] == value
    assert _content(root) != before
    with pytest.raises(DataError, match=r"other settings.*--raw"):
        _prepare(root, Sources())


def test_word_features_of_8_bits(root, raw, make_config):
    """They are encoded alike and rounded; the manifest of a data set of 16 bits has no new settings."""
    exact, before = FeatureStore.open(root / NAME / "features"), json.loads((root / NAME / f"{NAME}.json").read_text())
    exact_vectors = exact.read(np.arange(len(exact.word_ids)))
    assert "store_dtype" not in before["settings"]
    manifest = _prepare(root, _sources(raw), store_dtype="int8")
    assert manifest["settings"] == {**before["settings"], "store_dtype": "int8"}
    assert manifest["fingerprint"] != before["fingerprint"]
    assert {**manifest["files"], **before["files"]} == {**before["files"]}, "the same files, but for the features"
    store = FeatureStore.open(root / NAME / "features")
    assert (store.dtype, store.signature) == ("int8", exact.signature)
    np.testing.assert_array_equal(store.offsets, exact.offsets)
    vectors = store.read(np.arange(len(store.word_ids)))
    assert not np.array_equal(vectors, exact_vectors)
    np.testing.assert_allclose(vectors, exact_vectors, atol=float(exact_vectors.abs().max()) / 253)
    assert _prepare(root, Sources(), store_dtype="int8") == manifest
    with pytest.raises(DataError, match=r"other settings.*--raw"):
        _prepare(root, Sources())
    assert _prepare(root, _sources(raw)) == before


def test_changed_raw_reviews_prepare_again(root, raw, tmp_path):
    lines = gzip.decompress(raw["reviews"].read_bytes()).splitlines(keepends=True)
    changed = tmp_path / raw["reviews"].name
    changed.write_bytes(gzip.compress(b"".join(lines[:-5])))
    before = json.loads((root / NAME / f"{NAME}.json").read_text())
    after = _prepare(root, Sources((changed,), raw["meta"]))
    assert after["fingerprint"] != before["fingerprint"]
    assert after["counts"][0]["interactions"] == before["counts"][0]["interactions"] - 5
    # The item file is a source as well.
    without_meta = _prepare(root, Sources((changed,)))
    assert len(without_meta["sources"]) == 1


def test_unrated_rows_are_left_aside_at_run_time_alone(root, raw):
    before = _files(root)
    table = _inter(root)
    n_unrated = int(table["rating:float"].isna().sum())
    assert n_unrated > 0
    for keep in (True, False):
        config = Config("Bias", NAME, config_dict={**LIMITS, "keep_unrated": keep, "data_path": str(root)})
        prepare(NAME, root, config.preparation(), _sources(raw))
        dataset = ReviewDataset(config)
        assert len(dataset) == len(table) - n_unrated
        assert (len(dataset.unrated) > 0) == keep
    assert _files(root) == before


@pytest.mark.parametrize("older", [1, 2])
def test_a_data_set_of_an_older_format_gets_what_it_lacks(root, raw, monkeypatch, older):
    """Review texts (1) and vectors of items (1 and 2); the reviews are not encoded again, so it takes no time."""
    before = _content(root)
    seconds = json.loads((root / NAME / TIMES).read_text())
    path = root / NAME / f"{NAME}.json"
    manifest = json.loads(path.read_text())
    for name in [name for name in manifest["files"] if name.startswith("items/") or (older == 1 and name == TEXTS)]:
        del manifest["files"][name]
        (root / NAME / name).unlink()
    for name in ("item_features", "images", "image_encoder"):
        del manifest["settings"][name]
    path.write_text(json.dumps({**manifest, "format": older}))
    (root / NAME / SUMS).unlink()
    encode, calls = Encoder.encode, []
    monkeypatch.setattr(Encoder, "encode", lambda self, texts: calls.append(len(texts)) or encode(self, texts))
    assert _prepare(root, Sources())["format"] == older, "without raw reviews it serves as it is"
    with pytest.raises(DataError, match="other settings"):
        _prepare(root, Sources(), item_features={"image": "image.npy"})
    assert _prepare(root, _sources(raw))["fingerprint"] == manifest["fingerprint"]
    assert calls == [manifest["statistics"]["items"]], "texts of items alone"
    assert _content(root) == before
    assert json.loads((root / NAME / TIMES).read_text())["encode"] == seconds["encode"]


@pytest.mark.parametrize("encoder", ["static", "minilm"])
def test_sentences_begin_where_the_raw_reviews_say_so(raw, tmp_path, encoder):
    changes = {"encoder": encoder, "max_length": 16}
    _prepare(tmp_path, _sources(raw), **changes)
    store, processor = FeatureStore.open(tmp_path / NAME / "features"), TextProcessor()
    texts = ReviewTexts(tmp_path / NAME / TEXTS)
    words = [processor(text) for text in texts[range(len(texts))]]
    kept = np.diff(store.offsets)
    cut = kept < [len(review.lemmas) for review in words]
    assert cut.any() == (encoder == "minilm"), "words that the encoder does not read"
    expected = [mark for review, n in zip(words, kept, strict=True) for mark in review.begins[:n]]
    assert store.begins.tolist() == expected
    assert len(store) < store.begins.sum() < len(store.word_ids)


def test_a_data_set_without_sentence_bounds_is_prepared_again(root, raw, caplog):
    before, folder = _content(root), root / NAME / "features"
    (folder / "begins.npy").unlink()
    path, manifest_path = folder / "features.json", root / NAME / f"{NAME}.json"
    description, manifest = json.loads(path.read_text()), json.loads(manifest_path.read_text())
    del description["files"]["begins.npy"]
    path.write_text(json.dumps({**description, "format": 3, "signature": "older"}))
    manifest["files"]["features/features.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest_path.write_text(json.dumps(manifest))
    (root / NAME / SUMS).unlink()
    with pytest.raises(DataError, match=r"of another version.*--rebuild.*with --raw FILE$"):
        _prepare(root, Sources())
    _prepare(root, _sources(raw))
    assert "is prepared again" in caplog.text
    assert _content(root) == before


def test_features_of_the_same_texts_are_not_encoded_again(root, raw, monkeypatch):
    """The texts of items are not encoded again either; another item file, or none, is read quickly."""
    before = _content(root)
    fingerprint = json.loads((root / NAME / f"{NAME}.json").read_text())["fingerprint"]
    monkeypatch.setattr(Encoder, "encode", lambda *arguments: pytest.fail("encoded again"))
    (root / NAME / f"{NAME}.json").unlink()
    assert _prepare(root, _sources(raw))["fingerprint"] == fingerprint
    assert _content(root) == before
    assert _prepare(root, Sources((raw["reviews"],)))["fingerprint"] != fingerprint
    assert not (root / NAME / "items").exists()


@pytest.mark.parametrize("encoder", ["static", "minilm"])
def test_a_disk_that_is_too_small_is_noticed_before_reviews_are_encoded(raw, tmp_path, monkeypatch, encoder):
    encode, count = Encoder.encode, Encoder.count
    calls: list[str] = []
    monkeypatch.setattr(Encoder, "encode", lambda self, reviews: calls.append("encode") or encode(self, reviews))
    monkeypatch.setattr(Encoder, "count", lambda self, reviews: calls.append("count") or count(self, reviews))
    counted = ["count"] if encoder == "minilm" else []  # words are counted only where space is short

    def attempt(free: int) -> dict[str, Any]:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
        calls.clear()
        settings = {"encoder": encoder, "precision": "float32", "encoder_engine": "torch"}
        return _prepare(tmp_path, Sources((raw["reviews"],)), rebuild=free > 1 << 30, **settings)

    with pytest.raises(StorageError, match=r"^cannot write .*: No space left for [\d,]+ bytes, only 9 are") as caught:
        attempt(9)
    assert calls == counted
    needed = int(re.search(r"for ([\d,]+) bytes", str(caught.value))[1].replace(",", ""))
    with pytest.raises(StorageError):
        attempt(needed - 1)
    manifest = attempt(needed)
    assert calls == [*counted, "encode"]
    words, table = manifest["words"], manifest["vocabulary"] * 384 * 2
    assert needed == (2 * table + words * 5 if encoder == "static" else 2 * words * (384 * 2 + 5))
    attempt(1 << 40)
    assert calls == ["encode"]


def test_single_texts_are_read_without_the_others(tmp_path):
    texts = [f"review {row} \u00e9\n<b>" * (row % 7) for row in range(3000)]
    write_texts(tmp_path / TEXTS, (texts[start : start + 1024] for start in range(0, 3000, 1024)))
    assert [path.name for path in tmp_path.iterdir()] == [TEXTS]
    stored = ReviewTexts(tmp_path / TEXTS)
    assert len(stored) == 3000 and stored[range(3000)] == texts
    rows = np.random.default_rng(1).integers(0, 3000, 200)
    assert stored[rows] == [texts[row] for row in rows]
    assert stored[[]] == [] and stored[7] == [texts[7]]
    # Damage in other row groups does not matter.
    content = bytearray((tmp_path / TEXTS).read_bytes())
    content[len(content) // 2 - 50 : len(content) // 2 + 50] = bytes(100)
    (tmp_path / "damaged").write_bytes(content)
    assert ReviewTexts(tmp_path / "damaged")[[0, 2999]] == [texts[0], texts[2999]]
    with pytest.raises(DataError, match=r"damaged.*--rebuild"):
        ReviewTexts(tmp_path / "damaged")[range(3000)]
    for rows in ([-1], [3000], [0, 5000]):
        with pytest.raises(IndexError):
            stored[rows]
    with pytest.raises(DataError, match="nothing"):
        len(ReviewTexts(tmp_path / "nothing"))
    write_texts(tmp_path / TEXTS, [])
    assert ReviewTexts(tmp_path / TEXTS)[[]] == []


# Interruption ---------------------------------------------------------------------------------------------------


def test_an_interrupted_encoding_resumes_from_its_shards(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 16)
    _prepare(tmp_path / "whole", _sources(raw), encoder="minilm")
    encode, calls = Encoder.encode, []

    def failing(self, reviews):
        calls.append(len(reviews))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(self, reviews)

    monkeypatch.setattr(Encoder, "encode", failing)
    with pytest.raises(KeyboardInterrupt):
        _prepare(tmp_path / "stopped", _sources(raw), encoder="minilm")
    folder = tmp_path / "stopped" / NAME
    assert sorted(path.name for path in folder.iterdir()) == ["features.partial"]
    assert len(list((folder / "features.partial").glob("shard-*.npz"))) == 3
    _prepare(tmp_path / "stopped", _sources(raw), encoder="minilm")
    n_shards = -(-len(FeatureStore.open(folder / "features")) // 16)
    assert len(calls) == 5 + 1 + n_shards - 3, "both times the texts of items come first, as they might be bad input"
    assert _content(tmp_path / "stopped") == _content(tmp_path / "whole")


def test_a_killed_preparation_resumes(small, tmp_path):
    words = [sys.executable, "-m", "recbole_drex", "prepare", "--dataset", small.name, "--data_path", str(tmp_path)]
    words += ["--raw", str(small.raw["reviews"]), "--meta", str(small.raw["meta"])]
    words += ["--user_min", str(small.settings["user_min"]), "--item_min", str(small.settings["item_min"])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shard = tmp_path / small.name / "features.partial" / "shard-000000.npz"
    deadline = time.monotonic() + 120
    while not shard.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / small.name / f"{small.name}.json").exists()
    config = Config("DReX", small.name, config_dict=small.settings)
    manifest = prepare(small.name, tmp_path, config.preparation(), Sources((small.raw["reviews"],), small.raw["meta"]))
    assert manifest["files"].keys() == small.manifest["files"].keys()
    assert sorted(path.name for path in (tmp_path / small.name).iterdir()) == sorted(
        path.name for path in (small.root / small.name).iterdir()
    )
    table, expected = _inter(tmp_path, small.name), _inter(small.root, small.name)
    pd.testing.assert_frame_equal(table, expected)


def _stop_before_move(patch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """Interrupt when the given number of files of the data set have been moved."""
    replace, moves = Path.replace, []

    def stopping(self, target):
        if Path(target).parent == folder:
            if len(moves) == number:
                raise KeyboardInterrupt
            moves.append(target)
        return replace(self, target)

    patch.setattr(Path, "replace", stopping)


def test_a_preparation_stopped_while_files_are_moved_resumes_without_raw_files(root, raw, tmp_path):
    """Of other texts, and without items, so that all files are replaced and some are removed."""
    folder, other = root / NAME, Sources((raw["reviews"],))
    with pytest.MonkeyPatch.context() as patch:
        _stop_before_move(patch, folder, 0)
        with pytest.raises(KeyboardInterrupt):
            _prepare(root, other, use_title=False)
    made = {path.name for path in (folder / "work" / "made").iterdir()}
    assert made == {f"{NAME}.inter", "features", TEXTS, TIMES, SUMS, f"{NAME}.json"}
    for number in range(1, len(made) + 1):
        stopped = Path(shutil.copytree(root, tmp_path / str(number)))
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            _stop_before_move(patch, stopped / NAME, number)
            _prepare(stopped, Sources(), use_title=False)
        assert (stopped / NAME / "work").exists() == (number < len(made))
        assert _prepare(stopped, Sources(), use_title=False)["items"] == {}
        assert {path.name for path in (stopped / NAME).iterdir()} == made


@pytest.mark.parametrize("left", ["features", "inter"])
def test_a_data_set_without_its_manifest_is_noticed(root, raw, left):
    before = _content(root)
    (root / NAME / f"{NAME}.json").unlink()
    if left == "features":
        (root / NAME / f"{NAME}.inter").unlink()
    with pytest.raises(DataError, match="incomplete"):
        _prepare(root, Sources())
    _prepare(root, _sources(raw))
    assert _content(root) == before


def test_word_features_of_another_preparation_are_noticed(root, raw, tmp_path):
    _prepare(tmp_path / "other", _sources(raw), lemmatizer="none")
    before = _content(root)
    shutil.rmtree(root / NAME / "features")
    shutil.copytree(tmp_path / "other" / NAME / "features", root / NAME / "features")
    with pytest.raises(DataError, match=r"features\.json"):
        _prepare(root, Sources())
    _prepare(root, _sources(raw))
    assert _content(root) == before


def test_an_old_data_set_survives_a_failing_preparation(root, raw, tmp_path, monkeypatch):
    before = _files(root)
    broken = tmp_path / "broken.jsonl"
    broken.write_text("no json\n" * 5)
    with pytest.raises(DataError, match=r"broken\.jsonl"):
        _prepare(root, Sources((broken,)))
    with pytest.raises(DataError, match="user_min=999"):
        _prepare(root, _sources(raw), user_min=999)
    with pytest.raises(ConfigError, match="lemmatizer"):
        _prepare(root, _sources(raw), lemmatizer="simplema")

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoder, "encode", interrupt)
    for sources in (Sources((raw["reviews"],)), _sources(raw)):
        with pytest.raises(KeyboardInterrupt):
            _prepare(root, sources, use_title=False)
    after = _files(root)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("features.partial/") for name in set(after) - set(before))
    assert _prepare(root, Sources())["fingerprint"]


# Damage ---------------------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGED = [f"{NAME}.inter", f"{NAME}.item", f"{NAME}.json", "features/vectors.npy", TEXTS, "items/text.npy"]


@pytest.mark.parametrize("name", [*DAMAGED, "items/items.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damage_is_noticed_and_put_right(root, raw, name, damage):
    before = _content(root)
    path = root / NAME / name
    if damage == "flipped":
        _flip(path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.unlink()
    config = Config("DReX", NAME, config_dict={**LIMITS, "data_path": str(root)})
    if name == f"{NAME}.json" and damage == "flipped":
        # A flipped bit may leave valid JSON that differs; the file is then one of other settings or another format.
        path.write_text(path.read_text().replace('"format": 3', '"format": 4'))
    with pytest.raises(DataError) as caught:
        _prepare(root, Sources())
        ReviewDataset(config).features()
    assert str(path) in str(caught.value) or (name == f"{NAME}.json" and str(path.parent) in str(caught.value))
    assert "--raw" in str(caught.value) or "--rebuild" in str(caught.value)
    _prepare(root, _sources(raw))
    assert _content(root) == before


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"format": 3}', '{"format": 2, "settings": {}}', "{"])
def test_any_manifest_is_survived(root, raw, content):
    before = _content(root)
    (root / NAME / f"{NAME}.json").write_text(content)
    with pytest.raises(DataError, match=NAME):
        _prepare(root, Sources())
    _prepare(root, _sources(raw))
    assert _content(root) == before


# Two processes --------------------------------------------------------------------------------------------------


def test_two_concurrent_preparations_do_the_work_once(raw, tmp_path, monkeypatch):
    encode, calls, manifests = Encoder.encode, [], []
    monkeypatch.setattr(Encoder, "encode", lambda self, reviews: calls.append(1) or encode(self, reviews))
    settings = _settings()
    threads = [
        threading.Thread(target=lambda: manifests.append(prepare(NAME, tmp_path, settings, _sources(raw))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 2 and manifests[0] == manifests[1], "one for the texts of items, one for the reviews"


def test_a_held_lock_is_reported(tmp_path):
    path = tmp_path / "tiny"
    with FileLock(tmp_path / ".tiny.lock"):
        with pytest.raises(DataError, match=r"another process.*'tiny'"):
            with locked(path, "data set 'tiny'", timeout=0.1):
                pass
    with locked(path, "data set 'tiny'", timeout=0.1):
        pass


def test_who_has_the_lock_removes_what_a_killed_process_was_writing(tmp_path):
    folder, file = tmp_path / "run", tmp_path / "raw.jsonl.gz"
    folder.mkdir()
    left = [folder / ".result.json.0123abcd.tmp", tmp_path / ".raw.jsonl.gz.00000000.tmp"]
    others = [folder / "result.json", tmp_path / ".other.0123abcd.tmp", folder / ".mine.tmp"]
    for path in (*left, *others):
        path.touch()
    with locked(folder, "the run"), locked(file, "the file"):
        assert not any(path.exists() for path in left) and all(path.exists() for path in others)
