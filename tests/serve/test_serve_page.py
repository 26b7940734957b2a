"""The server as a separate process, and its page in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile
import pytest
from pages import classes_without_rule, emulate, too_faint, too_wide, unreachable
from sealing import reseal

from recbole_drex.cli.main import main

pytest.importorskip("fastapi", reason="needs the extra serve")

ROOT = Path(__file__).parents[2]
USER = "user_05"


def start(run: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "recbole_drex", "serve", "--run", str(run), *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def address(hostile_run: Path) -> Iterator[str]:
    """Address of a served run; afterwards, the server is stopped and its exit checked."""
    process = start(hostile_run, "--port", "0")
    assert process.stdout
    line = process.stdout.readline()
    assert line.startswith(f"DReX on {hostile.NAME}: http://127.0.0.1:"), process.communicate()
    yield line.split()[3]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    # A process started in the background by a script ignores SIGINT, so there is nothing to report.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert process.returncode == (0 if ignored else 130)
    assert "Traceback" not in errors
    assert errors.split()[-1:] == ([] if ignored else ["stopped"])


def test_answers_as_a_process(address: str) -> None:
    with urllib.request.urlopen(f"{address}recommend?user={USER}&top=2") as response:
        assert len(json.load(response)["recommendations"]) == 2


def test_large_and_endless_bodies(address: str) -> None:
    host, port = address.split("/")[2].split(":")
    for header, body in (
        ("content-length: 99999999999", b"x"),
        ("transfer-encoding: chunked", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    ):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(f"POST /recommend HTTP/1.1\r\nhost: {host}\r\n{header}\r\n\r\n".encode())
            for _ in range(17):
                connection.sendall(body)
            assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]
    test_answers_as_a_process(address)


def test_errors_at_start(hostile_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        wrong = [
            (["--run", str(tmp_path), "--port", "0"], "is not a run folder"),
            (["--run", str(hostile_run), "--port", port], f"cannot listen on 127.0.0.1, port {port}"),
            (["--run", str(hostile_run), "--port", "70000"], "from 0 to 65535"),
            (["--run", str(hostile_run), "--port", "0", "--max_body", "0"], "--max_body must be 1 or more"),
            (["--run", str(hostile_run), "--port", "0", "--remember", "-1"], "--remember must be 0 or more"),
            (["--run", str(hostile_run), "--port", "0", "--host", "no such host"], "cannot listen on no such host"),
        ]
        for arguments, reason in wrong:
            assert main(["serve", *arguments]) == 2
            error = capsys.readouterr().err
            assert reason in error
            assert error.count("\n") == 1


def test_run_of_another_version(hostile_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(hostile_run, tmp_path / "run")
    described = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**described, "version": "0.0.1", "fingerprint": "0" * 16}))
    reseal(other)
    assert main(["serve", "--run", str(other), "--port", "0"]) == 2
    assert "made by version 0.0.1 on data 0000000000000000" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_missing_packages_are_named(
    package: str, hostile_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("app", "answers", "service"):
        monkeypatch.delitem(sys.modules, f"recbole_drex.serve.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["serve", "--run", str(hostile_run), "--port", "0"]) == 2
    assert capsys.readouterr().err == f"error: serve needs {package}: pip install fastapi uvicorn\n"


# In a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Any]:
    """The page; afterwards, checks that it fetched nothing from other hosts and logged no errors."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(address)
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert requested
    assert all(url.startswith((address, "data:")) for url in requested)


def wait(browser: Any, condition: Callable[[Any], Any]) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(condition)


def find(browser: Any, selector: str) -> list[Any]:
    return [element for element in browser.find_elements("css selector", selector) if element.is_displayed()]


def search(browser: Any, field: str, text: str, matches: str) -> Any:
    """Search for text with a single match, and return its button."""
    box = browser.find_element("id", field)
    box.clear()
    box.send_keys(text)

    def only_match(browser: Any) -> Any:
        script = "return [...document.querySelectorAll(arguments[0])].map((button) => button.textContent)"
        shown = browser.execute_script(script, f"{matches} button")
        return len(shown) == 1 and text.lower() in shown[0].lower()

    wait(browser, only_match)
    return find(browser, f"{matches} button")[0]


def matched(browser: Any) -> Any:
    wait(browser, lambda browser: find(browser, "#user-matches button"))
    return find(browser, "#user-matches button")[0]


def press_first_match(browser: Any) -> None:
    """The list is drawn again when more matches arrive, so a button may be replaced before it is pressed."""
    from selenium.common.exceptions import StaleElementReferenceException

    def pressed(browser: Any) -> bool:
        try:
            matched(browser).click()
        except StaleElementReferenceException:
            return False
        return True

    wait(browser, pressed)


def shown_for(browser: Any, title: str) -> list[Any]:
    """Cards of the recommendations, once those for ``title`` are shown."""

    def there(browser: Any) -> list[Any]:
        ready = browser.find_element("id", "result").get_attribute("aria-busy") == "false"
        return find(browser, "#result .items > li") if ready and heading(browser) == title else []

    return wait(browser, there)


