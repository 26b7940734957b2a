"""Reasons of every kind through one interface."""

from __future__ import annotations

import dataclasses
import json

import pytest

from recbole_drex.errors import DataError
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.terminal import render


def explained(make_experiment, train, model, **parameters):
    experiment = make_experiment(model, **parameters)
    train(experiment)
    # The busiest users of the small data set have nothing left to be recommended.
    return experiment, [found for found in Explainer(experiment).explain_users(8) if found.recommendations]


def test_neighbours_are_counted_from_training_ratings(make_experiment, train):
    experiment, explanations = explained(make_experiment, train, "EMF")
    dataset, part = experiment.dataset, experiment.parts.train_dataset
    model, feat = experiment.model, part.inter_feat
    known = {
        (int(u), int(i)): float(r) for u, i, r in zip(feat["user_id"], feat["item_id"], feat["rating"], strict=True)
    }
    found = 0
    for explanation in explanations:
        uid = dataset.token2id("user_id", explanation.user)
        assert explanation.profile == ()
        for item in explanation.recommendations:
            iid = dataset.token2id("item_id", item.item)
            ratings = [known[v, iid] for v in model.neighbourhood.of(uid).tolist() if (v, iid) in known]
            assert item.neighbours is not None and item.neighbours.rated == len(ratings)
            assert item.neighbours.relevant == sum(rating >= 4 for rating in ratings)
            found += len(ratings)
        assert "nearest users rated it" in render(explanation)
    assert found
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


def test_a_model_without_reasons_says_so(make_experiment, train):
    experiment = make_experiment("BiasedMF")
    train(experiment)
    with pytest.raises(DataError, match="BiasedMF explains nothing"):
        Explainer(experiment)
