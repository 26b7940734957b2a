"""Vectors of items from their images, by small vision models with random weights that are saved as real ones are."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import PREPARATION, SIDE, TINY
from transformers import AutoImageProcessor, CLIPConfig, CLIPModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

from recbole_drex.config.recbole_config import Config
from recbole_drex.data.items.image_encoder import ImageEncoder, load_image_encoder
from recbole_drex.data.items.images import image_files
from recbole_drex.data.items.item_features import FOLDER, ItemFeatures
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.errors import ConfigError, DataError


def saved(model, folder):
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARATION))
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A vision transformer of 2 layers, saved with its preprocessing."""
    return saved(ViTModel(ViTConfig(**TINY, image_size=SIDE, patch_size=8)), tmp_path_factory.mktemp("vit"))


def colours(height, width, channels, seed):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path):
    """Images of four items in all kinds: another size each, grey, with alpha, as JPEG."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, (height, width, channels) in {
        "i0.png": (40, 50, 3),
        "i1.PNG": (32, 32, 1),
        "i2.webp": (9, 70, 4),
    }.items():
        Image.fromarray(colours(height, width, channels, seed=height)).save(folder / name, lossless=True)
    Image.fromarray(colours(64, 64, 3, seed=5)).save(folder / "i3.jpeg")
    (folder / "notes.txt").write_text("no image")
    return folder


def expected(vit, pixels):
    """The pooled output for pixels (height, width, 3), computed step by step."""
    pixels = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) / 255
    pixels = (pixels - PREPARATION["image_mean"]) / PREPARATION["image_std"]
    model = ViTModel.from_pretrained(vit).eval()
    with torch.no_grad():
        return model(torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32)).pooler_output[0].numpy()


def test_vectors_are_the_pooled_output_of_the_prepared_image(vit, pictures):
    files = image_files(pictures, ["i2", "nothing", "i0", "i1"])
    assert [path and path.name for path in files] == ["i2.webp", None, "i0.png", "i1.PNG"]
    encoder = load_image_encoder(str(vit))
    result = encoder.encode(files)
    assert result.shape == (4, 16) and result.dtype == np.float32
    assert not result[1].any()
    np.testing.assert_allclose(result[2], expected(vit, colours(40, 50, 3, seed=40)), atol=1e-5)
    grey = np.repeat(colours(32, 32, 1, seed=32)[..., None], 3, axis=2)
    np.testing.assert_allclose(result[3], expected(vit, grey), atol=1e-5)
    # What is transparent lies on white.
    seen = colours(9, 70, 4, seed=9).astype(np.float64)
    alpha = seen[..., 3:] / 255
    on_white = np.rint(seen[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    np.testing.assert_allclose(result[0], expected(vit, on_white), atol=0.002)
    assert not np.allclose(result[0], expected(vit, colours(9, 70, 4, seed=9)[..., :3].copy()), atol=0.005)
    np.testing.assert_array_equal(encoder.encode(files), result)
    np.testing.assert_array_equal(load_image_encoder(str(vit)).encode(files), result)


def test_a_vector_depends_on_its_image_alone_to_the_last_bit(vit, pictures):
    encoder = load_image_encoder(str(vit))
    files = image_files(pictures, ["i0", "i1", "i2", "i3"])
    together = encoder.encode(files)
    for row, path in enumerate(files):
        np.testing.assert_array_equal(encoder.encode([path])[0], together[row])
    many = [files[k % 4] for k in range(37)]
    np.testing.assert_array_equal(encoder.encode(many), together[np.arange(len(many)) % 4])


def test_a_photograph_stands_upright(vit, tmp_path):
    image = Image.fromarray(colours(20, 30, 3, seed=1))
    turned = image.transpose(Image.Transpose.ROTATE_90)
    noted = Image.Exif()
    noted[0x0112] = 6  # to be turned by 90 degrees clockwise to stand upright
    turned.save(tmp_path / "a.png", exif=noted)
    image.save(tmp_path / "b.png")
    result = load_image_encoder(str(vit)).encode([tmp_path / "a.png", tmp_path / "b.png"])
    np.testing.assert_allclose(result[0], result[1], atol=1e-6)


def test_without_a_pooling_layer_the_last_hidden_states_are_averaged(vit, pictures, tmp_path):
    """A pooling layer that is made up at loading would differ every time."""
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((vit / name).read_text())
    weights = load_file(vit / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not key.startswith("pooler.")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    result = load_image_encoder(str(tmp_path)).encode([pictures / "i0.png"])
    processor, model = AutoImageProcessor.from_pretrained(vit), ViTModel.from_pretrained(vit).eval()
    with torch.no_grad():
        states = model(**processor(images=[Image.open(pictures / "i0.png")], return_tensors="pt")).last_hidden_state
    np.testing.assert_allclose(result[0], states[0].mean(0).numpy(), atol=1e-5)


def test_other_kinds_of_vision_models(pictures, tmp_path):
    text = {**TINY, "vocab_size": 20, "max_position_embeddings": 8, "eos_token_id": 1, "bos_token_id": 0}
    vision = {**TINY, "image_size": SIDE, "patch_size": 8}
    clip = saved(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)), tmp_path / "clip")
    convolution = ResNetConfig(embedding_size=8, hidden_sizes=[8, 24], depths=[1, 1], layer_type="basic")
    resnet = saved(ResNetModel(convolution), tmp_path / "resnet")
    for folder, width in ((clip, 16), (resnet, 24)):
        result = load_image_encoder(str(folder)).encode([pictures / "i0.png", None, pictures / "i3.jpeg"])
        assert result.shape == (3, width) and np.isfinite(result).all() and result[[0, 2]].any(1).all()


# In the preparation -----------------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path, pictures, vit):
    """Ratings of five items, of which four have images; gives ``prepare(...)``."""
    rows = [{"user_id": f"u{u}", "item_id": f"i{i}", "rating": 1.0 + (u + i) % 5} for u in range(4) for i in range(5)]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(raw=True, **parameters):
        given = {"user_min": 2, "item_min": 1, "images": str(pictures), "image_encoder": str(vit), **parameters}
        config = Config("DReX", "shop", config_dict={**given, "data_path": str(tmp_path)})
        sources = Sources((tmp_path / "reviews.jsonl",)) if raw else Sources()
        return prepare("shop", tmp_path, config.preparation(), sources)

    return run


def test_images_become_a_modality_and_are_encoded_once(shop, tmp_path, pictures, vit, monkeypatch):
    plain = shop(images=None, image_encoder=None)
    assert plain["items"] == {}
    manifest = shop()
    assert manifest["items"] == {"image": {"width": 16, "missing": 1}}
    assert manifest["fingerprint"] != plain["fingerprint"]
    result = ItemFeatures(tmp_path / "shop" / FOLDER).vectors("image", ["i4", "i0"])
    np.testing.assert_allclose(result[1], expected(vit, colours(40, 50, 3, seed=40)), atol=1e-5)
    assert not result[0].any()
    encode, calls = ImageEncoder.encode, []
    monkeypatch.setattr(ImageEncoder, "encode", lambda self, files: calls.append(len(files)) or encode(self, files))
    assert shop() == manifest == shop(raw=False)
    shop(bad_line_share=0.5)  # prepared again, with the same images
    assert calls == []
    Image.fromarray(colours(8, 8, 3, seed=6)).save(pictures / "i0.png")
    assert shop()["fingerprint"] not in (manifest["fingerprint"], plain["fingerprint"])
    assert calls == [1], "only the image that has changed is encoded"


@pytest.mark.parametrize("content", [b"no image", b"", None])
def test_an_image_that_cannot_be_decoded_is_named(shop, pictures, content):
    before = shop(images=None, image_encoder=None)
    path = pictures / "i1.PNG"
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(DataError, match=r"image .*i1\.PNG cannot be decoded"):
        shop()
    assert shop(images=None, image_encoder=None, raw=False) == before


def test_folders_that_are_of_no_use(shop, tmp_path, pictures):
    with pytest.raises(DataError, match=r"'images': there is no folder .*nowhere"):
        shop(images=str(tmp_path / "nowhere"))
    Image.new("RGB", (4, 4)).save(pictures / "i0.jpg")
    with pytest.raises(DataError, match=r"two images of one item: i0\.jpg and i0\.png"):
        shop()
    (tmp_path / "others").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "others" / "x.png")
    with pytest.raises(DataError, match=r"others has no image of any of the 5 items .* such as i0\.jpg"):
        shop(images=str(tmp_path / "others"))
    with pytest.raises(ConfigError, match="'images' needs 'image_encoder'"):
        shop(image_encoder=None)


def test_encoders_that_are_of_no_use(shop, tmp_path, vit):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((vit / name).read_text())
    weights = load_file(vit / "model.safetensors")
    with pytest.raises(DataError, match=r"image encoder .* has no model\.safetensors"):
        shop(image_encoder=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"image encoder .* cannot be loaded"):
        shop(image_encoder=str(tmp_path))
    save_file(dict(list(weights.items())[:-5]), tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="lacks weights, such as"):
        shop(image_encoder=str(tmp_path))
    save_file({key: value * np.nan for key, value in weights.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"returns NaN or infinite values for .*i0\.png"):
        shop(image_encoder=str(tmp_path))
    with pytest.raises(DataError, match=r"image encoder 'minilm': .* has no preprocessor_config\.json"):
        shop(image_encoder="minilm")
