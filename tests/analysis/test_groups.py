"""Quality per group, against plain sums over the rows of small written runs."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recbole_drex.analysis.groups import SIDES, group_quality
from recbole_drex.errors import DataError
from recbole_drex.results.comparison import Run
from recbole_drex.results.run_result import write_interactions, write_users

METRICS = ["mae", "rmse", "mean_error", "ndcg@10"]
COLUMNS = ["side", "group", "label", "users", "ratings", *(f"{name}{end}" for name in METRICS for end in ("", "_std"))]


def _rows(seed: int, users: int = 30, items: int = 25) -> pd.DataFrame:
    """Interactions of one split; users with a high number have more of them. No user is without a test row."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        [
            (f"u{user:02}", f"i{item:02}", "test" if index < 2 else "train")
            for user in range(users)
            for index, item in enumerate(rng.choice(items, 4 + user // 2, replace=False))
        ],
        columns=["user_id", "item_id", "split"],
    )
    frame["rating"] = rng.integers(1, 6, len(frame)).astype(float)
    frame["has_review"] = rng.random(len(frame)) < 0.7
    return frame


def _write(folder: Path, rows: pd.DataFrame, label: str, seed: int = 1, noise: int = 0, **changes: Any) -> Run:
    """A run's files with predictions of its own, some of them outside the legal ratings."""
    rng = np.random.default_rng([seed, noise])
    prediction = np.where(rows["split"] == "test", rows["rating"] + rng.normal(0, 2, len(rows)), np.nan)
    columns = ("prediction_median", "prediction_std", "probability_relevant")
    write_interactions(folder, rows.assign(prediction=prediction, **dict.fromkeys(columns, np.nan)))
    names = sorted(rows.loc[rows["split"] == "test", "user_id"].unique())
    columns = dict.fromkeys(("train_ratings", "train_reviews", "test_ratings", "mae", "mse"), 0.0)
    ndcg = np.where(rng.random(len(names)) < 0.2, np.nan, rng.random(len(names)))
    write_users(folder, pd.DataFrame({**columns, "ndcg@10": ndcg}, index=names))
    result = {"label": label, "dataset": "films", "seed": seed, "fold": None, "output": "mean", **changes}
    return Run(folder, result)


@pytest.fixture
def runs(tmp_path) -> list[Run]:
    made = []
    for seed in (1, 2, 3):
        rows = _rows(seed)
        made += [_write(tmp_path / f"b{seed}", rows, "B", seed, 1), _write(tmp_path / f"a{seed}", rows, "A", seed, 2)]
        made.append(_write(tmp_path / f"s{seed}", rows.sample(frac=1, random_state=1), "S", seed, 3, output="score"))
    return made


def _expected(runs: list[Run], side: str) -> dict[tuple[int, str], list[float]]:
    """(place of the group, label) -> users, ratings, then mean and deviation of errors, in plain Python."""
    tested = []
    for run in runs:
        rows = run.interactions().to_dict("records")
        known = {key: Counter(row[f"{key}_id"] for row in rows if row["split"] == "train") for key in ("user", "item")}
        low, high = (pick(row["rating"] for row in rows if row["split"] == "train") for pick in (min, max))
        for row in rows:
            if row["split"] == "test":
                error = min(max(row["prediction"], low), high) - row["rating"]
                count = known[side][row[f"{side}_id"]] if side in known else 0
                tested.append((run.label, run.replicate, row["user_id"], error, count, row["has_review"]))
    counts = sorted(row[4] for row in tested if row[0] == runs[0].label)
    bounds = [counts[math.ceil(len(counts) * share) - 1] for share in (1 / 3, 2 / 3)]
    members = defaultdict(list)
    for label, replicate, user, error, count, reviewed in tested:
        group = int(not reviewed) if side == "review" else sum(count > bound for bound in bounds)
        members[group, label].append((replicate, user, error))
    result = {}
    for key, rows in members.items():
        errors = defaultdict(list)
        for replicate, _, error in rows:
            errors[replicate].append(error)
        mae = [statistics.fmean(map(abs, values)) for values in errors.values()]
        rmse = [math.sqrt(statistics.fmean(value**2 for value in values)) for values in errors.values()]
        bias = [statistics.fmean(values) for values in errors.values()]
        sizes = [len({user for _, user, _ in rows}), len(rows)]
        summaries = (f(values) for values in (mae, rmse, bias) for f in (statistics.fmean, statistics.stdev))
        result[key] = [*sizes, *summaries]
    return result


def test_models_that_predict_distributions_have_errors_too(runs):
    changed = [
        Run(run.folder, {**run.result, "output": "distribution" if run.label == "A" else run.result["output"]})
        for run in runs
    ]
    pd.testing.assert_frame_equal(group_quality(changed), group_quality(runs))
    errors = group_quality(changed).set_index("label")["mae"]
    assert errors["A"].notna().all() and errors["S"].isna().all()


