"""The ways from a raw file to a result that `whole.py` compares, and what each of them took."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import plain_data
import preparing
import watch
from recbole_drex.data.prepare.manifest import TIMES
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.data.text.contextual_encoder import encoder_folder
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.errors import ConfigError, DrexError
from recbole_drex.results.run_result import RESULT, read_interactions, read_result
from recbole_drex.utils.files import read_json

STAGES = ("start", "read", "items", "encode", "load", "build", "train", "validate", "evaluate", "explain", "rest")
"""Of a way: starting, and what is in no other stage; reading, cleaning and writing the data set; vectors of items;
encoding reviews; loading and splitting; making the model; training epochs; their validation; evaluation; explanations
with their measures; reference models and the summary on the terminal."""
OURS = {"static": "recbole_drex, static vectors", "contextual": "recbole_drex, contextual vectors"}
PLAIN = "plain script, NARRE"
CORNAC = "cornac==3.0.1"
TENSORFLOW = "tensorflow-cpu==2.21.0"
"""The version that cornac's NARRE names, for processors alone."""
GENERATED = "generated-"
_MINIMA = {"Movie_Reviews_sparse": (5, 5)}
_HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Data:
    """A raw file, and how it is filtered.

    Attributes:
        name: of the data set.
        raw, meta: reviews and items, compressed JSON lines.
        user_min, item_min: ratings that each user and each item has at least.
        reviews: how many were generated; None for real ones.
    """

    name: str
    raw: Path
    meta: Path | None
    user_min: int = 20
    item_min: int = 5
    reviews: int | None = None

    @property
    def minima(self) -> list[str]:
        """The filter as arguments."""
        return ["--user_min", str(self.user_min), "--item_min", str(self.item_min)]


@dataclasses.dataclass(frozen=True)
class Way:
    """What one way took.

    Attributes:
        data: the data set.
        by: who went it.
        seconds: by stage; a stage that the way does not have is absent.
        memory: peak of the resident bytes of all its processes.
        features: bytes of word features on disk; None where none are written.
        epochs: that were trained; None for a model without.
        rmse: on the test part.
        kept: interactions that are left of the raw ones; None where it was not asked.
        note: what is estimated and how, or why it failed; empty where all is measured.
    """

    data: Data
    by: str
    seconds: Mapping[str, float]
    memory: int = 0
    features: int | None = None
    epochs: int | None = None
    rmse: float | None = None
    kept: int | None = None
    note: str = ""

    @property
    def total(self) -> float | None:
        """Seconds from the command to its end; None where it failed."""
        return sum(self.seconds.values()) if self.seconds else None

    def row(self) -> dict[str, Any]:
        """As a row of a table."""
        seconds = {f"{stage} s": _rounded(self.seconds.get(stage), 2) for stage in STAGES}
        return {
            "data set": self.data.name, "kept": self.kept, "by": self.by, **seconds, "total s": _rounded(self.total, 1),
            "memory MiB": round(self.memory / 2**20) or None, "epochs": self.epochs, "RMSE": _rounded(self.rmse, 4),
            "features MB": None if self.features is None else round(self.features / 1e6, 1), "note": self.note,
        }  # fmt: skip


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def find_data(name: str, work: Path, items: int) -> Data:
    """The raw file of a data set: real, the demo's, or ``generated-N`` with N reviews, which is kept in ``work``.

    Args:
        name: of the data set.
        work: folder for generated files.
        items: of generated reviews.

    Raises:
        ConfigError: there is no such raw file.
    """
    if name == "demo":
        made = generate_demo(work / "raw")
        return Data(name, made["reviews"], made["meta"])
    number = name.removeprefix(GENERATED)
    if name.startswith(GENERATED) and number.isdecimal():
        raw = work / "raw" / f"{name}-{items}.jsonl.gz"
        if not raw.is_file():
            raw.parent.mkdir(parents=True, exist_ok=True)
            part = raw.with_suffix(".part")
            preparing.generate(part, int(number), items=items, distinct=True).replace(raw)
        return Data(name, raw, None, reviews=int(number))
    folder = os.environ.get("RECBOLE_DREX_RAW")
    raw = Path(folder or ".") / f"{name}.jsonl.gz"
    if not folder or not raw.is_file():
        raise ConfigError(
            f"data set '{name}' is neither demo, {GENERATED}N nor {name}.jsonl.gz in the folder that the environment "
            f"variable RECBOLE_DREX_RAW names (currently {folder})"
        )
    meta = raw.with_name(f"meta_{raw.name}")
    return Data(name, raw, meta if meta.is_file() else None, *_MINIMA.get(name, ()))


