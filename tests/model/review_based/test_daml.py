"""DAML against its equations, evaluated pair by pair and word by word."""

from __future__ import annotations

import itertools

import pytest
import torch
from altered import copy_of
from torch.nn import functional

from recbole.data.interaction import Interaction

from recbole_drex.explain.counterfactual.dispatch import counterfactual_for
from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.mutual_attention import mutual_attention

SIZES = {"filters": 7, "latent_size": 5, "embedding_size": 4, "factors": 3, "word_size": 16}
EXACT = {"dropout": 0.0, "document_words": 23, "review_words": 9, "reg_weight": 0.0, "bias_reg_weight": 0.0, **SIZES}


@pytest.fixture(scope="module")
def experiment(make_experiment):
    return randomised(make_experiment("DAML", **EXACT))


def randomised(experiment):
    """Every parameter random, so that none is zero."""
    torch.manual_seed(0)
    for parameter in experiment.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return experiment


def segments(model, side: Side, entity: int, excluded: tuple[int, ...]) -> list[tuple[int, int]]:
    """Reviews of a document and the number of their words in it."""
    documents, left, result = model.documents, model.words.size, []
    for review in documents.of(side, torch.tensor([entity]))[0].tolist():
        length = min(left, int(documents.offsets[review + 1] - documents.offsets[review]))
        if review not in excluded and length:
            result.append((review, length))
            left -= length
    return result


def features(model, review: int) -> torch.Tensor:
    """z of all words of a review, by convolutions of word vectors."""
    documents, encoder = model.documents, model.encoder
    words = documents.words[documents.offsets[review] : documents.offsets[review + 1]]
    text = encoder.vectors[words].T[None]
    share = torch.sigmoid(functional.conv1d(text, encoder.local.T[None], encoder.local_bias[None], padding=2))
    return functional.conv1d(share * text, encoder.weight.permute(2, 1, 0), encoder.bias, padding=1)[0].T


def abstracted(model, side: Side, parts: list[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
    """d, by sliding windows over each review's words."""
    layer = model.abstractions[side]
    if not parts:
        return torch.zeros(layer.dense.out_features)
    taps = layer.convolution.weight.view(len(layer.convolution.weight), 3, -1)
    outputs, first = [], 0
    for part in parts:
        scaled = part * weights[first : first + len(part), None]
        first += len(part)
        pooled = functional.pad(scaled, (0, 0, 1, 1)).unfold(0, 3, 1).sum(-1)
        outputs.append(functional.conv1d(pooled.T[None], taps.transpose(1, 2), layer.convolution.bias, padding=1)[0].T)
    mean = torch.cat(outputs).mean(0)
    return torch.relu(layer.dense.weight @ mean + layer.dense.bias)


def literal(model, user: int, item: int, excluded: tuple[int, ...]) -> torch.Tensor:
    documents = [segments(model, side, one, excluded) for side, one in zip(Side, (user, item), strict=True)]
    parts = [[features(model, review)[:length] for review, length in one] for one in documents]
    both = [torch.cat(one) if one else torch.zeros(0, model.encoder.bias.shape[0]) for one in parts]
    squares = (both[0][:, None] - both[1][None]).square().sum(-1)
    alike = 1 / (1 + (squares + 1e-6).sqrt())
    weights = alike.sum(1) / max(1, len(both[1])), alike.sum(0) / max(1, len(both[0]))
    vectors = []
    for side, entity in zip(Side, (user, item), strict=True):
        vectors += [abstracted(model, side, parts[side], weights[side]), model.embeddings[side].weight[entity]]
    x = torch.cat(vectors)
    v = model.factors.weight
    products = sum(v[:, a] * v[:, b] * x[a] * x[b] for a, b in itertools.combinations(range(len(x)), 2))
    deep = model.output.weight[0] @ torch.relu(model.hidden.weight @ products + model.hidden.bias)
    biases = model.biases[Side.USER].weight[user, 0] + model.biases[Side.ITEM].weight[item, 0]
    return model.linear.weight[0] @ x + deep + biases + model.mean


def own(model, user: int, item: int) -> tuple[int, ...]:
    return (int(model.documents.find(torch.tensor(user), torch.tensor(item))),)


def pairs_of(batch) -> list[tuple[int, int]]:
    return list(zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True))


def batch_of(experiment, size: int) -> Interaction:
    return experiment.parts.train_dataset.inter_feat[torch.randperm(200)[:size]]


@pytest.mark.parametrize("exclude", (True, False))
def test_loss_and_gradients_equal_the_literal_model(make_experiment, exclude):
    experiment = randomised(make_experiment("DAML", exclude_target_review=exclude, **EXACT))
    model, batch = experiment.model.train(), batch_of(experiment, 16)
    pairs = pairs_of(batch)
    assert sum(own(model, *pair)[0] >= 0 for pair in pairs) > 10
    scores = torch.stack([literal(model, *pair, own(model, *pair) if exclude else ()) for pair in pairs])
    expected = functional.mse_loss(scores, batch["rating"])
    loss = model.calculate_loss(batch)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
    parameters = list(model.parameters())
    ours, theirs = torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3 * float(other.abs().max()), rtol=1e-3)
        assert one.abs().sum() > 0


