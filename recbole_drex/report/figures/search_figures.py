"""Figures of a search: validation scores as a function of the searched parameters."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from recbole_drex.errors import DataError
from recbole_drex.report.figures.axes import heat_map
from recbole_drex.report.figures.parallel_coordinates import parallel_coordinates
from recbole_drex.report.figures.parameter_axes import ParameterAxis, parameters_of, shown_scores, thinned
from recbole_drex.report.figures.style import BEST_INK, INK, LIGHT, described, drawing, panels, plain, ticks
from recbole_drex.tuning.search_results import Search
from recbole_drex.tuning.search_summary import score_of, scored, winner_of

_REGULARISATION = ("reg_weight", "weight_decay")
_MOST_CELLS = 16  # maximum number of values of a parameter in a heat map
_MOST_POINTS = 4_000  # maximum over all panels; more points make a page slow and hide each other
_FEWEST_LINES = 5  # minimum number of trials for parallel coordinates
_PARTS = 8  # parts of a range, each with its best trial


def figures_of(search: Search, model: str) -> dict[str, Figure]:
    """The figures for which a model has enough trials.

    Returns:
        By name: ``heat-map`` (if one of its parameters has at least three values), ``sensitivity`` and ``parallel``
        (for at least five trials); empty if no trial has a score.
    """
    if not scored(search, model):
        return {}
    figures: dict[str, Callable[[Search, str], Figure]] = {
        "heat-map": search_heat_map,
        "sensitivity": search_sensitivity,
        "parallel": parallel_coordinates,
    }
    pair = pair_of(search, model)
    # Four cells or four lines show no more than the panels per parameter and the table of trials.
    if pair is None or max(len(one.ticks()) for one in pair) < 3:
        del figures["heat-map"]
    if len(scored(search, model)) < _FEWEST_LINES:
        del figures["parallel"]
    return {name: draw(search, model) for name, draw in figures.items()}


def measured(search: Search, model: str) -> str:
    """Name of the score of a model's search, and its direction."""
    metric = described(search.described["metrics"][model]["metric"], "valid")
    return f"{metric} ({'higher' if search.bigger(model) else 'lower'} is better)"


def pair_of(search: Search, model: str) -> tuple[ParameterAxis, ParameterAxis] | None:
    """The two parameters of the heat map, both with listed values of which at least two were tried.

    These are the learning rate and ``reg_weight`` or ``weight_decay``, as in the paper's Figure 3, if both were
    searched. Otherwise, these are the two parameters that explain most of the score: those with the largest share
    :math:`\\eta^2` of the variance of the trials' ranks between values of the parameter. Ranks are robust to trials
    that diverged.

    Returns:
        The parameters of the rows and of the columns; None if fewer than two qualify.
    """
    trials = scored(search, model)
    listed = {
        one.name: one
        for one in parameters_of(search, model)
        if one.values and len(one.values) <= _MOST_CELLS and len({one.position(trial) for trial in trials}) > 1
    }
    regularisation = [name for name in _REGULARISATION if name in listed]
    if "learning_rate" in listed and regularisation:
        return listed["learning_rate"], listed[regularisation[0]]
    if len(listed) < 2:
        return None
    ranks = np.argsort(np.argsort([score_of(trial) or 0.0 for trial in trials], kind="stable"), kind="stable")
    shares = {
        name: _explained(np.array([one.position(trial) for trial in trials]), ranks) for name, one in listed.items()
    }
    first, second = sorted(listed, key=lambda name: -shares[name])[:2]
    return listed[first], listed[second]


def _explained(position: np.ndarray, rank: np.ndarray) -> float:
    """Variance of the mean ranks per value over the variance of all ranks; both arguments of shape (trials,)."""
    means = {value: rank[position == value].mean() for value in position}
    return float(np.var([means[value] for value in position]) / np.var(rank))


@drawing
def search_heat_map(search: Search, model: str) -> Figure:
    """The best score of the finished trials at each pair of values of two parameters, see :func:`pair_of`.

    Raises:
        DataError: fewer than two parameters have values to show.
    """
    pair = pair_of(search, model)
    if pair is None:
        raise DataError(f"the search of {model} has no two parameters with listed values, so there is no heat map")
    down, across = pair
    rows, columns = down.ticks(), across.ticks()
    grid = np.full((len(rows), len(columns)), np.nan)
    # From worst to best, so that the best overwrite the others.
    for trial in reversed(scored(search, model)):
        row, column = (one.coordinates.index(one.position(trial)) for one in pair)
        grid[row, column] = score_of(trial)
    labels = [text for _, text in columns]
    note = f"Best {measured(search, model)}; brighter is better, the best is framed, - means not tried"
    width = max(4.2, 1.2 + 0.075 * max(len(text) for _, text in rows) + 0.62 * len(columns))
    figure, axes = panels(
        f"{note}: {model} by {down.name} and {across.name}",
        1,
        1,
        width=width,
        height=1.1 + 0.32 * len(rows) + 0.02 * max(map(len, labels)),
    )
    ax = axes[0, 0]
    cells = [float(score) for score in grid[~np.isnan(grid)]]
    heat_map(ax, grid, not search.bigger(model), shown_scores(cells, search.bigger(model)))
    ticks(ax, range(len(columns)), labels, width=0.62 * len(columns))
    ax.set_yticks(range(len(rows)), labels=[text for _, text in rows])
    ax.set(xlabel=plain(across.name, 40), ylabel=plain(down.name, 30))
    figure.supxlabel(textwrap.fill(note, int(14 * width)), fontsize=8.5)
    return figure


