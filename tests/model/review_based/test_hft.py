"""HFT against its equations: likelihood and gradients computed word by word in NumPy, and BiasedMF without text."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from altered import copy_of
from scored import every_pair, fixed_epochs

from recbole.data.interaction import Interaction

NUMBERS = {"embedding_size": 4}
FACTORS = ("user_factors.weight", "item_factors.weight", "user_bias.weight", "item_bias.weight")


def randomised(experiment):
    torch.manual_seed(0)
    for parameter in experiment.model.parameters():
        torch.nn.init.normal_(parameter, mean=0.5 if parameter.dim() == 0 else 0.0)
    return experiment


@pytest.fixture(scope="module", params=("item", "user"))
def experiment(make_experiment, request):
    """Untrained, with every parameter random so that none is zero."""
    return randomised(make_experiment("HFT", topics_of=request.param, **NUMBERS))


def words_of_evidence(experiment) -> list[tuple[int, int, bool, list[str]]]:
    """User, item, whether rated, and the words of every review that is evidence, read from the feature store."""
    evidence, store = experiment.parts.train_dataset.evidence(), experiment.parts.train_dataset.features()
    columns = (evidence.user, evidence.item, ~evidence.rating.isnan(), evidence.review_row)
    reviews = []
    for user, item, rated, row in zip(*(column.tolist() for column in columns), strict=True):
        if row >= 0:
            numbers = store.word_ids[store.offsets[row] : store.offsets[row + 1]]
            reviews.append((user, item, rated, [store.vocabulary[k] for k in numbers]))
    return reviews


def literal(model, documents: dict[int, Counter]) -> tuple[float, dict[str, np.ndarray]]:
    """Log-likelihood of the documents of users or items, and its gradients by responsibilities, in double precision."""
    name = ("user_factors", "item_factors")[model.bags.side]
    factors = getattr(model, name).weight.detach().double().numpy()
    kappa, psi = model.kappa.item(), model.psi.detach().double().numpy()
    number = {word: k for k, word in enumerate(model.bags.vocabulary)}
    frequency = Counter()
    for document in documents.values():
        frequency.update(document)
    background = np.log([frequency[word] for word in number])
    weights = np.exp(background + psi)
    phi = weights / weights.sum(1, keepdims=True)
    total, of_factors, of_kappa, expected = 0.0, np.zeros_like(factors), 0.0, np.zeros_like(psi)
    for entity, document in documents.items():
        theta = np.exp(kappa * factors[entity])
        theta /= theta.sum()
        topics = np.zeros(len(theta))
        for word, count in document.items():
            joint = theta * phi[:, number[word]]
            total += count * np.log(joint.sum())
            topics += count * joint / joint.sum()
            expected[:, number[word]] += count * joint / joint.sum()
        pull = topics - sum(document.values()) * theta
        of_factors[entity] = kappa * pull
        of_kappa += float(factors[entity] @ pull)
    return total, {
        f"{name}.weight": of_factors,
        "kappa": np.array(of_kappa),
        "psi": expected - expected.sum(1, keepdims=True) * phi,
    }


def documents_of(experiment) -> dict[int, Counter]:
    """Counts of words per user or item."""
    documents: dict[int, Counter] = defaultdict(Counter)
    for user, item, _, words in words_of_evidence(experiment):
        documents[(user, item)[experiment.model.bags.side]].update(words)
    return documents


def all_ratings(experiment) -> tuple[torch.Tensor, torch.Tensor]:
    feat = experiment.parts.train_dataset.inter_feat
    return feat["user_id"], feat["item_id"]


def test_topic_shares_of_the_golden_example(experiment):
    """kappa 1, factors (.5, -.5, 0): computed by hand from the paper's equation."""
    model = experiment.model
    before = model.kappa.detach().clone()
    table = (model.user_factors, model.item_factors)[model.bags.side]
    row = table.weight[1].detach().clone()
    with torch.no_grad():
        model.kappa.fill_(1.0)
        table.weight[1] = torch.tensor([0.5, -0.5, 0.0, -torch.inf])
    assert model.topic_shares(torch.tensor([1]))[0].tolist() == pytest.approx(
        [0.506480, 0.186324, 0.307196, 0], abs=1e-6
    )
    with torch.no_grad():
        model.kappa.copy_(before)
        table.weight[1] = row


def test_likelihood_and_gradients_equal_the_literal_model(experiment):
    model = experiment.model
    total, gradients = literal(model, documents_of(experiment))
    ours = model.log_likelihood(*all_ratings(experiment)).sum()
    assert ours.item() == pytest.approx(total, rel=1e-5)
    names = dict(model.named_parameters())
    computed = torch.autograd.grad(ours, [names[name] for name in gradients])
    for one, (name, other) in zip(computed, gradients.items(), strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one.double().numpy() / scale, other / scale, atol=1e-4, err_msg=name)
        assert np.abs(other).sum() > 0


def test_the_loss_is_that_of_biased_mf_and_the_mean_likelihood(make_experiment, experiment):
    model = experiment.model
    batch = experiment.parts.train_dataset.inter_feat[torch.arange(0, 300, 3)]
    plain = make_experiment("BiasedMF", **NUMBERS).model
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name in plain.state_dict()})
    likelihood = model.log_likelihood(batch["user_id"], batch["item_id"])
    expected = plain.calculate_loss(batch) - model.lambda_text * likelihood.mean()
    torch.testing.assert_close(model.calculate_loss(batch), expected)


