"""The two rules by which messages refine a state. Neither ever lets a message into the state that predicts it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


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
        return torch.where(count > 0, self.gru(mean[None], start[None])[0][0], start)

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
        order = torch.argsort(time, stable=True)
        order = order[torch.argsort(group[order], stable=True)]
        active, lengths = torch.unique_consecutive(group[order], return_counts=True)
        by_length = torch.argsort(lengths, descending=True)
        active, lengths = active[by_length], lengths[by_length]
        count = torch.bincount(group, minlength=len(start))
        first = torch.cumsum(count, 0) - count
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
