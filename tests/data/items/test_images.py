"""Pictures of every kind, and such as cannot be used, through a real image encoder."""

import numpy as np
import pytest
from PIL import Image
from tiny_models import SIDE, VISION, saved, with_preparation
from transformers import ViTConfig, ViTModel

from recbole_drex.data.items.image_encoder import load_image_encoder
from recbole_drex.data.items.images import LARGEST, opened
from recbole_drex.errors import DataError


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_image_encoder(
        str(with_preparation(saved(ViTModel(ViTConfig(**VISION)), tmp_path_factory.mktemp("vit"))))
    )


def test_an_animation_is_its_first_frame(encoder, tmp_path):
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "white")]
    for name in ("a.webp", "b.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert Image.open(tmp_path / name).n_frames == 3
        assert opened(tmp_path / name).getpixel((5, 5)) == (255, 0, 0)
    frames[0].save(tmp_path / "one.png")
    result = encoder.encode([tmp_path / "a.webp", tmp_path / "b.png", tmp_path / "one.png"])
    np.testing.assert_array_equal(result[0], result[2])
    np.testing.assert_array_equal(result[1], result[2])


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 50), (50, 1)])
def test_pictures_of_few_pixels_keep_their_colour(encoder, tmp_path, size):
    """Three rows or one are not mistaken for channels: a picture of one colour has one vector at any size."""
    colour = (200, 30, 90)
    Image.new("RGB", size, colour).save(tmp_path / "small.png")
    Image.new("RGB", (SIDE, SIDE), colour).save(tmp_path / "same.png")
    small, same = encoder.encode([tmp_path / "small.png", tmp_path / "same.png"])
    np.testing.assert_array_equal(small, same)


@pytest.mark.parametrize("name", ["large.jpg", "large.png"])
def test_a_picture_of_40_megapixels_is_reduced_in_proportion(encoder, tmp_path, name):
    Image.new("RGB", (8000, 5000), (10, 200, 90)).save(tmp_path / name, compress_level=1)
    assert opened(tmp_path / name).size == (LARGEST, LARGEST * 5 // 8)
    Image.new("RGB", (80, 50), (10, 200, 90)).save(tmp_path / "same.png")
    large, same = encoder.encode([tmp_path / name, tmp_path / "same.png"])
    np.testing.assert_allclose(large, same, atol=1e-3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_a_truncated_picture_is_named(tmp_path, name):
    pixels = np.random.default_rng(1).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"image .*{name} cannot be decoded"):
        opened(tmp_path / name)
