"""The library's interface: train models, and get recommendations, predictions and explanations from a trained one."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.experiments import quick_start
from recbole_drex.experiments.outputs import logging_to
from recbole_drex.experiments.run import EVALUATION, load_experiment
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation_text import Explanation, html_table
from recbole_drex.explain.recommender import Recommender
from recbole_drex.model.output_parameters import OUTPUTS
from recbole_drex.results.comparison import Run, read_run
from recbole_drex.training.run_record import Experiment, result_of_parts
from recbole_drex.training.trainer import make_trainer

_SHOWN = ("mae", "rmse", "ndcg@10", "full_ndcg@10")
_NAMED = 5  # unknown users or items, at most, in a message


class TrainedRun(Run):
    """A trained model with its data and its results.

    It is returned by :func:`run` and :func:`load`. The model is loaded when it is first needed. ``run["test"]`` is
    short for ``run.result["test"]``.

    Attributes:
        folder: folder of its files.
        result: contents of ``result.json``.
        references: runs of the reference models that were trained by the same call.

    Example:
        >>> run.recommend("user_03", k=2).columns.tolist()
        ['item_id', 'title', 'predicted']
        >>> print(run)
        <DReX on small, seed 2026: mae ...>
    """

    references: tuple[TrainedRun, ...]

    def __init__(self, folder: str | Path, result: dict[str, Any], references: Sequence[TrainedRun] = ()):
        super().__init__(Path(folder), result)
        object.__setattr__(self, "references", tuple(references))  # as a frozen dataclass does

    @cached_property
    def experiment(self) -> Experiment:
        """The configuration, the data, their split and the trained model.

        Raises:
            CheckpointError, DataError: files of the run or its prepared data are missing or damaged.
        """
        return load_experiment(self.folder)

    @cached_property
    def recommender(self) -> Recommender:
        """Finds users and items by name, and the best items of a user."""
        return Recommender(self.experiment)

    @cached_property
    def explainer(self) -> Explainer:
        """Explains predictions.

        Raises:
            DataError: the model has no explanations.
        """
        return Explainer(self.experiment)

    # Output of the model ----------------------------------------------------------------------------------------

    def recommend(self, user: str, k: int = 10) -> pd.DataFrame:
        """The ``k`` best items that a user has not interacted with, the best first; fewer if fewer are left.

        Args:
            user: as named in the data.
            k: number of items, 1 or more.

        Returns:
            ``item_id``, ``title`` (empty if the data have none), and ``predicted`` (a rating) or, for models that rank,
            ``score``.

        Raises:
            DataError: no such user.
            ConfigError: ``k`` is not positive.

        Example:
            >>> list(run.recommend("user_03", k=2).columns)
            ['item_id', 'title', 'predicted']
        """
        check_length(k)
        return self.recommender.table([self.recommender.user_id(str(user))], k).drop(columns="user_id")

    def predict(self, pairs: pd.DataFrame | Iterable[tuple[str, str]]) -> pd.Series:
        """Predicted ratings of pairs, or scores of models that rank.

        Args:
            pairs: a data frame with the columns ``user_id`` and ``item_id`` (or the names in RecBole's
                ``USER_ID_FIELD`` and ``ITEM_ID_FIELD``), or pairs ``(user, item)``.

        Returns:
            One value per pair, with the index of the data frame: ``frame["predicted"] = run.predict(frame)``.

        Raises:
            DataError: users or items that are not in the data, or a column that is missing.

        Example:
            >>> run.predict([("user_03", "game_07"), ("user_05", "game_07")]).name
            'predicted'
        """
        names, fields = self.recommender, [self.experiment.dataset.uid_field, self.experiment.dataset.iid_field]
        if not isinstance(pairs, pd.DataFrame):
            listed = [tuple(pair) for pair in pairs]
            if any(len(pair) != 2 for pair in listed):
                raise DataError("pairs are (user, item), or a data frame with the columns " + " and ".join(fields))
            pairs = pd.DataFrame(listed, columns=fields)
        if missing := [field for field in fields if field not in pairs]:
            raise DataError(f"the pairs have no column '{missing[0]}', but {', '.join(map(repr, pairs)) or 'none'}")
        ids = {}
        for kind, field in zip(("user", "item"), fields, strict=True):
            known = names.ids(kind)
            indices = pairs[field].astype(str).map(known)
            if indices.isna().any():
                unknown = pairs[field][indices.isna()].astype(str).unique().tolist()
                raise DataError(f"{kind}s of the pairs that are not in the data: {some_of(unknown)}")
            ids[kind] = indices.astype(np.int64).tolist()
        return pd.Series(names.predict(ids["user"], ids["item"]), index=pairs.index, name=names.value)

    def explain(self, user: str, item: str | None = None, k: int = 3) -> Explanation:
        """Recommend ``k`` items to a user and explain them; or explain one item, recommended or not.

        ``print`` shows the explanation as text.

        Raises:
            DataError: no such user or item, or the model has no explanations.
            ConfigError: ``k`` is not positive.

        Example:
            >>> explanation = run.explain("user_03", k=1)
            >>> str(explanation).startswith("User user_03, average rating")
            True
        """
        check_length(k)
        if item is None:
            return self.explainer.explain(str(user), k)
        return self.explainer.explain_pair(str(user), str(item))

    # Evaluation -------------------------------------------------------------------------------------------------

    def table(self, candidates: str | None = None) -> pd.DataFrame:
        """Metrics on the test part: one row each for this run, its references, a random order and the best order.

        Args:
            candidates: ``own_test``, ``full`` or ``sampled``; default: as in the run.

        Raises:
            ConfigError: the run has no such metrics.

        Example:
            >>> run.table().index.tolist()
            ['DReX', 'Random', 'Oracle']
        """
        return metrics_table([self.result, *(run.result for run in self.references)], candidates)

    def evaluate(self, **parameters: Any) -> pd.DataFrame:
        """Evaluate the trained model with other conventions; nothing is written.

        Args:
            parameters: any of ``topk``, ``metrics``, ``candidates``, ``mask``, ``sampled_candidates``, ``relevance``,
                ``relevance_threshold``, ``gain``, ``ideal``, ``empty_user`` and ``eval_batch_size``; the others are
                those of the run.

        Returns:
            As :meth:`table`.

        Raises:
            ConfigError: another parameter, or an illegal value.

        Example:
            >>> "ndcg@3" in run.evaluate(topk=[3], gain="linear").columns
            True
        """
        for key in parameters:
            if key not in EVALUATION:
                raise ConfigError(unknown_name("parameter of an evaluation:", key, EVALUATION))
        experiment = load_experiment(self.folder, parameters)
        with tempfile.TemporaryDirectory(prefix="recbole-drex-") as folder:
            with logging_to(Path(folder) / "evaluate.log", experiment.config):
                trainer = make_trainer(experiment.config, experiment.model, Path(folder), experiment.parts)
                result = result_of_parts(experiment, self.label, trainer)
                trainer.tensorboard.close()
        return metrics_table([result], None)

    # Display ----------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        """A part of the result."""
        return self.result[key]

    def __repr__(self) -> str:
        """The run and its metrics in one line."""
        flat = {**self.result["test"]["own_test"]}
        flat |= {f"full_{name}": value for name, value in (self.result["test"].get("full") or {}).items()}
        shown = ", ".join(f"{name} {flat[name]:.4f}" for name in _SHOWN if flat.get(name) is not None)
        return f"<{self.label} on {self.dataset}, seed {self.replicate}{': ' if shown else ''}{shown}>"

    def _repr_html_(self) -> str:
        """The metrics as a table for notebooks."""
        table = self.table() if any(self.result["test"].values()) else pd.DataFrame(index=[self.label])
        columns = [name for name in _SHOWN if name in table]
        rows = [
            [str(label), *("" if pd.isna(row[name]) else f"{row[name]:.4f}" for name in columns)]
            for label, row in table.iterrows()
        ]
        return html_table(f"{self.label} on {self.dataset}, seed {self.replicate}", ["model", *columns], rows)


def metrics_table(results: Sequence[Mapping[str, Any]], candidates: str | None) -> pd.DataFrame:
    """Metrics of results of one split, one row each, with a random order and the best order if known.

    Raises:
        ConfigError: the results have no metrics of these candidates.
    """
    first = results[0]
    block = candidates or first["protocol"]["candidates"]
    if not any(first["test"].values()):
        raise ConfigError(f"{first['label']} has no metrics: its split (eval_args) has no test part")
    if not first["test"].get(block):
        raise ConfigError(unknown_name("kind of candidates:", block, first["test"]))
    rows = {result["label"]: result["test"].get(block, {}) for result in results}
    rows |= {name: bound[block] for name, bound in first["references"].items() if block in bound}
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)


def check_length(k: Any) -> None:
    """Check a number of recommendations.

    Raises:
        ConfigError: it is not an integer of at least 1.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ConfigError(f"the number of recommendations must be an integer of at least 1, not {k!r}")


