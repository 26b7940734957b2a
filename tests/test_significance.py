"""Paired tests, user by user, against scipy and properties."""

from time import perf_counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_runs import write_run
from scipy import stats

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.evaluation.comparison import comparison_of
from recbole_drex.evaluation.significance import _bootstrap_means, compare_models, holm, paired_tests


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


def test_bootstrap_means_are_those_of_gathered_rows():
    values = np.random.default_rng(0).normal(size=(2500, 3))
    rows = np.random.default_rng(7).integers(0, 2500, size=(900, 2500), dtype=np.int32)
    gathered = np.stack([column[rows].mean(axis=1) for column in values.T], axis=1)
    np.testing.assert_allclose(_bootstrap_means(values, 900, 7), gathered, rtol=0, atol=1e-14)


def test_the_bootstrap_of_many_models_is_quick():
    values = np.random.default_rng(0).normal(size=(2500, 40))
    started = perf_counter()
    assert _bootstrap_means(values, 10_000, 0).shape == (10_000, 40)
    assert perf_counter() - started < 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    models = {"Bias": 1.0, "DReX": 0.3, "BPR": 2.0}
    return comparison_of(
        [
            write_run(root, label, seed=seed, noise=noise, scores=label == "BPR")
            for label, noise in models.items()
            for seed in (1, 2)
        ]
    ).runs


def means_of(runs, label, column):
    frames = [pd.read_parquet(run.folder / "users.parquet") for run in runs if run.label == label]
    return sum(frame.set_index("user_id")[column] for frame in frames) / len(frames)


@pytest.mark.parametrize(
    ("metric", "column"), [("mae", "mae"), ("rmse", "mse"), ("ndcg@5", "ndcg@5"), ("full_f1@10", "full_f1@10")]
)
def test_models_are_compared_by_users_means_over_replicates(runs, metric, column):
    found = compare_models(runs, metric)
    expected = paired_tests(
        {label: means_of(runs, label, column) for label in found.index},
        "DReX",
        smaller_is_better=metric in ("mae", "rmse"),
    )
    pd.testing.assert_frame_equal(found, expected, check_like=True)
    assert ("BPR" in found.index) == (column not in ("mae", "mse"))
    difference = means_of(runs, "Bias", column) - means_of(runs, "DReX", column)
    assert found.loc["Bias", "difference"] == pytest.approx(difference.mean())


def test_another_model_may_be_compared_with(runs):
    found = compare_models(runs, "mae", "Bias")
    assert np.isnan(found.loc["Bias", "p"]) and found.loc["DReX", "difference"] < 0
    with pytest.raises(ConfigError, match="did you mean 'Bias'"):
        compare_models(runs, "mae", "Bais")
    with pytest.raises(ConfigError, match="unknown model with values of mae: 'BPR'"):
        compare_models(runs, "mae", "BPR")


def test_users_without_a_value_are_left_out(tmp_path):
    labels = ("DReX", "Bias")
    folders = [write_run(tmp_path, label, users=3) for label in labels]
    frame = pd.read_parquet(folders[0] / "users.parquet")
    frame.loc[0, "mae"] = np.nan
    frame.to_parquet(folders[0] / "users.parquet")
    assert (compare_models(comparison_of(folders).runs, "mae")["users"] == 2).all()
    frame.loc[1, "mae"] = np.nan
    frame.to_parquet(folders[0] / "users.parquet")
    with pytest.raises(DataError, match="two or more users that every model has a value for; got 1"):
        compare_models(comparison_of(folders).runs, "mae")


def test_metrics_without_a_value_per_user_get_the_nearest_name(runs):
    with pytest.raises(ConfigError, match="unknown metric with a value per user 'mae_rounded'"):
        compare_models(runs, "mae_rounded")
    with pytest.raises(ConfigError, match="did you mean 'full_ndcg@10'"):
        compare_models(runs, "ful_ndcg@10")


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
    elsewhere = comparison_of([write_run(tmp_path, "Bias", "other", 1)]).runs
    with pytest.raises(DataError, match="one data set; got runs on demo and other"):
        compare_models([*runs, *elsewhere], "mae")
    lacking = [run for run in runs if (run.label, run.replicate) != ("DReX", "2")]
    with pytest.raises(DataError, match="'Bias' and 'DReX' were not run on the same splits of demo: 2 is of one"):
        compare_models(lacking, "mae")
    with pytest.raises(DataError, match="two or more models; got 1"):
        compare_models([run for run in runs if run.label == "DReX"], "mae")
    linear = write_run(tmp_path, "Bias", seed=3, protocol={**runs[0].result["protocol"], "gain": "linear"})
    with pytest.raises(DataError, match="differ in protocol, gain"):
        compare_models([*runs, *comparison_of([linear]).runs], "mae")
