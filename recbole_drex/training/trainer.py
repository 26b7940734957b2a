"""RecBole's trainer, with checkpoints that are safe to load, resume from the last epoch, and our evaluation."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from recbole_drex.analysis.comparable import LEAST_SHARE, order_share
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.splits import EvaluationLoaders, SplitParts
from recbole_drex.errors import CheckpointError, ConfigError, unknown_name
from recbole_drex.evaluation.collector import ReviewCollector
from recbole_drex.evaluation.metrics import PREFIXES, ReviewEvaluator
from recbole_drex.model.contract import contract_of
from recbole_drex.parallel import collectives
from recbole_drex.recbole import EvaluatorType, get_trainer, metric_types, recbole_trainer
from recbole_drex.utils import checkpoint
from recbole_drex.utils.allocator import return_freed_memory

_DIVERGED = (
    "training of {model} diverged: the loss or a prediction is NaN or infinite. "
    "Try a lower learning_rate (currently {rate})"
)
BEST, LAST = "model.safetensors", "last.safetensors"


@dataclasses.dataclass
class Evaluation:
    """Result of one pass over a part.

    Attributes:
        metrics: RecBole's flat names to values.
        rows: float64 array of shape (n, 4 or 8): internal user, internal item, rating, score of each rated row, and,
            for models that predict a distribution, its median, P(rating >= threshold), standard deviation, and the
            probability of the rating.
        full: float64 array of shape (n, 5 or 6): user, item, rating, rank, ties, and the sampled rank if configured.
    """

    metrics: dict[str, float]
    rows: np.ndarray
    full: np.ndarray


class _SafeTrainer(recbole_trainer.Trainer):
    """Mixin for the trainer that RecBole chooses for a model; see :func:`make_trainer`."""

    def __init__(self, config: Config, model: torch.nn.Module, run_dir: Path, parts: SplitParts):
        config["checkpoint_dir"] = str(run_dir)  # RecBole would create a folder `saved` in the working directory
        with _tensorboard_in(run_dir / "tensorboard"):
            super().__init__(config, model)
        if contract_of(model).closed_form:
            self.epochs = 1
        if config["warmup_steps"]:
            _warm_up(self.optimizer, config["warmup_steps"])
        self.run_dir, self.parts = run_dir, parts
        self.saved_model_file = str(run_dir / BEST)
        self.eval_collector, self.evaluator = ReviewCollector(config), ReviewEvaluator(config)
        self.eval_collector.data_collect(parts.train)
        self.history: list[dict[str, Any]] = []
        self.best_epoch, self.processes = -1, collectives.world_size()
        self._epoch_seconds = self.validate_seconds = 0.0  # of the current epoch; of all validations
        self._after_epoch: Callable[[int, float | None], None] | None = None
        if self.processes > 1:
            model.calculate_loss = self._of_own_rows(model.calculate_loss)  # type: ignore[assignment, arg-type]

    # Evaluation -------------------------------------------------------------------------------------------------

    def _validation_loader(self):
        """The cheapest loader from which the stopping metric can be computed."""
        if self.parts.valid is None:
            return None
        name = self.valid_metric.partition("@")[0]
        theirs = name.startswith(PREFIXES["recbole"])
        ranked = theirs and metric_types[name.removeprefix(PREFIXES["recbole"])] == EvaluatorType.RANKING
        return self.parts.valid.full if ranked or name.startswith(("full_", "sampled_")) else self.parts.valid.rows

    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        """As in RecBole, but the best model is read from a safe checkpoint."""
        if load_best_model:
            self.load_best(model_file)
        if collectives.world_size() > 1:
            self.model.eval()
            contract_of(self.model).make_ready()
        self.eval_collector.watch(eval_data._dataset)
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    def evaluate_part(self, loaders: EvaluationLoaders | None) -> Evaluation:
        """Evaluate the current model on both loaders of a part; empty for an absent part."""
        if loaders is None:
            return Evaluation({}, np.empty((0, 4)), np.empty((0, 5)))
        metrics: dict[str, float] = {}
        self.eval_collector.lists = True  # validation during training does without
        for loader in loaders:
            metrics.update(self.evaluate(loader, load_best_model=False))
        self.eval_collector.lists = False
        return Evaluation(metrics, **self.eval_collector.tables)

    def _full_sort_batch_eval(self, batched_data):
        """As in RecBole, but a user's evidence is not scored exactly: it is masked here, or by the collector if it has
        no rating."""
        interaction, masked, positive_u, positive_i = batched_data
        offered = contract_of(self.model)
        with torch.no_grad():
            rows = [offered.predict_unknown(user) for user in interaction[self.config["USER_ID_FIELD"]].tolist()]
        known = [row for row in rows if row is not None]
        if masked is None or len(known) < len(rows):
            return super()._full_sort_batch_eval(batched_data)
        scores = torch.stack(known)
        scores[:, 0] = -np.inf
        scores[masked] = -np.inf
        return interaction, scores, positive_u, positive_i

    def _neg_sample_batch_eval(self, batched_data):
        interaction = batched_data[0].to(self.device)
        scores = self.model.predict(interaction)
        self.eval_collector.distribution = contract_of(self.model).predict_distribution(interaction)
        if not torch.isfinite(scores).all():
            raise ConfigError(_DIVERGED.format(model=self.config["model"], rate=self.config["learning_rate"]))
        return interaction, scores, None, None

    def _check_nan(self, loss):
        if torch.isnan(loss):
            raise ConfigError(_DIVERGED.format(model=self.config["model"], rate=self.config["learning_rate"]))

    def _valid_epoch(self, valid_data, show_progress=False):
        started = perf_counter()
        result = self.evaluate(valid_data, load_best_model=False, show_progress=show_progress)
        if self.valid_metric not in result:
            raise ConfigError(unknown_name("value of 'valid_metric':", self.valid_metric, result))
        share = order_share(result, self.valid_metric)
        if share is not None and share < LEAST_SHARE:
            remedy = "rmse" if "rmse" in result else "full_ndcg@10"
            users = f"{share:.0%} of users only" if share else "no user"
            raise ConfigError(
                f"valid_metric '{self.valid_metric}' cannot select an epoch: the order of the own validation items "
                f"makes a difference for {users}; use valid_metric: {remedy}"
            )
        return_freed_memory()
        self.validate_seconds += perf_counter() - started
        # All processes compute it from the same tables; the first decides, since machines may round differently.
        return collectives.first_decides(lambda: (result[self.valid_metric], result))

    # Checkpoints ------------------------------------------------------------------------------------------------

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        self.best_epoch = epoch
        if not collectives.rank():
            checkpoint.save(
                kwargs.get("saved_model_file", self.saved_model_file),
                {"model": self.config["model"], "epoch": epoch, **self._model_state()},
            )
        if self.parts.valid is None and self._after_epoch:  # RecBole calls back only after a validation
            self._after_epoch(epoch, None)

    def save_pretrained_model(self, epoch, saved_model_file):
        """Save the result of a pretraining stage, which RecBole pickles into a file with the epoch in its name."""
        self._save_checkpoint(epoch)

    def keep(self, epoch: int) -> None:
        """Save the current parameters as those of the best epoch."""
        self._save_checkpoint(epoch)

    def _model_state(self) -> dict[str, Any]:
        return {"state_dict": dict(self.model.state_dict()), "other_parameter": self.model.other_parameter()}

    def load_best(self, model_file: str | Path | None = None) -> None:
        """Load the parameters that were best on validation."""
        state = self._read(model_file or self.saved_model_file)
        self.best_epoch = state["epoch"]
        load_model_state(self.model, state, self.run_dir)

    def _read(self, path: str | Path) -> dict[str, Any]:
        """A checkpoint; the first process reads the file, which the others need not have."""
        device = self.device if self.processes == 1 else "cpu"
        return collectives.first_decides(lambda: checkpoint.load(path, device))

    def _save_last(self, epoch: int) -> None:
        """Everything that the next epoch depends on, so that a resumed run equals an uninterrupted one."""
        if collectives.rank():
            return
        state = {
            "model": self.config["model"],
            "epoch": epoch,
            "best_epoch": self.best_epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": dict(self.best_valid_result or {}),
            "validate_seconds": self.validate_seconds,
            "optimizer": self.optimizer.state_dict(),
            "random": {
                "python": random.getstate(),
                "numpy": np.random.get_state(),  # noqa: NPY002  (RecBole samples from the global state)
                "torch": torch.get_rng_state(),
                "loader": self.parts.train.generator.get_state(),
            },
            "history": self.history,
            **self._model_state(),
        }
        checkpoint.save(self.run_dir / LAST, state)

    def resume(self) -> bool:
        """Continue from the last finished epoch; returns whether there is one."""
        if not collectives.first_decides(lambda: (self.run_dir / LAST).is_file()):
            return False
        state = self._read(self.run_dir / LAST)
        load_model_state(self.model, state, self.run_dir)
        self.optimizer.load_state_dict(state["optimizer"])
        self.start_epoch, self.cur_step = state["epoch"] + 1, state["cur_step"]
        self.best_valid_score, self.best_valid_result = state["best_valid_score"], state["best_valid_result"]
        self.best_epoch, self.history = state["best_epoch"], state["history"]
        self.validate_seconds = state.get("validate_seconds", 0.0)  # absent in checkpoints of earlier versions
        randomness = state["random"]
        random.setstate(randomness["python"])
        np.random.set_state(randomness["numpy"])  # noqa: NPY002
        torch.set_rng_state(randomness["torch"].cpu())
        self.parts.train.generator.set_state(randomness["loader"].cpu())
        return True

    # Training ---------------------------------------------------------------------------------------------------

    def train_model(self, on_epoch: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Train until validation stops improving or ``epochs`` are done, then load the best epoch.

        Without a validation part, all ``epochs`` are trained, and the last epoch counts as the best.

        Args:
            on_epoch: called after each validated epoch with ``{epoch, seconds, train_loss, valid_score}``.
        """

        def after_epoch(epoch: int, score: float | None) -> None:
            loss, score = self.train_loss_dict.get(epoch), None if score is None else float(score)
            entry = {"epoch": epoch, "seconds": self._epoch_seconds, "train_loss": loss, "valid_score": score}
            self.history.append(entry)
            self._save_last(epoch)
            if on_epoch:
                on_epoch(entry)

        finished = self.cur_step > self.stopping_step or self.start_epoch >= self.epochs
        if not (finished and self.history):
            self._after_epoch = after_epoch
            self.fit(
                self.parts.train,
                self._validation_loader(),
                callback_fn=after_epoch,
                show_progress=self.config["show_progress"],
            )
            self._after_epoch = None
        if self.best_epoch < 0 and self.train_loss_dict:
            self.keep(max(self.train_loss_dict))  # a pretraining stage with fewer epochs than RecBole's `save_step`
        self.tensorboard.flush()
        self.load_best()

    @property
    def epochs_run(self) -> int:
        """Number of trained epochs, including those before an interruption."""
        return max(self.train_loss_dict, default=self.start_epoch - 1) + 1

    def _train_epoch(self, train_data, epoch_idx, *args, **kwargs):
        started = perf_counter()
        contract_of(self.model).before_epoch(epoch_idx)
        collectives.align(self.model, self.config["seed"], epoch_idx)
        try:
            loss = collectives.total(super()._train_epoch(train_data, epoch_idx, *args, **kwargs))
        except RuntimeError as error:
            if not self.enable_amp:
                raise
            raise ConfigError(f"{self.config['model']} cannot be trained with enable_amp: {error}") from error
        except KeyError as error:
            sampled = (self.config["NEG_PREFIX"] + self.config["ITEM_ID_FIELD"], self.config["LABEL_FIELD"])
            if self.config["train_neg_sample_args"]["distribution"] != "none" or error.args[0] not in sampled:
                raise
            raise ConfigError(
                f"{self.config['model']} learns from sampled items: train_neg_sample_args must not be empty; leave it "
                "out, or write {distribution: uniform, sample_num: 1}"
            ) from error
        self._epoch_seconds = perf_counter() - started
        return_freed_memory()  # training and validation allocate different sizes, and both would stay
        return loss

    def _of_own_rows(self, loss_of: Callable[..., Any]) -> Callable[..., Any]:
        """``loss_of`` on this process's share of each batch; gradients are summed over the processes.

        Losses are weighted by their share of the rows, so their sum over the processes is the loss of the batch.
        """
        # RecBole repeats the targets of a batch once for every sampled item.
        blocks = getattr(self.parts.train, "times", 1)

        def loss(batch, *args, **kwargs):
            rows, share = collectives.own_rows(batch, blocks)
            losses = loss_of(rows, *args, **kwargs)
            first, *others = (share * part for part in (losses if isinstance(losses, tuple) else (losses,)))
            first = collectives.anchored(first)
            collectives.when_backward_is_done(first, lambda: collectives.sum_gradients(self.model.parameters()))
            return (first, *others) if isinstance(losses, tuple) else first

        return loss


