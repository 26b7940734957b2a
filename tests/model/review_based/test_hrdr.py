"""HRDR against its equations, evaluated pair by pair with dense rating rows."""

from __future__ import annotations

import pytest
import torch
from altered import copy_of
from torch.nn import functional

from recbole.data.interaction import Interaction

from recbole_drex.explain.counterfactual.dispatch import counterfactual_for
from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.rating_rows import RatingRows

SIZES = {"filters": 10, "rating_size": 8, "latent_size": 5, "embedding_size": 4, "attention_size": 3, "word_size": 16}
EXACT = {"dropout": 0.0, "max_reviews": 15, "reg_weight": 0.0, "bias_reg_weight": 0.0, **SIZES}


@pytest.fixture(scope="module")
def experiment(make_experiment):
    return randomised(make_experiment("HRDR", **EXACT))


def randomised(experiment):
    """Every parameter and running statistic random, so that none is zero."""
    torch.manual_seed(0)
    model = experiment.model
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for encoder in model.encoders:
        encoder.norm.running_mean.normal_()
        encoder.norm.running_var.uniform_(0.5, 2.0)
    return experiment


def dense(experiment) -> torch.Tensor:
    """The matrix of training ratings, divided by 5."""
    feat, model = experiment.parts.train_dataset.inter_feat, experiment.model
    matrix = torch.zeros(model.n_users, model.n_items)
    matrix[feat["user_id"], feat["item_id"]] = feat["rating"] / 5
    return matrix


def before_norm(model, side: Side, row: torch.Tensor) -> torch.Tensor:
    """The MLP over one dense row."""
    encoder = model.encoders[side]
    hidden = row / max(1, int((row > 0).sum())) ** 0.5
    hidden = torch.relu(hidden @ encoder.first + encoder.bias)
    for layer in encoder.others:
        hidden = torch.relu(layer.weight @ hidden + layer.bias)
    return hidden


