"""One run: built, trained, evaluated in its folder, and built again from there."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook
from tqdm import tqdm

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.dataset import ReviewDataset, settle_relevance, split
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.errors import CheckpointError, ConfigError, DrexError
from recbole_drex.evaluation.metrics import check_valid_metric, predicts_ratings
from recbole_drex.experiments import run_folder
from recbole_drex.experiments.outputs import finish, logging_to
from recbole_drex.model.contract import contract_of
from recbole_drex.parallel import collectives
from recbole_drex.parallel.launch import is_worker
from recbole_drex.recbole import ModelType, init_seed
from recbole_drex.registry import canonical_model_name
from recbole_drex.results.comparison import HISTORY, RUN, unfinished
from recbole_drex.results.run_result import RESULT
from recbole_drex.training import run_record
from recbole_drex.training.run_record import Experiment, plain
from recbole_drex.training.trainer import BEST, Evaluation, load_model_state, make_trainer
from recbole_drex.utils import checkpoint
from recbole_drex.utils.allocator import keep_freed_memory, return_freed_memory
from recbole_drex.utils.array_cache import kept_from
from recbole_drex.utils.checksums import check_sum
from recbole_drex.utils.files import locked, read_json, write_json
from recbole_drex.utils.progress import WITHOUT_REST, stage
from recbole_drex.utils.threads import use_threads


def build(config: Config, manifest: dict[str, Any]) -> Experiment:
    """Load and split the data and make the untrained model, with all randomness fixed by the seed."""
    keep_freed_memory()
    if config["threads"]:
        use_threads(config["threads"])
    init_seed(config["seed"], config["reproducibility"])
    # Threads that share a sum, as gradients of indexing are, would add in an order of chance. That torch then also
    # fills new memory only costs time.
    torch.use_deterministic_algorithms(bool(config["reproducibility"]), warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    for key, value in run_record.settled(manifest).items():
        config[key] = value
    check_valid_metric(config)
    dataset = ReviewDataset(config)
    settle_relevance(config, dataset)
    parts = split(config, dataset)
    # Seeded again, so that the initial parameters do not depend on how the data were shuffled.
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, parts.train_dataset).to(config["device"])
    return_freed_memory()  # loading and fitting take more of it than training
    return Experiment(config, manifest, dataset, parts, model)


def run_one(
    config: Config,
    manifest: dict[str, Any],
    run_dir: Path,
    label: str | None = None,
    *,
    resume: bool = True,
    replace: bool = False,
    overwrite: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Train and evaluate one configuration in ``run_dir``; see :func:`run`.

    With ``resume``, a finished run of the same configuration and data is returned as it is, and an interrupted one
    continues from its last finished epoch; an interrupted one of another configuration is an error, unless ``replace``
    allows to start again. Without ``resume``, the run is made once more. A finished run stays until the new one is
    finished; it is replaced only by one of the same configuration, or with ``overwrite``. Damaged files are set
    aside, with a line each, and the run is made again. ``label`` names the run in tables; default: its model.

    Raises:
        CheckpointError: the folder holds another run.
        DataError: another process is at work in the folder, or it cannot be written.
    """
    check_one_process(config)
    described = run_record.describe(config, manifest)

    def begin() -> run_folder.Plan:
        stack.enter_context(_held(run_dir))
        return run_folder.plan(run_dir, described, resume=resume, replace=replace, overwrite=overwrite)

    with contextlib.ExitStack() as stack:
        plan = collectives.first_decides(begin)
        if plan.result is not None:
            return plan.result
        experiment, index = _started(config, manifest, plan, described), plan.folder
        if collectives.world_size() > 1 and is_closed_form(experiment):
            if not collectives.rank():
                tqdm.write(f"note: {config.model} is computed in closed form, by one process", file=sys.stderr)
            return collectives.first_decides(
                lambda: _logged_run(experiment, run_dir, index, label or config.model, command)
            )
        if collectives.rank():
            # Only the first process leaves files; what RecBole writes in the others is thrown away.
            index = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recbole-drex-")))
            config["show_progress"] = config["log_wandb"] = False
        return _logged_run(experiment, run_dir, index, label or config.model, command)


