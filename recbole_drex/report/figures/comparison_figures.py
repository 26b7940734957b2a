"""Figures of a comparison, from its stored runs.

Each function returns a matplotlib ``Figure``. :func:`save` writes it as PNG, SVG or PDF, and :func:`svg` converts it to
an element of an HTML page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_drex.analysis.comparable import smaller_is_better
from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.evaluation.rating_metrics import calibration_bins
from recbole_drex.report.figures.diagrams import critical_difference, keyword_overlap
from recbole_drex.report.figures.sensitivity import sensitivity
from recbole_drex.report.figures.style import (
    BLOCKS,
    INK,
    LIGHT,
    described,
    drawing,
    legend,
    line_styles,
    name_of,
    panels,
    plain,
    ticks,
)
from recbole_drex.report.figures.svg import save, svg
from recbole_drex.results.comparison import Comparison, Run

__all__ = [
    "calibration",
    "critical_difference",
    "differences",
    "group_quality",
    "keyword_overlap",
    "learning_curves",
    "metric_at_k",
    "save",
    "sensitivity",
    "svg",
]


@drawing
def learning_curves(runs: Sequence[Run], labels: Sequence[str] | None = None) -> Figure:
    """Validation score by epoch: a line per run, with a dot at the epoch whose weights were tested.

    Args:
        runs: runs of any models, data sets and replicates; one panel per data set and validation metric. Models that
            are not trained in epochs, or for one epoch only, are omitted.
        labels: order of the colours; default: order of ``runs``.

    Raises:
        DataError: no run has two epochs or more.
    """
    styles = line_styles(labels or [run.label for run in runs])
    groups: dict[tuple[str, str], list[tuple[Run, list[dict[str, Any]]]]] = {}
    for run in runs:
        if len(history := run.history()) > 1:
            metric = run.result["config"].get("valid_metric", "score")
            groups.setdefault((run.dataset, str(metric)), []).append((run, history))
    if not groups:
        raise DataError("no run has a learning curve: none of these models was trained for two epochs or more")
    names = list(dict.fromkeys(run.label for members in groups.values() for run, _ in members))
    figure, axes = panels(f"Validation score by epoch of {', '.join(names)}", len(groups), 1, height=2.8)
    for ax, ((dataset, metric), members) in zip(axes[:, 0], groups.items(), strict=True):
        for run, history in members:
            epochs, scores = ([entry[key] for entry in history] for key in ("epoch", "valid_score"))
            look = styles[run.label]
            ax.plot(epochs, scores, **{**look, "marker": "", "linewidth": 1.0}, alpha=0.8)
            if (best := run.result["best_epoch"]) in epochs:
                ax.plot(best, scores[epochs.index(best)], color=look["color"], marker=look["marker"])
        _without_outliers(ax, [[entry["valid_score"] for entry in history] for _, history in members])
        ax.set(title=plain(dataset), ylabel=f"{name_of(metric)} on validation")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1, 0].set_xlabel("epoch")
    legend(figure, {name: styles[name] for name in names})
    return figure


def _without_outliers(ax: Axes, curves: list[list[float]]) -> None:
    """Cut off the first epochs if they would flatten the rest of the curves."""
    values = np.concatenate(curves)
    later = np.concatenate([curve[len(curve) // 4 :] for curve in curves])
    low, high = later.min(), later.max()
    room = 0.25 * (high - low) or 0.01
    ax.set_ylim(max(values.min() - 0.2 * room, low - room), min(values.max() + 0.2 * room, high + room))


@drawing
def metric_at_k(comparison: Comparison, dataset: str, name: str = "f1", block: str = "own_test") -> Figure:
    """A ranking metric against the list length k: mean and standard deviation over replicates per label.

    Args:
        comparison: the comparison whose runs on ``dataset`` are shown.
        dataset: one of its data sets.
        name: metric without k: ``ndcg``, ``precision``, ``recall`` or ``f1``.
        block: kind of candidates: ``own_test`` (with the random and the best possible order), ``full``, ``sampled``.

    Raises:
        ConfigError: unknown data set or metric.
        DataError: no run has the metric for these candidates.
    """
    if dataset not in comparison.datasets:
        raise ConfigError(unknown_name("data set", dataset, comparison.datasets))
    runs = comparison.of(dataset=dataset)
    known = {key.split("@")[0] for run in runs for key in run.result["test"]["own_test"] if "@" in key}
    if name not in known:
        raise ConfigError(unknown_name("metric", name, known))
    ks = sorted({k for run in runs for k in run.result["protocol"]["topk"]})
    curves: dict[str, np.ndarray] = {}
    for variant in comparison.variants:
        blocks = [run.result["test"].get(block) for run in comparison.of(variant.label, dataset)]
        curves[variant.label] = _at_k(blocks, name, ks)
    if block == "own_test":
        for order in ("Random", "Oracle"):
            # All models report the same rows for a split, so one model per replicate is enough.
            rows = {run.replicate: run.result["references"].get(order, {}).get(block) for run in runs}
            curves[order] = _at_k(list(rows.values()), name, ks)
    curves = {label: values for label, values in curves.items() if not np.isnan(values).all()}
    if not curves:
        raise DataError(f"no run on {dataset} has {name}@k {BLOCKS.get(block, block)}")

    references = {variant.label for variant in comparison.variants if variant.reference} | {"Random", "Oracle"}
    styles = line_styles([*(variant.label for variant in comparison.variants), "Random", "Oracle"], references)
    shown = described(f"{name}@k", block)
    figure, axes = panels(f"{shown} on {dataset}, for lists of {ks[0]} to {ks[-1]} items", 1, 1, height=3.6)
    ax = axes[0, 0]
    for label, values in curves.items():
        mean = values.mean(axis=0)
        ax.plot(ks, mean, **styles[label])
        if len(values) > 1 and label not in references:
            std = values.std(axis=0, ddof=1)
            ax.fill_between(ks, mean - std, mean + std, color=styles[label]["color"], alpha=0.12, linewidth=0)
    ticks(ax, ks, [str(k) for k in ks], width=5)
    ax.set(title=plain(dataset), xlabel="k", ylabel=shown)
    legend(figure, {label: styles[label] for label in curves})
    return figure


def _at_k(blocks: Sequence[dict[str, float | None] | None], name: str, ks: Sequence[int]) -> np.ndarray:
    """Values by replicate and k, shape (replicates, len(ks)); NaN if missing."""
    rows = [[(block or {}).get(f"{name}@{k}") for k in ks] for block in blocks]
    return np.array(rows, dtype=np.float64).reshape(-1, len(ks))


@drawing
def differences(tests: pd.DataFrame, metric: str) -> Figure:
    """Difference of each model to the model against which it was tested, with 95 % intervals.

    Args:
        tests: as returned by :func:`recbole_drex.analysis.significance.paired_tests`.
        metric: tested metric, for the labels.

    Returns:
        One row per model, in the order of ``tests``. Filled dots are significant differences (Holm-corrected p < 0.05),
        and the corrected p-value is shown at the right.
    """
    reference = str(tests.index[tests["p_holm"].isna()][0])
    worse = "right" if smaller_is_better(metric) else "left"
    title = f"Difference of every model's {name_of(metric)} to that of {reference}, with 95 % intervals"
    figure, axes = panels(title, 1, 1, height=0.75 + 0.27 * len(tests))
    ax = axes[0, 0]
    ax.axvline(0, color=INK, linewidth=0.9)
    for row, (label, test) in enumerate(tests.iterrows()):
        if label == reference:
            ax.plot(0, row, color=INK, marker="D", linestyle="")
            note = "compared to"
        else:
            significant = test["p_holm"] < 0.05
            colour, face = (LIGHT[0], LIGHT[0]) if significant else (INK, "none")
            ax.plot([test["ci_low"], test["ci_high"]], [row, row], color=colour)
            ax.plot(test["difference"], row, color=colour, marker="o", markerfacecolor=face, markersize=5.5)
            note = "p < .001" if test["p_holm"] < 0.001 else f"p = {test['p_holm']:.3f}".replace("0.", ".")
        ax.text(1.02, row, note, transform=ax.get_yaxis_transform(), va="center")
    ax.set_yticks(range(len(tests)), labels=[plain(label) for label in tests.index])
    ax.set_ylim(len(tests) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(f"difference in {name_of(metric)} to {plain(reference)} (worse to the {worse})")
    return figure


@drawing
def group_quality(frame: pd.DataFrame, metric: str, labels: Sequence[str] | None = None) -> Figure:
    """A metric by group of users, items or reviews: mean and standard deviation over replicates per label.

    Args:
        frame: columns ``side, group, label``, the metric and ``<metric>_std``, as
            :func:`recbole_drex.analysis.groups.group_quality` returns it; groups in the order of its rows.
        metric: one of its metrics; sides without a value are omitted.
        labels: order of the colours; default: order of the rows.

    Raises:
        ConfigError: the frame has no such metric.
        DataError: no group has a value.
    """
    known = [str(name).removesuffix("_std") for name in frame.columns if str(name).endswith("_std")]
    if metric not in known:
        raise ConfigError(unknown_name("metric", metric, known))
    styles = line_styles(labels or frame["label"])
    frame = frame.dropna(subset=[metric])
    if frame.empty:
        raise DataError(f"no group has a value of {metric}")
    sides = {str(side): list(dict.fromkeys(part["group"])) for side, part in frame.groupby("side", sort=False)}
    drawn = [label for label in styles if label in set(frame["label"])]
    widths = {"width_ratios": [len(groups) for groups in sides.values()]}
    title = f"{name_of(metric)} by {' and '.join(sides)} group of {', '.join(drawn)}"
    figure, axes = panels(title, 1, len(sides), height=3.2, sharey=True, gridspec_kw=widths)
    for ax, (side, groups) in zip(axes[0], sides.items(), strict=True):
        for index, label in enumerate(drawn):
            rows = frame[(frame["side"] == side) & (frame["label"] == label)]
            # Next to each other within a group, so that no dot hides another.
            shift = (index - (len(drawn) - 1) / 2) * 0.7 / max(len(drawn), 4)
            at = np.array([groups.index(group) for group in rows["group"]], dtype=np.float64) + shift
            look = {**styles[label], "linestyle": ""}
            ax.errorbar(at, rows[metric], yerr=rows[f"{metric}_std"].fillna(0), elinewidth=0.9, **look)
        ax.set_xticks(range(len(groups)), labels=[_narrow(plain(group)) for group in groups])
        ax.set_xlim(-0.5, len(groups) - 0.5)
        ax.grid(visible=False, axis="x")
        ax.set_title(f"by {side}")
    axes[0, 0].set_ylabel(name_of(metric))
    legend(figure, {label: {**styles[label], "linestyle": ""} for label in drawn})
    return figure


@drawing
def calibration(runs: Sequence[Run], labels: Sequence[str] | None = None) -> Figure:
    """Observed share of relevant test ratings against predicted probability, in ten bins per label.

    Args:
        runs: runs on one data set; replicates are pooled, and models that predict no distribution are omitted.
        labels: order of the colours; default: order of ``runs``.

    Raises:
        DataError: no run predicts a distribution.
    """
    rows: dict[str, list[pd.DataFrame]] = {}
    for run in runs:
        if run.result["output"] == "distribution":
            test = run.interactions().query("split == 'test'")
            relevant = test["rating"] >= run.result["protocol"]["threshold"]
            rows.setdefault(run.label, []).append(test[["probability_relevant"]].assign(relevant=relevant))
    if not rows:
        raise DataError("no run predicts a distribution over the rating levels")
    styles = line_styles(labels or list(rows))
    title = f"Observed against predicted share of relevant ratings of {', '.join(rows)}"
    figure, axes = panels(title, 1, 1, height=3.6)
    ax = axes[0, 0]
    ax.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=":")
    for label, parts in rows.items():
        pooled = pd.concat(parts)
        bins = calibration_bins(pooled["relevant"], pooled["probability_relevant"])
        ax.plot(bins["predicted"], bins["observed"], **styles[label])
    threshold = runs[0].result["protocol"]["threshold"]
    ax.set(xlabel=f"predicted probability of a rating of {threshold:g} or more", ylabel="observed share")
    legend(figure, {label: styles[label] for label in rows})
    return figure


def _narrow(group: str) -> str:
    """Wrap a group's name to lines of nine characters, with bounds below, so that labels do not overlap."""
    return "\n".join(textwrap.fill(part, 9) for part in group.replace(" (", "\n(").splitlines())
