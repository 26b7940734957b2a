"""Checkpoints without pickle: a safetensors file with the tensors, and everything else in its JSON header.

A checkpoint is written atomically and has a hash of its content, so damage is detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recbole_drex.errors import CheckpointError
from recbole_drex.utils.files import replacing

FORMAT = 1


def save(path: str | Path, tree: Any) -> None:
    """Save nested dicts, lists and tuples of tensors, arrays, scipy matrices, numbers, strings and None.

    Raises:
        TypeError: the tree has another type of value.
        DataError: the file cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(_encode(tree, tensors), allow_nan=True)
    metadata = {"format": str(FORMAT), "tree": skeleton, "sha256": _digest(skeleton, tensors)}
    write_tensors(path, tensors, metadata)


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, atomically.

    Raises:
        StorageError: it cannot be written.
    """
    with replacing(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=metadata)
        except SafetensorError as error:  # not an OSError, though its cause is one
            raise OSError(str(error)) from error


def load(path: str | Path, device: str | torch.device = "cpu") -> Any:
    """Load what :func:`save` wrote.

    Raises:
        CheckpointError: missing, damaged (hash mismatch), or not one of our files.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged or not a safetensors file: {error}") from error
    if metadata.get("format") != str(FORMAT):
        raise CheckpointError(f"checkpoint {path} was not written by recbole_drex, or by another version of it")
    if metadata.get("sha256") != _digest(metadata.get("tree", ""), tensors):
        raise CheckpointError(f"checkpoint {path} is damaged: its content does not match its hash")
    try:
        return _decode(json.loads(metadata["tree"]), tensors, torch.device(device))
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        # The hash is valid, so the content was written like this.
        raise CheckpointError(f"checkpoint {path} was not written by recbole_drex: {error!r}") from error


def _digest(skeleton: str, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(skeleton.encode())
    for key in sorted(tensors):
        digest.update(key.encode())
        if tensors[key].numel():
            digest.update(tensors[key].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        if value.is_sparse:
            value = value.coalesce()
            parts = [value.indices(), value.values(), list(value.shape)]
            return {"kind": "sparse", "items": [_encode(part, tensors) for part in parts]}
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"kind": "tensor", "key": key}
    if isinstance(value, np.ndarray):
        # As signed integers: safetensors before 0.5 has no unsigned ones of more than a byte.
        signed = torch.from_numpy(value.view(value.dtype.name.removeprefix("u")))
        return {"kind": "array", "dtype": value.dtype.name, "of": _encode(signed, tensors)}
    if scipy.sparse.issparse(value):
        matrix = value.tocsr()
        parts = [matrix.data, matrix.indices, matrix.indptr, list(matrix.shape)]
        return {"kind": "csr", "as": value.format, "items": [_encode(part, tensors) for part in parts]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {"kind": kind, "items": [_encode(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"kind": "dict", "items": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _decode(node: Any, tensors: dict[str, torch.Tensor], device: torch.device) -> Any:
    if not isinstance(node, dict):
        return node
    kind = node["kind"]
    if kind == "tensor":
        return tensors[node["key"]].to(device)
    if kind == "array":
        array = tensors[node["of"]["key"]].numpy()
        return array.view(node.get("dtype", array.dtype))
    if kind == "dict":
        return {_decode(k, tensors, device): _decode(v, tensors, device) for k, v in node["items"]}
    items = [_decode(item, tensors, device) for item in node["items"]]
    if kind == "sparse":
        return torch.sparse_coo_tensor(items[0], items[1], items[2])
    if kind == "csr":
        return scipy.sparse.csr_matrix((items[0], items[1], items[2]), shape=tuple(items[3])).asformat(node["as"])
    return items if kind == "list" else tuple(items)
