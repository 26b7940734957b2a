"""New users get the same predictions as users of the data set, and invalid posts are rejected."""

import math

import numpy as np
import pytest
import torch
from altered import shake, without

from recbole.data.interaction import Interaction

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.experiments.run import build
from recbole_drex.explain.counterfactual.new_user import view_of_new
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.new_user_input import NewUsers
from recbole_drex.explain.recommender import PostedInteraction, Recommender
from recbole_drex.training.trainer import make_trainer

MODELS = [
    {},
    {"output": "point"},
    {"aspects": 0, "adjust_rating": False, "output": "point"},
    {"start": "mlp", "taste": []},
    # Not "sequential": there, an item's state for a known user is that at the time of the rating.
    {"modalities": ["rating"]},
]


@pytest.mark.parametrize("parameters", MODELS, ids=str)
def test_a_new_user_is_predicted_like_a_known_user(parameters, make_experiment):
    """A model without a user's evidence makes the same predictions from the posted interactions as the whole model."""
    experiment = shake(make_experiment("DReX", embedding_size=8, taste_size=8, **parameters))
    model, feat = experiment.model, experiment.parts.train_dataset.inter_feat
    unrated = set(experiment.dataset.unrated["user_id"].tolist())
    user = next(user for user in range(1, model.n_users) if user not in unrated)
    rows = torch.nonzero(feat["user_id"] == user).flatten()
    left = without(experiment, *rows.tolist())
    rows = rows[torch.argsort(feat["timestamp"][rows], stable=True)]
    reviews, lemmas, begins = [], [], []
    for row in feat["review_row"][rows].long().tolist():
        store = experiment.parts.train_dataset.features()
        words = slice(store.offsets[row], store.offsets[row + 1]) if row >= 0 else slice(0, 0)
        reviews.append(store.read(np.arange(words.start, words.stop)))
        lemmas.append([store.vocabulary[word] for word in store.word_ids[words]])
        begins.append(store.begins[words].tolist())
    view = view_of_new(left, feat["item_id"][rows], feat["rating"][rows], reviews, lemmas, begins)
    items = torch.tensor(sorted(set(range(1, model.n_items)) - set(feat["item_id"][rows].tolist())))
    wanted = Interaction({"user_id": torch.full_like(items, user), "item_id": items})
    torch.testing.assert_close(view.scores()[items], model.predict(wanted).detach(), atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="module")
def trained(make_experiment, train):
    experiment = make_experiment("DReX", epochs=6)
    train(experiment)
    experiment.model.eval()
    return experiment


@pytest.fixture(scope="module")
def new_users(trained):
    return NewUsers(Recommender(trained))


def names(trained, *items):
    return [str(trained.dataset.field2id_token["item_id"][item]) for item in items]


def test_posted_items_are_not_recommended_and_determine_predictions(trained, new_users):
    items = names(trained, *range(1, 9))
    view, best = new_users.best([PostedInteraction(item, 5.0) for item in items], 5)
    assert len(view) == 8 and len(best) == 5
    assert not {one.item for one in best} & set(range(9))
    predicted = [one.predicted for one in best]
    assert predicted == sorted(predicted, reverse=True) and all(1 <= one <= 5 for one in predicted)
    harsh, _ = new_users.best([PostedInteraction(item, 1.0) for item in items], 5)
    assert float(harsh.scores()[1:].mean()) < float(view.scores()[1:].mean()) - 0.2


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """``demo(model, **parameters)``: a model trained on the whole demo."""
    root = tmp_path_factory.mktemp("demo")
    raw = generate_demo(root / "raw")

    def make(model, **parameters):
        given = {"data_path": str(root / "data"), "threads": 1, **parameters}
        config = Config(model, "demo", config_dict=given)
        manifest = prepare("demo", root / "data", config.preparation(), Sources((raw["reviews"],), raw["meta"]))
        experiment = build(config, manifest)
        make_trainer(config, experiment.model, tmp_path_factory.mktemp("run"), experiment.parts).train_model()
        return experiment.model.eval()

    return make


