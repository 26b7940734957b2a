"""DAML: documents of users and items, whose words are weighed by how much they resemble words of the other document."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from recbole_drex.config.parameters import Parameter, with_defaults
from recbole_drex.model.layers.common import Side, blocks_of
from recbole_drex.model.review_based.mutual_attention import mutual_attention
from recbole_drex.model.review_based.review_recommender import DocumentModel, mean_squares
from recbole_drex.model.review_based.word_documents import DocumentWords, WordDocuments

_PAIRS = 1024  # pairs per block of predictions
_LOCAL, _WINDOW = 5, 3  # words of a window of the local attention, and of the convolutions


class Attended(NamedTuple):
    """The words of one side's documents, see :meth:`DAML.attend`.

    Attributes:
        words: which, (n, L).
        features: z, (n, L, F).
        weight: m, (n, L).
    """

    words: DocumentWords
    features: torch.Tensor
    weight: torch.Tensor


class WordEncoder(nn.Module):
    r"""Features of words in their review: local attention and a convolution.

    With word vectors x of width w, fixed, and F filters:

    .. math::
        s_t = \sigma\Big(c + \textstyle\sum_{j=-2}^{2} a_j^\top x_{t+j}\Big), \qquad
        z_t = b + \textstyle\sum_{j=-1}^{1} W_j^\top s_{t+j} x_{t+j} \in \mathbb{R}^F

    Reviews are padded with zeros. Products of a word vector with a and W are computed once per distinct word.

    Args:
        vectors: float32 (vocabulary, w).
        filters: F.
    """

    vectors: torch.Tensor

    def __init__(self, vectors: torch.Tensor, filters: int):
        super().__init__()
        width = vectors.shape[1]
        padded = torch.cat([vectors, torch.zeros(1, width)])
        self.register_buffer("vectors", padded, persistent=False)
        self.local = nn.Parameter(torch.empty(_LOCAL, width))
        self.local_bias = nn.Parameter(torch.zeros(()))
        self.weight = nn.Parameter(torch.empty(_WINDOW, width, filters))
        self.bias = nn.Parameter(torch.zeros(filters))
        nn.init.normal_(self.local, std=(_LOCAL * width) ** -0.5)
        nn.init.normal_(self.weight, std=(_WINDOW * width) ** -0.5)

    def forward(self, text: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """z of the words at positions (m,) in ``text``, whose reviews have 2 or more paddings between them: (m, F)."""
        near = position[:, None] + torch.arange(-(_WINDOW // 2), _WINDOW // 2 + 1, device=position.device)
        of_word = self.vectors @ self.local.T
        logit = self.local_bias.expand(near.shape)
        for tap in range(_LOCAL):
            # The outermost windows end beyond the padding, where words do not matter: they are multiplied by zero.
            index = (near + tap - _LOCAL // 2).clamp(0, len(text) - 1)
            logit = logit + of_word[:, tap][text[index]]
        table = (self.vectors @ self.weight).flatten(0, 1)  # one row per tap and word
        index = text[near] + len(self.vectors) * torch.arange(_WINDOW, device=position.device)
        summed = nn.functional.embedding_bag(index, table, mode="sum", per_sample_weights=torch.sigmoid(logit))
        return summed + self.bias


class Abstraction(nn.Module):
    r"""A document's vector from its words' features and weights: local pooling, a convolution, its mean, a layer.

    .. math::
        p_t = \textstyle\sum_{j=-1}^{1} m_{t+j} z_{t+j}, \qquad
        d = \mathrm{ReLU}\Big(G \, \frac{1}{n} \sum_t \Big(b + \textstyle\sum_{j=-1}^{1} V_j^\top p_{t+j}\Big) + g\Big)

    with the weights m of n words and 0 beyond the ends of a review. All but the ReLU is linear, so that words are
    summed first and the convolution is applied once to the sums, which is exact. A document without words has d = 0.

    Args:
        filters: width of z, and filters of the convolution.
        size: width of d.
    """

    def __init__(self, filters: int, size: int):
        super().__init__()
        self.convolution = nn.Linear(_WINDOW * filters, filters)
        self.dense = nn.Linear(filters, size)

    def forward(self, features: torch.Tensor, weight: torch.Tensor, words: DocumentWords) -> torch.Tensor:
        """d of n documents.

        Args:
            features: z, (n, L, F).
            weight: m, (n, L).
            words: where reviews begin and end, (n, L).
        """
        count = words.mask.sum(1, keepdim=True)
        sums = (_multiplicities(words) * weight[:, None, :]) @ features  # (n, window, F)
        mean = self.convolution(sums.flatten(1) / count.clamp(min=1))
        return torch.relu(self.dense(mean)) * (count > 0)


def _multiplicities(words: DocumentWords) -> torch.Tensor:
    """In how many of the pooled p that tap j of the convolution meets each word occurs: (n, 3, L).

    A word occurs in p of itself and its neighbours in the review. The first tap meets all p of a review but the last,
    the second all, and the third all but the first.
    """
    there = words.mask.bool()
    same = there[:, 1:] & there[:, :-1] & (words.review[:, 1:] == words.review[:, :-1])
    left, right = nn.functional.pad(same, (1, 0)), nn.functional.pad(same, (0, 1))  # has a neighbour there
    second = left & nn.functional.pad(left[:, :-1], (1, 0))  # has two to its left
    penultimate = right & nn.functional.pad(right[:, 1:], (0, 1))
    one, other, two, last = (part.to(words.mask) for part in (left, right, second, penultimate))
    taps = [one + other + last, words.mask + one + other, two + one + other]
    return torch.stack(taps, 1) * words.mask[:, None, :]


class DAML(DocumentModel):
    r"""Dual attention mutual learning between ratings and reviews (Liu et al., KDD 2019).

    The document of a user or item is a sequence of words, see
    :class:`~recbole_drex.model.review_based.word_documents.WordDocuments`; :class:`WordEncoder` gives features
    :math:`z_j` of the :math:`n_u` words of the user's document and :math:`z_k` of the :math:`n_i` words of the item's.

    .. math::
        A_{jk} &= \frac{1}{1 + \|z_j - z_k\|_2}, \qquad
            m_j = \frac{1}{n_i} \sum_k A_{jk}, \qquad m_k = \frac{1}{n_u} \sum_j A_{jk} \\
        x &= [d_u; q_u; d_i; q_i], \qquad d \text{ of :class:`Abstraction`, with free embeddings } q \\
        f &= \tfrac{1}{2} \left((V^\top x)^2 - (V^2)^\top x^2\right) \in \mathbb{R}^k, \qquad
        \hat r_{ui} = w^\top x + h^\top \mathrm{ReLU}(H f + b) + b_u + b_i + \mu

    Unlike the paper: the review of the pair that is predicted is in neither document (``exclude_target_review``);
    windows stay within a review; padding takes no part; the sums over the words of the other document are divided by
    their number; :math:`b_u + b_i` are added. Every pair has its own attention, so predictions for all pairs take the
    time of as many pairs in training.

    Raises:
        DataError: the data set has no word features, or the word vectors cannot be read.
    """

    PARAMETERS = (
        Parameter("document_words", int, 80, "L: words of a user's or an item's document.", least=1),
        Parameter("latent_size", int, 32, "Width of a document's vector.", least=1),
        Parameter("embedding_size", int, 32, "Width of the free embeddings.", least=1),
        Parameter("factors", int, 32, "k: factors of the neural factorisation machine.", least=1),
        Parameter("init_std", float, 0.1, "Standard deviation of the free embeddings at the start.", least=0),
        Parameter("dropout", float, 0.5, "Dropout on the products of factors.", least=0, most=1),
        Parameter("reg_weight", float, 0.1, "L2 on the free embeddings of a batch.", least=0),
        *with_defaults(DocumentModel.PARAMETERS, review_words=20, filters=32, bias_reg_weight=0.1),
    )  # fmt: skip

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.reg_weight, self.bias_reg_weight = config["reg_weight"], config["bias_reg_weight"]
        latent, size, filters = config["latent_size"], config["embedding_size"], config["filters"]
        self.words = WordDocuments(
            self.documents, self.n_users, self.n_items, config["document_words"], gap=_LOCAL // 2
        )
        self.encoder = WordEncoder(self.vectors_of_words(config, dataset), filters)
        self.abstractions = nn.ModuleList([Abstraction(filters, latent) for _ in Side])
        self.embeddings = nn.ModuleList([nn.Embedding(n, size) for n in (self.n_users, self.n_items)])
        for weight in self.embeddings.parameters():
            nn.init.normal_(weight, std=config["init_std"])
        self.biases = self.biases_of(dataset)
        width, factors = 2 * (latent + size), config["factors"]
        self.linear = nn.Linear(width, 1, bias=False)
        self.factors = nn.Linear(width, factors, bias=False)
        self.hidden, self.output = nn.Linear(factors, factors), nn.Linear(factors, 1, bias=False)
        self.dropout = nn.Dropout(config["dropout"])
        nn.init.normal_(self.linear.weight, std=0.01)  # predictions start near the biases
        nn.init.normal_(self.output.weight, std=0.01)

    # Documents --------------------------------------------------------------------------------------------------

    def _read(self, positions: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Read the words at positions in the text.

        Returns:
            Their features (m, F), and the index in these of every position in the text, -1 for none.
        """
        needed = torch.zeros(len(self.words.text), dtype=torch.bool, device=self.words.text.device)
        for part in positions:
            needed[part] = True
        position = torch.nonzero(needed).flatten()
        slot = torch.full(needed.shape, -1, device=position.device)
        slot[position] = torch.arange(len(position), device=position.device)
        return self.encoder(self.words.text, position), slot

    def attend(self, documents: list[DocumentWords], features: torch.Tensor, slot: torch.Tensor) -> list[Attended]:
        """Features and weights of the words of users' and items' documents, (b, L) each."""
        if not len(features):
            features = features.new_zeros(1, features.shape[1])
        found = [
            features.index_select(0, slot[one.position].clamp(min=0).flatten()).view(*one.mask.shape, -1)
            for one in documents
        ]
        sums = mutual_attention(*found, *(one.mask for one in documents))
        others = [one.mask.sum(1, keepdim=True).clamp(min=1) for one in reversed(documents)]
        return [
            Attended(one, part, total / number)
            for one, part, total, number in zip(documents, found, sums, others, strict=True)
        ]

    def score_of(self, attended: list[Attended], user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Scores of pairs (b,) with the words of their documents."""
        vectors = []
        for side, (words, features, weight), entity in zip(Side, attended, (user, item), strict=True):
            vectors += [self.abstractions[side](features, weight, words), self.embeddings[side](entity)]
        x = torch.cat(vectors, 1)
        products = 0.5 * (self.factors(x).square() - x.square() @ self.factors.weight.T.square())
        deep = self.output(torch.relu(self.hidden(self.dropout(products))))
        return (self.linear(x) + deep).squeeze(-1) + self._biases(user, item) + self.mean

    def _documents(self, user: torch.Tensor, item: torch.Tensor, own: torch.Tensor) -> list[DocumentWords]:
        """Documents of users and items (b,) without their ``own`` reviews (b,), -1 for none."""
        return [self.words.of(side, entity, own) for side, entity in zip(Side, (user, item), strict=True)]

    # Training and prediction ------------------------------------------------------------------------------------

    def calculate_loss(self, interaction) -> torch.Tensor:
        user, item, rating = (interaction[name] for name in (self.USER_ID, self.ITEM_ID, self.rating_field))
        documents = self._documents(user, item, self.own_review(user, item))
        features, slot = self._read([one.position[one.mask.bool()] for one in documents])
        score = self.score_of(self.attend(documents, features, slot), user, item)
        free, bias = (mean_squares(tables, user, item) for tables in (self.embeddings, self.biases))
        return self.head.loss(score, user, rating) + self.reg_weight * free + self.bias_reg_weight * bias

    @torch.no_grad()
    def refresh(self) -> None:
        self._features, self._slot = self._read(self.words.positions())

    @torch.no_grad()
    def score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        self.make_ready()
        user, item = torch.broadcast_tensors(user, item)
        score = torch.zeros(user.numel(), device=user.device)
        for part in blocks_of(len(score), _PAIRS):
            users, items = user.reshape(-1)[part], item.reshape(-1)[part]
            documents = self._documents(users, items, self.own_review(users, items))
            attended = self.attend(documents, self._features, self._slot)
            score[part] = self.score_of(attended, users, items)
        return score.view(user.shape)

    # Explanations -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def documents_of(
        self, user: torch.Tensor, item: torch.Tensor, own: torch.Tensor
    ) -> tuple[list[DocumentWords], list[Attended]]:
        """The documents of one pair, (1,) each, without its ``own`` review (1,), -1 for none; and weights of words."""
        self.make_ready()
        documents = self._documents(user, item, own)
        return documents, self.attend(documents, self._features, self._slot)

    @torch.no_grad()
    def rating_of(self, documents: list[DocumentWords], user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Expected ratings (n,) of one pair, (1,) each, with other documents, n of each side."""
        ratings = []
        for part in blocks_of(len(documents[0].mask), _PAIRS):
            some = [DocumentWords(one.position[part], one.review[part], one.mask[part]) for one in documents]
            users, items = (entity.expand(len(some[0].mask)) for entity in (user, item))
            score = self.score_of(self.attend(some, self._features, self._slot), users, items)
            ratings.append(self.head.mean(score, users))
        return torch.cat(ratings) if ratings else torch.zeros(0, device=user.device)
