"""The pictures of README and docs, made from a finished run and a finished search.

    python benchmarks/pictures.py --run results/Movie_Reviews/DReX/seed-2026 --user ID --rank 2
    python benchmarks/pictures.py --dataset demo --search results/search    # trains DReX where no finished run is kept

Headless Chromium shows the report in its light and its dark theme (Debian: ``make browser``); pictures go to ``docs/``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_drex.errors import ConfigError, DrexError, unknown_name
from recbole_drex.experiments.quick_start import run
from recbole_drex.report.figures.search_figures import figures_of
from recbole_drex.report.figures.svg import save
from recbole_drex.report.html import write_report
from recbole_drex.tuning.search_results import read_search

DOCS = Path(__file__).resolve().parents[1] / "docs"
PIXELS = 2  # a point
DPI = 160


def trained(dataset: str) -> Path:
    """The folder of DReX's run on a data set, trained if it does not exist."""
    folder = Path("results") / dataset / "DReX" / "seed-2026"
    if not (folder / "result.json").is_file():
        run(["DReX"], dataset, resume=True)
    return folder


@contextmanager
def opened(page: Path, width: int, height: int, theme: str) -> Iterator[Any]:
    """A page in a headless browser that prefers that theme and whose window has that size in points.

    Raises:
        ConfigError: Chromium or its driver is missing.
    """
    from selenium import webdriver

    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise ConfigError("pictures need Chromium and chromedriver: make browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": PIXELS, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        preferred = [{"name": "prefers-color-scheme", "value": theme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preferred})
        browser.get(page.as_uri())
        yield browser
    finally:
        browser.quit()


def choose(browser: Any, user: str | None) -> None:
    """Show a user among those that are explained; None leaves the first.

    Raises:
        ConfigError: the user is not one of them.
    """
    if user is None:
        return
    users = browser.execute_script(
        "const choice = document.getElementById('explained-user');"
        "const users = [...choice.options].map((option) => option.value);"
        "if (users.includes(arguments[0])) { choice.value = arguments[0]; choice.dispatchEvent(new Event('change')); }"
        "scrollTo(0, 0); return users",
        user,
    )
    if user not in users:
        raise ConfigError(unknown_name("explained user", user, users))


def picture_run(folder: Path, user: str | None, rank: int, output: Path) -> None:
    """One explained recommendation and the top of the report, each in both themes."""
    with tempfile.TemporaryDirectory() as temporary:
        page = write_report(folder, Path(temporary) / "report.html")
        for theme in ("light", "dark"):
            with opened(page, 820, 1400, theme) as browser:
                choose(browser, user)
                cards = browser.find_elements("css selector", "#explained-view .items > li")
                if not 1 <= rank <= len(cards):
                    raise ConfigError(f"--rank {rank}: {len(cards)} recommendations of this user are explained")
                cards[rank - 1].screenshot(str(output / f"explanation-{theme}.png"))
            with opened(page, 1280, 1360, theme) as browser:
                choose(browser, user)
                browser.save_screenshot(str(output / f"report-{theme}.png"))


def picture_search(folder: Path, output: Path) -> None:
    """The figures of a search's first model."""
    search = read_search(folder)
    for name, figure in figures_of(search, search.described["models"][0]).items():
        save(figure, output / f"search-{name}.png", dpi=DPI)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="folder of a finished run of a model that explains")
    parser.add_argument("--dataset", default="demo", help="whose run of DReX is shown if --run is not given")
    parser.add_argument("--user", help="the explained user to be shown (default: the first)")
    parser.add_argument("--rank", type=int, default=1, help="of the user's recommendation (default: 1)")
    parser.add_argument("--search", type=Path, help="folder of a finished search; its figures are drawn, too")
    parser.add_argument("--output", type=Path, default=DOCS, help="where the pictures go (default: docs)")
    options = parser.parse_args()
    os.environ.setdefault("SE_OFFLINE", "true")  # selenium must not look for a browser elsewhere
    try:
        picture_run(options.run or trained(options.dataset), options.user, options.rank, options.output)
        if options.search is not None:
            picture_search(options.search, options.output)
    except DrexError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
