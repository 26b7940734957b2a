"""Cross-domain: learns from the words of another data set before training (parameter ``source`` of DReX)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from recbole_drex.config.general_parameters import PREPARATION
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.dataset import ReviewDataset
from recbole_drex.data.prepare.manifest import reused_settings
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.splits import SplitParts, split
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.model.drex.word_transfer import copy_word_parameters
from recbole_drex.parallel import collectives
from recbole_drex.recbole import init_seed
from recbole_drex.training.run_record import Experiment, settled
from recbole_drex.training.trainer import make_trainer


def learn_from_source(experiment: Experiment) -> list[str]:
    """Initialise the word parameters of an untrained DReX by those of a DReX trained on ``source``.

    The source is split as the data set is; only its training part is read, for ``source_epochs`` epochs without
    validation. Of users and items of the same name in both, the pairs in validation or test of the data set are left
    out of the source. Ratings of the source are mapped linearly to the range of the data set's training ratings.

    Returns:
        Notes for the user.

    Raises:
        ConfigError: the source is the data set itself or has another encoder, several processes train, or the models do
            not fit, see :func:`~recbole_drex.model.drex.word_transfer.copy_word_parameters`.
        DataError: the source is not prepared, or no training row of it is left.
    """
    config, notes = experiment.config, []
    name = config["source"]
    if collectives.world_size() > 1:
        raise ConfigError("source: one process trains on another data set first; leave nproc out")
    changed = {"source": None, "seed": config["seed"], "data_path": str(Path(config["data_path"]).parent),
               "epochs": config["source_epochs"], "benchmark_filename": None}  # fmt: skip
    own = {one.name for one in PREPARATION} | {"load_col"}
    given = {key: value for key, value in config.external_config_dict.items() if key not in own}
    other = Config(config.model, name, [], {**given, **changed}, read_texts=False)
    folder = Path(other["data_path"])
    settings = reused_settings(folder, name, other.preparation(), ())
    manifest = prepare(name, folder.parent, settings, Sources())
    _check_encoders(experiment.manifest, manifest, config.dataset, name)
    for key, value in settled(manifest).items():
        other[key] = value
    init_seed(config["seed"], config["reproducibility"])
    other["relevance_threshold"] = config["relevance_threshold"]  # nothing is evaluated
    dataset = ReviewDataset(other)
    if left_out := _leave_out(dataset, _held_out_pairs(experiment)):
        notes.append(
            f"{left_out:,} rows of {name} are left out: their pairs are validation or test of {config.dataset}"
        )
    train = split(other, dataset).train
    notes += _map_ratings(train._dataset, experiment.parts.train_dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(other, train._dataset).to(config["device"])
    with tempfile.TemporaryDirectory(prefix="recbole-drex-") as run_dir:
        trainer = make_trainer(other, model, Path(run_dir), SplitParts(train, None, None))
        with tqdm(total=trainer.epochs, desc=f"learning from {name}", unit="epoch", delay=2, leave=None) as bar:
            trainer.train_model(lambda _: bar.update() and None)
    shared, lemmas = copy_word_parameters(experiment.model, model)  # type: ignore[arg-type]
    notes.append(f"the words of {name} are learned first; {shared:,} of {lemmas:,} lemmas with aspects are in both")
    init_seed(config["seed"], config["reproducibility"])
    return notes


def _check_encoders(ours: dict[str, Any], theirs: dict[str, Any], dataset: str, source: str) -> None:
    one, two = ours.get("encoder") or {}, theirs.get("encoder") or {}
    if differing := sorted(key for key in {*one, *two} if one.get(key) != two.get(key)):
        key = differing[0]
        raise ConfigError(
            f"source: '{dataset}' and '{source}' need word features of the same encoder, but {key} is {one.get(key)!r} "
            f"and {two.get(key)!r}: prepare one of them again"
        )


def _held_out_pairs(experiment: Experiment) -> set[tuple[str, str]]:
    """Names of users and items of the validation and test rows."""
    dataset, pairs = experiment.dataset, set()
    for part in (experiment.parts.valid, experiment.parts.test):
        if part is not None:
            pairs |= set(_named_pairs(dataset, part.rows._dataset.inter_feat))
    return pairs


def _named_pairs(dataset: ReviewDataset, feat: Any) -> list[tuple[str, str]]:
    fields = (dataset.uid_field, dataset.iid_field)
    columns = (dataset.field2id_token[field][np.asarray(feat[field], dtype=np.int64)].tolist() for field in fields)
    return list(zip(*columns, strict=True))


def _leave_out(dataset: ReviewDataset, pairs: set[tuple[str, str]]) -> int:
    """Remove the pairs from a data set that is not yet split; returns the number of removed rows."""
    removed = 0
    for name in ("inter_feat", "unrated"):
        feat = getattr(dataset, name)
        kept = np.array([pair not in pairs for pair in _named_pairs(dataset, feat)], dtype=bool)
        setattr(dataset, name, feat[kept].reset_index(drop=True))
        removed += int((~kept).sum())
    if dataset.inter_feat.empty:
        raise DataError(f"source: all pairs of '{dataset.dataset_name}' are validation or test: choose another source")
    return removed


def _map_ratings(source: ReviewDataset, target: ReviewDataset) -> list[str]:
    """Map the ratings of a training part to the range of another one, in place; returns a note if they differ."""
    (low, high), (to_low, to_high) = (
        (float(levels[0]), float(levels[-1])) for levels in (source.rating_levels(), target.rating_levels())
    )
    if (low, high) == (to_low, to_high):
        return []
    if low == high:
        raise DataError(
            f"source: all ratings of '{source.dataset_name}' are {low:g}, so they cannot be mapped to others"
        )
    rating = source.inter_feat[source.rating_field]
    rating.sub_(low).mul_((to_high - to_low) / (high - low)).add_(to_low)
    return [
        f"ratings of {source.dataset_name}, from {low:g} to {high:g}, are mapped linearly to {to_low:g} to {to_high:g}"
    ]
