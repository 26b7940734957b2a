"""The command line: ``recbole-drex prepare | run | compare | tune | report | paper | explain | serve | doctor``.

Each command is a thin call. Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_drex import __version__
from recbole_drex.errors import ConfigError, DrexError, unknown_name

PARAMETERS = (
    "Any parameter of RecBole, of properties/overall.yaml or of the model may follow as --name value or --name=value."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors that the user can put right are printed as one line, with exit status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = _parser()
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
            raise ConfigError(unknown_name("command", arguments[0], commands))
        options, rest = parser.parse_known_args(arguments)
        if rest and not options.takes_parameters:
            raise ConfigError(f"unknown argument {rest[0]!r}; see recbole-drex {options.name} --help")
        options.parameters = parse_parameters(rest)
        return options.command(options, shlex.join(["recbole-drex", *arguments]))
    except (DrexError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output (head, less) has left; what is still buffered must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        hints = {
            "run": "; the same command with --resume goes on from the last finished epoch",
            "compare": "; the same command goes on from the last finished epoch",
            "tune": "; recbole-drex tune --resume DIR goes on with the search in that folder",
        }
        hint = hints.get(arguments[0], "")
        print(f"\nstopped{hint}", file=sys.stderr)
        return 130


def parse_parameters(arguments: Sequence[str]) -> dict[str, Any]:
    """Read ``--name value`` and ``--name=value`` pairs; values are read as YAML.

    Raises:
        ConfigError: a name without a value, a value without a name, or a name given twice.

    Example:
        >>> parse_parameters(["--epochs", "2", "--learning_rate=1e-3", "--keep_unrated", "false"])
        {'epochs': 2, 'learning_rate': 0.001, 'keep_unrated': False}
    """
    from recbole_drex.values import parse_value

    parameters: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--") or len(argument) < 3:
            raise ConfigError(f"expected --name value, found {argument!r}")
        name, equals, value = argument[2:].partition("=")
        if not equals:
            if not rest or (rest[0].startswith("--") and len(rest[0]) > 2):
                raise ConfigError(f"parameter --{name} lacks a value: write --{name} VALUE")
            value = rest.pop(0)
        if name in parameters:
            raise ConfigError(f"parameter --{name} is given twice")
        parameters[name] = parse_value(value)
    return parameters


def name_list(text: str) -> list[str]:
    """Names between commas; a comma inside brackets, as in ``DReX+modalities=[rating,review]``, separates nothing."""
    return [name.strip() for name in re.split(r",(?![^\[]*\])", text) if name.strip()]


def seed_list(text: str) -> list[int]:
    """Whole numbers between commas."""
    try:
        return [int(seed) for seed in name_list(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"seeds are whole numbers separated by commas, not {text!r}") from None


def _varied(text: str) -> tuple[str, list[Any]]:
    """``learning_rate=0.1,0.01``: a parameter and its values, each read as YAML."""
    from recbole_drex.values import parse_value

    name, equals, values = text.partition("=")
    if not equals or not name.isidentifier() or not name_list(values):
        raise argparse.ArgumentTypeError(f"write NAME=VALUE,VALUE,..., not {text!r}")
    return name, [parse_value(value) for value in name_list(values)]


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser and the names of its commands."""
    parser = argparse.ArgumentParser("recbole-drex", description="Review-based recommendation models for RecBole.")
    parser.add_argument("--version", action="version", version=f"recbole_drex {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    def command(name: str, function, text: str, parameters: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=text, description=text, epilog=PARAMETERS if parameters else None, allow_abbrev=False
        )
        sub.set_defaults(command=function, takes_parameters=parameters, name=name)
        return sub

    def data_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--dataset", default="demo", help="demo, an Amazon Reviews 2023 category, or any name (default: demo)"
        )
        sub.add_argument(
            "--raw",
            nargs="+",
            default=[],
            metavar="FILE",
            help="reviews (JSON lines, CSV, TSV, Parquet) or a folder",
        )
        sub.add_argument("--meta", metavar="FILE", help="raw item file with titles")
        sub.add_argument("--data_path", metavar="DIR", help="prepared data sets (default: atomic_data)")
        sub.add_argument(
            "--config_files", type=name_list, default=[], metavar="A.yaml,B.yaml", help="files of parameters"
        )

    run = command("run", _run, "Prepare if needed, train, evaluate, explain.", parameters=True)
    run.add_argument(
        "--model", type=name_list, default=["DReX"], help="one or more names, comma-separated (default: DReX)"
    )
    data_options(run)
    run.add_argument("--output", default="results", metavar="DIR", help="folder of results (default: results)")
    run.add_argument(
        "--seeds", type=seed_list, default=[2026], help="comma-separated; each has its own split (default: 2026)"
    )
    run.add_argument("--resume", action="store_true", help="go on with an interrupted run, keep finished ones")
    run.add_argument("--no_references", action="store_true", help="do not train the reference models beside")

    prepare = command("prepare", _prepare, "Turn raw reviews into a prepared data set.", parameters=True)
    data_options(prepare)
    prepare.add_argument("--rebuild", action="store_true", help="prepare anew even if nothing has changed")

    compare = command(
        "compare",
        _compare,
        "Run models on data sets over seeds, reusing finished runs, and test their differences.",
        parameters=True,
    )
    compare.add_argument(
        "--models", type=name_list, required=True, help="comma-separated; changes after +, as in DReX+start=random"
    )
    compare.add_argument("--datasets", type=name_list, default=["demo"], help="comma-separated (default: demo)")
    compare.add_argument(
        "--seeds", type=seed_list, default=[2026, 2027, 2028], help="comma-separated (default: 2026,2027,2028)"
    )
    compare.add_argument("--folds", type=int, metavar="N", help="N splits a seed, so that every row is tested once")
    compare.add_argument(
        "--vary",
        type=_varied,
        action="append",
        default=[],
        metavar="NAME=V1,V2,...",
        help="run every model with each value, and plot the metrics against it; may be given twice",
    )
    compare.add_argument(
        "--ablate", action="store_true", help="also run each model without each of its parts and modalities"
    )
    compare.add_argument("--output", default="results", metavar="DIR", help="folder of results (default: results)")
    compare.add_argument(
        "--name", default="comparison", help="folder of the comparison inside that (default: comparison)"
    )
    compare.add_argument("--data_path", metavar="DIR", help="prepared data sets (default: atomic_data)")
    compare.add_argument(
        "--config_files", type=name_list, default=[], metavar="A.yaml,B.yaml", help="files of parameters"
    )
    compare.add_argument("--no_references", action="store_true", help="do not run the reference models beside")
    compare.add_argument("--rank_test", action="store_true", help="Friedman and Nemenyi tests over the data sets")

    tune = command(
        "tune",
        _tune,
        "Search the hyper-parameters of models with Ray Tune, each with the same budget.",
        parameters=True,
    )
    tune.add_argument("--models", type=name_list, default=[], help="comma-separated")
    data_options(tune)
    tune.add_argument(
        "--space", metavar="FILE", help="YAML of values per parameter, or a folder of <Model>.yaml (default: built in)"
    )
    tune.add_argument("--algo", default="grid", help="grid, random, optuna or asha (default: grid)")
    tune.add_argument("--trials", type=int, metavar="N", help="of each model (default: the whole grid, or 20)")
    tune.add_argument("--minutes", type=float, metavar="M", help="wall time of each model's search")
    tune.add_argument(
        "--seeds", type=seed_list, default=[2026], help="of each trial; scores are means over them (default: 2026)"
    )
    tune.add_argument("--parallel", type=int, metavar="N", help="trials at once (default: as many as there are cores)")
    tune.add_argument("--cpus_per_trial", type=int, default=1, metavar="N", help="cores of a trial (default: 1)")
    tune.add_argument("--gpus_per_trial", type=float, default=0.0, metavar="G", help="may be a fraction (default: 0)")
    tune.add_argument(
        "--output", default="results/search", metavar="DIR", help="folder of the search (default: results/search)"
    )
    tune.add_argument("--resume", metavar="DIR", help="go on with the search in this folder")
    tune.add_argument(
        "--address", help="of a running Ray: auto, host:port or ray://host:port (default: start one here)"
    )
    tune.add_argument("--yes", action="store_true", help="search a grid of more than 10,000 combinations")

    report = command("report", _report, "Write a comparison, a run or a search as one HTML page.")
    report.add_argument("folder", metavar="FOLDER", help="of a comparison, a run or a search, e.g. results/comparison")
    report.add_argument("--output", metavar="FILE", help="the page (default: report.html in the folder)")

    paper = command("paper", _paper, "Make a table or figure of the paper from stored runs.")
    paper.add_argument("item", metavar="ITEM", help="table-1, table-4, table-5, figure-3, ..., figure-7")
    paper.add_argument("folder", metavar="FOLDER", help="of a comparison, e.g. results/comparison")
    paper.add_argument("--output", metavar="DIR", help="where the files go (default: paper/ in the folder)")
    paper.add_argument("--user", metavar="ID", help="the user of figure-6")

    explain = command("explain", _explain, "Explain a user's recommendations from a finished run.")
    explain.add_argument(
        "--run", required=True, metavar="DIR", help="folder of the run, e.g. results/demo/DReX/seed-2026"
    )
    explain.add_argument("--user", required=True, metavar="ID", help="user as named in the data")
    explain.add_argument("--item", metavar="ID", help="explain this item, instead of the best ones")
    explain.add_argument("--top", type=int, default=3, help="number of recommendations (default: 3)")
    explain.add_argument("--json", action="store_true", help="print one JSON document")
    explain.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour words by the model's attention (default: auto, if the output is a terminal)",
    )

    serve = command("serve", _serve, "Answer requests for recommendations and their reasons, and show a page.")
    serve.add_argument("--run", required=True, metavar="DIR", help="folder of the run")
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="0 for any free one (default: 8000)")
    serve.add_argument("--max_body", type=int, default=1 << 20, metavar="BYTES", help="of a request (default: 1048576)")
    serve.add_argument(
        "--hosts",
        type=name_list,
        default=[],
        metavar="A,B",
        help="names that requests may be for (default: this machine's own names; any, if --host is another address)",
    )
    serve.add_argument(
        "--remember",
        type=int,
        default=10_000,
        metavar="USERS",
        help="whose best items are kept in memory (default: 10000)",
    )

    doctor = command("doctor", _doctor, "Print versions, device, encoder and data sets, and what is missing.")
    doctor.add_argument("--data_path", metavar="DIR", default="atomic_data")
    return parser, list(commands.choices)


