"""New items are predicted from posted ratings and reviews."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from altered import shake, without

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.explain.counterfactual.drex_counterfactual import view_of
from recbole_drex.explain.counterfactual.new_user import rows_of_new
from recbole_drex.explain.new_item_input import NewItems, PostedReview
from recbole_drex.explain.new_user_input import NewUsers
from recbole_drex.explain.recommender import Recommender
from recbole_drex.model.layers.common import Side


@pytest.fixture(scope="module")
def trained(make_experiment, train):
    experiment = make_experiment("DReX", epochs=12)
    train(experiment)
    return experiment


@pytest.fixture(scope="module")
def new_items(trained):
    return NewItems(NewUsers(Recommender(trained)))


@pytest.fixture(scope="module")
def users(trained):
    return [str(name) for name in trained.dataset.field2id_token["user_id"][1:]]


def test_posts_give_the_rows_of_a_known_item(make_experiment):
    """A model without an item's evidence computes from posts the sum of rows that the whole model has."""
    experiment = shake(make_experiment("DReX", embedding_size=8))
    model, feat = experiment.model, experiment.parts.train_dataset.inter_feat
    unrated = set(experiment.dataset.unrated["item_id"].tolist())
    item = next(one for one in range(1, model.n_items) if one not in unrated)
    rows = torch.nonzero(feat["item_id"] == item).flatten()
    left = without(experiment, *rows.tolist())
    left.make_ready()
    model.make_ready()
    store, reviews, lemmas, begins = experiment.parts.train_dataset.features(), [], [], []
    for row in feat["review_row"][rows].long().tolist():
        words = slice(store.offsets[row], store.offsets[row + 1]) if row >= 0 else slice(0, 0)
        reviews.append(store.read(np.arange(words.start, words.stop)))
        lemmas.append([store.vocabulary[word] for word in store.word_ids[words]])
        begins.append(store.begins[words].tolist())
    posts = (feat["user_id"][rows], feat["rating"][rows], reviews, lemmas, begins)
    known, there = rows_of_new(left, Side.ITEM, *posts)
    assert there.all()
    sums, expected = (model.table.named(one) for one in (known.sum(0), model.table.item_sums[item]))
    torch.testing.assert_close(sums.modalities["review"], expected.modalities["review"], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(sums.modalities["rating"], expected.modalities["rating"])
    torch.testing.assert_close(sums.opinions, expected.opinions, atol=1e-3, rtol=1e-3)
    ours, theirs = sums.ratings.adjusted[Side.ITEM], expected.ratings.adjusted[Side.ITEM]
    torch.testing.assert_close(ours, theirs, atol=0.02 * len(rows), rtol=0.0)


def test_more_positive_posts_never_lower_a_prediction(new_items, users):
    before = np.array(new_items.predict([], users))
    for k in (1, 2, 3):
        levels = [np.array(new_items.predict([PostedReview(float(level))] * k, users)) for level in range(1, 6)]
        assert np.diff(levels, axis=0).min() > -1e-5
        assert np.mean(levels[-1] - levels[0]) > 0.1 * k**0.5
        assert (levels[-1] - before).min() > -1e-5  # one more rating of 5
        before = levels[-1]
    text = "Superb story, excellent combat."
    named = [new_items.predict([PostedReview(float(level), text, users[7])], users[:5]) for level in range(1, 6)]
    assert np.diff(named, axis=0).min() > 0


def test_without_posts_it_is_the_users_level(new_items, users, trained):
    model, user = trained.model, 5
    view = view_of(model, user)
    known = view.full_state.each(lambda part: part[0])
    unknown = model.item_start.of_unknown()
    with torch.no_grad():
        score = model.mean + model.slopes[Side.USER] * known.deviation + model.score_of_states(known.state, unknown)
        expected = float(view.rating_of(score[None])[0])
    assert new_items.predict([], users[4:5])[0] == pytest.approx(expected, abs=1e-5)


def test_reviews_and_authors_count(new_items, users):
    good, bad = (
        new_items.predict([PostedReview(None, f"The story is {word}.")], users) for word in ("superb", "awful")
    )
    assert np.mean(good) > np.mean(bad)
    by_author = new_items.predict([PostedReview(5.0, "", users[0])], users)
    anonymous = new_items.predict([PostedReview(5.0)], users)
    assert by_author[0] == new_items.predict([], users[:1])[0]  # the own post is not used
    assert by_author[1] != anonymous[1]


def test_invalid_posts_are_rejected(new_items, users, make_experiment):
    with pytest.raises(DataError, match="post 0 about the new item has neither"):
        new_items.predict([PostedReview()], users)
    with pytest.raises(DataError, match="rating 9 of post 1 about the new item is not between 1 and 5"):
        new_items.predict([PostedReview(5.0), PostedReview(9.0)], users)
    with pytest.raises(DataError, match="posted twice"):
        new_items.predict([PostedReview(5.0, "", users[0])] * 2, users)
    with pytest.raises(DataError, match="unknown user 'nobody'"):
        new_items.predict([], ["nobody"])
    with pytest.raises(ConfigError, match="Use DReX"):
        NewItems(NewUsers(Recommender(make_experiment("DReX-implicit"))))
