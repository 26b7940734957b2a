"""Compares models on data sets over seeds: reuses finished runs, makes missing ones, continues when a model fails."""

from __future__ import annotations

import dataclasses
import itertools
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm

from recbole_drex.config.recbole_config import Config
from recbole_drex.config.recbole_settings import refuse_absent_parts
from recbole_drex.config.yaml_values import parse_value
from recbole_drex.data.items.item_features import FOLDER as ITEMS
from recbole_drex.data.items.item_features import ItemFeatures
from recbole_drex.errors import BusyError, ConfigError, DrexError, StorageError, UnknownNameError, unknown_name
from recbole_drex.experiments.ablations import ablations
from recbole_drex.experiments.quick_start import merged_files, names_in, prepare_dataset, shared_parameters
from recbole_drex.experiments.run import check_one_process, check_replaceable, forget_notes, is_finished, run_one
from recbole_drex.experiments.run_folder import ERRORS
from recbole_drex.registry import canonical_model_name, model_names
from recbole_drex.results.comparison import (
    REFERENCES,
    SCHEMA,
    Comparison,
    Variant,
    identity_of,
    read_comparison,
    read_run,
    record_comparison,
    replicate_name,
    write_comparison,
)
from recbole_drex.utils.files import locked, safe_name, write_text
from recbole_drex.utils.progress import WITHOUT_REST


@dataclasses.dataclass
class _Job:
    """One run of a comparison, finished or still to be made."""

    variant: Variant
    dataset: str
    replicate: str
    config: Config
    manifest: dict[str, Any]
    folder: Path
    status: str = "waiting"
    error: str | None = None
    seconds: float | None = None
    timed: bool = False  # made by this process, so that ``seconds`` is its full duration


def compare(
    models: str | type | Sequence[str | type] | None = None,
    datasets: str | Sequence[str] | None = None,
    seeds: Sequence[int] = (2026, 2027, 2028),
    *,
    folds: int | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    ablate: bool = False,
    data_path: str | Path | None = None,
    output: str | Path = "results",
    name: str = "comparison",
    config_files: Sequence[str | Path] = (),
    parameters: Mapping[str, Any] | None = None,
    references: bool = True,
    reference: str | None = None,
    overwrite: bool = False,
    command: str = "",
) -> Comparison:
    """Run every model on every data set with every seed, unless that run exists, and compare them.

    A finished run is reused if its configuration, data and version are the same and its files are undamaged; an
    interrupted run continues from its last epoch. So repeating the call continues an interrupted comparison. A run that
    fails writes ``error.log`` to its folder, and the others continue. Tables, reports and figures of another comparison
    in the folder are removed.

    Args:
        models: names of models of this project or of RecBole, names or classes of registered models; changed parameters
            follow after ``+``, as in ``DReX+start=random+use_bias=false``; default: ``model`` of the files.
        datasets: prepared data sets, ``demo``, categories of Amazon Reviews 2023, or names of files in the folder that
            the environment variable RECBOLE_DREX_RAW names.
        seeds: each has its own split.
        folds: with a number n, each seed's split is one of n folds, and each interaction is tested once per seed.
        vary: one or two parameters with several values; each model runs with every combination of those that it has.
        ablate: also run each model without each of its parts and modalities, see
            :func:`recbole_drex.experiments.ablations.ablations`.
        data_path: folder of prepared data sets; default: the parameter of that name, ``atomic_data/``.
        output: runs go to ``<output>/<dataset>/<label>/seed-<n>/``.
        name: the comparison goes to ``<output>/<name>/``.
        config_files: YAML files of parameters, later ones win.
        parameters: parameters by name; they win over files. Each model takes those that it has.
        references: also run the reference models (global mean, item mean, bias, biased matrix factorisation).
        reference: label of the model that all others are tested against; by default the first.
        overwrite: replace finished runs of another configuration; each is kept until the new one is finished.
        command: recorded in the comparison.

    Raises:
        CheckpointError: a run's folder has a finished run of another configuration, and ``overwrite`` is not set.
        StorageError: files cannot be written; the same call continues once there is space.
        DrexError: an invalid input: an unknown model, data set or parameter, or a parameter that no model has.

    Example:
        >>> import recbole_drex as rd
        >>> rd.compare(["DReX", "BPR"], ["demo"], seeds=[2026, 2027])  # doctest: +SKIP
    """
    forget_notes()
    safe_name(name, "comparison")
    given = {**merged_files(config_files), **(parameters or {})}
    named, dataset = given.pop("model", None) or [], given.pop("dataset", None) or "demo"
    models = model_names(names_in(named) if models is None else models)
    datasets = names_in(dataset) if datasets is None else [datasets] if isinstance(datasets, str) else datasets
    if not models or not datasets or not seeds:
        raise ConfigError("name at least one model (--models), one data set and one seed")
    if folds is not None and folds < 3:
        raise ConfigError(f"folds must be 3 or more (one tests, one validates, the others train), not {folds}")
    if "seed" in given:
        raise ConfigError("parameter 'seed' is given by --seeds, since every seed has its own folder")
    if data_path is not None:
        given["data_path"] = str(data_path)
    varied = {key: list(values) for key, values in (vary or {}).items()}
    modalities = _stored_modalities(datasets, given) if ablate else []
    variants = _variants(models, varied, ablate, given, references, modalities)
    labels = [variant.label for variant in variants]
    if reference is not None and reference not in labels:
        raise ConfigError(unknown_name("reference:", reference, labels))
    output, folder = Path(output), Path(output) / name
    jobs = list(_jobs(variants, datasets, seeds, folds, given, output))
    for job in jobs:
        refuse_absent_parts(job.config["eval_args"], "a comparison")
    described = {
        "schema": SCHEMA,
        "command": command,
        "variants": [dataclasses.asdict(variant) for variant in variants],
        "datasets": list(dict.fromkeys(datasets)),
        "vary": varied,
        "reference": reference or labels[0],
    }
    with locked(folder, f"the comparison {folder}", timeout=10):
        if not overwrite:
            for job in jobs:
                check_replaceable(job.config, job.manifest, job.folder)
        _run_all(jobs, folder, described, command, overwrite)
        record_comparison(folder)
    return read_comparison(folder)


