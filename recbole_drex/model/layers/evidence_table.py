"""Interactions as rows of numbers that can be summed: the input of DReX's messages.

Once the words of a review are pooled, a message is linear in these numbers. So the sum of a user's messages is the
message of the sum of the rows, and leaving one interaction out is a subtraction.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import torch
from torch import nn

from recbole_drex.data.dataset import Evidence
from recbole_drex.errors import DataError
from recbole_drex.model.layers.common import BLOCK_ROWS, Side, damped_mean, sums_of_blocks
from recbole_drex.model.layers.review_check import with_words
from recbole_drex.model.layers.word_attention import WordAttention
from recbole_drex.parallel import collectives
from recbole_drex.utils.temporary_arrays import scratch_array


@dataclasses.dataclass(frozen=True)
class Modality:
    """Columns of one modality in a row: its vector, then one column that is 1 if the modality is present."""

    name: str
    start: int
    width: int

    @property
    def vector(self) -> slice:
        """Columns of the vector."""
        return slice(self.start, self.start + self.width)

    @property
    def presence(self) -> int:
        """Column that is 1 if the modality is present."""
        return self.start + self.width

    def split(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vector ``(..., width)`` and presence ``(..., 1)`` of this modality."""
        return rows[..., self.vector], rows[..., self.presence, None]


@dataclasses.dataclass(frozen=True)
class RatingColumns:
    """The rating columns of rows, or of sums of rows.

    Attributes:
        at_most: for every rating level except the highest, 1 if the rating is at most this level; zero if missing,
            (..., K - 1).
        adjusted: per side, the rating minus the other side's mean, see :func:`_adjusted`; zero if missing, (..., 1)
            each.
        rated: 1 if there is a rating, (..., 1).
        count: 1, so that sums count interactions, (..., 1).
    """

    at_most: torch.Tensor
    adjusted: tuple[torch.Tensor, torch.Tensor]
    rated: torch.Tensor
    count: torch.Tensor

    @classmethod
    def of(cls, columns: torch.Tensor) -> RatingColumns:
        """Name columns (..., K + 3) that :meth:`joined` made, or sums of them; nothing is copied."""
        at_most, by_user, by_item, rated, count = columns.split([columns.shape[-1] - 4, 1, 1, 1, 1], -1)
        return cls(at_most, (by_user, by_item), rated, count)

    def joined(self) -> torch.Tensor:
        """All columns concatenated, (..., K + 3)."""
        return torch.cat([self.at_most, *self.adjusted, self.rated, self.count], -1)


@dataclasses.dataclass(frozen=True)
class EvidenceColumns:
    """Rows of an evidence table, or sums of rows, by name.

    Attributes:
        modalities: vector (..., width) and presence (..., 1) of each modality by name.
        mentions: mentions of the aspects in the reviews, (..., A).
        opinions: opinions about the aspects in the reviews, (..., A).
        ratings: the rating columns.
    """

    modalities: dict[str, tuple[torch.Tensor, torch.Tensor]]
    mentions: torch.Tensor
    opinions: torch.Tensor
    ratings: RatingColumns


class AspectReader(Protocol):
    """Reads mentions and opinions from reviews, such as :class:`~recbole_drex.model.drex.aspects.Aspects`."""

    def __len__(self) -> int:
        """The number A of aspects."""

    def read_all(self, reviews: torch.Tensor) -> torch.Tensor:
        """Mentions and opinions of reviews (n,), (n, 2 A)."""


