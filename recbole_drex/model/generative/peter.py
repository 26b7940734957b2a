"""PETER: a transformer that reads the ids of a user and an item, and predicts the rating and a sentence."""

from __future__ import annotations

import math

import torch
from torch import nn

from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter
from recbole_drex.errors import ConfigError
from recbole_drex.model.generative.sentence_model import SentenceModel
from recbole_drex.model.pesi.sentence_data import END, FEWEST, PAD, UNKNOWN

_START = 0.1  # embeddings are initialised uniformly in [-0.1, 0.1]
_IDS = 2  # user and item stand before the words


def blocked(length: int) -> torch.Tensor:
    """Mask of the attention, true where a position (row) may not see another one, (length, length).

    A position sees itself and those before it; the user, at position 0, sees the item at position 1, too.

    Example:
        >>> blocked(3).int().tolist()
        [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
    """
    mask = torch.ones(length, length, dtype=torch.bool).triu(1)
    mask[:1, :_IDS] = False
    return mask


def positions(length: int, width: int) -> torch.Tensor:
    """Sine and cosine codes of positions (Vaswani et al., NeurIPS 2017, section 3.5), (length, width).

    Example:
        >>> [round(x, 6) for x in positions(2, 4)[1].tolist()]
        [0.841471, 0.540302, 0.01, 0.99995]
    """
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[:, :width]


