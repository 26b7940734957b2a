"""Explanations that are written with a run and read again."""

from __future__ import annotations

import dataclasses
import json

import pytest

from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.stored_explanations import (
    best_item,
    explanation_of,
    read_explanations,
    write_explanations,
)


@pytest.mark.parametrize("model", ("DReX", "NARRE", "EMF"))
def test_what_is_read_is_what_was_written(model, make_experiment, tmp_path):
    explained = Explainer(make_experiment(model), quotes=2, word_effects=True).explain_users(2)
    write_explanations(explained, tmp_path)
    documents = read_explanations(tmp_path)
    assert documents == json.loads(json.dumps([dataclasses.asdict(one) for one in explained]))
    assert [explanation_of(document) for document in documents] == explained
    best = explanation_of(best_item(documents[0]))
    assert best == dataclasses.replace(explained[0], recommendations=explained[0].recommendations[:1])


def test_a_run_without_explanations(tmp_path):
    assert read_explanations(tmp_path) == []
