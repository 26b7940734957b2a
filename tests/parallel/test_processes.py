"""Several processes that train one model: the same numbers as one process, one set of files, and ends in good order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole.data.interaction import Interaction

from recbole_drex.cli.main import main
from recbole_drex.config.recbole_config import Config
from recbole_drex.errors import ConfigError, ProcessError
from recbole_drex.experiments import run as run_module
from recbole_drex.experiments.quick_start import run
from recbole_drex.parallel import collectives
from recbole_drex.parallel.launch import check_processes, group, launch
from recbole_drex.results.run_result import read_interactions, read_result

ROOT = Path(__file__).parents[2]
HERE = {"nproc": 2, "world_size": -1, "offset": 0, "ip": "localhost", "port": None}
SHORT = {"epochs": 3, "measured_users": 0, "explained_users": 0}
# Without dropout and without reviews drawn at random, whose random numbers are each process's own.
FIXED = {"dropout": 0.0, "train_batch_size": 301}
EXACT: dict[str, dict[str, Any]] = {
    "DReX": {**FIXED, "message_samples": 0},
    "NARRE": {**FIXED, "word_size": 8, "filters": 8},
    "LIRDRec": {"train_batch_size": 301},
    "DReX-implicit": {**FIXED, "message_samples": 0, "train_batch_size": 1000},
    "Bias": {},
}
ALSO_EXACT: dict[str, dict[str, Any]] = {
    "DReX-MLP": {**FIXED, "message_samples": 0, "output": "point", "clip_grad_norm": {"max_norm": 0.1}},
    "DeepCoNN": {**FIXED, "word_size": 8, "filters": 8},
    "BiasedMF": {"train_batch_size": 301},
    "HFT": {"train_batch_size": 301},
    "HRDR": {**FIXED, "word_size": 8, "filters": 8},
    "DAML": {**FIXED, "word_size": 8, "filters": 8, "document_words": 20},
    "VBPR": {"train_batch_size": 301},
    "DMF-paper": {"train_batch_size": 301},
    "EMF": {"train_batch_size": 301},
    "BPR": {"train_batch_size": 301},
    "LightGCN": {"train_batch_size": 301},
    "EASE": {},
}
"""Slower to run than to trust."""


def run_all(root: Path, output: Path, settings: dict[str, Any], models: dict[str, dict[str, Any]]) -> list[str]:
    """Run every model with parameters of its own; found by its name in other processes."""
    with group():
        for model, own in models.items():
            parameters = {**settings, **SHORT, **own}
            run([model], "small", data_path=root, output=output, parameters=parameters, references=False)
        return sorted(path.name for path in output.iterdir())


def run_all_in_double(root: Path, output: Path, settings: dict[str, Any], models: dict[str, dict[str, Any]]):
    """As :func:`run_all`, with parameters in double precision."""
    build = run_module.build

    def doubled(*arguments):
        torch.set_default_dtype(torch.float32)  # of the data, as ever
        experiment = build(*arguments)
        experiment.model.double()
        torch.set_default_dtype(torch.float64)
        return experiment

    run_module.build = doubled
    try:
        return run_all(root, output, settings, models)
    finally:
        run_module.build = build
        torch.set_default_dtype(torch.float32)


def _by_one_and_by_two(small, tmp_path_factory, models: dict[str, dict[str, Any]], work=run_all) -> tuple[Path, Path]:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    work(small.root, one, small.settings, models)
    arguments = {"root": small.root, "output": two, "settings": small.settings, "models": models}
    assert launch(work, arguments, HERE) == ["small"]
    return one, two


@pytest.fixture(scope="module")
def outputs(small, tmp_path_factory) -> tuple[Path, Path]:
    """Results of one process and of two."""
    return _by_one_and_by_two(small, tmp_path_factory, EXACT)


@pytest.fixture(scope="module")
def more_outputs(small, tmp_path_factory) -> tuple[Path, Path]:
    """The same of other models."""
    return _by_one_and_by_two(small, tmp_path_factory, ALSO_EXACT)


def _folders(outputs: tuple[Path, Path], model: str) -> list[Path]:
    return [output / "small" / model / "seed-2026" for output in outputs]


@pytest.mark.parametrize("model", EXACT)
def test_two_processes_learn_what_one_learns(outputs, model):
    _check_that_they_agree(_folders(outputs, model), model)


@pytest.mark.slow
@pytest.mark.parametrize("model", ALSO_EXACT)
def test_two_processes_learn_what_one_learns_of_other_models(more_outputs, model):
    _check_that_they_agree(_folders(more_outputs, model), model)


@pytest.mark.slow
def test_what_differs_is_rounding(small, tmp_path_factory):
    """Adam makes steps of full size of gradients that are mere rounding; without it, sums over processes are exact."""
    models = {name: EXACT[name] for name in ("LIRDRec", "NARRE")}
    outputs = _by_one_and_by_two(small, tmp_path_factory, models, run_all_in_double)
    for model in models:
        one, two = (read_interactions(folder) for folder in _folders(outputs, model))
        pd.testing.assert_frame_equal(one, two, atol=1e-10, rtol=0)


def _check_that_they_agree(folders: list[Path], model: str) -> None:
    one, two = (read_result(folder) for folder in folders)
    assert two["processes"] == (1 if model in ("Bias", "EASE") else 2)
    for part in ("valid", "test"):
        flat = [pd.json_normalize(result[part]).iloc[0].dropna() for result in (one, two)]
        pd.testing.assert_series_equal(*flat, atol=1e-4, rtol=0)
    first, second = (read_interactions(folder) for folder in folders)
    pd.testing.assert_frame_equal(first, second, atol=1e-4, rtol=0)
    histories = [json.loads((folder / "history.json").read_text()) for folder in folders]
    for entries in zip(*histories, strict=True):
        assert entries[0]["train_loss"] == pytest.approx(entries[1]["train_loss"], abs=1e-3)
        assert entries[0]["valid_score"] == pytest.approx(entries[1]["valid_score"], abs=1e-4)


# How work is shared ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(1, 9))
def test_spans_are_neighbours_of_nearly_one_size(n, world):
    spans = [collectives.span(n, rank, world) for rank in range(world)]
    assert [index for part in spans for index in range(n)[part]] == list(range(n))
    sizes = [part.stop - part.start for part in spans]
    assert max(sizes) - min(sizes) <= 1


def sharing(rows: int, blocks: int) -> dict[str, Any]:
    """What a process sees of each function; found by its name in other processes."""
    with group():
        number = torch.arange(rows * blocks)
        part, share = collectives.own_rows(
            Interaction({"number": number, "pair": torch.stack([number, -number], 1)}), blocks
        )
        start = torch.arange(5.0)[collectives.own_part(5)].requires_grad_()
        joined = collectives.joined(start * start, 5)
        loss = collectives.anchored(
            (collectives.rank() + 1) * joined[:2].sum() if collectives.rank() else torch.zeros(())
        )
        weight = torch.nn.Parameter(torch.ones(3))
        silent, never = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))
        loss = loss + (part["number"].float().mean() * share * weight).sum()
        if collectives.rank():
            loss = loss + 7 * silent.sum()
        collectives.when_backward_is_done(loss, lambda: collectives.sum_gradients([weight, silent, never]))
        loss.backward()
        own = torch.tensor([[1.0, 5.0], [2.0, 3.0]][collectives.rank()])
        failure = None
        try:
            collectives.first_decides(lambda: check_processes({**HERE, "train_batch_size": 1}))
        except ConfigError as error:
            failure = str(error)
        with collectives.alone():
            alone = (collectives.world_size(), collectives.rank(), collectives.joined(torch.ones(2), 2).tolist())
        return {
            "own": collectives.gathered((part["number"].tolist(), part["pair"].tolist(), share)),
            "joined": joined.tolist(),
            "start": collectives.gathered(start.grad.tolist()),
            "gradients": collectives.gathered(
                [None if p.grad is None else p.grad.tolist() for p in (weight, silent, never)]
            ),
            "union": collectives.union(torch.tensor([[4, 1], [1, 2]][collectives.rank()]), 6).tolist(),
            "mean": float(collectives.mean_over_batch(own)),
            "largest": float(collectives.largest_in_batch(own)),
            "total": (
                collectives.total(collectives.rank() + 1.0),
                collectives.total((1.0, 2.0)),
                collectives.total(None),
            ),
            "decided": collectives.gathered(collectives.first_decides(lambda: "first")),
            "failure": collectives.gathered(failure),
            "alone": collectives.gathered(alone),
        }


def test_two_processes_share_rows_gradients_and_decisions():
    seen = launch(sharing, {"rows": 5, "blocks": 2}, HERE)
    rows = [[0, 1, 5, 6], [2, 3, 4, 7, 8, 9]]
    assert seen["own"] == [(own, [[k, -k] for k in own], share) for own, share in zip(rows, (0.4, 0.6), strict=True)]
    assert seen["joined"] == [0, 1, 4, 9, 16]
    # Only the second process used the rows, and of them only those that the first had computed.
    assert seen["start"] == [[0, 4], [0, 0, 0]]
    assert seen["gradients"] == [[[4.5] * 3, [7.0] * 2, None]] * 2
    assert seen["union"] == [1, 2, 4]
    assert (seen["mean"], seen["largest"]) == (2.75, 5)
    assert seen["total"] == (3.0, (2.0, 4.0), None)
    assert seen["decided"] == ["first"] * 2
    assert seen["failure"] == ["2 processes cannot share batches of 1 rows (train_batch_size)"] * 2
    assert seen["alone"] == [(1, 0, [1, 1])] * 2


def test_one_process_has_everything():
    batch = Interaction({"number": torch.arange(6)})
    part, share = collectives.own_rows(batch, 2)
    assert (part["number"].tolist(), share) == (list(range(6)), 1.0)
    rows = torch.rand(3, 2)
    assert collectives.joined(rows[collectives.own_part(3)], 3) is rows or torch.equal(
        collectives.joined(rows, 3), rows
    )
    assert collectives.union(torch.tensor([3, 0, 3]), 5).tolist() == [0, 3]
    assert float(collectives.mean_over_batch(torch.tensor([1.0, 3.0]))) == 2
    assert (collectives.gathered("a"), collectives.total(2.5), collectives.first_decides(lambda: 4)) == (["a"], 2.5, 4)


# Bad input and bad ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"world_size": 1}, "go beyond the 1 processes of world_size"),
        ({"world_size": 4}, "need 'ip' and 'port'"),
        ({"world_size": 4, "offset": 3, "port": 5678}, "offset 3 and nproc 2 go beyond the 4"),
        ({"nproc": 9}, "9 processes cannot share batches of 8 rows"),
    ],
)
def test_impossible_numbers_of_processes_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        check_processes({**HERE, "train_batch_size": 8, "device": torch.device("cpu"), **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nproc": 0}, "'nproc' must be 1 or more, not 0"),
        ({"nproc": -2}, "not -2"),
        ({"nproc": 1.5}, "is 1.5"),
        ({"offset": -1}, "'offset'"),
        ({"world_size": 0}, "'world_size' must be -1"),
        ({"port": 70000}, "'port' must be 1 to 65,535"),
        ({"port": "http"}, "'port'"),
    ],
)
def test_numbers_of_processes_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Config("Bias", "demo", config_dict=values)


def test_bad_numbers_are_one_line_on_the_command_line(small, tmp_path, capsys, monkeypatch):
    given = {**small.settings, "data_path": small.root, "output_dir": tmp_path, "dataset": small.name}
    arguments = ["run", *(word for key, value in given.items() for word in (f"--{key}", str(value)))]
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for more, message in (
            (["--nproc", "0"], "parameter 'nproc' must be 1 or more, not 0"),
            (["--nproc", "2", "--port", port], f"port {port} of this machine cannot be used"),
        ):
            assert main([*arguments, *more]) == 2
            error = capsys.readouterr().err.splitlines()
            assert len(error) == 1 and message in error[0]
    alone = "parameter 'nproc' is for `recbole-drex run`"
    for command in (["compare", "--datasets"], ["tune", "--dataset"]):
        others = ["--models", "Bias", "--data_path", str(small.root), "--output_dir", str(tmp_path), "--nproc", "2"]
        assert main([*command, small.name, *others]) == 2
        assert alone in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    for name, value in (("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    assert main([*arguments, "--nproc", "2"]) == 2
    assert "2 are there already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def ends(folder: Path, how: str) -> None:
    """The second process fails while the first waits for it; found by its name in other processes."""
    with group():
        (folder / str(collectives.rank())).write_text(str(os.getpid()))
        collectives.gathered("both are there")
        if collectives.rank():
            if how == "error":
                raise ConfigError("the second process has found a fault")
            if how == "bug":
                raise ZeroDivisionError("a bug")
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
        if how == "stopped" and not collectives.rank():
            os.kill(os.getppid(), signal.SIGINT)
        collectives.gathered("never reached by both")
        time.sleep(60)


def _runs(process: str) -> bool:
    status = Path("/proc", process, "stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def _alive(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if _runs(path.read_text())]


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("error", ConfigError, "^the second process has found a fault$"),
        pytest.param("bug", RuntimeError, "ZeroDivisionError: a bug", marks=pytest.mark.slow),
        pytest.param("killed", ProcessError, "process 1 of 2 .* was ended by SIGKILL", marks=pytest.mark.slow),
        pytest.param("stopped", KeyboardInterrupt, "", marks=pytest.mark.slow),
    ],
)
def test_one_process_that_ends_ends_all(tmp_path, how, error, message):
    if how == "stopped" and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("started in the background, where SIGINT is ignored")
    with pytest.raises(error, match=message):
        launch(ends, {"folder": tmp_path, "how": how}, HERE)
    assert len(list(tmp_path.iterdir())) == 2
    assert _alive(tmp_path) == []


@pytest.mark.slow
def test_no_process_outlives_the_one_that_started_it(tmp_path):
    script = f"""
