"""Bytes of the feature store, and what storing it in 8 bits does to DReX's errors.

    python benchmarks/store.py

Prepares a data set (Movie_Critics, where ``RECBOLE_DREX_RAW`` names a folder with its raw files; else the generated
demo), rounds its word features to 8 bits, and trains DReX on both with the same seeds. Prints a table and writes
``benchmarks/results/store.json``.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import harness
import trained
from recbole_drex.data.prepare.manifest import fingerprint
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.feature_store_writer import LEMMAS, StoreWriter, pack, pack_words
from recbole_drex.utils.files import read_json, sha256, write_json

_REVIEWS = 1024  # written at a time
_AIMS = {"float16": 0.5, "int8": 0.26}  # a quarter, and a hundredth for the scales


def round_store(source: FeatureStore, folder: Path) -> FeatureStore:
    """Write a store of 16 bits again in 8, with nothing encoded again."""
    starts, shards = range(0, len(source), _REVIEWS), folder.with_name("shards")
    writer = StoreWriter(shards, source.width, source.signature, len(starts), "int8", source.static)
    vocabulary = np.array(source.vocabulary, dtype=object)
    for number, start in enumerate(starts):
        ends = source.offsets[start : start + _REVIEWS + 1]
        reviews = [slice(*span) for span in itertools.pairwise(ends)]
        lemmas = [vocabulary[source.word_ids[review]].tolist() for review in reviews]
        begins = [source.begins[review].tolist() for review in reviews]
        if source.static:
            shard = pack_words(lemmas, begins)
        else:
            shard = pack([np.array(source.vectors[one]) for one in reviews], lemmas, begins, source.width)
        writer.write_shard(number, shard)
    if source.static:
        for number, start in enumerate(range(0, len(vocabulary), LEMMAS)):
            writer.write_lemmas(number, np.array(source.vectors[start : start + LEMMAS]))
    writer.finish(folder, source.settings)
    shutil.rmtree(shards)
    return FeatureStore.open(folder)


def round_dataset(folder: Path, target: Path) -> FeatureStore:
    """Copy a prepared data set with its word features in 8 bits, as ``store_dtype: int8`` would have prepared it."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("features"))
    store = round_store(FeatureStore.open(folder / "features"), target / "features")
    path = target / f"{folder.name}.json"
    manifest, name = read_json(path), "features/features.json"
    manifest["settings"]["store_dtype"] = store.dtype
    manifest["files"][name] = sha256(target / name)
    manifest["fingerprint"] = fingerprint([manifest["fingerprint"], manifest["files"][name]])
    write_json(path, manifest)
    return store


def share_of_float32(store: FeatureStore) -> float:
    """Bytes of the vectors, scales included, by those that they would take in 32 bits."""
    scales = 0 if store.scales is None else store.scales.nbytes
    return (store.vectors.nbytes + scales) / (4 * store.vectors.size)


def _run(options: argparse.Namespace) -> None:
    findings, runs = [], {}
    with trained.workplace(options) as work, tempfile.TemporaryDirectory() as temporary:
        roots = {"float16": work / "auto", "int8": Path(temporary)}
        folder = trained.prepared(roots["float16"], options)
        rounded = round_dataset(folder, roots["int8"] / options.dataset)
        for store in (FeatureStore.open(folder / "features"), rounded):
            what = f"bytes of word vectors, {store.dtype}; {options.dataset}"
            aim = _AIMS[store.dtype]
            findings.append(harness.Finding(what, "float32", share_of_float32(store), "share", aim, at_most=True))
        for dtype, root in roots.items():
            runs[dtype] = trained.errors(root, options, store_dtype=dtype)
        findings += trained.effect("features in 8 bits, not 16", runs["float16"], runs["int8"], options)
    harness.conclude(options.output, findings, words=len(rounded.word_ids), width=rounded.width, runs=runs)


def main(arguments: Sequence[str] | None = None) -> int:
    return harness.run(_run, trained.make_parser(__doc__, "store").parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
