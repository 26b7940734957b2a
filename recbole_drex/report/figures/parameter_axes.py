"""The searched parameters of a model as axes: positions of trials, and ticks."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from recbole_drex.report.figures.axes import logarithmic, numbers, positions, value_text
from recbole_drex.tuning.search_results import Search
from recbole_drex.tuning.search_summary import plain_value

_FEW = 12  # maximum number of values of a range with their own ticks
_CLOSE = 0.15  # values closer than this share of the axis are placed at equal steps, so that labels do not overlap
_BEYOND = 10.0


@dataclasses.dataclass(frozen=True)
class ParameterAxis:
    """The axis of a parameter.

    Attributes:
        name: name of the parameter.
        values: listed or tried values, in axis order; empty for a range with too many values.
        coordinates: position of each value.
        low, high: ends of the axis.
        log: whether the axis is logarithmic.
    """

    name: str
    values: tuple[Any, ...]
    coordinates: tuple[float, ...]
    low: float
    high: float
    log: bool

    def position(self, trial: Mapping[str, Any]) -> float:
        """Position of a trial on the axis."""
        value = trial["parameters"].get(self.name)
        return self._positions[_key(value)] if self.values else float(value)

    @functools.cached_property
    def _positions(self) -> dict[str, float]:
        return {_key(value): coordinates for value, coordinates in zip(self.values, self.coordinates, strict=True)}

    def share(self, position: Any) -> Any:
        """Positions as a share of the axis length, from 0 to 1; 0.5 if the axis has one value only."""
        low, high, position = (
            np.log10(x) if self.log else np.asarray(x, float) for x in (self.low, self.high, position)
        )
        return np.where(high > low, (position - low) / np.where(high > low, high - low, 1.0), 0.5)

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of the ticks."""
        if self.values:
            return [
                (coordinates, value_text(_short(value)))
                for coordinates, value in zip(self.coordinates, self.values, strict=True)
            ]
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            marks = [10.0**power for power in range(first, last + 1)]
            marks = marks if len(marks) > 1 else [self.low, *marks, self.high]
        else:
            marks = [mark for mark in MaxNLocator(4).tick_values(self.low, self.high) if self.low <= mark <= self.high]
        return [(mark, value_text(float(mark))) for mark in sorted(set(marks))]


def parameters_of(search: Search, model: str) -> list[ParameterAxis]:
    """The searched parameters of a model, in the order of its space."""
    trials = search.trials[model]
    return [
        _parameter(name, values, [trial["parameters"].get(name) for trial in trials])
        for name, values in search.described["spaces"][model].items()
    ]


def _parameter(name: str, space: Any, tried: Sequence[Any]) -> ParameterAxis:
    """An axis for the values of a space and all other tried values."""
    ranged = isinstance(space, dict)
    values = list({_key(value): value for value in [*([] if ranged else space), *tried]}.values())
    many = len(values) > _FEW or len(values) == len(tried)
    if ranged and values and many and numbers(values):
        low, high = min([space["low"], *values]), max([space["high"], *values])
        log = low > 0 and (space["log"] or logarithmic([low, high]))
        return ParameterAxis(name, (), (), float(low), float(high), bool(log))
    if numbers(values):
        values.sort()
    log = bool(values) and logarithmic(values)
    coordinates = positions(values) if values else []
    if len(coordinates) > 1 and not log and min(np.diff(coordinates)) < _CLOSE * (coordinates[-1] - coordinates[0]):
        coordinates = list(map(float, range(len(values))))
    return ParameterAxis(
        name,
        tuple(values),
        tuple(coordinates),
        min(coordinates, default=0.0),
        max(coordinates, default=0.0),
        log,
    )


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _short(value: Any) -> Any:
    return value if numbers([value]) else plain_value(value)


def shown_scores(scores: Sequence[float], bigger: bool) -> tuple[float, float]:
    """Lowest and highest score that a figure shows.

    All scores are shown, unless the worst is more than ten times as far from the best as the median. In such a search,
    some trials diverged, and only scores up to five times this distance are shown, so that the others stay
    distinguishable.

    Example:
        >>> shown_scores([1.0, 2.0, 3.0], bigger=False), shown_scores([1.0, 2.0, 3.0, 1e6], bigger=False)
        ((1.0, 3.0), (1.0, 8.5))
    """
    best, worst = (max(scores), min(scores)) if bigger else (min(scores), max(scores))
    near = abs(float(np.median(scores)) - best)
    if near > 0 and abs(worst - best) > _BEYOND * near:
        worst = best + math.copysign(_BEYOND / 2 * near, worst - best)
    return (worst, best) if bigger else (best, worst)


def thinned(trials: Sequence[Any], number: int) -> list[Any]:
    """At most ``number`` of the sorted trials: one tenth are the best trials, the others are evenly spaced.

    Example:
        >>> thinned(range(100), 10)
        [0, 1, 12, 23, 34, 45, 56, 67, 78, 89]
    """
    if len(trials) <= number:
        return list(trials)
    best = number // 10
    rest = np.linspace(best, len(trials), number - best, endpoint=False).astype(int)
    return [*trials[:best], *(trials[position] for position in rest)]