@pytest.mark.parametrize("output", ("point", "ordinal"))
def test_without_text_it_is_biased_mf(make_experiment, tmp_path, output):
    """Equal in every bit after three epochs."""
    options = {"embedding_size": 6, "output": output}
    one = fixed_epochs(make_experiment("HFT", lambda_text=0.0, **options), tmp_path / "hft", epochs=3)
    other = fixed_epochs(make_experiment("BiasedMF", **options), tmp_path / "mf", epochs=3)
    np.testing.assert_array_equal(every_pair(one), every_pair(other))


def test_each_review_is_carried_once_by_a_rating_of_its_user_or_item(experiment):
    model, words = experiment.model, words_of_evidence(experiment)
    side, bags = model.bags.side, model.bags
    assert sum(not rated for _, _, rated, _ in words) > 20
    user, item = all_ratings(experiment)
    owner, word, count = bags.of(user, item)
    carried: dict[tuple[int, int], Counter] = defaultdict(Counter)
    for index, number, times in zip(owner.tolist(), word.tolist(), count.tolist(), strict=True):
        carried[int(user[index]), int(item[index])][bags.vocabulary[number]] += int(times)
    own, unrated, found = defaultdict(Counter), defaultdict(Counter), defaultdict(Counter)
    for one, other, rated, text in words:
        (own[one, other] if rated else unrated[(one, other)[side]]).update(text)
    for pair, counts in carried.items():
        assert own[pair] <= counts
        found[pair[side]].update(counts - own[pair])
    assert {entity: counts for entity, counts in unrated.items() if counts} == {k: v for k, v in found.items() if v}


def test_the_vocabulary_is_that_of_training_reviews(make_experiment):
    experiment = make_experiment("HFT", vocabulary_size=50)
    counts = Counter(word for *_, words in words_of_evidence(experiment) for word in words)
    expected = sorted(counts, key=lambda word: (-counts[word], word))[:50]
    bags = experiment.model.bags
    assert bags.vocabulary == expected and bags.frequency.tolist() == [counts[word] for word in expected]
    total = sum(float(part.sum()) for part in bags.of(*all_ratings(experiment))[2:])
    assert total == sum(counts[word] for word in expected)


def test_long_reviews_are_cut(make_experiment):
    experiment = make_experiment("HFT", review_words=2)
    counts = Counter(word for *_, words in words_of_evidence(experiment) for word in words[:2])
    bags = experiment.model.bags
    assert dict(zip(bags.vocabulary, bags.frequency.tolist(), strict=True)) == counts


def test_topics_explain_words_better_than_frequencies(make_experiment, tmp_path):
    """Trained topics have a higher likelihood than one distribution for all items, and name what differs."""
    experiment = make_experiment("HFT", lambda_text=1.0, train_batch_size=64, learning_rate=0.02, **NUMBERS)
    model = fixed_epochs(experiment, tmp_path, epochs=15).model
    share = model.bags.frequency / model.bags.frequency.sum()
    unigram = float((model.bags.frequency * share.log()).sum())
    with torch.no_grad():
        trained = float(model.log_likelihood(*all_ratings(experiment)).sum())
    assert trained > unigram + 500
    phi = model.word_shares().detach().double().numpy()
    distinct = phi * np.log(phi / phi.mean(0))
    for words, row in zip(model.topics(5), distinct, strict=True):
        assert words == [model.bags.vocabulary[k] for k in np.argsort(-row)[:5]]
    assert len({word for topic in model.topics(5) for word in topic}) > 10


def test_every_parameter_learns(experiment):
    model = experiment.model.train()
    model.zero_grad()
    model.calculate_loss(next(iter(experiment.parts.train))).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_users_and_items_without_reviews(make_experiment, small, tmp_path):
    """Ratings without a review carry no words and add nothing to the likelihood."""

    def few(frame):
        return frame.assign(**{"review_row:float": frame["review_row:float"].where(frame.index % 40 == 0)})

    root = copy_of(small.root, tmp_path / "data", few)
    experiment = randomised(make_experiment("HFT", data_path=str(root), **NUMBERS))
    likelihood = experiment.model.log_likelihood(*all_ratings(experiment))
    assert torch.isfinite(likelihood).all() and (likelihood == 0).float().mean() > 0.8
    total, _ = literal(experiment.model, documents_of(experiment))
    assert likelihood.sum().item() == pytest.approx(total, rel=1e-5)


def test_far_factors_give_no_nan(make_experiment):
    experiment = randomised(make_experiment("HFT", **NUMBERS))
    model = experiment.model
    with torch.no_grad():
        model.kappa.fill_(1e4)
        model.psi.mul_(100)
    loss = model.calculate_loss(experiment.parts.train_dataset.inter_feat[torch.arange(50)])
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_ordinal_output(make_experiment):
    experiment = make_experiment("HFT", output="ordinal")
    model, batch = experiment.model, experiment.parts.train_dataset.inter_feat[torch.arange(50)]
    model.calculate_loss(batch).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    probability = model.eval().predict_distribution(batch)
    torch.testing.assert_close(probability.sum(1), torch.ones(50))
    torch.testing.assert_close(probability @ model.head.levels, model.predict(batch))


def test_predictions_are_the_sum_of_biases_and_factors(experiment):
    model = experiment.model.eval()
    pairs = Interaction({"user_id": torch.arange(1, 9), "item_id": torch.arange(9, 17)})
    parts = {name: value.double().numpy() for name, value in model.state_dict().items()}
    users, items, of_user, of_item = (parts[name] for name in FACTORS)
    numbers = zip(pairs["user_id"].tolist(), pairs["item_id"].tolist(), strict=True)
    expected = [parts["mean"] + of_user[u, 0] + of_item[i, 0] + users[u] @ items[i] for u, i in numbers]
    assert model.predict(pairs).tolist() == pytest.approx(expected, abs=1e-5)
