"""Preparation on Ray gives the bytes of the local engine, also if processes are killed."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
import ray
from prepared import LIMITS, NAME, after_shards, content, encoder_processes, prepare_demo

from recbole_drex.cli.main import main
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare import pipeline as module
from recbole_drex.data.prepare import ray_engine
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.data.raw.readers import read_reviews
from recbole_drex.data.text.contextual_encoder import Encoder
from recbole_drex.data.text.feature_store_writer import StoreWriter
from recbole_drex.errors import ConfigError, DataError, StorageError


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of two cores, used by every preparation in this process."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Sources:
    made = generate_demo(tmp_path_factory.mktemp("raw"), users=10, items=20, reviews=120)
    return Sources((made["reviews"],), made["meta"])


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch) -> None:
    monkeypatch.setattr(module, "SHARD", 16)


@pytest.fixture(scope="module")
def local(raw, tmp_path_factory) -> Path:
    """The data set as the local engine makes it."""
    root = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHARD", 16)
        prepare_demo(root, raw, "local")
    return root


def _none_is_left() -> bool:
    """Whether all encoders end within seconds."""
    return not psutil.wait_procs(
        [psutil.Process(pid) for pid in encoder_processes() if psutil.pid_exists(pid)], timeout=20
    )[1]


def test_an_address_without_ray(raw, tmp_path, capsys):
    words = ["prepare", "--dataset", NAME, "--data_path", str(tmp_path), "--raw", str(raw.reviews[0])]
    assert not ray.is_initialized(), "this test comes before those that start one"
    assert main([*words, "--engine", "ray", "--address", "127.0.0.1:9", "--user_min", "3", "--item_min", "2"]) == 2
    assert "no Ray answers at 127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / NAME).exists()


def test_ray_makes_the_same_bytes(cluster, raw, local, tmp_path, monkeypatch):
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda *arguments: pytest.fail("encoded in this process"))
    manifest = prepare_demo(tmp_path, raw, "ray")
    assert content(tmp_path) == content(local)
    assert {f"{NAME}.json", "features/vectors.npy", "items/text.npy"} <= content(local).keys()
    assert _none_is_left()
    monkeypatch.setattr(Encoder, "encode", encode)
    # Each engine reuses what the other has prepared.
    times = (tmp_path / NAME / f"{NAME}.json").stat().st_mtime_ns
    assert prepare_demo(tmp_path, raw, "local") == prepare_demo(local, raw, "ray") == manifest
    assert (tmp_path / NAME / f"{NAME}.json").stat().st_mtime_ns == times


@pytest.mark.parametrize("source", ["contextual", "file"])
def test_ray_makes_the_same_bytes_of_other_vectors(cluster, raw, tmp_path, source):
    """Contextual ones, and static ones of a file that only this machine need have."""
    (tmp_path / "glove.txt").write_text("story 1 2 3\ngraphics 3 2 1\nmusic 1 1 2\n")
    changes = {"encoder": "minilm"} if source == "contextual" else {"static_vectors": str(tmp_path / "glove.txt")}
    for engine in ("local", "ray"):
        prepare_demo(tmp_path / engine, raw, engine, **changes)
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert "items/text.npy" in content(tmp_path / "ray")
    assert _none_is_left()


@pytest.mark.slow
def test_ray_makes_the_same_bytes_in_8_bits(cluster, raw, tmp_path):
    for engine in ("local", "ray"):
        prepare_demo(tmp_path / engine, raw, engine, store_dtype="int8")
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert "features/scales.npy" in content(tmp_path / "ray")


def test_an_encoder_that_is_killed_costs_nothing(cluster, raw, local, tmp_path, monkeypatch):
    killed: list[int] = []

    def kill() -> None:
        killed.append(min(encoder_processes()))
        os.kill(killed[0], signal.SIGKILL)

    after_shards(monkeypatch, 2, kill)
    monkeypatch.setattr(ray_engine, "_PATIENCE", 0.05)  # nor does it that idle ones give way
    prepare_demo(tmp_path, raw, "ray")
    assert len(killed) == 1 and not psutil.pid_exists(killed[0])
    assert content(tmp_path) == content(local)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [("ray", "local"), ("local", "ray")])
def test_an_interrupted_preparation_resumes_with_either_engine(
    cluster, raw, local, tmp_path, monkeypatch, first, second
):
    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        after_shards(patch, 3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_demo(tmp_path, raw, first)
    finished = {path.name: path.stat().st_mtime_ns for path in (tmp_path / NAME / "features.partial").glob("shard-*")}
    assert len(finished) == 3 and _none_is_left()
    kept: dict[str, int] = {}
    finish = StoreWriter.finish

    def finishing(self, target, extra):
        kept.update({name: (self.folder / name).stat().st_mtime_ns for name in finished})
        finish(self, target, extra)

    monkeypatch.setattr(StoreWriter, "finish", finishing)
    prepare_demo(tmp_path, raw, second)
    assert kept == finished, "finished shards are not encoded again"
    assert content(tmp_path) == content(local)


def _pieces(folder: Path, raw: Sources) -> list[Path]:
    """The raw reviews in five files of different length and kind, with some malformed rows."""
    lines = gzip.decompress(Path(str(raw.reviews[0])).read_bytes()).splitlines(keepends=True)
    lines[7:7] = [b"{broken\n", b'{"user_id": "nobody", "asin": "i\\ti"}\n']
    pieces = []
    for number, (start, end) in enumerate(itertools.pairwise([0, 60, 61, 80, 110, len(lines)])):
        pieces.append(folder / f"part-{4 - number}.jsonl{'.gz' if number % 2 else ''}")
        content = b"".join(lines[start:end])
        pieces[-1].write_bytes(gzip.compress(content) if number % 2 else content)
    return pieces


def test_many_files_are_read_in_parallel_with_the_same_result(cluster, raw, tmp_path, monkeypatch):
    pieces = _pieces(tmp_path, raw)
    settings = Config("DReX", NAME, config_dict=LIMITS).preparation()
    in_turn = read_reviews(pieces, tmp_path / "a.parquet", bad_line_share=0.1)
    monkeypatch.setattr(ray_engine, "read_in_turn", lambda *arguments: pytest.fail("read in this process"))
    with contextlib.closing(ray_engine.RayEngine(settings)) as engine:
        for files in (pieces, [path.as_uri() for path in pieces]):
            at_once = read_reviews(files, tmp_path / "b.parquet", bad_line_share=0.1, read=engine.read)
            pd.testing.assert_frame_equal(at_once.frame, in_turn.frame)
            assert at_once.sources == in_turn.sources and sum(entry["bad_lines"] for entry in at_once.sources) == 2
            rows = at_once.frame["row"].to_numpy()[::-1]
            assert at_once.texts(rows) == in_turn.texts(rows)
        with pytest.raises(
            DataError,
            match=r"part-4\.jsonl: 2 of 60 rows \(3\.333%\) are malformed, more than bad_line_share = 1\.000%",
        ):
            read_reviews(pieces, tmp_path / "c.parquet", bad_line_share=0.01, read=engine.read)
    assert not list(tmp_path.glob("*c.parquet*"))


def test_errors_of_an_encoder_are_reported_as_without_ray(cluster, raw, local, tmp_path):
    for changes in ({"encoder": "no-such"}, {"max_length": 9999}, {"lemmatizer": "simplema"}):
        output = []
        for engine in ("local", "ray"):
            with pytest.raises((DataError, ConfigError)) as caught:
                prepare_demo(tmp_path, raw, engine, **changes)
            output.append((caught.type, str(caught.value)))
        assert output[0] == output[1]
    assert not (tmp_path / NAME).exists()


def test_a_disk_that_is_too_small_is_noticed_with_either_engine(cluster, raw, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
    messages = []
    for engine in ("local", "ray"):
        with pytest.raises(StorageError, match=r"No space left for [\d,]+ bytes, only 9 are free") as caught:
            prepare_demo(tmp_path, raw, engine, encoder="minilm")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_machines_that_differ_are_refused(cluster):
    settings = Config("DReX", NAME, config_dict=LIMITS).preparation()
    expected = ray_engine.ReviewEncoder(settings).settings
    worker = ray_engine._Worker(settings, ray_engine.__version__, ({**expected[0], "weights_sha256": "0"}, expected[1]))
    with pytest.raises(DataError, match=r"different ways: weights_sha256 is '53aa.*' on one and '0' on another"):
        worker.encode(0, ["fun"])
    with pytest.raises(DataError, match=r"has recbole_drex .*, this one 0\.0"):
        ray_engine._Worker(settings, "0.0", None).describe()


def test_options_of_the_command_line(raw, tmp_path, capsys):
    words = ["prepare", "--dataset", NAME, "--data_path", str(tmp_path), "--raw", str(raw.reviews[0])]
    assert main([*words, "--engine", "rai"]) == 2
    assert "unknown engine 'rai'; did you mean 'ray'? Legal values: local, ray" in capsys.readouterr().err
    assert main([*words, "--address", "127.0.0.1:9"]) == 2
    assert "127.0.0.1:9" in capsys.readouterr().err
