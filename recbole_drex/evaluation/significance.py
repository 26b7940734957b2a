"""Whether models differ: per-user paired tests on one data set, rank tests over several.

The rank tests follow Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006. With three
data sets they can show little: seven models differ by the Nemenyi test only where their mean ranks are 5.2 apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from recbole_drex.errors import ConfigError, DataError, unknown_name

_DRAWS_AT_ONCE = 4_000_000  # resampled values held in memory at a time, 32 MB


def paired_tests(
    errors: Mapping[str, pd.Series],
    best: str | None = None,
    *,
    smaller_is_better: bool,
    seed: int = 0,
    bootstrap: int = 10_000,
) -> pd.DataFrame:
    """Compare the best model with every other, user by user.

    Only users for whom every model has a value count, so that all rows speak of the same users. The test is Wilcoxon's
    signed-rank test, two-sided; zero differences are ranked but not counted, as Pratt proposed (Remarks on zeros and
    ties in the Wilcoxon signed rank procedures, JASA 54, 1959). The interval is the 95 % percentile bootstrap
    interval of the mean difference, resampling users.

    Args:
        errors: of each model, one value per user (an error or a score), indexed by user; users in any order. For
            several seeds, index by (seed, user) or average over seeds first.
        best: the model to compare with; by default the one with the best mean.
        smaller_is_better: true for errors, false for scores.
        seed: of the bootstrap.
        bootstrap: number of resamples.

    Returns:
        One row per model, the best mean first: ``mean``; ``difference`` (the model's mean minus the best model's, in
        the units of the values) with its interval ``ci_low``, ``ci_high``; ``p``; ``p_holm``, corrected for the number
        of comparisons; ``users``. The best model's own row has NaN in all but ``mean``, ``difference`` and ``users``.

    Raises:
        DataError: fewer than two models, or fewer than two users that all models have a value for.
        ConfigError: ``best`` is none of the models.
    """
    if len(errors) < 2:
        raise DataError(f"a paired test compares two or more models; got {len(errors)}")
    if best is not None and best not in errors:
        raise ConfigError(unknown_name("model", best, errors))
    for model, series in errors.items():
        if not series.index.is_unique:
            raise DataError(f"the values of model '{model}' name a user twice; index several seeds by (seed, user)")
        if series.isna().all():
            raise DataError(f"model '{model}' has no value for any user, so it cannot be compared")
    table = pd.DataFrame(dict(errors)).dropna().sort_index()
    if len(table) < 2:
        raise DataError(f"a paired test needs two or more users that every model has a value for; got {len(table)}")

    means = table.mean().sort_values(ascending=smaller_is_better, kind="stable")
    best = str(means.index[0]) if best is None else best
    others = [model for model in means.index if model != best]
    differences = table[others].sub(table[best], axis=0).to_numpy(dtype=np.float64)
    low, high = np.quantile(_bootstrap_means(differences, bootstrap, seed), [0.025, 0.975], axis=0)
    p = np.array([_wilcoxon(column) for column in differences.T])
    tests = pd.DataFrame({"ci_low": low, "ci_high": high, "p": p, "p_holm": holm(p)}, index=others)
    result = pd.DataFrame({"mean": means, "difference": means - means[best]}).join(tests)
    result.index.name = "model"
    return result.assign(users=len(table))


def _bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means over rows of ``values`` (n, m) for each of ``resamples`` draws of n rows: shape (resamples, m)."""
    n = len(values)
    generator = np.random.default_rng(seed)
    chunk = max(1, _DRAWS_AT_ONCE // n)
    parts = []
    for start in range(0, resamples, chunk):
        rows = generator.integers(0, n, size=(min(chunk, resamples - start), n), dtype=np.int32)
        # One column at a time: all models share the draw of users, and no (chunk, n, m) array is needed.
        parts.append(np.stack([column[rows].mean(axis=1) for column in values.T], axis=1))
    return np.concatenate(parts)


def _wilcoxon(difference: np.ndarray) -> float:
    # Without any difference the statistic is undefined; nothing then speaks against equality.
    return 1.0 if not difference.any() else float(stats.wilcoxon(difference, zero_method="pratt").pvalue)


def holm(p: ArrayLike) -> np.ndarray:
    """Correct p-values for the number of tests by Holm's step-down method (Scand. J. Statist. 6, 1979).

    Args:
        p: p-values, shape (m,).

    Returns:
        Corrected p-values in the same order: the i-th smallest times m - i + 1, never falling, at most 1.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return corrected


def friedman_iman_davenport(ranks: ArrayLike, alpha: float = 0.05) -> dict[str, float]:
    """Test whether models' ranks over data sets differ: Friedman's test with Iman and Davenport's F.

    With N data sets, k models and R_j the mean rank of model j (Demšar 2006, section 3.2.2)::

        chi2 = 12 N / (k (k + 1)) * (sum of R_j**2 - k (k + 1)**2 / 4)
        F    = (N - 1) chi2 / (N (k - 1) - chi2),   degrees of freedom k - 1 and (k - 1)(N - 1)

    Args:
        ranks: rank of each model on each data set, shape (N, k); 1 is best, tied models share their mean rank.
        alpha: level of the critical value.

    Returns:
        ``F``, ``df1``, ``df2``, ``critical`` (F must exceed it) and ``p``. Where all data sets agree entirely, F is
        infinite and p is 0.

    Raises:
        DataError: fewer than two data sets or models, or rows that are no ranks.

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
    chi2 = 12 * n / (k * (k + 1)) * (np.square(ranks.mean(axis=0)).sum() - k * (k + 1) ** 2 / 4)
    df1, df2 = k - 1, (k - 1) * (n - 1)
    left = n * (k - 1) - chi2
    # Full agreement makes the denominator 0, but for rounding.
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
