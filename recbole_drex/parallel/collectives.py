"""Processes that train one model together: the rank of this process, its share of the work, and how shares are joined.

Every process holds all data and draws the same batches. It computes the loss of its own rows. With B_p the rows
of process p, the loss of a batch B is the sum over p of |B_p| / |B| L(B_p) for every loss L that is a mean over rows,
and likewise for the gradient. So, up to rounding, parameters are the same as with one process.

RecBole's trainer and loaders support ``torch.distributed``. We do not use it: it repeats rows to make shares equal,
shuffles differently from one process, averages gradients and metrics of unequal shares as if they were equal, gives
parameters without a gradient one of zero (which weight decay and momentum then move), and needs a GPU.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from recbole_drex.errors import DrexError
from recbole_drex.recbole import Interaction

T = TypeVar("T")
_alone = False
_anchors: list[torch.Tensor] = []


def world_size() -> int:
    """Number of processes that work together; 1 without a group, and within :func:`alone`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _alone else 1


def rank() -> int:
    """Rank of this process; only process 0 writes files."""
    return dist.get_rank() if world_size() > 1 else 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Work without the other processes during the block, as if there were no group."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def span(n: int, rank: int, world_size: int) -> slice:
    """Slice of n items for one process: consecutive, and as many as for the others, or one more.

    Example:
        >>> [span(7, rank, 3) for rank in range(3)]
        [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """
    return slice(n * rank // world_size, n * (rank + 1) // world_size)


# Decisions ------------------------------------------------------------------------------------------------------------


def first_decides(function: Callable[[], T]) -> T:
    """Call ``function`` in the first process and return its result in all; the others wait and do not call it.

    Raises:
        DrexError: it was raised in the first process, and is raised in all.
    """
    if world_size() == 1:
        return function()
    if rank():
        message: list[Any] = [None]
        dist.broadcast_object_list(message, src=0)
        value, error = message[0]
        if error is not None:
            raise error
        return value
    try:
        with alone():
            value = function()
    except DrexError as error:
        dist.broadcast_object_list([(None, error)], src=0)
        raise
    dist.broadcast_object_list([(value, None)], src=0)
    return value


def gathered(value: T) -> list[T]:
    """The values of all processes, in rank order, in every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


# Training -------------------------------------------------------------------------------------------------------------


def own_rows(batch: Interaction, blocks: int = 1) -> tuple[Interaction, float]:
    """The rows of a batch that this process learns from, and their share in it.

    A batch with fewer rows than there are processes is given to all of them, each counting for the same share.

    Args:
        batch: n rows, the same in every process.
        blocks: number of equal consecutive blocks of the batch. Row k of a block belongs to row k
            of the others: RecBole puts all targets first, then one sampled item for each, then a second one, ...
    """
    world, n = world_size(), len(batch) // blocks
    if n < world:
        return batch, 1 / world
    own = own_part(n)

    def cut(column: torch.Tensor) -> torch.Tensor:
        return column.view(blocks, n, *column.shape[1:])[:, own].flatten(0, 1)

    return Interaction({name: cut(batch[name]) for name in batch.interaction}), (own.stop - own.start) / n


def largest_in_batch(values: torch.Tensor) -> torch.Tensor:
    """Maximum over a batch, where each process has the values of its rows (n,); without gradient."""
    largest = values.detach().max()
    if world_size() > 1:
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


def mean_over_batch(values: torch.Tensor) -> torch.Tensor:
    """Mean over a batch, where each process has the values of its rows (n,); without gradient."""
    total = torch.stack([values.detach().sum(), values.new_tensor(float(len(values)))])
    if world_size() > 1:
        dist.all_reduce(total)
    return total[0] / total[1]


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum the gradients over all processes; a parameter then has a gradient if it had one in any process."""
    parameters = list(parameters)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    there = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    total = torch.cat([there, *(gradient.flatten().to(there) for gradient in gradients)])
    dist.all_reduce(total)
    there, *sums = total.split([len(parameters), *(p.numel() for p in parameters)])
    for parameter, had, value in zip(parameters, there.tolist(), sums, strict=True):
        if had:
            parameter.grad = value.view_as(parameter).to(parameter)


def when_backward_is_done(loss: torch.Tensor, function: Callable[[], None]) -> None:
    """Call ``function`` at the end of the backward pass from ``loss``, when all gradients are computed."""
    engine: Any = torch.autograd.Variable._execution_engine
    loss.register_hook(lambda gradient: engine.queue_callback(function))


class _Joined(torch.autograd.Function):
    """Concatenate the rows of all processes; the gradient of a row is summed over the processes."""

    @staticmethod
    def forward(ctx, own: torch.Tensor, n: int) -> torch.Tensor:
        rows, world = own.new_empty(n, *own.shape[1:]), world_size()
        rows[own_part(n)] = own
        for source in range(world):
            part = rows[span(n, source, world)]
            if len(part):
                dist.broadcast(part, src=source)
        return rows

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[own_part(len(gradient))], None


def own_part(n: int) -> slice:
    """Slice of n shared items that this process computes; see :func:`joined`."""
    return span(n, rank(), world_size())


def joined(own: torch.Tensor, n: int) -> torch.Tensor:
    """Join n rows of which each process has computed a part; all processes must call this together.

    Args:
        own: the rows of :func:`own_part`. Their gradient is that of the sum of all processes' losses.
        n: number of rows, the same in all processes.

    Returns:
        Shape ``(n, ...)``.
    """
    if world_size() == 1:
        return own
    rows = _Joined.apply(own, n)
    if rows.requires_grad:
        _anchors.append(rows[:0].sum())
    return rows


def anchored(loss: torch.Tensor) -> torch.Tensor:
    """``loss`` that depends on all rows that were :func:`joined` since the last call.

    Their gradients are summed over the processes, so every process must compute them, even if its rows of the batch
    do not depend on them.
    """
    loss = loss + sum(_anchors)
    _anchors.clear()
    return loss


def union(numbers: torch.Tensor, n: int) -> torch.Tensor:
    """Sorted union of the processes' indices from 0 to n - 1; all processes must call this together."""
    named = torch.zeros(n, dtype=torch.uint8, device=numbers.device)
    named[numbers] = 1
    if world_size() > 1:
        dist.all_reduce(named, dist.ReduceOp.MAX)
    return torch.nonzero(named).flatten()


def total(values: Any) -> Any:
    """Sum over the processes of a number, or of each of a tuple of numbers; None stays None."""
    if world_size() == 1 or values is None:
        return values
    if isinstance(values, tuple):
        return tuple(sum(parts) for parts in zip(*gathered(values), strict=True))
    return sum(gathered(values))


def align(model: torch.nn.Module, seed: int, epoch: int) -> None:
    """Copy the parameters and buffers of the first process to all, and the state of the shared random numbers.

    Batches and sampled items use the random numbers of NumPy and Python, which are then the same in all processes.
    PyTorch's random numbers differ between processes, so that rows get different dropout. They depend only on seed,
    epoch and process, so that a resumed run gives the same result.
    """
    if world_size() == 1:
        return
    for tensor in model.state_dict().values():
        # `data` does not count as a change of the parameters; values change only if machines round differently.
        dist.broadcast(tensor.data, src=0)
    numbers = random.getstate(), np.random.get_state()  # noqa: NPY002  (RecBole samples from the global state)
    python, numpy = first_decides(lambda: numbers)
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    if rank():
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch, rank()]).generate_state(1)[0]))
