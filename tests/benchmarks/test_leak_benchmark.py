"""The benchmark of the leak: what it lets a model read, and that nothing else lets it."""

import pytest

import leak


@pytest.mark.parametrize("model", ["DeepCoNN", "NARRE"])
def test_only_documents_of_all_reviews_hold_those_of_test_rows(model, make_experiment):
    experiment = make_experiment(model, exclude_target_review=False)
    test = experiment.parts.test.rows._dataset.inter_feat
    reviewed = test["review_row"] >= 0
    user, item = test["user_id"][reviewed], test["item_id"][reviewed]
    assert (experiment.model.documents.find(user, item) < 0).all()
    leaky = leak.with_all_reviews(experiment).model
    own = leaky.own_review(user, item)
    assert (leaky.documents.find(user, item) >= 0).sum() > 0.9 * reviewed.sum()  # some reviews have no word
    assert (own < 0).all()  # and none is taken out when the pair is predicted


def test_the_table_has_a_row_for_each_kind_of_documents():
    runs = [
        {"dataset": "demo", "model": "NARRE", "documents": kind, "seed": seed, "mae": mae + seed, "rmse": 2.0}
        for kind, mae in (("others", 0.5), ("all", 0.25))
        for seed in (1, 2)
    ]
    lines = leak.table(runs).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["model", "documents", "demo MAE", "demo RMSE"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["NARRE", "others", "2.0000", "2.0000"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["NARRE", "all", "1.7500", "2.0000"]


@pytest.mark.parametrize(
    "arguments", [["--models", "NARE"], ["--documents", "al"], ["--datasets", ""], ["--seeds", ""]]
)
def test_unknown_names_are_refused_in_one_line(arguments, tmp_path, capsys):
    assert leak.main([*arguments, "--output", str(tmp_path / "leak.json")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
    assert not (tmp_path / "leak.json").exists()
