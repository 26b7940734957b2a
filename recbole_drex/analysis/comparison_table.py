"""The table of a comparison: models x metrics with spread, ranks and significance, computed from result files only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from recbole_drex.analysis.comparable import EQUAL_DIGITS, complete_runs, measures_quality, refuse_unlike
from recbole_drex.analysis.explanation_table import explanation_table, to_text
from recbole_drex.analysis.significance import compare_models, metrics_per_user, user_values
from recbole_drex.analysis.table_format import Table, legend
from recbole_drex.analysis.table_rows import dataset_rows, seldom_ordered
from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.evaluation.list_metrics import LIST_METRICS
from recbole_drex.results.comparison import COMPARISON, Comparison, Run, record_comparison
from recbole_drex.utils.files import write_text

METRICS = {
    "own_test": ("mae", "mae_median", "mae_rounded", "rmse", "ndcg@1", "ndcg@5", "ndcg@10", "f1@5"),
    "full": ("ndcg@10", "ndcg@20", "precision@10", "recall@10", "recall@20", "f1@10"),
    "sampled": ("ndcg@10", "precision@10", "recall@10", "recall@20", "f1@10"),
    "recbole": (),
}
"""Default columns of a table by kind of candidates; columns that no row has are left out.

The metrics of RecBole's registry are the configured ones, at k = 10 or the longest list. Those of recommended lists, at
the same k, follow in ``full``.
"""


def comparison_table(
    comparison: Comparison,
    metrics: Sequence[str] | None = None,
    block: str = "own_test",
    tests: Sequence[str] | None = None,
) -> Table:
    """Gather a comparison into one table.

    Args:
        comparison: from :func:`recbole_drex.results.comparison.read_comparison`.
        metrics: columns wanted; by default those of ``METRICS`` that any row has.
        block: kind of candidates: ``own_test``, ``full``, ``sampled`` or ``recbole``. Only ``own_test`` has the
            random order and the oracle.
        tests: the tested ``metrics``; by default all that have a value per user. ``()`` skips the tests.

    Raises:
        DataError: no run is finished; results do not share data, split or conventions, so that no header is
            valid for all; or one is repeated. The message names the difference.
        ConfigError: no row has a requested metric, or there is no such block.
        CheckpointError: a users file is missing or damaged.
    """
    refuse_unlike(comparison.results)
    if block not in METRICS:
        raise ConfigError(unknown_name("kind of candidates", block, METRICS))
    known = _known_metrics(comparison, block)
    for name in metrics or ():
        if name not in known:
            raise ConfigError(unknown_name(f"metric of {block}:", name, known))
    usual = METRICS[block]
    topk = comparison.results[0]["protocol"]["topk"]
    k = 10 if 10 in topk else max(topk)
    if block == "full":
        usual += (*(f"{name}@{k}" for name in LIST_METRICS), "historypopularity")
    if block == "recbole":
        usual = tuple(name for name in known if name.partition("@")[2] in ("", str(k)))
    chosen = tuple(dict.fromkeys(metrics)) if metrics is not None else tuple(m for m in usual if m in known)
    for name in tests or ():
        if name not in chosen:
            raise ConfigError(unknown_name("metric to test:", name, chosen))

    notes = _notes_on_runs(comparison)
    parts, tested = [], []
    for dataset in comparison.datasets:
        seldom = seldom_ordered(comparison, dataset, chosen, block)
        part = dataset_rows(comparison, dataset, chosen, block, unranked=seldom)
        notes += _notes_on_columns(dataset, part, chosen, seldom)
        if tests is None or tests:
            runs = complete_runs(comparison.of(dataset=dataset))
            names = [name for name in tests or chosen if name not in seldom]
            tested += _tests(part, runs, names, tests is not None, block, comparison.reference, notes)
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    if (frame["kind"] == "bound").any():
        notes.append(
            "Random is the expectation over all orders of the test items, Oracle their order by true rating; "
            "neither is ranked."
        )
    if tested:
        names = [name for name in chosen if name in {metric for metric, _ in tested}]
        fewest = min(int(rows["runs"].iloc[0]) for _, rows in tested)
        notes.append(legend(names, comparison.reference, fewest))
    first = comparison.results[0]
    return Table(
        frame=frame,
        metrics=chosen,
        block=block,
        data={result["dataset"]: result["data"]["fingerprint"] for result in comparison.results},
        split=first["split"],
        conventions={
            key: block if key == "candidates" else value for key, value in first["protocol"].items() if key != "topk"
        },
        notes=tuple(notes),
        tests=pd.concat([rows for _, rows in tested], ignore_index=True) if tested else pd.DataFrame(),
    )


def blocks_of(comparison: Comparison) -> list[str]:
    """The kinds of candidates for which any result has metrics, ``own_test`` first."""
    return [block for block in METRICS if any(result["test"].get(block) for result in comparison.results)]


def write_tables(comparison: Comparison, folder: str | Path) -> dict[str, Table]:
    """Write a comparison's tables and tests as self-contained files.

    Writes ``table.csv``, ``.md`` and ``.tex`` of the own test items, the same as ``table_full`` (and ``table_sampled``)
    of the other kinds of candidates that results have, ``significance.csv`` with the rows of every test, and, where
    results have measures of explanations, ``explanations.csv`` and ``.md``.

    Returns:
        The tables, by kind of candidates.

    Raises:
        DataError, CheckpointError: as :func:`comparison_table`, or the folder cannot be written.
    """
    tables = {block: comparison_table(comparison, block=block) for block in blocks_of(comparison)}
    for block, table in tables.items():
        path = Path(folder) / ("table" if block == "own_test" else f"table_{block}")
        write_text(path.with_suffix(".csv"), table.to_csv())
        write_text(path.with_suffix(".md"), table.to_markdown())
        write_text(path.with_suffix(".tex"), table.to_latex())
    explained = explanation_table(comparison)
    if len(explained):
        write_text(Path(folder) / "explanations.csv", explained.to_csv(index=False))
        write_text(Path(folder) / "explanations.md", to_text(explained, "pipe"))
    tests = [table.tests for table in tables.values() if len(table.tests)]
    if tests:
        write_text(Path(folder) / "significance.csv", pd.concat(tests).to_csv(index=False))
    if (Path(folder) / COMPARISON).is_file():
        record_comparison(Path(folder))
    return tables


def _known_metrics(comparison: Comparison, block: str) -> list[str]:
    """Names in any row, including bounds, so that models without ratings show that they have no rating error."""
    results: dict[str, None] = {}
    for result in comparison.results:
        bounds = result["references"].values() if block == "own_test" else ()
        for metrics in (result["test"].get(block) or {}, *(bound[block] for bound in bounds)):
            results |= dict.fromkeys(metrics)
    return list(results)


def _tests(
    part: pd.DataFrame,
    runs: Sequence[Run],
    metrics: Sequence[str],
    asked: bool,
    block: str,
    reference: str,
    notes: list[str],
) -> list[tuple[str, pd.DataFrame]]:
    """Tests of one data set's ranked models by metric; p-values go into ``part``, reasons for none into ``notes``."""
    prefix = {"own_test": "", "full": "full_"}.get(block)
    users = user_values(runs) if prefix is not None else {}
    legal = metrics_per_user(users)
    result = []
    refused: dict[str, list[str]] = {}
    for name in metrics:
        if f"{prefix}{name}" not in legal:
            if asked and part[name].notna().any():
                raise ConfigError(f"metric '{name}' of {block} has no value per user, so it cannot be tested")
            continue
        labels = set(part.loc[part[f"{name}_rank"].notna(), "model"])
        if not labels:
            # Noted only if unexpected: not for a single model, nor for a metric that only one model has.
            if sum(f"{prefix}{name}" in metrics_per_user({label: frame}) for label, frame in users.items()) != 1:
                refused.setdefault("fewer than two models have a value in every run", []).append(name)
            continue
        if reference not in labels:
            refused.setdefault(f"{reference}, the reference, has no value in every run", []).append(name)
            continue
        chosen = [run for run in runs if run.label in labels]
        try:
            frame = compare_models(
                chosen, f"{prefix}{name}", reference, {label: users[label] for label in users if label in labels}
            )
        except DataError as error:
            refused.setdefault(str(error), []).append(name)
            continue
        part[f"{name}_p"] = part["model"].map(frame["p_holm"]).where(part["kind"] != "bound")
        named = {
            "dataset": part["dataset"].iloc[0],
            "block": block,
            "metric": name,
            "reference": reference,
            "model": frame.index,
        }
        result.append((name, pd.DataFrame(named).join(frame, on="model")))
    for reason, names in refused.items():
        notes.append(f"{', '.join(names)} on {part['dataset'].iloc[0]} not tested: {reason}.")
    return result