@drawing
def search_sensitivity(search: Search, model: str) -> Figure:
    """The score against each searched parameter: a point per finished trial, and a line through the best per value.

    For a range, the line joins the best trials of eight equal parts of its axis. Trials that diverged lie outside the
    axis (:func:`~recbole_drex.report.figures.parameter_axes.shown_scores`) and are shown as small triangles at its end.
    If there are very many trials, the best and some of the others are shown.

    Raises:
        DataError: no trial has a score.
    """
    trials = scored(search, model)
    if not trials:
        raise DataError(f"no trial of {model} has a score, so there is nothing to show")
    parameters, bigger = parameters_of(search, model), search.bigger(model)
    columns = min(3, len(parameters))
    rows = -(-len(parameters) // columns)
    low, high = shown_scores([score_of(trial) or 0.0 for trial in trials], bigger)
    shown = thinned(trials, max(100, _MOST_POINTS // len(parameters)))
    title = f"{measured(search, model)} of {model} against each searched parameter"
    figure, axes = panels(title, rows, columns, width=9.3, height=2.6, sharey=True)
    for ax in axes.flat[len(parameters) :]:
        ax.set_axis_off()
    for ax, parameter in zip(axes.flat, parameters, strict=False):
        _panel(ax, parameter, trials, shown, (low, high), winner_of(search, model))
    room = 0.06 * (high - low) or 0.05 * (abs(high) or 1.0)
    axes[0, 0].set_ylim(low - room, high + room)
    for ax in axes[:, 0]:
        ax.set_ylabel(textwrap.fill(measured(search, model), 32), fontsize=8)
    _sensitivity_legend(figure, trials, shown, (low, high))
    return figure


def _panel(
    ax: Axes,
    parameter: ParameterAxis,
    trials: Sequence[dict[str, Any]],
    shown: Sequence[dict[str, Any]],
    limits: tuple[float, float],
    winner: dict[str, Any] | None,
) -> None:
    low, high = limits
    x, scores = _points(parameter, shown)
    inside = (scores >= low) & (scores <= high)
    look: dict[str, Any] = {"color": INK, "linestyle": "", "markersize": 3.5, "markeredgewidth": 0}
    ax.plot(x[inside], scores[inside], marker="o", alpha=0.4, **look)
    for outside, end, marker in ((scores > high, high, "^"), (scores < low, low, "v")):
        ax.plot(x[outside], np.full(outside.sum(), end), marker=marker, alpha=0.5, **look)
    # Trials are sorted, so the first one at a position is the best.
    x, scores = _points(parameter, trials)
    part = x if parameter.values else np.minimum(parameter.share(x) * _PARTS, _PARTS - 1).astype(int)
    best = [first for first in np.unique(part, return_index=True)[1] if low <= scores[first] <= high]
    best = sorted(best, key=lambda position: x[position])
    ax.plot(x[best], scores[best], color=LIGHT[0], marker="o", markersize=4)
    if winner is not None and score_of(winner) is not None:
        ax.plot(*_points(parameter, [winner]), color=BEST_INK, marker="*", markersize=10, linestyle="")
    if parameter.log:
        ax.set_xscale("log")
    marks = parameter.ticks()
    ticks(ax, [position for position, _ in marks], [text for _, text in marks], width=2.4)
    ax.xaxis.set_minor_locator(NullLocator())
    if parameter.values and parameter.coordinates in (
        tuple(range(len(parameter.coordinates))),
        parameter.coordinates[:1],
    ):
        ax.set_xlim(parameter.low - 0.5, parameter.high + 0.5)
    ax.set_title(plain(parameter.name, 34))


def _points(parameter: ParameterAxis, trials: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Axis positions and scores, both of shape (trials,)."""
    return (
        np.array([parameter.position(trial) for trial in trials], dtype=np.float64),
        np.array([score_of(trial) for trial in trials], dtype=np.float64),
    )


def _sensitivity_legend(
    figure: Figure, trials: Sequence[Any], shown: Sequence[Any], limits: tuple[float, float]
) -> None:
    some = f"{len(shown):,} of {len(trials):,} trials" if len(shown) < len(trials) else "a finished trial"
    beyond = sum(not limits[0] <= (score_of(trial) or 0.0) <= limits[1] for trial in trials)
    dot: dict[str, Any] = {"linestyle": "", "color": INK, "markeredgewidth": 0}
    handles = [
        Line2D([], [], marker="o", markersize=4, alpha=0.4, label=some, **dot),
        Line2D([], [], color=LIGHT[0], marker="o", markersize=4, label="the best of each value"),
        Line2D([], [], color=BEST_INK, marker="*", markersize=10, linestyle="", label="the winner"),
    ]
    if beyond:
        handles.append(Line2D([], [], marker="^", markersize=4, alpha=0.5, label=f"{beyond:,} beyond the axis", **dot))
    figure.legend(handles=handles, loc="outside lower left", ncols=2 if figure.get_figwidth() < 6 else 4, fontsize=8.5)
