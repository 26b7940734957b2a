"""Vectors of items: their files, and how models get them."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from altered import copy_of

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.items.item_features import FOLDER, ItemFeatures, write_item_features
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.text.contextual_encoder import Encoder, load_encoder
from recbole_drex.data.text.tokenizer import TextProcessor
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.experiments.quick_start import run

ITEMS = ["a", "b", "c"]
TABLE = np.array([[1.0, 2.0], [0.0, 0.0], [-0.5, 4.0]], dtype=np.float32)


def test_vectors_come_back_in_the_order_asked_for_and_missing_ones_are_zero(tmp_path):
    write_item_features(tmp_path, ITEMS, {"text": TABLE, "image": TABLE[:, :1].astype(np.float64)})
    features = ItemFeatures(tmp_path)
    assert features.names == ["text", "image"]
    result = features.vectors("text", ["c", "unknown", "a"])
    np.testing.assert_array_equal(result, [[-0.5, 4.0], [0.0, 0.0], [1.0, 2.0]])
    assert result.dtype == np.float32
    assert json.loads((tmp_path / "items.json").read_text())["modalities"]["text"]["missing"] == 1
    write_item_features(tmp_path, ITEMS, {"text": TABLE})
    assert ItemFeatures(tmp_path).names == ["text"] and not (tmp_path / "image.npy").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE[:2], r"text\.npy has 2 rows for 3 items"),
        (TABLE[0], "a table of numbers"),
        (np.array([["x"]] * 3), "a table of numbers"),
        (np.zeros((3, 0)), "a table of numbers"),
        (np.where(TABLE == 4, np.nan, TABLE), r"text\.npy, row 2 \(item 'c'\) has NaN"),
        (np.where(TABLE == 2, np.inf, TABLE), r"row 0 \(item 'a'\)"),
        (np.where(TABLE == 2, 1e300, TABLE.astype(np.float64)), r"row 0 \(item 'a'\)"),
        (np.zeros((3, 2)), "only zeros"),
    ],
)
def test_vectors_that_cannot_be_used_are_refused_with_file_and_row(tmp_path, table, message):
    with pytest.raises(DataError, match=message):
        write_item_features(tmp_path, ITEMS, {"text": table})
    assert ItemFeatures(tmp_path).names == []  # an incomplete folder is ignored


def test_damage_is_noticed(tmp_path):
    write_item_features(tmp_path, ITEMS, {"text": TABLE})
    with pytest.raises(ConfigError, match="did you mean 'text'"):
        ItemFeatures(tmp_path).vectors("texts", ITEMS)
    (tmp_path / "text.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"text\.npy is missing or damaged"):
        ItemFeatures(tmp_path).vectors("text", ITEMS)
    (tmp_path / "items.json").write_text("[]")
    with pytest.raises(DataError, match=r"items\.json"):
        ItemFeatures(tmp_path)


def with_items(small, root):
    """A copy of ``small`` whose items have vectors of text, one of them none; gives the vectors by item."""
    copy_of(small.root, root, lambda frame: frame)
    items = sorted(set(pd.read_csv(root / "small" / "small.inter", sep="\t", dtype=str)["item_id:token"]))
    vectors = np.random.default_rng(3).normal(size=(len(items), 5)).astype(np.float32)
    vectors[7] = 0
    write_item_features(root / "small" / FOLDER, items, {"text": vectors})
    return dict(zip(items, vectors, strict=True))


def test_models_get_vectors_by_internal_id(small, make_experiment, tmp_path):
    vectors = with_items(small, tmp_path / "data")
    dataset = make_experiment("GlobalMean", data_path=str(tmp_path / "data")).parts.train_dataset
    assert dataset.item_modalities == ["text", "reviews"]
    result = dataset.item_vectors("text")
    assert not result[0].any()
    for number, token in enumerate(dataset.field2id_token["item_id"][1:], start=1):
        np.testing.assert_array_equal(result[number], vectors[token])
    evidence = dataset.evidence(("text",))
    np.testing.assert_array_equal(evidence.fields["text"], result[evidence.item])
    with pytest.raises(ConfigError, match="did you mean 'text'"):
        dataset.item_vectors("texts")


def test_the_reviews_of_an_item_are_those_of_training_alone(small, make_experiment):
    parts = make_experiment("GlobalMean").parts
    dataset, store = parts.train_dataset, parts.train_dataset.features()
    result = dataset.item_vectors("reviews")
    both = [(dataset.inter_feat, len(dataset.inter_feat)), (dataset.unrated, len(dataset.unrated))]
    for item in (1, 5, 17):
        means = []
        for feat, n in both:
            for row in range(n):
                index = int(feat["review_row"][row])
                if int(feat["item_id"][row]) != item or index < 0:
                    continue
                words = store.read(np.arange(store.offsets[index], store.offsets[index + 1])).double().numpy()
                if len(words):
                    means.append(words.mean(0))
        np.testing.assert_allclose(result[item], np.mean(means, axis=0), atol=1e-5)
    assert not result[0].any()
    # An item's reviews contain that of the target, so they are no modality of single interactions.
    with pytest.raises(ConfigError, match="unknown modality 'reviews'"):
        dataset.evidence(("reviews",))


def test_fields_of_an_item_file_are_modalities_too(small, make_experiment, tmp_path):
    root = copy_of(small.root, tmp_path / "data", lambda frame: frame)
    items = sorted(set(pd.read_csv(root / "small" / "small.inter", sep="\t", dtype=str)["item_id:token"]))
    path = root / "small" / "small.item"
    options = {
        "data_path": str(root),
        "load_col": {"inter": ["user_id", "item_id", "rating"], "item": ["item_id", "image"]},
    }
    table = pd.DataFrame({"item_id:token": items, "image:float_seq": ["", *(f"{n} 0.5" for n in range(1, len(items)))]})
    table.to_csv(path, sep="\t", index=False)
    dataset = make_experiment("GlobalMean", **options).parts.train_dataset
    assert dataset.item_modalities == ["image", "reviews"]
    result = dataset.item_vectors("image")
    number = dataset.token2id("item_id", items[3])
    assert result[number].tolist() == [3.0, 0.5]
    assert not result[dataset.token2id("item_id", items[0])].any()
    table.loc[4, "image:float_seq"] = "nan 1"
    table.to_csv(path, sep="\t", index=False)
    dataset = make_experiment("GlobalMean", **options).parts.train_dataset
    with pytest.raises(DataError, match=f"infinity for item '{items[4]}'"):
        dataset.item_vectors("image")
    assert isinstance(result, torch.Tensor)


# In the preparation ----------------------------------------------------------------------------------------------

LIMITS = {"user_min": 2, "item_min": 1, "threads": 1, "precision": "float32"}
META = [
    {"item_id": "i1", "title": "Chess", "categories": ["Board Games", "Toys"], "description": "A quiet duel."},
    {"item_id": "unused", "title": "Nobody bought this", "categories": [], "description": ""},
    {"item_id": "i0", "title": "", "categories": [], "description": ""},
    {"item_id": "i2", "title": "Loud trumpet", "categories": [], "description": ""},
]


@pytest.fixture
def shop(tmp_path):
    """Four users' reviews of three items, and an item file in another order with one more; gives ``prepare(...)``."""
    reviews = [
        {"user_id": f"u{user}", "item_id": f"i{item}", "rating": 1.0 + (user + item) % 5, "text": f"word{user} plain"}
        for user in range(4)
        for item in range(3)
    ]
    for name, rows in (("reviews", reviews), ("meta", META)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(rebuild=False, meta="meta.jsonl", raw=True, **parameters):
        config = Config("DReX", "shop", config_dict={**LIMITS, "data_path": str(tmp_path), **parameters})
        given = Sources((tmp_path / "reviews.jsonl",), tmp_path / meta if meta else None) if raw else Sources()
        return prepare("shop", tmp_path, config.preparation(), given, rebuild=rebuild)

    return run


def test_text_vectors_are_means_of_the_words_of_title_categories_and_description(shop, tmp_path):
    manifest = shop()
    assert manifest["items"] == {"text": {"width": 384, "missing": 1}}
    features = ItemFeatures(tmp_path / "shop" / FOLDER)
    assert features.items == ["i0", "i1", "i2"]
    vectors = features.vectors("text", ["i1", "i0", "i2"])
    encoder, processor = load_encoder(precision="float32"), TextProcessor()
    for row, text in ((0, "Chess. Board Games Toys. A quiet duel."), (2, "Loud trumpet")):
        words = encoder.encode([processor(text)])[0].astype(np.float64)
        np.testing.assert_allclose(vectors[row], words.mean(0), atol=2e-3)
    assert not vectors[1].any()
    # These vectors follow from the other files.
    names = ("shop.inter", "shop.item", "features/features.json")
    hashes = "".join(hashlib.sha256((tmp_path / "shop" / name).read_bytes()).hexdigest() for name in names)
    assert manifest["fingerprint"] == hashlib.sha256(hashes.encode()).hexdigest()[:16]


def test_without_any_text_there_is_no_text_modality(shop, tmp_path):
    rows = [{"item_id": "i0", "title": " "}, {"item_id": "i1", "title": "1 2 3"}]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shop()
    for meta in ("bare.jsonl", None):
        assert shop(meta=meta)["items"] == {}
        assert ItemFeatures(tmp_path / "shop" / FOLDER).names == []


def test_vectors_from_files_follow_the_rows_of_the_item_file(shop, tmp_path, monkeypatch):
    plain = shop()
    rows = np.arange(8.0).reshape(4, 2)
    rows[2] = 0
    np.save(tmp_path / "sound.npy", rows)
    monkeypatch.chdir(tmp_path)
    manifest = shop(item_features={"sound": "sound.npy"})
    assert manifest["items"]["sound"] == {"width": 2, "missing": 1}
    assert [source["name"] for source in manifest["sources"]] == ["reviews.jsonl", "meta.jsonl", "sound.npy"]
    features = ItemFeatures(tmp_path / "shop" / FOLDER)
    assert features.names == ["text", "sound"]
    np.testing.assert_array_equal(features.vectors("sound", ["i0", "i1", "i2"]), [[0, 0], [0, 1], [6, 7]])
    # The file belongs to the data set: other contents make another data set, and no file the first one again.
    before = (tmp_path / "shop" / "shop.json").stat().st_mtime_ns
    for raw in (True, False):
        assert shop(item_features={"sound": "sound.npy"}, raw=raw) == manifest
    assert (tmp_path / "shop" / "shop.json").stat().st_mtime_ns == before
    rows[0] = 9
    np.save(tmp_path / "sound.npy", rows)
    changed = shop(item_features={"sound": "sound.npy"})
    assert len({changed["fingerprint"], manifest["fingerprint"], plain["fingerprint"]}) == 3
    assert ItemFeatures(tmp_path / "shop" / FOLDER).vectors("sound", ["i1"]).tolist() == [[9, 9]]
    assert shop() == plain
    # Vectors of one's own take the place of encoded texts.
    own = shop(item_features={"text": "sound.npy"})
    assert own["items"] == {"text": {"width": 2, "missing": 1}} and own["fingerprint"] != plain["fingerprint"]


def test_an_item_that_the_item_file_does_not_name_lacks_the_modality(shop, tmp_path):
    (tmp_path / "short.jsonl").write_text("".join(json.dumps(row) + "\n" for row in META[:2]))
    np.save(tmp_path / "sound.npy", np.ones((2, 2)))
    manifest = shop(meta="short.jsonl", item_features={"sound": str(tmp_path / "sound.npy")})
    assert manifest["items"]["sound"]["missing"] == 2
    # Numbers for other items alone are of no use.
    np.save(tmp_path / "sound.npy", np.array([[0.0], [1.0]]))
    with pytest.raises(DataError, match=r"sound\.npy has only zeros for the 3 items"):
        shop(meta="short.jsonl", item_features={"sound": str(tmp_path / "sound.npy")})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones((3, 2)), r"bad\.npy has 3 rows for 4 items"),
        (np.array([[1.0], [np.nan], [1], [1]]), r"bad\.npy, row 1 \(item 'unused'\) has NaN"),
        (np.array([[1.0], [1], [1], [np.inf]]), r"bad\.npy, row 3 \(item 'i2'\)"),
        (np.array([[{}]] * 4, dtype=object), r"bad\.npy is not a readable .npy file of numbers.*[Oo]bject"),
        (np.float64(3), r"bad\.npy must be a table of numbers"),
        (b"something else", r"bad\.npy is not a readable .npy file"),
        (b"", r"bad\.npy is not a readable .npy file"),
        ({"a": np.ones((4, 2))}, r"bad\.npy has several arrays"),
        (None, r"no such raw file: .*bad\.npy"),
    ],
)
def test_files_of_vectors_that_cannot_be_used(shop, tmp_path, content, message):
    before = shop()
    path = tmp_path / "bad.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        with path.open("wb") as file:
            np.savez(file, **content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        shop(item_features={"sound": str(path)})
    assert shop(raw=False) == before, "what was prepared before is left as it was"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"meta": None, "item_features": {"sound": "a.npy"}}, "'item_features' needs an item file"),
        ({"item_features": {"review": "a.npy"}}, "name 'review' is taken"),
        ({"item_features": {"../a": "a.npy"}}, r"modality name '\.\./a' is not legal"),
        ({"item_features": {"sound": 3}}, "3 is not the path"),
        ({"images": "pictures"}, "'images' needs 'image_encoder'"),
        ({"images": 3, "image_encoder": "x"}, "'images' must be str but is 3"),
        ({"images": "x", "image_encoder": "x", "item_features": {"image": "a.npy"}}, "'image' is given twice"),
    ],
)
def test_parameters_that_do_not_fit(shop, given, message):
    with pytest.raises(ConfigError, match=message):
        shop(**given)


