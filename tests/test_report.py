"""The HTML report: what is in it, that text stays text, and that it works in a real browser."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from recbole_drex.errors import CheckpointError, DataError
from recbole_drex.evaluation.comparison import Comparison
from recbole_drex.report.html import for_script, number, p_value, seconds, write_report
from recbole_drex.report.results import _verdict

EVIL = "<script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(1)>"
VOID = {"wbr", "meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Elements of a page in order, with their attributes, text and ancestors; fails on tags that do not match."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str], tuple[str, ...]]] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        ancestors = tuple(self.elements[place][0] for place in self._open)
        self.elements.append((tag, dict(attrs), [], ancestors))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), [], tuple(self.elements[place][0] for place in self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.elements[place][2].append(data)

    def all(self, *tags: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, "".join(text)) for tag, attrs, text, _ in self.elements if tag in tags]


@pytest.fixture(scope="module")
def report(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(comparison.folder, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


def copy_of(comparison: Comparison, target: Path) -> Path:
    """A copy of a comparison with its runs; returns the copy's folder."""
    shutil.copytree(comparison.folder.parent, target)
    return target / comparison.folder.name


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# What is in it


def test_stands_alone(page: Page) -> None:
    addresses = [value for _, attrs, _, _ in page.elements for key, value in attrs.items() if key in ("src", "href")]
    assert addresses
    assert not [address for address in addresses if re.match(r"[a-z]+:|//", address or "")]
    assert not page.all("link", "iframe", "object", "img")
    scripts = [(attrs, text) for attrs, text in page.all("script") if attrs.get("type") != "application/json"]
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0][1].encode()).digest()).decode()
    policy = next(attrs["content"] for attrs, _ in page.all("meta") if attrs.get("http-equiv")) or ""
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "innerHTML" not in scripts[0][1]


