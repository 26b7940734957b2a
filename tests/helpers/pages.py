"""What tests of the report's page share: a parser that fails on bad HTML, a hostile report, and a browser."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from explained import EVIL, IMAGE
from sealing import unseal

from recbole_drex.report.html import write_report
from recbole_drex.results.comparison import Comparison

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
        ancestors = tuple(self.elements[index][0] for index in self._open)
        self.elements.append((tag, dict(attrs), [], ancestors))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), [], tuple(self.elements[index][0] for index in self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.elements[index][2].append(data)

    def all(self, *tags: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, "".join(text)) for tag, attrs, text, _ in self.elements if tag in tags]


def check_stands_alone(page: Page) -> None:
    """A page needs no other file, and nothing runs in it but its one script."""
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


def check_structure(page: Page) -> None:
    """Ids, headings, tables and pictures are such that a screen reader can tell them."""
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


def copy_of(comparison: Comparison, target: Path) -> Path:
    """A copy of a comparison with its runs; returns the copy's folder."""
    unseal(shutil.copytree(comparison.folder.parent, target))
    return target / comparison.folder.name


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def poison(comparison: Comparison, root: Path) -> Path:
    """Report of a copy in which labels, parameters, errors, users, words, titles and quotes hold a script."""
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
            for past in [past for word in entry["profile"] for past in word["quotes"]]:
                past["title"] = f"<!-- </script>{EVIL}"
            entry["profile"][:1] = [{**entry["profile"][0], "word": EVIL}]
            for item in entry["recommendations"]:
                item["title"] = f"<!-- </script>{EVIL}"
                for one in item["evidence"]:
                    one["review"]["title"] = item["title"]
                quotes = [{"text": f"so {EVIL} \u2028it", "marks": []}, {"text": IMAGE, "marks": []}]
                keyword = {"word": EVIL, "lemma": EVIL, "user_score": 1.0, "item_score": 2.0}
                item["keywords"] = [{**keyword, "user_quote": quotes[0], "item_quote": quotes[1]}]
                for part in (part for part in item["parts"] if part["words"]):
                    part["name"] = EVIL
                    for claim, quote in zip((part["user"], part["item"]), quotes, strict=True):
                        if claim["quote"]:
                            claim["quote"]["quote"] = quote
        path.write_text(json.dumps(users))
    path = write_report(folder)
    assert path == folder / "report.html"
    return path


def start_browser() -> Iterator[Any]:
    """Headless Chromium; the test is skipped where it, its driver or selenium is missing."""
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


@contextmanager
def opened(browser: Any, path: Path, hash: str = "") -> Iterator[Any]:
    """A page, opened from disk; afterwards nothing was fetched and nothing complained."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri() + hash)
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert {url.split("#")[0] for url in requested} == {path.as_uri()}


def elements(browser: Any, selector: str) -> list[Any]:
    return browser.find_elements("css selector", selector)


def too_wide(browser: Any, width: int) -> list[str]:
    """Elements that end right of a screen of that width, outside of what may scroll; and whether the page scrolls."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wide = browser.execute_script(
            """return [...document.querySelectorAll('body *')].filter(node => !node.closest('.scroll, .canvas, .unseen')
              || node.matches('.scroll, .canvas')).filter(node => node.getBoundingClientRect().right > innerWidth + 0.5)
              .map(node => node.outerHTML.slice(0, 80))"""
        )
        if browser.execute_script("return document.documentElement.scrollWidth") > width:
            wide.append("the page scrolls sideways")
        return wide
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def classes_without_rule(browser: Any) -> list[str]:
    """Classes of elements of the page, drawn or not, that no rule of its style sheet names."""
    return browser.execute_script(
        r"""const named = new Set(), used = new Set();
        const read = (rules) => { for (const rule of rules) {
          for (const [, name] of (rule.selectorText ?? "").matchAll(/\.([\w-]+)/g)) named.add(name);
          if (rule.cssRules) read(rule.cssRules);
        } };
        for (const sheet of document.styleSheets) read(sheet.cssRules);
        for (const node of document.querySelectorAll("[class]")) for (const name of node.classList) used.add(name);
        return [...used].filter((name) => !named.has(name)).sort();"""
    )


def too_faint(browser: Any, least: float = 4.5) -> list[str]:
    """Texts in sight whose contrast with what is behind them is less than ``least``, of WCAG 2 (1.4.3)."""
    return browser.execute_script(
        r"""const least = arguments[0], canvas = document.createElement("canvas");
        const pixel = canvas.getContext("2d", { willReadFrequently: true });
        const rgba = (colour) => {
          pixel.clearRect(0, 0, 1, 1);
          pixel.fillStyle = colour;
          pixel.fillRect(0, 0, 1, 1);
          const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
          return [r, g, b, a / 255];
        };
        const over = (top, ground) => [0, 1, 2].map((n) => top[3] * top[n] + (1 - top[3]) * ground[n]);
        const light = (colour) => {
          const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
          const [r, g, b] = colour.map((c) => linear(c / 255));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const behind = (node) => {
          if (!node) return [255, 255, 255];
          const own = rgba(getComputedStyle(node).backgroundColor);
          return own[3] === 1 ? own.slice(0, 3) : over(own, behind(node.parentElement));
        };
        const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
          const node = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
          const left = node.closest("script, .unseen, .skip, svg, [disabled], .stars");
          if (!text || left || !node.checkVisibility({ visibilityProperty: true })) continue;
          const ground = behind(node), ink = over(rgba(getComputedStyle(node).color), ground);
          const [high, low] = [light(ink), light(ground)].sort((one, other) => other - one);
          const contrast = (high + 0.05) / (low + 0.05);
          if (contrast < least) found.push(`${contrast.toFixed(2)} ${text.slice(0, 40)}`);
        }
        return found;""",
        least,
    )


def unreachable(browser: Any) -> list[str]:
    """Controls in sight at which the tabulator key does not stop; of a group of radio buttons one is enough."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    name = """const named = (node) => node.type === "radio" ? `radio ${node.name}` : node.outerHTML.slice(0, 90);"""
    controls = browser.execute_script(
        name
        + """return [...new Set([...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
          .filter((node) => !node.disabled && node.checkVisibility({ visibilityProperty: true })).map(named))]"""
    )
    browser.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    reached = set()
    for _ in range(3 * len(controls) + 10):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.add(browser.execute_script(f"{name} return named(document.activeElement)"))
    return [control for control in controls if control not in reached]


def emulate(browser: Any, scheme: str) -> None:
    """Let the system prefer the ``light`` or the ``dark`` scheme."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
