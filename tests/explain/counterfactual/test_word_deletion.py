"""Effects of words, against the model on features from which the words were physically removed."""

import numpy as np
import pytest
import torch
from altered import literal_reading, shake

from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual
from recbole_drex.explain.word_effects import WordDeletion, WordOccurrence


@pytest.fixture(
    scope="module", params=[{}, {"taste": []}, {"aspects": 0}, {"modalities": ["review"], "taste": []}], ids=str
)
def experiment(request, make_experiment):
    return shake(make_experiment("DReX", embedding_size=8, taste_size=8, **request.param))


@pytest.fixture(scope="module")
def deletion(experiment):
    model = experiment.model.eval()
    table = model.table
    user = int(table.user_count[1:].argmin()) + 1
    known = set(table.item[table.rows_of(user)].tolist())
    item = next(one for one in range(1, table.n_items) if one not in known and len(table.rows_of_item(one)) > 5)
    return WordDeletion(DReXCounterfactual.of(model, user, item))


def literal(deletion, is_removed) -> float:
    """The prediction from reviews of both sides that are pooled again, word by word, without the removed words.

    Args:
        is_removed: takes side, index in ``words`` and lemma, and returns whether this occurrence is removed.
    """
    counterfactual, model = deletion.counterfactual, deletion.counterfactual.model
    table, taste = model.table, model.taste
    saved = table.pooled.clone(), table.features.clone(), table.ratings.clone(), table.aspect_values.clone()
    saved_taste = (taste.sums.clone(), taste.counts.clone()) if taste is not None else ()
    review = next(one for one in table.modalities if one.name == "review")
    others = [one.presence for one in table.modalities if one is not review]
    for number, (side, words) in enumerate(zip(counterfactual.sides, deletion.words, strict=True)):
        for index, row in enumerate(side.row.tolist()):
            inside = torch.nonzero(words.index == index).flatten().tolist()
            removed = [k for k in inside if is_removed(number, k, int(words.word[k]))]
            stays = [k for k in inside if k not in removed]
            if not removed:
                continue
            if model.aspects is not None:
                read = literal_reading(model.aspects, words.word[stays].tolist(), words.sentence[stays].tolist())
                table.aspect_values[row] = torch.from_numpy(np.concatenate(read))
            if stays:
                weight = torch.softmax(words.vector[stays] @ model.attention.scoring_vector(), 0)
                table.pooled[row] = (weight @ words.vector[stays]).detach()
            else:
                table.pooled[row], table.features[row, review.start] = 0.0, 0.0
                if not table.rows_at(torch.tensor([row]))[0, others].any():
                    table.features[row], table.ratings[row] = 0.0, 0.0
            if taste is not None and side is counterfactual.item:
                positions = words.position[removed].numpy()
                left = taste.text.without(np.array([row]), np.zeros(len(removed), dtype=int), positions)[0]
                change = torch.from_numpy(left - taste.text.rows(np.array([row]))[0]) @ taste.directions
                item = counterfactual.item.entity
                taste.sums[item] += change if stays else -taste.coordinates[row]
                taste.counts[item] -= 0 if stays else taste.has_words[row]
    table.item_sums = table._sums(table.item, table.n_items)
    try:
        whole = DReXCounterfactual(
            type(counterfactual.user).known(model, counterfactual.user.entity), counterfactual.item.entity
        )
        return float(whole.predict().detach())
    finally:
        table.pooled[:], table.features[:], table.ratings[:], table.aspect_values[:] = saved
        table.item_sums = table._sums(table.item, table.n_items)
        if taste is not None:
            taste.sums[:], taste.counts[:] = saved_taste


def test_without_lemmas(deletion):
    lemmas = deletion.lemmas
    frequent = lemmas[deletion.occurrences().argsort(descending=True)[:6]].tolist()
    sets = [[frequent[0]], frequent, [int(lemmas[0])], []]
    results = deletion.without(sets)
    assert float(results[-1]) == pytest.approx(deletion.base, abs=1e-5)
    for chosen, prediction in zip(sets, results.tolist(), strict=True):
        expected = literal(deletion, lambda side, token, lemma, chosen=chosen: lemma in chosen)
        assert prediction == pytest.approx(expected, abs=2e-4)


def test_without_single_occurrences(deletion):
    occurrences = [WordOccurrence(side, token) for side in (0, 1) for token in (0, 3, len(deletion.words[side]) - 1)]
    results = deletion.without(occurrences)
    for index, prediction in zip(occurrences, results.tolist(), strict=True):
        expected = literal(deletion, lambda side, token, lemma, index=index: WordOccurrence(side, token) == index)
        assert prediction == pytest.approx(expected, abs=2e-4)


def test_strongest_words_have_the_largest_effects(deletion):
    every = {lemma: deletion.base - float(deletion.without([[lemma]])[0]) for lemma in deletion.lemmas.tolist()}
    results = deletion.strongest(5)
    assert [abs(delta) for _, delta in results] == sorted((abs(delta) for _, delta in results), reverse=True)
    for lemma, delta in results:
        assert delta == pytest.approx(every[lemma], abs=2e-4)
    largest = sorted(map(abs, every.values()), reverse=True)[:5]
    np.testing.assert_allclose([abs(delta) for _, delta in results], largest, atol=3e-3)


def test_all_words_can_be_removed(deletion):
    assert np.isfinite(float(deletion.without([deletion.lemmas.tolist()])[0]))


def test_sums_over_words(deletion):
    attention, times = deletion.attention(), deletion.occurrences()
    reviews = sum(len(words.index.unique()) for words in deletion.words)
    assert float(attention.detach().sum()) == pytest.approx(reviews, abs=1e-3)  # the weights of each review sum to one
    assert int(times.sum()) == sum(map(len, deletion.words))
    lemma = int(deletion.lemmas[times.argmax()])
    assert 1 <= deletion.reviews(lemma) <= int(times.max())


@pytest.mark.parametrize("side", [0, 1])
def test_one_side_without_words(make_experiment, side):
    """If one side has no words, the words of the other side still have effects."""
    model = shake(make_experiment("DReX", embedding_size=8, modalities=["review"], hide_reviews=0.9)).model.eval()
    table = model.table
    known = [torch.bincount(table.user, minlength=table.n_users), torch.bincount(table.item, minlength=table.n_items)]
    pair = [int(count[1:].argmax()) + 1 for count in known]
    pair[side] = int(known[side][1:].argmin()) + 1
    assert known[side][pair[side]] == 0
    deletion = WordDeletion(DReXCounterfactual.of(model, *pair))
    assert not len(deletion.words[side]) and len(deletion.words[1 - side])
    results = deletion.strongest(5)
    assert len(results) == 5 and all(delta for _, delta in results)
    every = {lemma: deletion.base - float(deletion.without([[lemma]])[0]) for lemma, _ in results}
    assert all(delta == pytest.approx(every[lemma], abs=1e-5) for lemma, delta in results)
