"""Common parts of parameter figures: positions and labels of values, and heat maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from recbole_drex.report.figures.style import BEST_INK, plain


def heat_map(ax: Axes, grid: np.ndarray, smaller: bool, limits: tuple[float, float] | None = None) -> None:
    """Draw a heat map. Cells are vector shapes and keep their colours in every theme.

    Args:
        ax: axes to draw on.
        grid: scores of shape (rows, columns); NaN for missing scores.
        smaller: whether smaller scores are better, and brighter.
        limits: lowest and highest score of the colour scale; default: those of the grid.
    """
    from matplotlib import colormaps

    low, high = (np.nanmin(grid), np.nanmax(grid)) if not np.isnan(grid).all() else (0.0, 0.0)
    best = None if np.isnan(grid).all() else int(np.nanargmin(grid) if smaller else np.nanargmax(grid))
    low, high = limits or (low, high)
    digits = 4 if high - low < 0.02 else 3
    for (row, column), value in np.ndenumerate(grid):
        if math.isnan(value):
            ax.text(column, row, "-", ha="center", va="center")
            continue
        share = (min(max(value, low), high) - low) / (high - low) if high > low else 1.0
        share = 1 - share if smaller and high > low else share
        ax.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=colormaps["cividis"](share), linewidth=0))
        ink = "#000000" if share > 0.5 else "#fefefe"  # not pure white, which pages replace by their background colour
        text = f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.3g}"
        ax.text(
            column, row, text.replace("0.", ".", 1) if abs(value) < 1 else text, ha="center", va="center", color=ink
        )
    if best is not None:
        row, column = divmod(best, grid.shape[1])
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=BEST_INK, linewidth=2))
    ax.set(xlim=(-0.55, grid.shape[1] - 0.45), ylim=(grid.shape[0] - 0.45, -0.55))
    ax.grid(visible=False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def numbers(values: Sequence[Any]) -> bool:
    """Whether all values are numbers; booleans are not."""
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def logarithmic(values: Sequence[Any]) -> bool:
    """Whether values need a logarithmic axis: positive numbers that span more than a factor of 20."""
    return numbers(values) and min(values) > 0 and max(values) > 20 * min(values)


def positions(values: Sequence[Any]) -> list[float]:
    """Axis position of each value: the value, or its index if values are not numbers or lie too close together.

    Example:
        >>> positions([8, 16, 32]), positions([True, False])
        ([8.0, 16.0, 32.0], [0.0, 1.0])
    """
    if numbers(values):
        gaps = np.diff(sorted(values))
        if logarithmic(values) or (gaps >= 0.08 * gaps.sum()).all():
            return list(map(float, values))
    return list(map(float, range(len(values))))


def value_text(value: Any) -> str:
    """The axis label of a value, short and on one line."""
    return f"{value:g}" if numbers([value]) else plain(str(value), 20)
