"""Predictions as sums: the parts add up, and claims about aspects match the counted and quoted reviews."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole.data.interaction import Interaction

from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation import SMALLEST, adding_up
from recbole_drex.explain.prediction_parts import ORDINAL, RANKING, RATING, in_ratings
from recbole_drex.explain.recommender import PostedInteraction

KINDS = ["average", "user", "item", "aspect", "taste", "rest"]
MODELS = [
    ("DReX", {}, ORDINAL),
    ("DReX", {"output": "point", "loss": "mse"}, RATING),
    ("DReX", {"modalities": ["rating"], "aspects": 0, "taste": []}, ORDINAL),
    ("DReX-MLP", {}, ORDINAL),
    ("DReX-paper", {}, RATING),
    ("DReX-implicit", {}, RANKING),
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda one: " ".join(map(str, one[:2])))
def explained(request, make_experiment, train):
    model, parameters, scale = request.param
    experiment = make_experiment(model, epochs=6, **parameters)
    train(experiment)
    return Explainer(experiment, quotes=2), scale


def check(item, scale: str) -> None:
    """Check the invariants of a recommendation's parts."""
    assert item.scale == scale
    assert item.score == pytest.approx(sum(part.value for part in item.parts), abs=1e-4)
    kinds = [part.kind for part in item.parts]
    assert kinds == sorted(kinds, key=KINDS.index) and {"average", "user", "item", "rest"} <= set(kinds)
    assert all(kinds.count(kind) == 1 for kind in set(kinds) - {"aspect"})
    named = [part for part in item.parts if part.words]
    assert all(part.kind == "aspect" and abs(part.rating) >= SMALLEST for part in named)
    assert [abs(part.rating) for part in named] == sorted((abs(part.rating) for part in named), reverse=True)
    total = sum(part.rating for part in item.parts)
    if scale == RANKING:
        assert item.predicted is None
    if scale != ORDINAL:
        assert all(part.rating == pytest.approx(part.value, abs=1e-4) for part in item.parts)
    if item.predicted is not None:
        assert item.predicted == pytest.approx(min(max(total, 1.0), 5.0), abs=2e-3)
    for part in named:
        for claim in (part.user, part.item):
            sentiments = [mention.sentiment for mention in claim.mentions]
            assert claim.reviews == len(sentiments) <= claim.total
            assert claim.praise == sum(value > 0 for value in sentiments) and claim.blame == sum(
                value < 0 for value in sentiments
            )


def test_parts_add_up(explained):
    explainer, scale = explained
    names, model = explainer.recommender, explainer.model
    n_recommendations = 0
    for explanation in explainer.explain_users(10):
        for item in explanation.recommendations:
            check(item, scale)
            pair = {"user_id": [names.user_id(explanation.user)], "item_id": [names.item_id(item.item)]}
            pair = Interaction({field: torch.tensor(value) for field, value in pair.items()})
            with torch.no_grad():
                score = model.score(pair["user_id"], pair["item_id"])
                rating = float(model.predict(pair).flatten()[0])
            assert item.score == pytest.approx(float(score[0]), abs=1e-3)
            assert sum(part.rating for part in item.parts) == pytest.approx(rating, abs=1e-3)
            n_recommendations += 1
    assert n_recommendations >= 20


def test_parts_of_known_pairs(explained):
    explainer, scale = explained
    part = explainer.experiment.parts.train_dataset.inter_feat
    ratings = part["rating"].double().numpy()
    for k in range(0, len(part), 151):
        user, item = int(part["user_id"][k]), int(part["item_id"][k])
        names = explainer.recommender.user_name(user), explainer.recommender.item_name(item)
        (one,) = explainer.explain_pair(*names).recommendations
        check(one, scale)
        others = ratings[(part["item_id"].numpy() == item) & (part["user_id"].numpy() != user)]
        assert one.ratings == len(others) and one.mean_rating == pytest.approx(others.mean())
        for claim in (claim for part in one.parts for claim in (part.user, part.item) if claim):
            assert names not in {(mention.user, mention.item) for mention in claim.mentions}
            assert claim.quote is None or (claim.quote.user, claim.quote.item) != names


def test_parts_for_new_users(explained):
    explainer, scale = explained
    posted = [
        PostedInteraction("game_00", 5.0, "The story is superb. What brilliant music!"),
        PostedInteraction("game_01", 2.0, "I found the plot dull"),
        PostedInteraction("game_02", 4.0),
    ]
    explanation = explainer.explain_new(posted, 4)
    assert len(explanation.recommendations) == 4 and explanation.mean_rating == pytest.approx(11 / 3)
    for item in explanation.recommendations:
        check(item, scale)
        assert item.sentence and item.ratings > 0
        for part in item.parts:
            if part.words:
                assert part.user.total == 2 and part.user.quote is None
                about = {mention.item for mention in part.user.mentions}
                assert about <= {"game_00", "game_01"}
    assert explainer.explain_new([PostedInteraction("game_03", 1.0)], 1).recommendations


def test_the_document_has_plain_values(explained):
    explainer, _ = explained
    (explanation,) = explainer.explain_users(1)
    document = json.loads(json.dumps(dataclasses.asdict(explanation), allow_nan=False))
    for item in document["recommendations"]:
        assert {"score", "predicted", "scale", "parts", "mean_rating", "ratings", "sentence"} <= item.keys()
        for part in item["parts"]:
            assert part.keys() == {"kind", "name", "value", "rating", "words", "user", "item"}
            for claim in (part["user"], part["item"]):
                if claim is not None:
                    assert claim.keys() == {"total", "reviews", "praise", "blame", "quote", "mentions"}
                    for mention in claim["mentions"]:
                        assert mention.keys() == {"user", "item", "words", "sentiment"}


scores = st.floats(-20, 20)


@given(scores, scores, st.floats(0.1, 3), st.floats(-2, 2), st.floats(-2, 2))
def test_ratings_of_parts_sum_to_the_rating(average, total, slope, shift, own):
    def global_rating(score: float) -> float:
        return 3 + 2 * math.tanh(slope * (score - shift))

    def user_rating(score: float) -> float:
        return 3 + 2 * math.tanh(slope * (score - own))

    start, factor, added = in_ratings(average, total, global_rating, user_rating)
    assert start == pytest.approx(global_rating(average))
    # Close to the average, the slope is that of the curve, with an error of second order.
    assert start + added + factor * (total - average) == pytest.approx(user_rating(total), abs=2e-3)
    assert factor >= -1e-9


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=12))
def test_rounded_numbers_add_up(values):
    total, parts = adding_up(values, 2)
    assert total == pytest.approx(sum(parts), abs=1e-9)
    assert total == pytest.approx(sum(values), abs=0.00501)
    assert np.abs(np.array(parts) - values).max() <= 0.0101
