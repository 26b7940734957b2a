"""Metrics of generated sentences: against target sentences, of their features, and of their variety.

A sentence is a sequence of words. All values are shares, 0 to 1, except DIV; the literature multiplies BLEU and ROUGE
by 100. Definitions of USR, FMR, FCR and DIV: Li, Zhang and Chen, "Generate neural template explanations for
recommendation", CIKM 2020, section 4.2.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from nltk.translate.bleu_score import corpus_bleu

Words = Sequence[str]


class Rouge(NamedTuple):
    """Means of precision, recall and F1 over pairs of sentences."""

    precision: float
    recall: float
    f1: float


def bleu(written: Sequence[Words], targets: Sequence[Words], n: int) -> float:
    """BLEU of a corpus with one target each (Papineni et al., ACL 2002): n-grams of 1 to n words, without smoothing.

    It is 0 if no n-gram of some length is shared.

    Example:
        >>> round(bleu([["a", "good", "film"]], [["a", "good", "long", "film"]], 1), 4)  # exp(1 - 4 / 3)
        0.7165
    """
    if not any(written):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NLTK recommends smoothing where no n-gram is shared
        value = corpus_bleu([[target] for target in targets], written, weights=[1 / n] * n)
    return float(value) if value > 1e-9 else 0.0  # NLTK replaces 0 by the smallest float


def rouge_n(written: Sequence[Words], targets: Sequence[Words], n: int) -> Rouge:
    """ROUGE-N (Lin 2004): shared n-grams, each as often as in both, over those of the sentence or of its target.

    Example:
        >>> rouge_n([["a", "a", "film"]], [["a", "film", "too", "long"]], 1)
        Rouge(precision=0.6666666666666666, recall=0.5, f1=0.5714285714285715)
    """
    grams = [[Counter(zip(*(words[k:] for k in range(n)), strict=False)) for words in pair]
             for pair in zip(written, targets, strict=True)]  # fmt: skip
    return _rouge([((one & other).total(), one.total(), other.total()) for one, other in grams])


def rouge_l(written: Sequence[Words], targets: Sequence[Words]) -> Rouge:
    """ROUGE-L (Lin 2004): length of the longest common subsequence over that of the sentence or of its target.

    Example:
        >>> rouge_l([["a", "film", "good"]], [["a", "good", "film"]]).f1
        0.6666666666666666
    """
    pairs = zip(written, targets, strict=True)
    return _rouge([(_common(one, other), len(one), len(other)) for one, other in pairs])


def _common(one: Words, other: Words) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before, row = row, [0]
        for k, target in enumerate(other):
            row.append(before[k] + 1 if word == target else max(before[k + 1], row[k]))
    return row[-1]


def _rouge(counts: list[tuple[int, int, int]]) -> Rouge:
    """Means over pairs, from the numbers of shared units, of those of the sentence and of those of its target."""
    if not counts:
        return Rouge(float("nan"), float("nan"), float("nan"))
    shared, ours, theirs = np.array(counts, dtype=float).T
    precision, recall = (np.divide(shared, n, out=np.zeros_like(n), where=n > 0) for n in (ours, theirs))
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return Rouge(float(precision.mean()), float(recall.mean()), float(f1.mean()))


def unique_sentence_ratio(written: Sequence[Words]) -> float:
    """USR: number of distinct sentences over number of sentences; NaN without sentences.

    Example:
        >>> unique_sentence_ratio([["a", "film"], ["a", "film"], ["a", "book"], []])
        0.75
    """
    return len({tuple(words) for words in written}) / len(written) if written else float("nan")


def feature_matching_ratio(features: Sequence[Collection[str]], targets: Sequence[str | None]) -> float:
    """FMR: share of sentences that have the feature of their target; targets without a feature do not count.

    Example:
        >>> round(feature_matching_ratio([{"a", "b"}, {"b"}, {"c"}], ["b", "c", "c"]), 4)
        0.6667
    """
    found = [target in one for one, target in zip(features, targets, strict=True) if target is not None]
    return float(np.mean(found)) if found else float("nan")


def feature_coverage_ratio(features: Sequence[Collection[str]], n_features: int) -> float:
    """FCR: number of distinct features in the sentences over the number of all features; NaN without any.

    Example:
        >>> feature_coverage_ratio([{"a", "b"}, {"b"}, {"c"}], 4)
        0.75
    """
    return len(set().union(*features)) / n_features if n_features else float("nan")


def feature_diversity(features: Sequence[Collection[str]]) -> float:
    """DIV: mean number of features that two sentences share, over all pairs of them; lower is more diverse.

    A feature of m sentences is shared by m (m - 1) / 2 pairs, so the pairs need not be visited. NaN below two
    sentences.

    Example:
        >>> round(feature_diversity([{"a", "b"}, {"b"}, {"c"}]), 4)
        0.3333
    """
    n, count = len(features), Counter(feature for one in features for feature in set(one))
    return sum(m * (m - 1) for m in count.values()) / (n * (n - 1)) if n > 1 else float("nan")
