"""Points at which long computations can be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

BETWEEN_STEPS: ContextVar[Callable[[], None]] = ContextVar("BETWEEN_STEPS", default=lambda: None)
"""Called by :func:`between_steps` in this thread. It may use the model; its exceptions end the computation."""


def between_steps() -> None:
    """Call the hook; explanations and the processing of new users do so between their steps."""
    BETWEEN_STEPS.get()()
