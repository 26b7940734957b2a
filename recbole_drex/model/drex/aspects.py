"""Aspects: what reviews mention, and the opinions they express about it."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.stop_words import GENERAL_WORDS
from recbole_drex.data.text.tokenizer import JUDGING_WORDS
from recbole_drex.model.layers.common import Side, residual_idf
from recbole_drex.model.layers.evidence_table import EvidenceTable, RatingColumns
from recbole_drex.model.layers.word_attention import ReadWords

WINDOW = 2  # neighbours on either side, in the same sentence, whose vectors give the sentiment of a word
_SHARPNESS = 15.0  # tau: inverse temperature of the assignment of lemmas to aspects
_LEMMAS = 3000  # lemmas that may belong to aspects: those that users repeat most
_REVIEWS, _USERS = 5, 3  # a lemma in fewer reviews, or of fewer users, belongs to no aspect
_NO_ASPECTS = JUDGING_WORDS | GENERAL_WORDS
_CANDIDATES = 6  # lemmas per aspect that the centres are initialised from
_ROUNDS = 20  # of k-means
_RIDGE = 0.0005  # penalty, per review, of the regression that initialises the sentiment
_START = 0.5  # initial standard deviation of the sentiments of lemmas, before tanh
_PSEUDO_COUNT = 3.0  # initial c_u and c_i
_SCALE = 3.0  # initial theta, in rating units: tastes sum to 1 and qualities lie between -1 and 1
_BLOCK_WORDS = 1 << 20  # read at a time when no gradient is needed


class Words(NamedTuple):
    """Words of n reviews, concatenated.

    Attributes:
        lemma: index of each word's lemma, as in :attr:`Aspects.lemma`, (k,).
        first: index of each review's first word, (n,).
        sentence: index of each word's sentence, ascending; no two reviews share one, (k,).
    """

    lemma: torch.Tensor
    first: torch.Tensor
    sentence: torch.Tensor


class Lexicon(NamedTuple):
    """What the words of a vocabulary say.

    Attributes:
        shares: importance times aspect probabilities of the lemmas that belong to aspects, (slots, A).
        sentiment: of all lemmas, (lemmas,).
    """

    shares: torch.Tensor
    sentiment: torch.Tensor


class _WindowSums(torch.autograd.Function):
    """Sums of each value and its neighbours, (k,), in place: autograd of slices would make a dozen copies of them all.

    Args:
        value: (k,).
        together: for each distance d from 1, 1 where two values at this distance are neighbours, else 0, (k - d,).
    """

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, *together: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*together)
        total = value.clone()
        for distance, same in enumerate(together, 1):
            total[distance:].addcmul_(value[:-distance], same)
            total[:-distance].addcmul_(value[distance:], same)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # Summed in autograd's order, so that every bit is the same.
        total = torch.zeros_like(gradient)
        for distance, same in reversed(list(enumerate(ctx.saved_tensors, 1))):
            total[distance:].addcmul_(gradient[:-distance], same)
            if distance == 1:
                total += gradient
            total[:-distance].addcmul_(gradient[distance:], same)
        return total, *[None] * len(ctx.saved_tensors)


class Aspects(nn.Module):
    r"""Mentions of and opinions about A aspects in reviews, and what they add to a score.

    Word k of a review is an occurrence of lemma :math:`w_k` with vector :math:`\phi_w` (centred, of length 1), and
    :math:`\bar\phi_k` is the mean of the vectors of k and its neighbours
    within two words in the same sentence.

    .. math::
        p(a \mid w) &= \mathrm{softmax}_a(\tau\, \phi_w^\top \mu_a / \|\mu_a\|), \qquad
        s_k = \tanh(\beta^\top \bar\phi_k + b) \\
        m_{sa} &= \textstyle\sum_{k \in s} \sigma(g_{w_k})\, p(a \mid w_k), \qquad
        q_{sa} = \textstyle\sum_{k \in s} \sigma(g_{w_k})\, p(a \mid w_k)\, s_k \\
        t_{ua} &= \frac{\sum_{s \in N(u)} m_{sa}}{\sum_{a'} \sum_{s \in N(u)} m_{sa'} + c_u}, \qquad
        z_{ia} = \frac{\sum_{s \in N(i)} q_{sa}}{\sum_{s \in N(i)} m_{sa} + c_i}, \qquad
        \textstyle\sum_a \theta_a t_{ua} z_{ia}

    The last sum is a part of the score of (u, i); N(u) and N(i) leave the review of the pair itself out. The centres
    :math:`\mu`, importances g, sentiment :math:`\beta`, b, pseudo-counts c and weights :math:`\theta > 0` are learned.
    In the paper's terms these are A attention heads that pool two values, 1 and :math:`s_k`.

    The centres are initialised by k-means of the lemmas that users repeat. g is initialised to the residual inverse
    document frequency over users: the log of the expected number of users of a lemma, if its occurrences were
    distributed at random, over the observed number. :math:`\beta` is initialised by a ridge regression of the ratings
    minus the user's mean on the reviews. Lemmas in fewer than 5 reviews or of fewer than 3 users, and general words,
    belong to no aspect.

    The gradient needs sums over all reviews, so it is computed only at some steps of an epoch, see
    :class:`~recbole_drex.model.drex.states.StateModel`.

    Args:
        store: word features.
        table: the evidence; only its reviews are read.
        n_aspects: A; fewer if there are fewer lemmas.
        rate: multiplies the learning rate of these parameters.
    """

    vectors: torch.Tensor
    lemma: torch.Tensor
    slot: torch.Tensor

    def __init__(self, store: FeatureStore, table: EvidenceTable, n_aspects: int, rate: float):
        super().__init__()
        self.store, self.rate = store, rate
        self._cached: tuple[Any, Lexicon] | None = None
        self._offsets = np.asarray(store.offsets, dtype=np.int64)
        review = table.review.numpy()
        rows = np.flatnonzero(review >= 0)
        counts = _LemmaCounts(self, review[rows], table.user.numpy()[rows], table.n_users, len(store.vocabulary))
        # Only the lemmas of these reviews are numbered, in the order of the vocabulary.
        known = np.flatnonzero(counts.reviews)
        number = np.full(len(store.vocabulary) + 1, len(known))  # the last index is for words outside these reviews
        number[known] = np.arange(len(known))
        self.known, self._reviews = known, counts.reviews[known]
        self.register_buffer("lemma", torch.from_numpy(number), persistent=False)
        vectors = _centred(_lemma_vectors(self, review[rows], known))
        vectors = torch.cat([vectors, torch.zeros(1, vectors.shape[1])])
        self.register_buffer("vectors", vectors, persistent=False)
        lift = torch.from_numpy(counts.lift()[known]).float()
        general = np.array([store.vocabulary[word] in _NO_ASPECTS for word in known.tolist()], dtype=bool)
        usable = (counts.reviews[known] >= _REVIEWS) & (counts.users[known] >= _USERS) & ~general
        usable = torch.from_numpy(np.flatnonzero(usable))
        # The total weight of a lemma's repetitions: rare names are repeated most, but say little.
        weight = lift * torch.from_numpy(counts.reviews[known])
        usable = usable[torch.argsort(weight[usable], descending=True, stable=True)][:_LEMMAS]
        # Few lemmas belong to aspects; all others share the last slot.
        slot = torch.full((len(known) + 1,), len(usable))
        slot[usable] = torch.arange(len(usable))
        self.counted = usable
        self.register_buffer("slot", slot, persistent=False)
        centres = _start_of_centres(vectors[usable], lift[usable], min(n_aspects, len(usable)))
        self._centres = nn.Parameter(centres / rate)
        self._importance = nn.Parameter(lift[usable] / rate)
        self._sentiment = nn.Parameter(self._start_of_sentiment(table, rows) / rate)
        self._shift = nn.Parameter(torch.zeros(()))
        self._weights = nn.Parameter(torch.zeros(len(centres)))  # log theta
        self._pseudo_counts = nn.Parameter(torch.full((2,), _PSEUDO_COUNT).log() / rate)

    def __len__(self) -> int:
        """Number of aspects."""
        return len(self._centres)

    # Reading ----------------------------------------------------------------------------------------------------

    def lexicon(self) -> Lexicon:
        """The lexicon by the current parameters."""
        centres = nn.functional.normalize(self.rate * self._centres, dim=1)
        shares = torch.softmax(_SHARPNESS * self.vectors[self.counted] @ centres.T, 1)
        importance = torch.sigmoid(self.rate * self._importance)
        return Lexicon(shares * importance[:, None], self.vectors @ (self.rate * self._sentiment))

    @torch.no_grad()
    def cached_lexicon(self) -> Lexicon:
        """As :meth:`lexicon`, without gradient; computed again only when the parameters have changed."""
        parameters = (self._centres, self._importance, self._sentiment)
        # An in-place change increments the version; any other change makes a new tensor.
        key = tuple((one.data_ptr(), one._version) for one in parameters)
        cached_key, lexicon = self._cached or (None, None)
        if lexicon is None or cached_key != key:
            lexicon = self.lexicon()
            self._cached = key, lexicon
        return lexicon

    def read(self, reviews: torch.Tensor) -> torch.Tensor:
        """Mentions, then opinions, of the reviews at rows (n,) of the store, each with at least one word: (n, 2 A)."""
        return self.pool(self.words(reviews.cpu().numpy()), self.lexicon())

    @torch.no_grad()
    def read_all(self, reviews: torch.Tensor) -> torch.Tensor:
        """As :meth:`read`, without gradient and in blocks."""
        lexicon = self.cached_lexicon()
        rows = reviews.cpu().numpy()
        parts = [self.pool(self.words(rows[block]), lexicon) for block in self.blocks(rows, _BLOCK_WORDS)]
        return torch.cat([*parts, self.vectors.new_empty(0, 2 * len(self))])

    def words(self, reviews: np.ndarray) -> Words:
        """The words of the reviews at rows (n,) of the store, concatenated."""
        first = self._offsets[reviews]
        length = self._offsets[reviews + 1] - first
        starts = np.cumsum(length) - length
        index = np.arange(length.sum()) + np.repeat(first - starts, length)
        device = self.vectors.device
        word = torch.from_numpy(np.asarray(self.store.word_ids[index], dtype=np.int64)).to(device)
        sentence = torch.from_numpy(np.cumsum(self.store.begins[index])).to(device)
        return Words(self.lemma[word], torch.from_numpy(starts).to(device), sentence)

    def blocks(self, reviews: np.ndarray, words: int) -> list[slice]:
        """Consecutive blocks of reviews with about as many words each."""
        ends = np.cumsum(self._offsets[reviews + 1] - self._offsets[reviews])
        cuts = np.flatnonzero(np.diff(ends // words, prepend=0))
        bounds = [0, *cuts.tolist(), len(reviews)]
        return [slice(a, b) for a, b in itertools.pairwise(bounds) if b > a]

    def pool(self, words: Words, lexicon: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Mentions, then opinions, of n reviews, (n, 2 A)."""
        shares, sentiment = lexicon
        if not len(self):
            return sentiment.new_zeros(len(words.first), 0)
        slot = self.slot[words.lemma]
        index = torch.nonzero(slot < len(shares)).flatten()
        sentiments = self.word_sentiments(words, sentiment)[index]
        first = torch.searchsorted(index, words.first)
        pooled = [
            nn.functional.embedding_bag(slot[index], shares, first, mode="sum", per_sample_weights=weight)
            for weight in (None, sentiments)
        ]
        return torch.cat(pooled, 1)

    def word_sentiments(self, words: Words, sentiment: torch.Tensor) -> torch.Tensor:
        """s of each word (k,), from the sentiments of lemmas; windows stay within a sentence."""
        value, sentence = sentiment[words.lemma], words.sentence
        distances = range(1, min(WINDOW, len(value) - 1) + 1)
        together = [(sentence[distance:] == sentence[:-distance]).to(value) for distance in distances]
        count = torch.ones_like(value)
        for distance, same in zip(distances, together, strict=True):
            count[distance:] += same
            count[:-distance] += same
        total = _WindowSums.apply(value, *together)
        return torch.tanh(total / count + self._shift)

    @torch.no_grad()
    def occurrences(self, reviews: torch.Tensor) -> ReadWords:
        """Aspect, importance and sentiment of every word of the reviews at rows (n,) of the store, concatenated."""
        shares, sentiment = self.cached_lexicon()
        none = self.vectors.new_zeros(1)
        aspect = torch.cat([shares.argmax(1) if len(self) else none[:0].long(), none.long() - 1])
        importance = torch.cat([torch.sigmoid(self.rate * self._importance), none])
        rows, result = reviews.cpu().numpy(), []
        for block in self.blocks(rows, _BLOCK_WORDS):
            words = self.words(rows[block])
            slot = self.slot[words.lemma]
            result.append((aspect[slot], importance[slot], self.word_sentiments(words, sentiment)))
        columns = zip(*result, strict=True) if result else [[torch.zeros(0)]] * 3
        return ReadWords(*(torch.cat(list(column)).cpu().numpy() for column in columns))

    @property
    def names(self) -> list[list[str]]:
        """The ten lemmas of each aspect with the largest importance times probability times frequency, descending."""
        with torch.no_grad():
            reviews = torch.from_numpy(self._reviews[self.counted.numpy()])
            weight = self.lexicon().shares * reviews.to(self.vectors)[:, None]
        best = torch.argsort(weight, dim=0, descending=True, stable=True)[:10].T.cpu()
        return [[self.store.vocabulary[k] for k in self.known[self.counted[lemmas].numpy()]] for lemmas in best]

    # Before training --------------------------------------------------------------------------------------------

    def _start_of_sentiment(self, table: EvidenceTable, rows: np.ndarray) -> torch.Tensor:
        """beta: a scaled ridge regression of the ratings minus the user's mean on the mean vectors of the reviews."""
        width = self.vectors.shape[1]
        product, target, n = torch.zeros(width, width), torch.zeros(width), 0
        rows = rows[table.rated.numpy()[rows]]
        review = table.review.numpy()[rows]
        for block in self.blocks(review, _BLOCK_WORDS):
            words = self.words(review[block])
            x = nn.functional.embedding_bag(words.lemma, self.vectors, words.first, mode="mean")
            y = RatingColumns.of(table.ratings[rows[block]]).adjusted[Side.ITEM].squeeze(1)
            product, target, n = product + x.T @ x, target + x.T @ y, n + len(x)
        if not n:
            return target
        result = torch.linalg.solve(product + (1 + _RIDGE * n) * torch.eye(width), target)
        sentiment = self.vectors[:-1] @ result
        spread = float(sentiment.std()) if len(sentiment) > 1 else 0.0
        return result * (_START / spread) if spread > 0 else result

    # The score --------------------------------------------------------------------------------------------------

    def tastes(self, mentions: torch.Tensor) -> torch.Tensor:
        """t from sums of mentions (..., A): (..., A)."""
        mentions = mentions.clamp(min=0)  # the difference of equal sums may be slightly negative
        return mentions / (mentions.sum(-1, keepdim=True) + (self.rate * self._pseudo_counts[Side.USER]).exp())

    def qualities(self, mentions: torch.Tensor, opinions: torch.Tensor) -> torch.Tensor:
        """z from sums of mentions and opinions (..., A): (..., A)."""
        return opinions / (mentions.clamp(min=0) + (self.rate * self._pseudo_counts[Side.ITEM]).exp())

    def parts(self, tastes: torch.Tensor, qualities: torch.Tensor) -> torch.Tensor:
        """What each aspect adds to the score, (..., A)."""
        return _SCALE * (self.rate * self._weights).exp() * tastes * qualities


