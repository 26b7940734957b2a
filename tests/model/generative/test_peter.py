"""PETER: its mask, positions and losses, and the sentences that it writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from altered import NAME, copy_of, pairs, rows_of

from recbole.data.interaction import Interaction

from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts, write_texts
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.explain.explainer import Explainer
from recbole_drex.model.generative.peter import blocked, positions
from recbole_drex.model.pesi.sentence_data import END, PAD, UNKNOWN

RATING, REVIEW = "rating:float", "review_row:float"
SMALL = {"embedding_size": 16, "inner_size": 32}


def batch_of(experiment, n: int = 64) -> Interaction:
    return experiment.parts.train_dataset.inter_feat[torch.arange(n)]


@pytest.fixture(scope="module")
def fitted(make_experiment, train):
    experiment = make_experiment("PETER", **SMALL)
    train(experiment)
    return experiment


def test_mask_of_two_ids_and_three_words():
    rows = ["".join(map(str, row)) for row in blocked(5).int().tolist()]
    assert rows == ["00111", "00111", "00011", "00001", "00000"]


def test_codes_of_positions():
    np.testing.assert_allclose(positions(2, 4)[1], [0.841471, 0.540302, 0.010000, 0.999950], atol=1e-6)
    assert positions(3, 5).shape == (3, 5)


def test_a_position_depends_on_those_before_it_alone(make_experiment):
    model = make_experiment("PETER", **SMALL).model.eval()
    user, item = torch.tensor([3]), torch.tensor([4])
    one, other = torch.tensor([[END, 5, 6, 7]]), torch.tensor([[END, 5, 9, 7]])
    with torch.no_grad():
        first, second = model.hidden(user, item, one)[0], model.hidden(user, item, other)[0]
        swapped = model.hidden(user, torch.tensor([5]), one)[0]
    same = torch.isclose(first, second, atol=1e-6).all(1).tolist()
    assert same == [True, True, True, True, False, False]
    assert not torch.isclose(first[0], swapped[0], atol=1e-4).all(), "the user sees the item"


def test_losses_are_those_of_the_equations(make_experiment):
    experiment = make_experiment("PETER", **SMALL, text_weight=2.0, context_weight=3.0)
    model, batch = experiment.model.eval(), batch_of(experiment, 12)
    user, item = batch["user_id"], batch["item_id"]
    own = model.sentences.find(user, item)
    own[0] = -1  # a pair without a sentence
    with torch.no_grad():
        score, loss = model.losses(user, item, own)
    expected = []
    for k in range(12):
        line = model.sentences.words[own[k]].tolist() if own[k] >= 0 else []
        total, n = 0.0, 0
        for t in range(1, len(line)):
            if line[t] in (PAD, UNKNOWN):
                continue
            with torch.no_grad():
                hidden = model.hidden(user[k : k + 1], item[k : k + 1], torch.tensor([line[:t]]))[0]
                text, context = (torch.log_softmax(model.output(hidden[index]), 0)[line[t]] for index in (-1, 1))
            total, n = total - 2 * float(text) - 3 * float(context), n + 1
        expected.append(total / max(1, n))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(score, model.pair_score(user, item).detach(), atol=1e-5)


def test_every_parameter_is_taught(make_experiment):
    experiment = make_experiment("PETER", **SMALL)
    model = experiment.model.train()
    model.calculate_loss(batch_of(experiment)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_it_learns_its_sentences_by_heart(make_experiment):
    experiment = make_experiment("PETER", embedding_size=32, inner_size=64, dropout=0.0)
    model, batch = experiment.model.train(), batch_of(experiment, 300)
    own = model.sentences.find(batch["user_id"], batch["item_id"])
    whole = [k for k in range(300) if own[k] >= 0 and UNKNOWN not in model.sentences.words[own[k]].tolist()]
    batch = batch[torch.tensor([k for k in whole if model.sentences.chosen[own[k]][1]][:12])]
    optimizer = torch.optim.Adam(model.parameters(), 0.005)
    for _ in range(150):
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
    own = model.sentences.find(batch["user_id"], batch["item_id"])
    lines = model.sentences.words[own, 1:].tolist()
    assert model.eval().generate(batch["user_id"], batch["item_id"]) == [model.sentences.join(line) for line in lines]


def test_decoding_is_greedy(fitted):
    model, user, item = fitted.model, torch.tensor([3, 1]), torch.tensor([4, 2])
    written = model.generate(user, item)
    for k in range(2):
        line = [END]
        while len(line) <= 15 and (len(line) == 1 or line[-1] != END):
            with torch.no_grad():
                logits = model.output(model.hidden(user[[k]], item[[k]], torch.tensor([line]))[0, -1])
            logits[[PAD, UNKNOWN]] = -torch.inf
            if len(line) <= 3:
                logits[END] = -torch.inf
            line.append(int(logits.argmax()))
        assert written[k] == model.sentences.join(line[1:])
        assert 3 <= len(written[k].split()) <= 15
    assert model.generate([], []) == []
    assert len(model.generate([0, 3], [4, 0])) == 2  # the padding stands for those that training data do not know


def test_canary_of_words(small, fitted, make_experiment, train, tmp_path):
    """A marker in every review of validation and test is never read: what is written is the same."""
    held_out = pairs(fitted, "valid", "test")

    def keep(frame):
        keep.rows = set(frame.loc[rows_of(frame, held_out), REVIEW].dropna().astype(int))
        return frame

    root = copy_of(small.root, tmp_path / "data", keep)
    texts = ReviewTexts(small.root / NAME / TEXTS)
    texts = [f"Zyzzyva zyzzyva zyzzyva. {t}" if k in keep.rows else t for k, t in enumerate(texts[range(len(texts))])]
    write_texts(root / NAME / TEXTS, [texts])
    experiment = make_experiment("PETER", data_path=str(root), **SMALL)
    assert experiment.model.sentences.vocabulary == fitted.model.sentences.vocabulary
    assert "zyzzyva" not in experiment.model.sentences.vocabulary
    train(experiment)
    users, items = torch.arange(1, 40), torch.arange(1, 40)
    assert experiment.model.generate(users, items) == fitted.model.generate(users, items)


def test_a_sentence_is_part_of_an_explanation(fitted):
    explainer = Explainer(fitted)
    user, item = sorted(pairs(fitted, "test"))[0]
    (recommendation,) = explainer.explain_pair(user, item).recommendations
    ids = [fitted.dataset.token2id(field, one) for field, one in (("user_id", user), ("item_id", item))]
    assert [recommendation.written] == fitted.model.generate(ids[:1], ids[1:])
    assert recommendation.written


def test_without_texts_or_sentences(small, make_experiment, train, tmp_path):
    bare = copy_of(small.root, tmp_path / "bare", lambda frame: frame)
    with pytest.raises(DataError, match=r"reviews.parquet is missing: prepare the data set from its raw reviews"):
        make_experiment("PETER", data_path=str(bare), **SMALL)

    def unrated_only(frame):
        return frame.assign(**{REVIEW: frame[REVIEW].where(frame[RATING].isna())})

    root = copy_of(small.root, tmp_path / "data", unrated_only, texts=True)
    experiment = make_experiment("PETER", data_path=str(root), **SMALL)
    assert experiment.model.notes == [
        "PETER writes no sentences: no word occurs three times in the reviews of rated training rows"
    ]
    train(experiment)
    with pytest.raises(DataError, match="no word occurs three times"):
        experiment.model.generate([1], [1])


def test_illegal_widths(make_experiment):
    with pytest.raises(ConfigError, match=r"'embedding_size' \(15\) of PETER must be a multiple of 'n_heads' \(2\)"):
        make_experiment("PETER", embedding_size=15)
