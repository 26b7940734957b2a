"""The benchmarks of training: their data and sums always, their runs at small sizes where there is time for them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import generated
import growth
import scoring
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.utils.files import read_json

ROOT = Path(__file__).parents[2]


def run(name: str, path: Path, *arguments: str) -> dict:
    """What ``benchmarks/<name>.py`` writes."""
    script = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *arguments, "--output", str(path)]
    subprocess.run(script, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
    return read_json(path)


def test_generated_data_are_what_they_say(tmp_path):
    made = generated.generate(tmp_path / "one", 1500, 120, 4.0)
    again = generated.generate(tmp_path / "two", 1500, 120, 4.0)
    folder = tmp_path / "one" / generated.NAME
    assert made == again and made["users"] == 50
    other = tmp_path / "two" / generated.NAME / f"{generated.NAME}.inter"
    assert (folder / f"{generated.NAME}.inter").read_bytes() == other.read_bytes()
    frame, store = pd.read_csv(folder / f"{generated.NAME}.inter", sep="\t"), FeatureStore.open(folder / "features")
    assert len(frame) == made["interactions"] > 1400
    assert not frame.duplicated(["user_id:token", "item_id:token"]).any()
    assert frame["rating:float"].dropna().between(1, 5).all() and 0.03 < frame["rating:float"].isna().mean() < 0.09
    rows = frame["review_row:float"].dropna()
    assert rows.tolist() == list(range(made["reviews"])) and len(store) == made["reviews"]
    assert store.offsets[-1] == made["words"] and 3.5 < np.diff(store.offsets).mean() < 4.5


def test_slopes_and_memory_of_growth():
    sizes = (1000, 4000, 16_000)
    rows = [
        {
            "interactions": size,
            "seconds": {"build": 0.1 * size, "epoch": 0.01 * size**1.2, "evaluate": 5.0},
            "bytes": 4_000_000 + 1200 * size,
        }
        for size in sizes
    ]
    found = {one.what: one for one in growth.findings(rows, {100: 1.0, 400: 4.0})}
    slopes = {what: one.value for what, one in found.items() if what.startswith("growth of ")}
    expected = {"growth of encode": 1, "growth of build": 1, "growth of epoch": 1.2, "growth of evaluate": 0}
    assert slopes == pytest.approx(expected, abs=1e-9)
    assert [what for what, one in found.items() if not one.reached] == ["growth of epoch"]
    assert found["memory of training, as it grows"].value == pytest.approx(1.2)
    assert found["memory of training, all of it"].value == pytest.approx(1.2 + 4000 / 16_000)


def test_one_size_has_no_slope():
    row = {"interactions": 1000, "seconds": {"build": 1.0, "epoch": 1.0, "evaluate": 1.0}, "bytes": 3_000_000}
    assert [one.what for one in growth.findings([row], {})] == ["memory of training, all of it"]


def test_figures_of_a_catalogue():
    ours, repeated = scoring.OURS, scoring.REPEATED
    row = {"items": 500, "pairs": 16_384, "difference": 1e-6}
    row |= {f"{ours} ms": 2.0, f"{repeated} ms": 8.0, f"{ours} MB": 1.0, f"{repeated} MB": 30.0}
    faster, difference, memory = scoring.findings(row, 64)
    assert (faster.value, difference.value, memory.value, memory.aim) == (4.0, 1e-6, 1.0, 4.0)


@pytest.mark.slow
def test_scoring_of_a_small_catalogue(tmp_path):
    arguments = ("--interactions", "3000", "--items", "300", "--users", "6", "--repetitions", "1")
    _, difference, memory = run("scoring", tmp_path / "scoring.json", *arguments)["findings"]
    assert difference["reached"] and memory["reached"]


@pytest.mark.slow
def test_growth_between_small_sizes(tmp_path):
    arguments = ("--sizes", "1500", "3000", "--encoded", "300", "--items", "200", "--threads", "1")
    result = run("growth", tmp_path / "growth.json", *arguments)
    assert [row["interactions"] for row in result["sizes"]] == sorted(row["interactions"] for row in result["sizes"])
    assert all(row["bytes"] > 1e6 and min(row["seconds"].values()) > 0 for row in result["sizes"])
    assert [one["what"].split()[-1] for one in result["findings"]] == ["build", "epoch", "evaluate", "grows", "it"]


@pytest.mark.slow
def test_epochs_of_small_generated_data(tmp_path):
    arguments = ("--interactions", "2000", "--data_path", str(tmp_path), "--repetitions", "1")
    result = run("epoch", tmp_path / "epoch.json", *arguments)
    others = ["NARRE", "DeepCoNN"] + (["cornac's HFT"] if importlib.util.find_spec("cornac") else [])
    assert [one["against"].split(":")[0] for one in result["findings"]] == [*others, "NARRE", "NARRE"]
    assert result["dataset"] == generated.NAME and set(result["seconds"]) == {"DReX", "HRDR", "DAML", *others}
