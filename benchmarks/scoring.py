"""Times full-catalogue scoring of DReX with its MLP, and compares it with RecBole's way for models without it.

    python benchmarks/scoring.py

For a model that cannot score a catalogue, RecBole repeats every user for every item and asks ``predict`` for these
pairs, ``eval_batch_size`` at a time. Both ways are the trainer's code, on one untrained DReX and the same users, in
turn; items of the training part are masked, as in an evaluation, and the other scores must be equal to 1e-4. For
memory, the largest tensor is noted that either makes on its way for one user: it must not grow with the catalogue
beyond a vector for each of
``eval_batch_size`` pairs. Prints a table and writes ``benchmarks/results/scoring.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
from recbole.data.interaction import Interaction

import generated
import harness
from recbole_drex.config.recbole_config import Config
from recbole_drex.experiments.run import build
from recbole_drex.training.run_record import Experiment
from recbole_drex.training.trainer import make_trainer

OURS, REPEATED = "catalogue", "repeated pairs"
WORDS = 3.0  # of a review; scores do not depend on their number


class Largest(TorchFunctionMode):
    """Notes the bytes of the largest tensor that is made while it is on."""

    size = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.size = max(self.size, result.numel() * result.element_size())
        return result


class Repeating:
    """A model as RecBole sees one that cannot score a catalogue."""

    def __init__(self, model: Any):
        self.predict = model.predict

    def predict_unknown(self, user: int) -> None:
        return None

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        raise NotImplementedError


def scorers(experiment: Experiment, folder: Path) -> dict[str, Callable[[Interaction], torch.Tensor]]:
    """Functions from users (as RecBole has them) to their scores with every item, (users, items), -inf if masked."""
    trainer = make_trainer(experiment.config, experiment.model, folder, experiment.parts)
    trainer.tot_item_num = experiment.dataset.item_num
    trainer.item_tensor = experiment.dataset.get_item_feature()

    def scoring(model: Any) -> Callable[[Interaction], torch.Tensor]:
        def score(users: Interaction) -> torch.Tensor:
            trainer.model = model
            known = [table.item[table.rows_of(user)] for user in users[experiment.dataset.uid_field]]
            index = torch.repeat_interleave(torch.tensor([len(items) for items in known]))
            return trainer._full_sort_batch_eval((users, (index, torch.cat(known)), None, None))[1]

        return score

    model, table = experiment.model.eval(), experiment.model.table
    return {OURS: scoring(model), REPEATED: scoring(Repeating(model))}


def measure(root: Path, options: argparse.Namespace, items: int) -> dict[str, Any]:
    """Of both ways milliseconds for a user and the largest tensor in MB, and by how much they differ at most."""
    made = generated.generate(root, options.interactions, items, WORDS)
    parameters = {"data_path": str(root), "threads": options.threads, "embedding_size": options.width}
    experiment = build(Config("DReX", generated.NAME, [], parameters), {})
    users = torch.randperm(made["users"], generator=torch.Generator().manual_seed(0))[: options.users] + 1
    batches = [Interaction({experiment.dataset.uid_field: part}) for part in users.split(options.at_once)]
    single = Interaction({experiment.dataset.uid_field: users[:1]})
    row: dict[str, Any] = {"items": experiment.dataset.item_num, "pairs": experiment.config["eval_batch_size"]}
    times: dict[str, list[float]] = {OURS: [], REPEATED: []}
    with torch.no_grad():
        functions = scorers(experiment, root / "run")
        # The first scores also fill the caches.
        ours, repeated = (function(batches[0]) for function in functions.values())
        scored = torch.isfinite(repeated)
        assert bool((torch.isfinite(ours) == scored).all())
        row["difference"] = float((ours - repeated)[scored].abs().max())
        for _ in range(options.repetitions):
            for name, function in functions.items():
                started = time.perf_counter()
                for batch in batches:
                    function(batch)
                times[name].append(1000 * (time.perf_counter() - started) / len(users))
        for name, function in functions.items():
            with Largest() as largest:
                function(single)
            row |= {f"{name} ms": statistics.median(times[name]), f"{name} MB": largest.size / 2**20}
    return row


def findings(row: dict[str, Any], width: int) -> list[harness.Finding]:
    """What a row of :func:`measure` says."""
    what = f"scores of a user with {row['items']:,} items"
    ratio = row[f"{REPEATED} ms"] / row[f"{OURS} ms"]
    bound = row["pairs"] * width * 4 / 2**20
    return [
        harness.Finding(what, f"repeated pairs: {row[f'{REPEATED} ms']:.1f} ms", ratio, "times as fast", 3.0),
        harness.Finding(f"{what}: difference", "repeated pairs", row["difference"], "", 1e-4, at_most=True),
        harness.Finding(
            f"{what}: largest tensor",
            f"repeated pairs: {row[f'{REPEATED} MB']:.1f} MB",
            row[f"{OURS} MB"],
            "MB",
            bound,
            at_most=True,
        ),
    ]


def _run(options: argparse.Namespace) -> None:
    rows = []
    for items in options.items:
        with tempfile.TemporaryDirectory(prefix="recbole-drex-") as folder:
            rows.append(measure(Path(folder), options, items))
    found = [finding for row in rows for finding in findings(row, options.width)]
    harness.conclude(options.output, found, catalogues=[harness.rounded(row, 6) for row in rows])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "scoring")
    parser.add_argument("--interactions", type=int, default=60_000, help="of the data (default: %(default)s)")
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 30_000], help="catalogues")
    parser.add_argument("--users", type=int, default=24, help="that are scored (default: %(default)s)")
    parser.add_argument("--at_once", type=int, default=8, help="users in a batch (default: %(default)s)")
    parser.add_argument("--width", type=int, default=64, help="embedding_size of DReX (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=3, help="of both (default: %(default)s)")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
