"""HFT's predictions as sums: the topics of an item, or of a user, that move them."""

from __future__ import annotations

import torch

from recbole_drex.explain.explanation import SMALLEST, Part
from recbole_drex.explain.prediction_parts import Sum, in_ratings, scale_of
from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.hft import HFT

_WORDS = 3  # in the name of a topic
_KINDS = ("own topic", "topic")  # topics of the user, and of the item


@torch.no_grad()
def topic_parts(model: HFT, user: int, item: int) -> Sum:
    r"""The parts of a prediction of HFT.

    With topics of items, :math:`p_u^\top q_i = p_u^\top \bar q + \sum_k p_{uk} (q_{ik} - \bar q_k)`, where
    :math:`\bar q` is the mean over items. The first term is the same for all items and belongs to the user. A term of
    the sum is a part of its own, named by words of the topic, if it moves the rating by :data:`SMALLEST` or more, the
    item has more of the topic than the mean, :math:`q_{ik} > \bar q_k`, and these words are a larger share of its
    training reviews, without the user's own, than of all training reviews. All other terms make up ``rest``. With
    topics of users the roles of users and items are exchanged.

    Args:
        model: trained.
        user, item: internal ids.
    """
    side, pair = model.bags.side, torch.tensor([user, item], device=model.mean.device)
    tables, biases = (model.user_factors, model.item_factors), (model.user_bias, model.item_bias)
    own, other = tables[side].weight[pair[side]], tables[1 - side].weight[pair[1 - side]]
    mean = tables[side].weight[1:].mean(0)
    terms = ((own - mean) * other).tolist()
    alone = [float(table(one)) for table, one in zip(biases, pair, strict=True)]
    alone[1 - side] += float(mean @ other)
    average = float(model.mean)
    total = average + sum(alone) + sum(terms)

    def rating(score: float, who: int) -> float:
        return float(model.head.mean(torch.tensor(score, device=pair.device), torch.tensor(who, device=pair.device)))

    # The padding user's thresholds are the global ones.
    start, slope, added = in_ratings(average, total, lambda one: rating(one, 0), lambda one: rating(one, user))
    strong = [k for k, term in enumerate(terms) if own[k] > mean[k] and abs(term * slope) >= SMALLEST]
    topics = _named(model, pair, strong)
    shown = [
        Part(_KINDS[side], ", ".join(words), terms[k], terms[k] * slope, tuple(words)) for k, words in topics.items()
    ]
    shown.sort(key=lambda part: (-abs(part.rating), part.name))
    rest = sum(terms) - sum(part.value for part in shown)
    mine, its = alone[Side.USER], alone[Side.ITEM]
    first = (
        Part("average", "average", average, start),
        Part("user", "you", mine, mine * slope + added),
        Part("item", "the item", its, its * slope),
    )
    return Sum(total, scale_of(model.head), (*first, *shown, Part("rest", "other patterns", rest, rest * slope)))


def _named(model: HFT, pair: torch.Tensor, topics: list[int]) -> dict[int, list[str]]:
    """The words of those of ``topics`` that the reviews of an item, or a user, are about more than all reviews."""
    bags, words = model.bags, model.topics(_WORDS)
    document, whole = bags.document(*pair.tolist()), bags.frequency
    number = {word: k for k, word in enumerate(bags.vocabulary)}

    def share(counts: torch.Tensor, topic: int) -> float:
        return float(counts[[number[word] for word in words[topic]]].sum() / counts.sum().clamp(min=1))

    return {topic: words[topic] for topic in topics if share(document, topic) > share(whole, topic)}
