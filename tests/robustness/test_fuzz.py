"""Fuzzing: whatever is read from outside is used or refused in one line, soon, and what was there before stays whole.

The targets are the narrowest functions that a user's file reaches. Few inputs of each in the fast leg, over 10,000 in
all in the slow one. What was found is kept in test_fuzz_found.py.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planted_searches
import pyarrow as pa
import pytest
import torch
from fuzz import fuzzed, spoilt
from safetensors.torch import save_file
from sealing import unseal

from recbole_drex.config.recbole_config import Config
from recbole_drex.config.yaml_values import parse_value, read_yaml
from recbole_drex.data.items.item_features import FOLDER, ItemFeatures, check_vectors, read_table, write_item_features
from recbole_drex.data.prepare.mmrec import read_mmrec
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.data.raw.readers import read_items, read_reviews
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.data.text.word_vectors import word_vectors
from recbole_drex.evaluation.protocol import Protocol
from recbole_drex.experiments.quick_start import run
from recbole_drex.experiments.run import build, load_experiment
from recbole_drex.results.comparison import read_comparison
from recbole_drex.results.run_result import read_interactions, read_users
from recbole_drex.tuning.search_results import read_search, trial_table
from recbole_drex.tuning.space import drawn, read_space, size_of, space_of
from recbole_drex.utils import checkpoint
from recbole_drex.utils.files import properties_dir

FEW = 6
NAME = "tiny"
SETTINGS: dict[str, Any] = {"user_min": 3, "item_min": 2, "threads": 1}
ITEMS = [f"item_{number}" for number in range(3)]

Use = Callable[[bytes], Any]


@dataclasses.dataclass(frozen=True)
class Whole:
    """Whole files to be spoilt: raw ones, a prepared data set, a finished run in a comparison, a search."""

    raw: dict[str, Path]
    data: Path
    run: Path
    search: Path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    raw = generate_demo(folder / "raw", users=10, items=20, reviews=120)
    config = Config("Bias", NAME, config_dict={**SETTINGS, "data_path": str(folder / "data")})
    prepare(NAME, folder / "data", config.preparation(), Sources((raw["reviews"],), raw["meta"]))
    run(
        ["Bias"],
        NAME,
        data_path=folder / "data",
        output=folder / "results",
        parameters={**SETTINGS, "epochs": 1},
        references=False,
    )
    planted_searches.write_search(
        folder / "search", {"BPR": planted_searches.ranged_trials(3)}, {"BPR": planted_searches.RANGES}
    )
    return Whole(raw, folder / "data", folder / "results" / NAME / "Bias" / "seed-2026", folder / "search")


# Targets --------------------------------------------------------------------------------------------------------

Target = Callable[[Whole, Path], tuple[list[bytes], Use]]
"""Gives whole inputs, and what is done with a spoilt one; the folder is its own."""

TARGETS: dict[str, tuple[int, Target]] = {}


def target(inputs: int, *names: str) -> Callable[[Callable[..., tuple[list[bytes], Use]]], Any]:
    """Register a target that gets ``inputs`` inputs in the slow leg; with names, one target per name."""

    def register(make: Callable[..., tuple[list[bytes], Use]]) -> Any:
        for name in names:
            TARGETS[f"{make.__name__}-{name}"] = (inputs, lambda whole, folder, name=name: make(whole, folder, name))
        if not names:
            TARGETS[make.__name__] = (inputs, make)
        return make

    return register


def _written(path: Path, use: Callable[[Path], Any]) -> Use:
    def write_and_use(data: bytes) -> Any:
        path.write_bytes(data)
        return use(path)

    return write_and_use


def _in_place(path: Path, use: Callable[[], Any]) -> tuple[list[bytes], Use]:
    """The file is a part of something bigger, which is used."""
    return [path.read_bytes()], _written(path, lambda _: use())


def _formats(frame: pd.DataFrame, name: str) -> list[bytes]:
    lines = "".join(json.dumps(row) + "\n" for row in frame.to_dict("records")).encode()
    if name.startswith("jsonl"):
        packed = {"gz": gzip.compress, "zst": lambda data: pa.compress(data, "zstd", asbytes=True), "bz2": bz2.compress}
        return [packed.get(name.rpartition(".")[2], bytes)(part) for part in (lines, lines[: lines.index(b"\n")])]
    if name == "json":
        rows = frame.where(frame.notna(), None).to_dict("records")
        forms = (json.dumps(rows), json.dumps(rows, indent=1), "".join(f"{row!r}\n" for row in rows))
        return [form.encode() for form in forms]
    if name == "parquet":
        files = [io.BytesIO() for _ in range(3)]
        frame.to_parquet(files[0])
        frame.to_parquet(files[1], compression=None)
        frame[:5].to_parquet(files[2], compression=None)
        return [file.getvalue() for file in files]
    return [frame.to_csv(index=False, sep="\t" if name == "tsv" else ",").encode()]


def _frame(path: Path, rows: int) -> pd.DataFrame:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return pd.DataFrame([json.loads(line) for line in file][:rows])


@target(400, "jsonl", "jsonl.gz", "jsonl.zst", "jsonl.bz2", "json", "csv", "tsv", "parquet")
def reviews(whole: Whole, folder: Path, name: str) -> tuple[list[bytes], Use]:
    frame = _frame(whole.raw["reviews"], 30)[["user_id", "parent_asin", "rating", "timestamp", "title", "text"]]
    read = lambda path: read_reviews(path, folder / "spill.parquet", bad_line_share=1.0)  # noqa: E731
    return _formats(frame, name), _written(folder / f"reviews.{name}", read)


@target(300, "jsonl", "json", "csv", "tsv", "parquet")
def items(whole: Whole, folder: Path, name: str) -> tuple[list[bytes], Use]:
    frame = _frame(whole.raw["meta"], 20)[["parent_asin", "title", "categories", "description"]]
    return _formats(frame, name), _written(folder / f"items.{name}", read_items)


@target(500)
def mmrec(whole: Whole, folder: Path) -> tuple[list[bytes], Use]:
    rows = [f"{u}\t{i}\t{1 + (u * i) % 5}\t{1000 + u}\t{(u + i) % 3}\n" for u in range(4) for i in range(4)]
    text = "userID\titemID\trating\ttimestamp\tx_label\n" + "".join(rows)
    return [text.encode(), text.replace("userID", "user_id").encode()], _written(folder / "m.inter", read_mmrec)


@target(800)
def item_vectors(whole: Whole, folder: Path) -> tuple[list[bytes], Use]:
    def saved(array: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    table = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    corpus = [saved(table.astype(kind)) for kind in ("f2", "f4", "i8")]
    return corpus, _written(folder / "v.npy", lambda path: check_vectors(read_table(path), ITEMS, path))


@target(300, "items.json", "text.npy")
def item_index(whole: Whole, folder: Path, name: str) -> tuple[list[bytes], Use]:
    write_item_features(folder, ITEMS, {"text": np.eye(3, 4), "image": np.eye(3)}, {"text": "signature"})

    def use() -> None:
        features = ItemFeatures(folder)
        assert features.reusable("text", "signature") is None or features.described
        for modality in features.names:
            assert np.isfinite(features.vectors(modality, [ITEMS[2], "nobody's", ITEMS[0]])).all()

    return _in_place(folder / name, use)


@target(500, "txt", "gz")
def words(whole: Whole, folder: Path, name: str) -> tuple[list[bytes], Use]:
    known, rng = ["fun", "plot", "combat"], np.random.default_rng(0)
    vectors = dict(zip(known, rng.normal(size=(3, 4)).astype("<f4"), strict=True))
    text = "".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in vectors.items()).encode()
    binary = b"".join(word.encode() + b" " + vector.tobytes() + b"\n" for word, vector in vectors.items())
    corpus = [text, b"3 4\n" + text, b"3 4\n" + binary]

    def use(path: Path) -> None:
        assert np.isfinite(word_vectors(str(path), known, {}, 2)).all()

    return [gzip.compress(data) for data in corpus] if name == "gz" else corpus, _written(folder / f"w.{name}", use)


@target(400)
def yaml_files(whole: Whole, folder: Path) -> tuple[list[bytes], Use]:
    corpus = [path.read_bytes() for path in sorted(properties_dir().rglob("*.yaml"))]
    return corpus, _written(folder / "own.yaml", read_yaml)


@target(800)
def yaml_values(whole: Whole, folder: Path) -> tuple[list[bytes], Use]:
    corpus = [b"[1, 2]", b"{a: 1, b: [x, 2.5]}", b"1e-3", b"true", b"2020-01-31", b"'x y'", b"1:30", b"0x1f"]
    return corpus, lambda data: parse_value(data.decode("utf-8", "replace"))


@target(200)
def configurations(whole: Whole, folder: Path) -> tuple[list[bytes], Use]:
    def use(path: Path) -> None:
        Protocol.from_config(Config("DReX", NAME, [path]))

    files = (properties_dir() / "overall.yaml", properties_dir() / "model" / "DReX.yaml")
    return [path.read_bytes() for path in files], _written(folder / "own.yaml", use)


@target(300)
def spaces(whole: Whole, folder: Path) -> tuple[list[bytes], Use]:
    def use(path: Path) -> None:
        space = read_space(path)
        assert size_of(space) >= 1
        drawn(space, 3, seed=1)

    corpus = [path.read_bytes() for path in sorted((properties_dir() / "tune").glob("*.yaml"))]
    corpus.append(b"embedding_size: [32, 64]\nlearning_rate: {min: 1e-4, max: 1e-2, log: true}\n")
    return corpus, _written(folder / "space.yaml", use)


@target(300, "search.json", "trial.json")
def searches(whole: Whole, folder: Path, name: str) -> tuple[list[bytes], Use]:
    shutil.copytree(whole.search, folder / "search")

    def use() -> None:
        search = read_search(folder / "search")
        trial_table(search)
        for space in search.described["spaces"].values():
            space_of(space)

    return _in_place(next((folder / "search").rglob(name)), use)


@target(600)
def checkpoints(whole: Whole, folder: Path) -> tuple[list[bytes], Use]:
    path = folder / "model.safetensors"
    checkpoint.save(path, {"weights": torch.ones(3, 2), "epoch": 1, "random": {"numpy": np.arange(4)}})
    return [path.read_bytes(), (whole.run / path.name).read_bytes()], _written(path, checkpoint.load)


@target(300)
def checkpoint_trees(whole: Whole, folder: Path) -> tuple[list[bytes], Use]:
    """Files whose hash is right, since whoever spoilt them has made it so."""
    tensors: dict[str, torch.Tensor] = {}
    tree = {"a": [1, torch.ones(2), (None, "x")], "b": {1: np.arange(3)}, "c": torch.eye(2).to_sparse()}
    skeleton = json.dumps(checkpoint._encode(tree, tensors)).encode()

    def use(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        metadata = {"format": "1", "tree": text, "sha256": checkpoint._digest(text, tensors)}
        save_file(tensors, folder / "model.safetensors", metadata=metadata)
        checkpoint.load(folder / "model.safetensors")

    return [skeleton], use


@target(300)
def manifests(whole: Whole, folder: Path) -> tuple[list[bytes], Use]:
    shutil.copytree(whole.data, folder / "data")
    settings = Config("Bias", NAME, config_dict={**SETTINGS, "data_path": str(folder / "data")}).preparation()
    return _in_place(
        folder / "data" / NAME / f"{NAME}.json", lambda: prepare(NAME, folder / "data", settings, Sources())
    )


@target(150, "features.json", "vocabulary.json", "offsets.npy", "word_ids.npy", "begins.npy")
def feature_stores(whole: Whole, folder: Path, name: str) -> tuple[list[bytes], Use]:
    shutil.copytree(whole.data / NAME / "features", folder / "features")

    def use() -> None:
        FeatureStore.open(folder / "features", verify=False)
        FeatureStore.open(folder / "features")

    return _in_place(folder / "features" / name, use)


@target(300)
def review_texts(whole: Whole, folder: Path) -> tuple[list[bytes], Use]:
    def use(path: Path) -> None:
        texts = ReviewTexts(path)
        if len(texts):
            texts[[0, len(texts) - 1]]

    return [(whole.data / NAME / TEXTS).read_bytes()], _written(folder / TEXTS, use)


@target(150, "inter", "item")
def atomic_files(whole: Whole, folder: Path, name: str) -> tuple[list[bytes], Use]:
    """Files written by others, read by RecBole."""
    data = folder / "data" / NAME
    shutil.copytree(whole.data / NAME, data, ignore=shutil.ignore_patterns("features", "*.json", FOLDER))
    inter = pd.read_csv(data / f"{NAME}.inter", sep="\t").iloc[:, :4]
    inter.to_csv(data / f"{NAME}.inter", sep="\t", index=False)
    load_col = {"item": ["item_id", "title"]} if name == "item" else {}

    def use() -> None:
        given = {**SETTINGS, "data_path": str(folder / "data")}
        config = Config("Bias", NAME, config_dict=given)
        if load_col:
            config["load_col"] = {**config["load_col"], **load_col}
        build(config, prepare(NAME, folder / "data", config.preparation(), Sources()))

    return _in_place(data / f"{NAME}.{name}", use)


@target(120, "result.json", "history.json", "interactions.parquet", "users.parquet")
def runs(whole: Whole, folder: Path, name: str) -> tuple[list[bytes], Use]:
    unseal(shutil.copytree(whole.run, folder / "run"))

    def use() -> None:
        (one,) = read_comparison(folder / "run").runs
        assert one.history() is not None
        read_interactions(one.folder)
        read_users(one.folder)

    return _in_place(folder / "run" / name, use)


@target(60, "run.json", "model.safetensors")
def loaded_runs(whole: Whole, folder: Path, name: str) -> tuple[list[bytes], Use]:
    unseal(shutil.copytree(whole.run, folder / "run"))
    return _in_place(folder / "run" / name, lambda: load_experiment(folder / "run"))


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_spoilt_files_are_used_or_refused(name: str, whole: Whole, tmp_path: Path) -> None:
    corpus, use = TARGETS[name][1](whole, tmp_path)
    for data in corpus:
        use(data)
    assert fuzzed(spoilt(corpus, FEW, seed=1), use).total() == FEW


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_spoilt_files_are_used_or_refused(name: str, whole: Whole, tmp_path: Path) -> None:
    inputs, make = TARGETS[name]
    corpus, use = make(whole, tmp_path)
    counts = fuzzed(spoilt(corpus, inputs), use)
    print(f"{name}: {counts['used']} used, {counts['refused']} refused")
    assert counts.total() == inputs


def test_the_slow_leg_tries_ten_thousand_inputs() -> None:
    assert sum(inputs for inputs, _ in TARGETS.values()) >= 10_000
