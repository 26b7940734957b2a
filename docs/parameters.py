"""Writes what follows from the declarations of parameters: ``python docs/parameters.py`` (``make parameters``).

* the YAML files in ``properties/``: defaults and comments. The comment at the top of a file is kept, and so are the
  values of a preset, which has no other place for them;
* the tables in ``docs/configuration.md``, between ``<!-- parameters: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402

from recbole_drex.config.general_parameters import SECTIONS, declared, own_parameters  # noqa: E402
from recbole_drex.config.parameters import Parameter  # noqa: E402
from recbole_drex.config.yaml_values import read_yaml  # noqa: E402
from recbole_drex.registry import PRESETS, get_model  # noqa: E402

PROPERTIES = ROOT / "properties"
CONFIGURATION = ROOT / "docs" / "configuration.md"
MODELS = sorted(path.stem for path in (PROPERTIES / "model").glob("*.yaml"))
DREX = ("DReX", "DReX-paper", "DReX-MLP", "DReX-MLP-paper", "DReX-implicit")
_TABLE = re.compile(r"(<!-- parameters: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def text_of(value: Any) -> str:
    """A value as YAML, on one line."""
    if value is None:
        return "~"
    dumped = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return dumped.strip().removesuffix("...").strip()


def kind_of(parameter: Parameter) -> str:
    """Type and legal values, e.g. ``int, 1 or more``."""
    text = parameter.legal or " or ".join(one.__name__ for one in parameter.types)
    if parameter.values and not parameter.legal:
        text += (": " if parameter.choices else ", ") + parameter.values
    return f"{text}, or empty" if parameter.optional or parameter.default is None else text


# YAML -----------------------------------------------------------------------------------------------------------------


def lines_of(values: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> Iterable[str]:
    """Lines ``name: value  # (type) meaning``."""
    for name, value in values.items():
        meaning = parameters[name].help.replace("`", "")
        yield f"{f'{name}: {text_of(value)}'.ljust(31)} # ({kind_of(parameters[name])}) {meaning}"


def head_of(path: Path) -> list[str]:
    """The comment at the top of a file; nothing of a new one."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end]


def overall_yaml() -> str:
    """The content of ``properties/overall.yaml``."""
    lines = head_of(PROPERTIES / "overall.yaml")
    for title, parameters in SECTIONS.items():
        values = {parameter.name: parameter.default for parameter in parameters}
        lines += ["", f"# {title}", *lines_of(values, {parameter.name: parameter for parameter in parameters})]
    return "\n".join(lines) + "\n"


def model_yaml(name: str) -> str:
    """The content of ``properties/model/NAME.yaml``."""
    path = PROPERTIES / "model" / f"{name}.yaml"
    return "\n".join([*head_of(path), *lines_of(values_of(name), declared(get_model(name)))]) + "\n"


def values_of(name: str) -> dict[str, Any]:
    """The values of a model or preset."""
    if PRESETS.get(name) in MODELS:  # the class has a file of its own name, too
        return read_yaml(PROPERTIES / "model" / f"{name}.yaml")
    return {parameter.name: parameter.default for parameter in own_parameters(get_model(name))}


# Tables ---------------------------------------------------------------------------------------------------------------


def cell(value: Any) -> str:
    """A value in a table."""
    return "empty" if value is None or value == "" else f"`{text_of(value)}`"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"|{'|'.join(line)}|\n" if line[0] == "---" else f"| {' | '.join(line)} |\n" for line in lines)


def tables() -> dict[str, str]:
    """The tables of ``docs/configuration.md`` by name."""
    found = {
        title: table(
            ("parameter", "type", "default", "meaning"),
            ((f"`{one.name}`", kind_of(one), cell(one.default), one.help) for one in parameters),
        )
        for title, parameters in SECTIONS.items()
    }
    presets, parameters = [values_of(name) for name in DREX], declared(get_model("DReX"))
    found["DReX"] = table(
        ("parameter", "type", *DREX, "meaning"),
        (
            (
                f"`{name}`",
                kind_of(parameters[name]),
                *(cell(values[name]) if name in values else "-" for values in presets),
                parameters[name].help,
            )
            for name in dict.fromkeys(name for values in presets for name in values)
        ),
    )
    found["models"] = table(
        ("model", "parameter", "type", "default", "meaning"),
        (
            (model, f"`{one.name}`", kind_of(one), cell(one.default), one.help)
            for model in MODELS
            if model not in DREX
            for one in own_parameters(get_model(model))
        ),
    )
    return found


def configuration() -> str:
    """The content of ``docs/configuration.md``."""
    found = tables()
    return _TABLE.sub(
        lambda match: match[1] + "\n" + found[match[2]] + match[3], CONFIGURATION.read_text(encoding="utf-8")
    )


@cache
def files() -> dict[Path, str]:
    """All files that follow from the declarations, with what they must hold."""
    return {
        PROPERTIES / "overall.yaml": overall_yaml(),
        **{PROPERTIES / "model" / f"{name}.yaml": model_yaml(name) for name in MODELS},
        CONFIGURATION: configuration(),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
