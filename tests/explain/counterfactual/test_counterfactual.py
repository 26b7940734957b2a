"""Predictions from less evidence equal those of a model that never had it."""

import numpy as np
import pytest
import torch
from altered import literal_reading, shake, without

from recbole.data.interaction import Interaction

from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual
from recbole_drex.explain.counterfactual.review_words import without_words, words_of
from recbole_drex.model.abstract_recommender import OrdinalHead

FORMS = [
    {},
    {"aspects": 0, "output": "point"},
    {"start": "random", "taste": [], "adjust_rating": False},
    {"start": "mlp", "shrinkage": 0.0},
    {"refinement": "sequential", "aspects": 0},
    {"refinement": "sequential", "aspects": 0, "start": "mlp", "taste": ["encoder"]},
    {"refinement": "sequential", "aspects": 0, "use_bias": False, "taste": []},
    {"modalities": ["rating"]},
    {"modalities": ["review"], "use_bilinear": False},
]


def predict(model, user, item):
    """Ratings of one user for several items."""
    users = torch.full((len(item),), user)
    return model.predict(Interaction({"user_id": users, "item_id": torch.as_tensor(item)}))


def unrelated(table):
    """A user of few and an item of few interactions, that have nothing to do with each other."""
    user = int(table.user_count[1:].argmin()) + 1
    known = set(table.item[table.rows_of(user)].tolist())
    counts = torch.bincount(table.item, minlength=table.n_items)
    item = min(
        (one for one in range(1, table.n_items) if one not in known and counts[one] > 3), key=lambda one: counts[one]
    )
    return user, item


