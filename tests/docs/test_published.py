"""The result tables of README and docs are what the stored errors per user say."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from planted_runs import write_run

import published


@pytest.mark.parametrize("document", published.DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_stored_errors(document):
    text = document.read_text(encoding="utf-8")
    assert published.written(text) == text, "run python benchmarks/published.py write"


@pytest.mark.parametrize("document", published.DOCUMENTS, ids=lambda path: path.name)
def test_no_table_of_results_is_without_a_source(document):
    text = re.sub(r"<!-- published: .*?<!-- end -->", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"\[[^\]]*\]\(https:[^)]*\)", "", text)  # numbers of papers
    assert not [line for line in text.splitlines() if line.startswith("|") and re.search(r"\d?\.\d{3,}", line)]


def test_stored_errors_give_the_metrics_of_the_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "STORE", tmp_path / "store")
    noise = {"DReX": 0.3, "Bias": 1.0}
    for label, size in noise.items():
        for seed in (1, 2, 3):
            write_run(tmp_path / "results", label, seed=seed, noise=size, medians=True)
    published.collect([tmp_path / "results"])
    runs = published.runs_of("demo")
    for label in noise:
        stored = runs[runs["label"] == label]
        for column, metric in {"mae": "test_mae", "mse": "test_rmse"}.items():
            frame = published.values("demo/1-3", [label], column)[label]
            means = [np.average(part["value"], weights=part["weight"]) for _, part in frame.groupby(level=0)]
            expected = stored[metric] ** 2 if column == "mse" else stored[metric]
            assert means == pytest.approx(expected.tolist(), rel=1e-6)
    table = published.medians("demo/1-2", "DReX", "Bias").splitlines()
    assert table[0] == "| model | MAE MEDIAN | to DReX | MAE | to DReX | RMSE | to DReX |"
    mean = runs.query("label == 'DReX' and run != '3'")["test_rmse"].mean()
    assert f"**{mean:.4f}** ±" in table[2] and table[3].startswith("| `Bias` |") and ", p " in table[3]


def test_an_ablation_is_a_difference_on_validation(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "STORE", tmp_path / "store")
    for label, rmse in {"DReX": 0.8, "DReX+taste=[]": 0.81}.items():
        for seed in (1, 2):
            write_run(tmp_path / "results", label, seed=seed, valid={"rmse": rmse, "mae": rmse / 2})
    published.collect([tmp_path / "results"])
    assert published.ablation("demo").splitlines()[2] == "| `taste=[]` | +0.0100 / +0.0050 (2 of 2) |"
    assert isinstance(published.runs_of("demo"), pd.DataFrame)
