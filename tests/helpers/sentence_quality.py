"""How well a model that writes sentences predicts those of a part of the data, and how varied its own are."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from recbole_drex.data.dataset import REVIEW_ROW
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.model.pesi.sentence_data import PAD, UNKNOWN, choose, split_sentences


def text_quality(model: Any, part: Any, folder: str | Path, most: int = 1000) -> dict[str, float]:
    """How well a model that writes sentences foretells those of a part, and how varied its own are.

    The reviews of the part are read for this measurement alone.

    Args:
        model: a trained :class:`~recbole_drex.model.pesi.pesi.PESI`.
        part: a part of the split data set, such as ``experiment.parts.valid.rows._dataset``.
        folder: the data set's, with the review texts.
        most: reviews that are measured; the first of the part.

    Returns:
        ``sentences``: how many were measured. ``perplexity`` per known word and sentence end, each sentence given its
        user, its item and the predicted rating; ``perplexity_unigram``, by the frequencies in the training sentences;
        ``perplexity_other_pair``, given the next sentence's user and item. ``unknown``: share of words that the
        vocabulary lacks. ``distinct_1``, ``distinct_2``: distinct words and pairs of words among all that were
        written; ``distinct_sentences``: distinct sentences by all.

    Raises:
        DataError: the model has no generator, or the texts cannot be read.
    """
    feat = part.inter_feat
    rows = torch.nonzero(feat[REVIEW_ROW] >= 0).flatten()[:most]
    user, item = (feat[field][rows].to(model.mean.device) for field in (part.uid_field, part.iid_field))
    written = model.generate(user, item)
    sentences = model.writer.sentences
    texts = ReviewTexts(Path(folder) / TEXTS)[feat[REVIEW_ROW][rows].long().numpy()] if len(rows) else []
    chosen = [choose(split_sentences(text), sentences.longest) for text in texts]
    words = sentences.encode(chosen).to(user.device)
    losses, other = [], []
    with torch.no_grad():
        for who, what, line in zip(*(column.split(64) for column in (user, item, words)), strict=True):
            losses.append(model.writer.losses(model.condition(who, what), who, what, line))
            who, what = who.roll(1), what.roll(1)
            other.append(model.writer.losses(model.condition(who, what), who, what, line))
    learned = sentences.words[:, 1:]
    counts = torch.bincount(learned.flatten(), minlength=len(sentences.vocabulary)).float() + 1
    counts[[PAD, UNKNOWN]] = 0
    target = words[:, 1:]
    target = target[(target != PAD) & (target != UNKNOWN)]
    unigram = -torch.log(counts / counts.sum())[target]
    split = [split_sentences(text) for text in written]
    flat = [[word for sentence in text for word in sentence] for text in split]
    ones, twos = (Counter(gram for text in flat for gram in grams(text)) for grams in (iter, pairwise))
    n_words = sum(len(line) for line, _ in chosen)
    return {
        "sentences": float(len(rows)),
        "perplexity": math.exp(torch.cat(losses).mean()) if losses else math.nan,
        "perplexity_unigram": math.exp(unigram.mean()) if losses else math.nan,
        "perplexity_other_pair": math.exp(torch.cat(other).mean()) if losses else math.nan,
        "unknown": float((words == UNKNOWN).sum()) / max(1, n_words),
        "distinct_1": len(ones) / max(1, ones.total()),
        "distinct_2": len(twos) / max(1, twos.total()),
        "distinct_sentences": len(set(written)) / max(1, len(written)),
    }
