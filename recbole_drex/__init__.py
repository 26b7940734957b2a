"""recbole_drex: review-based, explainable recommendation as an extension of RecBole."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["TrainedRun", "__version__", "compare", "load", "register_model", "run", "tune"]

_HOME = {
    "TrainedRun": "experiments.trained_run",
    "compare": "experiments.compare",
    "load": "experiments.trained_run",
    "register_model": "registry",
    "run": "experiments.trained_run",
    "tune": "tuning.search",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when first used, since RecBole and torch take seconds to import."""
    if name in _HOME:
        return getattr(importlib.import_module(f"recbole_drex.{_HOME[name]}"), name)
    raise AttributeError(f"module 'recbole_drex' has no attribute '{name}'")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
