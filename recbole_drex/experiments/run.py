"""One run: builds, trains and evaluates it in its folder, and loads it from there."""

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
from recbole_drex.config.recbole_settings import COLD_ITEMS
from recbole_drex.data.dataset import ReviewDataset
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.splits import settle_relevance, split
from recbole_drex.errors import CheckpointError, ConfigError, DrexError
from recbole_drex.evaluation.metrics import check_valid_metric, predicts_ratings
from recbole_drex.experiments import run_folder
from recbole_drex.experiments.outputs import finish, logging_to
from recbole_drex.experiments.source_training import learn_from_source
from recbole_drex.model.contract import contract_of
from recbole_drex.parallel import collectives
from recbole_drex.parallel.launch import is_worker
from recbole_drex.recbole import ModelType, init_seed
from recbole_drex.registry import canonical_model_name
from recbole_drex.results.comparison import HISTORY, RUN, unfinished
from recbole_drex.results.run_result import RESULT
from recbole_drex.training import run_record
from recbole_drex.training.run_record import Experiment, plain
from recbole_drex.training.trainer import BEST, LAST, Evaluation, load_model_state, make_trainer
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
    # Otherwise threads that share a sum (gradients of indexing) would add in random order. Filling new memory, which
    # this setting also enables, only costs time.
    torch.use_deterministic_algorithms(bool(config["reproducibility"]), warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    for key, value in run_record.settled(manifest).items():
        config[key] = value
    check_valid_metric(config)
    started = perf_counter()
    dataset = ReviewDataset(config)
    settle_relevance(config, dataset)
    parts = split(config, dataset)
    loaded = perf_counter()
    # Seeded again, so that the initial parameters do not depend on how the data were shuffled.
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, parts.train_dataset).to(config["device"])
    if COLD_ITEMS in config["eval_args"]["split"]:
        _clear_new_items(model, parts.train_dataset)
    return_freed_memory()  # loading and fitting need more memory than training
    seconds = {"load": loaded - started, "build": perf_counter() - loaded}
    return Experiment(config, manifest, dataset, parts, model, seconds=seconds)


def _clear_new_items(model: torch.nn.Module, train: ReviewDataset) -> None:
    """Set the embeddings of items without training rows to 0: random numbers must not decide predictions."""
    new = torch.ones(train.item_num, dtype=torch.bool)
    new[train.inter_feat[train.iid_field].long()] = False
    for name, module in model.named_modules():
        # Names matter only if there are as many users as items; lists of two have the users first.
        of_items = train.item_num != train.user_num or "item" in name or name.endswith(".1")
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == train.item_num and of_items:
            with torch.no_grad():
                module.weight[new.to(module.weight.device)] = 0.0


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

    With ``resume``, a finished run of the same configuration and data is returned, and an interrupted run continues
    from its last finished epoch; an interrupted run of another configuration is an error, unless ``replace`` is set.
    Without ``resume``, the run is repeated. A finished run is kept until the new one is finished; it is replaced only
    by a run of the same configuration, or with ``overwrite``. Damaged files are renamed, with a message each, and the
    run is repeated. ``label`` names the run in tables; default: its model.

    Raises:
        CheckpointError: the folder has another run.
        DataError: another process uses the folder, or it cannot be written.
    """
    check_one_process(config)
    described = run_record.describe(config, manifest)

    def begin() -> run_folder.Plan:
        stack.enter_context(_locked(run_dir))
        return run_folder.plan(run_dir, described, resume=resume, replace=replace, overwrite=overwrite)

    with contextlib.ExitStack() as stack:
        plan = collectives.first_decides(begin)
        if plan.result is not None:
            return plan.result
        experiment, folder = _started(config, manifest, plan, described), plan.folder
        if collectives.world_size() > 1 and is_closed_form(experiment):
            if not collectives.rank():
                tqdm.write(f"note: {config.model} is computed in closed form, by one process", file=sys.stderr)
            return collectives.first_decides(
                lambda: _logged_run(experiment, run_dir, folder, label or config.model, command)
            )
        if collectives.rank():
            # Only the files of the first process are kept; those of the others go to a temporary folder.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recbole-drex-")))
            config["show_progress"] = config["log_wandb"] = False
        return _logged_run(experiment, run_dir, folder, label or config.model, command)


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
        run_dir, command, overwrite: as for :func:`run_one`.
        state: ``epoch``, ``state_dict`` and ``other_parameter``, as in RecBole's checkpoints.
        origin: source of the parameters; part of the run's identity, so that it differs from a run of the same
            configuration that was trained here.

    Raises:
        CheckpointError: the parameters belong to another model or data set, or are not finite; the folder has another
            finished run.
        DataError: another process uses the folder, or it cannot be written.
    """
    load_model_state(experiment.model, state, run_dir)
    _check_finite(experiment.model, run_dir)
    described = {**run_record.describe(experiment.config, experiment.manifest), "origin": origin}
    with _locked(run_dir):
        plan = run_folder.plan(run_dir, described, resume=False, replace=True, overwrite=overwrite)
        folder = plan.folder
        run_folder.set_aside(plan.damaged)
        run_folder.begin(folder, described)
        with logging_to(folder / run_folder.LOG, experiment.config):
            trainer = _resumed(experiment, folder)
            trainer.keep(state["epoch"])
            result = _evaluated(experiment, folder, trainer, experiment.config.model, command)
        return run_folder.seal(run_dir, folder, result)


