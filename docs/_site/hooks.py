"""What MkDocs does for the site besides its settings: generated pages, links to files outside ``docs/``, formulas."""

from __future__ import annotations

import argparse
import html
import re
from pathlib import Path, PurePosixPath
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

from recbole_drex.cli.options import make_parser
from recbole_drex.registry import PRESETS, get_model, own_models

ROOT = Path(__file__).resolve().parents[2]
COPIED = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
PAGES = {"README.md": "index.md", **{path: page for page, path in COPIED.items()}}
_LINK = re.compile(r"(?<=\])\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.+?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are generated."""
    texts = {
        "reference/commands.md": commands(),
        "reference/models.md": models(),
        **{page: (ROOT / path).read_text(encoding="utf-8") for page, path in COPIED.items()},
    }
    for path, text in texts.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(text: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead to pages of the site, or to copies of files of the repository."""
    source = COPIED.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def link(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        path = (ROOT / source).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()
        up = "../" * page.file.src_uri.count("/")
        if path in PAGES:
            return f"({up}{PAGES[path]}{anchor})"
        if path.startswith("docs/"):
            return f"({up}{path.removeprefix('docs/')}{anchor})"
        if (ROOT / path).is_dir():
            return f" (`{path}`)"
        if not (ROOT / path).is_file():
            return found[0]  # MkDocs warns
        copy = f"files/{path}" + (".txt" if PurePosixPath(path).suffix in ("", ".md", ".py", ".yaml") else "")
        if files.get_file_from_path(copy) is None:
            files.append(File.generated(config, copy, abs_src_path=str(ROOT / path)))
        return f"({up}{copy})"

    return _LINK.sub(link, text)


def on_page_content(text: str, **_: Any) -> str:
    """Turn formulas into MathML, which browsers draw without a script."""

    def formula(found: re.Match[str]) -> str:
        return convert(html.unescape(found[2]), display="block" if found[1] == "div" else "inline")

    return _FORMULA.sub(formula, text)


def commands() -> str:
    """The command line, from its parser."""
    _, parsers = make_parser()
    parts = [
        "# Command line\n\n`recbole-drex`, `python -m recbole_drex` and `python run_recbole_drex.py` are one program.\n"
    ]
    for name, parser in parsers.items():
        parts.append(f"\n## {name}\n\n{parser.description}\n\n| option | meaning |\n|---|---|\n")
        for action in parser._actions:
            if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
                continue
            words = ", ".join(f"`{word}`" for word in action.option_strings)
            value = (
                ""
                if action.nargs == 0
                else str(action.metavar or "|".join(action.choices or ()) or action.dest.upper())
            )
            value = value.replace("|", "\\|")
            parts.append(
                f"| {words}{' ' if words and value else ''}{f'`{value}`' if value else ''} | {action.help or ''} |\n"
            )
        if parser.epilog:
            parts.append(f"\n{parser.epilog}\n")
    return "".join(parts)


def models() -> str:
    """The models of this project, from the docstrings of their classes."""
    classes = dict.fromkeys(get_model(name) for name in own_models())
    presets = "".join(f"| `{name}` | `{of}` |\n" for name, of in PRESETS.items())
    parts = [
        "# Models\n\nEvery general model of RecBole can be named as well. "
        "These are presets of the classes below, with the parameters of "
        f"`properties/model/<name>.yaml`:\n\n| preset | class |\n|---|---|\n{presets}\n",
        *(f"::: {model.__module__}.{model.__qualname__}\n    options:\n      members: false\n\n" for model in classes),
    ]
    return "".join(parts)
