"""Item vectors from their descriptions, encoded like reviews."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from recbole_drex.data.prepare.engine import Engine

_PART = 1024  # texts per block


def item_texts(items: pd.DataFrame) -> list[str]:
    """``"title. brand. features. categories. description"`` of each item; missing parts are left out.

    The order is that of the recipe of Amazon Reviews 2023, which has no brand.

    Args:
        items: from :func:`recbole_drex.data.raw.readers.read_items`: a space between two categories, an underscore for
            a space inside one.

    Example:
        >>> item_texts(pd.DataFrame({"title": ["Chess", ""], "brand": ["Ravens", ""], "features": ["wooden", ""],
        ...                          "categories": ["Board_Games Toys", ""], "description": ["For two.", ""]}))
        ['Chess. Ravens. wooden. Board Games Toys. For two.', '']
    """
    columns = [items["title"], items["brand"], items["features"], items["categories"].str.replace("_", " ")]
    columns.append(items["description"])
    return [". ".join(part for part in parts if part) for parts in zip(*columns, strict=True)]


def texts_signature(items: Sequence[str], texts: Sequence[str], engine: Engine) -> str:
    """Hash of everything that determines the vectors of :func:`encode_texts`, and of the items."""
    digest = hashlib.sha256(repr(engine.settings).encode())
    for item, text in zip(items, texts, strict=True):
        digest.update(f"{item}\0{text}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def encode_texts(texts: Sequence[str], engine: Engine) -> np.ndarray:
    """Mean of the contextual vectors of each text's kept words.

    Args:
        texts: of the items.
        engine: one that is not static, see :meth:`~recbole_drex.data.prepare.engine.Engine.sentences`.

    Returns:
        (texts, ``engine.width``) float32; zeros for a text without kept words.

    Raises:
        DataError: embeddings are NaN or infinite.
    """
    result = np.zeros((len(texts), engine.width), dtype=np.float32)
    parts = range(0, len(texts), _PART)
    encoded = engine.encode(lambda start: texts[start : start + _PART], parts)
    for start, shard in tqdm(encoded, desc="encoding texts of items", total=len(parts), unit=f"x{_PART}", delay=2):
        for row, vectors in enumerate(shard.reviews(), start):
            if len(vectors):
                result[row] = vectors.astype(np.float32).mean(0)
    return result
