"""Reviews in RecBole's data set: targets, evidence and splits."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from altered import copy_of, pairs

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.dataset import ReviewDataset
from recbole_drex.data.splits import settle_relevance, split
from recbole_drex.errors import ConfigError, DataError

SELDOM = ["u9", "seldom", 3.0, 0.0, np.nan]  # what RecBole can sample as an item that the others have not rated
COLUMNS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float", "review_row:float")


def write(folder, rows, name="table", columns=COLUMNS):
    """Write atomic files by hand and return ``data_path``."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=list(columns)).to_csv(folder / name / f"{name}.inter", sep="\t", index=False)
    return folder


def dense(users: int = 4, items: int = 20) -> list[list]:
    """Everybody rates everything; the later, the higher the item's number."""
    return [[f"u{u}", f"i{i}", 1.0 + (u + i) % 5, 100.0 * i + u, np.nan] for u in range(users) for i in range(items)]


@pytest.fixture
def load(make_config):
    def make(root, name="table", **parameters):
        config = make_config("BPR", name, data_path=str(root), **parameters)
        return config, ReviewDataset(config)

    return make


def tokens(dataset, feat) -> list[tuple[str, str]]:
    return list(
        zip(
            dataset.id2token("user_id", np.asarray(feat["user_id"])),
            dataset.id2token("item_id", np.asarray(feat["item_id"])),
            strict=True,
        )
    )


def test_unrated_rows_are_evidence_and_never_targets(load, tmp_path):
    rows = [
        *dense(),
        SELDOM,
        ["u0", "extra", np.nan, 5.0, 0.0],
        ["u1", "extra", 4.0, 6.0, 1.0],
        ["u2", "extra", np.nan, np.nan, 2.0],
    ]
    config, dataset = load(write(tmp_path, rows))
    assert len(dataset) == 82
    assert tokens(dataset, dataset.unrated) == [("u0", "extra"), ("u2", "extra")]
    parts = split(config, dataset)
    sizes = 0
    for part in (parts.train_dataset, parts.valid.rows._dataset, parts.test.full._dataset):
        assert not torch.isnan(part.inter_feat["rating"]).any()
        assert not {("u0", "extra"), ("u2", "extra")} & set(tokens(dataset, part.inter_feat))
        sizes += len(part)
    assert sizes == 82
    evidence = parts.train_dataset.evidence()
    assert len(evidence) == len(parts.train_dataset) + 2
    assert torch.isnan(evidence.rating).tolist() == [False] * len(parts.train_dataset) + [True] * 2
    assert evidence.review_row[-2:].tolist() == [0, 2]
    assert evidence.timestamp[-2:].tolist() == [5.0, 0.0]
    held_out = pairs_of(dataset, parts.valid.rows._dataset) | pairs_of(dataset, parts.test.rows._dataset)
    known = {"user_id": evidence.user.numpy(), "item_id": evidence.item.numpy()}
    assert not held_out & set(tokens(dataset, known))


def pairs_of(dataset, part) -> set[tuple[str, str]]:
    return set(tokens(dataset, part.inter_feat))


def test_an_unrated_row_of_a_rated_pair_is_dropped(load, tmp_path):
    rows = [*dense(), ["u0", "i3", np.nan, 9e9, 7.0], ["u0", "i99", np.nan, 1.0, 8.0], ["u3", "i0", np.nan, 0.0, 9.0]]
    rows.append(["u9", "i3", np.nan, 1.0, 10.0])
    _, dataset = load(write(tmp_path, rows))
    assert len(dataset) == 80
    assert not {("u0", "i3"), ("u3", "i0")} & set(tokens(dataset, dataset.inter_feat)[80:])
    evidence_rows = set(np.asarray(dataset.unrated["review_row"]).astype(int).tolist())
    assert not evidence_rows & {7, 9}  # they might speak of a test row


def test_keep_unrated_false(load, tmp_path):
    rows = [*dense(), SELDOM, ["u0", "extra", np.nan, 5.0, 0.0], ["u1", "extra", 4.0, 6.0, 1.0]]
    config, dataset = load(write(tmp_path, rows), keep_unrated=False)
    assert len(dataset.unrated) == 0
    evidence = split(config, dataset).train_dataset.evidence()
    assert not torch.isnan(evidence.rating).any()


