"""Summary of ``run``: data, training, one table, one explained recommendation, and the next commands."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from recbole_drex.analysis.comparable import smaller_is_better
from recbole_drex.analysis.comparison_table import comparison_table
from recbole_drex.analysis.sentence_table import sentence_table, shown
from recbole_drex.config.recbole_settings import absent_parts
from recbole_drex.errors import printable
from recbole_drex.explain.explanation_text import Explanation, render, use_color
from recbole_drex.explain.stored_explanations import best_item, explanation_of, read_explanations
from recbole_drex.results.comparison import REFERENCES, Comparison, Run, comparison_of

_COLUMNS = {"own_test": ("mae", "rmse"), "full": ("ndcg@10", "recall@10")}
_NAMES = {"mae": "MAE", "rmse": "RMSE", "ndcg@10": "NDCG@10", "recall@10": "Recall@10"}
NO_TEST_PART = "There is no test part (eval_args), so nothing was evaluated."
_TRIED = 20  # first stored explanations, of the users with most reviews, among which one is chosen


def print_summary(results: Sequence[dict[str, Any]], output: Path) -> None:
    """Print a summary of the runs of one command, at most one screen.

    Args:
        results: results of all models and seeds, reference models last.
        output: the folder of all runs.
    """
    first = results[0]
    width = shutil.get_terminal_size((80, 24)).columns
    folders = [output / result["dataset"] / result["model"] / f"seed-{result['seed']}" for result in results]
    data = first["data"]
    _print_wrapped(
        "Data",
        f"{printable(first['dataset'])}: {data['users']:,} users, {data['items']:,} items, "
        f"{data['interactions']:,} interactions; split: {first['split']}",
        width,
    )
    references = [name for name in REFERENCES if name != first["model"]]
    comparison = comparison_of(folders, references)
    requested = [one for one in comparison.runs if one.label not in references]
    for one in requested:
        _print_wrapped("Training", _training(one), width)
    print()
    print(metric_table(comparison))
    print()
    for row in shown(sentence_table(comparison)).to_dict("records"):
        values = ", ".join(
            f"{name} {value}" for name, value in row.items() if name not in ("dataset", "model", "pairs")
        )
        text = f"{row['model']}, {row['pairs']} test pairs against the test reviews' sentences: {values}"
        _print_wrapped("Sentences", text, width)
        print()
    explained = _explained(folders[0])
    if explained is not None:
        colored = use_color("auto", sys.stdout)
        legend = ": what raises the rating is green, what lowers it is red" if colored else ""
        print(f"Why {printable(first['label'])} recommends an item{legend}")
        print(render(explained, colored, width=width, quoted=1))
        print()
    run = shlex.quote(str(folders[0]))
    print("Next")
    if explained is not None:
        print(f"  recbole-drex explain --run {run} --user {shlex.quote(explained.user)}")
    print(f"  recbole-drex report {run}        # the same and more as a page")
    dataset, models = shlex.quote(first["dataset"]), ",".join(dict.fromkeys([first["model"], "NARRE", "BiasedMF"]))
    print(f"  recbole-drex compare --datasets {dataset} --models {models}")
    print("  --verbose prints all metrics, significance and the quality of the explanations")
    print("Files")
    for one in requested:
        print(f"  {one.folder}{os.sep}")


def _print_wrapped(about: str, text: str, width: int) -> None:
    print(textwrap.fill(text, width, initial_indent=f"{about:10}", subsequent_indent=" " * 10))


def metric_table(comparison: Comparison) -> str:
    """Rating errors and ranking metrics over all items, one row per model; the best value of each column has a star.

    Columns that are equal in all rows, or equal to another column, are omitted.
    """
    columns: dict[str, pd.Series] = {}
    for block, metrics in _COLUMNS.items():
        known = {name for result in comparison.results for name in result["test"].get(block) or ()}
        chosen = [name for name in metrics if name in known]
        if not chosen:
            continue
        frame = comparison_table(comparison, chosen, block, tests=()).frame
        frame = frame[frame["kind"] != "bound"].set_index("model")
        for name in chosen:
            text = [_cell(row, name) for _, row in frame.iterrows()]
            column = pd.Series(text, index=frame.index)
            differs = column.nunique() > 1 or len(column) == 1
            if differs and not any(column.equals(other) for other in columns.values()):
                columns[f"{_NAMES[name]} {'↓' if smaller_is_better(name) else '↑'}"] = column
    if not any(any(result["test"].values()) for result in comparison.results):
        return NO_TEST_PART
    if not columns:
        return "Results   no metric differs between the models."
    table = pd.DataFrame(columns).fillna("")
    table.index = [printable(str(name)) for name in table.index]
    right = ["left", *["right"] * len(columns)]
    lines = tabulate(table, headers=["test part", *columns], colalign=right, disable_numparse=True)
    return f"{lines}\n* best; ↓ lower is better, ↑ higher is better; NDCG and Recall rank unseen items"


def _cell(row: pd.Series, name: str) -> str:
    if pd.isna(row[name]):
        return "-"
    spread = f" ± {row[f'{name}_std']:.4f}" if row["runs"] > 1 and pd.notna(row[f"{name}_std"]) else ""
    return f"{row[name]:.4f}{spread}{'*' if row[f'{name}_best'] else ' '}"


def _training(run: Run) -> str:
    """How training ended."""
    result, history = run.result, run.history()
    epochs, best, seconds = result["epochs_run"], result["best_epoch"], result["seconds"]["train"]
    label, config = f"{printable(run.label)}, seed {result['seed']}", result["config"]
    if "validation" in absent_parts(config["eval_args"]):
        return f"{label}: all {epochs} epochs in {seconds:.0f} s; there is no validation part to select an epoch"
    if best is None or not 0 <= best < len(history) or history[best]["valid_score"] is None:
        return f"{label}: computed in {seconds:.0f} s"
    metric, patience = config["valid_metric"], config["stopping_step"]
    why = f"no better {metric} for {patience} evaluations" if epochs < config["epochs"] else "maximum number of epochs"
    return (
        f"{label}: best epoch {best + 1} of {epochs} "
        f"({metric} {history[best]['valid_score']:.4f} on validation) in {seconds:.0f} s; stopped: {why}"
    )


def _explained(run_dir: Path) -> Explanation | None:
    """Of the stored explanations, the one whose best recommendation has the most quotes."""
    stored = [best_item(document) for document in read_explanations(run_dir)[:_TRIED]]
    return max((explanation_of(document) for document in stored), key=_quotes, default=None)


def _quotes(explanation: Explanation) -> int:
    """Number of quotes that the parts of a recommendation have."""
    return sum(
        claim is not None and claim.quote is not None
        for item in explanation.recommendations
        for part in item.parts
        for claim in (part.user, part.item)
    )
