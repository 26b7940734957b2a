"""The two rules by which messages refine a state. Neither ever lets a message into the state that predicts it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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
            message_sum: sums of messages, target left out, (n, d).
            count: numbers of messages, (n, 1).
            start: states before any message, (n, d).
        """
        mean = message_sum / (count + self.shrinkage).clamp(min=1e-6)
        return torch.where(count > 0, self.step(mean, start), start)

    def step(self, message: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """States (n, d) after one message each, (n, d)."""
        return self.gru(message[None], state[None])[0][0]

    def in_order(self, messages: torch.Tensor, group: torch.Tensor, time: torch.Tensor, start: torch.Tensor):
        """One step per message, in time order (rows that share a time in the order of the table).

        Args:
            messages: (n, d).
            group: who each message belongs to, (n,).
            time: (n,).
            start: states before any message, one per group, (n_groups, d).

        Returns:
            The state just before each message (n, d), and each group's last state (n_groups, d).
        """
        order, count, first = _in_time(group, time, len(start))
        active = torch.nonzero(count > 0).flatten()
        active = active[torch.argsort(count[active], descending=True)]
        lengths = count[active]
        steps = torch.arange(int(lengths.max()), device=group.device)
        place = (first[active][None, :] + steps[:, None]).clamp(max=len(order) - 1)
        packed = pack_padded_sequence(messages[order[place]], lengths.cpu())
        states, last = self.gru(packed, start[active][None])
        states = pad_packed_sequence(states)[0]
        before_steps = torch.cat([start[active][None], states[:-1]])
        real = steps[:, None] < lengths[None, :]
        before = torch.zeros_like(messages).index_put((order[place[real]],), before_steps[real])
        final = start.index_put((active,), last[0])
        return before, final

    def one_by_one(
        self, messages: torch.Tensor, group: torch.Tensor, time: torch.Tensor, target: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        """The state just before each target's message, where every target has a start state of its own.

        It costs a run through the earlier messages per target, not one per group as :meth:`in_order`.

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
        # Targets of like length together, so that little is padded and memory stays bounded.
        for chunk in torch.split(some[torch.argsort(earlier[some], descending=True)], _ROLLOUTS):
            steps = torch.arange(int(earlier[chunk].max()), device=order.device)
            place = (first[chunk][None, :] + steps[:, None]).clamp(max=len(order) - 1)
            packed = pack_padded_sequence(messages[order[place]], earlier[chunk].cpu())
            states = states.index_put((chunk,), self.gru(packed, start[chunk][None])[1][0])
        return states


def _in_time(group: torch.Tensor, time: torch.Tensor, n_groups: int):
    """Messages ordered by group and time, and per group the number of messages and the place of the first."""
    order = torch.argsort(time, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    count = torch.bincount(group, minlength=n_groups)
    return order, count, torch.cumsum(count, 0) - count
