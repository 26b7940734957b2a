"""The documents say what the tree holds: parameters, links, Python examples."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml

import parameters
from recbole_drex.utils.files import read_json

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "atomic_data" / "README.md"])
GENERATED = ("reference/commands.md", "reference/models.md")  # by docs/_site/hooks.py; MkDocs checks links to them
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
PRESETS = ("DReX", "DReX-paper", "DReX-MLP", "DReX-MLP-paper", "DReX-implicit")


def cell(value: object) -> str:
    """A parameter's value as the tables show it."""
    if value is None or value == "":
        return "empty"
    dumped = yaml.safe_dump(value, default_flow_style=True, width=500, sort_keys=False)
    return f"`{dumped.strip().removesuffix('...').strip()}`"


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / "properties" / f"{name}.yaml").read_text(encoding="utf-8"))


def rows() -> list[list[str]]:
    lines = [line for line in CONFIGURATION.splitlines() if line.startswith("| ")]
    return [[field.strip() for field in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("key, value", read("overall").items())
def test_every_general_parameter_is_documented_with_its_default(key, value):
    documented = [row[2] for row in rows() if row[0] == f"`{key}`" and len(row) == 4]
    assert documented == [cell(value)], f"docs/configuration.md: one row | `{key}` | type | {cell(value)} | meaning |"


def test_no_parameter_is_documented_that_does_not_exist():
    models = [path.stem for path in (ROOT / "properties" / "model").glob("*.yaml")]
    legal = set(read("overall")).union(*(read(f"model/{name}") for name in models))
    named = {row[1] if row[0] in models else row[0] for row in rows()}
    assert {name.strip("`") for name in named if name.startswith("`")} <= legal


@pytest.mark.parametrize("key", sorted(set().union(*(read(f"model/{name}") for name in PRESETS))))
def test_every_parameter_of_the_presets_is_documented_with_its_values(key):
    expected = [cell(read(f"model/{name}")[key]) if key in read(f"model/{name}") else "-" for name in PRESETS]
    found = [row[2:-1] for row in rows() if row[0] == f"`{key}`" and len(row) == len(PRESETS) + 3]
    assert found == [expected]


@pytest.mark.parametrize("path", sorted((ROOT / "properties" / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_model_is_documented(path):
    if path.stem in PRESETS:
        assert path.stem in CONFIGURATION
        return
    documented = {row[1].strip("`"): row[3] for row in rows() if row[0] == path.stem}
    assert documented == {key: cell(value) for key, value in read(f"model/{path.stem}").items()}


@pytest.mark.parametrize("path", parameters.files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_follows_from_the_declared_parameters_is_up_to_date(path):
    assert path.read_text(encoding="utf-8") == parameters.files()[path], "run: make parameters"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if not target.startswith(("https://", "http://")) and target not in GENERATED:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_examples_name_what_exists(document):
    """Examples compile, and what they import from this project is there."""
    for code in re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("recbole_drex"):
                module = __import__(node.module, fromlist=["_"])
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_are_understood(document):
    """Options of documented commands exist, and their parameters are legal for the models named."""
    from recbole_drex.cli.main import parse_parameters
    from recbole_drex.cli.options import make_parser
    from recbole_drex.config.recbole_config import Config
    from recbole_drex.experiments.compare import parse_model

    commands = "|".join(make_parser()[1])
    pattern = rf"^(?:    )?(?:python run_recbole_drex\.py|recbole-drex (?:{commands})).*$"
    for line in re.findall(pattern, document.read_text(encoding="utf-8"), re.MULTILINE):
        arguments = _split(line)
        parser, _ = make_parser()
        options, rest = parser.parse_known_args(arguments)
        assert options.takes_parameters or not rest, line
        parameters = parse_parameters(rest)
        if parameters and options.name == "tune":  # each model takes those that it knows
            known = set().union(*(Config(model, "demo").legal for model in options.models))
            assert known >= parameters.keys(), line
            continue
        if parameters:
            for model in getattr(options, "model", None) or ["DReX"]:
                Config(model, "demo", [], parameters)
        for text in getattr(options, "models", []):
            model, changed = parse_model(text)
            legal = Config(model, "demo", [], {**parameters, **changed}).legal
            assert legal.issuperset(name for name, _ in getattr(options, "vary", ())), line


def test_the_readme_is_short_and_its_commands_are_checked():
    """Other commands than this program's, which the test above checks, are targets of the Makefile or git's."""
    lines = README.splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 160] == []
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    known = (
        "git clone ",
        "cd ",
        "recbole-drex ",
        "python run_recbole_drex.py",
        *(f"make {target}" for target in targets),
    )
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE):
        if not language and not block.startswith("Data "):  # what `make demo` prints
            assert all(line.startswith(known) for line in block.splitlines()), block


def test_the_site_lists_every_page():
    """What the site's navigation lists is there or generated, and no page is left out."""

    def pages(entries: list) -> list[str]:
        found = [value for entry in entries for value in entry.values()]
        return [page for value in found for page in (pages(value) if isinstance(value, list) else [value])]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    there = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("**/*.md")]
    assert sorted(listed) == sorted([*there, *GENERATED, "contributing.md", "changelog.md"])


def test_the_readme_names_every_model():
    from recbole_drex.registry import own_models

    assert {name for name in own_models() if f"`{name}`" not in README} == set()


def test_the_citation_names_this_version_and_the_paper():
    from recbole_drex import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert citation["references"][0]["url"].endswith("2602.19702")
    assert {"title", "message", "authors"} <= citation.keys()


def test_the_dockerfile_installs_and_runs_what_there_is():
    """Pins are those of the constraints and the Makefile, and its commands exist; `make lint` checks its syntax."""
    from recbole_drex.cli.options import make_parser

    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    torch = re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    recbole = re.search(r"^RECBOLE := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert torch and torch[0] in text
    assert recbole and recbole[1] in text
    commands = re.findall(r"recbole-drex (run|serve)([^&\"]*)", text)
    assert [name for name, _ in commands] == ["run", "serve"]
    for name, options in commands:
        _, rest = make_parser()[0].parse_known_args([name, *options.split()])
        assert rest == []


def _split(line: str) -> list[str]:
    words = shlex.split(line.strip(), comments=True)
    return ["run", *words[2:]] if words[0] == "python" else words[1:]


def test_the_lowest_versions_are_those_that_are_tested():
    """``setup.py`` allows from where ``constraints-old.txt`` pins."""
    required = (ROOT / "setup.py").read_text().partition("install_requires=[")[2].partition("\n    ]")[0]
    lowest = dict(re.findall(r'"([\w-]+)(?:\[\w+\])?>=([^"]+)"', required))
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "constraints-old.txt").read_text(), re.MULTILINE))
    assert len(lowest) > 20
    assert {name: pinned.get(name) for name in lowest} == lowest


def test_the_table_of_recboles_models_is_that_of_the_results():
    import recbole_models

    table = recbole_models.table(read_json(ROOT / "benchmarks" / "results" / "recbole_models.json"))
    assert table in (ROOT / "docs" / "recbole.md").read_text(encoding="utf-8")
