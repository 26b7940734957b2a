"""Arrays that are kept on disk, and objects that are kept in memory."""

import multiprocessing

import numpy as np
import pytest

from recbole_drex.utils.array_cache import kept, kept_in, latest


def squares(path, n=4, made=None, name="squares"):
    def make():
        with (path / "made.txt").open("a") as file:
            file.write("x")
        return {"squares": np.arange(n, dtype=np.float32) ** 2}

    return kept(name, {"n": n, "numbers": np.arange(n)}, make)["squares"]


def count(path):
    return len((path / "made.txt").read_text())


def in_folder(path):
    with kept_in(path / "kept"):
        squares(path)


def test_nothing_is_kept_unless_a_folder_is_named(tmp_path):
    np.testing.assert_array_equal(squares(tmp_path), squares(tmp_path))
    assert count(tmp_path) == 2 and [path.name for path in tmp_path.iterdir()] == ["made.txt"]


def test_equal_inputs_share_one_array_and_others_do_not(tmp_path):
    with kept_in(tmp_path / "kept"):
        first = squares(tmp_path)
        np.testing.assert_array_equal(squares(tmp_path), first)
        assert count(tmp_path) == 1
        assert len(squares(tmp_path, n=5)) == 5
        squares(tmp_path, name="others")
        assert count(tmp_path) == 3
        for path in (tmp_path / "kept").glob("*.safetensors"):
            path.write_bytes(path.read_bytes()[:20])
        np.testing.assert_array_equal(squares(tmp_path), first)
        assert count(tmp_path) == 4
    squares(tmp_path)
    assert count(tmp_path) == 5


@pytest.mark.parametrize("n", [4])
def test_two_processes_make_it_once(tmp_path, n):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=in_folder, args=(tmp_path,)) for _ in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert all(process.exitcode == 0 for process in processes) and count(tmp_path) == 1


def test_the_latest_object_is_shared_until_other_inputs_come():
    def make(n, name="latest"):
        return latest(name, {"numbers": np.arange(n)}, lambda: np.arange(n) ** 2)

    first = make(4)
    assert make(4) is first and make(4, "another") is not first and make(4) is first
    np.testing.assert_array_equal(make(5), [0, 1, 4, 9, 16])
    assert make(4) is not first
    np.testing.assert_array_equal(make(4), first)
