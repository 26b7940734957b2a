"""Aspects against loops over words, their gradient against autograd of these, and their use in DReX."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from altered import literal_reading, shake, twin
from scored import every_pair, fixed_epochs, pair_by_pair

from recbole.data.interaction import Interaction

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.dataset import Evidence
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.experiments.run import build
from recbole_drex.explain.counterfactual.dispatch import counterfactual_for
from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual
from recbole_drex.explain.counterfactual.new_user import view_of_new
from recbole_drex.model.drex import aspects as aspects_module
from recbole_drex.model.drex import states as states_module
from recbole_drex.model.drex.aspects import WINDOW, Aspects, Words
from recbole_drex.model.layers.common import Side
from recbole_drex.model.layers.evidence_table import EvidenceTable, RatingColumns
from recbole_drex.model.layers.word_attention import WordAttention
from recbole_drex.training.trainer import make_trainer

# By themselves --------------------------------------------------------------------------------------------------------

WORDS = [*(f"theme{number:02d}" for number in range(20)), "not", "superb", "terrible"]
Reviews = list[list[str]]


def make_store(reviews: Reviews, static: bool, seed: int = 0) -> FeatureStore:
    """A store of reviews given as lemmas, with random vectors."""
    vocabulary = sorted({word for review in reviews for word in review})
    number = {word: index for index, word in enumerate(vocabulary)}
    words = np.array([number[word] for review in reviews for word in review], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(review) for review in reviews])]).astype(np.int64)
    vectors = np.random.default_rng(seed).normal(size=(len(vocabulary) if static else len(words), 6))
    return FeatureStore(vectors.astype(np.float16), offsets, words, vocabulary, {}, "", static=static)


def make_aspects(reviews: Reviews, n_aspects: int = 4, static: bool = True, n_users: int = 6, rate: float = 10.0):
    """Aspects of reviews that users wrote in turn, and the table of them; every seventh has no rating."""
    store, n = make_store(reviews, static), len(reviews)
    rating = torch.tensor([float("nan") if k % 7 == 6 else 1.0 + k % 5 for k in range(n)])
    user, item = 1 + torch.arange(n) % n_users, 1 + torch.arange(n) // n_users
    evidence = Evidence(user, item, rating, torch.zeros(n), torch.arange(n), {})
    levels = rating[~rating.isnan()].unique()
    sizes = n_users + 1, int(item.max()) + 1
    table = EvidenceTable(evidence, ["review", "rating"], levels, WordAttention(store, 3), *sizes, damping=5.0)
    return Aspects(store, table, n_aspects, rate), table


def random_reviews(n: int = 60, longest: int = 12, seed: int = 0) -> Reviews:
    """Some empty, some of one word."""
    rng = np.random.default_rng(seed)
    reviews = [rng.choice(WORDS, rng.integers(0, longest + 1)).tolist() for _ in range(n)]
    assert {0, 1} < {len(review) for review in reviews}
    return reviews


def moved(aspects: Aspects) -> Aspects:
    """With parameters moved at random."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in aspects.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return aspects


def words_of(store: FeatureStore, review: int) -> tuple[list[int], list[int]]:
    """Lemmas of a review and the numbers of their sentences."""
    words = slice(store.offsets[review], store.offsets[review + 1])
    return store.word_ids[words].tolist(), np.cumsum(store.begins[words]).tolist()


def lemmas_of(store: FeatureStore, review: int) -> list[int]:
    return words_of(store, review)[0]


@pytest.fixture(params=[True, False], ids=["static", "contextual"])
def random_aspects(request) -> tuple[Aspects, EvidenceTable]:
    aspects, table = make_aspects(random_reviews(), static=request.param)
    return moved(aspects), table


