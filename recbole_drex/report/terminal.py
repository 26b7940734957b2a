"""What the main job and ``prepare`` print when they are done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from recbole_drex.data.statistics import statistics_table
from recbole_drex.errors import DataError
from recbole_drex.evaluation.result import read_interactions
from recbole_drex.evaluation.significance import paired_tests
from recbole_drex.evaluation.table import render as render_table
from recbole_drex.evaluation.table import result_table, table_header
from recbole_drex.explain.keywords import Explainer, render
from recbole_drex.quick_start import load

OWN_METRICS = ("mae", "rmse", "mae_rounded", "ndcg@1", "ndcg@5", "ndcg@10", "f1@5", "recall@5")
FULL_METRICS = ("ndcg@10", "precision@10", "recall@10", "recall@20", "f1@10")


def print_run(results: Sequence[dict[str, Any]], output: Path) -> None:
    """Print the result tables, explained recommendations of three users, and where the files are."""
    first = results[0]
    block = first["protocol"]["candidates"]
    blocks = {"own_test": OWN_METRICS, "full": FULL_METRICS}
    if block == "sampled":
        blocks["sampled"] = FULL_METRICS
    for name in sorted(blocks, key=lambda name: name != block):
        print(render_table(result_table(results, blocks[name], name), table_header(results, name)), end="\n\n")
    _print_tests(results, output)
    _print_explanations(output / first["dataset"] / first["model"] / f"seed-{first['seed']}")
    print("Files")
    for result in results:
        print(f"  {output / result['dataset'] / result['model'] / ('seed-' + str(result['seed']))}{os.sep}")
    print("  each with result.json, interactions.parquet, model.safetensors, history.json, train.log and tensorboard/")
    print(f"  prepared data: {first['config']['data_path']}{os.sep}")


def _print_tests(results: Sequence[dict[str, Any]], output: Path) -> None:
    """Print paired tests, user by user and over all seeds, of the first model against every other rating model."""
    models = list(dict.fromkeys(result["model"] for result in results))
    for metric, power in (("mae", 1), ("rmse", 2)):
        errors = {}
        for model in models:
            runs = [result for result in results if result["model"] == model]
            if all(run["test"]["own_test"].get(metric) is not None for run in runs):
                errors[model] = pd.concat({run["seed"]: user_errors(run, output, power) for run in runs})
        if len(errors) < 2 or models[0] not in errors:
            continue
        table = paired_tests(errors, models[0], smaller_is_better=True).reset_index()
        label = {1: "absolute", 2: "squared"}[power]
        print(
            f"{models[0]} against each model by users' mean {label} test errors (Wilcoxon signed-rank, Holm-corrected)"
        )
        print(
            tabulate(
                table.to_dict("list"),
                headers="keys",
                tablefmt="github",
                showindex=False,
                floatfmt=".3g",
                missingval="-",
            ),
            end="\n\n",
        )


def user_errors(result: dict[str, Any], output: Path, power: int) -> pd.Series:
    """Mean error of each user's test rows; predictions are clipped to the range of training ratings, as in metrics."""
    rows = read_interactions(output / result["dataset"] / result["model"] / f"seed-{result['seed']}")
    train, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
    clipped = test["prediction"].clip(train["rating"].min(), train["rating"].max())
    return ((clipped - test["rating"]).abs() ** power).groupby(test["user_id"].astype(str)).mean()


def _print_explanations(run_dir: Path, users: int = 3) -> None:
    experiment = load(run_dir)
    try:
        explainer = Explainer(experiment)
    except DataError as error:
        print(f"No explanations: {error}.\n")
        return
    # The users with most training reviews have the fullest profiles; ties go by name.
    dataset = experiment.dataset
    counts = experiment.parts.train_dataset.user_counter
    best = sorted((user for user in counts if user), key=lambda user: (-counts[user], user))[:users]
    print("Explained recommendations (the best one of three users; `recbole-drex explain` shows any)")
    for user in best:
        print(render(explainer.explain(str(dataset.field2id_token[dataset.uid_field][user]), top=1)))
    print()


def print_statistics(manifest: dict[str, Any], folder: Path, keep_unrated: bool) -> None:
    """Print what ``prepare`` made: the counts of each step, and a table like the paper's Table 1."""
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
        print("Rows without a rating are stored, and left aside by keep_unrated: false.")
    print(
        f"\n{manifest['words']:,} words of {manifest['vocabulary']:,} lemmas, encoded by {manifest['encoder']['name']}"
    )
    print(f"Files: {folder}{os.sep}")
