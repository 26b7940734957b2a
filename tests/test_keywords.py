"""Keyword profiles and explanations, against a literal sum over words and against the tastes that the demo planted."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest
import torch

from recbole_drex.data.text import JUDGING_WORDS
from recbole_drex.errors import DataError
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.keywords import keyword_profiles
from recbole_drex.explain.terminal import render


@pytest.fixture(scope="module")
def trained(make_experiment, train):
    experiment = make_experiment("DReX", epochs=8)
    train(experiment)
    experiment.model.eval()
    return experiment


@pytest.fixture(scope="module")
def explainer(trained):
    return Explainer(trained)


def test_profiles_equal_a_literal_sum_over_training_reviews(trained):
    """Softmax over the projected words of each training review, summed word by word, in plain loops."""
    dataset, model = trained.dataset, trained.model
    store, attention = model.attention.store, model.attention
    expected: dict[tuple[str, str, str], float] = defaultdict(float)
    train = trained.parts.train_dataset.inter_feat
    for feat in (train, dataset.unrated):
        for user, item, row in zip(feat["user_id"], feat["item_id"], feat["review_row"].long(), strict=True):
            if row < 0 or store.offsets[row] == store.offsets[row + 1]:
                continue
            words = slice(store.offsets[row], store.offsets[row + 1])
            with torch.no_grad():
                projected = attention.projection(torch.from_numpy(np.array(store.vectors[words], dtype=np.float32)))
                weights = torch.softmax(attention.scorer(projected)[:, 0], 0)
            for word, weight in zip(store.word_ids[words], weights.tolist(), strict=True):
                lemma = store.vocabulary[word]
                expected["user", str(dataset.id2token("user_id", user)), lemma] += weight
                expected["item", str(dataset.id2token("item_id", item)), lemma] += weight
    profiles = keyword_profiles(trained)
    found = {(row.side, row.id, row.word): row.score for row in profiles.itertuples()}
    assert found.keys() == {key for key in expected if key[2] not in JUDGING_WORDS}
    assert max(abs(found[key] - expected[key]) for key in found) < 1e-4


def test_profiles_recover_planted_tastes(small, explainer):
    truth = json.loads(small.raw["truth"].read_text())
    hits = total = 0
    for user, tastes in truth["users"].items():
        named = {word for aspect, weight in tastes.items() if weight > 0 for word in truth["aspects"][aspect]}
        top = [keyword.word for keyword in explainer.profile("user", user)[:5]]
        hits, total = hits + sum(word in named for word in top), total + len(top)
    assert total > 200
    assert hits / total >= 0.8


def test_recommendations_are_new_sorted_and_explained_by_shared_words(trained, explainer):
    dataset = trained.dataset
    for user in [str(token) for token in dataset.field2id_token["user_id"][1:6]]:
        explanation = explainer.explain(user, top=4)
        uid = dataset.token2id("user_id", user)
        known = {
            str(dataset.id2token("item_id", item))
            for feat in (dataset.inter_feat, dataset.unrated)
            for item in feat["item_id"][feat["user_id"] == uid]
        }
        assert not known & {item.item for item in explanation.recommendations}
        predicted = [item.predicted for item in explanation.recommendations]
        assert predicted == sorted(predicted, reverse=True)
        assert all(1 <= value <= 5 for value in predicted)
        mine = {keyword.word: keyword.score for keyword in explanation.profile}
        assert len(mine) <= 10
        for item in explanation.recommendations:
            its = {keyword.word: keyword.score for keyword in explainer.profile("item", item.item)}
            assert {(k.word, k.user_score, k.item_score) for k in item.keywords} == {
                (word, mine[word], its[word]) for word in mine.keys() & its.keys()
            }
            assert item.title
            assert item.profile == explainer.profile("item", item.item)
            assert all(k.user_quote and k.item_quote for k in item.keywords)
        assert user in render(explanation)


def test_unknown_user_and_models_without_words(explainer, make_experiment, train):
    with pytest.raises(DataError, match="unknown user 'nobody'"):
        explainer.explain("nobody")
    with pytest.raises(DataError, match="unknown user"):
        explainer.explain("[PAD]")
    for model, parameters in (("Bias", {}), ("DReX", {"modalities": ["rating"]})):
        experiment = make_experiment(model, **parameters)
        train(experiment)
        with pytest.raises(DataError, match="explains nothing"):
            Explainer(experiment)
