"""The two rules by which messages refine a state. A state never contains the message that it predicts."""

from __future__ import annotations

import torch
from torch import nn

_ROLLOUTS = 256


class StateRefiner(nn.Module):
    """GRU of one side (paper, section 3.4): ``h = GRU(message, previous state)``.

    Args:
        size: d.
        shrinkage: c of the leave-one-out rule.
    """

    def __init__(self, size: int, shrinkage: float):
        super().__init__()
        self.gru = nn.GRU(size, size)
        self.shrinkage = shrinkage

    def from_sum(self, message_sum: torch.Tensor, count: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """One step with the shrunk mean of the messages; a state without messages stays at its start.

        Args:
            message_sum: sums of messages without the target's, (n, d).
            count: numbers of messages, (n, 1).
            start: states before any message, (n, d).
        """
        mean = message_sum / (count + self.shrinkage).clamp(min=1e-6)
        return torch.where(count > 0, self.step(mean, start), start)

    def step(self, message: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """States (n, d) after one message each, (n, d)."""
        return self.gru(message[None], state[None])[0][0]

    def in_order(self, messages: torch.Tensor, group: torch.Tensor, time: torch.Tensor, start: torch.Tensor):
        """One step per message, in time order (ties: in the order of the table).

        Args:
            messages: (n, d).
            group: the user or item that each message belongs to, (n,).
            time: (n,).
            start: states before any message, one per group, (n_groups, d).

        Returns:
            The state just before each message (n, d), and each group's last state (n_groups, d).
        """
        order, count, first = _in_time(group, time, len(start))
        active = torch.nonzero(count > 0).flatten()
        active = active[torch.argsort(count[active], descending=True)]
        step, which, sizes = _packed(count[active])
        index, offset = order[first[active][which] + step], sizes.cumsum(0) - sizes
        begin = start.index_select(0, active)
        states = self._run(messages.index_select(0, index), sizes, begin)
        # A sequence has the same index in every step.
        later = slice(len(active), None)
        before = torch.cat([begin, states.index_select(0, offset[step[later] - 1] + which[later])])
        last = states.index_select(0, offset[count[active] - 1] + torch.arange(len(active), device=group.device))
        return torch.zeros_like(messages).index_copy(0, index, before), start.index_copy(0, active, last)

    def _run(self, messages: torch.Tensor, sizes: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """States after each message.

        On a CPU, ``nn.GRU`` would fill the gradient of all messages with zeros at every step.

        Args:
            messages: messages of all steps, concatenated, (k, d).
            sizes: number of messages of each step, descending, (steps,).
            state: states before the first step, (n, d).

        Returns:
            (k, d).
        """
        states = []
        for part in messages.split(sizes.tolist()):
            state = torch.gru_cell(part, state[: len(part)], *self.gru.all_weights[0])
            states.append(state)
        return torch.cat(states)

    def one_by_one(
        self, messages: torch.Tensor, group: torch.Tensor, time: torch.Tensor, target: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        """The state just before each target's message, where every target has its own start state.

        This runs through the earlier messages once per target; :meth:`in_order` does so once per group.

        Args:
            messages, group, time: as in :meth:`in_order`.
            target: positions of the targets' messages, (b,).
            start: (b, d).

        Returns:
            (b, d).
        """
        order, _, first = _in_time(group, time, int(group.max()) + 1)
        rank = torch.empty_like(order).index_put((order,), torch.arange(len(order), device=order.device))
        first = first[group[target]]
        earlier = rank[target] - first
        states = start
        some = torch.nonzero(earlier > 0).flatten()
        # Targets with sequences of similar length form a block, which limits padding and memory.
        for chunk in torch.split(some[torch.argsort(earlier[some], descending=True)], _ROLLOUTS):
            step, which, sizes = _packed(earlier[chunk])
            index, offset = order[first[chunk][which] + step], sizes.cumsum(0) - sizes
            after = self._run(messages.index_select(0, index), sizes, start.index_select(0, chunk))
            own = torch.arange(len(chunk), device=order.device)
            states = states.index_copy(0, chunk, after.index_select(0, offset[earlier[chunk] - 1] + own))
        return states


def _in_time(group: torch.Tensor, time: torch.Tensor, n_groups: int):
    """Order of the messages by group and time, and per group the number of messages and the index of the first."""
    order = torch.argsort(time, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    count = torch.bincount(group, minlength=n_groups)
    return order, count, torch.cumsum(count, 0) - count


def _packed(lengths: torch.Tensor):
    """Step and sequence of each element, (k,), ordered by step, and sizes of steps; ``lengths`` (n,) are descending."""
    steps = torch.arange(int(lengths.max()), device=lengths.device)
    real = steps[:, None] < lengths[None, :]
    step, which = torch.nonzero(real, as_tuple=True)
    return step, which, real.sum(1)
