"""The report in a real browser: by mouse and keyboard, in both themes, at every width, and in print."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pages
import pytest
from explained import EVIL, IMAGE
from pages import classes_without_rule, elements, emulate, too_faint, too_wide

from recbole_drex.results.comparison import Comparison


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Any]:
    with pages.opened(browser, report) as page:
        yield page


def shown_values(browser: Any, metric: str) -> list[list[float]]:
    """Values of a column of the first table, body by body, without empty cells."""
    script = """return [...document.querySelector('table[id^=table-]').tBodies].map(body => [...body.rows].map(
        row => row.querySelector(`[data-metric="${arguments[0]}"]`).dataset.value))"""
    return [[float(value) for value in body if value] for body in browser.execute_script(script, metric)]


def test_sorts_by_click(opened: Any) -> None:
    before = shown_values(opened, "rmse")
    header = elements(opened, 'table[id^=table-] th[data-metric="rmse"]')[0]
    for order in ("ascending", "descending"):
        header.find_element("css selector", "button").click()
        assert header.get_attribute("aria-sort") == order
        wanted = [sorted(body, reverse=order == "descending") for body in before]
        assert shown_values(opened, "rmse") == wanted
    assert elements(opened, "#status")[0].get_attribute("textContent") == "Sorted by RMSE, descending."
    # A score starts with the highest; only one column is marked as sorted; models without a value go last.
    score = elements(opened, 'table[id^=table-] th[data-metric="ndcg@10"]')[0]
    score.find_element("css selector", "button").click()
    assert score.get_attribute("aria-sort") == "descending"
    assert header.get_attribute("aria-sort") == "none"
    header.find_element("css selector", "button").click()
    last = "return document.querySelector('table[id^=table-]').tBodies[0].lastElementChild.cells[0].textContent.trim()"
    assert opened.execute_script(last) == "BPR"


def test_columns_can_be_chosen(opened: Any) -> None:
    cell = elements(opened, 'table[id^=table-] th[data-metric="recall@5"]')[0]
    assert not cell.is_displayed()
    elements(opened, "details.columns summary")[0].click()
    elements(opened, 'details.columns input[value="recall@5"]')[0].click()
    assert cell.is_displayed()
    assert len([c for c in elements(opened, 'table[id^=table-] td[data-metric="recall@5"]') if c.is_displayed()]) > 3


def test_browses_users(opened: Any, comparison: Comparison) -> None:
    run = next(run for run in comparison.runs if run.explains)
    users = run.explanations()
    heading = "#explained-view h3"
    assert elements(opened, heading)[0].text == f"User {users[0]['user']}"
    elements(opened, "#explained-next")[0].click()
    assert elements(opened, heading)[0].text == f"User {users[1]['user']}"
    assert elements(opened, "#explained-position")[0].text == f"User 2 of {len(users)}"
    shown = [element.text for element in elements(opened, "#explained-view h4")]
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


def test_keyboard_navigation(opened: Any) -> None:
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
            before = elements(opened, "#explained-view h3")[0].text
            press(Keys.ARROW_DOWN)
            assert elements(opened, "#explained-view h3")[0].text != before
        if {"RMSE", "explained-user"} <= set(reached):
            break
    assert {"RMSE", "explained-find", "explained-user"} <= set(reached)


@pytest.mark.parametrize("width", [390, 768, 1600])
def test_nothing_is_wider_than_the_screen(opened: Any, width: int) -> None:
    assert too_wide(opened, width) == []


@pytest.mark.parametrize("width", [390, 1280, 1600])
def test_captions_are_whole_and_plots_fill_their_cards(opened: Any, width: int) -> None:
    """A caption ends with its box, however wide its table is, and the text of a card is never too small."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        cut, narrow, small = opened.execute_script(
            """document.querySelectorAll("details").forEach((one) => { one.open = true; });
            const right = (node) => node.getBoundingClientRect().right;
            const wide = (node) => node.getBoundingClientRect().width;
            const cut = [...document.querySelectorAll("caption span")].filter(
              (node) => right(node) > right(node.closest(".scroll")));
            const drawn = [...document.querySelectorAll("figure svg")];
            const narrow = drawn.filter((node) => wide(node) < 0.98 * wide(node.parentElement));
            const size = (svg) => Math.min(...[...svg.querySelectorAll("text")].map((text) =>
              parseFloat(getComputedStyle(text).fontSize) * wide(svg) / svg.viewBox.baseVal.width));
            return [cut.map((node) => node.textContent), narrow.length, drawn.map(size).filter((one) => one < 8.5)];"""
        )
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (cut, narrow, small) == ([], 0, [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_class_has_a_rule_and_every_text_has_contrast(opened: Any, scheme: str) -> None:
    """Also for two users side by side and for a word's reviews."""
    emulate(opened, scheme)
    for choose in ("", "options[1].selected = true;"):
        opened.execute_script(
            f"const other = document.getElementById('explained-other'); {choose and 'other.' + choose}"
            "other.dispatchEvent(new Event('change'));"
            "document.querySelectorAll('details').forEach((one) => { one.open = true; });"
            "document.querySelector('#explained-view .word').click();"
        )
        assert classes_without_rule(opened) == []
        opened.execute_script("document.getElementById('explained-word').close()")
        assert too_faint(opened) == []


def test_explanations_come_right_after_the_summary(opened: Any) -> None:
    assert [node.get_attribute("id") for node in elements(opened, "main > section")][:3] == [
        "summary",
        "explanations",
        "results",
    ]


def test_prints_folded_parts(opened: Any) -> None:
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
    assert EVIL in elements(browser, "#explained-view h3")[0].text
    assert EVIL in elements(browser, "#explained-view .tiles .written")[0].text
    assert elements(browser, "#explained-view h4")[0].text == f"<!-- </script>{EVIL}"
    browser.execute_script("document.querySelectorAll('#explained-view details').forEach(one => { one.open = true; })")
    shown = [one.text for one in elements(browser, "#explained-view .shared-words blockquote")]
    assert EVIL in shown[0]
    assert IMAGE in shown[1]
    assert not elements(browser, "main script:not([type])")
    assert not elements(browser, "img")
