"""Paired tests of models against a reference on one data set, for the metrics of a table.

A metric varies between users and between runs (splits and initialisations), so both are treated as samples. See
``friedman.py`` for tests over several data sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, stats

from recbole_drex.analysis.comparable import refuse_unlike
from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.results.comparison import Run

_ROOTS = {"rmse": "mse"}  # metrics that are the root of a mean, and the averaged quantity
_PER_RATING = ("mae", "mse", "mae_median")  # means over ratings; all others are means over users
_EQUAL = 1e-9  # smaller differences are rounding errors
_LEVEL = 0.05


def paired_tests(values: Mapping[str, pd.DataFrame], reference: str, root: bool = False) -> pd.DataFrame:
    r"""Compare every model with a reference.

    In each run r a metric is :math:`\theta_r = \sum_u w_{ur} x_{ur} / \sum_u w_{ur}` (or its root), and what is
    compared is its mean over runs, :math:`\theta`, as it stands in tables. With D the difference of two models and
    :math:`\psi_{ur}` what user u adds to that of run r, to first order,

    .. math::
        V_1 = \frac{U}{U - 1} \sum_{u=1}^U \Big(\frac{1}{R} \sum_{r=1}^R \psi_{ur}\Big)^2, \qquad
        V_2 = \frac{1}{R (R - 1)} \sum_{r=1}^R (D_r - D)^2

    are the variances of D between users and between runs. :math:`D / \sqrt{V_1 + V_2}` is compared with the mean of
    the quantiles of Student's t with U* - 1 and R - 1 degrees of freedom, weighted by :math:`V_1` and :math:`V_2`
    (Cochran and Cox, Experimental Designs, 1950). That is conservative: the chance of any mark among equal models stays
    below the level unless training noise is nearly all there is. U* is U where all users weigh the same, and less where
    few weigh much: with p a user's mean share of the weights, :math:`(\sum_u p_u^2)^2 / \sum_u p_u^4`. With a single
    run :math:`V_2` is unknown and left out.

    Args:
        values: of each model, indexed by run and user, columns ``value`` (x) and ``weight`` (w). Only what all models
            have a value for counts.
        reference: the model to compare with.
        root: whether the metric is the root of the mean.

    Returns:
        One row per model, in the order of ``values``: ``mean``, the metric; ``difference`` to the reference's, with its
        95 % interval ``ci_low``, ``ci_high``; ``p``, two-sided; ``p_holm``, corrected for the number of models;
        ``users``; ``runs``. An interval holds 0 if and only if p is .05 or more. The reference's row has NaN in
        interval and p.

    Raises:
        DataError: fewer than two models, or than two users that all models have a value for.
        ConfigError: ``reference`` is not one of the models.
    """
    if len(values) < 2:
        raise DataError(f"a paired test compares two or more models; got {len(values)}")
    if reference not in values:
        raise ConfigError(unknown_name("model", reference, values))
    for model, frame in values.items():
        if not frame.index.is_unique:
            raise DataError(f"the values of model '{model}' name a user of a run twice")
        if frame["value"].isna().all():
            raise DataError(f"model '{model}' has no value for any user, so it cannot be compared")
    table = pd.DataFrame({model: frame["value"] for model, frame in values.items()}).dropna().sort_index()
    run, user = (table.index.get_level_values(level) for level in (0, 1))
    runs, users = run.nunique(), user.nunique()
    if users < 2:
        raise DataError(f"a paired test needs two or more users that every model has a value for; got {users}")
    # The number of test ratings of a user, which is the same for all models.
    weight = values[reference]["weight"].reindex(table.index)
    weight = weight / weight.groupby(run).transform("sum")
    means = table.mul(weight, axis=0).groupby(run).sum()
    added = table.sub(means.loc[run].set_axis(table.index)).mul(weight, axis=0)
    if root:
        means = means.pow(0.5)
        added = added / (2 * means.loc[run].set_axis(table.index)).clip(lower=np.finfo(float).tiny)
    others = [model for model in values if model != reference]
    difference = means[others].sub(means[reference], axis=0)
    share = weight.groupby(user).sum() / runs
    effective = max(float((share**2).sum() ** 2 / (share**4).sum()), 1.1)
    of_user = added[others].sub(added[reference], axis=0).groupby(user).sum().to_numpy() / runs
    between_users = users / (users - 1) * np.square(of_user).sum(axis=0)
    between_runs = difference.var(ddof=1).to_numpy() / runs if runs > 1 else np.zeros(len(others))
    results = [
        _t_test(d, v1, v2, effective - 1, runs - 1)
        for d, v1, v2 in zip(difference.mean(), between_users, between_runs, strict=True)
    ]
    tests = pd.DataFrame(results, columns=["ci_low", "ci_high", "p"], index=others)
    tests["p_holm"] = holm(tests["p"])
    mean = means.mean()
    result = pd.DataFrame({"mean": mean, "difference": mean - mean[reference]}).join(tests).loc[list(values)]
    result.index.name = "model"
    return result.assign(users=users, runs=runs)


def _t_test(difference: float, by_user: float, by_run: float, users: float, runs: int) -> tuple[float, float, float]:
    """95 % interval and two-sided p of a difference, given its variances and their degrees of freedom."""
    if abs(difference) < _EQUAL:
        difference = 0.0
    deviation = np.sqrt(by_user + by_run)
    if deviation < _EQUAL:
        return difference, difference, float(difference == 0)
    share = by_run / (by_user + by_run)

    def quantile(p: float) -> float:
        value = (1 - share) * stats.t.isf(p / 2, users)
        return float(value + share * stats.t.isf(p / 2, runs)) if share else float(value)

    reach, t = quantile(_LEVEL) * deviation, abs(difference) / deviation
    lowest = 1e-100  # SciPy has no quantiles for smaller values
    if t == 0 or t >= quantile(lowest):
        p = 1.0 if t == 0 else lowest
    else:
        p = float(np.exp(optimize.brentq(lambda log: quantile(np.exp(log)) - t, np.log(lowest), 0.0, xtol=1e-10)))
    return difference - reach, difference + reach, p


def user_values(runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """Read the metrics of each model's test users.

    Args:
        runs: of one data set.

    Returns:
        By label, the columns of ``users.parquet``, indexed by replicate and user.

    Raises:
        CheckpointError: a users file is missing or damaged.
    """
    labels = dict.fromkeys(run.label for run in runs)
    return {
        label: pd.concat({run.replicate: run.users() for run in runs if run.label == label}, names=["replicate"])
        for label in labels
    }


def compare_models(
    runs: Sequence[Run], metric: str, reference: str, users: Mapping[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Compare every model on one data set with a reference, by a metric of the table; see :func:`paired_tests`.

    Args:
        runs: of one data set, every model with the same replicates. Models without values, such as one that predicts no
            rating where ``metric`` is ``mae``, are left out.
        metric: as in a result, ``mae``, ``rmse``, ``ndcg@5``, ...; ``full_ndcg@5`` is that of the full catalogue.
        reference: label of the model to compare with; choose it before seeing the results.
        users: result of :func:`user_values` for ``runs``, to avoid reading it for each metric.

    Returns:
        As :func:`paired_tests`; ``mean`` and ``difference`` are those of the means over runs in tables.

    Raises:
        DataError: the runs are of several data sets, do not belong together, or the models' replicates differ; fewer
            than two models have values, or fewer than two users.
        ConfigError: there is no such metric or label.
        CheckpointError: a users file is missing or damaged.
    """
    refuse_unlike([run.result for run in runs])
    if len(datasets := dict.fromkeys(run.dataset for run in runs)) > 1:
        raise DataError(f"users are compared on one data set; got runs on {' and '.join(datasets)}")
    _refuse_other_replicates(runs)
    users = user_values(runs) if users is None else users
    column = _ROOTS.get(metric, metric)
    legal = metrics_per_user(users)
    if metric not in legal:
        raise ConfigError(unknown_name("metric with a value per user", metric, legal))
    values = {
        label: pd.DataFrame({"value": frame[column], "weight": frame["test_ratings"] if column in _PER_RATING else 1.0})
        for label, frame in users.items()
        if column in frame and frame[column].notna().any()
    }
    if reference not in values:
        raise ConfigError(unknown_name(f"model with values of {metric}:", reference, values))
    return paired_tests(values, reference, root=metric in _ROOTS)


def metrics_per_user(users: Mapping[str, pd.DataFrame]) -> list[str]:
    """Names of the metrics that :func:`compare_models` can test, given the result of :func:`user_values`."""
    columns = dict.fromkeys(str(name) for frame in users.values() for name in frame)
    names = {column: name for name, column in _ROOTS.items()}
    return [names.get(name, name) for name in columns if name in _PER_RATING or "@" in name]


def _refuse_other_replicates(runs: Sequence[Run]) -> None:
    replicates: dict[str, set[str]] = {}
    for run in runs:
        replicates.setdefault(run.label, set()).add(run.replicate)
    (first, wanted), *others = replicates.items()
    for label, result in others:
        if result != wanted:
            raise DataError(
                f"'{first}' and '{label}' were not run on the same splits of {runs[0].dataset}: "
                f"{', '.join(sorted(wanted ^ result))} is of one of them only"
            )


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
