"""Recommendations of a trained run by user and item names, without explanations."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from recbole_drex.compat import quoting

from recbole_drex.errors import DataError, unknown_name
from recbole_drex.evaluation.metrics import predicts_ratings
from recbole_drex.model.contract import contract_of
from recbole_drex.recbole import Interaction
from recbole_drex.training.run_record import Experiment

_PAIRS = 4096  # pairs scored in one batch


@dataclasses.dataclass(frozen=True)
class PostedInteraction:
    """A new user's rating or review of an item, or both.

    Attributes:
        item: its name in the data set.
        rating: None without a rating.
        review: the original text; empty without a review.
    """

    item: str
    rating: float | None = None
    review: str = ""


class Recommended(NamedTuple):
    """An item and its predicted rating, clipped to the range of the training ratings; None for ranking models."""

    item: int
    predicted: float | None


class Recommender:
    """Recommends items by name.

    Args:
        experiment: a loaded or newly trained run.
    """

    def __init__(self, experiment: Experiment):
        self.experiment, self.model, self.dataset = experiment, experiment.model, experiment.dataset
        self._users, self._items = (
            self.dataset.field2token_id[field] for field in (self.dataset.uid_field, self.dataset.iid_field)
        )

    # Names ------------------------------------------------------------------------------------------------------

    def user_id(self, user: str) -> int:
        """Internal id of a user.

        Raises:
            DataError: unknown user.
        """
        return _id("user", user, self._users)

    def item_id(self, item: str) -> int:
        """Internal id of an item.

        Raises:
            DataError: unknown item.
        """
        return _id("item", item, self._items)

    def ids(self, kind: str) -> dict[str, int]:
        """Internal ids of all ``user``s or ``item``s by name."""
        known = self._users if kind == "user" else self._items
        return {str(name): index for name, index in known.items() if name != "[PAD]"}

    def user_name(self, user: int) -> str:
        """The user's name in the data set."""
        return str(self.dataset.field2id_token[self.dataset.uid_field][user])

    def item_name(self, item: int) -> str:
        """The item's name in the data set."""
        return str(self.dataset.field2id_token[self.dataset.iid_field][item])

    def title(self, item: int) -> str:
        """The item's title; empty if the data set has no titles."""
        return self._titles.get(self.item_name(item), "")

    @cached_property
    def _titles(self) -> dict[str, str]:
        path = Path(self.dataset.dataset_path) / f"{self.dataset.dataset_name}.item"
        if not path.is_file():
            return {}
        items = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=quoting(path))
        fields = {str(name).partition(":")[0]: items[name] for name in items}
        item, title = fields.get(self.dataset.iid_field), fields.get("title")
        return {} if item is None or title is None else dict(zip(item, title, strict=True))

    # Recommendations --------------------------------------------------------------------------------------------

    def best(self, user: int, top: int) -> list[Recommended]:
        """The ``top`` items by the model's score that the user has not interacted with; fewer if fewer remain."""
        return self.best_of(self._scores(user), self.known(user), top)

    def best_of(self, scores: torch.Tensor, known: torch.Tensor, top: int) -> list[Recommended]:
        """The ``top`` items by score (n_items,), except ``known`` items; ``scores`` is overwritten."""
        items, values = _highest(scores, known, top)
        return [Recommended(*one) for one in zip(items.tolist(), self._ratings(values), strict=True)]

    def table(self, users: Sequence[int], top: int) -> pd.DataFrame:
        """The results of :meth:`best` for several users: one row per recommendation, the best of each user first.

        Returns:
            Columns ``user_id``, ``item_id``, ``title`` (empty if the data set has no titles), and ``predicted`` (the
            rating) or, for ranking models, ``score``.
        """
        results = [_highest(self._scores(user), self.known(user), top) for user in users]
        items = [item for one, _ in results for item in one.tolist()]
        values = torch.cat([values for _, values in results]) if results else torch.zeros(0)
        return pd.DataFrame(
            {
                "user_id": [self.user_name(user) for user, (one, _) in zip(users, results, strict=True) for _ in one],
                "item_id": [self.item_name(item) for item in items],
                "title": [self.title(item) for item in items],
                self.value: self.values(values),
            }
        )

    def predict(self, users: Sequence[int], items: Sequence[int]) -> np.ndarray:
        """The model's predictions for pairs of internal ids, (n,): clipped ratings, or scores.

        Models of this project predict a training pair as in evaluation, without its own rating and review.
        """
        pairs = zip(torch.tensor(users).split(_PAIRS), torch.tensor(items).split(_PAIRS), strict=True)
        results = [self._predicted(user, item) for user, item in pairs if len(user)]
        return self.values(torch.cat(results)) if results else np.zeros(0)

    @property
    def value(self) -> str:
        """Column name of predictions: ``predicted`` if they are ratings, else ``score``."""
        return "predicted" if self._range else "score"

    def values(self, scores: torch.Tensor) -> np.ndarray:
        """Predictions for tables: ratings are clipped to the range of the training ratings, scores are unchanged."""
        return (scores.clamp(*self._range) if self._range else scores).double().cpu().numpy()

    def _scores(self, user: int) -> torch.Tensor:
        """The scores of a user for all items, (n_items,), which callers may overwrite."""
        scores = contract_of(self.model).predict_unknown(user)
        if scores is not None:
            return scores
        wanted = Interaction({self.dataset.uid_field: torch.tensor([user])})
        try:
            with torch.no_grad():
                return self.model.full_sort_predict(wanted.to(self.experiment.config["device"])).flatten().clone()  # type: ignore[operator]
        except NotImplementedError:  # RecBole's NeuMF, ConvNCF and NNCF score only pairs
            blocks = torch.arange(self.dataset.item_num).split(_PAIRS)
            return torch.cat([self._predicted(torch.full_like(items, user), items) for items in blocks])

    def _predicted(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Scores of pairs (b,)."""
        pairs = Interaction({self.dataset.uid_field: user, self.dataset.iid_field: item})
        with torch.no_grad():
            return self.model.predict(pairs.to(self.experiment.config["device"])).flatten()  # type: ignore[operator]

    def rating(self, score: torch.Tensor) -> float | None:
        """A predicted rating, clipped; None for models that do not predict ratings."""
        return self._ratings(score[None])[0]

    def _ratings(self, scores: torch.Tensor) -> list[float] | list[None]:
        return scores.clamp(*self._range).tolist() if self._range else [None] * len(scores)

    @cached_property
    def _range(self) -> tuple[float, float] | None:
        if not predicts_ratings(self.experiment.config):
            return None
        levels = self.experiment.parts.train_dataset.rating_levels()
        return float(levels[0]), float(levels[-1])

    def known(self, user: int) -> torch.Tensor:
        """Items that a user has interacted with, in any part of the split."""
        items, bounds = self._interactions
        return items[bounds[user] : bounds[user + 1]]

    @cached_property
    def _interactions(self) -> tuple[torch.Tensor, list[int]]:
        """Items of all interactions, sorted by user, and the start of each user's items."""
        feats = (self.dataset.inter_feat, self.dataset.unrated)
        user, item = (
            torch.cat([feat[field] for feat in feats]).long()
            for field in (self.dataset.uid_field, self.dataset.iid_field)
        )
        counts = torch.bincount(user, minlength=self.dataset.user_num)
        return item[torch.argsort(user, stable=True)], np.append(0, counts.cumsum(0).numpy()).tolist()


def _highest(scores: torch.Tensor, known: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``top`` items by score (n_items,), except ``known`` items, and their scores; ``scores`` is overwritten."""
    scores[0] = -torch.inf
    scores[known] = -torch.inf
    values, items = torch.topk(scores, min(top, len(scores)))
    left = torch.isfinite(values)
    return items[left], values[left]


def _id(kind: str, name: str, known: dict[str, int]) -> int:
    if name in known and name != "[PAD]":
        return known[name]
    names = [one for one in known if one != "[PAD]"]
    if len(names) <= 20:
        raise DataError(unknown_name(kind, name, names))
    # Longer texts are not misspelt names, and comparing them is slow.
    near = difflib.get_close_matches(name, names, n=3) if len(name) <= 100 else []
    if near:
        question = f"did you mean {' or '.join(repr(str(one)) for one in near)}?"
        raise DataError(f"unknown {kind} '{name}'; {question} The data set has {len(names)} {kind}s")
    raise DataError(
        f"unknown {kind} '{name[:100]}'; the data set has {len(names)} {kind}s, for example {', '.join(names[:3])}"
    )
