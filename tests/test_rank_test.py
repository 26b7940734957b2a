"""Rank tests over data sets against the published golden values, scipy, and properties."""

import numpy as np
import pytest
from scipy import stats

from recbole_drex.errors import DataError
from recbole_drex.evaluation.rank_test import friedman_iman_davenport, nemenyi_critical_difference

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


def test_friedman_agrees_with_scipys_chi_square():
    values = np.random.default_rng(0).random((12, 5))
    chi2 = stats.friedmanchisquare(*values.T).statistic
    f = friedman_iman_davenport(stats.rankdata(values, axis=1))["F"]
    assert f == pytest.approx(11 * chi2 / (12 * 4 - chi2))


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
