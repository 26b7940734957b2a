"""Style of figures: one ink colour, colours for colour-blind readers, and a distinct marker and dash per line."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recbole_drex.analysis.comparable import smaller_is_better

INK = "#24292f"
# These colours maximise the smallest distance (CIELAB) between two colours for normal, protan and deutan vision
# (Machado et al. 2009), with a contrast of at least 3:1 to a white page (LIGHT) or to #16181d (DARK).
LIGHT = ("#144ad1", "#cf7f27", "#308487", "#80359c", "#6f5200", "#4589f0", "#bd2365", "#0a1d52")
DARK = ("#3ab5ff", "#ff7b58", "#4eedaa", "#c851bb", "#fff275", "#84d8e9", "#cb5d8b", "#796bff")
BEST_INK = "#d1242f"  # frames and lines of the best values, in every theme
# From best to worst, by decreasing contrast: dark to pale on white, bright to dim on #16181d.
LIGHT_RANKS = ("#12397f", "#1f7f8f", "#6fa84f", "#a8afb8")
DARK_RANKS = ("#ffe16b", "#6fd08c", "#3f93b8", "#5c6470")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_REFERENCE_MARKERS = ("1", "2", "3", "4", "+", "x")

_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "recbole_drex",
    "text.color": INK,
    # Names and words from data may contain a dollar sign, which must not start a formula.
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}

BLOCKS = {
    "own_test": "among own test items",
    "full": "over the full catalogue",
    "sampled": "among sampled items",
    "valid": "on the validation part",
}
_P = ParamSpec("_P")
_T = TypeVar("_T")


def styled(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run ``function`` with the style of this module, independent of the user's matplotlibrc."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with matplotlib.style.context(["default", _STYLE]):
            return function(*args, **kwargs)

    return run


def drawing(function: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Run a function that makes a figure :func:`styled`, and fix the figure's layout.

    Layout engines start from the last layout, so that a second drawing would differ slightly.
    """

    @styled
    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        figure = function(*args, **kwargs)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return figure

    return run


def panels(title: str, rows: int, columns: int, width: float = 8.0, height: float = 3.0, **options: Any) -> Any:
    """Create a figure without pyplot's global state, and its axes.

    Args:
        title: description of the figure for screen readers; it is not drawn.
        rows, columns: size of the grid of axes.
        width: width of the figure in inches.
        height: height of a row in inches.
        options: options of ``Figure.subplots``.

    Returns:
        The figure, and its axes as an array of shape (rows, columns).
    """
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    figure.set_label(title)
    figure.patch.set_visible(False)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat:
        ax.patch.set_visible(False)
    return figure, axes


def line_styles(labels: Iterable[str], references: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Colour, marker and dash of each label, by its index; references are thin and grey.

    Example:
        >>> line_styles(["DReX", "Bias"], references=["Bias"])["DReX"]
        {'color': '#144ad1', 'marker': 'o', 'linestyle': '-'}
    """
    labels, references = list(dict.fromkeys(labels)), set(references)
    result: dict[str, dict[str, Any]] = {}
    for index, label in enumerate(name for name in labels if name not in references):
        dash = _DASHES[index // len(LIGHT) % len(_DASHES)]
        colour, marker = LIGHT[index % len(LIGHT)], MARKERS[index % len(MARKERS)]
        result[label] = {"color": colour, "marker": marker, "linestyle": dash}
    for index, label in enumerate(name for name in labels if name in references):
        marker = _REFERENCE_MARKERS[index % len(_REFERENCE_MARKERS)]
        dash = _DASHES[1 + index % 3]
        result[label] = {"color": INK, "alpha": 0.55, "linewidth": 0.9, "marker": marker, "linestyle": dash}
    return {label: result[label] for label in labels}


def legend(figure: Figure, drawn: dict[str, dict[str, Any]]) -> None:
    """Add a legend to the right of the axes."""
    handles = [Line2D([], [], label=plain(label), **look) for label, look in drawn.items()]
    figure.legend(handles=handles, loc="outside right upper")


_NAMES = {
    "ndcg": "NDCG",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "mae": "MAE",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae_rounded": "MAE of the nearest level",
    "mae_median": "MAE of the median",
    "nll": "Negative log-likelihood",
    "calibration_error": "Calibration error",
    "mean_error": "Mean error",
    "itemcoverage": "Item coverage",
    "giniindex": "Gini index",
    "novelty": "Novelty",
    "diversity": "Diversity",
    "averagepopularity": "Popularity",
    "historypopularity": "Popularity of the history",
}


def name_of(metric: str) -> str:
    """The usual name of a metric.

    Example:
        >>> name_of("ndcg@5"), name_of("full_recall@10"), name_of("rmse")
        ('NDCG@5', 'Recall@10, full catalogue', 'RMSE')
    """
    if metric.startswith("full_"):
        return f"{name_of(metric.removeprefix('full_'))}, full catalogue"
    base, at, k = metric.partition("@")
    return _NAMES.get(base, base) + at + k.replace("_", " and ")


def described(metric: str, block: str) -> str:
    """A metric with its kind of candidates; errors of predicted ratings have none.

    Example:
        >>> described("ndcg@5", "own_test"), described("mae", "own_test")
        ('NDCG@5 among own test items', 'MAE')
    """
    errors = block in ("own_test", "full", "sampled") and smaller_is_better(metric)
    return name_of(metric) if errors else f"{name_of(metric)} {BLOCKS[block]}"


def plain(text: str, longest: int = 60) -> str:
    """Text on one line that is valid in every format: without control characters, cut to ``longest`` characters.

    Example:
        >>> plain("two\\nlines and more", longest=10)
        'two lines…'
    """
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)).split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def ticks(ax: Axes, values: Sequence[Any], labels: Sequence[str], width: float) -> None:
    """Set the ticks of the x axis to ``values``; labels too long for ``width`` inches are slanted."""
    slanted = 0.085 * sum(len(label) + 1 for label in labels) > width
    ax.set_xticks(values, labels=labels, rotation=25 if slanted else 0, ha="right" if slanted else "center")
    ax.minorticks_off()
