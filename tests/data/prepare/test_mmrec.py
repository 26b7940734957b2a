"""Folders in MMRec's layout: a split that is given, and vectors of items by row."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import ViTConfig, ViTModel

from recbole_drex.cli.doctor import diagnose
from recbole_drex.cli.main import main
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.items.item_features import FOLDER, ItemFeatures
from recbole_drex.data.prepare.mmrec import read_mmrec
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources, find_sources
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.experiments.compare import compare
from recbole_drex.experiments.run import load_experiment
from recbole_drex.results.run_result import read_interactions, read_result

USERS, ITEMS = 24, 20
LABELS = {"train": 0, "valid": 1, "test": 2}


def interactions():
    """Per user 10 items in random order, one of them for validation and two for the test; item 19 occurs."""
    rng = np.random.default_rng(4)
    chosen = [(user, item) for user in range(USERS) for item in rng.choice(ITEMS, 10, replace=False)]
    table = pd.DataFrame(chosen, columns=["userID", "itemID"])
    table["rating"] = rng.integers(1, 6, len(table)).astype(float)
    table["timestamp"] = 1_400_000_000 + np.arange(len(table))
    table["x_label"] = np.tile([2, 0, 0, 1, 0, 0, 0, 2, 0, 0], USERS)
    return table.sample(frac=1, random_state=1, ignore_index=True)


def write(folder, table=None, image=None, text=None):
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    (interactions() if table is None else table).to_csv(folder / "any.inter", sep="\t", index=False)
    image = rng.normal(size=(ITEMS, 6)) if image is None else image
    text = rng.normal(size=(ITEMS + 2, 4)).astype(np.float32) if text is None else text
    text[3] = 0
    np.save(folder / "image_feat.npy", image)
    np.save(folder / "text_feat.npy", text)
    return image, text


@pytest.fixture
def raw(tmp_path):
    write(tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def made(tmp_path):
    """``made(raw, **parameters)``: the manifest of data set ``baby``; without ``raw``, of what is prepared."""

    def run(raw=None, rebuild=False, **parameters):
        config = Config("DReX", "baby", config_dict={**parameters, "data_path": str(tmp_path / "data")})
        return prepare("baby", tmp_path / "data", config.preparation(), Sources(mmrec=raw), rebuild=rebuild)

    return run


def files(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def stored(folder, part, name="baby"):
    return pd.read_csv(folder / name / f"{name}.{part}.inter", sep="\t")


def test_ablation_of_a_model_of_item_vectors_takes_those_of_the_data(made, raw, tmp_path):
    made(raw)
    parameters = {"epochs": 1, "embedding_size": 4, "threads": 1}
    options = {"data_path": tmp_path / "data", "output": tmp_path / "results", "references": False, "ablate": True}
    comparison = compare(["LIRDRec"], ["baby"], seeds=[1], parameters=parameters, **options)
    assert not comparison.failures
    labels = {run.label for run in comparison.runs}
    assert {"LIRDRec", "LIRDRec+item_modalities=[image]", "LIRDRec+blocks=[text,shared]"} <= labels
    assert not [label for label in labels if "reviews" in label]


def test_every_row_goes_to_the_part_that_its_label_names(made, raw, tmp_path):
    manifest = made(raw)
    table = interactions()
    for part, label in LABELS.items():
        expected = table[table["x_label"] == label].iloc[:, :4].reset_index(drop=True)
        result = stored(tmp_path / "data", part)
        assert list(result) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
        np.testing.assert_array_equal(result.to_numpy(), expected.to_numpy())
    assert manifest["benchmark"] == ["train", "valid", "test"]
    assert manifest["items"] == {"image": {"width": 6, "missing": 0}, "text": {"width": 4, "missing": 1}}
    assert manifest["statistics"]["interactions"] == 240 and manifest["statistics"]["missing_review"] == 1
    assert [step["interactions"] for step in manifest["counts"]] == [168, 24, 48]
    before = files(tmp_path / "data" / "baby")
    assert made(raw) == made() == manifest == made(user_min=100), "filters do not apply"
    assert files(tmp_path / "data" / "baby") == before
    assert made(raw, rebuild=True) == manifest
    # Another label, or another number of an item, is another data set.
    table.loc[table["x_label"] == 1, "x_label"] = 2
    table.loc[0, "x_label"] = 1
    write(raw, table)
    changed = made(raw)
    image = np.load(raw / "image_feat.npy")
    image[0, 0] += 1
    np.save(raw / "image_feat.npy", image)
    assert len({manifest["fingerprint"], changed["fingerprint"], made(raw)["fingerprint"]}) == 3


def test_runs_honour_the_split_and_know_the_vectors(tmp_path, raw, capsys):
    arguments = ["--dataset", "baby", "--data_path", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
    arguments += ["--epochs", "1", "--threads", "1", "--measured_users", "0"]
    assert main(["run", "--model", "BPR", "--raw", str(raw), *arguments]) == 0
    output = capsys.readouterr().out
    assert "split: given with the data (train, valid, test)" in " ".join(output.split())
    folder = tmp_path / "out" / "baby" / "BPR" / "seed-2026"
    result = read_result(folder)
    assert (result["data"]["users"], result["data"]["items"]) == (USERS, ITEMS)
    rows = read_interactions(folder)
    table = interactions()
    for part, label in LABELS.items():
        expected = table[table["x_label"] == label]
        results = rows[rows["split"] == part]
        pairs = zip(results["user_id"].astype(int), results["item_id"].astype(int), results["rating"], strict=True)
        assert set(pairs) == set(zip(expected["userID"], expected["itemID"], expected["rating"], strict=True))
        assert len(results) == len(expected)
    # Another seed changes nothing about it, nor does the raw folder's absence.
    assert main(["run", "--model", "BPR", "--seeds", "7", "--no_references", *arguments]) == 0
    other = read_interactions(folder.with_name("seed-7"))
    key = ["user_id", "item_id", "split"]
    assert set(map(tuple, rows[key].to_numpy())) == set(map(tuple, other[key].to_numpy()))
    before = (folder / "result.json").stat().st_mtime_ns
    assert main(["run", "--model", "BPR", "--resume", *arguments]) == 0
    assert (folder / "result.json").stat().st_mtime_ns == before
    experiment = load_experiment(folder)
    dataset = experiment.parts.train_dataset
    assert len(dataset) == 168 and dataset.item_modalities == ["image", "text"]
    results = dataset.item_vectors("image")
    for number, token in enumerate(dataset.field2id_token["item_id"][1:], start=1):
        np.testing.assert_allclose(results[number], np.load(raw / "image_feat.npy")[int(token)], rtol=1e-6)


def test_drex_without_reviews(tmp_path, raw, capsys):
    arguments = ["--dataset", "baby", "--data_path", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
    arguments += ["--raw", str(raw), "--epochs", "1", "--threads", "1", "--measured_users", "0", "--no_references"]
    assert main(["run", *arguments]) == 0
    assert "DReX reads ratings only" in "".join(capsys.readouterr())
    for modalities in ("[rating,text]", "[rating,image,text]"):
        assert main(["run", "--modalities", modalities, "--taste", "[]", "--overwrite", *arguments]) == 0
    result = read_result(tmp_path / "out" / "baby" / "DReX" / "seed-2026")
    assert result["split"] == "given with the data (train, valid, test)"
    assert result["config"]["modalities"] == ["rating", "image", "text"]


@pytest.mark.parametrize("model", ["LIRDRec", "VBPR"])
def test_models_of_item_vectors_take_those_that_there_are(tmp_path, raw, capsys, model):
    arguments = ["--dataset", "baby", "--data_path", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    arguments += ["--raw", str(raw), "--epochs", "1", "--threads", "1", "--no_references"]
    assert main(["run", "--model", model, *arguments]) == 0
    output = f"{model} describes items by image, text: the data set has no reviews"
    assert output in "".join(capsys.readouterr())
    folder = tmp_path / "out" / "baby" / model / "seed-2026"
    assert read_result(folder)["config"]["item_modalities"] == ["image", "text"]
    score = load_experiment(folder).model.full_sort_predict({"user_id": torch.tensor([1])})
    before = (folder / "result.json").read_bytes()
    assert main(["run", "--model", model, "--resume", *arguments]) == 0
    assert (folder / "result.json").read_bytes() == before
    assert main(["run", "--model", model, "--item_modalities", "[image,text]", "--overwrite", *arguments]) == 0
    assert output not in "".join(capsys.readouterr())
    torch.testing.assert_close(load_experiment(folder).model.full_sort_predict({"user_id": torch.tensor([1])}), score)
    assert main(["run", "--model", model, "--item_modalities", "[reviews]", "--overwrite", *arguments]) == 2
    assert "unknown value of 'item_modalities': 'reviews'" in capsys.readouterr().err


def test_comparisons(tmp_path, raw, made):
    made(raw)
    options = {"seeds": [1], "data_path": tmp_path / "data", "output": tmp_path / "out", "references": False}
    models = ["BPR", "Bias", "DReX+modalities=[rating,text]+taste=[]"]
    parameters = {"epochs": 1, "threads": 1, "explained_users": 0, "measured_users": 0}
    comparison = compare(models, ["baby"], parameters=parameters, **options)
    assert not comparison.failures and len(comparison.runs) == 3
    written = files(tmp_path / "out" / "baby")
    compare(models, ["baby"], parameters=parameters, **options)
    assert files(tmp_path / "out" / "baby") == written, "all reused"
    folds = compare(["Bias"], ["baby"], parameters=parameters, folds=3, name="folds", **options)
    assert len(folds.failures) == 3
    assert "is already split" in (tmp_path / "out" / "baby" / "Bias" / "seed-1-fold-0" / "error.log").read_text()


def test_rating_and_timestamp_may_be_absent_and_names_may_be_recboles(tmp_path, raw, made):
    table = interactions().drop(columns=["rating", "timestamp"])
    write(raw, table.rename(columns={"userID": "user_id", "itemID": "item_id"}))
    with (raw / "any.inter").open("a") as file:
        file.write("\n")  # a blank line at the end says nothing
    assert made(raw)["statistics"]["rating_levels"] == [1.0]
    assert list(stored(tmp_path / "data", "test")) == ["user_id:token", "item_id:token", "rating:float"]
    arguments = ["--dataset", "baby", "--data_path", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
    assert main(["run", "--model", "BPR", *arguments, "--epochs", "1", "--no_references"]) == 0


def change(table, row, column, value):
    return table.astype(object).assign(**{column: [value if i == row else old for i, old in enumerate(table[column])]})


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda table: change(table, 4, "x_label", 3), r"any\.inter:6: x_label '3' is not a part.* \(such rows: 1\)"),
        (lambda table: change(table, 4, "x_label", ""), r"any\.inter:6: x_label '' is not a part"),
        (lambda table: change(table, 0, "userID", "A1"), r"any\.inter:2: userID 'A1' is not an id"),
        (lambda table: change(table, 7, "itemID", -1), r"any\.inter:9: itemID '-1' is not an id"),
        (lambda table: change(table, 7, "itemID", "1.5"), r"any\.inter:9: itemID '1\.5' is not an id"),
        (lambda table: change(table, 2, "rating", "good"), r"any\.inter:4: rating 'good' is not a number"),
        (lambda table: change(table, 2, "rating", "inf"), r"any\.inter:4: rating 'inf' is not a number"),
        (lambda table: change(table, 2, "timestamp", ""), r"any\.inter:4: timestamp '' is not a number"),
        (lambda table: table[table["x_label"] != 1], r"any\.inter: no row has x_label 1, so the valid part is empty"),
        (lambda table: table.iloc[:0], r"any\.inter: no row has x_label 0"),
        (lambda table: table.drop(columns="x_label"), r"any\.inter: no column 'x_label' in the header; found: userID"),
        (lambda table: table.drop(columns="itemID"), r"any\.inter: no column 'itemID'"),
        (
            lambda table: pd.concat([table, table.iloc[[5]].assign(x_label=1)]),
            r"any\.inter:242: user \d+ and item \d+ already occur in line 7",
        ),
        (
            lambda table: change(table, 3, "itemID", ITEMS),
            rf"image_feat\.npy has {ITEMS} rows, the last for item {ITEMS - 1}, but .*any\.inter names item {ITEMS}",
        ),
        (lambda table: change(table, 3, "itemID", 10**17), r"image_feat\.npy has 20 rows"),
    ],
)
def test_rows_that_cannot_be_used_are_named(raw, made, alter, message):
    before = made(raw)
    write(raw, alter(interactions()))
    with pytest.raises(DataError, match=message):
        made(raw)
    assert made() == before, "what was prepared before is left as it was"


def nan_in_row_two(image):
    image[2, 1] = np.nan
    return image


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "any.inter").unlink(), "must have one .inter file .*none"),
        (lambda folder: (folder / "b.inter").write_text(""), r"must have one .inter file .*any\.inter, b\.inter"),
        (lambda folder: (folder / "any.inter").write_text(""), r"cannot read .*any\.inter"),
        (lambda folder: (folder / "any.inter").write_bytes(b"userID\titemID\tx_label\n\xff\t1\t0\n"), "cannot read"),
        (
            lambda folder: [path.unlink() for path in folder.glob("*.npy")],
            r"no item vectors, such as image_feat",
        ),
        (lambda folder: (folder / "text_feat.npy").write_bytes(b"?"), r"text_feat\.npy is not a readable .npy file"),
        (
            lambda folder: np.save(folder / "image_feat.npy", nan_in_row_two(np.ones((ITEMS, 2)))),
            r"image_feat\.npy, row 2 \(item '2'\) has NaN",
        ),
        (lambda folder: np.save(folder / "image_feat.npy", np.zeros((ITEMS, 2))), r"image_feat\.npy has only"),
        (lambda folder: np.save(folder / "..a_feat.npy", np.ones((ITEMS, 2))), "modality name '..a' is not legal"),
        (lambda folder: np.save(folder / "rating_feat.npy", np.ones((ITEMS, 2))), "name 'rating' is taken"),
    ],
)
def test_folders_that_cannot_be_used(raw, made, change, message):
    before = made(raw)
    change(raw)
    with pytest.raises((DataError, ConfigError), match=message):
        made(raw)
    assert made() == before


PAIRS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=40, unique=True)


@settings(max_examples=30, deadline=None)
@given(PAIRS, st.randoms(use_true_random=False), st.booleans())
def test_any_table_comes_back_row_by_row(tmp_path_factory, pairs, random, rated):
    labels = [0, 1, 2, *(random.randrange(3) for _ in pairs[3:])]
    random.shuffle(labels)
    table = pd.DataFrame(pairs, columns=["userID", "itemID"]).assign(x_label=labels)
    if rated:
        table["rating"] = [random.uniform(-5, 5) for _ in pairs]
    path = tmp_path_factory.mktemp("mmrec") / "a.inter"
    table[random.sample(list(table), len(list(table)))].to_csv(path, sep="\t", index=False)
    frame = read_mmrec(path)
    np.testing.assert_array_equal(frame[["user_id", "item_id", "part"]], table[["userID", "itemID", "x_label"]])
    np.testing.assert_array_equal(frame["rating"], table["rating"] if rated else 1.0)


def test_short_rows_are_named(tmp_path):
    (tmp_path / "a.inter").write_text("userID\titemID\tx_label\n1\t2\t0\n1\t3\n")
    with pytest.raises(DataError, match=r"a\.inter:3: x_label '' is not a part"):
        read_mmrec(tmp_path / "a.inter")


def test_what_does_not_go_together(tmp_path, raw, made, small):
    with pytest.raises(ConfigError, match="--meta does not apply"):
        find_sources("baby", tmp_path, [raw], "meta.jsonl")
    made(raw)
    for parameter in ({"item_features": {"a": "a.npy"}}, {"fetch_images": True}):
        for source in (raw, None):
            with pytest.raises(ConfigError, match=f"'{next(iter(parameter))}' does not apply to an MMRec folder"):
                made(source, **parameter)
    reviews = Sources((small.raw["reviews"],))
    with pytest.raises(DataError, match=r"'baby' in .* was prepared from an MMRec folder and is not overwritten"):
        prepare("baby", tmp_path / "data", Config("DReX", "baby").preparation(), reviews)
    settings = Config("DReX", small.name, config_dict=small.settings).preparation()
    with pytest.raises(DataError, match=r"'small' in .* was prepared from reviews and is not overwritten"):
        prepare(small.name, small.root, settings, Sources(mmrec=raw))


def test_damage_is_noticed_and_put_right(tmp_path, raw, made):
    manifest = made(raw)
    folder = tmp_path / "data" / "baby"
    for name in ("baby.train.inter", "baby.test.inter", "items/text.npy", "items/items.json"):
        for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-5])):
            damage(folder / name)
            with pytest.raises(DataError, match=rf"{name.split('/')[-1]} is missing or damaged.*--raw"):
                made()
            assert "incomplete or damaged" in diagnose(tmp_path / "data")[0]
            assert made(raw) == manifest == made()
    assert "240 interactions" not in (report := diagnose(tmp_path / "data")[0])
    assert f"{manifest['fingerprint']}, {USERS} users, {ITEMS} items, complete" in report


def test_a_preparation_that_was_stopped_replaces_nothing(tmp_path, raw, made, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_drex.data.prepare.mmrec.write_item_features", stop)
    with pytest.raises(KeyboardInterrupt):
        made(raw)
    assert not (tmp_path / "data" / "baby").exists()
    monkeypatch.undo()
    before = made(raw)
    write(raw, interactions().assign(rating=3.0))
    monkeypatch.setattr("recbole_drex.data.prepare.mmrec.write_item_features", stop)
    with pytest.raises(KeyboardInterrupt):
        made(raw)
    assert made() == before


def test_pre_split_files_of_other_origin_are_used_as_they_are(tmp_path, raw, made, capsys):
    made(raw)
    for part in LABELS:
        path = tmp_path / "theirs" / "theirs" / f"theirs.{part}.inter"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((tmp_path / "data" / "baby" / f"baby.{part}.inter").read_bytes())
    before = files(tmp_path / "theirs" / "theirs")
    arguments = ["--dataset", "theirs", "--data_path", str(tmp_path / "theirs"), "--output_dir", str(tmp_path / "out")]
    assert main(["run", "--model", "Bias", "--no_references", *arguments]) == 0
    assert read_result(tmp_path / "out" / "theirs" / "Bias" / "seed-2026")["split"].startswith("given with the data")
    assert main(["prepare", *arguments[:4], "--raw", str(raw)]) == 2
    assert "theirs.train.inter was not prepared from raw files" in capsys.readouterr().err
    assert files(tmp_path / "theirs" / "theirs") == before
    (tmp_path / "theirs" / "theirs" / "theirs.valid.inter").unlink()
    assert main(["run", "--model", "Bias", *arguments]) == 2
    assert "theirs.valid.inter is missing" in capsys.readouterr().err


def test_prepare_prints_the_parts_and_the_vectors(tmp_path, raw, capsys):
    assert main(["prepare", "--dataset", "baby", "--data_path", str(tmp_path), "--raw", str(raw)]) == 0
    printed = capsys.readouterr().out
    for part, label in LABELS.items():
        rows = interactions().query(f"x_label == {label}")
        count = f"{part} 24 users {rows['itemID'].nunique()} items {len(rows)} interactions, {len(rows)} rated"
        assert count.split() in [line.split() for line in printed.splitlines()]
    assert "Vectors of items, text: 4 wide, missing for 1 items" in printed
    assert json.loads((tmp_path / "baby" / "seconds.json").read_text())["encode"] == 0


def test_the_benchmark_of_mmrec_runs_by_the_documented_command(tmp_path, raw, capsys):
    """Models of this project and of RecBole in one comparison under MMRec's conventions."""
    folders = ["--data_path", str(tmp_path / "data")]
    assert main(["prepare", "--dataset", "baby", "--raw", str(raw), *folders]) == 0
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    documented = re.search("recbole-drex (compare --datasets ml100k .*)\n", page)[1]
    changed = {"ml100k": "baby", "1000": "1", "full_recall@20": "full_recall@5"}
    arguments = [changed.get(word, word) for word in documented.split()]
    quick = ["--threads", "1", "--seeds", "1", "--measured_users", "0", "--explained_users", "0", "--topk", "[5]"]
    capsys.readouterr()
    assert main([*arguments, *folders, "--output_dir", str(tmp_path / "out"), *quick]) == 0
    conventions = "candidates=full, mask=train, relevance=threshold, threshold=1"
    assert conventions in " ".join(capsys.readouterr().out.split())
    table = (tmp_path / "out" / "comparison" / "table_full.csv").read_text(encoding="utf-8")
    for label in ("LIRDRec", "VBPR", "BPR", "LightGCN", "EASE+reg_weight=800", "DReX-implicit"):
        folder = tmp_path / "out" / "baby" / label / "seed-1"
        result = read_result(folder)
        assert result["protocol"]["mask"] == "train" and label in table
        assert result["test"]["full"]["users_without_relevant"] == 0, "every test item is relevant"
        assert result["test"]["full"]["itemcoverage@5"] > 0
        assert result["test"]["own_test"].get("mae") is None, "scores of implicit feedback are no ratings"


