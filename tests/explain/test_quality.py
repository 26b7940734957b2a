"""Explanation measures, recomputed in plain loops."""

from __future__ import annotations

import itertools
import json
import shutil

import jsonschema
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_runs import write_run

from recbole_drex.analysis.explanation_table import explanation_table, shown, to_text
from recbole_drex.analysis.overlap import rank_biased_overlap
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.quality import explanation_methods, explanation_quality, planted_agreement
from recbole_drex.results.comparison import comparison_of
from recbole_drex.results.run_result import read_result

RANKINGS = st.lists(st.integers(0, 12), unique=True, max_size=10)


@given(RANKINGS, RANKINGS)
def test_overlap_of_rankings(one, other):
    results = rank_biased_overlap(one, other)
    assert results == pytest.approx(rank_biased_overlap(other, one))
    assert -1e-9 <= results <= 1 + 1e-9
    if one:
        assert rank_biased_overlap(one, one) == pytest.approx(1)
    k = min(len(one), len(other))
    if not k:
        assert results == 0
        return
    # The definition, with the agreement at the last common depth extended to infinity.
    agreement = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, k + 1)]
    endless = sum(0.1 * 0.9 ** (d - 1) * agreement[min(d, k) - 1] for d in range(1, 600))
    assert results == pytest.approx(endless, abs=1e-6)


@pytest.fixture(scope="module")
def explainers(make_experiment, train):
    results = {}
    for model, epochs in (("DReX", 6), ("NARRE", 2), ("EMF", 2)):
        experiment = make_experiment(model, epochs=epochs)
        train(experiment)
        experiment.model.eval()
        results[model] = Explainer(experiment)
    return results


@pytest.fixture(scope="module")
def measured(explainers):
    return {model: explanation_quality(explainer, 8, seed=1) for model, explainer in explainers.items()}


def test_every_method_is_measured(measured):
    methods = {model: [(one["unit"], one["by"]) for one in results] for model, results in measured.items()}
    assert methods == {
        "DReX": [("words", by) for by in ("keywords",)]
        + [("reviews", "evidence"), ("words", "evidence"), ("words", "attention"), ("words", "frequency")],
        "NARRE": [("reviews", "usefulness"), ("reviews", "evidence")],
        "EMF": [("ratings", "neighbours"), ("ratings", "evidence")],
    }
    for one in itertools.chain.from_iterable(measured.values()):
        assert one["users"] == 8
        for name in ("coverage", "user_specificity", "item_specificity", "diversity"):
            assert one[name] is None or 0 <= one[name] <= 1
        assert len(one["foremost"]) == 16 and any(one["foremost"])
        faithful = one["faithfulness"]
        assert (faithful is None) == (one["by"] == "keywords")
        if faithful and faithful["predictions"] >= 5:
            for ratio in (faithful["deletion"], faithful["same_direction"], faithful["untrained"]["deletion"]):
                assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
            controls = [one["same_direction"]["ratio"] for one in (faithful, faithful["untrained"])]
            assert faithful["excess"] == pytest.approx(controls[0] - controls[1])
            # Random units of any direction move the prediction less, since opposite effects cancel.
            assert faithful["same_direction"]["random"] >= 0.9 * faithful["deletion"]["random"]


def test_reasons_by_evidence_are_better_than_chance(measured):
    for model, results in measured.items():
        for one in results:
            if one["by"] == "evidence":
                assert one["faithfulness"]["deletion"]["ratio"] > 1.5, model


def test_useful_reviews_do_not_depend_on_the_user(measured):
    usefulness = measured["NARRE"][0]
    assert usefulness["user_specificity"] < 0.2  # only the user's own review is excluded
    assert usefulness["item_specificity"] == 1.0


def test_coverage_and_diversity_are_shares(explainers):
    explainer = explainers["EMF"]
    results = explanation_quality(explainer, 1000, seed=0)[0]
    names, (method, _) = explainer.recommender, explanation_methods(explainer)
    users = explainer.users_by_evidence()
    assert results["users"] == len(users)
    reasons = [method.units(user, item)[:5] for user in users for item, _ in names.best(user, 3)]
    assert results["coverage"] == pytest.approx(np.mean([bool(one) for one in reasons]))
    units = [unit for one in reasons for unit in one]
    assert results["diversity"] == pytest.approx(len(set(units)) / len(units))


