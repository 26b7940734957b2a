"""Search spaces: the searched parameters and their values."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from recbole_drex.config.recbole_config import Config
from recbole_drex.config.yaml_values import read_yaml
from recbole_drex.errors import CheckpointError, ConfigError, unknown_name
from recbole_drex.experiments.run import check_one_process
from recbole_drex.utils.files import properties_dir

ALGORITHMS = ("grid", "random", "optuna", "asha")
MOST_POINTS = 10_000
_TRIES = 50  # draws per point, since a space may have fewer points than are wanted
_RANGE_KEYS = ("min", "max", "log", "step")
# Conditions of the comparison, the same for all trials: a search that varied them would compare nothing.
_FIXED = {
    "seed": "--seeds",
    "data_path": "--data_path",
    "eval_args": "a configuration file",
    "valid_metric": "--valid_metric",
    "metrics": "a configuration file",
    "topk": "a configuration file",
    "gpu_id": "--gpus_per_trial",
}


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        low, high: integers give integers only.
        log: whether orders of magnitude are equally likely.
    """

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether the values are integers."""
        return all(isinstance(number, int) for number in (self.low, self.high))

    def domain(self) -> Any:
        """The range in Ray Tune's format."""
        from ray import tune

        if self.whole:
            low, high = int(self.low), int(self.high)
            return (tune.lograndint if self.log else tune.randint)(low, high + 1)
        return (tune.loguniform if self.log else tune.uniform)(self.low, self.high)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


Space = dict[str, "list[Any] | Range"]


def read_space(path: str | Path) -> Space:
    """Read a space: per parameter a list of values, or ``{min, max}``, perhaps with ``log: true``, or with ``step``,
    which makes it a list.

    Raises:
        ConfigError: the file is missing or not such a mapping; the message names the file and the parameter.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "space.yaml"
        >>> _ = path.write_text("embedding_size: [32, 64]\\nlearning_rate: {min: 1e-4, max: 1e-2, log: true}\\n")
        >>> read_space(path)
        {'embedding_size': [32, 64], 'learning_rate': Range(low=0.0001, high=0.01, log=True)}
    """
    space: Space = {}
    for name, values in read_yaml(path).items():
        where = f"{path}: the space of '{name}'"
        if isinstance(values, list):
            if not values:
                raise ConfigError(f"{where} is empty; give it at least one value")
            if len({json.dumps(value, sort_keys=True, default=str) for value in values}) < len(values):
                raise ConfigError(f"{where} has a value twice: {values}")
            space[name] = values
        elif isinstance(values, dict):
            space[name] = _range(values, where)
        else:
            raise ConfigError(f"{where} must be a list of values or {{min: ..., max: ...}}, not {values!r}")
    if not space:
        raise ConfigError(f"{path} names no parameter to search")
    return space


def _range(values: Mapping[str, Any], where: str) -> list[Any] | Range:
    for key in values:
        if key not in _RANGE_KEYS:
            raise ConfigError(f"{where}: {unknown_name('key', key, _RANGE_KEYS)}")
    low, high, log, step = (values.get(key) for key in _RANGE_KEYS)
    if not (_is_number(low) and _is_number(high) and (step is None or _is_number(step))):
        raise ConfigError(f"{where}: min, max and step must be numbers, not {dict(values)}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{where}: min must be below max, both finite, not {low} and {high}")
    if log and low <= 0:
        raise ConfigError(f"{where}: with log, min must be above 0, not {low}")
    if step is None:
        return Range(low, high, bool(log))
    if log or not 0 < step <= high - low or (high - low) / step > MOST_POINTS:
        raise ConfigError(
            f"{where}: step must be above 0, at most max - min and no less than a {MOST_POINTS:,}th of it, and goes "
            f"without log; it is {step}"
        )
    count = math.floor((high - low) / step + 1e-9) + 1
    return [low + number * step for number in range(count)]


