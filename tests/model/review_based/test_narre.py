"""NARRE against its equations, pair by pair, and the weights of its reviews."""

from __future__ import annotations

import time

import pytest
import torch
from altered import copy_of
from torch.nn import functional

from recbole.data.interaction import Interaction

from recbole_drex.explain.counterfactual.dispatch import counterfactual_for
from recbole_drex.model.layers.common import Side

SIZES = {"filters": 12, "latent_size": 6, "attention_size": 5, "embedding_size": 4, "word_size": 16}
EXACT = {"dropout": 0.0, "max_reviews": 15, "reg_weight": 0.0, "bias_reg_weight": 0.0}


def randomised(experiment):
    """With every parameter random, so that none is zero and no attention is even."""
    torch.manual_seed(0)
    for parameter in experiment.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return experiment


@pytest.fixture(scope="module")
def experiment(make_experiment):
    return randomised(make_experiment("NARRE", **EXACT, **SIZES))


def answers(model, review: int) -> torch.Tensor:
    """o of one review by PyTorch's convolution: (filters,)."""
    documents, cnn = model.documents, model.cnn
    words = documents.words[documents.offsets[review] : documents.offsets[review + 1]]
    convolved = functional.conv1d(cnn.vectors[words].T[None], cnn.weight.permute(2, 1, 0), cnn.bias, padding=1)
    return torch.relu(convolved).amax(-1)[0]


def state(model, side: Side, entity: int, excluded: int) -> torch.Tensor:
    """h, with its softmax padded to 20 reviews and masked."""
    documents, attend = model.documents, model.attention_of_side[side]
    reviews = [r for r in documents.of(side, torch.tensor([entity]))[0].tolist() if r != excluded]
    outputs, logits = [torch.zeros(model.cnn.filters)] * 20, [torch.tensor(-torch.inf)] * 20
    for k, review in enumerate(reviews):
        outputs[k] = answers(model, review)
        counterpart = (documents.item, documents.user)[side][review]
        hidden = attend.from_review.weight @ outputs[k] + attend.from_review.bias
        hidden = hidden + attend.from_counterpart.weight @ attend.counterpart.weight[counterpart]
        logits[k] = attend.output.weight[0] @ torch.relu(hidden)
    pooled = torch.stack(logits).softmax(0) @ torch.stack(outputs) if reviews else torch.zeros(model.cnn.filters)
    dense = model.dense[side]
    return model.embeddings[side].weight[entity] + dense.weight @ pooled + dense.bias


def literal(model, user: int, item: int, exclude: bool = True) -> torch.Tensor:
    own = int(model.documents.find(torch.tensor(user), torch.tensor(item))) if exclude else -1
    product = state(model, Side.USER, user, own) * state(model, Side.ITEM, item, own)
    biases = model.biases[Side.USER].weight[user, 0] + model.biases[Side.ITEM].weight[item, 0]
    return model.output.weight[0] @ product + biases + model.mean


def pairs_of(batch) -> list[tuple[int, int]]:
    return list(zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True))


def batch_of(experiment, size: int) -> Interaction:
    return experiment.parts.train_dataset.inter_feat[torch.randperm(200)[:size]]


@pytest.mark.parametrize("exclude", (True, False))
def test_loss_and_gradients_equal_the_literal_model(make_experiment, exclude):
    experiment = randomised(make_experiment("NARRE", exclude_target_review=exclude, **EXACT, **SIZES))
    model, batch = experiment.model.train(), batch_of(experiment, 16)
    scores = torch.stack([literal(model, user, item, exclude) for user, item in pairs_of(batch)])
    expected = functional.mse_loss(scores, batch["rating"])
    loss = model.calculate_loss(batch)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    parameters = list(model.parameters())
    ours, theirs = torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        assert one.abs().sum() > 0


def test_predictions_equal_the_literal_model(experiment):
    """For pairs of the training part, whose review is left out, and for others."""
    model = experiment.model.eval()
    others = Interaction({"user_id": torch.arange(1, 9), "item_id": torch.arange(9, 17)})
    for batch in (batch_of(experiment, 8), others):
        expected = [literal(model, user, item).item() for user, item in pairs_of(batch)]
        assert model.predict(batch).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("exclude", (True, False))
def test_the_target_review_changes_no_prediction_of_its_pair(make_experiment, exclude):
    """Other words in a training review change no prediction of the same pair, unless the option is off."""
    model = randomised(make_experiment("NARRE", exclude_target_review=exclude, **EXACT, **SIZES)).model.eval()
    cnn, documents = model.cnn, model.documents
    reviews = documents.of(Side.USER, torch.tensor([3]))[0]
    pair = Interaction({"user_id": documents.user[reviews[:1]], "item_id": documents.item[reviews[:1]]})
    before = model.predict(pair)
    first = int(cnn.start[reviews[0]]) + (cnn.window - 1) // 2
    cnn.text[first : first + int(cnn.length[reviews[0]])] = 5
    model._stale = True  # no parameter has changed
    assert torch.equal(before, model.predict(pair)) == exclude


