"""All kinds of explanations through one interface."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from recbole_drex.errors import DataError
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation_text import render
from recbole_drex.explain.quality import explanation_quality


def explained(make_experiment, train, model, **parameters):
    experiment = make_experiment(model, **parameters)
    train(experiment)
    # The most active users of the small data set have interacted with all items.
    return experiment, [
        explanation for explanation in Explainer(experiment).explain_users(8) if explanation.recommendations
    ]


def test_neighbours_are_counted_from_training_ratings(make_experiment, train):
    experiment, explanations = explained(make_experiment, train, "EMF")
    dataset, part = experiment.dataset, experiment.parts.train_dataset
    model, feat = experiment.model, part.inter_feat
    known = {
        (int(u), int(i)): float(r) for u, i, r in zip(feat["user_id"], feat["item_id"], feat["rating"], strict=True)
    }
    n_ratings = 0
    for explanation in explanations:
        uid = dataset.token2id("user_id", explanation.user)
        assert explanation.profile == ()
        for item in explanation.recommendations:
            iid = dataset.token2id("item_id", item.item)
            ratings = [known[v, iid] for v in model.neighbourhood.of(uid).tolist() if (v, iid) in known]
            assert item.neighbours is not None and item.neighbours.rated == len(ratings)
            assert item.neighbours.relevant == sum(rating >= 4 for rating in ratings)
            n_ratings += len(ratings)
        assert "nearest users rated it" in render(explanation)
    assert n_ratings
    assert json.dumps([dataclasses.asdict(explanation) for explanation in explanations])


def test_useful_reviews_are_training_reviews_of_other_users(make_experiment, train):
    experiment, explanations = explained(make_experiment, train, "NARRE")
    dataset, evidence = experiment.dataset, experiment.parts.train_dataset.evidence()
    pairs = set(zip(evidence.user.tolist(), evidence.item.tolist(), strict=True))
    quoted = 0
    for explanation in explanations:
        for item in explanation.recommendations:
            iid = dataset.token2id("item_id", item.item)
            weights = [review.weight for review in item.reviews]
            assert weights == sorted(weights, reverse=True) and 1 <= len(weights) <= 3
            for review in item.reviews:
                assert review.side == "item" and review.review.item == item.item
                assert review.review.user != explanation.user
                assert (dataset.token2id("user_id", review.review.user), iid) in pairs
                quoted += bool(review.review.quote and review.review.quote.text)
        assert "useful review by" in render(explanation)
    assert quoted


def test_a_model_without_explanations_is_rejected(make_experiment, train):
    experiment = make_experiment("BiasedMF")
    train(experiment)
    with pytest.raises(DataError, match="BiasedMF offers no explanations"):
        Explainer(experiment)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("DReX", {}),
        ("DReX", {"output": "point", "loss": "mse"}),
        ("DReX", {"refinement": "sequential", "taste": [], "aspects": 0}),
        ("DReX-implicit", {}),
        ("NARRE", {}),
    ],
    ids=str,
)
def test_users_and_items_without_reviews(make_experiment, train, model, parameters):
    """The model reads reviews only, and some users and items have no reviews."""
    if model != "NARRE":
        parameters = {"modalities": ["review"], **parameters}
    experiment = make_experiment(model, hide_reviews=0.9, explained_users=0, **parameters)
    train(experiment)
    explainer, dataset = Explainer(experiment), experiment.dataset
    evidence = experiment.parts.train_dataset.evidence()
    written = evidence.review_row.numpy() >= 0
    names = [explainer.recommender.user_name, explainer.recommender.item_name]
    pairs = []
    for side, n in ((evidence.user, dataset.user_num), (evidence.item, dataset.item_num)):
        count = np.bincount(side.numpy()[written], minlength=n)[1:]
        assert count.min() == 0 < count.max()
        pairs.append((int(count.argmin()) + 1, int(count.argmax()) + 1))
    (no_reviews, writer), (unknown, reviewed) = pairs
    for user, item in (
        (no_reviews, unknown),
        (no_reviews, reviewed),
        (writer, unknown),
        (writer, reviewed),
    ):
        explanation = explainer.explain_pair(names[0](user), names[1](item))
        (one,) = explanation.recommendations
        assert render(explanation) and (one.sentence or one.predicted is None)
        reviews = {(part.side, part.review.user, part.review.item) for part in (*one.evidence, *one.reviews)}
        assert not any(side == "user" for side, *_ in reviews) or user == writer
        assert not any(side == "item" for side, *_ in reviews) or item == reviewed
    assert explainer.explain(names[0](no_reviews), 3).recommendations
    assert explanation_quality(explainer, 3, 2026)