# The runs -------------------------------------------------------------------------------------------------------------


def parse_model(text: str) -> tuple[str, dict[str, Any]]:
    """Parse ``DReX+start=random+use_bias=false`` into the model's name and its changed parameters (YAML values).

    Raises:
        ConfigError: no such model, or a change without a value.

    Example:
        >>> parse_model("drex+start=random+learning_rate=1e-3")
        ('DReX', {'start': 'random', 'learning_rate': 0.001})
    """
    # A plus sign inside a value, as in 1e+3, is not followed by a name and an equals sign.
    model, *changes = re.split(r"\+(?=[A-Za-z_]\w*=)", text)
    if "+" in model:
        raise ConfigError(f"{text!r}: changes are written as MODEL+name=value")
    parameters = {}
    for change in changes:
        key, _, value = change.partition("=")
        if not value:
            raise ConfigError(f"{text!r}: parameter {key} lacks a value")
        parameters[key] = parse_value(value)
    return canonical_model_name(model), parameters


def label_of(model: str, parameters: Mapping[str, Any]) -> str:
    """Label of a model with changed parameters.

    Example:
        >>> label_of("DReX", {"start": "random", "use_bias": False})
        'DReX+start=random+use_bias=false'
    """
    return "+".join([model, *(f"{key}={_as_text(value)}" for key, value in parameters.items())])


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_as_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _variants(
    models: Sequence[str],
    vary: Mapping[str, list[Any]],
    ablate: bool,
    given: Mapping[str, Any],
    references: bool,
    modalities: Sequence[str],
) -> tuple[Variant, ...]:
    """Every model with every combination of the varied parameters that it has, each followed by its ablations if
    ``ablate`` is set; then the references.

    ``modalities`` are the item vectors of data sets without reviews.
    """
    if len(vary) > 2:
        raise ConfigError(f"one or two parameters can be varied at a time, not {len(vary)}: {', '.join(vary)}")
    for key, values in vary.items():
        if key in given:
            raise ConfigError(f"parameter '{key}' is varied and given a value: {given[key]!r}")
        if len(set(map(repr, values))) < len(values) or not values:
            raise ConfigError(f"the values of the varied parameter '{key}' must be distinct: {values}")
    result: dict[str, Variant] = {}
    legal_anywhere: set[str] = set()
    for text in models:
        model, changed = parse_model(text)
        legal = Config(model, "demo").legal
        legal_anywhere |= legal
        axes = [key for key in vary if key in legal and key not in changed]
        # A data set without reviews has only item vectors, but the model's default may name reviews.
        stored = {"item_modalities": modalities} if modalities and "item_modalities" in legal else {}
        for point in itertools.product(*(vary[key] for key in axes)):
            parameters = {**changed, **dict(zip(axes, point, strict=True))}
            changes: list[dict[str, Any]] = [{}]
            if ablate:
                known = {key: value for key, value in given.items() if key in legal}
                changes += ablations(Config(model, "demo", [], {**stored, **known, **parameters}))
            for change in changes:
                label = label_of(model, {**parameters, **change})
                result.setdefault(label, Variant(label, model, {**parameters, **change}))
    if ablate and not any(variant.parameters for variant in result.values()):
        raise ConfigError(f"no ablations are defined for {' and '.join(result)}")
    for key in (*vary, *given):
        if key not in legal_anywhere:
            raise UnknownNameError("parameter of these models:", key, legal_anywhere)
    for model in REFERENCES if references else ():
        result.setdefault(model, Variant(model, model, reference=True))
    return tuple(result.values())


