"""Captions, images and texts become vectors of items when a data set is prepared; by small random models."""

import json

import numpy as np
import pytest
import tiny_models
from PIL import Image
from transformers import ViTConfig, ViTModel

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.items.captioner import Captioner, load_captioner, plain_caption
from recbole_drex.data.items.item_features import FOLDER, ItemFeatures
from recbole_drex.data.items.text_encoder import TextEncoder, load_text_encoder
from recbole_drex.data.prepare.item_modalities import CAPTIONS
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.utils.files import sha256

ITEMS = [f"i{k}" for k in range(5)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {
        name: str(getattr(tiny_models, name)(tmp_path_factory.mktemp(name))) for name in ("vit_gpt2", "blip", "gpt2")
    }
    vit = tiny_models.saved(ViTModel(ViTConfig(**tiny_models.VISION)), tmp_path_factory.mktemp("vit"))
    return {**made, "vit": str(tiny_models.with_preparation(vit))}


@pytest.fixture
def shop(tmp_path, folders):
    """Ratings of five items, of which four have images and three a title; gives ``prepare(...)``."""
    rows = [{"user_id": f"u{u}", "item_id": item, "rating": 1.0 + u} for u in range(4) for item in ITEMS]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = [
        {"item_id": item, "title": title} for item, title in zip(ITEMS, ["a red car", "film", "car"], strict=False)
    ]
    (tmp_path / "meta.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    (tmp_path / "pictures").mkdir()
    for k, item in enumerate(ITEMS[:4]):
        pixels = np.random.default_rng(k).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{item}.png")

    def run(raw=True, rebuild=False, **parameters):
        given = {
            "user_min": 2, "item_min": 1, "images": str(tmp_path / "pictures"), "image_captioner": folders["vit_gpt2"],
            "item_encoder": folders["gpt2"], "item_pooling": "last", **parameters,
        }  # fmt: skip
        config = Config("DReX", "shop", config_dict={**given, "data_path": str(tmp_path)})
        sources = Sources((tmp_path / "reviews.jsonl",), tmp_path / "meta.jsonl") if raw else Sources()
        return prepare("shop", tmp_path, config.preparation(), sources, rebuild=rebuild)

    return run


@pytest.fixture
def counted(monkeypatch):
    """The images that were described and the texts that were encoded."""
    calls = {Captioner: [], TextEncoder: []}
    describe, encode = Captioner.__call__, TextEncoder.encode
    monkeypatch.setattr(
        Captioner, "__call__", lambda self, path: calls[Captioner].append(path.stem) or describe(self, path)
    )
    monkeypatch.setattr(
        TextEncoder, "encode", lambda self, texts: calls[TextEncoder].extend(texts) or encode(self, texts)
    )
    return calls


def captions_in(folder):
    return [json.loads(line) for line in (folder / FOLDER / CAPTIONS).read_text().splitlines()]


def test_captions_lie_next_to_the_vectors_and_are_what_the_vectors_say(shop, tmp_path, folders, counted):
    manifest = shop()
    assert {name: entry["missing"] for name, entry in manifest["items"].items()} == {"text": 2, "caption": 1}
    captioner = load_captioner(folders["vit_gpt2"])
    captions = captions_in(tmp_path / "shop")
    assert [line["item_id"] for line in captions] == ITEMS[:4]
    for line in captions:
        path = tmp_path / "pictures" / f"{line['item_id']}.png"
        assert line["caption"] == plain_caption(captioner(path)) != ""
        assert (line["image"], line["model"], line["prompt"]) == (sha256(path), folders["vit_gpt2"], None)
    features, encoder = ItemFeatures(tmp_path / "shop" / FOLDER), load_text_encoder(folders["gpt2"], "last")
    vectors = features.vectors("caption", ITEMS)
    np.testing.assert_array_equal(vectors[:4], encoder.encode([line["caption"] for line in captions]))
    np.testing.assert_array_equal(features.vectors("text", ITEMS)[:3], encoder.encode(["a red car", "film", "car"]))
    assert not vectors[4].any()
    assert manifest["item_models"]["caption"] == {
        "image_captioner": captioner.settings, "item_encoder": encoder.settings
    }  # fmt: skip
    # Nothing is computed twice.
    for calls in counted.values():
        calls.clear()
    assert shop() == manifest == shop(raw=False)
    again = shop(bad_line_share=0.5)
    assert counted == {Captioner: [], TextEncoder: []} and again["fingerprint"] == manifest["fingerprint"]
    Image.new("RGB", (20, 20), "blue").save(tmp_path / "pictures" / "i2.png")
    assert shop()["fingerprint"] != manifest["fingerprint"]
    assert counted[Captioner] == ["i2"]
    pooled = shop(item_pooling="mean")
    assert pooled["fingerprint"] != shop()["fingerprint"] and counted[Captioner] == ["i2"]
    shop(rebuild=True)
    assert counted[Captioner] == ["i2", *ITEMS[:4]]
    with pytest.raises(DataError, match=r"was prepared with other settings \(caption_prompt was"):
        shop(raw=False, caption_prompt="red")
    assert len({line["caption"] for line in captions}) == 4


def test_an_interrupted_preparation_resumes(shop, tmp_path, monkeypatch, counted):
    describe = Captioner.__call__

    def killed(self, path):
        if path.stem == "i2":
            raise KeyboardInterrupt
        return describe(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Captioner, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            shop()
    assert counted[Captioner] == ["i0", "i1"]
    assert shop()["items"]["caption"]["missing"] == 1
    assert counted[Captioner] == ITEMS[:4]


def test_a_captioner_that_returns_nothing(shop, tmp_path, folders, monkeypatch, caplog):
    with pytest.raises(
        DataError, match=r"returns no words for any of 4 images.* Give another model or 'caption_prompt'"
    ):
        shop(image_captioner=folders["blip"])
    describe = Captioner.__call__
    monkeypatch.setattr(
        Captioner, "__call__", lambda self, path: "<p>**</p>" if path.stem == "i1" else describe(self, path)
    )
    assert shop()["items"]["caption"]["missing"] == 2
    assert "returns no words for 1 of 4 images" in caplog.text and "i1.png" in caplog.text
    assert captions_in(tmp_path / "shop")[1]["caption"] == ""


def test_without_an_item_encoder_captions_are_read_as_reviews_are(shop, folders):
    manifest = shop(
        image_captioner=folders["blip"], caption_prompt="a red film", item_encoder=None, image_encoder=folders["vit"]
    )
    widths = {name: entry["width"] for name, entry in manifest["items"].items()}
    assert widths == {"text": 384, "image": 16, "caption": 384}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": None}, "'image_captioner' .* needs 'images' or 'fetch_images'"),
        ({"image_captioner": None}, r"'images' needs 'image_encoder' \(efficientnet-lite0, .* or 'image_captioner'"),
        ({"item_features": {"caption": "a.npy"}}, "'caption' is given twice: .* with 'image_captioner'"),
        ({"item_pooling": "max"}, "'item_pooling'"),
        ({"item_pooling": "cls"}, "is a decoder, whose first state"),
    ],
)
def test_parameters_that_do_not_fit(shop, given, message):
    with pytest.raises(ConfigError, match=message):
        shop(**given)
