"""Image files of items: found by name, and opened whatever their kind."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_drex.errors import DataError
from recbole_drex.utils.files import sha256

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LARGEST, SMALLEST = 1024, 4  # pixels per side that models get; transformers takes three rows of pixels for channels


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


def opened(path: Path) -> Any:
    """The image (a Pillow image) in RGB, rotated as its EXIF data say, on a white background.

    Of an animation it is the first frame. Sides of more than :data:`LARGEST` pixels are reduced to that, with the same
    proportions, so that every image fits in memory; sides of fewer than :data:`SMALLEST` are enlarged.

    Raises:
        DataError: the file cannot be decoded, or is truncated; names it.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            file.thumbnail((LARGEST, LARGEST))  # before anything is decoded: a JPEG is then decoded at a smaller size
            image = ImageOps.exif_transpose(file)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"image {path} cannot be decoded: {error}") from error
    if min(image.size) < SMALLEST:
        image = image.resize((max(image.width, SMALLEST), max(image.height, SMALLEST)))
    return image
