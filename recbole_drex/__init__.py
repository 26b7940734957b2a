"""recbole_drex: review-based, explainable recommendation as an extension of RecBole."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "load", "run", "tune"]

_HOME = {
    "run": "experiments.quick_start",
    "load": "experiments.run",
    "compare": "experiments.compare",
    "tune": "tuning.search",
}


def __getattr__(name: str) -> Any:
    """What users call, imported when first used: RecBole and torch take seconds to import."""
    if name in _HOME:
        return getattr(importlib.import_module(f"recbole_drex.{_HOME[name]}"), name)
    raise AttributeError(f"module 'recbole_drex' has no attribute '{name}'")