class EvidenceTable(nn.Module):
    """The interactions that are evidence, one row each, with their users and items.

    A row holds, for each modality, its vector (zero if missing) and its presence; then, if there are aspects, the
    review's mentions and opinions (:class:`~recbole_drex.model.drex.aspects.Aspects`); then the
    :class:`RatingColumns`. :meth:`named` splits a row into these parts. The review's vector is the attention-weighted
    mean of its words. It changes as the attention learns, as do mentions and opinions: :meth:`refresh` computes them
    again.

    Args:
        evidence: training rows and unrated rows.
        modalities: ``review``, ``rating`` or names of ``evidence.fields``, in the order of the message.
        levels: the distinct ratings, ascending; the rating's vector is one-hot over them.
        attention: word attention, if ``review`` is among the modalities.
        n_users, n_items: numbers of users and items, padding included.
        damping: pseudo-count of the means in the two rating columns, see :func:`_adjusted`.
        joint: see :func:`_adjusted`.

    Raises:
        DataError: every interaction lacks all modalities.

    Attributes:
        pooled: pooled review of each row, (n, width of the word features), or (n, 0) if ``review`` is not a modality.
            This is the largest array, so, like the word features, it is memory-mapped (unless moved to another device).
            Rows are sorted by (user, item).
        aspect_values: mentions and opinions of each row, (n, 2 A), also memory-mapped; (n, 0) without aspects.
        features: columns of the modalities without the pooled review, (n, rest).
        ratings: the :class:`RatingColumns` of each row, (n, K + 3).
        width: number of columns of a row.
        user, item, key, time, rating, rated: of each row, (n,); ``key`` is one integer per pair, ascending.
        review: row of the feature store, -1 without words, (n,).
        item_effect, user_effect: adjustments of a new user's rating of each item, (n_items,), and of each user's rating
            of a new item, (n_users,).
        review_columns: columns of the pooled review; empty if ``review`` is not a modality.
        user_first, user_count: first row and number of rows of each user, (n_users,).
        user_sums, item_sums: sums of the rows of each user and item, (n_users, width) and (n_items, width).
    """

    pooled: torch.Tensor
    aspect_values: torch.Tensor
    features: torch.Tensor
    ratings: torch.Tensor
    user: torch.Tensor
    item: torch.Tensor
    key: torch.Tensor
    time: torch.Tensor
    rating: torch.Tensor
    rated: torch.Tensor
    review: torch.Tensor
    item_effect: torch.Tensor
    user_effect: torch.Tensor
    user_first: torch.Tensor
    user_count: torch.Tensor
    user_sums: torch.Tensor
    item_sums: torch.Tensor

    def __init__(
        self,
        evidence: Evidence,
        modalities: list[str],
        levels: torch.Tensor,
        attention: WordAttention | None,
        n_users: int,
        n_items: int,
        damping: float,
        joint: bool = True,
    ):
        super().__init__()
        self.n_users, self.n_items = n_users, n_items
        rated = ~torch.isnan(evidence.rating)
        vectors: list[tuple[torch.Tensor, torch.Tensor]] = []  # constant columns and presence of each modality
        has_words = torch.zeros(len(evidence), dtype=torch.bool)
        for name in modalities:
            if name == "review":
                assert attention is not None
                has_words = with_words(evidence.review_row, attention.offsets)
                vectors.append((torch.zeros(len(evidence), 0), has_words))
            elif name == "rating":
                vectors.append(((evidence.rating[:, None] == levels[None, :]).float(), rated))
            else:
                vector = evidence.fields[name]
                vectors.append((vector, vector.abs().sum(1) > 0))
        present = torch.stack([mask for _, mask in vectors]).any(0)
        # The median, since a target's own rating would shift the mean, and with it every row.
        self.levels, self.damping, self.median = levels, damping, evidence.rating[rated].median()
        centred = torch.where(rated, evidence.rating - self.median, torch.zeros(()))
        features = torch.cat([part for vector, mask in vectors for part in (vector, mask[:, None].float())], 1)
        adjusted, effects = _adjusted(evidence, centred, rated, n_users, n_items, damping, joint)
        ratings = self._rating_columns(evidence.rating, adjusted).joined()
        self.modalities = []
        start = 0
        self.review_columns = slice(0, 0)
        for name, (vector, _) in zip(modalities, vectors, strict=True):
            width = attention.width if name == "review" and attention is not None else vector.shape[1]
            self.modalities.append(Modality(name, start, width))
            if name == "review":
                self.review_columns = slice(start, start + width)
            start += width + 1
        self.width = start + ratings.shape[1]
        # An interaction without any modality sends no message and is left out of the table.
        keep = torch.nonzero(present).flatten()
        if not len(keep):
            raise DataError(f"no interaction in the training part has any of the modalities {modalities}")
        keys = evidence.user[keep] * n_items + evidence.item[keep]
        keep = keep[torch.argsort(keys)]
        buffers = {
            "pooled": torch.from_numpy(scratch_array((len(keep), attention.width if attention else 0), np.float32)),
            "aspect_values": torch.zeros(len(keep), 0),
            "item_effect": effects[Side.USER],
            "user_effect": effects[Side.ITEM],
            "features": features[keep],
            "ratings": ratings[keep],
            "user": evidence.user[keep],
            "item": evidence.item[keep],
            "time": evidence.timestamp[keep],
            "key": torch.sort(keys).values,
            "review": torch.where(has_words, evidence.review_row, -1)[keep],
            "rated": rated[keep],
            "rating": evidence.rating[keep],
        }
        # Sorted by (user, item), so a user's rows lie together.
        buffers["user_count"] = torch.bincount(buffers["user"], minlength=n_users)
        buffers["user_first"] = torch.cumsum(buffers["user_count"], 0) - buffers["user_count"]
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)
        self.highest = float(self.rating[self.rated].max()) if bool(self.rated.any()) else 1.0
        self.refresh(attention)

    def add_aspects(self, aspects: AspectReader) -> None:
        """Add columns for mentions and opinions and read them."""
        self.aspect_values = torch.from_numpy(scratch_array((len(self), 2 * len(aspects)), np.float32))
        self.width += 2 * len(aspects)
        self.refresh(None, aspects)

    # Columns

    @property
    def aspect_columns(self) -> slice:
        """Columns of mentions and opinions."""
        end = self.width - self.ratings.shape[1]
        return slice(end - self.aspect_values.shape[1], end)

    def named(self, rows: torch.Tensor) -> EvidenceColumns:
        """The columns of rows, or of sums of rows, (..., width) by name; nothing is copied."""
        mentions, opinions = rows[..., self.aspect_columns].chunk(2, -1)
        modalities = {modality.name: modality.split(rows) for modality in self.modalities}
        return EvidenceColumns(modalities, mentions, opinions, RatingColumns.of(rows[..., self.aspect_columns.stop :]))

    def _rating_columns(self, rating: torch.Tensor, adjusted: tuple[torch.Tensor, torch.Tensor]) -> RatingColumns:
        """Columns of ratings (n,), NaN for none, with the adjusted ratings of both sides, (n, 1) each."""
        levels = self.levels.to(rating)
        rated = ~torch.isnan(rating)[:, None]
        at_most = ((rating[:, None] <= levels[None, :-1]) & rated).float()
        return RatingColumns(at_most, adjusted, rated.float(), torch.ones(len(rating), 1, device=rating.device))

    @property
    def relative_rating(self) -> torch.Tensor:
        """Ratings divided by the highest rating, 0 if missing, (n,)."""
        return torch.where(self.rated, self.rating / self.highest, 0.0)

    def rows_of_new(
        self,
        side: Side,
        other: torch.Tensor,
        rating: torch.Tensor,
        pooled: torch.Tensor,
        aspect_values: torch.Tensor,
        has_words: torch.Tensor,
    ) -> torch.Tensor:
        """Rows of interactions of a user or an item that is not in the data: (m, width).

        Item modalities are copied from the items' other interactions; a new item has none.

        Args:
            side: whether the user or the item is new.
            other: the items of a new user, or the users of a new item (0 for users who are not in the data), (m,).
            rating: one of the levels, NaN for none, (m,).
            pooled: attention-weighted means of the reviews' words, (m, width of the word features).
            aspect_values: mentions and opinions, (m, 2 A).
            has_words: whether the review has words, (m,).
        """
        rated = ~torch.isnan(rating)
        centred = torch.where(rated, rating - self.median, 0.0)
        parts = []
        for modality in self.modalities:
            if modality.name == "review":
                vector, present = pooled, has_words
            elif modality.name == "rating":
                vector, present = (rating[:, None] == self.levels.to(rating)[None, :]).float(), rated
            elif side == Side.ITEM:
                vector, present = pooled.new_zeros(len(other), modality.width), torch.zeros_like(rated)
            else:
                first = [self.rows_of_item(one)[:1] for one in other.tolist()]
                known = [modality.split(self.rows_at(row).sum(0)) for row in first]
                vector = torch.stack([vector for vector, _ in known])
                present = torch.stack([there for _, there in known])[:, 0] > 0
            parts += [vector * present[:, None], present[:, None].float()]
        effect = (self.item_effect, self.user_effect)[side]
        own = torch.where(rated, centred - effect[other], 0.0)[:, None]
        nothing = torch.zeros_like(own)
        ratings = self._rating_columns(rating, (own, nothing) if side == Side.USER else (nothing, own))
        return torch.cat([*parts, aspect_values, ratings.joined()], 1)

    def __len__(self) -> int:
        return len(self.user)

    def rows_at(self, index: torch.Tensor | slice) -> torch.Tensor:
        """The rows at ``index`` (m,): (m, width)."""
        start, features = self.review_columns.start, self.features[index]
        parts = [features[:, :start], self.pooled[index], features[:, start:]]
        return torch.cat([*parts, self.aspect_values[index], self.ratings[index]], 1)

    @torch.no_grad()
    def refresh(self, attention: WordAttention | None, aspects: AspectReader | None = None) -> None:
        """Pool all reviews with the current attention, read aspects, and sum the rows of each user and item.

        Several processes share the work.
        """
        if attention is not None:
            for rows in torch.nonzero(self.review >= 0).flatten().split(BLOCK_ROWS):
                pooled, _ = attention.read_all(self.review[rows[collectives.own_part(len(rows))]])
                self.pooled[rows] = collectives.joined(pooled, len(rows))
        if aspects is not None:
            for rows in torch.nonzero(self.review >= 0).flatten().split(BLOCK_ROWS):
                read = aspects.read_all(self.review[rows[collectives.own_part(len(rows))]])
                self.aspect_values[rows] = collectives.joined(read, len(rows))
        self.user_sums = self._sums(self.user, self.n_users)
        self.item_sums = self._sums(self.item, self.n_items)

    @torch.no_grad()
    def update_aspects(self, rows: torch.Tensor, aspect_values: torch.Tensor) -> None:
        """Replace mentions and opinions (m, 2 A) of some rows (m,), also in the sums."""
        columns = self.aspect_columns
        change = aspect_values - self.aspect_values[rows]
        self.user_sums[:, columns].index_add_(0, self.user[rows], change)
        self.item_sums[:, columns].index_add_(0, self.item[rows], change)
        self.aspect_values[rows] = aspect_values

    def _sums(self, group: torch.Tensor, n_groups: int) -> torch.Tensor:
        return sums_of_blocks(self.rows_at, group, torch.zeros(n_groups, self.width, device=group.device))

    def find(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Row of each (user, item) pair, or -1 if it is not in the table; shapes broadcast."""
        key = user * self.n_items + item
        index = torch.searchsorted(self.key, key).clamp(max=len(self) - 1)
        return torch.where(self.key[index] == key, index, -1)

    def rows_of(self, user: int) -> torch.Tensor:
        """Rows of one user."""
        first = int(self.user_first[user])
        return torch.arange(first, first + int(self.user_count[user]), device=self.user.device)

    def rows_of_item(self, item: int) -> torch.Tensor:
        """Rows of one item."""
        return torch.nonzero(self.item == item).flatten()

    def without(self, sums: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """``sums`` (n, width) minus the rows ``row`` (n,); -1 subtracts nothing."""
        return sums - self.rows_at(row.clamp(min=0)) * (row >= 0)[:, None]


def _adjusted(
    evidence: Evidence,
    centred: torch.Tensor,
    rated: torch.Tensor,
    n_users: int,
    n_items: int,
    damping: float,
    joint: bool,
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    r"""Ratings minus the mean of the other side, for messages to users and to items.

    With :math:`\bar r_u` and :math:`\bar r_i` the damped means of the centred ratings r of a user and of an item,

    .. math::
        a^{\mathrm{user}}_{ui} = r_{ui} -
            \frac{\sum_{u' \ne u} (r_{u'i} - \bar r_{u'})}{n_i - 1 + \text{damping}}, \qquad
        a^{\mathrm{item}}_{ui} = r_{ui} -
            \frac{\sum_{i' \ne i} (r_{ui'} - \bar r_{i'})}{n_u - 1 + \text{damping}}

    :math:`a^{\mathrm{user}}_{ui}` contains no other rating of u, and :math:`a^{\mathrm{item}}_{ui}` no other rating of
    i. So a user's other interactions contain nothing of the target, and likewise for items.

    The prediction for the pair (u, i) then contains nothing of its rating, but predictions for other items do:
    :math:`r_{ui}` is part of :math:`\bar r_i`. If the score of i is compared with the scores of other items, ``joint``
    must be false: the second terms are then :math:`\bar r_i` and :math:`\bar r_u`.

    Returns:
        The two columns, (n, 1) each, zero if there is no rating; and the second terms of the equations for pairs
        without a rating: per item, (n_items,), and per user, (n_users,).
    """
    user, item, there = evidence.user, evidence.item, rated.to(centred)
    of_item = damped_mean(item[rated], centred[rated], n_items, damping)
    of_user = damped_mean(user[rated], centred[rated], n_users, damping)
    by_user = (centred - of_user[user]) * there
    by_item = (centred - of_item[item]) * there
    if not joint:
        return (by_item[:, None], by_user[:, None]), (of_item, of_user)
    columns, effects = [], []
    for value, group, n in ((by_user, item, n_items), (by_item, user, n_users)):
        total = torch.zeros(n).index_add_(0, group, value)
        count = torch.zeros(n).index_add_(0, group, there) + damping
        others = (total[group] - value) / (count[group] - 1).clamp(min=1e-6)
        columns.append(((centred - others) * there)[:, None])
        effects.append(total / count.clamp(min=1e-6))
    return (columns[Side.USER], columns[Side.ITEM]), (effects[Side.USER], effects[Side.ITEM])
