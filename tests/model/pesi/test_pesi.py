"""PESI: its loss terms, their effects, and generated sentences."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from altered import NAME, copy_of, pairs, rows_of
from sentence_quality import text_quality

from recbole.data.interaction import Interaction

from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts, write_texts
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.explain.counterfactual.dispatch import explains
from recbole_drex.explain.explainer import Explainer
from recbole_drex.model.pesi.disentangler import Disentangler
from recbole_drex.model.pesi.sentence_data import choose, split_sentences
from recbole_drex.training.trainer import load_model_state, make_trainer
from recbole_drex.utils import checkpoint

RATING, REVIEW = "rating:float", "review_row:float"


def batch_of(experiment, n: int = 256) -> Interaction:
    return experiment.parts.train_dataset.inter_feat[torch.arange(n)]


def every_score(model) -> torch.Tensor:
    model.eval()
    users = torch.arange(1, model.n_users)
    with torch.no_grad():
        return model.full_sort_predict(Interaction({model.USER_ID: users}))


def with_texts(root, source, change=None):
    """Put the review texts of ``source`` next to a copy, altered or not."""
    texts = ReviewTexts(source / NAME / TEXTS)
    texts = texts[np.arange(len(texts))]
    write_texts(root / NAME / TEXTS, [change(texts) if change else texts])
    return root


@pytest.fixture(scope="module")
def fitted(make_experiment, train):
    """PESI on the small data set after two epochs."""
    experiment = make_experiment("PESI")
    train(experiment)
    return experiment


# Terms -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def side():
    torch.manual_seed(3)
    layer = Disentangler(5, 4, 6, 3).double()
    ratings, reviews = torch.randn(4, 5).double(), torch.randn(4, 4).double()
    return layer, ratings, reviews, torch.tensor([True, True, False, True])


def test_parts_gates_and_inconsistency(side):
    layer, ratings, reviews, reviewed = side
    result = layer(ratings, reviews, reviewed)
    p = {key: value.detach().numpy() for key, value in layer.state_dict().items()}
    for n in range(4):
        f = [np.tanh(p[f"inputs.{k}.weight"] @ x[n].numpy() + p[f"inputs.{k}.bias"])
             for k, x in enumerate((ratings, reviews))]  # fmt: skip
        cr, pr, ct, pt = (part for k in (0, 1) for part in np.split(p[f"parts.{k}.weight"] @ f[k], 2))
        if not reviewed[n]:
            ct, pt = ct * 0, pt * 0
        logits = p["gate.weight"] @ np.concatenate([cr, pr, ct, pt]) + p["gate.bias"]
        gates = np.exp(logits) * ([1, 1, 1, 1] if reviewed[n] else [1, 1, 0, 0])
        gates /= gates.sum()
        np.testing.assert_allclose(result.gates[n].detach(), gates, rtol=1e-9)
        gated = np.concatenate([gate * part for gate, part in zip(gates, (cr, pr, ct, pt), strict=True)])
        state = np.tanh(p["output.weight"] @ gated + p["output.bias"])
        np.testing.assert_allclose(result.state[n].detach(), state, rtol=1e-9)
        expected = np.zeros(6)
        if reviewed[n]:
            unit = [part / np.linalg.norm(part) for part in (cr, pr, ct, pt)]
            expected = np.concatenate([unit[0] - unit[2], unit[1] * unit[3]])
        np.testing.assert_allclose(result.inconsistency[n].detach(), expected, rtol=1e-7, atol=1e-12)


def test_terms_are_those_of_the_equations(side, make_experiment):
    layer, ratings, reviews, reviewed = side
    sides = [layer(ratings, reviews, reviewed), layer(-ratings, reviews, reviewed)]
    model = make_experiment("PESI", generator_sentences=0).model
    entities = [torch.tensor([7, 8, 9, 7]), torch.tensor([1, 2, 3, 4])]
    result = model.terms(sides, entities)
    contrast = private = entropy = 0.0
    for one, distinct in zip(sides, ([0, 1], [0, 1, 3]), strict=True):  # reviewed, each entity once
        likeness = np.array([[float(one.rating[a] @ one.review[b]) / model.temperature for b in distinct]
                             for a in distinct])  # fmt: skip
        chance = [np.exp(likeness) / np.exp(likeness).sum(axis, keepdims=True) for axis in (0, 1)]
        contrast -= sum(np.log(np.diag(c)).mean() for c in chance) / 2
        of_rating, of_review = one.rating_private, one.review_private
        for a, b in ((one.rating, of_rating), (one.review, of_review), (of_rating, of_review)):
            private += float(((a * b).sum(1) ** 2).mean())
        gates = one.gates.detach().numpy()
        entropy += np.mean([-sum(g * math.log(g) for g in line if g > 0) for line in gates])
    assert float(result["contrast"]) == pytest.approx(contrast, rel=1e-6)
    assert float(result["private"]) == pytest.approx(private, rel=1e-6)
    assert float(result["entropy"]) == pytest.approx(entropy, rel=1e-6)


def test_gradients_of_the_terms_are_those_of_finite_differences(side, make_experiment):
    layer, ratings, reviews, reviewed = side
    model = make_experiment("PESI", generator_sentences=0).model
    entities = [torch.tensor([7, 8, 9, 5])] * 2

    def total(ratings, reviews):
        one = layer(ratings, reviews, reviewed)
        terms = model.terms([one, one], entities)
        return terms["contrast"] + 2 * terms["private"] + 3 * terms["entropy"] + one.inconsistency.square().sum()

    assert torch.autograd.gradcheck(total, (ratings.requires_grad_(), reviews.requires_grad_()))


def test_every_parameter_is_taught(make_experiment):
    model = make_experiment("PESI", generator_passes=0).model.train()
    batch = batch_of(make_experiment("PESI", generator_sentences=0))
    for _ in range(2):  # the biases' gradients need a first step of the others
        model.zero_grad()
        model.calculate_loss(batch).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01 * parameter.grad


@pytest.mark.parametrize("term", ("contrast", "private", "entropy"))
def test_each_term_does_its_work(term, make_experiment):
    result = []
    for weight in (0.0, 5.0):
        options = {f"{name}_weight": 0.0 for name in ("contrast", "private", "entropy")} | {f"{term}_weight": weight}
        experiment = make_experiment("PESI", generator_sentences=0, dropout=0.0, **options)
        model, batch = experiment.model.train(), batch_of(experiment)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(15):
            optimizer.zero_grad()
            model.calculate_loss(batch).backward()
            optimizer.step()
        entities = (batch[model.USER_ID], batch[model.ITEM_ID])
        row = model.table.find(*entities)
        with torch.no_grad():
            sides = [model._side(k, entity, row) for k, entity in enumerate(entities)]
            result.append(float(model.terms(sides, entities)[term]))
    assert result[1] > result[0] if term == "entropy" else result[1] < result[0]


# The target ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", (REVIEW, RATING))
def test_nothing_of_a_pair_predicts_it(changed, small, make_experiment, tmp_path):
    """The score of a training pair does not depend on its own review or rating."""
    one = pairs(make_experiment("GlobalMean"), "train")

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        index = int(np.flatnonzero(rows_of(frame, one) & (frame[RATING] == 3.0) & frame[REVIEW].notna())[0])
        change.pair = tuple(frame.loc[index, ["user_id:token", "item_id:token"]])
        if changed == REVIEW:
            frame.loc[index, REVIEW] = frame[REVIEW].dropna().iloc[-1]
        else:
            # The median and all other interactions are unchanged.
            frame.loc[index, RATING] = 2.0
        return frame

    root = copy_of(small.root, tmp_path / "data", change)
    result = {}
    for leaky in (False, True):
        scores = []
        for path in (small.root, root):
            experiment = make_experiment(
                "PESI", data_path=str(path), generator_sentences=0, exclude_target_review=not leaky
            )
            model, dataset = experiment.model.eval(), experiment.dataset
            ids = [dataset.token2id(field, change.pair[k]) for k, field in enumerate((model.USER_ID, model.ITEM_ID))]
            with torch.no_grad():
                score = model._pair(*(model._side(k, *_one(model, ids, k)).state for k in range(2)))
            scores.append(float(score))
        result[leaky] = scores
    assert result[False][0] == pytest.approx(result[False][1], abs=1e-7 if changed == REVIEW else 1e-6)
    if changed == REVIEW:
        assert abs(result[True][0] - result[True][1]) > 1e-6


def _one(model, ids, side):
    user, item = (torch.tensor([k]) for k in ids)
    return (user, item)[side], model.table.find(user, item)


# Sentences -----------------------------------------------------------------------------------------------------------


def test_ratings_are_the_same_with_and_without_the_writer(fitted, make_experiment, train):
    without = make_experiment("PESI", generator_sentences=0)
    train(without)
    assert without.model.writer is None
    assert torch.equal(every_score(without.model), every_score(fitted.model))
    with pytest.raises(DataError, match="no sentences"):
        without.model.generate([1], [1])


def test_sentences_are_the_same_after_saving(fitted, make_experiment, tmp_path):
    model = fitted.model
    users, items = torch.arange(1, 20), torch.arange(1, 20)
    written = model.generate(users, items)
    assert len(written) == 19 and all(len(text.split()) >= 3 for text in written)
    assert written == model.generate(users.tolist(), items.tolist())
    state = {"state_dict": dict(model.state_dict()), "other_parameter": model.other_parameter()}
    checkpoint.save(tmp_path / "model.safetensors", state)
    fresh = make_experiment("PESI")
    load_model_state(fresh.model, checkpoint.load(tmp_path / "model.safetensors"), tmp_path)
    fresh.model.eval()
    assert fresh.model.generate(users, items) == written
    assert bool(fresh.model.studied)


def test_a_resumed_run_writes_as_an_uninterrupted_one(fitted, make_experiment, tmp_path):
    for epochs in (1, 2):
        experiment = make_experiment("PESI", epochs=epochs)
        trainer = make_trainer(experiment.config, experiment.model, tmp_path, experiment.parts)
        assert trainer.resume() == (epochs == 2)
        trainer.train_model()
    experiment.model.eval()
    users, items = torch.arange(1, 40), torch.arange(1, 40)
    assert experiment.model.generate(users, items) == fitted.model.generate(users, items)


def test_canary_of_words(small, fitted, make_experiment, train, tmp_path):
    """A marker in every review of validation and test is never read: what is written is the same."""
    held_out = pairs(fitted, "valid", "test")

    def keep(frame: pd.DataFrame) -> pd.DataFrame:
        rows = frame.loc[rows_of(frame, held_out), REVIEW].dropna()
        keep.rows = set(rows.astype(int))
        return frame

    def mark(texts):
        return [f"Zyzzyva zyzzyva zyzzyva. {t}" if k in keep.rows else t for k, t in enumerate(texts)]

    root = with_texts(copy_of(small.root, tmp_path / "data", keep), small.root, mark)
    assert len(keep.rows) > 200
    experiment = make_experiment("PESI", data_path=str(root))
    sentences = experiment.model.writer.sentences
    assert "zyzzyva" not in sentences.vocabulary
    assert sentences.vocabulary == fitted.model.writer.sentences.vocabulary
    assert torch.equal(sentences.words, fitted.model.writer.sentences.words)
    assert set(zip(sentences.user.tolist(), sentences.item.tolist(), strict=True)) <= set(
        zip(*(experiment.parts.train_dataset.inter_feat[f].tolist() for f in ("user_id", "item_id")), strict=True)
    )
    train(experiment)
    users, items = torch.arange(1, 40), torch.arange(1, 40)
    assert experiment.model.generate(users, items) == fitted.model.generate(users, items)
    # The marker would have been found, had it stood in a training review.
    everywhere = with_texts(
        copy_of(small.root, tmp_path / "all", lambda f: f), small.root, lambda t: [f"Zyzzyva. {x}" for x in t]
    )
    result = make_experiment("PESI", data_path=str(everywhere)).model.writer.sentences
    assert "zyzzyva" in result.vocabulary


def test_quality_is_measured(fitted, small):
    model, part = fitted.model, fitted.parts.valid.rows._dataset
    result = text_quality(model, part, small.root / NAME)
    assert result["sentences"] == (part.inter_feat["review_row"] >= 0).sum()
    assert 1 < result["perplexity"] < result["perplexity_unigram"]
    assert 0 <= result["unknown"] < 0.5
    assert all(0 < result[f"distinct_{kind}"] <= 1 for kind in ("1", "2", "sentences"))
    losses, texts = [], ReviewTexts(small.root / NAME / TEXTS)
    for k in torch.nonzero(part.inter_feat["review_row"] >= 0).flatten().tolist():
        row = part.inter_feat[torch.tensor([k])]
        user, item = row[model.USER_ID], row[model.ITEM_ID]
        sentence = choose(split_sentences(texts[int(row["review_row"])][0]), 15)
        with torch.no_grad():
            words = model.writer.sentences.encode([sentence])
            losses += model.writer.losses(model.condition(user, item), user, item, words).tolist()
    assert result["perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)


# Data with little in it ----------------------------------------------------------------------------------------------


def test_users_and_items_without_reviews_are_written_for(small, make_experiment, train, tmp_path):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        silent = frame["user_id:token"].unique()[:2]
        unspoken = frame["item_id:token"].unique()[:2]
        frame.loc[frame["user_id:token"].isin(silent) | frame["item_id:token"].isin(unspoken), REVIEW] = np.nan
        change.pair = silent[0], unspoken[0]
        return frame

    root = with_texts(copy_of(small.root, tmp_path / "data", change), small.root)
    experiment = make_experiment("PESI", data_path=str(root))
    train(experiment)
    model, dataset = experiment.model, experiment.dataset
    user, item = (dataset.token2id(field, change.pair[k]) for k, field in enumerate((model.USER_ID, model.ITEM_ID)))
    sides = [model._side(k, torch.tensor([i]), torch.tensor([-1])) for k, i in enumerate((user, item))]
    for side in sides:
        assert not side.reviewed.any() and not side.inconsistency.any() and not side.gates[:, 2:].any()
    (text,) = model.generate([user], [item])
    assert len(text.split()) >= 3
    # Id 0 stands for users and items that are not in the training part.
    assert len(model.generate([0, user], [item, 0])) == 2


def test_a_data_set_without_texts_is_rated_but_not_written_about(small, make_experiment, train, tmp_path, caplog):
    experiment = make_experiment("PESI", data_path=str(copy_of(small.root, tmp_path / "data", lambda f: f)))
    assert "PESI writes no sentences: there are no review texts in" in caplog.text
    train(experiment)
    assert torch.isfinite(every_score(experiment.model)).all()
    with pytest.raises(DataError, match="no sentences"):
        experiment.model.generate([1], [1])


def test_without_a_generator_there_is_nothing_to_explain_with(make_experiment):
    assert explains(make_experiment("PESI").model)
    experiment = make_experiment("PESI", generator_sentences=0)
    assert not explains(experiment.model)
    with pytest.raises(DataError, match="offers no explanations"):
        Explainer(experiment)


def test_only_unrated_rows_have_reviews(small, make_experiment, train, tmp_path, caplog):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(**{REVIEW: frame[REVIEW].where(frame[RATING].isna())})

    root = with_texts(copy_of(small.root, tmp_path / "data", change), small.root)
    experiment = make_experiment("PESI", data_path=str(root))
    assert "no training row has a review" in caplog.text
    train(experiment)
    assert torch.isfinite(every_score(experiment.model)).all()


def test_constant_ratings_and_empty_reviews(small, make_experiment, train, tmp_path):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(**{RATING: frame[RATING].where(frame[RATING].isna(), 4.0)})

    root = copy_of(small.root, tmp_path / "data", change)
    with_texts(root, small.root, lambda texts: ["" if k % 2 else "?!" for k in range(len(texts))])
    experiment = make_experiment("PESI", data_path=str(root))
    train(experiment)
    scores = every_score(experiment.model)
    assert torch.isfinite(scores).all() and float((scores - 4.0).abs().max()) < 1.0
    assert len(experiment.model.generate([1, 2], [1, 2])) == 2


@pytest.mark.parametrize(
    "values", ({"temperature": 0}, {"generator_words": 2}, {"part_size": 0}, {"contrast_weight": -1.0})
)
def test_illegal_values(values, make_config):
    with pytest.raises(ConfigError, match=next(iter(values))):
        make_config("PESI", **values)