def spaces_of(models: Sequence[str], path: str | Path | None, fixed: Mapping[str, Any]) -> dict[str, Space]:
    """The space of every model, without fixed parameters.

    Args:
        models: canonical names.
        path: a YAML file (for one model), a folder with ``<Model>.yaml`` for each, or None for the spaces of
            ``properties/tune/``.
        fixed: parameters by name that are not searched, since the user has set them.

    Raises:
        ConfigError: there is no space for a model, or nothing of it is left to search.
    """
    folder = properties_dir() / "tune" if path is None else Path(path)
    spaces = {}
    for model in models:
        if folder.is_dir():
            file = folder / f"{model}.yaml"
            if not file.is_file():
                have = ", ".join(sorted(one.stem for one in folder.glob("*.yaml"))) or "none"
                raise ConfigError(f"no search space for {model}: {file} is missing; name one by --space (have: {have})")
        elif len(models) > 1:
            raise ConfigError("--space must be a folder with <Model>.yaml for every model where there are several")
        else:
            file = folder
        space = {name: values for name, values in read_space(file).items() if name not in fixed}
        if not space:
            raise ConfigError(f"{file}: every parameter of the space is given a value, so nothing is left to search")
        spaces[model] = space
    return spaces


def check_space(model: str, space: Space, dataset: str, fixed: Mapping[str, Any]) -> None:
    """Check before any trial that its configurations will be accepted.

    Raises:
        ConfigError: a parameter that the model does not have (all legal ones are listed), one that is not a
            hyper-parameter, or a value of the wrong type or out of its range.
    """
    for name, values in space.items():
        if name in _FIXED:
            raise ConfigError(f"'{name}' is the same for all trials of a search: give it by {_FIXED[name]}")
        for value in [values.low, values.high] if isinstance(values, Range) else values:
            config = Config(model, dataset, [], {**fixed, name: value})
            check_one_process(config)


def size_of(space: Space) -> float:
    """Number of points; infinite if a parameter has a continuous range."""
    total = 1.0
    for values in space.values():
        if isinstance(values, list):
            total *= len(values)
        elif values.whole:
            total *= values.high - values.low + 1
        else:
            return math.inf
    return total


def space_of(stored: Mapping[str, Any]) -> Space:
    """Read a space that a search has stored.

    Raises:
        CheckpointError: it is not a space.
    """
    try:
        return {key: Range(**values) if isinstance(values, dict) else list(values) for key, values in stored.items()}
    except TypeError as error:
        raise CheckpointError(f"the search's space is damaged or of another version: {error}") from error


def check_grid(space: Space) -> None:
    """Check that every parameter has a list of values.

    Raises:
        ConfigError: one has a range.
    """
    ranged = [name for name, values in space.items() if isinstance(values, Range)]
    if ranged:
        raise ConfigError(f"a grid needs a list of values, but '{ranged[0]}' has a range; use --algo random or optuna")


def grid(space: Space) -> list[dict[str, Any]]:
    """All points, the last parameter changing fastest.

    Raises:
        ConfigError: a parameter has a range instead of values.
    """
    check_grid(space)
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*space.values())]  # type: ignore[arg-type]


def drawn(space: Space, n: int, seed: int) -> list[dict[str, Any]]:
    """``n`` distinct points at random, or all if there are fewer."""
    if size_of(space) <= MOST_POINTS and all(isinstance(values, list) for values in space.values()):
        points = grid(space)
        return random.Random(seed).sample(points, min(n, len(points)))  # noqa: S311  (no secret)  # nosec B311
    import numpy as np

    rng = np.random.RandomState(seed)
    result: dict[str, dict[str, Any]] = {}
    for _ in range(_TRIES * n):
        if len(result) == n:
            break
        point = {name: _draw(values, rng) for name, values in space.items()}
        result.setdefault(json.dumps(point, sort_keys=True, default=str), point)
    return list(result.values())


def _draw(values: list[Any] | Range, rng: Any) -> Any:
    if isinstance(values, list):
        return values[rng.randint(len(values))]
    value = values.domain().sample(random_state=rng)
    return int(value) if values.whole else float(value)


def domains(space: Space) -> dict[str, Any]:
    """The space in the format of Ray Tune's search algorithms."""
    from ray import tune

    return {
        name: tune.choice(values) if isinstance(values, list) else values.domain() for name, values in space.items()
    }