def test_item_features_must_be_a_mapping(shop):
    with pytest.raises(ConfigError, match="'item_features' must be dict"):
        shop(item_features=["sound.npy"])


def test_texts_are_encoded_again_only_when_they_change(shop, tmp_path, monkeypatch):
    shop(encoder="minilm")
    encode, calls = Encoder.encode, []
    monkeypatch.setattr(Encoder, "encode", lambda self, texts: calls.append(len(texts)) or encode(self, texts))
    path = tmp_path / "shop" / FOLDER / "text.npy"
    content = path.read_bytes()
    shop(bad_line_share=0.5, encoder="minilm")  # prepared again, with the same texts
    assert calls == [] and path.read_bytes() == content
    path.write_bytes(b"damaged")
    shop(bad_line_share=0.5, encoder="minilm")
    assert calls == [3] and path.read_bytes() == content
    shop(rebuild=True, bad_line_share=0.5, encoder="minilm")
    assert calls == [3, 3, 12] and path.read_bytes() == content
    (tmp_path / "meta.jsonl").write_text((tmp_path / "meta.jsonl").read_text().replace("trumpet", "drum"))
    shop(encoder="minilm")
    assert calls[3:] == [3] and path.read_bytes() != content


def test_three_modalities_by_configuration_alone(small, tmp_path):
    """DReX with ratings, reviews and item texts, and another file, on the prepared data."""
    manifest = json.loads((small.root / small.name / f"{small.name}.json").read_text())
    assert manifest["items"]["text"]["width"] == 384
    modalities = ["rating", "review", "text"]
    given = {**small.settings, "modalities": modalities, "epochs": 1, "data_path": str(small.root)}
    result = run(["DReX"], small.name, output=tmp_path, parameters=given, references=False)[0]
    assert result["config"]["modalities"] == modalities and result["status"] == "finished"
