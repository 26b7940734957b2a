"""The result tables of README and docs, made from errors per user that are kept in this repository.

    python benchmarks/published.py collect DIR...   # runs below these folders -> benchmarks/results/published/
    python benchmarks/published.py add DIR...       # ablations below these folders, to what is stored already
    python benchmarks/published.py write            # tables -> README.md, docs/results.md

A table stands between ``<!-- published: KIND ARGUMENT... -->`` and ``<!-- end -->``. A test compares what stands there
with what is written from the store, so a table cannot differ from what is stored.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_drex.analysis.significance import paired_tests
from recbole_drex.analysis.table_format import significance_mark
from recbole_drex.results.comparison import Run, read_run

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "benchmarks" / "results" / "published"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "explanations.md")
_COLUMNS = ("mae", "mse", "mae_median")
_BLOCK = re.compile(r"(<!-- published: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


# Storing --------------------------------------------------------------------------------------------------------------


def collect(folders: Iterable[Path]) -> None:
    """Store the errors of each test user, and the metrics, of all finished runs below some folders, by data set."""
    found = _runs(folders)
    # Of two runs of the same model and seed, the one of the folder that is named first.
    first = {(run.dataset, run.label, run.replicate): run for run in reversed(found)}
    runs = [first[key] for key in sorted(first)]
    for dataset in dict.fromkeys(run.dataset for run in runs):
        chosen = [run for run in runs if run.dataset == dataset]
        users = {(run.label, run.replicate): run.users() for run in chosen}
        names = sorted(set().union(*(frame.index for frame in users.values())))
        code = {name: number for number, name in enumerate(names)}
        parts = [
            frame.reindex(columns=["test_ratings", *_COLUMNS])
            .assign(label=label, run=run, user=[code[name] for name in frame.index])
            .astype({"test_ratings": "int16", **dict.fromkeys(_COLUMNS, "float32"), "user": "int32"})
            for (label, run), frame in users.items()
            if not _is_part(label)  # of which only the validation errors are shown
        ]
        STORE.mkdir(parents=True, exist_ok=True)
        table = pd.concat(parts, ignore_index=True).astype({"label": "category", "run": "category"})
        # Of a single rating the squared error follows from the other one.
        table["mse"] = table["mse"].where(table["test_ratings"] > 1)
        table.to_parquet(STORE / f"{dataset}.parquet", compression="zstd", index=False)
        _write_described(dataset, [_described(run) for run in chosen])


def add(folders: Iterable[Path]) -> None:
    """Add ablations to the stored metrics of their data sets. The runs of other models found there must be stored.

    Raises:
        SystemExit: if the validation RMSE of a run that is stored differs: the differences of an ablation are taken to
            that run.
    """
    found = _runs(folders)
    for dataset in dict.fromkeys(run.dataset for run in found):
        path = STORE / f"{dataset}.json"
        stored = {(row["label"], row["run"]): row for row in json.loads(path.read_text(encoding="utf-8"))}
        for row in (_described(run) for run in found if run.dataset == dataset):
            key = (row["label"], row["run"])
            if _is_part(row["label"]):
                stored[key] = row
            elif key not in stored or abs(stored[key]["valid"]["rmse"] - row["valid"]["rmse"]) > 1e-4:
                raise SystemExit(f"{path}: {row['label']}, seed {row['run']}, is not the stored run; collect all again")
        _write_described(dataset, [stored[key] for key in sorted(stored)])


def _runs(folders: Iterable[Path]) -> list[Run]:
    return [read_run(path.parent) for folder in folders for path in sorted(folder.rglob("result.json"))]


def _write_described(dataset: str, rows: list[dict[str, Any]]) -> None:
    text = json.dumps(rows, indent=1, sort_keys=True)
    (STORE / f"{dataset}.json").write_text(text + "\n", encoding="utf-8")


def _described(run: Run) -> dict[str, Any]:
    result = run.result
    metrics = ("mae", "rmse", "mae_median", "nll")
    return {
        "label": run.label,
        "run": run.replicate,
        "output": result["output"],
        "data": result["data"]["fingerprint"],
        "valid": {name: result["valid"].get(name) for name in metrics},
        "test": {name: result["test"]["own_test"].get(name) for name in metrics},
    }


# Reading --------------------------------------------------------------------------------------------------------------


def values(dataset: str, labels: Iterable[str], column: str) -> dict[str, pd.DataFrame]:
    """Errors of models as :func:`recbole_drex.analysis.significance.paired_tests` takes them.

    Args:
        dataset: its name, perhaps with the first and the last seed wanted, ``demo/2026-2028``.
        labels: of the models.
        column: of the stored table.
    """
    dataset, _, seeds = dataset.partition("/")
    table = pd.read_parquet(STORE / f"{dataset}.parquet").astype({"label": str, "run": str})
    table["mse"] = table["mse"].fillna(table["mae"] ** 2)
    if seeds:
        first, last = map(int, seeds.split("-"))
        table = table[table["run"].astype(int).between(first, last)]
    found = {}
    for label in labels:
        rows = table[table["label"] == label].set_index(["run", "user"])
        if rows.empty:
            raise SystemExit(f"{STORE / dataset}.parquet holds no run of '{label}'")
        found[label] = pd.DataFrame({"value": rows[column].astype(float), "weight": rows["test_ratings"].astype(float)})
    return found


def runs_of(dataset: str) -> pd.DataFrame:
    """One row per stored run: label, run, and the metrics on validation and test, ``valid_rmse`` and so on."""
    rows = json.loads((STORE / f"{dataset}.json").read_text(encoding="utf-8"))
    flat = [
        {"label": row["label"], "run": row["run"]}
        | {f"{part}_{name}": value for part in ("valid", "test") for name, value in row[part].items()}
        for row in rows
    ]
    return pd.DataFrame(flat).astype({name: float for name in flat[0] if name not in ("label", "run")})


# Tables ---------------------------------------------------------------------------------------------------------------


def errors(dataset: str, *labels: str) -> str:
    """MAE and RMSE of models on the test part, with differences to the first, their 95 % intervals and Holm's p."""
    return _errors(dataset, labels, {"MAE": ("mae", False), "RMSE": ("mse", True)})


