"""Former place of :func:`recbole_drex.analysis.comparison_table.comparison_table`."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("recbole_drex.analysis.comparison_table"), name)
