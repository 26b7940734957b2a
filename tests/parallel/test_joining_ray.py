"""Joining Ray: a local cluster, a running one, and addresses without one."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray

from recbole_drex.errors import ConfigError
from recbole_drex.parallel import ray_cluster
from recbole_drex.parallel.ray_cluster import check_address, connected


@pytest.fixture
def listener() -> Iterator[str]:
    """Address of a port where connections are taken, and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_local_ray_is_started_and_stopped(capfd):
    assert not ray.is_initialized()
    with connected(cpus=1, object_store_mb=100):
        assert ray.cluster_resources()["CPU"] == 1
        assert ray.cluster_resources()["object_store_memory"] == 100 << 20
        double = ray.remote(lambda number: 2 * number)
        assert ray.get([double.remote(number) for number in (1, 2)]) == [2, 4]
        with connected(cpus=7):  # the Ray of this process is used, and left running
            pass
        me = psutil.Process()
        sockets = [s for p in (me, *me.children(recursive=True)) for s in p.net_connections("inet")]
        listening = {s.laddr.ip.removeprefix("::ffff:") for s in sockets if s.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        address = ray.get_runtime_context().gcs_address
        check_address(address)
        assert ray.is_initialized()
    assert not ray.is_initialized()
    out, err = capfd.readouterr()
    assert out == err == ""


def test_ray_is_stopped_when_the_block_fails():
    with pytest.raises(KeyError):
        with connected(cpus=1, object_store_mb=100):
            raise KeyError
    assert not ray.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "ray://no-such-host.invalid:10001"])
def test_an_address_where_nothing_listens(address):
    started = time.monotonic()
    with pytest.raises(ConfigError, match=rf"no Ray answers at {address}: a TCP connection"):
        with connected(address):
            pass
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_something_else_listens(listener, scheme, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_JOIN", 3.0)
    with pytest.raises(ConfigError, match=rf"no Ray answers at {scheme}{listener}: something listens"):
        with connected(scheme + listener):
            pass


def test_the_wait_stays_below_half_a_minute():
    assert ray_cluster._KNOCK + ray_cluster._JOIN <= 28


def test_the_environment_names_the_address(listener, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"auto, which RAY_ADDRESS says is 127\.0\.0\.1:9: a TCP connection"):
        check_address("auto")


@pytest.mark.parametrize("address", ["", "head", "head:", ":6379", "http://head:8265", "head:port", "head:70000"])
def test_an_invalid_address(address):
    with pytest.raises(ConfigError, match=r"not legal\. Legal values: auto, host:port, ray://host:port"):
        check_address(address)


def test_a_cluster_has_its_own_cores():
    with pytest.raises(ConfigError, match="its own cores"):
        with connected("127.0.0.1:9", cpus=2):
            pass


def test_the_lowest_ray_is_that_of_setup_py():
    needed = re.search(r'"ray\[tune\]>=([\d.]+)"', (Path(__file__).parents[2] / "setup.py").read_text())
    assert needed is not None and needed[1] == f"{'.'.join(map(str, ray_cluster.OLDEST))}.0"
    assert f"pip install 'ray[tune]>={needed[1].removesuffix('.0')}'" == ray_cluster.INSTALL_LINE


@pytest.mark.parametrize("version", ["2.6.3", "1.13.0", "2.51.9"])
def test_an_old_ray_is_refused(version, monkeypatch):
    monkeypatch.setattr(ray, "__version__", version)
    with pytest.raises(ConfigError, match=rf"Ray {version} is too old, 2\.52 is needed.*'ray\[tune\]>=2\.52'"):
        with connected():
            pass


def test_a_local_ray_that_does_not_start():
    with pytest.raises(ConfigError, match="Ray cannot be started on this machine"):
        with connected(cpus=1, object_store_mb=1):
            pass
