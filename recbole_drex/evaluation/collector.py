"""Collects the data for rating errors and rankings in one pass of RecBole's trainer.

Two views of a part are collected as tables of float64 (ids are exact up to 2^53), and recommended lists if asked for:

* ``drex.rows``: user, item, rating, score of each rated row, from ``predict``, and four statistics of its distribution,
  if the model predicts one;
* ``drex.full``: user, item, rating, rank, tied (and sampled rank) of each rated row among the catalogue, from
  ``full_sort_predict``. The user's earlier items (training, at test also validation unless ``mask: train``, and
  reviews without a rating) are not candidates;
* ``drex.lists``: user, and the best ``max(topk)`` of the same candidates, of int64; 0 where there are fewer.
"""

from __future__ import annotations

import numpy as np
import torch

from recbole_drex.evaluation.protocol import Protocol, tie_keys
from recbole_drex.parallel import collectives
from recbole_drex.recbole import Collector, DataStruct, EvaluatorType, Register, metric_types

ROWS, FULL, LISTS = "drex.rows", "drex.full", "drex.lists"
LEVELS, USER_MEAN, TIE_KEYS = "drex.levels", "drex.user_mean", "drex.tie_keys"
TRAIN, N_ITEMS = "drex.train", "drex.n_items"
_COLLECTED = (ROWS, FULL, LISTS, "rec.items", "rec.topk", "rec.meanrank", "rec.score", "data.label")


_CELLS = 1 << 24  # scores per block of comparisons


