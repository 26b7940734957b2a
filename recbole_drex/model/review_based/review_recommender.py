"""Base of the models that describe users and items by their reviews."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter
from recbole_drex.data.text.word_vectors import word_vectors
from recbole_drex.model.abstract_recommender import RatingModel
from recbole_drex.model.layers.common import CacheMixin, Side, learned_biases
from recbole_drex.model.layers.review_check import require_words
from recbole_drex.model.review_based.documents import Documents
from recbole_drex.model.review_based.text_cnn import TextCNN

_PAIRS = 4096  # reviewed pairs per block of predictions


def mean_squares(tables: nn.ModuleList | None, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor | float:
    """Mean squared length of the rows of users (b,) in the first table plus that of items (b,) in the second.

    0 without tables.
    """
    if tables is None:
        return 0.0
    return sum(table(one).square().sum(-1).mean() for table, one in zip(tables, (user, item), strict=True))


class DocumentModel(CacheMixin, RatingModel):
    """Base of DeepCoNN, NARRE, HRDR and DAML: documents, their word vectors, and biases.

    What is read of documents for prediction is cached after training. A subclass implements ``refresh``, which fills
    the cache, and ``score``.

    Raises:
        DataError: no review has words, or their features are missing.
    """

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "word_vectors", str, "encoder",
            "`encoder` (its input table), or the path of a word2vec (text or binary) or GloVe file.",
        ),
        Parameter(
            "word_size", int, 64,
            "Word vectors are reduced to this many principal components; 0 leaves them.", least=0,
        ),
        Parameter("review_words", int, 100, "Words of a review that are read; what is longer is cut.", least=1),
        Parameter("max_reviews", int, 100, "The latest reviews of a user or an item that are read.", least=1),
        Parameter(
            "exclude_target_review", bool, True,
            "The review of the pair that is predicted takes part on neither side.",
        ),
        Parameter("filters", int, 100, "F: filters of the convolution.", least=1),
        Parameter("bias_reg_weight", float, 0.05, "L2 on the biases of a batch.", least=0),
        *RatingModel.PARAMETERS,
        general("learning_rate", 0.001),
        general(
            "train_batch_size", 2048,
            "Interactions per step: all reviews of a step are read once, so large steps are cheap.",
        ),
    )  # fmt: skip

    biases: nn.ModuleList | None

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.exclude_target_review = config["exclude_target_review"]
        evidence = dataset.evidence()
        require_words(config, dataset, evidence)
        self.documents = Documents(
            evidence, dataset.features(), self.n_users, self.n_items, config["max_reviews"], config["review_words"]
        )

    def vectors_of_words(self, config, dataset) -> torch.Tensor:
        """Vectors of the vocabulary of the documents, (words, width).

        Raises:
            DataError: the file of word vectors cannot be read.
        """
        settings = dataset.features().settings
        vectors = word_vectors(config["word_vectors"], self.documents.vocabulary, settings, config["word_size"])
        return torch.from_numpy(vectors)

    def _biases(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor | float:
        """Sums of the biases of pairs; 0 for a model without biases. Shapes broadcast."""
        if self.biases is None:
            return 0.0
        return (self.biases[Side.USER](user) + self.biases[Side.ITEM](item)).squeeze(-1)

    def biases_of(self, dataset) -> nn.ModuleList:
        """Learned biases of users and items, initialised with damped means."""
        return learned_biases(dataset, self.n_users, self.n_items)

    def own_review(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Review to leave out of the prediction of each pair, -1 for none; shapes broadcast."""
        row = self.documents.find(user, item)
        return row if self.exclude_target_review else torch.full_like(row, -1)

    def refresh(self) -> None:
        """Read all users and items with the current parameters, and cache them."""
        raise NotImplementedError

    def make_ready(self) -> None:
        """Refresh if the parameters have changed; several processes share the work, so all must call this."""
        if self._stale:
            self.refresh()
            self._stale = self.training


class ReviewModel(DocumentModel):
    """Base of DeepCoNN, NARRE and HRDR: the convolution of reviews, and prediction without the pair's own review.

    Pairs that are evidence are predicted without their own review, as in training; all others are predicted from cached
    states of users and items.

    A subclass implements ``refresh`` (fill the cache), ``score_of_others`` (pairs without evidence, shapes broadcast)
    and ``score_of_reviewed`` (flat pairs without the reviews at ``row``).
    """

    PARAMETERS = (Parameter("window", int, 3, "Words of a window.", least=1), *DocumentModel.PARAMETERS)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        vectors = self.vectors_of_words(config, dataset)
        self.cnn = TextCNN(self.documents, vectors, config["filters"], config["window"])

    def has_own_evidence(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Whether anything has to be left out of the prediction of each pair; shapes broadcast."""
        return self.own_review(user, item) >= 0

    def score_of_others(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Scores from the cache; shapes broadcast."""
        raise NotImplementedError

    def score_of_reviewed(self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Scores of pairs (b,) without their reviews ``row`` (b,), -1 for none."""
        raise NotImplementedError

    @torch.no_grad()
    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        self.make_ready()
        score = self.score_of_others(user, item)
        known = self.has_own_evidence(user, item)
        user, item = user.expand(known.shape).flatten(), item.expand(known.shape).flatten()
        for part in torch.split(torch.nonzero(known.flatten()).flatten(), _PAIRS):
            row = self.own_review(user[part], item[part])
            score.view(-1)[part] = self.score_of_reviewed(user[part], item[part], row)
        return score
