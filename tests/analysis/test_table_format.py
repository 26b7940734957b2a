"""Tables as Markdown, text, LaTeX and CSV: marks, widths, and labels that hold what each format takes for its own."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from planted_runs import planted_comparison, write_run

from recbole_drex.analysis.comparison_table import comparison_table
from recbole_drex.analysis.table_format import escape_latex, escape_markdown
from recbole_drex.results.comparison import comparison_of


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return planted_comparison(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def table(comparison):
    return comparison_table(comparison, ["mae", "rmse", "ndcg@5", "users"])


def test_markdown_has_bold_marks_ranks_and_a_legend(comparison, table):
    text = table.to_markdown()
    result = [run.result["test"]["own_test"]["mae"] for run in comparison.of("DReX", "demo")]
    mean, std = np.mean(result), np.std(result, ddof=1)
    assert f"| **{mean:.4f}** ± {std:.4f} (1) " in text
    assert re.search(r"\| demo +\| Bias +\| mse +\| mean +\| 3 +\| \d\.\d{4}[†‡] ± \d\.\d{4} \(3\)", text)
    assert "| mae ↓ " in text and "| ndcg@5 ↑ " in text and "| users " in text
    assert "Tested against DReX: mae, rmse, ndcg@5. † differs" in text
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in grid}) == 1 and len(grid) == 2 + 6 + 6


def test_text_fits_the_terminal_and_has_all_columns(table):
    for width in (80, 100, 160):
        text = table.to_text(width)
        grid = [line for line in text.splitlines() if re.match("dataset|demo  |Soft_ware  |--", line)]
        assert max(map(len, grid)) <= width
        for metric in table.metrics:
            assert len(re.findall(rf"(?<![\w@]){metric}(?: [↓↑]|$|  )", text, re.MULTILINE)) == 1
    assert "*" in text and "**" not in text
    assert len(re.findall("^dataset", table.to_text(40), re.MULTILINE)) == len(table.metrics)


def test_csv_reads_back_in_full_precision_with_its_conventions(table):
    back = pd.read_csv(io.StringIO(table.to_csv()))
    pd.testing.assert_frame_equal(back[table.frame.columns], table.frame, check_dtype=False, rtol=1e-14, atol=0)
    assert (back["candidates"] == "own_test").all() and (back["gain"] == "exponential").all()
    assert back.groupby("dataset")["fingerprint"].first().to_dict() == table.data
    assert (back["split"] == "random, RS [0.8, 0.1, 0.1], by user").all()


def test_latex_escapes_what_labels_hold(tmp_path):
    label = r"DReX+a_b=50%&c#{d}\e^f~g<h>|$i[j]"
    folders = [write_run(tmp_path, label), write_run(tmp_path, "Bias", noise=1)]
    text = comparison_table(comparison_of(folders), ["mae", "mae_rounded"]).to_latex()
    assert (
        r"DReX+a\_b=50\%\&c\#\{d\}\textbackslash{}e\textasciicircum{}f\textasciitilde{}g\textless{}h\textgreater{}"
        r"\textbar{}\$i{[}j]"
    ) in text
    assert r"\toprule" in text and r"\midrule" in text and r"\bottomrule" in text
    assert r"\textbf{" in text and r"$^{\ddagger}$" in text and "‡" not in text
    assert r"mae\_rounded $\downarrow$" in text
    body = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {5}
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    assert unescaped.count("$") % 2 == len(re.findall(r"\\\$", unescaped)) % 2


def test_labels_stay_in_their_cell(tmp_path):
    label = "DReX+x=a|b`c`*d*\n<script>"
    folders = [write_run(tmp_path, label), write_run(tmp_path, "Bias")]
    table = comparison_table(comparison_of(folders), ["mae"])
    assert r"DReX+x=a\|b\`c\`\*d\* \<script>" in table.to_markdown()
    assert "DReX+x=a|b`c`*d* <script>" in table.to_text()
    assert escape_latex("* [a]\n\nb") == "{*} {[}a] b" and escape_markdown("[a](b)") == r"\[a\](b)"


def test_only_counts_have_no_decimals(comparison):
    for run in comparison.runs:
        run.result["test"]["own_test"]["giniindex@10"] = 0.25
    text = comparison_table(comparison, ["users", "giniindex@10", "tied_share"], tests=()).to_text(160)
    assert re.search(r"DReX .* 40 ± 0 +0\.2500 ± 0\.0000 +0\.0000 ± 0\.0000", text)
