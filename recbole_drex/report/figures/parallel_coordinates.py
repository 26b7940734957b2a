"""Parallel coordinates of a search: trials as lines through one axis per parameter and one for the score."""

from __future__ import annotations

import textwrap
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas.plotting import parallel_coordinates as draw_lines

from recbole_drex.errors import DataError
from recbole_drex.report.figures.axes import value_text
from recbole_drex.report.figures.parameter_axes import parameters_of, shown_scores, thinned
from recbole_drex.report.figures.style import BEST_INK, INK, LIGHT_RANKS, described, drawing, panels, plain
from recbole_drex.tuning.search_results import Search
from recbole_drex.tuning.search_summary import score_of, scored, winner_of

_MOST_LINES = 160
_RANKS = ("best tenth", "best quarter", "better half", "worse half")
_ENDS = (0.0, 0.1, 0.25, 0.5, 1.0)  # bounds of the ranks, as shares of the finished trials
_WINNER, _STOPPED = "the winner", "stopped early"


@drawing
def parallel_coordinates(search: Search, model: str) -> Figure:
    """One line per trial from axis to axis: the searched parameters, then the score.

    Lines are coloured by the rank of their score: the best tenth, quarter and half of the finished trials, and the
    rest; the winner is red. Trials that were stopped early are grey, at their best score. Lines are slightly shifted
    from listed values, so that trials with equal values can be distinguished. Scores outside the axis
    (:func:`~recbole_drex.report.figures.parameter_axes.shown_scores`) end at its edge. If there are very many trials,
    the best and some of the others are shown.

    Raises:
        DataError: no trial has a score.
    """
    trials = scored(search, model)
    if not trials:
        raise DataError(f"no trial of {model} has a score, so there is nothing to show")
    parameters, bigger = parameters_of(search, model), search.bigger(model)
    low, high = shown_scores([score_of(trial) or 0.0 for trial in trials], bigger)
    span = high - low or 1.0
    winner = winner_of(search, model)
    ranks = pd.cut([(index + 0.5) / len(trials) for index in range(len(trials))], _ENDS, labels=_RANKS)
    finished = [(trial, _WINNER if trial is winner else rank) for trial, rank in zip(trials, ranks, strict=True)]
    shown = thinned(finished, _MOST_LINES)
    some = f"{len(shown):,} of {len(trials):,} finished trials" if len(shown) < len(trials) else None
    shown += [(trial, _STOPPED) for trial in thinned(scored(search, model, "stopped"), _MOST_LINES // 4)]

    def row(index: int, trial: dict[str, Any], rank: str) -> dict[str, Any]:
        offset = 0.0 if rank == _WINNER else 0.03 * (index * 0.618034 % 1 - 0.5)
        at = {one.name: float(one.share(one.position(trial))) + offset * bool(one.values) for one in parameters}
        return at | {"": (min(max(score_of(trial) or 0.0, low), high) - low) / span, "rank": rank}

    frame = pd.DataFrame([row(index, *one) for index, one in enumerate(shown)])
    metric = described(search.described["metrics"][model]["metric"], "valid")
    width = max(6.0, 1.3 * (len(parameters) + 1))
    title = f"Trials of {model} by their parameters and by {metric}"
    figure, ((ax,),) = panels(title, 1, 1, width, 4.6)
    colours = dict(zip(_RANKS, LIGHT_RANKS, strict=True)) | {_STOPPED: f"{INK}59", _WINNER: BEST_INK}
    for rank in (_STOPPED, *reversed(_RANKS), _WINNER):  # the winner is drawn last, on top
        lines = frame[frame["rank"] == rank]
        if len(lines):
            draw_lines(lines, "rank", ax=ax, color=[colours[rank]], axvlines=False, linewidth=1.1 + (rank == _WINNER))
    better = "higher" if bigger else "lower"
    names = [*(plain(one.name, 28) for one in parameters), f"{plain(metric)} ({better} is better)"]
    marks = [[(float(one.share(position)), text) for position, text in one.ticks()] for one in parameters]
    inner = [float(mark) for mark in MaxNLocator(5).tick_values(low, high) if low <= mark <= high]
    marks.append([((mark - low) / span, value_text(mark)) for mark in (inner if high > low else [low])])
    for column, ticks in enumerate(marks):
        ax.axvline(column, color=INK, linewidth=0.9, zorder=3)
        for share, text in ticks:
            ax.annotate(plain(text, 16), (column, share), (4, 0), textcoords="offset points", fontsize=8, va="center",
                        zorder=4, bbox={"facecolor": "#ffffff", "edgecolor": "none", "pad": 0.8})  # fmt: skip
    ax.set_xticks(range(len(names)), labels=[textwrap.fill(name.replace("_", "_\u200b"), 16) for name in names])
    ax.set(xlim=(-0.1, len(parameters) + 0.5), yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.get_legend().remove()
    figure.legend(loc="outside lower left", ncols=3, fontsize=8.5, title=some, title_fontsize=8.5, alignment="left")
    return figure
