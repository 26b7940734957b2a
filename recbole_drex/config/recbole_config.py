"""Configuration: RecBole's ``Config`` that finds our models, ``properties/`` and metrics, and checks its input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from recbole_drex.config.general_parameters import PREPARATION, declared, own_parameters
from recbole_drex.config.parameters import OwnModel, Parameter
from recbole_drex.config.recbole_settings import (
    COLD_ITEMS,
    check_eval_args,
    check_filters,
    check_training,
    relevance_of_threshold,
)
from recbole_drex.config.yaml_values import parse_value, read_yaml, refuse_odd
from recbole_drex.errors import ConfigError, UnknownNameError
from recbole_drex.evaluation.protocol import Protocol
from recbole_drex.parallel.launch import local_rank
from recbole_drex.recbole import (
    RECBOLE_FOLDER,
    RecBoleConfig,
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)
from recbole_drex.registry import PRESETS, canonical_model_name, get_model
from recbole_drex.utils.files import properties_dir, safe_name

_UNLISTED = ("tail_ratio", "encoding")  # read by RecBole, but in none of its lists
_NAMED = ("model", "dataset")
"""What RecBole's users write into files of parameters, and options of the command line give."""


class Config(RecBoleConfig):
    """RecBole's configuration, with the same precedence: parameters > files > model > project > RecBole.

    Args:
        model: name of a model of this project, of a preset, of RecBole, or registered; case does not matter.
        dataset: name of the prepared data set.
        config_file_list: YAML files, later ones win.
        config_dict: parameters by name. The process's command line is *not* read.
        read_texts: parse text values of ``config_dict`` as YAML; False for parameters that are already parsed.

    The arguments override ``model`` and ``dataset`` among the parameters.

    Attributes:
        notes: messages for the user about how parameters were interpreted.

    Raises:
        ConfigError: unknown model or parameter (with the nearest spelling), or an illegal value, before any data are
            read.
    """

    def __init__(
        self,
        model: str,
        dataset: str,
        config_file_list: Iterable[str | Path] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        read_texts: bool = True,
    ):
        from recbole_drex.evaluation.metrics import register_metrics

        safe_name(dataset, "data set")  # files are named after it
        register_metrics()
        self.notes: list[str] = []
        self._read_texts = read_texts
        super().__init__(canonical_model_name(model), dataset, list(config_file_list or []), dict(config_dict or {}))

    def _load_config_files(self, file_list: list[str | Path]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in file_list:
            merged.update(read_yaml(file))
        return merged

    def _load_cmd_line(self) -> dict[str, Any]:
        # RecBole reads sys.argv here; we pass the checked command line as parameters, without eval().
        return {}

    def _merge_external_config_dict(self) -> None:
        super()._merge_external_config_dict()
        for key in _NAMED:
            self.external_config_dict.pop(key, None)

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        texts = {key: value for key, value in config_dict.items() if self._read_texts and isinstance(value, str)}
        texts.pop("data_path", None)  # a folder may be called 2024
        return {**config_dict, **{key: parse_value(text) for key, text in texts.items()}}

    def _get_model_and_dataset(self, model: str, dataset: str) -> tuple[str, type, str]:
        return model, get_model(model), dataset

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)

        folder = RECBOLE_FOLDER / "properties"
        built_in = folder / "model" / f"{model}.yaml"
        layers = [properties_dir() / "overall.yaml"]
        # RecBole's configuration of its own data sets (ml-100k) describes their format, so it overrides ours.
        layers += [file for file in [built_in, folder / "dataset" / f"{dataset}.yaml"] if file.is_file()]
        layers += [properties_dir() / "model" / f"{model}.yaml", properties_dir() / "dataset" / f"{dataset}.yaml"]
        general, *others = [read_yaml(file) for file in layers if file.is_file()]
        # A preset has only the parameters that it sets.
        own = {} if model in PRESETS else {one.name: one.default for one in own_parameters(model_class)}
        for values in (general, own, *others):
            self.internal_config_dict.update(values)
        self._check(model_class)

    def _check(self, model_class: type) -> None:
        """Check the given parameters, and the defaults, which may have been edited."""
        internal, parameters = self.internal_config_dict, declared(model_class)
        for key, value in self.external_config_dict.items():
            if key not in self.legal:
                raise UnknownNameError(f"parameter of {self.model}:", key, self.legal)
            refuse_odd(value, f"parameter '{key}'")
            default = internal.get(key)
            if key not in parameters and type(default) in (bool, int, float, str, list, dict):
                # A parameter of RecBole, whose default gives the type.
                Parameter(key, type(default), default, optional=isinstance(default, (list, dict))).check(value)
        for key, value in {**internal, **self.external_config_dict}.items():
            if key in parameters:
                parameters[key].check(value)

    def _init_device(self) -> None:
        super()._init_device()
        device = self.final_config_dict["device"]
        if device.type == "cuda" and (index := local_rank()) is not None:
            self.final_config_dict["device"] = torch.device("cuda", index)
        if device.type == "cpu" and self.final_config_dict["gpu_id"]:
            self.notes.append(f"torch finds no GPU (gpu_id {self.final_config_dict['gpu_id']}), so the CPU is used")

    def _set_default_parameters(self) -> None:
        from recbole_drex.evaluation.metrics import OURS, other_metrics, resolved_valid_metric, smaller_is_better

        final = self.final_config_dict
        metrics = final["metrics"]
        others = other_metrics([metrics] if isinstance(metrics, str) else metrics)
        final["metrics"] = OURS  # RecBole accepts only metrics of one kind
        check_eval_args(final["eval_args"], others)
        check_filters(final)
        if final["enable_amp"] and self.is_ours:
            raise ConfigError(
                f"enable_amp is for models of RecBole; {self.model} is trained in 32 bits, so leave it out"
            )
        if final["relevance_threshold"] is None:
            final["relevance_threshold"] = relevance_of_threshold(final)
        Protocol.from_config(final)  # refuses conventions that do not fit together
        try:
            super()._set_default_parameters()
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error
        if COLD_ITEMS in final["eval_args"]["split"]:
            final["eval_args"]["group_by"] = "none"  # RecBole's default is user
        final["eval_args"]["mode"] = dict.fromkeys(("valid", "test"), "full")
        final["valid_metric"], theirs = resolved_valid_metric(final["valid_metric"])
        if theirs:
            candidates = "the rated rows" if theirs == "AUC" else "the full catalogue"
            self.notes.append(f"valid_metric {final['valid_metric']} is RecBole's {theirs}, over {candidates}")
            others.append(theirs)
        final["metrics"] = [*OURS, *{name.lower(): name for name in others}.values()]
        final["valid_metric_bigger"] = not smaller_is_better(final["valid_metric"])

    def _set_train_neg_sample_args(self) -> None:
        try:
            super()._set_train_neg_sample_args()
        except (KeyError, ValueError) as error:
            raise ConfigError(f"parameter 'train_neg_sample_args' is illegal: {error}") from error
        check_training(self.final_config_dict)

    @property
    def legal(self) -> set[str]:
        """Names of all parameters that may be given to this model."""
        arguments = (general_arguments, training_arguments, evaluation_arguments, dataset_arguments)
        return {*self.internal_config_dict, *_UNLISTED, *(name for names in arguments for name in names)}

    def preparation(self) -> dict[str, Any]:
        """The parameters that shape the prepared files."""
        settings = {one.name: self[one.name] for one in PREPARATION}
        return {**settings, "rm_dup_inter": settings["rm_dup_inter"] or "last"}

    @property
    def is_ours(self) -> bool:
        """Whether the model follows this project's contract (and so predicts ratings unless it says otherwise)."""
        return issubclass(self.model_class, OwnModel)
