"""RecBole's ``Dataset`` that carries reviews: rows without a rating are evidence, never training or test targets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.data.dataset import Dataset
from recbole.data.utils import create_samplers, get_dataloader
from recbole.utils import FeatureType

from recbole_drex.config import Config
from recbole_drex.data.store import FeatureStore
from recbole_drex.errors import ConfigError, DataError, unknown_name

REVIEW_ROW = "review_row"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What may be known when something is predicted: the training rows, then the rows without a rating.

    Attributes:
        user, item: internal ids, each of shape ``(n,)``.
        rating: of shape ``(n,)``, NaN where missing.
        timestamp: seconds, of shape ``(n,)``, 0 where missing.
        review_row: row of the feature store, of shape ``(n,)``, -1 where the review is missing.
        fields: further vectors per interaction by field name, each ``(n, width)``; a missing one is all zero.
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

    Rated rows go through RecBole's filtering and splitting. Rows with a review and no rating are held apart in
    ``unrated`` (none when ``keep_unrated`` is false): they are never split, so they are evidence for every part. A row
    whose (user, item) pair is rated too is dropped, since it might speak of a test row.

    Raises:
        DataError: no rated rows, or pre-split files (``benchmark_filename``) that hold rows without a rating.
    """

    inter_feat: Any  # a data frame until the data set is built, then RecBole's Interaction
    unrated: Any

    def _data_processing(self) -> None:
        self.rating_field = self.config["RATING_FIELD"]
        if self.rating_field not in self.inter_feat:
            raise DataError(f"data set '{self.dataset_name}' in {self.dataset_path} has no field '{self.rating_field}'")
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
        # RecBole would fill a missing time or review by the column's mean.
        for frame in (self.inter_feat, self.unrated):
            for field, value in ((self.time_field, 0.0), (REVIEW_ROW, -1.0)):
                if field in frame:
                    frame[field] = frame[field].fillna(value)
        super()._fill_nan()

    def _change_feat_format(self) -> None:
        # Together, so that vectors are padded to one width.
        both = pd.concat([self.inter_feat[self.unrated.columns], self.unrated], ignore_index=True)
        together = self._dataframe_to_interaction(both)
        super()._change_feat_format()
        n_rated = len(self.inter_feat)
        self.inter_feat.update(together[:n_rated])
        self.unrated = together[n_rated:]

    def pair_key(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """One integer per (user, item) pair."""
        return user.long() * self.item_num + item.long()

    def evidence(self, fields: tuple[str, ...] = ()) -> Evidence:
        """Rows of this (training) part, then the unrated rows; call it on the training part only.

        Args:
            fields: ``float_seq`` fields of the ``.inter`` file to take along as further modalities.

        Raises:
            ConfigError: there is no such field.
        """
        parts = [self.inter_feat, self.unrated]

        def column(field: str, default: float) -> torch.Tensor:
            values = [p[field] if field in p else torch.full((len(p),), default) for p in parts]
            return torch.cat(values)

        for field in fields:
            if field not in self.inter_feat:
                vectors = [name for name, kind in self.field2type.items() if kind == FeatureType.FLOAT_SEQ]
                raise ConfigError(
                    unknown_name("modality", field, ["review", "rating", *vectors], "Further fields need 'load_col'.")
                )
        review_row = column(REVIEW_ROW, -1.0).long()
        if self.config["shuffle_reviews"]:
            # What remains of a model's gain over no reviews at all is not owed to what they say.
            reviewed = torch.nonzero(review_row >= 0).flatten()
            generator = torch.Generator().manual_seed(self.config["seed"])
            review_row[reviewed] = review_row[reviewed[torch.randperm(len(reviewed), generator=generator)]]
        rating = torch.cat([parts[0][self.rating_field].float(), torch.full((len(parts[1]),), torch.nan)])
        return Evidence(
            user=column(self.uid_field, 0).long(),
            item=column(self.iid_field, 0).long(),
            rating=rating,
            timestamp=column(self.time_field, 0.0).double(),
            review_row=review_row,
            fields={field: column(field, 0.0).float() for field in fields},
        )

    def rating_levels(self) -> torch.Tensor:
        """The distinct ratings of this part, ascending."""
        return torch.unique(self.inter_feat[self.rating_field])

    def features(self) -> FeatureStore:
        """The word features of the reviews.

        Raises:
            DataError: they are missing or damaged; the message holds the command that makes them.
        """
        folder = Path(self.dataset_path) / "features"
        if not folder.is_dir():
            raise DataError(
                f"data set '{self.dataset_name}' has no word features in {folder}; make them with "
                f"`recbole-drex prepare --dataset {self.dataset_name} --raw FILE --rebuild`"
            )
        return FeatureStore.open(folder)


class EvaluationLoaders(NamedTuple):
    """Two views of one part: its rated rows, and its users against the full catalogue."""

    rows: NegSampleEvalDataLoader
    full: FullSortEvalDataLoader


class Parts(NamedTuple):
    """A split data set: the training loader and the evaluation loaders of validation and test."""

    train: Any
    valid: EvaluationLoaders
    test: EvaluationLoaders

    @property
    def train_dataset(self) -> ReviewDataset:
        return self.train._dataset


def split(config: Config, dataset: ReviewDataset) -> Parts:
    """Split by ``eval_args`` as RecBole does, and make the loaders.

    Raises:
        ConfigError: ``eval_args`` names a split, order or grouping that RecBole does not know.
        DataError: the split leaves validation or test empty, or a user has interacted with all items and the model
            needs others.
    """
    try:
        built = dataset.build()
    except NotImplementedError as error:  # RecBole's answer to an unknown kind of split, order or grouping
        raise ConfigError(f"eval_args {config['eval_args']}: {error}") from error
    for name, part in zip(("training", "validation", "test"), built, strict=True):
        if len(part) == 0:
            raise DataError(f"the split {config['eval_args']['split']} leaves no {name} rows in '{config['dataset']}'")
    try:
        samplers = create_samplers(config, dataset, built)
    except ValueError as error:  # RecBole's answer to users who have interacted with everything
        raise DataError(f"data set '{config['dataset']}': {error}") from error
    train = get_dataloader(config, "train")(config, built[0], samplers[0], shuffle=config["shuffle"])
    loaders = [
        EvaluationLoaders(
            rows=NegSampleEvalDataLoader(config, part, sampler),
            full=FullSortEvalDataLoader(config, part, sampler),
        )
        for part, sampler in zip(built[1:], samplers[1:], strict=True)
    ]
    return Parts(train, *loaders)