import test_processes as test
if __name__ == "__main__":
    test.launch(test.waits, {{"folder": test.Path({str(tmp_path)!r})}}, test.HERE)
"""
    (tmp_path / "script.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'helpers'}:{ROOT / 'tests' / 'parallel'}"}
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], env=environment)
    _wait_until(lambda: (tmp_path / "pids").is_dir() and len(list((tmp_path / "pids").iterdir())) == 2)
    process.kill()
    process.wait()
    _wait_until(lambda: not _alive(tmp_path / "pids"))


def waits(folder: Path) -> None:
    """Wait for ever; found by its name in other processes."""
    with group():
        (folder / "pids").mkdir(exist_ok=True)
        (folder / "pids" / str(collectives.rank())).write_text(str(os.getpid()))
        time.sleep(600)


def _wait_until(happened) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# The command line -----------------------------------------------------------------------------------------------------


def _command(small, output: Path, *more: str) -> list[str]:
    given = {**small.settings, **SHORT, "data_path": small.root, "output": output, "dataset": small.name, **dict(LONG)}
    return [
        "run",
        "--no_references",
        *(word for key, value in given.items() for word in (f"--{key}", str(value))),
        *more,
    ]


LONG = {"epochs": 15, "train_batch_size": 128, "stopping_step": 50}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def _same_results(first: Path, second: Path) -> None:
    one, two = read_result(first), read_result(second)
    for key in ("test", "valid", "best_epoch", "epochs_run", "references", "processes"):
        assert one[key] == two[key], key
    pd.testing.assert_frame_equal(read_interactions(first), read_interactions(second), check_exact=True)


@pytest.mark.slow
def test_a_run_of_two_processes_is_stopped_and_resumed_to_the_same_numbers(small, tmp_path):
    """With dropout and sampled reviews; and what started the processes, our command or torchrun, changes nothing."""
    whole, stopped, started = (tmp_path / name for name in ("whole", "stopped", "started"))
    folders = [output / "small" / "DReX" / "seed-2026" for output in (whole, stopped, started)]
    assert main(_command(small, whole, "--nproc", "2")) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "recbole_drex", *_command(small, stopped, "--nproc", "2")],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    _wait_until(lambda: (folders[1] / "last.safetensors").is_file() or process.poll() is not None)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in errors and "Traceback" not in errors
    assert len(children) >= 2
    _wait_until(lambda: not any(map(_runs, children)))
    assert not (folders[1] / "result.json").exists(), "it was finished before it could be stopped"
    # The number of processes does not belong to a run's description, so a run started by two is resumed.
    assert main(_command(small, stopped, "--nproc", "2", "--resume")) == 0
    _same_results(folders[0], folders[1])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    subprocess.run([*torchrun, "recbole_drex", *_command(small, started)], env=ENVIRONMENT, check=True, timeout=200)
    _same_results(folders[0], folders[2])
    before = (folders[0] / "result.json").stat().st_mtime_ns
    assert main(_command(small, whole, "--resume")) == 0
    assert (folders[0] / "result.json").stat().st_mtime_ns == before


@pytest.fixture
def cluster():
    """Two local Ray nodes with one CPU each."""
    pytest.importorskip("ray.train")
    import ray
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
    two = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
    two.add_node(**options)
    ray.init(address=two.address, log_to_driver=False)
    yield two
    ray.shutdown()
    two.shutdown()


@pytest.mark.slow
def test_two_machines_of_a_ray_cluster_learn_what_one_process_learns(cluster, small, outputs, tmp_path):
    from recbole_drex.experiments.ray_train import train_on_ray

    parameters = {**small.settings, **SHORT, **EXACT["DReX"]}
    arguments = {"models": ["DReX"], "dataset": "small", "data_path": small.root, "output": tmp_path / "results"}
    results = train_on_ray(workers=2, parameters=parameters, references=False, **arguments)
    assert results[0]["processes"] == 2
    folder = tmp_path / "results" / "small" / "DReX" / "seed-2026"
    assert read_result(folder) == results[0]
    expected = read_interactions(_folders(outputs, "DReX")[0])
    pd.testing.assert_frame_equal(read_interactions(folder), expected, atol=1e-4, rtol=0)
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["small"]
    with pytest.raises(ConfigError, match="parameter 'epochs' must be 1 or more, not 0"):
        train_on_ray(workers=2, parameters={**parameters, "epochs": 0}, references=False, **arguments)
    with pytest.raises(ConfigError, match="workers must be 1 or more, not 0"):
        train_on_ray(workers=0, **arguments)
