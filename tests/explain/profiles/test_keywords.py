"""Keyword profiles and explanations, compared with literal sums over words and with the demo's planted tastes."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from recbole_drex.data.text.tokenizer import JUDGING_WORDS
from recbole_drex.errors import DataError
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation_text import render
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews
from recbole_drex.explain.profiles.keywords import KeywordProfiles


@pytest.fixture(scope="module")
def trained(make_experiment, train):
    experiment = make_experiment("DReX", epochs=8)
    train(experiment)
    experiment.model.eval()
    return experiment


@pytest.fixture(scope="module")
def explainer(trained):
    return Explainer(trained)


def literal(experiment) -> dict[tuple[str, str, str], list[tuple[float, float]]]:
    """Attention and rating of every training review, per user or item and word, computed in plain loops by a softmax
    over the projected words of each review."""
    dataset, model = experiment.dataset, experiment.model
    store, attention = model.attention.store, model.attention
    result: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for feat in (experiment.parts.train_dataset.inter_feat, dataset.unrated):
        ratings = feat["rating"].tolist() if "rating" in feat else [math.nan] * len(feat)
        rows = zip(feat["user_id"], feat["item_id"], feat["review_row"].long(), ratings, strict=True)
        for user, item, row, rating in rows:
            if row < 0 or store.offsets[row] == store.offsets[row + 1]:
                continue
            words = slice(store.offsets[row], store.offsets[row + 1])
            with torch.no_grad():
                projected = attention.projection(store.read(np.arange(words.start, words.stop)))
                weights = torch.softmax(attention.scorer(projected)[:, 0], 0)
            sums: dict[str, float] = defaultdict(float)
            for word, weight in zip(store.word_ids[words], weights.tolist(), strict=True):
                sums[store.vocabulary[word]] += weight
            for word, weight in sums.items():
                result["user", str(dataset.id2token("user_id", user)), word].append((weight, rating))
                result["item", str(dataset.id2token("item_id", item)), word].append((weight, rating))
    return result


def full_table(experiment, score: str):
    experiment.config["profile_score"] = score
    table = KeywordProfiles(experiment, words=10**6).table()
    experiment.config["profile_score"] = "attention_lift"
    return table


def test_sums_of_attention_equal_literal_ones(trained):
    everywhere = literal(trained)
    writers = Counter(word for side, _, word in everywhere if side == "user")
    users = len({owner for side, owner, _ in everywhere if side == "user"})
    names = {"christmas", "easter", "boston", "january", "vienna"}  # of the generator's fillers
    shown = {word for word, n in writers.items() if n <= users / 2}.difference(JUDGING_WORDS)
    expected = {key: entry for key, entry in everywhere.items() if key[2] in shown}
    table = full_table(trained, "attention")
    result = {(row.side, row.id, row.lemma): row for row in table.itertuples()}
    hidden = {word for *_, word in expected.keys() - result.keys()}
    assert result.keys() <= expected.keys() and all(key[2] in hidden for key in expected.keys() - result.keys())
    assert names & {word for *_, word in everywhere} <= hidden and len(hidden) < 40
    expected = {key: expected[key] for key in result}
    for key, row in result.items():
        weights, ratings = zip(*expected[key], strict=True)
        assert row.score == pytest.approx(sum(weights), abs=1e-4) and row.reviews == len(weights)
        rated = [rating for rating in ratings if not math.isnan(rating)]
        assert row.mean_rating == pytest.approx(np.mean(rated)) if rated else math.isnan(row.mean_rating)


def test_the_lift_equals_a_literal_one(trained):
    entries = literal(trained)
    reviews = {
        (side, owner): n
        for side in ("user", "item")
        for owner, n in Counter(
            str(trained.dataset.id2token(f"{side}_id", int(one))) for one in getattr(AttendedReviews.of(trained), side)
        ).items()
    }
    total = sum(n for (side, _), n in reviews.items() if side == "user")
    table = full_table(trained, "attention_lift")
    for row in table[::37].itertuples():
        lift = 0.0
        for side in ("user", "item"):
            result = {
                owner: len(entry) for (s, owner, word), entry in entries.items() if (s, word) == (side, row.lemma)
            }
            share = sum(result.values()) / total
            expected = sum(1 - (1 - share) ** n for (s, _), n in reviews.items() if s == side)
            lift += max(0.0, math.log(expected / len(result)))
        weights = [weight for weight, _ in entries[row.side, row.id, row.lemma]]
        damped = sum(weights) - 0.9 * math.sqrt(sum(weight**2 for weight in weights))
        assert row.score == pytest.approx(damped * min(max(lift, 1e-6), 1.0), abs=1e-4)
    for _, owner in table.groupby(["side", "id"]):
        assert owner["score"].round(9).is_monotonic_decreasing and owner["rank"].tolist() == list(
            range(1, len(owner) + 1)
        )
        assert (owner["score"] > 0).all()


def test_profiles_recover_planted_tastes(small, explainer):
    truth = json.loads(small.raw["truth"].read_text())
    hits = total = 0
    for user, tastes in truth["users"].items():
        named = {word for aspect, weight in tastes.items() if weight > 0 for word in truth["aspects"][aspect]}
        top = [keyword.lemma for keyword in explainer.profile("user", user)[:5]]
        hits, total = hits + sum(word in named for word in top), total + len(top)
    assert total > 200
    assert hits / total >= 0.9


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
        mine = {keyword.lemma: keyword.score for keyword in explanation.profile}
        assert len(mine) <= 20
        for item in explanation.recommendations:
            its = {keyword.lemma: keyword.score for keyword in explainer.profile("item", item.item)}
            assert {(k.lemma, k.user_score, k.item_score) for k in item.keywords} == {
                (word, mine[word], its[word]) for word in mine.keys() & its.keys()
            }
            assert item.title
            assert item.profile == explainer.profile("item", item.item, quotes=0)
            assert all(k.user_quote and k.item_quote for k in item.keywords)
        assert user in render(explanation)


def test_unknown_user_and_models_without_words(explainer, make_experiment, train):
    with pytest.raises(DataError, match="unknown user 'nobody'"):
        explainer.explain("nobody")
    with pytest.raises(DataError, match="unknown user"):
        explainer.explain("[PAD]")
    for model, parameters in (("Bias", {}), ("BPR", {})):
        experiment = make_experiment(model, **parameters)
        train(experiment)
        with pytest.raises(DataError, match="offers no explanations"):
            Explainer(experiment)
