"""Trains a model for some epochs and scores all pairs."""

import numpy as np
import torch

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
from recbole.data.interaction import Interaction

from recbole_drex.training.trainer import make_trainer


def every_pair(experiment) -> np.ndarray:
    """Scores of all (user, item) pairs by ``full_sort_predict``, padding left out."""
    users = torch.arange(1, experiment.dataset.user_num)
    with torch.no_grad():
        scores = experiment.model.full_sort_predict(Interaction({experiment.dataset.uid_field: users}))
    return np.asarray(scores).reshape(len(users), -1)[:, 1:]


def pair_by_pair(experiment) -> np.ndarray:
    """The same by ``predict``."""
    dataset = experiment.dataset
    users, items = torch.arange(1, dataset.user_num), torch.arange(1, dataset.item_num)
    interaction = Interaction(
        {dataset.uid_field: users.repeat_interleave(len(items)), dataset.iid_field: items.repeat(len(users))}
    )
    with torch.no_grad():
        scores = experiment.model.predict(interaction)
    return np.asarray(scores).reshape(len(users), len(items))


def fixed_epochs(experiment, folder, epochs: int = 2):
    """Train without looking at validation, which may choose the epoch but nothing else."""
    trainer = make_trainer(experiment.config, experiment.model, folder, experiment.parts)
    trainer.epochs = epochs
    trainer.fit(experiment.parts.train, saved=False)
    experiment.model.eval()
    return experiment
