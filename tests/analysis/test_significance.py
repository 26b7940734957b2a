"""Paired tests against loops over users and runs, against the jackknife, and by their error rates."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_runs import write_run
from scipy import stats

from recbole_drex.analysis.significance import compare_models, holm, paired_tests
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.results.comparison import comparison_of


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_by_its_definition(p):
    m, rising = len(p), sorted(p)
    expected = [min(1.0, max((m - i) * x for i, x in enumerate(rising) if x <= value)) for value in p]
    assert holm(p) == pytest.approx(expected)


def sample(seed, runs=3, users=40, shift=0.0, of_user=0.3, of_run=0.0, noise=0.5):
    """Values of a model: what all models share of each user, and its own deviations by user, by run, and of both."""
    generator = np.random.default_rng(seed)
    shared = 1 + np.random.default_rng(0).random((runs, users))
    value = shared + shift + of_user * generator.normal(size=users) + of_run * generator.normal(size=(runs, 1))
    value = value + noise * generator.normal(size=(runs, users))
    weight = np.random.default_rng(1).integers(1, 9, (runs, users))
    index = pd.MultiIndex.from_product([range(runs), [f"u{n}" for n in range(users)]])
    return pd.DataFrame({"value": np.abs(value).ravel(), "weight": weight.ravel()}, index=index)


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("runs", [1, 3])
def test_tests_equal_loops_over_users_and_runs(runs, root):
    models = {name: sample(seed, runs, of_run=0.2) for seed, name in enumerate(["a", "b", "c"], 1)}
    result = paired_tests(models, "b", root)
    for name in ("a", "c"):
        difference, added = [], {}
        for run in range(runs):
            theta = {}
            for one in (name, "b"):
                frame = models[one].loc[run]
                mean = np.average(frame["value"], weights=frame["weight"])
                theta[one] = np.sqrt(mean) if root else mean
                slope = 1 / (2 * theta[one]) if root else 1.0
                for user, row in frame.iterrows():
                    psi = slope * row["weight"] * (row["value"] - mean) / frame["weight"].sum()
                    added[user] = added.get(user, 0.0) + (psi if one == name else -psi) / runs
            difference.append(theta[name] - theta["b"])
        between_users = 40 / 39 * sum(value**2 for value in added.values())
        between_runs = np.var(difference, ddof=1) / runs if runs > 1 else 0.0
        deviation = np.sqrt(between_users + between_runs)
        share = between_runs / deviation**2
        p = (models["b"]["weight"] / models["b"].groupby(level=0)["weight"].transform("sum")).groupby(level=1).mean()
        freedom = sum(p**2) ** 2 / sum(p**4) - 1
        t = (1 - share) * stats.t.ppf(0.975, freedom) + (share * stats.t.ppf(0.975, runs - 1) if runs > 1 else 0.0)
        row = result.loc[name]
        assert row["difference"] == pytest.approx(np.mean(difference))
        assert row["ci_low"] == pytest.approx(np.mean(difference) - t * deviation)
        assert row["ci_high"] == pytest.approx(np.mean(difference) + t * deviation)
        assert row[["users", "runs"]].tolist() == [40, runs]
    assert result.loc["b", "difference"] == 0 and np.isnan(result.loc["b", "p"])
    assert result["p_holm"].dropna().tolist() == pytest.approx(holm(result["p"].dropna()))


def test_one_run_and_equal_weights_are_a_paired_t_test():
    models = {name: sample(seed, 1).assign(weight=1.0) for seed, name in enumerate("ab", 1)}
    expected = stats.ttest_rel(models["a"]["value"], models["b"]["value"])
    row = paired_tests(models, "b").loc["a"]
    assert row["p"] == pytest.approx(expected.pvalue)
    assert row[["ci_low", "ci_high"]].tolist() == pytest.approx(expected.confidence_interval())


def test_the_deviation_of_a_root_is_that_of_the_jackknife():
    models = {name: sample(seed, 1, users=400) for seed, name in enumerate("ab", 1)}

    def difference(frames):
        return np.subtract(*(np.sqrt(np.average(frame["value"], weights=frame["weight"])) for frame in frames))

    left = [difference([frame.drop((0, f"u{n}")) for frame in models.values()]) for n in range(400)]
    jackknife = np.sqrt(399 / 400 * np.square(np.array(left) - np.mean(left)).sum())
    row = paired_tests(models, "b", root=True).loc["a"]
    half = (row["ci_high"] - row["ci_low"]) / 2
    assert row["difference"] == pytest.approx(difference(models.values()))
    share = models["a"]["weight"] / models["a"]["weight"].sum()
    freedom = (share**2).sum() ** 2 / (share**4).sum() - 1
    assert half / stats.t.ppf(0.975, freedom) == pytest.approx(jackknife, rel=0.02)


@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0, 1), st.floats(0, 1), st.floats(-0.5, 0.5))
def test_an_interval_holds_0_where_p_is_no_less_than_the_level(seed, runs, of_user, of_run, shift):
    models = {"a": sample(seed, runs, 12, shift, of_user, of_run), "b": sample(seed + 1, runs, 12, 0, of_user, of_run)}
    row = paired_tests(models, "b").loc["a"]
    assert (row["ci_low"] <= 0 <= row["ci_high"]) == (row["p"] >= 0.05)


def test_users_agree_but_runs_do_not():
    """All users are .0067 worse on average, and by -.011, .009 and .022 in three runs: training noise explains it."""
    base = sample(1, users=300, of_user=0, noise=0.0).assign(weight=1.0)
    noise = np.random.default_rng(3).normal(scale=0.01, size=len(base))
    worse = base.assign(value=base["value"] + np.repeat([-0.011, 0.009, 0.022], 300) + noise)
    row = paired_tests({"a": worse, "b": base}, "b").loc["a"]
    assert row["difference"] == pytest.approx(0.0067, abs=0.001) and row["p"] > 0.4
    steady = base.assign(value=base["value"] + np.repeat([0.006, 0.0065, 0.0075], 300) + noise)
    assert paired_tests({"a": steady, "b": base}, "b").loc["a", "p"] < 0.01


def false_marks(models, runs, of_run, rounds, users=60):
    """How often any of some models that are equal gets a mark."""
    marked = 0
    for round_ in range(rounds):
        values = {n: sample([round_, n], runs, users, of_user=0.3, of_run=of_run) for n in range(models)}
        marked += bool((paired_tests(values, 0)["p_holm"] < 0.05).any())
    return marked / rounds


def test_models_that_are_equal_are_seldom_marked():
    assert false_marks(5, 3, 0.05, 100) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("models", [2, 5, 20])
@pytest.mark.parametrize("runs", [1, 3, 5])
@pytest.mark.parametrize("of_run", [0.0, 0.02, 0.05, 0.1, 0.2, 0.5])
def test_the_chance_of_a_mark_among_equal_models(models, runs, of_run):
    """At most .055, but for the simulation's own error; with one run only if there is no training noise. Where training
    noise is nearly all there is, 20 models over three runs come to .065."""
    rounds, most = 1000, 0.055 if of_run < 0.5 else 0.065
    if runs > 1 or not of_run:
        assert false_marks(models, runs, of_run, rounds) <= most + 2 * np.sqrt(0.05 * 0.95 / rounds)


def test_the_order_of_users_does_not_matter():
    models = {"a": sample(1), "b": sample(2)}
    shuffled = {name: frame.sample(frac=1, random_state=5) for name, frame in models.items()}
    pd.testing.assert_frame_equal(paired_tests(models, "a"), paired_tests(shuffled, "a"))


def test_only_users_of_all_models_count():
    models = {"a": sample(1), "b": sample(2).drop("u7", level=1)}
    models["a"].loc[(slice(None), "u3"), "value"] = np.nan
    assert (paired_tests(models, "a")["users"] == 38).all()


def test_equal_models_have_p_one():
    rounded = sample(1).assign(value=lambda frame: frame["value"] * (1 + 1e-15))
    for same in (sample(1), rounded):
        row = paired_tests({"a": same, "b": sample(1)}, "b").loc["a"]
        assert row[["p", "ci_low", "ci_high"]].tolist() == pytest.approx([1, 0, 0], abs=1e-9)


def test_a_constant_difference_is_certain():
    row = paired_tests({"a": sample(1).assign(value=lambda frame: frame["value"] + 0.1), "b": sample(1)}, "b").loc["a"]
    assert row["p"] < 1e-12 and row[["ci_low", "ci_high"]].tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"a": sample(1)}, "two or more models"),
        ({"a": sample(1, users=5), "b": sample(2, users=1)}, "two or more users"),
        ({"a": sample(1), "b": sample(2) * np.nan}, "model 'b' has no value"),
        ({"a": sample(1), "b": pd.concat([sample(2), sample(3)])}, "model 'b' name a user of a run twice"),
    ],
)
def test_paired_tests_say_why_they_cannot(models, message):
    with pytest.raises(DataError, match=message):
        paired_tests(models, "a")


def test_an_unknown_reference_gets_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'DReX'"):
        paired_tests({"DReX": sample(1), "Bias": sample(2)}, "DReXX")


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


@pytest.mark.parametrize("metric", ["mae", "rmse", "ndcg@5", "f1@5", "full_f1@10"])
def test_what_is_compared_is_what_tables_show(runs, metric):
    block, name = ("full", metric.removeprefix("full_")) if metric.startswith("full_") else ("own_test", metric)
    shown = {
        label: np.mean([run.result["test"][block][name] for run in runs if run.label == label])
        for label in ("Bias", "DReX", "BPR")
        if label != "BPR" or "@" in metric
    }
    result = compare_models(runs, metric, "DReX")
    assert result["mean"].to_dict() == pytest.approx(shown)
    assert result.loc["Bias", "difference"] == pytest.approx(shown["Bias"] - shown["DReX"])
    assert result["runs"].tolist() == [2] * len(shown)


def test_the_reference_must_have_values(runs):
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
    assert (compare_models(comparison_of(folders).runs, "mae", "DReX")["users"] == 2).all()
    frame.loc[1, "mae"] = np.nan
    frame.to_parquet(folders[0] / "users.parquet")
    with pytest.raises(DataError, match="two or more users that every model has a value for; got 1"):
        compare_models(comparison_of(folders).runs, "mae", "DReX")


def test_metrics_without_a_value_per_user_get_the_nearest_name(runs):
    with pytest.raises(ConfigError, match="unknown metric with a value per user 'mae_rounded'"):
        compare_models(runs, "mae_rounded", "DReX")
    with pytest.raises(ConfigError, match="did you mean 'full_ndcg@10'"):
        compare_models(runs, "ful_ndcg@10", "DReX")


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
    elsewhere = comparison_of([write_run(tmp_path, "Bias", "other", 1)]).runs
    with pytest.raises(DataError, match="one data set; got runs on demo and other"):
        compare_models([*runs, *elsewhere], "mae", "DReX")
    lacking = [run for run in runs if (run.label, run.replicate) != ("DReX", "2")]
    with pytest.raises(DataError, match="'Bias' and 'DReX' were not run on the same splits of demo: 2 is of one"):
        compare_models(lacking, "mae", "DReX")
    with pytest.raises(DataError, match="two or more models; got 1"):
        compare_models([run for run in runs if run.label == "DReX"], "mae", "DReX")
    linear = write_run(tmp_path, "Bias", seed=3, protocol={**runs[0].result["protocol"], "gain": "linear"})
    with pytest.raises(DataError, match="differ in protocol, gain"):
        compare_models([*runs, *comparison_of([linear]).runs], "mae", "DReX")
