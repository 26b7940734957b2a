"""Prepares a small demo, and what that leaves."""

import hashlib
from pathlib import Path
from typing import Any

import psutil

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.manifest import TIMES
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.text.feature_store_writer import StoreWriter

NAME = "tiny"
LIMITS: dict[str, Any] = {"user_min": 3, "item_min": 2, "threads": 1}


def prepare_demo(root: Path, sources: Sources, engine: str, **changes: Any) -> dict[str, Any]:
    settings = Config("DReX", NAME, config_dict={**LIMITS, **changes}).preparation()
    return prepare(NAME, root, settings, sources, engine=engine)


def content(root: Path) -> dict[str, str]:
    """Hash of every file of the data set, its manifest among them."""
    paths = sorted(path for path in (root / NAME).rglob("*") if path.is_file() and path.name != TIMES)
    return {str(path.relative_to(root / NAME)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def encoder_processes() -> set[int]:
    """Process ids of the encoders of this session's Ray."""
    result = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::_Worker"):
                result.add(process.pid)
        except psutil.NoSuchProcess:
            continue
    return result


def after_shards(monkeypatch, number: int, act) -> None:
    """Have ``act`` called once, when ``number`` shards are written."""
    write, written = StoreWriter.write_shard, []

    def writing(self, k, shard):
        write(self, k, shard)
        written.append(k)
        if len(written) == number:
            act()

    monkeypatch.setattr(StoreWriter, "write_shard", writing)
