"""Declaration of a parameter: its name, type, default, legal values and meaning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from recbole_drex.errors import ConfigError, unknown_name


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of the configuration. Checks, comments of YAML files and ``docs/configuration.md`` follow from it.

    Attributes:
        name: the key in YAML files and in ``parameters``, and the option of the command line.
        type: the type, or several. ``float`` also accepts integers.
        default: the value if neither a file nor the user sets one; None allows None.
        help: the meaning, in one line.
        least, most: the smallest and the largest legal number.
        choices: the legal values; for a list, its legal elements, without repetition.
        accepts: function that says whether a value of the right type is legal, beyond range and choices.
        legal: the legal values in words, if ``accepts`` decides.
        optional: whether None is legal although it is not the default.
        ignore_case: whether capitals in a choice do not matter.

    Example:
        >>> Parameter("dropout", float, 0.2, "Dropout on the states.", least=0, most=1).check(1.5)
        Traceback (most recent call last):
        recbole_drex.errors.ConfigError: parameter 'dropout' must be 0 to 1, not 1.5
    """

    name: str
    type: type | tuple[type, ...]
    default: Any = None
    help: str = ""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    accepts: Callable[[Any], bool] | None = None
    legal: str = ""
    optional: bool = False
    ignore_case: bool = False

    @property
    def types(self) -> tuple[Any, ...]:
        """The types."""
        return self.type if isinstance(self.type, tuple) else (self.type,)

    @property
    def values(self) -> str:
        """The legal values in words; empty if all values of the type are legal.

        Example:
            >>> Parameter("epochs", int, 100, least=1).values
            '1 or more'
            >>> Parameter("loss", str, "mse", choices=("mse", "l1")).values
            'mse, l1'
        """
        if self.choices:
            return ", ".join(self.choices)
        if self.legal:
            return self.legal
        if self.least is None:
            return "" if self.most is None else f"{self.most:,} or less"
        return f"{self.least:,} or more" if self.most is None else f"{self.least:,} to {self.most:,}"

    def check(self, value: Any) -> None:
        """Check a value.

        Raises:
            ConfigError: it is illegal; the message names the legal values, for choices with the nearest spelling.
        """
        if value is None and (self.optional or self.default is None):
            return
        if not any(_is(value, one) for one in self.types):
            names = " or ".join(one.__name__ for one in self.types)
            like = "" if self.default is None else f", like {self.default!r},"
            raise ConfigError(f"parameter '{self.name}' must be {names}{like} but is {value!r}")
        if self.choices:
            self._check_choices(value)
        in_range = not isinstance(value, (int, float)) or _between(self.least, value, self.most)
        if not in_range or (self.accepts is not None and not self.accepts(value)):
            raise ConfigError(f"parameter '{self.name}' must be {self.values}, not {value!r}")

    def _check_choices(self, value: Any) -> None:
        chosen = value if isinstance(value, list) else [value]
        for one in chosen:
            if (one.lower() if self.ignore_case and isinstance(one, str) else one) not in self.choices:
                raise ConfigError(unknown_name(f"value of '{self.name}':", one, self.choices))
        if len(set(chosen)) < len(chosen):
            raise ConfigError(f"parameter '{self.name}' must name each of {self.values} at most once, not {value!r}")


class OwnModel:
    """Base of the models that follow this project's contract, :class:`recbole_drex.model.contract.ModelContract`.

    Attributes:
        PARAMETERS: the parameters of the model, and changed defaults of general parameters.
    """

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = ()


def with_defaults(parameters: Iterable[Parameter], **defaults: Any) -> tuple[Parameter, ...]:
    """Parameters of a base class with other defaults.

    Example:
        >>> [one.default for one in with_defaults([Parameter("size", int, 64), Parameter("rate", float, 0.1)], size=8)]
        [8, 0.1]
    """
    declared = {parameter.name: parameter for parameter in parameters}
    for name, default in defaults.items():
        if name not in declared:
            raise ConfigError(unknown_name("parameter", name, declared))
        declared[name] = dataclasses.replace(declared[name], default=default)
    return tuple(declared.values())


def names_once(value: Any) -> bool:
    """Whether a value is a list of one name or more, each once."""
    return bool(value) and all(isinstance(name, str) for name in value) and len(set(value)) == len(value)


def _is(value: Any, kind: type) -> bool:
    """As ``isinstance``, but true and false are no numbers, and a whole number is a float, too."""
    return isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)


def _between(least: float | None, value: float, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)
