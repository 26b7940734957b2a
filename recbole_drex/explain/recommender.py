"""Names instead of numbers: the best items for a user of a trained run, without reasons."""

from __future__ import annotations

import dataclasses
import difflib
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from recbole_drex.compat import quoting  # isort: skip  (first: RecBole needs it)
from recbole.data.interaction import Interaction

from recbole_drex.errors import DataError, unknown_name
from recbole_drex.evaluation.metrics import predicts_ratings
from recbole_drex.model.contract import contract_of
from recbole_drex.training.run_record import Experiment


@dataclasses.dataclass(frozen=True)
class PostedInteraction:
    """What somebody who is not in the data says about an item; a rating, a review or both.

    Attributes:
        item: its name in the data.
        rating: None without one.
        review: as written; empty without one.
    """

    item: str
    rating: float | None = None
    review: str = ""


class Recommended(NamedTuple):
    """An item and its predicted rating, clipped to the range of the training ratings; None of models that rank."""

    item: int
    predicted: float | None


class Recommender:
    """Recommends items by name.

    Args:
        experiment: a run that was loaded or has just been trained.
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
            DataError: no such user.
        """
        return _id("user", user, self._users)

    def item_id(self, item: str) -> int:
        """Internal id of an item.

        Raises:
            DataError: no such item.
        """
        return _id("item", item, self._items)

    def user_name(self, user: int) -> str:
        """The user's name in the data."""
        return str(self.dataset.field2id_token[self.dataset.uid_field][user])

    def item_name(self, item: int) -> str:
        """The item's name in the data."""
        return str(self.dataset.field2id_token[self.dataset.iid_field][item])

    def title(self, item: int) -> str:
        """The item's title, empty if the data have none."""
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
        """The ``top`` items by the model's score that the user has not interacted with, fewer if fewer are left."""
        scores = contract_of(self.model).predict_unknown(user)
        if scores is None:
            wanted = Interaction({self.dataset.uid_field: torch.tensor([user])})
            with torch.no_grad():
                scores = self.model.full_sort_predict(wanted.to(self.experiment.config["device"])).clone()  # type: ignore[operator]
        return self.best_of(scores, self.known(user), top)

    def best_of(self, scores: torch.Tensor, known: torch.Tensor, top: int) -> list[Recommended]:
        """The ``top`` of all items by their scores (n_items,), which are written into, but for the ``known`` ones."""
        scores[0] = -torch.inf
        scores[known] = -torch.inf
        values, items = torch.topk(scores, min(top, len(scores)))
        left = torch.isfinite(values)
        return [Recommended(*one) for one in zip(items[left].tolist(), self._ratings(values[left]), strict=True)]

    def rating(self, score: torch.Tensor) -> float | None:
        """A predicted rating as it is shown: clipped; None of models whose scores are no ratings."""
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
        """Items that a user has interacted with, in whatever part."""
        items, bounds = self._interactions
        return items[bounds[user] : bounds[user + 1]]

    @cached_property
    def _interactions(self) -> tuple[torch.Tensor, list[int]]:
        """Items of all interactions, user by user, and where those of each user begin."""
        feats = (self.dataset.inter_feat, self.dataset.unrated)
        user, item = (
            torch.cat([feat[field] for feat in feats]).long()
            for field in (self.dataset.uid_field, self.dataset.iid_field)
        )
        counts = torch.bincount(user, minlength=self.dataset.user_num)
        return item[torch.argsort(user, stable=True)], np.append(0, counts.cumsum(0).numpy()).tolist()


def _id(kind: str, name: str, known: dict[str, int]) -> int:
    if name in known and name != "[PAD]":
        return known[name]
    names = [one for one in known if one != "[PAD]"]
    if len(names) <= 20:
        raise DataError(unknown_name(kind, name, names))
    # Longer texts are no misspelt names, and comparing them takes long.
    near = difflib.get_close_matches(name, names, n=3) if len(name) <= 100 else []
    if near:
        question = f"did you mean {' or '.join(repr(str(one)) for one in near)}?"
        raise DataError(f"unknown {kind} '{name}'; {question} The data set has {len(names)} {kind}s")
    raise DataError(
        f"unknown {kind} '{name[:100]}'; the data set has {len(names)} {kind}s, for example {', '.join(names[:3])}"
    )
