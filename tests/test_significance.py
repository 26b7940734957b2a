"""Paired tests, user by user, against scipy and properties."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.evaluation.significance import holm, paired_tests


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_by_its_definition(p):
    m, rising = len(p), sorted(p)
    expected = [min(1.0, max((m - i) * x for i, x in enumerate(rising) if x <= value)) for value in p]
    assert holm(p) == pytest.approx(expected)


def series(seed, users=300, shift=0.0, base=0):
    noise = np.random.default_rng(seed).normal(scale=0.2, size=users)
    return pd.Series(
        np.abs(np.random.default_rng(base).normal(size=users)) + shift + noise, index=[f"u{i}" for i in range(users)]
    )


def test_paired_tests_find_a_planted_difference_and_only_that():
    models = {"worse": series(1, shift=0.1), "best": series(2, shift=-0.02), "equal": series(3, shift=-0.02 + 1e-9)}
    result = paired_tests(models, "best", smaller_is_better=True)
    assert result.loc["worse", "p_holm"] < 1e-6
    assert result.loc["equal", "p_holm"] > 0.05
    assert 0 < result.loc["worse", "ci_low"] < 0.12 + 0.05
    assert result.loc["equal", "ci_low"] < 0 < result.loc["equal", "ci_high"]
    assert result.loc["best", "difference"] == 0
    assert np.isnan(result.loc["best", "p"])
    assert (result["users"] == 300).all()


def test_paired_tests_agree_with_scipy():
    models = {"a": series(1, 80, 0.05), "b": series(2, 80)}
    result = paired_tests(models, smaller_is_better=True, seed=3)
    assert result.index[0] == "b"
    difference = models["a"] - models["b"]
    assert result.loc["a", "difference"] == pytest.approx(difference.mean())
    expected = stats.wilcoxon(difference, zero_method="pratt").pvalue
    assert result.loc["a", "p"] == pytest.approx(expected)
    interval = stats.bootstrap((difference,), np.mean, method="percentile", random_state=0)
    assert result.loc["a", ["ci_low", "ci_high"]].tolist() == pytest.approx(interval.confidence_interval, abs=0.003)


def test_the_order_of_users_does_not_matter_and_the_seed_fixes_the_interval():
    models = {"a": series(1), "b": series(2)}
    shuffled = {name: values.sample(frac=1, random_state=5) for name, values in models.items()}
    kwargs = {"smaller_is_better": True, "seed": 1, "bootstrap": 500}
    pd.testing.assert_frame_equal(paired_tests(models, **kwargs), paired_tests(shuffled, **kwargs))


def test_higher_scores_are_better_when_asked():
    result = paired_tests({"low": series(1), "high": series(1) + 1}, smaller_is_better=False, bootstrap=100)
    assert list(result.index) == ["high", "low"]
    assert result.loc["low", "difference"] == pytest.approx(-1)


def test_only_users_of_all_models_count():
    models = {"a": series(1), "b": series(2).iloc[:200]}
    models["a"].iloc[0] = np.nan
    assert (paired_tests(models, smaller_is_better=True, bootstrap=100)["users"] == 199).all()


def test_equal_models_have_p_one():
    result = paired_tests({"a": series(1), "b": series(1)}, smaller_is_better=True, bootstrap=100)
    assert result.iloc[1][["p", "ci_low", "ci_high"]].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"a": series(1)}, "two or more models"),
        ({"a": series(1, 5), "b": pd.Series([1.0, 2.0], index=["x", "y"])}, "two or more users"),
        ({"a": series(1), "b": series(2) * np.nan}, "model 'b' has no value"),
        ({"a": series(1), "b": pd.concat([series(2), series(3)])}, "model 'b' name a user twice"),
    ],
)
def test_paired_tests_say_why_they_cannot(models, message):
    with pytest.raises(DataError, match=message):
        paired_tests(models, smaller_is_better=True)


def test_unknown_best_model_gets_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'DReX'"):
        paired_tests({"DReX": series(1), "Bias": series(2)}, "DReXX", smaller_is_better=True)