class PETER(SentenceModel):
    r"""PETER, personalized transformer for explainable recommendation (Li, Zhang and Chen, ACL 2021).

    The sequence is user, item, start, words :math:`w_1 \dots w_n`. Each has an embedding of d numbers, multiplied by
    :math:`\sqrt d`, plus the code of its position. Two layers of a transformer encoder give :math:`h_0, h_1, \dots`. A
    position attends to itself and to those before it; the user attends to the item, too. With a sentence of n targets
    (words and end):

    .. math::
        f_{ui} &= \mu + b_u + b_i + v^\top \sigma(W h_0 + g) && \text{rating} \\
        L_c &= -\tfrac1n \textstyle\sum_t \log \mathrm{softmax}(O h_1 + o)_{w_t} && \text{context, without order} \\
        L_t &= -\tfrac1n \textstyle\sum_t \log \mathrm{softmax}(O h_{t+1} + o)_{w_t} && \text{next word} \\
        L &= \lambda_r \big(\ell(r_{ui}, f_{ui}) + \lambda_b (b_u^2 + b_i^2)\big) + \lambda_c L_c + \lambda_t L_t

    Unlike the paper: the mean and biases of users and items are added to the rating; d is 128, not 512, for small data;
    Adam in place of SGD; the target is the sentence of a review with the highest keyword score, where the paper
    extracts sentences by a tool; no feature is given (in the paper's PETER+ it is that of the test sentence). Unknown
    words are inputs but never targets. Sentences are decoded greedily, with at least three words.

    Raises:
        DataError: no review of the training part has words, or the data set has no review texts.
    """

    PARAMETERS = (
        Parameter("embedding_size", int, 128, "d: width of the transformer; a multiple of n_heads.", least=2),
        Parameter("n_heads", int, 2, "Heads of the attention.", least=1),
        Parameter("n_layers", int, 2, "Layers of the transformer.", least=1),
        Parameter("inner_size", int, 512, "Width inside the feed-forward part of a layer.", least=1),
        Parameter("dropout", float, 0.2, "Dropout in the transformer.", least=0, most=1),
        Parameter("vocabulary_size", int, 3000, "The most frequent words of the training reviews.", least=1),
        Parameter("text_weight", float, 1.0, "lambda_t: weight of the next-word loss.", least=0),
        Parameter("context_weight", float, 1.0, "lambda_c: weight of the context loss.", least=0),
        *SentenceModel.PARAMETERS,
        general("learning_rate", 0.001),
    )  # fmt: skip

    codes: torch.Tensor
    mask: torch.Tensor

    def __init__(self, config, dataset):
        size, heads = config["embedding_size"], config["n_heads"]
        if size % heads:
            raise ConfigError(f"parameter 'embedding_size' ({size}) of PETER must be a multiple of 'n_heads' ({heads})")
        super().__init__(config, dataset, config["vocabulary_size"])
        self.text_weight, self.context_weight = config["text_weight"], config["context_weight"]
        words = len(self.sentences.vocabulary)
        self.user, self.item = nn.Embedding(self.n_users, size), nn.Embedding(self.n_items, size)
        self.word = nn.Embedding(words, size)
        options = {"dropout": config["dropout"], "batch_first": True}
        encoder = nn.TransformerEncoderLayer(size, heads, config["inner_size"], **options)
        self.encoder = nn.TransformerEncoder(encoder, config["n_layers"], enable_nested_tensor=False)
        self.dropout = nn.Dropout(config["dropout"])
        linear = [nn.Linear(size, size), nn.Linear(size, 1)]
        self.rating = nn.Sequential(linear[0], nn.Sigmoid(), linear[1])
        self.output = nn.Linear(size, words)
        tables = [table.weight for table in (self.user, self.item, self.word)]
        for weight in (*tables, *(layer.weight for layer in (*linear, self.output))):
            nn.init.uniform_(weight, -_START, _START)
        for layer in (*linear, self.output):
            nn.init.zeros_(layer.bias)
        longest = _IDS + self.sentences.longest + 1
        self.register_buffer("codes", positions(longest, size), persistent=False)
        self.register_buffer("mask", blocked(longest), persistent=False)

    def hidden(self, user: torch.Tensor, item: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """h of pairs (b,) and words (b, n), the start included: (b, 2 + n, d)."""
        tokens = torch.cat([self.user(user)[:, None], self.item(item)[:, None], self.word(words)], 1)
        n = tokens.shape[1]
        tokens = self.dropout(tokens * math.sqrt(tokens.shape[2]) + self.codes[:n])
        return self.encoder(tokens, mask=self.mask[:n, :n])

    def _rating(self, first: torch.Tensor) -> torch.Tensor:
        return self.rating(first).squeeze(-1)

    def pair_score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        # User and item see each other alone, so the words after them change nothing.
        return self._rating(self.hidden(user, item, user.new_empty(len(user), 0))[:, 0])

    def losses(self, user: torch.Tensor, item: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        words = self.sentences.words[own] if len(self.sentences.words) else own.new_full((len(own), 2), PAD)
        words = torch.where(own[:, None] >= 0, words, PAD)
        read, written = words[:, :-1], words[:, 1:]
        used = int((written != PAD).any(0).sum())
        hidden = self.hidden(user, item, read[:, :used])
        line, index = torch.nonzero((written != PAD) & (written != UNKNOWN), as_tuple=True)
        target, n = written[line, index], torch.bincount(line, minlength=len(user)).clamp(min=1)
        context = torch.log_softmax(self.output(hidden[:, 1]), 1)[line, target]
        text = nn.functional.cross_entropy(self.output(hidden[line, _IDS + index]), target, reduction="none")
        each = self.text_weight * text - self.context_weight * context
        total = torch.zeros(len(user), device=user.device).index_add(0, line, each)
        return self._rating(hidden[:, 0]), total / n

    def write(self, user: torch.Tensor, item: torch.Tensor) -> list[str]:
        line = torch.full((len(user), 1), END, device=user.device)
        for length in range(self.sentences.longest):
            logits = self.output(self.hidden(user, item, line)[:, -1])
            logits[:, [PAD, UNKNOWN]] = -torch.inf
            if length < FEWEST:
                logits[:, END] = -torch.inf
            done = (line[:, -1] == PAD) | ((line[:, -1] == END) & (length > 0))
            line = torch.cat([line, torch.where(done, PAD, logits.argmax(1))[:, None]], 1)
        return [self.sentences.join(numbers) for numbers in line[:, 1:].tolist()]
