"""Ablations of a model: without parts that its configuration names, and without modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_drex.config.recbole_config import Config
from recbole_drex.model.multimodal.lirdrec import SHARED


def ablations(config: Config) -> list[dict[str, Any]]:
    """Changes of a configuration that each remove one part.

    First those listed in ``ablations`` of the model's YAML, one parameter each. Then, with two or more modalities or
    blocks, each one is left out, and, with three or more modalities, each one is used alone. Changes that the
    configuration already has are skipped.

    Example:
        >>> config = Config("DReX", "demo", [], {"use_bias": False, "aspects": 0, "taste": []})
        >>> for change in ablations(config):
        ...     print(change)
        {'use_bilinear': False}
        {'adjust_rating': False}
        {'modalities': ['rating']}
        {'modalities': ['review']}
        >>> for change in ablations(Config("LIRDRec", "demo", [], {"item_modalities": ["text", "reviews"]})):
        ...     print(change)
        {'item_graph': False}
        {'weigh_blocks': False}
        {'pwc_schedule': 'none'}
        {'item_modalities': ['reviews']}
        {'item_modalities': ['text']}
        {'blocks': ['reviews', 'shared']}
        {'blocks': ['text', 'shared']}
        {'blocks': ['text', 'reviews']}
    """
    result = [dict(change) for change in config["ablations"] or []]
    modalities = list(config["modalities"] or config["item_modalities"] or [])
    key = "modalities" if config["modalities"] else "item_modalities"
    result += _without_each(key, modalities)
    if len(modalities) > 2:
        result += [{key: [name]} for name in modalities]
    if "blocks" in config:
        result += _without_each("blocks", config["blocks"] or [*modalities, SHARED])
    return [change for change in result if not _holds(config, change)]


def _without_each(key: str, names: list[str]) -> list[dict[str, Any]]:
    return [{key: [other for other in names if other != name]} for name in names] if len(names) > 1 else []


def _holds(config: Config, change: Mapping[str, Any]) -> bool:
    return all(config[key] == value for key, value in change.items())