def heading(browser: Any) -> str:
    return browser.find_element("id", "result-heading").text


def titles(browser: Any) -> list[str]:
    return [title.text for title in find(browser, "#result .item-head h4")]


def new_user(browser: Any) -> None:
    browser.find_element("id", "choose-new").click()
    wait(browser, lambda browser: find(browser, "#item-matches .stars"))


def star(browser: Any, box: str, level: int) -> Any:
    return browser.find_elements("css selector", f"{box} .stars label")[level - 1]


def test_page_recommends_to_an_existing_user(opened: Any) -> None:
    assert opened.title == f"DReX on {hostile.NAME}"
    first = matched(opened).text.split()[0]
    assert shown_for(opened, f"For {first}")  # before a user is chosen
    search(opened, "user-query", USER.upper(), "#user-matches").click()
    shown_for(opened, f"For {USER}")
    assert opened.switch_to.active_element.get_attribute("id") == "result-heading"
    assert len(find(opened, "#result .items > li")) == 5
    assert len(titles(opened)) == 5
    assert find(opened, "#result .tiles .word")
    for rating in find(opened, "#result .rating"):
        assert 1 <= float(rating.text.split()[0]) <= 5


def test_reasons_unfold_and_a_word_opens_its_reviews(opened: Any) -> None:
    first = matched(opened).text.split()[0]
    card = shown_for(opened, f"For {first}")[0]
    assert not card.find_elements("css selector", "details[open]")
    card.find_element("css selector", "summary").click()
    assert card.find_element("css selector", "blockquote, table.parts").is_displayed()
    find(opened, "#result .tiles .word")[0].click()
    assert opened.find_element("id", "explained-word").is_displayed()
    assert find(opened, "#explained-word-reviews blockquote")
    opened.find_element("id", "explained-word-close").click()
    assert not opened.find_element("id", "explained-word").is_displayed()


RTL = "\u05e1\u05e4\u05e8 \u05d8\u05d5\u05d1 \u05de\u05d0\u05d5\u05d3"
LONG = " ".join(["Interminable"] * 38) + " " + "x" * 6
assert len(LONG) == 500
ANSWERS = """
const [title, text] = arguments;
const keyword = { word: text, lemma: "w", score: 1, reviews: 2, mean_rating: 4, side: "liked", quotes: [] };
const quote = { text: "\\u{1f600} good <script>bad</script>", marks: [
  { start: 2, end: 6, attention: 0.5, delta: 0.1 }, { start: 15, end: 18, attention: 0.25, delta: -0.2 }] };
const review = (quote) => ({ user: "<s>", item: "<i>", title: "", rating: 4, quote });
const row = { item: "<i>", title, predicted: 4.5, sentence: "<u>s</u>", written: "", neighbours: null, profile: [],
  keywords: [], words: [{ word: "<em>", lemma: "e", delta: -0.25, reviews: 3 }],
  reviews: [{ side: "item", delta: 0, weight: 0.5, review: review({ text, marks: [] }) }],
  evidence: [{ side: "item", delta: 0.5, weight: null, review: review(quote) }] };
window.fetch = async (path) => ({ ok: true, text: async () => JSON.stringify(path.startsWith("profile")
  ? { ratings: 1, mean_rating: null, keywords: [keyword] } : { user: "u", recommendations: [row] }) });
"""
"""Replaces the server's responses by responses with a given title and text."""


def answered(browser: Any, title: str, text: str) -> None:
    button = matched(browser)
    browser.execute_script(ANSWERS, title, text)
    button.click()
    wait(browser, lambda browser: titles(browser) == [title])
    browser.execute_script("document.querySelectorAll('#result details').forEach((one) => { one.open = true; })")


def test_page_shows_scripts_as_text(opened: Any) -> None:
    """In titles, and wherever responses contain text. An alert would make commands fail."""
    new_user(opened)
    item = search(opened, "item-query", "<script>alert", "#item-matches")
    assert hostile.EVIL in item.text
    item.click()
    assert hostile.EVIL in opened.find_element("css selector", "#posted-items h3").text
    opened.find_element("id", "choose-user").click()
    answered(opened, "<img src=x onerror=alert(1)>", "<b>w</b>")
    marks = opened.execute_script(
        """return [...document.querySelectorAll("#result mark")].map(
          (mark) => [mark.textContent, mark.className, mark.title])"""
    )
    raised, lowered = "+0.100 to the prediction; attention 0.500", "\u22120.200 to the prediction; attention 0.250"
    assert marks == [["good", "up-2", raised], ["bad", "down-3", lowered]]
    text = opened.find_element("id", "result").text
    for piece in ("<b>w</b>", "<img src=x onerror=alert(1)>", "<u>s</u>", "<em>", "<s>", "<script>bad</script>"):
        assert piece in text
    assert "\u22120.25" in text
    assert "+0.50" in text
    assert not opened.find_elements("css selector", "#result :is(img, u, s, script, i, em)")


