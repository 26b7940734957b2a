"""The engines that compute an encoder, as parameters of tests."""

from __future__ import annotations

import importlib.util

import pytest

# Not pytest.importorskip: importing OpenVINO sends telemetry, which the project prevents.
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
ENGINES = ["torch", pytest.param("openvino", marks=needs_openvino)]
