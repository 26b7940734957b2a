"""RecBole's ``Dataset`` with reviews: rows without a rating are evidence, never training or test targets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_drex.config.recbole_settings import COLD_ITEMS
from recbole_drex.data.cold_items import held_out_items
from recbole_drex.data.items.item_features import FOLDER, ItemFeatures
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.recbole import (
    Dataset,
    FeatureSource,
    FeatureType,
    Interaction,
    cat_interactions,
)

REVIEW_ROW = "review_row"
ITEM_REVIEWS = "reviews"
"""The item modality that is computed from an item's training reviews."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The rows that predictions may use: the training rows, then the rows without a rating.

    Attributes:
        user, item: internal ids, each of shape ``(n,)``.
        rating: of shape ``(n,)``, NaN where missing.
        timestamp: seconds, float64 of shape ``(n,)``, 0 where missing.
        review_row: row of the feature store, of shape ``(n,)``, -1 where the review is missing.
        fields: further vectors per interaction by name, each ``(n, width)``; a missing vector is zero.
    """

    user: torch.Tensor
    item: torch.Tensor
    rating: torch.Tensor
    timestamp: torch.Tensor
    review_row: torch.Tensor
    fields: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.user)


class ReviewDataset(Dataset):
    """Atomic files with reviews.

    Rated rows go through RecBole's filtering and splitting. Rows with a review but no rating are stored in ``unrated``
    (empty if ``keep_unrated`` is false). They are never split, so they are evidence for every part. An unrated row is
    dropped if its (user, item) pair also has a rating, since its review might describe a test row. If the split is by
    time, only rows earlier than validation and test are evidence, see :meth:`build`.

    The columns that this project needs (ids, rating, time and review row) are always read, even if ``load_col`` does
    not name them. Without a rating column, every interaction counts as a rating of 1. Times are float64, since
    RecBole's float32 has a resolution of 128 seconds for current times.

    Attributes:
        notes: messages for the user about how the data were read.

    Raises:
        DataError: a file cannot be read, lacks a field or has invalid numbers; no row has a rating; pre-split files
            (``benchmark_filename``) have rows without a rating; or RecBole's parameters do not fit the data.
    """

    inter_feat: Any  # a data frame until the data set is built, then RecBole's Interaction
    unrated: Any
    notes: list[str]

    def __init__(self, config):
        self.notes = []
        try:
            super().__init__(config)
        except (ValueError, NotImplementedError) as error:  # RecBole raises these for unsuitable parameters
            raise DataError(f"data set '{config['dataset']}': {error}") from error

    def _get_load_and_unload_col(self, source):
        load, unload = super()._get_load_and_unload_col(source)
        if load and source == FeatureSource.INTERACTION:
            load |= self._needed()
        return load, unload

    def _load_feat(self, filepath, source):
        try:
            return super()._load_feat(filepath, source)
        except ValueError as error:  # a wrong header or number, not UTF-8, or not a table that pandas can read
            raise DataError(
                f"{filepath} cannot be read as an atomic file with field_separator {self.config['field_separator']!r}: "
                f"{error}"
            ) from error

    def _check_fields(self) -> None:
        """Check the interaction fields and their types and values."""
        where = f"data set '{self.dataset_name}' in {self.dataset_path}"
        fields = () if self.inter_feat is None else self.inter_feat.columns
        kinds = {"USER_ID_FIELD": FeatureType.TOKEN, "ITEM_ID_FIELD": FeatureType.TOKEN}
        for key, kind in {**kinds, "RATING_FIELD": FeatureType.FLOAT, "TIME_FIELD": FeatureType.FLOAT}.items():
            field = self.config[key]
            if field not in fields and key in kinds:
                raise DataError(f"{where} has no field '{field}'; if it is called otherwise there, name it by {key}")
            if field in fields and self.field2type[field] != kind:
                raise DataError(f"{where}: field '{field}' must be a {kind.value}, not {self.field2type[field].value}")
        for field in self.inter_feat:
            if self.field2type[field] == FeatureType.FLOAT:
                # Tensors are of 32 bits.
                with np.errstate(over="ignore"):
                    infinite = np.isinf(self.inter_feat[field].to_numpy(np.float32))
                if infinite.any():
                    row = self.inter_feat.iloc[int(infinite.argmax())]
                    pair = f"user '{row[self.uid_field]}', item '{row[self.iid_field]}'"
                    raise DataError(f"{where}: field '{field}' is infinite or too large ({pair})")

    def _data_processing(self) -> None:
        self.rating_field = self.config["RATING_FIELD"]
        self._check_fields()
        if self.rating_field not in self.inter_feat:
            self.notes.append(
                f"data set '{self.dataset_name}' has no field '{self.rating_field}' (RATING_FIELD), so every "
                "interaction counts as a rating of 1 and rating errors mean nothing"
            )
            self.set_field_property(self.rating_field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)
            self.inter_feat[self.rating_field] = 1.0
        missing = self.inter_feat[self.rating_field].isna().to_numpy()
        if missing.any() and self.benchmark_filename_list is not None:
            raise DataError(f"data set '{self.dataset_name}': pre-split files must not hold rows without a rating")
        kinds = (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
        ids = (self.uid_field, self.iid_field)
        usable = [field for field in self.inter_feat if field in ids or self.field2type[field] in kinds]
        keep = missing & bool(self.config["keep_unrated"])
        self.unrated = self.inter_feat.loc[keep, usable].reset_index(drop=True)
        self.inter_feat = self.inter_feat[~missing].reset_index(drop=True)
        if self.inter_feat.empty:
            raise DataError(f"data set '{self.dataset_name}' in {self.dataset_path} has no rated interactions")
        super()._data_processing()

    def _remove_duplication(self) -> None:
        # RecBole's sort is not stable, so which of several rows with equal times is kept would be arbitrary.
        keep = self.config["rm_dup_inter"]
        if keep is not None:
            ids, feat = [self.uid_field, self.iid_field], self.inter_feat
            if self.time_field in feat:
                feat = feat.sort_values(self.time_field, kind="stable")
            self.inter_feat = self.inter_feat[~feat.duplicated(ids, keep=keep).reindex(self.inter_feat.index)]
        super()._remove_duplication()

    def _remap_ID_all(self) -> None:
        super()._remap_ID_all()
        for field in (self.uid_field, self.iid_field):
            self.unrated[field] = self.unrated[field].map(self.field2token_id[field]).fillna(-1).astype(np.int64)
        known = (self.unrated[self.uid_field] >= 0) & (self.unrated[self.iid_field] >= 0)
        rated_pairs = self._pair_keys(self.inter_feat)
        repeated = np.isin(self._pair_keys(self.unrated), rated_pairs)
        self.unrated = self.unrated[known & ~repeated].reset_index(drop=True)

    def _pair_keys(self, frame) -> np.ndarray:
        users = np.asarray(frame[self.uid_field], dtype=np.int64)
        return users * self.item_num + np.asarray(frame[self.iid_field], dtype=np.int64)

    def _fill_nan(self) -> None:
        # RecBole would replace a missing time or review by the column's mean.
        for frame in (self.inter_feat, self.unrated):
            for field, value in ((self.time_field, 0.0), (REVIEW_ROW, -1.0)):
                if field in frame:
                    frame[field] = frame[field].fillna(value)
        super()._fill_nan()

    def _del_col(self, feat, field) -> None:
        # RecBole drops a rating that `threshold` turns into labels, and the columns in `unused_col`.
        if feat is not self.inter_feat or field not in self._needed():
            super()._del_col(feat, field)

    def _needed(self) -> set[str]:
        """Fields of interactions that this project reads for every model."""
        keys = ("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD")
        return {REVIEW_ROW, *(self.config[key] for key in keys)}

    def _normalize(self) -> None:
        # Errors are measured in rating units, times are compared, and review rows are positions in a file.
        kept = [field for field in (self.rating_field, self.time_field, REVIEW_ROW) if field in self.inter_feat]
        values = self.inter_feat[kept].copy()
        super()._normalize()
        self.inter_feat[kept] = values

    def _dataframe_to_interaction(self, data):
        interaction = super()._dataframe_to_interaction(data)
        if self.time_field in data:
            interaction.update(Interaction({self.time_field: torch.from_numpy(data[self.time_field].to_numpy(float))}))
        return interaction

    def _change_feat_format(self) -> None:
        # Together, so that vectors are padded to one width.
        both = pd.concat([self.inter_feat[self.unrated.columns], self.unrated], ignore_index=True)
        together = self._dataframe_to_interaction(both)
        super()._change_feat_format()
        n_rated = len(self.inter_feat)
        self.inter_feat.update(together[:n_rated])
        self.unrated = together[n_rated:]

    def build(self) -> list[ReviewDataset]:
        """Split as RecBole does, or, with ``eval_args.split: {KF: [n, fold]}``, into n folds of each user's rows.

        For folds, the rows are shuffled by the seed and assigned to the n folds in turn. ``fold`` is the test part, the
        next fold is for validation, the others are for training. Over folds 0 to n - 1, every row is tested once.

        With ``split: {cold_items: share}``, validation and test have all rows of one half each of the held-out items,
        see :func:`~recbole_drex.data.cold_items.held_out_items`. Their rows without a rating are not evidence.

        If the order is by time, ``unrated`` of the training part contains only rows earlier than the first row of
        validation and test (per user if the split is by user, otherwise over all users). Rows without a time are then
        not evidence.

        Raises:
            ConfigError: ``KF`` without random order and grouping by user, with invalid numbers; or folds or held-out
                items for a data set that is already split.
            DataError: the order is by time, but the data have no times.
        """
        arguments = self.config["eval_args"]
        temporal = self.benchmark_filename_list is None and arguments["order"] == "TO"
        if temporal:
            self._check_times()
        if COLD_ITEMS in arguments["split"]:
            return self._without_items(arguments["split"][COLD_ITEMS])
        if "KF" not in arguments["split"]:
            parts = super().build()
            if temporal and len(self.unrated):
                parts[0].unrated = self._earlier_unrated(parts[1:])
            return parts
        if self.benchmark_filename_list is not None:
            raise ConfigError(f"eval_args: data set '{self.dataset_name}' is already split: folds (KF) are impossible")
        if (arguments["order"], arguments["group_by"]) != ("RO", "user"):
            raise ConfigError("eval_args: folds (KF) are random and by user: they need order: RO and group_by: user")
        n, fold = fold_of(arguments)
        self._change_feat_format()
        self.shuffle()
        users = pd.Series(self.inter_feat[self.uid_field].numpy())
        turn = (users.groupby(users).cumcount().to_numpy() - fold) % n
        self._drop_unused_col()
        parts = (turn > 1, turn == 1, turn == 0)
        return [self.copy(self.inter_feat[np.flatnonzero(part)]) for part in parts]

    def _without_items(self, share: float) -> list[ReviewDataset]:
        if self.benchmark_filename_list is not None:
            raise ConfigError(f"eval_args: data set '{self.dataset_name}' is already split: cold_items is impossible")
        self._change_feat_format()
        item = self.inter_feat[self.iid_field].numpy()
        halves = held_out_items(item, share, self.config["seed"], self.dataset_name)
        masks = [np.isin(item, half) for half in halves]
        self._drop_unused_col()
        parts = [self.copy(self.inter_feat[np.flatnonzero(mask)]) for mask in (~(masks[0] | masks[1]), *masks)]
        kept = ~np.isin(self.unrated[self.iid_field].numpy(), np.concatenate(halves))
        parts[0].unrated = self.unrated[np.flatnonzero(kept)]
        return parts

    def _check_times(self) -> None:
        times = self.inter_feat[self.time_field] if self.time_field in self.inter_feat else pd.Series(dtype=float)
        missing = int((times == 0).sum())
        if missing == len(times):
            raise DataError(
                f"eval_args orders by time, and data set '{self.dataset_name}' has no times in a field "
                f"'{self.time_field}' (TIME_FIELD); write order: RO, or name the field"
            )
        if missing:
            self.notes.append(
                f"{missing:,} of {len(times):,} interactions have no time, and count as the earliest in the split"
            )

    def _earlier_unrated(self, held_out: list[ReviewDataset]) -> Interaction:
        """Rows without a rating that are earlier than the first validation or test row, per user or over all users."""
        first = torch.full((self.user_num,), torch.inf, dtype=torch.float64)
        for part in held_out:
            first.scatter_reduce_(0, part.inter_feat[self.uid_field].long(), part.inter_feat[self.time_field], "amin")
        arguments = self.config["eval_args"]
        if "RS" in arguments["split"] and arguments["group_by"] != "user":
            first[:] = first.min()
        time = self.unrated[self.time_field]
        early = (time != 0) & (time < first[self.unrated[self.uid_field].long()])  # 0 where the time is missing
        if not early.all():
            self.notes.append(
                f"{int((~early).sum()):,} of {len(early):,} rows without a rating are not evidence, since they are not "
                "known to be earlier than validation and test (order: TO)"
            )
        return self.unrated[torch.nonzero(early).flatten()]

    def with_hidden(self, reviews: float, ratings: float) -> ReviewDataset:
        """This (training) part without a share of its reviews and ratings, to measure what they contribute to a model.

        The seed decides which rows are hidden; a larger share includes every smaller one.

        Args:
            reviews: share of the reviews that are hidden, unrated interactions included.
            ratings: share of the interactions with a visible review whose rating is hidden. They become rows without a
                rating: models learn from their review, but not from their rating.

        Raises:
            DataError: no training rating would be left.
        """
        if not reviews and not ratings:
            return self
        if REVIEW_ROW not in self.inter_feat:
            raise DataError(f"data set '{self.dataset_name}' has no reviews, so nothing can be hidden")
        rated, unrated = self.inter_feat[np.arange(len(self.inter_feat))], self.unrated[np.arange(len(self.unrated))]
        both = torch.cat([rated[REVIEW_ROW], unrated[REVIEW_ROW]]) >= 0
        hidden = _chosen(both, reviews, self.config["seed"])
        for feat, part in ((rated, hidden[: len(rated)]), (unrated, hidden[len(rated) :])):
            feat[REVIEW_ROW][part] = -1.0
        unrated = unrated[torch.nonzero(unrated[REVIEW_ROW] >= 0).flatten()]
        moved = _chosen(rated[REVIEW_ROW] >= 0, ratings, self.config["seed"] + 1)
        if moved.all():
            raise DataError(f"hide_ratings: {ratings} leaves no training rating in '{self.dataset_name}' to learn from")
        part = self.copy(rated[torch.nonzero(~moved).flatten()])
        evidence = rated[torch.nonzero(moved).flatten()]
        evidence = Interaction({field: evidence[field] for field in unrated.columns})
        part.unrated = cat_interactions([unrated, evidence])
        return part

    def pair_key(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """One integer per (user, item) pair."""
        return user.long() * self.item_num + item.long()

    def evidence(self, fields: tuple[str, ...] = ()) -> Evidence:
        """Rows of this (training) part, then the unrated rows; call it on the training part only.

        Args:
            fields: further modalities: ``float_seq`` fields of the ``.inter`` file, or item modalities, whose vectors
                are repeated for every interaction of an item.

        Raises:
            ConfigError: there is no such field, or it is ``reviews``, which would leak the review of the target.
            DataError: the field holds NaN or infinite numbers.
        """
        parts = [self.inter_feat, self.unrated]

        def column(field: str, default: float) -> torch.Tensor:
            values = [p[field] if field in p else torch.full((len(p),), default) for p in parts]
            return torch.cat(values)

        item = column(self.iid_field, 0).long()
        vectors = {}
        for field in fields:
            if field in self.inter_feat:
                vectors[field] = column(field, 0.0).float()
                if not torch.isfinite(vectors[field]).all():
                    raise DataError(f"field '{field}' of {self.dataset_name}.inter holds NaN or infinity")
            elif field in self.item_modalities and field != ITEM_REVIEWS:
                vectors[field] = self.item_vectors(field)[item]
            else:
                legal = {"review", "rating", *self.item_modalities, *self._float_seqs()} - {ITEM_REVIEWS}
                raise ConfigError(unknown_name("modality", field, legal, "Further fields need 'load_col'."))
        review_row = column(REVIEW_ROW, -1.0).long()
        if self.config["shuffle_reviews"]:
            # A control: any gain over no reviews that remains is not due to their content.
            reviewed = torch.nonzero(review_row >= 0).flatten()
            generator = torch.Generator().manual_seed(self.config["seed"])
            review_row[reviewed] = review_row[reviewed[torch.randperm(len(reviewed), generator=generator)]]
        rating = torch.cat([parts[0][self.rating_field].float(), torch.full((len(parts[1]),), torch.nan)])
        return Evidence(
            user=column(self.uid_field, 0).long(),
            item=item,
            rating=rating,
            timestamp=column(self.time_field, 0.0).double(),
            review_row=review_row,
            fields=vectors,
        )

    def _float_seqs(self) -> list[str]:
        return [name for name, kind in self.field2type.items() if kind == FeatureType.FLOAT_SEQ]

    @property
    def item_modalities(self) -> list[str]:
        """Names for :meth:`item_vectors`: prepared modalities, ``float_seq`` fields of the ``.item`` file, reviews."""
        fields = [name for name in self._float_seqs() if self.item_feat is not None and name in self.item_feat]
        reviews = [ITEM_REVIEWS] if REVIEW_ROW in self.inter_feat else []
        return [*ItemFeatures(Path(self.dataset_path) / FOLDER).names, *fields, *reviews]

    def item_vectors(self, name: str) -> torch.Tensor:
        """Vectors of all items by internal id, (item_num, width); zeros for the padding and for items without vector.

        Args:
            name: a prepared modality such as ``text`` or ``image``, a ``float_seq`` field of the ``.item`` file, or
                ``reviews``: the mean over an item's reviews in this (training) part of their words' mean vectors.

        Raises:
            ConfigError: there is no such modality.
            DataError: its file is missing or damaged, or it holds NaN or infinite numbers.
        """
        if name not in self.item_modalities:
            raise ConfigError(
                unknown_name("item modality", name, self.item_modalities, "Fields of an .item file need 'load_col'.")
            )
        if name == ITEM_REVIEWS:
            return self._mean_reviews()
        if self.item_feat is not None and name in self.item_feat:
            vectors = self.item_feat[name].float()
            if not torch.isfinite(vectors).all():
                row = int(torch.nonzero(~torch.isfinite(vectors).all(1))[0])
                item = self.id2token(self.iid_field, row)
                raise DataError(f"field '{name}' of {self.dataset_name}.item holds NaN or infinity for item '{item}'")
            return vectors
        tokens = self.field2id_token[self.iid_field][1:].tolist()
        vectors = torch.from_numpy(ItemFeatures(Path(self.dataset_path) / FOLDER).vectors(name, tokens))
        return torch.cat([torch.zeros(1, vectors.shape[1]), vectors])

    def _mean_reviews(self) -> torch.Tensor:
        evidence = self.evidence()
        vectors = torch.from_numpy(self.features().means(evidence.review_row.numpy()))
        reviewed = vectors.abs().sum(1) > 0
        item = evidence.item[reviewed]
        sums = torch.zeros(self.item_num, vectors.shape[1]).index_add_(0, item, vectors[reviewed])
        return sums / torch.bincount(item, minlength=self.item_num).clamp(min=1)[:, None]

    def rating_levels(self) -> torch.Tensor:
        """The distinct ratings of this part, ascending."""
        return torch.unique(self.inter_feat[self.rating_field])

    def features(self) -> FeatureStore:
        """The word features of the reviews.

        Raises:
            DataError: they are missing or damaged; the message shows the command that creates them, or the parameters
                that avoid them.
        """
        folder = Path(self.dataset_path) / "features"
        if not folder.is_dir():
            there = ",".join(["rating", *(name for name in self.item_modalities if name != ITEM_REVIEWS)])
            raise DataError(
                f"data set '{self.dataset_name}' has no word features in {folder}. Create them from raw reviews with "
                f"`recbole-drex prepare --dataset {self.dataset_name} --raw FILE --rebuild`; without reviews, let DReX "
                f"use what is there: --modalities '[{there}]' --taste '[]'"
            )
        return FeatureStore.open(folder)


def fold_of(eval_args: dict[str, Any]) -> tuple[int, int]:
    """Number of folds and index of the test fold in ``eval_args.split: {KF: [n, fold]}``.

    Raises:
        ConfigError: the numbers are invalid.
    """
    value = eval_args["split"]["KF"]
    numbers = isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)
    if not numbers or not (value[0] >= 3 and 0 <= value[1] < value[0]):
        raise ConfigError(f"eval_args.split KF must be [folds, fold], 3 or more folds counted from 0, not {value!r}")
    return value[0], value[1]


def _chosen(candidates: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """Mask of a random ``share`` of ``candidates`` (a mask); a larger share includes every smaller one."""
    indices = torch.nonzero(candidates).flatten()
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))
    chosen = torch.zeros_like(candidates)
    chosen[indices[order[: round(share * len(indices))]]] = True
    return chosen
