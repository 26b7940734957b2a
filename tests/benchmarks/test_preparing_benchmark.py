"""The benchmark of preparing, on few reviews."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import preparing

    yield preparing
    sys.modules.pop("preparing")


@pytest.mark.slow
def test_pandas_keeps_the_same_and_all_is_measured(benchmark, tmp_path):
    output = tmp_path / "preparing.json"
    small = ["--reviews", "40000", "--share", "30000", "--sizes", "20000", "40000", "--repetitions", "1"]
    assert benchmark.main([*small, "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert [finding["aim"] for finding in result["findings"]] == [5.0, None, 2048, 1.1]
    *others, slope = result["findings"]
    assert all(finding["value"] > 0 for finding in others)
    assert math.isfinite(slope["value"]), "of times that are mostly noise"
    assert 0 < result["kept"] < 40_000
    assert {(row["by"], row["reviews"]) for row in result["measured"]} == {
        ("recbole_drex", 20_000), ("recbole_drex", 30_000), ("recbole_drex", 40_000),
        ("pandas", 30_000), (benchmark.ARROW, 30_000),
    }  # fmt: skip


def test_reviews_are_generated_again(benchmark, tmp_path):
    one, two = (benchmark.generate(tmp_path / f"{name}.jsonl.gz", 2000) for name in "ab")
    from recbole_drex.data.raw.readers import read_reviews

    frames = [read_reviews(path, tmp_path / "s.parquet").frame for path in (one, two)]
    assert frames[0].equals(frames[1])
    assert len(frames[0]) == 2000
    writers = frames[0]["user_id"].value_counts()
    assert (writers == 1).mean() > 0.5 and writers.max() >= 20


def test_a_reader_that_fails_is_named(benchmark, tmp_path, capsys):
    (tmp_path / "r.jsonl").write_text('{"user_id": "u", "parent_asin": "i", "rating": 5}\n')
    with pytest.raises(benchmark.DrexError, match="leaves nothing"):
        benchmark.measure("recbole_drex", tmp_path / "r.jsonl")
