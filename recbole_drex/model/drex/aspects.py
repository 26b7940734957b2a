"""Aspects: what a review talks about, apart from what it says of it."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.stop_words import GENERAL_WORDS
from recbole_drex.data.text.tokenizer import JUDGING_WORDS
from recbole_drex.model.layers.common import Side
from recbole_drex.model.layers.evidence_table import EvidenceTable, RatingColumns
from recbole_drex.model.layers.word_attention import ReadWords

WINDOW = 2  # neighbours on either side, in the same sentence, whose vectors say what is said of a word
_SHARPNESS = 15.0  # tau: how much nearer than others the nearest aspect must be to have a lemma to itself
_LEMMAS = 3000  # lemmas that may belong to aspects, those whose repetitions by users weigh most
_REVIEWS, _USERS = 5, 3  # a lemma in fewer reviews, or of fewer users, belongs to none
_NO_ASPECTS = JUDGING_WORDS | GENERAL_WORDS
_CANDIDATES = 6  # lemmas per aspect that the centres start from
_ROUNDS = 20  # of k-means
_RIDGE = 0.0005  # of the regression that sentiment starts from, per review
_START = 0.5  # standard deviation of the sentiments of lemmas before training, before tanh
_PSEUDO_COUNT = 3.0  # where c_u and c_i start
_SCALE = 3.0  # where theta starts, in rating units: tastes sum to 1 and qualities lie between -1 and 1
_BLOCK_WORDS = 1 << 20  # read at a time where no gradient is wanted


class Words(NamedTuple):
    """Words of n reviews, one after the other.

    Attributes:
        lemma: numbers of the lemmas, as :attr:`Aspects.lemma` numbers them, (k,).
        first: where the words of each review begin, (n,).
        sentence: number of the sentence of each, ascending; no two reviews share one, (k,).
    """

    lemma: torch.Tensor
    first: torch.Tensor
    sentence: torch.Tensor


class Aspects(nn.Module):
    r"""Mentions and opinions of A aspects in reviews, and what they add to a score.

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

    Centres start from k-means of the lemmas that users repeat: g starts at the logarithm of how few users share the
    occurrences of a lemma, against what chance would give (residual inverse document frequency over users).
    :math:`\beta` starts from a ridge regression of ratings minus the user's mean on reviews. Lemmas in fewer than 5
    reviews or of fewer than 3 users, and words that may be in any review, belong to no aspect.

    Training needs the gradient of sums over all reviews, so it is computed at some steps of an epoch only, see
    :class:`~recbole_drex.model.drex.states.StateModel`.

    Args:
        store: word features.
        table: the evidence; only its reviews are read.
        n_aspects: A, or fewer if fewer lemmas are there.
        rate: how much faster than other parameters these learn.
    """

    vectors: torch.Tensor
    lemma: torch.Tensor
    slot: torch.Tensor

    def __init__(self, store: FeatureStore, table: EvidenceTable, n_aspects: int, rate: float):
        super().__init__()
        self.store, self.rate = store, rate
        self._remembered: tuple[Any, tuple[torch.Tensor, torch.Tensor]] | None = None
        self._offsets = np.asarray(store.offsets, dtype=np.int64)
        review = table.review.numpy()
        rows = np.flatnonzero(review >= 0)
        counts = _LemmaCounts(self, review[rows], table.user.numpy()[rows], table.n_users, len(store.vocabulary))
        # Numbered by the lemmas of these reviews alone, in the order of the vocabulary.
        known = np.flatnonzero(counts.reviews)
        number = np.full(len(store.vocabulary) + 1, len(known))  # one more for words that no review has
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
        # What the repetitions of a lemma come to in all: rare names are repeated most, but say little.
        weight = lift * torch.from_numpy(counts.reviews[known])
        usable = usable[torch.argsort(weight[usable], descending=True, stable=True)][:_LEMMAS]
        # Few lemmas belong to aspects; all others share the slot behind the last of these.
        slot = torch.full((len(known) + 1,), len(usable))
        slot[usable] = torch.arange(len(usable))
        self.counted = usable
        self.register_buffer("slot", slot, persistent=False)
        centres = _start_of_centres(vectors[usable], lift[usable], min(n_aspects, len(usable)))
        self._centres = nn.Parameter(centres / rate)
        self._importance = nn.Parameter(lift[usable] / rate)
        self._sentiment = nn.Parameter(self._start_of_sentiment(table, rows) / rate)
        self._shift = nn.Parameter(torch.zeros(()))
        self._weights = nn.Parameter(torch.zeros(len(centres)))  # the logarithms of theta
        self._pseudo_counts = nn.Parameter(torch.full((2,), _PSEUDO_COUNT).log() / rate)

    def __len__(self) -> int:
        """Number of aspects."""
        return len(self._centres)

    # Reading ----------------------------------------------------------------------------------------------------

    def lexicon(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each lemma that counts its shares of the aspects times its importance, (slots, A), and of each lemma its
        sentiment, (lemmas,)."""
        centres = nn.functional.normalize(self.rate * self._centres, dim=1)
        shares = torch.softmax(_SHARPNESS * self.vectors[self.counted] @ centres.T, 1)
        importance = torch.sigmoid(self.rate * self._importance)
        return shares * importance[:, None], self.vectors @ (self.rate * self._sentiment)

    @torch.no_grad()
    def remembered_lexicon(self) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`lexicon`, without a gradient and computed once for the same parameters."""
        parameters = (self._centres, self._importance, self._sentiment)
        # In-place changes raise the version, and others give another tensor.
        key = tuple((one.data_ptr(), one._version) for one in parameters)
        if self._remembered is None or self._remembered[0] != key:
            self._remembered = key, self.lexicon()
        return self._remembered[1]

    def read(self, reviews: torch.Tensor) -> torch.Tensor:
        """Mentions, then opinions, of reviews at rows of the store (n,), each with a word or more: (n, 2 A)."""
        return self.pool(self.words(reviews.cpu().numpy()), self.lexicon())

    @torch.no_grad()
    def read_all(self, reviews: torch.Tensor) -> torch.Tensor:
        """As :meth:`read`, without a gradient and some reviews at a time."""
        lexicon = self.remembered_lexicon()
        rows = reviews.cpu().numpy()
        parts = [self.pool(self.words(rows[block]), lexicon) for block in self.blocks(rows, _BLOCK_WORDS)]
        return torch.cat([*parts, self.vectors.new_empty(0, 2 * len(self))])

    def words(self, reviews: np.ndarray) -> Words:
        """The words of reviews at rows of the store (n,), one after the other."""
        first = self._offsets[reviews]
        length = self._offsets[reviews + 1] - first
        starts = np.cumsum(length) - length
        place = np.arange(length.sum()) + np.repeat(first - starts, length)
        device = self.vectors.device
        word = torch.from_numpy(np.asarray(self.store.word_ids[place], dtype=np.int64)).to(device)
        sentence = torch.from_numpy(np.cumsum(self.store.begins[place])).to(device)
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
        place = torch.nonzero(slot < len(shares)).flatten()
        said = self.said(words, sentiment)[place]
        first = torch.searchsorted(place, words.first)
        pooled = [
            nn.functional.embedding_bag(slot[place], shares, first, mode="sum", per_sample_weights=weight)
            for weight in (None, said)
        ]
        return torch.cat(pooled, 1)

    def said(self, words: Words, sentiment: torch.Tensor) -> torch.Tensor:
        """s of each word (k,), given the sentiments of lemmas; windows stay within a sentence."""
        value, sentence = sentiment[words.lemma], words.sentence
        total, count = value, torch.ones_like(value)
        for distance in range(1, min(WINDOW, len(value) - 1) + 1):
            together = (sentence[distance:] == sentence[:-distance]).to(value)
            before = nn.functional.pad(together, (distance, 0))
            after = nn.functional.pad(together, (0, distance))
            total = total + nn.functional.pad(value[:-distance], (distance, 0)) * before
            total = total + nn.functional.pad(value[distance:], (0, distance)) * after
            count = count + before + after
        return torch.tanh(total / count + self._shift)

    @torch.no_grad()
    def occurrences(self, reviews: torch.Tensor) -> ReadWords:
        """What every word of reviews at rows of the store (n,) is read as, one after the other."""
        shares, sentiment = self.remembered_lexicon()
        none = self.vectors.new_zeros(1)
        aspect = torch.cat([shares.argmax(1) if len(self) else none[:0].long(), none.long() - 1])
        importance = torch.cat([torch.sigmoid(self.rate * self._importance), none])
        rows, found = reviews.cpu().numpy(), []
        for block in self.blocks(rows, _BLOCK_WORDS):
            words = self.words(rows[block])
            slot = self.slot[words.lemma]
            found.append((aspect[slot], importance[slot], self.said(words, sentiment)))
        columns = zip(*found, strict=True) if found else [[torch.zeros(0)]] * 3
        return ReadWords(*(torch.cat(list(column)).cpu().numpy() for column in columns))

    @property
    def names(self) -> list[list[str]]:
        """The lemmas of each aspect that weigh most, by falling weight: importance, share and frequency together."""
        with torch.no_grad():
            reviews = torch.from_numpy(self._reviews[self.counted.numpy()])
            weight = self.lexicon()[0] * reviews.to(self.vectors)[:, None]
        best = torch.argsort(weight, dim=0, descending=True, stable=True)[:10].T.cpu()
        return [[self.store.vocabulary[k] for k in self.known[self.counted[lemmas].numpy()]] for lemmas in best]

    # Before training --------------------------------------------------------------------------------------------

    def _start_of_sentiment(self, table: EvidenceTable, rows: np.ndarray) -> torch.Tensor:
        """beta of a ridge regression of ratings minus the user's mean on the mean vectors of reviews, scaled."""
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
        found = torch.linalg.solve(product + (1 + _RIDGE * n) * torch.eye(width), target)
        sentiment = self.vectors[:-1] @ found
        spread = float(sentiment.std()) if len(sentiment) > 1 else 0.0
        return found * (_START / spread) if spread > 0 else found

    # The score --------------------------------------------------------------------------------------------------

    def tastes(self, mentions: torch.Tensor) -> torch.Tensor:
        """t from sums of mentions (..., A): (..., A)."""
        mentions = mentions.clamp(min=0)  # a difference of equal sums may be rounded below
        return mentions / (mentions.sum(-1, keepdim=True) + (self.rate * self._pseudo_counts[0]).exp())

    def qualities(self, mentions: torch.Tensor, opinions: torch.Tensor) -> torch.Tensor:
        """z from sums of mentions and opinions (..., A): (..., A)."""
        return opinions / (mentions.clamp(min=0) + (self.rate * self._pseudo_counts[1]).exp())

    def parts(self, tastes: torch.Tensor, qualities: torch.Tensor) -> torch.Tensor:
        """What each aspect adds to the score, (..., A)."""
        return _SCALE * (self.rate * self._weights).exp() * tastes * qualities


