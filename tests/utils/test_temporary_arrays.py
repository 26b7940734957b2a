"""Arrays in files without a name."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest

from recbole_drex.errors import DrexError
from recbole_drex.utils.temporary_arrays import scratch_array


def test_an_array_of_zeros_that_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = scratch_array((300, 7), np.float32)
    assert (array.shape, array.dtype, array.any()) == ((300, 7), np.float32, False)
    array[5] = 2.5
    assert array.sum() == 17.5 and not list(tmp_path.iterdir())
    assert scratch_array((0, 7), np.float16).shape == (0, 7)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(DrexError, match=r"cannot write 2,000 bytes to .*none: No such file") as caught:
        scratch_array((500,), np.float32)
    assert "\n" not in str(caught.value)