def _run(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.quick_start import run
    from recbole_drex.report.terminal import print_run

    results = run(
        options.model,
        options.dataset,
        raw=options.raw,
        meta=options.meta,
        data_path=options.data_path,
        output=options.output,
        seeds=options.seeds,
        config_files=options.config_files,
        parameters=options.parameters,
        references=not options.no_references,
        resume=options.resume,
        command=command,
    )
    print_run(results, Path(options.output))
    return 0


def _compare(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.comparing import compare
    from recbole_drex.report.terminal import print_comparison

    vary = dict(options.vary)
    if len(vary) < len(options.vary):
        raise ConfigError("--vary names a parameter twice; give all its values at once")
    if options.rank_test and len(set(options.datasets)) < 2:
        raise ConfigError("--rank_test compares ranks over data sets; name two or more with --datasets")
    comparison = compare(
        options.models,
        options.datasets,
        options.seeds,
        folds=options.folds,
        vary=vary,
        ablate=options.ablate,
        data_path=options.data_path,
        output=options.output,
        name=options.name,
        config_files=options.config_files,
        parameters=options.parameters,
        references=not options.no_references,
        command=command,
    )
    print_comparison(comparison, options.rank_test)
    return 1 if comparison.failures else 0


def _tune(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.report.search import write_search_report
    from recbole_drex.report.terminal import print_search
    from recbole_drex.tuning.rays import Resources
    from recbole_drex.tuning.search import resume, tune

    resources = Resources(options.parallel, options.cpus_per_trial, options.gpus_per_trial)
    if options.resume is not None:
        if options.models or options.parameters:
            raise ConfigError("--resume goes on with a search as it was begun: give no models and no parameters")
        search = resume(options.resume, address=options.address, resources=resources)
    else:
        search = tune(
            options.models,
            options.dataset,
            space=options.space,
            algo=options.algo,
            trials=options.trials,
            minutes=options.minutes,
            seeds=options.seeds,
            output=options.output,
            resources=resources,
            address=options.address,
            raw=options.raw,
            meta=options.meta,
            data_path=options.data_path,
            config_files=options.config_files,
            parameters=options.parameters,
            yes=options.yes,
            command=command,
        )
    print_search(search)
    print(write_search_report(search))
    return 0


def _report(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.report.html import write_report

    print(write_report(options.folder, Path(options.output) if options.output else None))
    return 0


def _paper(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.evaluation.comparison import read_comparison
    from recbole_drex.report.paper import paper_item

    comparison = read_comparison(options.folder)
    output = Path(options.output) if options.output else Path(options.folder) / "paper"
    for path in paper_item(options.item, comparison, output, user=options.user):
        print(path)
    return 0


def _prepare(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.config import Config
    from recbole_drex.quick_start import prepare_dataset
    from recbole_drex.report.terminal import print_statistics

    given = {"data_path": options.data_path} if options.data_path else {}
    config = Config("DReX", options.dataset, options.config_files, {**options.parameters, **given})
    manifest = prepare_dataset(config, options.raw, options.meta, options.rebuild)
    print_statistics(manifest, Path(config["data_path"]), config["keep_unrated"])
    return 0


def _explain(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.explain.explainer import Explainer
    from recbole_drex.explain.terminal import render, use_color
    from recbole_drex.quick_start import load

    if options.top < 1:
        raise ConfigError(f"--top must be 1 or more, not {options.top}")
    explainer = Explainer(load(options.run))
    if options.item is None:
        explanation = explainer.explain(options.user, options.top)
    else:
        explanation = explainer.explain_pair(options.user, options.item)
    if options.json:
        print(json.dumps(dataclasses.asdict(explanation), indent=2))
    else:
        print(render(explanation, use_color(options.color, sys.stdout)))
    return 0


def _serve(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.serve.server import serve

    serve(options.run, options.host, options.port, options.max_body, options.hosts, options.remember)
    return 0


def _doctor(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.doctor import diagnose

    report, healthy = diagnose(Path(options.data_path))
    print(report)
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
