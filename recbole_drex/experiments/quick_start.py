"""The main entry point: prepare if needed, train, evaluate, write the result."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_drex.config.general_parameters import PREPARATION
from recbole_drex.config.recbole_config import Config
from recbole_drex.config.yaml_values import read_yaml
from recbole_drex.data.prepare.engine import check_engine
from recbole_drex.data.prepare.manifest import reused_settings
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources, find_sources
from recbole_drex.data.raw.frames import frame_file
from recbole_drex.errors import ConfigError
from recbole_drex.experiments.run import check_replaceable, forget_notes, run_one
from recbole_drex.parallel.collectives import first_decides
from recbole_drex.parallel.launch import check_processes, group, launch
from recbole_drex.recbole import RECBOLE_FOLDER, dataset_arguments
from recbole_drex.registry import model_names
from recbole_drex.results.comparison import REFERENCES
from recbole_drex.utils.files import safe_name
from recbole_drex.utils.progress import stage

RawReviews = str | Path | pd.DataFrame | Sequence[str | Path]
RawItems = str | Path | pd.DataFrame | None


def run(
    models: str | type | Sequence[str | type] | None = None,
    dataset: str | None = None,
    *,
    raw: RawReviews = (),
    meta: RawItems = None,
    data_path: str | Path | None = None,
    output: str | Path = "results",
    seeds: Sequence[int] | None = None,
    config_files: Sequence[str | Path] = (),
    parameters: Mapping[str, Any] | None = None,
    references: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
) -> list[dict[str, Any]]:
    """Run every model with every seed; each seed has its own split.

    Several processes share the work if parameter ``nproc`` is set, or if torchrun or Ray Train has started them; all of
    them then return the same.

    Args:
        models: one or several models of this project or of RecBole, by name or class; default: ``model`` of the
            files, or DReX.
        dataset: a prepared data set, ``demo``, a category of Amazon Reviews (``Video_Games``, ``Video_Games_2018``,
            ``Video_Games_2014``), or any name if ``raw`` is given;
            default: ``dataset`` of the files, or demo.
        raw: review files, see ``recbole_drex.data.raw.readers`` for the formats; a data frame with the same columns;
            or one folder in MMRec's layout, see ``recbole_drex.data.prepare.mmrec``.
        meta: item file or data frame (titles, categories).
        data_path: folder of prepared data sets; default: the parameter of that name, ``atomic_data/``.
        output: results go to ``<output>/<dataset>/<model>/seed-<n>/``.
        seeds: one run per seed; default: ``seed`` of the files, or 2026.
        config_files: YAML files of parameters, later ones win.
        parameters: parameters by name; they win over files.
        references: also run :data:`REFERENCES`, reusing finished ones of the same settings.
        resume: continue with interrupted runs and keep finished ones.
        overwrite: replace finished runs of another configuration, data or version; each is kept until the new one is
            finished.
        command: recorded in the result.

    Returns:
        The contents of the result files, references last.

    Raises:
        CheckpointError: a folder has a finished run of another configuration, and ``overwrite`` is not set.
        DrexError: another invalid input; see the message.
    """
    forget_notes()
    merged = merged_files(config_files)
    if models is None:
        models = names_in(merged.get("model") or "DReX")
    models = model_names(models)
    dataset = dataset_named(merged) if dataset is None else dataset
    if seeds is None:
        seeds = [_seed(merged)]
    elif "seed" in merged and list(seeds) != [merged["seed"]]:
        raise ConfigError("seeds are given by --seeds and, otherwise, by 'seed' of --config_files; leave one out")
    arguments: dict[str, Any] = {
        "models": models, "dataset": dataset, "raw": raw, "meta": meta, "data_path": data_path,
        "output": output, "seeds": list(seeds), "config_files": list(config_files), "parameters": parameters,
        "references": references, "resume": resume, "overwrite": overwrite, "command": command or shlex.join(sys.argv),
    }  # fmt: skip
    parameters = dict(parameters or {})
    if not models or not seeds:
        raise ConfigError(f"name at least one {'seed' if models else 'model'}")
    if "seed" in parameters:
        raise ConfigError("parameter 'seed' is given by --seeds, since every seed has its own folder")
    if data_path is not None:
        parameters["data_path"] = str(data_path)
    configs = [Config(model, dataset, config_files, parameters) for model in models]
    for config in configs:
        nproc = check_processes(config.final_config_dict)
    raw, meta = raw_files_of(configs[0], raw, meta)
    arguments |= {"raw": raw, "meta": meta}
    manifest = prepare_dataset(configs[0], raw, meta)
    if nproc:
        with stage(""):  # the first of the processes shows progress
            return launch(run, arguments, configs[0].final_config_dict)
    names = list(dict.fromkeys(config.model for config in configs))
    jobs = [(name, False) for name in names]
    jobs += [(name, True) for name in REFERENCES if references and name not in names]
    with group():
        planned = []
        for seed in dict.fromkeys(seeds):
            for name, is_reference in jobs:
                # References get only the parameters that all models share.
                if is_reference:
                    shared = shared_parameters({**configs[0].external_config_dict, "seed": seed})
                    config = Config(name, dataset, [], shared, read_texts=False)
                else:
                    config = Config(name, dataset, config_files, {**parameters, "seed": seed})
                run_dir = Path(output) / dataset / config.model / f"seed-{seed}"
                planned.append((config, run_dir, is_reference))

        def check() -> None:
            for config, run_dir, _ in planned:
                check_replaceable(config, manifest, run_dir)

        if not overwrite:
            first_decides(check)
        return [
            run_one(
                config,
                manifest,
                run_dir,
                resume=resume or is_reference,
                replace=is_reference,
                overwrite=overwrite,
                command=command,
            )
            for config, run_dir, is_reference in planned
        ]


def merged_files(files: Sequence[str | Path]) -> dict[str, Any]:
    """Parameters of YAML files, later ones win."""
    merged: dict[str, Any] = {}
    for file in files:
        merged.update(read_yaml(file))
    return merged


def names_in(value: Any) -> list[str]:
    """Names in a file of parameters: a list, or a text with commas or spaces."""
    return value if isinstance(value, list) else str(value).replace(",", " ").split()


def dataset_named(values: Mapping[str, Any]) -> str:
    """The data set that files of parameters name; ``demo`` if they name none."""
    return str(values.get("dataset") or "demo")


def _seed(values: Mapping[str, Any]) -> int:
    seed = values.get("seed", 2026)
    if type(seed) is not int:
        raise ConfigError(f"parameter 'seed' must be an integer, not {seed!r}")
    return seed


def raw_files_of(config: Config, raw: RawReviews, meta: RawItems) -> tuple[list[str | Path], str | Path | None]:
    """Raw files from one file, several files, or data frames, which are stored next to the prepared data sets.

    Raises:
        DataError: a data frame cannot be written.
    """
    folder, name = Path(config["data_path"]).parent / "raw", safe_name(config.dataset, "data set")
    if isinstance(meta, pd.DataFrame):
        meta = frame_file(meta, folder / f"meta_{name}.parquet")
    if isinstance(raw, pd.DataFrame):
        return [frame_file(raw, folder / f"{name}.parquet")], meta
    return [raw] if isinstance(raw, (str, Path)) else list(raw), meta


def prepare_dataset(
    config: Config,
    raw: Sequence[str | Path] = (),
    meta: str | Path | None = None,
    rebuild: bool = False,
    engine: str = "local",
    address: str | None = None,
) -> dict[str, Any]:
    """Find the raw files of the configured data set and prepare it, unless it is already prepared.

    Without raw files, a prepared data set is used with its own settings; settings in the configuration must not differ
    from them.

    For ``engine`` and ``address`` see :func:`recbole_drex.data.prepare.pipeline.prepare`.
    """
    check_engine(engine, address)
    dataset = safe_name(config.dataset, "data set")
    folder = Path(config["data_path"])
    if raw and folder.is_relative_to(RECBOLE_FOLDER):
        raise ConfigError(f"'{dataset}' is a data set inside RecBole, which is not overwritten; choose another name")
    parts = config["benchmark_filename"]
    if parts and raw:
        raise ConfigError("benchmark_filename names pre-split parts, so --raw does not apply")
    # An empty rm_dup_inter, RecBole's default, is no wish: no pair of a prepared data set is there twice.
    given = {key: value for key, value in config.external_config_dict.items() if (key, value) != ("rm_dup_inter", None)}
    split = config["split"]
    _check_split(split, given)
    environment = os.environ.get("RECBOLE_DREX_RAW")
    sources = Sources() if parts else find_sources(dataset, folder.parent, raw, meta, environment, split)
    settings = config.preparation()
    if not sources.given:
        settings = reused_settings(folder, dataset, settings, given)
        _check_split(settings["split"], given)
    return prepare(
        dataset,
        folder.parent,
        settings,
        sources,
        hashes=config["raw_sha256"],
        rebuild=rebuild,
        engine=engine,
        address=address,
        parts=parts,
    )


def _check_split(split: str | None, given: Mapping[str, Any]) -> None:
    """Refuse parameters in whose place an official split decides."""
    own = {"user_min": "", "item_min": "", "benchmark_filename": "", "eval_args": " (and --folds)"}
    for key, option in own.items() if split else ():
        if given.get(key) is not None and not (key == "eval_args" and str(split).endswith("/rating_only")):
            raise ConfigError(f"split: {split} says which rows are in which part, so leave out {key}{option}")


_PROTOCOL_KEYS = {
    "data_path", "keep_unrated", "hide_reviews", "hide_ratings",
    "eval_args", "topk", "seed", "threads", "candidates", "mask", "sampled_candidates",
    "relevance", "relevance_threshold", "gain", "ideal", "empty_user", "eval_batch_size", "gpu_id",
}  # fmt: skip


def shared_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a reference must share with the compared models: data, split and conventions."""
    shared = {*_PROTOCOL_KEYS, *(one.name for one in PREPARATION), *dataset_arguments}
    return {key: value for key, value in parameters.items() if key in shared}