def test_the_penalty_is_the_mean_square_over_the_batch(experiment):
    model, batch = experiment.model.train(), batch_of(experiment, 16)
    plain = model.calculate_loss(batch)
    free = sum(
        model.embeddings[k].weight[batch[f]].square().sum(-1).mean() for k, f in enumerate(("user_id", "item_id"))
    )
    bias = sum(model.biases[k].weight[batch[f]].square().mean() for k, f in enumerate(("user_id", "item_id")))
    model.reg_weight, model.bias_reg_weight = 0.5, 0.25
    torch.testing.assert_close(model.calculate_loss(batch), plain + 0.5 * free + 0.25 * bias)
    model.reg_weight, model.bias_reg_weight = 0.0, 0.0


# Explanations -------------------------------------------------------------------------------------------------------


def test_the_reviews_that_are_read_and_their_weights(experiment):
    model, documents = experiment.model.eval(), experiment.model.documents
    counterfactual = counterfactual_for(model, 4, 6)
    for side, (own, entity) in enumerate(((documents.user, 4), (documents.item, 6))):
        pasts, weights = (
            [part.tolist() for part in counterfactual.past_interactions[side]],
            counterfactual.weights[side].tolist(),
        )
        assert set(zip(*pasts, strict=True)) <= set(
            zip(documents.user.tolist(), documents.item.tolist(), documents.row.tolist(), strict=True)
        )
        assert set(pasts[side]) == {entity} and (4, 6) not in set(zip(*pasts[:2], strict=True))
        most = min(15, int((own == entity).sum()))  # of which the pair's own review may be one
        assert most - 1 <= len(weights) <= most and most > 4
        assert sum(weights) == pytest.approx(1)
        assert weights == sorted(weights, reverse=True) and weights[0] > weights[-1]


# Odd data -----------------------------------------------------------------------------------------------------------


def test_users_without_reviews(make_experiment, small, tmp_path):
    def few(frame):
        return frame.assign(**{"review_row:float": frame["review_row:float"].where(frame.index % 40 == 0)})

    root = copy_of(small.root, tmp_path / "data", few)
    experiment = randomised(make_experiment("NARRE", data_path=str(root), **EXACT, **SIZES))
    model = experiment.model
    bare = torch.nonzero(model.documents.count0 == 0).flatten()
    assert len(bare) > 1
    assert torch.isfinite(model.train().calculate_loss(batch_of(experiment, 100)))
    scores = model.eval().full_sort_predict(Interaction({"user_id": bare[1:2]}))
    assert torch.isfinite(scores).all()
    assert float(scores[3]) == pytest.approx(literal(model, int(bare[1]), 3).item(), abs=1e-5)


def test_large_logits_give_no_nan(make_experiment):
    experiment = randomised(make_experiment("NARRE", **EXACT, **SIZES))
    model = experiment.model.train()
    for attend in model.attention_of_side:
        attend.output.weight.data *= 1e4
    loss = model.calculate_loss(batch_of(experiment, 50))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_word_vectors_of_a_file(make_experiment, tmp_path):
    vocabulary = make_experiment("NARRE").model.documents.vocabulary
    rng = torch.Generator().manual_seed(0)
    lines = [f"{word} {' '.join(map(str, torch.randn(5, generator=rng).tolist()))}\n" for word in vocabulary]
    (tmp_path / "glove.txt").write_text("".join(lines), encoding="utf-8")
    model = make_experiment("NARRE", word_vectors=str(tmp_path / "glove.txt")).model
    assert model.cnn.vectors.shape == (len(vocabulary) + 1, 5)


def convolved_pair_by_pair(model, pairs, own) -> torch.Tensor:
    """o of every review of every pair's user and item, each pair's reviews padded and convolved for itself, summed."""
    documents, cnn = model.documents, model.cnn
    total = torch.zeros(cnn.filters)
    for pair, excluded in zip(pairs, own, strict=True):
        for side in Side:
            reviews = [r for r in documents.of(side, torch.tensor([pair[side]]))[0].tolist() if r != excluded]
            texts = [documents.words[documents.offsets[r] : documents.offsets[r + 1]] for r in reviews]
            if not texts:
                continue
            block = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=len(cnn.vectors) - 1)
            convolved = functional.conv1d(cnn.vectors[block].mT, cnn.weight.permute(2, 1, 0), cnn.bias, padding=1)
            inside = torch.arange(block.shape[1]) < torch.tensor([len(text) for text in texts])[:, None]
            total = total + torch.relu(convolved * inside[:, None]).amax(-1).sum(0)
    return total


def test_a_step_is_five_times_faster_than_pair_by_pair(make_experiment):
    experiment = make_experiment("NARRE", window=3)
    model, batch = experiment.model.train(), batch_of(experiment, 128)
    own = model.documents.find(batch["user_id"], batch["item_id"]).tolist()
    # The same reviews are convolved, and their answers are the same.
    one, review = pairs_of(batch)[:1], own[:1]
    slow = convolved_pair_by_pair(model, one, review)
    read = [model.documents.of(side, torch.tensor([one[0][side]]))[0] for side in Side]
    read = torch.cat([reviews[reviews != review[0]] for reviews in read])
    unique, index = torch.unique(read, return_inverse=True)
    reading = model.cnn.read(unique)
    torch.testing.assert_close(model.cnn.answer(reading, reading.position)[index].sum(0), slow, atol=1e-4, rtol=1e-4)
    seconds = []
    for literally in (False, False, True):  # the first warms up
        started = time.process_time()
        (
            convolved_pair_by_pair(model, pairs_of(batch), own).sum() if literally else model.calculate_loss(batch)
        ).backward()
        seconds.append(time.process_time() - started)
    assert seconds[2] > 5 * seconds[1], seconds
