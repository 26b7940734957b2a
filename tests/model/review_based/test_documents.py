"""Documents of users and items, and the convolution over them, against a literal convolution of every pair."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from recbole_drex.data.dataset import Evidence
from recbole_drex.model.layers.common import Side
from recbole_drex.model.review_based.documents import Documents
from recbole_drex.model.review_based.text_cnn import TextCNN

ALL = 10**9


def store_of(reviews: list[list[int]]) -> SimpleNamespace:
    """A feature store's words: review r has the words ``reviews[r]``."""
    size = max((word for review in reviews for word in review), default=0) + 1
    return SimpleNamespace(
        offsets=np.cumsum([0, *map(len, reviews)]),
        word_ids=np.array([word for review in reviews for word in review], dtype=np.int32),
        vocabulary=[f"word{k}" for k in range(size)],
    )


def evidence_of(rows: list[tuple[int, int, int]], times: list[float] | None = None) -> Evidence:
    """Rows (user, item, review row)."""
    user, item, review = (torch.tensor([row[k] for row in rows], dtype=torch.int64) for k in range(3))
    time_of = torch.tensor(times or [0.0] * len(rows), dtype=torch.float64)
    return Evidence(user, item, torch.ones(len(rows)), time_of, review, {})


def documents_of(rows, reviews, times=None, max_reviews=ALL, review_words=ALL, users=5, items=6) -> Documents:
    return Documents(evidence_of(rows, times), store_of(reviews), users, items, max_reviews, review_words)


def random_documents(seed: int = 0, users: int = 20, items: int = 15, density: float = 0.4, longest: int = 12):
    rng = np.random.default_rng(seed)
    pairs = [(u, i) for u in range(1, users) for i in range(1, items) if rng.random() < density]
    reviews = [rng.integers(0, 50, rng.integers(1, longest + 1)).tolist() for _ in pairs]
    rows = [(u, i, k) for k, (u, i) in enumerate(pairs)]
    return documents_of(rows, reviews, users=users, items=items)


# Documents ----------------------------------------------------------------------------------------------------------


def test_reviews_of_users_and_items():
    """Rows without words belong to no document."""
    rows = [(2, 3, 0), (1, 3, 1), (1, 1, -1), (2, 1, 2), (3, 2, 3)]
    documents = documents_of(rows, [[5, 7], [7], [], [2, 2, 5]])
    assert list(zip(documents.user.tolist(), documents.item.tolist(), documents.row.tolist(), strict=True)) == [
        (1, 3, 1),
        (2, 3, 0),
        (3, 2, 3),
    ]
    assert documents.vocabulary == ["word2", "word5", "word7"]
    assert documents.words.tolist() == [2, 1, 2, 0, 0, 1]
    assert documents.offsets.tolist() == [0, 1, 3, 6]
    review, owner = documents.of(Side.ITEM, torch.tensor([3, 1, 2, 3]))
    assert owner.tolist() == [0, 0, 2, 3, 3]
    assert sorted(review[:2].tolist()) == [0, 1] and review[2] == 2
    assert documents.find(torch.tensor([[1], [2]]), torch.tensor([[1, 3]])).tolist() == [[-1, 0], [-1, 1]]
    assert documents.read_for(torch.tensor([1, 1]), torch.tensor([2])).tolist() == [0, 2]


def test_the_latest_reviews_are_read():
    rows = [(1, item, item - 1) for item in (1, 2, 3, 4)] + [(2, 1, 4)]
    documents = documents_of(rows, [[1], [2], [3], [4], [5]], [5.0, 9.0, 7.0, 7.0, 1.0], max_reviews=3)
    review, _ = documents.of(Side.USER, torch.tensor([1]))
    assert documents.item[review].tolist() == [2, 4, 3]  # of equally old ones the last in the data first
    review, _ = documents.of(Side.ITEM, torch.tensor([1]))
    assert documents.user[review].tolist() == [1, 2]  # the limit of one side does not apply to the other


def test_of_a_repeated_pair_the_latest_review_stays():
    documents = documents_of([(1, 1, 0), (1, 1, 1), (1, 1, 2)], [[1], [2], [3]], [3.0, 8.0, 2.0])
    assert documents.row.tolist() == [1]


def test_long_reviews_are_cut():
    documents = documents_of([(1, 1, 0), (1, 2, 1)], [list(range(10_000)), [9_999]], review_words=4)
    assert documents.vocabulary == ["word0", "word1", "word2", "word3", "word9999"]
    assert documents.offsets.tolist() == [0, 4, 5]


def test_no_review_at_all():
    documents = documents_of([(1, 1, -1), (2, 1, 0)], [[]])
    assert len(documents) == 0 and documents.vocabulary == []
    assert documents.find(torch.tensor([1]), torch.tensor([1])).tolist() == [-1]
    assert [part.tolist() for part in documents.of(Side.USER, torch.tensor([1, 2]))] == [[], []]
    cnn = TextCNN(documents, torch.zeros(0, 3), 4, 3)
    reading = cnn.read(documents.read_for(torch.tensor([1]), torch.tensor([1])))
    assert cnn.answer(reading, reading.position).shape == (0, 4)


# Convolution --------------------------------------------------------------------------------------------------------


