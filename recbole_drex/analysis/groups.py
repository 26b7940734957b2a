"""Metrics by amount of evidence: users and items with few or many training ratings, rows with or without a review."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from recbole_drex.errors import DataError
from recbole_drex.results.comparison import Run

SIDES = ("user", "item", "review")
_NDCG = "ndcg@10"
_PAIR = ["user_id", "item_id"]


def group_quality(runs: Sequence[Run]) -> pd.DataFrame:
    """Errors and NDCG of every model within groups of users, of items and of test rows.

    Users, and likewise items, are cold, medium or warm by their number of training ratings. The bounds are terciles
    over the test rows of all splits, so each group holds about a third of these, and they are the same for every split;
    a user may be cold in one split and medium in another. Where models were trained on different shares of the ratings,
    the run with most of them decides, so that all models are compared on the same rows.

    Args:
        runs: finished runs of one data set.

    Returns:
        One row per group and label, groups in order: ``side`` (user, item, review), ``group`` (with its bounds),
        ``label``, ``users`` (different ones) and ``ratings`` (test rows) of all its splits, then mean and standard
        deviation over splits, ``mae, mae_std, rmse, rmse_std, mean_error, mean_error_std, ndcg@10, ndcg@10_std``.
        Errors are over the group's rows, with predictions clipped to the range of training ratings; NaN if models
        predict no ratings. ``mean_error``, the mean prediction less the mean rating, says how well a group is
        calibrated: above 0, its ratings are predicted too high. ``ndcg@10`` is the mean over the group's users, with
        all their test items ranked; other sides, which have no lists of users, have NaN. The standard deviation of a
        single split is NaN. Groups without rows are left out.

    Raises:
        DataError: no run, runs of several data sets, or runs that were tested on different rows of the same split.
        CheckpointError: a run's files are missing or damaged.
    """
    if not runs:
        raise DataError("there are no runs to group")
    if len(datasets := sorted({run.dataset for run in runs})) > 1:
        raise DataError(f"groups are made per data set, not of {' and '.join(datasets)} together")
    tested = [_test_rows(run) for run in runs]
    reference: dict[str, int] = {}  # per split, the run with most training ratings
    for index, (run, rows) in enumerate(zip(runs, tested, strict=True)):
        best = reference.setdefault(run.replicate, index)
        if not rows[_PAIR].equals(tested[best][_PAIR]):
            raise DataError(
                f"'{run.label}' and '{runs[best].label}' were tested on different rows of split {run.replicate} of "
                f"{run.dataset}"
            )
        if rows.attrs["train"] > tested[best].attrs["train"]:
            reference[run.replicate] = index
    groups = _assign(pd.concat({replicate: tested[index] for replicate, index in reference.items()}))
    labels = pd.CategoricalDtype(list(dict.fromkeys(run.label for run in runs)))
    parts, users = [], []
    for run, rows in zip(runs, tested, strict=True):
        rows = rows.drop(columns=list(SIDES)).join(groups.loc[run.replicate])
        rows = rows.assign(label=pd.Categorical([run.label] * len(rows), dtype=labels), replicate=run.replicate)
        parts.append(rows)
        ndcg = run.users().get(_NDCG, pd.Series(dtype=float))
        of_user = rows.drop_duplicates("user_id").set_index("user_id")
        users.append(of_user.assign(**{_NDCG: ndcg.reindex(of_user.index)}))
    everything = pd.concat(parts, ignore_index=True)
    tables = [_summary(everything, side, pd.concat(users) if side == "user" else None) for side in SIDES]
    return pd.concat(tables, ignore_index=True).astype({"group": str, "label": str})


def _test_rows(run: Run) -> pd.DataFrame:
    """Test rows ordered by users and items: ``user_id, item_id, error, user, item, review``. The last three are
    numbers of training ratings and whether there is a review."""
    rows = run.interactions()
    train = rows[rows["split"] == "train"]
    test = rows[rows["split"] == "test"].sort_values(_PAIR, kind="stable", ignore_index=True)
    clipped = test["prediction"].clip(train["rating"].min(), train["rating"].max())
    frame = test[_PAIR].assign(
        error=clipped - test["rating"] if run.result["output"] != "score" else np.nan,
        user=test["user_id"].map(train["user_id"].value_counts()).fillna(0).astype(int),
        item=test["item_id"].map(train["item_id"].value_counts()).fillna(0).astype(int),
        review=test["has_review"],
    )
    frame.attrs["train"] = len(train)
    return frame


def _assign(rows: pd.DataFrame) -> pd.DataFrame:
    """The groups of each row, in columns named after the sides, as categories in order."""
    review = rows["review"].map({True: "with a review", False: "without a review"})
    groups = {side: _by_history(rows[side]) for side in ("user", "item")}
    return pd.DataFrame({**groups, "review": review.astype("category")})


def _by_history(count: pd.Series) -> pd.Series:
    """Cold, medium and warm rows by ``count``: those up to the first tercile, up to the second, and above it."""
    low, high = np.quantile(count, [1 / 3, 2 / 3], method="inverted_cdf").astype(int)
    names = [f"cold (up to {low})", f"medium ({low + 1} to {high})", f"warm ({high + 1} or more)"]
    chosen = np.array(names)[np.searchsorted([low, high], count, side="left")]
    return pd.Series(chosen, count.index).astype(pd.CategoricalDtype(names))


def _summary(rows: pd.DataFrame, side: str, users: pd.DataFrame | None) -> pd.DataFrame:
    """One row per group of a side and label, from the rows of all runs, and users with their NDCG."""
    rows = rows.assign(mae=rows["error"].abs(), rmse=np.square(rows["error"]), mean_error=rows["error"])
    split, whole = [side, "label", "replicate"], [side, "label"]
    metrics = rows.groupby(split, observed=True)[["mae", "rmse", "mean_error"]].mean()
    metrics["rmse"] = np.sqrt(metrics["rmse"])
    metrics[_NDCG] = np.nan if users is None else users.groupby(split, observed=True)[_NDCG].mean()
    over_splits = metrics.groupby(whole, observed=True)
    mean, std = over_splits.mean(), over_splits.std()
    size = rows.groupby(whole, observed=True)["user_id"].agg(users="nunique", ratings="size")
    columns = [column for name in metrics for column in (mean[name], std[name].rename(f"{name}_std"))]
    table = pd.concat([size, *columns], axis=1).rename_axis(["group", "label"]).reset_index()
    table.insert(0, "side", side)
    return table
