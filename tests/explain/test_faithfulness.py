"""Faithfulness separates true from random evidence, and counterfactual predictions of NARRE and EMF are correct."""

import numpy as np
import pytest
import torch
from altered import shake
from hypothesis import given
from hypothesis import strategies as st

from recbole.data.interaction import Interaction

from recbole_drex.explain import faithfulness
from recbole_drex.explain.counterfactual.dispatch import counterfactual_for
from recbole_drex.explain.faithfulness import Effect, UnitSelection, effect, measure, ratio, same_direction


class Sum:
    """A prediction that is the sum of its units' known contributions."""

    def __init__(self, contributions):
        self.contributions = np.asarray(contributions, dtype=float)
        self.base, self.pool = float(self.contributions.sum()), list(range(len(contributions)))

    def deltas(self):
        return dict(enumerate(self.contributions.tolist()))

    def without(self, chosen):
        return np.array([self.base - self.contributions[list(one)].sum() for one in chosen])

    def only(self, chosen):
        return np.array([self.contributions[list(one)].sum() for one in chosen])


def test_effects_of_a_sum_are_known():
    case = Sum([0.5, 0.25, -0.125, 0.0, 0.0, 0.0])
    result = effect(case, [0, 1], np.random.default_rng(0), draws=2000)
    mean = np.mean([abs(case.contributions[[a, b]].sum()) for a in range(6) for b in range(a)])
    assert (result.deleted, result.inserted) == (0.75, 0.75)
    assert result.deleted_random == pytest.approx(mean, rel=0.05)
    assert result.deleted_same == 0.75  # only these two raise the sum
    assert result.inserted_random == pytest.approx(mean, rel=0.1)
    assert isinstance(result, Effect)


def test_a_ratio_and_its_interval():
    rng = np.random.default_rng(0)
    random = rng.exponential(size=400)
    result = ratio(3 * random + rng.normal(scale=0.1, size=400), random)
    assert result.ratio == pytest.approx(3, abs=0.05) and result.low < 3 < result.high < result.low + 0.2
    assert ratio([], []).ratio is None
    assert ratio([1.0, 1.0], [0.0, 0.0]).ratio is None
    two = ratio([1.0, 3.0], [1.0, 1.0])
    assert (two.ratio, two.low, two.high) == (2.0, None, None)


@given(st.dictionaries(st.integers(0, 30), st.floats(-1, 1), max_size=12), st.integers(1, 4))
def test_selected_units_have_the_same_direction(deltas, k):
    result = same_direction(deltas, k)
    signs = {np.sign(deltas[unit]) for unit in result}
    assert len(signs) <= 1 and 0 not in signs
    assert [abs(deltas[unit]) for unit in result] == sorted((abs(deltas[unit]) for unit in result), reverse=True)
    chosen = sum(abs(deltas[unit]) for unit in result[:k])
    for sign in (1, -1):
        assert chosen >= sum(sorted((sign * value for value in deltas.values() if sign * value > 0), reverse=True)[:k])


def predict(model, user, item) -> float:
    return float(model.predict(Interaction({"user_id": torch.tensor([user]), "item_id": torch.tensor([item])})))


@pytest.fixture(scope="module")
def narre(make_experiment):
    return shake(make_experiment("NARRE", latent_size=8, filters=8)).model.eval()


def test_narre_without_reviews_is_narre_on_fewer_reviews(narre):
    documents = narre.documents
    for user, item in ((1, 2), (9, 4), (int(documents.user[0]), int(documents.item[0]))):
        counterfactual = counterfactual_for(narre, user, item)
        whole, less, none = counterfactual.without(
            [[], [0, 2], list(range(len(counterfactual.reviews[0])))], [[], [1], []]
        ).tolist()
        assert whole == pytest.approx(predict(narre, user, item), abs=1e-4)
        removed = {0: counterfactual.reviews[0][[0, 2]].tolist(), 1: counterfactual.reviews[1][[1]].tolist()}
        states = []
        for side, entity in enumerate((user, item)):
            own = int(documents.find(torch.tensor(user), torch.tensor(item)))
            read = [
                one
                for one in documents.of(side, torch.tensor([entity]))[0].tolist()
                if one not in (own, *removed[side])
            ]
            weight = torch.softmax(narre._usefulness[side][narre._slot[read]], 0)
            pooled = weight @ narre._answers[narre._slot[read]]
            states.append(narre.embeddings[side].weight[entity] + narre.dense[side](pooled))
        score = narre.output(states[0] * states[1]) + narre._biases(torch.tensor(user), torch.tensor(item)) + narre.mean
        assert less == pytest.approx(float(score), abs=1e-4)
        assert np.isfinite(none)


