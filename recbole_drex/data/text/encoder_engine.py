"""What computes a transformer: PyTorch, or OpenVINO on a CPU where it is installed."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from recbole_drex.errors import ConfigError, unknown_name

ENGINES = ("auto", "torch", "openvino")
INSTALL_LINE = "pip install 'openvino>=2026.4'"

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_TELEMETRY = "openvino_telemetry"
# Largest relative error of a converted model. Rounding gives 1e-6 in float32 and 0.02 in bfloat16.
_TOLERANCE = 0.05

logger = logging.getLogger(__name__)


class ConversionError(Exception):
    """OpenVINO cannot compute a model; the message is one line."""


def choose_engine(engine: str, device: str) -> str:
    """The engine for a device.

    Args:
        engine: one of :data:`ENGINES`. ``auto`` is OpenVINO where it can be imported and the device is a CPU. If it is
            installed but cannot be imported, ``auto`` logs the reason and is PyTorch.
        device: ``cpu``, ``cuda`` or ``cuda:<n>``.

    Returns:
        ``torch`` or ``openvino``.

    Raises:
        ConfigError: there is no such engine, or ``openvino`` cannot be used.
    """
    if engine not in ENGINES:
        raise ConfigError(unknown_name("encoder_engine", engine, ENGINES))
    if engine == "torch" or (engine == "auto" and device != "cpu"):
        return "torch"
    if device != "cpu":
        raise ConfigError(f"encoder_engine 'openvino' computes on a CPU, not on '{device}': use auto or torch")
    try:
        with without_telemetry():
            importlib.import_module("openvino")
    except ModuleNotFoundError as error:
        if error.name == "openvino":
            if engine == "auto":
                return "torch"
            raise ConfigError(f"encoder_engine 'openvino' needs OpenVINO: {INSTALL_LINE}") from error
        return _without_openvino(engine, error)
    except Exception as error:  # a broken installation may raise anything
        return _without_openvino(engine, error)
    return "openvino"


def engine_setting(engine: str) -> dict[str, str]:
    """The entry of an engine in the settings of a manifest: none for torch, as when there was no other."""
    return {} if engine == "torch" else {"engine": engine}


def same_engine(settings: Mapping[str, Any]) -> str:
    """The engine that encodes new texts for a prepared data set: that of its manifest, or torch where it is missing.

    Args:
        settings: of the encoder, with the entry of :func:`engine_setting`.

    Returns:
        ``torch``, or ``auto`` for OpenVINO unless it cannot run the encoder.
    """
    if "engine" not in settings:
        return "torch"
    if choose_engine("auto", "cpu") == "openvino":
        return "auto"
    logger.warning(
        "the data set was encoded by OpenVINO, which cannot be used here: new texts are encoded by PyTorch, whose "
        "vectors differ by rounding. To install it: %s",
        INSTALL_LINE,
    )
    return "torch"


def _without_openvino(engine: str, error: Exception) -> str:
    broken = f"OpenVINO is installed but cannot be imported ({type(error).__name__}: {error})"
    if engine == "auto":
        logger.warning("%s: PyTorch is used", " ".join(broken.split()))
        return "torch"
    raise ConfigError(f"encoder_engine 'openvino': {broken}; install it again or use encoder_engine torch") from error


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Declare the telemetry package of OpenVINO absent, which reports imports and conversions to its maker."""
    known = _TELEMETRY in sys.modules
    if not known:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's way to declare a module absent
    try:
        yield
    finally:
        if not known:
            del sys.modules[_TELEMETRY]


@contextlib.contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Restore the root logger, which a conversion changes and writes tracebacks to."""
    root = logging.getLogger()
    level, filters, handlers = root.level, list(root.filters), list(root.handlers)
    root.addFilter(lambda record: False)
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers


class OpenVinoModel:
    """A transformer of ``transformers`` converted to OpenVINO, called like the original.

    It uses as many threads as torch does when it is made, and leaves their placement to the operating system, so that
    two processes do not share a core while another is idle.

    Args:
        model: on the CPU, in float32 and in evaluation mode.
        precision: ``float32`` or ``bfloat16``.

    Raises:
        ConversionError: the model cannot be converted, or not computed in this precision, or the converted model has
            another output.
    """

    def __init__(self, model: Any, precision: str):
        self.config = model.config
        with without_telemetry():
            try:
                self._request = _compiled(model, precision).create_infer_request()
                self._compare(model)
            except ConversionError:
                raise
            except Exception as error:  # tracing runs the code of the model, which may raise anything
                first = error
                while isinstance(first.__cause__, Exception):
                    first = first.__cause__
                lines = [line.strip() for line in str(first).splitlines() if line.strip()]
                raise ConversionError(lines[0][:120] if lines else type(first).__name__) from error

    def __call__(self, input_ids: Any, attention_mask: Any) -> tuple[Any]:
        """Last hidden states, float32 (rows, length, width), valid until the next call.

        Args:
            input_ids: int64 tensor (rows, length).
            attention_mask: int64 tensor (rows, length), 1 for a word piece and 0 for padding.
        """
        import torch

        result = self._request.infer([input_ids.numpy(), attention_mask.numpy()], share_inputs=True, share_outputs=True)
        return (torch.from_numpy(result[0]),)

    def _compare(self, model: Any) -> None:
        """Compare with the original on other shapes than those that were traced, some positions padded."""
        import torch

        ids, mask = _example(model, 3, min(23, model.config.max_position_embeddings - 2))
        with torch.inference_mode():
            expected = model(input_ids=ids, attention_mask=mask)[0][mask > 0].numpy()
        error = self(ids, mask)[0][mask > 0].numpy() - expected
        relative = np.linalg.norm(error) / max(float(np.linalg.norm(expected)), 1e-9)
        # Weights that are not finite are refused elsewhere, when their vectors are.
        if np.isfinite(expected).all() and not relative <= _TOLERANCE:
            raise ConversionError(f"the output of the converted model is off by {relative:.0%}")


def _compiled(model: Any, precision: str) -> Any:
    import torch

    openvino: Any = importlib.import_module("openvino")
    ids, mask = _example(model, 2, 8)
    with torch.no_grad(), warnings.catch_warnings(), _root_logger_kept():
        warnings.simplefilter("ignore")  # about branches on shapes, which the comparison covers
        converted = openvino.convert_model(model, example_input={"input_ids": ids, "attention_mask": mask})
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(converted, "CPU", settings)
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if used != _HINTS[precision]:
        raise ConversionError(f"this processor computes in {used}, not in {precision}")
    return compiled


def _example(model: Any, rows: int, length: int) -> tuple[Any, Any]:
    """Random word pieces, int64 (rows, length), and a mask in which every row but the first has padding."""
    import torch

    limit = min(model.config.vocab_size, 1 << 15)
    ids = torch.from_numpy(np.random.default_rng(0).integers(limit // 2, limit, (rows, length)))
    mask = (torch.arange(length) < length - 2 * torch.arange(rows)[:, None]).long()
    return ids, mask
