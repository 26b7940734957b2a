"""What a model may offer beyond RecBole's ``GeneralRecommender``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recbole_drex.config.parameters import OwnModel

if TYPE_CHECKING:
    from recbole_drex.model.layers.word_attention import AttendedWords


class ModelContract(OwnModel):
    """Base class of this project's models; every answer has a default, so a model overrides what it can do.

    RecBole's own models do not inherit it: ask :func:`contract_of`.

    Attributes:
        loss_name: name of the training loss in results; None for models that do not say.
        closed_form: whether the parameters are computed in one go, so that there is nothing to train.
        takes_new_users: whether users who are not in the data are predicted from what they post.
    """

    loss_name: str | None = None
    closed_form: bool = False
    takes_new_users: bool = False

    @property
    def reads_words(self) -> bool:
        """Whether the model weighs the words of reviews; :meth:`attended_words` then has their weights."""
        return False

    @property
    def writes(self) -> bool:
        """Whether the model writes a sentence for a pair (method ``generate``)."""
        return False

    def make_ready(self) -> None:
        """Bring up to date what follows from the parameters, before predictions are asked for."""

    def before_epoch(self, epoch: int) -> None:
        """Called before each training epoch, from 0 on."""

    def write_fitted(self, path: Path) -> None:
        """Write what was fitted to the training part before training, so that loading the run need not fit it again."""

    def predict_distribution(self, interaction) -> torch.Tensor | None:
        """Probability of each rating level for pairs, (b, K); None of models without a distribution."""
        return None

    def predict_unknown(self, user: int) -> torch.Tensor | None:
        """Scores of a user with all items, (n_items,), where only those of unknown items matter.

        None of models for which that is no faster than ``full_sort_predict``.
        """
        return None

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Vectors of all users (n_users, d) and items (n_items, e) by internal id, the padding first; None without.

        What a score adds to their products (biases, aspects, tastes) is no part of them.
        """
        return None

    def aspect_reader(self) -> Any:
        """What reads the aspects of reviews, as :class:`recbole_drex.model.drex.aspects.Aspects`; None by default."""
        return None

    def attended_words(self) -> AttendedWords | None:
        """Every occurrence of a word in a training review with its weight; None of models that read no words."""
        return None


_DEFAULTS = ModelContract()


def contract_of(model: torch.nn.Module) -> ModelContract:
    """The model itself, or the defaults for one of RecBole's."""
    return model if isinstance(model, ModelContract) else _DEFAULTS
