"""Vectors of items that models take as they are configured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from recbole_drex.data.dataset import ReviewDataset
from recbole_drex.errors import ConfigError, DataError, unknown_name


def checked_names(parameter: str, names: Any, legal: Sequence[str]) -> list[str]:
    """The value of a parameter that lists names.

    Raises:
        ConfigError: no list of one name or more, a name twice, or one that is not legal.

    Example:
        >>> checked_names("blocks", ["text", "shared"], ["text", "image", "shared"])
        ['text', 'shared']
    """
    listed = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    if not listed or len(set(names)) < len(names):
        raise ConfigError(f"parameter '{parameter}' must be a list of one name or more, each once, not {names!r}")
    for name in names:
        if name not in legal:
            raise ConfigError(unknown_name(f"value of '{parameter}':", name, legal))
    return names


def fit_modalities(config, dataset: ReviewDataset) -> list[str]:
    """Let ``item_modalities`` name what the data set has, where its default names what it lacks.

    Returns:
        What there is to say about it; nothing if the parameter stays as it is, because it fits or was given.
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
        ConfigError: ``item_modalities`` is empty, names one twice, or one that the data set has not.
        DataError: the data set has no item modality, or no item has one that is named.
    """
    names, legal = config["item_modalities"], dataset.item_modalities
    if not legal:
        raise DataError(
            f"data set '{config['dataset']}' has neither reviews nor other vectors of items, which the parameter "
            f"'item_modalities' of {config['model']} asks for: {names}"
        )
    vectors = {}
    for name in checked_names("item_modalities", names, legal):
        vectors[name] = dataset.item_vectors(name)
        if not vectors[name].any():
            raise DataError(
                f"no item of data set '{config['dataset']}' has the modality '{name}' of the parameter "
                "'item_modalities' in the training part"
            )
    return vectors
