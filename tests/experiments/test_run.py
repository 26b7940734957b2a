"""The main job: what a run leaves, that it can be recomputed, and that it can be stopped, resumed and loaded."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from killing import check_equal, content
from sealing import reseal, unseal
from sklearn.metrics import mean_absolute_error, mean_squared_error, ndcg_score

from recbole_drex.cli.main import main
from recbole_drex.errors import CheckpointError
from recbole_drex.evaluation.protocol import Protocol, tie_keys
from recbole_drex.evaluation.ranking_metrics import own_test_metrics
from recbole_drex.evaluation.rating_metrics import rating_metrics
from recbole_drex.experiments import run_folder
from recbole_drex.experiments.quick_start import run
from recbole_drex.experiments.run import load_experiment
from recbole_drex.results.run_result import read_interactions, read_result

ROOT = Path(__file__).parents[2]
REFERENCES = ("GlobalMean", "ItemMean", "Bias", "BiasedMF")
LOGS = ("train.log", "tensorboard", "SHA256SUMS")
SHORT = {"epochs": 2, "train_batch_size": 256}


def _arguments(small, output: Path, *more: str) -> list[str]:
    """A short DReX run without references on the small data set."""
    given = {**small.settings, "data_path": small.root, "output": output, "dataset": small.name}
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    return ["run", "--no_references", "--measured_users", "0", *words, *more]


def _run(small, output: Path, models: list[str], **more: Any) -> list[dict[str, Any]]:
    parameters = {**small.settings, **SHORT, **more.pop("parameters", {})}
    return run(models, small.name, data_path=small.root, output=output, parameters=parameters, **more)


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory) -> Path:
    """Output folder of DReX and BPR with the reference models."""
    output = tmp_path_factory.mktemp("results")
    results = _run(small, output, ["DReX", "BPR"])
    assert [result["model"] for result in results] == ["DReX", "BPR", *REFERENCES]
    return output


def _folder(output: Path, model: str, seed: int = 2026) -> Path:
    return output / "small" / model / f"seed-{seed}"


@pytest.mark.parametrize("model", ["DReX", "BPR", *REFERENCES])
def test_a_run_leaves_all_its_files_and_no_litter(finished, model):
    folder = _folder(finished, model)
    names = {path.name for path in folder.iterdir()}
    expected = {"result.json", "run.json", "interactions.parquet", "users.parquet", "model.safetensors", "history.json"}
    explained = {"explanations.json", "profiles.json", "profiles.parquet"} if model.startswith("DReX") else set()
    explained |= {"fitted.safetensors"} if model == "DReX" else set()  # its tastes
    assert names == {*expected, *explained, "train.log", "tensorboard", "SHA256SUMS"}
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert model in (folder / "train.log").read_text()
    result = read_result(folder)  # validates against the schema
    history = json.loads((folder / "history.json").read_text())
    assert result["epochs_run"] == len(history)
    assert result["best_epoch"] in [entry["epoch"] for entry in history]
    if model in ("DReX", "BPR"):
        assert len(history) == 2
    seconds = result["seconds"]
    assert min(seconds[step] for step in ("load", "build", "train", "validate", "evaluate")) > 0
    assert min(seconds[step] for step in ("prepare", "items", "encode")) >= 0
    assert seconds.get("explain", 0) > 0 if explained else "explain" not in seconds


def _independent_own_test(rows: pd.DataFrame, levels: np.ndarray, topk: list[int]) -> dict[str, float]:
    """Metrics by scikit-learn and plain loops, for predictions without ties."""
    test = rows[rows["split"] == "test"]
    clipped = test["prediction"].clip(levels.min(), levels.max())
    nearest = [levels[np.abs(levels - value).argmin()] for value in clipped]
    expected: dict[str, float] = {
        "mae": mean_absolute_error(test["rating"], clipped),
        "rmse": mean_squared_error(test["rating"], clipped) ** 0.5,
        "mae_rounded": mean_absolute_error(test["rating"], nearest),
    }
    for k in topk:
        ndcg, precision, recall, f1 = [], [], [], []
        for _, user in test.groupby("user_id"):
            gain = 2.0 ** user["rating"].to_numpy() - 1
            ndcg.append(1.0 if len(user) == 1 else ndcg_score([gain], [user["prediction"]], k=k, ignore_ties=True))
            ranked = user.sort_values("prediction", ascending=False)
            relevant = int((user["rating"] >= 4).sum())
            if relevant:
                hits = int((ranked["rating"].head(k) >= 4).sum())
                p, r = hits / k, hits / relevant
                precision.append(p)
                recall.append(r)
                f1.append(2 * p * r / (p + r) if hits else 0.0)
        means = {"ndcg": ndcg, "precision": precision, "recall": recall, "f1": f1}
        expected |= {f"{name}@{k}": float(np.mean(values)) for name, values in means.items()}
    expected["ndcg@5_10"] = (expected["ndcg@5"] + expected["ndcg@10"]) / 2
    return expected


@pytest.mark.parametrize("model", ["DReX", "BPR", "BiasedMF"])
def test_own_test_metrics_can_be_recomputed_from_the_interactions_alone(finished, model):
    rows, result = read_interactions(_folder(finished, model)), read_result(_folder(finished, model))
    test = rows[rows["split"] == "test"]
    levels = np.sort(rows.loc[rows["split"] == "train", "rating"].unique())
    protocol = Protocol(**result["protocol"])
    keys = tie_keys(test["item_id"])
    ours: dict[str, float] = own_test_metrics(test["user_id"], test["prediction"], keys, test["rating"], protocol)
    ours["ndcg@5_10"] = (ours["ndcg@5"] + ours["ndcg@10"]) / 2
    reported = result["test"]["own_test"]
    if model != "BPR":
        errors = rating_metrics(test["rating"], test["prediction"], levels)
        assert errors.pop("n") == len(test)
        ours |= errors
    if model == "DReX":  # predicts a distribution, of which the file holds the median
        ours["mae_median"] = (test["rating"] - test["prediction_median"]).abs().mean()
        assert min(reported.pop("nll"), reported.pop("calibration_error")) > 0
    assert set(ours) == set(reported)
    assert reported == pytest.approx(ours, abs=1e-9)
    assert reported["tied_share"] == 0
    independent = _independent_own_test(rows, levels, protocol.as_dict()["topk"])
    compared = {name: value for name, value in independent.items() if name in reported}
    assert len(compared) == (36 if model != "BPR" else 33)
    assert {name: reported[name] for name in compared} == pytest.approx(compared, abs=1e-9)


def test_a_model_of_scores_reports_no_rating_error(finished):
    assert not {"mae", "rmse"} & set(read_result(_folder(finished, "BPR"))["test"]["own_test"])


@pytest.mark.parametrize("model", ["DReX", "BPR", *REFERENCES])
def test_every_model_has_the_same_split_with_shares_per_user(finished, model):
    rows, first = read_interactions(_folder(finished, model)), read_interactions(_folder(finished, "DReX"))
    columns = ["user_id", "item_id", "rating", "split"]
    sort = ["user_id", "item_id"]
    pd.testing.assert_frame_equal(
        rows[columns].sort_values(sort, ignore_index=True), first[columns].sort_values(sort, ignore_index=True)
    )
    assert not rows.duplicated(sort).any()
    assert rows.loc[rows["split"] == "train", "prediction"].isna().all()
    assert rows.loc[rows["split"] != "train", "prediction"].notna().all()
    assert rows["rating"].notna().all()
    counts = rows.groupby(["user_id", "split"]).size().unstack(fill_value=0)
    tenth = (counts.sum(axis=1) // 10).clip(lower=1)
    assert (counts["test"] == tenth).all()
    assert (counts["valid"] == tenth).all()


def test_split_differs_between_seeds_and_all_are_run(small, tmp_path):
    results = _run(small, tmp_path, ["Bias", "itemmean", "Bias"], seeds=[1, 2, 1], references=False)
    assert [(r["model"], r["seed"]) for r in results] == [("Bias", 1), ("ItemMean", 1), ("Bias", 2), ("ItemMean", 2)]
    parts = [read_interactions(_folder(tmp_path, "Bias", seed)) for seed in (1, 2)]
    tests = [set(map(tuple, part.loc[part["split"] == "test", ["user_id", "item_id"]].to_numpy())) for part in parts]
    assert tests[0] != tests[1]


@pytest.mark.parametrize("model", ["DReX", "BPR", "Bias"])
def test_a_loaded_run_predicts_identically(finished, model):
    experiment = load_experiment(_folder(finished, model))
    rows = read_interactions(_folder(finished, model))
    predicted, users = [], []
    for batch in experiment.parts.test.rows:
        predicted.append(experiment.model.predict(batch[0]).detach().numpy())
        users.append(batch[0]["user_id"].numpy())
    test = rows[rows["split"] == "test"]
    tokens = experiment.dataset.field2id_token["user_id"][np.concatenate(users)]
    assert tokens.tolist() == test["user_id"].tolist()
    assert np.concatenate(predicted).astype(np.float64).tolist() == test["prediction"].tolist()


def test_a_loaded_run_keeps_the_settings_it_was_made_with(finished, tmp_path):
    """A default that has changed since does not change the run: its own settings come from run.json."""
    folder = tmp_path / "run"
    shutil.copytree(_folder(finished, "DReX"), folder)
    described = json.loads((folder / "run.json").read_text())
    described["config"]["profile_words"] = 3
    (folder / "run.json").write_text(json.dumps(described))
    reseal(folder)
    assert load_experiment(folder).config["profile_words"] == 3


def test_a_run_again_reuses_references_only(small, finished, tmp_path):
    before = {model: (_folder(finished, model) / "result.json").stat().st_mtime_ns for model in REFERENCES}
    drex = _folder(finished, "DReX")
    old, old_time = read_result(drex), (drex / "result.json").stat().st_mtime_ns
    _run(small, finished, ["DReX"])
    assert {model: (_folder(finished, model) / "result.json").stat().st_mtime_ns for model in REFERENCES} == before
    assert (drex / "result.json").stat().st_mtime_ns > old_time
    assert read_result(drex)["test"] == old["test"]


def test_an_interrupted_reference_of_other_settings_does_not_block_a_run(small, tmp_path):
    folder = _folder(tmp_path, "Bias")
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"model": "Bias"}')
    (folder / "last.safetensors").write_bytes(b"left over")
    results = _run(small, tmp_path, ["ItemMean"])
    assert [result["model"] for result in results] == ["ItemMean", "GlobalMean", "Bias", "BiasedMF"]
    assert read_result(folder)["model"] == "Bias"


def test_a_run_killed_while_it_is_replaced_or_finished_is_not_mistaken(small, tmp_path, monkeypatch):
    folder = _folder(tmp_path, "Bias")
    _run(small, tmp_path, ["Bias"], references=False)

    whole, remove = content(folder, ("seconds", "peak_memory_mb", "command"), LOGS), run_folder._remove
    for calls in range(
        0, len(run_folder._OURS), 4
    ):  # killed ever later while the new run takes the place of the old one
        left = iter(range(calls))

        def stop(path, left=left):
            if path.parent == folder and next(left, None) is None:
                raise KeyboardInterrupt
            remove(path)

        monkeypatch.setattr(run_folder, "_remove", stop)
        with pytest.raises(KeyboardInterrupt):
            _run(small, tmp_path, ["Bias"], references=False)
            raise KeyboardInterrupt  # it was not killed
        monkeypatch.undo()
        if not (folder / "result.json").is_file():
            with pytest.raises(CheckpointError, match="unfinished run"):
                load_experiment(folder)
        made = (folder / "unfinished" / "result.json").stat() if (folder / "unfinished").is_dir() else None
        _run(small, tmp_path, ["Bias"], references=False, resume=True)
        check_equal(content(folder, ("seconds", "peak_memory_mb", "command"), LOGS), whole)
        assert made is None or (folder / "result.json").stat().st_mtime_ns == made.st_mtime_ns, (
            "it is not trained again"
        )
    (folder / "model.safetensors").unlink()  # as if it had been removed so far
    _run(small, tmp_path, ["Bias"], references=False, resume=True)
    assert (folder / "model.safetensors").is_file()
    before = (folder / "result.json").stat().st_mtime_ns
    (folder / "last.safetensors").touch()  # is removed after the result is written
    _run(small, tmp_path, ["Bias"], references=False, resume=True)
    assert (folder / "result.json").stat().st_mtime_ns == before and not (folder / "last.safetensors").exists()


def _start_and_stop(arguments: list[str], folder: Path, how: int, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Start the main job in a process of its own and stop it as soon as an epoch is finished."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "run_recbole_drex.py"), *arguments[1:]]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with interrupts ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (folder / "last.safetensors").is_file():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(how)
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@pytest.fixture(scope="module")
def uninterrupted(small, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    assert main(_arguments(small, output, "--epochs", "25")) == 0
    return _folder(output, "DReX")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_resumes_to_the_same_numbers(small, uninterrupted, tmp_path, how):
    arguments = _arguments(small, tmp_path / "results", "--epochs", "25")
    folder = _folder(tmp_path / "results", "DReX")
    stopped = _start_and_stop(arguments, folder, how, tmp_path)
    assert (folder / "last.safetensors").is_file()
    assert not (folder / "result.json").exists(), "it was finished before it could be stopped"
    if how == signal.SIGINT:
        assert stopped.returncode == 130
        assert "--resume" in stopped.stderr
        assert "Traceback" not in stopped.stderr
    assert main([*arguments, "--resume"]) == 0
    resumed, whole = read_result(folder), read_result(uninterrupted)
    for key in ("test", "valid", "best_epoch", "epochs_run", "references"):
        assert resumed[key] == whole[key], key
    assert resumed["seconds"]["validate"] > 0
    history = [json.loads((path / "history.json").read_text()) for path in (folder, uninterrupted)]
    for entry in (*history[0], *history[1]):
        del entry["seconds"]
    assert len(history[0]) == len(history[1])
    for again, once in zip(*history, strict=True):
        assert again == once
    pd.testing.assert_frame_equal(read_interactions(folder), read_interactions(uninterrupted), check_exact=True)
    assert not (folder / "last.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["results"], "nothing else in the working directory"


def test_a_finished_run_is_not_trained_again(small, uninterrupted, capsys):
    def state() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in uninterrupted.iterdir()}

    before = state()
    output = uninterrupted.parents[2]
    assert main([*_arguments(small, output, "--epochs", "25"), "--resume"]) == 0
    assert state() == before
    capsys.readouterr()
    assert main([*_arguments(small, output, "--epochs", "24"), "--resume"]) == 2
    error = capsys.readouterr().err
    assert str(uninterrupted) in error and "(epochs: 25 there, 24 now); " in error and "--overwrite" in error
    assert state() == before, "a run of other settings must not be lost"


@pytest.mark.parametrize("block", ["full", "sampled"])
def test_candidates_choose_the_block_shown_first(small, tmp_path, capsys, block):
    more = ["--model", "EASE", "--candidates", block, "--sampled_candidates", "5", "--verbose"]
    assert main(_arguments(small, tmp_path, *more)) == 0
    headers = [line for line in capsys.readouterr().out.splitlines() if "candidates=" in line]
    assert f"candidates={block}," in headers[0]
    assert any("candidates=own_test," in header for header in headers[1:])
    test = read_result(_folder(tmp_path, "EASE"))["test"]
    assert ("sampled" in test) == (block == "sampled")
    if block == "sampled":
        # A list of some unseen items is easier than the whole catalogue.
        assert test["sampled"]["ndcg@10"] >= test["full"]["ndcg@10"]
        assert test["sampled"]["users"] == test["full"]["users"]


def test_recbole_models_run_by_the_same_command(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(_arguments(small, tmp_path, "--model", "LightGCN,EASE", "--epochs", "2", "--verbose")) == 0
    lines = capsys.readouterr().out.splitlines()
    grid = [re.split(r" {2,}", line.strip()) for line in lines]
    header = next(cells for cells in grid if cells[0] == "model")
    for name in ("LightGCN", "EASE"):
        row = dict(zip(header, next(cells for cells in grid if cells[0] == name), strict=True))
        assert row["mae ↓"] == row["rmse ↓"] == "-"
        assert 0 < float(row["ndcg@10 ↑"][:6]) <= 1


def test_a_damaged_checkpoint_or_other_data_is_refused(small, tmp_path, capsys):
    _run(small, tmp_path, ["Bias"], references=False)
    folder = _folder(tmp_path, "Bias")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    unseal(folder)
    assert main(["explain", "--run", str(folder), "--user", "user_01"]) == 2
    assert str(weights) in capsys.readouterr().err
    described = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**described, "fingerprint": "0" * 16}))
    assert main(["explain", "--run", str(folder), "--user", "user_01"]) == 2
    assert "0" * 16 in capsys.readouterr().err
    (folder / "run.json").write_text('{"model": "Bias"}')
    assert main(["explain", "--run", str(folder), "--user", "user_01"]) == 2
    assert "run.json" in capsys.readouterr().err