def ours(data: Data, arm: str, work: Path, seed: int, epochs: int | None) -> tuple[Way, Path]:
    """`recbole-drex run` from the raw file, with all defaults but the encoder.

    Args:
        data: the data set.
        arm: static or contextual.
        work: folder for its files; those of an earlier time are removed.
        seed: of the run.
        epochs: at most; None: the default.

    Returns:
        What it took, and the folder of its run.
    """
    folder = _emptied(work / arm)
    command = [sys.executable, "-m", "recbole_drex", "run", "--dataset", data.name, "--raw", str(data.raw)]
    command += ["--meta", str(data.meta)] if data.meta else []
    command += ["--data_path", str(folder / "data"), "--output_dir", str(folder / "results"), "--seeds", str(seed)]
    command += ["--encoder", "static" if arm == "static" else "minilm", *data.minima]
    command += ["--epochs", str(epochs)] if epochs else []
    usage = watch.run(command, folder / "log")
    run = folder / "results" / data.name / "DReX" / f"seed-{seed}"
    result = read_result(run)
    took = result["seconds"] | {"read": result["seconds"]["prepare"]}
    stages = {stage: took.get(stage) or 0.0 for stage in STAGES[1:-1]}
    # The reference models and the summary come after the result.
    until_result = (run / RESULT).stat().st_mtime - usage.began
    stages["start"] = until_result - sum(stages.values())
    stages["rest"] = usage.seconds - until_result
    features = _size(folder / "data" / data.name / "features")
    rmse, kept = result["test"]["own_test"]["rmse"], result["data"]["interactions"]
    return Way(data, OURS[arm], stages, usage.memory, features, result["epochs_run"], rmse, kept), run


def estimated_contextual(data: Data, static: Way, run: Path, work: Path, seed: int, share: float) -> Way:
    """As :func:`ours` with contextual vectors, of which a random share of the reviews is encoded.

    Starting the encoder is measured on the first two of them, and only what the others add is extrapolated. The other
    stages are those of the static vectors, which read less: the estimate is low.
    """
    folder = _emptied(work / "contextual")
    texts = ReviewTexts(Path(read_json(run / "run.json")["data_path"]) / data.name / TEXTS)
    count = min(len(texts), max(3, round(share * len(texts))))
    chosen = np.sort(np.random.default_rng(seed).choice(len(texts), count, replace=False))
    rows = [
        {"user_id": f"u{k}", "parent_asin": "i", "rating": 5, "timestamp": k, "title": "", "text": text}
        for k, text in enumerate(texts[chosen])
    ]
    seconds, memory = {}, 0
    for name, used in (("first", rows[:2]), ("share", rows)):
        raw = folder / f"{name}.jsonl.gz"
        with gzip.open(raw, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in used)
        command = [sys.executable, "-m", "recbole_drex", "prepare", "--dataset", name, "--raw", str(raw)]
        command += ["--data_path", str(folder / "data"), "--encoder", "minilm", "--user_min", "1", "--item_min", "1"]
        memory = watch.run(command, folder / f"{name}.log").memory
        seconds[name] = read_json(folder / "data" / name / TIMES)["encode"]
    one = max(0.0, seconds["share"] - seconds["first"]) / (count - 2)
    encode = seconds["share"] + one * (len(texts) - count)
    note = f"encoding extrapolated from {count:,} of {len(texts):,} reviews; other stages as static; memory of encoding"
    features = round(_size(folder / "data" / "share" / "features") * len(texts) / count)
    stages = {**static.seconds, "encode": encode}
    return Way(data, OURS["contextual"], stages, memory, features, static.epochs, kept=static.kept, note=note)


