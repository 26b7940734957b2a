"""The comparison with another library: what can be checked without that library."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import peers


class Halves:
    """Predicts half the sum of its numbers of user and item, and 9 for those it does not know."""

    def rate(self, user: int, item: int) -> float:
        return (user + item) / 2

    def default_score(self) -> float:
        return 9.0


def test_without_the_library_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cornac", None)  # as if it were not installed
    assert peers.main(["--output", str(tmp_path / "peers.json")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and printed.startswith("error: ") and "pip install cornac" in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models", "MF,PFM"], "did you mean 'PMF'?"),
        (["--seeds", "2026,11"], "not the seed 11"),
        (["--seeds", ""], "one"),
        (["--models", ""], "one model"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(tmp_path, capsys, arguments, said):
    assert peers.main([*arguments, "--output", str(tmp_path / "peers.json")]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_settings_are_all_combinations_and_have_different_names():
    for grid in peers.GRIDS.values():
        tried = peers.settings(grid)
        assert len(tried) == np.prod([len(values) for values in grid.values()])
        assert len({peers.in_words(setting) for setting in tried}) == len(tried)


def test_errors_use_the_other_numbers_and_the_default_score():
    data = SimpleNamespace(uid_map={7: 0, 8: 2}, iid_map={5: 2, 6: 8})
    rows = (np.array([7, 8, 8, 9]), np.array([5, 6, 4, 5]), np.array([1.0, 3.0, 4.0, 5.0]))
    # Predicted: 1; 5; item 4 and user 9 are unknown, so 9, which is clipped to 5.
    measured = peers.errors(Halves(), data, rows, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert measured == pytest.approx({"mae": 3 / 4, "rmse": np.sqrt(5 / 4)})


def test_table_of_a_small_result():
    def model(mae: float, rmse: float) -> dict:
        return {
            "chosen": {"k": 5, "lambda_reg": 0.1},
            "valid": {"mae": 0.6, "rmse": 0.7},
            "mean": {"mae": mae, "rmse": rmse},
            "seconds": {"tuning": 12.34, "training": 0.5},
        }

    result = {"datasets": {"Films": {"models": {"MF": model(0.51234, 0.66), "PMF": model(0.52, 0.65)}}}}
    header, rule, *rows = peers.table(result).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)]
    assert cells[0][:4] == ["data set", "model", "test MAE", "test RMSE"] and set(rule) <= set("|-:")
    chosen = ["0.6000", "0.7000", "0.5", "12.3", "k=5 lambda_reg=0.1"]
    assert cells[1] == ["Films", "MF", "**0.5123**", "0.6600", *chosen]
    assert cells[2] == ["Films", "PMF", "0.5200", "**0.6500**", *chosen]
