"""MAE and RMSE of predicted ratings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from recbole_drex.errors import DataError
from recbole_drex.evaluation.ranking_metrics import refuse_nan


def nearest_level(prediction: ArrayLike, levels: Sequence[float]) -> np.ndarray:
    """Round predictions to the nearest legal rating; one halfway between two goes to the lower.

    Args:
        prediction: any shape, in rating units.
        levels: the legal ratings, in any order; at least one.

    Example:
        >>> nearest_level([0.2, 3.4, 4.5, 9.0], [1, 2, 3, 4, 5])
        array([1., 3., 4., 5.])
    """
    legal = np.unique(np.asarray(levels, dtype=np.float64))
    halfway = (legal[1:] + legal[:-1]) / 2.0
    return legal[np.searchsorted(halfway, np.asarray(prediction, dtype=np.float64), side="left")]


def rating_metrics(
    rating: ArrayLike, prediction: ArrayLike, levels: Sequence[float], median: ArrayLike | None = None
) -> dict[str, float]:
    """Rating errors over rows. Predictions are first clipped to the range of ``levels``.

    Args:
        rating: true ratings, shape (n,).
        prediction: predicted ratings, shape (n,): means, where the model gives a distribution.
        levels: the legal ratings, e.g. 1 to 5 by 1, or 0.5 to 5 by 0.5.
        median: predicted medians, shape (n,), of models that give a distribution.

    Returns:
        ``mae`` and ``rmse`` of the prediction, ``mae_rounded`` of the nearest legal level (halfway: the lower),
        ``mae_median`` where ``median`` is given, all in rating units; and ``n``, the number of rows.

    Raises:
        DataError: there is no row or no level.
        ValueError: NaN among the inputs, or shapes that differ.

    Example:
        >>> rating_metrics([4, 2], [4.5, 7.0], levels=[1, 2, 3, 4, 5])
        {'mae': 1.75, 'rmse': 2.1505813167606567, 'mae_rounded': 1.5, 'n': 2}
    """
    truth = np.asarray(rating, dtype=np.float64)
    if not truth.size:
        raise DataError("there is no rated test row to evaluate; the split left the test part empty")
    if not len(levels):
        raise DataError("the data have no rating levels")
    refuse_nan(truth, "ratings")
    clipped = _clipped(prediction, levels, truth.shape, "predictions")
    error = clipped - truth
    metrics = {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "mae_rounded": float(np.abs(nearest_level(clipped, levels) - truth).mean()),
    }
    if median is not None:
        metrics["mae_median"] = float(np.abs(_clipped(median, levels, truth.shape, "medians") - truth).mean())
    return {**metrics, "n": truth.size}


def distribution_metrics(relevant: ArrayLike, probability: ArrayLike, likelihood: ArrayLike) -> dict[str, float]:
    """How good predicted distributions are.

    Args:
        relevant: whether the rating reaches the threshold, shape (n,).
        probability: predicted probability of that, shape (n,).
        likelihood: predicted probability of the true rating, shape (n,).

    Returns:
        ``nll``, the mean negative log-likelihood in nats, and ``calibration_error``: rows in ten equally wide bins of
        ``probability``, absolute difference of its mean to the share of relevant rows, averaged over rows (Naeini,
        Cooper and Hauskrecht, AAAI 2015).

    Example:
        >>> distribution_metrics([True, False], [0.75, 0.25], [0.5, 0.5])
        {'nll': 0.6931471805599453, 'calibration_error': 0.25}
    """
    bins = calibration_bins(relevant, probability)
    error = float((bins["rows"] * np.abs(bins["predicted"] - bins["observed"])).sum() / bins["rows"].sum())
    floor = np.finfo(np.float64).tiny
    nll = float(-np.log(np.maximum(np.asarray(likelihood, dtype=np.float64), floor)).mean())
    return {"nll": nll, "calibration_error": error}


def calibration_bins(relevant: ArrayLike, probability: ArrayLike, bins: int = 10) -> dict[str, np.ndarray]:
    """Predicted and observed shares of relevant rows in equally wide bins of the predicted probability.

    Returns:
        ``predicted``, ``observed`` (means) and ``rows`` of each bin that is not empty, in rising order.
    """
    truth, probability = np.asarray(relevant, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    index = np.minimum((probability * bins).astype(int), bins - 1)
    rows = np.bincount(index, minlength=bins)
    filled = rows > 0
    sums = [np.bincount(index, weights=values, minlength=bins)[filled] for values in (probability, truth)]
    return {"predicted": sums[0] / rows[filled], "observed": sums[1] / rows[filled], "rows": rows[filled]}


def _clipped(values: ArrayLike, levels: Sequence[float], shape: tuple[int, ...], what: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{what} have shape {array.shape}, ratings {shape}")
    refuse_nan(array, what)
    return np.clip(array, min(levels), max(levels))
