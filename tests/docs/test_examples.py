"""The examples run: scripts as users start them, the notebook cell by cell. They share a folder, as in one session."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
# Runs the cells of a notebook, and shows the value of a cell's last line as a notebook does.
NOTEBOOK = """
import ast, json, sys
names = {}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        tree = ast.parse("".join(cell["source"]))
        last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if last is not None:
            value = eval(compile(last, "cell", "eval"), names)
            print(value, value._repr_html_() if hasattr(value, "_repr_html_") else "")
"""
# What each of them must print, besides ending well.
PRINTED = {
    "compare.py": "DReX+modalities=[rating]",
    "explain.py": "Recommended because",
    "own_csv.py": "Oracle",
    "own_model.py": "ProductMF",
    "recommend.py": "recommendations.csv: 450 rows",
    "tutorial.ipynb": "without",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("examples")


def printed(arguments: list[str], folder: Path) -> str:
    """What a Python process with these arguments prints."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_an_example_runs(script, folder):
    assert PRINTED[script.name] in printed([str(script)], folder)


def test_the_notebook_runs(folder):
    name = "tutorial.ipynb"
    assert PRINTED[name] in printed(["-c", NOTEBOOK, str(ROOT / "examples" / name)], folder)


def test_the_python_of_the_readme_runs(folder):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "Recommended because" in printed(["-c", code], folder)
    assert len(code.splitlines()) <= 12


def test_examples_are_five_and_short():
    assert len(SCRIPTS) == 5
    assert {path.name for path in SCRIPTS if len(path.read_text(encoding="utf-8").splitlines()) > 40} == set()
    assert {
        path.name for path in SCRIPTS if ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    } == set()


def test_the_notebook_keeps_no_output():
    cells = json.loads((ROOT / "examples" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code" and cell["outputs"]] == []
