"""Tables made from result files alone: a row per model, reference rows below, conventions in the header."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.evaluation.protocol import Protocol

METRICS = ("mae", "mae_median", "mae_rounded", "rmse", "ndcg@1", "ndcg@5", "ndcg@10", "ndcg@20", "f1@5", "f1@10")
_ROW = ["dataset", "model", "loss", "output"]


def result_table(
    results: Sequence[dict[str, Any]], metrics: Sequence[str] | None = None, block: str = "own_test"
) -> pd.DataFrame:
    """Gather results into one table.

    Args:
        results: as :func:`recbole_drex.evaluation.result.read_result` gives them, of any models, data sets and seeds.
        metrics: names of the columns wanted; by default those of ``METRICS`` that any result has.
        block: kind of candidates: ``own_test``, ``full`` or ``sampled``. Only ``own_test`` has reference rows.

    Returns:
        One row per data set, model, loss and output, in the order given, then the reference rows: columns ``dataset,
        model, loss, output, seeds`` (their number) and each metric's mean over seeds; where there are several seeds,
        also ``<metric>_std``, the standard deviation (n - 1). NaN where a seed has no value.

    Raises:
        DataError: there is no result; a seed comes twice; or results do not share data, split or conventions, so that
            no header could be true of all.
        ConfigError: no result has a metric that was asked for.
    """
    _refuse_unlike(results)
    rows = [_row(result, result["model"], result["test"].get(block)) for result in results]
    if block == "own_test":
        # Models run on the same split report the same reference rows; one of each seed is enough.
        references: dict[tuple[str, str, int], dict[str, Any]] = {}
        for result in results:
            for name, blocks in result["references"].items():
                row = {**_row(result, name, blocks["own_test"]), "loss": "-", "output": "-"}
                references.setdefault((result["dataset"], name, result["seed"]), row)
        rows += references.values()
    frame = pd.DataFrame(rows)
    repeated = frame[frame.duplicated([*_ROW, "seed"])]
    if len(repeated):
        first = repeated.iloc[0]
        raise DataError(f"two results of model '{first['model']}' on {first['dataset']} have seed {first['seed']}")
    known = [name for name in frame.columns if name not in (*_ROW, "seed")]
    for name in metrics or ():
        if name not in known:
            raise ConfigError(unknown_name("metric", name, known))
    chosen = list(metrics) if metrics is not None else [name for name in METRICS if name in known]

    groups = frame.groupby(_ROW, sort=False)
    table = groups.size().rename("seeds").to_frame()
    for name in chosen:
        values = groups[name]
        complete = values.count() == table["seeds"]
        table[name] = values.mean().where(complete)
        if (table["seeds"] > 1).any():
            table[f"{name}_std"] = values.std().where(complete)
    return table.reset_index()


def table_header(results: Sequence[dict[str, Any]], block: str = "own_test") -> str:
    """The line above a table: data sets with their fingerprints, split, and the conventions of ``block``.

    Raises:
        DataError: as :func:`result_table`.
    """
    _refuse_unlike(results)
    data = {result["dataset"]: result["data"]["fingerprint"] for result in results}
    protocol = dataclasses.replace(Protocol(**results[0]["protocol"]), candidates=block)
    names = ", ".join(f"{name} ({fingerprint[:12]})" for name, fingerprint in data.items())
    return f"{names} | split: {results[0]['split']} | {protocol.describe()}"


def render(frame: pd.DataFrame, header: str) -> str:
    """Plain text (GitHub's Markdown) of a table from :func:`result_table`.

    Means and standard deviations share a cell, ``0.6531 ± 0.0160``; ``-`` stands where there is no value; the data
    set's column is left out if there is only one.
    """
    text = pd.DataFrame(index=frame.index)
    for name, column in frame.items():
        if str(name).endswith("_std") or (name == "dataset" and column.nunique() == 1):
            continue
        if name in (*_ROW, "seeds"):
            text[name] = column.astype(str)
            continue
        digits = 0 if name == "n" or str(name).startswith("users") else 4
        spread = frame.get(f"{name}_std", pd.Series(float("nan"), index=frame.index))
        text[name] = [_cell(mean, std, digits) for mean, std in zip(column, spread, strict=True)]
    grid = tabulate(
        text.to_numpy().tolist(), headers=list(text.columns), tablefmt="github", disable_numparse=True, stralign="left"
    )
    return f"{header}\n\n{grid}"


def _cell(mean: float, std: float, digits: int) -> str:
    if pd.isna(mean):
        return "-"
    return f"{mean:.{digits}f}" + ("" if pd.isna(std) else f" ± {std:.{digits}f}")


def _row(result: dict[str, Any], model: str, metrics: dict[str, float | None] | None) -> dict[str, Any]:
    named = {key: result[key] for key in ("dataset", "loss", "output", "seed")}
    values = {name: float("nan") if value is None else value for name, value in (metrics or {}).items()}
    return {**named, "model": model, **values}


def _refuse_unlike(results: Sequence[dict[str, Any]]) -> None:
    if not results:
        raise DataError("there is no result to make a table of")
    fingerprints: dict[str, str] = {}
    for result in results:
        for key in ("protocol", "split"):
            if result[key] != results[0][key]:
                raise DataError(
                    f"results of '{results[0]['model']}' and '{result['model']}' differ in {key} "
                    f"({results[0][key]} and {result[key]}): they do not belong in one table"
                )
        if fingerprints.setdefault(result["dataset"], result["data"]["fingerprint"]) != result["data"]["fingerprint"]:
            raise DataError(f"results on {result['dataset']} were made on different data: the fingerprints differ")