class _LemmaCounts:
    """Number of reviews and of users of each lemma.

    Attributes:
        reviews, users: the counts, (lemmas of the vocabulary,).
    """

    def __init__(self, aspects: Aspects, review: np.ndarray, user: np.ndarray, n_users: int, n_lemmas: int):
        self.reviews, pairs = np.zeros(n_lemmas, dtype=np.int64), [np.zeros(0, dtype=np.int64)]
        for block in aspects.blocks(review, _BLOCK_WORDS):
            first = aspects.store.offsets[review[block]].astype(np.int64)
            length = aspects.store.offsets[review[block] + 1].astype(np.int64) - first
            index = np.arange(length.sum()) + np.repeat(first - (np.cumsum(length) - length), length)
            word = aspects.store.word_ids[index].astype(np.int64)
            result = _distinct(np.repeat(np.arange(len(length)), length) * n_lemmas + word)
            self.reviews += np.bincount(result % n_lemmas, minlength=n_lemmas)
            pairs.append(_distinct(user[block][result // n_lemmas] * n_lemmas + result % n_lemmas))
        self.users = np.bincount(_distinct(np.concatenate(pairs)) % max(1, n_lemmas), minlength=n_lemmas)
        self.of_user = np.bincount(user, minlength=n_users)

    def lift(self) -> np.ndarray:
        """:func:`residual_idf` of each lemma."""
        return residual_idf(self.reviews, self.users, self.of_user)


def _distinct(keys: np.ndarray) -> np.ndarray:
    """Distinct non-negative integers, ascending; ``np.unique`` is ten times slower since NumPy 2.3."""
    keys = np.sort(keys)
    return keys[np.diff(keys, prepend=-1) > 0]


def _lemma_vectors(aspects: Aspects, review: np.ndarray, known: np.ndarray) -> torch.Tensor:
    """The vectors of the ``known`` lemmas: static, or the mean of a lemma's occurrences in these reviews."""
    store = aspects.store
    if store.static:
        return store.read_lemmas(known)
    number = np.zeros(len(store.vocabulary), dtype=np.int64)
    number[known] = np.arange(len(known))
    total, count = torch.zeros(len(known), store.width), torch.zeros(len(known), 1)
    for block in aspects.blocks(review, 1 << 15):
        first, length = store.offsets[review[block]], np.diff(store.offsets)[review[block]]
        index = np.arange(length.sum()) + np.repeat(first - (np.cumsum(length) - length), length)
        word = torch.from_numpy(number[store.word_ids[index]])
        total.index_add_(0, word, store.read(index))
        count.index_add_(0, word, torch.ones(len(word), 1))
    return total / count


def _centred(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors minus their mean, of length 1."""
    return nn.functional.normalize(vectors - vectors.mean(0), dim=1) if len(vectors) else vectors


def _start_of_centres(vectors: torch.Tensor, lift: torch.Tensor, n: int) -> torch.Tensor:
    """Spherical k-means of the lemmas that users repeat most, which come first: (n, width).

    It is initialised by farthest-first traversal from the first lemma.
    """
    vectors = vectors[: max(_CANDIDATES * n, round(0.3 * len(vectors)))]
    weight = lift[: len(vectors), None].clamp(min=0.05)
    centres = vectors[:1]
    while len(centres) < n:
        centres = torch.cat([centres, vectors[(vectors @ centres.T).amax(1).argmin()][None]])
    for _ in range(_ROUNDS if n else 0):
        nearest = (vectors @ centres.T).argmax(1)
        total = torch.zeros_like(centres).index_add_(0, nearest, vectors * weight)
        centres = nn.functional.normalize(total + 1e-6 * centres, dim=1)
    return centres[:n]
