"""Where work that may take long can be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

BETWEEN_STEPS: ContextVar[Callable[[], None]] = ContextVar("BETWEEN_STEPS", default=lambda: None)
"""What :func:`between_steps` calls in this thread. It may use the model; an exception that it raises ends the work."""


def between_steps() -> None:
    """Called between the steps of explanations, and of reading what new users post."""
    BETWEEN_STEPS.get()()
