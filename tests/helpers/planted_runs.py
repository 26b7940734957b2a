"""Run folders of models that never were: predictions are the true ratings and noise, everything else is computed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_drex.evaluation.protocol import Protocol, tie_keys
from recbole_drex.evaluation.ranking_metrics import own_test_metrics, own_test_ranks, ranking_metrics, ranking_per_user
from recbole_drex.evaluation.rating_metrics import rating_metrics
from recbole_drex.evaluation.reference_rows import reference_rows
from recbole_drex.results.comparison import Comparison, comparison_of
from recbole_drex.results.run_result import write_result, write_users

PROTOCOL = Protocol(topk=(1, 5, 10))
LEVELS = [1, 2, 3, 4, 5]


def write_run(
    root: Path,
    label: str = "DReX",
    dataset: str = "demo",
    seed: int = 2026,
    noise: float = 0.5,
    *,
    users: int = 40,
    scores: bool = False,
    full: bool = True,
    medians: bool = False,
    **changes: Any,
) -> Path:
    """Write a finished run and return its folder.

    Args:
        root: folder of results.
        label: label and model.
        dataset: name of the data set; ratings depend on it and on ``seed`` alone.
        seed: of the split.
        noise: standard deviation of the predictions' error.
        users: number of users, eight test items each.
        scores: whether the model predicts scores that are no ratings, as BPR does.
        full: whether the full catalogue was ranked; a user's test items then stand at every fifth place.
        medians: whether it predicts distributions, whose medians are the nearest whole ratings.
        changes: entries of the result to replace.
    """
    generator = np.random.default_rng([seed, *dataset.encode()])
    user = np.repeat([f"u{n}" for n in range(users)], 8)
    rating = generator.integers(1, 6, len(user)).astype(float)
    keys = tie_keys([f"i{n}" for n in range(len(user))])
    prediction = rating + np.random.default_rng([seed, *label.encode()]).normal(scale=noise, size=len(user))
    rank, _ = own_test_ranks(user, prediction, keys)
    own = ranking_per_user(user, rank, rating, PROTOCOL)
    in_full = ranking_per_user(user, rank * 5, rating, PROTOCOL)
    error = np.full(len(user), np.nan) if scores else np.clip(prediction, 1, 5) - rating
    errors = pd.DataFrame({"mae": np.abs(error), "mse": np.square(error)})
    median = np.clip(np.round(prediction), 1, 5) if medians else None
    if medians:
        errors["mae_median"] = np.abs(median - rating)
    errors = errors.groupby(user).mean()
    counts = pd.DataFrame({"train_ratings": 20, "train_reviews": 10, "test_ratings": 8}, index=own.index)
    folder = root / dataset / label.replace("/", "") / f"seed-{seed}"
    write_users(folder, pd.concat([counts, errors, own, in_full.add_prefix("full_")], axis=1))
    rated = {} if scores else rating_metrics(rating, prediction, LEVELS, median)
    references = reference_rows(user, keys, rating, LEVELS, PROTOCOL)
    result = {
        "schema": 1,
        "status": "finished",
        "label": label,
        "model": label,
        "dataset": dataset,
        "seed": seed,
        "fold": None,
        "command": f"recbole-drex run --model {label}",
        "loss": "BPR" if scores else "mse",
        "output": "score" if scores else "mean",
        "split": "random, RS [0.8, 0.1, 0.1], by user",
        "protocol": PROTOCOL.as_dict(),
        "data": {
            "fingerprint": hashlib.sha256(dataset.encode()).hexdigest()[:16],
            "users": users,
            "items": len(user),
            "interactions": 10 * len(user),
            "missing_review": 0.25,
            "missing_rating": 0.0,
        },
        "valid": {},
        "test": {
            "own_test": {**rated, **own_test_metrics(user, prediction, keys, rating, PROTOCOL)},
            "full": ranking_metrics(user, rank * 5, rating, PROTOCOL) if full else None,
        },
        "references": {name: {"own_test": metrics} for name, metrics in references.items()},
        "best_epoch": None,
        "epochs_run": 0,
        "seconds": {"prepare": 1.0, "encode": None, "train": 2.0, "evaluate": 0.1},
        "peak_memory_mb": 512.0,
        "parameters": 1234,
        "config": {},
        "versions": {},
        **changes,
    }
    write_result(folder, result)
    return folder


def planted_comparison(root: Path) -> Comparison:
    """Three models of falling quality on two data sets, three seeds; Bias is a reference, BPR is on the first only."""
    models = {"DReX": 0.3, "DReX+start=random": 0.5, "Bias": 1.0}
    folders = [
        write_run(root, label, dataset, seed, noise)
        for dataset in ("demo", "Soft_ware")
        for label, noise in models.items()
        for seed in (1, 2, 3)
    ]
    folders += [write_run(root, "BPR", "demo", seed, 2.0, scores=True) for seed in (1, 2, 3)]
    return comparison_of(folders, references=["Bias"])