def test_structure_serves_screen_readers(page: Page) -> None:
    ids = [attrs["id"] for _, attrs, _, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [attrs["href"] for attrs, _ in page.all("a") if (attrs["href"] or "").startswith("#")]
    assert len(targets) > 5
    assert {(target or "")[1:] for target in targets} <= set(ids)
    levels = [int(tag[1]) for tag, *_ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(attrs.get("scope") in ("col", "row") for attrs, _ in page.all("th"))
    assert [len(page.all(tag)) for tag in ("main", "nav", "header")] == [1, 1, 1]
    for tag, attrs, _, ancestors in page.elements:
        if tag in ("input", "select"):
            assert "label" in ancestors or attrs.get("aria-label")
        if tag == "svg":
            assert attrs.get("role") == "img"
            assert attrs.get("aria-label")


def test_shows_everything_asked_for(comparison: Comparison, page: Page) -> None:
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
    means = {label: np.mean(found) for label, found in values.items() if None not in found}
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
    run = next(run for run in comparison.runs if run.explains)
    text = write_report(run.folder, tmp_path / "run.html").read_text()
    assert "No two models here can be tested" in text
    assert "explanations-data" in text
    assert "ranks models over data sets and needs two or more" in html.unescape(text)


def test_numbers_as_readers_expect_them() -> None:
    assert [number(0.51139), number(None), number(float("nan")), number(33101, 0)] == ["0.5114", "-", "-", "33,101"]
    assert [p_value(0.0312), p_value(2e-9), p_value(1.0), p_value(float("nan"))] == [".031", "< .001", "1.000", "-"]
    assert [seconds(1.42), seconds(254.0), seconds(7260.0), seconds(None)] == ["1.4 s", "4 min 14 s", "2 h 1 min", "-"]


@pytest.mark.parametrize(
    ("metric", "p", "low", "high", "verdict"),
    [
        ("mae", 0.01, 0.1, 0.2, "better"),
        ("mae", 0.01, -0.1, 0.2, "differs"),
        ("mae", 0.01, -0.2, -0.1, "differs"),
        ("mae", 0.05, 0.1, 0.2, "level"),
        ("ndcg@10", 0.01, -0.2, -0.1, "better"),
        ("ndcg@10", 0.01, 0.1, 0.2, "differs"),
    ],
)
def test_better_takes_both_test_and_interval(metric: str, p: float, low: float, high: float, verdict: str) -> None:
    assert _verdict(pd.Series({"p_holm": p, "ci_low": low, "ci_high": high}), metric) == verdict


# Text from data stays text


@pytest.fixture(scope="module")
def poisoned(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report of a copy in which labels, parameters, errors, users, words, titles and quotes hold a script."""
    root = tmp_path_factory.mktemp("poisoned") / "results"
    folder = copy_of(comparison, root)
    content = json.loads((folder / "comparison.json").read_text())
    content["command"] = f"recbole-drex compare {EVIL}"
    content["datasets"] = content["datasets"][:1]
    content["runs"] = [entry for entry in content["runs"] if entry["dataset"] in content["datasets"]]
    for entry in content["runs"] + content["variants"]:
        if entry["label"] == "DReX":
            entry["label"] = f"DReX {EVIL}"
    for entry in content["runs"]:
        if entry["label"] == "BPR":
            entry.update(status="failed", error=f"out of memory & {EVIL}")
    (folder / "comparison.json").write_text(json.dumps(content))
    for path in root.glob("*/DReX/seed-*/result.json"):
        config = {**json.loads(path.read_text())["config"], "note": f'"></pre>{EVIL}'}
        change(path, label=f"DReX {EVIL}", config=config)
    for path in root.glob("*/DReX/seed-*/explanations.json"):
        users = sorted(json.loads(path.read_text()), key=lambda entry: not entry["recommendations"])
        for entry in users:
            entry["user"] += EVIL
            entry["profile"][:1] = [{**entry["profile"][0], "word": EVIL}]
            for item in entry["recommendations"]:
                item["title"] = f"<!-- </script>{EVIL}"
                quotes = [{"text": f"so {EVIL} \u2028it", "marks": []}, {"text": IMAGE, "marks": []}]
                keyword = {"word": EVIL, "lemma": EVIL, "user_score": 1.0, "item_score": 2.0}
                item["keywords"] = [{**keyword, "user_quote": quotes[0], "item_quote": quotes[1]}]
        path.write_text(json.dumps(users))
    path = write_report(folder)
    assert path == folder / "report.html"
    return path


def test_text_from_data_is_escaped(poisoned: Path) -> None:
    text = poisoned.read_text(encoding="utf-8")
    assert EVIL not in text
    assert "<img" not in text
    assert html.escape(EVIL) in text
    page = Page(text)
    assert len(page.all("script")) == 2
    stored = next(text for attrs, text in page.all("script") if attrs.get("type") == "application/json")
    assert json.loads(stored)[0]["users"][0]["recommendations"][0]["title"] == f"<!-- </script>{EVIL}"


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


def test_folder_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no comparison\.json .* and no result\.json"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot read"), ("[]", "no result file"), ('{"schema": 99}', "schema 99"), ('{"schema": 1}', "damaged")],
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
        for ink, places in grounds.items():
            for ground in places:
                light, dark = sorted((_luminance(colours[name]) for name in (ink, ground)), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, ink, ground)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Any]:
    """The report, opened from disk; afterwards nothing was fetched and nothing complained."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(report.as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert {url.split("#")[0] for url in requested} == {report.as_uri()}


def elements(browser: Any, selector: str) -> list[Any]:
    return browser.find_elements("css selector", selector)


def shown_values(browser: Any, metric: str) -> list[list[float]]:
    """Values of a column of the first table, body by body, without empty cells."""
    script = """return [...document.querySelector('table.results').tBodies].map(body => [...body.rows].map(
        row => row.querySelector(`[data-metric="${arguments[0]}"]`).dataset.value))"""
    return [[float(value) for value in body if value] for body in browser.execute_script(script, metric)]


def test_sorts_by_click(opened: Any) -> None:
    before = shown_values(opened, "rmse")
    header = elements(opened, 'table.results th[data-metric="rmse"]')[0]
    for order in ("ascending", "descending"):
        header.find_element("css selector", "button").click()
        assert header.get_attribute("aria-sort") == order
        wanted = [sorted(body, reverse=order == "descending") for body in before]
        assert shown_values(opened, "rmse") == wanted
    assert elements(opened, "#status")[0].get_attribute("textContent") == "Sorted by RMSE, descending."
    # A score starts with the highest; only one column is marked as sorted; models without a value go last.
    score = elements(opened, 'table.results th[data-metric="ndcg@10"]')[0]
    score.find_element("css selector", "button").click()
    assert score.get_attribute("aria-sort") == "descending"
    assert header.get_attribute("aria-sort") == "none"
    header.find_element("css selector", "button").click()
    last = "return document.querySelector('table.results').tBodies[0].lastElementChild.cells[0].textContent.trim()"
    assert opened.execute_script(last) == "BPR"


def test_columns_can_be_chosen(opened: Any) -> None:
    cell = elements(opened, 'table.results th[data-metric="recall@5"]')[0]
    assert not cell.is_displayed()
    elements(opened, "details.columns summary")[0].click()
    elements(opened, 'details.columns input[value="recall@5"]')[0].click()
    assert cell.is_displayed()
    assert len([c for c in elements(opened, 'table.results td[data-metric="recall@5"]') if c.is_displayed()]) > 3


def test_browses_users(opened: Any, comparison: Comparison) -> None:
    run = next(run for run in comparison.runs if run.explains)
    users = run.explanations()
    heading = "#explained h3"
    assert elements(opened, heading)[0].text == f"User {users[0]['user']}"
    elements(opened, "#explained-next")[0].click()
    assert elements(opened, heading)[0].text == f"User {users[1]['user']}"
    assert elements(opened, "#explained-position")[0].text == f"User 2 of {len(users)}"
    shown = [element.text for element in elements(opened, "#explained h4")]
    assert shown == [row["title"] or row["item"] for row in users[1]["recommendations"]]
    elements(opened, f"#explained-user option[value='{users[4]['user']}']")[0].click()
    assert elements(opened, heading)[0].text == f"User {users[4]['user']}"
    find = elements(opened, "#explained-find")[0]
    find.send_keys(users[2]["user"])
    assert elements(opened, heading)[0].text == f"User {users[2]['user']}"
    find.send_keys(" nobody")
    assert elements(opened, "#explained-position")[0].text == "No user matches."
    assert not elements(opened, heading)


def test_theme_can_be_switched(opened: Any) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        opened.refresh()
        before = opened.execute_script(ground)
        button = elements(opened, "#theme")[0]
        assert button.text == ("Dark theme" if scheme == "light" else "Light theme")
        button.click()
        assert opened.execute_script(ground) != before
        button.click()
        assert opened.execute_script(ground) == before


def test_keyboard_is_enough(opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> Any:
        ActionChains(opened).send_keys(*keys).perform()
        return opened.switch_to.active_element

    first = press(Keys.TAB)
    assert first.text == "Skip to the summary"
    assert first.is_displayed()
    press(Keys.ENTER)
    reached: list[str] = []
    for _ in range(400):
        element = press(Keys.TAB)
        if element.tag_name == "body":
            break
        style = element.value_of_css_property("outline-style")
        reached.append(element.get_attribute("id") or element.text)
        assert style != "none", reached[-1]
        if element.text == "RMSE" and element.tag_name == "button":
            press(Keys.ENTER)
            header = opened.execute_script("return arguments[0].closest('th').getAttribute('aria-sort')", element)
            assert header == "ascending"
        if element.get_attribute("id") == "explained-user":
            before = elements(opened, "#explained h3")[0].text
            press(Keys.ARROW_DOWN)
            assert elements(opened, "#explained h3")[0].text != before
            break
    assert {"RMSE", "explained-find", "explained-user"} <= set(reached)


@pytest.mark.parametrize("width", [390, 768, 1600])
def test_nothing_is_wider_than_the_screen(opened: Any, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wide = opened.execute_script(
            """return [...document.querySelectorAll('body *')].filter(node => !node.closest('.scroll, .canvas, .unseen')
              || node.matches('.scroll, .canvas')).filter(node => node.getBoundingClientRect().right > innerWidth + 0.5)
              .map(node => node.outerHTML.slice(0, 80))"""
        )
        assert wide == []
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_prints_what_is_folded(opened: Any) -> None:
    folded = "return document.querySelectorAll('details:not([open]):not(.columns)').length"
    before = opened.execute_script(folded)
    assert before > 3
    assert opened.execute_script(f"dispatchEvent(new Event('beforeprint')); {folded}") == 0
    assert opened.execute_script(f"dispatchEvent(new Event('afterprint')); {folded}") == before
    pdf = base64.b64decode(opened.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")


def test_scripts_in_data_do_not_run(browser: Any, poisoned: Path) -> None:
    browser.get(poisoned.as_uri())
    # An alert would make every command fail.
    assert EVIL in elements(browser, "#explained h3")[0].text
    assert EVIL in elements(browser, "#explained .words li")[0].text
    assert elements(browser, "#explained h4")[0].text == f"<!-- </script>{EVIL}"
    assert EVIL in elements(browser, "#explained blockquote")[0].text
    assert IMAGE in elements(browser, "#explained blockquote")[1].text
    assert not elements(browser, "main script:not([type])")
    assert not elements(browser, "img")
