"""The functions behind the commands. Heavy imports are local, so that ``--help`` is fast.

Each function takes the parsed options and the command as typed, and returns the exit status.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from recbole_drex.errors import ConfigError, StorageError


def run(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.experiments.quick_start import run
    from recbole_drex.parallel.launch import is_first

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
        overwrite=options.overwrite,
        command=command,
    )
    if is_first() and options.verbose:
        from recbole_drex.cli.run_output import print_run

        print_run(results, Path(options.output))
    elif is_first():
        from recbole_drex.cli.run_summary import print_summary

        print_summary(results, Path(options.output))
    return 0


def evaluate(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.cli.run_output import print_run
    from recbole_drex.experiments.recbole_checkpoint import evaluate_checkpoint

    result = evaluate_checkpoint(
        options.checkpoint,
        trusted=options.trust_checkpoint,
        data_path=options.data_path,
        output=options.output,
        parameters=options.parameters,
        overwrite=options.overwrite,
        command=command,
    )
    print_run([result], Path(options.output))
    return 0


def compare(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.cli.run_output import print_comparison
    from recbole_drex.experiments.compare import compare
    from recbole_drex.experiments.quick_start import merged_files, names_in

    vary = dict(options.vary)
    if len(vary) < len(options.vary):
        raise ConfigError("--vary names a parameter twice; give all its values in one --vary")
    datasets = options.datasets or names_in(merged_files(options.config_files).get("dataset") or "demo")
    if options.rank_test and len(set(datasets)) < 2:
        raise ConfigError("--rank_test compares ranks over data sets; name two or more with --datasets")
    comparison = compare(
        options.models,
        datasets,
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
        reference=options.reference,
        overwrite=options.overwrite,
        command=command,
    )
    print_comparison(comparison, options.rank_test)
    return 1 if comparison.failures else 0


def tune(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.cli.run_output import print_search
    from recbole_drex.report.pages.search_page import write_search_report
    from recbole_drex.tuning.ray_tune import Resources
    from recbole_drex.tuning.search import resume, tune

    named = {"parallel": options.parallel, "cpus": options.cpus_per_trial, "gpus": options.gpus_per_trial}
    given_resources = {key: value for key, value in named.items() if value is not None}
    resources = Resources(**given_resources) if given_resources else None
    if options.resume is not None:
        given = [options.models, options.parameters, options.space, options.trials, options.minutes]
        if any(one for one in given):
            raise ConfigError(
                "--resume continues a search with its original settings: only resource options can be changed"
            )
        search = resume(options.resume, address=options.address, resources=resources)
    else:
        search = tune(
            options.models,
            "demo" if options.dataset is None else options.dataset,
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


def report(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.report.html import write_report

    try:
        print(write_report(options.folder, Path(options.output) if options.output else None))
    except StorageError as error:
        if options.output:
            raise
        raise StorageError(f"{error}; choose another file for the page with --output FILE") from error
    return 0


def paper(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.report.paper import paper_item
    from recbole_drex.results.comparison import read_comparison

    comparison = read_comparison(options.folder)
    output = Path(options.output) if options.output else Path(options.folder) / "paper"
    for path in paper_item(options.item, comparison, output, user=options.user):
        print(path)
    return 0


def prepare(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.cli.run_output import print_statistics
    from recbole_drex.config.recbole_config import Config
    from recbole_drex.experiments.quick_start import dataset_named, merged_files, prepare_dataset

    given = {"data_path": options.data_path} if options.data_path else {}
    dataset = dataset_named(merged_files(options.config_files)) if options.dataset is None else options.dataset
    config = Config("DReX", dataset, options.config_files, {**options.parameters, **given})
    manifest = prepare_dataset(config, options.raw, options.meta, options.rebuild, options.engine, options.address)
    print_statistics(manifest, Path(config["data_path"]), config["keep_unrated"])
    return 0


def explain(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.experiments.run import load_experiment
    from recbole_drex.explain.explainer import Explainer
    from recbole_drex.explain.explanation_text import render, use_color

    if options.top < 1:
        raise ConfigError(f"--top must be 1 or more, not {options.top}")
    explainer = Explainer(load_experiment(options.run), word_effects=options.json)
    if options.item is None:
        explanation = explainer.explain(options.user, options.top)
    else:
        explanation = explainer.explain_pair(options.user, options.item)
    if options.json:
        print(json.dumps(dataclasses.asdict(explanation), indent=2))
    else:
        print(render(explanation, use_color(options.color, sys.stdout)))
    return 0


def recommend(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.cli.batch_commands import recommend

    return recommend(options.run, options.users, options.top, options.out, options.explain)


def predict(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.cli.batch_commands import predict

    return predict(options.run, options.pairs, options.out)


def export(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.cli.batch_commands import export

    return export(options.run, options.vectors)


def models(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.cli.batch_commands import list_models

    return list_models()


def serve(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.serve.server import serve

    serve(options.run, options.host, options.port, options.max_body, options.hosts, options.remember)
    return 0


def verify(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.cli.verify import verify

    verified = verify(options.folder)
    for fault in verified.faults:
        print(fault)
    print(
        f"{verified.checked:,} files checked, {len(verified.faults):,} damaged or missing"
        if verified.faults
        else f"{verified.checked:,} files checked, all are undamaged"
    )
    return 1 if verified.faults else 0


def doctor(options: argparse.Namespace, command: str) -> int:
    from recbole_drex.cli.doctor import diagnose

    report, healthy = diagnose(Path(options.data_path))
    print(report)
    return 0 if healthy else 1
