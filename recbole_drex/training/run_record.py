"""The record of a run: interactions with their predictions, and the contents of its result file."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch

from recbole_drex import __version__
from recbole_drex.config.recbole_config import Config
from recbole_drex.config.recbole_settings import COLD_ITEMS
from recbole_drex.data.dataset import REVIEW_ROW, ReviewDataset, fold_of
from recbole_drex.data.prepare.manifest import TIMES, stored_settings
from recbole_drex.data.splits import SplitParts
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.evaluation.collector import LEVELS, TIE_KEYS, USER_MEAN
from recbole_drex.evaluation.metrics import predicts_ratings, split_blocks
from recbole_drex.evaluation.protocol import Protocol
from recbole_drex.evaluation.ranking_metrics import own_test_ranks, ranking_per_user
from recbole_drex.evaluation.reference_rows import reference_rows
from recbole_drex.model.contract import contract_of
from recbole_drex.results.run_result import SCHEMA
from recbole_drex.training.trainer import Evaluation
from recbole_drex.utils.files import read_json, safe_name

PLACES = ("nproc", "world_size", "offset", "ip", "port", "gpu_id", "device")
"""Parameters that say where a run is computed; they are not part of its identity."""

_LIBRARIES = ("recbole", "torch", "numpy", "scipy", "pandas", "transformers", "ray", "nltk", "simplemma")


@dataclasses.dataclass
class Experiment:
    """One model on one split of one data set: everything between the configuration and the result.

    ``folder`` is the folder of the finished run from which it was loaded; ``seconds`` are those of loading and
    splitting the data (``load``) and of making the model (``build``).
    """

    config: Config
    manifest: dict[str, Any]
    dataset: ReviewDataset
    parts: SplitParts
    model: torch.nn.Module
    folder: Path | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def plain(value: Any) -> Any:
    """A configuration value as plain JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def settled(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that the prepared data set determines: those of its preparation, and its parts if it is pre-split."""
    split = {"benchmark_filename": manifest["benchmark"]} if "benchmark" in manifest else {}
    return {**stored_settings(manifest), **split}


def source_of(config: Config) -> dict[str, Any]:
    """``{"source": {dataset, fingerprint}}`` of the data set that parameter ``source`` names; empty without one.

    Raises:
        ConfigError: it is the data set itself.
        DataError: it is not prepared.
    """
    name = config["source"]
    if not name:
        return {}
    if name == config.dataset:
        raise ConfigError(f"source: '{name}' is the data set itself; name another one")
    folder = Path(config["data_path"]).parent / safe_name(name, "data set")
    if not (folder / f"{name}.json").is_file():
        raise DataError(f"source: no prepared data set in {folder}; run `recbole-drex prepare --dataset {name}` first")
    manifest = read_json(folder / f"{name}.json", "manifest")
    return {"source": {"dataset": name, "fingerprint": manifest["fingerprint"]}}


def describe(config: Config, manifest: dict[str, Any]) -> dict[str, Any]:
    """Everything needed to rebuild a run; :func:`identity` selects what makes two runs equal.

    The number of processes is not part of it: it does not change batches, sampled items or decisions. ``processes`` of
    the result records it.
    """

    def what(parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in plain(parameters).items() if key not in PLACES}

    return {
        "version": __version__,
        "model": config.model,
        "dataset": config.dataset,
        "fingerprint": manifest["fingerprint"],
        **source_of(config),
        "data_path": str(Path(config["data_path"]).parent.resolve()),
        "parameters": what({**config.external_config_dict, "seed": config["seed"]}),
        # Defaults come from files that may be edited, so the final configuration is part of the run.
        "config": {
            **{key: value for key, value in what(config.final_config_dict).items() if key != "data_path"},
            **settled(manifest),
        },
    }


def identity(described: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for two runs to be the same; the location of the data and explicit defaults do not matter."""
    return {key: value for key, value in described.items() if key not in ("data_path", "parameters")}


def interactions(experiment: Experiment, valid: Evaluation, test: Evaluation) -> pd.DataFrame:
    """One row per rated interaction, as :func:`recbole_drex.results.run_result.write_interactions` takes them."""
    dataset = experiment.dataset
    train = experiment.parts.train_dataset.inter_feat
    fields = (dataset.uid_field, dataset.iid_field, dataset.rating_field)
    known = np.stack([train[field].double().numpy() for field in fields], axis=1)
    # A score and the four columns of a distribution, which are NaN for training rows and point predictions.
    parts = [np.pad(rows, ((0, 0), (0, 8 - rows.shape[1])), constant_values=np.nan) for rows in (valid.rows, test.rows)]
    known = np.pad(known, ((0, 0), (0, 5)), constant_values=np.nan)
    table = np.concatenate([known, *parts])
    # From the whole data, so that hiding a review from training does not change the group of a row.
    whole = dataset.inter_feat
    reviewed = whole[REVIEW_ROW] >= 0 if REVIEW_ROW in whole else torch.zeros(len(whole), dtype=torch.bool)
    keys = dataset.pair_key(whole[dataset.uid_field][reviewed], whole[dataset.iid_field][reviewed]).numpy()
    return pd.DataFrame(
        {
            "user_id": dataset.field2id_token[dataset.uid_field][table[:, 0].astype(int)],
            "item_id": dataset.field2id_token[dataset.iid_field][table[:, 1].astype(int)],
            "rating": table[:, 2],
            "split": np.repeat(["train", "valid", "test"], [len(known), len(valid.rows), len(test.rows)]),
            "prediction": table[:, 3],
            "prediction_median": table[:, 4],
            "prediction_std": table[:, 6],
            "probability_relevant": table[:, 5],
            "has_review": np.isin(table[:, 0].astype(int) * dataset.item_num + table[:, 1].astype(int), keys),
        }
    )


def users(experiment: Experiment, collected: Any, test: Evaluation) -> pd.DataFrame:
    """One row per test user, as :func:`recbole_drex.results.run_result.write_users` takes them.

    Args:
        experiment: the experiment.
        collected: the data that the collector gathered from the training part.
        test: the evaluation of the test part.
    """
    dataset, train = experiment.dataset, experiment.parts.train_dataset
    if experiment.parts.test is None:
        return pd.DataFrame(columns=["train_ratings", "train_reviews", "test_ratings", "mae", "mse"], dtype=float)
    protocol = Protocol.from_config(experiment.config)
    user, item = test.rows[:, 0].astype(int), test.rows[:, 1].astype(int)
    rank, _ = own_test_ranks(user, test.rows[:, 3], collected.get(TIE_KEYS).numpy()[item])
    mean = collected.get(USER_MEAN).numpy()
    own = ranking_per_user(user, rank, test.rows[:, 2], protocol, mean[user])
    in_full = test.full[:, 0].astype(int)
    full = ranking_per_user(in_full, test.full[:, 3], test.full[:, 2], protocol, mean[in_full])
    evidence = train.evidence()
    reviewed = evidence.user[evidence.review_row >= 0].numpy()
    levels = collected.get(LEVELS).numpy()
    error = np.clip(test.rows[:, 3], levels.min(), levels.max()) - test.rows[:, 2]
    if not predicts_ratings(experiment.config):
        error = np.full_like(error, np.nan)
    errors = {"mae": np.abs(error), "mse": np.square(error)}
    if test.rows.shape[1] > 4:
        errors["mae_median"] = np.abs(test.rows[:, 4] - test.rows[:, 2])
    by_user = pd.DataFrame(errors).groupby(user)
    known = train.inter_feat[dataset.uid_field].numpy()
    counts = {
        "train_ratings": np.bincount(known, minlength=dataset.user_num)[own.index],
        "train_reviews": np.bincount(reviewed, minlength=dataset.user_num)[own.index],
        "test_ratings": by_user.size(),
    }
    table = pd.concat([pd.DataFrame(counts, index=own.index), by_user.mean(), own, full.add_prefix("full_")], axis=1)
    return table.set_axis(dataset.field2id_token[dataset.uid_field][table.index])


def result(
    experiment: Experiment,
    label: str,
    trainer: Any,
    valid: Evaluation,
    test: Evaluation,
    evaluate_seconds: float,
    command: str,
) -> dict[str, Any]:
    """Contents of the result file; see ``results/result.schema.json``."""
    config, dataset, manifest = experiment.config, experiment.dataset, experiment.manifest
    n_rated, n_unrated = len(dataset), len(dataset.unrated)
    parts = (dataset.inter_feat, dataset.unrated)
    no_review = sum(int((p[REVIEW_ROW] < 0).sum()) if REVIEW_ROW in p else len(p) for p in parts)
    return {
        "schema": SCHEMA,
        "status": "finished",
        "label": label,
        "model": config.model,
        "dataset": config.dataset,
        "seed": config["seed"],
        "fold": fold_of(config["eval_args"])[1] if "KF" in config["eval_args"]["split"] else None,
        "command": command,
        "loss": contract_of(experiment.model).loss_name or config["loss_type"] or "own",
        "output": _output(config, test),
        "split": _describe_split(config),
        "protocol": Protocol.from_config(config).as_dict(),
        "data": {
            "fingerprint": manifest["fingerprint"],
            "users": dataset.user_num - 1,
            "items": dataset.item_num - 1,
            "interactions": n_rated + n_unrated,
            "missing_review": no_review / (n_rated + n_unrated),
            "missing_rating": n_unrated / (n_rated + n_unrated),
        },
        **source_of(config),
        "valid": valid.metrics,
        "test": split_blocks(test.metrics),
        "references": _references(experiment, trainer.eval_collector.data_struct, test.rows),
        "best_epoch": trainer.best_epoch,
        "epochs_run": trainer.epochs_run,
        "seconds": {
            # Of the preparation, which was not part of this run.
            **_preparation_seconds(Path(dataset.dataset_path) / TIMES),
            **experiment.seconds,
            "train": sum(entry["seconds"] for entry in trainer.history),
            "validate": trainer.validate_seconds,
            "evaluate": evaluate_seconds,
        },
        "peak_memory_mb": _peak_memory(),
        "processes": trainer.processes,
        "parameters": sum(p.numel() for p in experiment.model.parameters() if p.requires_grad),
        "config": plain(config.final_config_dict),
        "versions": {
            "python": platform.python_version(),
            "recbole_drex": __version__,
            **{name: importlib.metadata.version(name) for name in _LIBRARIES if _installed(name)},
        },
    }


def result_of_parts(experiment: Experiment, label: str, trainer: Any) -> dict[str, Any]:
    """As :func:`result`, for the current parameters of the model; evaluates both parts."""
    started = perf_counter()
    valid = trainer.evaluate_part(experiment.parts.valid)
    test = trainer.evaluate_part(experiment.parts.test)
    return result(experiment, label, trainer, valid, test, perf_counter() - started, "")


def _output(config: Config, test: Evaluation) -> str:
    if not predicts_ratings(config):
        return "score"
    return "distribution" if test.rows.shape[1] > 4 else "mean"


def _references(experiment: Experiment, collected: Any, rows: np.ndarray) -> dict[str, Any]:
    """Expected metrics of a random order, and the oracle's, on the same test rows; empty without test rows."""
    if not len(rows):
        return {}
    user, item = rows[:, 0].astype(int), rows[:, 1].astype(int)
    references = reference_rows(
        user,
        collected.get(TIE_KEYS).numpy()[item],
        rows[:, 2],
        experiment.parts.train_dataset.rating_levels().tolist(),
        Protocol.from_config(experiment.config),
        collected.get(USER_MEAN).numpy()[user],
    )
    return {name: {"own_test": metrics} for name, metrics in references.items()}


def _peak_memory() -> float:
    """Peak memory of the process so far, in MiB."""
    try:
        import resource
    except ImportError:  # on Windows, where psutil knows it
        memory = psutil.Process().memory_info()
        return getattr(memory, "peak_wset", memory.rss) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if platform.system() == "Linux" else 1024**2)


def _preparation_seconds(path: Path) -> dict[str, float | None]:
    return read_json(path) if path.is_file() else {"prepare": None, "encode": None}


def _describe_split(config: Config) -> str:
    if config["benchmark_filename"] is not None:
        return f"given with the data ({', '.join(config['benchmark_filename'])})"
    eval_args = config["eval_args"]
    order = {"RO": "random", "TO": "temporal"}[eval_args["order"]]
    (kind, value), *_ = eval_args["split"].items()
    if kind == COLD_ITEMS:
        return f"random, {value:g} of the items held out"
    if kind == "KF":  # all folds belong in one table
        value = value[0]
    return f"{order}, {kind} {value}, by {eval_args['group_by']}"


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
