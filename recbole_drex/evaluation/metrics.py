"""Our metrics in RecBole's registry, so that its trainer and evaluator report them for any model.

One run reports all of them: RecBole's own split between "rating metrics or ranking metrics" does not apply. Names in
RecBole's flat result: ``rmse``, ``ndcg@5`` (own test items), ``full_ndcg@5``, ``sampled_ndcg@5``. Metrics of RecBole
and of users, who add theirs to RecBole's registry, are computed in the same passes: ``recbole_ndcg@5``.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from recbole_drex.errors import ConfigError, unknown_name
from recbole_drex.evaluation.collector import FULL, LEVELS, LISTS, N_ITEMS, ROWS, TIE_KEYS, TRAIN, USER_MEAN
from recbole_drex.evaluation.list_metrics import list_metrics
from recbole_drex.evaluation.protocol import Protocol
from recbole_drex.evaluation.ranking_metrics import own_test_metrics, ranking_metrics
from recbole_drex.evaluation.rating_metrics import distribution_metrics, rating_metrics
from recbole_drex.recbole import AbstractMetric, Evaluator, EvaluatorType, metric_types, register, smaller_metrics

PREFIXES = {"full": "full_", "sampled": "sampled_", "recbole": "recbole_"}


class _ReviewMetric(AbstractMetric):
    metric_type = EvaluatorType.RANKING  # RecBole then makes full-catalogue loaders and needs no labels
    metric_need: ClassVar[list[str]] = []

    def __init__(self, config):
        super().__init__(config)
        self.protocol = Protocol.from_config(config)
        self.predicts_ratings = predicts_ratings(config)

    def _user_mean(self, dataobject, user: np.ndarray) -> np.ndarray:
        return dataobject.get(USER_MEAN).numpy()[user]


class RatingError(_ReviewMetric):
    """MAE, RMSE and MAE of predictions rounded to a legal level; of models that predict a distribution also MAE of the
    median, negative log-likelihood and calibration error; nothing for a model that predicts no rating."""

    smaller = True
    metric_need: ClassVar[list[str]] = [ROWS]

    def calculate_metric(self, dataobject) -> dict[str, float]:
        if ROWS not in dataobject or not self.predicts_ratings:
            return {}
        rows = dataobject.get(ROWS).numpy()
        levels = dataobject.get(LEVELS).numpy()
        metrics = rating_metrics(rows[:, 2], rows[:, 3], levels, rows[:, 4] if rows.shape[1] > 4 else None)
        if rows.shape[1] > 4:
            metrics |= distribution_metrics(rows[:, 2] >= self.protocol.threshold, rows[:, 5], rows[:, 7])
        return {name: value for name, value in metrics.items() if name != "n"}


class OwnTestRanking(_ReviewMetric):
    """NDCG, precision, recall and F1 at k when a user's own test items are ranked; ``ndcg@5_10`` is the mean of NDCG@5
    and NDCG@10, by which the paper (section 4.4) stops and selects."""

    metric_need: ClassVar[list[str]] = [ROWS]

    def calculate_metric(self, dataobject) -> dict[str, float]:
        if ROWS not in dataobject:
            return {}
        rows = dataobject.get(ROWS).numpy()
        user, item = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        metrics = own_test_metrics(
            user,
            rows[:, 3],
            dataobject.get(TIE_KEYS).numpy()[item],
            rows[:, 2],
            self.protocol,
            self._user_mean(dataobject, user),
        )
        if {5, 10} <= set(self.protocol.topk):
            metrics["ndcg@5_10"] = (metrics["ndcg@5"] + metrics["ndcg@10"]) / 2
        return metrics


class FullRanking(_ReviewMetric):
    """The same over the full catalogue (``full_...``) and, if asked for, over sampled items (``sampled_...``).

    Where recommended lists were collected, also :func:`recbole_drex.evaluation.list_metrics.list_metrics` of them.
    """

    metric_need: ClassVar[list[str]] = [FULL]

    def calculate_metric(self, dataobject) -> dict[str, float]:
        if FULL not in dataobject:
            return {}
        rows = dataobject.get(FULL).numpy()
        user = rows[:, 0].astype(np.int64)
        result = {}
        blocks = [("full", rows[:, 3])] + ([("sampled", rows[:, 5])] if rows.shape[1] > 5 else [])
        for block, rank in blocks:
            metrics = ranking_metrics(user, rank, rows[:, 2], self.protocol, self._user_mean(dataobject, user))
            result.update({PREFIXES[block] + name: value for name, value in metrics.items()})
        result["full_tied_share"] = float(rows[:, 4].mean())
        if LISTS in dataobject:
            lists, train = dataobject.get(LISTS).numpy(), dataobject.get(TRAIN).numpy()
            n_items = int(dataobject.get(N_ITEMS))
            metrics = list_metrics(lists[:, 0], lists[:, 1:], train[:, 0], train[:, 1], n_items, self.protocol.topk)
            result.update({PREFIXES["full"] + name: value for name, value in metrics.items()})
        return result


METRICS = {"ratingerror": RatingError, "owntestranking": OwnTestRanking, "fullranking": FullRanking}
OURS = [metric.__name__ for metric in METRICS.values()]
_RATING = ("mae", "rmse", "mae_rounded", "mae_median", "nll", "calibration_error")
_RANKING = ("ndcg", "precision", "recall", "f1")


class ReviewEvaluator(Evaluator):
    """RecBole's evaluator of one pass: computes the metrics whose inputs the pass collected.

    Metrics of rankings are computed from the pass over the full catalogue, others from the pass over the rated rows.
    """

    def evaluate(self, dataobject) -> OrderedDict[str, float]:
        kind = EvaluatorType.RANKING if FULL in dataobject else EvaluatorType.VALUE
        result: OrderedDict[str, float] = OrderedDict()
        for name, metric in self.metric_class.items():
            if name in METRICS:
                result.update(metric.calculate_metric(dataobject))
            elif metric_types[name] == kind:
                for key, value in metric.calculate_metric(dataobject).items():
                    result[PREFIXES["recbole"] + re.sub("[^a-z0-9_@.]", "_", key.lower())] = float(value)
        return result


def other_metrics(names: Sequence[str]) -> list[str]:
    """Those of ``names`` that this project does not compute itself; RMSE and MAE it does.

    Raises:
        ConfigError: there is no such metric, or it is LogLoss, which needs probabilities.
    """
    others = []
    for name in names:
        key = name.lower()
        if key in METRICS or key in ("rmse", "mae"):
            continue
        if key not in metric_types:
            raise ConfigError(unknown_name("metric", name, [*OURS, *(one.__name__ for one in _registered().values())]))
        if key == "logloss":
            raise ConfigError("metric 'LogLoss' needs probabilities, which no model here predicts; use AUC")
        others.append(name)
    return others


_RECBOLE_AT_K = ("hit", "mrr", "map", "recall", "ndcg", "precision", "itemcoverage", "averagepopularity",
                 "shannonentropy", "giniindex", "tailpercentage")  # fmt: skip


def resolved_valid_metric(text: str) -> tuple[str, str | None]:
    """The name in the flat result for ``valid_metric``, and the metric of RecBole's registry that computes it.

    Names in capitals, as RecBole writes them, are RecBole's metrics over the full catalogue. Names in lower case are
    this project's, or RecBole's where this project has none.

    Example:
        >>> resolved_valid_metric("NDCG@10"), resolved_valid_metric("ndcg@10"), resolved_valid_metric("RMSE")
        (('recbole_ndcg@10', 'NDCG'), ('ndcg@10', None), ('rmse', None))
    """
    name = text.partition("@")[0]
    key = name.lower().removeprefix(PREFIXES["recbole"])
    ours = key in _RATING or (name == key and key in _RANKING)
    if ours or key not in _registered():
        return text.lower(), None
    return PREFIXES["recbole"] + text.lower().removeprefix(PREFIXES["recbole"]), _registered()[key].__name__


def smaller_is_better(name: str) -> bool:
    """Whether a metric of the flat result is an error, or one of RecBole's registry of which less is better."""
    base = name.partition("@")[0].removeprefix(PREFIXES["recbole"])
    return base in smaller_metrics or bool(getattr(register.metrics_dict.get(base), "smaller", False))