def test_reading_equals_loops_over_words(random_aspects, monkeypatch):
    aspects, table = random_aspects
    rows = table.review[table.review >= 0]
    expected = np.array([np.concatenate(literal_reading(aspects, *words_of(aspects.store, r))) for r in rows.tolist()])
    assert (table.review < 0).any() and np.abs(expected).max() > 1
    np.testing.assert_allclose(aspects.read(rows).detach(), expected, atol=1e-5)
    for words in (1, 7, 100):
        monkeypatch.setattr(aspects_module, "_BLOCK_WORDS", words)
        np.testing.assert_allclose(aspects.read_all(rows), expected, atol=1e-5)
    some = torch.tensor([9, 3, 3, 20])
    some = rows[some]
    np.testing.assert_allclose(aspects.read(some).detach(), expected[[9, 3, 3, 20]], atol=1e-5)


def test_windows_end_with_reviews(random_aspects):
    """The first words of the next review are no neighbours of a review's last word."""
    aspects, _ = random_aspects
    index = torch.tensor([aspects.lemma[aspects.store.vocabulary.index(word)] for word in WORDS[:6]])
    lexicon = aspects.lexicon()

    def read(words: list[int], first: list[int]) -> torch.Tensor:
        sentence = torch.bucketize(torch.arange(len(words)), torch.tensor(first), right=True)
        return aspects.pool(Words(index[words], torch.tensor(first), sentence), lexicon)

    together = read([0, 1, 2, 3, 4, 5], [0, 2, 2, 3])  # the second is empty, the third of one word
    for number, words in enumerate(([0, 1], [], [2], [3, 4, 5])):
        torch.testing.assert_close(together[number], read(words, [0])[0] if words else torch.zeros(8))
    assert not torch.allclose(read([0, 1, 2], [0])[0], together[0] + together[2], atol=1e-3)


def test_occurrences_equal_loops_over_words(random_aspects):
    aspects, table = random_aspects
    rows = table.review[table.review >= 0]
    result, k = aspects.occurrences(rows), 0
    shares = aspects.lexicon()[0]
    for row in rows.tolist():
        lemmas, sentences = words_of(aspects.store, row)
        for index, lemma in enumerate(lemmas):
            alone, number = np.zeros(len(aspects)), int(aspects.lemma[lemma])
            mentions, opinions = literal_reading(aspects, lemmas, sentences)
            left = [part[:index] + part[index + 1 :] for part in (lemmas, sentences)]
            others = literal_reading(aspects, *left)[0]
            slot = int(aspects.slot[number])
            if slot < len(shares):
                alone = mentions - others
                assert result.aspect[k] == alone.argmax() == int(shares[slot].argmax())
                assert result.importance[k] == pytest.approx(alone.sum(), abs=1e-5)
                if len(lemmas) == 1:
                    np.testing.assert_allclose(opinions, alone * result.sentiment[k], atol=1e-5)
            else:
                assert result.aspect[k] == -1 and result.importance[k] == 0
            k += 1
    assert k == len(result.aspect) == len(result.sentiment) and np.abs(result.sentiment).max() <= 1


def test_very_few_words(random_aspects):
    """Fewer than a window holds."""
    aspects, _ = random_aspects
    sentiment = aspects.lexicon()[1]
    for n in (1, 2, 3):
        words = Words(aspects.lemma[:n], torch.tensor([0]), torch.zeros(n, dtype=torch.int64))
        expected = torch.tanh(sentiment[aspects.lemma[:n]].mean() + aspects._shift).expand(n)
        torch.testing.assert_close(aspects.word_sentiments(words, sentiment), expected)


def test_windows_have_the_gradient_of_autograd(random_aspects):
    """Equal in every bit, with windows written out by padding."""
    aspects, _ = random_aspects
    generator = torch.Generator().manual_seed(5)
    lemma = torch.randint(len(aspects.vectors), (200,), generator=generator)
    sentence = (torch.rand(200, generator=generator) < 0.3).cumsum(0)
    results = []
    for by_hand in (True, False):
        sentiment = torch.randn(len(aspects.vectors), generator=torch.Generator().manual_seed(6)).requires_grad_()
        if by_hand:
            value = sentiment[lemma]
            total, count = value, torch.ones(200)
            for distance in range(1, WINDOW + 1):
                same = (sentence[distance:] == sentence[:-distance]).float()
                before, after = (torch.nn.functional.pad(same, pad) for pad in ((distance, 0), (0, distance)))
                total = total + torch.nn.functional.pad(value[:-distance], (distance, 0)) * before
                total = total + torch.nn.functional.pad(value[distance:], (0, distance)) * after
                count = count + before + after
            result = torch.tanh(total / count + aspects._shift)
        else:
            result = aspects.word_sentiments(Words(lemma, torch.tensor([0]), sentence), sentiment)
        result.square().sum().backward()
        results.append((result.detach(), sentiment.grad))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert results[0][1].abs().max() > 0