def load_model_state(model: torch.nn.Module, state: dict[str, Any], where: Path) -> None:
    """Load the parameters of a checkpoint into a model.

    Raises:
        CheckpointError: they belong to another model or data set.
    """
    try:
        model.load_state_dict(OrderedDict(state["state_dict"]))
    except (RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"the checkpoint in {where} is of another model or data set: {error}") from error
    model.load_other_parameter(state["other_parameter"])  # type: ignore[operator]


def _warm_up(optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Increase the learning rate linearly over the first ``steps`` steps; the optimizer's checkpoint has the progress.

    The first steps of Adam have the size of the learning rate in every parameter, however small the gradient.
    """
    for group in optimizer.param_groups:
        group["full_lr"], group["steps"] = group["lr"], 0

    def before_step(stepping: torch.optim.Optimizer, *_: Any) -> None:
        for group in stepping.param_groups:
            group["steps"] += 1
            group["lr"] = group["full_lr"] * min(1.0, group["steps"] / steps)

    optimizer.register_step_pre_hook(before_step)


@contextlib.contextmanager
def _tensorboard_in(folder: Path) -> Iterator[None]:
    """RecBole's trainer writes TensorBoard events to the working directory; write them to the run's folder instead."""
    original = recbole_trainer.get_tensorboard
    recbole_trainer.get_tensorboard = lambda logger: SummaryWriter(str(folder))
    try:
        yield
    finally:
        recbole_trainer.get_tensorboard = original


def make_trainer(config: Config, model: torch.nn.Module, run_dir: Path, parts: SplitParts):
    """The trainer that RecBole chooses for this model, with safe checkpoints."""
    chosen = get_trainer(config["MODEL_TYPE"], config["model"])
    return type(f"Safe{chosen.__name__}", (_SafeTrainer, chosen), {})(config, model, run_dir, parts)