def run_trained(
    experiment: Experiment,
    run_dir: Path,
    state: dict[str, Any],
    origin: dict[str, str],
    command: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Evaluate parameters that were trained elsewhere, in ``run_dir`` as if they had been trained there.

    Args:
        experiment: with the untrained model.
        run_dir, command, overwrite: as of :func:`run_one`.
        state: ``epoch``, ``state_dict`` and ``other_parameter``, as RecBole names them in its checkpoints.
        origin: where they come from; part of what the run is, so that it is never taken for one of the same
            configuration that was trained here.

    Raises:
        CheckpointError: the parameters are those of another model or data set, or are not finite; the folder holds a
            finished run of another kind.
        DataError: another process is at work in the folder, or it cannot be written.
    """
    load_model_state(experiment.model, state, run_dir)
    _check_finite(experiment.model, run_dir)
    described = {**run_record.describe(experiment.config, experiment.manifest), "origin": origin}
    with _held(run_dir):
        plan = run_folder.plan(run_dir, described, resume=False, replace=True, overwrite=overwrite)
        index = plan.folder
        run_folder.set_aside(plan.damaged)
        run_folder.begin(index, described)
        with logging_to(index / run_folder.LOG, experiment.config):
            trainer = _resumed(experiment, index)
            trainer.keep(state["epoch"])
            result = _evaluated(experiment, index, trainer, experiment.config.model, command)
        return run_folder.seal(run_dir, index, result)


def check_one_process(config: Config) -> None:
    """Check that a configuration asks for no further processes where none are started.

    Raises:
        ConfigError: ``nproc`` is above 1, and this process is not one of several.
    """
    if config["nproc"] > 1 and not is_worker():
        raise ConfigError("parameter 'nproc' is for `recbole-drex run`: several processes train one model")


def is_closed_form(experiment: Experiment) -> bool:
    """Whether the model is computed in one go, so that there are no batches that processes could share."""
    return experiment.config["MODEL_TYPE"] == ModelType.TRADITIONAL or contract_of(experiment.model).closed_form


def train_one(
    config: Config, manifest: dict[str, Any], run_dir: Path, on_epoch: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Train one configuration in ``run_dir`` and read nothing of its test part.

    :func:`run_one` of the same configuration, folder and data evaluates it later. Interrupted training continues from
    its last finished epoch; one of another configuration in its place is replaced.

    Args:
        config, manifest, run_dir: as of :func:`run_one`.
        on_epoch: called with ``{epoch, seconds, train_loss, valid_score}`` for every validated epoch, those that were
            done before included.

    Returns:
        These of all epochs.

    Raises:
        DrexError: as :func:`run_one`.
    """
    described = run_record.describe(config, manifest)
    with _held(run_dir):
        experiment = _started(config, manifest, run_folder.unfinished_plan(run_dir, described), described)
        with logging_to(run_dir / run_folder.LOG, config):
            trainer = _resumed(experiment, run_dir)
            for entry in trainer.history:
                on_epoch(entry)
            trainer.train_model(on_epoch)
            write_json(run_dir / HISTORY, trainer.history)
            return trainer.history


def _held(run_dir: Path) -> contextlib.AbstractContextManager[None]:
    return locked(run_dir, f"the run {run_dir}", timeout=10)


def _started(config: Config, manifest: dict[str, Any], plan: run_folder.Plan, described: dict[str, Any]) -> Experiment:
    """The untrained experiment, and its folder: with what an earlier run left there, or empty but for what it is."""
    # What is wrong with the configuration or the data shows here, before an earlier run is touched.
    with stage(f"reading {config.dataset}"):
        experiment = build(config, manifest)
    if not collectives.rank():
        run_folder.set_aside(plan.damaged)
        if not plan.go_on:
            run_folder.begin(plan.folder, described)
    return experiment


def is_finished(config: Config, manifest: dict[str, Any], run_dir: Path) -> bool:
    """Whether ``run_dir`` holds a finished run of just this configuration, data and version."""
    return run_folder.is_finished(run_dir, run_record.describe(config, manifest))


def check_replaceable(config: Config, manifest: dict[str, Any], run_dir: Path) -> None:
    """As :func:`recbole_drex.experiments.run_folder.check_replaceable`, of a configuration and its data."""
    run_folder.check_replaceable(run_dir, run_record.describe(config, manifest))


def _logged_run(experiment: Experiment, run_dir: Path, index: Path, label: str, command: str) -> dict[str, Any]:
    """Make the run in ``index``, and put it into ``run_dir`` when it is finished."""
    title = f"{label} on {experiment.config.dataset}, {run_dir.name}"
    with logging_to(index / run_folder.LOG, experiment.config):
        result = _run(experiment, index, title, label, command)
    return collectives.first_decides(lambda: run_folder.seal(run_dir, index, result))


def _run(experiment: Experiment, run_dir: Path, title: str, label: str, command: str) -> dict[str, Any]:
    config, trainer = experiment.config, _resumed(experiment, run_dir)
    # `leave=None`: the bar stays where it is the only one, and gives way within a comparison.
    options: dict[str, Any] = {"unit": "epoch", "delay": 2, "leave": None, "disable": collectives.rank() > 0}
    options["bar_format"] = WITHOUT_REST
    with tqdm(total=trainer.epochs, initial=trainer.start_epoch, desc=title, **options) as bar:

        def show(entry: dict[str, Any]) -> None:
            if entry["valid_score"] is not None:
                bar.set_postfix_str(f"{config['valid_metric']} {entry['valid_score']:.4f}", refresh=False)
            bar.update(entry["epoch"] + 1 - bar.n)

        trainer.train_model(show)
        bar.update(trainer.epochs_run - bar.n)  # the last ones may not have been validated
        bar.set_postfix_str(_ending(trainer, trainer.epochs_run), refresh=False)  # a bar not yet shown stays hidden
    with stage(f"evaluating and explaining {title}"):
        return _evaluated(experiment, run_dir, trainer, label, command)


def _ending(trainer: Any, epochs: int) -> str:
    """How training ended after so many epochs; they are counted from 1."""
    ended = f"stopped early at epoch {epochs}, best" if trainer.cur_step > trainer.stopping_step else "best epoch"
    return f"{ended} {trainer.best_epoch + 1}"


def _evaluated(experiment: Experiment, run_dir: Path, trainer: Any, label: str, command: str) -> dict[str, Any]:
    """Evaluate the trained model and write what the run leaves."""
    trained = perf_counter()
    valid = trainer.evaluate_part(experiment.parts.valid)
    _compare_with_mean(experiment, valid)
    test = trainer.evaluate_part(experiment.parts.test)
    seconds = perf_counter() - trained
    command = command or shlex.join(sys.argv)
    return collectives.first_decides(lambda: finish(experiment, run_dir, trainer, valid, test, label, seconds, command))


_said: set[str] = set()


def forget_notes() -> None:
    """Begin a command: say again what an earlier one in this process has said."""
    _said.clear()


def _say(note: str) -> None:
    """Note something in the log and, once, in the terminal."""
    logging.getLogger().warning(note)
    if not collectives.rank() and note not in _said:
        _said.add(note)
        tqdm.write(f"note: {note}", file=sys.stderr)


def _compare_with_mean(experiment: Experiment, valid: Evaluation) -> None:
    """Say so if predictions of validation ratings are worse than the mean rating of the training part."""
    config = experiment.config
    if not predicts_ratings(config) or is_closed_form(experiment) or not len(valid.rows):
        return
    mean = float(experiment.parts.train_dataset.inter_feat[config["RATING_FIELD"]].double().mean())
    rating, predicted = valid.rows[:, 2], valid.rows[:, 3]
    model, constant = (float(((rating - one) ** 2).mean() ** 0.5) for one in (predicted, mean))
    if model > constant:
        _say(
            f"validation RMSE of {config['model']} is {model:.4f}, that of the mean training rating {constant:.4f}: "
            f"training diverged or ended too early. Try a lower learning_rate (currently {config['learning_rate']}), "
            "warmup_steps or more epochs"
        )


def _resumed(experiment: Experiment, run_dir: Path) -> Any:
    """The trainer, after the epochs that were done before."""
    for part in (experiment.config, experiment.dataset, experiment.model):
        logging.getLogger().info(part)
    for one in (experiment.config, experiment.dataset, experiment.model):
        for note in getattr(one, "notes", ()):
            _say(note)
    trainer = make_trainer(experiment.config, experiment.model, run_dir, experiment.parts)
    trainer.resume()
    return trainer


EVALUATION = (
    *("topk", "metrics", "candidates", "sampled_candidates", "relevance", "relevance_threshold", "gain", "ideal"),
    *("empty_user", "eval_batch_size"),
)
"""Parameters that decide how a trained model is evaluated, and nothing else."""


def load_experiment(run_dir: str | Path, evaluation: Mapping[str, Any] | None = None) -> Experiment:
    """Build a finished run again: its data, split and trained model, which predicts as it did.

    Args:
        run_dir: its folder.
        evaluation: some of :data:`EVALUATION` that are to be otherwise.

    Raises:
        ConfigError: an illegal value in ``evaluation``.
        CheckpointError: no finished run there, damaged files, or made by another version or on other data.
        DataError: the prepared data set is missing or damaged.
    """
    run_dir = Path(run_dir)
    if not (run_dir / RUN).is_file():
        raise CheckpointError(f"{run_dir} is no run folder: it has no {RUN}")
    if not (run_dir / RESULT).is_file():
        raise CheckpointError(unfinished(run_dir))
    for name in (RUN, BEST, run_folder.FITTED):
        if name != run_folder.FITTED or (run_dir / name).is_file():  # a run of an earlier version has none
            check_sum(run_dir, name)
    described = read_json(run_dir / RUN, "run", CheckpointError)
    for key, kind in _DESCRIBED.items():
        if not isinstance(described, dict) or not isinstance(described.get(key), kind):
            raise CheckpointError(
                f"{run_dir / RUN} is damaged or of another version: it has no '{key}' that is a {kind.__name__}"
            )
    root = Path(described["data_path"])
    _check_known(described["model"], run_dir)
    with _damage_of(run_dir / RUN):
        config = _as_it_was(described)
    if evaluation:
        config = Config(
            config.model, config.dataset, [], {**config.external_config_dict, **evaluation}, read_texts=False
        )
        # The epoch has been chosen, so the metric that chose it need not be there.
        config["valid_metric"] = "rmse" if predicts_ratings(config) else f"full_ndcg@{max(config['topk'])}"
    manifest = prepare(config.dataset, root, config.preparation(), Sources(), parts=config["benchmark_filename"])
    if manifest["fingerprint"] != described["fingerprint"]:
        raise CheckpointError(
            f"{run_dir} was made by version {described['version']} on data {described['fingerprint']}, "
            f"not {manifest['fingerprint']}"
        )
    experiment = _rebuilt(config, manifest, run_dir)
    load_model_state(experiment.model, checkpoint.load(run_dir / BEST, config["device"]), run_dir)
    _check_finite(experiment.model, run_dir)
    experiment.model.eval()
    experiment.folder = run_dir
    return experiment


def _check_known(model: str, run_dir: Path) -> None:
    try:
        canonical_model_name(model)
    except ConfigError as error:
        raise CheckpointError(
            f"{run_dir} is a run of the unknown model '{model}': before it is loaded, import the module that registers "
            "the model (recbole_drex.register_model)"
        ) from error


_DESCRIBED = {
    **dict.fromkeys(("model", "dataset", "data_path", "fingerprint", "version"), str),
    **dict.fromkeys(("parameters", "config"), dict),
}
"""What is read of a run's file, with its type."""


def _as_it_was(described: dict[str, Any]) -> Config:
    """The configuration of a run. Defaults may have been edited since; what they were then is part of the run."""
    model, dataset, then = described["model"], described["dataset"], described["config"]
    parameters = {**described["parameters"], "data_path": described["data_path"]}
    config = Config(model, dataset, [], parameters, read_texts=False)
    now = plain(config.final_config_dict)
    changed = {key: then[key] for key in then if key != "data_path" and now.get(key) != then[key]}
    return Config(model, dataset, [], {**parameters, **changed}, read_texts=False) if changed else config


def _rebuilt(config: Config, manifest: dict[str, Any], run_dir: Path) -> Experiment:
    """As :func:`build`, of what a run's file says, which may be anything."""
    size = (run_dir / BEST).stat().st_size

    def refuse_larger(module: torch.nn.Module, name: str, parameter: torch.Tensor | None) -> None:
        # Memory is taken when it is first written, which comes later.
        if parameter is not None and parameter.numel() > size:
            raise CheckpointError(
                f"{run_dir / RUN} describes another model than that of {BEST}: {name} has {parameter.numel():,} numbers"
            )

    hook = register_module_parameter_registration_hook(refuse_larger)
    try:
        with _damage_of(run_dir / RUN):
            with kept_from(run_dir / run_folder.FITTED):
                return build(config, manifest)
    finally:
        hook.remove()


@contextlib.contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    """Whatever is raised in the block comes of what this file says; errors of ours say so themselves."""
    try:
        yield
    except DrexError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} is damaged: no model can be made from what it says: {error!r}") from error


def _check_finite(model: torch.nn.Module, where: Path) -> None:
    """Refuse parameters and buffers from a file that are NaN or infinite."""
    for name, values in model.state_dict().items():
        if (
            values.is_floating_point()
            and not torch.isfinite(values.coalesce().values() if values.is_sparse else values).all()
        ):
            raise CheckpointError(f"the weights in {where} are NaN or infinite: {name}. Train the model again")
