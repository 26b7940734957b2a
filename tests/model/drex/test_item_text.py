"""Features of reviews and the directions in which items differ, against literal computations and planted truth."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse

from recbole_drex.data.text import feature_store as store_module
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.model.drex import item_text, review_features
from recbole_drex.model.drex.item_text import item_coordinates
from recbole_drex.model.drex.review_features import ReviewFeatures

WIDTH = 6


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        yield


def up_to_sign(columns: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """``columns`` with the signs of ``wanted``."""
    return columns * np.sign((columns * wanted).sum(0))


# Features ----------------------------------------------------------------------------------------------------------


def store_of(reviews: list[list[str]], seed: int = 0) -> FeatureStore:
    """A store of these reviews, lemma by lemma, with random vectors."""
    words = [word for review in reviews for word in review]
    vocabulary = sorted(set(words))
    offsets = np.cumsum([0, *map(len, reviews)])
    ids = np.array([vocabulary.index(word) for word in words], dtype=np.int32)
    vectors = np.random.default_rng(seed).normal(size=(len(words), WIDTH)).astype(np.float16)
    return FeatureStore(vectors, offsets, ids, vocabulary, {}, "")


def rows_of(store: FeatureStore, review: np.ndarray, sources: list[str], seed: int = 0) -> np.ndarray:
    """Features of all reviews."""
    return ReviewFeatures(store, review, sources, seed).rows(np.arange(len(review)))


def random_reviews(n: int, seed: int = 0) -> list[list[str]]:
    """Some are empty; one word is in most of them, and frequent words are often there twice."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(30, 0.5))
    reviews = [[f"w{k:02d}" for k in rng.choice(30, rng.integers(0, 9), p=share)] for _ in range(n)]
    return [[*review, "the"] if review else [] for review in reviews]


def test_encoder_features_are_means_of_the_stored_vectors():
    store = store_of(random_reviews(20))
    review = np.array([7, -1, 3, 3, 19, 0, 12, -1, 5, 14, int(np.argmin(np.diff(store.offsets)))])
    expected = np.zeros((len(review), WIDTH))
    for index, row in enumerate(review):
        words = range(store.offsets[row], store.offsets[row + 1]) if row >= 0 else ()
        for k in words:
            expected[index] += store.vectors[k].astype(float) / len(words)
    silent = (expected == 0).all(1)
    assert 2 < silent.sum() < len(review) - 3  # reviews without words, and rows without a review
    features = rows_of(store, review, ["encoder"])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected / np.sqrt((expected**2).mean()), atol=1e-5)
    assert (features[silent] == 0).all()


def literal_words(reviews: list[list[str]]) -> np.ndarray:
    """Leading left singular vectors, times their singular values, of the tf-idf of ``reviews``."""
    result = Counter(word for review in reviews for word in set(review))
    spoken = sum(bool(review) for review in reviews)
    kept = sorted(word for word, n in result.items() if 5 <= n <= 0.3 * spoken)
    assert (result["four"], result["five"]) == (4, 5) and len(kept) > 4
    assert any(n > 0.3 * spoken for n in result.values())
    table = np.zeros((len(reviews), len(kept)))
    for row, review in zip(table, reviews, strict=True):
        for index, word in enumerate(kept):
            if word in review:
                row[index] = 1 + np.log(review.count(word))
                row[index] *= 1 + np.log((1 + len(reviews)) / (1 + result[word]))
        row /= np.linalg.norm(row) or 1
    u, s, _ = np.linalg.svd(table, full_matrices=False)
    return (u * s)[:, : len(kept) - 1]


def test_word_features_are_singular_vectors_of_the_tf_idf():
    reviews = random_reviews(60)
    for k in range(5):
        reviews[10 * k + 5] += ["five"] + ["four"] * (k > 0)
    store = store_of(reviews)
    review = np.random.default_rng(1).permutation(60)
    review[np.flatnonzero(review % 10 == 1)[:2]] = -1
    expected = literal_words([reviews[row] if row >= 0 else [] for row in review])
    expected /= np.sqrt((expected**2).mean())
    features = rows_of(store, review, ["words"], seed=3)
    np.testing.assert_allclose(up_to_sign(features, expected), expected, atol=1e-4)
    silent = [index for index, row in enumerate(review) if row < 0 or not reviews[row]]
    assert (features[silent] == 0).all() and len(silent) > 4
    np.testing.assert_array_equal(features, rows_of(store, review, ["words"], seed=3))


