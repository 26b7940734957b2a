"""Terminal output of finished runs, comparisons, searches and ``prepare``."""

from __future__ import annotations

import os
import shlex
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from recbole_drex.analysis.comparable import complete_runs
from recbole_drex.analysis.comparison_table import Table, blocks_of, comparison_table, write_tables
from recbole_drex.analysis.explanation_table import explanation_table
from recbole_drex.analysis.explanation_table import to_text as explanation_text
from recbole_drex.analysis.friedman import rank_test
from recbole_drex.analysis.sentence_table import sentence_table
from recbole_drex.analysis.sentence_table import to_text as sentence_text
from recbole_drex.analysis.significance import compare_models, user_values
from recbole_drex.analysis.table_rows import seldom_ordered
from recbole_drex.cli.run_summary import NO_TEST_PART
from recbole_drex.data.prepare.statistics import statistics_table
from recbole_drex.errors import DataError, printable, without_controls
from recbole_drex.explain.explanation_text import render
from recbole_drex.explain.stored_explanations import best_item, explanation_of, read_explanations
from recbole_drex.report.pages.rendering import seconds
from recbole_drex.results.comparison import REFERENCES, Comparison, comparison_of
from recbole_drex.tuning.search_results import BEST, TRIALS, Search
from recbole_drex.tuning.search_summary import (
    STATUSES,
    budgets,
    command_of,
    fairness,
    log_of,
    parameters_text,
    plain_value,
    score_of,
    scored,
    spread_of,
    tested,
    trials_text,
    winner_of,
)

_TESTED = ("mae", "rmse", "ndcg@10")
_BEST_TRIALS, _FAILED_TRIALS = 10, 5  # numbers of printed trials
_RANKED = ("mae", "rmse", "ndcg@1", "ndcg@5", "ndcg@10", "f1@5")


def print_run(results: Sequence[dict[str, Any]], output: Path) -> None:
    """Print the result tables, explained recommendations for three users, and the paths of the files."""
    first = results[0]
    folders = [output / result["dataset"] / result["model"] / f"seed-{result['seed']}" for result in results]
    comparison = comparison_of(folders, references=[name for name in REFERENCES if name != first["model"]])
    block = first["protocol"]["candidates"]
    if not first["test"][block]:
        print(f"{NO_TEST_PART}\n")
    for name in sorted(blocks_of(comparison), key=lambda name: name != block):
        _print_table(comparison_table(comparison, block=name))
    _print_tests(comparison, first["label"])
    _print_explanation_quality(comparison)
    _print_explanations(folders[0])
    print("Files")
    for folder in folders:
        print(f"  {folder}{os.sep}")
    print("  each with result.json, interactions.parquet, users.parquet, model.safetensors, history.json, train.log,")
    print("  tensorboard/ and, for models with explanations, explanations.json, profiles.json and profiles.parquet")
    print(f"  prepared data: {first['config']['data_path']}{os.sep}")


def print_comparison(comparison: Comparison, rank_tests: bool) -> None:
    """Write a comparison's tables to its folder and print them, with rank tests over data sets on request.

    Raises:
        DataError: runs are not comparable, or rank tests are requested for one data set only.
    """
    for table in write_tables(comparison, comparison.folder).values():
        _print_table(table)
    _print_explanation_quality(comparison)
    if rank_tests:
        known = {name for result in comparison.results for name in result["test"]["own_test"]}
        for metric in _RANKED:
            if metric not in known:
                continue
            try:
                print(rank_test(comparison, metric).describe(), end="\n\n")
            except DataError as error:
                print(f"No rank test: {error}.\n")
    print(f"Files: comparison.json, table*.csv, .md, .tex and significance.csv in {comparison.folder}{os.sep}")
    print(f"Page:  recbole-drex report {shlex.quote(str(comparison.folder))}")


def print_search(search: Search) -> None:
    """Print for each model the best and failed trials, the winner and its test metrics; then the paths of the files."""
    for budget in budgets(search):
        model = budget.model
        metric = search.described["metrics"][model]["metric"]
        better = "higher" if search.bigger(model) else "lower"
        best = scored(search, model)[:_BEST_TRIALS]
        print(f"{model} on {search.described['dataset']}: {metric} on validation, {better} is better")
        if best:
            print(_trials_table(best, list(search.described["spaces"][model]), metric))
        counts = ", ".join(f"{number} {STATUSES[status]}" for status, number in budget.counts.items() if number)
        time = f"; {seconds(budget.seconds)} of wall time" if budget.seconds is not None else ""
        print(f"{trials_text(budget.trials)}: {counts or 'none started'}{time}")
        failed = [trial for trial in search.trials[model] if trial["status"] == "failed"]
        for trial in failed[:_FAILED_TRIALS]:
            failure = f"{parameters_text(trial['parameters'])}: {trial['error']}"
            print(f"  failed: {printable(failure)} (log {log_of(trial)})")
        if len(failed) > _FAILED_TRIALS:
            print(f"  and {len(failed) - _FAILED_TRIALS:,} more failed trials, see {TRIALS}.csv")
        winner = winner_of(search, model)
        if winner is None:
            print("No trial has finished, so there is no winner.\n")
            continue
        print(f"winner {winner['name']}: {printable(parameters_text(winner['parameters']))}")
        metrics = tested(search.winner_runs(model))
        scores = ", ".join(f"{name} {mean:.4f}" + (f" ± {std:.4f}" if std is not None else "")
                         for name, (mean, std) in metrics.items())  # fmt: skip
        print(f"on test: {scores}\n" if scores else "It has not been tested yet.\n")
    print(fairness(search), end="\n\n")
    _print_search_files(search)


