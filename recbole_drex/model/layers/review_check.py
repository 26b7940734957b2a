"""Checks which interactions have reviews with words."""

from __future__ import annotations

import torch

from recbole_drex.data.dataset import Evidence, ReviewDataset
from recbole_drex.errors import DataError


def with_words(review: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Mask of the interactions with a review of at least one word, (n,).

    Args:
        review: rows of the feature store, -1 for none, (n,).
        offsets: start of each review's words in the store, and the end of the last, (reviews + 1,).

    Example:
        >>> with_words(torch.tensor([0, -1, 1, 2]), torch.tensor([0, 3, 3, 5])).tolist()
        [True, False, False, True]
    """
    there = review >= 0
    row = review[there]
    return there.masked_scatter(there, offsets[row + 1] > offsets[row])


def any_words(dataset: ReviewDataset, evidence: Evidence) -> bool:
    """Whether any review that is evidence has words.

    Args:
        dataset: the training part.
        evidence: its rows.

    Raises:
        DataError: reviews exist, but their word features are missing or damaged.
    """
    if not bool((evidence.review_row >= 0).any()):
        return False
    offsets = torch.from_numpy(dataset.features().offsets.astype("int64"))
    return bool(with_words(evidence.review_row, offsets).any())


def require_words(config, dataset: ReviewDataset, evidence: Evidence) -> None:
    """Check that the data set has reviews for a model that requires them; arguments as for :func:`any_words`.

    Raises:
        DataError: no review has words; the message names models that need none.
    """
    if not any_words(dataset, evidence):
        raise DataError(
            f"{config['model']} needs reviews, and no review of the training part of data set '{config['dataset']}' "
            "has words: use DReX, which then reads ratings only, or BiasedMF"
        )
