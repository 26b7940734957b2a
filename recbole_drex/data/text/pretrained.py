"""Loads models of ``transformers``: complete, of safe weights alone, and without a network from a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_drex.data.text.contextual_encoder import encoder_folder, quiet_transformers
from recbole_drex.errors import DataError
from recbole_drex.utils.files import sha256


def pretrained_folder(kind: str, name: str, known: Sequence[str], needed: Sequence[str] = ()) -> tuple[Path, str]:
    """The local folder of a model and the hash of its weights.

    Args:
        kind: what the model is for, in messages: ``image encoder``.
        name: a local folder or a Hugging Face name.
        known: names for the message if there is no such model.
        needed: further files that it must have.

    Raises:
        DataError: it is not found, or lacks a file.
    """
    folder = encoder_folder(name, known, kind=kind)
    weights = sorted(folder.glob("model*.safetensors"))
    if not weights:
        raise DataError(f"{kind} '{name}': {folder} has no model.safetensors")
    for file in needed:
        if not (folder / file).is_file():
            raise DataError(f"{kind} '{name}': {folder} has no {file}")
    if len(weights) == 1:
        return folder, sha256(weights[0])
    return folder, hashlib.sha256("".join(map(sha256, weights)).encode()).hexdigest()


def load_pretrained(kind: str, name: str, folder: Path, model_class: Any, *parts: Any) -> tuple[Any, ...]:
    """The model and its further parts (processor, tokenizer), from a local folder.

    Args:
        kind, name: for messages.
        folder: from :func:`pretrained_folder`.
        model_class: such as ``AutoModel``.
        parts: functions of the folder that load the further parts.

    Returns:
        The parts, the model, and the names of weights of a pooling layer that it lacks, which are random.

    Raises:
        DataError: it cannot be loaded, or lacks other weights.
    """
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            loaded = [part(folder) for part in parts]
            options = {"local_files_only": True, "use_safetensors": True}
            model, report = model_class.from_pretrained(folder, output_loading_info=True, **options)  # nosec B615
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        ImportError,
        SafetensorError,
    ) as error:
        raise DataError(f"{kind} '{name}' cannot be loaded from {folder}: {error}") from error
    unpooled = {key for key in report["missing_keys"] if "pooler." in key}
    if missing := sorted(set(report["missing_keys"]) - unpooled):
        raise DataError(f"{kind} '{name}': {folder / 'model.safetensors'} lacks weights, such as {missing[0]}")
    return (*loaded, model.eval(), unpooled)


def placed(model: Any) -> tuple[Any, str]:
    """The model on the GPU that ``gpu_id`` leaves visible, in its own precision, or else on the CPU in float32."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return (model.float() if device == "cpu" else model).to(device), device
