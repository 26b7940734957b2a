"""Item vectors from images, by a pretrained vision model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_drex.data.items.efficientnet import EFFICIENTNET, load_efficientnet
from recbole_drex.data.items.images import LARGEST, SMALLEST, opened
from recbole_drex.data.text.pretrained import load_pretrained, pretrained_folder
from recbole_drex.errors import DataError
from recbole_drex.utils.files import sha256

KNOWN_ENCODERS = (EFFICIENTNET, "google/vit-base-patch16-224-in21k", "openai/clip-vit-base-patch32")
KIND = "image encoder"


class ImageEncoder:
    """A vision model of ``transformers`` that computes one vector per image; see :func:`load_image_encoder`.

    The vector is the model's pooled output or, for a model without the weights of a pooling layer, the mean of its last
    hidden states (patches and special tokens, or the positions of a feature map). It is computed in float32 on the CPU,
    so results are reproducible. Images are encoded one by one: in a batch, the last bits of a vector depend on its row.

    Attributes:
        name: as passed to :func:`load_image_encoder`.
        settings: all settings that determine the vectors.
    """

    def __init__(self, name: str, model: Any, processor: Any, *, pooled: bool, settings: dict[str, Any]):
        self.name, self.settings = name, settings
        self._model, self._processor, self._pooled = model, processor, pooled

    def encode(self, files: Sequence[Path | None]) -> np.ndarray:
        """Encode images.

        Args:
            files: images of any size and mode, converted to RGB on white; at least one is not None.

        Returns:
            (files, width) float32; zeros for None.

        Raises:
            DataError: an image cannot be decoded, or its vector is NaN or infinite; names the file.
        """
        vectors = {}
        for row, path in enumerate(files):
            if path is not None:
                vectors[row] = self._embed(path)
                if not np.isfinite(vectors[row]).all():
                    raise DataError(f"{KIND} '{self.name}' returns NaN or infinite values for {path}")
        result = np.zeros((len(files), len(next(iter(vectors.values())))), dtype=np.float32)
        result[list(vectors)] = list(vectors.values())
        return result

    def _embed(self, path: Path) -> np.ndarray:
        import torch

        with torch.inference_mode():
            output = self._model(pixel_values=self._processor(images=opened(path), return_tensors="pt")["pixel_values"])
            vector = getattr(output, "pooler_output", None) if self._pooled else None
            if vector is None:
                states = output.last_hidden_state
                vector = states.flatten(2).mean(2) if states.ndim == 4 else states.mean(1)
        return vector.flatten().numpy()  # convolutional models return two extra axes of length one


def load_image_encoder(name: str) -> ImageEncoder:
    """Load a vision model and its preprocessing; of a CLIP-like model, the vision part.

    Args:
        name: ``efficientnet-lite0`` (:mod:`recbole_drex.data.items.efficientnet`), a local folder, or a Hugging Face
            name such as ``google/vit-base-patch16-224-in21k``.

    Raises:
        DataError: it is missing, damaged, lacks weights, or is not an image model.
    """
    sides = {"largest_side": LARGEST, "smallest_side": SMALLEST}
    if name == EFFICIENTNET:
        model, processor, settings = load_efficientnet()
        return ImageEncoder(name, model, processor, pooled=False, settings={"name": name, **settings, **sides})
    from transformers import AutoImageProcessor, AutoModel

    def load_processor(folder: Path) -> Any:
        # The Pillow-based processor; the other one needs torchvision and gives slightly different numbers.
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)  # nosec B615

    preparation = "preprocessor_config.json"
    folder, weights = pretrained_folder(KIND, name, KNOWN_ENCODERS, [preparation])
    processor, model, unpooled = load_pretrained(KIND, name, folder, AutoModel, load_processor)
    model = getattr(model, "vision_model", model)
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise DataError(f"{KIND} '{name}' in {folder} is not an image model")
    settings = {"name": name, "weights_sha256": weights, "preparation_sha256": sha256(folder / preparation), **sides}
    # A pooling layer with missing weights would be random.
    return ImageEncoder(name, model.float(), processor, pooled=not unpooled, settings=settings)