def test_features_without_words_are_those_of_the_shorter_review():
    reviews = [[*review, "w00", "w00", "w01"] for review in random_reviews(60) if review]
    reviews[3] = ["w02"]
    store, n = store_of(reviews), len(reviews)
    features = ReviewFeatures(store, np.arange(n), ["encoder", "words"], seed=0)
    removed = {5: ["w00"], 9: ["w00", "w00", "w01"], 20: reviews[20][:2], 3: ["w02"]}
    case, position = [], []
    for number, (row, words) in enumerate(removed.items()):
        left = list(range(store.offsets[row], store.offsets[row + 1]))
        for word in words:
            index = next(one for one in left if store.vocabulary[store.word_ids[one]] == word)
            left.remove(index)
            case, position = [*case, number], [*position, index]
    result = features.without(np.array(list(removed)), np.array(case), np.array(position))
    along = np.random.default_rng(2).normal(size=result.shape[1])
    rows = np.array(list(removed))
    change = features.change_along(along, rows, np.array(case), np.array(position), store.vectors[position])
    whole_features = features.rows(np.arange(n))
    np.testing.assert_allclose(change, (result - whole_features[rows]) @ along, atol=1e-4)
    # The linear map from tf-idf to features, found from the whole reviews, and from words to their mean.
    counts = Counter(word for review in reviews for word in set(review))
    kept = sorted(word for word, times in counts.items() if 5 <= times <= 0.3 * n)

    def tf_idf(review):
        row = np.array([(1 + np.log(review.count(word))) if word in review else 0.0 for word in kept])
        row *= [1 + np.log((1 + n) / (1 + counts[word])) for word in kept]
        return row / (np.linalg.norm(row) or 1)

    whole = np.stack([tf_idf(review) for review in reviews])
    latent = whole_features[:, WIDTH:]
    directions = np.linalg.pinv(whole) @ latent
    means = np.stack([store.vectors[store.offsets[k] : store.offsets[k + 1]].astype(float).mean(0) for k in range(n)])
    scale = whole_features[5, 0] / means[5, 0]
    for number, (row, words) in enumerate(removed.items()):
        rest, missing = list(reviews[row]), {one for k, one in zip(case, position, strict=True) if k == number}
        for word in words:
            rest.remove(word)
        np.testing.assert_allclose(result[number, WIDTH:], tf_idf(rest) @ directions, atol=2e-2)
        stays = [one for one in range(store.offsets[row], store.offsets[row + 1]) if one not in missing]
        mean = store.vectors[stays].astype(float).mean(0) if stays else np.zeros(WIDTH)
        np.testing.assert_allclose(result[number, :WIDTH], mean * scale, atol=1e-3)
    assert (np.abs(latent[[5, 20]] - result[[0, 2], WIDTH:]).max(1) > 0.05).any()


def test_features_do_not_depend_on_blocks(monkeypatch):
    store = store_of(random_reviews(60))
    review = np.r_[np.random.default_rng(1).permutation(60), -1, -1]
    together = rows_of(store, review, ["encoder", "words"])
    monkeypatch.setattr(review_features, "_BLOCK", 7)
    monkeypatch.setattr(store_module, "_BLOCK_WORDS", 10)
    features = ReviewFeatures(store, review, ["encoder", "words"], seed=0)
    np.testing.assert_allclose(np.concatenate(list(features.blocks())), together, atol=1e-4)
    chosen = np.array([61, 3, 3, 40])
    np.testing.assert_allclose(features.rows(chosen), together[chosen], atol=1e-4)


