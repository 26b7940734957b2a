"""Checkpoints: what is saved comes back, and damage is noticed."""

from __future__ import annotations

import math
import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.sparse
import torch
from safetensors.torch import save_file

from recbole_drex.errors import CheckpointError, DataError
from recbole_drex.utils import checkpoint


def same(one, other) -> bool:
    """Equal in type, structure and every bit; NaN equals NaN."""
    if isinstance(one, torch.Tensor) and one.is_sparse:
        return other.is_sparse and one.shape == other.shape and torch.equal(one.to_dense(), other.to_dense())
    if isinstance(one, torch.Tensor):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and torch.equal(one.nan_to_num(7), other.nan_to_num(7))
        )
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if scipy.sparse.issparse(one):
        return one.format == other.format and one.shape == other.shape and (one != other).nnz == 0
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def tree() -> dict:
    matrix = scipy.sparse.random(5, 7, 0.4, format="csr", random_state=0)
    return {
        "nothing": None,
        "numbers": [1, -2.5, True, float("inf"), float("nan"), 2**70],
        "text": "Grüße\n\"'",
        "tuple": (1, (2, [3, ()]), {}),
        0: {1: {2: torch.arange(3)}, -7: "negative"},
        (1, "a"): "a tuple is a key",
        "tensors": {
            "float": torch.randn(3, 4),
            "half": torch.randn(5).half(),
            "bfloat": torch.randn(5).bfloat16(),
            "double": torch.tensor([math.nan, -0.0, 1e300], dtype=torch.float64),
            "bool": torch.tensor([True, False]),
            "byte": torch.arange(5, dtype=torch.uint8),
            "scalar": torch.tensor(3),
            "empty": torch.empty(0, 4),
            "strided": torch.arange(12).reshape(3, 4).T,
            "sparse": torch.sparse_coo_tensor([[0, 2, 2], [1, 0, 0]], [1.0, 2.0, 3.0], (4, 5)),
        },
        "arrays": [np.arange(4), np.zeros((0, 2), dtype=np.float32), np.array(5.0), np.array([True])],
        "matrices": [matrix, matrix.tocoo(), matrix.tocsc(), scipy.sparse.csr_matrix((3, 3))],
        "random": {"python": random.getstate(), "numpy": np.random.RandomState(3).get_state()},
    }


def test_round_trip(tmp_path):
    saved = tree()
    checkpoint.save(tmp_path / "a.safetensors", saved)
    loaded = checkpoint.load(tmp_path / "a.safetensors")
    for key in saved:
        assert same(saved[key], loaded[key]), key
    random.setstate(loaded["random"]["python"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_tensors_that_share_memory_and_parameters(tmp_path):
    base = torch.arange(10.0)
    parameter = torch.nn.Parameter(base[2:6])
    checkpoint.save(tmp_path / "a", {"one": base, "view": base[:3], "parameter": parameter})
    loaded = checkpoint.load(tmp_path / "a")
    assert torch.equal(loaded["one"], base)
    assert torch.equal(loaded["view"], base[:3])
    assert torch.equal(loaded["parameter"], parameter)
    assert not loaded["parameter"].requires_grad


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec="utf-8")))
trees = st.recursive(
    leaves | st.lists(st.floats(width=32), max_size=4).map(torch.tensor),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(st.characters(codec="utf-8")), st.integers()), inner, max_size=4),
    ),
    max_leaves=12,
)


@hypothesis.given(trees)
@hypothesis.settings(deadline=None, max_examples=60)
def test_any_tree_comes_back(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("tree") / "a"
    checkpoint.save(path, value)
    assert same(value, checkpoint.load(path))


def test_state_of_an_optimiser(tmp_path):
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint.save(tmp_path / "a", optimizer.state_dict())
    loaded = checkpoint.load(tmp_path / "a")
    assert same(optimizer.state_dict(), loaded)
    torch.optim.Adam(layer.parameters()).load_state_dict(loaded)


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", 1j])
def test_other_types_are_refused_and_nothing_is_written(value, tmp_path):
    with pytest.raises(TypeError, match=type(value).__name__):
        checkpoint.save(tmp_path / "a", {"deep": [value]})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, {"weights": torch.randn(200, generator=torch.Generator().manual_seed(0)), "epoch": 3})
    return path


def test_every_truncation_is_noticed(saved):
    whole = saved.read_bytes()
    for size in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        saved.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            checkpoint.load(saved)


def test_every_flipped_bit_is_noticed(saved):
    whole = saved.read_bytes()
    for position in [*range(0, len(whole) - 800, 5), *range(len(whole) - 800, len(whole), 31)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1
        saved.write_bytes(damaged)
        try:
            loaded = checkpoint.load(saved)
        except CheckpointError:
            continue
        assert same(loaded, {"weights": torch.randn(200, generator=torch.Generator().manual_seed(0)), "epoch": 3}), (
            position
        )


def test_a_flipped_bit_among_the_tensors_names_the_hash(saved):
    damaged = bytearray(saved.read_bytes())
    damaged[-10] ^= 4
    saved.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="hash"):
        checkpoint.load(saved)


def test_files_that_are_not_ours(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.load(tmp_path / "absent")
    save_file({"weights": torch.ones(2)}, tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="not written by recbole_drex"):
        checkpoint.load(tmp_path / "foreign")
    save_file({"weights": torch.ones(2)}, tmp_path / "like-ours", metadata={"format": "1"})
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "like-ours")
    torch.save({"weights": torch.ones(2)}, tmp_path / "pickle.pth")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        checkpoint.load(tmp_path / "pickle.pth")
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)


def test_a_failed_save_leaves_the_older_one(saved):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        checkpoint.save(saved, {"weights": object()})
    assert saved.read_bytes() == before
    with pytest.raises(DataError):
        checkpoint.save(saved / "below-a-file", {"epoch": 1})
    assert saved.read_bytes() == before
