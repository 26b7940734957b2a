"""The output of a run: its log, and its files after training and evaluation."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from recbole_drex.config.recbole_config import Config
from recbole_drex.errors import StorageError
from recbole_drex.experiments.run_folder import FITTED
from recbole_drex.explain.counterfactual.dispatch import explains
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.profiles.keywords import write_profiles
from recbole_drex.explain.quality import explanation_quality
from recbole_drex.explain.stored_explanations import write_explanations
from recbole_drex.explain.written_sentences import sentence_quality
from recbole_drex.model.contract import contract_of
from recbole_drex.recbole import RemoveColorFilter
from recbole_drex.results.comparison import HISTORY
from recbole_drex.results.run_result import write_interactions, write_users
from recbole_drex.training import run_record
from recbole_drex.training.run_record import Experiment
from recbole_drex.training.trainer import Evaluation
from recbole_drex.utils.files import write_json


@contextlib.contextmanager
def logging_to(path: Path, config: Config) -> Iterator[None]:
    """Write RecBole's log, which goes through the root logger, to the run's file; the terminal shows progress."""
    root = logging.getLogger()
    handler = _RunLog(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(RemoveColorFilter())
    before = root.level
    root.addHandler(handler)
    root.setLevel(str(config["state"] or "INFO").upper())
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(before)
        root.removeHandler(handler)
        with contextlib.suppress(OSError):  # has been reported when writing failed
            handler.close()


class _RunLog(logging.FileHandler):
    """Ends the run when its log cannot be written, where logging would print a traceback and continue."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        raise StorageError(f"cannot write {self.baseFilename}: {error}") from error


def finish(
    experiment: Experiment,
    run_dir: Path,
    trainer: Any,
    valid: Evaluation,
    test: Evaluation,
    label: str,
    seconds: float,
    command: str,
) -> dict[str, Any]:
    """Write the files of a finished run except the result file; returns the content of that file."""
    config, logger = experiment.config, logging.getLogger()
    result = run_record.result(experiment, label, trainer, valid, test, seconds, command)
    write_interactions(run_dir, run_record.interactions(experiment, valid, test))
    write_users(run_dir, run_record.users(experiment, trainer.eval_collector.data_struct, test))
    write_json(run_dir / HISTORY, trainer.history)
    contract_of(experiment.model).write_fitted(run_dir / FITTED)
    if explains(experiment.model) and (config["explained_users"] or config["measured_users"]):
        started = perf_counter()
        result |= _explain(experiment, run_dir)
        result["seconds"]["explain"] = perf_counter() - started
    if contract_of(experiment.model).writes and config["measured_sentences"]:
        started = perf_counter()
        if (measured := sentence_quality(experiment, config["measured_sentences"], config["seed"])) is not None:
            result["sentences"] = measured
        result["seconds"]["sentences"] = perf_counter() - started
    logger.info("test result: %s", json.dumps(result["test"]))
    trainer.tensorboard.close()
    return result


def _explain(experiment: Experiment, run_dir: Path) -> dict[str, Any]:
    """Write explained recommendations and profiles to ``run_dir``; returns their entries in the result file."""
    config, explainer = experiment.config, Explainer(experiment, quotes=2, word_effects=True)
    if config["explained_users"]:
        if explainer.keywords is not None:
            write_profiles(explainer.keywords, run_dir)
        write_explanations(explainer.explain_users(config["explained_users"]), run_dir)
    measured = (
        explanation_quality(explainer, config["measured_users"], config["seed"]) if config["measured_users"] else []
    )
    return {"explanations": measured} if measured else {}
