"""Altered copies of a prepared data set, for tests that ask what a change of the data changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from recbole.data.interaction import Interaction

from recbole_drex.data.items.item_features import FOLDER, write_item_features
from recbole_drex.data.text.feature_store import FeatureStore
from recbole_drex.data.text.review_texts import TEXTS
from recbole_drex.model.abstract_recommender import OrdinalHead
from recbole_drex.model.drex.aspects import _SHARPNESS, WINDOW
from recbole_drex.model.layers.common import cumulated
from recbole_drex.utils.files import sha256

NAME = "small"


def copy_of(root: Path, target: Path, change: Callable[[pd.DataFrame], pd.DataFrame], texts: bool = False) -> Path:
    """Write ``root``'s data set to ``target`` with its interactions changed; returns ``target``, the new ``data_path``.

    The word features and, if asked for, the ``texts`` of reviews are shared by links.
    """
    folder = target / NAME
    folder.mkdir(parents=True)
    frame = pd.read_csv(root / NAME / f"{NAME}.inter", sep="\t", keep_default_na=True)
    change(frame).to_csv(folder / f"{NAME}.inter", sep="\t", index=False)
    (folder / "features").symlink_to(root / NAME / "features")
    if texts:
        (folder / TEXTS).symlink_to(root / NAME / TEXTS)
    return target


def with_item_vectors(root: Path, target: Path, missing: dict[str, Sequence[int]]) -> Path:
    """A copy of ``root``'s data set whose items have vectors: of each modality, all but those at the places given.

    Widths are 5, 6, ... in the order of the modalities; items are in the order of their ids as text.
    """
    copy_of(root, target, lambda frame: frame)
    frame = pd.read_csv(target / NAME / f"{NAME}.inter", sep="\t", dtype=str)
    items = sorted(set(frame["item_id:token"]))
    modalities = {}
    for number, (name, indices) in enumerate(missing.items()):
        modalities[name] = np.random.default_rng(number).normal(size=(len(items), 5 + number))
        modalities[name][list(indices)] = 0.0
    write_item_features(target / NAME / FOLDER, items, modalities)
    return target


def scramble_words(root: Path, reviews: np.ndarray, seed: int = 0) -> None:
    """Give ``root`` features of its own in which the words of the reviews at these store rows are noise.

    Their vectors are random numbers; in a static store, which has vectors of lemmas alone, the lemmas are random ones.
    """
    link = root / NAME / "features"
    source = link.resolve()
    link.unlink()
    link.mkdir()
    for file in source.iterdir():
        (link / file.name).write_bytes(file.read_bytes())
    offsets, rng = np.load(link / "offsets.npy"), np.random.default_rng(seed)
    path = link / ("word_ids.npy" if FeatureStore.open(source).static else "vectors.npy")
    words = np.load(path)
    lemmas = len(json.loads((link / "vocabulary.json").read_text()))
    for row in reviews.tolist():
        index = slice(offsets[row], offsets[row + 1])
        shape = words[index].shape
        words[index] = rng.normal(size=shape) if path.stem == "vectors" else rng.integers(lemmas, size=shape)
    np.save(path, words)
    description = json.loads((link / "features.json").read_text())
    description["files"][path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    (link / "features.json").write_text(json.dumps(description))


def pairs(experiment, *parts: str) -> set[tuple[str, str]]:
    """(user, item) tokens of the named parts of a split: ``train``, ``valid``, ``test``."""
    result = set()
    for name in parts:
        part = experiment.parts.train if name == "train" else getattr(experiment.parts, name).rows
        feat, dataset = part._dataset.inter_feat, experiment.dataset
        users = dataset.id2token(dataset.uid_field, feat[dataset.uid_field].numpy())
        items = dataset.id2token(dataset.iid_field, feat[dataset.iid_field].numpy())
        result |= set(zip(users, items, strict=True))
    return result


def rows_of(frame: pd.DataFrame, wanted: set[tuple[str, str]]) -> np.ndarray:
    """Mask of the rows whose (user, item) pair is wanted."""
    return np.array([pair in wanted for pair in zip(frame["user_id:token"], frame["item_id:token"], strict=True)])


def shake(experiment):
    """The experiment, its model's parameters moved at random (always alike), so that every part of it acts.

    Parameters that count for more than they are, since they learn faster, move by as much less.
    """
    generator = torch.Generator().manual_seed(5)
    aspects, head = (getattr(experiment.model, name, None) for name in ("aspects", "head"))
    rates = {} if aspects is None else {one: aspects.rate for one in aspects.parameters() if one is not aspects._shift}
    if isinstance(head, OrdinalHead):
        rates |= dict.fromkeys(head.offsets.parameters(), head.rate)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            size = 0.3 / rates.get(parameter, 1.0)
            parameter += size * torch.randn(parameter.shape, generator=generator)
    experiment.model.eval()
    return experiment


def twin(experiment, feat: Interaction):
    """The same model, with the same parameters, on other training rows; what belongs to a lemma goes with the lemma.

    What was made of lemmas before training (their vectors, and which of them count), and the shares of levels in all
    ratings, are taken over like parameters.
    """
    dataset = experiment.parts.train_dataset
    whole, dataset.inter_feat = dataset.inter_feat, feat
    try:
        model = experiment.config.model_class(experiment.config, dataset)
    finally:
        dataset.inter_feat = whole
    state = dict(experiment.model.state_dict())
    if model.aspects is not None:
        _share_lemmas(model.aspects, experiment.model.aspects, state)
        model.table.width -= model.table.aspect_values.shape[1]
        model.table.add_aspects(model.aspects)
    model.load_state_dict(state)
    if hasattr(model, "level_shares"):
        model.level_shares = experiment.model.level_shares
    return model.eval()


def _share_lemmas(ours, theirs, state: dict[str, torch.Tensor]) -> None:
    """Make lemmas of one model's aspects what they are in another one's, and ``state``, of that one, fit."""
    number = {lemma: index for index, lemma in enumerate(theirs.known.tolist())}
    ours.vectors = theirs.vectors[torch.tensor([*(number[lemma] for lemma in ours.known.tolist()), len(number)])]
    index = {lemma: number for number, lemma in enumerate(ours.known.tolist())}
    lemmas = theirs.known[theirs.counted.numpy()].tolist()
    kept = [k for k, lemma in enumerate(lemmas) if lemma in index]
    ours.counted = torch.tensor([index[lemmas[k]] for k in kept], dtype=torch.int64)
    ours.slot = torch.full((len(ours.known) + 1,), len(kept)).index_put((ours.counted,), torch.arange(len(kept)))
    state["aspects._importance"] = state["aspects._importance"][kept]
    for name in ("_centres", "_weights", "_importance"):
        setattr(ours, name, torch.nn.Parameter(state[f"aspects.{name}"].clone()))


def without(experiment, *rows: int, kept: bool = False):
    """The same model, with the same parameters, on training rows that lack ``rows``.

    Args:
        experiment: whose model.
        rows: of the training part.
        kept: what the whole model makes of the other ratings stays as it is: what the other side explains of them, and
            what is left unexplained, which tastes are fitted to.
    """
    whole = experiment.parts.train_dataset.inter_feat
    lost = torch.isin(torch.arange(len(whole)), torch.tensor(rows))
    model = twin(experiment, whole[~lost])
    assert model.table.median == experiment.model.table.median
    removed = experiment.model.table.find(whole["user_id"][lost], whole["item_id"][lost])
    others = ~torch.isin(torch.arange(len(experiment.model.table)), removed)
    if kept:
        whole_table, table = experiment.model.table, model.table
        table.features, table.ratings = whole_table.features[others], whole_table.ratings[others]
        if model.refinement == "sequential":
            model._before_users = cumulated(table.ratings, table.user, table.time)
            model._before_items = cumulated(table.ratings, table.item, table.time)
    if model.taste is None:
        return model
    # The directions are those of all training reviews; what is said along them is what is left out.
    left, whole_taste = model.taste, experiment.model.taste
    left.strength, left.coordinates = whole_taste.strength, whole_taste.coordinates[others]
    left.has_words, items = whole_taste.has_words[others], experiment.model.table.item[others]
    left.sums = torch.zeros_like(whole_taste.sums).index_add_(0, items, left.coordinates.float())
    left.counts = torch.zeros_like(whole_taste.counts).index_add_(0, items, left.has_words.float())
    left.described = left.vectors(left.sums, left.counts)
    if kept and not model.ranks:
        experiment.model.make_ready()
        model.make_ready()
        model.residual = experiment.model.residual[others]
        model._tastes = left.fit(model.table, model.residual)
    return model


def literal_reading(aspects, lemmas: Sequence[int], sentences: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mentions and opinions (A,) of one review by the equations of ``Aspects``, word by word.

    Args:
        aspects: of a model.
        lemmas: of the review's words, as positions in the vocabulary.
        sentences: numbers of their sentences.
    """
    vectors = {
        lemma: vector.double().numpy()
        for lemma, vector in zip([*aspects.known.tolist(), None], aspects.vectors, strict=True)
    }
    usable = aspects.known[aspects.counted.numpy()].tolist()
    parameters = {
        name: aspects.rate * getattr(aspects, f"_{name}").detach().double().numpy()
        for name in ("centres", "importance", "sentiment")
    }
    gate = {lemma: 1 / (1 + np.exp(-g)) for lemma, g in zip(usable, parameters["importance"], strict=True)}
    shift, centres = float(aspects._shift.detach()), parameters["centres"]
    mentions, opinions = np.zeros(len(centres)), np.zeros(len(centres))
    for k, lemma in enumerate(lemmas):
        inside = range(max(0, k - WINDOW), min(len(lemmas), k + WINDOW + 1))
        near = [lemmas[j] for j in inside if sentences[j] == sentences[k]]
        context = sum(vectors.get(one, vectors[None]) for one in near) / len(near)
        output = np.tanh(parameters["sentiment"] @ context + shift)
        if lemma not in gate:
            continue
        likeness = [_SHARPNESS * vectors[lemma] @ centre / np.linalg.norm(centre) for centre in centres]
        share = np.exp(likeness) / np.exp(likeness).sum()
        mentions += gate[lemma] * share
        opinions += gate[lemma] * share * output
    return mentions, opinions