def _stored_modalities(datasets: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """The item vectors that data sets without reviews share; empty if one of them has reviews."""
    root = Path(given.get("data_path") or Config("Bias", "demo")["data_path"])
    if any((root / dataset / "features").is_dir() or not (root / dataset).is_dir() for dataset in datasets):
        return []
    first, *others = (ItemFeatures(root / dataset / ITEMS).names for dataset in dict.fromkeys(datasets))
    return [name for name in first if all(name in names for names in others)]


def _jobs(
    variants: Sequence[Variant],
    datasets: Sequence[str],
    seeds: Sequence[int],
    folds: int | None,
    given: Mapping[str, Any],
    output: Path,
) -> Iterator[_Job]:
    """All runs, checked before anything is trained; the data sets are prepared."""
    folders = {variant.label: _folder_name(variant.label) for variant in variants}
    if len(set(folders.values())) < len(folders):
        raise ConfigError(f"these variants would share a folder: {', '.join(folders)}")
    legal = {variant.model: Config(variant.model, "demo").legal for variant in variants}
    manifests = {}
    for dataset in dict.fromkeys(datasets):
        # Seeds are the outer loop, so that an interrupted comparison has all models on the same splits.
        for seed in dict.fromkeys(seeds):
            for fold in range(folds) if folds is not None else (None,):
                for variant in variants:
                    parameters = shared_parameters(given) if variant.reference else dict(given)
                    parameters = {key: value for key, value in parameters.items() if key in legal[variant.model]}
                    parameters |= {**variant.parameters, "seed": seed}
                    if fold is not None:
                        chosen = parameters.get("eval_args", {})
                        parameters["eval_args"] = {**chosen, "split": {"KF": [folds, fold]}}
                    config = Config(variant.model, dataset, [], parameters)
                    check_one_process(config)
                    if dataset not in manifests:
                        manifests[dataset] = prepare_dataset(config)
                    replicate = replicate_name(seed, fold)
                    folder = output / dataset / folders[variant.label] / f"seed-{replicate}"
                    yield _Job(variant, dataset, replicate, config, manifests[dataset], folder)


def _folder_name(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+=,-]+", "", label)


# Running it -----------------------------------------------------------------------------------------------------------


def _run_all(jobs: list[_Job], folder: Path, described: dict[str, Any], command: str, overwrite: bool) -> None:
    """Find or make every run, in order; the comparison's file is updated after each."""

    def note() -> None:
        content = {**described, "runs": [_entry(job, folder) for job in jobs]}
        write_comparison(folder, content)

    for job in jobs:
        if is_finished(job.config, job.manifest, job.folder):
            job.status = "finished"
            job.seconds = _seconds(job.folder)
    note()
    waiting = [job for job in jobs if job.status == "waiting"]
    print(
        f"{len(jobs)} runs: {len(jobs) - len(waiting)} are finished, {len(waiting)} to make{_about(jobs)}", flush=True
    )
    options: dict[str, Any] = {"unit": "run", "bar_format": WITHOUT_REST, "disable": not waiting}
    with tqdm(total=len(waiting), desc="compare", **options) as bar:
        for job in waiting:
            bar.set_postfix_str(f"{job.variant.label} on {job.dataset}, {job.replicate}{_about(jobs)}")
            started = perf_counter()
            try:
                run_one(
                    job.config,
                    job.manifest,
                    job.folder,
                    job.variant.label,
                    replace=True,
                    overwrite=overwrite,
                    command=command,
                )
                job.status = "finished"
            except StorageError:
                raise  # the other runs would fail, too
            except Exception as error:  # a registered model may raise anything; the other models continue
                job.status = "failed"
                job.error = str(error) if isinstance(error, DrexError) else f"{type(error).__name__}: {error}"
                if not isinstance(error, BusyError):  # another process owns the folder
                    write_text(job.folder / ERRORS, traceback.format_exc())
                tqdm.write(f"failed: {job.variant.label} on {job.dataset}, {job.replicate}: {job.error}")
            job.seconds = perf_counter() - started
            job.timed = job.status == "finished"
            note()
            bar.update()


def _entry(job: _Job, folder: Path) -> dict[str, Any]:
    return {
        "label": job.variant.label,
        "dataset": job.dataset,
        "replicate": job.replicate,
        "status": job.status,
        "error": job.error,
        # Relative, so that a folder of results can be moved.
        "folder": Path("..", job.folder.relative_to(folder.parent)).as_posix(),
        "identity": identity_of(job.folder) if job.status == "finished" else None,
    }


def _about(jobs: Sequence[_Job]) -> str:
    """Estimated duration of the waiting runs, if this process has finished a similar run of each; else empty."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        if job.timed and job.seconds is not None:
            seconds.setdefault((job.variant.label, job.dataset), []).append(job.seconds)
    waiting = [(job.variant.label, job.dataset) for job in jobs if job.status == "waiting"]
    if not waiting or not seconds.keys() >= set(waiting):
        return ""
    total = sum(sum(seconds[kind]) / len(seconds[kind]) for kind in waiting)
    return f", about {total / 60:.0f} min" if total >= 60 else f", about {total:.0f} s"


def _seconds(folder: Path) -> float:
    seconds = read_run(folder).result["seconds"]
    return (seconds["train"] or 0.0) + (seconds["evaluate"] or 0.0)
