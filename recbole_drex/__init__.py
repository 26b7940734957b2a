"""recbole_drex: review-based, explainable recommendation as an extension of RecBole."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "load", "run"]


def __getattr__(name: str) -> Any:
    """``run``, ``load`` and ``compare``, imported when first used: RecBole and torch take seconds to import."""
    if name in ("run", "load"):
        from recbole_drex import quick_start

        return getattr(quick_start, name)
    if name == "compare":
        from recbole_drex.comparing import compare

        return compare
    raise AttributeError(f"module 'recbole_drex' has no attribute '{name}'")
