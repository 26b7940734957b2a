"""A single run, read as a comparison with the reference models of its command."""

from pathlib import Path

import pytest
from planted_runs import write_run

from recbole_drex.results.comparison import read_comparison


def labels(folder: Path) -> list[tuple[str, bool]]:
    return [(variant.label, variant.reference) for variant in read_comparison(folder).variants]


OTHER_DATA = {
    "fingerprint": "0" * 16,
    "users": 40,
    "items": 320,
    "interactions": 3200,
    "missing_review": 0.25,
    "missing_rating": 0.0,
}


@pytest.mark.parametrize(
    "changes",
    [{}, {"seed": 2}, {"split": "leave one out"}, {"data": OTHER_DATA}],
    ids=["same", "seed", "split", "data"],
)
def test_references_of_the_same_split_and_data_belong_to_a_run(tmp_path: Path, changes: dict) -> None:
    run = write_run(tmp_path, "DReX")
    bias = write_run(tmp_path, "Bias", **changes)
    write_run(tmp_path, "NARRE")  # no reference
    if bias.name != run.name:
        bias.rename(bias.parent / run.name)
    assert labels(run) == [("DReX", False), *([] if changes else [("Bias", True)])]


def test_a_reference_may_be_the_run_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in ("Bias", "GlobalMean"):
        write_run(tmp_path, model)
    unfinished = tmp_path / "demo" / "ItemMean" / "seed-2026"
    unfinished.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "demo" / "Bias" / "seed-2026")
    assert labels(Path()) == [("Bias", False), ("GlobalMean", True)]
