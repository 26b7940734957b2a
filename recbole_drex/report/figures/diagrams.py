"""Figures with custom geometry: critical-difference diagrams, and the overlap of keyword profiles."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from recbole_drex.errors import DataError
from recbole_drex.report.figures.style import INK, LIGHT, drawing, name_of, panels, plain

if TYPE_CHECKING:
    from recbole_drex.analysis.friedman import RankTest

_BAR, _ROW = 0.45, 1.0  # heights of a group's bar and of a model's line, in units of the y axis


@drawing
def critical_difference(*tests: RankTest) -> Figure:
    """Critical-difference diagrams (Demšar, JMLR 7, 2006): mean ranks on an axis, best at the left.

    Thick bars join models that the Nemenyi test does not distinguish; the critical difference is shown above the axis.
    If Friedman's test finds no difference, the title says so, and the bars have no meaning.

    Args:
        tests: one or more tests; several are drawn in two columns if they fit, row by row.

    Raises:
        DataError: no test was given.
    """
    if not tests:
        raise DataError("there is no rank test to draw")
    longest = max(len(_label(test, label)) for test in tests for label in test.mean_ranks.index)
    single = 3.0 + 0.13 * longest
    columns = min(2, len(tests)) if single < 6 else 1
    rows, width = -(-len(tests) // columns), columns * single
    height = 0.6 + 0.19 * max(_depth(test) for test in tests)
    title = f"Critical-difference diagram of {', '.join(name_of(test.metric) for test in tests)}"
    figure, axes = panels(title, rows, columns, width=width, height=height)
    for ax in axes.flat[len(tests) :]:
        ax.set_axis_off()
    for ax, test in zip(axes.flat, tests, strict=False):
        _diagram(ax, test)
    return figure


def _label(test: RankTest, label: str) -> str:
    return f"{plain(label)} ({test.mean_ranks[label]:.2f})"


def _depth(test: RankTest) -> float:
    return 2 + _BAR * len(_levels(test)) + _ROW * -(-len(test.mean_ranks) // 2)


def _levels(test: RankTest) -> list[list[tuple[float, float]]]:
    """Bars of the groups as (first, last mean rank); bars that do not overlap share a level."""
    bars = [(float(ranks.min()), float(ranks.max())) for ranks in (test.mean_ranks[list(g)] for g in test.groups)]
    levels: list[list[tuple[float, float]]] = []
    for low, high in sorted(bar for bar, group in zip(bars, test.groups, strict=True) if len(group) > 1):
        level = next((level for level in levels if level[-1][1] < low - 0.1), None)
        if level is None:
            levels.append([(low, high)])
        else:
            level.append((low, high))
    return levels


def _diagram(ax: Axes, test: RankTest) -> None:
    ranks, levels = test.mean_ranks, _levels(test)
    k = len(ranks)
    right = max(float(k), 1 + test.cd)
    line: dict[str, Any] = {"color": INK, "linewidth": 0.9, "solid_capstyle": "butt"}
    ax.plot([1, k], [0, 0], **line)
    # All ranks are marked; if there are many, only some are numbered, so that numbers do not overlap.
    step = -(-k // 12)
    for rank in range(1, k + 1):
        ax.plot([rank, rank], [0, 0.25], **line)
        if (rank - 1) % step == 0:
            ax.text(rank, 0.35, str(rank), ha="center", va="bottom")
    ax.plot([1, 1 + test.cd], [1.75, 1.75], color=INK, linewidth=1.8)
    for end in (1, 1 + test.cd):
        ax.plot([end, end], [1.6, 1.9], color=INK, linewidth=1.8)
    ax.text(1 + test.cd / 2, 1.9, f"CD = {test.cd:.3f}", ha="center", va="bottom")
    for level, bars in enumerate(levels):
        y = -_BAR * (level + 0.8)
        for low, high in bars:
            ax.plot([low - 0.06, high + 0.06], [y, y], color=LIGHT[1], linewidth=3.5, solid_capstyle="round")
    top = -_BAR * len(levels) - 0.9
    for index, (label, rank) in enumerate(ranks.items()):
        left = index < (k + 1) // 2
        y = top - _ROW * (index if left else k - 1 - index)
        edge = 1 - 0.03 * right if left else right + 0.03 * right
        ax.plot([rank, rank, edge], [0, y, y], **line)
        ax.plot(rank, 0, marker="o", markersize=3.5, color=INK)
        ax.text(
            edge + (-0.1 if left else 0.1), y, _label(test, str(label)), ha="right" if left else "left", va="center"
        )
    ax.set(xlim=(1 - 0.03 * right, right * 1.03), ylim=(top - _ROW * (k + 1) // 2 + 0.3, 2.6))
    verdict = "" if test.critical < test.F else ": Friedman's test finds no difference"
    ax.set_title(name_of(test.metric) + verdict, pad=10)
    ax.set_axis_off()


@drawing
def keyword_overlap(explanation: dict[str, Any], recommendations: int = 3) -> Figure:
    """Keyword profiles of a user and of recommended items, with shared words emphasised (the paper's Figure 6).

    Args:
        explanation: one entry of ``explanations.json``.
        recommendations: number of recommended items to show.

    Returns:
        One column per profile, best word on top; the bar behind a word is its score relative to the highest score.

    Raises:
        DataError: the user has no profile.
    """
    if not explanation["profile"]:
        raise DataError(
            f"user '{explanation['user']}' has no keyword profile: no training review contains a known word"
        )
    items = explanation["recommendations"][:recommendations]
    shared = [{keyword["lemma"] for keyword in item["keywords"]} for item in items]
    columns = [
        ("user", plain(explanation["user"], 20), explanation["profile"], set().union(*shared)),
        *(
            (plain(item["title"] or item["item"]), _rating(item["predicted"]), item["profile"], words)
            for item, words in zip(items, shared, strict=True)
        ),
    ]
    depth = max(len(profile) for _, _, profile, _ in columns)
    # Users and items may write different forms of a lemma.
    own = [keyword["word"] for keyword in explanation["profile"] if keyword["lemma"] in set().union(*shared)]
    title = f"Keyword profiles of user {plain(explanation['user'])} and of {len(items)} recommended items; they share "
    title += ", ".join(sorted(own)) or "no word"
    figure, axes = panels(title, 1, len(columns), height=1.0 + 0.24 * depth)
    for ax, (name, below, profile, words) in zip(axes[0], columns, strict=True):
        highest = max((abs(keyword["score"]) for keyword in profile), default=0.0) or 1.0
        for row, keyword in enumerate(profile):
            both = keyword["lemma"] in words
            bar = Rectangle((0, row - 0.42), max(keyword["score"], 0) / highest, 0.84, linewidth=0)
            bar.set(facecolor=LIGHT[1] if both else INK, alpha=0.45 if both else 0.1)
            ax.add_patch(bar)
            weight = "bold" if both else "normal"
            ax.text(0.03, row, ("● " if both else "") + plain(keyword["word"], 20), va="center", fontweight=weight)
        heading = "\n".join(textwrap.wrap(name, 24, max_lines=2, placeholder="…"))
        ax.set_title(f"{heading}\n{below}", fontsize=9)
        ax.set(xlim=(0, 1), ylim=(max(depth, 1) - 0.4, -0.6))
        ax.set_axis_off()
    figure.supxlabel("● shared with the user (first column: with an item); bars are scores", fontsize=8.5)
    return figure


def _rating(predicted: float | None) -> str:
    return "recommended" if predicted is None else f"predicted {predicted:.2f}"