def state(model, side: Side, entity: int, rated: torch.Tensor, excluded: int) -> torch.Tensor:
    """h by equations, from x and each review convolved by itself."""
    documents, cnn, attend = model.documents, model.cnn, model.attention_of_side[side]
    outputs, logits = [], []
    for review in documents.of(side, torch.tensor([entity]))[0].tolist():
        if review == excluded:
            continue
        words = documents.words[documents.offsets[review] : documents.offsets[review + 1]]
        text = functional.pad(cnn.vectors[words], (0, 0, (cnn.window - 1) // 2, cnn.window // 2))
        convolved = functional.conv1d(text.T[None], cnn.weight.permute(2, 1, 0), cnn.bias)[0]
        outputs.append(torch.relu(convolved).amax(-1))
        hidden = torch.relu(attend.hidden.weight @ (outputs[-1] * rated) + attend.hidden.bias)
        logits.append(attend.output.weight[0] @ hidden)
    pooled = torch.stack(logits).softmax(0) @ torch.stack(outputs) if outputs else torch.zeros(cnn.filters)
    reviews = model.dense[side].weight @ pooled + model.dense[side].bias
    return torch.cat([rated, reviews, model.embeddings[side].weight[entity]])


def score(model, user: int, item: int, of_user: torch.Tensor, of_item: torch.Tensor) -> torch.Tensor:
    biases = model.biases[Side.USER].weight[user, 0] + model.biases[Side.ITEM].weight[item, 0]
    return model.output.weight[0] @ (of_user * of_item) + biases + model.mean


def predicted(experiment, user: int, item: int, exclude: bool = True) -> torch.Tensor:
    """By the running statistics, without the pair's own rating and review."""
    model, matrix = experiment.model, dense(experiment)
    own = int(model.documents.find(torch.tensor(user), torch.tensor(item))) if exclude else -1
    if exclude:
        matrix[user, item] = 0
    states = []
    for side, entity, row in ((Side.USER, user, matrix[user]), (Side.ITEM, item, matrix[:, item])):
        norm = model.encoders[side].norm
        rated = (before_norm(model, side, row) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        states.append(state(model, side, entity, rated * norm.weight + norm.bias, own))
    return score(model, user, item, *states)


def trained(experiment, batch, exclude: bool) -> torch.Tensor:
    """Scores of a batch by its own statistics, without the batch's ratings and each pair's review."""
    model, matrix = experiment.model, dense(experiment)
    if exclude:
        matrix[batch["user_id"], batch["item_id"]] = 0
    rated = []
    for side, field, rows in ((Side.USER, "user_id", matrix), (Side.ITEM, "item_id", matrix.T)):
        distinct = sorted(set(batch[field].tolist()))
        hidden, norm = torch.stack([before_norm(model, side, rows[one]) for one in distinct]), model.encoders[side].norm
        normal = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias
        rated.append(dict(zip(distinct, normal, strict=True)))
    scores = []
    for user, item in pairs_of(batch):
        own = int(model.documents.find(torch.tensor(user), torch.tensor(item))) if exclude else -1
        states = [state(model, side, one, rated[side][one], own) for side, one in zip(Side, (user, item), strict=True)]
        scores.append(score(model, user, item, *states))
    return torch.stack(scores)


def pairs_of(batch) -> list[tuple[int, int]]:
    return list(zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True))


def batch_of(experiment, size: int) -> Interaction:
    return experiment.parts.train_dataset.inter_feat[torch.randperm(200)[:size]]


@pytest.mark.parametrize("exclude", (True, False))
def test_loss_and_gradients_equal_the_literal_model(make_experiment, exclude):
    experiment = randomised(make_experiment("HRDR", exclude_target_review=exclude, **EXACT))
    model, batch = experiment.model.train(), batch_of(experiment, 24)
    expected = functional.mse_loss(trained(experiment, batch, exclude), batch["rating"])
    loss = model.calculate_loss(batch)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    parameters = list(model.parameters())
    ours, theirs = torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-3)
        assert one.abs().sum() > 0


def test_predictions_equal_the_literal_model(experiment):
    """For pairs of the training part, whose rating and review are left out, and for others."""
    experiment.model.eval()
    others = Interaction({"user_id": torch.arange(1, 9), "item_id": torch.arange(9, 17)})
    for batch in (batch_of(experiment, 8), others):
        expected = [predicted(experiment, user, item).item() for user, item in pairs_of(batch)]
        assert experiment.model.predict(batch).tolist() == pytest.approx(expected, abs=1e-5)


def test_with_nothing_left_out_predictions_contain_the_pair(make_experiment):
    experiment = randomised(make_experiment("HRDR", exclude_target_review=False, **EXACT))
    experiment.model.eval()
    batch = batch_of(experiment, 8)
    expected = [predicted(experiment, user, item, exclude=False).item() for user, item in pairs_of(batch)]
    assert experiment.model.predict(batch).tolist() == pytest.approx(expected, abs=1e-5)


def with_rating(model, number: int, value: float) -> None:
    rows = model.rows
    rows.value[number] = value
    rows.sides[Side.USER].value[number] = value
    rows.sides[Side.ITEM].value[rows.position[number]] = value
    model._stale = True  # no parameter has changed


@pytest.mark.parametrize("exclude", (True, False))
def test_the_target_rating_changes_no_prediction_of_its_pair(make_experiment, exclude):
    """Equal in every bit, in prediction and training, unless the option is off; the user's other predictions change."""
    model = randomised(make_experiment("HRDR", exclude_target_review=exclude, **EXACT)).model.eval()
    number = 7
    user, item = int(model.rows.key[number]) // model.n_items, int(model.rows.key[number]) % model.n_items
    pair = Interaction({"user_id": torch.tensor([user]), "item_id": torch.tensor([item])})
    other = Interaction({"user_id": torch.tensor([user]), "item_id": torch.tensor([item % 30 + 1])})
    batch = Interaction({**pair.interaction, "rating": torch.tensor([3.0])})
    before, others = model.predict(pair), model.predict(other)
    loss = model.train().calculate_loss(batch)
    model.eval()
    with_rating(model, number, 17.0)
    assert exclude == torch.equal(model.predict(pair), before)
    assert not torch.allclose(model.predict(other), others, atol=1e-4)
    assert exclude == torch.equal(model.train().calculate_loss(batch), loss)


@pytest.mark.parametrize("exclude", (True, False))
def test_the_target_review_changes_no_prediction_of_its_pair(make_experiment, exclude):
    model = randomised(make_experiment("HRDR", exclude_target_review=exclude, **EXACT)).model.eval()
    cnn, documents = model.cnn, model.documents
    reviews = documents.of(Side.USER, torch.tensor([3]))[0]
    pair = Interaction({"user_id": documents.user[reviews[:1]], "item_id": documents.item[reviews[:1]]})
    before = model.predict(pair)
    first = int(cnn.start[reviews[0]]) + (cnn.window - 1) // 2
    cnn.text[first : first + int(cnn.length[reviews[0]])] = 5
    model._stale = True  # no parameter has changed
    assert torch.equal(before, model.predict(pair)) == exclude


def test_with_equal_weights_it_is_a_factorisation_of_ratings_mean_reviews_and_ids(make_experiment):
    """W_1 = 0 makes the weights equal: the score is a product of [x; mean o; id]."""
    model = randomised(make_experiment("HRDR", **EXACT)).model.eval()
    for attend in model.attention_of_side:
        torch.nn.init.zeros_(attend.hidden.weight)
    pair = torch.tensor([4]), torch.tensor([6])
    states = []
    for side in Side:
        review, weight = model.weights_of(side, pair, model.documents.find(*pair))
        assert weight.tolist() == pytest.approx([1 / len(weight)] * len(weight))
        mean = model.dense[side](model._answers[model._slot[review]].mean(0, keepdim=True))
        rated = model.encoders[side].known(pair[side], model.rows.find(*pair))
        states.append(torch.cat([rated, mean, model.embeddings[side](pair[side])], 1)[0])
    expected = score(model, 4, 6, *states)
    assert model.score(*pair).item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_batch_of_one_is_normalised_by_the_running_statistics(experiment):
    model, batch = experiment.model.train(), batch_of(experiment, 1)
    before = model.encoders[0].norm.running_mean.clone()
    loss = model.calculate_loss(batch)
    user, item = pairs_of(batch)[0]
    expected = (predicted(experiment, user, item) - batch["rating"][0]) ** 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.equal(model.encoders[0].norm.running_mean, before)


def test_the_penalty_is_the_mean_square_over_the_batch(experiment):
    model, batch = experiment.model.train(), batch_of(experiment, 16)
    plain = model.calculate_loss(batch)
    fields = ("user_id", "item_id")
    free = sum(model.embeddings[k].weight[batch[f]].square().sum(-1).mean() for k, f in enumerate(fields))
    bias = sum(model.biases[k].weight[batch[f]].square().mean() for k, f in enumerate(fields))
    model.reg_weight, model.bias_reg_weight = 0.5, 0.25
    torch.testing.assert_close(model.calculate_loss(batch), plain + 0.5 * free + 0.25 * bias)
    model.reg_weight, model.bias_reg_weight = 0.0, 0.0


# Rating rows --------------------------------------------------------------------------------------------------------


def test_rating_rows_are_those_of_the_dense_matrix():
    torch.manual_seed(0)
    matrix = torch.rand(6, 9) * (torch.rand(6, 9) < 0.4)
    user, item = torch.nonzero(matrix).T
    shuffled = torch.randperm(len(user))
    rows = RatingRows(user[shuffled], item[shuffled], matrix[user, item][shuffled], 6, 9)
    assert rows.find(user, item).tolist() == list(range(len(user)))
    assert int(rows.find(*torch.nonzero(matrix == 0)[0])) == -1
    hidden = torch.tensor([0, 3, 5])
    left = matrix.clone()
    left[user[hidden], item[hidden]] = 0
    for side, full, part in ((Side.USER, matrix, left), (Side.ITEM, matrix.T, left.T)):
        weight, entity = torch.randn(full.shape[1], 4), torch.tensor([4, 0, 5])
        for chosen, dense_rows in ((None, full), (hidden, part)):
            product, count = rows.times(side, entity, weight, chosen)
            torch.testing.assert_close(product, dense_rows[entity] @ weight)
            assert count.tolist() == (dense_rows[entity] > 0).sum(1).tolist()
        first = int(torch.nonzero(full[4])[0])
        pair = (torch.tensor([4]), torch.tensor([first]))
        own = torch.cat([rows.find(*(pair if side == Side.USER else pair[::-1])), torch.tensor([-1, -1])])
        less = full[entity].clone()
        less[0, first] = 0
        product = rows.times(side, entity, weight)[0] - rows.term(side, own, weight)
        torch.testing.assert_close(product, less @ weight)


def test_several_ratings_of_one_pair_are_averaged():
    rows = RatingRows(torch.tensor([1, 1, 2]), torch.tensor([3, 3, 1]), torch.tensor([1.0, 0.5, 0.2]), 3, 4)
    product, count = rows.times(Side.USER, torch.tensor([1, 2, 0]), torch.eye(4))
    torch.testing.assert_close(product, torch.tensor([[0, 0, 0, 0.75], [0, 0.2, 0, 0], [0, 0, 0, 0]]))
    assert count.tolist() == [1, 1, 0]


# Explanations -------------------------------------------------------------------------------------------------------


def test_the_reviews_that_are_read_and_their_weights(experiment):
    model, documents = experiment.model.eval(), experiment.model.documents
    pair = documents.user[11], documents.item[11]
    counterfactual = counterfactual_for(model, int(pair[0]), int(pair[1]))
    for side in Side:
        users, items, _ = (part.tolist() for part in counterfactual.past_interactions[side])
        assert set((users, items)[side]) == {int(pair[side])}
        assert (int(pair[0]), int(pair[1])) not in set(zip(users, items, strict=True))
        weights = counterfactual.weights[side].tolist()
        assert sum(weights) == pytest.approx(1)
        assert weights == sorted(weights, reverse=True) and weights[0] > weights[-1]
    whole = counterfactual.without([[]], [[]])
    assert whole.item() == pytest.approx(predicted(experiment, *map(int, pair)).item(), abs=1e-4)


def test_without_reviews_the_others_are_weighted_as_if_they_had_never_been_there(experiment):
    model = experiment.model.eval()
    counterfactual = counterfactual_for(model, 4, 6)
    kept = counterfactual.reviews[0][[1, 2]]
    removed = [k for k in range(len(counterfactual.reviews[0])) if k not in (1, 2)]
    rated = model.encoders[0].known(torch.tensor([4]), model.rows.find(torch.tensor([4]), torch.tensor([6])))
    answers = model._answers[model._slot[kept]]
    weight = model.attention_of_side[0](answers, rated.expand(2, -1)).softmax(0)
    mine = model.state_of(Side.USER, counterfactual.pair, (weight @ answers)[None])[0]
    _, its_weight = model.weights_of(Side.ITEM, counterfactual.pair, torch.tensor([-1]))
    its = its_weight @ model._answers[model._slot[counterfactual.reviews[1]]]
    expected = score(model, 4, 6, mine, model.state_of(Side.ITEM, counterfactual.pair, its[None])[0])
    assert counterfactual.without([removed], [[]]).item() == pytest.approx(expected.item(), abs=1e-5)


# Odd data -----------------------------------------------------------------------------------------------------------


def test_users_without_reviews(make_experiment, small, tmp_path):
    def few(frame):
        return frame.assign(**{"review_row:float": frame["review_row:float"].where(frame.index % 40 == 0)})

    root = copy_of(small.root, tmp_path / "data", few)
    experiment = randomised(make_experiment("HRDR", data_path=str(root), **EXACT))
    model = experiment.model
    bare = torch.nonzero(model.documents.count0 == 0).flatten()
    assert len(bare) > 1
    assert torch.isfinite(model.train().calculate_loss(batch_of(experiment, 100)))
    randomised(experiment)
    scores = model.eval().full_sort_predict(Interaction({"user_id": bare[1:2]}))
    assert torch.isfinite(scores).all()
    for item in (3, 8):
        assert float(scores[item]) == pytest.approx(predicted(experiment, int(bare[1]), item).item(), abs=1e-5)


def test_large_logits_give_no_nan(make_experiment):
    experiment = randomised(make_experiment("HRDR", **EXACT))
    model = experiment.model.train()
    for attend in model.attention_of_side:
        attend.output.weight.data *= 1e4
    loss = model.calculate_loss(batch_of(experiment, 50))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