class _LemmaCounts:
    """In how many reviews lemmas stand, and of how many users.

    Attributes:
        reviews, users: of each lemma of the vocabulary, (lemmas,).
    """

    def __init__(self, aspects: Aspects, review: np.ndarray, user: np.ndarray, n_users: int, n_lemmas: int):
        self.reviews, pairs = np.zeros(n_lemmas, dtype=np.int64), [np.zeros(0, dtype=np.int64)]
        for block in aspects.blocks(review, _BLOCK_WORDS):
            first = aspects.store.offsets[review[block]].astype(np.int64)
            length = aspects.store.offsets[review[block] + 1].astype(np.int64) - first
            place = np.arange(length.sum()) + np.repeat(first - (np.cumsum(length) - length), length)
            word = aspects.store.word_ids[place].astype(np.int64)
            found = _distinct(np.repeat(np.arange(len(length)), length) * n_lemmas + word)
            self.reviews += np.bincount(found % n_lemmas, minlength=n_lemmas)
            pairs.append(_distinct(user[block][found // n_lemmas] * n_lemmas + found % n_lemmas))
        self.users = np.bincount(_distinct(np.concatenate(pairs)) % max(1, n_lemmas), minlength=n_lemmas)
        self.of_user = np.bincount(user, minlength=n_users)

    def lift(self) -> np.ndarray:
        """Logarithm of the number of users that chance would give a lemma's reviews, over the number it has."""
        share = self.reviews / max(1, self.of_user.sum())
        expected = np.zeros(len(share))
        for size, users in zip(*np.unique(self.of_user[self.of_user > 0], return_counts=True), strict=True):
            expected += users * (1 - (1 - share) ** int(size))
        return np.log(np.maximum(expected, 1e-12) / np.maximum(self.users, 1))


def _distinct(keys: np.ndarray) -> np.ndarray:
    """Distinct numbers, none below 0, ascending; NumPy's own way takes ten times as long since version 2.3."""
    keys = np.sort(keys)
    return keys[np.diff(keys, prepend=-1) > 0]


def _lemma_vectors(aspects: Aspects, review: np.ndarray, known: np.ndarray) -> torch.Tensor:
    """The vector of each of the ``known`` lemmas: from the table, or the mean over these reviews of its occurrences."""
    store = aspects.store
    if store.static:
        return store.read_lemmas(known)
    number = np.zeros(len(store.vocabulary), dtype=np.int64)
    number[known] = np.arange(len(known))
    total, count = torch.zeros(len(known), store.width), torch.zeros(len(known), 1)
    for block in aspects.blocks(review, 1 << 15):
        first, length = store.offsets[review[block]], np.diff(store.offsets)[review[block]]
        place = np.arange(length.sum()) + np.repeat(first - (np.cumsum(length) - length), length)
        word = torch.from_numpy(number[store.word_ids[place]])
        total.index_add_(0, word, store.read(place))
        count.index_add_(0, word, torch.ones(len(word), 1))
    return total / count


def _centred(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors minus their mean, of length 1."""
    return nn.functional.normalize(vectors - vectors.mean(0), dim=1) if len(vectors) else vectors


def _start_of_centres(vectors: torch.Tensor, lift: torch.Tensor, n: int) -> torch.Tensor:
    """Spherical k-means of the lemmas that users repeat most, which come first: (n, width).

    It starts from the first lemma and then, again and again, the one that is furthest from all chosen before.
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
