"""The report of a search: the page, its figures and the terminal output."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pages
import pandas as pd
import pytest
from explained import EVIL
from matplotlib import image
from pages import Page, check_stands_alone, check_structure, elements, too_wide
from planted_searches import GRID, RANGES, SEEDS, both_models, frame_of, grid_trials, ranged_trials, trial, write_search

from recbole_drex.cli.main import main
from recbole_drex.cli.run_output import print_search
from recbole_drex.errors import CheckpointError
from recbole_drex.report.figures.search_figures import figures_of
from recbole_drex.report.html import write_report
from recbole_drex.report.pages.search_page import write_search_report
from recbole_drex.tuning.search_results import Search
from recbole_drex.tuning.search_summary import budgets, fairness, scored


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return both_models(tmp_path_factory.mktemp("searches") / "search")


@pytest.fixture(scope="module")
def path(search: Search) -> Path:
    return write_search_report(search)


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """The finished trials of DReX, lists as text, computed from the written files only."""
    rows = frame_of(grid_trials())
    return rows.assign(modalities=rows["modalities"].map(str))


def text_of(page: Page) -> str:
    return " ".join("".join(part for _, part in page.all("main")).split())


def tables_of(page: Page) -> list[list[list[str]]]:
    """Sort keys of the tables of trials, by table, row and cell."""
    tables: list[list[list[str]]] = []
    for tag, attrs, _, parents in page.elements:
        if tag == "table":
            wanted = attrs.get("class") == "trials"
            tables += [[]] if wanted else []
        elif tag == "tr" and "tbody" in parents and wanted:
            tables[-1].append([])
        elif tag == "td" and wanted and "data-value" in attrs:
            tables[-1][-1].append(attrs["data-value"] or "")
    return tables


# The page


def test_is_one_self_contained_accessible_page(page: Page) -> None:
    check_stands_alone(page)
    check_structure(page)


def test_report_of_a_searchs_folder(search: Search, path: Path, tmp_path: Path, capsys: Any) -> None:
    before = path.read_bytes()
    assert main(["report", str(search.folder)]) == 0
    assert capsys.readouterr().out.strip() == str(search.folder / "report.html")
    assert path.read_bytes() == before
    # Links are relative to the page, wherever it goes.
    elsewhere = Page(write_report(search.folder, tmp_path / "sub" / "page.html").read_text(encoding="utf-8"))
    addresses = [attrs["href"] or "" for attrs, _ in elsewhere.all("a")]
    files = [tmp_path / "sub" / unquote(one) for one in addresses if not one.startswith("#")]
    assert len(files) == 6  # two tables, two configurations, two logs
    assert all(file.is_file() for file in files)


def test_figures_are_files_too(search: Search, path: Path) -> None:
    names = {f"{model}-{name}.png" for model in ("DReX", "BPR") for name in ("heat-map", "sensitivity", "parallel")}
    files = {file.name: file for file in (search.folder / "figures").iterdir()}
    assert set(files) == names - {"BPR-heat-map.png"}
    figure = figures_of(search, "DReX")["parallel"]
    height, width, _ = image.imread(files["DReX-parallel.png"]).shape
    assert (width, height) == pytest.approx(figure.get_size_inches() * 150, abs=1)


def test_names_the_winners_and_their_test_metrics(search: Search, page: Page) -> None:
    text = text_of(page)
    for model in ("DReX", "BPR"):
        winner = max(
            (one for one in search.trials[model] if one["status"] == "finished"),
            key=lambda one: np.mean(list(one["scores"].values())) * (1 if model == "BPR" else -1),
        )
        scores = list(winner["scores"].values())
        assert f"{np.mean(scores):.4f} ± {np.std(scores, ddof=1):.4f}" in text
        results = [json.loads((winner["folder"] / f"seed-{seed}" / "result.json").read_text()) for seed in SEEDS]
        full = [result["test"]["full"]["ndcg@10"] for result in results]
        assert f"{np.mean(full):.4f}± {np.std(full, ddof=1):.4f}" in text
        assert f"--config_files {search.folder}/best/{model}.yaml --seeds 1,2" in text
    rows = [row for row in page.elements if row[0] == "tr" and "BPR" in "".join(row[2])]
    assert "-" in "".join(rows[1][2])  # it predicts no rating, so it has no MAE


def test_shows_every_trial_the_best_first(search: Search, page: Page) -> None:
    rows = ["".join(text) for tag, _, text, parents in page.elements if tag == "tr" and "tbody" in parents]
    for model in ("DReX", "BPR"):
        names = [one["name"] for one in search.trials[model]]
        shown = [next(name for name in names if name in row) for row in rows if any(name in row for name in names)]
        assert sorted(shown) == sorted(names)
        assert shown[0] == names[0]
        assert [name for name in shown if "failed" in next(row for row in rows if name in row)] == [
            one["name"] for one in search.trials[model] if one["status"] == "failed"
        ]
    for model, table in zip(("DReX", "BPR"), tables_of(page), strict=True):
        assert [row[0] for row in table] == [
            str(rank) if rank <= len(scored(search, model)) else "" for rank in range(1, len(table) + 1)
        ]
        scores = [float(row[1]) for row in table if row[0]]
        assert scores == sorted(scores, reverse=model == "BPR")
        assert len(scores) == {"DReX": 33, "BPR": 30}[model]


def test_failed_trials_have_their_error_and_their_log(search: Search, page: Page) -> None:
    failed = [row for row in page.elements if row[0] == "tr" and "DataError: no" in "".join(row[2])]
    assert len(failed) == 1
    assert "failed" in "".join(failed[0][2])
    links = [unquote(attrs["href"] or "") for attrs, text in page.all("a") if text.endswith("error.log")]
    assert len(links) == 2
    assert all((search.folder / link).read_text() == "Traceback" for link in links)


def test_states_whether_budgets_were_equal(tmp_path: Path, search: Search) -> None:
    assert fairness(search) == (
        "The budgets differ. Trials, with 2 seeds each: DReX 36, BPR 30. A model with more trials had more chances to "
        "do well, so their winners are not compared on equal terms. Trials without a result: DReX 2."
    )
    space = {"learning_rate": [0.1, 0.2]}
    points = [trial({"learning_rate": rate}, 1.0) for rate in (0.1, 0.2)]

    def fairness_of(name: str, trials: dict[str, Any], **changes: Any) -> str:
        made = write_search(tmp_path / name, trials, dict.fromkeys(trials, space), **changes)
        assert fairness(made) in text_of(Page(write_search_report(made).read_text(encoding="utf-8")))
        return fairness(made)

    both = {"DReX": points, "NARRE": points}
    assert fairness_of("equal", both) == "Every model had the same budget: 2 trials of 2 seeds each."
    assert fairness_of("timed", {"DReX": points, "NARRE": points[:1]}, minutes=30) == (
        "Each model had 30 minutes of wall time. Trials made in it, with 2 seeds each: DReX 2, NARRE 1."
    )
    assert (
        fairness_of("one", {"DReX": points[:1]}, seeds=[1]) == "One model was searched, with 1 trial of one seed each."
    )


def test_counts_the_spent_budget(search: Search) -> None:
    drex, bpr = budgets(search)
    assert drex.counts == {"finished": 33, "stopped": 1, "failed": 2, "running": 0}
    assert (drex.trials, drex.points, drex.epochs) == (36, 36, 33 * 14 + 7)
    assert bpr.points == math.inf
    assert (drex.seconds, drex.work, drex.lost) == (83.0, 36 * 1.5, 2)


def test_an_unfinished_search_is_marked(tmp_path: Path, capsys: Any) -> None:
    points = [trial({"learning_rate": 0.1}, 1.0, 1.1), trial({"learning_rate": 0.2}, 0.5, status="running")]
    made = write_search(tmp_path / "search", {"DReX": points}, {"DReX": {"learning_rate": [0.1, 0.2]}})
    text = text_of(Page(write_search_report(made).read_text(encoding="utf-8")))
    assert f"recbole-drex tune --resume {made.folder}" in text
    assert "not finished" in text
    print_search(made)
    printed = capsys.readouterr().out
    assert "2 trials: 1 finished, 1 not finished" in printed
    assert "It has not been tested yet." in printed


def test_a_winner_without_its_run_is_an_error(tmp_path: Path) -> None:
    points = [trial({"learning_rate": 0.1}, 1.0, 1.1)]
    made = write_search(tmp_path / "search", {"DReX": points}, {"DReX": {"learning_rate": [0.1]}}, tested=True)
    (made.trials["DReX"][0]["folder"] / "seed-2" / "result.json").unlink()
    with pytest.raises(CheckpointError, match="seed-2"):
        write_search_report(made)
    assert not (made.folder / "report.html").exists()


def test_two_thousand_trials_stay_readable(tmp_path: Path) -> None:
    made = write_search(tmp_path / "search", {"BPR": ranged_trials(2000)}, {"BPR": RANGES})
    path = write_search_report(made)
    assert path.stat().st_size < 1_500_000
    text = path.read_text(encoding="utf-8")
    assert "160 of 2,000 finished trials" in text
    assert text.count("<use ") < 4500
    assert len([row for row in Page(text).elements if row[0] == "tr"]) > 2000


@pytest.mark.parametrize("kind", ["none", "failed", "scoreless"])
def test_searches_without_a_winner(tmp_path: Path, kind: str, capsys: Any) -> None:
    points = {
        "none": [],
        "failed": [trial({"learning_rate": 0.1}, status="failed", error="out of memory")],
        "scoreless": [trial({"learning_rate": 0.1}, math.nan)],
    }[kind]
    made = write_search(tmp_path / "search", {"DReX": points}, {"DReX": {"learning_rate": [0.1]}})
    text = text_of(Page(write_search_report(made).read_text(encoding="utf-8")))
    assert "No trial has finished." in text
    assert "No trial has a score." in text
    print_search(made)
    assert "there is no winner" in capsys.readouterr().out


# The terminal


def test_prints_the_ten_best(search: Search, frame: pd.DataFrame, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    print_search(search)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "DReX on demo: rmse on validation, lower is better"
    assert lines[1].split() == ["rmse", "epochs", "seconds", *GRID]
    scores = [float(line.split()[0]) for line in lines[3:13]]
    assert scores == pytest.approx(sorted(frame["score"])[:10], abs=5e-5)
    assert lines[13] == "36 trials: 33 finished, 1 stopped early, 2 failed; 1 min 23 s of wall time"
    failed = [line for line in lines if line.startswith("  failed: ")]
    assert len(failed) == 2
    assert all(Path(line.split("(log ")[1].rstrip(")")).read_text() == "Traceback" for line in failed)
    assert not any(character in "".join(lines) for character in "\x1b\r")
    assert any(
        re.match(r"on test: mae \d\.\d{4} ± \d\.\d{4}, rmse .*, ndcg@10 .*, full_ndcg@10 ", line) for line in lines
    )
    assert f"  TensorBoard: tensorboard --logdir {shlex.quote(str(search.folder / 'ray'))}" in lines
    command = next(line for line in lines if line.strip().startswith("recbole-drex run --model BPR"))
    assert shlex.split(command)[-2:] == ["--seeds", "1,2"]


def test_narrow_terminals_get_one_column_of_parameters(search: Search, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_search(search)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["rmse", "epochs", "seconds", "parameters"]
    table = lines[1 : next(index for index, line in enumerate(lines) if line.startswith("36 trials"))]
    assert max(map(len, table)) <= 80
    assert "use_bilinear false" in " ".join(" ".join(table).split())


# In a browser


def test_works_in_a_browser(browser: Any, path: Path) -> None:
    with pages.opened(browser, path):
        table = "document.querySelectorAll('table.trials')[1]"
        column = f"return [...{table}.tBodies[0].rows].map(row => row.cells[2].dataset.value)"
        before = [float(value) for value in browser.execute_script(column)]
        button = elements(browser, "table.trials")[1].find_elements("css selector", "th button")[2]
        assert button.text == "learning_rate"
        for reverse in (False, True):
            button.click()
            after = [float(value) for value in browser.execute_script(column)]
            assert after == sorted(before, reverse=reverse)
        # Names of values are sorted as text, and a trial without a score stays below.
        score = elements(browser, "table.trials")[0].find_elements("css selector", "th button")[1]
        for _ in range(2):
            score.click()
            last = "return document.querySelector('table.trials').tBodies[0].lastElementChild.textContent"
            assert "failed" in browser.execute_script(last)
        assert [box.get_attribute("tabindex") for box in elements(browser, ".tall")] == ["0", "0"]
        for width in (390, 768, 1600):
            assert too_wide(browser, width) == []


def test_text_is_shown_and_never_executed(browser: Any, tmp_path: Path) -> None:
    space = {"start": [EVIL, "half"], f"name {EVIL}": [["</svg>", EVIL], [1]]}
    points = [
        trial({"start": EVIL, f"name {EVIL}": ["</svg>", EVIL]}, 0.9, 0.95),
        trial({"start": "half", f"name {EVIL}": [1]}, 0.8, 0.7),
        trial({"start": EVIL, f"name {EVIL}": [1]}, status="failed", error=f"KeyError: '{EVIL}'"),
    ]
    made = write_search(tmp_path / "search", {"DReX": points}, {"DReX": space}, command=f"tune {EVIL} </pre>")
    path = write_search_report(made)
    check_stands_alone(Page(path.read_text(encoding="utf-8")))
    with pages.opened(browser, path):
        # An alert would make every command fail.
        shown = [element.text for element in elements(browser, "table.trials td")]
        assert f"[</svg>, {EVIL}]" in shown
        assert any(f"KeyError: '{EVIL}'" in text for text in shown)
        assert f"tune {EVIL} </pre>" in [element.text for element in elements(browser, "pre")]
        assert not elements(browser, "main script")
