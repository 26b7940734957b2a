"""DeepCoNN against its equations, evaluated pair by pair with a convolution of both documents."""

from __future__ import annotations

import time

import pytest
import torch
from altered import copy_of
from torch.nn import functional

from recbole.data.interaction import Interaction

from recbole_drex.errors import ConfigError
from recbole_drex.model.layers.common import Side

SIZES = {"filters": 12, "latent_size": 6, "factors": 3, "word_size": 16}


@pytest.fixture(scope="module")
def experiment(make_experiment):
    """Untrained, with every parameter random so that none is zero."""
    return randomised(make_experiment("DeepCoNN", dropout=0.0, max_reviews=15, **SIZES))


def randomised(experiment):
    torch.manual_seed(0)
    for parameter in experiment.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return experiment


def document(model, side: Side, entity: int, excluded: int) -> torch.Tensor:
    """d by one convolution of the whole document, its reviews two zero words apart: (filters,)."""
    documents, cnn = model.documents, model.cnn
    review, _ = documents.of(side, torch.tensor([entity]))
    text: list[int] = []
    for one in review.tolist():
        if one != excluded:
            text += documents.words[documents.offsets[one] : documents.offsets[one + 1]].tolist()
            text += [len(cnn.vectors) - 1] * 2
    if not text:
        return torch.zeros(cnn.filters)
    # Only windows centred at a word count.
    answers = functional.conv1d(
        cnn.vectors[torch.tensor(text)].T[None], cnn.weight.permute(2, 1, 0), cnn.bias, padding=1
    )
    real = torch.tensor(text) != len(cnn.vectors) - 1
    return torch.relu(answers[0, :, real]).amax(-1)


def literal(model, user: int, item: int, exclude: bool = True) -> torch.Tensor:
    """The score of a pair, with the factorisation machine summed over all pairs of inputs."""
    own = int(model.documents.find(torch.tensor(user), torch.tensor(item))) if exclude else -1
    z = torch.cat(
        [
            torch.relu(model.dense[side](document(model, side, entity, own)))
            for side, entity in zip(Side, (user, item), strict=True)
        ]
    )
    w = torch.cat([layer.weight[0] for layer in model.linear])
    v = torch.cat([layer.weight.T for layer in model.factors])
    score = model.constant + w @ z
    for a in range(len(z)):
        for b in range(a + 1, len(z)):
            score = score + (v[a] @ v[b]) * z[a] * z[b]
    return score + model.biases[Side.USER].weight[user, 0] + model.biases[Side.ITEM].weight[item, 0]


def batch_of(experiment, size: int) -> Interaction:
    return experiment.parts.train_dataset.inter_feat[torch.randperm(200)[:size]]


@pytest.mark.parametrize("exclude", (True, False))
def test_loss_and_gradients_equal_the_literal_model(make_experiment, exclude):
    options = {"dropout": 0.0, "max_reviews": 15, "exclude_target_review": exclude, "bias_reg_weight": 0.0}
    experiment = randomised(make_experiment("DeepCoNN", **options, **SIZES))
    model, batch = experiment.model.train(), batch_of(experiment, 24)
    scores = [
        literal(model, u, i, exclude) for u, i in zip(*(batch[k].tolist() for k in ("user_id", "item_id")), strict=True)
    ]
    expected = functional.mse_loss(torch.stack(scores), batch["rating"])
    loss = model.calculate_loss(batch)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    parameters = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        assert one.abs().sum() > 0


def test_predictions_equal_the_literal_model(experiment):
    """For pairs of the training part, whose review is left out, and for others."""
    model = experiment.model.eval()
    known, others = (
        batch_of(experiment, 8),
        Interaction({"user_id": torch.arange(1, 9), "item_id": torch.arange(9, 17)}),
    )
    for pairs in (known, others):
        expected = [
            literal(model, u, i).item()
            for u, i in zip(pairs["user_id"].tolist(), pairs["item_id"].tolist(), strict=True)
        ]
        assert model.predict(pairs).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("exclude", (True, False))
def test_the_target_review_changes_no_prediction_of_its_pair(make_experiment, exclude):
    """Other words in a training review change no prediction of the same pair, unless the option is off."""
    model = randomised(make_experiment("DeepCoNN", exclude_target_review=exclude, **SIZES)).model.eval()
    cnn, documents, same = model.cnn, model.documents, []
    for review in range(0, 60, 5):
        pair = Interaction({"user_id": documents.user[[review]], "item_id": documents.item[[review]]})
        before, text = model.predict(pair), cnn.text.clone()
        first = int(cnn.start[review]) + (cnn.window - 1) // 2
        cnn.text[first : first + int(cnn.length[review])] = 5
        model._stale = True  # no parameter has changed
        same.append(torch.equal(before, model.predict(pair)))
        cnn.text.copy_(text)
        model._stale = True  # no parameter has changed
    assert all(same) == exclude


def test_users_and_items_without_reviews_have_zero_documents(make_experiment, small, tmp_path):
    root = copy_of(
        small.root,
        tmp_path / "data",
        lambda f: f.assign(**{"review_row:float": f["review_row:float"].where(f.index % 40 == 0)}),
    )
    model = randomised(make_experiment("DeepCoNN", data_path=str(root), **SIZES)).model.eval()
    bare = torch.nonzero(model.documents.count0 == 0).flatten()
    assert len(bare) > 1
    users = bare[1:2]
    scores = model.full_sort_predict(Interaction({"user_id": users}))
    assert torch.isfinite(scores).all()
    assert float(scores[3]) == pytest.approx(literal(model, int(users), 3).item(), abs=1e-5)


def test_constant_ratings(make_experiment, small, tmp_path, train):
    root = copy_of(
        small.root,
        tmp_path / "data",
        lambda f: f.assign(**{"rating:float": f["rating:float"].where(f["rating:float"].isna(), 4.0)}),
    )
    experiment = make_experiment("DeepCoNN", data_path=str(root), epochs=1, dropout=0.0)
    trainer = train(experiment)
    assert trainer.evaluate_part(experiment.parts.valid).metrics["rmse"] < 0.5


def test_every_parameter_learns(make_experiment):
    experiment = make_experiment("DeepCoNN")
    model = experiment.model.train()
    model.calculate_loss(next(iter(experiment.parts.train))).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    "wrong", ({"filters": 0}, {"window": 0}, {"max_reviews": 0}, {"dropout": 1.5}, {"word_size": -1})
)
def test_illegal_sizes(wrong, make_config):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_config("DeepCoNN", **wrong)


def test_a_step_is_five_times_faster_than_pair_by_pair(make_experiment):
    experiment = make_experiment("DeepCoNN", dropout=0.0)
    model, batch = experiment.model.train(), batch_of(experiment, 128)
    pairs = list(zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True))
    own = model.documents.find(batch["user_id"], batch["item_id"]).tolist()
    seconds = []
    for literally in (False, False, True):  # the first warms up
        started = time.process_time()
        if literally:
            for side in Side:
                result = [document(model, side, pair[side], row) for pair, row in zip(pairs, own, strict=True)]
                model._side(side, torch.stack(result))[0].sum().backward()
        else:
            model.calculate_loss(batch).backward()
        seconds.append(time.process_time() - started)
    assert seconds[2] > 5 * seconds[1], seconds