def medians(dataset: str, *labels: str) -> str:
    """As :func:`errors` for the median and the mean of predicted distributions."""
    return _errors(dataset, labels, _MEDIANS)


def marked(dataset: str, *labels: str) -> str:
    """As :func:`medians`, with a mark in place of the difference where Holm's p is below .05 or .001."""
    return _errors(dataset, labels, _MEDIANS, differences=False)


_MEDIANS = {"MAE MEDIAN": ("mae_median", False), "MAE": ("mae", False), "RMSE": ("mse", True)}


def _errors(
    dataset: str, labels: tuple[str, ...], metrics: dict[str, tuple[str, bool]], differences: bool = True
) -> str:
    after = [f"to {labels[0]}"] if differences else []
    header = ["model", *(text for name in metrics for text in (name, *after))]
    rows = {label: [f"`{label}`"] for label in labels}
    for column, root in metrics.values():
        of_models = values(dataset, labels, column)
        tests = paired_tests(of_models, labels[0], root)
        spread = {label: _spread(frame, root) for label, frame in of_models.items()}
        best = tests["mean"].min()
        for label, test in tests.iterrows():
            mean = f"{test['mean']:.4f}"
            mean = f"**{mean}**" if test["mean"] == best else mean
            if differences:
                rows[str(label)] += [f"{mean} ± {spread[label]:.4f}", _difference(test) if label != labels[0] else ""]
            else:
                rows[str(label)].append(f"{mean}{significance_mark(test['p_holm'])} ± {spread[label]:.4f}")
    return _markdown(header, list(rows.values()))


def _spread(frame: pd.DataFrame, root: bool) -> float:
    """Standard deviation of a metric over runs."""
    means = frame.groupby(level=0).apply(lambda rows: np.average(rows["value"], weights=rows["weight"]))
    return float((np.sqrt(means) if root else means).std(ddof=1))


