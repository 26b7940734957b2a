"""What a person sees while something takes long, and how long it is said to take."""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

import recbole_drex
from recbole_drex.experiments.compare import _about, _Job
from recbole_drex.experiments.compare import parse_model as parsed
from recbole_drex.experiments.run import _ending
from recbole_drex.training import run_record
from recbole_drex.utils.progress import WITHOUT_REST, never_silent, stage


@pytest.mark.parametrize("terminal", [True, False])
def test_silence_is_ended_after_a_second(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    output.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", output)
    with never_silent("run"):
        time.sleep(2.2)
        unnamed = output.getvalue()
        with stage("reading demo"):
            time.sleep(2.2)
            named = output.getvalue()
            with tqdm(total=40, delay=100, bar_format=WITHOUT_REST, desc="DReX", ncols=80) as bar:
                time.sleep(1.2)
                assert "DReX:   0%" in output.getvalue()[len(named) :]
                bar.update(40)
        print("done", file=sys.stderr)
        with stage(""):  # waiting for others is no silence
            before = output.getvalue()
            time.sleep(2.2)
    assert bool(re.search(r"run: [123] s$", unnamed)) is terminal
    assert re.search(r"reading demo: \d s$", named)
    assert output.getvalue() == before and before.endswith("done\n")
    # What was said is removed before anything else is written.
    assert before.count("reading demo") == len(re.findall(r"reading demo: \d s\r +\r", before)) > 0


def test_streams_are_as_before() -> None:
    streams = sys.stdout, sys.stderr
    with pytest.raises(ZeroDivisionError), never_silent("run"):
        assert sys.stdout.encoding == streams[0].encoding
        print(1 / 0)
    assert (sys.stdout, sys.stderr) == streams


def test_training_reports_how_it_ended(make_experiment: Any, train: Any) -> None:
    trainer = train(make_experiment("BiasedMF", epochs=30, stopping_step=1, learning_rate=0.5))
    epochs = len(trainer.history)
    assert trainer.best_epoch + 3 == epochs < 30  # stopping_step epochs may be worse, and one more ends it
    assert _ending(trainer, epochs) == f"stopped early at epoch {epochs}, best {epochs - 2}"
    whole = train(make_experiment("BiasedMF", epochs=1))
    assert _ending(whole, 1) == "best epoch 1"


def _job(model: str, dataset: str, status: str, seconds: float | None = None, timed: bool = False) -> _Job:
    variant: Any = type("", (), {"label": model, "model": parsed(model)[0]})
    nothing: Any = None
    return _Job(variant, dataset, "seed-1", nothing, nothing, Path(), status, None, seconds, timed)


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([_job("DReX", "demo", "waiting")], ""),
        ([_job("DReX", "demo", "finished", 70, True), _job("DReX", "demo", "waiting")], ", about 1 min"),
        ([_job("DReX", "demo", "finished", 7, True)] + [_job("DReX", "demo", "waiting")] * 3, ", about 21 s"),
        # Another model, another data set, a run of another day, a run that failed: nothing to go by.
        ([_job("Bias", "demo", "finished", 1, True), _job("DReX", "demo", "waiting")], ""),
        ([_job("DReX", "demo", "finished", 1, True), _job("DReX", "other", "waiting")], ""),
        ([_job("DReX", "demo", "finished", 1), _job("DReX", "demo", "waiting")], ""),
        ([_job("DReX", "demo", "failed", 1), _job("DReX", "demo", "waiting")], ""),
        ([_job("DReX", "demo", "finished", 1, True)], ""),
    ],
)
def test_time_is_estimated_from_the_same_runs_or_not_at_all(jobs: list[_Job], expected: str) -> None:
    assert _about(jobs) == expected


def test_bars_whose_end_is_open_name_no_time_that_is_left() -> None:
    text = tqdm.format_meter(10, 100, 20.0, bar_format=WITHOUT_REST, ncols=80, unit="epoch", postfix="RMSE 0.7")
    assert text.endswith("| 10/100 [00:20,  2.00s/epoch, RMSE 0.7]") and "<" not in text


def test_nothing_needs_what_only_unix_has(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = run_record._peak_memory()
    monkeypatch.setitem(sys.modules, "resource", None)
    assert 50 < run_record._peak_memory() <= needed * 1.1
    for path in Path(recbole_drex.__file__).parent.rglob("*.py"):
        assert not re.search(r"^(import|from) (resource|fcntl|pwd|grp|termios|pty)\b", path.read_text("utf-8"), re.M), (
            path
        )