@torch.no_grad()
def amid_the_scale(model, user, item):
    """Move all thresholds so that the pair's rating is not at the end of the scale, where nothing moves it."""
    score = model.score(torch.tensor([user]), torch.tensor([item]))
    middle = model.head.thresholds(model._users.habits[user])[len(model.head.levels) // 2 - 1]
    model.head.first += model.head.log_scale.exp() * score - middle
    model.load_state_dict(model.state_dict())  # so that nothing is remembered


@pytest.fixture(scope="module", params=FORMS, ids=str)
def experiment(request, make_experiment):
    made = shake(make_experiment("DReX", embedding_size=8, taste_size=8, **request.param))
    if isinstance(made.model.head, OrdinalHead):
        amid_the_scale(made.model, *unrelated(made.model.table))
    return made


@pytest.fixture(scope="module")
def pair(experiment):
    return unrelated(experiment.model.table)


def rows_in_data(experiment, rows):
    """Rows of the training part that rows of the table come from; None for unrated ones."""
    feat, table = experiment.parts.train_dataset.inter_feat, experiment.model.table
    key = feat["user_id"] * table.n_items + feat["item_id"]
    found = [torch.nonzero(key == table.key[row]).flatten().tolist() for row in rows.tolist()]
    return [places[0] if places else None for places in found]


def test_nothing_changed_is_the_model_itself(experiment):
    model, table = experiment.model.eval(), experiment.model.table
    for user in (1, 7, 30):
        items = torch.arange(1, table.n_items)
        expected = predict(model, user, items)
        found = torch.cat([DReXCounterfactual.of(model, user, item).predict() for item in items.tolist()]).detach()
        torch.testing.assert_close(found, expected, atol=5e-4, rtol=0)


def test_without_interactions_it_is_the_model_that_never_had_them(experiment, pair):
    """But for what the other side explains of the other ratings, and the residuals that tastes are fitted to."""
    model, (user, item) = experiment.model.eval(), pair
    counterfactual = DReXCounterfactual.of(model, user, item)
    mine, its = (rows_in_data(experiment, side.row) for side in counterfactual.sides)
    some = [place for place, row in enumerate(mine) if row is not None][:3]
    others = [place for place, row in enumerate(its) if row is not None][:2]
    scenarios = [([some[0]], []), ([], [others[0]]), (some, []), (some[:2], others), ([some[2]], others[:1])]
    found = counterfactual.without(*map(list, zip(*scenarios, strict=True)))
    assert not isinstance(model.head, OrdinalHead) or ((found > 1.02) & (found < 4.98)).all()
    for (by_user, by_item), prediction in zip(scenarios, found, strict=True):
        lost = [*(mine[place] for place in by_user), *(its[place] for place in by_item)]
        left = without(experiment, *lost, kept=True)
        torch.testing.assert_close(prediction[None], predict(left, user, [item]), atol=5e-4, rtol=0)


def test_parts_add_up_to_the_score(experiment, pair):
    """Of pairs that are evidence and of others; every scenario."""
    model, (user, item) = experiment.model.eval(), pair
    known = int(model.table.item[model.table.rows_of(user)[0]])
    for one in (item, known):
        counterfactual = DReXCounterfactual.of(model, user, one)
        parts = counterfactual.parts()
        score = model.score(torch.tensor([user]), torch.tensor([one]))
        torch.testing.assert_close(parts.total.detach(), score, atol=1e-4, rtol=1e-4)
        assert parts.aspects.shape == (1, 0 if model.aspects is None else len(model.aspects))
        assert model.taste is None or bool(parts.taste) == (one == item)
        n = len(counterfactual.user)
        without_each = counterfactual.parts(counterfactual.user.each_gone, None, n)
        known = counterfactual.user.summary(counterfactual.user.each_gone, n)
        torch.testing.assert_close(
            counterfactual.user.rating_of(without_each.total, known), counterfactual.without_each()[0]
        )


def test_all_evidence_may_go(experiment, pair):
    counterfactual = DReXCounterfactual.of(experiment.model.eval(), *pair)
    mine, its = (list(range(len(side))) for side in counterfactual.sides)
    found = counterfactual.without([mine, [], mine], [[], its, its])
    assert torch.isfinite(found).all()


def test_removing_is_felt_where_there_is_anything_to_remove(experiment, pair):
    counterfactual = DReXCounterfactual.of(experiment.model.eval(), *pair)
    places = [[place] for place in range(len(counterfactual.user))]
    alone = counterfactual.without(places, [[]] * len(places))
    assert (alone - counterfactual.predict().detach()).abs().max() > 1e-4


def test_without_words_it_is_a_model_that_never_read_them(experiment, pair, make_experiment):
    """The remaining words of each review are pooled again, by a literal softmax over them."""
    model, (user, item) = experiment.model.eval(), pair
    if model.attention is None:
        return
    counterfactual = DReXCounterfactual.of(model, user, item)
    for side in counterfactual.sides:
        words = words_of(side)
        place = words.place.unique()[:2]
        chosen = [torch.nonzero(words.place == one).flatten() for one in place.tolist()]
        tokens = [chosen[0][:1], chosen[1][:3]]
        case = torch.repeat_interleave(torch.arange(2), torch.tensor([len(one) for one in tokens]))
        changes = without_words(side, words, torch.tensor([0, 1]), place, case, torch.cat(tokens))
        columns = model.table.review_columns
        for number, (lost, everything) in enumerate(zip(tokens, chosen, strict=True)):
            left = words.vector[[one for one in everything.tolist() if one not in lost.tolist()]]
            weight = torch.softmax(left @ model.attention.scoring_vector(), 0)
            expected = weight @ left if len(left) else torch.zeros(left.shape[1])
            found = side.rows[place[number], columns] + changes.row[number, columns]
            torch.testing.assert_close(found, expected.detach(), atol=1e-4, rtol=1e-4)
            if model.aspects is not None:
                read = model.table.said_columns
                stays = [one for one in everything.tolist() if one not in lost.tolist()]
                said = literal_reading(model.aspects, words.word[stays].tolist(), words.sentence[stays].tolist())
                literal = torch.from_numpy(np.concatenate(said))
                found = side.rows[place[number], read] + changes.row[number, read]
                torch.testing.assert_close(found, literal.float(), atol=1e-4, rtol=1e-4)
            if side is counterfactual.item and model.taste is not None and len(left):
                mean = left.mean(0).detach().numpy()
                assert model.taste.text.rows(np.arange(1)).shape[1] >= len(mean)
        assert torch.isfinite(
            counterfactual.predict(*((changes, None) if side is counterfactual.user else (None, changes)), n=2)
        ).all()
