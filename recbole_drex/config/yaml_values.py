"""Parameters as YAML, without objects that run code."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recbole_drex.errors import ConfigError, unknown_name

_DEEPEST = 100


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as a number, which YAML 1.1 does only for 1.0e-3, and knows no aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            # A few lines of aliases stand for more values than fit in memory, or for a value that holds itself.
            raise yaml.YAMLError(f"aliases are not read: *{self.peek_event().anchor}{self.peek_event().start_mark}")
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        if self.flow_level == _DEEPEST:  # every bracket is compared with all that are open
            raise yaml.YAMLError(f"more than {_DEEPEST} brackets in one another")
        super().fetch_flow_collection_start(token_class)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _parse(text: str) -> Any:
    """What YAML makes of ``text``.

    Raises:
        YAMLError: it is none, or nested more deeply than can be read, or a date or number that cannot be.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe loader)  # nosec B506
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    except ValueError as error:  # 2020-13-45; an integer of thousands of digits
        raise yaml.YAMLError(str(error)) from error


def parse_value(text: str) -> Any:
    """Read one command line value as YAML does: ``3`` int, ``1e-3`` float, ``true`` bool, ``[1,2]`` list, else text.

    Nothing at all is None. White space is text, such as a separator, where YAML would take it for nothing.

    Example:
        >>> parse_value("1e-3"), parse_value("False"), parse_value("[1, 2]"), parse_value("DReX"), parse_value(" ")
        (0.001, False, [1, 2], 'DReX', ' ')
    """
    try:
        return _parse(text) if text.strip() or not text else text
    except yaml.YAMLError:
        return text


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, no YAML, or not a mapping; the message names the file (and the line).
    """
    try:
        value = _parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read configuration {path}: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"configuration {path} must hold 'name: value' lines, not a {type(value).__name__}")
    return value


_LARGEST = (1 << 63) - 1
_NO_TEXT = re.compile("[\\0\ud800-\udfff]")  # no file's name holds them


def refuse_odd(value: Any, what: str) -> None:
    """Refuse what neither a file's name nor the record of a run can hold.

    Raises:
        ConfigError: NaN, an infinite number, a whole number of more than 64 bits, a NUL or half of a surrogate pair in
            ``value`` or in what it consists of; ``what`` names it in the message.
    """
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        for one in value:
            refuse_odd(one, what)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{what} must be finite, but there is {value}")
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise ConfigError(f"{what} holds a number of more than 64 bits: {value!s:.40}")
    elif isinstance(value, str) and _NO_TEXT.search(value):
        raise ConfigError(f"{what} holds a character that no text has: {value!r:.200}")


_LEAST = {
    "epochs": 1,
    "train_batch_size": 1,
    "eval_batch_size": 1,
    "eval_step": 0,
    "stopping_step": 0,
    "warmup_steps": 0,
    "embedding_size": 1,
    "aspects": 0,
    "aspect_rate": 0,
    "max_reviews": 1,
    "review_words": 1,
    "word_size": 0,
    "filters": 1,
    "window": 1,
    "latent_size": 1,
    "attention_size": 1,
    "factors": 1,
    "message_samples": 0,
    "als_steps": 1,
    "threads": 1,
    "worker": 0,
    "loss_decimal_place": 0,
    "metric_decimal_place": 0,
    "sampled_candidates": 1,
    "profile_words": 1,
    "learning_rate": 0,
    "weight_decay": 0,
    "reg_weight": 0,
    "bias_reg_weight": 0,
    "threshold_reg_weight": 0,
    "threshold_rate": 0,
    "taste_size": 1,
    "taste_weight": 0,
    "init_std": 0,
    "shrinkage": 0,
    "bias_damping": 0,
    "user_damping": 0,
    "item_damping": 0,
    "neighbours": 1,
    "explainability_weight": 0,
    "explainability_threshold": 0,
    "part_size": 1,
    "temperature": 0.001,
    "contrast_weight": 0,
    "private_weight": 0,
    "entropy_weight": 0,
    "generator_sentences": 0,
    "generator_passes": 0,
    "generator_words": 3,
    "generator_vocabulary": 1,
    "generator_size": 2,
    "generator_beams": 1,
    "knn_k": 1,
    "n_layers": 0,
    "decay_weight": 0,
    "decay_base": 0,
    "feature_size": 1,
    "factor_size": 0,
    "feature_reg_weight": 0,
    "bad_line_share": 0,
    "dropout": 0,
    "hide_reviews": 0,
    "hide_ratings": 0,
    "explained_users": 0,
    "measured_users": 0,
}
_MOST = {
    "worker": 1024,
    "loss_decimal_place": 100,
    "metric_decimal_place": 100,
    "learning_rate": 1e6,
    "weight_decay": 1e6,
    "bad_line_share": 1,
    "explainability_threshold": 1,
    "dropout": 1,
    "hide_reviews": 1,
    "hide_ratings": 1,
    "decay_weight": 1,
    "decay_base": 1,
}
_PROFILE_SCORES = ("attention", "attention_lift")
_STATES = ("debug", "info", "warning", "error", "critical")


def check_values(values: Mapping[str, Any]) -> None:
    """Check what can be said of parameters without knowing the data, before anything is touched.

    Raises:
        ConfigError: a number is out of its range, or a value has another shape than it must have; names the parameter.

    Example:
        >>> check_values({"epochs": 0})
        Traceback (most recent call last):
        recbole_drex.errors.ConfigError: parameter 'epochs' must be 1 or more, not 0
    """
    for key, least in _LEAST.items():
        value = values.get(key)
        # A list, as some of RecBole's models take for these names, is left to the model.
        if isinstance(value, (int, float)) and not value >= least:
            raise ConfigError(f"parameter '{key}' must be {least} or more, not {value}")
        if isinstance(value, (int, float)) and key in _MOST and value > _MOST[key]:
            raise ConfigError(f"parameter '{key}' must be {_MOST[key]} or less, not {value}")
    span = values.get("rating_range")
    numbers = isinstance(span, (list, tuple)) and len(span) == 2 and all(isinstance(n, (int, float)) for n in span)
    if span is not None and span != "auto" and not (numbers and span[0] < span[1]):
        raise ConfigError(f"parameter 'rating_range' must be auto or [lowest, highest], such as [1, 5], not {span!r}")
    missing = values.get("missing_rating")
    if missing is not None and (isinstance(missing, bool) or not isinstance(missing, (int, float))):
        raise ConfigError(f"parameter 'missing_rating' must be a number, not {missing!r}")
    for key, example in (("columns", "user_id"), ("item_columns", "item_id")):
        columns = values.get(key)
        names = isinstance(columns, Mapping) and all(type(name) in (str, int) for name in columns.values())
        if columns is not None and not names:
            raise ConfigError(f"parameter '{key}' must be {{{example}: name in the file, ...}}, not {columns!r}")
    score = values.get("profile_score")
    if score is not None and score not in _PROFILE_SCORES:
        raise ConfigError(unknown_name("value of 'profile_score':", str(score), _PROFILE_SCORES))
    state = values.get("state")
    if state is not None and str(state).lower() not in _STATES:
        raise ConfigError(unknown_name("value of 'state':", str(state), _STATES))


def choice(config: Mapping[str, Any] | Any, key: str, legal: Sequence[str]) -> str:
    """Value of ``key``, which must be one of ``legal``; ConfigError otherwise."""
    value = config[key]
    if value not in legal:
        raise ConfigError(unknown_name(f"value of '{key}':", value, legal))
    return value
