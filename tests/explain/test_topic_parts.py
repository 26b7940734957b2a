"""HFT's predictions as sums: the parts add up, and a named topic is one that the reviews write about."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from recbole.data.interaction import Interaction

from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation import SMALLEST
from recbole_drex.explain.explanation_text import render
from recbole_drex.explain.prediction_parts import ORDINAL, RATING
from recbole_drex.explain.quality import explanation_quality

OPTIONS = {"embedding_size": 6, "lambda_text": 0.5, "learning_rate": 0.02, "reg_weight": 0.05, "epochs": 12}


@pytest.fixture(scope="module", params=[("item", "point"), ("item", "ordinal"), ("user", "point")], ids=str)
def explainer(make_experiment, train, request):
    topics_of, output = request.param
    experiment = make_experiment("HFT", topics_of=topics_of, output=output, stopping_step=12, **OPTIONS)
    train(experiment)
    return Explainer(experiment)


@pytest.fixture(scope="module")
def explanations(explainer):
    return explainer.explain_users(40)


def items_of(explanations):
    return [(explanation.user, item) for explanation in explanations for item in explanation.recommendations]


def test_parts_add_up_to_the_prediction(explainer, explanations):
    model, names = explainer.model, explainer.recommender
    scale = ORDINAL if explainer.experiment.config["output"] == "ordinal" else RATING
    for user, item in items_of(explanations):
        pair = {"user_id": [names.user_id(user)], "item_id": [names.item_id(item.item)]}
        pair = Interaction({name: torch.tensor(value) for name, value in pair.items()})
        with torch.no_grad():
            score, rating = (float(part[0]) for part in (model.score(*pair.interaction.values()), model.predict(pair)))
        assert item.score == pytest.approx(score, abs=1e-4)
        assert sum(part.value for part in item.parts) == pytest.approx(score, abs=1e-4)
        assert sum(part.rating for part in item.parts) == pytest.approx(rating, abs=1e-3)
        kinds = [part.kind for part in item.parts]
        assert kinds[:3] == ["average", "user", "item"] and kinds[-1] == "rest" and item.scale == scale


def test_a_named_topic_is_a_term_of_the_product(explainer, explanations):
    model, names = explainer.model, explainer.recommender
    side = model.bags.side
    factors = [model.user_factors.weight.detach().double(), model.item_factors.weight.detach().double()]
    mean, named, topics = factors[side][1:].mean(0), 0, [tuple(words) for words in model.topics(3)]
    for user, item in items_of(explanations):
        pair = names.user_id(user), names.item_id(item.item)
        for part in item.parts[3:-1]:
            k = topics.index(part.words)
            own = factors[side][pair[side], k] - mean[k]
            assert part.kind == ("own topic", "topic")[side] and part.name == ", ".join(part.words)
            assert part.value == pytest.approx(float(own * factors[1 - side][pair[1 - side], k]), abs=1e-5)
            assert own > 0 and abs(part.rating) >= SMALLEST
            named += 1
    assert named > 10


def test_reviews_write_more_about_a_named_topic_than_all_reviews_do(explainer, explanations):
    """Counted in the feature store. The pair's own review is left out."""
    names, side = explainer.recommender, explainer.model.bags.side
    part = explainer.experiment.parts.train_dataset
    evidence, store = part.evidence(), part.features()
    whole, documents = Counter(), {}
    for user, item, row in zip(
        evidence.user.tolist(), evidence.item.tolist(), evidence.review_row.tolist(), strict=True
    ):
        if row >= 0:
            numbers = store.word_ids[store.offsets[row] : store.offsets[row + 1]]
            words = Counter(store.vocabulary[k] for k in numbers)
            whole.update(words)
            documents.setdefault((user, item)[side], []).append(((user, item), words))
    user, item = part.inter_feat["user_id"].tolist()[:60], part.inter_feat["item_id"].tolist()[:60]
    known = [explainer.explain_pair(names.user_name(u), names.item_name(i)) for u, i in zip(user, item, strict=True)]
    checked = 0
    for who, one in items_of([*explanations, *known]):
        pair = names.user_id(who), names.item_id(one.item)
        of_pair = sum((words for of, words in documents.get(pair[side], []) if of != pair), Counter())
        for topic in (part for part in one.parts if part.words):
            share, of_all = (sum(c[word] for word in topic.words) / c.total() for c in (of_pair, whole))
            assert share > of_all
            checked += 1
    assert checked > 20


def test_the_sentence_names_the_topic(explainer, explanations):
    strong = [
        (item, max(named, key=lambda part: abs(part.rating)))
        for _, item in items_of(explanations)
        if (named := [part for part in item.parts if part.words and part.rating > 0])
    ]
    assert strong
    for item, part in strong:
        about = f"more about {part.words[0]}, {part.words[1]} or {part.words[2]} than others"
        start = "its reviews are" if part.kind == "topic" else "you write"
        assert f"{start} {about}" in item.sentence and "higher than expected" in item.sentence
    shown = "\n".join(map(render, explanations))
    assert f"{strong[0][1].words[0]}" in shown and " = " in shown


def test_no_faithfulness_is_measured_without_counterfactuals(explainer):
    assert explanation_quality(explainer, 3, 2026) == []