def test_emf_without_ratings_minimises_the_remaining_loss(make_experiment):
    model = shake(make_experiment("EMF", explainability_weight=0.7, reg_weight=0.3)).model.eval()
    user, item = 3, 5
    counterfactual = counterfactual_for(model, user, item)
    (result,) = counterfactual.without([[]], [[0, 4]]).tolist()
    raters = [one for index, one in enumerate(counterfactual.raters.tolist()) if index not in (0, 4)]
    assert user not in raters
    p = model.user_factors.weight[raters].detach().double()
    r = torch.tensor(model.neighbourhood.ratings[raters, item].toarray().ravel())
    w = model.explainability(torch.tensor(raters), torch.full((len(raters),), item)).double()
    q = torch.zeros(p.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([q], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss():
        optimizer.zero_grad()
        value = ((r - p @ q) ** 2).sum() + 0.15 * len(raters) * (q**2).sum() + 0.35 * (w * ((p - q) ** 2).sum(1)).sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert result == pytest.approx(float(model.user_factors.weight[user].double() @ q), abs=1e-4)
    raters, near = counterfactual.raters.tolist(), model.neighbourhood.of(user, without=item)
    assert counterfactual.neighbours == [raters.index(v) for v in near if v in raters]
    assert np.isfinite(counterfactual.without([[]], [list(range(len(counterfactual.raters)))]).tolist()).all()


def test_evidence_by_removal_is_more_faithful_than_chance(make_experiment, train):
    experiment = make_experiment("DReX", epochs=8)
    train(experiment)
    model = experiment.model.eval()
    cases = [(user, 1 + user % 30) for user in range(1, 16)]
    for selection, least in (
        (UnitSelection("reviews", "evidence", 3, faithfulness.by_evidence), 3.0),
        (UnitSelection("words", "evidence", 5, faithfulness.words_by_evidence), 2.0),
    ):
        (result,) = measure(cases, model, [selection], seed=0)
        assert 10 <= result["predictions"] <= len(cases)
        assert result["deletion"]["ratio"] > least and result["deletion"]["low"] > 1.5
    selection = UnitSelection(
        "reviews", "chance", 3, lambda counterfactual: (case := faithfulness.ReviewCase(counterfactual), case.pool)
    )
    assert 0.3 < measure(cases, model, [selection], seed=0)[0]["deletion"]["ratio"] < 2.5


def test_selections_do_not_depend_on_each_other(make_experiment, monkeypatch):
    model = shake(make_experiment("DReX")).model.eval()
    cases = [(user, 1 + user % 30) for user in range(1, 5)]
    selections = [
        UnitSelection("reviews", "evidence", 3, faithfulness.by_evidence),
        UnitSelection("words", "evidence", 5, faithfulness.words_by_evidence),
        UnitSelection("words", "frequency", 5, faithfulness.words_by_frequency),
    ]
    together = measure(cases, model, selections, seed=3)
    monkeypatch.setattr(faithfulness, "_WORDS", 1)  # one scenario at a time
    for selection, result in zip(selections, together, strict=True):
        (alone,) = measure(cases, model, [selection], seed=3)
        assert result["predictions"] == alone["predictions"] > 0
        for kind in ("deletion", "same_direction", "insertion"):
            assert result[kind] == pytest.approx(alone[kind], rel=1e-4, abs=1e-6)
