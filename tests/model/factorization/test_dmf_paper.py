"""DMF-paper against the paper's equations on dense rows, what it excludes, and missing ratings."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from altered import copy_of

from recbole.data.interaction import Interaction

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.evaluation.metrics import predicts_ratings
from recbole_drex.model.factorization.dmfpaper import SparseRows

WIDTHS = {"user_hidden_size_list": [12, 10, 8], "item_hidden_size_list": [9, 8]}
every_rule = pytest.mark.parametrize("exclude", (True, False))


def make(make_experiment, **options):
    """An untrained model whose towers are far from their small start."""
    experiment = make_experiment("DMF-paper", **{**WIDTHS, **options})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in experiment.model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * (0.5 if "bias" not in name else 0.1))
    experiment.model.eval()
    return experiment


def dense(experiment) -> torch.Tensor:
    """Y / max R, (n_users, n_items)."""
    feat, model = experiment.parts.train_dataset.inter_feat, experiment.model
    matrix = torch.zeros(model.n_users, model.n_items)
    for user, item, rating in zip(*(feat[name].tolist() for name in ("user_id", "item_id", "rating")), strict=True):
        matrix[user, item] = rating
    return matrix / matrix.max()


def literal_tower(tower, row: torch.Tensor) -> torch.Tensor:
    hidden = tower.first.weight @ row
    for layer in (tower.second, *tower.others):
        hidden = torch.relu(layer.weight @ hidden + layer.bias)
    return hidden


def literal(model, matrix: torch.Tensor, user: int, item: int, exclude: bool) -> torch.Tensor:
    """The cosine of the two towers for one pair, before it is clipped."""
    row, column = matrix[user].clone(), matrix[:, item].clone()
    if exclude:
        row[item] = 0.0
        column[user] = 0.0
    towers = model.user_tower, model.item_tower
    return torch.cosine_similarity(literal_tower(towers[0], row), literal_tower(towers[1], column), dim=0, eps=1e-12)


def pairs_of(experiment) -> list[tuple[int, int]]:
    """Some training pairs and some others."""
    feat = experiment.parts.train_dataset.inter_feat
    known = list(zip(feat["user_id"].tolist(), feat["item_id"].tolist(), strict=True))
    return known[::60] + [(user, item) for user in (1, 7, 33) for item in (1, 2, 19, 40) if (user, item) not in known]


@hypothesis.given(
    entries=st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 4)), st.floats(0.1, 1.0), max_size=20),
    rows=st.lists(st.integers(0, 5), max_size=8),
)
@hypothesis.settings(max_examples=50, deadline=None)
def test_sparse_rows_times_a_weight(entries, rows):
    index = torch.tensor(list(entries), dtype=torch.long).reshape(-1, 2)
    value, weight = torch.tensor(list(entries.values())), torch.arange(15.0).reshape(5, 3) - 7
    matrix = torch.zeros(6, 5)
    matrix[index[:, 0], index[:, 1]] = value
    chosen = torch.tensor(rows, dtype=torch.long)
    fast = SparseRows(index[:, 0], index[:, 1], value, 6).times(chosen, weight)
    torch.testing.assert_close(fast, matrix[chosen] @ weight)


@every_rule
def test_scores_are_those_of_the_equations(exclude, make_experiment):
    experiment = make(make_experiment, exclude_target=exclude)
    user, item = torch.tensor(pairs_of(experiment)).T
    with torch.no_grad():
        cosines = [literal(experiment.model, dense(experiment), *pair, exclude) for pair in pairs_of(experiment)]
        slow = torch.stack(cosines).clamp(1e-6, 1 - 1e-6)
        fast = experiment.model.predict(Interaction({"user_id": user, "item_id": item}))
        full = experiment.model.full_sort_predict(Interaction({"user_id": torch.arange(experiment.model.n_users)}))
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(full.view(experiment.model.n_users, -1)[user, item], slow, atol=1e-5, rtol=1e-5)
    assert slow.std() > 0.02


@every_rule
def test_loss_and_gradient_are_those_of_the_equations(exclude, make_experiment):
    experiment = make(make_experiment, exclude_target=exclude)
    model, pairs = experiment.model, pairs_of(experiment)
    user, item = torch.tensor(pairs).T
    fast = model.calculate_loss(Interaction({"user_id": user, "item_id": item}))
    matrix, slow = dense(experiment), torch.zeros(())
    for one in pairs:
        score, target = literal(model, matrix, *one, exclude).clamp(1e-6, 1 - 1e-6), matrix[one]
        slow = slow - (target * torch.log(score) + (1 - target) * torch.log(1 - score)) / len(pairs)
    torch.testing.assert_close(fast, slow)
    parameters = list(model.parameters())
    for a, b in zip(torch.autograd.grad(fast, parameters), torch.autograd.grad(slow, parameters), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)
        assert b.abs().max() > 1e-5


def test_a_batch_holds_ratings_and_sampled_items_without_one(make_experiment):
    experiment = make_experiment("DMF-paper", train_neg_sample_args={"distribution": "uniform", "sample_num": 3})
    matrix = dense(experiment)
    batch = next(iter(experiment.parts.train))
    target = experiment.model.known(batch["user_id"], batch["item_id"])
    torch.testing.assert_close(target, matrix[batch["user_id"], batch["item_id"]])
    assert torch.equal(target > 0, batch["label"] == 1)
    assert (target > 0).float().mean() == 0.25


@every_rule
def test_a_targets_own_rating_reaches_its_score_only_as_published(exclude, small, make_experiment, tmp_path):
    one = make(make_experiment, exclude_target=exclude)
    feat = one.parts.train_dataset.inter_feat
    row = int(torch.nonzero(feat["rating"] == 2.0)[0])
    user, item = feat["user_id"][row], feat["item_id"][row]
    tokens = one.dataset.id2token("user_id", int(user)), one.dataset.id2token("item_id", int(item))

    def change(frame):
        own = (frame["user_id:token"] == tokens[0]) & (frame["item_id:token"] == tokens[1])
        frame.loc[own, "rating:float"] = 5.0
        return frame

    other = make(make_experiment, exclude_target=exclude, data_path=str(copy_of(small.root, tmp_path / "d", change)))
    pair = Interaction({"user_id": user[None], "item_id": item[None]})
    scores = [experiment.model.predict(pair).item() for experiment in (one, other)]
    assert (abs(scores[0] - scores[1]) < 1e-6) == exclude
    others = [e.model.full_sort_predict(Interaction({"user_id": user[None]})) for e in (one, other)]
    assert (others[0] - others[1]).abs().max() > 1e-4  # to the user's other scores it is known


def test_it_learns_to_rank_and_predicts_no_rating(make_experiment, train):
    experiment = make_experiment("DMF-paper", epochs=8, learning_rate=0.003)
    assert not predicts_ratings(experiment.config)
    trainer = train(experiment)
    metrics = trainer.evaluate_part(experiment.parts.valid).metrics
    assert not {"rmse", "mae"} & set(metrics)
    # Scores of a random model order the catalogue at random.
    untrained = make_experiment("DMF-paper")
    untrained.model.eval()
    floor = type(trainer)(untrained.config, untrained.model, trainer.run_dir, untrained.parts)
    assert metrics["full_ndcg@10"] > 1.2 * floor.evaluate_part(untrained.parts.valid).metrics["full_ndcg@10"]
    losses = [entry["train_loss"] for entry in trainer.history]
    assert losses[-1] < 0.9 * losses[0]


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"user_hidden_size_list": [8]}, "'user_hidden_size_list' must be two or more widths"),
        ({"item_hidden_size_list": [8, 0]}, "'item_hidden_size_list' must be two or more widths"),
        ({"item_hidden_size_list": [8, 7.5]}, "'item_hidden_size_list' must be two or more widths"),
        ({"item_hidden_size_list": [16, 16]}, "same width, not in 8 and 16"),
        ({"train_target": "rating"}, "value of 'train_target': 'rating'"),
    ],
)
def test_parameters_that_make_no_sense(options, message, make_experiment):
    with pytest.raises(ConfigError, match=message):
        make_experiment("DMF-paper", **{**WIDTHS, **options})


@pytest.mark.parametrize("shift", (-3.0, -10.0))
def test_negative_ratings(shift, small, make_experiment, tmp_path):
    def change(frame):
        return frame.assign(**{"rating:float": frame["rating:float"] + shift})

    with pytest.raises(DataError, match="needs ratings of 0 or more"):
        make_experiment("DMF-paper", data_path=str(copy_of(small.root, tmp_path / "data", change)))


def all_threes(frame):
    return frame.assign(**{"rating:float": frame["rating:float"].where(frame["rating:float"].isna(), 3.0)})


def test_constant_ratings(small, make_experiment, train, tmp_path):
    root = copy_of(small.root, tmp_path / "data", all_threes)
    experiment = make_experiment("DMF-paper", data_path=str(root), learning_rate=0.01, epochs=5)
    trainer = train(experiment)
    assert np.isfinite([entry["train_loss"] for entry in trainer.history]).all()
    assert np.isfinite(trainer.evaluate_part(experiment.parts.valid).full).all()
