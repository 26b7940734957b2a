"""The vectors of items that a model's configuration selects."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter, names_once
from recbole_drex.data.dataset import ReviewDataset
from recbole_drex.errors import ConfigError, DataError, unknown_name

ITEM_MODALITIES = Parameter(
    "item_modalities", list, ["reviews"],
    "What describes items: `reviews` (mean word vectors of an item's training reviews), prepared modalities such as "
    "`text` and `image`, `float_seq` fields of the `.item` file. By default, without reviews: all others.",
    accepts=names_once, legal="a list of one name or more, each once",
)  # fmt: skip
RANKING_TRAINING = (
    Parameter(
        "train_target", str, "implicit", "Scores rank items and are no ratings: MAE and RMSE are undefined.",
        choices=("implicit",),
    ),
    general("learning_rate", 0.002),
    general("train_batch_size", 2048, "Pairs per step."),
    general(
        "train_neg_sample_args", {"distribution": "uniform", "sample_num": 1},
        "Sampled items without an interaction, per pair.",
    ),
    general("epochs", 1000),
    general("stopping_step", 20),
    general("valid_metric", "full_ndcg@20"),
)  # fmt: skip


def refuse_others(parameter: str, names: Sequence[str], legal: Sequence[str]) -> None:
    """Check the names that a parameter lists.

    Raises:
        ConfigError: one is not legal.
    """
    for name in names:
        if name not in legal:
            raise ConfigError(unknown_name(f"value of '{parameter}':", name, legal))


def fit_modalities(config, dataset: ReviewDataset) -> list[str]:
    """Set ``item_modalities`` to the data set's modalities if it has none of those in the default.

    Returns:
        Messages about the change; empty if the parameter fits or the user set it.
    """
    names, there = config["item_modalities"], dataset.item_modalities
    if "item_modalities" in config.external_config_dict or not there or set(names) & set(there):
        return []
    config["item_modalities"] = there
    return [f"{config['model']} describes items by {', '.join(there)}: the data set has no {', '.join(names)}"]


def modality_vectors(config, dataset: ReviewDataset) -> dict[str, torch.Tensor]:
    """The vectors of all items by modality, in the order of the parameter ``item_modalities``.

    Args:
        config: the configuration.
        dataset: the training part: ``reviews`` are those of training alone.

    Returns:
        By name, (n_items, width) float32; zeros for the padding item and for items that lack the modality.

    Raises:
        ConfigError: ``item_modalities`` names a modality that the data set lacks.
        DataError: the data set has no item modality, or no item has a named modality.
    """
    names, legal = config["item_modalities"], dataset.item_modalities
    if not legal:
        raise DataError(
            f"data set '{config['dataset']}' has neither reviews nor other vectors of items, which the parameter "
            f"'item_modalities' of {config['model']} asks for: {names}"
        )
    vectors = {}
    refuse_others("item_modalities", names, legal)
    for name in names:
        vectors[name] = dataset.item_vectors(name)
        if not vectors[name].any():
            raise DataError(
                f"no item of data set '{config['dataset']}' has the modality '{name}' of the parameter "
                "'item_modalities' in the training part"
            )
    return vectors
