"""Rank tests over data sets against the published golden values, scipy, and properties."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from planted_runs import PROTOCOL, write_run
from scipy import stats

from recbole_drex.analysis.friedman import friedman_iman_davenport, nemenyi_critical_difference, rank_test
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.results.comparison import Comparison, Run, Variant, comparison_of

# Ranks of EMF, DMF, DeepCoNN, NARRE, PESI, DReX, DReX-MLP on Video Games, Software, CDs (DReX paper, Table 4).
PAPER_RANKS = {
    "ndcg@1": [[6, 7, 5, 4, 3, 1, 2], [6, 7, 4, 5, 2, 3, 1], [6, 7, 5, 4, 3, 1, 2]],
    "ndcg@5": [[6, 7, 4, 5, 3, 1, 2], [6, 7, 5, 4, 3, 2, 1], [6, 7, 5, 4, 3, 1, 2]],
    "ndcg@10": [[6, 7, 4, 5, 3, 2, 1], [6, 7, 5, 4, 3, 2, 1], [6, 7, 5, 4, 3, 2, 1]],
}


@pytest.mark.parametrize(("metric", "f"), [("ndcg@1", 29.5), ("ndcg@5", 61.0), ("ndcg@10", 124.0)])
def test_friedman_gives_the_papers_f(metric, f):
    result = friedman_iman_davenport(PAPER_RANKS[metric])
    assert result["F"] == pytest.approx(f, abs=1e-6)
    assert (result["df1"], result["df2"]) == (6, 12)
    assert result["critical"] == pytest.approx(2.9961, abs=1e-4)
    assert result["p"] < 1e-5


def test_nemenyi_gives_the_papers_critical_difference():
    q, difference = nemenyi_critical_difference(7, 3)
    # The paper takes q from a table made of 4.17 / sqrt(2), where the quantile is 4.1696.
    assert q == pytest.approx(2.949, abs=1e-3)
    assert difference == pytest.approx(5.202, abs=2e-3)
    assert difference / q == pytest.approx(5.202 / 2.949, abs=1e-3)


def test_by_that_difference_only_dmf_differs_from_the_best():
    mean = np.mean(PAPER_RANKS["ndcg@5"], axis=0)
    assert (mean - mean.min() > nemenyi_critical_difference(7, 3)[1]).tolist() == [False, True] + 5 * [False]


@pytest.mark.parametrize("digits", [9, 1, 0])
def test_friedman_agrees_with_scipys_chi_square(digits):
    """With one digit some models are tied, with none nearly all."""
    values = np.random.default_rng(0).random((12, 5)).round(digits)
    chi2 = stats.friedmanchisquare(*values.T).statistic
    f = friedman_iman_davenport(stats.rankdata(values, axis=1))["F"]
    assert f == pytest.approx(11 * chi2 / (12 * 4 - chi2))


def test_models_that_are_tied_everywhere_do_not_differ():
    result = friedman_iman_davenport([[2, 2, 2]] * 3)
    assert (result["F"], result["p"]) == (0, 1)


def test_full_agreement_gives_an_infinite_f():
    result = friedman_iman_davenport([[1, 2, 3]] * 4)
    assert result["F"] == np.inf
    assert result["p"] == 0.0


@pytest.mark.parametrize(
    "ranks", [[[1, 2, 3]], [[1], [1]], [1, 2, 3], [[1, 2, 2], [1, 2, 3]], [[0.4, 0.5], [0.1, 0.2]]]
)
def test_friedman_refuses_what_it_cannot_test(ranks):
    with pytest.raises(DataError, match=r"rank"):
        friedman_iman_davenport(ranks)


def test_nemenyi_refuses_one_data_set():
    with pytest.raises(DataError, match="1 data sets"):
        nemenyi_critical_difference(7, 1)


# NDCG@1, @5, @10 of the same models on the same data sets (DReX paper, Table 4).
PAPER_NDCG = {
    "Video_Games": {
        "EMF": (0.4197, 0.6978, 0.7596),
        "DMF": (0.3752, 0.6685, 0.7403),
        "DeepCoNN": (0.4864, 0.7392, 0.7930),
        "NARRE": (0.4899, 0.7358, 0.7901),
        "PESI": (0.6104, 0.8511, 0.8990),
        "DReX": (0.6720, 0.9118, 0.9578),
        "DReX-MLP": (0.6490, 0.9109, 0.9595),
    },
    "Software": {
        "EMF": (0.4803, 0.7164, 0.7538),
        "DMF": (0.4227, 0.6890, 0.7380),
        "DeepCoNN": (0.5162, 0.7480, 0.7866),
        "NARRE": (0.5023, 0.7602, 0.7940),
        "PESI": (0.6666, 0.8604, 0.8974),
        "DReX": (0.6512, 0.9185, 0.9524),
        "DReX-MLP": (0.6765, 0.9264, 0.9568),
    },
    "CDs": {
        "EMF": (0.4896, 0.7397, 0.7689),
        "DMF": (0.4484, 0.7172, 0.7540),
        "DeepCoNN": (0.5345, 0.7788, 0.8052),
        "NARRE": (0.5534, 0.7877, 0.8081),
        "PESI": (0.6482, 0.8920, 0.9100),
        "DReX": (0.7333, 0.9594, 0.9732),
        "DReX-MLP": (0.7073, 0.9591, 0.9742),
    },
}


def result(label, dataset, own_test):
    """What of a result is read for ranks."""
    return {
        "label": label,
        "dataset": dataset,
        "seed": 1,
        "fold": None,
        "loss": "mse",
        "output": "mean",
        "split": "random",
        "protocol": PROTOCOL.as_dict(),
        "data": {"fingerprint": dataset},
        "test": {"own_test": own_test, "full": None},
        "references": {"Oracle": {"own_test": dict.fromkeys(own_test, 1.0)}},
    }


def comparison_with(values):
    """A comparison with the given ``{data set: {model: {metric: value}}}``."""
    runs = [
        Run(Path(), result(label, dataset, own_test))
        for dataset, models in values.items()
        for label, own_test in models.items()
    ]
    labels = dict.fromkeys(run.label for run in runs)
    return Comparison(Path(), "", tuple(Variant(label, label) for label in labels), tuple(values), tuple(runs))


@pytest.fixture(scope="module")
def paper():
    return comparison_with(
        {
            dataset: {
                label: dict(zip(("ndcg@1", "ndcg@5", "ndcg@10"), scores, strict=True))
                for label, scores in models.items()
            }
            for dataset, models in PAPER_NDCG.items()
        }
    )


@pytest.mark.parametrize(("metric", "f"), [("ndcg@1", 29.5), ("ndcg@5", 61.0), ("ndcg@10", 124.0)])
def test_a_comparison_with_the_papers_table_gives_the_papers_test(paper, metric, f):
    test = rank_test(paper, metric)
    order = ["EMF", "DMF", "DeepCoNN", "NARRE", "PESI", "DReX", "DReX-MLP"]
    assert test.ranks[order].to_numpy().tolist() == PAPER_RANKS[metric]
    assert pytest.approx(f, abs=1e-6) == test.F
    assert (test.df1, test.df2) == (6, 12)
    assert round(test.critical, 4) == 2.9961
    assert test.q == pytest.approx(2.949, abs=1e-3)
    assert test.cd == pytest.approx(5.202, abs=2e-3)
    assert test.mean_ranks.index[-1] == "DMF"
    differing = [label for label in order if test.mean_ranks[label] - test.mean_ranks.iloc[0] > test.cd]
    assert differing == ["DMF"]
    # The second of the best differs from DMF as well, but by NDCG@10: ranks 2 and 7.
    near_dmf = {"DMF", "EMF", "DeepCoNN", "NARRE", "PESI"} | ({"DReX"} if metric == "ndcg@10" else set())
    assert [set(group) for group in test.groups] == [set(order) - {"DMF"}, near_dmf]


def test_the_text_states_what_three_data_sets_can_show(paper):
    text = rank_test(paper, "ndcg@5").describe()
    assert "F(6, 12) = 61, critical value 2.9961" in text and "is rejected at 0.05" in text
    assert "two of 7 models differ by Nemenyi's test only if their mean ranks are 5.200 of at most 6 apart" in text
    # 2.9484**2 * 7 * 8 / 6 = 81.1
    assert "A mean difference of one rank would take 82 data sets" in text
    # (1 / 7!)**2
    assert "probability 3.9e-08" in text


def test_the_text_states_when_no_two_models_could_differ(paper):
    two = dataclasses.replace(
        paper, datasets=paper.datasets[:2], runs=tuple(run for run in paper.runs if run.dataset != "CDs")
    )
    assert "no two of 7 models can differ by Nemenyi's test, whatever the results" in rank_test(two, "ndcg@5").power
    pair = rank_test(two, "ndcg@10", labels=["DReX", "PESI"])
    assert pair.mean_ranks.to_dict() == {"DReX": 1, "PESI": 2}
    assert "probability 0.5:" in pair.power


def test_errors_are_ranked_the_other_way_and_bounds_never(tmp_path):
    folders = [
        write_run(tmp_path, label, dataset, 1, noise, scores=label == "BPR")
        for dataset in ("a", "b", "c")
        for label, noise in {"DReX": 0.3, "BPR": 0.5, "Bias": 1.0, "Random": 3.0}.items()
    ]
    test = rank_test(comparison_of(folders), "mae")
    assert test.mean_ranks.to_dict() == {"DReX": 1, "Bias": 2, "Random": 3}
    assert test.left_out == ("BPR",)
    assert "Left out, without a value on some data set: BPR" in test.describe()
    full = rank_test(comparison_of(folders), "ndcg@5", block="full")
    assert full.block == "full" and len(full.mean_ranks) == 4


def test_a_model_that_failed_on_a_data_set_is_left_out(paper):
    lacking = tuple(run for run in paper.runs if (run.label, run.dataset) != ("PESI", "CDs"))
    test = rank_test(dataclasses.replace(paper, runs=lacking), "ndcg@5")
    assert test.left_out == ("PESI",)
    assert test.ranks.shape == (3, 6)
    # The others keep their order, and close ranks.
    assert test.ranks.loc["CDs", "DeepCoNN"] == 4


def test_without_rejection_nemenyi_is_not_read():
    flat = {"m": 0.5}
    test = rank_test(comparison_with({name: {"A": flat, "B": flat, "C": flat} for name in ("x", "y")}), "m")
    assert test.F == 0 and test.mean_ranks.tolist() == [2, 2, 2]
    assert "is not rejected at 0.05" in test.describe()
    assert "Nemenyi's test is not read where Friedman's does not reject" in test.describe()


def test_groups_are_the_largest_and_overlap():
    # Twelve data sets that agree: ranks 1 to 5, critical difference 1.761.
    values = {f"d{n}": {label: {"m": 1 - index / 10} for index, label in enumerate("ABCDE")} for n in range(12)}
    test = rank_test(comparison_with(values), "m")
    assert 1 < test.cd < 2
    assert test.groups == (("A", "B"), ("B", "C"), ("C", "D"), ("D", "E"))


def test_one_data_set_is_refused_with_the_reason(paper):
    one = dataclasses.replace(paper, datasets=("CDs",), runs=tuple(paper.of(dataset="CDs")))
    with pytest.raises(DataError, match="needs two or more; the comparison has one, CDs"):
        rank_test(one, "ndcg@5")


def test_too_few_models_and_unknown_names_are_refused(paper):
    with pytest.raises(DataError, match="two or more models with ndcg@5 on every data set; there are 1"):
        rank_test(paper, "ndcg@5", labels=["DReX"])
    with pytest.raises(ConfigError, match="did you mean 'DReX'"):
        rank_test(paper, "ndcg@5", labels=["DRex1", "PESI"])
    with pytest.raises(ConfigError, match="did you mean 'ndcg@5'"):
        rank_test(paper, "ndgc@5")
