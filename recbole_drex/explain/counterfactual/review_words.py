"""The words of the reviews of one user or item, and their evidence without some of these words."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from recbole_drex.explain.counterfactual.scenarios import Changes, SideEvidence
from recbole_drex.model.drex.aspects import Words
from recbole_drex.model.layers.word_attention import softmax_within

_MOST = 0.9  # of a review's attention: where more is taken away, a difference would leave rounding errors


@dataclasses.dataclass(frozen=True)
class EvidenceWords:
    """Every occurrence of a word in the reviews of one side, review by review.

    Attributes:
        place: interaction of the side whose review it stands in, ascending, (k,).
        position: where it stands in the feature store, -1 in reviews that are not there, (k,).
        word: number of its lemma, (k,).
        vector: its embedding, (k, width).
        score: what the attention's softmax takes, (k,).
        attention: its weight within its review, (k,).
        sentence: number of its sentence; no two reviews share one, (k,).
    """

    place: torch.Tensor
    position: torch.Tensor
    word: torch.Tensor
    vector: torch.Tensor
    score: torch.Tensor
    attention: torch.Tensor
    sentence: torch.Tensor

    def __len__(self) -> int:
        return len(self.place)


def words_of(side: SideEvidence) -> EvidenceWords:
    """The words of the reviews of a user or item of the data; the model reads reviews."""
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
    place: torch.Tensor,
    case: torch.Tensor,
    token: torch.Tensor,
) -> Changes:
    r"""Take words out of reviews: attention is shared out again among those that stay.

    With weights :math:`a_k` and embeddings :math:`x_k`, a review is pooled to :math:`\sum_k a_k x_k`, and without the
    words R to :math:`\sum_{k \notin R} a_k x_k / (1 - \sum_{k \in R} a_k)`. A review without any word left is none; an
    interaction that has neither a review nor anything else any more is gone.

    Args:
        side: whose reviews.
        words: their words.
        scenario, place: the scenario and the interaction of each of c changed reviews, (c,).
        case: which of these reviews a word is taken from, (k,).
        token: which of ``words`` it is, (k,).
    """
    table = side.model.table
    review = next(modality for modality in table.modalities if modality.name == "review")
    before = side.rows[place]
    pooled, there = review.split(before)
    lost = torch.zeros(len(place), 1, device=before.device).index_add(0, case, words.attention[token, None])
    some = _left(side, words, place, case)
    little = lost[:, 0] > _MOST
    # Where nothing is left, or so little that it is pooled again, what is taken away need not be summed up.
    needed = (some[:, 0] & ~little)[case]
    taken = token[needed]
    removed = torch.zeros_like(pooled).index_add(0, case[needed], words.attention[taken, None] * words.vector[taken])
    rest = torch.where(some, (pooled - removed) / (1 - lost).clamp(min=1e-6), 0.0)
    few = torch.nonzero(little & some[:, 0]).flatten()
    if len(few):
        rest[few] = _pooled_without(words, few, place, case, token)
    change = torch.zeros_like(before)
    if side.model.aspects is not None:
        said = table.said_columns
        change[:, said] = _read_without(side, words, place, case, token) - before[:, said]
    change[:, review.vector] = rest - pooled
    change[:, review.presence] = torch.where(some[:, 0], 0.0, -there[:, 0])
    others = [modality.split(before)[1][:, 0] for modality in table.modalities if modality is not review]
    gone = ~some[:, 0] & ~torch.stack([*others, torch.zeros_like(lost[:, 0])]).bool().any(0)
    change = torch.where(gone[:, None], -before, change)
    return side.changes(scenario, place, change, gone, *said_of_item(side, words, place, case, token))


def _pooled_without(words: EvidenceWords, few: torch.Tensor, place, case, token) -> torch.Tensor:
    """What is left of the reviews in the cases ``few`` (f,), pooled again: (f, width)."""
    owner, member = torch.nonzero(place[few][:, None] == words.place[None, :], as_tuple=True)
    stays = ~torch.isin(few[owner] * len(words) + member, case * len(words) + token)
    owner, member = owner[stays], member[stays]
    weight = softmax_within(words.score[member], owner, len(few))
    result = torch.zeros(len(few), words.vector.shape[1], device=few.device)
    return result.index_add(0, owner, weight[:, None] * words.vector[member])


def _read_without(side: SideEvidence, words: EvidenceWords, place, case, token) -> torch.Tensor:
    """Mentions and opinions of reviews (c, 2 A) that lack some words, read as if these had never been written."""
    aspects = side.model.aspects
    assert aspects is not None
    order = torch.argsort(words.place, stable=True)
    count = torch.bincount(words.place, minlength=len(side))
    first = count.cumsum(0) - count
    owner = torch.repeat_interleave(torch.arange(len(place), device=place.device), count[place])
    start = count[place].cumsum(0) - count[place]
    member = order[torch.arange(len(owner), device=place.device) - start[owner] + first[place][owner]]
    stays = ~torch.isin(owner * len(words) + member, case * len(words) + token)
    owner, member = owner[stays], member[stays]
    left = torch.bincount(owner, minlength=len(place))
    word = words.word[member]
    word = torch.where(word < len(aspects.lemma) - 1, word, len(aspects.lemma) - 1)  # lemmas that the data do not have
    sentence = owner * (int(words.sentence.max()) + 1) + words.sentence[member] if len(member) else member
    read = Words(aspects.lemma[word], left.cumsum(0) - left, sentence)
    return aspects.pool(read, aspects.remembered_lexicon()).detach()


def pooled_change(
    side: SideEvidence, words: EvidenceWords, slope: torch.Tensor, place: torch.Tensor, case: torch.Tensor
) -> torch.Tensor:
    """What taking words out of reviews adds to a linear function of the rows, every word in just one case.

    Args:
        side: whose reviews.
        words: their words.
        slope: of the function, (m, width of the rows).
        place: the interaction of each of c cases, (c,).
        case: of each word, (k,).

    Returns:
        (c,), without what the loss of a whole review adds beside its vector.
    """
    table = side.model.table
    columns = table.review_columns
    by_said = slope[:, table.said_columns]
    slope = slope[:, columns]
    # Review by review: all of them at once would copy a slope for every word.
    count = torch.bincount(words.place, minlength=len(side)).tolist()
    said = torch.cat([part @ one for part, one in zip(words.vector.split(count), slope, strict=True)])
    whole = (side.rows[:, columns] * slope).sum(1)[place]
    lost, removed = (
        torch.zeros(len(place), device=case.device).index_add(0, case, words.attention * part) for part in (1.0, said)
    )
    left = 1 - lost
    change = torch.where(left > 1e-6, (whole - removed) / left.clamp(min=1e-6), 0.0) - whole
    return change + _said_change(side, words, by_said, place, case)


def _said_change(
    side: SideEvidence, words: EvidenceWords, slope: torch.Tensor, place: torch.Tensor, case: torch.Tensor
) -> torch.Tensor:
    """What taking words out adds to a linear function of mentions and opinions (m, 2 A), but for what the words next to
    them are then read as: (c,)."""
    aspects, lost = side.model.aspects, torch.zeros(len(place), device=case.device)
    if aspects is None or not len(words):
        return lost
    shares, sentiment = aspects.remembered_lexicon()
    count = torch.bincount(words.place, minlength=len(side))
    number = aspects.lemma[words.word.clamp(max=len(aspects.lemma) - 1)]
    said = aspects.said(Words(number, count.cumsum(0) - count, words.sentence), sentiment).detach()
    n = len(aspects)
    for_mentions, for_opinions = slope[:, :n][words.place], slope[:, n:][words.place]
    shares = torch.cat([shares, shares.new_zeros(1, n)])[aspects.slot[number]]
    value = (shares * (for_mentions + said[:, None] * for_opinions)).sum(1)
    return lost.index_add(0, case, -value)


def said_of_item(
    side: SideEvidence, words: EvidenceWords, place: torch.Tensor, case: torch.Tensor, token: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What taking words out of reviews adds to their coordinates of taste (c, k) and to the number of reviews (c, 1).

    Args: as in :func:`without_words`.
    """
    coordinates, spoken = side.coordinates(place)
    taste = side.model.taste
    if taste is None or not coordinates.shape[1]:
        return torch.zeros_like(coordinates), torch.zeros_like(spoken)
    some = _left(side, words, place, case)
    # Of reviews without any word left nothing is to be computed.
    stays = some[:, 0]
    row, number, inside = side.row[place[stays]], stays.cumsum(0) - 1, stays[case]
    position = words.position[token[inside]].cpu().numpy()
    left = taste.text.change(row.cpu().numpy(), number[case[inside]].cpu().numpy(), position)
    change = -coordinates
    change[stays] = torch.from_numpy(left).to(coordinates) @ taste.directions
    return change, torch.where(some, 0.0, -spoken)


def said_change(
    side: SideEvidence, words: EvidenceWords, slope: torch.Tensor, place: torch.Tensor, case: torch.Tensor
) -> torch.Tensor:
    """What taking words out of reviews adds to a linear function of the sum of their coordinates of taste, (c,).

    Args:
        slope: of the function, (k,).
        side, words, place, case: as in :func:`pooled_change`.
    """
    taste = side.model.taste
    assert taste is not None
    row = side.row[place].cpu().numpy()
    along = (taste.directions @ slope).cpu().numpy()
    change = taste.text.change_along(
        along, row, case.cpu().numpy(), words.position.cpu().numpy(), words.vector.numpy(force=True)
    )
    whole = side.coordinates(place)[0] @ slope
    some = _left(side, words, place, case)[:, 0]
    return torch.where(some, torch.from_numpy(change).to(whole), -whole)


def _left(side: SideEvidence, words: EvidenceWords, place: torch.Tensor, case: torch.Tensor) -> torch.Tensor:
    """Whether any word is left of a review in each case, (c, 1)."""
    count = torch.bincount(words.place, minlength=len(side))[place] - torch.bincount(case, minlength=len(place))
    return (count > 0)[:, None]
