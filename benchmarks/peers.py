"""Rating errors of another library's models on exactly the splits that ours are measured on.

    pip install cornac==3.0.1
    python benchmarks/peers.py --data_path DIR --seeds 2026,2027,2028

The library is cornac (Salah, Truong and Lauw, JMLR 2020). It gets the rated training rows of a split, in an order
drawn by the seed (its own splits are in random order, and its SGD goes through the rows as given), and HFT also the
reviews of these rows, joined item by item. No validation row, no test row and no row without a rating is given to it.

Every setting of :data:`GRIDS` is trained on the split of ``--tuning_seed``. The one with the lowest RMSE on the
validation part is then trained on the split of each seed, and the test part of that split is read once. Predictions
are clipped to the range of the training ratings, as cornac does; for a user or item that it has not seen, they are its
default score.

Prints a table and writes ``benchmarks/results/peers.json``: what was chosen, its errors, and the validation RMSE of
every setting tried, under its values in the order in which ``chosen`` names them. Times are of the processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import platform
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
from recbole.utils import init_seed

import harness
from recbole_drex.cli.options import name_list, seed_list
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.dataset import REVIEW_ROW
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.errors import ConfigError, unknown_name
from recbole_drex.evaluation.rating_metrics import rating_metrics
from recbole_drex.experiments.quick_start import prepare_dataset
from recbole_drex.experiments.run import build
from recbole_drex.utils.files import write_json

Setting = dict[str, Any]
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Users, items and ratings of a part, each of shape (n,)."""

_SGD: dict[str, list[Any]] = {
    "max_iter": [20, 50, 100, 200],
    "learning_rate": [0.005, 0.01, 0.02],
    "lambda_reg": [0.02, 0.05, 0.1],
}
GRIDS: dict[str, dict[str, list[Any]]] = {
    "BaselineOnly": {**_SGD, "lambda_reg": [0.02, 0.05, 0.1, 0.2]},
    "MF": {"k": [10, 32, 64, 128], **_SGD},
    "PMF": {
        "variant": ["linear", "non_linear"],
        "k": [10, 20, 32],
        "max_iter": [50, 100],
        "learning_rate": [0.001, 0.003],
        "lambda_reg": [0.001, 0.01, 0.05, 0.1],
    },
    "NMF": {
        "use_bias": [False, True],
        "k": [5, 15, 32],
        "max_iter": [20, 50, 100, 200],
        "lambda_reg": [0.02, 0.06, 0.1, 0.2],
    },
    # Few and short, since it samples topics and adds up gradients in Python loops.
    "HFT": {"k": [5], "max_iter": [3], "grad_iter": [20], "lambda_text": [0.01, 0.1], "l2_reg": [3.0, 10.0, 30.0]},
}
"""Settings that are tried, by model: all combinations. Whatever is not named has cornac's default."""

TEXT = {"max_vocab": 1000, "max_doc_freq": 0.5}
"""What HFT reads: the most frequent words that are no English stop words and that at most half of the items have."""

TEXT_MODELS = ("HFT",)


@dataclasses.dataclass(frozen=True)
class Split:
    """One data set, split by one seed.

    Attributes:
        train, valid, test: rated rows, with internal ids of RecBole.
        levels: the ratings of the training part.
        reviews: texts of the training rows; "" where there is none.
        fingerprint: of the prepared data.
    """

    train: Rows
    valid: Rows
    test: Rows
    levels: list[float]
    reviews: list[str]
    fingerprint: str