def _difference(test: pd.Series) -> str:
    p = "p < .001" if test["p_holm"] < 0.001 else f"p {test['p_holm']:.3f}".replace("0.", ".", 1)
    return f"{test['difference']:+.4f} ({test['ci_low']:+.4f} to {test['ci_high']:+.4f}), {p}"


def ablation(*datasets: str) -> str:
    """What each part of DReX does to RMSE and MAE on the validation part: without it, minus with it; runs that fell."""
    tables = {dataset: runs_of(dataset) for dataset in datasets}
    labels = dict.fromkeys(
        label for table in tables.values() for label in table["label"] if label.startswith("DReX+") and _is_part(label)
    )
    rows = []
    for label in labels:
        row = [f"`{label.removeprefix('DReX+')}`"]
        for table in tables.values():
            runs = {one: table[table["label"] == one].set_index("run") for one in ("DReX", label)}
            shared = runs[label].index.intersection(runs["DReX"].index)
            if shared.empty:
                row.append("-")
                continue
            gaps = [
                runs[label].loc[shared, f"valid_{m}"] - runs["DReX"].loc[shared, f"valid_{m}"] for m in ("rmse", "mae")
            ]
            row.append(f"{gaps[0].mean():+.4f} / {gaps[1].mean():+.4f} ({int((gaps[0] > 0).sum())} of {len(shared)})")
        rows.append(row)
    return _markdown(["without", *datasets], rows)


def faithfulness() -> str:
    """How far predictions move without what explains them, with random units and the untrained model as controls."""
    rows = []
    for run, measures in json.loads((STORE / "faithfulness.json").read_text(encoding="utf-8")).items():
        for one in measures:
            same, before = one["same_direction"], one["untrained"]["same_direction"]
            rows.append(
                [
                    *run.split()[:2],
                    f"{one['k']} {one['unit']} by {one['by']}",
                    f"{same['explaining']:.3f}",
                    f"{same['random']:.3f}",
                    f"{before['explaining']:.3f}",
                    f"{same['ratio']:.1f} ({same['low']:.1f} to {same['high']:.1f})",
                    f"{before['ratio']:.1f} ({before['low']:.1f} to {before['high']:.1f})",
                    f"{one['excess']:+.1f}",
                ]
            )
    header = [
        "data set",
        "model",
        "removed",
        "moves by",
        "random units",
        "untrained model",
        "ratio",
        "ratio, untrained",
        "excess",
    ]
    return _markdown(header, rows)


def encoders() -> str:
    """RMSE and MAE on the validation part with one vector per lemma, and with one per occurrence (``minilm``)."""
    rows = []
    for dataset, contextual in json.loads((STORE / "contextual.json").read_text(encoding="utf-8")).items():
        table = runs_of(dataset)
        static = table[(table["label"] == "DReX") & table["run"].isin(list(contextual))]
        row = [f"{static[f'valid_{metric}'].mean():.4f}" for metric in ("rmse", "mae")]
        row += [f"{np.mean([run[metric] for run in contextual.values()]):.4f}" for metric in ("rmse", "mae")]
        rows.append([dataset, *row])
    return _markdown(["data set", "static: RMSE", "MAE", "contextual: RMSE", "MAE"], rows)


def _is_part(label: str) -> bool:
    return any(name in label for name in ("use_", "adjust_rating", "aspects=0", "taste", "modalities"))


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


KINDS: dict[str, Callable[..., str]] = {
    "errors": errors,
    "medians": medians,
    "marked": marked,
    "ablation": ablation,
    "faithfulness": faithfulness,
    "encoders": encoders,
}


def written(text: str) -> str:
    """A document with its tables written again."""

    def table(found: re.Match[str]) -> str:
        kind, *arguments = found[2].split()
        return f"{found[1]}{KINDS[kind](*arguments)}{found[3]}"

    return _BLOCK.sub(table, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("collect", "add"):
        commands.add_parser(name).add_argument("folders", nargs="+", type=Path)
    commands.add_parser("write")
    options = parser.parse_args()
    if options.command == "collect":
        collect(options.folders)
    elif options.command == "add":
        add(options.folders)
    else:
        for document in DOCUMENTS:
            document.write_text(written(document.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
