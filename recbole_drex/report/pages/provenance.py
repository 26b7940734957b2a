"""Provenance of the report's numbers: data, configurations, versions and costs of every run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from recbole_drex.results.comparison import Comparison, Run

_STEPS = ("prepare", "encode", "train", "evaluate")
_RUN_NAMES = ("model", "dataset", "seed", "checkpoint_dir")


def data_sets(comparison: Comparison) -> list[dict[str, Any]]:
    """Statistics of each data set and of its first split, preferably from a run that hides no data."""
    statistics = []
    for dataset in comparison.datasets:
        runs = comparison.of(dataset=dataset)
        if not runs:
            continue
        first = next((run for run in runs if not _hides(run)), runs[0])
        data, rows, users = first.result["data"], first.interactions(), first.users()
        rated = round(data["interactions"] * (1 - data["missing_rating"]))
        statistics.append(
            {
                "name": dataset,
                **data,
                "sparsity": 1 - rated / max(data["users"] * data["items"], 1),
                "mean_rating": rows["rating"].mean(),
                "split": first.result["split"],
                "parts": rows["split"].value_counts().to_dict(),
                "test_users": len(users),
                "users_without_review": int((users["train_reviews"] == 0).sum()),
                "test_without_review": 1 - rows.loc[rows["split"] == "test", "has_review"].mean(),
                "replicate": first.replicate,
            }
        )
    return statistics


def _hides(run: Run) -> bool:
    return any(run.result["config"].get(f"hide_{part}") for part in ("reviews", "ratings"))


def provenance(comparison: Comparison) -> dict[str, Any]:
    """Configurations (shared part, differences between models, remaining parameters per run), versions and costs."""
    configs = [run.result["config"] for run in comparison.runs]
    shared = {
        key: values[0] for key in _keys(configs) if len(values := _distinct(config.get(key) for config in configs)) == 1
    }
    own = [key for key in _keys(configs) if key not in shared]
    return {
        "shared": shared,
        "differences": _differences(comparison, own),
        "labels": _labels(comparison),
        "runs": [_costs(run, own) for run in comparison.runs],
        "versions": {
            name: ", ".join(_distinct(str(result["versions"].get(name) or "-") for result in comparison.results))
            for name in _keys(result["versions"] for result in comparison.results)
        },
    }


def _differences(comparison: Comparison, keys: Iterable[str]) -> list[dict[str, Any]]:
    """Parameters in which models differ, with the values of each model that has them.

    Names of the run and RecBole's internal constants, in capitals, are omitted.
    """
    rows = []
    for key in keys:
        if key in _RUN_NAMES or key.isupper():
            continue
        configs = {label: [run.result["config"] for run in comparison.of(label)] for label in _labels(comparison)}
        values = {label: _distinct(config[key] for config in own if key in config) for label, own in configs.items()}
        if len(_distinct(values.values())) > 1:
            rows.append({"key": key, "values": values})
    return rows


def _labels(comparison: Comparison) -> list[str]:
    return [variant.label for variant in comparison.variants if comparison.of(variant.label)]


def _costs(run: Run, own: Iterable[str]) -> dict[str, Any]:
    result = run.result
    return {
        "run": run,
        "label": run.label,
        "dataset": run.dataset,
        "replicate": run.replicate,
        "epochs": result["epochs_run"],
        "best_epoch": result["best_epoch"],
        "seconds": {step: result["seconds"][step] for step in _STEPS},
        "memory": result["peak_memory_mb"],
        "parameters": result["parameters"],
        "command": result["command"],
        "fingerprint": result["data"]["fingerprint"],
        "config": {key: result["config"][key] for key in own if key in result["config"]},
    }


def _keys(dicts: Iterable[dict[str, Any]]) -> list[str]:
    return sorted({key for entry in dicts for key in entry})


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Distinct values in order of appearance, possibly lists and dictionaries."""
    return list({json.dumps(value, sort_keys=True, default=str): value for value in values}.values())
