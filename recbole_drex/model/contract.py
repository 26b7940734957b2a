"""What a model may offer beyond RecBole's ``GeneralRecommender``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recbole_drex.config.parameters import OwnModel

if TYPE_CHECKING:
    from recbole_drex.model.layers.word_attention import AttendedWords


class ModelContract(OwnModel):
    """Base class of this project's models. Every method has a default; a model overrides what it supports.

    RecBole's own models do not inherit from it: use :func:`contract_of`.

    Attributes:
        loss_name: name of the training loss in results; None if unknown.
        closed_form: whether the parameters are computed in closed form, without training.
        takes_new_users: whether the model can predict for users who are not in the data, from the reviews they provide.
    """

    loss_name: str | None = None
    closed_form: bool = False
    takes_new_users: bool = False

    @property
    def reads_words(self) -> bool:
        """Whether the model weights the words of reviews; :meth:`attended_words` then returns the weights."""
        return False

    @property
    def writes(self) -> bool:
        """Whether the model writes a sentence for a pair (method ``generate``)."""
        return False

    def make_ready(self) -> None:
        """Update everything that is cached for prediction to the current parameters."""

    def before_epoch(self, epoch: int) -> None:
        """Called before each training epoch; the first is 0."""

    def write_fitted(self, path: Path) -> None:
        """Write what was fitted to the training part before training, so that loading the run need not fit it again."""

    def predict_distribution(self, interaction) -> torch.Tensor | None:
        """Probability of each rating level for pairs, (b, K); None for models without a distribution."""
        return None

    def predict_unknown(self, user: int) -> torch.Tensor | None:
        """Scores of a user with all items, (n_items,), valid only for items that the user has not interacted with.

        None for models where this is no faster than ``full_sort_predict``.
        """
        return None

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Vectors of all users (n_users, d) and items (n_items, e) by internal id, padding first; None by default.

        They do not include what a score adds to their product (biases, aspects, tastes).
        """
        return None

    def aspect_reader(self) -> Any:
        """Reader of aspects, such as :class:`recbole_drex.model.drex.aspects.Aspects`; None by default."""
        return None

    def attended_words(self) -> AttendedWords | None:
        """Every occurrence of a word in a training review with its weight; None for models that read no words."""
        return None


_DEFAULTS = ModelContract()


def contract_of(model: torch.nn.Module) -> ModelContract:
    """The model itself, or the defaults for a model of RecBole."""
    return model if isinstance(model, ModelContract) else _DEFAULTS