def test_other_fields_do_not_stand_in_the_way(load, tmp_path):
    """Token fields next to the ids, in rated and unrated rows, and vectors that only some rows have."""
    rows = [[*row, "web", "red green" if row[1] == "i3" else np.nan, "1.5 2.5"] for row in dense()]
    rows.append(["u9", "i3", np.nan, 5.0, 0.0, "shop", "blue", np.nan])
    rows.append(["u9", "i4", 3.0, 5.0, 0.0, "shop", np.nan, "3.5 4.5"])
    columns = [*COLUMNS, "source:token", "tags:token_seq", "vector:float_seq"]
    fields = [name.split(":")[0] for name in columns]
    _, dataset = load(write(tmp_path, rows, columns=columns), load_col={"inter": fields})
    dataset._change_feat_format()
    assert dataset.inter_feat["tags"].shape == (81, 2)
    assert sorted(dataset.inter_feat["vector"].tolist()) == [[1.5, 2.5]] * 80 + [[3.5, 4.5]]
    assert dataset.unrated["vector"].tolist() == [[0.0, 0.0]]
    assert set(dataset.unrated.columns) == {"user_id", "item_id", "rating", "timestamp", "review_row", "vector"}


def test_missing_times_and_reviews_are_marked_not_averaged(load, tmp_path):
    rows = dense()
    rows[3][3], rows[5][4] = np.nan, 11.0
    _, dataset = load(write(tmp_path, rows))
    row = dict(zip(tokens(dataset, dataset.inter_feat), dataset.inter_feat.to_dict("records"), strict=True))
    assert row["u0", "i3"]["timestamp"] == 0.0
    assert row["u0", "i3"]["review_row"] == -1.0
    assert row["u0", "i5"]["review_row"] == 11.0


def test_a_repeated_pair_counts_once_the_latest(load, tmp_path):
    rows = [*dense(), ["u1", "i4", 2.0, 1e6, 5.0]]
    _, dataset = load(write(tmp_path, rows))
    assert len(dataset) == 80
    row = dict(zip(tokens(dataset, dataset.inter_feat), dataset.inter_feat.to_dict("records"), strict=True))
    assert (row["u1", "i4"]["rating"], row["u1", "i4"]["timestamp"]) == (2.0, 1e6)


@pytest.mark.parametrize(("shares", "expected"), [([0.8, 0.1, 0.1], (16, 2, 2)), ([0.5, 0.25, 0.25], (10, 5, 5))])
@pytest.mark.parametrize("order", ("RO", "TO"))
def test_shares_and_order_of_the_split(shares, expected, order, load, tmp_path):
    eval_args = {"split": {"RS": shares}, "group_by": "user", "order": order, "mode": "full"}
    config, dataset = load(write(tmp_path, [*dense(), SELDOM]), eval_args=eval_args)
    parts = split(config, dataset)
    data = [parts.train_dataset, parts.valid.rows._dataset, parts.test.rows._dataset]
    times: dict[str, list[list[float]]] = {}
    for part, share in zip(data, expected, strict=True):
        users = Counter(user for user, _ in tokens(dataset, part.inter_feat) if user != "u9")
        assert set(users.values()) == {share}
        for user in users:
            own = part.inter_feat["user_id"] == dataset.token2id("user_id", user)
            times.setdefault(user, []).append(part.inter_feat["timestamp"][own].tolist())
    in_order = [max(early) < min(late) for parts in times.values() for early, late in itertools.pairwise(parts)]
    assert all(in_order) == (order == "TO")


def test_parts_are_disjoint_and_whole(make_experiment):
    experiment = make_experiment("DReX")
    train, valid, test = (pairs(experiment, part) for part in ("train", "valid", "test"))
    assert not (train & valid or train & test or valid & test)
    assert len(train | valid | test) == len(experiment.dataset)
    unrated = set(tokens(experiment.dataset, experiment.dataset.unrated))
    assert unrated and not unrated & (train | valid | test)


def test_the_review_of_a_row_stays_with_it(small, make_experiment):
    """Through filtering, sorting and splitting."""
    experiment = make_experiment("DReX")
    raw = pd.read_csv(small.root / small.name / f"{small.name}.inter", sep="\t")
    wanted = {
        (row[0], row[1]): (row[2], -1 if np.isnan(row[3]) else int(row[3]))
        for row in raw[["user_id:token", "item_id:token", "rating:float", "review_row:float"]].itertuples(index=False)
    }
    evidence, dataset = experiment.parts.train_dataset.evidence(), experiment.dataset
    result = tokens(dataset, {"user_id": evidence.user.numpy(), "item_id": evidence.item.numpy()})
    assert len(result) > 1000
    for pair, rating, row in zip(result, evidence.rating.tolist(), evidence.review_row.tolist(), strict=True):
        assert wanted[pair][1] == row
        assert wanted[pair][0] == rating or (np.isnan(rating) and np.isnan(wanted[pair][0]))


