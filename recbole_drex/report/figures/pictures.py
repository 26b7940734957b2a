"""The report's comparison figures, resized for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from recbole_drex.analysis.groups import group_quality
from recbole_drex.report.figures import comparison_figures
from recbole_drex.report.figures.style import name_of, styled
from recbole_drex.results.comparison import Comparison

BLOCKS = {"own_test": "ranking each user's own test items", "full": "ranking the full catalogue"}
SIDES = {
    "user": "Users by number of training ratings",
    "item": "Items by number of training ratings",
    "review": "Test ratings with and without a review",
}


_CARD = 4.2  # width of a card in inches, at which text is as large as the page's small text

_WIDE = 5.5  # inches; wider figures get their own row


def inline(figure: Figure) -> Markup:
    """A figure as part of the page, at its original width."""
    return Markup(comparison_figures.svg(figure))  # noqa: S704  (matplotlib escapes the text it draws)  # nosec B704


@styled
def card(figure: Figure) -> Markup:
    """A figure at the width of a card, with the legend below; the caption replaces the title of a single panel."""
    for legend in figure.legends:
        handles = [handle for handle in legend.legend_handles if handle is not None]
        names = [text.get_text() for text in legend.get_texts()]
        legend.remove()
        columns = max(1, min(len(names), int(72 * _CARD / (48 + 5 * max(map(len, names))))))
        figure.legend(handles, names, loc="outside lower left", ncols=columns, columnspacing=1.2)
        figure.set_figheight(figure.get_figheight() + 0.19 * -(-len(names) // columns))
    if len(figure.axes) == 1:
        figure.axes[0].set_title("")
    figure.set_layout_engine("constrained")
    figure.set_figwidth(_CARD)
    return inline(figure)


def curves(comparison: Comparison) -> list[dict[str, Any]]:
    """Ranking metrics against the list length, per data set and kind of candidates."""
    figures = []
    for dataset in comparison.datasets:
        for block, title in BLOCKS.items():
            blocks = [run.result["test"].get(block) or {} for run in comparison.of(dataset=dataset)]
            for name in ("ndcg", "f1", "recall"):
                if any(metric.startswith(f"{name}@") for metrics in blocks for metric in metrics):
                    figure = card(comparison_figures.metric_at_k(comparison, dataset, name, block))
                    figures.append({"dataset": dataset, "title": f"{name_of(name)}@k, {title}", "figure": figure})
    return figures


def learning(comparison: Comparison) -> list[dict[str, Any]]:
    """Learning curves, one figure per data set with a model trained for more than one epoch."""
    figures = []
    for dataset in comparison.datasets:
        runs = [run for run in comparison.of(dataset=dataset) if len(run.history()) > 1]
        if runs:
            figure = comparison_figures.learning_curves(runs, _labels(comparison))
            figures.append({"dataset": dataset, "figure": card(figure)})
    return figures


def sensitivity(comparison: Comparison, headlines: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """The headline metrics against the varied parameters; empty without varied parameters."""
    if not comparison.vary:
        return []
    figures = []
    for block, metric in headlines:
        figure = comparison_figures.sensitivity(comparison, metric, block)
        title = name_of(metric if block == "own_test" else f"{block}_{metric}")
        figures.append({"title": title, "figure": inline(figure), "wide": figure.get_figwidth() > _WIDE})
    return figures


def calibration(comparison: Comparison) -> list[dict[str, Any]]:
    """Calibration of the models that predict a distribution, one figure per data set; empty without such models."""
    figures = []
    for dataset in comparison.datasets:
        runs = [run for run in comparison.of(dataset=dataset) if run.result["output"] == "distribution"]
        if runs:
            figure = comparison_figures.calibration(runs, _labels(comparison))
            figures.append({"dataset": dataset, "figure": card(figure)})
    return figures


def groups(comparison: Comparison) -> list[dict[str, Any]]:
    """Quality per group of users, items and test ratings, for each data set."""
    figures = []
    for dataset in comparison.datasets:
        runs = comparison.of(dataset=dataset)
        if not runs:
            continue
        frame = group_quality(runs)
        shown = []
        for metric in ("mae", "ndcg@10"):
            for side in SIDES:
                part = frame[frame["side"] == side]
                if part[metric].notna().any():
                    figure = comparison_figures.group_quality(part, metric, _labels(comparison))
                    shown.append((f"{name_of(metric)} by {side}", card(figure)))
        sides = [
            {"title": title, "ranked": side == "user", "rows": frame[frame["side"] == side].to_dict("records")}
            for side, title in SIDES.items()
        ]
        figures.append({"dataset": dataset, "figures": shown, "sides": sides})
    return figures


def _labels(comparison: Comparison) -> list[str]:
    """All labels in a fixed order, so that a model has the same colour in every figure."""
    return [variant.label for variant in comparison.variants]
