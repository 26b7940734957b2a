"""The main job on real reviews: slow, and only where ``RECBOLE_DREX_RAW`` names a folder that holds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recbole_drex.experiments.quick_start import run

RAW = os.environ.get("RECBOLE_DREX_RAW")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not RAW or not (Path(RAW) / "Movie_Critics.jsonl.gz").is_file(),
        reason="RECBOLE_DREX_RAW does not name a folder with Movie_Critics.jsonl.gz",
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    return run(["DReX"], "Movie_Critics", data_path=folder / "atomic_data", output=folder / "results", seeds=[7])


def test_drex_beats_the_references_on_validation(results):
    rmse = {result["model"]: result["valid"]["rmse"] for result in results}
    assert rmse["DReX"] < rmse["BiasedMF"] < rmse["Bias"] < rmse["ItemMean"] < rmse["GlobalMean"]


def test_the_data_are_those_described(results):
    data = results[0]["data"]
    assert (data["users"], data["items"]) == (448, 836)
    # Seven rows dated before 1970 count as malformed; five of them would have stayed.
    assert round(data["interactions"] * (1 - data["missing_rating"])) == 29_062
    assert 0.11 < data["missing_review"] < 0.13


def test_an_epoch_takes_under_three_seconds(results):
    drex = results[0]
    assert drex["seconds"]["train"] / drex["epochs_run"] < 3.0