def test_what_aspects_start_from():
    """Vectors, importances and sentiment of lemmas, from scratch."""
    reviews = random_reviews(seed=4)
    for static in (True, False):
        aspects, table = make_aspects(reviews, static=static)
        store = aspects.store
        where, users = defaultdict(list), defaultdict(set)
        for row, user in zip(table.review.tolist(), table.user.tolist(), strict=True):
            for index in range(store.offsets[row], store.offsets[row + 1]) if row >= 0 else ():
                where[store.word_ids[index]].append(index)
                users[store.word_ids[index]].add((user, row))
        vectors = np.stack([store.read(np.array(where[lemma])).double().numpy().mean(0) for lemma in aspects.known])
        vectors -= vectors.mean(0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(aspects.vectors[:-1], vectors, atol=1e-5)
        assert (aspects.vectors[-1] == 0).all()
        spoken = [int(((table.user == user) & (table.review >= 0)).sum()) for user in range(table.n_users)]
        lemmas = aspects.known[aspects.counted.numpy()]
        for lemma, lift in zip(lemmas, 10 * aspects._importance.detach(), strict=True):
            n = len(users[lemma])
            chance = sum(1 - (1 - n / sum(spoken)) ** size for size in spoken)
            assert float(lift) == pytest.approx(np.log(chance / len({user for user, _ in users[lemma]})), abs=1e-5)
        counted = {store.vocabulary[lemma] for lemma in lemmas}
        assert counted and not counted & {"not", "superb", "terrible"}
        frequent = {
            store.vocabulary[one]
            for one, result in users.items()
            if len(result) >= 5 and len({user for user, _ in result}) >= 3
        }
        assert counted == frequent - {"not", "superb", "terrible"}
        x, y = [], []
        for row in torch.nonzero(table.rated & (table.review >= 0)).flatten().tolist():
            y.append(float(RatingColumns.of(table.ratings[row]).adjusted[Side.ITEM]))
            lemmas = [int(aspects.lemma[lemma]) for lemma in lemmas_of(store, int(table.review[row]))]
            x.append(aspects.vectors[lemmas].double().numpy().mean(0))
        x, penalty = np.array(x), 1 + aspects_module._RIDGE * len(x)
        beta = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ np.array(y))
        spread = (aspects.vectors[:-1].double().numpy() @ beta).std(ddof=1)
        expected = beta * aspects_module._START / spread
        np.testing.assert_allclose(10 * aspects._sentiment.detach(), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("reviews", "n_aspects", "expected"),
    [
        (random_reviews(), 1000, None),  # no more than lemmas that count
        ([WORDS[:5]], 4, 0),  # one review
        ([WORDS[:5]] * 30, 4, 4),  # all alike
        ([[WORDS[0]]] * 30, 4, 1),  # one lemma
        ([[word] for word in WORDS], 4, 0),  # no lemma is frequent enough
        ([["superb", "not", "terrible"]] * 30, 4, 0),  # words that only judge
        ([["сюжет", "бой", "музыка"], ["бой", "цена"]] * 15, 3, 3),
        ([[], []], 4, 0),
    ],
    ids=["many aspects", "one review", "alike", "one lemma", "rare lemmas", "judging", "Cyrillic", "empty"],
)
@pytest.mark.parametrize("static", [True, False])
def test_few_words(reviews, n_aspects, expected, static):
    aspects, table = make_aspects(reviews, n_aspects, static)
    usable = len(aspects.counted)
    assert len(aspects) == (min(n_aspects, usable) if expected is None else expected) and len(aspects) <= usable
    table.add_aspects(aspects)
    assert table.aspect_values.shape == (len(table), 2 * len(aspects)) and torch.isfinite(table.aspect_values).all()
    every = torch.arange(len(table))
    rest = table.without(table.user_sums[table.user], every)
    tastes = aspects.tastes(table.named(rest).mentions)
    of_item = table.named(table.item_sums[table.item])
    qualities = aspects.qualities(of_item.mentions, of_item.opinions)
    parts = aspects.parts(tastes, qualities)
    assert parts.shape == (len(table), len(aspects)) and torch.isfinite(parts).all()
    assert (tastes >= 0).all() and (tastes.sum(1) < 1).all() and (qualities.abs() < 1).all()
    assert len(aspects.names) == len(aspects)
    rows = table.review[table.review >= 0]
    assert len(aspects.occurrences(rows).aspect) == sum(map(len, reviews))


