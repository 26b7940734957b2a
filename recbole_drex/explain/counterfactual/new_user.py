"""New users, represented by the ratings and reviews that they post; the model is not retrained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from recbole_drex.explain.counterfactual.base import Counterfactual
from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual
from recbole_drex.explain.counterfactual.review_words import EvidenceWords
from recbole_drex.explain.counterfactual.user_view import OwnParameters, PostedWords, UserView
from recbole_drex.model.drex.aspects import Words
from recbole_drex.model.layers.common import Side
from recbole_drex.model.layers.word_attention import softmax_within

if TYPE_CHECKING:
    from recbole_drex.model.drex.drex import DReX

_STEPS = 30  # L-BFGS iterations that fit factors and tastes of ranking models


def view_of_new(
    model: DReX,
    item: torch.Tensor,
    rating: torch.Tensor,
    reviews: Sequence[torch.Tensor],
    lemmas: Sequence[Sequence[str]],
    begins: Sequence[Sequence[bool]],
) -> UserView:
    r"""The view of a new user, from interactions that the model has never seen.

    The state, the deviation, the aspects that the user writes about, the thresholds of ordinal output and (for ratings)
    the tastes are computed from the interactions, as for any user. For ranking models, factors and tastes are maximum a
    posteriori estimates: they maximise the likelihood of the posted items among all items, under a normal prior whose
    variance is that of the users in the data set.

    Args:
        model: trained.
        item: distinct internal ids, (m,).
        rating: (m,), one of the levels or NaN.
        reviews: embeddings of the words of each review, (words, width).
        lemmas: of these words.
        begins: whether each word begins a sentence.

    Returns:
        The view, without interactions that have neither a rating nor a review (or other modality).
    """
    model.make_ready()
    rows, has_evidence = rows_of_new(model, Side.USER, item, rating, reviews, lemmas, begins)
    rows, item, rating = rows[has_evidence], item[has_evidence], rating[has_evidence]
    kept = torch.nonzero(has_evidence).flatten().tolist()
    words = _words(model, [reviews[k] for k in kept], [lemmas[k] for k in kept], [begins[k] for k in kept])
    time = torch.arange(len(item), dtype=torch.float64, device=item.device)
    no_row = torch.full_like(item, -1)

    def view(own: OwnParameters) -> UserView:
        return UserView(model, 0, rows, item, rating, time, no_row, own, posted=words)

    zeros = OwnParameters(
        torch.zeros(model.factor_size, device=item.device) if model.factor_size else None,
        torch.zeros(len(model.taste.strength), device=item.device) if model.ranks and model.taste is not None else None,
    )
    blank = view(zeros)
    return view(_learned(blank)) if model.ranks and len(item) else blank


def rows_of_new(
    model: DReX,
    side: Side,
    other: torch.Tensor,
    rating: torch.Tensor,
    reviews: Sequence[torch.Tensor],
    lemmas: Sequence[Sequence[str]],
    begins: Sequence[Sequence[bool]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the interactions of a new user or item, (m, width), and which of them have any modality, (m,).

    Args:
        model: its cached states must be up to date.
        side, other: as for :meth:`~recbole_drex.model.layers.evidence_table.EvidenceTable.rows_of_new`.
        rating, reviews, lemmas, begins: as for :func:`view_of_new`.
    """
    has_words = torch.tensor([len(review) > 0 for review in reviews], dtype=torch.bool, device=rating.device)
    pooled = torch.zeros(len(reviews), 0, device=rating.device)
    if model.attention is not None:
        vector = model.attention.scoring_vector().detach()
        pooled = vector.new_zeros(len(reviews), len(vector))
        for index, review in enumerate(reviews):
            if len(review):
                pooled[index] = (torch.softmax(review @ vector, 0) @ review).detach()
    aspect_values = _aspect_values(model, lemmas, begins, rating.device)
    rows = model.table.rows_of_new(side, other, rating, pooled, aspect_values, has_words)
    return rows, torch.cat([present for _, present in model.table.named(rows).modalities.values()], 1).any(1)