def check_one_process(config: Config) -> None:
    """Check that a configuration does not ask for several processes where they are not supported.

    Raises:
        ConfigError: ``nproc`` is above 1, and this process is not one of several.
    """
    if config["nproc"] > 1 and not is_worker():
        raise ConfigError("parameter 'nproc' is for `recbole-drex run`: several processes train one model")


def is_closed_form(experiment: Experiment) -> bool:
    """Whether the model is computed in closed form, so that there are no batches that processes could share."""
    return experiment.config["MODEL_TYPE"] == ModelType.TRADITIONAL or contract_of(experiment.model).closed_form


def train_one(
    config: Config, manifest: dict[str, Any], run_dir: Path, on_epoch: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Train one configuration in ``run_dir`` without reading its test part.

    :func:`run_one` with the same configuration, folder and data evaluates it later. Interrupted training continues from
    its last finished epoch; an interrupted run of another configuration is replaced.

    Args:
        config, manifest, run_dir: as for :func:`run_one`.
        on_epoch: called with ``{epoch, seconds, train_loss, valid_score}`` for every validated epoch, including those
            of an interrupted training.

    Returns:
        These dictionaries of all epochs.

    Raises:
        DrexError: as :func:`run_one`.
    """
    described = run_record.describe(config, manifest)
    with _locked(run_dir):
        experiment = _started(config, manifest, run_folder.unfinished_plan(run_dir, described), described)
        with logging_to(run_dir / run_folder.LOG, config):
            trainer = _resumed(experiment, run_dir)
            for entry in trainer.history:
                on_epoch(entry)
            trainer.train_model(on_epoch)
            write_json(run_dir / HISTORY, trainer.history)
            return trainer.history


def _locked(run_dir: Path) -> contextlib.AbstractContextManager[None]:
    return locked(run_dir, f"the run {run_dir}", timeout=10)


def _started(config: Config, manifest: dict[str, Any], plan: run_folder.Plan, described: dict[str, Any]) -> Experiment:
    """The untrained experiment; its folder is prepared for a new run, unless an unfinished run is continued."""
    # Errors in the configuration or the data are raised here, before an earlier run is changed.
    with stage(f"reading {config.dataset}"):
        experiment = build(config, manifest)
    if config["source"] and not (plan.continues and (plan.folder / LAST).is_file()):
        for note in learn_from_source(experiment):
            _note(note)
    if not collectives.rank():
        run_folder.set_aside(plan.damaged)
        if not plan.continues:
            run_folder.begin(plan.folder, described)
    return experiment


def is_finished(config: Config, manifest: dict[str, Any], run_dir: Path) -> bool:
    """Whether ``run_dir`` has a finished run of this configuration, data and version."""
    return run_folder.is_finished(run_dir, run_record.describe(config, manifest))


def check_replaceable(config: Config, manifest: dict[str, Any], run_dir: Path) -> None:
    """As :func:`recbole_drex.experiments.run_folder.check_replaceable`, for a configuration and its data."""
    run_folder.check_replaceable(run_dir, run_record.describe(config, manifest))


def _logged_run(experiment: Experiment, run_dir: Path, folder: Path, label: str, command: str) -> dict[str, Any]:
    """Make the run in ``folder``, and move it to ``run_dir`` when it is finished."""
    title = f"{label} on {experiment.config.dataset}, {run_dir.name}"
    with logging_to(folder / run_folder.LOG, experiment.config):
        result = _run(experiment, folder, title, label, command)
    return collectives.first_decides(lambda: run_folder.seal(run_dir, folder, result))


def _run(experiment: Experiment, run_dir: Path, title: str, label: str, command: str) -> dict[str, Any]:
    config, trainer = experiment.config, _resumed(experiment, run_dir)
    # `leave=None`: the bar is removed only within the bar of a comparison.
    options: dict[str, Any] = {"unit": "epoch", "delay": 2, "leave": None, "disable": collectives.rank() > 0}
    options["bar_format"] = WITHOUT_REST
    with tqdm(total=trainer.epochs, initial=trainer.start_epoch, desc=title, **options) as bar:

        def show(entry: dict[str, Any]) -> None:
            if entry["valid_score"] is not None:
                bar.set_postfix_str(f"{config['valid_metric']} {entry['valid_score']:.4f}", refresh=False)
            bar.update(entry["epoch"] + 1 - bar.n)

        trainer.train_model(show)
        bar.update(trainer.epochs_run - bar.n)  # the last epochs may not have been validated
        bar.set_postfix_str(_ending(trainer, trainer.epochs_run), refresh=False)  # a bar not yet shown stays hidden
    with stage(f"evaluating and explaining {title}"):
        return _evaluated(experiment, run_dir, trainer, label, command)


def _ending(trainer: Any, epochs: int) -> str:
    """How training ended after ``epochs`` epochs, counted from 1."""
    ended = f"stopped early at epoch {epochs}, best" if trainer.cur_step > trainer.stopping_step else "best epoch"
    return f"{ended} {trainer.best_epoch + 1}"


def _evaluated(experiment: Experiment, run_dir: Path, trainer: Any, label: str, command: str) -> dict[str, Any]:
    """Evaluate the trained model and write the files of the run."""
    trained = perf_counter()
    valid = trainer.evaluate_part(experiment.parts.valid)
    _compare_with_mean(experiment, valid)
    test = trainer.evaluate_part(experiment.parts.test)
    seconds = perf_counter() - trained
    command = command or shlex.join(sys.argv)
    return collectives.first_decides(lambda: finish(experiment, run_dir, trainer, valid, test, label, seconds, command))


_shown: set[str] = set()


def forget_notes() -> None:
    """Show notes again that an earlier command in this process has shown."""
    _shown.clear()


def _note(note: str) -> None:
    """Write a note to the log and, once, to the terminal."""
    logging.getLogger().warning(note)
    if not collectives.rank() and note not in _shown:
        _shown.add(note)
        tqdm.write(f"note: {note}", file=sys.stderr)


def _compare_with_mean(experiment: Experiment, valid: Evaluation) -> None:
    """Warn if predictions of validation ratings are worse than the mean rating of the training part."""
    config = experiment.config
    if not predicts_ratings(config) or is_closed_form(experiment) or not len(valid.rows):
        return
    mean = float(experiment.parts.train_dataset.inter_feat[config["RATING_FIELD"]].double().mean())
    rating, predicted = valid.rows[:, 2], valid.rows[:, 3]
    model, constant = (float(((rating - one) ** 2).mean() ** 0.5) for one in (predicted, mean))
    if model > constant:
        _note(
            f"validation RMSE of {config['model']} is {model:.4f}, that of the mean training rating {constant:.4f}: "
            f"training diverged or ended too early. Try a lower learning_rate (currently {config['learning_rate']}), "
            "warmup_steps or more epochs"
        )


def _resumed(experiment: Experiment, run_dir: Path) -> Any:
    """The trainer, continuing after the epochs that are already done."""
    for part in (experiment.config, experiment.dataset, experiment.model):
        logging.getLogger().info(part)
    for one in (experiment.config, experiment.dataset, experiment.model):
        for note in getattr(one, "notes", ()):
            _note(note)
    trainer = make_trainer(experiment.config, experiment.model, run_dir, experiment.parts)
    trainer.resume()
    return trainer


EVALUATION = (
    *("topk", "metrics", "candidates", "mask", "sampled_candidates", "relevance", "relevance_threshold", "gain"),
    *("ideal", "empty_user", "eval_batch_size"),
)
"""Parameters that affect only the evaluation of a trained model."""


def load_experiment(run_dir: str | Path, evaluation: Mapping[str, Any] | None = None) -> Experiment:
    """Load a finished run: its data, split and trained model.

    Args:
        run_dir: its folder.
        evaluation: changed values of parameters in :data:`EVALUATION`.

    Raises:
        ConfigError: an illegal value in ``evaluation``.
        CheckpointError: no finished run, damaged files, or a run of another version or on other data.
        DataError: the prepared data set is missing or damaged.
    """
    run_dir = Path(run_dir)
    if not (run_dir / RUN).is_file():
        raise CheckpointError(f"{run_dir} is not a run folder: it has no {RUN}")
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
    with _blaming(run_dir / RUN):
        config = _stored_config(described)
    if evaluation:
        config = Config(
            config.model, config.dataset, [], {**config.external_config_dict, **evaluation}, read_texts=False
        )
        # The epoch is already selected, so the metric that selected it need not exist.
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
"""Keys that are read from a run's file, with their types."""


def _stored_config(described: dict[str, Any]) -> Config:
    """The configuration of a run, with the defaults of that time, which may have changed since."""
    model, dataset, then = described["model"], described["dataset"], described["config"]
    parameters = {**described["parameters"], "data_path": described["data_path"]}
    config = Config(model, dataset, [], parameters, read_texts=False)
    now = plain(config.final_config_dict)
    changed = {key: then[key] for key in then if key != "data_path" and now.get(key) != then[key]}
    return Config(model, dataset, [], {**parameters, **changed}, read_texts=False) if changed else config


def _rebuilt(config: Config, manifest: dict[str, Any], run_dir: Path) -> Experiment:
    """As :func:`build`, for a run's file, which is not trusted."""
    size = (run_dir / BEST).stat().st_size

    def refuse_larger(module: torch.nn.Module, name: str, parameter: torch.Tensor | None) -> None:
        # At this point the memory is not yet used; it is when it is first written.
        if parameter is not None and parameter.numel() > size:
            raise CheckpointError(
                f"{run_dir / RUN} describes another model than that of {BEST}: {name} has {parameter.numel():,} numbers"
            )

    hook = register_module_parameter_registration_hook(refuse_larger)
    try:
        with _blaming(run_dir / RUN):
            with kept_from(run_dir / run_folder.FITTED):
                return build(config, manifest)
    finally:
        hook.remove()


@contextlib.contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Report any error in the block as damage of this file, except our own errors, which are precise."""
    try:
        yield
    except DrexError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} is damaged: no model can be built from its content: {error!r}") from error


def _check_finite(model: torch.nn.Module, where: Path) -> None:
    """Refuse parameters and buffers from a file that are NaN or infinite."""
    for name, values in model.state_dict().items():
        if (
            values.is_floating_point()
            and not torch.isfinite(values.coalesce().values() if values.is_sparse else values).all()
        ):
            raise CheckpointError(f"the weights in {where} are NaN or infinite: {name}. Train the model again")
