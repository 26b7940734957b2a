"""The options of the command line."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from recbole_drex import __version__
from recbole_drex.cli import commands

PARAMETERS = (
    "Any parameter of RecBole, of properties/overall.yaml or of the model may follow as --name value or --name=value."
)


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and the parsers of its commands by name."""
    parser = argparse.ArgumentParser("recbole-drex", description="Review-based recommendation models for RecBole.")
    parser.add_argument("--version", action="version", version=f"recbole_drex {__version__}")
    subparsers = parser.add_subparsers(metavar="command", required=True)

    def command(name: str, function, text: str, parameters: bool = False) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name, help=text, description=text, epilog=PARAMETERS if parameters else None, allow_abbrev=False
        )
        sub.set_defaults(command=function, takes_parameters=parameters, name=name)
        return sub

    def data_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "-d",
            "--dataset",
            help="demo, a category of Amazon Reviews (Video_Games, Video_Games_2018, Video_Games_2014), "
            "or any name (default: that of --config_files, or demo)",
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
            "--config_files", type=file_list, default=[], metavar="A.yaml,B.yaml", help="files of parameters"
        )

    def output_options(sub: argparse.ArgumentParser, default: str = "results", what: str = "folder of results") -> None:
        sub.add_argument(
            "--output_dir", dest="output", default=default, metavar="DIR", help=f"{what} (default: {default})"
        )
        sub.add_argument("--output", action=_OldOutput, help=argparse.SUPPRESS)

    def overwrite(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--overwrite",
            action="store_true",
            help="replace finished runs of another configuration, each once the new one is finished",
        )

    run = command("run", commands.run, "Prepare if needed, train, evaluate, explain.", parameters=True)
    run.add_argument(
        "-m",
        "--model",
        "--models",
        type=name_list,
        help="names, comma-separated (default: that of --config_files, or DReX)",
    )
    data_options(run)
    output_options(run)
    run.add_argument(
        "--seeds",
        type=seed_list,
        help="comma-separated; each seed has its own split (default: the seed of --config_files, or 2026)",
    )
    run.add_argument("--resume", action="store_true", help="continue an interrupted run, and keep finished runs")
    overwrite(run)
    run.add_argument("--verbose", action="store_true", help="print all metrics, tests and the quality of explanations")
    run.add_argument("--no_references", action="store_true", help="do not train the reference models")

    evaluate = command(
        "evaluate", commands.evaluate, "Evaluate a model that RecBole trained, from its checkpoint.", parameters=True
    )
    evaluate.add_argument("checkpoint", metavar="FILE", help="a .pth file that RecBole 1.2 saved")
    evaluate.add_argument(
        "--trust-checkpoint", action="store_true", help="load the file, which runs any code that it contains"
    )
    evaluate.add_argument("--data_path", metavar="DIR", help="data sets (default: the path in the checkpoint)")
    output_options(evaluate)
    overwrite(evaluate)

    prepare = command("prepare", commands.prepare, "Turn raw reviews into a prepared data set.", parameters=True)
    data_options(prepare)
    prepare.add_argument("--rebuild", action="store_true", help="prepare again even if nothing has changed")
    prepare.add_argument(
        "--engine", default="local", help="local, or ray: encoders on all cores or GPUs of a cluster (default: local)"
    )
    prepare.add_argument(
        "--address",
        metavar="ADDRESS",
        help="Ray cluster: host:port, ray://host:port or auto (default: a local one on this machine)",
    )

    compare = command(
        "compare",
        commands.compare,
        "Run models on data sets over seeds, reusing finished runs, and test their differences.",
        parameters=True,
    )
    compare.add_argument(
        "--models",
        "--model",
        type=name_list,
        help="comma-separated; changes after +, as in DReX+start=random (default: 'model' of --config_files)",
    )
    compare.add_argument(
        "--datasets", "--dataset", type=name_list, help="names (default: 'dataset' of --config_files, or demo)"
    )
    compare.add_argument(
        "--seeds", type=seed_list, default=[2026, 2027, 2028], help="comma-separated (default: 2026,2027,2028)"
    )
    compare.add_argument("--folds", type=int, metavar="N", help="N splits per seed, so that every row is tested once")
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
    output_options(compare)
    compare.add_argument(
        "--name", default="comparison", help="folder of the comparison in --output_dir (default: comparison)"
    )
    compare.add_argument("--data_path", metavar="DIR", help="prepared data sets (default: atomic_data)")
    compare.add_argument(
        "--config_files", type=file_list, default=[], metavar="A.yaml,B.yaml", help="files of parameters"
    )
    overwrite(compare)
    compare.add_argument("--no_references", action="store_true", help="do not run the reference models")
    compare.add_argument(
        "--reference", metavar="MODEL", help="the model against which all others are tested (default: the first)"
    )
    compare.add_argument("--rank_test", action="store_true", help="Friedman and Nemenyi tests over the data sets")

    tune = command(
        "tune",
        commands.tune,
        "Search the hyper-parameters of models with Ray Tune, each with the same budget.",
        parameters=True,
    )
    tune.add_argument("--models", "--model", type=name_list, default=[], help="comma-separated")
    data_options(tune)
    tune.add_argument(
        "--space", metavar="FILE", help="YAML of values per parameter, or a folder of <Model>.yaml (default: built in)"
    )
    tune.add_argument("--algo", default="grid", help="grid, random, optuna or asha (default: grid)")
    tune.add_argument("--trials", type=int, metavar="N", help="trials per model (default: the whole grid, or 20)")
    tune.add_argument("--minutes", type=float, metavar="M", help="wall time of the search per model")
    tune.add_argument(
        "--seeds",
        type=seed_list,
        default=[2026],
        help="seeds of each trial; scores are means over them (default: 2026)",
    )
    tune.add_argument("--parallel", type=int, metavar="N", help="concurrent trials (default: number of cores)")
    tune.add_argument("--cpus_per_trial", type=int, metavar="N", help="cores per trial (default: 1)")
    tune.add_argument(
        "--gpus_per_trial", type=float, metavar="G", help="GPUs per trial, possibly a fraction (default: 0)"
    )
    output_options(tune, "results/search", "folder of the search")
    tune.add_argument("--resume", metavar="DIR", help="continue the search in this folder")
    tune.add_argument(
        "--address", help="running Ray cluster: auto, host:port or ray://host:port (default: start one locally)"
    )
    tune.add_argument("--yes", action="store_true", help="search a grid of more than 10,000 combinations")

    report = command("report", commands.report, "Write a comparison, a run or a search as one HTML page.")
    report.add_argument(
        "folder", metavar="FOLDER", help="folder of a comparison, run or search, e.g. results/comparison"
    )
    report.add_argument("--output", metavar="FILE", help="output file (default: report.html in the folder)")

    paper = command("paper", commands.paper, "Make a table or figure of the paper from stored runs.")
    paper.add_argument("item", metavar="ITEM", help="table-1, table-4, table-5, figure-3, ..., figure-7")
    paper.add_argument("folder", metavar="FOLDER", help="folder of a comparison, e.g. results/comparison")
    paper.add_argument("--output", metavar="DIR", help="output folder (default: paper/ in the folder)")
    paper.add_argument("--user", metavar="ID", help="user shown in figure-6")

    verify = command("verify", commands.verify, "Check the files of a run, comparison, search or prepared data set.")
    verify.add_argument("folder", metavar="DIR", help="folder of one of these, or a folder that contains some")

    explain = command("explain", commands.explain, "Explain a user's recommendations from a finished run.")
    explain.add_argument(
        "--run", required=True, metavar="DIR", help="folder of the run, e.g. results/demo/DReX/seed-2026"
    )
    explain.add_argument("--user", required=True, metavar="ID", help="user name in the data set")
    explain.add_argument("--item", metavar="ID", help="explain this item instead of the best ones")
    explain.add_argument("--top", type=int, default=3, help="number of recommendations (default: 3)")
    explain.add_argument("--json", action="store_true", help="print one JSON document")
    explain.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour quoted words (default: auto, that is, if the output is a terminal)",
    )

    recommend = command("recommend", commands.recommend, "Write the best items of many users from a finished run.")
    recommend.add_argument("--run", required=True, metavar="DIR", help="folder of the run")
    recommend.add_argument(
        "--users", default="all", metavar="FILE", help="all, or a file with one user per line (default: all)"
    )
    recommend.add_argument("--top", type=int, default=10, metavar="K", help="items per user (default: 10)")
    recommend.add_argument("--out", metavar="FILE", help=".parquet, .csv or .jsonl (default: a table on the terminal)")
    recommend.add_argument("--explain", action="store_true", help="add a column with explanations")

    predict = command("predict", commands.predict, "Predict the ratings of pairs of users and items.")
    predict.add_argument("--run", required=True, metavar="DIR", help="folder of the run")
    predict.add_argument(
        "--pairs", required=True, metavar="FILE", help="columns user_id and item_id; .parquet, .csv or .jsonl"
    )
    predict.add_argument("--out", metavar="FILE", help=".parquet, .csv or .jsonl (default: a table on the terminal)")

    export = command("export", commands.export, "Write the vectors of all users and items of a finished run.")
    export.add_argument("--run", required=True, metavar="DIR", help="folder of the run")
    export.add_argument("--vectors", required=True, metavar="FILE.npz", help="NumPy archive to write")

    command("models", commands.models, "List the models that can be trained, one per line.")

    serve = command("serve", commands.serve, "Serve recommendations and explanations over HTTP, with a web page.")
    serve.add_argument("--run", required=True, metavar="DIR", help="folder of the run")
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)"
    )
    serve.add_argument("--port", type=int, default=8000, help="0 for any free port (default: 8000)")
    serve.add_argument(
        "--max_body",
        type=int,
        default=1 << 20,
        metavar="BYTES",
        help="maximum size of a request body (default: 1048576)",
    )
    serve.add_argument(
        "--hosts",
        type=name_list,
        default=[],
        metavar="A,B",
        help="allowed Host headers (default: names of this machine; any, if --host is not a loopback address)",
    )
    serve.add_argument(
        "--remember",
        type=int,
        default=10_000,
        metavar="USERS",
        help="number of users whose best items are cached (default: 10000)",
    )

    doctor = command("doctor", commands.doctor, "Print versions, device, encoder and data sets, and what is missing.")
    doctor.add_argument("--data_path", metavar="DIR", default="atomic_data")
    return parser, subparsers.choices