def test_words_that_no_review_has_are_read_as_none(random_aspects):
    aspects, _ = random_aspects
    unknown = torch.full((5,), int(aspects.lemma[-1]))
    two = Words(unknown, torch.tensor([0, 2]), torch.tensor([0, 0, 1, 1, 1]))
    assert (aspects.pool(two, aspects.lexicon()) == 0).all()
    known = aspects.lemma[:1].repeat(3)
    mixed = torch.cat([known, unknown])
    sentence = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    read = aspects.pool(Words(mixed, torch.tensor([0]), sentence), aspects.lexicon())
    expected = np.concatenate(literal_reading(aspects, [0, 0, 0, -1, -1, -1, -1, -1], sentence.tolist()))
    np.testing.assert_allclose(read[0].detach(), expected, atol=1e-5)


# In DReX --------------------------------------------------------------------------------------------------------------

FORMS = [("DReX", {}), ("DReX-MLP", {}), ("DReX", {"output": "point", "start": "random"})]


def literal_parts(model, user: int, item: int) -> np.ndarray:
    """What each aspect adds to the score of a pair: tastes and qualities summed review by review, without the pair."""
    aspects, table = model.aspects, model.table
    weights, pseudo_counts = (10 * one.detach().double().numpy() for one in (aspects._weights, aspects._pseudo_counts))

    def total(group: torch.Tensor, one: int) -> tuple[np.ndarray, np.ndarray]:
        result = [np.zeros(len(aspects)), np.zeros(len(aspects))]
        for row in torch.nonzero((group == one) & (table.review >= 0)).flatten().tolist():
            if (int(table.user[row]), int(table.item[row])) != (user, item):
                read = literal_reading(aspects, *words_of(aspects.store, int(table.review[row])))
                result = [before + more for before, more in zip(result, read, strict=True)]
        return result[0], result[1]

    of_user, of_item = np.exp(pseudo_counts)
    mentions, _ = total(table.user, user)
    said_of, opinions = total(table.item, item)
    taste, quality = mentions / (mentions.sum() + of_user), opinions / (said_of + of_item)
    return 3.0 * np.exp(weights) * taste * quality


@pytest.fixture(scope="module", params=FORMS, ids=str)
def shaken(request, make_experiment):
    name, parameters = request.param
    return shake(make_experiment(name, embedding_size=8, taste_size=8, **parameters))


def test_parts_of_a_score_equal_loops_over_reviews(shaken):
    """Of pairs that are evidence, of others, and of users without any review."""
    model = shaken.model
    table = model.table
    known = torch.nonzero(table.review >= 0).flatten()[[3, 200, 555]]
    pairs = [(int(table.user[row]), int(table.item[row])) for row in known]
    every = torch.cartesian_prod(torch.arange(5, 9), torch.arange(1, model.n_items))
    pairs += every[table.find(*every.T) < 0][[0, 20]].tolist()
    for user, item in pairs:
        parts = counterfactual_for(model, user, item).parts()
        expected = literal_parts(model, user, item)
        np.testing.assert_allclose(parts.aspects[0].detach(), expected, atol=1e-4, rtol=1e-4)
        assert np.abs(expected).max() > 1e-3
        score = model.score(torch.tensor([user]), torch.tensor([item]))
        torch.testing.assert_close(parts.total.detach(), score, atol=1e-4, rtol=1e-4)


