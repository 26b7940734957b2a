"""Weights of the blocks of a user's representation: progressive weight copying of LIRDRec."""

from __future__ import annotations

import torch
from torch import nn

SCHEDULES = ("official", "power", "none")


def learned_share(schedule: str, epoch: int, decay_weight: float, decay_base: float) -> float:
    r"""Share w1 of the learned weights in epoch e = 1, 2, ... (0: before training); the copied weights have 1 - w1.

    ``official`` (the published code) starts at :math:`w_1 = w`, multiplies w1 by :math:`b^e` before epoch e and divides
    both shares by their sum; their odds are then :math:`w / (1 - w) \cdot b^{e (e + 1) / 2}`. ``power`` is
    :math:`w_1 = w^e`, and ``none`` copies nothing: :math:`w_1 = 1`.

    Args:
        schedule: ``official``, ``power`` or ``none``.
        epoch: e above.
        decay_weight: w above, from 0 to 1.
        decay_base: b above, from 0 to 1.

    Example:
        >>> [round(learned_share("official", epoch, 0.9, 0.9), 3) for epoch in (0, 1, 2, 10)]
        [0.9, 0.89, 0.868, 0.027]
    """
    if schedule == "none":
        return 1.0
    if schedule == "power":
        return decay_weight**epoch
    learned = decay_weight * decay_base ** (epoch * (epoch + 1) / 2)
    copied = 1 - decay_weight
    return learned / (learned + copied) if learned + copied > 0 else 0.0


class WeightCopying(nn.Module):
    r"""Weights of a user's blocks: learned at first, then increasingly copied from the previous epoch.

    .. math::
        f_{ub} = v_b^\top \mathrm{LeakyReLU}(V_b x_{ub} + a_b) + c_b, \qquad
        \alpha_u = \mathrm{softmax}(w_1 f_u + w_2 \theta_u), \qquad w_2 = 1 - w_1

    Before the first epoch :math:`\theta_u` is uniform, 1 / B. Before each later epoch it is set to the current
    :math:`\alpha_u` of every user. :math:`w_1` follows :func:`learned_share`. As :math:`\theta` are probabilities, not
    logarithms, copying flattens them: with :math:`w_1` near 0 the weights tend to 1 / B.

    Args:
        n_users: number of users.
        n_blocks: B.
        size: d, width of a block; the scorers' hidden layers have d / 4.
        schedule, decay_weight, decay_base: see :func:`learned_share`.

    Attributes:
        theta: the copied weights, (n_users, B); saved in checkpoints, as are w1 and w2.
        w1, w2: shares of the learned and of the copied weights, scalars.
    """

    theta: torch.Tensor
    w1: torch.Tensor
    w2: torch.Tensor

    def __init__(self, n_users: int, n_blocks: int, size: int, schedule: str, decay_weight: float, decay_base: float):
        super().__init__()
        self.schedule, self.decay_weight, self.decay_base = schedule, decay_weight, decay_base
        hidden = max(1, size // 4)
        self.scorers = nn.ModuleList(
            nn.Sequential(nn.Linear(size, hidden), nn.LeakyReLU(), nn.Linear(hidden, 1)) for _ in range(n_blocks)
        )
        self.register_buffer("theta", torch.full((n_users, n_blocks), 1 / n_blocks))
        self.register_buffer("w1", torch.zeros(()))
        self.register_buffer("w2", torch.zeros(()))
        self._set_shares(0)

    def forward(self, blocks: torch.Tensor) -> torch.Tensor:
        """Weights of all users' blocks (n_users, B, d): shape ``(n_users, B)``, rows sum to 1."""
        learned = torch.cat([scorer(blocks[:, b]) for b, scorer in enumerate(self.scorers)], dim=1)
        return torch.softmax(self.w1 * learned + self.w2 * self.theta, dim=1)

    @torch.no_grad()
    def before_epoch(self, epoch: int, blocks: torch.Tensor) -> None:
        """Copy the current weights of all users' blocks (n_users, B, d) and set the shares of an epoch.

        Args:
            epoch: counted from 0.
            blocks: as for :meth:`forward`.
        """
        if epoch > 0:
            self.theta.copy_(self(blocks))
        self._set_shares(epoch + 1)

    def _set_shares(self, epoch: int) -> None:
        share = learned_share(self.schedule, epoch, self.decay_weight, self.decay_base)
        self.w1.fill_(share)
        self.w2.fill_(1 - share)