def test_agreement_with_planted_tastes(small, explainers):
    explainer = explainers["DReX"]
    assert planted_agreement(explainer) is None
    path = small.root / "raw" / f"truth_{small.name}.json"
    path.parent.mkdir()
    shutil.copy(small.raw["truth"], path)
    try:
        results = planted_agreement(explainer)
    finally:
        shutil.rmtree(path.parent)
    truth, precision, recall = json.loads(small.raw["truth"].read_text()), [], []
    for user, tastes in truth["users"].items():
        if explainer.keywords.quotes.user_counts().get(explainer.recommender.user_id(user), 0) < 20:
            continue
        top = [keyword.lemma for keyword in explainer.profile("user", user)[:5]]
        hits = [aspect for aspect in tastes if set(truth["aspects"][aspect]) & set(top)]
        precision.append(sum(any(word in truth["aspects"][aspect] for aspect in tastes) for word in top) / len(top))
        recall.append(len(hits) / len(tastes))
    assert results["users"] == len(precision) > 10
    assert (results["precision"], results["recall"]) == pytest.approx((np.mean(precision), np.mean(recall)))


def test_results_carry_the_measures(comparison):
    for run in comparison.runs:
        assert ("explanations" in run.result) == run.label.startswith("DReX")
    table = explanation_table(comparison)
    # A model without reviews names no words; its explanations are ratings.
    assert table.groupby("model")["unit"].apply(set).to_dict() == {
        "DReX": {"words", "reviews"},
        "DReX+modalities=[rating]": {"ratings"},
    }
    assert set(table["runs"]) == {2} and len(table) == 2 * (5 + 1)
    one = table[(table["unit"] == "reviews") & (table["dataset"] == comparison.datasets[0])].iloc[0]
    results = [
        method
        for run in comparison.of("DReX", comparison.datasets[0])
        for method in run.result["explanations"]
        if method["unit"] == "reviews"
    ]
    assert one["deletion"] == pytest.approx(
        np.mean([method["faithfulness"]["deletion"]["ratio"] for method in results])
    )
    overlaps = [
        rank_biased_overlap(*pair)
        for pair in zip(*(method["foremost"] for method in results), strict=True)
        if any(pair)
    ]
    assert one["stability"] == pytest.approx(np.mean(overlaps))


def entry(**changes):
    ratio = {"explaining": 0.3, "random": 0.1, "ratio": 3.0, "low": 2.0, "high": 4.0}
    faithful = {
        "unit": "words", "by": "evidence", "k": 5, "predictions": 9, "deletion": ratio, "same_direction": ratio,
        "insertion": ratio, "untrained": {"deletion": ratio, "same_direction": {**ratio, "ratio": 1.5}}, "excess": 1.5,
    }  # fmt: skip
    return {
        "unit": "words", "by": "evidence", "users": 9, "coverage": 0.5, "user_specificity": None,
        "item_specificity": 0.25, "diversity": 0.75, "foremost": [["a", "b"], []], "faithfulness": faithful,
        "planted": {"users": 3, "k": 5, "precision": 0.9, "recall": 0.4}, **changes,
    }  # fmt: skip


def test_a_table_of_means(tmp_path):
    write_run(tmp_path, "DReX", seed=1, explanations=[entry()])
    write_run(tmp_path, "DReX", seed=2, explanations=[entry(coverage=1.0, foremost=[["b", "a"], []], planted=None)])
    write_run(tmp_path, "NARRE", seed=1, explanations=[entry(faithfulness=None, planted=None)])
    folders = sorted(path.parent for path in tmp_path.rglob("result.json"))
    table = explanation_table(comparison_of(folders))
    drex, narre = (table[table["model"] == model].iloc[0] for model in ("DReX", "NARRE"))
    assert (drex["coverage"], drex["deletion"], drex["planted_precision"]) == (0.75, 3.0, 0.9)
    assert drex["stability"] == pytest.approx(rank_biased_overlap("ab", "ba"))
    assert pd.isna(narre["deletion"]) and pd.isna(narre["stability"])
    cells = shown(table)
    assert cells["deletion"].tolist() == cells["same way"].tolist() == ["3.00 (2.00-4.00)", "-"]
    assert cells["untrained"].tolist() == ["1.50", "-"]
    assert "planted precision@5" in cells and "user" in cells
    assert "rank-biased overlap" in to_text(table, "pipe")
    assert explanation_table(comparison_of([write_run(tmp_path / "other", "BPR")])).empty


def test_a_result_with_other_measures_is_refused(tmp_path):
    folder = write_run(tmp_path, explanations=[entry()])
    assert read_result(folder)["explanations"][0]["by"] == "evidence"
    with pytest.raises((ValueError, jsonschema.ValidationError), match="unit"):
        write_run(tmp_path / "wrong", explanations=[entry(unit="songs")])
