"""Evaluates checkpoints that RecBole wrote, on their own split, if the user trusts the file.

They are pickles, and reading a pickle can run arbitrary code, so a file is read only if the user allows it.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recbole_drex.config.recbole_config import Config
from recbole_drex.config.recbole_settings import refuse_absent_parts
from recbole_drex.config.yaml_values import read_yaml
from recbole_drex.data.splits import SplitParts
from recbole_drex.errors import CheckpointError, ConfigError
from recbole_drex.experiments.quick_start import prepare_dataset
from recbole_drex.experiments.run import build, run_trained
from recbole_drex.recbole import RECBOLE_FOLDER, Dataset, RecBoleConfig, dataset_arguments, init_seed
from recbole_drex.utils.files import sha256

_DATA = tuple(
    name
    for name in dataset_arguments
    # The columns that are read and the scaling of numbers do not change the split; ratings must not be scaled.
    if not name.startswith("normalize") and name not in ("load_col", "unload_col", "unused_col")
)
_SPLIT = ("split", "order", "group_by")  # of `eval_args`; this project decides how scores are ranked


def evaluate_checkpoint(
    path: str | Path,
    *,
    trusted: bool = False,
    data_path: str | Path | None = None,
    output: str | Path = "results",
    parameters: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Evaluate a model that RecBole trained in the same way as :func:`recbole_drex.run`.

    Model, data set, seed, split and the model's parameters are those of the checkpoint. RecBole's code splits the data
    again, and the rows must be the same, so that no training row is tested.

    Args:
        path: a ``.pth`` file of RecBole 1.2, of a general model.
        trusted: allow reading the file, which can run arbitrary code.
        data_path: folder of data sets; default: the one in the checkpoint.
        output: the run goes to ``<output>/<dataset>/<model>/seed-<n>/``.
        parameters: parameters of the evaluation; those of the checkpoint cannot be changed.
        overwrite: replace a finished run of another checkpoint or configuration.
        command: recorded in the result.

    Returns:
        The contents of the result file.

    Raises:
        CheckpointError: not trusted, no such file, not a checkpoint of RecBole, other data, or a split that cannot be
            reproduced.
        ConfigError: the model is not a general recommender, or a parameter of the checkpoint is set.
        DataError: there is no such data set.
    """
    path = Path(path)
    state = _read(path, trusted)
    theirs, given = state["config"], dict(parameters or {})
    decided = _decided(theirs)
    for key in given.keys() & decided.keys():
        raise ConfigError(f"parameter '{key}' is set by {path.name}: {decided[key]!r}")
    # RecBole has joined the name of the data set to the folder of data sets.
    folder = data_path or Path(theirs["data_path"]).parent
    config = Config(theirs["model"], theirs["dataset"], [], {**given, **decided, "data_path": str(folder)})
    refuse_absent_parts(config["eval_args"], "an evaluation")
    manifest = prepare_dataset(config)
    experiment = build(config, manifest)
    theirs["data_path"] = config["data_path"]
    if not _same_split(theirs, experiment.parts):
        raise CheckpointError(
            f"{path} is not evaluated: RecBole splits '{config.dataset}' differently (rows without a rating, say), "
            "so training rows would be tested"
        )
    run_dir = Path(output) / config.dataset / config.model / f"seed-{config['seed']}"
    return run_trained(
        experiment, run_dir, state, {"checkpoint": path.name, "sha256": sha256(path)}, command, overwrite
    )


def _read(path: Path, trusted: bool) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}")
    if not trusted:
        raise CheckpointError(
            f"{path} is not read: checkpoints of RecBole are pickles, which can run arbitrary code; "
            "add --trust-checkpoint if you trust its source"
        )
    try:
        # The user allows it; nothing else in this project reads pickles of other processes.
        state = torch.load(path, map_location="cpu", weights_only=False)  # nosec B614
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, ImportError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {' '.join(str(error).split())}") from error
    needed = {"config", "state_dict", "epoch"}
    if not isinstance(state, dict) or not state.keys() >= needed or not isinstance(state["config"], RecBoleConfig):
        raise CheckpointError(f"{path} is not a checkpoint of RecBole: it lacks one of {', '.join(sorted(needed))}")
    return {"other_parameter": None, **state}


def _decided(theirs: RecBoleConfig) -> dict[str, Any]:
    """The parameters that the checkpoint determines: the data, their split, and the model's parameters."""
    defaults = read_yaml(RECBOLE_FOLDER / "properties" / "model" / f"{theirs['model']}.yaml")
    decided = {key: theirs[key] for key in ("seed", "reproducibility", *_DATA, *defaults) if key in theirs}
    decided["eval_args"] = {**{key: theirs["eval_args"][key] for key in _SPLIT}, "mode": "full"}
    if columns := theirs["load_col"]:
        columns = {**columns, "inter": [*dict.fromkeys([*columns["inter"], theirs["RATING_FIELD"]])]}
    return {**decided, "load_col": columns}


def _same_split(theirs: RecBoleConfig, parts: SplitParts) -> bool:
    """Whether RecBole's code puts the same interactions into each part."""
    if parts.valid is None or parts.test is None:
        return False
    init_seed(theirs["seed"], theirs["reproducibility"])
    ours = (parts.train_dataset, parts.valid.rows._dataset, parts.test.rows._dataset)
    return all(_pairs(mine) == _pairs(their) for mine, their in zip(ours, Dataset(theirs).build(), strict=True))


def _pairs(dataset: Dataset) -> list[tuple[str, str]]:
    """Names of the users and items of a part's rows, sorted, since loaders change the order of rows."""
    user, item = (
        dataset.field2id_token[field][dataset.inter_feat[field]].tolist()
        for field in (dataset.uid_field, dataset.iid_field)
    )
    return sorted(zip(user, item, strict=True))
