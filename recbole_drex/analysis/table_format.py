"""A table of results, with output as Markdown, plain text and LaTeX."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from recbole_drex.analysis.comparable import is_count, measures_quality, smaller_is_better
from recbole_drex.evaluation.protocol import Protocol

MARKS = ((0.001, "‡"), (0.05, "†"))
_NAMES = ("dataset", "model", "loss", "output", "runs")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of results, its conventions and its tests.

    Attributes:
        frame: per data set one row per model in the given order, then the reference models, the random order and the
            oracle. Columns ``dataset``; ``model``, its label; ``kind``: ``model``, ``reference``, or ``bound`` for the
            last two; ``loss``, ``output``; ``runs``, the number of finished runs; and for each metric ``m``:

            - ``m``, ``m_std``: mean and standard deviation (n - 1) over runs; NaN where a run has no value;
            - ``m_rank``: 1 for the best; ties share their mean rank. Bounds and models that lack a replicate have none;
            - ``m_best``: whether no ranked model of the data set has a better mean, and any has a worse one;
            - ``m_p``: Holm-corrected p-value against the comparison's reference by
              :func:`recbole_drex.analysis.significance.compare_models`; NaN where not tested.
        metrics: names of the metrics, in order.
        block: kind of candidates, ``own_test``, ``full`` or ``sampled``, or ``recbole`` for RecBole's own metrics.
        data: fingerprint of each data set.
        split: the split of the interactions.
        conventions: the conventions and the threshold, by name.
        notes: remarks on rows and marks.
        tests: the rows of all paired tests: columns ``dataset, block, metric, reference, model`` and those of
            :func:`recbole_drex.analysis.significance.paired_tests`.
    """

    frame: pd.DataFrame
    metrics: tuple[str, ...]
    block: str
    data: dict[str, str]
    split: str
    conventions: dict[str, Any]
    notes: tuple[str, ...]
    tests: pd.DataFrame

    @property
    def header(self) -> str:
        """Data sets with their fingerprints, split and conventions, in one line."""
        names = ", ".join(f"{name} ({fingerprint[:12]})" for name, fingerprint in self.data.items())
        if self.block == "recbole":
            text = f"RecBole's metrics, candidates=full, mask={self.conventions['mask']}, every test item is relevant"
        else:
            text = Protocol(**self.conventions).describe()
        return f"{names} | split: {self.split} | {text}"

    def to_markdown(self) -> str:
        """GitHub's Markdown: means ± standard deviations, marks of significance, ranks in parentheses, best in bold."""
        return markdown(self)

    def to_text(self, width: int = 160) -> str:
        """Plain text for a terminal of ``width`` characters, best marked by a star; further columns go below."""
        return text(self, width)

    def to_latex(self) -> str:
        """A LaTeX table that needs the package booktabs; every text of the data is escaped."""
        return latex(self)

    def to_csv(self) -> str:
        """Machine-readable: ``frame`` in full precision, with fingerprint, split and conventions in every row."""
        fingerprints = self.frame["dataset"].map(self.data)
        return self.frame.assign(fingerprint=fingerprints, split=self.split, **self.conventions).to_csv(index=False)


def significance_mark(p: float) -> str:
    """The mark of a value with corrected p-value ``p`` against the reference; empty if not significant.

    Example:
        >>> significance_mark(0.02), significance_mark(float("nan"))
        ('†', '')
    """
    return next((mark for level, mark in MARKS if p < level), "")


def legend(metrics: Sequence[str], reference: str, runs: int) -> str:
    """The legend of the marks in a table whose columns ``metrics`` were tested against a reference."""
    sampled = "users and runs" if runs > 1 else "users only: with one run per model, training noise is unknown"
    return (
        f"Tested against {reference}: {', '.join(metrics)}. † differs from it with p < 0.05, ‡ with p < 0.001; "
        f"without a sign, no difference is shown. Paired t-test over {sampled}. p is corrected for the number of "
        "models (Holm), not for the number of metrics, kinds of candidates and data sets."
    )