def _notes_on_columns(
    dataset: str, part: pd.DataFrame, metrics: Sequence[str], seldom: Mapping[str, float]
) -> list[str]:
    """Notes on columns of a data set that say little: the order seldom matters, or all models have the same value."""
    shown: dict[str, list[str]] = {}
    for name, share in seldom.items():
        shown.setdefault(f"{share:.0%} of users only" if share else "no user", []).append(name)
    notes = [
        f"{', '.join(names)} on {dataset}: neither ranked nor tested, since the order of the own test items makes a "
        f"difference for {share}."
        for share, names in shown.items()
    ]
    models = part[part["kind"] != "bound"]
    same = [
        name
        for name in metrics
        if measures_quality(name)
        and name not in seldom
        and models[name].notna().sum() > 1
        and models[name].round(EQUAL_DIGITS).nunique() == 1
    ]
    if same:
        notes.append(f"{', '.join(same)} on {dataset}: constant, the same for all models.")
    return notes


def _notes_on_runs(comparison: Comparison) -> list[str]:
    """Notes on failed runs, and on models that lack a replicate."""
    failed: dict[tuple[str, str, str], list[str]] = {}
    for failure in comparison.failures:
        failed.setdefault((failure.label, failure.dataset, failure.error), []).append(failure.replicate)
    notes = [
        f"{label} failed on {dataset} ({', '.join(replicates)}): {error}"
        for (label, dataset, error), replicates in failed.items()
    ]
    for dataset in comparison.datasets:
        wanted = {run.replicate for run in comparison.of(dataset=dataset)}
        for variant in comparison.variants:
            result = {run.replicate for run in comparison.of(variant.label, dataset)}
            if result and result != wanted:
                notes.append(
                    f"{variant.label} on {dataset} lacks {', '.join(sorted(wanted - result))}: its mean is shown, but "
                    "neither ranked nor tested."
                )
            elif not result and not any((variant.label, dataset) == key[:2] for key in failed):
                notes.append(f"{variant.label} has not been run on {dataset}.")
    return notes
