"""Unusual data through the whole of a run: refused in one line, or every number is one, and reasons can be given."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import unusual
from altered import NAME, copy_of

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.errors import DataError, DrexError
from recbole_drex.experiments.quick_start import run
from recbole_drex.experiments.run import load_experiment
from recbole_drex.explain.counterfactual.dispatch import explains
from recbole_drex.explain.explainer import Explainer
from recbole_drex.results.run_result import read_interactions, read_users

slow = pytest.mark.slow
RATING = ("DReX", "NARRE", "DeepCoNN", "DAML", "HFT", "HRDR", "PESI", "PETER", "EMF", "BiasedMF", "Bias")
RANKING = ("LIRDRec", "VBPR", "DMF-paper")
SETTINGS: dict[str, Any] = {"user_min": 1, "item_min": 1, "threads": 1, "epochs": 2, "measured_users": 0}
# Whoever is named here is refused, by an error that says so; everybody else gives numbers.
REFUSED: dict[str, dict[str, str]] = {
    "one-user": dict.fromkeys((*RATING, *RANKING), "users have interacted with all items"),
    "one-item": dict.fromkeys((*RATING, *RANKING), "leaves no validation rows"),
    "one-interaction": dict.fromkeys((*RATING, *RANKING), "leaves no validation rows"),
    "constant-ratings": {"DReX": "use output: point"},
    "no-words": {
        **dict.fromkeys(("LIRDRec", "VBPR"), "no item .* has the modality 'reviews'"),
        **dict.fromkeys(
            ("NARRE", "DeepCoNN", "DAML", "HFT", "HRDR", "PESI", "PETER"),
            "needs reviews, and no review of the training part",
        ),
    },
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``prepared(case)``: folder of prepared data sets in which the case is one, prepared at the first call."""
    root = tmp_path_factory.mktemp("unusual")

    def make(case: str) -> Path:
        raw = unusual.write(root / "raw" / f"{case}.jsonl", unusual.CASES[case]())
        config = Config("DReX", case, config_dict={**SETTINGS, "data_path": str(root / "data")})
        prepare(case, root / "data", config.preparation(), Sources((raw,)))
        return root / "data"

    return make


def _numbers(value: Any, place: str = "") -> dict[str, Any]:
    """All that a result says, by its place."""
    if isinstance(value, dict):
        return {key: one for name, part in value.items() for key, one in _numbers(part, f"{place}.{name}").items()}
    return {place: value}


def _run(case: str, model: str, root: Path, results: Path, **parameters: Any) -> None:
    given = {**SETTINGS, **parameters}
    (result,) = run([model], case, data_path=root, output=results, parameters=given, references=False)
    for part in ("valid", "test"):
        for place, number in _numbers(result[part], part).items():
            assert isinstance(number, (int, float)) and math.isfinite(number), f"{place} is {number}"
    folder = results / case / model / "seed-2026"
    interactions = read_interactions(folder)
    predicted = interactions[interactions["split"] != "train"]
    assert len(predicted) and np.isfinite(predicted["prediction"]).all()
    users = read_users(folder)
    errors = ["mae", "mse"] if model in RATING else []
    assert np.isfinite(users[errors].to_numpy(float)).all() and len(users)
    experiment = load_experiment(folder)
    if explains(experiment.model):
        explainer = Explainer(experiment)
        for user in experiment.dataset.field2id_token[experiment.dataset.uid_field][1:4]:
            for one in explainer.explain(str(user), 3).recommendations:
                assert one.predicted is None or math.isfinite(one.predicted)


def _check(case: str, model: str, prepared: Callable[[str], Path], output: Path) -> None:
    reason = REFUSED.get(case, {}).get(model)
    if reason is None:
        _run(case, model, prepared(case), output)
        return
    with pytest.raises(DrexError, match=reason):
        _run(case, model, prepared(case), output)
    assert not list(output.rglob("result.json"))


