"""HFT: factors that also explain the words of reviews, so that each factor is a topic."""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex.config.parameters import Parameter, with_defaults
from recbole_drex.model.factorization.biasedmf import BiasedMF
from recbole_drex.model.layers.common import Side
from recbole_drex.model.layers.review_check import require_words
from recbole_drex.model.review_based.bags import ReviewBags
from recbole_drex.model.review_based.documents import Documents

_SMALLEST = 1e-30  # of a probability whose logarithm is taken


class HFT(BiasedMF):
    r"""Hidden factors as topics (McAuley and Leskovec, RecSys 2013).

    Ratings as in :class:`~recbole_drex.model.factorization.biasedmf.BiasedMF`. The factors of an item also generate the
    words of its reviews: factor k is a topic, with

    .. math::
        \theta_{ik} &= \frac{\exp(\kappa q_{ik})}{\sum_{k'} \exp(\kappa q_{ik'})}, \qquad
        \phi_{kw} = \frac{\exp(\beta_w + \psi_{kw})}{\sum_{w'} \exp(\beta_{w'} + \psi_{kw'})} && \text{eq. 4} \\
        L &= L_{\mathrm{BiasedMF}} - \frac{\lambda}{|B|}
            \sum_{(u,i) \in B} \; \sum_{w \in d_{ui}} \log \sum_k \theta_{ik} \phi_{kw} && \text{eq. 5, 6}

    :math:`d_{ui}` are the words of u's review of i, :math:`\beta_w` the logarithm of the word's frequency in all
    training reviews; :math:`\kappa` and :math:`\psi` are learned. With :math:`\lambda = 0` this is BiasedMF.

    Unlike the paper: topics of words are not sampled, their likelihood is summed over all topics; everything is learned
    by Adam in batches of ratings, in place of alternating L-BFGS and sampling.

    Reviews are targets of training, never an input of a prediction.

    Raises:
        DataError: no review has words, or their features are missing.
    """

    PARAMETERS = (
        Parameter("lambda_text", float, 0.05, "lambda: weight of the log-likelihood of a word.", least=0),
        Parameter(
            "topics_of", str, "item", "Whose factors are topics: those of items, or of users.",
            choices=("item", "user"),
        ),
        Parameter("kappa", float, 1.0, "Value of kappa at the start."),
        Parameter("vocabulary_size", int, 8000, "Words that are read, the most frequent.", least=1),
        Parameter("review_words", int, 300, "Words of a review that are read; what is longer is cut.", least=1),
        *with_defaults(BiasedMF.PARAMETERS, embedding_size=32),
    )  # fmt: skip

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.lambda_text = config["lambda_text"]
        evidence = dataset.evidence()
        require_words(config, dataset, evidence)
        documents = Documents(
            evidence, dataset.features(), self.n_users, self.n_items, max_reviews=1, review_words=config["review_words"]
        )
        feat, side = dataset.inter_feat, Side[config["topics_of"].upper()]
        self.bags = ReviewBags(documents, feat[self.USER_ID], feat[self.ITEM_ID], side, config["vocabulary_size"])
        self.kappa = nn.Parameter(torch.tensor(float(config["kappa"])))
        # Random numbers of its own, so that all others are those of BiasedMF.
        generator = torch.Generator().manual_seed(config["seed"])
        psi = 0.1 * torch.randn(config["embedding_size"], len(self.bags.vocabulary), generator=generator)
        self.psi = nn.Parameter(psi)

    def topic_shares(self, entity: torch.Tensor) -> torch.Tensor:
        """theta of items, or of users if ``topics_of`` is ``user``, (b,): (b, topics)."""
        factors = (self.user_factors, self.item_factors)[self.bags.side]
        return torch.softmax(self.kappa * factors(entity), -1)

    def word_shares(self) -> torch.Tensor:
        """phi, (topics, words)."""
        return torch.softmax(self.bags.frequency.log() + self.psi, -1)

    def log_likelihood(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Log-likelihood of the words that training ratings (b,) carry: (b,)."""
        owner, word, count = self.bags.of(user, item)
        topics = self.topic_shares((user, item)[self.bags.side])
        probability = (topics.index_select(0, owner) * self.word_shares().T.index_select(0, word)).sum(-1)
        of_words = count * torch.log(probability.clamp(min=_SMALLEST))
        return torch.zeros(len(user), device=user.device).index_add(0, owner, of_words)

    def calculate_loss(self, interaction) -> torch.Tensor:
        loss = super().calculate_loss(interaction)
        if not self.lambda_text:
            return loss
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        return loss - self.lambda_text * self.log_likelihood(user, item).mean()

    @torch.no_grad()
    def topics(self, n: int = 10) -> list[list[str]]:
        r"""The ``n`` words that distinguish each topic most from the mean of all topics: those with the largest
        :math:`\phi_{kw} \log (\phi_{kw} / \bar\phi_w)`, of which the divergence of the topic is the sum."""
        phi = self.word_shares()
        distinct = phi * torch.log(phi.clamp(min=_SMALLEST) / phi.mean(0).clamp(min=_SMALLEST))
        return [[self.bags.vocabulary[word] for word in row.topk(min(n, len(row))).indices] for row in distinct]