def test_images_of_items_come_with_a_folder(made, raw, tmp_path):
    """Named by the id of the item; the vectors of the folder stay."""
    (raw / "image_feat.npy").rename(raw / "sound_feat.npy")
    plain = made(raw)
    (tmp_path / "posters").mkdir()
    for item in (0, 2, 11):
        Image.new("RGB", (30, 40), (10 * item, 200, 90)).save(tmp_path / "posters" / f"{item}.png")
    vit = tiny_models.saved(ViTModel(ViTConfig(**tiny_models.VISION)), tmp_path / "vit")
    given = {"images": str(tmp_path / "posters"), "image_encoder": str(tiny_models.with_preparation(vit))}
    manifest = made(raw, **given)
    assert manifest["items"]["image"] == {"width": 16, "missing": ITEMS - 3}
    assert manifest["fingerprint"] != plain["fingerprint"]
    features = ItemFeatures(tmp_path / "data" / "baby" / FOLDER)
    vectors = features.vectors("image", [str(item) for item in range(ITEMS)])
    assert np.flatnonzero(vectors.any(1)).tolist() == [0, 2, 11]
    assert sorted(features.names) == ["image", "sound", "text"]
    assert made(raw, **given) == manifest == made(**given)
    with pytest.raises(DataError, match=r"prepared with other settings \(images was '.*posters'"):
        made()
    Image.new("RGB", (30, 40)).save(tmp_path / "posters" / "5.png")
    assert made(raw, **given)["items"]["image"]["missing"] == ITEMS - 4
    assert made(raw) == plain, "without images again"
    (raw / "sound_feat.npy").rename(raw / "image_feat.npy")
    with pytest.raises(ConfigError, match=r"'image' is given twice: by .*image_feat\.npy and by 'images'"):
        made(raw, **given)
    with pytest.raises(ConfigError, match="'image_captioner' needs 'item_encoder' for an MMRec folder"):
        made(raw, images=given["images"], image_captioner="x")
