"""The report: one HTML file that shows a comparison, one run, or a search to a reader without any other file.

Every text is escaped by the template engine, data for the script stand in a JSON block, and the page's content
security policy lets nothing run but the one script below: what a review says is shown and never interpreted.
"""

from __future__ import annotations

from pathlib import Path

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.report.pages.rendering import REPORT, rendered
from recbole_drex.results.comparison import Comparison, read_comparison
from recbole_drex.utils.files import replacing

SEARCH = "search.json"
# Parts of the one style sheet and of the one script, in the order in which they build on each other.
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
    """Write the report of a comparison, of a single run, or of a search of hyper-parameters.

    Args:
        folder: a comparison's folder (with ``comparison.json``), a run's (with ``result.json``) or a search's (with
            ``search.json``).
        output: the file to write; default ``report.html`` in ``folder``.

    Returns:
        Path of the file. It needs no other file and no network; its links to run folders are relative.

    Raises:
        CheckpointError: ``folder`` is none of these, or a file in it is damaged, foreign or was replaced.
        DataError: runs do not belong together or have no test part, or the file cannot be written.
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
    # The temporary file comes first: a place that cannot be written is told before the work is done.
    with replacing(path) as temporary:
        temporary.write_text(render(comparison, path.parent), encoding="utf-8", errors="replace")
    return path


def render(comparison: Comparison, base: Path) -> str:
    """The report's HTML.

    Args:
        comparison: what to report.
        base: folder that links to runs are relative to.
    """
    try:
        from recbole_drex.report.pages import sections
    except ImportError as error:
        raise ConfigError(f"the report needs {error.name}: pip install jinja2 matplotlib") from error
    return rendered("report.html.j2", base, _STYLES, _SCRIPTS, **sections.all_sections(comparison))