class ReviewCollector(Collector):
    """RecBole's collector, which also serves the metrics of this project.

    RecBole's code collects what its metrics need of the full catalogue. Metrics of rated
    rows get scores and labels: the field LABEL_FIELD if the data have it, else whether the rating is relevant.

    Attributes:
        tables: ``rows`` and ``full`` of the last pass over each view, for results beyond means.
        distribution: of the next batch, (b, levels), if the model predicts one.
        lists: whether passes over the full catalogue collect the recommended lists.
    """

    def __init__(self, config):
        super().__init__(config)
        self.tables: dict[str, np.ndarray] = {}
        self.distribution: torch.Tensor | None = None
        self.lists = False
        self.threshold = Protocol.from_config(config).threshold
        kinds = {name: metric_types[name.lower()] for name in config["metrics"]}
        self.register, self.rated = (
            Register({"metrics": [name for name, one in kinds.items() if one == kind]})
            for kind in (EvaluatorType.RANKING, EvaluatorType.VALUE)
        )

    def data_collect(self, train_data) -> None:
        """Collect what conventions need of the training part: rating levels, users' means, the order of ties,
        the interactions."""
        super().data_collect(train_data)
        dataset = train_data._dataset
        user, rating = dataset.inter_feat[dataset.uid_field], dataset.inter_feat[dataset.rating_field].double()
        count = torch.bincount(user, minlength=dataset.user_num)
        total = torch.bincount(user, weights=rating, minlength=dataset.user_num)
        mean = torch.where(count > 0, total / count.clamp(min=1), rating.mean())
        tokens = dataset.field2id_token[dataset.iid_field]
        self.data_struct.set(LEVELS, dataset.rating_levels().double())
        self.data_struct.set(USER_MEAN, mean)
        self.data_struct.set(TIE_KEYS, torch.from_numpy(tie_keys(list(tokens))))
        self.data_struct.set(TRAIN, torch.stack([user, dataset.inter_feat[dataset.iid_field]], 1))
        self.data_struct.set(N_ITEMS, torch.tensor(dataset.item_num - 1))
        self.evidence_items = _items_by_user(dataset.unrated, dataset)

    def watch(self, dataset) -> None:
        """Set the part that is evaluated next, so that ratings can be joined to RecBole's (user, item) positives."""
        feat = dataset.inter_feat
        key = dataset.pair_key(feat[dataset.uid_field], feat[dataset.iid_field])
        self._keys, order = torch.sort(key)
        self._ratings = feat[dataset.rating_field][order]
        self._dataset = dataset

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i) -> None:
        if positive_u is None:
            columns = [interaction[self._dataset.uid_field], interaction[self._dataset.iid_field]]
            rating = interaction[self._dataset.rating_field]
            columns += [rating, scores_tensor.reshape(-1)]
            if self.distribution is not None:
                levels = self.data_struct.get(LEVELS).to(self.distribution)
                columns += distribution_columns(self.distribution, levels, rating.to(levels), self.threshold)
            self.data_struct.update_tensor(ROWS, torch.stack([column.detach().cpu().double() for column in columns], 1))
            label = self.config["LABEL_FIELD"]
            labels = interaction[label] if label in interaction else (rating >= self.threshold).float()
            for key, values in (("rec.score", scores_tensor.reshape(-1)), ("data.label", labels)):
                if self.rated.need(key):
                    self.data_struct.update_tensor(key, values.cpu())
            return
        users = interaction[self._dataset.uid_field].cpu()
        for row, user in enumerate(users.tolist()):
            if user in self.evidence_items:
                scores_tensor[row, self.evidence_items[user].to(scores_tensor.device)] = -torch.inf
        self.data_struct.update_tensor(FULL, self._ranks(scores_tensor, users, positive_u, positive_i))
        if self.lists:
            best = best_items(scores_tensor, self.data_struct.get(TIE_KEYS).to(scores_tensor.device), max(self.topk))
            self.data_struct.update_tensor(LISTS, torch.cat([users[:, None], best.cpu()], 1))
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)

    def _ranks(self, scores, users, positive_u, positive_i) -> torch.Tensor:
        tie_key = self.data_struct.get(TIE_KEYS).to(scores.device)
        positive_u, positive_i = positive_u.to(scores.device), positive_i.to(scores.device)
        sample = None
        if self.config["candidates"] == "sampled":
            sample = self._sample(scores, users, positive_u, positive_i)
        # A user may have many thousands of positives, each of which is compared with every item.
        step = max(1, _CELLS // scores.shape[1])
        parts = zip(positive_u.split(step), positive_i.split(step), strict=True)
        ranks = torch.cat([_ranks(scores, tie_key, sample, user, item) for user, item in parts])
        key = self._dataset.pair_key(users[positive_u.cpu()], positive_i.cpu())
        rating = self._ratings[torch.searchsorted(self._keys, key)]
        columns = [users[positive_u.cpu()], positive_i, rating, *ranks.unbind(1)]
        return torch.stack([column.detach().cpu().double() for column in columns], 1)

    def _sample(self, scores, users, positive_u, positive_i) -> torch.Tensor:
        """Mask of the users' own positives and ``sampled_candidates`` unseen items, the same for every model."""
        chosen = torch.zeros_like(scores, dtype=torch.bool)
        chosen[positive_u, positive_i] = True
        for row, user in enumerate(users.tolist()):
            unseen = torch.nonzero(torch.isfinite(scores[row]) & ~chosen[row]).flatten().cpu().numpy()
            sample = np.random.default_rng([self.config["seed"], user]).permutation(unseen)
            chosen[row, torch.from_numpy(sample[: self.config["sampled_candidates"]])] = True
        return chosen

    def get_data_struct(self) -> DataStruct:
        if collectives.world_size() > 1:
            own = {key: self.data_struct.get(key).cpu() for key in _COLLECTED if key in self.data_struct}
            parts = collectives.gathered(own)
            # Processes have consecutive batches, so this table equals that of a single process.
            for key in dict.fromkeys(key for part in parts for key in part):
                self.data_struct.set(key, torch.cat([part[key] for part in parts if key in part]))
        returned = super().get_data_struct()
        for name, key in (("rows", ROWS), ("full", FULL)):
            if key in self.data_struct:
                self.tables[name] = returned.get(key).numpy()
                del self.data_struct[key]
        if LISTS in self.data_struct:
            del self.data_struct[LISTS]
        return returned


def _ranks(
    scores: torch.Tensor, tie_key: torch.Tensor, sample: torch.Tensor | None, user: torch.Tensor, item: torch.Tensor
) -> torch.Tensor:
    """Rank of each pair's item, whether it is tied and, of a sample, the rank in that: shape ``(b, 2 or 3)``."""
    own, others = scores[user, item][:, None], scores[user]
    ahead = (others > own) | ((others == own) & (tie_key[None, :] < tie_key[item][:, None]))
    columns = [1 + ahead.sum(1), (others == own).sum(1) > 1]
    if sample is not None:
        columns.append(1 + (ahead & sample[user]).sum(1))
    return torch.stack([column.double() for column in columns], 1)


def best_items(scores: torch.Tensor, tie_key: torch.Tensor, k: int) -> torch.Tensor:
    """The k candidates with the highest scores, best first; equal scores by rising ``tie_key``.

    Args:
        scores: shape ``(b, n)``, minus infinity for items that are no candidates.
        tie_key: of each item, shape ``(n,)``.
        k: length of the lists.

    Returns:
        Columns of ``scores``, int64 of shape ``(b, k)``; 0 where there are fewer than k candidates.

    Example:
        >>> best_items(torch.tensor([[-torch.inf, 1.0, 2.0, 1.0]]), torch.tensor([0, 3, 2, 1]), 2).tolist()
        [[2, 3]]
    """
    lowest = scores.topk(min(k, scores.shape[1])).values[:, -1:]
    row, item = torch.nonzero((scores >= lowest) & (scores > -torch.inf), as_tuple=True)
    order = torch.argsort(tie_key[item])
    order = order[torch.argsort(scores[row, item][order], descending=True, stable=True)]
    order = order[torch.argsort(row[order], stable=True)]
    row, item = row[order], item[order]
    position = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
    result = torch.zeros(len(scores), k, dtype=torch.int64, device=scores.device)
    result[row[position < k], position[position < k]] = item[position < k]
    return result


def distribution_columns(
    distribution: torch.Tensor, levels: torch.Tensor, rating: torch.Tensor, threshold: float
) -> list[torch.Tensor]:
    """Median, P(rating >= threshold), standard deviation, and probability of the rating (of the nearest level).

    Args:
        distribution: shape ``(b, K)``.
        levels: ascending, shape ``(K,)``.
        rating: true ratings, shape ``(b,)``.
        threshold: a rating.

    Returns:
        Four tensors of shape ``(b,)``.

    Example:
        >>> p, levels = torch.tensor([[0.25, 0.25, 0.5]]), torch.tensor([1.0, 2.0, 3.0])
        >>> [column.item() for column in distribution_columns(p, levels, torch.tensor([3.0]), 2.0)[:2]]
        [2.0, 0.75]
    """
    # Rounding must not move a cumulative share of exactly one half to the next level.
    median = levels[(distribution.double().cumsum(-1) >= 0.5 - 1e-6).double().argmax(-1)]
    relevant = distribution[:, levels >= threshold].sum(-1)
    mean = distribution @ levels
    spread = (distribution * (levels - mean[:, None]).square()).sum(-1).clamp(min=0).sqrt()
    nearest = (rating[:, None] - levels).abs().argmin(-1)
    return [median, relevant, spread, distribution.gather(1, nearest[:, None]).squeeze(1)]


def _items_by_user(feat, dataset) -> dict[int, torch.Tensor]:
    """Items of each user in a table of interactions."""
    users, items = feat[dataset.uid_field], feat[dataset.iid_field]
    order = torch.argsort(users, stable=True)
    unique, counts = torch.unique_consecutive(users[order], return_counts=True)
    return dict(zip(unique.tolist(), torch.split(items[order], counts.tolist()), strict=True))