@dataclasses.dataclass(frozen=True)
class _Style:
    """The formatting functions of one output format.

    Attributes:
        escape: escapes a text and puts it on one line.
        best: marks a value as the best.
        best_is: name of this mark in the caption.
        rank: formats a rank after a value.
    """

    escape: Callable[[str], str]
    best: Callable[[str], str]
    best_is: str
    rank: Callable[[str], str] = " ({})".format

    def columns(self, table: Table) -> dict[str, list[str]]:
        """Heading to cells; the data set's column is left out if there is only one."""
        frame = table.frame
        columns = {
            name: [self.escape(str(value)) for value in frame[name]]
            for name in _NAMES
            if name != "dataset" or frame["dataset"].nunique() > 1
        }
        for name in table.metrics:
            arrow = (" ↓" if smaller_is_better(name) else " ↑") if measures_quality(name) else ""
            cells = frame[[name, f"{name}_std", f"{name}_p", f"{name}_rank", f"{name}_best"]]
            columns[self.escape(f"{name}{arrow}")] = [self.cell(name, *cell) for cell in cells.itertuples(index=False)]
        return columns

    def cell(self, metric: str, mean: float, std: float, p: float, rank: float, best: bool) -> str:
        if pd.isna(mean):
            return "-"
        digits = 0 if is_count(metric) else 4
        value = f"{mean:.{digits}f}"
        parts = [self.best(value) if best else value, self.escape(significance_mark(p))]
        if not pd.isna(std):
            parts.append(" " + self.escape(f"± {std:.{digits}f}"))
        if not pd.isna(rank):
            parts.append(self.rank(f"{rank:g}"))
        return "".join(parts)

    def notes(self, table: Table) -> list[str]:
        """The meaning of the cells, and the table's notes."""
        frame = table.frame
        parts = ["mean ± standard deviation over runs"] if (frame["runs"] > 1).any() else []
        if any(frame[f"{name}_best"].any() for name in table.metrics):
            parts.append(f"the best {self.best_is}, ranks in parentheses")
        if any(frame[name].isna().any() for name in table.metrics):
            parts.append("- where there is no value, as a rating error of a model that predicts no rating")
        caption = "; ".join(parts)
        return [
            self.escape(note) for note in ([f"{caption[0].upper()}{caption[1:]}."] if caption else []) + [*table.notes]
        ]


def one_line(text: str) -> str:
    """``text`` with every run of white space as one space."""
    return " ".join(text.split())


def escape_markdown(text: str) -> str:
    """``text`` on one line that GitHub's Markdown shows as it is, inside a table or outside."""
    return re.sub(r"([\\`*|<\[\]])", r"\\\1", one_line(text))


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a row, these two would be read as arguments of the line break before it.
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
}


def escape_latex(text: str) -> str:
    r"""``text`` on one line that LaTeX typesets as it is.

    Example:
        >>> escape_latex("use_bias=50%")
        'use\\_bias=50\\%'
    """
    return "".join(_LATEX.get(character, character) for character in one_line(text))


_MARKDOWN_STYLE = _Style(escape_markdown, "**{}**".format, "in bold")
_TEXT_STYLE = _Style(one_line, "{}*".format, "marked by *")
_LATEX_STYLE = _Style(escape_latex, r"\textbf{{{}}}".format, "in bold", r" {{\scriptsize ({})}}".format)


def markdown(table: Table) -> str:
    """See :meth:`Table.to_markdown`."""
    columns = _MARKDOWN_STYLE.columns(table)
    grid = tabulate(columns, headers="keys", tablefmt="github", disable_numparse=True)
    notes = "\n".join(f"- {note}" for note in _MARKDOWN_STYLE.notes(table))
    return "\n\n".join([escape_markdown(table.header), grid, notes]).rstrip() + "\n"


def text(table: Table, width: int) -> str:
    """See :meth:`Table.to_text`."""
    columns = _TEXT_STYLE.columns(table)
    names = {name: columns.pop(name) for name in _NAMES if name in columns}
    grids = []
    while columns:
        shown = dict(names)
        for name in list(columns):
            # At least one metric, however narrow the terminal.
            if len(shown) > len(names) and _width({**shown, name: columns[name]}) > width:
                break
            shown[name] = columns.pop(name)
        grids.append(_plain(shown))
        names = {name: cells for name, cells in names.items() if name in ("dataset", "model")}
    return "\n\n".join([one_line(table.header), *grids, "\n".join(_TEXT_STYLE.notes(table))]).rstrip()


def _plain(columns: dict[str, list[str]]) -> str:
    return tabulate(columns, headers="keys", tablefmt="simple", disable_numparse=True)


def _width(columns: dict[str, list[str]]) -> int:
    return len(_plain(columns).splitlines()[1])


def latex(table: Table) -> str:
    """See :meth:`Table.to_latex`."""
    columns = _LATEX_STYLE.columns(table)
    rows = [" & ".join(cells) + r" \\" for cells in zip(*columns.values(), strict=True)]
    groups = list(zip(table.frame["dataset"], table.frame["kind"] == "model", strict=True))
    # A rule wherever another data set or the reference rows begin.
    for index in range(len(rows) - 1, 0, -1):
        if groups[index] != groups[index - 1]:
            rows.insert(index, r"\midrule")
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering",
        r"\small",
        rf"\caption{{{escape_latex(table.header)}}}",
        rf"\begin{{tabular}}{{{'l' * len(columns)}}}",
        r"\toprule",
        " & ".join(columns) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {note}" for note in _LATEX_STYLE.notes(table)),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"