def option_names(parser: argparse.ArgumentParser) -> list[str]:
    """Names of the options of a command, without dashes."""
    return [text.lstrip("-") for text in parser._option_string_actions]


class _OldOutput(argparse.Action):
    """``--output``: the parameter of that name, or the deprecated name of ``--output_dir``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        from recbole_drex.model.output_parameters import OUTPUTS

        if values in OUTPUTS:
            namespace.model_output = values
            return
        print("note: --output DIR is deprecated; write --output_dir DIR", file=sys.stderr)
        namespace.output = values


def file_list(text: str) -> list[str]:
    """Files separated by commas or, as in RecBole, by spaces; names of existing files may contain spaces."""
    return [file for name in name_list(text) for file in ([name] if Path(name).is_file() else name.split())]


def name_list(text: str) -> list[str]:
    """Names separated by commas, except commas in brackets, as in ``DReX+modalities=[rating,review]``."""
    return [name.strip() for name in re.split(r",(?![^\[]*\])", text) if name.strip()]


def seed_list(text: str) -> list[int]:
    """Whole numbers separated by commas."""
    try:
        return [int(seed) for seed in name_list(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"seeds are whole numbers separated by commas, not {text!r}") from None


def _varied(text: str) -> tuple[str, list[Any]]:
    """A parameter and its values, each read as YAML, as in ``learning_rate=0.1,0.01``."""
    from recbole_drex.config.yaml_values import parse_value

    name, equals, values = text.partition("=")
    if not equals or not name.isidentifier() or not name_list(values):
        raise argparse.ArgumentTypeError(f"write NAME=VALUE,VALUE,..., not {text!r}")
    return name, [parse_value(value) for value in name_list(values)]