def test_parts_add_up_for_new_users(shaken):
    model = shaken.model
    width, store = model.attention.width, model.attention.store
    item, words = torch.tensor([4, 9, 11]), np.arange(20)
    reviews = [store.read(words), torch.zeros(0, width), torch.randn(3, width)]
    lemmas = [[store.vocabulary[word] for word in store.word_ids[words]], [], ["zxqv", "blorf", "zxqv"]]
    view = view_of_new(
        model, item, torch.tensor([5.0, 2.0, float("nan")]), reviews, lemmas, [[True] * len(one) for one in lemmas]
    )
    scores = view.scores()
    for one in (1, 4, 20):
        parts = DReXCounterfactual(view, one).parts()
        torch.testing.assert_close(view.rating_of(parts.total), scores[one : one + 1], atol=1e-4, rtol=1e-4)
        assert torch.isfinite(parts.total).all()
    assert float(DReXCounterfactual(view, 20).parts().aspects.detach().abs().max()) > 1e-4
    unheard = view_of_new(model, item[2:], torch.tensor([float("nan")]), reviews[2:], lemmas[2:], [[True] * 3])
    assert float(DReXCounterfactual(unheard, 20).parts().aspects.detach().abs().max()) == 0


@pytest.mark.parametrize(("name", "parameters"), FORMS)
def test_the_gradient_of_a_step_equals_that_of_reading_all_reviews(name, parameters, make_experiment):
    """Also after parameters have moved since the refresh; the target's own review is in neither of its sums."""
    experiment = make_experiment(name, embedding_size=8, dropout=0.0, message_samples=0, reg_weight=0.0, **parameters)
    model = shake(experiment).model
    feat = experiment.parts.train_dataset.inter_feat
    batch = feat[torch.arange(0, len(feat), 7)]
    model.train()
    model._refresh()
    with torch.no_grad():
        for parameter in model.aspects.parameters():
            parameter *= 1.1
    before = model.table.aspect_values.clone()
    result = {}
    model.calculate_loss(batch).backward()
    for key, parameter in model.aspects.named_parameters():
        result[key] = parameter.grad.clone()
    value = float(model.calculate_loss(batch).detach())
    model.zero_grad()

    table, aspects = model.table, model.aspects
    assert not torch.allclose(before, table.aspect_values, atol=1e-3)
    rows = torch.nonzero(table.review >= 0).flatten()
    (shares, sentiment), read = aspects.lexicon(), []
    shares = torch.cat([shares, torch.zeros(1, len(aspects))])[aspects.slot]
    for row in rows.tolist():
        lemmas, numbers = words_of(aspects.store, int(table.review[row]))
        words, sentence = aspects.lemma[lemmas], torch.tensor(numbers)
        apart = (torch.arange(len(words))[:, None] - torch.arange(len(words))).abs()
        near = [sentiment[words[(apart[k] <= WINDOW) & (sentence == sentence[k])]].mean() for k in range(len(words))]
        output = torch.tanh(torch.stack(near) + aspects._shift)
        read.append(torch.cat([shares[words].sum(0), (shares[words] * output[:, None]).sum(0)]))
    read = torch.stack(read)
    user, item = batch["user_id"], batch["item_id"]
    row = table.find(user, item)
    n = len(aspects)
    tastes, qualities = [], []
    for one, other, own in zip(user.tolist(), item.tolist(), row.tolist(), strict=True):
        mine = read[(table.user[rows] == one) & (rows != own)].sum(0)
        its = read[(table.item[rows] == other) & (rows != own)].sum(0)
        counts = (10 * aspects._pseudo_counts).exp()
        tastes.append(mine[:n] / (mine[:n].sum() + counts[0]))
        qualities.append(its[n:] / (its[:n] + counts[1]))
    with torch.no_grad():
        sides = model._leave_one_out(user, row, Side.USER), model._leave_one_out(item, row, Side.ITEM)
    sides = sides[0]._replace(aspects=torch.stack(tastes)), sides[1]._replace(aspects=torch.stack(qualities))
    loss = model.head.loss(model._score(*sides, user, item), model.who(sides[0], user), batch["rating"])
    assert float(loss.detach()) == pytest.approx(value, abs=1e-5)
    loss.backward()
    for key, parameter in aspects.named_parameters():
        scale = float(parameter.grad.abs().max())
        assert scale > 0
        torch.testing.assert_close(result[key], parameter.grad, atol=1e-4 * scale + 1e-7, rtol=1e-3)


