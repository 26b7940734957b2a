"""The HTML report: its contents, and that text is never interpreted."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from explained import EVIL
from pages import Page, change, check_stands_alone, check_structure, copy_of

from recbole_drex.errors import CheckpointError, DataError
from recbole_drex.report.html import write_report
from recbole_drex.report.pages.rendering import for_script, number, p_value, seconds
from recbole_drex.report.pages.result_tables import _verdict
from recbole_drex.results.comparison import REFERENCES, Comparison


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


# Contents


def test_is_self_contained(page: Page) -> None:
    check_stands_alone(page)


def test_structure_suits_screen_readers(page: Page) -> None:
    check_structure(page)


def test_shows_all_requested_results(comparison: Comparison, page: Page) -> None:
    text = " ".join("".join(part for _, part in page.all("main")).split())
    for run in comparison.runs:
        assert run.label in text
        assert run.result["data"]["fingerprint"] in text
        assert run.replicate in text
    for name, version in comparison.results[0]["versions"].items():
        assert f"{name}{version}" in text.replace(" ", "")
    for section in ("summary", "results", "significance", "curves", "learning", "data", "groups", "explanations"):
        assert any(attrs.get("id") == section for attrs, _ in page.all("section"))
    assert comparison.command in text
    assert "Nemenyi" in text
    for value in comparison.results[0]["protocol"].values():
        assert str(value) in text


def test_table_holds_means_of_results(comparison: Comparison, report: Path) -> None:
    rows = re.findall(r"<tr>\s*<th scope=\"row\" data-value=.*?</tr>", report.read_text(), flags=re.DOTALL)
    dataset = comparison.datasets[0]
    values = {
        variant.label: [run.result["test"]["own_test"].get("rmse") for run in comparison.of(variant.label, dataset)]
        for variant in comparison.variants
    }
    means = {
        label: np.mean(values_of_label) for label, values_of_label in values.items() if None not in values_of_label
    }
    shown = {}
    for row in rows[: len(comparison.variants)]:
        label = html.unescape(re.search(r'data-value="([^"]*)"', row)[1])  # type: ignore[index]
        cell = re.search(r'<td class="num( best)?" data-metric="rmse" data-value="([^"]*)">(.*?)</td>', row, re.DOTALL)
        assert cell is not None
        if label in means:
            assert float(cell[2]) == pytest.approx(means[label], abs=1e-12)
            assert f"{means[label]:.4f}" in cell[3]
            assert f"± {np.std(values[label], ddof=1):.4f}" in cell[3]
        else:
            assert cell[2] == ""
        shown[label] = bool(cell[1])
    assert shown == {variant.label: variant.label == min(means, key=means.get) for variant in comparison.variants}  # type: ignore[arg-type]


def test_report_of_a_single_run(comparison: Comparison, tmp_path: Path) -> None:
    """The reference models of its command are shown below the double line, and it is tested against them."""
    run = next(run for run in comparison.runs if run.explains)
    text = write_report(run.folder, tmp_path / "run.html").read_text()
    assert "explanations-data" in text
    rows = [name.strip() for attrs, name in Page(text).all("th") if attrs.get("data-value")]
    assert rows[:5] == ["DReX", *REFERENCES]
    assert 'id="significance"' in text
    assert "Over data sets" not in text


def test_number_formats() -> None:
    assert [number(0.51139), number(None), number(float("nan")), number(33101, 0)] == ["0.5114", "-", "-", "33,101"]
    assert [p_value(0.0312), p_value(2e-9), p_value(1.0), p_value(float("nan"))] == [".031", "< .001", "1.000", "-"]
    assert [seconds(1.42), seconds(254.0), seconds(7260.0), seconds(None)] == ["1.4 s", "4 min 14 s", "2 h 1 min", "-"]


@pytest.mark.parametrize(
    ("metric", "p", "difference", "verdict"),
    [
        ("mae", 0.01, 0.1, "worse"),
        ("mae", 0.01, -0.1, "better"),
        ("mae", 0.05, 0.1, "level"),
        ("ndcg@10", 0.01, -0.1, "worse"),
        ("ndcg@10", 0.01, 0.1, "better"),
    ],
)
def test_models_are_better_or_worse_than_the_reference(metric: str, p: float, difference: float, verdict: str) -> None:
    assert _verdict(pd.Series({"p_holm": p, "difference": difference}), metric) == verdict


# Text from data is never interpreted


def test_text_from_data_is_escaped(poisoned: Path) -> None:
    text = poisoned.read_text(encoding="utf-8")
    assert EVIL not in text
    assert "<img" not in text
    assert html.escape(EVIL) in text
    page = Page(text)
    assert len(page.all("script")) == 2
    stored = next(text for attrs, text in page.all("script") if attrs.get("type") == "application/json")
    model = json.loads(stored)[0]
    item = model["users"][0]["recommendations"][0]["item"]
    assert model["titles"][item] == f"<!-- </script>{EVIL}"


def test_failed_model_has_its_reason(poisoned: Path) -> None:
    page = Page(poisoned.read_text(encoding="utf-8"))
    (reason,) = [text for _, text in page.all("li") if "memory" in text]
    assert reason.startswith("BPR failed on ")
    assert reason.endswith(f"out of memory & {EVIL}")
    assert "BPR failed" in " ".join(text for _, text in page.all("p"))


def test_links_to_run_folders_are_relative(comparison: Comparison, poisoned: Path) -> None:
    links = [attrs["href"] or "" for attrs, _ in Page(poisoned.read_text(encoding="utf-8")).all("a")]
    folders = [poisoned.parent / unquote(link) for link in links if not link.startswith("#")]
    runs = comparison.of(dataset=comparison.datasets[0])
    assert len(folders) == len([run for run in runs if run.label != "BPR"])
    assert all((folder / "result.json").is_file() for folder in folders)


@pytest.mark.parametrize("text", [EVIL, "</SCRIPT >", "<!--<script>", "&lt;", "\u2028\u2029", 'a"b\\', "é😀"])
def test_data_for_the_script_cannot_end_its_element(text: str) -> None:
    written = str(for_script({text: [text]}))
    assert not re.search("[<>&]", written)
    assert json.loads(written) == {text: [text]}


# Bad input


def test_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no comparison\.json .* and no result\.json"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot read"), ("[]", "not a result file"), ('{"schema": 99}', "schema 99"), ('{"schema": 1}', "damaged")],
)
def test_damaged_result(comparison: Comparison, tmp_path: Path, content: str, message: str) -> None:
    folder = copy_of(comparison, tmp_path / "damaged")
    path = next((tmp_path / "damaged").glob("*/BPR/seed-*/result.json"))
    path.write_text(content)
    with pytest.raises(CheckpointError, match=message) as error:
        write_report(folder)
    assert "result.json" in str(error.value)
    assert not (folder / "report.html").exists()


def test_runs_on_other_data_are_refused(comparison: Comparison, tmp_path: Path) -> None:
    folder = copy_of(comparison, tmp_path / "mixed")
    path = next((tmp_path / "mixed").glob("*/BPR/seed-*/result.json"))
    data = json.loads(path.read_text())["data"]
    change(path, data={**data, "fingerprint": "0" * 16})
    with pytest.raises(DataError, match="fingerprints"):
        write_report(folder)


def test_output_that_cannot_be_written(comparison: Comparison, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    run = next(run for run in comparison.runs if run.label == "GlobalMean")
    for output in (tmp_path / "file" / "report.html", tmp_path / "folder"):
        with pytest.raises(DataError, match="cannot write"):
            write_report(run.folder, output)


def test_texts_are_readable_in_both_themes(report: Path) -> None:
    """Contrast of at least 4.5:1 (WCAG 2 AA) of every text colour on every ground."""
    pairs = dict(re.findall(r"--([\w-]+): (light-dark\([^)]*\))", report.read_text()))
    for theme in (0, 1):
        colours = {name: re.findall("#[0-9a-f]{6}", pair)[theme] for name, pair in pairs.items()}
        grounds = {"ink": ("paper", "card", "shade", "best", "mark"), "soft": ("paper", "card", "shade", "best")}
        grounds["link"] = ("paper", "card", "shade")
        for name in ("heat", "up", "down"):
            grounds["ink"] += tuple(f"{name}-{step}" for step in (1, 2, 3))
        grounds["up"] = grounds["down"] = ("paper", "card", "mark")
        for ink, texts in grounds.items():
            for ground in texts:
                light, dark = sorted((_luminance(colours[name]) for name in (ink, ground)), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, ink, ground)


def _luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
