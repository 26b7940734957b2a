"""The server as a process of its own: started, asked, stopped, and its page in a real browser."""

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
    """Address of a served run; at the end the server stops as it should."""
    process = start(hostile_run, "--port", "0")
    assert process.stdout
    line = process.stdout.readline()
    assert line.startswith(f"DReX on {hostile.NAME}: http://127.0.0.1:"), process.communicate()
    yield line.split()[3]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    # Whoever is started in the background by a script inherits that SIGINT is ignored, and so has nothing to report.
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


def test_reasons_for_not_starting(hostile_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        wrong = [
            (["--run", str(tmp_path), "--port", "0"], "is no run folder"),
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
def test_what_is_missing_is_named(
    package: str, hostile_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("app", "answers", "service"):
        monkeypatch.delitem(sys.modules, f"recbole_drex.serve.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["serve", "--run", str(hostile_run), "--port", "0"]) == 2
    assert capsys.readouterr().err == f"error: serve needs {package}: pip install fastapi uvicorn\n"


# In a browser ----------------------------------------------------------------------------------------------------


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
def opened(browser: Any, address: str) -> Iterator[Any]:
    """The page; afterwards nothing of another place was fetched and nothing complained."""
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
    """Search for what only one thing matches, and give its button."""
    box = browser.find_element("id", field)
    box.clear()
    box.send_keys(text)

    def found(browser: Any) -> Any:
        script = "return [...document.querySelectorAll(arguments[0])].map((button) => button.textContent)"
        shown = browser.execute_script(script, f"{matches} button")
        return len(shown) == 1 and text.lower() in shown[0].lower()

    wait(browser, found)
    return find(browser, f"{matches} button")[0]


def matched(browser: Any) -> Any:
    wait(browser, lambda browser: find(browser, "#user-matches button"))
    return find(browser, "#user-matches button")[0]


def test_page_recommends_to_a_user_of_the_data(opened: Any) -> None:
    assert opened.title == f"DReX on {hostile.NAME}"
    search(opened, "user-query", USER.upper(), "#user-matches").click()
    wait(opened, lambda browser: find(browser, "#result .items > li"))
    assert opened.find_element("id", "result-heading").text == f"For {USER}"
    assert opened.switch_to.active_element.get_attribute("id") == "result-heading"
    assert len(find(opened, "#result .items > li")) == 5
    assert len(find(opened, "#result .item-head h3")) == 5
    assert find(opened, "#result .words li")
    for rating in find(opened, "#result .rating"):
        assert 1 <= float(rating.text.split()[0]) <= 5


ANSWERS = """
const keyword = { word: "<b>w</b>", lemma: "w", score: 1, reviews: 2, mean_rating: 4, side: "liked", quotes: [] };
const quote = { text: "\\u{1f600} good <script>bad</script>", marks: [
  { start: 2, end: 6, attention: 0.5, delta: 0.1 }, { start: 15, end: 18, attention: 0.25, delta: -0.2 }] };
const row = { item: "<i>", title: "<img src=x onerror=alert(1)>", predicted: 4.5, sentence: "<u>s</u>", written: "",
  neighbours: null, profile: [], keywords: [], words: [{ word: "<em>", lemma: "e", delta: -0.25, reviews: 3 }],
  reviews: [], evidence: [{ side: "item", delta: 0.5, weight: null,
    review: { user: "<s>", item: "<i>", title: "", rating: 4, quote } }] };
window.fetch = async (path) => ({ ok: true, json: async () => path.startsWith("profile")
  ? { ratings: 1, mean_rating: null, keywords: [keyword] } : { recommendations: [row] } });
"""
"""Answers full of markup, in place of the server's."""


def test_page_shows_scripts_as_text(opened: Any) -> None:
    """In a title that is found and chosen, and wherever an answer brings text. An alert would make commands fail."""
    opened.find_element("id", "choose-new").click()
    item = search(opened, "item-query", "<script>alert", "#item-matches")
    assert hostile.EVIL in item.text
    item.click()
    assert hostile.EVIL in opened.find_element("css selector", "#posted-items h3").text
    opened.find_element("id", "choose-user").click()
    opened.execute_script(ANSWERS)
    matched(opened).click()
    wait(opened, lambda browser: find(browser, "#result mark"))
    marks = opened.execute_script(
        """return [...document.querySelectorAll("#result mark")].map((mark) =>
          [mark.textContent, mark.className, mark.title, mark.style.getPropertyValue("--attention")])"""
    )
    raised, lowered = "+0.10 to the prediction", "\u22120.20 to the prediction"
    assert marks == [["good", "up", raised, "1"], ["bad", "down", lowered, "0.5"]]
    text = opened.find_element("id", "result").text
    for piece in ("<b>w</b>", "<img src=x onerror=alert(1)>", "<u>s</u>", "<em>", "<s>", "<script>bad</script>"):
        assert piece in text
    assert "\u22120.25" in text
    assert "+0.50" in text
    assert not opened.find_elements("css selector", "#result :is(img, b, u, s, script, i, em)")


def test_page_lets_somebody_new_rate_items(opened: Any, address: str) -> None:
    with urllib.request.urlopen(f"{address}health") as response:
        health = json.load(response)
    opened.find_element("id", "choose-new").click()
    assert bool(find(opened, "#new-refused")) != health["new_users"]
    assert not opened.find_element("id", "recommend").is_enabled()
    for name in ("game_00", "game_01"):
        search(opened, "item-query", name, "#item-matches").click()
    assert len(find(opened, "#posted-items > li")) == 2
    rating, review = (opened.find_element("css selector", f"#posted-items {tag}") for tag in ("input", "textarea"))
    assert (rating.get_attribute("min"), rating.get_attribute("max")) == ("1", "5")
    rating.send_keys("5")
    review.send_keys("I love the story")
    find(opened, "#posted-items > li:last-child button")[0].click()
    assert len(find(opened, "#posted-items > li")) == 1
    if health["new_users"]:
        opened.find_element("id", "recommend").click()
        wait(opened, lambda browser: find(browser, "#result .items > li"))
        assert opened.find_element("id", "result-heading").text == "For you"


def test_page_tells_why_there_is_no_answer(opened: Any) -> None:
    reason = "64 requests are being answered"
    button = matched(opened)
    opened.execute_script(f"window.fetch = async () => ({{ ok: false, json: async () => ({{ detail: '{reason}' }}) }})")
    button.click()
    wait(opened, lambda browser: find(browser, "#problem"))
    assert opened.find_element("id", "problem").text == reason


def test_page_in_both_themes_and_on_a_phone(opened: Any, address: str) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    before = opened.execute_script(ground)
    opened.find_element("id", "theme").click()
    assert opened.execute_script(ground) != before
    matched(opened).click()
    wait(opened, lambda browser: find(browser, "#result .items > li"))
    for path in ("", "docs"):
        if path:
            opened.get(address + path)
        for width in (390, 1280):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert opened.execute_script("return document.documentElement.scrollWidth") <= width
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
