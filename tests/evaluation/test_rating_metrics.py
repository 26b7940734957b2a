"""Rating errors against scikit-learn, a literal loop, and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error

from recbole_drex.errors import DataError
from recbole_drex.evaluation.rating_metrics import nearest_level, rating_metrics

STARS, HALF_STARS = np.arange(1, 6), np.arange(1, 11) / 2


@pytest.mark.parametrize("levels", [STARS, HALF_STARS])
def test_agrees_with_scikit_learn(levels):
    generator = np.random.default_rng(0)
    rating = generator.choice(levels, 500)
    prediction, median = generator.normal(3, 2, 500), generator.choice(levels, 500)
    result = rating_metrics(rating, prediction, levels, median)
    clipped = np.clip(prediction, levels[0], levels[-1])
    rounded = [min(levels, key=lambda level: (abs(level - value), level)) for value in clipped]
    assert result == pytest.approx(
        {
            "mae": mean_absolute_error(rating, clipped),
            "rmse": np.sqrt(mean_squared_error(rating, clipped)),
            "mae_rounded": mean_absolute_error(rating, rounded),
            "mae_median": mean_absolute_error(rating, median),
            "n": 500,
        }
    )


def test_no_median_no_entry():
    assert "mae_median" not in rating_metrics([1.0], [1.0], STARS)


def test_a_tie_goes_to_the_lower_level_in_any_order():
    assert nearest_level([1.5, 2.5, 2.5000001, -3, 9], STARS[::-1]).tolist() == [1, 2, 3, 1, 5]
    assert nearest_level([0.75, 0.76, 4.75], HALF_STARS).tolist() == [0.5, 1.0, 4.5]
    assert nearest_level([2.4], [1, 4]).tolist() == [1]
    assert nearest_level([7.0], [3]).tolist() == [3]


@given(st.lists(st.tuples(st.sampled_from(HALF_STARS), st.floats(-1e6, 1e6)), min_size=1, max_size=30))
def test_bounds_and_order(rows):
    rating, prediction = map(np.array, zip(*rows, strict=True))
    result = rating_metrics(rating, prediction, HALF_STARS)
    assert 0 <= result["mae"] <= result["rmse"] + 1e-12 <= 4.5 + 1e-9
    assert 0 <= result["mae_rounded"] <= 4.5
    again = rating_metrics(rating[::-1], prediction[::-1], HALF_STARS)
    assert again == pytest.approx(result)
    assert rating_metrics(rating, rating, HALF_STARS) == {"mae": 0, "rmse": 0, "mae_rounded": 0, "n": len(rows)}


@pytest.mark.parametrize(
    ("rating", "prediction", "median", "message"),
    [
        ([1.0, 2.0, 3.0], [np.nan, 2.0, np.nan], None, "2 of 3 predictions are NaN"),
        ([np.nan, 2.0], [1.0, 2.0], None, "1 of 2 ratings are NaN"),
        ([1.0, 2.0], [1.0, 2.0], [np.nan, np.nan], "2 of 2 medians are NaN"),
        ([1.0, 2.0], [[1.0], [2.0]], None, r"predictions have shape \(2, 1\), ratings \(2,\)"),
    ],
)
def test_wrong_values_are_counted(rating, prediction, median, message):
    with pytest.raises(ValueError, match=message):
        rating_metrics(rating, prediction, STARS, median)


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(DataError, match="no rated test row"):
        rating_metrics([], [], STARS)
    with pytest.raises(DataError, match="no rating levels"):
        rating_metrics([1.0], [1.0], [])
