"""Finished results stay until new ones are finished; damaged files are noticed, named and made again."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from killing import check_equal, content

from recbole_drex.analysis.comparison_table import write_tables
from recbole_drex.cli.main import main
from recbole_drex.cli.verify import verify
from recbole_drex.errors import BusyError, CheckpointError, DrexError, StorageError
from recbole_drex.experiments import run_folder
from recbole_drex.experiments.compare import compare
from recbole_drex.experiments.quick_start import run
from recbole_drex.experiments.run import load_experiment, run_one
from recbole_drex.report.html import write_report
from recbole_drex.results.comparison import read_comparison
from recbole_drex.results.run_result import read_result

QUICK: dict[str, Any] = {"epochs": 2, "train_batch_size": 256, "measured_users": 0, "explained_users": 2}


@pytest.fixture
def make(small, tmp_path):
    """``make(models, **options)``: a quick run on ``small`` in ``tmp_path``."""

    def make(models: list[str], parameters: dict[str, Any] | None = None, **options: Any) -> list[dict[str, Any]]:
        given = {**small.settings, **QUICK, **(parameters or {})}
        options = {"references": False, **options}
        return run(models, small.name, data_path=small.root, output=tmp_path, parameters=given, **options)

    return make


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is there already ------------------------------------------------------------------------------------------------


def test_a_finished_run_of_another_configuration_is_kept_unless_overwritten(make, small, tmp_path, monkeypatch):
    folder = tmp_path / small.name / "BPR" / "seed-2026"
    make(["BPR"])
    (folder / "notes.txt").write_text("mine")
    before = _bytes(folder)
    for resume in (False, True):
        with pytest.raises(CheckpointError, match=r"\(epochs: 2 there, 3 now\); choose .*--output_dir.* --overwrite"):
            make(["ItemMean", "BPR"], {"epochs": 3}, resume=resume)
    assert _bytes(folder) == before and not (tmp_path / small.name / "ItemMean").exists(), "nothing has been trained"

    seal = run_folder.seal
    monkeypatch.setattr(run_folder, "seal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make(["BPR"], {"epochs": 3}, overwrite=True)
    monkeypatch.setattr(run_folder, "seal", seal)
    assert {name: data for name, data in _bytes(folder).items() if not name.startswith("unfinished/")} == before
    assert load_experiment(folder).config["epochs"] == 2
    (result,) = make(["BPR"], {"epochs": 3}, overwrite=True, resume=True)
    assert result["epochs_run"] == 3 and load_experiment(folder).config["epochs"] == 3
    assert (folder / "notes.txt").read_text() == "mine", "a user's file is no run's"
    assert not (folder / "unfinished").exists() and not verify(folder).faults
    assert result["config"]["checkpoint_dir"] == str(folder)


def test_a_reference_of_another_configuration_is_kept(make, small, tmp_path):
    make(["Bias"])
    before = _bytes(tmp_path / small.name / "Bias")
    with pytest.raises(CheckpointError, match=r"Bias.seed-2026 has a finished run of another configuration"):
        make(["ItemMean"], {"topk": [3]}, references=True)
    assert _bytes(tmp_path / small.name / "Bias") == before


def test_loading_an_unfinished_run_is_an_error_that_says_so(make, small, tmp_path, capsys):
    folder = tmp_path / small.name / "ItemMean" / "seed-2026"
    make(["ItemMean"])
    (folder / "result.json").unlink()
    for look in (load_experiment, read_comparison, write_report):
        with pytest.raises(CheckpointError, match=r"holds an unfinished run: it has no result\.json\. Finish it"):
            look(folder)
    assert main(["explain", "--run", str(folder), "--user", "u"]) == 2
    assert "unfinished run" in capsys.readouterr().err


def test_files_of_an_earlier_comparison_are_removed(small, tmp_path):
    def make(models: list[str]):
        return compare(
            models,
            [small.name],
            [1, 2],
            data_path=small.root,
            output=tmp_path,
            parameters={**small.settings, **QUICK},
            references=False,
        )

    first = make(["Bias", "ItemMean"])
    write_tables(first, first.folder)
    write_report(first.folder)
    (first.folder / "notes.txt").write_text("mine")
    written = {path.name for path in first.folder.iterdir()}
    assert {"table.csv", "table_full.tex", "significance.csv", "report.html", "SHA256SUMS"} <= written
    assert make(["Bias", "ItemMean"]) and {path.name for path in first.folder.iterdir()} == written
    make(["Bias"])
    assert {path.name for path in first.folder.iterdir()} == {"comparison.json", "SHA256SUMS", "notes.txt"}
    assert not verify(first.folder).faults


def test_a_folder_of_another_process_is_not_written(small, tmp_path, monkeypatch):
    def busy(*_, **__):
        raise BusyError("another process has it")

    monkeypatch.setattr("recbole_drex.experiments.compare.run_one", busy)
    result = compare(["ItemMean"], [small.name], [1], data_path=small.root, output=tmp_path, references=False,
                    parameters=small.settings)  # fmt: skip
    assert [failure.error for failure in result.failures] == ["another process has it"]
    assert not (tmp_path / small.name).exists()


def test_a_full_disk_ends_a_comparison(small, tmp_path, monkeypatch):
    calls = []

    def full(*_, **__):
        calls.append(1)
        raise StorageError("no room")

    monkeypatch.setattr("recbole_drex.experiments.compare.run_one", full)
    with pytest.raises(StorageError, match="no room"):
        compare(["ItemMean", "Bias"], [small.name], [1], data_path=small.root, output=tmp_path, references=False,
                parameters=small.settings)  # fmt: skip
    assert len(calls) == 1
    assert [run["status"] for run in json.loads((tmp_path / "comparison/comparison.json").read_text())["runs"]] == [
        "waiting"
    ] * 2


def test_a_run_folder_may_be_a_link_and_files_obey_the_umask(make, small, tmp_path):
    target, folder = tmp_path / "elsewhere", tmp_path / small.name / "ItemMean" / "seed-2026"
    target.mkdir()
    folder.parent.mkdir(parents=True)
    folder.symlink_to(target)
    before = os.umask(0o027)
    try:
        make(["ItemMean"])
        make(["ItemMean"], {"topk": [3]}, overwrite=True)
    finally:
        os.umask(before)
    assert folder.is_symlink() and read_result(target)["protocol"]["topk"] == [3]
    assert {oct(path.stat().st_mode & 0o777) for path in target.iterdir() if path.is_file()} == {"0o640"}


# Damage ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drex(small, tmp_path_factory) -> Path:
    """Folder of a finished run of DReX with explanations."""
    output = tmp_path_factory.mktemp("results")
    parameters = {**small.settings, **QUICK}
    run(["DReX"], small.name, data_path=small.root, output=output, parameters=parameters, references=False)
    return output / small.name / "DReX" / "seed-2026"


def test_every_changed_byte_of_a_run_is_noticed(drex, tmp_path, capsys):
    folder = shutil.copytree(drex, tmp_path / "run")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert {path.name for path in files} >= {"run.json", "result.json", "SHA256SUMS", "train.log", "profiles.json"}
    assert main(["verify", str(folder)]) == 0 and capsys.readouterr().out.endswith("all are undamaged\n")
    rng = random.Random(22)
    for number in range(600):
        path = files[number % len(files)]
        whole = path.read_bytes()
        index = rng.randrange(len(whole))
        path.write_bytes(whole[:index] + bytes([whole[index] ^ rng.randrange(1, 256)]) + whole[index + 1 :])
        result = verify(folder).faults
        path.write_bytes(whole)
        assert len(result) >= 1 and any(path.name in line for line in result), (path, index)
        assert all("\n" not in line for line in result)
    path = folder / "result.json"
    path.write_text(path.read_text().replace("2026", "2027", 1))
    assert main(["verify", str(folder)]) == 1
    assert f"{path} is damaged: its SHA-256 is not the one in SHA256SUMS\n" in capsys.readouterr().out


READERS: dict[str, Any] = {
    "run.json": load_experiment,
    "model.safetensors": load_experiment,
    "result.json": read_comparison,
    "interactions.parquet": lambda folder: read_comparison(folder).runs[0].interactions(),
    "users.parquet": lambda folder: read_comparison(folder).runs[0].users(),
    "history.json": lambda folder: read_comparison(folder).runs[0].history(),
    "explanations.json": lambda folder: read_comparison(folder).runs[0].explanations(),
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_checks_its_files_and_run_repairs_them(name, small, drex, tmp_path, capsys):
    folder = tmp_path / small.name / "DReX" / "seed-2026"
    shutil.copytree(drex, folder)
    wanted = content(drex, ("seconds", "peak_memory_mb", "command"), ["train.log", "tensorboard", "SHA256SUMS"])
    damaged = (folder / name).read_bytes()
    at = damaged.rindex(b"2026") if name == "run.json" else len(damaged) // 2
    damaged = damaged[:at] + bytes([damaged[at] ^ 1]) + damaged[at + 1 :]
    (folder / name).write_bytes(damaged)
    with pytest.raises(DrexError, match=rf"{name} is damaged: its SHA-256"):
        READERS[name](folder)
    words = [f"--{key}={value}" for key, value in {**small.settings, **QUICK}.items()]
    words += ["--dataset", small.name, "--data_path", str(small.root), "--no_references", "--output_dir", str(tmp_path)]
    assert main(["run", *words, "--resume"]) == 0
    (note,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert str(folder / name) in note and f"{name}.damaged" in note
    assert (folder / f"{name}.damaged").read_bytes() == damaged
    (folder / f"{name}.damaged").unlink()
    check_equal(content(folder, ("seconds", "peak_memory_mb", "command"),
                        ["train.log", "tensorboard", "SHA256SUMS"]), wanted)  # fmt: skip


def test_a_comparison_repeats_damaged_runs(small, tmp_path, capsys):
    options: dict[str, Any] = {"data_path": small.root, "output": tmp_path, "references": False}
    for damaged in ("", "users.parquet", "run.json", "result.json", "model.safetensors"):
        folder = tmp_path / small.name / "ItemMean" / "seed-1"
        if damaged:
            (folder / damaged).write_bytes((folder / damaged).read_bytes()[:-3])
        result = compare(["ItemMean"], [small.name], [1], parameters=small.settings, **options)
        assert [run.replicate for run in result.runs] == ["1"] and not verify(result.folder).faults
        assert f"{damaged}.damaged" in capsys.readouterr().err or not damaged


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"model": 5}', "\0"])
def test_a_run_with_an_empty_description_is_repeated(make, small, tmp_path, text):
    folder = tmp_path / small.name / "ItemMean" / "seed-2026"
    make(["ItemMean"])
    (folder / "run.json").write_text(text)
    (result,) = make(["ItemMean"], resume=True)
    assert result == read_result(folder) and (folder / "run.json.damaged").read_text() == text


def test_run_one_keeps_what_is_finished(small, make_config, tmp_path):
    first = run_one(make_config("ItemMean"), small.manifest, tmp_path / "run")
    before = (tmp_path / "run" / "result.json").stat().st_mtime_ns
    assert run_one(make_config("ItemMean"), small.manifest, tmp_path / "run") == first
    assert (tmp_path / "run" / "result.json").stat().st_mtime_ns == before
