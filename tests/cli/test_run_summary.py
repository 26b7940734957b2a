"""The summary that a run prints."""

import re

import pytest

from recbole_drex.cli.run_summary import print_summary


@pytest.mark.parametrize("model", ["DReX", "BPR"])
@pytest.mark.parametrize("columns", [80, 120])
def test_it_fits_on_a_screen_and_contains_the_results_of_the_run(comparison, model, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    run = next(run for run in comparison.runs if run.label == model)
    print_summary([run.result], run.folder.parents[2])
    lines, result = capsys.readouterr().out.splitlines(), run.result
    row = next(line for line in lines if re.match(rf"{model}\s+\d", line))
    assert f"{result['test']['full']['ndcg@10']:.4f}" in row
    assert model == "BPR" or f"{result['test']['own_test']['mae']:.4f}" in row
    assert len(lines) <= 45
    commands = [line for line in lines if line.startswith("  recbole-drex") or str(run.folder) in line]
    assert max(len(line) for line in lines if line not in commands) <= columns
    assert f"{result['data']['users']} users" in lines[0]
    training = " ".join(" ".join(lines[1:4]).split())
    assert f"best epoch {result['best_epoch'] + 1} of {result['epochs_run']}" in training
