"""Copies what depends on words alone from one DReX to another, of another data set with the same encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from recbole_drex.errors import ConfigError

if TYPE_CHECKING:
    from recbole_drex.model.drex.aspects import Aspects
    from recbole_drex.model.drex.drex import DReX

_OF_WORDS = ("_centres", "_sentiment", "_shift", "_weights", "_pseudo_counts")


@torch.no_grad()
def copy_word_parameters(target: DReX, source: DReX) -> tuple[int, int]:
    """Initialise the attention over words and the aspects of ``target`` by those of ``source``.

    Copied are the attention and the projection of words; the centres, sentiment, weights and pseudo-counts of aspects;
    and the importances of lemmas that belong to aspects in both. Lemma vectors are centred in each data set on its own.

    Returns:
        Number of copied importances, and of all importances of ``target``.

    Raises:
        ConfigError: the models have different numbers of aspects, or one of them reads no reviews.
    """
    if target.attention is None or source.attention is None:
        raise ConfigError("source: both data sets need reviews with words, and modalities must have review")
    target.attention.load_state_dict(source.attention.state_dict())
    ours, theirs = target.aspects, source.aspects
    if ours is None or theirs is None:
        return 0, 0
    if len(ours) != len(theirs):
        least = min(len(ours), len(theirs))
        raise ConfigError(f"source: it has {len(theirs)} aspects and the data set {len(ours)}: write aspects: {least}")
    for name in _OF_WORDS:
        getattr(ours, name).copy_(getattr(theirs, name))
    importance = dict(zip(_counted(theirs), theirs._importance.tolist(), strict=True))
    lemmas = _counted(ours)
    shared = [index for index, lemma in enumerate(lemmas) if lemma in importance]
    ours._importance[shared] = torch.tensor([importance[lemmas[index]] for index in shared]).to(ours._importance)
    target.train()  # what was computed from the earlier parameters is out of date
    return len(shared), len(lemmas)


def _counted(aspects: Aspects) -> list[str]:
    """The lemmas that belong to aspects, in the order of their importances."""
    return [aspects.store.vocabulary[index] for index in aspects.known[aspects.counted.cpu().numpy()].tolist()]