def test_right_to_left_text_and_a_title_of_500_characters(opened: Any) -> None:
    answered(opened, RTL, RTL)
    direction = "return [...document.querySelectorAll(arguments[0])].map((node) => getComputedStyle(node).direction)"
    assert opened.execute_script(direction, "#result h4") == ["rtl"]
    assert opened.execute_script(direction, "#result .tiles .written") == ["rtl"]
    assert "rtl" in opened.execute_script(direction, "#result blockquote p")
    answered(opened, LONG, LONG)
    assert too_wide(opened, 390) == []
    assert titles(opened) == [LONG]
    assert find(opened, "#result h4")[0].size["height"] < 90  # three lines


def test_page_lets_a_new_user_rate_items(opened: Any, address: str) -> None:
    with urllib.request.urlopen(f"{address}health") as response:
        assert json.load(response)["new_users"]
    new_user(opened)
    assert opened.find_element("id", "hint").text.startswith("Rate an item")
    for name in ("game_00", "game_01"):
        search(opened, "item-query", name, "#item-matches").click()
    assert len(find(opened, "#posted-items > li")) == 2
    assert not find(opened, "#result .items > li")
    star(opened, "#posted-items > li", 5).click()
    shown_for(opened, "For you")
    assert opened.find_element("css selector", "#posted-items input:checked").get_attribute("value") == "5"
    # By keyboard: one star less. The card shows the change.
    opened.find_element("css selector", "#posted-items input:checked").send_keys("\ue012")
    assert opened.find_element("css selector", "#posted-items input:checked").get_attribute("value") == "4"
    wait(opened, lambda browser: find(browser, "#result .moved, #result .rating small:nth-of-type(3)"))
    before = opened.find_element("id", "result-content").text
    review = opened.find_element("css selector", "#posted-items textarea")
    review.send_keys("I love the story")
    wait(opened, lambda browser: browser.find_element("id", "result-content").text != before)
    assert opened.switch_to.active_element == review  # typing is not interrupted
    for _ in range(2):
        find(opened, "#posted-items > li:first-child button")[0].click()
    assert not find(opened, "#posted-items > li")
    wait(opened, lambda browser: find(browser, "#hint"))
    assert not find(opened, "#result .items > li")


def test_a_star_next_to_a_match_adds_the_item(opened: Any) -> None:
    new_user(opened)
    star(opened, "#item-matches li", 3).click()
    shown_for(opened, "For you")
    assert opened.find_element("css selector", "#posted-items input:checked").get_attribute("value") == "3"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "This user or item is not in the data."),
        (422, "The server cannot use this input. A rating must be between 1 and 5."),
        (500, "The server could not answer. See its log."),
        (503, "The server is busy. Please try again in a moment."),
    ],
)
def test_page_shows_errors(opened: Any, status: int, message: str) -> None:
    button = matched(opened)
    answer = f'{{ ok: false, status: {status}, text: async () => \'{{"detail": "interactions[0].item"}}\' }}'
    opened.execute_script(f"window.fetch = async () => ({answer})")
    button.click()
    wait(opened, lambda browser: find(browser, "#problem"))
    assert opened.find_element("id", "problem").text == message


def test_page_of_a_stopped_server(opened: Any) -> None:
    button = matched(opened)
    opened.execute_script("window.fetch = async () => { throw new TypeError('Failed to fetch'); }")
    button.click()
    wait(opened, lambda browser: find(browser, "#problem"))
    assert opened.find_element("id", "problem").text.startswith("The server does not answer.")


def test_page_without_javascript(browser: Any, address: str) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(address)
        assert find(browser, "noscript .problem")[0].text.startswith("This page needs JavaScript")
        assert not find(browser, "#panes")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible(opened: Any, scheme: str) -> None:
    """Every class has a rule, texts have contrast, and the keyboard reaches all controls, for both kinds of users."""
    emulate(opened, scheme)
    matched(opened)
    for rated in (False, True):
        if rated:
            new_user(opened)
            star(opened, "#item-matches li", 3).click()
            shown_for(opened, "For you")
        else:
            wait(opened, lambda browser: find(browser, "#result .items > li"))
        find(opened, "#result .items summary")[0].click()
        assert classes_without_rule(opened) == []
        assert too_faint(opened) == []
        assert unreachable(opened) == []


def test_page_in_both_themes_and_on_a_phone(opened: Any, address: str) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    before = opened.execute_script(ground)
    opened.find_element("id", "theme").click()
    assert opened.execute_script(ground) != before
    press_first_match(opened)
    wait(opened, lambda browser: find(browser, "#result .items > li"))
    for width in (390, 1280):
        size = {"width": width, "height": 844 if width == 390 else 900, "deviceScaleFactor": 1, "mobile": width < 500}
        opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert opened.execute_script("return document.documentElement.scrollHeight / innerHeight") < 3
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        assert too_wide(opened, width) == []
    opened.get(address + "docs")
    for width in (390, 1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
