"""Parameters of RecBole that have another meaning or none here, or that RecBole does not check."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_drex.errors import ConfigError, unknown_name

COLD_ITEMS = "cold_items"
"""The kind of ``eval_args.split`` that holds out whole items."""
_INTERVAL = re.compile(r"\s*[\[(]\s*(\S+?)\s*,\s*(\S+?)\s*[\])]\s*")
_UNUSED = {
    "save_dataset": "prepared data sets are kept in data_path",
    "save_dataloaders": "the split follows from the seed",
    "dataset_save_path": "prepared data sets are kept in data_path",
    "dataloaders_save_path": "the split follows from the seed",
    "repeatable": "items of the training part are never ranked for their user",
    "transform": "it changes sequences, which no model here reads",
}
_CLIPPING = ("max_norm", "norm_type", "error_if_nonfinite", "foreach")
_SAMPLING: dict[str, tuple[type | tuple[type, ...], float, float, str]] = {
    "sample_num": (int, 1, 100_000, "a whole number from 1 to 100,000"),
    "alpha": ((int, float), -10, 10, "a number from -10 to 10"),
    "dynamic": (bool, 0, 1, "true or false"),
    "candidate_num": (int, 0, 100_000, "a whole number from 0 to 100,000"),
}
_MODES = ("full", "labeled", "uni100", "pop100")


def check_eval_args(eval_args: Any, metrics: Sequence[str]) -> None:
    """Check the split and the ranked candidates.

    Args:
        eval_args: the parameter of that name.
        metrics: metrics of RecBole's registry that are asked for.

    Raises:
        ConfigError: a key or value that RecBole or this project does not accept; the message names the remedy.
    """
    if not isinstance(eval_args, Mapping):
        raise ConfigError(f"parameter 'eval_args' must be {{split: ..., order: ..., group_by: ...}}, not {eval_args!r}")
    for key in eval_args:
        if key not in ("split", "order", "group_by", "mode"):
            raise ConfigError(unknown_name("key of 'eval_args':", key, ("split", "order", "group_by", "mode")))
    for key, legal in {"order": ("RO", "TO"), "group_by": ("user", "none")}.items():
        value = eval_args.get(key, legal[0])
        if (str(value).lower() if key == "group_by" else value) not in legal:
            raise ConfigError(unknown_name(f"value of eval_args.{key}:", str(value), legal))
    split = eval_args.get("split", {"LS": "valid_and_test"})
    _check_split(split)
    if COLD_ITEMS in split:
        _check_cold_items(eval_args)
    if "TS" in split and eval_args.get("order", "RO") != "TO":  # RecBole would give rows to the wrong parts
        raise ConfigError("eval_args.split TS is by time, so it needs order: TO")
    mode = eval_args.get("mode", "full")
    for one in mode.values() if isinstance(mode, Mapping) else [mode]:
        _check_mode(one, metrics)


def _check_split(split: Any) -> None:
    if not isinstance(split, Mapping) or len(split) != 1:
        raise ConfigError(
            f"eval_args.split must be one of RS, LS, TS, KF and {COLD_ITEMS}, such as {{RS: [8, 1, 1]}}, not {split!r}"
        )
    (kind, value), *_ = split.items()
    if kind in ("RS", "TS"):
        shares = value if isinstance(value, (list, tuple)) else []
        numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) and one >= 0 for one in shares)
        if len(shares) != 3 or not numbers or not shares[0] or (kind == "TS" and not all(shares)):
            raise ConfigError(
                f"eval_args.split {kind} needs the shares of training, validation and test, such as [0.8, 0.1, 0.1], "
                f"not {value!r}: validation chooses the epoch, and the test part is the result. "
                "RS: [1, 0, 0] trains on everything, for all epochs, and evaluates nothing"
            )
    elif kind == "LS":
        if value != "valid_and_test":
            raise ConfigError(f"eval_args.split LS must be valid_and_test, since both parts are needed, not {value!r}")
    elif kind not in ("KF", COLD_ITEMS):  # checked elsewhere
        raise ConfigError(unknown_name("kind of eval_args.split:", str(kind), ("RS", "LS", "TS", "KF", COLD_ITEMS)))


def _check_cold_items(eval_args: Mapping[str, Any]) -> None:
    share = eval_args["split"][COLD_ITEMS]
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ConfigError(
            f"eval_args.split cold_items must be the share of the items that are held out, above 0 and below 1, such "
            f"as 0.1, not {share!r}"
        )
    if str(eval_args.get("group_by", "none")).lower() != "none":
        raise ConfigError(f"eval_args.split cold_items is not by {eval_args['group_by']}: leave group_by out")
    if eval_args.get("order", "RO") != "RO":
        raise ConfigError("eval_args.split cold_items holds out random items: leave order out, or write order: RO")


def absent_parts(eval_args: Mapping[str, Any]) -> tuple[str, ...]:
    """Which of ``validation`` and ``test`` the split leaves out by a share of 0.

    Example:
        >>> absent_parts({"split": {"RS": [0.9, 0.1, 0]}}), absent_parts({"split": {"LS": "valid_and_test"}})
        (('test',), ())
    """
    shares = eval_args["split"].get("RS", [1, 1, 1])
    return tuple(name for name, share in zip(("validation", "test"), shares[1:], strict=True) if not share)


def refuse_absent_parts(eval_args: Mapping[str, Any], command: str) -> None:
    """Refuse a split without validation or test for a command that needs both.

    Raises:
        ConfigError: names the part.
    """
    for part in absent_parts(eval_args):
        raise ConfigError(f"eval_args.split {eval_args['split']} has no {part} part, which {command} needs")


def _check_mode(mode: Any, metrics: Sequence[str]) -> None:
    sampled = re.fullmatch(r"uni(\d+)", str(mode))
    if sampled:
        raise ConfigError(
            f"eval_args.mode {mode} is RecBole's way to sample, {sampled[1]} items for each test row; here write "
            f"mode: full, candidates: sampled and sampled_candidates: {sampled[1]}, which is for each user"
        )
    if re.fullmatch(r"pop\d+", str(mode)):
        raise ConfigError(
            f"eval_args.mode {mode}: items are not sampled by popularity here; write mode: full, or candidates: sampled"
        )
    if mode not in ("full", "labeled"):
        raise ConfigError(unknown_name("value of eval_args.mode:", str(mode), _MODES))
    ranked = [name for name in metrics if name.lower() != "auc"]
    if mode == "labeled" and ranked:
        raise ConfigError(f"eval_args.mode labeled ranks nothing, so there is no {', '.join(ranked)}; write mode: full")


def check_filters(values: Mapping[str, Any]) -> None:
    """Check RecBole's filters (RecBole ignores or misreads invalid ones), and refuse parameters without effect.

    Raises:
        ConfigError: not an interval, or a parameter that this project does not use.
    """
    intervals = {key: value for key, value in values.items() if key.endswith("_num_interval")}
    fields = values.get("val_interval") or {}
    intervals |= {f"val_interval {key}": one for key, one in fields.items() if not isinstance(one, (list, tuple))}
    for key, value in intervals.items():
        if value is not None and not all(_is_interval(one) for one in str(value).split(";")):
            raise ConfigError(f"parameter '{key}' must be an interval such as '[5,inf)', not {value!r}")
    for key, why in _UNUSED.items():
        if values.get(key) not in (None, False):
            raise ConfigError(f"parameter '{key}' has no use here, since {why}; leave it out")
    for key in values.get("normalize_field") or ():
        if key in (values["RATING_FIELD"], values["TIME_FIELD"]):
            raise ConfigError(f"normalize_field: '{key}' is not scaled, since errors are measured in rating units")


def _is_interval(text: str) -> bool:
    match = _INTERVAL.fullmatch(text)
    try:
        return bool(match) and float(match[1]) <= float(match[2])  # type: ignore[index]
    except ValueError:
        return False


def check_training(values: Mapping[str, Any]) -> None:
    """Check clipping and negative sampling; RecBole replaces invalid values, or fails during training.

    Raises:
        ConfigError: an illegal value; the message names the parameter.
    """
    clipping = values.get("clip_grad_norm")
    if clipping:
        for key in clipping:
            if key not in _CLIPPING:
                raise ConfigError(unknown_name("key of 'clip_grad_norm':", str(key), _CLIPPING))
        norms = [clipping.get("max_norm"), clipping.get("norm_type", 2.0)]
        if not all(_is(one, (int, float)) and one > 0 for one in norms):
            raise ConfigError(f"parameter 'clip_grad_norm' must be {{max_norm: NUMBER above 0}}, not {clipping!r}")
    sampling = values["train_neg_sample_args"]
    for key, value in sampling.items() if sampling["distribution"] != "none" else ():
        if key == "distribution":
            continue
        if key not in _SAMPLING:
            raise ConfigError(unknown_name("key of 'train_neg_sample_args':", str(key), ("distribution", *_SAMPLING)))
        kind, least, most, legal = _SAMPLING[key]
        if not _is(value, kind) or not least <= value <= most:
            raise ConfigError(f"train_neg_sample_args.{key} must be {legal}, not {value!r}")


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    """As ``isinstance``, but true and false are not numbers."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def relevance_of_threshold(values: Mapping[str, Any]) -> float | None:
    """The rating from which RecBole's ``threshold: {rating: 3}`` calls an interaction positive; None without one.

    Raises:
        ConfigError: it does not name exactly the rating field, or its value is not a number.
    """
    threshold, field = values.get("threshold"), values["RATING_FIELD"]
    if not threshold:
        return None
    (key, value), *others = threshold.items()
    if others or key != field or isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"parameter 'threshold' must be {{{field}: NUMBER}}, not {threshold!r}")
    return float(value)
