"""Output of a trained model for many users, pairs or items, in blocks, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_drex.errors import DataError
from recbole_drex.experiments.trained_run import TrainedRun, check_length
from recbole_drex.model.vectors import vectors_of
from recbole_drex.utils.files import replacing

_USERS = 256  # users per block


def recommendations(
    run: TrainedRun, users: Sequence[str] | None = None, k: int = 10, explain: bool = False
) -> Iterator[pd.DataFrame]:
    """The best items of many users, as parts of one table.

    Args:
        run: the trained model.
        users: as named in the data; default: all.
        k: items of each user, 1 or more.
        explain: add a column ``explanation`` with the explanation as text.

    Returns:
        At least one part, with ``user_id`` and the columns of :meth:`TrainedRun.recommend`, which gives the same rows.

    Raises:
        DataError: no such user, or ``explain`` is set and the model has no explanations.
        ConfigError: ``k`` is not positive.
    """
    check_length(k)
    names, explainer = run.recommender, run.explainer if explain else None
    if users is None:
        ids: Sequence[int] = range(1, run.experiment.dataset.user_num)
    else:
        ids = [names.user_id(user) for user in users]

    def parts() -> Iterator[pd.DataFrame]:
        for first in range(0, max(1, len(ids)), _USERS):
            block = ids[first : first + _USERS]
            table = names.table(block, k)
            if explainer is not None:
                explained = (explainer.explain(names.user_name(user), k).recommendations for user in block)
                table["explanation"] = [one.sentence for result in explained for one in result]
            yield table

    return parts()


def read_users(path: str | Path) -> list[str]:
    """The names in a file with one user per line; blank lines are skipped.

    Raises:
        DataError: there is no such file, it is not a text, or it names no users.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the users in {path}: {getattr(error, 'strerror', None) or error}") from error
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise DataError(f"{path} names no users: it must have one per line")
    return names


def write_vectors(run: TrainedRun, path: str | Path) -> dict[str, tuple[int, ...]]:
    """Write the vectors of all users and items as a NumPy archive, atomically.

    It has the arrays ``user_id`` and ``item_id``, the names in the data, and ``user_vectors`` and ``item_vectors``, one
    row for each; ``numpy.load`` reads it. See :func:`recbole_drex.model.vectors.vectors_of`.

    Returns:
        The shapes of the two arrays of vectors.

    Raises:
        DataError: the model has no vectors, or the file cannot be written.
    """
    result = vectors_of(run.experiment.model)
    if result is None:
        raise DataError(f"{run.experiment.config.model} has no vectors of users and items to export")
    dataset, arrays = run.experiment.dataset, {}
    for side, field, vectors in zip(("user", "item"), (dataset.uid_field, dataset.iid_field), result, strict=True):
        arrays[f"{side}_id"] = np.array(dataset.field2id_token[field][1:], dtype=str)
        arrays[f"{side}_vectors"] = vectors[1 : len(arrays[f"{side}_id"]) + 1].detach().cpu().numpy()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return {name: array.shape for name, array in arrays.items() if name.endswith("vectors")}
