"""Parallel coordinates of a search: its trials as lines through one axis per parameter and one of the score."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from recbole_drex.errors import DataError
from recbole_drex.report.figures.axes import value_text
from recbole_drex.report.figures.parameter_axes import parameters_of, shown_scores, thinned
from recbole_drex.report.figures.style import BEST_INK, INK, LIGHT_RANKS, described, drawing, panels, plain
from recbole_drex.tuning.search_results import Search
from recbole_drex.tuning.search_summary import score_of, scored, winner_of

_MOST_LINES = 160
_RANKS = ((0.1, "best tenth"), (0.25, "best quarter"), (0.5, "better half"), (1.0, "worse half"))
_STOPPED: dict[str, Any] = {"color": INK, "alpha": 0.35, "linewidth": 0.8, "linestyle": (0, (4, 3))}
_LETTER = 0.068  # inches, of the labels of ticks
_WIDTH = 8.0
_AXIS = 5.6  # inches, about, of the length of an axis


@drawing
def parallel_coordinates(search: Search, model: str) -> Figure:
    """Every trial a line from axis to axis: searched parameters from the top, the score at the bottom.

    The axes lie, so that there is room for names and values however many they are. Lines are coloured by the rank of
    their score: the best tenth, quarter and half of the finished trials, and the rest; the winner is red. Trials that
    were stopped early are dashed and faint, at the best score they had. Lines pass a little beside listed values, so
    that equal ones can be told apart. Scores that the axis leaves out
    (:func:`~recbole_drex.report.figures.parameter_axes.shown_scores`) end at its edge. Of very many trials the best and
    a part of the others are shown.

    Raises:
        DataError: no trial has a score.
    """
    trials = scored(search, model)
    if not trials:
        raise DataError(f"no trial of {model} has a score, so there is nothing to show")
    parameters, bigger = parameters_of(search, model), search.bigger(model)
    stopped = thinned(scored(search, model, "stopped"), _MOST_LINES // 4)
    low, high = shown_scores([score_of(trial) or 0.0 for trial in trials], bigger)
    metric = described(search.described["metrics"][model]["metric"], "valid")
    better = "higher" if bigger else "lower"
    figure, axes = panels(
        f"Trials of {model} by their parameters and by {metric}", 1, 1, _WIDTH, 0.75 + 0.46 * (len(parameters) + 1)
    )
    ax = axes[0, 0]
    for row, parameter in enumerate(parameters):
        _rule(ax, row, [(float(parameter.share(place)), text) for place, text in parameter.ticks()])
    _rule(ax, len(parameters), _score_ticks(low, high))

    def corners(trial: dict[str, Any], aside: float = 0.0) -> np.ndarray:
        """Of a trial's line, shape (axes, 2); a little aside of listed values, where others of its kind stand."""
        shares = [
            float(parameter.share(parameter.place(trial))) + (aside if parameter.values else 0.0)
            for parameter in parameters
        ]
        score = min(max(score_of(trial) or 0.0, low), high)
        shares.append((score - low) / (high - low) if high > low else 0.5)
        return np.column_stack([shares, np.arange(len(shares))])

    winner = winner_of(search, model)
    shown = set(map(id, thinned(trials, _MOST_LINES)))
    by_rank: dict[str, list[np.ndarray]] = {rank: [] for _, rank in _RANKS}
    for place, trial in enumerate(trials):
        rank = next(name for share, name in _RANKS if place < share * len(trials) or share == 1.0)
        if id(trial) in shown and trial is not winner:
            by_rank[rank].append(corners(trial, _aside(place)))
    faint = [corners(trial, _aside(place)) for place, trial in enumerate(stopped)]
    _draw(ax, faint, **_STOPPED)
    for colour, (_, rank) in reversed(list(zip(LIGHT_RANKS, _RANKS, strict=True))):
        _draw(ax, by_rank[rank], color=colour, linewidth=1.1)
    if winner is not None and score_of(winner) is not None:
        _draw(ax, [corners(winner)], color=BEST_INK, linewidth=2.4)
    names = [plain(parameter.name, 28) for parameter in parameters]
    ax.set_yticks(
        range(len(parameters) + 1), labels=[*names, textwrap.fill(f"{plain(metric)} ({better} is better)", 28)]
    )
    ax.set(xlim=(-0.03, 1.03), ylim=(len(parameters) + 0.55, -0.35), xticks=[])
    ax.grid(visible=False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    _legend(figure, by_rank, stopped, len(trials), len(shown))
    return figure


def _aside(place: int) -> float:
    """How far the line of the trial at this place passes beside a listed value, at most 0.015 of the axis's length."""
    return 0.03 * (place * 0.618034 % 1 - 0.5)


def _draw(ax: Axes, lines: Sequence[np.ndarray], **look: Any) -> None:
    """All lines as one shape, which keeps a page small."""
    if lines:
        codes = [Path.MOVETO, *[Path.LINETO] * (len(lines[0]) - 1)] * len(lines)
        ax.add_patch(PathPatch(Path(np.concatenate(lines), codes), fill=False, capstyle="butt", **look))


def _rule(ax: Axes, row: int, marks: Sequence[tuple[float, str]]) -> None:
    """An axis with its labels below; those without room are cut, or left out where numbers crowd."""
    ax.plot([0, 1], [row, row], color=INK, linewidth=0.9, zorder=3)
    gaps = np.diff(sorted(place for place, _ in marks))
    room = max(3, int(min([1.0, *gaps]) * _AXIS / _LETTER) - 1)
    taken = -1.0
    for place, text in sorted(marks):
        text = text if _number(text) else plain(text, room)
        half = (len(text) + 1) * _LETTER / _AXIS / 2
        ax.plot([place], [row], color=INK, marker="|", markersize=5, markeredgewidth=0.9, zorder=3)
        if place - half < taken:
            continue
        taken = place + half
        ax.text(place, row + 0.14, text, ha="center", va="top", fontsize=8, zorder=4,
                bbox={"facecolor": "#ffffff", "edgecolor": "none", "pad": 0.8})  # fmt: skip


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _score_ticks(low: float, high: float) -> list[tuple[float, str]]:
    if high <= low:
        return [(0.5, value_text(low))]
    marks = [mark for mark in MaxNLocator(5).tick_values(low, high) if low <= mark <= high]
    return [((float(mark) - low) / (high - low), value_text(float(mark))) for mark in marks]


def _legend(
    figure: Figure, by_rank: dict[str, list[np.ndarray]], stopped: Sequence[Any], number: int, shown: int
) -> None:
    handles = [Line2D([], [], color=BEST_INK, linewidth=2.4, label="the winner")]
    for colour, (_, rank) in zip(LIGHT_RANKS, _RANKS, strict=True):
        if by_rank[rank]:
            handles.append(Line2D([], [], color=colour, label=rank))
    if stopped:
        handles.append(
            Line2D([], [], color=INK, alpha=0.4, linewidth=0.8, linestyle=(0, (4, 3)), label="stopped early")
        )
    title = f"{shown:,} of {number:,} finished trials" if shown < number else None
    figure.legend(handles=handles, loc="outside lower left", ncols=6, fontsize=8.5, title=title, title_fontsize=8.5,
                  alignment="left", handlelength=1.8, columnspacing=1.4)  # fmt: skip