def test_aspects_learn_from_reviews_at_some_steps_only(make_experiment):
    experiment = make_experiment("DReX", train_batch_size=64)
    model, feat = experiment.model, experiment.parts.train_dataset.inter_feat
    steps = -(-len(feat) // 64)
    assert model._every == steps // 4 > 2
    reading = ("_centres", "_importance", "_sentiment", "_shift")
    optimizer, learned = torch.optim.Adam(model.parameters(), lr=0.01), []
    model.train()
    for step in range(2 * model._every + 1):
        optimizer.zero_grad()
        model.calculate_loss(feat[torch.arange(64 * step, 64 * step + 64) % len(feat)]).backward()
        gradients = {name: getattr(model.aspects, name).grad for name in reading}
        acts = [one is not None and bool(one.any()) for one in gradients.values()]
        assert len(set(acts)) == 1
        learned.append(acts[0])
        for name in ("_weights", "_pseudo_counts"):
            assert getattr(model.aspects, name).grad.any()
        optimizer.step()
    assert learned == [step % model._every == 0 for step in range(len(learned))]


def test_reviews_are_learned_from_in_parts(make_experiment, monkeypatch):
    """Each of these steps updates the cached values of a part of the reviews, and their sums."""
    experiment = make_experiment("DReX")
    model, feat = experiment.model, experiment.parts.train_dataset.inter_feat
    monkeypatch.setattr(states_module, "_ASPECT_WORDS", 5000)
    monkeypatch.setattr(model, "_every", 1)
    model.train()
    model._refresh()
    with torch.no_grad():
        model.aspects._sentiment *= 1.5
    table = model.table
    before, changed = table.aspect_values.clone(), torch.zeros(len(table), dtype=torch.bool)
    np.random.seed(0)  # noqa: NPY002  (the model draws from the global state)
    for _ in range(40):
        model.calculate_loss(feat[torch.arange(50)]).backward()
        now = (table.aspect_values != before).any(1)
        assert (now | ~changed).all() or changed.all()
        changed |= now
        torch.testing.assert_close(table.user_sums, table._sums(table.user, table.n_users), atol=1e-3, rtol=1e-4)
    assert 0.9 < float(changed[table.review >= 0].float().mean()) <= 1
    read = model.aspects.read_all(table.review[changed])
    torch.testing.assert_close(table.aspect_values[changed], read, atol=1e-4, rtol=1e-4)


def test_a_resumed_run_equals_an_uninterrupted_one(make_experiment, tmp_path, monkeypatch):
    """Bit for bit, with reviews that are learned from in parts drawn at random."""
    monkeypatch.setattr(states_module, "_ASPECT_WORDS", 5000)
    options = {"epochs": 4, "train_batch_size": 100}

    def trainer(folder: str, **more: Any):
        experiment = make_experiment("DReX", **{**options, **more})
        return experiment, make_trainer(experiment.config, experiment.model, tmp_path / folder, experiment.parts)

    whole, straight = trainer("whole")
    straight.train_model()
    _, first = trainer("parts", epochs=2)
    first.train_model()
    resumed, second = trainer("parts")
    assert second.resume()
    second.train_model()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    np.testing.assert_array_equal(every_pair(whole), every_pair(resumed))


# Whole data sets ------------------------------------------------------------------------------------------------------

Rows = list[dict[str, Any]]
PARTS, OPINIONS = ("story", "combat", "music", "graphics", "puzzle", "price"), ("superb", "clumsy", "lovely", "boring")
RUSSIAN = ("сюжет", "музыка", "графика", "цена", "бой", "отличный", "скучный")


def rows_with(text: Callable[[int, int], str]) -> Rows:
    """12 users have rated 10 of 14 items each."""
    return [
        {
            "user_id": f"user_{user}",
            "parent_asin": f"item_{(user + index) % 14}",
            "rating": 1.0 + (user * 3 + index * 5) % 5,
            "timestamp": 1_600_000_000 + 1000 * user + index,
            "text": text(user, index),
        }
        for user in range(12)
        for index in range(10)
    ]


def ordinary(user: int, index: int) -> str:
    return f"The {PARTS[(user + index) % 6]} is {OPINIONS[(user * 7 + index) % 4]}, the {PARTS[index % 6]} too."


DATA: dict[str, tuple[Callable[[int, int], str], dict[str, Any]]] = {
    "ordinary": (ordinary, {}),
    "contextual": (ordinary, {"encoder": "minilm"}),
    "one-review": (lambda user, place: ordinary(user, place) if (user, place) == (3, 4) else "", {}),
    "all-alike": (lambda user, place: "The story is superb and the combat is clumsy.", {}),
    "unknown-words-of-a-user": (lambda u, p: ordinary(u, p) if u else " ".join(f"q{p}w{k}z" for k in range(9)), {}),
    "russian": (lambda user, place: f"{RUSSIAN[(user + place) % 5]} {RUSSIAN[5 + (user * 7 + place) % 2]}", {}),
    "judging-words": (lambda user, place: OPINIONS[(user + place) % 4], {}),
}


@pytest.mark.parametrize("case", DATA)
@pytest.mark.parametrize("name", ("DReX", "DReX-MLP"))
def test_any_reviews(name, case, tmp_path):
    """Trained, evaluated, with known pairs and new users: every number is finite, and parts add up."""
    text, more = DATA[case]
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows_with(text)), encoding="utf-8")
    given = {"user_min": 1, "item_min": 1, "threads": 1, "epochs": 2, "aspects": 50, "data_path": str(tmp_path), **more}
    config = Config(name, "words", config_dict=given)
    experiment = build(config, prepare("words", tmp_path, config.preparation(), Sources((raw,))))
    fixed_epochs(experiment, tmp_path / "run")
    model = experiment.model
    full = every_pair(experiment)
    assert np.isfinite(full).all()
    np.testing.assert_allclose(full, pair_by_pair(experiment), atol=1e-5)
    if model.aspects is not None:
        assert len(model.aspects) <= min(50, len(model.aspects.known))
    for item in (1, 5, 9):
        parts = counterfactual_for(model, 1, item).parts()
        score = model.score(torch.tensor([1]), torch.tensor([item]))
        torch.testing.assert_close(parts.total.detach(), score, atol=1e-4, rtol=1e-4)
    feat = experiment.parts.train_dataset.inter_feat
    for k in (0, 30, 60):  # predicted as by a model that never had the interaction
        pair = Interaction({"user_id": feat["user_id"][k : k + 1], "item_id": feat["item_id"][k : k + 1]})
        without = twin(experiment, feat[torch.arange(len(feat)) != k])
        without.taste = None  # which a pair that is evidence has not
        torch.testing.assert_close(model.predict(pair), without.predict(pair), atol=1e-4, rtol=1e-4)
    width = model.attention.width if model.attention is not None else 0
    words = ["story", "qqq", "superb"] * 20_000
    vectors = torch.randn(len(words), width)
    new = view_of_new(
        model, torch.tensor([2]), torch.tensor([4.0]), [vectors], [words], [[k % 3 == 0 for k in range(len(words))]]
    )
    assert torch.isfinite(new.scores()).all()


def test_the_remembered_lexicon_follows_the_parameters(random_aspects):
    aspects, _ = random_aspects
    before = aspects.cached_lexicon()
    assert aspects.cached_lexicon() is before and not any(part.requires_grad for part in before)
    with torch.no_grad():
        aspects._sentiment.mul_(2)
    for kept, made in zip(aspects.cached_lexicon(), aspects.lexicon(), strict=True):
        torch.testing.assert_close(kept, made.detach(), rtol=0, atol=0)
    assert not torch.equal(before[1], aspects.cached_lexicon()[1])
