"""Times the way from raw reviews to an explained result by stage, and compares it with the alternatives.

    python benchmarks/whole.py
    python benchmarks/whole.py --datasets Movie_Reviews --arms static,contextual,plain,cornac --share 0.05
    python benchmarks/whole.py --datasets generated-1000000,generated-5000000 --arms static

Ways, each a command in processes of its own, whose wall time and memory are watched from outside:

- ``static``: `recbole-drex run` on the raw file with its defaults: DReX with one vector per lemma, the reference
  models, full-catalogue ranking, explanations and their measures. It always runs, since the others get its rows and
  its split.
- ``contextual``: the same with contextual vectors (`--encoder minilm`).
- ``plain``: a script of pandas, transformers and torch with a literal NARRE (`plain_narre.py`): the same largest number
  of epochs and the same patience; rating errors only, nothing is ranked or explained.
- ``cornac``: cornac's NARRE with its default settings and its own tokenizer (`plain_cornac.py`), in a virtual
  environment that is made in ``--work``; its HFT and MF where NARRE does not run; a note where it cannot be installed.

Data sets are real ones (raw files in the folder that ``RECBOLE_DREX_RAW`` names), ``demo``, or ``generated-N``: N
reviews by users as uneven as in Amazon Reviews 2023. The filter of 20 ratings a user and 5 an item keeps about a sixth.
Every text is another one, and the catalogue has one size, since ranking whole catalogues costs users times items.

With ``--share`` below 1 the long ways are measured on a share of the reviews and extrapolated, which their notes say.
Prints tables and writes ``benchmarks/results/whole.json``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import growth
import harness
import whole_arms
from recbole_drex.cli.options import name_list
from recbole_drex.errors import ConfigError, unknown_name
from whole_arms import OURS, PLAIN, Way

ARMS = ("static", "contextual", "plain", "cornac")
REAL = ("Movie_Critics", "Movie_Reviews")
"""Data sets of the default, where their raw files are; else the demo."""
AIMED = "Movie_Reviews"
"""The data set that aims of time and disk are for: 27,246 reviews of 240 words."""
LARGE = 5_000_000
"""Generated reviews that the aim of memory is for."""
_BRIEF = 0.5  # seconds: a stage that takes less at the largest size has no slope


def measure(name: str, options: argparse.Namespace, work: Path) -> list[Way]:
    """All ways of one data set, the static one first."""
    data = whole_arms.find_data(name, work, options.items)
    folder = work / name
    static, run = whole_arms.ours(data, "static", folder, options.seed, options.epochs)
    ways = [static]
    if "contextual" in options.arms and options.share < 1:
        ways.append(whole_arms.estimated_contextual(data, static, run, folder, options.seed, options.share))
    elif "contextual" in options.arms:
        ways.append(whole_arms.ours(data, "contextual", folder, options.seed, options.epochs)[0])
    if "plain" in options.arms:
        ways.append(whole_arms.plain(data, run, folder, options.seed, options.share))
    if "cornac" in options.arms:
        ways += whole_arms.cornacs(data, run, folder, options.seed, options.share)
    return ways


def findings(ways: Sequence[Way]) -> list[harness.Finding]:
    """What the ways say, by data set in their order."""
    found = []
    for static in (way for way in ways if way.by == OURS["static"]):
        name, aimed = static.data.name, static.data.name == AIMED
        what = f"raw to result, {name}"
        limit = 120.0 if aimed else None
        found.append(harness.Finding(what, "static vectors, with explanations", static.total, "s", limit, at_most=True))
        for other in ways:
            if other.data is static.data and other is not static and other.total:
                aim = {OURS["contextual"]: 4.0, PLAIN: 20.0}.get(other.by) if aimed else None
                note = " (extrapolated)" if "extrapolated" in other.note else ""
                against = f"{other.by}: {other.total:,.0f} s{note}"
                found.append(harness.Finding(what, against, other.total / static.total, "times as fast", aim))
        limit = 30.0 if aimed else None
        disk = harness.Finding(
            f"disk of word features, {name}", "static vectors", static.features / 1e6, "MB", limit, at_most=True
        )
        limit = 6.0 if static.data.reviews == LARGE else None
        memory = harness.Finding(
            f"memory of raw to result, {name}", "resident, of all processes", static.memory / 2**30, "GiB", limit,
            at_most=True,
        )  # fmt: skip
        found += [disk, memory]
    return found + slopes(ways)


def slopes(ways: Sequence[Way]) -> list[harness.Finding]:
    """How every stage grows from the smallest to the largest generated data; training and validation by epoch."""
    sized = sorted(
        (way for way in ways if way.by == OURS["static"] and way.data.reviews), key=lambda way: way.data.reviews
    )
    if len(sized) < 2:
        return []
    small, large = sized[0], sized[-1]
    found = []
    for stage in (*whole_arms.STAGES, "total"):
        by_epoch = stage in ("train", "validate")
        seconds = [
            way.total if stage == "total" else way.seconds.get(stage, 0.0) / (way.epochs if by_epoch else 1)
            for way in (small, large)
        ]
        # All raw reviews are read; the later stages get those that the filter keeps, whose share grows a little.
        raw = stage in ("start", "read", "total")
        sizes = [way.data.reviews if raw else way.kept for way in (small, large)]
        # The total also follows from the number of epochs, which does not grow with the data.
        aim = None if stage == "total" else 1.1
        if seconds[1] >= _BRIEF and seconds[0] > 0:
            what = f"growth of stage '{stage}'{', an epoch' if by_epoch else ''}"
            counted = f"{sizes[0]:,} to {sizes[1]:,} {'raw' if raw else 'kept'} reviews"
            against = f"{counted}: {seconds[0]:.3g} to {seconds[1]:.3g} s"
            found.append(harness.Finding(what, against, growth.slope(sizes, seconds), "log/log", aim, at_most=True))
    return found


def _check(options: argparse.Namespace) -> None:
    for arm in options.arms:
        if arm not in ARMS:
            raise ConfigError(unknown_name("way", arm, ARMS))
    if "static" not in options.arms:
        raise ConfigError("--arms: static must be among them, since the others get its rows and its split")
    if not options.datasets:
        raise ConfigError("--datasets: name at least one")
    if not 0 < options.share <= 1:
        raise ConfigError(f"--share must be above 0 and at most 1, not {options.share:g}")


def _run(options: argparse.Namespace) -> None:
    _check(options)
    ways: list[Way] = []
    with tempfile.TemporaryDirectory(prefix="recbole-drex-") as temporary:
        work = (options.work or Path(temporary)).absolute()
        for name in options.datasets:
            ways += measure(name, options, work)
            harness.print_rows(way.row() for way in ways if way.data.name == name)
            print(flush=True)
    rows = [way.row() for way in ways]
    threads = os.environ.get("OMP_NUM_THREADS")
    harness.conclude(options.output, findings(ways), ways=rows, share=options.share, OMP_NUM_THREADS=threads)


def main(arguments: Sequence[str] | None = None) -> int:
    folder = os.environ.get("RECBOLE_DREX_RAW")
    default = [name for name in REAL if folder and (Path(folder) / f"{name}.jsonl.gz").is_file()] or ["demo"]
    parser = harness.make_parser(__doc__, "whole")
    parser.add_argument(
        "--datasets", type=name_list, default=default, help=f"names, comma-separated (default: {','.join(default)})"
    )
    parser.add_argument(
        "--arms",
        type=name_list,
        default=["static", "contextual"],
        help=f"of {', '.join(ARMS)} (default: the first two)",
    )
    parser.add_argument(
        "--share", type=float, default=0.1,
        help="of the reviews that the long ways encode and train on; the rest is extrapolated (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=2026, help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="at most (default: the model's)")
    parser.add_argument("--items", type=int, default=2000, help="of generated reviews (default: %(default)s)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep generated reviews and all files here")
    return harness.run(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