def test_predictions_equal_the_literal_model(experiment):
    """For pairs of the training part, whose review is left out, and for others."""
    model = experiment.model.eval()
    others = Interaction({"user_id": torch.arange(1, 9), "item_id": torch.arange(9, 17)})
    for batch in (batch_of(experiment, 8), others):
        expected = [literal(model, *pair, own(model, *pair)).item() for pair in pairs_of(batch)]
        assert model.predict(batch).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("exclude", (True, False))
def test_the_target_review_changes_no_prediction_of_its_pair(make_experiment, exclude):
    """Other words in a user's latest review change no prediction of the same pair, unless the option is off."""
    model = randomised(make_experiment("DAML", exclude_target_review=exclude, **EXACT)).model.eval()
    documents, words = model.documents, model.words
    review = documents.of(Side.USER, torch.tensor([3]))[0][:1]
    pair = Interaction({"user_id": documents.user[review], "item_id": documents.item[review]})
    other = Interaction({"user_id": documents.user[review], "item_id": documents.item[review] % 30 + 1})
    before, others = model.predict(pair), model.predict(other)
    first = int(words.position0[words.first0[3]])
    words.text[first : first + int(words.length[review])] = 5
    model._stale = True  # no parameter has changed
    assert torch.equal(before, model.predict(pair)) == exclude
    assert not torch.equal(others, model.predict(other))


def test_documents_are_the_first_words_of_the_other_reviews(experiment):
    model = experiment.model
    documents, words = model.documents, model.words
    for side, n in ((Side.USER, model.n_users), (Side.ITEM, model.n_items)):
        for entity in (0, 1, 7, n - 1):
            for excluded in (-1, *documents.of(side, torch.tensor([entity]))[0].tolist()):
                got = words.of(side, torch.tensor([entity]), torch.tensor([excluded]))
                there = got.mask[0].bool()
                expected = [
                    (review, int(documents.words[documents.offsets[review] + k]))
                    for review, length in segments(model, side, entity, (excluded,))
                    for k in range(length)
                ]
                review, word = got.review[0][there], words.text[got.position[0][there]]
                assert list(zip(review.tolist(), word.tolist(), strict=True)) == expected
                assert len(expected) == 23 or excluded >= 0 or entity == 0


def test_the_penalty_is_the_mean_square_over_the_batch(experiment):
    model, batch = experiment.model.train(), batch_of(experiment, 16)
    plain = model.calculate_loss(batch)
    fields = ("user_id", "item_id")
    free = sum(model.embeddings[k].weight[batch[f]].square().sum(-1).mean() for k, f in enumerate(fields))
    bias = sum(model.biases[k].weight[batch[f]].square().mean() for k, f in enumerate(fields))
    model.reg_weight, model.bias_reg_weight = 0.5, 0.25
    torch.testing.assert_close(model.calculate_loss(batch), plain + 0.5 * free + 0.25 * bias)
    model.reg_weight, model.bias_reg_weight = 0.0, 0.0


# Mutual attention ---------------------------------------------------------------------------------------------------


def test_mutual_attention_of_the_golden_example():
    """Two words each; the second distance is that of (3, 4) and (6, 8), which is 5."""
    left, right = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]]), torch.tensor([[[0.0, 0.0], [6.0, 8.0]]])
    of_left, of_right = mutual_attention(left, right, torch.ones(1, 2), torch.ones(1, 2))
    # Up to the epsilon under the root, which makes the likeness of equal words 0.999.
    assert of_left[0].tolist() == pytest.approx([1.090909, 0.333333], abs=1.1e-3)
    assert of_right[0].tolist() == pytest.approx([1.166667, 0.257576], abs=1.1e-3)


