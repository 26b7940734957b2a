"""MAE and RMSE of predicted ratings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from recbole_drex.errors import DataError
from recbole_drex.evaluation.ranking import refuse_nan


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


def _clipped(values: ArrayLike, levels: Sequence[float], shape: tuple[int, ...], what: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{what} have shape {array.shape}, ratings {shape}")
    refuse_nan(array, what)
    return np.clip(array, min(levels), max(levels))
