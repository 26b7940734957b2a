"""Evidence in explanations: only training interactions, with the effects of their removal."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_drex.explain.counterfactual.dispatch import counterfactual_for
from recbole_drex.explain.effects import OTHER, SAME, WORDS
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation_text import render


@pytest.fixture(scope="module", params=["DReX", "NARRE", "EMF", "DReX-implicit"])
def explained(request, make_experiment, train):
    more = {"train_batch_size": 900} if request.param == "DReX-implicit" else {}
    experiment = make_experiment(request.param, epochs=4, **more)
    train(experiment)
    experiment.model.eval()
    explainer = Explainer(experiment, word_effects=True)
    return explainer, [one for one in explainer.explain_users(6) if one.recommendations]


def each(explanations):
    for explanation in explanations:
        for item in explanation.recommendations:
            yield explanation.user, item


def test_evidence_is_of_training(explained):
    explainer, explanations = explained
    evidence = explainer.experiment.parts.train_dataset.evidence()
    names = explainer.recommender
    known = {
        (names.user_name(user), names.item_name(item)): rating
        for user, item, rating in zip(
            *(part.tolist() for part in (evidence.user, evidence.item, evidence.rating)), strict=True
        )
    }
    sides = set()
    for user, item in each(explanations):
        assert 1 <= len(item.evidence) <= SAME + OTHER
        for one in item.evidence:
            sides.add(one.side)
            pair = (one.review.user, one.review.item)
            assert pair[0] == user if one.side == "user" else pair[1] == item.item and pair[0] != user
            rating = known[pair]
            assert one.review.rating == (None if np.isnan(rating) else rating)
        sizes = [abs(one.delta) for one in item.evidence]
        assert sizes == sorted(sizes, reverse=True) and min(sizes) > 0
        assert (
            sum(one.delta > 0 for one in item.evidence) <= SAME or sum(one.delta < 0 for one in item.evidence) <= OTHER
        )
        assert item.evidence and item.sentence
    # EMF has no evidence of users; a ranking model decides how much evidence of either side there is.
    expected = {"EMF": [{"item"}], "DReX-implicit": [{"item"}, {"user", "item"}]}
    assert sides in expected.get(explainer.experiment.config.model, [{"user", "item"}])


def test_deltas_are_those_of_removal(explained):
    explainer, explanations = explained
    names, model = explainer.recommender, explainer.model
    for user, item in list(each(explanations))[:4]:
        counterfactual = counterfactual_for(model, names.user_id(user), names.item_id(item.item))
        base = float(counterfactual.without([[]], [[]])[0])
        for one in item.evidence:
            side = ("user", "item").index(one.side)
            interactions = list(
                zip(*(part.tolist() for part in counterfactual.past_interactions[side][:2]), strict=True)
            )
            place = interactions.index((names.user_id(one.review.user), names.item_id(one.review.item)))
            places = [[place]], [[]]
            left = float(counterfactual.without(*(places if side == 0 else places[::-1]))[0])
            assert one.delta == pytest.approx(base - left, abs=1e-4)


def test_words_and_their_marks(explained):
    explainer, explanations = explained
    reads_words = explainer.keywords is not None
    marked = 0
    for _, item in each(explanations):
        assert bool(item.words) == reads_words and len(item.words) <= WORDS
        sizes = [abs(word.delta) for word in item.words]
        assert sizes == sorted(sizes, reverse=True)
        for one in item.evidence:
            quote = one.review.quote
            for mark in quote.marks if quote else ():
                assert 0 <= mark.start < mark.end <= len(quote.text)
                assert (mark.delta is not None) == reads_words
                marked += quote.text[mark.start : mark.end].strip() == quote.text[mark.start : mark.end] != ""
    assert marked or explainer.experiment.config.model == "EMF"


def test_only_narre_weighs_reviews(explained):
    explainer, explanations = explained
    narre = explainer.experiment.config.model == "NARRE"
    for _, item in each(explanations):
        assert bool(item.reviews) == narre
        weights = [one.weight for one in item.reviews]
        assert weights == sorted(weights, reverse=True) and all(one.side == "item" for one in item.reviews)


def test_the_terminal_shows_the_evidence_for_an_item(explained):
    _, explanations = explained
    for one in explanations:
        for item in one.recommendations:
            shown = "average + " if item.parts else "on this item"
            assert shown in render(one).replace(" - ", " + ") or "by this user" in render(one)


def test_evidence_of_a_pair_leaves_its_own_interaction_out(explained):
    explainer, _ = explained
    table = explainer.experiment.parts.train_dataset.inter_feat
    names = explainer.recommender
    user, item = names.user_name(int(table["user_id"][0])), names.item_name(int(table["item_id"][0]))
    (found,) = explainer.explain_pair(user, item).recommendations
    assert found.known is not None
    assert all((one.review.user, one.review.item) != (user, item) for one in found.evidence)