def test_shuffled_reviews_are_the_same_ones_elsewhere(make_experiment):
    own = make_experiment("DReX").parts.train_dataset.evidence()
    other = make_experiment("DReX", shuffle_reviews=True).parts.train_dataset.evidence()
    assert torch.equal(own.rating.nan_to_num(-1), other.rating.nan_to_num(-1))
    assert torch.equal(own.review_row.sort().values, other.review_row.sort().values)
    assert torch.equal(own.review_row < 0, other.review_row < 0)
    reviewed = own.review_row >= 0
    assert (own.review_row[reviewed] != other.review_row[reviewed]).float().mean() > 0.95


# Bad data ----------------------------------------------------------------------------------------------------------


def test_no_rated_rows(load, tmp_path):
    with pytest.raises(DataError, match="no rated interactions"):
        load(write(tmp_path, [["a", "x", np.nan, 1.0, 0.0]]))


def test_without_a_rating_column_every_interaction_is_one_and_relevant(load, tmp_path):
    rows = [row[:2] for row in [*dense(), SELDOM]]
    config, dataset = load(write(tmp_path, rows, columns=COLUMNS[:2]), load_col={"inter": ["user_id", "item_id"]})
    settle_relevance(config, dataset)
    assert config["relevance_threshold"] == 1.0
    assert [note.split(",")[0] for note in dataset.notes] == [
        "data set 'table' has no field 'rating' (RATING_FIELD)",
        "every rated item is relevant (relevance_threshold 1)",
    ]
    parts = split(config, dataset)
    assert sum(len(part) for part in (parts.train_dataset, parts.valid.rows._dataset, parts.test.rows._dataset)) == 81
    assert set(parts.train_dataset.inter_feat["rating"].tolist()) == {1.0}


def test_a_part_without_rows(load, tmp_path):
    config, dataset = load(write(tmp_path, [["a", "x", 3.0, 1.0, 0.0], ["b", "y", 3.0, 1.0, 0.0]]))
    with pytest.raises(DataError, match="leaves no validation rows"):
        split(config, dataset)


def test_no_items_are_left_to_sample(load, tmp_path):
    """RecBole's ranking models need items that a user has not interacted with."""
    config, dataset = load(write(tmp_path, dense()))
    with pytest.raises(DataError, match="interacted with all items"):
        split(config, dataset)


def test_pre_split_files(load, tmp_path):
    options = {"benchmark_filename": ["train", "valid", "test"]}
    frame = pd.DataFrame([*dense(), SELDOM], columns=list(COLUMNS))
    (tmp_path / "table").mkdir()
    chosen = np.arange(len(frame)) % 10
    masks = {"train": chosen < 8, "valid": chosen == 8, "test": chosen == 9}
    for part, mask in masks.items():
        frame[mask].to_csv(tmp_path / "table" / f"table.{part}.inter", sep="\t", index=False)
    config, dataset = load(tmp_path, **options)
    parts = split(config, dataset)
    for name, part in zip(
        masks, (parts.train_dataset, parts.valid.rows._dataset, parts.test.rows._dataset), strict=True
    ):
        expected = set(zip(frame[masks[name]]["user_id:token"], frame[masks[name]]["item_id:token"], strict=True))
        assert pairs_of(dataset, part) == expected
    frame.loc[3, "rating:float"] = np.nan
    frame[masks["train"]].to_csv(tmp_path / "table" / "table.train.inter", sep="\t", index=False)
    with pytest.raises(DataError, match="without a rating"):
        load(tmp_path, **options)


def test_an_unknown_modality_names_the_legal_ones(small, make_experiment, tmp_path):
    root = copy_of(small.root, tmp_path / "data", lambda frame: frame.assign(**{"image:float_seq": "0.5 0.25"}))
    fields = ["user_id", "item_id", "rating", "timestamp", "review_row", "image"]
    experiment = make_experiment("GlobalMean", data_path=str(root), load_col={"inter": fields})
    with pytest.raises(ConfigError, match=r"'imag'; did you mean 'image'\? Legal values: image, rating, review"):
        experiment.parts.train_dataset.evidence(("imag",))
    assert isinstance(experiment.config, Config)
    vectors = experiment.parts.train_dataset.evidence(("image",)).fields["image"]
    assert vectors[0].tolist() == [0.5, 0.25]


def hidden_parts(make_experiment, **parameters):
    """The whole training part, and the one that is left when something is hidden."""
    return tuple(
        make_experiment("Bias", **given).parts.train_dataset for given in ({}, {"hide_reviews": 0.0, **parameters})
    )


def keys_of(dataset, feat):
    return set(dataset.pair_key(feat["user_id"], feat["item_id"]).tolist())


