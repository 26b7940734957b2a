"""The search: Ray Tune runs the trials, validation selects the winner, and only the winner is tested."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_drex import __version__
from recbole_drex.config.recbole_config import Config
from recbole_drex.config.recbole_settings import refuse_absent_parts
from recbole_drex.config.yaml_values import read_yaml
from recbole_drex.errors import CheckpointError, ConfigError, UnknownNameError, unknown_name
from recbole_drex.experiments.quick_start import RawItems, RawReviews, prepare_dataset, raw_files_of
from recbole_drex.experiments.run import run_one
from recbole_drex.parallel.ray_cluster import connected
from recbole_drex.registry import canonical_model_name, model_names
from recbole_drex.training.trainer import BEST as WEIGHTS
from recbole_drex.training.trainer import LAST
from recbole_drex.tuning.memory import check_memory
from recbole_drex.tuning.ray_tune import Resources, run_trials
from recbole_drex.tuning.search_results import (
    BEST,
    SCHEMA,
    SEARCH,
    Search,
    read_search,
    record_search,
    write_best,
    write_described,
    write_tables,
)
from recbole_drex.tuning.space import (
    ALGORITHMS,
    MOST_POINTS,
    Range,
    check_grid,
    check_space,
    domains,
    drawn,
    grid,
    size_of,
    space_of,
    spaces_of,
)
from recbole_drex.tuning.trial import CACHE, Task, mean_score, name_of
from recbole_drex.utils.checksums import SUMS
from recbole_drex.utils.files import locked, remove_unfinished, safe_name

DEFAULT_TRIALS = 20


def tune(
    models: str | type | Sequence[str | type],
    dataset: str = "demo",
    *,
    space: str | Path | None = None,
    algo: str = "grid",
    trials: int | None = None,
    minutes: float | None = None,
    seeds: Sequence[int] = (2026,),
    output: str | Path = "results/search",
    resources: Resources | None = None,
    address: str | None = None,
    raw: RawReviews = (),
    meta: RawItems = None,
    data_path: str | Path | None = None,
    config_files: Sequence[str | Path] = (),
    parameters: Mapping[str, Any] | None = None,
    yes: bool = False,
    command: str = "",
) -> Search:
    """Search hyper-parameters of each model, one model after the other with the same budget.

    Every trial trains one configuration with all seeds; the best mean score on validation (``valid_metric``) wins, and
    only the winner is evaluated on the test parts.

    Args:
        models: one or several models of this project or of RecBole, by name or class.
        dataset: as of :func:`recbole_drex.experiments.quick_start.run`.
        space: see :func:`~recbole_drex.tuning.space.spaces_of`.
        algo: ``grid`` (every combination), ``random``, ``optuna`` (its tree-structured Parzen estimator) or ``asha``
            (random, with early stopping of the worst trials).
        trials: of each model; default: all combinations (grid) or 20. With ``grid``: a random subset of this size.
        minutes: wall time of each model's search; running trials are then stopped.
        seeds: of each trial; the first also seeds the search.
        output: folder of the search; it must not have one already.
        resources: of each trial, and the number of parallel trials.
        address: of a running Ray cluster (``auto``, ``host:port``, ``ray://host:port``); None starts Ray here.
        raw, meta, data_path, config_files, parameters: as of :func:`recbole_drex.experiments.quick_start.run`;
            given parameters are removed from the space. Each model takes those that it has.
        yes: search more than 10,000 combinations.
        command: recorded in the search.

    Raises:
        DrexError: an invalid input; nothing has been trained.

    Example:
        >>> import recbole_drex as rd
        >>> rd.tune("DReX", "demo", algo="random", trials=20)  # doctest: +SKIP
    """
    folder = Path(output)
    if (folder / SEARCH).is_file():
        raise ConfigError(f"{folder} has a search; continue it with --resume {folder}, or choose another --output_dir")
    if algo not in ALGORITHMS:
        raise ConfigError(unknown_name("search algorithm", algo, ALGORITHMS))
    for name, number in (("--trials", trials), ("--minutes", minutes)):
        if number is not None and number <= 0:
            raise ConfigError(f"{name} must be above 0, not {number}")
    names = list(dict.fromkeys(canonical_model_name(model) for model in model_names(models)))
    if not names or not seeds:
        raise ConfigError(f"name at least one {'seed' if names else 'model'}")
    given: dict[str, Any] = {}
    for file in config_files:
        given.update(read_yaml(file))
    given.update(parameters or {})
    if "seed" in given:
        raise ConfigError("parameter 'seed' is given by --seeds")
    if data_path is not None:
        given["data_path"] = str(data_path)
    fixed = _fixed(names, given)
    spaces = spaces_of(names, space, given)
    for model, one in spaces.items():
        check_space(model, one, dataset, fixed[model])
        if algo == "grid":
            check_grid(one)
        if algo == "grid" and trials is None and size_of(one) > MOST_POINTS and not yes:
            raise ConfigError(
                f"the grid of {model} has {size_of(one):,.0f} combinations; --trials N tries N of them at random, "
                "--yes all"
            )
    first = Config(names[0], dataset, [], fixed[names[0]])
    manifest = prepare_dataset(first, *raw_files_of(first, raw, meta))
    configs = {model: Config(model, dataset, [], fixed[model]) for model in names}
    for config in configs.values():
        refuse_absent_parts(config["eval_args"], "a search")
    described = {
        "schema": SCHEMA,
        "version": __version__,
        "command": command,
        "models": names,
        "dataset": safe_name(dataset, "data set"),
        "fingerprint": manifest["fingerprint"],
        "algo": algo,
        "trials": trials if trials is not None or algo == "grid" or minutes else DEFAULT_TRIALS,
        "minutes": minutes,
        "seeds": list(dict.fromkeys(seeds)),
        "spaces": {
            model: {key: dataclasses.asdict(one) if isinstance(one, Range) else one for key, one in result.items()}
            for model, result in spaces.items()
        },
        # Absolute, since trials have other working directories.
        "fixed": {model: {**fixed[model], "data_path": str(Path(configs[model]["data_path"]).parent.resolve())}
                  for model in names},
        "metrics": {
            model: {"metric": config["valid_metric"], "bigger": bool(config["valid_metric_bigger"])}
            for model, config in configs.items()
        },
        "resources": dataclasses.asdict(resources or Resources()),
        "seconds": {},
        "winners": {},
    }  # fmt: skip
    check_memory(resources or Resources(), manifest, local=address is None)
    return _search(folder, described, manifest, address)


def resume(folder: str | Path, *, address: str | None = None, resources: Resources | None = None) -> Search:
    """Continue an interrupted search: ended trials are kept, interrupted trials continue from their last epoch.

    Args:
        folder: of the search.
        address, resources: as of :func:`tune`; resources by default as before.

    Raises:
        CheckpointError: there is no search, or it was made by another version or on other data.
    """
    search = read_search(folder)
    described = search.described
    if described["version"] != __version__:
        raise CheckpointError(f"{folder} was made by version {described['version']}, this is {__version__}")
    model = described["models"][0]
    manifest = prepare_dataset(Config(model, described["dataset"], [], described["fixed"][model]))
    if manifest["fingerprint"] != described["fingerprint"]:
        raise CheckpointError(
            f"{folder} searched on data {described['fingerprint']}; data set '{described['dataset']}' has changed "
            f"since (now {manifest['fingerprint']}), so its trials cannot be compared with new ones"
        )
    if resources is not None:
        described["resources"] = dataclasses.asdict(resources)
    check_memory(Resources(**described["resources"]), manifest, local=address is None)
    return _search(Path(folder), described, manifest, address)


def _fixed(models: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each model, the given parameters that it has."""
    legal = {model: Config(model, "demo").legal for model in models}
    everywhere = set().union(*legal.values())
    for key in given:
        if key not in everywhere:
            raise UnknownNameError(f"parameter of {' and '.join(models)}:", key, everywhere)
    return {model: {key: value for key, value in given.items() if key in legal[model]} for model in models}


def _search(folder: Path, described: dict[str, Any], manifest: dict[str, Any], address: str | None) -> Search:
    resources = Resources(**described["resources"])
    with locked(folder / SEARCH, f"the search {folder}", timeout=10):
        remove_unfinished(folder)
        remove_unfinished(folder / BEST)
        with connected(address, cpus=resources.cpus_of_machine if address is None else None):
            (folder / SUMS).unlink(missing_ok=True)  # the files will change
            write_described(folder, described)  # only now: without Ray there is no search to continue
            for model in described["models"]:
                if model not in described["winners"]:
                    _search_model(folder, described, manifest, model, resources)
        for model in described["models"]:
            if model not in described["winners"]:
                _test_winner(folder, described, manifest, model)
        shutil.rmtree(folder / CACHE, ignore_errors=True)
        record_search(folder)
    return read_search(folder)


def task_of(folder: Path, described: Mapping[str, Any], manifest: dict[str, Any], model: str) -> Task:
    """The common settings of all trials of a model."""
    return Task(
        model, described["dataset"], folder.resolve(), tuple(described["seeds"]), described["fixed"][model], manifest
    )


def _search_model(folder: Path, described: dict[str, Any], manifest: dict[str, Any], model: str, resources: Resources):
    space = space_of(described["spaces"][model])
    task, algo, seed = task_of(folder, described, manifest, model), described["algo"], described["seeds"][0]
    ended = [trial for trial in read_search(folder).trials[model] if trial["status"] != "running"]
    spent = described["seconds"].get(model, 0.0)
    left = described["minutes"] * 60 - spent if described["minutes"] else None
    number = described["trials"]
    if algo == "optuna":
        points = None
    elif algo == "grid" and number is None:
        points = grid(space)
    else:
        points = drawn(space, number or MOST_POINTS, seed)
    names = {trial["name"] for trial in ended}
    if points is not None:
        points = [point for point in points if name_of(point) not in names]
        number = len(points)
    else:
        number = (number or MOST_POINTS) - len(ended)
    if number <= 0 or (left is not None and left <= 0):
        return
    started = time.perf_counter()
    try:
        run_trials(
            task,
            points,
            resources,
            mode="max" if described["metrics"][model]["bigger"] else "min",
            metric=described["metrics"][model]["metric"],
            number=number,
            algo=algo,
            seed=seed,
            domains=domains(space) if algo == "optuna" else None,
            ended=[(trial["parameters"], mean_score(trial)) for trial in ended if trial["status"] == "finished"],
            seconds=left,
        )
    finally:
        described["seconds"][model] = spent + time.perf_counter() - started
        write_described(folder, described)
        write_tables(read_search(folder))


def _test_winner(folder: Path, described: dict[str, Any], manifest: dict[str, Any], model: str) -> None:
    """Evaluate the best configuration on the test parts, and delete the weights of all others."""
    search = read_search(folder)
    winner = search.winner(model)
    if winner is None:
        failed = [trial["error"] for trial in search.trials[model] if trial["error"]]
        raise CheckpointError(
            f"no trial of {model} was finished, so there is no best one"
            + (f"; the first failed with: {failed[0]}" if failed else f"; see {folder / model}")
        )
    task = task_of(folder, described, manifest, model)
    for seed in task.seeds:
        config, run_dir = task.config(winner["parameters"], seed), task.run_folder(winner["parameters"], seed)
        run_one(config, manifest, run_dir, model, resume=True, command=described["command"])
    for trial in search.trials[model]:
        if trial is not winner:
            for path in [*trial["folder"].glob(f"seed-*/{WEIGHTS}"), *trial["folder"].glob(f"seed-*/{LAST}")]:
                path.unlink()
    write_tables(search)
    write_best(search, model)
    # Last, since a model with a winner is finished.
    described["winners"][model] = {
        "trial": winner["name"],
        "parameters": winner["parameters"],
        "score": mean_score(winner),
        "trials": len(search.trials[model]),
    }
    write_described(folder, described)
