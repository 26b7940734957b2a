"""Somebody who is not in the data, as what they rate and write: no parameter of the model is trained for them."""

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

_STEPS = 30  # of L-BFGS, for factors and tastes of models that rank


def view_of_new(
    model: DReX,
    item: torch.Tensor,
    rating: torch.Tensor,
    reviews: Sequence[torch.Tensor],
    lemmas: Sequence[Sequence[str]],
    begins: Sequence[Sequence[bool]],
) -> UserView:
    r"""What the model makes of interactions that it has never seen.

    The state, the deviation, what the user writes about, the thresholds of ordinal output and (for ratings) the tastes
    follow from the interactions as they do for any user. For models that rank, factors and tastes are those that
    maximise the likelihood of the n items among all items, with a normal prior of the variance that those of the users
    of the data have.

    Args:
        model: trained.
        item: internal ids, each once, (m,).
        rating: (m,), one of the levels or NaN.
        reviews: embeddings of the words of each review, (words, width); without words none.
        lemmas: of these words.
        begins: whether a sentence begins with each of them.

    Returns:
        The view; interactions without rating and review (or other modality) are not part of it.
    """
    model.make_ready()
    table = model.table
    spoken = torch.tensor([len(review) > 0 for review in reviews], dtype=torch.bool, device=rating.device)
    pooled = torch.zeros(len(reviews), 0, device=rating.device)
    if model.attention is not None:
        vector = model.attention.scoring_vector().detach()
        pooled = vector.new_zeros(len(reviews), len(vector))
        for place, review in enumerate(reviews):
            if len(review):
                pooled[place] = (torch.softmax(review @ vector, 0) @ review).detach()
    said = _said(model, lemmas, begins, rating.device)
    rows = table.rows_of_nobody(item, rating, pooled, said, spoken)
    says = torch.cat([present for _, present in table.named(rows).modalities.values()], 1).any(1)
    rows, item, rating = rows[says], item[says], rating[says]
    kept = torch.nonzero(says).flatten().tolist()
    words = _words(model, [reviews[k] for k in kept], [lemmas[k] for k in kept], [begins[k] for k in kept])
    time = torch.arange(len(item), dtype=torch.float64, device=item.device)
    none = torch.full_like(item, -1)

    def view(own: OwnParameters) -> UserView:
        return UserView(model, 0, rows, item, rating, time, none, own, posted=words)

    zeros = OwnParameters(
        torch.zeros(model.factor_size, device=item.device) if model.factor_size else None,
        torch.zeros(len(model.taste.strength), device=item.device) if model.ranks and model.taste is not None else None,
    )
    blank = view(zeros)
    return view(_learned(blank)) if model.ranks and len(item) else blank


def counterfactual_for_new(view: UserView, item: int) -> Counterfactual:
    """The prediction for a new user and an item (internal id), and what it would be without some of its evidence."""
    return DReXCounterfactual(view, item)


def _said(
    model: DReX, lemmas: Sequence[Sequence[str]], begins: Sequence[Sequence[bool]], device: torch.device
) -> torch.Tensor:
    """Mentions and opinions of posted reviews, (m, 2 A)."""
    aspects = model.aspects
    if aspects is None:
        return torch.zeros(len(lemmas), 0, device=device)
    place = {word: number for number, word in enumerate(aspects.store.vocabulary)}
    words = [place.get(word, -1) for review in lemmas for word in review]
    count = torch.tensor([len(review) for review in lemmas], dtype=torch.int64, device=device)
    number = aspects.lemma[torch.tensor(words, dtype=torch.int64, device=device)]
    read = Words(number, count.cumsum(0) - count, _sentences(begins, device))
    return aspects.pool(read, aspects.remembered_lexicon()).detach()


def _sentences(begins: Sequence[Sequence[bool]], device: torch.device) -> torch.Tensor:
    """Number of the sentence of each word; the first word of a review begins one."""
    flags = [place == 0 or bool(flag) for review in begins for place, flag in enumerate(review)]
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
    place = torch.repeat_interleave(torch.arange(len(reviews), device=device), count)
    vector = torch.cat([*reviews, torch.zeros(0, attention.width, device=device)])
    score = (vector @ attention.scoring_vector()).detach()
    word = torch.tensor(number, dtype=torch.int64, device=device)
    weight = softmax_within(score, place, len(reviews))
    sentence = _sentences(begins, device)
    words = EvidenceWords(place, torch.full_like(place, -1), word, vector, score, weight, sentence)
    return PostedWords(words, list(vocabulary)[known:])


def _learned(blank: UserView) -> OwnParameters:
    """Factors and tastes of a user by maximum a posteriori, given the scores without them."""
    model, item = blank.model, blank.item
    with torch.no_grad():
        everything = blank.scores()
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
        rest = torch.logsumexp((everything + gained)[others], 0)
        score = own + gained[item]
        total = (torch.logaddexp(rest, score) - score).sum() + (precision * value.square()).sum() / 2
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    found = value.detach()
    width = model.factor_size
    return OwnParameters(found[:width] if width else None, found[width:] if model.taste is not None else None)