def literal(cnn: TextCNN, documents: Documents, review: int) -> torch.Tensor:
    """Filters' answers to one review by PyTorch's convolution of its word vectors: (filters,)."""
    words = documents.words[documents.offsets[review] : documents.offsets[review + 1]]
    left = (cnn.window - 1) // 2
    vectors = functional.pad(cnn.vectors[words].T, (left, cnn.window - 1 - left))
    return torch.relu(functional.conv1d(vectors[None], cnn.weight.permute(2, 1, 0), cnn.bias)).amax(-1)[0]


@pytest.mark.parametrize("window", (1, 2, 3, 4, 5))
def test_equals_a_convolution_of_each_review(window):
    torch.manual_seed(window)
    documents = random_documents(window)
    cnn = TextCNN(documents, torch.randn(len(documents.vocabulary), 6), 7, window)
    torch.nn.init.normal_(cnn.bias)
    chosen = torch.randperm(len(documents))[:60]
    reading = cnn.read(chosen)
    assert reading.slot[chosen].tolist() == list(range(60))
    answers = cnn.answer(reading, reading.position)
    expected = torch.stack([literal(cnn, documents, review) for review in chosen.tolist()])
    torch.testing.assert_close(answers, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.relu(reading.value + cnn.bias), expected, atol=1e-5, rtol=0)
    weight = torch.randn_like(answers)
    ours = torch.autograd.grad((answers * weight).sum(), list(cnn.parameters()))
    theirs = torch.autograd.grad((expected * weight).sum(), list(cnn.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    documents = random_documents(users=6, items=6)
    cnn = TextCNN(documents, torch.randn(len(documents.vocabulary), 4), 3, 3).double()

    torch.nn.init.normal_(cnn.bias)

    def loss() -> torch.Tensor:
        reading = cnn.read(torch.arange(len(documents)))
        return cnn.answer(reading, reading.position).square().sum()

    loss().backward()
    for parameter in cnn.parameters():
        numeric = torch.empty_like(parameter)
        for k in range(parameter.numel()):
            values = []
            for step in (1e-6, -1e-6):
                parameter.data.view(-1)[k] += step
                values.append(loss().item())
                parameter.data.view(-1)[k] -= step
            numeric.view(-1)[k] = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close(parameter.grad, numeric, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("length", (1, 2, 10_000))
def test_reviews_of_any_length(length):
    torch.manual_seed(0)
    words = np.random.default_rng(0).integers(0, 100, length).tolist()
    documents = documents_of([(1, 1, 0), (2, 1, 1)], [words, [3, 4]])
    cnn = TextCNN(documents, torch.randn(len(documents.vocabulary), 6), 5, 3)
    reading = cnn.read(torch.tensor([0, 1]))
    expected = torch.stack([literal(cnn, documents, review) for review in (0, 1)])
    torch.testing.assert_close(cnn.answer(reading, reading.position), expected, atol=1e-5, rtol=0)


def test_windows_do_not_cross_reviews():
    """Padding with other neighbours does not change the outputs."""
    torch.manual_seed(0)
    vectors, answers = torch.randn(4, 6), []
    for neighbour in ([1, 1], [2, 2]):
        documents = documents_of([(1, 1, 0), (1, 2, 1), (1, 3, 2), (1, 4, 3)], [[0], neighbour, [3], [1, 2]])
        torch.manual_seed(1)
        cnn = TextCNN(documents, vectors, 5, 3)
        reading = cnn.read(torch.tensor([0, 2]))
        answers.append(cnn.answer(reading, reading.position))
    assert torch.equal(*answers)


# Speed --------------------------------------------------------------------------------------------------------------


def pair_by_pair_step(cnn: TextCNN, documents: Documents, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """Sum of all document features of a batch by a convolution of both documents of every pair, with gradients."""
    total = torch.zeros(())
    own = documents.find(user, item)
    for side, entity in zip(Side, (user, item), strict=True):
        for who, excluded in zip(entity, own, strict=True):
            review, _ = documents.of(side, who[None])
            text: list[int] = []
            for one in review[review != excluded].tolist():
                words = documents.words[documents.offsets[one] : documents.offsets[one + 1]].tolist()
                text += [*words, *[len(cnn.vectors) - 1] * (cnn.window - 1)]
            vectors = cnn.vectors[torch.tensor(text)].T[None]
            answers = functional.conv1d(vectors, cnn.weight.permute(2, 1, 0), cnn.bias, padding=1)
            total = total + torch.relu(answers).amax(-1).sum()
    (total / len(user)).backward()
    return total


def test_one_convolution_per_review_is_five_times_faster():
    torch.manual_seed(0)
    documents = random_documents(users=120, items=150, density=0.35, longest=20)
    cnn = TextCNN(documents, torch.randn(len(documents.vocabulary), 64), 100, 3)
    chosen = torch.randperm(len(documents))[:256]
    user, item = documents.user[chosen], documents.item[chosen]
    seconds = []
    for step in range(3):
        started = time.process_time()
        if step < 2:  # the first warms up
            reading = cnn.read(documents.read_for(user, item))
            cnn.answer(reading, reading.position).sum().backward()
        else:
            pair_by_pair_step(cnn, documents, user, item)
        seconds.append(time.process_time() - started)
    assert seconds[2] > 5 * seconds[1], seconds
