"""How long a training epoch of DReX takes compared with those of other models that read reviews.

    pip install cornac==3.0.1        # for HFT; without it, it is left out
    python benchmarks/epoch.py --data_path DIR

Models of this project train with their default settings. The other library's HFT (McAuley and Leskovec, RecSys 2013;
cornac: Salah, Truong and Lauw, JMLR 2020) reads the same lemmas of the same training rows; its epoch is one of its
iterations with a single step of its inner gradient descent, so what takes least. All epochs are run in turn, in this
process and with the same number of threads; the first of each is not counted. The data are ``Movie_Reviews``, where
``--data_path`` has them prepared, else generated ones of that size. Prints a table and writes
``benchmarks/results/epoch.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import generated
import harness
import peers
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.dataset import REVIEW_ROW, ReviewDataset
from recbole_drex.errors import ConfigError
from recbole_drex.experiments.quick_start import prepare_dataset
from recbole_drex.experiments.run import build
from recbole_drex.training.trainer import make_trainer

REAL = "Movie_Reviews"
SIZE = {"interactions": 27_246, "items": 1_086, "words": 85.0}
"""Of the generated data: as many as Movie_Reviews has, and words with a vector per review."""
HFT = "cornac's HFT"
GOALS = {"NARRE": 3.0, "DeepCoNN": 4.0, HFT: 1.0}
"""How many times as fast as theirs an epoch of DReX should be."""
SLOWER = ("HRDR", "DAML")
"""Models whose epoch should take at most twice as long as one of NARRE."""
MODELS = ("DReX", "NARRE", "DeepCoNN", *SLOWER)


def epochs_of(model: str, dataset: str, data_path: Path, threads: int, folder: Path) -> Iterator[float]:
    """Seconds of one training epoch after the other."""
    config = Config(model, dataset, [], {"data_path": str(data_path), "threads": threads})
    experiment = build(config, {})
    trainer = make_trainer(config, experiment.model, folder / model, experiment.parts)
    epoch = 0
    while True:
        started = time.perf_counter()
        trainer._train_epoch(experiment.parts.train, epoch)
        yield time.perf_counter() - started
        epoch += 1


def lemmas_of(train: ReviewDataset) -> list[str]:
    """What every training row says, "" where it says nothing."""
    store = train.features()
    vocabulary = np.array(store.vocabulary, dtype=object)
    rows = train.inter_feat[REVIEW_ROW].long().tolist()
    return [
        " ".join(vocabulary[store.word_ids[slice(*store.offsets[row : row + 2])]]) if row >= 0 else "" for row in rows
    ]


def iterations_of_hft(dataset: str, data_path: Path) -> Iterator[float]:
    """Seconds that one more iteration adds to a training of HFT.

    Raises:
        ConfigError: cornac is not installed.
    """
    cornac = peers.import_cornac()
    config = Config("GlobalMean", dataset, [], {"data_path": str(data_path)})
    train = build(config, {}).parts.train_dataset
    fields = (train.uid_field, train.iid_field, train.rating_field)
    rows = tuple(train.inter_feat[field].numpy().astype(kind) for field, kind in zip(fields, "iid", strict=True))
    data = peers.training_set(cornac, peers.Split(rows, rows, rows, [], lemmas_of(train), ""), texts=True)

    def seconds(iterations: int) -> float:
        started = time.perf_counter()
        peers.fit(cornac, "HFT", {"max_iter": iterations, "grad_iter": 1}, data, 2026)
        return time.perf_counter() - started

    while True:
        yield seconds(2) - seconds(1)


def _run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="recbole-drex-") as name:
        folder, dataset, data_path = Path(name), REAL, options.data_path
        if (data_path / REAL / f"{REAL}.json").is_file():
            prepare_dataset(Config("DReX", REAL, [], {"data_path": str(data_path)}))
        else:
            dataset, data_path = generated.NAME, folder / "data"
            generated.generate(data_path, options.interactions, SIZE["items"], SIZE["words"])
        makers: dict[str, Callable[[], Iterator[float]]] = {
            model: lambda model=model: epochs_of(model, dataset, data_path, options.threads, folder) for model in MODELS
        }
        makers[HFT] = lambda: iterations_of_hft(dataset, data_path)
        seconds, running = {}, {}
        for name, maker in makers.items():
            epochs = maker()
            try:
                next(epochs)
            except ConfigError as error:
                print(f"note: {name} is left out: {error}", file=sys.stderr)
                continue
            running[name], seconds[name] = epochs, []
        for _ in range(options.repetitions):
            for name, epochs in running.items():
                seconds[name].append(next(epochs))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ours, narre = medians["DReX"], medians["NARRE"]
    findings = [
        harness.Finding(
            f"training epoch of DReX ({ours:.2f} s), {dataset}",
            f"{name}: {medians[name]:.2f} s",
            medians[name] / ours,
            "times as fast",
            goal,
        )
        for name, goal in GOALS.items()
        if name in medians
    ]
    findings += [
        harness.Finding(
            f"training epoch of {name} ({medians[name]:.2f} s), {dataset}",
            f"NARRE: {narre:.2f} s",
            medians[name] / narre,
            "times as long",
            2.0,
            at_most=True,
        )
        for name in SLOWER
    ]
    details: dict[str, Any] = {name: [round(value, 3) for value in values] for name, values in seconds.items()}
    harness.conclude(options.output, findings, dataset=dataset, threads=options.threads, seconds=details)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "epoch")
    parser.add_argument("--data_path", type=Path, default=Path("atomic_data"), help="folder of prepared data sets")
    parser.add_argument("--interactions", type=int, default=SIZE["interactions"], help="of generated data")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=3, help="epochs that are counted (default: %(default)s)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
