"""How many threads computations share."""

from __future__ import annotations

import threadpoolctl
import torch


def use_threads(number: int) -> None:
    """Let torch, and the products of NumPy and SciPy, use ``number`` threads in this process.

    Sums that threads share are rounded otherwise, so equal numbers ask for equal threads in all of these libraries.
    """
    torch.set_num_threads(number)
    threadpoolctl.threadpool_limits(number, user_api="blas")