def plain(data: Data, run: Path, work: Path, seed: int, share: float) -> Way:
    """The plain script on the rows and the split of a run, with its largest number of epochs and its patience."""
    folder = _emptied(work / "plain")
    config = read_result(run)["config"]
    command = [sys.executable, str(_HERE / "plain_narre.py"), "--encoder", str(encoder_folder("minilm"))]
    command += [*_common(data, run, folder, seed), "--share", str(share)]
    command += ["--epochs", str(config["epochs"]), "--patience", str(config["stopping_step"])]
    usage = watch.run(command, folder / "log")
    made = read_json(folder / "made.json")
    note = (
        f"extrapolated from {share:.3g} of the reviews and of the steps of two epochs; {made['epochs']} epochs are the "
        "fewest that patience allows; memory of the share"
    )
    return _finished(data, PLAIN, usage, made, note if share < 1 else "")


def cornacs(data: Data, run: Path, work: Path, seed: int, share: float) -> list[Way]:
    """cornac's NARRE on the rows and the split of a run; its HFT and MF where NARRE does not run."""
    folder = work.parent / "cornac-venv"
    try:
        python = _cornac_python(folder)
    except DrexError:
        return [Way(data, "cornac", {}, note=f"not installed: {watch.last_line(_log(folder))}")]
    ways = [_cornac(python, "NARRE", data, run, work, seed, share)]
    if ways[0].total is None:
        ways += [_cornac(python, name, data, run, work, seed, share) for name in ("HFT", "MF")]
    return ways


def _cornac(python: str, name: str, data: Data, run: Path, work: Path, seed: int, share: float) -> Way:
    folder, by = _emptied(work / f"cornac-{name}"), f"cornac, {name}"
    command = [python, str(_HERE / "plain_cornac.py"), "--model", name, *_common(data, run, folder, seed)]
    threads = os.environ.get("OMP_NUM_THREADS")
    env = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads} if threads else {}
    try:
        usage = watch.run([*command, "--share", str(share)], folder / "log", env)
    except DrexError:
        return Way(data, by, {}, note=f"does not run: {watch.last_line(folder / 'log')}")
    made = read_json(folder / "made.json")
    note = f"training extrapolated from one of {made['epochs']} iterations" if made["extrapolated"] else ""
    return _finished(data, by, usage, made, note)


def _cornac_python(folder: Path) -> str:
    """Python of the virtual environment ``folder``, in which cornac is installed if it is not there yet.

    Raises:
        DrexError: it cannot be installed.
    """
    python = str(folder / "bin" / "python")
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = _log(folder)
    if not (folder / "bin" / "python").exists():
        watch.run([sys.executable, "-m", "venv", str(folder)], log)
    watch.run([python, "-m", "pip", "install", "-q", CORNAC, "pandas"], log)
    with contextlib.suppress(DrexError):  # NARRE says so when it imports it
        watch.run([python, "-m", "pip", "install", "-q", TENSORFLOW], log)
    return python


def _log(folder: Path) -> Path:
    """Where the installation in ``folder`` writes what it prints."""
    return folder.with_name("cornac.log")


def _common(data: Data, run: Path, folder: Path, seed: int) -> list[str]:
    """Arguments of both plain scripts; writes the split that they get."""
    plain_data.write_split(folder / "split.csv", read_interactions(run))
    files = ["--raw", str(data.raw), "--split", str(folder / "split.csv"), "--output", str(folder / "made.json")]
    return [*files, "--seed", str(seed), *data.minima]


def _finished(data: Data, by: str, usage: watch.Usage, made: Mapping[str, Any], note: str) -> Way:
    """What a plain script took that wrote ``made``."""
    seconds = {"start": usage.seconds - made["took"], **made["seconds"]}
    return Way(data, by, seconds, usage.memory, None, made["epochs"], made.get("rmse"), note=note)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
