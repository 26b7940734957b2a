"""Makes the tables of docs/results.md for one data set: every model and every ablation, each seed with its own split.

    python benchmarks/results.py --dataset Movie_Critics --seeds 2026,2027,2028

Finished runs are kept, so the command can be stopped and started again. It prints Markdown and writes it, with the
figures behind it, to ``benchmarks/results/<dataset>.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from recbole_drex.evaluation.significance import paired_tests
from recbole_drex.evaluation.table import render, result_table, table_header
from recbole_drex.files import write_json, write_text
from recbole_drex.quick_start import run
from recbole_drex.report.terminal import user_errors

MODELS = ["DReX", "DReX-MLP", "DReX-paper", "BPR", "LightGCN"]
ABLATIONS = {
    "no-reviews": {"modalities": ["rating"]},
    "shuffled-reviews": {"shuffle_reviews": True},
    "random-start": {"start": "random"},
    "no-history": {"history": "mean"},
    "no-bilinear": {"use_bilinear": False},
    "no-bias": {"use_bias": False},
}
METRICS = ["mae", "rmse", "mae_rounded", "ndcg@1", "ndcg@5", "ndcg@10", "f1@5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seeds", default="2026,2027,2028")
    parser.add_argument("--models", default=",".join(MODELS), help="the first is what all others are tested against")
    parser.add_argument("--ablations", default=",".join(ABLATIONS), help="of DReX; empty for none")
    parser.add_argument("--data_path", default="atomic_data")
    parser.add_argument("--output", type=Path, default=Path("results"))
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    shared = {"dataset": options.dataset, "data_path": options.data_path, "seeds": seeds, "resume": True}

    models, ablations = (list(filter(None, text.split(","))) for text in (options.models, options.ablations))
    found = [(result, options.output) for result in run(models, output=options.output, **shared)]
    for name in ablations:
        output = options.output / name
        results = run(["DReX"], output=output, parameters=ABLATIONS[name], references=False, **shared)
        found += [({**result, "label": f"DReX, {name}"}, output) for result in results]
    text = report(found, models[0])
    print(text)
    folder = Path(__file__).parent / "results"
    write_text(folder / f"{options.dataset}.md", text)
    figures = [
        {key: result[key] for key in ("model", "seed", "test", "best_epoch", "epochs_run", "seconds")}
        | {"label": result.get("label", result["model"])}
        for result, _ in found
    ]
    write_json(folder / f"{options.dataset}.json", figures)


def report(found: list[tuple[dict, Path]], best: str) -> str:
    """Markdown: the two result tables, and paired tests of one model against everything that predicts ratings."""
    labelled = [
        {**{k: v for k, v in result.items() if k != "label"}, "model": result.get("label", result["model"])}
        for result, _ in found
    ]
    parts = []
    for block, metrics in (("own_test", METRICS), ("full", ["ndcg@10", "recall@10", "recall@20"])):
        parts.append(render(result_table(labelled, metrics, block), table_header(labelled, block)))
    for metric, power in (("MAE", 1), ("squared error", 2)):
        errors: dict[str, list[pd.Series]] = {}
        for result, output in found:
            if result["test"]["own_test"].get("mae") is not None:
                errors.setdefault(result.get("label", result["model"]), []).append(
                    pd.concat({result["seed"]: user_errors(result, output, power)})
                )
        tests = paired_tests({name: pd.concat(e) for name, e in errors.items()}, best, smaller_is_better=True)
        parts += [f"{metric} of users, against {best} (paired over users and seeds)"]
        parts += [tabulate(tests.reset_index().to_dict("list"), "keys", "github", showindex=False, floatfmt=".3g")]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
