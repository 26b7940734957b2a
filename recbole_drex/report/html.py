"""The report: one self-contained HTML file about a comparison, a run, or a search.

The template engine escapes every text, data for the script are in a JSON block, and the page's content security policy
allows only the page's own script. So the text of a review is shown and never executed.
"""

from __future__ import annotations

from pathlib import Path

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.report.pages.rendering import REPORT, rendered
from recbole_drex.results.comparison import Comparison, read_comparison
from recbole_drex.utils.files import replacing

SEARCH = "search.json"
# Parts of the style sheet and of the script, in order of dependence.
_STYLES = ("report.css", "explanations.css")
_SCRIPTS = (
    "frame.js",
    "report.js",
    "explained-data.js",
    "explained-quotes.js",
    "explained-words.js",
    "explained-parts.js",
    "explained-reasons.js",
    "explained-browser.js",
)


def write_report(folder: str | Path, output: Path | None = None) -> Path:
    """Write the report of a comparison, of a single run, or of a hyper-parameter search.

    Args:
        folder: a comparison's folder (with ``comparison.json``), a run's (with ``result.json``) or a search's (with
            ``search.json``).
        output: output file; default ``report.html`` in ``folder``.

    Returns:
        Path of the file. It needs no other file and no network; its links to run folders are relative.

    Raises:
        CheckpointError: ``folder`` is not one of these, or a file in it is damaged, replaced or of another run.
        DataError: runs are not comparable or have no test part, or the file cannot be written.
        ConfigError: jinja2 or matplotlib is not installed.
    """
    if (Path(folder) / SEARCH).is_file():
        from recbole_drex.report.pages.search_page import write_search_report
        from recbole_drex.tuning.search_results import read_search

        return write_search_report(read_search(folder), output)
    comparison = read_comparison(folder)
    if comparison.results and not any(any(result["test"].values()) for result in comparison.results):
        raise DataError(f"{folder} has nothing to report: its split (eval_args) has no test part")
    path = Path(output) if output is not None else Path(folder) / REPORT
    # Open the temporary file first, so that an unwritable path is reported before rendering.
    with replacing(path) as temporary:
        temporary.write_text(render(comparison, path.parent), encoding="utf-8", errors="replace")
    return path


def render(comparison: Comparison, base: Path) -> str:
    """The report's HTML.

    Args:
        comparison: what to report.
        base: folder to which links to runs are relative.
    """
    try:
        from recbole_drex.report.pages import sections
    except ImportError as error:
        raise ConfigError(f"the report needs {error.name}: pip install jinja2 matplotlib") from error
    return rendered("report.html.j2", base, _STYLES, _SCRIPTS, **sections.all_sections(comparison))
