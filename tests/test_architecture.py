"""The rooms of the package, what each may import, and names that must be unique: see CONTRIBUTING.md."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import recbole_drex

ROOT = Path(recbole_drex.__file__).parent

# From the ground up; a room imports only from itself and from those before it.
ROOMS = (
    "errors",
    "utils",
    "compat",
    "recbole",
    "registry",
    "results",
    "parallel",
    "evaluation",
    "config",
    "analysis",
    "data",
    "model",
    "training",
    "explain",
    "experiments",
    "tuning",
    "report",
    "serve",
    "cli",
)
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py"
}
# What may hold torch is a model's, or is computed by one; these files hold plain values and words alone.
PLAIN = (
    "explain.explanation",
    "explain.explanation_text",
    "explain.verbalize",
    "explain.wording",
    "results.run_result",
    "results.comparison",
)


def imports(module: str) -> set[str]:
    """Modules of this package that a module imports, anywhere in it."""
    result = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "recbole_drex":
            inside = node.module.partition(".")[2]
            names = [inside, *(f"{inside}.{alias.name}".lstrip(".") for alias in node.names)]
            result |= {name for name in names if name in FILES}
        elif isinstance(node, ast.Import):
            names = [alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("recbole_drex.")]
            result |= {name for name in names if name in FILES}
    return result


IMPORTS = {module: imports(module) for module in FILES}


def test_every_room_is_known():
    assert {module.partition(".")[0] for module in FILES} == {*ROOMS, "__main__"}


def test_at_most_six_modules_lie_outside_the_rooms():
    assert len(list(ROOT.glob("*.py"))) <= 6


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_below(room):
    below = ROOMS[: ROOMS.index(room) + 1]
    upward = [
        f"{module} imports {one}"
        for module, result in IMPORTS.items()
        if module.partition(".")[0] == room
        for one in sorted(result)
        if one.partition(".")[0] not in below
    ]
    assert not upward


def test_no_two_files_import_each_other():
    """Also not by way of others."""
    left = {module: set(result) for module, result in IMPORTS.items()}
    while free := {module for module, result in left.items() if not result & left.keys()}:
        left = {module: result for module, result in left.items() if module not in free}
    assert not sorted(left)


def test_no_two_files_and_no_two_classes_share_a_name():
    assert [name for name, number in Counter(path.name for path in FILES.values()).items() if number > 1] == []
    classes = Counter(
        node.name
        for path in FILES.values()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, number in classes.items() if number > 1] == []


@pytest.mark.parametrize("module", PLAIN)
def test_plain_values_need_no_torch(module):
    seen, todo = set(), {module}
    while todo:
        one = todo.pop()
        seen.add(one)
        todo |= IMPORTS[one] - seen
        text = FILES[one].read_text(encoding="utf-8")
        loaded = {
            name
            for node in ast.parse(text).body  # at the top of the file; what is needed rarely is imported inside
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert "torch" not in {name.partition(".")[0] for name in loaded}, f"{module} needs {one}, which imports torch"


def test_recbole_is_imported_in_one_module_after_it_is_patched():
    result = [
        module
        for module, path in FILES.items()
        for node in ast.parse(path.read_text(encoding="utf-8")).body  # what runs at import
        if (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "recbole")
        or (isinstance(node, ast.Import) and any(alias.name.partition(".")[0] == "recbole" for alias in node.names))
    ]
    assert set(result) <= {"recbole", "compat"}
