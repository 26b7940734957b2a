"""The metrics of the sentences that models write, side by side."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from tabulate import tabulate

from recbole_drex.errors import printable
from recbole_drex.results.comparison import Comparison

NOTE = (
    "Sentences written for test pairs, against the sentence of the test review with the highest keyword score, of at "
    "most 15 words. BLEU (of the corpus, unsmoothed) and ROUGE (mean F1) in percent; USR: distinct sentences over all; "
    "FMR: share with the target's best keyword; FCR: share of all such keywords that are used; DIV: keywords that "
    "two sentences share, lower is more diverse. contradicting: of the sentences that name a word which the item's "
    "training reviews agree to praise or to blame (judged), the share that says the opposite, and the same of the "
    "targets. Means over runs."
)
_COLUMNS = {
    "bleu_1": "BLEU-1", "bleu_4": "BLEU-4", "rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_l": "ROUGE-L",
    "usr": "USR", "fmr": "FMR", "fcr": "FCR", "div": "DIV", "judged": "judged", "contradicting": "contradicting",
}  # fmt: skip


def sentence_table(comparison: Comparison) -> pd.DataFrame:
    """One row per data set and model that writes sentences, means over its runs; no rows without measurements.

    Args:
        comparison: runs; the key ``sentences`` of a result has what
            :func:`recbole_drex.explain.written_sentences.sentence_quality` returns.

    Returns:
        Columns ``dataset``, ``model``, ``runs`` and those of that function; undefined values are NaN.
    """
    rows = []
    for dataset, variant in itertools.product(comparison.datasets, comparison.variants):
        runs = [run.result["sentences"] for run in comparison.of(variant.label, dataset) if "sentences" in run.result]
        if runs:
            means = pd.DataFrame(runs, dtype=float).mean().to_dict()
            rows.append({"dataset": dataset, "model": variant.label, "runs": len(runs), **means})
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for display: BLEU and ROUGE in percent, a dash for undefined values."""
    if table.empty:
        return table
    columns: dict[str, list[str]] = {"model": [printable(name) for name in table["model"]]}
    if table["dataset"].nunique() > 1:
        columns = {"dataset": table["dataset"].tolist(), **columns}
    columns["pairs"] = [f"{value:,.0f}" for value in table["pairs"]]
    for name, heading in _COLUMNS.items():
        percent = name.startswith(("bleu", "rouge"))
        columns[heading] = [_number(100 * value if percent else value, 2 if percent else 3) for value in table[name]]
    targets = [_number(value, 3) for value in table["contradicting_targets"]]
    columns["contradicting"] = [
        f"{one} (targets {other})" for one, other in zip(columns["contradicting"], targets, strict=True)
    ]
    return pd.DataFrame(columns)


def to_text(table: pd.DataFrame, style: str = "simple") -> str:
    """The table as plain text or, by ``style: pipe``, Markdown, with the meaning of its columns."""
    columns = shown(table).to_dict("list")
    return f"{tabulate(columns, headers='keys', tablefmt=style, disable_numparse=True)}\n\n{NOTE}\n"


def _number(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"
