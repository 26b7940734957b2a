"""The filter against plain loops over rows."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_drex.data.prepare.filter import filter_reviews
from recbole_drex.data.raw.readers import read_reviews
from recbole_drex.errors import ConfigError, DataError

ROW = st.tuples(
    st.integers(0, 6),  # user
    st.integers(0, 5),  # item
    st.sampled_from([None, 1.0, 5.0]),  # rating
    st.sampled_from([None, 10.0, 20.0]),  # timestamp
    st.booleans(),  # review
)


def table(rows, categorical=True):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp", "has_review"])
    for column, letter in (("user_id", "u"), ("item_id", "i")):
        frame[column] = [f"{letter}{number}" for number in frame[column]]
        if categorical:
            frame[column] = frame[column].astype("category")
    frame = frame.astype({"rating": float, "timestamp": float, "has_review": bool})
    return frame.assign(row=np.arange(len(frame)) * 10)


def naive(rows, user_min, item_min, keep="last"):
    """Positions kept, by loops over rows only."""
    best: dict[tuple[int, int], tuple] = {}
    for index, (user, item, rating, time, review) in enumerate(rows):
        if rating is None and not review:
            continue
        sign = 1 if keep == "last" else -1
        rank = (rating is not None, -math.inf if time is None else sign * time, sign * index)
        best[user, item] = max(best.get((user, item), rank), rank)
    kept = {abs(rank[2]) for rank in best.values()}
    while True:
        users = Counter(rows[index][0] for index in kept if rows[index][2] is not None)
        items = Counter(rows[index][1] for index in kept if rows[index][2] is not None)
        new = {p for p in kept if users[rows[p][0]] >= user_min and items[rows[p][1]] >= item_min}
        if new == kept:
            return sorted(kept)
        kept = new


@settings(max_examples=300, deadline=None)
@given(
    st.lists(ROW, max_size=60), st.integers(0, 4), st.integers(0, 4), st.booleans(), st.sampled_from(["first", "last"])
)
def test_equals_naive_loops(rows, user_min, item_min, categorical, keep):
    frame, expected = table(rows, categorical), naive(rows, user_min, item_min, keep)
    before = frame.copy()
    if not expected:
        with pytest.raises(DataError, match="leaves nothing"):
            filter_reviews(frame, user_min=user_min, item_min=item_min, keep=keep)
        return
    kept, counts = filter_reviews(frame, user_min=user_min, item_min=item_min, keep=keep)
    assert kept["row"].tolist() == [10 * index for index in expected]
    assert list(kept.index) == list(range(len(expected)))
    pd.testing.assert_frame_equal(frame, before)
    assert [count["step"] for count in counts] == ["read", "evidence", "repeated", "core"]
    chosen = [rows[index] for index in expected]
    assert counts[-1] == {
        "step": "core",
        "users": len({row[0] for row in chosen}),
        "items": len({row[1] for row in chosen}),
        "interactions": len(chosen),
        "rated": sum(row[2] is not None for row in chosen),
    }
    again, _ = filter_reviews(kept, user_min=user_min, item_min=item_min)
    pd.testing.assert_frame_equal(again, kept)
    if categorical:
        assert len(kept["user_id"].cat.categories) == counts[-1]["users"]


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=12), st.integers(1, 3), st.integers(1, 3))
def test_core_is_the_largest(rows, user_min, item_min):
    """Every set of users and items that satisfies both limits lies within the result."""
    kept = set(naive(rows, user_min, item_min))
    pairs = {(row[0], row[1]) for row in rows if row[2] is not None}
    users, items = sorted({user for user, _ in pairs}), sorted({item for _, item in pairs})
    inside = {(rows[index][0], rows[index][1]) for index in kept}
    for mask in range(1 << len(users)):
        some = {user for bit, user in enumerate(users) if mask >> bit & 1}
        degree = Counter(item for user, item in pairs if user in some)
        enough = {item for item in items if degree[item] >= item_min}
        ratings = {(user, item) for user, item in pairs if user in some and item in enough}
        if all(sum(rater == user for rater, _ in ratings) >= user_min for user in some):
            assert ratings <= inside


def test_order_among_repeated_rows():
    rows = [
        (0, 0, None, 99.0, True),  # latest, but unrated
        (0, 0, 3.0, None, True),  # no time is the oldest
        (0, 0, 4.0, 5.0, False),
        (0, 0, 2.0, 5.0, False),  # same time, later in the file
        (0, 0, 1.0, 4.0, True),
        (0, 1, None, None, True),
    ]
    first, _ = filter_reviews(table([(0, 0, 5.0, 5.0, True), *rows]), user_min=1, item_min=0, keep="first")
    assert first["row"].tolist() == [50, 60], "the earliest rated row, not one without a time"
    kept, counts = filter_reviews(table(rows), user_min=1, item_min=0)
    assert kept["row"].tolist() == [30, 50]
    assert counts[2] == {"step": "repeated", "users": 1, "items": 2, "interactions": 2, "rated": 1}


def test_unrated_rows_do_not_count_for_the_limits():
    rows = [(0, 0, 4.0, 1.0, True), (0, 1, None, 1.0, True), (1, 0, 4.0, 1.0, True), (1, 1, 4.0, 1.0, True)]
    kept, _ = filter_reviews(table(rows), user_min=1, item_min=2)
    assert kept["row"].tolist() == [0, 20]


def test_empty_names_step_and_what_would_leave_something():
    complete = [(user, item, 3.0, 1.0, True) for user in range(4) for item in range(6)]
    with pytest.raises(DataError) as caught:
        filter_reviews(table(complete), user_min=20, item_min=4)
    assert "step 'core'" in str(caught.value)
    assert "with item_min=4 the largest user_min that leaves something is 6" in str(caught.value)
    assert "item_min that" not in str(caught.value)
    with pytest.raises(DataError, match="with user_min=6 the largest item_min that leaves something is 4"):
        filter_reviews(table(complete), user_min=6, item_min=5)
    with pytest.raises(DataError, match="'read' leaves nothing: there are no reviews"):
        filter_reviews(table([]))
    with pytest.raises(DataError, match="'evidence' leaves nothing"):
        filter_reviews(table([(0, 0, None, 1.0, False)]))
    with pytest.raises(DataError, match="no row has one"):
        filter_reviews(table([(0, 0, None, 1.0, True)]))


@pytest.mark.parametrize("wrong", [-1, 2.5, True, "5", None])
def test_illegal_limits(wrong):
    with pytest.raises(ConfigError, match="item_min must be an integer"):
        filter_reviews(table([(0, 0, 3.0, 1.0, True)]), item_min=wrong)


@pytest.mark.skipif("RECBOLE_DREX_RAW" not in os.environ, reason="needs the raw files, in the folder RECBOLE_DREX_RAW")
@pytest.mark.parametrize(
    ("name", "users", "items", "rated", "bad"),
    [("Movie_Critics", 448, 836, 29_062, 7), ("Movie_Reviews", 416, 1_086, 27_246, 0)],
)
def test_real_data(tmp_path, name, users, items, rated, bad):
    """Seven of the critics' rows carry dates before 1970, five of which the filter would have kept."""
    raw = read_reviews(Path(os.environ["RECBOLE_DREX_RAW"]) / f"{name}.jsonl.gz", tmp_path / "texts.parquet")
    kept, _ = filter_reviews(raw.frame)
    scored = kept[kept["rating"].notna()]
    assert raw.sources[0]["bad_lines"] == bad
    assert (scored["user_id"].nunique(), scored["item_id"].nunique(), len(scored)) == (users, items, rated)
    assert [bool(text) for text in raw.texts(kept["row"].to_numpy())] == kept["has_review"].tolist()
