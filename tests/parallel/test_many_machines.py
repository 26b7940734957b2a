"""Preparation on several machines, played by Ray nodes on this one, of which one may be lost; and a killed driver."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from prepared import after_shards, content, encoder_processes, prepare_demo
from ray.cluster_utils import Cluster

from recbole_drex.data.prepare import pipeline as module
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.parallel.ray_cluster import check_address, connected

ROOT = Path(__file__).parents[2]
STORE = 100 << 20
CONTEXTUAL = {"encoder": "minilm"}  # lemmas alone would be encoded before a second encoder has started

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Sources:
    made = generate_demo(tmp_path_factory.mktemp("raw"), users=20, items=40, reviews=400)
    return Sources((made["reviews"],), made["meta"])


@pytest.fixture(scope="module")
def local(raw, tmp_path_factory) -> Path:
    """The data set as the local engine makes it."""
    root = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHARD", 16)
        prepare_demo(root, raw, "local")
    return root


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two nodes of one core each."""
    assert not ray.is_initialized()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False},
    )
    cluster.add_node(num_cpus=1, object_store_memory=STORE)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_two_nodes_make_the_same_bytes(cluster, raw, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 16)
    prepare_demo(tmp_path / "local", raw, "local", **CONTEXTUAL)
    check_address(cluster.address)
    encoders: list[int] = []
    after_shards(monkeypatch, 20, lambda: encoders.append(len(encoder_processes())))
    with connected(cluster.address):
        prepare_demo(tmp_path / "ray", raw, "ray", **CONTEXTUAL)
    assert encoders == [2], "one a node, since each has one core"
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_a_node_that_is_lost_costs_nothing(cluster, raw, local, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 16)
    node = next(iter(cluster.worker_nodes))
    after_shards(monkeypatch, 3, lambda: cluster.remove_node(node, allow_graceful=False))
    with connected(cluster.address):
        prepare_demo(tmp_path, raw, "ray")
        assert sum(node["Alive"] for node in ray.nodes()) == 1
    assert content(tmp_path) == content(local)


def test_a_killed_driver_resumes_and_leaves_no_processes(small, tmp_path):
    words = [sys.executable, "-m", "recbole_drex", "prepare", "--dataset", small.name, "--data_path", str(tmp_path)]
    words += ["--raw", str(small.raw["reviews"]), "--meta", str(small.raw["meta"]), "--engine", "ray"]
    words += ["--user_min", str(small.settings["user_min"]), "--item_min", str(small.settings["item_min"])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shards = tmp_path / small.name / "features.partial"
    deadline = time.monotonic() + 150
    while not list(shards.glob("shard-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not (tmp_path / small.name / f"{small.name}.json").exists()
    _, alive = psutil.wait_procs(below, timeout=60)
    left = {child.name() for child in alive}
    for child in alive:
        child.kill()
    # Ray's own agents may outlive it by minutes; what works or holds memory must not.
    assert left <= {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    names = {str(path.relative_to(tmp_path)) for path in (tmp_path / small.name).rglob("*")}
    assert names == {str(path.relative_to(small.root)) for path in (small.root / small.name).rglob("*")}