def test_known_rows_do_not_depend_on_earlier_requests(monkeypatch):
    monkeypatch.setattr(review_features, "_BLOCK", 8)
    table = np.random.default_rng(0).normal(size=(20, 3))
    asked = []

    def rows(index):
        asked.extend(index.tolist())
        return table[index]

    known = review_features._KnownRows(rows)
    for index in ([5, 3, 5], [3], [], [9, 1, 5], [2, 4, 6, 8], list(range(20)), [7, 0]):
        np.testing.assert_array_equal(known(np.array(index, dtype=np.int64)), table[index])
    assert asked == [3, 5, 1, 9, 2, 4, 6, 8, *range(20)]


def singular(rank: int, n: int = 300, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (n, width) of some rank, and its right singular vectors."""
    rng = np.random.default_rng(0)
    left, right = np.linalg.qr(rng.normal(size=(n, rank)))[0], np.linalg.qr(rng.normal(size=(width, rank)))[0]
    return (left * 0.7 ** np.arange(rank)) @ right.T, right


@pytest.mark.parametrize("rank", (40, 12), ids=["full rank", "rank below the components"])
def test_nearly_leading_singular_vectors_against_a_full_decomposition(rank):
    matrix, right = singular(rank)
    start = np.random.default_rng(1).normal(size=(60, 25))
    result = review_features._nearly_leading(lambda vectors: matrix.T @ (matrix @ vectors), start, 15)
    k = min(rank, 15)
    assert result.shape == (60, k) and result.dtype == np.float32
    np.testing.assert_allclose(up_to_sign(result, right[:, :k]), right[:, :k], atol=1e-3)


@pytest.mark.parametrize("rank", (40, 12), ids=["full rank", "rank below the components"])
@pytest.mark.parametrize("shape", ((300, 60), (60, 300)))
@pytest.mark.parametrize(
    "small, both", ((1024, 0), (10, 1024), (10, 0)), ids=["full decomposition", "bidiagonalisation", "iteration"]
)
def test_leading_singular_vectors_against_a_full_decomposition(rank, shape, small, both, monkeypatch):
    monkeypatch.setattr(review_features, "_SMALL", small)
    monkeypatch.setattr(review_features, "_BOTH_SIDES", both)
    matrix, right = singular(rank, *shape)
    result = review_features._leading(scipy.sparse.csr_matrix(matrix), 15)
    k = min(rank, 15)
    assert result.shape == (shape[1], k) and result.dtype == np.float32
    np.testing.assert_allclose(up_to_sign(result, right[:, :k]), right[:, :k], atol=1e-4)
    order = np.random.default_rng(2).permutation(shape[1])
    again = review_features._leading(scipy.sparse.csr_matrix(matrix[:, order]), 15)
    np.testing.assert_allclose(again, result[order], atol=1e-5)


@pytest.mark.parametrize("exact", (True, False))
def test_how_words_are_numbered_does_not_matter(exact, monkeypatch):
    monkeypatch.setattr(review_features, "_COMPONENTS", 3)
    monkeypatch.setattr(review_features, "_EXACT", 1 << 23 if exact else 0)
    store = store_of(random_reviews(60))
    before = rows_of(store, np.arange(60), ["words"])
    number = np.random.default_rng(4).permutation(len(store.vocabulary) + 3)
    vocabulary = [""] * len(number)
    for new, word in zip(number, [*store.vocabulary, "aa", "unseen", "zz"], strict=True):
        vocabulary[new] = word
    store = FeatureStore(store.vectors, store.offsets, number[store.word_ids].astype(np.int32), vocabulary, {}, "")
    np.testing.assert_allclose(rows_of(store, np.arange(60), ["words"]), before, atol=1e-5)
    # More iterations would bring it closer to the exact result.
    monkeypatch.setattr(review_features, "_EXACT", 0 if exact else 1 << 23)
    np.testing.assert_allclose(rows_of(store, np.arange(60), ["words"]), before, atol=0.1)


def test_no_more_word_components_than_allowed(monkeypatch):
    store, review = store_of(random_reviews(60)), np.arange(60)
    full = rows_of(store, review, ["words"])
    monkeypatch.setattr(review_features, "_COMPONENTS", 3)
    few = rows_of(store, review, ["words"])
    assert few.shape == (60, 3) and full.shape[1] > 5
    few *= np.linalg.norm(full[:, 0]) / np.linalg.norm(few[:, 0])
    np.testing.assert_allclose(up_to_sign(few[:, :1], full[:, :1]), full[:, :1], atol=1e-2)


def test_sources_stand_side_by_side_in_one_size():
    store, review = store_of(random_reviews(60)), np.array([*range(60), -1, -1])
    encoder, words = (rows_of(store, review, [source]) for source in ("encoder", "words"))
    np.testing.assert_allclose([np.square(part).mean() for part in (encoder, words)], 1, rtol=1e-5)
    both = rows_of(store, review, ["words", "encoder"])
    np.testing.assert_array_equal(both, np.concatenate([words, encoder], 1))


@pytest.mark.parametrize(
    "reviews",
    [
        [["a", "b"]],
        [],
        [[], []],
        [[f"only{k}"] for k in range(20)],
        [["everywhere"]] * 20,
        [["one"]] * 5 + [[f"only{k}"] for k in range(20)],
    ],
    ids=["one review", "no reviews", "no words", "all rare", "all frequent", "one word left"],
)
def test_a_store_without_usable_words_gives_zeros(reviews):
    store, review = store_of(reviews), np.array([*range(len(reviews)), -1])
    assert np.array_equal(rows_of(store, review, ["words"]), np.zeros((len(review), 1)))
    both = rows_of(store, review, ["encoder", "words"])
    assert both.shape == (len(review), WIDTH + 1)
    assert np.array_equal(np.abs(both).sum(1) > 0, [*map(bool, reviews), False])


# Coordinates --------------------------------------------------------------------------------------------------------


def in_blocks(features: np.ndarray, item: np.ndarray):
    """Arguments of ``item_coordinates``: features come seven rows at a time."""
    return lambda: np.split(features, range(7, len(features), 7)), item


def literal_coordinates(features: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All coordinates with a positive strength, with sums over reviews one by one and an unsymmetric solver."""
    known = [s for s in range(len(features)) if features[s].any()]
    mean = sum(features[s] for s in known) / len(known)
    x = {s: features[s] - mean for s in known}
    items = sorted({item[s] for s in known})
    width = features.shape[1]
    within, among, squares = np.zeros((width, width)), np.zeros((width, width)), 0
    for i in items:
        own = [x[s] for s in known if item[s] == i]
        centre = sum(own) / len(own)
        for one in own:
            within += np.outer(one - centre, one - centre)
        among += len(own) * np.outer(centre, centre)
        squares += len(own) ** 2
    within /= len(known) - len(items)
    each = (len(known) - squares / len(known)) / (len(items) - 1)
    between = (among / (len(items) - 1) - within) / each
    within += np.trace(within) / width * np.eye(width)
    values, vectors = scipy.linalg.eig(np.linalg.solve(within, between))
    order = [k for k in np.argsort(-values.real) if values[k].real > 0]
    strength, vectors = values[order].real, vectors[:, order].real
    vectors /= np.sqrt((vectors * (within @ vectors)).sum(0))
    coordinates = np.zeros((len(features), len(order)))
    for s in known:
        coordinates[s] = x[s] @ vectors
    return coordinates, strength


@pytest.fixture
def sample():
    """160 reviews with 7 features of 15 items, ids with gaps, every ninth review without words."""
    rng = np.random.default_rng(4)
    item = 2 * rng.integers(1, 16, 160)
    features = rng.normal(size=(160, 7)) + rng.normal(size=(31, 7))[item] * np.arange(7) / 4
    features = features.astype(np.float32)
    features[::9] = 0
    return features, item


@pytest.mark.parametrize("size", (100, 7, 3, 1))
def test_coordinates_against_a_literal_computation(size, sample):
    coordinates, strength, *_ = item_coordinates(*in_blocks(*sample), size)
    expected, values = literal_coordinates(*sample)
    assert 3 < len(values) <= 7
    k = min(size, len(values))
    assert coordinates.shape == (160, k)
    assert (coordinates.dtype, strength.dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(strength, values[:k], rtol=1e-5)
    np.testing.assert_allclose(up_to_sign(coordinates, expected[:, :k]), expected[:, :k], atol=1e-4, rtol=1e-3)
    assert (coordinates[::9] == 0).all()
    assert (np.diff(strength) <= 0).all() and (strength > 0).all()


def test_variance_within_items_is_one_but_for_the_ridge(sample, monkeypatch):
    features, item = sample
    monkeypatch.setattr(item_text, "_RIDGE", 1e-3)
    coordinates, *_ = item_coordinates(*in_blocks(features, item), 7)
    known = features.any(1)
    rest = coordinates[known].astype(float)
    for i in np.unique(item[known]):
        rest[item[known] == i] -= rest[item[known] == i].mean(0)
    variance = rest.T @ rest / (known.sum() - len(np.unique(item[known])))
    np.testing.assert_allclose(variance, np.eye(len(variance)), atol=0.01)


def test_planted_directions_are_recovered():
    """Items differ in 2 of 10 directions, which vary no more than the others."""
    rng = np.random.default_rng(0)
    item = rng.integers(0, 80, 3000)
    plant = rng.normal(size=(80, 2))
    directions = np.linalg.qr(rng.normal(size=(10, 2)))[0].T
    features = (plant[item] @ directions + 2 * rng.normal(size=(3000, 10))).astype(np.float32)
    coordinates, strength, *_ = item_coordinates(*in_blocks(features, item), 10)
    assert (strength[2:] < strength[1] / 4).all()
    means = np.stack([coordinates[item == i, :2].astype(float).mean(0) for i in range(80)])
    result = means @ np.linalg.lstsq(means, plant - plant.mean(0), rcond=None)[0]
    for k in (0, 1):
        assert np.corrcoef(result[:, k], plant[:, k])[0, 1] > 0.9


SIX = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
NO_WORDS = np.zeros((6, 4), dtype=np.float32)
THREE = np.array([5, 5, 5, 8, 8, 9])
EIGHT = np.random.default_rng(1).integers(0, 8, 40)


@pytest.mark.parametrize(
    ("features", "item"),
    [
        (SIX[:0], THREE[:0]),
        (NO_WORDS, THREE),
        (np.where(np.arange(6)[:, None] == 2, SIX, NO_WORDS), THREE),
        (SIX, np.full(6, 4)),
        (SIX, np.arange(6)),
        (np.full((6, 4), 0.1, dtype=np.float32), THREE),
        (np.random.default_rng(2).normal(size=(8, 5)).astype(np.float32)[EIGHT], EIGHT),
    ],
    ids=["no rows", "no words", "one with words", "one item", "one each", "constant", "nothing new about an item"],
)
def test_where_items_cannot_be_compared_there_are_no_coordinates(features, item):
    coordinates, strength, *_ = item_coordinates(*in_blocks(features, item), 4)
    assert coordinates.shape == (len(features), 0)
    assert strength.shape == (0,)


def test_a_feature_that_never_varies_does_no_harm(sample, monkeypatch):
    features, item = sample
    monkeypatch.setattr(item_text, "_RIDGE", 1e-3)
    known = features.any(1, keepdims=True)
    wider = np.concatenate([features, 0.7 * known, 0.0 * known], 1).astype(np.float32)
    coordinates, strength, *_ = item_coordinates(*in_blocks(features, item), 7)
    same, values, *_ = item_coordinates(*in_blocks(wider, item), 20)
    assert same.shape == coordinates.shape
    # The small ridge is a share of the mean variance, which two columns without any lower.
    np.testing.assert_allclose(values, strength, rtol=1e-2)
    np.testing.assert_allclose(up_to_sign(same, coordinates), coordinates, atol=0.05)


def test_a_ridge_bounds_directions_without_variance_within_items(sample):
    """Where all reviews of an item agree in one feature, its strength stays of the size of the others."""
    features, item = sample
    features[:, 0] = np.where(features.any(1), item % 7 + 1, 0)
    coordinates, strength, *_ = item_coordinates(*in_blocks(features, item), 7)
    assert np.isfinite(coordinates).all()
    assert 3 < strength[0] < 100