@pytest.mark.parametrize(
    ("name", "epochs"),
    [("DReX", 5), pytest.param("DReX", 40, marks=pytest.mark.slow)],
)
def test_predictions_rise_with_posted_ratings(name, epochs, demo):
    """From the first rating on; without ratings, predictions are those for the average user."""
    model, rng = demo(name, epochs=epochs), np.random.default_rng(0)
    empty, levels = torch.zeros(0, model.attention.width), model.table.levels

    def mean(items: np.ndarray, rating: float) -> float:
        n = len(items)
        view = view_of_new(model, torch.from_numpy(items), torch.full((n,), rating), [empty] * n, [[]] * n, [[]] * n)
        return float(view.scores().detach()[1:].mean())

    without_ratings = mean(np.zeros(0, dtype=np.int64), 0.0)
    average = float(torch.cat([model.predict_unknown(user)[1:] for user in range(1, model.n_users)]).mean())
    assert without_ratings == pytest.approx(average, abs=0.25)
    spread = {}
    for n in (1, 2, 3, 5):
        draws = [rng.choice(np.arange(1, model.n_items), n, replace=False) for _ in range(20)]
        means = np.array([[mean(items, float(level)) for level in levels] for items in draws])
        assert np.diff(means, axis=1).min() > -1e-4, means.mean(0)
        spread[n] = float((means[:, -1] - means[:, 0]).mean())
    assert list(spread.values()) == sorted(spread.values()), spread


def test_words_count(trained, new_users):
    (item,) = names(trained, 4)
    scores = [
        new_users.view([PostedInteraction(item, 4.0, text)]).scores() for text in ("", "superb story", "awful story")
    ]
    assert not torch.equal(scores[0], scores[1]) and not torch.equal(scores[1], scores[2])
    alone = new_users.view([PostedInteraction(item, None, "superb story")])
    assert len(alone) == 1 and torch.isfinite(alone.scores()).all()


@pytest.mark.parametrize(
    "text",
    [
        "Прекрасная игра 😀",
        "🎮🎮🎮",
        "<script>alert(1)</script> the",
        "the and of",
        "x " * 50_000,
        "The story is superb, the combat clumsy. " * 2_500,
        "Zxqv blorf, frumious!",
    ],
)
def test_strange_texts_do_no_harm(trained, new_users, text):
    items = names(trained, 2, 3)
    view = new_users.view([PostedInteraction(items[0], 5.0), PostedInteraction(items[1], None, text)])
    assert len(view) in (1, 2) and torch.isfinite(view.scores()).all()


def test_a_rating_between_levels_is_the_nearer_level(trained, new_users):
    (item,) = names(trained, 6)
    between, level = (new_users.view([PostedInteraction(item, rating)]).scores() for rating in (4.4, 4.0))
    assert torch.equal(between, level)


@pytest.mark.parametrize(
    ("posted", "message"),
    [
        ([], "no interaction was posted"),
        ([("nothing like it", 4.0, "")], "unknown item"),
        ([(1, 4.0, ""), (1, 3.0, "")], "posted twice"),
        ([(1, 11.0, "")], "is not between 1 and 5"),
        ([(1, math.nan, "")], "is not between 1 and 5"),
        ([(1, math.inf, "")], "is not between 1 and 5"),
        ([(1, None, "  ")], "neither a rating nor a review"),
    ],
)
def test_what_may_not_be_posted(trained, new_users, posted, message):
    items = [(names(trained, item)[0] if isinstance(item, int) else item, *rest) for item, *rest in posted]
    with pytest.raises(DataError, match=message):
        new_users.view([PostedInteraction(*one) for one in items])


def test_users_of_other_models_are_not_made(make_experiment):
    with pytest.raises(ConfigError, match="cannot recommend to new users"):
        NewUsers(Recommender(make_experiment("NARRE")))


def test_new_users_are_explained_by_what_they_posted(trained):
    items = names(trained, 1, 5, 9)
    posted = [
        PostedInteraction(items[0], 5.0, "a superb plot"),
        PostedInteraction(items[1], 1.0),
        PostedInteraction(items[2], 4.0),
    ]
    explanation = Explainer(trained, word_effects=True).explain_new(posted, top=2)
    assert explanation.user == "" and explanation.mean_rating == pytest.approx(10 / 3)
    for one in explanation.recommendations:
        mine = [evidence for evidence in one.evidence if evidence.side == "user"]
        assert {evidence.review.item for evidence in mine} <= set(items)
        assert all(evidence.review.user == "" and evidence.review.rating in (5.0, 1.0, 4.0) for evidence in mine)
        assert one.sentence and one.words
    assert any(evidence.side == "user" for one in explanation.recommendations for evidence in one.evidence)


def test_models_that_rank_take_new_users(make_experiment, train):
    experiment = make_experiment("DReX-implicit", epochs=5, train_batch_size=900)
    train(experiment)
    experiment.model.eval()
    new = NewUsers(Recommender(experiment))
    view, best = new.best([PostedInteraction(item, 5.0) for item in names(experiment, 3, 4, 5, 6)], 4)
    assert [one.predicted for one in best] == [None] * 4
    assert float(view.own.factors.abs().max()) > 0 and float(view.own.tastes.abs().max()) > 0