def load_split(dataset: str, data_path: Path, seed: int, texts: bool = False) -> Split:
    """The parts that every model of this project gets with ``seed``; the reviews only with ``texts``."""
    config = Config("GlobalMean", dataset, [], {"seed": seed, "data_path": str(data_path)})
    experiment = build(config, prepare_dataset(config))
    train = experiment.parts.train_dataset
    order = np.random.default_rng(seed).permutation(len(train.inter_feat))

    def rows(feat: Any) -> Rows:
        user, item, rating = (feat[name].numpy() for name in (train.uid_field, train.iid_field, train.rating_field))
        return user, item, rating.astype(np.float64)

    user, item, rating = rows(train.inter_feat)
    reviews = [""] * len(order)
    if texts:
        row = train.inter_feat[REVIEW_ROW].numpy().astype(np.int64)[order]
        written = np.flatnonzero(row >= 0)
        found = ReviewTexts(Path(config["data_path"]) / TEXTS)[row[written]]
        for place, text in zip(written.tolist(), found, strict=True):
            reviews[place] = text
    return Split(
        train=(user[order], item[order], rating[order]),
        valid=rows(experiment.parts.valid.rows._dataset.inter_feat),
        test=rows(experiment.parts.test.rows._dataset.inter_feat),
        levels=train.rating_levels().tolist(),
        reviews=reviews,
        fingerprint=experiment.manifest["fingerprint"],
    )


def import_cornac() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import cornac
        import cornac.models
    except ImportError as error:
        raise ConfigError(f"this benchmark needs cornac ({error}); pip install cornac==3.0.1") from error
    return cornac


def training_set(cornac: Any, split: Split, texts: bool = False) -> Any:
    """The training rows as cornac holds them, under its own numbers of users and items."""
    data = cornac.data.Dataset.from_uir(list(zip(*(column.tolist() for column in split.train), strict=True)))
    if texts:
        by_item: dict[int, list[str]] = defaultdict(list)
        for item, review in zip(split.train[1].tolist(), split.reviews, strict=True):
            by_item[item].append(review)
        corpus = [" ".join(by_item[item]) for item in data.item_ids]
        tokenizer = cornac.data.text.BaseTokenizer(stop_words="english")
        data.add_modalities(item_text=cornac.data.TextModality(corpus=corpus, tokenizer=tokenizer, **TEXT).build())
    return data


def fit(cornac: Any, name: str, setting: Setting, data: Any, seed: int) -> Any:
    """Train the model ``name``; with a seed, cornac trains in one thread."""
    own = {"vocab_size": data.item_text.count_matrix.shape[1]} if name in TEXT_MODELS else {}
    init_seed(seed, True)  # HFT draws topics from numpy's global generator.
    return getattr(cornac.models, name)(**setting, **own, seed=seed, verbose=False).fit(data)


def errors(model: Any, data: Any, rows: Rows, levels: Sequence[float]) -> dict[str, float]:
    """MAE and RMSE over ``rows``, with our metrics."""
    user, item, rating = rows
    pairs = [(data.uid_map.get(u), data.iid_map.get(i)) for u, i in zip(user.tolist(), item.tolist(), strict=True)]
    predicted = [model.default_score() if None in pair else model.rate(*pair) for pair in pairs]
    metrics = rating_metrics(rating, predicted, levels)
    return {name: metrics[name] for name in ("mae", "rmse")}


def settings(grid: dict[str, list[Any]]) -> list[Setting]:
    """All combinations of a grid.

    Example:
        >>> settings({"k": [5, 10], "lambda_reg": [0.1]})
        [{'k': 5, 'lambda_reg': 0.1}, {'k': 10, 'lambda_reg': 0.1}]
    """
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def in_words(setting: Setting) -> str:
    """``{"k": 5, "lambda_reg": 0.1}`` as ``k=5 lambda_reg=0.1``."""
    return " ".join(f"{name}={value}" for name, value in setting.items())


