"""Splits of a data set: training, validation and test, with their loaders."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recbole_drex.config.recbole_config import Config
from recbole_drex.config.recbole_settings import COLD_ITEMS, absent_parts
from recbole_drex.data.dataset import ReviewDataset
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.evaluation.metrics import other_metrics
from recbole_drex.evaluation.protocol import threshold_of_scale
from recbole_drex.parallel import collectives
from recbole_drex.recbole import (
    EvaluatorType,
    FullSortEvalDataLoader,
    NegSampleEvalDataLoader,
    Sampler,
    create_samplers,
    get_dataloader,
    metric_types,
)


class _OwnBatches:
    """Mixin for evaluation loaders: every process of a group takes its own batches."""

    def __iter__(self):
        if collectives.world_size() == 1:
            return super().__iter__()  # type: ignore[misc]
        batches = list(self.batch_sampler)  # type: ignore[attr-defined]
        own = collectives.span(len(batches), collectives.rank(), collectives.world_size())
        return map(self.collate_fn, batches[own])  # type: ignore[attr-defined]


# A sampler's sets of each user's items take more memory than the data, so loaders that do not sample release it.


class _Rows(_OwnBatches, NegSampleEvalDataLoader):
    def __init__(self, config, dataset, sampler):
        super().__init__(config, dataset, sampler)
        if self.neg_sample_args["sample_num"] == "none":
            self._sampler = None


class _Full(_OwnBatches, FullSortEvalDataLoader):
    def __init__(self, config, dataset, sampler):
        super().__init__(config, dataset, sampler)
        self._sampler = None


class EvaluationLoaders(NamedTuple):
    """Two loaders of one part: its rated rows, and its users with the full catalogue."""

    rows: NegSampleEvalDataLoader
    full: FullSortEvalDataLoader


class SplitParts(NamedTuple):
    """A split data set: the training loader and the evaluation loaders of validation and test.

    A part that the split leaves out by a share of 0 is None.
    """

    train: Any
    valid: EvaluationLoaders | None
    test: EvaluationLoaders | None

    @property
    def train_dataset(self) -> ReviewDataset:
        return self.train._dataset


def settle_relevance(config: Config, dataset: ReviewDataset) -> None:
    """Check the rating from which an item is relevant; derive it from the data if it is not set.

    Raises:
        DataError: the threshold is above all ratings, or negative ratings would be gains.
    """
    levels = np.unique(np.asarray(dataset.inter_feat[dataset.rating_field], dtype=np.float32)).astype(np.float64)
    where = f"the ratings of '{dataset.dataset_name}' are from {levels[0]:g} to {levels[-1]:g}"
    if config["relevance_threshold"] is None:
        config["relevance_threshold"] = threshold_of_scale(levels)
    threshold = config["relevance_threshold"]
    if threshold > levels[-1]:
        raise DataError(f"relevance_threshold {threshold:g}: no item would be relevant, since {where}; lower it")
    if threshold <= levels[0]:
        dataset.notes.append(f"every rated item is relevant (relevance_threshold {threshold:g}), since {where}")
    if levels[0] < 0 and config["relevance"] == "graded" and config["gain"] != "binary":
        raise DataError(f"relevance: graded needs ratings of 0 or more, but {where}; choose relevance: threshold")


def split(config: Config, dataset: ReviewDataset) -> SplitParts:
    """Split by ``eval_args``, hide reviews and ratings from training if configured, and make the loaders.

    Raises:
        ConfigError: ``eval_args`` names a split, order or grouping that RecBole does not know.
        DataError: the split leaves validation or test empty, or a user has interacted with all items, so that negative
            sampling is impossible.
    """
    try:
        built = dataset.build()
    except (NotImplementedError, ValueError) as error:  # RecBole raises these for an unsuitable split
        raise ConfigError(f"eval_args {config['eval_args']}: {error}") from error
    longest, theirs = max(config["topk"]), other_metrics(config["metrics"])
    if longest >= dataset.item_num and any(metric_types[name.lower()] == EvaluatorType.RANKING for name in theirs):
        raise ConfigError(
            f"topk: {longest} is more than the {dataset.item_num - 1} items of '{config['dataset']}', so RecBole's "
            f"{', '.join(theirs)} cannot be computed"
        )
    absent = absent_parts(config["eval_args"]) if config["benchmark_filename"] is None else ()
    for name, part in zip(("training", "validation", "test"), built, strict=True):
        if len(part) == 0 and name not in absent:
            raise DataError(f"the split {config['eval_args']['split']} leaves no {name} rows in '{config['dataset']}'")
    try:
        samplers = create_samplers(config, dataset, built)
    except ValueError as error:  # RecBole raises this for users who have interacted with all items
        raise DataError(f"data set '{config['dataset']}': {error}") from error
    if COLD_ITEMS in config["eval_args"]["split"] and config["train_neg_sample_args"]["distribution"] != "none":
        new = set(range(1, dataset.item_num)) - set(built[0].inter_feat[dataset.iid_field].tolist())
        for used in samplers[0].used_ids:
            used.update(new)  # sampled items count as disliked
        if max(map(len, samplers[0].used_ids)) >= dataset.item_num - 1:
            raise DataError(
                f"data set '{config['dataset']}': a user has rated all items that are not held out, so no item can be "
                "sampled for training: write a smaller share of cold_items"
            )
    # Samplers see the whole training part: an item with a hidden rating must not be sampled as unseen.
    train_part = built[0].with_hidden(config["hide_reviews"], config["hide_ratings"])
    train = get_dataloader(config, "train")(config, train_part, samplers[0], shuffle=config["shuffle"])
    # RecBole masks the items of all earlier parts: of training at validation, of both at test.
    masks = list(samplers[1:])
    if config["mask"] == "train":
        masks[1] = Sampler("train", built[0]).set_phase("train")
    loaders = [
        EvaluationLoaders(rows=_Rows(config, part, sampler), full=_Full(config, part, mask)) if len(part) else None
        for part, sampler, mask in zip(built[1:], samplers[1:], masks, strict=True)
    ]
    return SplitParts(train, *loaders)