def some_of(names: Sequence[str]) -> str:
    """The first five names, and the number of others.

    Example:
        >>> some_of(list("abcdefg"))
        "'a', 'b', 'c', 'd', 'e' and 2 more"
    """
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(repr(name[:100]) for name in names[:_NAMED])}{more}"


def load(folder: str | Path) -> TrainedRun:
    """Load a finished run: its data, split and trained model.

    Args:
        folder: of the run, such as ``results/demo/DReX/seed-2026``.

    Raises:
        CheckpointError: no finished run, damaged files, or a run of another version or on other data.
        DataError: the prepared data set is missing or damaged.

    Example:
        >>> load(run.folder).label
        'DReX'
    """
    experiment = load_experiment(folder)
    loaded = TrainedRun(folder, read_run(folder).result)
    object.__setattr__(loaded, "experiment", experiment)
    return loaded


@overload
def run(models: str | type, dataset: str | None = ..., **arguments: Any) -> TrainedRun: ...
@overload
def run(models: Sequence[str | type] | None = ..., dataset: str | None = ..., **arguments: Any) -> list[TrainedRun]: ...
def run(
    models: str | type | Sequence[str | type] | None = None,
    dataset: str | None = None,
    *,
    raw: Any = (),
    meta: Any = None,
    data_path: str | Path | None = None,
    output_dir: str | Path = "results",
    seeds: Sequence[int] | None = None,
    config_files: Sequence[str | Path] = (),
    parameters: Mapping[str, Any] | None = None,
    references: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    **more: Any,
) -> TrainedRun | list[TrainedRun]:
    """Prepare the data if needed, train models, evaluate them, and write results.

    Args:
        models: a name, for one run; a list of names, for a list of runs; default: ``model`` of the files, or DReX, as
            a list. Classes are registered by :func:`recbole_drex.register_model` if they are not yet.
        dataset: a prepared data set, ``demo``, a category of Amazon Reviews 2023, or any name if ``raw`` is given;
            default: ``dataset`` of the files, or demo.
        raw: reviews: a data frame, a file or several, see ``docs/data.md``. Columns are ``user_id``, ``item_id``,
            ``rating``, ``text``, ``timestamp``, or named by the parameter ``columns``.
        meta: titles, categories and descriptions of items: a data frame or a file.
        data_path: folder of prepared data sets; default: the parameter of that name, ``atomic_data/``.
        output_dir: results go to ``<output_dir>/<dataset>/<model>/seed-<n>/``.
        seeds: one run per seed, each with its own split; default: ``seed`` of the files, or 2026.
        config_files: YAML files of parameters, later ones win.
        parameters: parameters by name; they win over files.
        references: also run the reference models, reusing finished runs of the same settings.
        resume: continue interrupted runs and keep finished ones.
        overwrite: replace finished runs of another configuration, data or version.
        command: recorded in the result.
        more: further parameters by name: ``epochs=20, learning_rate=1e-3``; ``seed=7`` is short for ``seeds=[7]``.

    Returns:
        One run for the name of one model and one seed, with its references in ``run.references``. For a list, or
        several seeds, a list of runs, those of the reference models last.

    Raises:
        CheckpointError: a folder has a finished run of another configuration, and ``overwrite`` is not set.
        ConfigError: an unknown model, data set or parameter, or a parameter given twice.
        DataError: the reviews cannot be used.

    Example:
        >>> import recbole_drex as rd
        >>> rd.run("DReX", "demo", epochs=20).recommend("user_083", k=3)  # doctest: +SKIP
    """
    folder = more.get("output")
    if folder is not None and folder not in OUTPUTS:  # its name before there was the parameter `output`
        warnings.warn("output=FOLDER is deprecated; write output_dir=FOLDER", DeprecationWarning, stacklevel=2)
        output_dir = more.pop("output")
    if twice := sorted(more.keys() & (parameters or {}).keys()):
        raise ConfigError(f"parameter '{twice[0]}' is given twice: by name and in parameters")
    if "seed" in more:
        if seeds is not None:
            raise ConfigError("give seed or seeds, not both")
        seeds = [more.pop("seed")]
    single = isinstance(models, (str, type))
    results = quick_start.run(
        models,
        dataset,
        raw=raw,
        meta=meta,
        data_path=data_path,
        output=output_dir,
        seeds=seeds,
        config_files=config_files,
        parameters={**(parameters or {}), **more},
        references=references,
        resume=resume,
        overwrite=overwrite,
        command=command,
    )
    runs = [
        TrainedRun(Path(output_dir) / one["dataset"] / one["model"] / f"seed-{one['seed']}", one) for one in results
    ]
    if single and len({one.replicate for one in runs}) == 1:
        return TrainedRun(runs[0].folder, runs[0].result, runs[1:])
    return runs