@pytest.mark.parametrize("side", SIDES)
def test_groups_equal_plain_sums_over_rows(runs, side):
    table = group_quality(runs)
    assert list(table.columns) == COLUMNS
    table = table[table["side"] == side]
    expected = _expected(runs, side)
    names = list(dict.fromkeys(table["group"]))
    assert len(names) == (2 if side == "review" else 3)
    assert [(row.group, row.label) for row in table.itertuples()] == [(g, label) for g in names for label in "BAS"]
    for row in table.itertuples(index=False):
        users, ratings, *errors_there = expected[names.index(row.group), row.label]
        assert [row.users, row.ratings] == [users, ratings]
        errors = [row.mae, row.mae_std, row.rmse, row.rmse_std, row.mean_error, row.mean_error_std]
        if row.label == "S":
            assert np.isnan(errors).all(), "scores are no ratings"
        else:
            np.testing.assert_allclose(errors, errors_there, rtol=1e-12)


def test_the_mean_error_of_a_group_by_hand(tmp_path):
    """Users with 1, 2 and 3 training ratings, predicted 1 too high, exactly, and by -1 and 2."""
    train = [(f"u{n}", f"i{m}", 1.0 + 2 * m, "train", np.nan) for n in range(3) for m in range(n + 1)]
    # 9 is clipped to 5, the highest training rating.
    predicted = {"u0": (4.0, 4.0), "u1": (3.0, 3.0), "u2": (2.0, 9.0)}
    test = [
        (user, f"i{8 + n}", 3.0, "test", value) for user, values in predicted.items() for n, value in enumerate(values)
    ]
    rows = pd.DataFrame([*train, *test], columns=["user_id", "item_id", "rating", "split", "prediction"])
    run = _write(tmp_path, rows.assign(has_review=False), "A")
    columns = ("prediction_median", "prediction_std", "probability_relevant")
    write_interactions(tmp_path, rows.assign(has_review=False, **dict.fromkeys(columns, np.nan)))
    table = group_quality([run])
    assert table.loc[table["side"] == "user", "mean_error"].tolist() == [1.0, 0.0, 0.5]


def test_ndcg_is_the_mean_over_the_users_of_a_group(runs):
    table = group_quality(runs)
    assert table.loc[table["side"] != "user", "ndcg@10"].isna().all()
    table = table[(table["side"] == "user") & (table["label"] == "A")]
    names = table["group"].tolist()
    low, high = (int(names[index].split()[-1].rstrip(")")) for index in (0, 1))
    assert names == [f"cold (up to {low})", f"medium ({low + 1} to {high})", f"warm ({high + 1} or more)"]
    per_split = defaultdict(list)
    for run in (run for run in runs if run.label == "A"):
        rows = run.interactions()
        known = rows[rows["split"] == "train"].groupby("user_id").size()
        for index, inside in enumerate((known <= low, (known > low) & (known <= high), known > high)):
            per_split[index].append(run.users().loc[known.index[inside], "ndcg@10"].mean())
    for index, values in per_split.items():
        row = table.iloc[index]
        assert row["ndcg@10"] == pytest.approx(statistics.fmean(values), rel=1e-12)
        assert row["ndcg@10_std"] == pytest.approx(statistics.stdev(values), rel=1e-12)


def test_each_group_of_users_holds_about_a_third_of_the_test_rows(runs):
    table = group_quality(runs)
    for side in ("user", "item"):
        sizes = table[(table["side"] == side) & (table["label"] == "A")]["ratings"]
        assert sizes.sum() == 180 and sizes.between(40, 80).all()


def test_hidden_training_ratings_do_not_move_users_between_groups(tmp_path):
    rows = _rows(1)
    fewer = rows.drop(rows.index[(rows["split"] == "train") & (rows["user_id"] > "u20")][::2])
    runs = [_write(tmp_path / "hidden", fewer, "hidden"), _write(tmp_path / "all", rows, "all")]
    table, alone = group_quality(runs), group_quality(runs[1:])
    pd.testing.assert_frame_equal(table[table["label"] == "all"].reset_index(drop=True), alone)
    sizes = table.groupby("label")["ratings"].agg(list)
    assert sizes["hidden"] == sizes["all"]


def test_one_split_and_equal_histories(tmp_path):
    rows = _rows(1)
    rows = rows[(rows["split"] == "test") | (rows.groupby("user_id").cumcount() < 4)].assign(has_review=True)
    table = group_quality([_write(tmp_path / "run", rows, "A")])
    assert table.loc[table["side"] == "user", "group"].tolist() == ["cold (up to 2)"]
    assert table.loc[table["side"] == "review", "group"].tolist() == ["with a review"]
    assert table["mae_std"].isna().all() and table["mae"].notna().all()


def test_bad_input(tmp_path):
    rows = _rows(1)
    one = _write(tmp_path / "one", rows, "A")
    with pytest.raises(DataError, match="no run"):
        group_quality([])
    with pytest.raises(DataError, match="books and films"):
        group_quality([one, _write(tmp_path / "two", rows, "A", dataset="books")])
    with pytest.raises(DataError, match=r"'B' and 'A' were tested on different rows of split 1 of films"):
        group_quality([one, _write(tmp_path / "three", _rows(2), "B")])
