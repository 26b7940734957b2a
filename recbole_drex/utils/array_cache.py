"""A cache of arrays and objects that depend only on data and settings.

Arrays are cached on disk, so that many trainings share them, if :func:`kept_in` sets a folder, as the search of
hyper-parameters does. A finished run stores them in a file (:func:`write_kept`), so that loading it (:func:`kept_from`)
does not compute them again. Objects are cached in memory, so that the models of one run share them: the model that is
trained, the untrained baseline of explanations, and the model that is loaded for explanations.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from recbole_drex import __version__
from recbole_drex.utils.checkpoint import write_tensors
from recbole_drex.utils.files import locked

_FOLDER: ContextVar[Path | None] = ContextVar("folder of kept arrays", default=None)
_FILE: ContextVar[Path | None] = ContextVar("file of kept arrays", default=None)
_LATEST: dict[str, tuple[str, Any]] = {}
_T = TypeVar("_T")


@contextlib.contextmanager
def kept_in(folder: str | Path) -> Iterator[None]:
    """Cache arrays in ``folder`` during the block."""
    token = _FOLDER.set(Path(folder))
    try:
        yield
    finally:
        _FOLDER.reset(token)


@contextlib.contextmanager
def kept_from(path: Path) -> Iterator[None]:
    """Read arrays from a file of :func:`write_kept` during the block, if it exists and has them."""
    token = _FILE.set(path)
    try:
        yield
    finally:
        _FILE.reset(token)


def write_kept(path: Path, name: str, inputs: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays that :func:`kept` has returned, for :func:`kept_from`.

    Args:
        path: the file.
        name, inputs: as passed to :func:`kept`.
        arrays: the arrays that it returned.
    """
    prefix = f"{name}-{_digest(name, inputs)[:20]}/"
    write_tensors(path, {prefix + key: torch.from_numpy(np.ascontiguousarray(one)) for key, one in arrays.items()})


def kept(name: str, inputs: Mapping[str, Any], make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays that ``make`` returns, from the cache on disk if they were made from the same inputs before.

    If two processes need the same arrays, one makes them and the other waits.

    Args:
        name: name of the arrays, a part of the file's name.
        inputs: everything that they depend on: arrays, and values with a complete ``repr``.
        make: function that computes them.
    """
    digest = _digest(name, inputs)
    return _of_file(f"{name}-{digest[:20]}/") or _of_folder(f"{name}-{digest[:20]}.safetensors", make)


def _of_file(prefix: str) -> dict[str, np.ndarray]:
    path = _FILE.get()
    if path is None or not path.is_file():
        return {}
    with safe_open(path, "numpy") as file:
        return {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118


def _of_folder(file_name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    folder = _FOLDER.get()
    if folder is None:
        return make()
    path = folder / file_name
    with locked(path, f"the arrays {path}"):
        with contextlib.suppress(FileNotFoundError, SafetensorError):  # a damaged file is replaced
            return load_file(path)
        arrays = {key: np.ascontiguousarray(value) for key, value in make().items()}
        write_tensors(path, {key: torch.from_numpy(value) for key, value in arrays.items()})
        return arrays


def latest(name: str, inputs: Mapping[str, Any], make: Callable[[], _T]) -> _T:
    """The object that ``make`` returns, or the cached one if it was made from the same inputs.

    One object per name is cached, until another one is made. It must not be changed.

    Args:
        name, inputs, make: as for :func:`kept`.

    Example:
        >>> latest("squares", {"n": 3}, lambda: [0, 1, 4]) is latest("squares", {"n": 3}, lambda: [0, 1, 4])
        True
    """
    digest = _digest(name, inputs)
    known = _LATEST.get(name)
    if known is None or known[0] != digest:
        _LATEST.pop(name, None)  # so that both are never in memory together
        known = _LATEST[name] = digest, make()
    return known[1]


def _digest(name: str, inputs: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(f"{__version__} {name}".encode())
    for key, value in sorted(inputs.items()):
        digest.update(f"\0{key}\0".encode())
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()