def _trials_table(trials: Sequence[dict[str, Any]], searched: Sequence[str], metric: str) -> str:
    """One column per parameter, or one column for all if the table would be wider than the terminal."""
    width = shutil.get_terminal_size((160, 24)).columns
    rows, short = [], []
    for trial in trials:
        std = spread_of(trial)
        score = f"{score_of(trial):.4f}" + (f" ± {std:.4f}" if std is not None else "")
        cells = [score, f"{trial['epochs']:,}", f"{trial['seconds']:.1f}"]
        rows.append([*cells, *(printable(plain_value(trial["parameters"].get(name))) for name in searched)])
        text = printable(parameters_text(trial["parameters"]))
        short.append([*cells, textwrap.fill(text, max(30, width - len(score) - len(metric) - 20))])
    headers, right = [metric, "epochs", "seconds"], ["right"] * 3
    table = tabulate(rows, [*headers, *searched], colalign=right, disable_numparse=True)
    if max(map(len, table.splitlines())) <= width:
        return table
    return tabulate(short, [*headers, "parameters"], colalign=right, disable_numparse=True)


def _print_search_files(search: Search) -> None:
    print("Files")
    print(f"  all trials: {search.folder / TRIALS}.csv, {search.folder / TRIALS}.parquet")
    for model in search.described["models"]:
        if (search.folder / BEST / f"{model}.yaml").is_file():
            print(f"  best configuration: {search.folder / BEST / f'{model}.yaml'}")
            print(f"    {command_of(search, model)}")
    print(f"  TensorBoard: tensorboard --logdir {shlex.quote(str(search.folder / 'ray'))}")


def _print_table(table: Table) -> None:
    text = table.to_text(shutil.get_terminal_size((160, 24)).columns)
    print("\n".join(map(without_controls, text.split("\n"))), end="\n\n")


def _print_explanation_quality(comparison: Comparison) -> None:
    """Print how good the explanations are of the models that explain."""
    table = explanation_table(comparison)
    if len(table):
        print("Quality of explanations")
        print(explanation_text(table))
    sentences = sentence_table(comparison)
    if len(sentences):
        print("Quality of generated sentences")
        print(sentence_text(sentences))


def _print_tests(comparison: Comparison, model: str) -> None:
    """Print paired tests of one model against every other that was run on the same splits."""
    runs = complete_runs(comparison.runs)
    users = user_values(runs)
    for metric in _TESTED:
        labels = {run.label for run in runs if run.result["test"]["own_test"].get(metric) is not None}
        if model not in labels or len(labels) < 2 or seldom_ordered(comparison, runs[0].dataset, [metric]):
            continue
        try:
            tests = compare_models(runs, metric, model, users).reset_index().astype(object)
        except DataError as error:
            print(f"{metric} is not tested: {error}\n")
            continue
        sampled = "users and runs" if tests["runs"].iloc[0] > 1 else "users"
        print(f"{metric} of each model against {model} (paired t-test over {sampled}; p corrected by Holm's method)")
        print(
            tabulate(
                tests.where(tests.notna(), None).to_dict("list"),
                headers="keys",
                tablefmt="simple",
                floatfmt=".3g",
                missingval="-",
            ),
            end="\n\n",
        )


def _print_explanations(run_dir: Path, users: int = 3) -> None:
    # Stored by descending number of training reviews: the first users have the fullest profiles.
    stored = read_explanations(run_dir)[:users]
    if not stored:
        print("No explanations: the model offers none, or 'explained_users' is 0.\n")
        return
    print("Explained recommendations (the best one of three users; `recbole-drex explain` shows any)")
    for document in stored:
        print(render(explanation_of(best_item(document))))
    print()


def print_statistics(manifest: dict[str, Any], folder: Path, keep_unrated: bool) -> None:
    """Print the results of ``prepare``: the counts of each step, and a table like the paper's Table 1."""
    if manifest["statistics"] is None:
        print(f"{manifest['dataset']}: atomic files that were not prepared by recbole_drex; used as they are")
        return
    for step in manifest["counts"]:
        print(
            "  {step:10} {users:>9,} users {items:>9,} items {interactions:>10,} interactions, {rated:,} rated".format(
                **step
            )
        )
    malformed = {name: count for name, count in manifest["malformed"].items() if count}
    if malformed:
        print(f"  malformed rows skipped: {malformed}")
    print()
    print(statistics_table({manifest["dataset"]: manifest["statistics"]}))
    if not keep_unrated:
        print("Rows without a rating are stored, but not used (keep_unrated: false).")
    print()
    if "words" in manifest:
        words, lemmas = manifest["words"], manifest["vocabulary"]
        encoder = " ".join(manifest["encoder"][key] for key in ("static_vectors", "name") if key in manifest["encoder"])
        engine = " with OpenVINO" if "engine" in manifest["encoder"] else ""
        print(f"{words:,} words of {lemmas:,} lemmas, encoded by {encoder}{engine}")
    for name, entry in manifest.get("items", {}).items():
        print(f"Vectors of items, {name}: {entry['width']} wide, missing for {entry['missing']:,} items")
    print(f"Files: {folder}{os.sep}")
