"""Whether there is anything to read: which interactions have reviews with words."""

from __future__ import annotations

import torch

from recbole_drex.data.dataset import Evidence, ReviewDataset
from recbole_drex.errors import DataError


def with_words(review: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Which interactions have a review that keeps a word or more, (n,).

    Args:
        review: rows of the feature store, -1 for none, (n,).
        offsets: where the words of each review of the store begin, and where the last ones end, (reviews + 1,).

    Example:
        >>> with_words(torch.tensor([0, -1, 1, 2]), torch.tensor([0, 3, 3, 5])).tolist()
        [True, False, False, True]
    """
    there = review >= 0
    row = review[there]
    return there.masked_scatter(there, offsets[row + 1] > offsets[row])


def any_words(dataset: ReviewDataset, evidence: Evidence) -> bool:
    """Whether any review that may be known has words.

    Args:
        dataset: the training part.
        evidence: its rows.

    Raises:
        DataError: there are reviews, but their word features are missing or damaged.
    """
    if not bool((evidence.review_row >= 0).any()):
        return False
    offsets = torch.from_numpy(dataset.features().offsets.astype("int64"))
    return bool(with_words(evidence.review_row, offsets).any())


def require_words(config, dataset: ReviewDataset, evidence: Evidence) -> None:
    """Check that a model that cannot do without reviews has some; arguments as of :func:`any_words`.

    Raises:
        DataError: there are none; names the models that need none.
    """
    if not any_words(dataset, evidence):
        raise DataError(
            f"{config['model']} needs reviews, and no review of the training part of data set '{config['dataset']}' "
            "has words: use DReX, which then reads ratings alone, or BiasedMF"
        )
