"""Fixtures that many tests share: one small data set, prepared once by the real preparation, and ways to use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile
import pytest
from language_models import save_gpt2
from pages import poison, start_browser

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.experiments.compare import compare
from recbole_drex.experiments.quick_start import run
from recbole_drex.experiments.run import build
from recbole_drex.report.html import write_report
from recbole_drex.results.comparison import Comparison
from recbole_drex.training.run_record import Experiment
from recbole_drex.training.trainer import make_trainer

# Tests in these places make up the legs that `make test` leaves to `make test-more`.
LEGS = {
    "browser": ("serve/test_serve_page.py", "report/test_explanations_page.py", "report/test_report_explanations.py",
                "report/test_report_page.py", "report/test_search_report.py", "docs/test_pictures.py"),
    "robust": ("robustness/", "benchmarks/", "parallel/", "serve/test_serve_holds.py", "serve/test_serve_guard.py",
               "serve/test_serve_bad_input.py", "data/prepare/test_ray_engine.py", "tuning/test_search.py",
               "docs/test_examples.py"),
}  # fmt: skip
NAME = "small"
# PyTorch, so that figures do not depend on what is installed.
SETTINGS: dict[str, Any] = {"user_min": 10, "item_min": 5, "threads": 1, "encoder_engine": "torch"}
FEW_EPOCHS: dict[str, Any] = {"epochs": 2, "stopping_step": 10, "train_batch_size": 256, "measured_users": 0}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by the leg that they belong to."""
    for item in items:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        for leg, indices in LEGS.items():
            if path.startswith(indices):
                item.add_marker(leg)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared data set.

    Attributes:
        name: name of the data set, to be given to ``Config`` or ``run``.
        root: what ``data_path`` must be.
        raw: ``{"reviews": ..., "meta": ..., "truth": ...}``, files of the generator.
        manifest: what ``prepare`` returned.
        settings: the parameters that it was prepared with; give them to every configuration that uses it.
    """

    name: str
    root: Path
    raw: dict[str, Path]
    manifest: dict[str, Any]
    settings: dict[str, Any]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """60 users, 40 items and about 1,500 reviews of the demo's generator, with word features of the real encoder.

    Shared by all tests of a session: read it, do not write into it.
    """
    root = tmp_path_factory.mktemp("atomic_data")
    raw = generate_demo(tmp_path_factory.mktemp("raw"), users=60, items=40, reviews=1500)
    config = Config("DReX", NAME, config_dict={**SETTINGS, "data_path": str(root)})
    manifest = prepare(NAME, root, config.preparation(), Sources((raw["reviews"],), raw["meta"]))
    return Prepared(NAME, root, raw, manifest, SETTINGS)


@pytest.fixture(scope="session")
def comparison(small: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A real comparison of DReX, DReX without reviews and BPR on two data sets with two seeds, two epochs each.

    Shared by all tests of a session: read it, copy its ``folder.parent`` to change something.
    """
    raw = generate_demo(tmp_path_factory.mktemp("raw"), users=30, items=30, reviews=500, seed=5)
    config = Config("DReX", "tiny", config_dict={**SETTINGS, "data_path": str(small.root)})
    prepare("tiny", small.root, config.preparation(), Sources((raw["reviews"],), raw["meta"]))
    return compare(
        ["DReX", "DReX+modalities=[rating]", "BPR"],
        [NAME, "tiny"],
        [2026, 2027],
        data_path=small.root,
        output=tmp_path_factory.mktemp("results"),
        parameters={**SETTINGS, **FEW_EPOCHS, "explained_users": 12, "measured_users": 3},
        command="recbole-drex compare --models DReX,DReX+modalities=[rating],BPR --datasets small,tiny",
    )


@pytest.fixture(scope="session")
def report(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML report of ``comparison``."""
    return write_report(comparison.folder, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="session")
def poisoned(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML report of a copy of ``comparison`` in which texts hold scripts."""
    return poison(comparison, tmp_path_factory.mktemp("poisoned") / "results")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, shared by all tests of a session."""
    yield from start_browser()


@pytest.fixture(scope="session")
def language_model(small: Prepared, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny GPT-2 with random weights, whose tokenizer knows the reviews of ``small``."""
    texts = ReviewTexts(small.root / NAME / TEXTS)[range(300)]
    return str(save_gpt2(tmp_path_factory.mktemp("gpt2"), texts))


@pytest.fixture(scope="session")
def make_config(small: Prepared, language_model: str) -> Callable[..., Config]:
    """``make_config(model, **parameters)``: a configuration on ``small`` with two epochs; parameters win.

    ``dataset`` and ``data_path`` name another data set. PEPLER has a tiny language model.
    """

    def make(model: str, dataset: str = NAME, **parameters: Any) -> Config:
        given = {**SETTINGS, **FEW_EPOCHS, "data_path": str(small.root), **parameters}
        if model == "PEPLER":
            given = {"language_model": language_model, **given}
        return Config(model, dataset, config_dict=given)

    return make


@pytest.fixture(scope="session")
def make_experiment(small: Prepared, make_config: Callable[..., Config]) -> Callable[..., Experiment]:
    """``make_experiment(model, **parameters)``: data, split and untrained model; see ``make_config``."""

    def make(model: str, dataset: str = NAME, **parameters: Any) -> Experiment:
        return build(make_config(model, dataset, **parameters), small.manifest)

    return make


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """``train(experiment)``: trains it in a folder of its own and returns the trainer; the best epoch is loaded."""

    def run(experiment: Experiment) -> Any:
        folder = tmp_path_factory.mktemp("run")
        trainer = make_trainer(experiment.config, experiment.model, folder, experiment.parts)
        trainer.train_model()
        experiment.model.eval()
        return trainer

    return run


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of DReX, two epochs, on a small data set with unusual texts.

    Its first item has a script for a title, reviews hold scripts, emoji and other writing systems, and one user has
    ratings only; see :mod:`hostile`. Shared by all tests of a session: read it.
    """
    folder = tmp_path_factory.mktemp("hostile")
    raw = hostile.raw_files(folder / "raw")
    parameters = {**SETTINGS, **FEW_EPOCHS, "explained_users": 0}
    run(
        ["DReX"],
        hostile.NAME,
        raw=[raw["reviews"]],
        meta=raw["meta"],
        data_path=folder / "atomic_data",
        output=folder / "results",
        parameters=parameters,
        references=False,
    )
    return folder / "results" / hostile.NAME / "DReX" / "seed-2026"
