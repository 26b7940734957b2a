"""Searches by Ray Tune on the small data set: what is tried, what wins, what is read of the test part."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from sealing import unseal

from recbole_drex import registry
from recbole_drex.cli.verify import verify
from recbole_drex.config.parameters import with_defaults
from recbole_drex.config.recbole_config import Config
from recbole_drex.errors import CheckpointError, ConfigError
from recbole_drex.experiments.quick_start import run
from recbole_drex.model.factorization.biasedmf import BiasedMF
from recbole_drex.parallel.ray_cluster import connected
from recbole_drex.tuning import memory
from recbole_drex.tuning.ray_tune import Resources
from recbole_drex.tuning.search import resume, tune
from recbole_drex.tuning.search_results import SEARCH, read_search, trial_table
from recbole_drex.tuning.trial import name_of
from recbole_drex.utils.checksums import SUMS
from recbole_drex.utils.files import write_json

SEEDS = (2026, 2027)
SPACE = "learning_rate: [0.02, 0.002]\nembedding_size: [4, 8]\n"


@pytest.fixture(scope="module", autouse=True)
def ray():
    with connected(cpus=2, object_store_mb=200):
        yield


@pytest.fixture(scope="module")
def call(small, tmp_path_factory):
    """``call(folder, models, space, **changes)``: a search on the small data set, one trial at a time."""
    spaces = tmp_path_factory.mktemp("spaces")

    def call(folder, models=("BPR",), space=SPACE, **changes):
        path = spaces / f"{abs(hash(space))}.yaml"
        path.write_text(space)
        given = {
            "dataset": small.name, "space": path, "seeds": SEEDS, "output": folder, "data_path": small.root,
            "resources": Resources(parallel=1), "parameters": {**small.settings, "epochs": 2}, **changes,
        }  # fmt: skip
        return tune(list(models), **given)

    return call


@pytest.fixture(scope="module")
def search(call, tmp_path_factory):
    return call(tmp_path_factory.mktemp("search") / "grid", command="recbole-drex tune")


def test_every_point_of_a_grid_is_trained_with_every_seed(search):
    table = trial_table(search)
    assert len(table) == 4 and set(table["status"]) == {"finished"} and set(table["seeds"]) == {2}
    assert {(row.learning_rate, row.embedding_size) for row in table.itertuples()} == {
        (rate, size) for rate in (0.02, 0.002) for size in (4, 8)
    }
    assert table["score"].is_monotonic_decreasing  # larger is better, and the best comes first
    for trial in search.trials["BPR"]:
        for seed in SEEDS:
            history = json.loads((trial["folder"] / f"seed-{seed}" / "history.json").read_text())
            best = max(entry["valid_score"] for entry in history)
            assert trial["scores"][str(seed)] == best and len(history) == 2
            assert history[trial["best_epochs"][str(seed)]]["valid_score"] == best
        assert trial["name"] == name_of(trial["parameters"]) and trial["attempts"] == 1


def test_a_registered_model_is_known_to_the_workers(call, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})

    @registry.register_model
    class LocalMF(BiasedMF):
        PARAMETERS = with_defaults(BiasedMF.PARAMETERS, embedding_size=2)

    result = call(tmp_path / "own", [LocalMF], "embedding_size: [2, 3]\n", seeds=(2026,))
    assert [trial["status"] for trial in result.trials["LocalMF"]] == ["finished"] * 2
    assert result.winner("LocalMF")["parameters"]["embedding_size"] in (2, 3)


def test_the_test_part_is_read_for_the_winner_alone(search):
    evaluated = sorted(path.relative_to(search.folder).as_posix() for path in search.folder.glob("BPR/**/result.json"))
    winner = search.winner("BPR")
    assert evaluated == [f"BPR/{winner['name']}/seed-{seed}/result.json" for seed in SEEDS]
    kept = {path.parent.parent.name for path in search.folder.rglob("model.safetensors")}
    assert kept == {winner["name"]}
    assert search.described["winners"]["BPR"]["parameters"] == winner["parameters"]


def test_the_winner_is_what_a_run_of_its_configuration_gives(search, small, tmp_path):
    best = search.folder / "best" / "BPR.yaml"
    assert best.read_text().startswith("# BPR on small: the best of 4 trials (grid)")
    results = run(
        ["BPR"], small.name, data_path=small.root, output=tmp_path, seeds=SEEDS, config_files=[best], references=False,
    )  # fmt: skip
    for ours, theirs in zip(search.winner_runs("BPR"), results, strict=True):
        assert ours.result["test"] == theirs["test"] and ours.result["valid"] == theirs["valid"]


def test_tables_on_disk(search):
    table = trial_table(search)
    for read in (pd.read_csv(search.folder / "trials.csv"), pd.read_parquet(search.folder / "trials.parquet")):
        assert list(read.columns) == list(table.columns)
        np.testing.assert_allclose(read["score"], table["score"])
        assert read["trial"].tolist() == table["trial"].tolist()
    assert list(search.folder.rglob("events.out.tfevents*"))


def test_a_changed_byte_of_a_search_is_noticed(search, tmp_path):
    assert not verify(search.folder).faults
    folder = shutil.copytree(search.folder, tmp_path / "search")
    trial = search.winner("BPR")["name"]
    for name, read in (("search.json", True), (f"BPR/{trial}/trial.json", True), ("trials.csv", False)):
        whole = (folder / name).read_bytes()
        at = whole.rindex(b"2") if b"2" in whole else len(whole) // 2
        (folder / name).write_bytes(whole[:at] + b"3" + whole[at + 1 :])
        assert f"{folder / name} is damaged: its SHA-256 is not the one in SHA256SUMS" in verify(folder).faults
        if read:
            with pytest.raises(CheckpointError, match="is damaged: its SHA-256"):
                read_search(folder)
        (folder / name).write_bytes(whole)


def test_a_search_is_not_overwritten_and_a_finished_one_is_left_as_it_is(search, call):
    with pytest.raises(ConfigError, match="has a search; continue it with --resume"):
        call(search.folder)
    before = (search.folder / SEARCH).read_bytes()
    again = resume(search.folder)
    assert (search.folder / SEARCH).read_bytes() == before
    pd.testing.assert_frame_equal(trial_table(again), trial_table(search))


def test_a_failed_trial_is_tried_again_and_reported_and_the_others_go_on(call, tmp_path):
    result = call(tmp_path / "s", ["DReX"], "modalities: [[rating], [smell]]\n", seeds=(2026,))
    finished, failed = result.trials["DReX"]
    assert (finished["status"], failed["status"]) == ("finished", "failed")
    assert failed["parameters"]["modalities"] == ["smell"] and failed["attempts"] == 2
    assert "smell" in failed["error"] and "ConfigError" in (failed["folder"] / "error.log").read_text()
    assert result.winner("DReX") == finished and (tmp_path / "s" / "best" / "DReX.yaml").is_file()
    assert trial_table(result)["modalities"].tolist() == ['["rating"]', '["smell"]']


@pytest.mark.slow
def test_a_search_without_any_finished_trial(call, tmp_path):
    with pytest.raises(CheckpointError, match=r"no trial of DReX was finished.*training of DReX diverged"):
        call(tmp_path / "s", ["DReX"], "learning_rate: [100000.0]\n", seeds=(2026,))


@pytest.mark.parametrize("algo", [pytest.param("random", marks=pytest.mark.slow), "optuna", "asha"])
def test_other_algorithms(call, tmp_path, algo):
    space = "learning_rate: {min: 1e-3, max: 1e-1, log: true}\nembedding_size: [4, 8, 16]\nweight_decay: [0.0, 1e-4]\n"
    result = call(tmp_path / algo, space=space, algo=algo, trials=5, seeds=(2026,), resources=Resources(parallel=2))
    table = trial_table(result)
    assert len(table) == 5 and table["status"].isin(["finished", "stopped"]).all()
    assert table["learning_rate"].nunique() == 5 and table["learning_rate"].between(1e-3, 1e-1).all()
    assert result.described["winners"]["BPR"]["score"] == pytest.approx(
        table["score"][table["status"] == "finished"].max()
    )
    assert Config("BPR", "demo", [result.folder / "best" / "BPR.yaml"])["embedding_size"] in (4, 8, 16)


def test_models_get_the_same_number_of_trials(call, small, tmp_path):
    spaces = tmp_path / "spaces"
    spaces.mkdir()
    (spaces / "BPR.yaml").write_text(SPACE)
    (spaces / "Bias.yaml").write_text("user_damping: [1.0, 2.0, 5.0]\nitem_damping: [1.0, 5.0]\n")
    result = tune(
        ["BPR", "Bias"], small.name, space=spaces, trials=3, output=tmp_path / "s", data_path=small.root,
        resources=Resources(parallel=2), parameters={**small.settings, "epochs": 2},
    )  # fmt: skip
    assert {model: len(trials) for model, trials in result.trials.items()} == {"BPR": 3, "Bias": 3}
    table = trial_table(result).set_index("model")
    assert table.loc["Bias", "learning_rate"].isna().all() and table.loc["BPR", "user_damping"].isna().all()
    assert result.described["metrics"] == {
        "BPR": {"metric": "full_ndcg@10", "bigger": True}, "Bias": {"metric": "rmse", "bigger": False},
    }  # fmt: skip
    assert set(result.described["winners"]) == {"BPR", "Bias"}


def test_a_search_stopped_by_ctrl_c_resumes_and_reaches_the_same_result(search, small, tmp_path):
    folder, space = tmp_path / "s", tmp_path / "space.yaml"
    space.write_text(SPACE)
    options = [f"--{key}={value}" for key, value in small.settings.items()]
    command = [
        sys.executable, "-m", "recbole_drex", "tune", "--models", "BPR", "--dataset", small.name, "--data_path",
        str(small.root), "--space", str(space), "--seeds", "2026,2027", "--parallel", "1", "--output_dir", str(folder),
        "--epochs", "2", *options,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not any('"finished"' in path.read_text() for path in folder.glob("BPR/*/trial.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("started in the background, where SIGINT is ignored")
    assert process.returncode == 130 and "recbole-drex tune --resume DIR" in errors and "Traceback" not in errors
    stopped = read_search(folder)
    assert stopped.described["winners"] == {} and stopped.described["seconds"]["BPR"] > 0
    done = {trial["name"]: trial for trial in stopped.trials["BPR"] if trial["status"] == "finished"}
    assert 1 <= len(done) < 4
    result = resume(folder)
    wanted = trial_table(search).drop(columns=["seconds", "attempts"])
    pd.testing.assert_frame_equal(trial_table(result).drop(columns=["seconds", "attempts"]), wanted)
    for trial in result.trials["BPR"]:
        if trial["name"] in done:
            assert trial["seconds"] == done[trial["name"]]["seconds"]  # kept, not run again
    for ours, theirs in zip(result.winner_runs("BPR"), search.winner_runs("BPR"), strict=True):
        assert ours.result["test"] == theirs.result["test"]


@pytest.mark.slow
def test_an_optuna_search_resumes_from_its_trials(call, tmp_path):
    result = call(
        tmp_path / "s", algo="optuna", trials=4, seeds=(2026,), space=SPACE.replace("[4, 8]", "[2, 4, 8, 16]")
    )
    folder = result.folder
    described = json.loads((folder / SEARCH).read_text())
    before = {trial["name"]: trial for trial in result.trials["BPR"]}
    write_json(folder / SEARCH, {**described, "winners": {}, "trials": 6})
    (folder / SUMS).unlink()  # the search is changed by hand
    again = resume(folder)
    assert all(trial in again.trials["BPR"] for trial in before.values())
    # Optuna may propose what was tried; that is not trained again.
    assert all(trial["attempts"] == 1 for trial in again.trials["BPR"]) and len(again.trials["BPR"]) <= 6
    assert set(again.described["winners"]) == {"BPR"}


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ()}, "name at least one model"),
        ({"models": ("DReXX",)}, "unknown model 'DReXX'; did you mean 'DReX'"),
        ({"algo": "gird"}, "unknown search algorithm 'gird'; did you mean 'grid'"),
        ({"trials": 0}, "--trials must be above 0"),
        ({"minutes": -1}, "--minutes must be above 0"),
        ({"space": "lerning_rate: [0.1]\n"}, "unknown parameter of BPR: 'lerning_rate'; did you mean 'learning_rate'"),
        ({"space": "learning_rate: []\n"}, "is empty"),
        ({"space": "learning_rate: {min: 0.1, max: 1}\n"}, "a grid needs a list of values"),
        ({"parameters": {"seed": 1}}, "given by --seeds"),
        ({"parameters": {"epoch": 1}}, "unknown parameter of BPR: 'epoch'; did you mean 'epochs'"),
        ({"resources": Resources(parallel=100_000)}, r"100000 trials at once need about .* GiB.*--parallel \d+"),
    ],
)  # fmt: skip
def test_bad_input_is_reported_before_any_trial(call, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        call(tmp_path / "s", **changes)
    assert not (tmp_path / "s").exists()


def test_a_huge_grid_needs_a_yes(call, tmp_path):
    space = "".join(
        f"{name}: {list(range(1, 12))}\n" for name in ("embedding_size", "epochs", "stopping_step", "eval_step")
    )
    with pytest.raises(ConfigError, match="14,641 combinations; --trials N tries N of them at random, --yes all"):
        call(tmp_path / "s", space=space, parameters={})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "--parallel"), ((1, 0), "--cpus_per_trial"), ((1, 1, -0.5), "--gpus_per_trial"), ((1, 1, 1.5), "--gpus")],
)
def test_bad_resources(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Resources(*arguments)


def test_more_than_ray_has(call, tmp_path):
    with pytest.raises(ConfigError, match="a trial wants 3 CPUs, but Ray has 2"):
        call(tmp_path / "s", resources=Resources(parallel=1, cpus=3))


def test_memory_of_a_container(tmp_path, monkeypatch):
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("3000000\n")
    used.write_text("1000000\n")
    monkeypatch.setattr(memory, "_LIMITS", (str(limit), ""))
    monkeypatch.setattr(memory, "_USED", (str(used), ""))
    assert memory.free_memory() == 2_000_000
    limit.write_text("max\n")
    assert memory.free_memory() > 50_000_000


def test_resuming_what_is_no_search_or_another(search, tmp_path):
    with pytest.raises(CheckpointError, match="has no search"):
        resume(tmp_path)
    for change, message in (
        ({"schema": 99}, "has schema 99"),
        ({"version": "0.0.1"}, "was made by version 0.0.1"),
        ({"fingerprint": "0" * 16}, "searched on data 0000000000000000; data set 'small' has changed since"),
    ):
        copy = tmp_path / str(len(message))
        unseal(shutil.copytree(search.folder, copy))
        write_json(copy / SEARCH, {**json.loads((copy / SEARCH).read_text()), **change})
        with pytest.raises(CheckpointError, match=message):
            resume(copy)
    (copy / SEARCH).write_text("{}")
    with pytest.raises(CheckpointError, match="damaged"):
        read_search(copy)
    shutil.copy(search.folder / SEARCH, copy / SEARCH)
    next(copy.glob("BPR/*/trial.json")).write_text('{"status": "odd"}')
    with pytest.raises(CheckpointError, match="is not a trial"):
        read_search(copy)
