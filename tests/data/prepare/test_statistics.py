"""Numbers about a data set and their table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from recbole_drex.data.prepare.statistics import dataset_statistics, statistics_table


@pytest.fixture
def reviews():
    return pd.DataFrame(
        {
            "user_id": pd.Categorical(["a", "a", "b", "b"], categories=["a", "b", "unused"]),
            "item_id": pd.Categorical(["x", "y", "x", "z"]),
            "rating": [4.0, np.nan, 2.0, 4.5],
            "timestamp": [1.0, np.nan, np.nan, 2.0],
            "has_review": [True, True, False, True],
        }
    )


def test_values(reviews):
    assert dataset_statistics(reviews) == {
        "users": 2,
        "items": 3,
        "interactions": 4,
        "rated": 3,
        "sparsity": 0.5,
        "missing_review": 0.25,
        "missing_rating": 0.25,
        "missing_timestamp": 0.5,
        "mean_rating": 3.5,
        "rating_levels": [2.0, 4.0, 4.5],
    }


@pytest.mark.parametrize("rows", [0, 2, 4])
def test_can_be_written_as_json(reviews, rows):
    numbers = dataset_statistics(reviews.iloc[:rows])
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


def test_empty_has_no_shares(reviews):
    numbers = dataset_statistics(reviews.iloc[:0])
    assert numbers["users"] == numbers["rated"] == 0
    assert numbers["sparsity"] is numbers["mean_rating"] is numbers["missing_review"] is None


def test_table_is_markdown_with_aligned_columns(reviews):
    lines = statistics_table({"a": dataset_statistics(reviews), "longer": dataset_statistics(reviews.iloc[:0])}).split(
        "\n"
    )
    assert len({len(line) for line in lines}) == 1
    assert len({line.count("|") for line in lines}) == 1
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == ["a", "2", "3", "4", "50.00", "25.00", "25.00"]
    assert [cell.strip() for cell in lines[3].strip("|").split("|")] == ["longer", "0", "0", "0", "-", "-", "-"]
