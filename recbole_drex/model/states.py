"""Users and items as states that the messages of their interactions refine (DReX, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from recbole_drex.errors import ConfigError
from recbole_drex.model.attention import AttendedWords, WordAttention
from recbole_drex.model.evidence import EvidenceTable
from recbole_drex.model.layers import BLOCK_ROWS, Remembering
from recbole_drex.model.rating import RatingModel
from recbole_drex.model.refinement import StateRefiner
from recbole_drex.model.sampling import ReviewSampler
from recbole_drex.model.start import StartState
from recbole_drex.values import choice


class StateModel(Remembering, RatingModel):
    """Base of DReX: evidence, messages, and states of users and items without the message that is predicted.

    Equations and parameters are those of :class:`~recbole_drex.model.drex.DReX`, which predicts from the states.

    Raises:
        ConfigError: an unknown modality or an illegal value.
        DataError: the data set lacks the features of a modality.
    """

    attention: WordAttention | None

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        size = config["embedding_size"]
        self.refinement = choice(config, "refinement", ("leave_one_out", "sequential"))
        modalities = list(config["modalities"])
        if not modalities or len(set(modalities)) < len(modalities):
            raise ConfigError(f"'modalities' must name at least one, each once; it is {modalities}")
        evidence = dataset.evidence(tuple(name for name in modalities if name not in ("review", "rating")))
        self.attention = WordAttention(dataset.features(), size) if "review" in modalities else None
        self.table = EvidenceTable(
            evidence,
            modalities,
            dataset.rating_levels(),
            self.attention,
            self.n_users,
            self.n_items,
            config["bias_damping"],
        )
        self.sampler = None
        if self.attention is not None and config["message_samples"] > 0:
            self.sampler = ReviewSampler(self.table, config["message_samples"])
        self.projections = nn.ModuleDict(
            {m.name: nn.Linear(m.width, size) for m in self.table.modalities if m.name != "review"}
        )
        if self.attention is not None:
            self.projections["review"] = self.attention.projection
        self.fuse = nn.Linear(size * len(modalities), size)
        use_adjust = config["adjust_rating"]
        self.adjust = nn.ModuleList([nn.Linear(1, size, bias=False) for _ in range(2)]) if use_adjust else None
        self.user_refiner = StateRefiner(size, config["shrinkage"])
        self.item_refiner = StateRefiner(size, config["shrinkage"])
        start = choice(config, "start", ("zero", "random", "mlp"))
        self.user_start = StartState(start, self.table, self.n_users, self.n_items, size, of_user=True)
        self.item_start = StartState(start, self.table, self.n_items, self.n_users, size, of_user=False)
        # A start made of ratings must be made for each target, without the target's own.
        self.own_start = start == "mlp"

    # Messages and states ----------------------------------------------------------------------------------------

    def messages(self, rows: torch.Tensor, side: int) -> torch.Tensor:
        """Messages of evidence rows, or sums of messages of summed rows: (..., width) -> (..., d).

        Args:
            rows: rows of the evidence table, or sums of them.
            side: 0 as they go to users, 1 as they go to items; differs only by ``adjust_rating``.
        """
        parts = []
        for modality in self.table.modalities:
            vector, present = modality.split(rows)
            layer = cast(nn.Linear, self.projections[modality.name])
            parts.append(nn.functional.linear(vector, layer.weight) + present * layer.bias)
        message = nn.functional.linear(torch.cat(parts, -1), self.fuse.weight) + rows[..., -1:] * self.fuse.bias
        if self.adjust is not None:
            message = message + self.adjust[side](rows[..., side - 3 : side - 2])
        return message

    def _leave_one_out(self, entity: torch.Tensor, row: torch.Tensor, side: int, correction=None) -> torch.Tensor:
        """States of users (side 0) or items (side 1) without the messages at ``row`` (-1: with all)."""
        sums = (self.table.user_sums, self.table.item_sums)[side][entity]
        rest = self.table.without(sums, row)
        if correction is not None:
            rest = rest + correction
        refiner, start = ((self.user_refiner, self.user_start), (self.item_refiner, self.item_start))[side]
        return refiner.from_sum(self.messages(rest, side), rest[:, -1:].detach(), start(entity, row))

    def _in_order(self, side: int, rows: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sequential rule: states of one side just before the messages at ``row``, and the last state of each entity.

        Args:
            side: 0 for users, 1 for items.
            rows: the table's rows, some of them perhaps read anew.
            row: (b,).
        """
        refiner, start, group, count = (
            (self.user_refiner, self.user_start, self.table.user, self.n_users),
            (self.item_refiner, self.item_start, self.table.item, self.n_items),
        )[side]
        messages, entity = self.messages(rows, side), torch.arange(count, device=group.device)
        before, last = refiner.in_order(messages, group, self.table.time, start(entity, torch.full_like(entity, -1)))
        if self.own_start:
            return refiner.one_by_one(messages, group, self.table.time, row, start(group[row], row)), last
        return before[row], last

    @torch.no_grad()
    def _refresh(self) -> None:
        """Bring everything that is remembered between steps up to date with the parameters."""
        self.table.refresh(self.attention)
        users = torch.arange(self.n_users, device=self.mean.device)
        items = torch.arange(self.n_items, device=self.mean.device)
        if self.refinement == "sequential":
            rows, every = self.table.rows_at(slice(None)), torch.arange(len(self.table), device=self.mean.device)
            self._user_before, self._user_states = self._in_order(0, rows, every)
            self._item_before, self._item_states = self._in_order(1, rows, every)
        else:
            self._user_states = self._leave_one_out(users, torch.full_like(users, -1), 0)
            self._item_states = self._leave_one_out(items, torch.full_like(items, -1), 1)
        self._stale = False

    def _states_for_others(self, place: slice) -> torch.Tensor:
        """Per row of the table at ``place``, the state of its item without it: what the item is to other people.

        With the row, the rating minus the user's mean would carry the ratings of all targets of that user.
        """
        if self.refinement == "sequential":
            return self._item_before[place]
        row = torch.arange(place.start, place.stop, device=self.mean.device)
        return self._leave_one_out(self.table.item[place], row, 1)

    @torch.no_grad()
    def item_states_without(self, item: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Remembered states of items (n,) without the messages at rows of the table (n,), -1 for none: (n, d)."""
        states = self._item_states[item]
        known = row >= 0
        if bool(known.any()):
            own = row[known]
            if self.refinement == "sequential":
                states[known] = self._item_before[own]
            else:
                states[known] = self._leave_one_out(item[known], own, 1)
        return states

    def precedes(self, rows: torch.Tensor, target: int) -> torch.Tensor:
        """Which rows (n,) of one user or item send messages to the state that predicts row ``target``: (n,)."""
        if self.refinement == "leave_one_out" or target < 0:
            return rows != target
        # Equal times go by the order of the table.
        time, own = self.table.time[rows], self.table.time[target]
        return (time < own) | ((time == own) & (rows < target))

    def _states_for_training(self, user: torch.Tensor, item: torch.Tensor, row: torch.Tensor):
        """States that predict the training rows at ``row``, without their own messages."""
        if self.refinement == "sequential":
            rows = self.table.rows_at(slice(None))
            if self.sampler is not None and self.attention is not None:
                rows = self.sampler.freshened(self.table, self.attention, rows)
            known = row.clamp(min=0)  # a target that sends no message is not in the table
            user_before, user_last = self._in_order(0, rows, known)
            item_before, item_last = self._in_order(1, rows, known)
            sent = (row >= 0)[:, None]
            return torch.where(sent, user_before, user_last[user]), torch.where(sent, item_before, item_last[item])
        corrections: Sequence[torch.Tensor | None] = (None, None)
        if self.sampler is not None and self.attention is not None:
            corrections = self.sampler.corrections(self.table, self.attention, row)
        return self._leave_one_out(user, row, 0, corrections[0]), self._leave_one_out(item, row, 1, corrections[1])

    def _states_of_sampled(self, items: torch.Tensor) -> torch.Tensor:
        """States of sampled items (n, k), with all their messages: (n, k, d). Their users sent them none."""
        unique, place = torch.unique(items, return_inverse=True)
        return self._leave_one_out(unique, torch.full_like(unique, -1), 1)[place]

    # Explanations -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def attended_words(self) -> AttendedWords | None:
        """Words of the reviews that are evidence, with their attention weights; None if reviews are no modality."""
        if self.attention is None:
            return None
        reviewed = torch.nonzero(self.table.review >= 0).flatten()
        parts = self.table.review[reviewed].split(BLOCK_ROWS)
        weights = torch.cat([self.attention.read_all(part)[1] for part in parts])
        place, review = (part.cpu().numpy() for part in self.attention.positions(self.table.review[reviewed]))
        rows = reviewed.cpu().numpy()[review]
        return AttendedWords(
            user=self.table.user.cpu().numpy()[rows],
            item=self.table.item.cpu().numpy()[rows],
            word=self.attention.store.word_ids[place],
            weight=weights.cpu().numpy(),
            vocabulary=self.attention.store.vocabulary,
        )
