"""Figures of a search show the scores of its trials, for any search space."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pages import Page
from planted_searches import GRID, both_models, frame_of, grid_trials, ranged_trials, trial, write_search

from recbole_drex.errors import DataError
from recbole_drex.report.figures.parameter_axes import parameters_of, shown_scores, thinned
from recbole_drex.report.figures.search_figures import figures_of, pair_of, search_heat_map, search_sensitivity
from recbole_drex.report.figures.style import BEST_INK, DARK_RANKS, LIGHT_RANKS
from recbole_drex.report.html import write_report
from recbole_drex.report.pages.search_page import write_search_report
from recbole_drex.tuning.search_results import Search
from recbole_drex.tuning.search_summary import scored


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return both_models(tmp_path_factory.mktemp("searches") / "search")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """The finished trials of DReX, lists as text, computed from the written files only."""
    rows = frame_of(grid_trials())
    return rows.assign(modalities=rows["modalities"].map(str))


def test_heat_map_holds_the_best_score_of_each_pair(search: Search, frame: pd.DataFrame) -> None:
    pair = pair_of(search, "DReX")
    assert pair is not None
    assert [one.name for one in pair] == ["learning_rate", "reg_weight"]
    ax = search_heat_map(search, "DReX").axes[0]
    best = frame.groupby(["learning_rate", "reg_weight"])["score"].min().unstack()
    shown = [[text.get_text() for text in ax.texts][row : row + 3] for row in (0, 3, 6)]
    assert shown == [[f"{score:.3f}".removeprefix("0") for score in row] for row in best.to_numpy()]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0.001", "0.01", "0.1"]
    frame_patch = next(patch for patch in ax.patches if not patch.get_fill())
    row, column = divmod(int(best.to_numpy().argmin()), 3)
    assert (frame_patch.get_x() + 0.5, frame_patch.get_y() + 0.5) == pytest.approx((column, row))


def test_heat_map_of_other_parameters_uses_the_most_important_ones(tmp_path: Path) -> None:
    values = {"a": [1, 2, 3], "b": ["x", "y"], "c": [True, False], "d": [0.5]}
    generator = np.random.default_rng(3)
    points = []
    for point in itertools.product(*values.values()):
        parameters = dict(zip(values, point, strict=True))
        score = 1 + (parameters["c"] is True) * 0.3 + (parameters["b"] == "x") * 0.2 + generator.normal(scale=0.01)
        points.append(trial(parameters, score))
    points[0] = trial(points[0]["parameters"], 1e9)  # diverged, but must not dominate
    made = write_search(tmp_path / "search", {"DReX": points}, {"DReX": values})
    pair = pair_of(made, "DReX")
    assert pair is not None
    assert [one.name for one in pair] == ["c", "b"]
    alone = write_search(tmp_path / "alone", {"DReX": points}, {"DReX": {"a": [1, 2, 3]}})
    assert pair_of(alone, "DReX") is None
    with pytest.raises(DataError, match="no two parameters"):
        search_heat_map(alone, "DReX")


def test_sensitivity_joins_the_best_of_each_value(search: Search, frame: pd.DataFrame) -> None:
    figure = search_sensitivity(search, "DReX")
    panels = {ax.get_title(loc="left"): ax for ax in figure.axes if ax.get_title(loc="left")}
    assert list(panels) == list(GRID)
    for name, ax in panels.items():
        points, line = ax.lines[0], ax.lines[-2]
        assert sorted(points.get_ydata()) == pytest.approx(sorted(frame["score"]))
        best = frame.groupby(name)["score"].min()
        assert sorted(line.get_ydata()) == pytest.approx(sorted(best))
    assert panels["learning_rate"].get_xscale() == "log"
    assert [text.get_text() for text in panels["modalities"].get_xticklabels()] == ["[rating]", "[review, rating]"]
    # The best of a model whose score is better when bigger.
    sizes = next(ax for ax in search_sensitivity(search, "BPR").axes if ax.get_title(loc="left") == "embedding_size")
    rows = pd.DataFrame(
        [{**one["parameters"], "score": np.mean(list(one["scores"].values()))} for one in ranged_trials()]
    )
    assert list(sizes.lines[-2].get_ydata()) == pytest.approx(list(rows.groupby("embedding_size")["score"].max()))


def test_every_trial_is_a_line_of_the_parallel_coordinates(search: Search) -> None:
    ax = figures_of(search, "DReX")["parallel"].axes[0]
    lines = [line for line in ax.lines if len(line.get_xdata()) == len(GRID) + 1]
    assert len(lines) == 33 + 1  # finished ones and the stopped one
    assert [text.get_text().replace("\u200b", "") for text in ax.get_xticklabels()][:4] == list(GRID)
    winner = lines[-1]
    assert winner.get_color() == BEST_INK and winner.get_ydata()[-1] == 0  # lower is better


@pytest.mark.parametrize(
    ("rates", "drawn"), [((0.1, 0.2), ["sensitivity"]), ((0.1, 0.2, 0.3), ["heat-map", "sensitivity", "parallel"])]
)
def test_four_trials_give_no_heat_map(tmp_path: Path, rates: tuple[float, ...], drawn: list[str]) -> None:
    space = {"learning_rate": list(rates), "weight_decay": [0.0, 1e-5]}
    points = [{"learning_rate": rate, "weight_decay": decay} for rate in rates for decay in space["weight_decay"]]
    trials = [trial(point, 0.9 + 0.01 * index) for index, point in enumerate(points)]
    assert list(figures_of(write_search(tmp_path / "search", {"DReX": trials}, {"DReX": space}), "DReX")) == drawn


def test_ranks_have_contrast_to_the_background() -> None:
    def luminance(colour: str) -> float:
        channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for ranks, ground in ((LIGHT_RANKS, "#ffffff"), (DARK_RANKS, "#1d2025")):
        distances = [abs(luminance(colour) - luminance(ground)) for colour in ranks]
        assert distances == sorted(distances, reverse=True)
    style = Path(write_report.__code__.co_filename).with_name("templates") / "search.css"
    for index, (light, dark) in enumerate(zip(LIGHT_RANKS, DARK_RANKS, strict=True), start=1):
        assert f"--rank-{index}: light-dark({light}, {dark});" in style.read_text()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.booleans())
def test_shown_scores_hold_the_better_half(scores: list[float], bigger: bool) -> None:
    low, high = shown_scores(scores, bigger)
    assert min(scores) <= low <= high <= max(scores)
    assert (high if bigger else low) == (max if bigger else min)(scores)
    middle = float(np.median(scores))
    assert low <= middle <= high or math.isclose(middle, low) or math.isclose(middle, high)


@given(st.integers(1, 3000), st.integers(4, 500))
def test_thinned_keeps_the_best_and_no_trial_twice(number: int, most: int) -> None:
    kept = thinned(range(number), most)
    assert len(kept) == min(number, most)
    assert kept == sorted(set(kept))
    assert kept[0] == 0


VALUES = st.one_of(
    st.lists(st.sampled_from([0.0, 1e-6, 0.5, 1, 64, 1e9]), min_size=1, max_size=6, unique=True),
    st.lists(st.sampled_from(["a", "$x_1$", "<b>", "", "long " * 20]), min_size=1, unique=True),
    st.just([True, False]),
    st.just([[1], [1, 2], []]),
    st.just([None, 1, "1", True]),
    st.builds(
        lambda low, log: {"low": low, "high": low * 300, "log": log},
        st.sampled_from([1e-5, 2]),
        st.booleans(),
    ),
)


def _value_of(values: Any) -> st.SearchStrategy[Any]:
    if isinstance(values, list):
        return st.sampled_from(values)
    whole = isinstance(values["low"], int)
    return (st.integers if whole else st.floats)(values["low"], values["high"])


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_search_breaks_the_figures(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    space = data.draw(st.dictionaries(st.sampled_from(["learning_rate", "weight_decay", "x", "y"]), VALUES, min_size=1))
    score = st.one_of(st.floats(0, 2), st.sampled_from([math.nan, math.inf, 1e30]))
    points = []
    for _ in range(data.draw(st.integers(0, 12))):
        parameters = {name: data.draw(_value_of(values)) for name, values in space.items()}
        status = data.draw(st.sampled_from(["finished", "finished", "stopped", "failed", "running"]))
        scores = data.draw(st.lists(score, min_size=status == "finished", max_size=2))
        points.append(trial(parameters, *scores, status=status, error="no" if status == "failed" else None))
    model = data.draw(st.sampled_from(["DReX", "BPR"]))
    made = write_search(tmp_path_factory.mktemp("any") / "search", {model: points}, {model: space})
    figures = figures_of(made, model)
    assert bool(figures) == bool(scored(made, model))
    for parameter in parameters_of(made, model):
        for one in made.trials[model]:
            assert -1e-9 <= float(parameter.share(parameter.position(one))) <= 1 + 1e-9
    Page(write_search_report(made).read_text(encoding="utf-8"))