def counterfactual_for_new(view: UserView, item: int) -> Counterfactual:
    """The prediction for a new user and an item (internal id), with counterfactual predictions."""
    return DReXCounterfactual(view, item)


def _aspect_values(
    model: DReX, lemmas: Sequence[Sequence[str]], begins: Sequence[Sequence[bool]], device: torch.device
) -> torch.Tensor:
    """Mentions and opinions of posted reviews, (m, 2 A)."""
    aspects = model.aspects
    if aspects is None:
        return torch.zeros(len(lemmas), 0, device=device)
    index = {word: number for number, word in enumerate(aspects.store.vocabulary)}
    words = [index.get(word, -1) for review in lemmas for word in review]
    count = torch.tensor([len(review) for review in lemmas], dtype=torch.int64, device=device)
    number = aspects.lemma[torch.tensor(words, dtype=torch.int64, device=device)]
    read = Words(number, count.cumsum(0) - count, _sentences(begins, device))
    return aspects.pool(read, aspects.cached_lexicon()).detach()


def _sentences(begins: Sequence[Sequence[bool]], device: torch.device) -> torch.Tensor:
    """Sentence index of each word; the first word of a review begins a sentence."""
    flags = [index == 0 or bool(flag) for review in begins for index, flag in enumerate(review)]
    return torch.tensor(flags, dtype=torch.int64, device=device).cumsum(0)


def _words(
    model: DReX,
    reviews: Sequence[torch.Tensor],
    lemmas: Sequence[Sequence[str]],
    begins: Sequence[Sequence[bool]],
) -> PostedWords | None:
    attention = model.attention
    if attention is None:
        return None
    vocabulary = {word: number for number, word in enumerate(attention.store.vocabulary)}
    known = len(vocabulary)
    number = [vocabulary.setdefault(word, len(vocabulary)) for review in lemmas for word in review]
    device = model.mean.device
    count = torch.tensor([len(review) for review in reviews], dtype=torch.int64, device=device)
    interaction = torch.repeat_interleave(torch.arange(len(reviews), device=device), count)
    vector = torch.cat([*reviews, torch.zeros(0, attention.width, device=device)])
    score = (vector @ attention.scoring_vector()).detach()
    word = torch.tensor(number, dtype=torch.int64, device=device)
    weight = softmax_within(score, interaction, len(reviews))
    sentence = _sentences(begins, device)
    words = EvidenceWords(interaction, torch.full_like(interaction, -1), word, vector, score, weight, sentence)
    return PostedWords(words, list(vocabulary)[known:])


def _learned(blank: UserView) -> OwnParameters:
    """Maximum a posteriori factors and tastes of a user, given the scores without them."""
    model, item = blank.model, blank.item
    with torch.no_grad():
        scores = blank.scores()
        own = blank.scores_of(blank.without_each(), model.without_own(Side.ITEM, item, blank.row), item)
    tables = [model.item_factors.weight.detach()] if model.factor_size else []
    spread = [model.user_factors.weight.detach()] if model.factor_size else []
    if model.taste is not None:
        tables, spread = [*tables, model.taste.described], [*spread, model.taste_weights.weight.detach()]
    if not tables:
        return blank.own
    vectors = torch.cat(tables, 1)
    precision = torch.cat([(1 / part[1:].square().mean().clamp(min=1e-12)).expand(part.shape[1]) for part in spread])
    value = nn.Parameter(torch.zeros_like(precision))
    optimizer = torch.optim.LBFGS([value], max_iter=_STEPS, line_search_fn="strong_wolfe")
    others = torch.ones(len(vectors), dtype=torch.bool, device=item.device)
    others[item] = False
    others[0] = False

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        gained = vectors @ value
        rest = torch.logsumexp((scores + gained)[others], 0)
        score = own + gained[item]
        total = (torch.logaddexp(rest, score) - score).sum() + (precision * value.square()).sum() / 2
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    solution = value.detach()
    width = model.factor_size
    return OwnParameters(solution[:width] if width else None, solution[width:] if model.taste is not None else None)
