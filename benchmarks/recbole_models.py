"""Which of RecBole's general models train, on old libraries and on current ones.

    python benchmarks/recbole_models.py              # every model, on the libraries of this Python
    python benchmarks/recbole_models.py BPR DMF      # some
    python benchmarks/recbole_models.py --document   # only write the table into docs/recbole.md

Each model is trained for one epoch on ml-100k, which RecBole brings along, by this project's own run, in a process of
its own. What became of it goes at once into ``benchmarks/results/recbole_models.json``, under ``old`` for numpy 1 and
``current`` for numpy 2, so that a run that was stopped is taken up by naming the models that are left.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

import harness
from recbole_drex.experiments.quick_start import run
from recbole_drex.registry import canonical_model_name, recbole_models
from recbole_drex.utils.files import read_json, write_json, write_text

DOCUMENT = Path(__file__).parents[1] / "docs" / "recbole.md"
BEGIN, END = "<!-- benchmarks/recbole_models.py -->\n", "<!-- end -->\n"
STACKS = ("old", "current")
STACK = STACKS[int(np.__version__.split(".")[0]) > 1]
MODELS = [name for name in recbole_models() if name[0].isupper()]
SETTINGS = {"NCL": {"num_clusters": 100}}
"""Other than RecBole's defaults: ml-100k has fewer users than NCL makes clusters of them."""


def outcome(model: str, seconds: int) -> dict[str, Any]:
    """Train ``model`` in a child process: ``seconds`` of its processor, ``versions``, and ``ndcg@10`` or ``error``."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # Forked, so that the libraries are imported once.
    child = multiprocessing.get_context("fork").Process(target=_train, args=(model, seconds, sender))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        child.join()
        over = child.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        return {"error": f"stopped after {seconds} s" if over else f"died with exit status {child.exitcode}"}
    finally:
        child.join()


def _train(model: str, seconds: int, sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with tempfile.TemporaryDirectory() as folder:
        try:
            parameters = {"epochs": 1, "threads": 1, "show_progress": False, **SETTINGS.get(model, {})}
            (result,) = run([model], "ml-100k", output=folder, parameters=parameters, references=False)
        except Exception as error:  # any error of another library's model is recorded
            sender.send({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})
        else:
            found = {"ndcg@10": round(result["test"]["full"]["ndcg@10"], 4), "seconds": round(process_time(), 1)}
            sender.send({**found, "versions": result["versions"]})


def table(results: dict[str, Any]) -> str:
    """The outcomes as a table in Markdown, a row a model."""
    lines = [
        f"| model | {' | '.join(f'{stack}: NDCG@10' for stack in STACKS)} |",
        f"|---|{'---|' * len(STACKS)}",
    ]
    for model in MODELS:
        cells = [results.get(stack, {}).get("models", {}).get(model, {"error": "not run"}) for stack in STACKS]
        texts = [f"{cell['ndcg@10']:.4f}" if "ndcg@10" in cell else cell["error"] for cell in cells]
        lines.append(f"| {model} | {' | '.join(text.replace('|', '/') for text in texts)} |")
    return "\n".join(lines) + "\n"


def document(results: dict[str, Any], path: Path = DOCUMENT) -> None:
    """Put the table where the document has its marks."""
    head, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    write_text(path, head + BEGIN + table(results) + END + rest.partition(END)[2])


def _run(options: argparse.Namespace) -> None:
    results = read_json(options.output) if options.output.is_file() else {}
    if not options.document:
        os.nice(15)
        for name in options.models or MODELS:
            model = canonical_model_name(name)
            found = outcome(model, options.seconds)
            print(f"{STACK} {model}: {found.get('ndcg@10', found.get('error'))}", flush=True)
            stack = results.setdefault(STACK, {"models": {}})
            stack |= {"machine": harness.machine(), "versions": found.pop("versions", stack.get("versions"))}
            stack["models"][model] = found
            write_json(options.output, results)
    document(results)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.make_parser(__doc__, "recbole_models")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all general models of RecBole")
    parser.add_argument("--seconds", type=int, default=300, help="of the processor, for each model (default: 300)")
    parser.add_argument("--document", action="store_true", help="train nothing, write the table of what there is")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
