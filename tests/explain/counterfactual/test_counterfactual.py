"""Counterfactual predictions equal those of a model without the removed evidence."""

import numpy as np
import pytest
import torch
from altered import literal_reading, shake, without

from recbole.data.interaction import Interaction

from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual
from recbole_drex.explain.counterfactual.review_words import without_words, words_of
from recbole_drex.model.abstract_recommender import OrdinalHead

MODELS = [
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
    """A user and an item with few interactions, and none with each other."""
    user = int(table.user_count[1:].argmin()) + 1
    known = set(table.item[table.rows_of(user)].tolist())
    counts = torch.bincount(table.item, minlength=table.n_items)
    item = min(
        (one for one in range(1, table.n_items) if one not in known and counts[one] > 3), key=lambda one: counts[one]
    )
    return user, item


@torch.no_grad()
def amid_the_scale(model, user, item):
    """Shift all thresholds so that the pair's rating lies inside the scale, where changes are visible."""
    score = model.score(torch.tensor([user]), torch.tensor([item]))
    middle = model.head.thresholds(model._users.habits[user])[len(model.head.levels) // 2 - 1]
    model.head.first += model.head.log_scale.exp() * score - middle
    model.load_state_dict(model.state_dict())  # clears caches


@pytest.fixture(scope="module", params=MODELS, ids=str)
def experiment(request, make_experiment):
    made = shake(make_experiment("DReX", embedding_size=8, taste_size=8, **request.param))
    if isinstance(made.model.head, OrdinalHead):
        amid_the_scale(made.model, *unrelated(made.model.table))
    return made


@pytest.fixture(scope="module")
def pair(experiment):
    return unrelated(experiment.model.table)


def rows_in_data(experiment, rows):
    """Rows of the training part for rows of the table; None for unrated rows."""
    feat, table = experiment.parts.train_dataset.inter_feat, experiment.model.table
    key = feat["user_id"] * table.n_items + feat["item_id"]
    results = [torch.nonzero(key == table.key[row]).flatten().tolist() for row in rows.tolist()]
    return [indices[0] if indices else None for indices in results]


def test_without_changes_the_prediction_is_that_of_the_model(experiment):
    model, table = experiment.model.eval(), experiment.model.table
    for user in (1, 7, 30):
        items = torch.arange(1, table.n_items)
        expected = predict(model, user, items)
        results = torch.cat([DReXCounterfactual.of(model, user, item).predict() for item in items.tolist()]).detach()
        torch.testing.assert_close(results, expected, atol=5e-4, rtol=0)


def test_without_interactions_equals_a_model_that_never_had_them(experiment, pair):
    """Except for the other side's share of the other ratings, and the residuals to which tastes are fitted."""
    model, (user, item) = experiment.model.eval(), pair
    counterfactual = DReXCounterfactual.of(model, user, item)
    user_rows, item_rows = (rows_in_data(experiment, side.row) for side in counterfactual.sides)
    some = [index for index, row in enumerate(user_rows) if row is not None][:3]
    others = [index for index, row in enumerate(item_rows) if row is not None][:2]
    scenarios = [([some[0]], []), ([], [others[0]]), (some, []), (some[:2], others), ([some[2]], others[:1])]
    results = counterfactual.without(*map(list, zip(*scenarios, strict=True)))
    assert not isinstance(model.head, OrdinalHead) or ((results > 1.02) & (results < 4.98)).all()
    for (by_user, by_item), prediction in zip(scenarios, results, strict=True):
        removed = [*(user_rows[index] for index in by_user), *(item_rows[index] for index in by_item)]
        left = without(experiment, *removed, kept=True)
        torch.testing.assert_close(prediction[None], predict(left, user, [item]), atol=5e-4, rtol=0)


def test_parts_add_up_to_the_score(experiment, pair):
    """For pairs that are evidence and for others, in every scenario."""
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
        without_each = counterfactual.parts(counterfactual.user.each_removed, None, n)
        known = counterfactual.user.summary(counterfactual.user.each_removed, n)
        torch.testing.assert_close(
            counterfactual.user.rating_of(without_each.total, known), counterfactual.without_each()[0]
        )


def test_all_evidence_can_be_removed(experiment, pair):
    counterfactual = DReXCounterfactual.of(experiment.model.eval(), *pair)
    user_rows, item_rows = (list(range(len(side))) for side in counterfactual.sides)
    results = counterfactual.without([user_rows, [], user_rows], [[], item_rows, item_rows])
    assert torch.isfinite(results).all()


def test_removing_evidence_changes_the_prediction(experiment, pair):
    counterfactual = DReXCounterfactual.of(experiment.model.eval(), *pair)
    indices = [[index] for index in range(len(counterfactual.user))]
    alone = counterfactual.without(indices, [[]] * len(indices))
    assert (alone - counterfactual.predict().detach()).abs().max() > 1e-4


def test_without_words_equals_a_model_that_never_read_them(experiment, pair, make_experiment):
    """The expected vector is a literal softmax over the remaining words of each review."""
    model, (user, item) = experiment.model.eval(), pair
    if model.attention is None:
        return
    counterfactual = DReXCounterfactual.of(model, user, item)
    for side in counterfactual.sides:
        words = words_of(side)
        index = words.index.unique()[:2]
        chosen = [torch.nonzero(words.index == one).flatten() for one in index.tolist()]
        tokens = [chosen[0][:1], chosen[1][:3]]
        case = torch.repeat_interleave(torch.arange(2), torch.tensor([len(one) for one in tokens]))
        changes = without_words(side, words, torch.tensor([0, 1]), index, case, torch.cat(tokens))
        columns = model.table.review_columns
        for number, (removed, everything) in enumerate(zip(tokens, chosen, strict=True)):
            left = words.vector[[one for one in everything.tolist() if one not in removed.tolist()]]
            weight = torch.softmax(left @ model.attention.scoring_vector(), 0)
            expected = weight @ left if len(left) else torch.zeros(left.shape[1])
            results = side.rows[index[number], columns] + changes.row[number, columns]
            torch.testing.assert_close(results, expected.detach(), atol=1e-4, rtol=1e-4)
            if model.aspects is not None:
                read = model.table.aspect_columns
                stays = [one for one in everything.tolist() if one not in removed.tolist()]
                reading = literal_reading(model.aspects, words.word[stays].tolist(), words.sentence[stays].tolist())
                literal = torch.from_numpy(np.concatenate(reading))
                results = side.rows[index[number], read] + changes.row[number, read]
                torch.testing.assert_close(results, literal.float(), atol=1e-4, rtol=1e-4)
            if side is counterfactual.item and model.taste is not None and len(left):
                mean = left.mean(0).detach().numpy()
                assert model.taste.text.rows(np.arange(1)).shape[1] >= len(mean)
        assert torch.isfinite(
            counterfactual.predict(*((changes, None) if side is counterfactual.user else (None, changes)), n=2)
        ).all()
