"""How good written sentences are: the target of a pair, and whether a sentence contradicts the item's reviews."""

from __future__ import annotations

import math

import pytest
import torch
from altered import NAME

from recbole_drex.analysis.sentence_table import sentence_table, shown
from recbole_drex.data.raw import demo
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.data.text.tokenizer import TextProcessor
from recbole_drex.experiments.outputs import finish
from recbole_drex.explain.written_sentences import Opinions, sentence_quality
from recbole_drex.model.generative.keyword_sentences import KeywordSentences
from recbole_drex.model.pesi.sentence_data import as_text, split_sentences
from recbole_drex.results.comparison import Comparison
from recbole_drex.results.run_result import result_text
from recbole_drex.training.trainer import make_trainer

SMALL = {"embedding_size": 16, "inner_size": 32, "explained_users": 2, "epochs": 1}


@pytest.fixture(scope="module")
def experiment(make_experiment, train):
    one = make_experiment("PETER", **SMALL)
    train(one)
    return one


def targets_of(experiment, root):
    """The target of each reviewed test pair, chosen here."""
    part, test = experiment.parts.train_dataset, experiment.parts.test.rows._dataset.inter_feat
    texts, keep = ReviewTexts(root / NAME / TEXTS), part.inter_feat["review_row"] >= 0
    reviews = [split_sentences(text) for text in texts[part.inter_feat["review_row"][keep].long().numpy()]]
    keywords = KeywordSentences(reviews, part.inter_feat["user_id"][keep].numpy(), TextProcessor(), 15)
    rows = torch.nonzero(test["review_row"] >= 0).flatten().tolist()
    chosen = {
        (int(test["user_id"][k]), int(test["item_id"][k])): keywords.choose(
            split_sentences(texts[int(test["review_row"][k])][0])
        )[0]
        for k in rows
    }
    return {pair: words for pair, words in chosen.items() if words}


def test_a_model_that_foretells_the_targets_is_perfect(experiment, small, monkeypatch):
    targets = targets_of(experiment, small.root)
    monkeypatch.setattr(
        experiment.model,
        "generate",
        lambda users, items: [as_text(targets[pair]) for pair in zip(users.tolist(), items.tolist(), strict=True)],
    )
    result = sentence_quality(experiment, 10_000, 1)
    assert result["pairs"] == len(targets) > 100
    for name in ("bleu_1", "rouge_1", "rouge_1_recall", "rouge_l"):
        assert result[name] == pytest.approx(1.0), name
    assert result["fmr"] == 1.0 and 0 < result["fcr"] <= 1
    assert result["usr"] == len({tuple(w for w in one if w != ",") for one in targets.values()}) / len(targets)
    assert result["contradicting"] == result["contradicting_targets"]


def test_a_sample_is_measured_and_stored(experiment, tmp_path):
    experiment.config["measured_sentences"] = 50
    trainer = make_trainer(experiment.config, experiment.model, tmp_path, experiment.parts)
    trainer.train_model()
    parts = [trainer.evaluate_part(part) for part in (experiment.parts.valid, experiment.parts.test)]
    result = finish(experiment, tmp_path, trainer, *parts, "PETER", 0.0, "")
    assert result["sentences"]["pairs"] == 50
    assert 0 <= result["sentences"]["bleu_1"] <= 1 and 0 < result["sentences"]["usr"] <= 1
    assert '"sentences"' in result_text(result)
    assert sentence_quality(experiment, 50, experiment.config["seed"]) == pytest.approx(
        result["sentences"], nan_ok=True
    )


def test_praise_contradicts_blame(experiment):
    """The generator's plainest words, on an aspect whose reviews agree."""
    dataset = experiment.parts.train_dataset
    opinions = Opinions(experiment, torch.arange(1, dataset.item_num))
    lemma = {k: word for word, k in opinions._index.items()}
    number = opinions._aspects.known.tolist()
    right = wrong = 0
    for (item, one), side in opinions._sides.items():
        word = lemma[number[one]]
        if word not in {name for names in demo.ASPECTS.values() for name in names}:
            continue
        for adjective, sign in ((demo._PRAISE[0], 1), (demo._BLAME[0], -1)):
            verdict = opinions.contradicts(item, f"The {word} is {adjective}.")
            right, wrong = right + (verdict == (sign != side)), wrong + (verdict != (sign != side))
    assert right > 50 and wrong < 0.2 * right
    assert opinions.contradicts(1, "Unheard of.") is None
    assert opinions.contradicts(1, "") is None


def test_without_a_test_part(make_experiment):
    eval_args = {"split": {"RS": [0.9, 0.1, 0.0]}, "group_by": "user", "order": "RO", "mode": "full"}
    experiment = make_experiment("PETER", **SMALL, eval_args=eval_args)
    assert sentence_quality(experiment, 100, 1) is None


def test_the_table_has_means_and_dashes(comparison: Comparison):
    assert shown(sentence_table(comparison)).empty
    names = ("bleu_1", "bleu_4", "rouge_1", "rouge_2", "rouge_l", "usr", "fmr", "fcr", "div", "judged",
             "contradicting", "contradicting_targets")  # fmt: skip
    runs = [run for run in comparison.runs if run.label == "DReX" and run.dataset == NAME]
    try:
        for run, value in zip(runs, (0.1, 0.3), strict=True):
            run.result["sentences"] = {"pairs": 10, **dict.fromkeys(names, value), "contradicting": None}
        table = sentence_table(comparison)
        assert table.loc[0, "bleu_1"] == pytest.approx(0.2) and table.loc[0, "runs"] == 2
        assert math.isnan(table.loc[0, "contradicting"])
        row = shown(table).iloc[0]
        assert (row["pairs"], row["BLEU-1"], row["USR"], row["contradicting"]) == (
            "10",
            "20.00",
            "0.200",
            "- (targets 0.200)",
        )
    finally:
        for run in runs:
            run.result.pop("sentences", None)
