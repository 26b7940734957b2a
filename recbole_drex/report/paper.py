"""The tables and figures of the DReX paper (arXiv 2602.19702, section 4), from the stored runs of a comparison.

``docs/paper.md`` lists the commands, and the differences between the paper's protocol and ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from tabulate import tabulate

from recbole_drex.analysis.comparable import refuse_unlike
from recbole_drex.analysis.comparison_table import comparison_table
from recbole_drex.analysis.friedman import RankTest, rank_test
from recbole_drex.analysis.table_format import escape_latex
from recbole_drex.analysis.table_rows import seldom_ordered
from recbole_drex.data.prepare.statistics import statistics_table
from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.report.figures import comparison_figures
from recbole_drex.report.figures.style import name_of
from recbole_drex.results.comparison import Comparison
from recbole_drex.utils.files import write_text

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
_LENGTHS = (1, 2, 3, 4, 5, 10, 15, 20)
_TESTED = [f"{name}@{k}" for k in (1, 5, 10) for name in ("ndcg", "f1")]
_REGULARISATION = ("reg_weight", "weight_decay")


def paper_item(item: str, comparison: Comparison, output: str | Path, user: str | None = None) -> list[Path]:
    """Make a table or figure of the paper from a comparison, without training anything.

    Args:
        item: ``table-1`` (statistics of the data sets), ``table-4`` (MAE and NDCG@k with ranks), ``table-5``
            (Friedman's test), ``figure-3`` (learning rate and regularisation), ``figure-4`` (F1@k), ``figure-5``
            (embedding size), ``figure-6`` (keyword profiles of a user and of three items) or ``figure-7`` (critical
            differences).
        comparison: as returned by :func:`recbole_drex.results.comparison.read_comparison`.
        output: folder of the files, created if missing.
        user: user shown in ``figure-6``; default: the user who shares most keywords with the three items.

    Returns:
        The files written: ``.md``, ``.tex`` and ``.csv`` of a table, ``.png``, ``.svg`` and ``.pdf`` of a figure.

    Raises:
        ConfigError: unknown item or user, or the comparison does not vary the parameters that the item shows.
        DataError: the comparison lacks runs that the item needs; the message names the command that creates them.
    """
    if item not in ITEMS:
        raise ConfigError(unknown_name("table or figure", item, ITEMS))
    if user is not None and item != "figure-6":
        raise ConfigError(f"--user applies only to figure-6, not to {item}")
    refuse_unlike(comparison.results)
    return ITEMS[item](comparison, Path(output), user)


def _table_1(comparison: Comparison, output: Path, user: str | None) -> list[Path]:
    statistics: dict[str, dict[str, Any]] = {}
    for dataset in comparison.datasets:
        for run in comparison.of(dataset=dataset)[:1]:
            data = run.result["data"]
            rated = round(data["interactions"] * (1 - data["missing_rating"]))
            statistics[dataset] = {**data, "sparsity": 1 - rated / (data["users"] * data["items"])}
    frame = pd.DataFrame.from_dict(statistics, orient="index").rename_axis("dataset")
    return _write_table(output / "table-1", statistics_table(statistics), frame, "Statistics of the data sets.")


def _table_4(comparison: Comparison, output: Path, user: str | None) -> list[Path]:
    known = {name for result in comparison.results for name in result["test"]["own_test"]}
    metrics = [name for name in ("mae", *(f"ndcg@{k}" for k in _LENGTHS)) if name in known]
    table = comparison_table(comparison, metrics)
    texts = {".md": table.to_markdown(), ".tex": table.to_latex(), ".csv": table.to_csv()}
    return _write(output / "table-4", texts)


def _table_5(comparison: Comparison, output: Path, user: str | None) -> list[Path]:
    tests = _rank_tests("table-5", comparison)
    rows = [
        {
            "metric": test.metric,
            "F": test.F,
            "df1": test.df1,
            "df2": test.df2,
            "critical_value": test.critical,
            "p": test.p,
            "q": test.q,
            "datasets": len(test.ranks),
            "models": len(test.mean_ranks),
            "CD": test.cd,
        }
        for test in sorted(tests, key=lambda test: test.metric.startswith("f1"))
    ]
    frame = pd.DataFrame(rows).set_index("metric")
    digits = (".4g", ".0f", ".0f", ".4f", ".2g", ".3f", ".0f", ".0f", ".3f")
    cells = [[name_of(str(metric)), *map(format, values, digits)] for metric, *values in frame.itertuples()]
    headers = ["Metric", "F", "df1", "df2", "Critical value", "p", "q", "Data sets", "Models", "CD"]
    text = tabulate(cells, headers, tablefmt="github", disable_numparse=True)
    caption = f"Friedman's test with Iman and Davenport's F at {tests[0].alpha:g}, and Nemenyi's critical difference."
    return _write_table(output / "table-5", text, frame, caption, tests[0].power)


def _figure_3(comparison: Comparison, output: Path, user: str | None) -> list[Path]:
    regularisation = [name for name in _REGULARISATION if name in comparison.vary]
    if set(comparison.vary) != {"learning_rate", *regularisation[:1]} or not regularisation:
        vary = "--vary learning_rate=0.0001,0.001,0.01,0.1 --vary reg_weight=0.0001,0.001,0.01"
        raise ConfigError(_lacks("figure-3", comparison, "does not vary learning_rate and reg_weight", vary))
    return _save(comparison_figures.sensitivity(comparison, "ndcg@5_10", "valid"), output / "figure-3")


def _figure_4(comparison: Comparison, output: Path, user: str | None) -> list[Path]:
    paths = []
    for dataset in comparison.datasets:
        if comparison.of(dataset=dataset):
            paths += _save(comparison_figures.metric_at_k(comparison, dataset, "f1"), output / f"figure-4-{dataset}")
    return paths


def _figure_5(comparison: Comparison, output: Path, user: str | None) -> list[Path]:
    if set(comparison.vary) != {"embedding_size"}:
        vary = "--vary embedding_size=16,32,64,128"
        raise ConfigError(_lacks("figure-5", comparison, "does not vary embedding_size alone", vary))
    paths = []
    for metric in ("mae", "ndcg@10"):
        paths += _save(
            comparison_figures.sensitivity(comparison, metric), output / f"figure-5-{metric.replace('@', '')}"
        )
    return paths


def _figure_6(comparison: Comparison, output: Path, user: str | None) -> list[Path]:
    explained: dict[str, dict[str, Any]] = {}
    for variant in comparison.variants:
        for run in comparison.of(label=variant.label):
            for explanation in run.explanations():
                if explanation["profile"] and explanation["recommendations"]:
                    explained.setdefault(str(explanation["user"]), explanation)
    if not explained:
        raise DataError(_lacks("figure-6", comparison, "has no run that explains its recommendations"))
    if user is not None and user not in explained:
        hint = "More users are explained with --explained_users N."
        raise ConfigError(unknown_name("explained user", user, explained, hint))

    def shared(name: str) -> int:
        return sum(len(item["keywords"]) for item in explained[name]["recommendations"][:3])

    chosen = user if user is not None else min(explained, key=lambda name: (-shared(name), name))
    return _save(comparison_figures.keyword_overlap(explained[chosen]), output / "figure-6")


def _figure_7(comparison: Comparison, output: Path, user: str | None) -> list[Path]:
    return _save(comparison_figures.critical_difference(*_rank_tests("figure-7", comparison)), output / "figure-7")


ITEMS: dict[str, Callable[[Comparison, Path, str | None], list[Path]]] = {
    "table-1": _table_1,
    "table-4": _table_4,
    "table-5": _table_5,
    "figure-3": _figure_3,
    "figure-4": _figure_4,
    "figure-5": _figure_5,
    "figure-6": _figure_6,
    "figure-7": _figure_7,
}


def _rank_tests(item: str, comparison: Comparison) -> list[RankTest]:
    """Rank tests of NDCG and F1 at 1, 5 and 10, except metrics that the order of items rarely changes."""
    if len(comparison.datasets) < 2:
        reason = "has one data set, and models are ranked over two or more"
        raise DataError(_lacks(item, comparison, reason, datasets="A,B,C"))
    seldom = {name for dataset in comparison.datasets for name in seldom_ordered(comparison, dataset, _TESTED)}
    # If no metric is left, the first one raises an error with the reason.
    chosen = [metric for metric in _TESTED if metric not in seldom] or _TESTED[:1]
    return [rank_test(comparison, metric) for metric in chosen]


def _lacks(item: str, comparison: Comparison, reason: str, vary: str = "", datasets: str = "") -> str:
    """Error message for a comparison that lacks what an item needs, with a command that creates it."""
    datasets = datasets or ",".join(comparison.datasets)
    command = f"recbole-drex compare --models DReX,DReX-MLP --datasets {datasets} {vary}".strip()
    return f"{item} cannot be made: {comparison.folder} {reason}. Create one that does with: {command} --name {item}"


def _write_table(stem: Path, text: str, frame: pd.DataFrame, caption: str, note: str = "") -> list[Path]:
    """Write a Markdown table as Markdown and LaTeX, and its numbers as CSV."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    header, body = lines[0], lines[2:]
    rows = [" & ".join(map(escape_latex, cells)) + r" \\" for cells in (header, *body)]
    latex = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
        *([rf"\par\footnotesize {escape_latex(note)}"] if note else []),
        r"\end{table}",
    ]
    below = f"\n\n{note}" if note else ""
    return _write(
        stem, {".md": f"{caption}\n\n{text}{below}\n", ".tex": "\n".join(latex) + "\n", ".csv": frame.to_csv()}
    )


def _write(stem: Path, texts: dict[str, str]) -> list[Path]:
    paths = [_with_suffix(stem, suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


def _save(figure: Figure, stem: Path) -> list[Path]:
    return [comparison_figures.save(figure, _with_suffix(stem, suffix)) for suffix in FIGURE_SUFFIXES]


def _with_suffix(stem: Path, suffix: str) -> Path:
    # Path.with_suffix would cut the name of a data set at its last dot.
    return stem.with_name(stem.name + suffix)
