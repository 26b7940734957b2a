"""Measures the sentences that a model writes, against those that test users wrote and against other reviews."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_drex.data.dataset import REVIEW_ROW
from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts
from recbole_drex.data.text.tokenizer import TextProcessor
from recbole_drex.evaluation.sentence_metrics import (
    bleu,
    feature_coverage_ratio,
    feature_diversity,
    feature_matching_ratio,
    rouge_l,
    rouge_n,
    unique_sentence_ratio,
)
from recbole_drex.model.drex.aspects import Aspects, Words
from recbole_drex.model.generative.keyword_sentences import KeywordSentences
from recbole_drex.model.layers.evidence_table import EvidenceTable
from recbole_drex.model.layers.review_check import with_words
from recbole_drex.model.layers.word_attention import WordAttention
from recbole_drex.model.pesi.sentence_data import as_text, split_sentences
from recbole_drex.training.run_record import Experiment

LONGEST = 15  # words of a target sentence
_AGREE = 2 / 3  # minimum share of reviews with the same sentiment at a word, as for keywords of profiles


def sentence_quality(experiment: Experiment, pairs: int, seed: int) -> dict[str, Any] | None:
    """Measure the sentences of a trained model on pairs of the test part.

    The target of a pair is the sentence of its test review with the highest keyword score, of at most 15 words; it is
    read for this measurement alone. Features are the best keywords of the training reviews' sentences that are chosen
    in the same way.

    Args:
        experiment: of a model that writes sentences.
        pairs: maximum number of pairs, drawn at random from those with a target.
        seed: of the random choice.

    Returns:
        ``pairs``, their number; ``bleu_1``, ``bleu_4``; ``rouge_1``, ``rouge_2`` and ``rouge_l`` (F1, each with
        ``_precision`` and ``_recall``); ``usr``, ``fmr``, ``fcr``, ``div``; see
        :mod:`recbole_drex.evaluation.sentence_metrics`. ``contradicting``: of the sentences that name a word at which
        the item's training reviews agree, ``judged``, the share that says the opposite; ``contradicting_targets``: the
        same for the targets; see :class:`Opinions`. Undefined values are NaN. None without a target to compare with.
    """
    chosen = _targets(experiment, pairs, seed)
    if chosen is None:
        return None
    user, item, targets, keywords = chosen
    texts: list[str] = experiment.model.generate(user, item)  # type: ignore[operator]
    written = [_plain([word for words in split_sentences(text) for word in words]) for text in texts]
    references = [_plain(words) for words in targets]
    named = [keywords.keywords(words) for words in written]
    features = [keywords.features.intersection(words) for words in named]
    result = {"pairs": len(texts), "bleu_1": bleu(written, references, 1), "bleu_4": bleu(written, references, 4)}
    for name, rouge in (
        ("rouge_1", rouge_n(written, references, 1)),
        ("rouge_2", rouge_n(written, references, 2)),
        ("rouge_l", rouge_l(written, references)),
    ):
        result |= {name: rouge.f1, f"{name}_precision": rouge.precision, f"{name}_recall": rouge.recall}
    result |= {
        "usr": unique_sentence_ratio(written),
        "fmr": feature_matching_ratio(named, [keywords.feature(words) for words in targets]),
        "fcr": feature_coverage_ratio(features, len(keywords.features)),
        "div": feature_diversity(features),
    }
    opinions = Opinions(experiment, item)
    verdicts = [opinions.contradicts(iid, text) for iid, text in zip(item.tolist(), texts, strict=True)]
    of_targets = [opinions.contradicts(iid, as_text(words)) for iid, words in zip(item.tolist(), targets, strict=True)]
    return {
        **result,
        "judged": float(np.mean([one is not None for one in verdicts])),
        "contradicting": _share(verdicts),
        "contradicting_targets": _share(of_targets),
    }


def _plain(words: Sequence[str]) -> list[str]:
    return [word for word in words if word != ","]


def _share(verdicts: Sequence[bool | None]) -> float:
    known = [one for one in verdicts if one is not None]
    return float(np.mean(known)) if known else float("nan")


def _targets(
    experiment: Experiment, pairs: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, list[list[str]], KeywordSentences] | None:
    """Users and items (n,) of test pairs, their target sentences, and the keywords of the training reviews."""
    config, part, test = experiment.config, experiment.parts.train_dataset, experiment.parts.test
    path = Path(part.dataset_path) / TEXTS
    feat = None if test is None else test.rows._dataset.inter_feat
    if feat is None or REVIEW_ROW not in feat or not path.is_file():
        return None
    texts, rows = ReviewTexts(path), torch.nonzero(feat[REVIEW_ROW] >= 0).flatten()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(rows)))
    rows = rows[order[:pairs].sort().values]
    evidence, n = part.evidence(), len(part.inter_feat)
    reviewed = torch.nonzero(evidence.review_row[:n] >= 0).flatten()
    if not len(rows) or not len(reviewed):
        return None
    reviews = [split_sentences(text) for text in texts[evidence.review_row[reviewed].numpy()]]
    processor = TextProcessor(config["lemmatizer"], config["language"])
    keywords = KeywordSentences(reviews, evidence.user[reviewed].numpy(), processor, LONGEST)
    targets = [keywords.choose(split_sentences(text))[0] for text in texts[feat[REVIEW_ROW][rows].long().numpy()]]
    kept = [k for k, words in enumerate(targets) if words]
    if not kept:
        return None
    user, item = (feat[field][rows][kept] for field in (part.uid_field, part.iid_field))
    return user, item, [targets[k] for k in kept], keywords


class Opinions:
    """What the training reviews of items say at each lemma, and whether a sentence says the opposite.

    The sentiment of an occurrence is that of :class:`~recbole_drex.model.drex.aspects.Aspects` before training, which
    is a ridge regression of ratings on words, within a window of two neighbours; it does not depend on the model that
    is measured. A review praises (blames) a lemma if the sum over its occurrences is above (below) 0. Reviews agree at
    a lemma if two or more, and two thirds of those with it, praise it, or blame it. Lemmas that aspects leave out
    (general words, and words of few reviews or users) are not judged.

    Args:
        experiment: a run; its training part is read.
        items: internal ids of the items that are asked for, (n,).
    """

    def __init__(self, experiment: Experiment, items: torch.Tensor):
        config, part = experiment.config, experiment.parts.train_dataset
        evidence, store = part.evidence(), part.features()
        with torch.random.fork_rng(devices=[]):  # the attention is not used
            attention = WordAttention(store, 1)
        sizes = (part.user_num, part.item_num)
        table = EvidenceTable(evidence, ["review", "rating"], part.rating_levels(), attention, *sizes, damping=5.0)
        self._aspects = Aspects(store, table, 0, 1.0)
        self._processor = TextProcessor(config["lemmatizer"], config["language"])
        self._index = {lemma: k for k, lemma in enumerate(store.vocabulary)}
        offsets = torch.from_numpy(store.offsets.astype(np.int64))
        used = torch.nonzero(with_words(evidence.review_row, offsets) & torch.isin(evidence.item, items)).flatten()
        self._sides = self._agreed(evidence.item[used].numpy(), evidence.review_row[used].numpy())

    def _agreed(self, item: np.ndarray, rows: np.ndarray) -> dict[tuple[int, int], int]:
        """1 where reviews agree in praise, -1 where they agree in blame, by item and lemma."""
        if not len(rows):
            return {}
        words = self._aspects.words(rows)
        lemma, opinion, known = self._read(words)
        review = np.searchsorted(words.first.numpy(), np.arange(len(lemma)), side="right")[known] - 1
        n = len(self._aspects.lemma)
        key, inverse = np.unique(review * n + lemma[known], return_inverse=True)
        opinion = np.bincount(inverse, opinion[known], len(key))
        key, inverse = np.unique(item[key // n] * n + key % n, return_inverse=True)
        count = np.bincount(inverse)
        praise, blame = (np.bincount(inverse, one, len(key)) for one in (opinion > 0, opinion < 0))
        enough = np.maximum(2, count * _AGREE)
        sides = np.where(praise >= enough, 1, np.where(blame >= enough, -1, 0))
        return {(int(k // n), int(k % n)): int(side) for k, side in zip(key, sides, strict=True) if side}

    def _read(self, words: Words) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lemma and sentiment of words (k,), and the indices of those that are judged."""
        aspects = self._aspects
        sentiment = aspects.word_sentiments(words, aspects.cached_lexicon()[1])
        judged = torch.nonzero(aspects.slot[words.lemma] < len(aspects.counted)).flatten()
        return words.lemma.numpy(), sentiment.detach().numpy(), judged.numpy()

    def contradicts(self, item: int, text: str) -> bool | None:
        """Whether a sentence praises what the item's reviews agree to blame, or the reverse.

        None if it names no lemma at which they agree.
        """
        read = self._processor(text)
        if not read.lemmas:
            return None
        number = [self._index.get(lemma, -1) for lemma in read.lemmas]
        words = Words(
            self._aspects.lemma[number], torch.zeros(1, dtype=torch.int64), torch.tensor(read.begins).cumsum(0)
        )
        lemma, sentiment, judged = self._read(words)
        opinion = np.bincount(lemma[judged], sentiment[judged]) if len(judged) else np.zeros(0)
        sides = {one: self._sides[item, one] for one in np.unique(lemma[judged]).tolist() if (item, one) in self._sides}
        return any(opinion[one] * side < 0 for one, side in sides.items()) if sides else None
