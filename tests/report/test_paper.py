"""The paper's tables and figures from stored runs."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

import pytest
from planted_runs import planted_comparison

from recbole_drex.analysis.friedman import rank_test
from recbole_drex.cli.main import main
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.report.paper import ITEMS, paper_item
from recbole_drex.results.comparison import Run, Variant

PAGE = (Path(__file__).parents[2] / "docs" / "paper.md").read_text(encoding="utf-8")


def varied_over(comparison, **vary):
    """The comparison's DReX, presented as runs of two values of each parameter."""
    variants, runs = [], []
    points = [{}]
    for name, values in vary.items():
        points = [{**point, name: value} for point in points for value in values]
    for point in points:
        label = "+".join(["DReX", *(f"{name}={value}" for name, value in point.items())])
        variants.append(Variant(label, "DReX", point))
        runs += [Run(run.folder, {**run.result, "label": label}) for run in comparison.of("DReX")]
    return dataclasses.replace(comparison, variants=tuple(variants), runs=tuple(runs), vary=vary)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_table_1_counts_the_data(comparison, small, tmp_path):
    paths = paper_item("table-1", comparison, tmp_path)
    assert [path.name for path in paths] == ["table-1.md", "table-1.tex", "table-1.csv"]
    line = rows(paths[2])[0]
    statistics = small.manifest["statistics"]
    assert (line["dataset"], int(line["users"]), int(line["items"])) == (
        "small",
        statistics["users"],
        statistics["items"],
    )
    assert float(line["sparsity"]) == pytest.approx(statistics["sparsity"], abs=1e-12)
    assert f"| {100 * statistics['sparsity']:.2f} |" in re.sub(" +", " ", paths[0].read_text(encoding="utf-8"))
    latex = paths[1].read_text(encoding="utf-8")
    assert r"\# Users & \# Items" in latex and r"\toprule" in latex and r"\end{table}" in latex


def test_table_4_has_mae_and_ndcg_at_every_length(comparison, tmp_path):
    paths = paper_item("table-4", comparison, tmp_path)
    lines = [line for line in rows(paths[2]) if line["dataset"] == "small" and line["model"] == "DReX"]
    runs = comparison.of("DReX", "small")
    for metric in ("mae", "ndcg@1", "ndcg@2", "ndcg@3", "ndcg@4", "ndcg@5", "ndcg@10", "ndcg@15", "ndcg@20"):
        expected = sum(run.result["test"]["own_test"][metric] for run in runs) / len(runs)
        assert float(lines[0][metric]) == pytest.approx(expected, abs=1e-12)
        assert float(lines[0][f"{metric}_rank"]) >= 1
    text = paths[0].read_text(encoding="utf-8")
    assert "gain=exponential" in text and "Random" in text and "Oracle" in text and "BiasedMF" in text


def test_table_5_contains_the_rank_tests_and_their_power(tmp_path):
    comparison = planted_comparison(tmp_path)
    paths = paper_item("table-5", comparison, tmp_path)
    lines = {line["metric"]: line for line in rows(paths[2])}
    # Users have eight test items, so F1@10 is the same in every order.
    assert list(lines) == ["ndcg@1", "ndcg@5", "ndcg@10", "f1@1", "f1@5"]
    test = rank_test(comparison, "f1@5")
    assert float(lines["f1@5"]["F"]) == pytest.approx(test.F) and float(lines["f1@5"]["CD"]) == pytest.approx(test.cd)
    for path in paths[:2]:
        assert "With 2 data sets" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "item, names",
    [
        ("figure-4", ["figure-4-small", "figure-4-tiny"]),
        ("figure-6", ["figure-6"]),
    ],
)
def test_figures_of_an_ordinary_comparison(item, names, comparison, tmp_path):
    paths = paper_item(item, comparison, tmp_path)
    assert [path.name for path in paths] == [f"{name}{suffix}" for name in names for suffix in (".png", ".svg", ".pdf")]
    assert all(path.stat().st_size > 2000 for path in paths)


def test_figure_7_or_the_reason_for_its_absence(comparison, tmp_path):
    paths = paper_item("figure-7", planted_comparison(tmp_path), tmp_path)
    assert [path.name for path in paths] == ["figure-7.png", "figure-7.svg", "figure-7.pdf"]
    assert all(path.stat().st_size > 2000 for path in paths)
    # Users of these data sets have few test items.
    with pytest.raises(
        DataError, match=r"not ranked by ndcg@1: on .* makes a difference for fewer than half of the users"
    ):
        paper_item("figure-7", comparison, tmp_path)


@pytest.mark.parametrize(
    "item, vary, names",
    [
        ("figure-3", {"learning_rate": [0.001, 0.01], "reg_weight": [0.0, 0.1]}, ["figure-3"]),
        ("figure-5", {"embedding_size": [16, 32]}, ["figure-5-mae", "figure-5-ndcg10"]),
    ],
)
def test_figures_of_a_varied_comparison(item, vary, names, comparison, tmp_path):
    paths = paper_item(item, varied_over(comparison, **vary), tmp_path)
    assert [path.name for path in paths] == [f"{name}{suffix}" for name in names for suffix in (".png", ".svg", ".pdf")]


def test_figure_6_shows_the_user_who_shares_most_by_default(comparison, tmp_path):
    explained = comparison.of("DReX", "small")[0].explanations()
    user = explained[-1]["user"]
    svg = next(path for path in paper_item("figure-6", comparison, tmp_path, user=user) if path.suffix == ".svg")
    assert f">{user[:19]}" in svg.read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match=r"unknown explained user 'nobody'.*--explained_users"):
        paper_item("figure-6", comparison, tmp_path, user="nobody")
    with pytest.raises(ConfigError, match="applies only to figure-6"):
        paper_item("figure-4", comparison, tmp_path, user=user)


@pytest.mark.parametrize("item", ["table-5", "figure-7"])
def test_one_data_set_cannot_be_ranked(item, comparison, tmp_path):
    alone = dataclasses.replace(comparison, datasets=("small",), runs=tuple(comparison.of(dataset="small")))
    with pytest.raises(DataError, match=r"has one data set.*recbole-drex compare .*--datasets"):
        paper_item(item, alone, tmp_path)


def test_missing_runs_are_named_with_the_command_that_creates_them(comparison, tmp_path):
    with pytest.raises(ConfigError, match=r"--vary learning_rate=.* --vary reg_weight="):
        paper_item("figure-3", comparison, tmp_path)
    with pytest.raises(ConfigError, match="--vary embedding_size="):
        paper_item("figure-5", comparison, tmp_path)
    with pytest.raises(ConfigError, match="--vary embedding_size="):
        paper_item("figure-5", varied_over(comparison, embedding_size=[16, 32], start=["zero", "mlp"]), tmp_path)
    without_explanations = dataclasses.replace(comparison, runs=tuple(comparison.of("BPR")))
    with pytest.raises(DataError, match="no run that explains"):
        paper_item("figure-6", without_explanations, tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'figure-4'"):
        paper_item("figur-4", comparison, tmp_path)
    with pytest.raises(DataError):
        paper_item("table-1", dataclasses.replace(comparison, runs=()), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_command_line_prints_the_files(comparison, tmp_path, capsys):
    assert main(["paper", "table-1", str(comparison.folder), "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"table-1{suffix}") for suffix in (".md", ".tex", ".csv")]
    assert main(["paper", "table-9", str(comparison.folder)]) == 2
    assert "did you mean 'table-" in capsys.readouterr().err


def test_the_page_names_every_item_and_only_these():
    assert set(re.findall(r"recbole-drex paper (\S+)", PAGE)) == set(ITEMS)