def check_valid_metric(config) -> None:
    """Check that training can be stopped by ``valid_metric``.

    Raises:
        ConfigError: there is no such metric, it is at a k that ``topk`` lacks, or a rating error of a model that
            predicts no ratings.
    """
    text, topk = config["valid_metric"], Protocol.from_config(config).topk
    name, at, k = text.partition("@")
    block = next((block for block, prefix in PREFIXES.items() if name.startswith(prefix)), "own_test")
    base = name.removeprefix(PREFIXES.get(block, ""))
    known = [*_RATING, *(f"{prefix}{one}@k" for prefix in ("", "full_", "sampled_") for one in _RANKING)]
    if block != "recbole" and f"{name}@k" not in known and not (block == "own_test" and base in _RATING and not at):
        raise ConfigError(unknown_name("value of 'valid_metric':", text, [*known, *_registered()]))
    if not at and base in (_RECBOLE_AT_K if block == "recbole" else _RANKING):
        raise ConfigError(f"valid_metric '{text}' lacks its list length; write {text}@{topk[-1]}")
    if at and not all(one.isdigit() and int(one) in topk for one in k.split("_")):
        raise ConfigError(f"valid_metric '{text}' needs a list length of 'topk', which is {list(topk)}")
    if base in _RATING and block == "own_test" and not predicts_ratings(config):
        raise ConfigError(f"valid_metric '{text}': {config['model']} predicts no ratings; use full_ndcg@{topk[-1]}")
    if block == "sampled" and config["candidates"] != "sampled":
        raise ConfigError(f"valid_metric '{text}' needs candidates: sampled")


def _registered() -> dict[str, type]:
    """Metrics of RecBole's registry that are not ours, by lower-case name."""
    return {name: metric for name, metric in register.metrics_dict.items() if name not in METRICS}


def predicts_ratings(config) -> bool:
    """Whether the scores of the configured model are ratings, so that MAE and RMSE are defined.

    RecBole's general models score implicit feedback; so do models of this project's contract that have
    ``train_target: implicit``.
    """
    return bool(config.is_ours) and config["train_target"] in (None, "rating")


def register_metrics() -> None:
    """Register our metrics with RecBole; calling it again changes nothing."""
    for name, metric in METRICS.items():
        register.metrics_dict[name] = metric
        register.metric_information[name] = metric.metric_need
        metric_types[name] = metric.metric_type
    for name in _RATING:
        if name not in smaller_metrics:
            smaller_metrics.append(name)


def split_blocks(flat: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """RecBole's flat result as the blocks of a result file: ``own_test``, ``full``, perhaps ``sampled``, ``recbole``.

    Example:
        >>> split_blocks({"rmse": 0.5, "full_ndcg@5": 0.1})
        {'own_test': {'rmse': 0.5}, 'full': {'ndcg@5': 0.1}}
    """
    blocks: dict[str, dict[str, Any]] = {"own_test": {}, "full": {}}
    for name, value in flat.items():
        block = next((block for block, prefix in PREFIXES.items() if name.startswith(prefix)), "own_test")
        blocks.setdefault(block, {})[name.removeprefix(PREFIXES.get(block, ""))] = value
    return blocks