def test_a_share_of_reviews_can_be_hidden_from_training(make_experiment):
    whole, half = hidden_parts(make_experiment, hide_reviews=0.5)
    reviewed = (whole.evidence().review_row >= 0).sum()
    assert (half.evidence().review_row >= 0).sum() == reviewed - round(0.5 * int(reviewed))
    assert keys_of(half, half.inter_feat) == keys_of(whole, whole.inter_feat)
    assert (half.inter_feat["rating"] == whole.inter_feat["rating"]).all()
    _, none = hidden_parts(make_experiment, hide_reviews=1.0)
    assert (none.evidence().review_row >= 0).sum() == 0 and len(none.unrated) == 0


def test_what_a_smaller_share_hides_a_larger_one_hides_too(make_experiment):
    for key in ("hide_reviews", "hide_ratings"):
        left = []
        for share in (0.25, 0.5, 0.75):
            part = hidden_parts(make_experiment, **{key: share})[1].evidence()
            there = part.review_row >= 0 if key == "hide_reviews" else ~part.rating.isnan()
            left.append(set(zip(part.user[there].tolist(), part.item[there].tolist(), strict=True)))
        assert left[0] > left[1] > left[2]


def test_a_hidden_rating_leaves_its_review_as_evidence_and_is_no_target(make_experiment):
    whole, part = hidden_parts(make_experiment, hide_ratings=0.75)
    targets, evidence = keys_of(part, part.inter_feat), keys_of(part, part.unrated)
    moved = keys_of(whole, whole.inter_feat) - targets
    reviewed = whole.inter_feat["review_row"] >= 0
    assert len(moved) == round(0.75 * int(reviewed.sum()))
    assert evidence == keys_of(whole, whole.unrated) | moved
    assert not moved & keys_of(whole, whole.inter_feat[~reviewed])
    everything = part.evidence()
    keys = part.pair_key(everything.user, everything.item)
    assert everything.rating[torch.isin(keys, torch.tensor(sorted(moved)))].isnan().all()


def test_hiding_leaves_validation_and_test_as_they_are(make_experiment):
    plain = make_experiment("Bias").parts
    hidden = make_experiment("Bias", hide_reviews=0.5, hide_ratings=0.5).parts
    for name in ("valid", "test"):
        one, other = getattr(plain, name).rows._dataset.inter_feat, getattr(hidden, name).rows._dataset.inter_feat
        for field in ("user_id", "item_id", "rating"):
            assert torch.equal(one[field], other[field])
        # Items whose rating is hidden are still no candidates.
        for user in one["user_id"].unique().tolist():
            history = getattr(plain, name).full.uid2history_item[user]
            assert set(history.tolist()) == set(getattr(hidden, name).full.uid2history_item[user].tolist())


# Order by time -----------------------------------------------------------------------------------------------------

BY_TIME = {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "TO", "mode": "full"}
END = np.inf


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        # The first row of validation and test is about item 16 at 1600 + the user's number. u9 has none.
        ({}, (1600, 1603, END)),
        ({"split": {"LS": "valid_and_test"}}, (1800, 1803, END)),
        ({"split": {"TS": [0.8, 0.1, 0.1]}}, (1600, 1503, 2)),
        ({"group_by": "none"}, (1600, 1600, 1600)),
        ({"order": "RO"}, None),
    ],
)
def test_rows_without_a_rating_are_evidence_only_before_what_is_held_out(changes, ends, load, tmp_path):
    times = [1, 2, 1599, 1600, 1602, 1603, 1799, 1800, 1802, 1803, 9999, np.nan]
    users = ("u0", "u3", "u9")
    rows = [*dense(), ["u8", "extra", 3.0, 2.0, np.nan], ["u9", "i0", 3.0, 2.0, np.nan]]
    rows += [[user, "extra", np.nan, time, 0.0] for user in users for time in times]
    config, dataset = load(write(tmp_path, rows), eval_args={**BY_TIME, **changes})
    train = split(config, dataset).train_dataset
    evidence = train.evidence()
    output = zip(dataset.id2token("user_id", evidence.user), evidence.timestamp.tolist(), strict=True)
    result = Counter(list(output)[len(train) :])
    if ends is None:
        expected = [(user, 0.0 if np.isnan(time) else time) for user in users for time in times]
    else:
        expected = [(user, time) for user, end in zip(users, ends, strict=True) for time in times if time < end]
    assert result == Counter(expected)
    n_dropped = len(users) * len(times) - len(expected)
    notes = [note for note in dataset.notes if "not evidence" in note]
    assert [note.split(" rows")[0] for note in notes] == ([f"{n_dropped} of 36"] if n_dropped else [])