def compare(
    cornac: Any, dataset: str, data_path: Path, names: Sequence[str], tuning_seed: int, seeds: Sequence[int]
) -> dict[str, Any]:
    """Tune and measure the models ``names`` on one data set; what ``peers.json`` holds of it."""
    texts = any(name in TEXT_MODELS for name in names)
    tuning = load_split(dataset, data_path, tuning_seed, texts)
    data = training_set(cornac, tuning, texts)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        started, tried = process_time(), {}
        best, chosen = {"rmse": np.inf}, {}
        for setting in tqdm(settings(GRIDS[name]), desc=f"{name} on {dataset}", unit="setting", leave=None):
            valid = errors(fit(cornac, name, setting, data, tuning_seed), data, tuning.valid, tuning.levels)
            tried[" ".join(map(str, setting.values()))] = round(valid["rmse"], 5)
            if valid["rmse"] < best["rmse"]:
                best, chosen = valid, setting
        seconds = {"training": [], "tuning": round(process_time() - started, 3)}
        found[name] = {"chosen": chosen, "valid": best, "test": {}, "seconds": seconds, "tried": tried}
    for seed in seeds:
        split = load_split(dataset, data_path, seed, texts)
        data = training_set(cornac, split, texts)
        for name, entry in found.items():
            started = process_time()
            model = fit(cornac, name, entry["chosen"], data, seed)
            entry["seconds"]["training"].append(process_time() - started)
            entry["test"][str(seed)] = errors(model, data, split.test, split.levels)
    for entry in found.values():
        tests = list(entry["test"].values())
        entry["mean"] = {metric: float(np.mean([test[metric] for test in tests])) for metric in ("mae", "rmse")}
        entry["seconds"]["training"] = round(float(np.mean(entry["seconds"]["training"])), 3)
    return {"fingerprint": tuning.fingerprint, "models": found}


def table(result: dict[str, Any]) -> str:
    """What ``peers.json`` holds, as a Markdown table; the lowest test errors of a data set are bold."""
    rows = []
    for dataset, entry in result["datasets"].items():
        models = entry["models"]
        lowest = {metric: min(model["mean"][metric] for model in models.values()) for metric in ("mae", "rmse")}
        for name, model in models.items():
            test = [
                f"**{value:.4f}**" if value == lowest[metric] else f"{value:.4f}"
                for metric, value in ((metric, model["mean"][metric]) for metric in ("mae", "rmse"))
            ]
            valid = [f"{model['valid'][metric]:.4f}" for metric in ("mae", "rmse")]
            seconds = [f"{model['seconds'][what]:.3g}" for what in ("training", "tuning")]
            rows.append([dataset, name, *test, *valid, *seconds, in_words(model["chosen"])])
    headers = ["data set", "model", "test MAE", "test RMSE", "valid MAE", "valid RMSE", "train s", "tune s", "chosen"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _run(options: argparse.Namespace) -> None:
    for name in options.models:
        if name not in GRIDS:
            raise ConfigError(unknown_name("model", name, GRIDS))
    if not options.models or not options.datasets:
        raise ConfigError("name at least one model and one data set")
    if not options.seeds or options.tuning_seed in options.seeds:
        raise ConfigError(
            f"--seeds: name at least one, and not the seed {options.tuning_seed} that settings are tuned on"
        )
    cornac = import_cornac()
    result: dict[str, Any] = {
        "versions": {"cornac": cornac.__version__, "python": platform.python_version(), "numpy": np.__version__},
        "tuning_seed": options.tuning_seed,
        "clipped": True,
        "text": TEXT,
        "datasets": {},
    }
    for dataset in options.datasets:
        result["datasets"][dataset] = compare(
            cornac, dataset, options.data_path, options.models, options.tuning_seed, options.seeds
        )
        write_json(options.output, result)  # after each, so that a run that is stopped leaves what it has
    print(table(result))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "peers")
    parser.add_argument("--data_path", type=Path, default=Path("atomic_data"), help="folder of prepared data sets")
    parser.add_argument(
        "--datasets", type=name_list, default=["Movie_Critics", "Movie_Reviews"], help="comma-separated"
    )
    parser.add_argument("--models", type=name_list, default=list(GRIDS), help=f"of {', '.join(GRIDS)}; default: all")
    parser.add_argument("--seeds", type=seed_list, default=[2026, 2027, 2028], help="splits whose test part is read")
    parser.add_argument("--tuning_seed", type=int, default=11, help="split whose validation part chooses settings")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
