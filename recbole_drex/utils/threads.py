"""The number of threads of computations."""

from __future__ import annotations

import threadpoolctl
import torch


def use_threads(number: int) -> None:
    """Let torch, and the products of NumPy and SciPy, use ``number`` threads in this process.

    The number of threads changes the rounding of sums, so reproducible results need equal numbers of threads.
    """
    torch.set_num_threads(number)
    threadpoolctl.threadpool_limits(number, user_api="blas")
