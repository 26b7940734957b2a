"""Whether models differ over several data sets: Friedman's test on their ranks and Nemenyi's post-hoc test.

Both follow Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006. With three data sets
they can show little: seven models differ by Nemenyi's test only where their mean ranks are 5.2 apart.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from recbole_drex.analysis.comparable import EQUAL_DIGITS, smaller_is_better
from recbole_drex.analysis.comparison_table import comparison_table
from recbole_drex.analysis.table_rows import seldom_ordered
from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.results.comparison import Comparison


@dataclasses.dataclass(frozen=True)
class RankTest:
    """Friedman's and Nemenyi's tests of one metric over data sets.

    Attributes:
        metric: metric by which models are ranked.
        block: kind of candidates of that metric, ``own_test`` or ``full``.
        alpha: level of the tests.
        ranks: data sets x models; 1 is best, tied models share their mean rank.
        mean_ranks: over data sets, by model, the best first.
        left_out: models without a value on some data set, which are not ranked.
        F: Iman and Davenport's statistic.
        df1: its degrees of freedom, k - 1 for k models.
        df2: and (k - 1)(N - 1) for N data sets.
        critical: what F must exceed to reject that all models are equal.
        p: the p-value of F.
        q: critical value of Nemenyi's test.
        cd: the critical difference of mean ranks.
        groups: maximal sets of models, best first, that do not differ by Nemenyi's test.
    """

    metric: str
    block: str
    alpha: float
    ranks: pd.DataFrame
    mean_ranks: pd.Series
    left_out: tuple[str, ...]
    F: float
    df1: int
    df2: int
    critical: float
    p: float
    q: float
    cd: float
    groups: tuple[tuple[str, ...], ...]

    @property
    def power(self) -> str:
        """The power of tests over few data sets, in words."""
        n, k = self.ranks.shape
        needed = math.ceil(self.q**2 * k * (k + 1) / 6)
        possible = (
            f"no two of {k} models can differ by Nemenyi's test, whatever the results: mean ranks are at most {k - 1} "
            f"apart, and the critical difference is {self.cd:.3f}"
            if k - 1 < self.cd
            else f"two of {k} models differ by Nemenyi's test only if their mean ranks are {self.cd:.3f} of at most "
            f"{k - 1} apart"
        )
        chance = 1 / math.factorial(k) ** (n - 1)
        return (
            f"With {n} data sets, {possible}. A mean difference of one rank would take {needed} data sets. Were all "
            f"models equal, the data sets would agree on the whole order with probability {chance:.2g}: no exact test "
            "can give a smaller p, while that of F is an approximation meant for more data sets."
        )

    def describe(self) -> str:
        """The tests as text, for the terminal."""
        n, k = self.ranks.shape
        rejected = self.critical < self.F
        lines = [
            f"Ranks by {self.metric} ({self.block}) of {k} models on {n} data sets: {', '.join(self.ranks.index)}",
            *(f"  {rank:6.3f}  {label}" for label, rank in self.mean_ranks.items()),
            f"Friedman's test (Iman and Davenport): F({self.df1}, {self.df2}) = {self.F:.4g}, critical value "
            f"{self.critical:.4f}, p = {self.p:.3g}: that all models are equal is {'' if rejected else 'not '}rejected "
            f"at {self.alpha:g}",
        ]
        if rejected:
            result = "no two models differ in" if self.groups else "every two models differ"
            lines.append(f"Nemenyi's test: q = {self.q:.3f}, critical difference {self.cd:.3f}; {result}")
            lines += [f"  {{{', '.join(group)}}}" for group in self.groups]
        else:
            lines.append("Nemenyi's test is not read where Friedman's does not reject")
        if self.left_out:
            lines.append(f"Left out, without a value on some data set: {', '.join(self.left_out)}")
        return "\n".join([*lines, self.power])


def rank_test(
    comparison: Comparison,
    metric: str,
    block: str = "own_test",
    alpha: float = 0.05,
    labels: Sequence[str] | None = None,
) -> RankTest:
    """Rank the models of a comparison on every data set, by their means over replicates, and test the ranks.

    Args:
        comparison: with two or more data sets.
        metric: as in a result, ``ndcg@5``.
        block: kind of candidates, ``own_test`` or ``full``.
        alpha: level of the tests, between 0 and 1.
        labels: the models to rank; by default all, including reference models. The random order and the oracle are not
            models and are never ranked.

    Raises:
        DataError: fewer than two data sets or two models with a value on each; or results that cannot be compared
            together.
        ConfigError: no result has the metric, or there is no such label.
    """
    if len(comparison.datasets) < 2:
        raise DataError(
            "Friedman's test ranks models over data sets and needs two or more; the comparison has one, "
            f"{comparison.datasets[0]}. On one data set, the paired tests compare models user by user"
        )
    for dataset in comparison.datasets:
        if seldom_ordered(comparison, dataset, [metric], block):
            raise DataError(
                f"models are not ranked by {metric}: on {dataset} the order of the own test items makes a difference "
                "for fewer than half of the users"
            )
    known = [variant.label for variant in comparison.variants]
    for label in labels or ():
        if label not in known:
            raise ConfigError(unknown_name("model", label, known))
    chosen = known if labels is None else list(dict.fromkeys(labels))
    frame = comparison_table(comparison, [metric], block, tests=()).frame
    # A model that lacks a replicate has no rank in the table, so it is not ranked here.
    values = frame.assign(value=frame[metric].where(frame[f"{metric}_rank"].notna()))[frame["kind"] != "bound"]
    wide = values.pivot(index="dataset", columns="model", values="value")
    wide = wide.reindex(index=list(comparison.datasets), columns=chosen)
    complete = wide.dropna(axis="columns")
    if complete.shape[1] < 2:
        raise DataError(
            f"a rank test needs two or more models with {metric} on every data set; there are {complete.shape[1]}"
        )
    ranks = complete.round(EQUAL_DIGITS).rank(axis=1, ascending=smaller_is_better(metric))
    mean_ranks = ranks.mean().sort_values(kind="stable")
    ranks = ranks[mean_ranks.index].rename_axis(columns=None)
    friedman = friedman_iman_davenport(ranks.to_numpy(), alpha)
    q, difference = nemenyi_critical_difference(ranks.shape[1], len(ranks), alpha)
    return RankTest(
        metric=metric,
        block=block,
        alpha=alpha,
        ranks=ranks,
        mean_ranks=mean_ranks.rename_axis(None),
        left_out=tuple(label for label in chosen if label not in ranks),
        F=friedman["F"],
        df1=int(friedman["df1"]),
        df2=int(friedman["df2"]),
        critical=friedman["critical"],
        p=friedman["p"],
        q=q,
        cd=difference,
        groups=_groups(mean_ranks, difference),
    )


def _groups(mean_ranks: pd.Series, cd: float) -> tuple[tuple[str, ...], ...]:
    """Largest runs of two or more models, in the order of their mean ranks, whose ends are less than ``cd`` apart."""
    groups = []
    reached = 0
    for start in range(len(mean_ranks)):
        end = int((mean_ranks - mean_ranks.iloc[start] < cd).sum())
        # A run that ends where an earlier one does is part of it.
        if end > max(reached, start + 1):
            groups.append(tuple(mean_ranks.index[start:end]))
            reached = end
    return tuple(groups)


def friedman_iman_davenport(ranks: ArrayLike, alpha: float = 0.05) -> dict[str, float]:
    """Test whether models' ranks over data sets differ: Friedman's test with Iman and Davenport's F.

    With N data sets, k models, r_ij the rank of model j on data set i and R_j its mean over data sets (Conover,
    Practical Nonparametric Statistics, 1999, section 5.8, which corrects for ties)::

        chi2 = (k - 1) N**2 * (sum of R_j**2 - k (k + 1)**2 / 4) / (sum of r_ij**2 - N k (k + 1)**2 / 4)
        F    = (N - 1) chi2 / (N (k - 1) - chi2),   degrees of freedom k - 1 and (k - 1)(N - 1)

    Without ties chi2 is that of Demšar 2006, section 3.2.2.

    Args:
        ranks: rank of each model on each data set, shape (N, k); 1 is best, tied models share their mean rank.
        alpha: level of the critical value.

    Returns:
        ``F``, ``df1``, ``df2``, ``critical`` (F must exceed it) and ``p``. Where all data sets agree entirely, F is
        infinite and p is 0; where all models are tied on all, F is 0 and p is 1.

    Raises:
        DataError: fewer than two data sets or models, or rows that are not ranks.

    Example:
        >>> round(friedman_iman_davenport([[1, 2, 3], [1, 3, 2], [1, 2, 3]])["F"], 6)
        7.0
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    if ranks.ndim != 2 or min(ranks.shape) < 2:
        raise DataError(
            f"Friedman's test needs ranks of two or more models on two or more data sets; got shape {ranks.shape}"
        )
    n, k = ranks.shape
    if not np.allclose(ranks, stats.rankdata(ranks, axis=1)):
        raise DataError(f"each data set must rank the {k} models from 1 to {k}, ties by their mean rank")
    usual = k * (k + 1) ** 2 / 4
    between, total = n * (np.square(ranks.mean(axis=0)).sum() - usual), np.square(ranks).sum() - n * usual
    chi2 = n * (k - 1) * between / total if total > 0 else 0.0
    df1, df2 = k - 1, (k - 1) * (n - 1)
    left = n * (k - 1) - chi2
    # Full agreement makes the denominator 0, up to rounding.
    f = math.inf if left < 1e-9 * n * k else float((n - 1) * chi2 / left)
    critical = float(stats.f.ppf(1 - alpha, df1, df2))
    return {"F": f, "df1": df1, "df2": df2, "critical": critical, "p": float(stats.f.sf(f, df1, df2))}


def nemenyi_critical_difference(k: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Difference of mean ranks from which two of ``k`` models differ over ``n`` data sets (Nemenyi's test).

    Returns:
        ``q``, the studentized range's 1 - alpha quantile over the square root of 2, and the critical difference
        ``q * sqrt(k (k + 1) / (6 n))``, in ranks. Printed tables of q, made from quantiles of two decimals, differ
        by up to 0.001: Demšar's 2.949 for seven models gives 5.202 for three data sets.

    Raises:
        DataError: fewer than two models or data sets.

    Example:
        >>> [round(value, 3) for value in nemenyi_critical_difference(7, 3)]
        [2.948, 5.2]
    """
    if k < 2 or n < 2:
        raise DataError(f"the Nemenyi test needs two or more models and data sets; got {k} models, {n} data sets")
    q = float(stats.studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2.0)
    return q, q * math.sqrt(k * (k + 1) / (6 * n))
