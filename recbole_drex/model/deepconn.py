"""DeepCoNN: users and items as the documents of their reviews."""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex.data.wordvectors import word_vectors
from recbole_drex.model.documents import ITEMS, USERS, Documents
from recbole_drex.model.rating import RatingModel
from recbole_drex.model.textcnn import Reading, TextCNN


class DeepCoNN(RatingModel):
    r"""Deep cooperative neural networks (Zheng, Noroozi and Yu, WSDM 2017).

    The document of user u is :math:`D_u`, the set of u's training reviews; :math:`o_s` of width F are the answers of
    the filters to review s, see :class:`~recbole_drex.model.textcnn.TextCNN`. With latent size l and k factors:

    .. math::
        d_u &= \max_{s \in D_u} o_s, \qquad x_u = \mathrm{ReLU}(W_U d_u + g_U), \qquad y_i \text{ likewise} \\
        z &= [x_u; y_i] \in \mathbb{R}^{2l} \\
        \hat r_{ui} &= w_0 + w^\top z + \textstyle\sum_{a < b} \langle v_a, v_b \rangle z_a z_b,
            \qquad v_a \in \mathbb{R}^k

    :math:`w_0` starts at the mean rating. The factorisation machine splits into a part of the user, one of the item and
    :math:`(V_U^\top x_u)^\top (V_I^\top y_i)`, so all pairs cost one matrix product.

    Unlike the paper: the review of the pair that is predicted is in neither document (``exclude_target_review``); both
    sides share the filters, so each review is convolved once; windows stay within a review; ``use_bias`` adds
    :math:`b_u + b_i`. A user or item without (other) reviews has d = 0.

    Parameters: ``word_vectors``, ``word_size``, ``review_words``, ``max_reviews``, ``filters`` (F), ``window``,
    ``latent_size`` (l), ``factors`` (k), ``dropout`` (on z), ``use_bias``, ``bias_reg_weight`` (L2 on the biases of a
    batch), ``exclude_target_review``.

    Raises:
        ConfigError: an illegal value.
        DataError: the data set has no word features, or the word vectors cannot be read.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.exclude_target_review = config["exclude_target_review"]
        self.bias_reg_weight = config["bias_reg_weight"]
        store = dataset.features()
        self.documents = Documents(
            dataset.evidence(), store, self.n_users, self.n_items, config["max_reviews"], config["review_words"]
        )
        vectors = word_vectors(config["word_vectors"], self.documents.vocabulary, store.settings, config["word_size"])
        self.cnn = TextCNN(self.documents, torch.from_numpy(vectors), config["filters"], config["window"])
        latent = config["latent_size"]
        self.dense = nn.ModuleList([nn.Linear(config["filters"], latent) for _ in range(2)])
        self.dropout = nn.Dropout(config["dropout"])
        self.linear = nn.ModuleList([nn.Linear(latent, 1, bias=False) for _ in range(2)])
        self.factors = nn.ModuleList([nn.Linear(latent, config["factors"], bias=False) for _ in range(2)])
        for layer in (*self.linear, *self.factors):
            nn.init.normal_(layer.weight, std=0.05)
        self.constant = nn.Parameter(self.mean.clone())
        self.biases = None
        if config["use_bias"]:
            sizes = (self.n_users, self.n_items)
            self.biases = nn.ModuleList(
                [nn.Embedding.from_pretrained(torch.zeros(size, 1), freeze=False) for size in sizes]
            )
        self._stale = True

    # Documents --------------------------------------------------------------------------------------------------

    def _two_highest(self, reading: Reading, side: int, entity: torch.Tensor) -> torch.Tensor:
        """Reviews in which each filter answers highest and second highest: (2, b, filters), -1 for none."""
        result = torch.full((2, len(entity), self.cnn.filters), -1, device=entity.device)
        review, owner = self.documents.of(side, entity)
        there, counts = torch.unique_consecutive(owner, return_counts=True)
        if not len(review):
            return result
        value, places = reading.value[reading.slot[review]], torch.arange(len(review), device=entity.device)
        first = counts.cumsum(0) - counts
        for rank in range(2):
            highest, _, _, place = torch.embedding_bag(value, places, first, mode=2)  # maximum, and where it is
            result[rank, there] = torch.where(highest > -torch.inf, review[place], -1)
            value.scatter_(0, place, -torch.inf)
        return result

    def _document(self, reading: Reading, highest: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """d of documents without the reviews ``own`` (b,), -1 for none: (b, filters).

        Args:
            reading: of the present parameters.
            highest: from :meth:`_two_highest`, (2, b, filters).
            own: (b,).
        """
        review = torch.where(highest[0] == own[:, None], highest[1], highest[0])
        if not len(reading.value):
            return torch.zeros(review.shape, device=review.device)
        position = reading.position.gather(0, reading.slot[review.clamp(min=0)].clamp(min=0))
        return self.cnn.answer(reading, position) * ((highest[0] >= 0) & (review >= 0))

    def _side(self, side: int, document: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A side's part of the factorisation machine: its own terms (b,), and the factors that meet the other side's.

        Args:
            side: 0 or 1.
            document: d, (b, filters).
        """
        latent = self.dropout(torch.relu(self.dense[side](document)))
        factors = self.factors[side](latent)
        squares = latent.square() @ self.factors[side].weight.T.square()  # type: ignore[operator]
        alone = self.linear[side](latent).squeeze(-1) + 0.5 * (factors.square() - squares).sum(-1)
        return alone, factors

    def _own_review(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        row = self.documents.find(user, item)
        return row if self.exclude_target_review else torch.full_like(row, -1)

    # Training ---------------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction) -> torch.Tensor:
        user, item, rating = (interaction[name] for name in (self.USER_ID, self.ITEM_ID, self.rating_field))
        own = self._own_review(user, item)
        reading = self.cnn.read(self.documents.read_for(user, item))
        score, factors = self.constant.expand(len(user)), []
        for side, entity in ((USERS, user), (ITEMS, item)):
            distinct, place = torch.unique(entity, return_inverse=True)
            highest = self._two_highest(reading, side, distinct)[:, place]
            alone, meeting = self._side(side, self._document(reading, highest, own))
            score = score + alone
            factors.append(meeting)
        score = score + (factors[0] * factors[1]).sum(-1)
        penalty = torch.zeros((), device=score.device)
        if self.biases is not None:
            biases = torch.cat([table(entity) for table, entity in zip(self.biases, (user, item), strict=True)], 1)
            score = score + biases.sum(1)
            penalty = self.bias_reg_weight * biases.square().sum(1).mean()
        return self.head.loss(score, user, rating) + penalty

    # Prediction -------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True):
        """RecBole calls this before every epoch and every evaluation: what was remembered is out of date."""
        self._stale = True
        return super().train(mode)

    def _load_from_state_dict(self, *args, **kwargs):
        self._stale = True
        super()._load_from_state_dict(*args, **kwargs)

    @torch.no_grad()
    def _refresh(self) -> None:
        """Read all documents with the present parameters."""
        device = self.constant.device
        self._reading = self.cnn.read(torch.arange(len(self.documents), device=device))
        self._highest, self._sides = [], []
        for side, size in ((USERS, self.n_users), (ITEMS, self.n_items)):
            entity = torch.arange(size, device=device)
            self._highest.append(self._two_highest(self._reading, side, entity))
            document = self._document(self._reading, self._highest[side], torch.full_like(entity, -1))
            self._sides.append(self._side(side, document))
        self._stale = self.training

    @torch.no_grad()
    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Scores of users and items whose shapes broadcast; a reviewed pair is predicted without its review."""
        if self._stale:
            self._refresh()
        (user_alone, user_factors), (item_alone, item_factors) = self._sides
        score = self._sum(user_alone[user], item_alone[item], user_factors[user], item_factors[item])
        own = self._own_review(user, item)
        known = torch.nonzero(own.flatten() >= 0).flatten()
        for part in torch.split(known, 4096):
            who, what = (entity.expand(own.shape).flatten()[part] for entity in (user, item))
            row = own.flatten()[part]
            documents = [
                self._document(self._reading, self._highest[side][:, entity], row)
                for side, entity in ((USERS, who), (ITEMS, what))
            ]
            (alone, factors), (other_alone, other_factors) = (self._side(k, d) for k, d in enumerate(documents))
            score.view(-1)[part] = self._sum(alone, other_alone, factors, other_factors)
        if self.biases is not None:
            score = score + self.biases[USERS](user).squeeze(-1) + self.biases[ITEMS](item).squeeze(-1)
        return score

    def _sum(self, user_alone, item_alone, user_factors, item_factors) -> torch.Tensor:
        return self.constant + user_alone + item_alone + (user_factors * item_factors).sum(-1)
