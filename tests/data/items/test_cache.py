"""What was computed once is read back, whatever happens in between."""

import json

import numpy as np
import pytest

from recbole_drex.data.items.cache import Cache, cache_key
from recbole_drex.errors import StorageError


def halves(numbers):
    return np.array([[number / 2, -number] for number in numbers])


def test_vectors_are_computed_once_in_batches_and_come_back_in_order(tmp_path):
    calls = []

    def make(numbers):
        calls.append(numbers)
        return halves(numbers)

    numbers = [4, 1, 4, 3, 2]
    keys = [cache_key("model", number) for number in numbers]
    for _ in range(2):
        result = Cache(tmp_path / "new" / "v.jsonl").vectors(numbers, keys, make, 2, "")
        np.testing.assert_array_equal(result, halves(numbers).astype(np.float32))
        assert result.dtype == np.float32
    assert calls == [[4, 1], [3, 2]], "equal items once"
    assert cache_key("model", 1) != cache_key("other", 1)


def test_an_interruption_loses_one_batch_at_most(tmp_path):
    def broken(numbers):
        if 3 in numbers:
            raise KeyboardInterrupt
        return halves(numbers)

    keys = list("abcd")
    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path / "v.jsonl").vectors([1, 2, 3, 4], keys, broken, 2, "")
    with (tmp_path / "v.jsonl").open("ab") as file:
        file.write(b'\n{"key": "c", "val')  # half a line
    calls = []
    cache = Cache(tmp_path / "v.jsonl")
    cache.vectors([1, 2, 3, 4], keys, lambda numbers: calls.append(numbers) or halves(numbers), 2, "")
    assert calls == [[3, 4]]
    np.testing.assert_array_equal(
        Cache(tmp_path / "v.jsonl").vectors([4, 1], ["d", "a"], broken, 2, ""), halves([4, 1])
    )


def test_a_damaged_line_is_computed_again(tmp_path):
    texts, path = ["one", "größer\n"], tmp_path / "t.jsonl"
    assert Cache(path).texts(texts, ["a", "b"], str.upper, "") == ["ONE", "GRÖSSER\n"]
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    assert lines[0]["value"] == "ONE"
    path.write_text(path.read_text().replace("ONE", "TWO") + "\n[1]\nnull\n")
    assert Cache(path).texts(texts, ["a", "b"], str.title, "") == ["One", "GRÖSSER\n"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/t\.jsonl"):
        Cache(tmp_path / "file" / "t.jsonl").texts(["a"], ["a"], str.upper, "")
