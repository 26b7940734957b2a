"""Base of the models that predict a rating and write a sentence from the ids of a user and an item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.data.text.tokenizer import TextProcessor
from recbole_drex.errors import DataError
from recbole_drex.model.abstract_recommender import RatingModel
from recbole_drex.model.generative.keyword_sentences import KeywordSentences
from recbole_drex.model.layers.common import BLOCK_ROWS, learned_biases
from recbole_drex.model.layers.review_check import require_words
from recbole_drex.model.pesi.sentence_data import SPECIAL, Sentences

_PAIRS = 256  # sentences that are written together
_NOTHING = "no word occurs three times in the reviews of rated training rows"


class SentenceModel(RatingModel):
    r"""Base of PETER and PEPLER.

    The target of a training pair is the sentence of its review with the highest score by
    :class:`~recbole_drex.model.generative.keyword_sentences.KeywordSentences`. Sentences are targets only: ratings and
    sentences are predicted from the ids of user and item, so no review of any pair is an input.

    .. math::
        f_{ui} = \mu + b_u + b_i + g(u, i), \qquad
        L = \lambda_r \big(\ell(r_{ui}, f_{ui}) + \lambda_b (b_u^2 + b_i^2)\big) + L_{\mathrm{text}}

    A subclass implements ``pair_score``, g, and ``losses``, g with :math:`L_{\mathrm{text}}` of each pair, and
    ``write``.

    Raises:
        DataError: no review of the training part has words, or the data set has no review texts.
    """

    PARAMETERS = (
        Parameter("rating_weight", float, 0.1, "lambda_r: weight of the rating loss.", least=0),
        Parameter("bias_reg_weight", float, 0.05, "L2 on the biases of a batch.", least=0),
        Parameter("sentence_words", int, 15, "Longest sentence, in words.", least=3),
        *RatingModel.PARAMETERS,
        general("train_batch_size", 256),
    )  # fmt: skip

    def __init__(self, config, dataset, vocabulary: int):
        super().__init__(config, dataset)
        self.rating_weight, self.bias_reg_weight = config["rating_weight"], config["bias_reg_weight"]
        evidence, path = dataset.evidence(), Path(dataset.dataset_path) / TEXTS
        require_words(config, dataset, evidence)
        if not path.is_file():
            raise DataError(
                f"{config['model']} learns from review texts, and {path} is missing: prepare the data set from its raw "
                "reviews (--raw FILE --rebuild)"
            )
        longest, processor = config["sentence_words"], TextProcessor(config["lemmatizer"], config["language"])

        def choose_all(reviews, user):
            keywords = KeywordSentences(reviews, user.numpy(), processor, longest)
            return [keywords.choose(review) for review in reviews]

        # Training rows come first; rows without a rating are no targets.
        n = len(dataset.inter_feat)
        user, item, row = (part[:n] for part in (evidence.user, evidence.item, evidence.review_row))
        self.sentences = Sentences(user, item, row, ReviewTexts(path), vocabulary, longest, self.n_items, choose_all)
        if not self.writes:
            self.notes.append(f"{config['model']} writes no sentences: {_NOTHING}")
        self.biases = learned_biases(dataset, self.n_users, self.n_items)

    def pair_score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """g of pairs (b,): (b,)."""
        raise NotImplementedError

    def losses(self, user: torch.Tensor, item: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """g of pairs, and the loss of their sentences, 0 without one: (b,) each.

        Args:
            user, item: (b,).
            own: index of each pair's sentence, -1 without one, (b,).
        """
        raise NotImplementedError

    def write(self, user: torch.Tensor, item: torch.Tensor) -> list[str]:
        """Write a sentence for each pair (b,), word by word, always the most probable one."""
        raise NotImplementedError

    def _biases(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return (self.biases[0](user) + self.biases[1](item)).squeeze(-1)

    def calculate_loss(self, interaction) -> torch.Tensor:
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        score, text = self.losses(user, item, self.sentences.find(user, item))
        score = self.mean + self._biases(user, item) + score
        rating = self.head.loss(score, user, interaction[self.rating_field])
        squares = self.biases[0](user).square().mean() + self.biases[1](item).square().mean()
        return self.rating_weight * (rating + self.bias_reg_weight * squares) + text.mean()

    @torch.no_grad()
    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        user, item = torch.broadcast_tensors(user, item)
        blocks = zip(user.flatten().split(BLOCK_ROWS), item.flatten().split(BLOCK_ROWS), strict=True)
        parts = [self.pair_score(who, what) for who, what in blocks]
        return self.mean + self._biases(user, item) + torch.cat(parts).view(user.shape)

    @property
    def writes(self) -> bool:
        return len(self.sentences.vocabulary) > len(SPECIAL)

    @torch.no_grad()
    def generate(self, user_ids: Sequence[int], item_ids: Sequence[int]) -> list[str]:
        """Write one sentence for each pair of a user and an item (internal ids); deterministic.

        Raises:
            DataError: there are no sentences to learn from.
        """
        if not self.writes:
            raise DataError(_NOTHING)
        user, item = (torch.as_tensor(ids, device=self.mean.device).long() for ids in (user_ids, item_ids))
        written: list[str] = []
        for who, what in zip(user.split(_PAIRS), item.split(_PAIRS), strict=True):
            written += self.write(who, what) if len(who) else []
        return written
