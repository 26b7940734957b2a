"""Which earlier items are no candidates at test, against ranks and metrics that were computed by hand."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from recbole_drex.analysis.comparison_table import comparison_table
from recbole_drex.cli.main import main
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.evaluation.protocol import Protocol
from recbole_drex.experiments.trained_run import load
from recbole_drex.results.comparison import comparison_of
from recbole_drex.results.run_result import read_result, write_result

# Items 0 to 5 occur 5, 4, 3, 2, 1 and 0 times in training, so RecBole's Pop ranks them by their number. It counts
# sampled items, too, and an item once in each batch, so none are sampled here, and batches are of one row.
TRAIN = {0: [0, 1, 2], 1: [0, 1, 3], 2: [0, 1, 2, 4], 3: [0, 1, 2], 4: [0, 3]}
VALID = {0: [3], 1: [2], 4: [1]}
TEST = {0: [4], 1: [4], 2: [3], 3: [3, 5], 4: [2]}
D = 1 / math.log2(3)  # the discount of rank 2
# By user, the ranks of the test items. Validation items stay candidates: 2, 2, 1, (1, 3), 2. Otherwise: 1, 1, 1,
# (1, 3), 1. Recall and NDCG are MMRec's: every test item is relevant, and the ideal DCG@k is over min(k, test items).
EXPECTED = {
    "train": {"recall@1": 0.3, "recall@2": 0.9, "ndcg@1": 0.4, "ndcg@2": (3 * D + 1 + 1 / (1 + D)) / 5},
    "train+valid": {"recall@1": 0.9, "recall@2": 0.9, "ndcg@1": 1.0, "ndcg@2": (4 + 1 / (1 + D)) / 5},
}
MMREC = ["--relevance", "threshold", "--relevance_threshold", "1"]


@pytest.fixture
def arguments(tmp_path):
    """Arguments of ``run`` with Pop on these interactions in MMRec's layout, with ratings from 1 to 5."""
    parts = enumerate((TRAIN, VALID, TEST))
    rows = [(user, item, part) for part, of in parts for user, items in of.items() for item in items]
    table = pd.DataFrame(rows, columns=["userID", "itemID", "x_label"]).assign(rating=np.arange(len(rows)) % 5 + 1)
    (tmp_path / "raw").mkdir()
    table.to_csv(tmp_path / "raw" / "any.inter", sep="\t", index=False)
    np.save(tmp_path / "raw" / "text_feat.npy", np.eye(6))
    folders = {"--raw": "raw", "--data_path": "data", "--output_dir": "out"}
    given = [text for name, folder in folders.items() for text in (name, str(tmp_path / folder))]
    given += [
        "--model",
        "Pop",
        "--dataset",
        "tiny",
        "--no_references",
        "--topk",
        "[1, 2]",
        "--train_batch_size",
        "1",
        "--verbose",
    ]
    given += ["--train_neg_sample_args", "null"]
    return [*given, "--metrics", "[Recall, NDCG]", "--valid_metric", "full_recall@1"]


@pytest.mark.parametrize("mask", list(EXPECTED))
def test_test_items_are_ranked_among_what_the_mask_leaves(mask, arguments, tmp_path, capsys):
    assert main(["run", *arguments, "--mask", mask, "--candidates", "full", *MMREC]) == 0
    assert f"candidates=full, mask={mask}, relevance=threshold, threshold=1" in " ".join(
        capsys.readouterr().out.split()
    )
    result = read_result(tmp_path / "out" / "tiny" / "Pop" / "seed-2026")
    assert result["protocol"]["mask"] == mask
    for name, value in EXPECTED[mask].items():
        assert result["test"]["full"][name] == pytest.approx(value), name
        # RecBole's metrics, to four digits, of the same candidates; they count every test item as relevant.
        assert result["test"]["recbole"][name] == pytest.approx(value, abs=1e-4), name
    # Validation items 3, 2 and 1 of users 0, 1 and 4 rank first among those not in training, whatever the mask is.
    assert result["valid"]["full_recall@1"] == 1.0


def test_runs_with_other_masks_do_not_share_a_table(arguments, tmp_path, capsys):
    assert main(["run", *arguments, *MMREC]) == 0
    folders = [tmp_path / "out" / "tiny" / "Pop" / "seed-2026"]
    other = load(folders[0]).evaluate(mask="train", candidates="full")
    assert other.loc["Pop", ["recall@1"]].tolist() == pytest.approx([EXPECTED["train"]["recall@1"]])
    assert main(["run", *arguments, *MMREC, "--mask", "train", "--output_dir", str(tmp_path / "other")]) == 0
    folders.append(tmp_path / "other" / "tiny" / "Pop" / "seed-2026")
    with pytest.raises(DataError, match=re.escape("differ in protocol, mask: train+valid and train")):
        comparison_table(comparison_of(folders))
    # Results of earlier versions do not name the mask, which was train+valid.
    older = read_result(folders[0])
    del older["protocol"]["mask"]
    write_result(tmp_path / "older", older)
    assert read_result(tmp_path / "older")["protocol"]["mask"] == "train+valid"


def test_a_split_without_validation_has_one_ranking(make_experiment, train):
    """There is nothing that the masks could treat differently."""
    split = {"split": {"RS": [0.8, 0, 0.2]}, "group_by": "user", "order": "RO", "mode": "full"}
    results = []
    for mask in EXPECTED:
        experiment = make_experiment("ItemMean", eval_args=split, mask=mask)
        assert experiment.parts.valid is None
        results.append(train(experiment).evaluate_part(experiment.parts.test).metrics)
    assert results[0] == results[1] and results[0]["full_recall@20"] > 0


def test_training_items_are_masked_at_test_in_either_case(make_experiment):
    history = {}
    for mask in EXPECTED:
        parts = make_experiment("BPR", mask=mask).parts
        history[mask] = parts.test.full.uid2history_item
        trained = parts.train_dataset.inter_feat
        for user in parts.test.full.uid_list.tolist():
            of_user = set(trained["item_id"][trained["user_id"] == user].tolist())
            assert of_user <= set(history[mask][user].tolist())
            assert mask != "train" or of_user == set(history[mask][user].tolist())
    sizes = {mask: sum(len(items) for items in of if items is not None) for mask, of in history.items()}
    assert sizes["train"] < sizes["train+valid"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mask": "trian"}, "unknown value of 'mask'.*did you mean 'train'"),
        ({"mask": "train", "candidates": "sampled"}, "'mask' does not apply to candidates: sampled"),
    ],
)
def test_bad_masks(given, message):
    with pytest.raises(ConfigError, match=message):
        Protocol.from_config(given)