@pytest.mark.parametrize(
    "case", ["one-user", "one-item", "one-interaction", "constant-ratings", "unseen-level", "names"]
)
def test_the_simplest_model_on_unusual_data(case: str, prepared: Callable[[str], Path], tmp_path: Path) -> None:
    _check(case, "Bias", prepared, tmp_path)


@slow
@pytest.mark.parametrize("case", unusual.CASES)
@pytest.mark.parametrize("model", [*RATING, *RANKING])
def test_every_model_on_unusual_data(model: str, case: str, prepared: Callable[[str], Path], tmp_path: Path) -> None:
    _check(case, model, prepared, tmp_path)


@slow
def test_drex_on_constant_ratings_with_point_output(prepared: Callable[[str], Path], tmp_path: Path) -> None:
    """As the error advises."""
    _run("constant-ratings", "DReX", prepared("constant-ratings"), tmp_path, output="point")


def test_a_level_that_only_the_test_part_has(prepared: Callable[[str], Path], tmp_path: Path) -> None:
    """It is an error like any other: predictions stay within the levels of the training part."""
    _run("unseen-level", "Bias", prepared("unseen-level"), tmp_path)
    rows = read_interactions(tmp_path / "unseen-level" / "Bias" / "seed-2026")
    assert rows.loc[rows["split"] == "test", "rating"].min() == 1.0
    assert rows.loc[rows["split"] == "train", "rating"].min() == 3.0
    users = read_users(tmp_path / "unseen-level" / "Bias" / "seed-2026")
    assert users.loc["user_001", "mae"] >= 2.0


def test_names_that_look_like_missing_values(prepared: Callable[[str], Path], tmp_path: Path) -> None:
    _run("names", "Bias", prepared("names"), tmp_path)
    rows = read_interactions(tmp_path / "names" / "Bias" / "seed-2026")
    assert set(unusual.NAMES.values()) < set(rows["user_id"])
    assert len(rows) == len(unusual.ordinary())


@pytest.mark.parametrize("value", ["nan", "inf", "1e300"])
def test_vectors_of_interactions_that_are_no_numbers(
    make_experiment: Any, small: Any, tmp_path: Path, value: str
) -> None:
    """A ``float_seq`` field of the atomic file is refused where a model reads it."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame["mood:float_seq"] = "0.5 1.0"
        frame.loc[3, "mood:float_seq"] = f"0.5 {value}"
        return frame

    root = copy_of(small.root, tmp_path, change)
    fields = ["user_id", "item_id", "rating", "timestamp", "review_row", "mood"]
    with pytest.raises(DataError, match=r"field 'mood' .* holds NaN or infin"):
        make_experiment(
            "DReX", NAME, data_path=str(root), load_col={"inter": fields}, modalities=["rating", "mood"], taste=[]
        )


BUSY = 100_000


@slow
@pytest.mark.timeout(1900)  # DReX looks through the 80,000 interactions again for every one of 100,000 items
@pytest.mark.parametrize("model", [*RATING, *RANKING])
def test_a_user_with_very_many_interactions(model: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Memory stays far below that of any table of items by items, which would be 40 GB."""
    root = tmp_path_factory.getbasetemp() / "busy"
    raw = root / "busy.jsonl"
    if not raw.is_file():
        unusual.write(raw, unusual.busy(BUSY))
    words = ["run", "--model", model, "--dataset", "busy", "--raw", str(raw), "--no_references", "--epochs", "1"]
    words += ["--user_min", "1", "--item_min", "1", "--threads", "1", "--measured_users", "0", "--explained_users", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "recbole_drex", *words], cwd=root, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((root / "results" / "busy" / model / "seed-2026" / "result.json").read_text())
    print(f"{model}: {result['peak_memory_mb']:.0f} MB, {result['seconds']}")
    assert result["peak_memory_mb"] < 4000
    for place, number in _numbers(result["test"]).items():
        assert number is not None and math.isfinite(number), place
