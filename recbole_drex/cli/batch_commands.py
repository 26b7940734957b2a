"""Commands that write the outputs of a trained model for many users, pairs or items, and the list of models."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from recbole_drex.errors import ConfigError, DataError, printable
from recbole_drex.experiments.batch_output import read_users, recommendations, write_vectors
from recbole_drex.experiments.trained_run import check_length, load, some_of
from recbole_drex.registry import own_models, recbole_models, summary_of
from recbole_drex.utils.progress import stage
from recbole_drex.utils.table_files import check_format, read_texts, write_table


def recommend(folder: str, users: str, top: int, out: str | None, explain: bool) -> int:
    """Write or print the best items of all users, or of the users in a file; unknown users are reported and skipped."""
    check_length(top)
    if out is not None:
        check_format(out)
    wanted = None if users == "all" else read_users(users)
    with stage(f"loading {folder}"):
        run = load(folder)
    if wanted is not None:
        known = run.recommender.ids("user")
        unknown = [user for user in wanted if user not in known]
        wanted = [user for user in wanted if user in known]
        if not wanted:
            raise DataError(f"{users} names no user of the data of {folder}: {some_of(unknown)}")
        if unknown:
            names, total = ", ".join(printable(user) for user in unknown), len(unknown) + len(wanted)
            share = f"{len(unknown):,} of {total:,} users in {users}"
            print(f"note: skipped users that are not in the data: {names} ({share})", file=sys.stderr)
    with stage(f"recommending to {len(wanted) if wanted is not None else run.experiment.dataset.user_num - 1:,} users"):
        return _show(recommendations(run, wanted, top, explain), out)


def predict(folder: str, pairs: str, out: str | None) -> int:
    """Write or print the pairs of a file with the predictions of a run."""
    if out is not None:
        check_format(out)
    table = read_texts(pairs)
    with stage(f"loading {folder}"):
        run = load(folder)
    predicted = run.predict(table)
    return _show([table.assign(**{str(predicted.name): predicted})], out)


def export(folder: str, vectors: str) -> int:
    """Write the user and item vectors of a run."""
    if Path(vectors).suffix != ".npz":
        raise ConfigError(f"--vectors {vectors}: the file must end in .npz")
    with stage(f"loading {folder}"):
        run = load(folder)
    shapes = write_vectors(run, vectors)
    print(f"{vectors}: " + ", ".join(f"{name} {rows:,} x {width}" for name, (rows, width) in shapes.items()))
    return 0


def list_models() -> int:
    """Print all models, one per line: those of this project, then RecBole's."""
    for title, names in (("This project", own_models()), ("RecBole", recbole_models())):
        print(f"{title}:")
        width = max(map(len, names)) + 2
        for name in names:
            print(f"  {name:{width}}{summary_of(name)}".rstrip())
    return 0


def _show(parts: Iterable[pd.DataFrame], out: str | None) -> int:
    if out is not None:
        print(f"{out}: {write_table(out, parts):,} rows")
        return 0
    table = pd.concat(list(parts), ignore_index=True)
    rows = [
        [f"{value:.4f}" if isinstance(value, float) else printable(str(value)) for value in row]
        for row in table.itertuples(index=False)
    ]
    print(tabulate(rows, list(table.columns), disable_numparse=True))
    return 0
