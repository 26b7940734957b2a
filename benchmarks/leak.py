"""How much a model of reviews is flattered when it may read the review that came with the rating it predicts.

    python benchmarks/leak.py --data_path DIR --models DeepCoNN,NARRE --seeds 2026,2027,2028

Documents of users and items are made in three ways, everything else being the same:

- ``others``: training reviews, without that of the pair that is predicted (how this project does it);
- ``training``: all training reviews; a training pair is learned from with its own review in its documents
  (``exclude_target_review: false``);
- ``all``: all reviews, those of validation and test rows too, as in much published code: test pairs are then predicted
  with their own review in their documents.

The last one breaks the rule that nothing of a test row may be used to predict it, and can be had nowhere but here.
Prints a table of test errors and writes ``benchmarks/results/leak.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
from recbole.data.interaction import Interaction, cat_interactions
from recbole.utils import init_seed

import harness
from recbole_drex.cli.options import name_list, seed_list
from recbole_drex.config.recbole_config import Config
from recbole_drex.errors import ConfigError, unknown_name
from recbole_drex.experiments.quick_start import prepare_dataset
from recbole_drex.experiments.run import build
from recbole_drex.training.run_record import Experiment
from recbole_drex.training.trainer import make_trainer
from recbole_drex.utils.files import write_json

DOCUMENTS = ("others", "training", "all")
MODELS = ("DeepCoNN", "NARRE")


def with_all_reviews(experiment: Experiment) -> Experiment:
    """The experiment with a new model, to whose evidence the reviews of validation and test rows were added."""
    part = experiment.parts.train_dataset
    held_out = [loaders.rows._dataset.inter_feat for loaders in (experiment.parts.valid, experiment.parts.test)]
    # As rows without a rating, which are evidence and never targets.
    leaked = [Interaction({field: feat[field] for field in part.unrated.columns}) for feat in held_out]
    part.unrated = cat_interactions([part.unrated, *leaked])
    init_seed(experiment.config["seed"], experiment.config["reproducibility"])  # as the first model was made
    experiment.model = experiment.config.model_class(experiment.config, part).to(experiment.config["device"])
    return experiment


def errors(model: str, dataset: str, data_path: Path, seed: int, documents: str) -> dict[str, float]:
    """MAE and RMSE on the test part of a model trained with one kind of documents."""
    parameters = {"data_path": str(data_path), "seed": seed, "exclude_target_review": documents == "others"}
    config = Config(model, dataset, [], parameters)
    experiment = build(config, prepare_dataset(config))
    if documents == "all":
        experiment = with_all_reviews(experiment)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config, experiment.model, Path(folder), experiment.parts)
        trainer.train_model()
        metrics = trainer.evaluate_part(experiment.parts.test).metrics
    return {"mae": metrics["mae"], "rmse": metrics["rmse"]}


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Means over seeds as Markdown."""
    rows = []
    for model in dict.fromkeys(run["model"] for run in runs):
        for documents in dict.fromkeys(run["documents"] for run in runs):
            row = [model, documents]
            for dataset in dict.fromkeys(run["dataset"] for run in runs):
                same = [r for r in runs if (r["model"], r["documents"], r["dataset"]) == (model, documents, dataset)]
                row += [
                    f"{statistics.mean(r[metric] for r in same):.4f}" if same else "-" for metric in ("mae", "rmse")
                ]
            rows.append(row)
    names = [f"{name} {metric}" for name in dict.fromkeys(run["dataset"] for run in runs) for metric in ("MAE", "RMSE")]
    return tabulate(rows, headers=["model", "documents", *names], tablefmt="github", disable_numparse=True)


def _run(options: argparse.Namespace) -> None:
    for names, legal, kind in ((options.models, MODELS, "model"), (options.documents, DOCUMENTS, "kind of documents")):
        for name in names:
            if name not in legal:
                raise ConfigError(unknown_name(kind, name, legal))
    runs: list[dict[str, Any]] = []
    jobs = [
        {"dataset": dataset, "model": model, "documents": documents, "seed": seed}
        for dataset in options.datasets
        for model in options.models
        for documents in options.documents
        for seed in options.seeds
    ]
    if not jobs:
        raise ConfigError("name at least one data set, model, kind of documents and seed")
    for job in tqdm(jobs, unit="run"):
        runs.append({**job, **errors(job["model"], job["dataset"], options.data_path, job["seed"], job["documents"])})
        write_json(options.output, runs)  # after each, so that a run that is stopped leaves what it has
    print(table(runs))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "leak")
    parser.add_argument("--data_path", type=Path, default=Path("atomic_data"), help="folder of prepared data sets")
    parser.add_argument(
        "--datasets", type=name_list, default=["Movie_Critics", "Movie_Reviews"], help="comma-separated"
    )
    parser.add_argument("--models", type=name_list, default=list(MODELS), help=f"of {', '.join(MODELS)}; default: both")
    parser.add_argument(
        "--documents", type=name_list, default=list(DOCUMENTS), help=f"of {', '.join(DOCUMENTS)}; default: all three"
    )
    parser.add_argument("--seeds", type=seed_list, default=[2026, 2027, 2028], help="comma-separated")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
