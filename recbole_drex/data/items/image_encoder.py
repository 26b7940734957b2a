"""Item vectors from images, by a pretrained vision model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from recbole_drex.data.text.contextual_encoder import encoder_folder, quiet_transformers
from recbole_drex.errors import DataError
from recbole_drex.utils.files import sha256

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
KNOWN_ENCODERS = ("google/vit-base-patch16-224-in21k", "openai/clip-vit-base-patch32")
_BATCH = 32  # images per batch


def image_files(folder: Path, items: Sequence[str]) -> list[Path | None]:
    """The image ``<item_id>.jpg`` (``.jpeg``, ``.png``, ``.webp``) of each item, None if there is no such file.

    Raises:
        DataError: no such folder, two images of one item, or no image for any of these items.
    """
    result: dict[str, Path] = {}
    for path in _listed(folder):
        if path.stem in result:
            raise DataError(f"{folder} has two images of one item: {result[path.stem].name} and {path.name}")
        result[path.stem] = path
    files = [result.get(item) for item in items]
    if not any(files):
        raise DataError(
            f"{folder} has no image of any of the {len(items):,} items that are kept; expected are files named "
            f"<item_id>{{{','.join(SUFFIXES)}}}, such as {items[0]}.jpg"
        )
    return files


def image_source(folder: Path) -> dict[str, Any]:
    """A manifest's entry for a folder of images, with one hash over the names and the content of all images.

    Raises:
        DataError: there is no such folder.
    """
    files = _listed(folder)
    digest = hashlib.sha256("".join(f"{path.name}\0{sha256(path)}" for path in files).encode())
    size = sum(path.stat().st_size for path in files)
    return {"name": folder.name, "bytes": size, "sha256": digest.hexdigest()}


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"parameter 'images': there is no folder {folder}")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


class ImageEncoder:
    """A vision model of ``transformers`` that computes one vector per image; see :func:`load_image_encoder`.

    The vector is the model's pooled output or, for a model without the weights of a pooling layer, the mean of its last
    hidden states (patches and special tokens, or the positions of a feature map). It is computed in float32 on the CPU,
    so results are reproducible.

    Attributes:
        name: as passed to :func:`load_image_encoder`.
        settings: all settings that determine the vectors.
    """

    def __init__(self, name: str, model: Any, processor: Any, *, pooled: bool, settings: dict[str, Any]):
        self.name, self.settings = name, settings
        self._model, self._processor, self._pooled = model, processor, pooled

    def signature(self, files: Sequence[Path | None]) -> str:
        """Hash of everything that determines the vectors of these images."""
        digests = [(path.stem, sha256(path)) for path in files if path is not None]
        return hashlib.sha256(repr((self.settings, len(files), digests)).encode()).hexdigest()

    def encode(self, files: Sequence[Path | None]) -> np.ndarray:
        """Encode images in batches.

        Args:
            files: images of any size and mode, converted to RGB on white; at least one is not None.

        Returns:
            (files, width) float32; zeros for None.

        Raises:
            DataError: an image cannot be decoded, or its vector is NaN or infinite; names the file.
        """
        rows = [row for row, path in enumerate(files) if path is not None]
        paths = [path for path in files if path is not None]
        parts = []
        for start in tqdm(range(0, len(paths), _BATCH), desc="encoding images", unit=f"x{_BATCH}", delay=2):
            batch = paths[start : start + _BATCH]
            part = self._embed(batch)
            for path, vector in zip(batch, part, strict=True):
                if not np.isfinite(vector).all():
                    raise DataError(f"image encoder '{self.name}' returns NaN or infinite values for {path}")
            parts.append(part)
        encoded = np.concatenate(parts)
        vectors = np.zeros((len(files), encoded.shape[1]), dtype=np.float32)
        vectors[rows] = encoded
        return vectors

    def _embed(self, paths: list[Path]) -> np.ndarray:
        import torch

        # One at a time, so that only one image is in memory in full size.
        images = [self._processor(images=_opened(path), return_tensors="pt")["pixel_values"] for path in paths]
        with torch.inference_mode():
            output = self._model(pixel_values=torch.cat(images))
            vectors = getattr(output, "pooler_output", None) if self._pooled else None
            if vectors is None:
                states = output.last_hidden_state
                vectors = states.flatten(2).mean(2) if states.ndim == 4 else states.mean(1)
        return vectors.flatten(1).numpy()  # convolutional models return two extra axes of length one


def _opened(path: Path) -> Any:
    """The image in RGB, rotated as its EXIF data say, on a white background."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"image {path} cannot be decoded: {error}") from error


def load_image_encoder(name: str) -> ImageEncoder:
    """Load a vision model and its preprocessing; of a CLIP-like model, the vision part.

    Args:
        name: a local folder, or a Hugging Face name such as ``google/vit-base-patch16-224-in21k``.

    Raises:
        DataError: it is missing, damaged, lacks weights, or is not an image model.
    """
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor, AutoModel

    folder = encoder_folder(name, KNOWN_ENCODERS)
    weights, preparation = folder / "model.safetensors", folder / "preprocessor_config.json"
    for path in (weights, preparation):
        if not path.is_file():
            raise DataError(f"image encoder '{name}': {folder} has no {path.name}")
    try:
        with quiet_transformers():
            # The Pillow-based processor; the other one needs torchvision and gives slightly different numbers.
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)  # nosec B615
            options = {"local_files_only": True, "use_safetensors": True}
            model, report = AutoModel.from_pretrained(folder, output_loading_info=True, **options)  # nosec B615
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise DataError(f"image encoder '{name}' cannot be loaded from {folder}: {error}") from error
    unpooled = [key for key in report["missing_keys"] if key.startswith("pooler.")]
    if missing := sorted(set(report["missing_keys"]) - set(unpooled)):
        raise DataError(f"image encoder '{name}': {weights} lacks weights, such as {missing[0]}")
    model = getattr(model, "vision_model", model)
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise DataError(f"image encoder '{name}' in {folder} is not an image model")
    settings = {"name": name, "weights_sha256": sha256(weights), "preparation_sha256": sha256(preparation)}
    # A pooling layer with missing weights would be random.
    return ImageEncoder(name, model.float().eval(), processor, pooled=not unpooled, settings=settings)