def test_gradients_of_mutual_attention_agree_with_finite_differences():
    torch.manual_seed(0)
    left, right = (torch.randn(19, n, 4, dtype=torch.float64, requires_grad=True) for n in (7, 5))
    masks = [(torch.rand(19, n) < 0.7).double() for n in (7, 5)]
    assert torch.autograd.gradcheck(lambda one, other: mutual_attention(one, other, *masks), (left, right))


def test_equal_words_have_finite_gradients():
    same = torch.randn(3, 6, 4).repeat(1, 2, 1).requires_grad_()
    of_left, of_right = mutual_attention(same, same, torch.ones(3, 12), torch.ones(3, 12))
    (of_left.square().sum() + of_right.sum()).backward()
    assert torch.isfinite(same.grad).all()


def test_padding_takes_no_part_in_mutual_attention():
    torch.manual_seed(0)
    left, right = torch.randn(2, 5, 3), torch.randn(2, 4, 3)
    plain = mutual_attention(left, right, torch.ones(2, 5), torch.ones(2, 4))
    padded = [torch.cat([one, torch.randn(2, 3, 3)], 1).requires_grad_() for one in (left, right)]
    masks = [functional.pad(torch.ones(2, n), (0, 3)) for n in (5, 4)]
    sums = mutual_attention(*padded, *masks)
    for one, other, n in zip(plain, sums, (5, 4), strict=True):
        torch.testing.assert_close(one, other[:, :n])
    sum((one * mask).sum() for one, mask in zip(sums, masks, strict=True)).backward()
    assert all((one.grad[:, n:] == 0).all() for one, n in zip(padded, (5, 4), strict=True))


# Explanations -------------------------------------------------------------------------------------------------------


def test_the_reviews_that_are_read_and_their_weights(experiment):
    model, documents = experiment.model.eval(), experiment.model.documents
    user, item = int(documents.user[11]), int(documents.item[11])
    counterfactual = counterfactual_for(model, user, item)
    for side, entity in zip(Side, (user, item), strict=True):
        users, items, _ = (part.tolist() for part in counterfactual.past_interactions[side])
        assert set((users, items)[side]) == {entity} and (user, item) not in set(zip(users, items, strict=True))
        assert sorted(counterfactual.reviews[side].tolist()) == sorted(
            review for review, _ in segments(model, side, entity, own(model, user, item))
        )
        weights = counterfactual.weights[side].tolist()
        assert sum(weights) == pytest.approx(1)
        assert weights == sorted(weights, reverse=True) and weights[0] > weights[-1]
    assert counterfactual.without([[]], [[]]).item() == pytest.approx(
        literal(model, user, item, own(model, user, item)).item(), abs=1e-4
    )


def test_without_a_review_its_words_take_no_part(make_experiment):
    """With documents that hold all words, it is the prediction as if the review had never been written."""
    model = randomised(make_experiment("DAML", **{**EXACT, "document_words": 400})).model.eval()
    counterfactual = counterfactual_for(model, 4, 6)
    mine, its = (reviews.tolist() for reviews in counterfactual.reviews)
    assert len(mine) > 3 and len(its) > 3
    removed = ([[], [0, 2], [], [*range(len(mine))]], [[], [], [1], [*range(len(its))]])
    results = counterfactual.without(*removed).tolist()
    for result, of_user, of_item in zip(results, *removed, strict=True):
        excluded = (*own(model, 4, 6), *(mine[k] for k in of_user), *(its[k] for k in of_item))
        assert result == pytest.approx(literal(model, 4, 6, excluded).item(), abs=1e-4)


# Odd data -----------------------------------------------------------------------------------------------------------


def test_users_without_reviews(make_experiment, small, tmp_path):
    def few(frame):
        return frame.assign(**{"review_row:float": frame["review_row:float"].where(frame.index % 40 == 0)})

    root = copy_of(small.root, tmp_path / "data", few)
    experiment = randomised(make_experiment("DAML", data_path=str(root), **EXACT))
    model = experiment.model
    bare = torch.nonzero(model.documents.count0 == 0).flatten()
    assert len(bare) > 1
    loss = model.train().calculate_loss(batch_of(experiment, 100))
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    scores = model.eval().full_sort_predict(Interaction({"user_id": bare[1:2]}))
    assert torch.isfinite(scores).all()
    assert float(scores[3]) == pytest.approx(literal(model, int(bare[1]), 3, ()).item(), abs=1e-4)
