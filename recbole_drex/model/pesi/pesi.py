"""PESI-style model: shared and private features of ratings and reviews, inconsistency, and generated sentences."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn

from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter
from recbole_drex.data.dataset import Evidence
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.data.text.word_vectors import word_vectors
from recbole_drex.errors import DataError
from recbole_drex.model.abstract_recommender import RatingModel
from recbole_drex.model.layers.common import CacheMixin, Side
from recbole_drex.model.layers.evidence_table import EvidenceTable
from recbole_drex.model.layers.review_check import require_words
from recbole_drex.model.layers.review_sampling import ReviewSampler
from recbole_drex.model.layers.word_attention import WordAttention
from recbole_drex.model.pesi.disentangler import Disentangler, SideFeatures
from recbole_drex.model.pesi.generator import SentenceWriter
from recbole_drex.model.pesi.sentence_data import Sentences


class PESI(CacheMixin, RatingModel):
    r"""PESI-style rating prediction and explanation, reconstructed.

    Only the abstract of "Personalized explanation recommendation with sentiment inconsistency between ratings and
    reviews" (Knowledge-Based Systems 283, 111133, 2024) is public. We take from it: three modules (rating prediction,
    explanation generation, inconsistency extraction); shared and private features of ratings and of reviews, separated
    by contrastive objectives; the inconsistency as an input of the generator; an entropy regulariser. Everything else,
    including the equations, is our choice. Results of this model say nothing about the published one.

    A user u (and likewise an item) is described by all interactions except the target: :math:`\bar T_u` is the damped
    mean of the attention-pooled reviews (see :class:`~recbole_drex.model.layers.word_attention.WordAttention`), and
    :math:`\bar R_u` the damped mean of the one-hot ratings and of the ratings minus the items' means. With a free
    embedding :math:`q_u`, :math:`\hat x = x / \|x\|`, and sizes d and k:

    .. math::
        [c^r; p^r] &= P_r \tanh(W_r [q_u; \bar R_u] + g_r), \qquad [c^t; p^t] = P_t \tanh(W_t \bar T_u + g_t)
            && \text{shared c, private p} \\
        h_u &= \tanh(W_h [a_1 c^r; a_2 p^r; a_3 c^t; a_4 p^t] + g_h), \quad
            a = \mathrm{softmax}(W_a [c^r; p^r; c^t; p^t] + g_a) && \text{gates} \\
        z_u &= [\hat c^r - \hat c^t;\ \hat p^r \odot \hat p^t] && \text{inconsistency} \\
        f_{ui} &= \mu + b_u + b_i + w^\top (h_u \odot h_i) + v^\top \mathrm{ReLU}(A h_u + B h_i + g) \\
        L &= \ell(r_{ui}, f_{ui}) + \lambda_c L_c + \lambda_p L_p - \lambda_e H(a)
            + \lambda \|q\|^2 + \lambda_b (b_u^2 + b_i^2) \\
        L_c &= -\tfrac12 \log \frac{\exp(\hat c^r_u \cdot \hat c^t_u / \tau)}{\sum_v \exp(\hat c^r_u \cdot \hat c^t_v
            / \tau)} - \tfrac12 \log \frac{\exp(\hat c^r_u \cdot \hat c^t_u / \tau)}{\sum_v \exp(\hat c^r_v \cdot
            \hat c^t_u / \tau)} && \text{InfoNCE; v: reviewed users of the batch} \\
        L_p &= (\hat c^r \cdot \hat p^r)^2 + (\hat c^t \cdot \hat p^t)^2 + (\hat p^r \cdot \hat p^t)^2
            && \text{orthogonal}

    H is the entropy of the gates; it keeps all four parts in use. Without other reviews, the text parts, their gates
    and z are zero. :math:`\ell` is set by ``output`` and ``loss`` of
    :class:`~recbole_drex.model.abstract_recommender.RatingModel`.

    A :class:`~recbole_drex.model.pesi.generator.SentenceWriter` writes the first short sentence of a review. Before the
    first step it is pre-trained on all training sentences, given user, item and rating. Then it is trained together
    with the model, given also :math:`h_u, h_i, z_u, z_i`, none of which contains the review. An explanation is written
    from the predicted rating. No gradient flows back and the writer has its own random numbers, so ratings are
    bitwise equal with and without it.

    Raises:
        DataError: no review has words, or their features are missing.
    """

    PARAMETERS = (
        Parameter("embedding_size", int, 32, "d: width of features and states.", least=1),
        Parameter("part_size", int, 16, "k: width of a shared or a private part.", least=1),
        Parameter(
            "shrinkage", float, 1.0, "c in sum / (count + c), in the means of reviews and of ratings.", least=0
        ),
        Parameter(
            "bias_damping", float, 5.0, "Pseudo-count of the other side's means that ratings are adjusted by.",
            least=0,
        ),
        Parameter(
            "message_samples", int, 256,
            "Targets per step whose user's and item's reviews teach the attention.", least=0,
        ),
        Parameter(
            "exclude_target_review", bool, True, "The review of the pair that is predicted is in no mean."
        ),
        Parameter(
            "contrast_weight", float, 0.1,
            "lambda_c: draws the shared parts of ratings and reviews together.", least=0,
        ),
        Parameter("temperature", float, 0.2, "tau of the contrastive term.", least=0.001),
        Parameter(
            "private_weight", float, 0.01, "lambda_p: drives private parts away from shared ones.", least=0
        ),
        Parameter(
            "entropy_weight", float, 0.001, "lambda_e: keeps the gates between the four parts open.", least=0
        ),
        Parameter("init_std", float, 0.1, "Standard deviation of the free embeddings at the start.", least=0),
        Parameter("dropout", float, 0.2, "Dropout on the states.", least=0, most=1),
        Parameter("reg_weight", float, 0.01, "L2 on the free embeddings of a batch.", least=0),
        Parameter("bias_reg_weight", float, 0.05, "L2 on the biases of a batch.", least=0),
        Parameter(
            "generator_sentences", int, 64,
            "Sentences per step that the generator learns from; 0: no generator, same ratings.", least=0,
        ),
        Parameter(
            "generator_passes", int, 4, "Passes over all training sentences before the first step.", least=0
        ),
        Parameter("generator_words", int, 15, "Longest sentence, in words.", least=3),
        Parameter(
            "generator_vocabulary", int, 3000, "The most frequent words of the training reviews.", least=1
        ),
        Parameter("generator_size", int, 128, "Width of the generator's GRU.", least=2),
        Parameter("generator_beams", int, 4, "Beams of the search; 1 is greedy.", least=1),
        *RatingModel.PARAMETERS,
        general("learning_rate", 0.005),
        general("weight_decay", 0.00001),
    )  # fmt: skip

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        size, part = config["embedding_size"], config["part_size"]
        self.exclude_target_review, self.shrinkage = config["exclude_target_review"], config["shrinkage"]
        self.contrast_weight, self.temperature = config["contrast_weight"], config["temperature"]
        self.private_weight, self.entropy_weight = config["private_weight"], config["entropy_weight"]
        self.reg_weight, self.bias_reg_weight = config["reg_weight"], config["bias_reg_weight"]
        evidence = dataset.evidence()
        require_words(config, dataset, evidence)
        self.attention = WordAttention(dataset.features(), size)
        levels, sizes = dataset.rating_levels(), (self.n_users, self.n_items)
        self.table = EvidenceTable(
            evidence, ["review", "rating"], levels, self.attention, *sizes, damping=config["bias_damping"]
        )
        self.sampler = ReviewSampler(self.table, config["message_samples"]) if config["message_samples"] else None
        self.embeddings = nn.ModuleList([nn.Embedding(n, size) for n in sizes])
        self.biases = nn.ModuleList([nn.Embedding.from_pretrained(torch.zeros(n, 1), freeze=False) for n in sizes])
        for weight in self.embeddings.parameters():
            nn.init.normal_(weight, std=config["init_std"])
        self.sides = nn.ModuleList([Disentangler(size + len(levels) + 1, size, size, part) for _ in sizes])
        self.dropout = nn.Dropout(config["dropout"])
        self.product = nn.Linear(size, 1, bias=False)
        self.hidden = nn.ModuleList([nn.Linear(size, size, bias=side == Side.USER) for side in Side])
        self.output = nn.Linear(size, 1, bias=False)
        self.n_sentences, self.beams = config["generator_sentences"], config["generator_beams"]
        self.passes, self.seed = config["generator_passes"], config["seed"]
        self.writer = None
        path = Path(dataset.dataset_path) / TEXTS
        if self.n_sentences and not path.is_file():
            logging.getLogger(__name__).warning("PESI writes no sentences: there are no review texts in %s", path)
        elif self.n_sentences:
            self._add_writer(config, dataset, evidence, ReviewTexts(path))

    def _add_writer(self, config, dataset, evidence: Evidence, texts: ReviewTexts) -> None:
        rating = dataset.inter_feat[self.rating_field].float()
        # Training rows come first; unrated rows are skipped, since sentences are written from ratings.
        user, item, row = (part[: len(rating)] for part in (evidence.user, evidence.item, evidence.review_row))
        vocabulary, words = config["generator_vocabulary"], config["generator_words"]
        sentences = Sentences(user, item, row, texts, vocabulary, words, self.n_items)
        if not len(sentences.row):
            logging.getLogger(__name__).warning("PESI writes no sentences: no training row has a review")
            return
        size = config["generator_size"]
        vectors = word_vectors("encoder", sentences.vocabulary, dataset.features().settings, size // 2)
        self.register_buffer("spread", rating.std(correction=0) + 1e-3)
        self.register_buffer("sentence_rating", rating[sentences.row], persistent=False)
        self.register_buffer("studied", torch.zeros((), dtype=torch.bool))
        width = 2 * config["embedding_size"] + 4 * config["part_size"] + 1
        # Separate random numbers, so that ratings are equal with and without the writer.
        with torch.random.fork_rng(devices=[]):
            self.writer = SentenceWriter(sentences, torch.from_numpy(vectors), self.n_users, width, size)

    # Features ---------------------------------------------------------------------------------------------------

    def _side(self, side: Side, entity: torch.Tensor, row: torch.Tensor, correction=None) -> SideFeatures:
        """Users or items (n,) without the interactions at ``row`` (n,), -1 for none."""
        sums = (self.table.user_sums, self.table.item_sums)[side][entity]
        rest = self.table.without(sums, row)
        texts = rest if self.exclude_target_review else sums
        if correction is not None:
            texts = texts + correction
        words, n_reviews = self.table.named(texts).modalities["review"]
        known = self.table.named(rest)
        onehot, n_ratings = known.modalities["rating"]
        projection = self.attention.projection
        reviews = nn.functional.linear(words, projection.weight) + n_reviews * projection.bias
        rated = torch.cat([onehot, known.ratings.adjusted[side]], 1) / (n_ratings + self.shrinkage).clamp(min=1.0)
        # Up to rounding, a sum of presences is an integer.
        reviewed = n_reviews.squeeze(1) > 0.5
        ratings = torch.cat([self.embeddings[side](entity), rated], 1)
        return self.sides[side](ratings, reviews / (n_reviews + self.shrinkage).clamp(min=1.0), reviewed)

    def _pair(self, user_state: torch.Tensor, item_state: torch.Tensor) -> torch.Tensor:
        """Score without biases of states (..., d) that broadcast."""
        hidden = torch.relu(self.hidden[Side.USER](user_state) + self.hidden[Side.ITEM](item_state))
        return ((user_state * self.product.weight[0]) * item_state + hidden * self.output.weight[0]).sum(-1)

    def _biases(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return (self.biases[Side.USER](user) + self.biases[Side.ITEM](item)).squeeze(-1)

    # Training ---------------------------------------------------------------------------------------------------

    def terms(self, sides: Sequence[SideFeatures], entities: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Means over a batch of the loss terms other than the rating loss, summed over both sides.

        Args:
            sides: of the users and of the items of the batch.
            entities: their ids, each (b,).

        Returns:
            ``contrast`` (L_c), ``private`` (L_p) and ``entropy`` (H).
        """
        zero = torch.zeros((), device=self.mean.device)
        total = {"contrast": zero, "private": zero, "entropy": zero}
        for side, entity in zip(sides, entities, strict=True):
            one = _first_of_each(entity)
            one = one[side.reviewed[one]]
            if len(one) > 1:  # a contrast needs negatives
                likeness = side.rating[one] @ side.review[one].T / self.temperature
                same = torch.arange(len(one), device=one.device)
                cross_entropy = nn.functional.cross_entropy
                contrast = (cross_entropy(likeness, same) + cross_entropy(likeness.T, same)) / 2
                total["contrast"] = total["contrast"] + contrast
            pairs = (
                (side.rating, side.rating_private),
                (side.review, side.review_private),
                (side.rating_private, side.review_private),
            )
            total["private"] = total["private"] + sum((a * b).sum(1).square().mean() for a, b in pairs)
            # The clamp avoids an infinite gradient at gates that are zero because there are no reviews.
            entropy = -(side.gates * side.gates.clamp(min=1e-9).log()).sum(1)
            total["entropy"] = total["entropy"] + entropy.mean()
        return total

    def calculate_loss(self, interaction) -> torch.Tensor:
        if self._stale:
            self._refresh()
        user, item, rating = (interaction[name] for name in (self.USER_ID, self.ITEM_ID, self.rating_field))
        row, corrections = self.table.find(user, item), cast("Sequence[torch.Tensor | None]", (None, None))
        if self.sampler is not None:
            corrections = self.sampler.corrections(self.table, self.attention, row)
        entities = (user, item)
        sides = [self._side(side, entities[side], row, corrections[side]) for side in Side]
        biases = self._biases(user, item)
        score = self.mean + biases + self._pair(*(self.dropout(side.state) for side in sides))
        free = sum(self.embeddings[k](entity).square().sum(-1).mean() for k, entity in enumerate(entities))
        squares = sum(self.biases[k](entity).square().mean() for k, entity in enumerate(entities))
        terms = self.terms(sides, entities)
        loss = self.head.loss(score, user, rating) + self.reg_weight * free + self.bias_reg_weight * squares
        loss = loss + self.contrast_weight * terms["contrast"] + self.private_weight * terms["private"]
        loss = loss - self.entropy_weight * terms["entropy"]
        if self.writer is None:
            return loss
        if not self.studied:
            self._study()
        # Only the gradient of the writer is added; the value of the loss stays that of the ratings.
        written = self.writer.loss(self._condition(sides, rating), user, item, self.n_sentences)
        return loss + (written - written.detach())

    def _study(self) -> None:
        """Pre-train the writer on users, items and ratings, before states are trained."""
        writer, studied = cast(SentenceWriter, self.writer), cast(torch.Tensor, self.studied)
        standard = (cast(torch.Tensor, self.sentence_rating) - self.mean) / cast(torch.Tensor, self.spread)
        x = torch.zeros(len(standard), writer.condition.in_features, device=self.mean.device)
        x[:, -1] = standard
        writer.study(x, self.passes, self.seed)
        studied.fill_(True)

    def _condition(self, sides: Sequence[SideFeatures], rating: torch.Tensor) -> torch.Tensor:
        """The writer's condition, without gradient: (b, 2d + 4k + 1)."""
        standard = ((rating - self.mean) / cast(torch.Tensor, self.spread))[:, None]
        parts = [side.state for side in sides] + [side.inconsistency for side in sides] + [standard]
        return torch.cat(parts, 1).detach()

    # Prediction -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _refresh(self) -> None:
        """Pool all reviews and compute all states with the current parameters."""
        self.table.refresh(self.attention)
        self._states = []
        for side, size in ((Side.USER, self.n_users), (Side.ITEM, self.n_items)):
            entity = torch.arange(size, device=self.mean.device)
            self._states.append(self._side(side, entity, torch.full_like(entity, -1)).state)
        self._stale = False

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The states of users and items, each of shape ``(n, d)``, from all training reviews."""
        if self._stale or self.training:
            self._refresh()
        return self._states[Side.USER], self._states[Side.ITEM]

    @torch.no_grad()
    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Scores of users and items whose shapes broadcast; a pair that is evidence is scored without its own row."""
        if self._stale or self.training:
            self._refresh()
        score = self._pair(self._states[Side.USER][user], self._states[Side.ITEM][item])
        row = self.table.find(user, item)
        known = torch.nonzero(row.flatten() >= 0).flatten()
        for part in torch.split(known, 8192):
            who, what = (entity.expand(row.shape).flatten()[part] for entity in (user, item))
            own = row.flatten()[part]
            score.view(-1)[part] = self._pair(
                self._side(Side.USER, who, own).state, self._side(Side.ITEM, what, own).state
            )
        return score + self._biases(user, item) + self.mean

    # Sentences --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def condition(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """The writer's condition for pairs (b,): states, inconsistencies and the predicted rating."""
        rating = self.head.mean(self.score(user, item), user)
        row = self.table.find(user, item)
        return self._condition([self._side(Side.USER, user, row), self._side(Side.ITEM, item, row)], rating)

    @property
    def writes(self) -> bool:
        return self.writer is not None

    def generate(self, user_ids: Sequence[int], item_ids: Sequence[int]) -> list[str]:
        """Write one sentence for each pair of a user and an item (internal ids); deterministic.

        Raises:
            DataError: the model has no generator, as the data set has no review texts or ``generator_sentences`` is 0.
        """
        if self.writer is None:
            raise DataError("this PESI writes no sentences: no training review has a text, or generator_sentences is 0")
        user, item = (torch.as_tensor(ids, device=self.mean.device).long() for ids in (user_ids, item_ids))
        written: list[str] = []
        for who, what in zip(user.split(256), item.split(256), strict=True):
            written += self.writer.write(self.condition(who, what), who, what, self.beams)
        return written


def _first_of_each(entity: torch.Tensor) -> torch.Tensor:
    """Index of the first occurrence of each distinct value of ``entity`` (b,)."""
    distinct, which = torch.unique(entity, return_inverse=True)
    index = torch.arange(len(entity), device=entity.device)
    return torch.full_like(distinct, len(entity)).scatter_reduce(0, which, index, "amin")
