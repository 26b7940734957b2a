"""The words of the reviews of one user or item, and their evidence without some of these words."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from recbole_drex.explain.counterfactual.scenarios import Changes, SideEvidence
from recbole_drex.model.drex.aspects import Words
from recbole_drex.model.layers.word_attention import softmax_within

_MOST = 0.9  # share of a review's attention: if more is removed, subtraction would leave rounding errors


@dataclasses.dataclass(frozen=True)
class EvidenceWords:
    """All words of the reviews of one side, one entry per occurrence, review by review.

    Attributes:
        index: index of the interaction whose review contains the word, ascending, (k,).
        position: its position in the feature store, -1 for reviews that are not in the store, (k,).
        word: index of its lemma, (k,).
        vector: its embedding, (k, width).
        score: its attention score before the softmax, (k,).
        attention: its attention weight within its review, (k,).
        sentence: index of its sentence, unique across reviews, (k,).
    """

    index: torch.Tensor
    position: torch.Tensor
    word: torch.Tensor
    vector: torch.Tensor
    score: torch.Tensor
    attention: torch.Tensor
    sentence: torch.Tensor

    def __len__(self) -> int:
        return len(self.index)


def words_of(side: SideEvidence) -> EvidenceWords:
    """The words of the reviews of a user or item of the data set, for a model that reads reviews."""
    attention, table = side.model.attention, side.model.table
    assert attention is not None
    review = table.review[side.row]
    reviewed = torch.nonzero(review >= 0).flatten()
    position, owner = attention.positions(review[reviewed])
    vector = attention.vectors_at(position)
    score = (vector @ attention.scoring_vector()).detach()
    weight = softmax_within(score, owner, len(reviewed))
    sentence = torch.from_numpy(np.cumsum(attention.store.begins[position.cpu().numpy()])).to(position.device)
    return EvidenceWords(reviewed[owner], position, attention.lemmas_at(position), vector, score, weight, sentence)


def without_words(
    side: SideEvidence,
    words: EvidenceWords,
    scenario: torch.Tensor,
    index: torch.Tensor,
    case: torch.Tensor,
    token: torch.Tensor,
) -> Changes:
    r"""Remove words from reviews; attention is renormalised over the remaining words.

    With weights :math:`a_k` and embeddings :math:`x_k`, a review is pooled to :math:`\sum_k a_k x_k`, and without the
    words R to :math:`\sum_{k \notin R} a_k x_k / (1 - \sum_{k \in R} a_k)`. A review without remaining words is
    removed. An interaction without a review or any other modality is removed.

    Args:
        side: the user or item with the reviews.
        words: the words of these reviews.
        scenario, index: the scenario and the interaction of each of c changed reviews, (c,).
        case: index of the changed review from which each word is removed, (k,).
        token: index of the removed word in ``words``, (k,).
    """
    table = side.model.table
    review = next(modality for modality in table.modalities if modality.name == "review")
    old_rows = side.rows[index]
    pooled, present = review.split(old_rows)
    lost = torch.zeros(len(index), 1, device=old_rows.device).index_add(0, case, words.attention[token, None])
    some = _left(side, words, index, case)
    tiny = lost[:, 0] > _MOST
    # The removed words are summed only where their sum is used: not for empty reviews and not for those pooled again.
    needed = (some[:, 0] & ~tiny)[case]
    taken = token[needed]
    removed = torch.zeros_like(pooled).index_add(0, case[needed], words.attention[taken, None] * words.vector[taken])
    rest = torch.where(some, (pooled - removed) / (1 - lost).clamp(min=1e-6), 0.0)
    few = torch.nonzero(tiny & some[:, 0]).flatten()
    if len(few):
        rest[few] = _pooled_without(words, few, index, case, token)
    change = torch.zeros_like(old_rows)
    if side.model.aspects is not None:
        columns = table.aspect_columns
        change[:, columns] = _aspects_without(side, words, index, case, token) - old_rows[:, columns]
    change[:, review.vector] = rest - pooled
    change[:, review.presence] = torch.where(some[:, 0], 0.0, -present[:, 0])
    others = [modality.split(old_rows)[1][:, 0] for modality in table.modalities if modality is not review]
    emptied = ~some[:, 0] & ~torch.stack([*others, torch.zeros_like(lost[:, 0])]).bool().any(0)
    change = torch.where(emptied[:, None], -old_rows, change)
    return side.changes(scenario, index, change, emptied, *coordinates_without(side, words, index, case, token))


def _pooled_without(words: EvidenceWords, few: torch.Tensor, index, case, token) -> torch.Tensor:
    """The remaining words of the reviews in the cases ``few`` (f,), pooled again: (f, width)."""
    owner, member = torch.nonzero(index[few][:, None] == words.index[None, :], as_tuple=True)
    stays = ~torch.isin(few[owner] * len(words) + member, case * len(words) + token)
    owner, member = owner[stays], member[stays]
    weight = softmax_within(words.score[member], owner, len(few))
    result = torch.zeros(len(few), words.vector.shape[1], device=few.device)
    return result.index_add(0, owner, weight[:, None] * words.vector[member])


def _aspects_without(side: SideEvidence, words: EvidenceWords, index, case, token) -> torch.Tensor:
    """Mentions and opinions (c, 2 A) of the reviews without the removed words."""
    aspects = side.model.aspects
    assert aspects is not None
    order = torch.argsort(words.index, stable=True)
    count = torch.bincount(words.index, minlength=len(side))
    first = count.cumsum(0) - count
    owner = torch.repeat_interleave(torch.arange(len(index), device=index.device), count[index])
    start = count[index].cumsum(0) - count[index]
    member = order[torch.arange(len(owner), device=index.device) - start[owner] + first[index][owner]]
    stays = ~torch.isin(owner * len(words) + member, case * len(words) + token)
    owner, member = owner[stays], member[stays]
    left = torch.bincount(owner, minlength=len(index))
    word = words.word[member]
    word = torch.where(
        word < len(aspects.lemma) - 1, word, len(aspects.lemma) - 1
    )  # lemmas that are not in the data set
    sentence = owner * (int(words.sentence.max()) + 1) + words.sentence[member] if len(member) else member
    read = Words(aspects.lemma[word], left.cumsum(0) - left, sentence)
    return aspects.pool(read, aspects.cached_lexicon()).detach()


def pooled_change(
    side: SideEvidence, words: EvidenceWords, slope: torch.Tensor, index: torch.Tensor, case: torch.Tensor
) -> torch.Tensor:
    """Change of a linear function of the rows when words are removed from reviews; each word belongs to one case.

    Args:
        side: the user or item with the reviews.
        words: the words of these reviews.
        slope: of the function, (m, width of the rows).
        index: the interaction of each of c cases, (c,).
        case: of each word, (k,).

    Returns:
        (c,), without the change of the presence column when a whole review is removed.
    """
    table = side.model.table
    columns = table.review_columns
    aspect_slope = slope[:, table.aspect_columns]
    slope = slope[:, columns]
    # Review by review: a single product would copy a slope for every word.
    count = torch.bincount(words.index, minlength=len(side)).tolist()
    projected = torch.cat([part @ one for part, one in zip(words.vector.split(count), slope, strict=True)])
    whole = (side.rows[:, columns] * slope).sum(1)[index]
    lost, removed = (
        torch.zeros(len(index), device=case.device).index_add(0, case, words.attention * part)
        for part in (1.0, projected)
    )
    left = 1 - lost
    change = torch.where(left > 1e-6, (whole - removed) / left.clamp(min=1e-6), 0.0) - whole
    return change + _aspect_change(side, words, aspect_slope, index, case)


def _aspect_change(
    side: SideEvidence, words: EvidenceWords, slope: torch.Tensor, index: torch.Tensor, case: torch.Tensor
) -> torch.Tensor:
    """Change of a linear function of mentions and opinions (m, 2 A) when words are removed, (c,). The sentiment of the
    neighbouring words is kept fixed."""
    aspects, lost = side.model.aspects, torch.zeros(len(index), device=case.device)
    if aspects is None or not len(words):
        return lost
    shares, sentiment = aspects.cached_lexicon()
    count = torch.bincount(words.index, minlength=len(side))
    number = aspects.lemma[words.word.clamp(max=len(aspects.lemma) - 1)]
    opinion = aspects.word_sentiments(Words(number, count.cumsum(0) - count, words.sentence), sentiment).detach()
    n = len(aspects)
    for_mentions, for_opinions = slope[:, :n][words.index], slope[:, n:][words.index]
    shares = torch.cat([shares, shares.new_zeros(1, n)])[aspects.slot[number]]
    value = (shares * (for_mentions + opinion[:, None] * for_opinions)).sum(1)
    return lost.index_add(0, case, -value)


def coordinates_without(
    side: SideEvidence, words: EvidenceWords, index: torch.Tensor, case: torch.Tensor, token: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Change of the taste coordinates (c, k) and of the number of reviews (c, 1) when words are removed.

    Args: as in :func:`without_words`.
    """
    coordinates, n_reviews = side.coordinates(index)
    taste = side.model.taste
    if taste is None or not coordinates.shape[1]:
        return torch.zeros_like(coordinates), torch.zeros_like(n_reviews)
    some = _left(side, words, index, case)
    # Only reviews with remaining words are recomputed.
    stays = some[:, 0]
    row, number, inside = side.row[index[stays]], stays.cumsum(0) - 1, stays[case]
    position = words.position[token[inside]].cpu().numpy()
    left = taste.text.change(row.cpu().numpy(), number[case[inside]].cpu().numpy(), position)
    change = -coordinates
    change[stays] = torch.from_numpy(left).to(coordinates) @ taste.directions
    return change, torch.where(some, 0.0, -n_reviews)


def coordinate_change(
    side: SideEvidence, words: EvidenceWords, slope: torch.Tensor, index: torch.Tensor, case: torch.Tensor
) -> torch.Tensor:
    """Change of a linear function of the summed taste coordinates when words are removed from reviews, (c,).

    Args:
        slope: of the function, (k,).
        side, words, index, case: as in :func:`pooled_change`.
    """
    taste = side.model.taste
    assert taste is not None
    row = side.row[index].cpu().numpy()
    along = (taste.directions @ slope).cpu().numpy()
    change = taste.text.change_along(
        along, row, case.cpu().numpy(), words.position.cpu().numpy(), words.vector.numpy(force=True)
    )
    whole = side.coordinates(index)[0] @ slope
    some = _left(side, words, index, case)[:, 0]
    return torch.where(some, torch.from_numpy(change).to(whole), -whole)


def _left(side: SideEvidence, words: EvidenceWords, index: torch.Tensor, case: torch.Tensor) -> torch.Tensor:
    """Whether the review of each case has remaining words, (c, 1)."""
    count = torch.bincount(words.index, minlength=len(side))[index] - torch.bincount(case, minlength=len(index))
    return (count > 0)[:, None]
