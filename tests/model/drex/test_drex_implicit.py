"""DReX trained to rank: what its loss compares, and that it learns to rank."""

import pytest
import torch
from altered import shake, without

from recbole.data.interaction import Interaction

from recbole_drex.errors import ConfigError
from recbole_drex.evaluation.metrics import predicts_ratings
from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation_text import render
from recbole_drex.explain.word_effects import WordDeletion
from recbole_drex.model.abstract_recommender import RankingHead

SMALL = {
    "embedding_size": 8,
    "dropout": 0.0,
    "message_samples": 0,
    "reg_weight": 0.0,
    "taste_size": 8,
}


MORE = {"use_mlp": True, "use_bias": True, "factor_size": 0, "taste": []}
ASPECTS = {"aspects": 8}


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"start": "mlp", **ASPECTS},
        {"start": "random", **MORE},
        {"start": "mlp", "target_weight": "rating", **MORE},
        {"start": "zero", "target_weight": "equal", **ASPECTS, **MORE},
    ],
)
def test_target_and_sampled_items_are_scored_as_if_the_target_had_never_been(form, make_experiment):
    """The loss of a step equals that of models from whose evidence each target was physically removed."""
    experiment = shake(make_experiment("DReX-implicit", **SMALL, **form))
    model, feat = experiment.model, experiment.parts.train_dataset.inter_feat
    rows, every = torch.tensor([5, 400, 777]), torch.arange(1, experiment.dataset.item_num)
    user = feat["user_id"][rows]
    unseen = [every[model.table.find(one.expand(len(every)), every) < 0][:4] for one in user]
    items = torch.cat([feat["item_id"][rows][:, None], torch.stack(unseen)], 1)
    expected = []
    for k, one, candidates in zip(rows.tolist(), user, items, strict=True):
        pairs = Interaction({"user_id": one.expand(5), "item_id": candidates})
        score = without(experiment, k).predict(pairs)
        expected.append(torch.logsumexp(score, 0) - score[0])
    rating = feat["rating"][rows]
    weight = {"equal": torch.ones(3), "rating": rating}.get(form.get("target_weight"), 2**rating - 1)
    batch = {"user_id": user.repeat(5), "item_id": items.T.flatten(), "rating": rating.repeat(5)}
    batch["label"] = torch.tensor([1.0] * 3 + [0.0] * 12)
    model.train()
    weighted = (weight * torch.stack(expected)).sum() / weight.sum()
    torch.testing.assert_close(model.calculate_loss(Interaction(batch)), weighted, atol=2e-5, rtol=0)


def test_with_one_sampled_item_the_loss_is_that_of_bpr():
    head = RankingHead(1, "equal")
    score = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
    expected = -torch.log(torch.sigmoid(score[:, 0] - score[:, 1])).mean()
    torch.testing.assert_close(head.loss(score, torch.zeros(20), torch.rand(20)), expected)
    assert (head.loss_name, RankingHead(2, "equal").loss_name) == ("BPR", "sampled softmax")


@pytest.mark.parametrize(
    ("weight", "expected"), [("equal", [1, 1, 1]), ("rating", [0, 5, 10]), ("gain", [0, 31, 1023])]
)
def test_interactions_count_for_their_ratings(weight, expected):
    rating, score = torch.tensor([0.0, 5.0, 10.0]), torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    each, weights = -score.log_softmax(1)[:, 0], torch.tensor(expected, dtype=torch.float)
    loss = RankingHead(3, weight).loss(score, torch.zeros(3), rating)
    torch.testing.assert_close(loss, (weights * each).sum() / weights.sum())
    assert torch.isfinite(RankingHead(3, weight).loss(score, torch.zeros(3), 100 * rating))
    assert torch.isfinite(RankingHead(3, weight).loss(score, torch.zeros(3), 0 * rating))


def test_drex_itself_ranks_when_asked_to(make_experiment):
    sampled = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 2}}
    model = make_experiment("DReX", train_target="implicit", valid_metric="full_ndcg@20", **sampled).model
    assert model.head.loss_name == "sampled softmax"


def test_it_learns_to_rank_and_predicts_no_rating(make_experiment, train):
    experiment = make_experiment("DReX-implicit", epochs=15, train_batch_size=900, weight_decay=0.001)
    trainer = train(experiment)
    # On 40 items, learning hardly shows on validation; training interactions rank above sampled items.
    losses = [epoch["train_loss"] for epoch in trainer.history]
    assert losses[-1] < 0.5 * losses[0]
    assert not predicts_ratings(experiment.config)
    metrics = trainer.evaluate_part(experiment.parts.valid).metrics
    assert "rmse" not in metrics and metrics["full_ndcg@20"] == pytest.approx(trainer.best_valid_score)
    explanation = Explainer(experiment).explain(str(experiment.dataset.field2id_token["user_id"][3]))
    assert [item.predicted for item in explanation.recommendations] == [None] * 3
    assert "predicted" not in render(explanation)


@pytest.mark.parametrize("taste", [["encoder"], []])
def test_reviews_move_nothing_where_only_factors_and_tastes_are_scored(taste, make_experiment):
    experiment = make_experiment("DReX-implicit", use_bilinear=False, taste=taste, taste_size=8)
    words = WordDeletion(DReXCounterfactual.of(experiment.model.eval(), 3, 5))
    effects = [abs(delta) for _, delta in words.strongest(5)]
    assert len(effects) == 5 and (max(effects) > 1e-6) == bool(taste)  # less is rounding
    explanation = Explainer(experiment).explain(str(experiment.dataset.field2id_token["user_id"][3]))
    assert len(explanation.recommendations) == 3


@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        ("DReX-implicit", {"refinement": "sequential"}, "needs refinement: leave_one_out"),
        ("DReX-implicit", {"use_bilinear": False, "factor_size": 0}, "at least one must be part of the score"),
        ("DReX-implicit", {"taste": ["word"]}, "value of 'taste': 'word'; did you mean 'words'"),
        ("DReX-implicit", {"train_neg_sample_args": None}, "ranking needs sampled items"),
        ("DReX-implicit", {"train_neg_sample_args": {"distribution": "none"}}, "'train_neg_sample_args' is illegal"),
        ("DReX-implicit", {"output": "ordinal"}, "unknown parameter of DReX-implicit: 'output'"),
        ("DReX-implicit", {"target_weight": "clicks"}, "'target_weight': 'clicks'"),
        ("DReX-implicit", {"train_target": "clicks"}, "'train_target': 'clicks'"),
        ("DReX", {"train_target": "implicit"}, "'rmse': DReX predicts no ratings"),
        ("DReX", {"train_target": "implicit", "valid_metric": "full_ndcg@20"}, "ranking needs sampled items"),
        ("BiasedMF", {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}, "have no rating"),
    ],
)
def test_what_does_not_go_together_is_refused(model, parameters, message, make_experiment):
    with pytest.raises(ConfigError, match=message):
        make_experiment(model, **parameters)
