"""A metric as a function of one or two parameters: the figure of a comparison made with ``--vary``."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from recbole_drex.analysis.comparable import smaller_is_better
from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.report.figures.axes import heat_map, logarithmic, positions, value_text
from recbole_drex.report.figures.style import described, drawing, legend, line_styles, panels, plain, ticks
from recbole_drex.results.comparison import Comparison, Variant


@drawing
def sensitivity(comparison: Comparison, metric: str, block: str = "own_test") -> Figure:
    """A metric against the values of the parameters that a comparison varied.

    One parameter: a line per model (mean and standard deviation over replicates) and a panel per data set; models that
    were not varied are dashed. The axis is logarithmic if positive numbers span more than a factor of 20, and has equal
    steps if values are not numbers or lie too close together. Two parameters: a heat map per model and data set,
    brighter is better, with the best value framed; two values of each give lines over the second parameter.

    Args:
        comparison: a comparison with one or two varied parameters.
        metric: name of the metric.
        block: ``own_test``, ``full`` or ``sampled`` candidates of the test part, or ``valid``.

    Raises:
        ConfigError: unknown metric.
        DataError: no parameter was varied, or more than two.
    """
    vary = comparison.vary
    if not 1 <= len(vary) <= 2:
        raise DataError(
            f"{comparison.folder} has {len(vary) or 'no'} varied parameters; a sensitivity figure needs one or two: "
            "recbole-drex compare ... --vary NAME=VALUE,VALUE"
        )
    blocks = [values_of(run.result, block) for run in comparison.runs]
    known = {name for values in blocks for name, value in values.items() if value is not None}
    if metric not in known:
        raise ConfigError(unknown_name("metric", metric, known))
    varied = [variant for variant in comparison.variants if vary.keys() <= variant.parameters.keys()]
    title = f"{described(metric, block)} by {' and '.join(vary)} on {', '.join(comparison.datasets)}"
    # Instead of four cells: lines over one parameter, one per value of the other.
    draw = _heat_maps if len(vary) == 2 and max(map(len, vary.values())) > 2 else _lines
    return draw(comparison, varied, metric, block, title)


def values_of(result: dict[str, Any], block: str) -> dict[str, float | None]:
    """The metrics of a result for a block: a kind of candidates, or ``valid``."""
    return (result["valid"] if block == "valid" else result["test"].get(block)) or {}


def _scores(comparison: Comparison, label: str, dataset: str, metric: str, block: str) -> np.ndarray:
    """The metric of each replicate, shape (replicates,); empty if no replicate has it."""
    values = (values_of(run.result, block).get(metric) for run in comparison.of(label, dataset))
    return np.array([value for value in values if value is not None], dtype=np.float64)


def _line_of(variant: Variant, vary: Iterable[str]) -> str:
    """The variant's label without the varied parameters, which names a line or a heat map."""
    label = variant.label
    for name in vary:
        label = re.sub(rf"\+{re.escape(name)}=.*?(?=\+\w+=|$)", "", label)
    return label


def _lines(comparison: Comparison, varied: Sequence[Variant], metric: str, block: str, title: str) -> Figure:
    name, values = list(comparison.vary.items())[-1]
    models = list(dict.fromkeys(_line_of(variant, [name]) for variant in varied))
    # A reference that is itself varied is drawn once, as a line.
    others = (variant.label for variant in comparison.variants if variant not in varied)
    fixed = [label for label in others if label not in models]
    styles = line_styles([*models, *fixed], references=fixed)
    xs = positions(values)
    columns = min(3, len(comparison.datasets))
    figure, axes = panels(title, -(-len(comparison.datasets) // columns), columns, height=3.2)
    drawn: set[str] = set()
    for ax in axes.flat[len(comparison.datasets) :]:
        ax.set_axis_off()
    for ax, dataset in zip(axes.flat, comparison.datasets, strict=False):
        for model in models:
            points = []
            for variant in varied:
                scores = _scores(comparison, variant.label, dataset, metric, block)
                if _line_of(variant, [name]) == model and scores.size:
                    spread = scores.std(ddof=1) if scores.size > 1 else 0.0
                    points.append((xs[values.index(variant.parameters[name])], scores.mean(), spread))
            if points:
                x, mean, std = np.array(sorted(points)).T
                ax.errorbar(x, mean, yerr=std, elinewidth=0.9, capsize=2, **styles[model])
                drawn.add(model)
        for label in fixed:
            scores = _scores(comparison, label, dataset, metric, block)
            if scores.size:
                ax.axhline(scores.mean(), **{**styles[label], "marker": ""})
                drawn.add(label)
        if logarithmic(values):
            ax.set_xscale("log")
        ticks(ax, xs, [value_text(value) for value in values], width=5.5 / columns)
        ax.set(title=plain(dataset), xlabel=name)
    for ax in axes[:, 0]:
        ax.set_ylabel(described(metric, block))
    shown = {label: {**look, "marker": "" if label in fixed else look["marker"]} for label, look in styles.items()}
    legend(figure, {label: look for label, look in shown.items() if label in drawn})
    return figure


def _heat_maps(comparison: Comparison, varied: Sequence[Variant], metric: str, block: str, title: str) -> Figure:
    (down, rows), (across, columns) = comparison.vary.items()
    models = list(dict.fromkeys(_line_of(variant, comparison.vary) for variant in varied))
    datasets = comparison.datasets
    width, height = 1.0 + len(datasets) * max(2.2, 0.62 * len(columns)), 0.75 + 0.32 * len(rows)
    figure, axes = panels(title, len(models), len(datasets), width=max(width, 4.0), height=height)
    for model, line in zip(models, axes, strict=True):
        for dataset, ax in zip(datasets, line, strict=True):
            grid = np.full((len(rows), len(columns)), np.nan)
            for variant in varied:
                scores = _scores(comparison, variant.label, dataset, metric, block)
                if _line_of(variant, comparison.vary) == model and scores.size:
                    index = rows.index(variant.parameters[down]), columns.index(variant.parameters[across])
                    grid[index] = scores.mean()
            heat_map(ax, grid, smaller_is_better(metric))
            ticks(ax, range(len(columns)), [value_text(value) for value in columns], width=0.62 * len(columns))
            ax.set_yticks(range(len(rows)), labels=[value_text(value) for value in rows])
            ax.set(title=plain(f"{model}, {dataset}"), xlabel=across, ylabel=down)
    note = f"{described(metric, block)}; brighter is better, the best is framed"
    figure.supxlabel(textwrap.fill(note, int(14 * figure.get_figwidth())), fontsize=8.5)
    return figure
