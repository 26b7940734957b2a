"""Trials on Ray Tune."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_drex.errors import ConfigError, DrexError, StorageError
from recbole_drex.registry import register_model, registered_models
from recbole_drex.tuning.trial import TRIAL, Task, name_of, read_trial, run_trial
from recbole_drex.utils.allocator import return_freed_memory
from recbole_drex.utils.files import write_json

OPTUNA_LINE = "pip install 'optuna>=4.0'"
_REDUCTION = 3  # ASHA continues with the best third at each of its rungs


@dataclasses.dataclass(frozen=True)
class Resources:
    """Resources of a trial, and the number of parallel trials.

    Attributes:
        parallel: number of parallel trials; None: as many as the cores or GPUs allow.
        cpus: cores of a trial, which are also its threads.
        gpus: GPUs of a trial; a fraction shares one among several.
    """

    parallel: int | None = None
    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.parallel is not None and self.parallel < 1:
            raise ConfigError(f"--parallel must be 1 or more, not {self.parallel}")
        if self.cpus < 1:
            raise ConfigError(f"--cpus_per_trial must be 1 or more, not {self.cpus}")
        if self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise ConfigError(f"--gpus_per_trial must be a fraction of 1 or a whole number, not {self.gpus}")

    @property
    def at_once(self) -> int:
        """Number of parallel trials on this machine."""
        return self.parallel or max(1, (os.cpu_count() or 1) // self.cpus)

    @property
    def cpus_of_machine(self) -> int:
        """Cores that a local Ray needs for them."""
        return self.at_once * self.cpus


def run_trials(
    task: Task,
    points: Sequence[dict[str, Any]] | None,
    resources: Resources,
    *,
    mode: str,
    metric: str,
    number: int,
    algo: str,
    seed: int,
    domains: Mapping[str, Any] | None = None,
    ended: Sequence[tuple[dict[str, Any], float | None]] = (),
    seconds: float | None = None,
) -> None:
    """Run the trials of one model; Ray must be connected. Trials write their results to their folders.

    A trial that fails is retried once, and the others continue, except on a full disk.

    Args:
        task: the common settings.
        points: their configurations; None if Optuna proposes them.
        resources: of each.
        mode: ``min`` or ``max``.
        metric: name of the score, for the terminal.
        number: number of trials.
        algo: one of :data:`~recbole_drex.tuning.space.ALGORITHMS`.
        seed: of the search algorithm.
        domains: for Optuna, the space in Ray Tune's format.
        ended: for Optuna, configurations that were tried before, with their scores.
        seconds: wall time after which running trials are stopped.

    Raises:
        ConfigError: Optuna is wanted and not installed.
        StorageError: a trial could not write its files; it does not count as ended.
        KeyboardInterrupt: the user stopped it; ended trials are kept.
    """
    # We report these ourselves; and Ctrl-C ends the search immediately, since every epoch is saved.
    os.environ.update(RAY_AIR_NEW_OUTPUT="0", TUNE_DISABLE_SIGINT_HANDLER="1")
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    from recbole_drex.tuning.trial_progress import Progress

    for name in ("ray", "ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.ERROR)
    _check_room(resources)
    epochs = task.config({}, seed)["epochs"]
    scheduler = None
    if algo == "asha":
        scheduler = ASHAScheduler(
            max_t=epochs, grace_period=max(1, epochs // 20), reduction_factor=_REDUCTION, stop_last_trials=False
        )
    progress = Progress(task.model, metric, number, mode)
    trainable = tune.with_parameters(_trainable, task=task, registered=registered_models())
    tuner = tune.Tuner(
        tune.with_resources(
            trainable,
            {"cpu": resources.cpus, "gpu": resources.gpus},
        ),
        param_space=None if points is None else {"point": tune.grid_search(list(points))},
        tune_config=tune.TuneConfig(
            metric="score",
            mode=mode,
            search_alg=_optuna(domains, mode, seed, ended) if points is None and domains is not None else None,
            scheduler=scheduler,
            num_samples=number if points is None else 1,
            max_concurrent_trials=resources.parallel or 0,
            time_budget_s=seconds,
            reuse_actors=True,  # starting Python and importing torch costs more than many a trial
        ),
        run_config=tune.RunConfig(
            storage_path=str(task.folder / "ray"),
            name=task.model,
            failure_config=tune.FailureConfig(max_failures=1),
            callbacks=[progress],
            verbose=0,
        ),
    )
    try:
        grid = tuner.fit()
    finally:
        progress.close()
    full: Exception | None = None
    for result in (grid[number] for number in range(len(grid))):
        if isinstance(result.error, StorageError):
            full = getattr(result.error, "cause", result.error)  # without Ray's traceback
        else:
            _conclude(task, _point(result.config or {}), result.error)
    if full is not None:
        raise full


def _trainable(config: dict[str, Any], task: Task, registered: Sequence[type]) -> None:
    """The function of a Ray worker; ``registered`` are the models that the user's program has registered."""
    import ray
    from ray import tune

    from recbole_drex.utils.threads import use_threads

    for model in registered:
        register_model(model)
    gpus = ray.get_gpu_ids()
    if gpus:
        task = dataclasses.replace(task, fixed={**task.fixed, "gpu_id": ",".join(map(str, gpus))})
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads:
        use_threads(int(threads))
    try:
        run_trial(task, _point(config), tune.report)
    finally:
        return_freed_memory()  # for the next trial of this worker


def _point(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a trial from Ray's configuration: a point of a list, or values that Optuna chose."""
    if "point" in config:
        return dict(config["point"])
    return {key: _decoded(value) for key, value in config.items()}


def _encoded(value: Any) -> Any:
    """A choice that Optuna can store: lists as JSON."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "[{":
        return json.loads(value)
    # numpy's numbers are not YAML
    return value.item() if hasattr(value, "item") else value


def _optuna(domains: Mapping[str, Any], mode: str, seed: int, ended: Sequence[tuple[dict[str, Any], float | None]]):
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError as error:
        raise ConfigError(f"--algo optuna needs Optuna; install it with: {OPTUNA_LINE}") from error
    from ray import tune

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {
        name: tune.choice([_encoded(value) for value in domain.categories]) if hasattr(domain, "categories") else domain
        for name, domain in domains.items()
    }
    known = [({key: _encoded(value) for key, value in point.items()}, score) for point, score in ended]
    return OptunaSearch(
        space=space,
        metric="score",
        mode=mode,
        seed=seed,
        points_to_evaluate=[point for point, _ in known] or None,
        evaluated_rewards=[score for _, score in known] or None,
    )


def _check_room(resources: Resources) -> None:
    import ray

    have = ray.cluster_resources()
    for kind, wanted in (("CPU", resources.cpus), ("GPU", resources.gpus)):
        if wanted > have.get(kind, 0):
            raise ConfigError(f"a trial wants {wanted:g} {kind}s, but Ray has {have.get(kind, 0):g}")


def _conclude(task: Task, point: dict[str, Any], error: Exception | None) -> None:
    """Record the end of a trial that was stopped by the scheduler or the time limit, or killed."""
    folder = task.folder / task.model / name_of(point)
    if not (folder / TRIAL).is_file():  # never started
        return
    trial = read_trial(folder)
    if trial["status"] != "running":
        return
    if error is None:
        trial["status"] = "stopped"
    else:
        last = str(error).strip().splitlines() or [type(error).__name__]
        trial |= {"status": "failed", "error": str(error) if isinstance(error, DrexError) else last[-1]}
    write_json(folder / TRIAL, trial)
