"""The same seed gives the same numbers on the same machine, whatever the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import threadpoolctl
import torch

MODELS: dict[str, dict[str, Any]] = {
    "DReX": {},
    "NARRE": {"word_size": 8, "filters": 8},
    "LightGCN": {},
    "BPR": {},
}
# Sums that are split among threads are rounded otherwise: largest difference of a prediction after three epochs.
BETWEEN_THREADS = 1e-4


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_numbers(make_experiment, train, model):
    def trained(threads: int) -> tuple[list[np.ndarray], np.ndarray]:
        experiment = make_experiment(model, threads=threads, epochs=3, train_batch_size=128, **MODELS[model])
        trainer = train(experiment)
        assert torch.get_num_threads() == threads
        rows = trainer.evaluate_part(experiment.parts.test).rows
        return [value.numpy() for value in experiment.model.state_dict().values()], rows

    one, two = trained(1), trained(2)
    for (parameters, rows), threads in ((one, 1), (two, 2)):
        again, rows_again = trained(threads)
        assert all(map(np.array_equal, parameters, again)), f"with {threads} threads"
        np.testing.assert_array_equal(rows, rows_again)
    assert len(rows) > 100
    difference = np.abs(one[1][:, 3] - two[1][:, 3]).max()
    print(f"{model}: predictions differ by {difference:.1e} at most between 1 and 2 threads")
    assert difference < BETWEEN_THREADS


def test_threads_are_those_of_all_libraries(make_experiment):
    """Tastes are made by NumPy, whose products two threads round otherwise than one."""
    np.ones((2, 2)) @ np.ones((2, 2))
    for threads in (2, 1):
        make_experiment("Bias", threads=threads)
        used = [one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]
        assert used and set(used) == {threads}
