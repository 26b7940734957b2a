"""The sentence of a review that says most about its subject, and the keywords of sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from recbole_drex.data.text.stop_words import GENERAL_WORDS
from recbole_drex.data.text.tokenizer import JUDGING_WORDS, TextProcessor
from recbole_drex.model.layers.common import residual_idf
from recbole_drex.model.pesi.sentence_data import FEWEST, Choice, choose


class KeywordSentences:
    """Scores the words of training reviews, and chooses the sentence of a review with the highest score.

    The score of a word is the :func:`~recbole_drex.model.layers.common.residual_idf` of its lemma: high for words that
    some users write again and again, about 0 for words that all use alike. Stop words, general words, words in fewer
    than 3 reviews and negative scores do not count. The score of a sentence is the sum over its distinct lemmas.

    Args:
        reviews: the sentences of each training review, as ``split_sentences`` returns them.
        user: of each review, (n,).
        processor: lemmatises words.
        longest: maximum number of words of a sentence.

    Attributes:
        score: score of each keyword, by its lemma.
        features: the keyword with the highest score of each chosen training sentence, without repetition.
    """

    def __init__(self, reviews: Sequence[list[list[str]]], user: np.ndarray, processor: TextProcessor, longest: int):
        self.longest, self._processor, self._lemma = longest, processor, dict[str, str | None]()
        lemmas = [{lemma for words in review for lemma in self._lemmas(words)} for review in reviews]
        count = Counter(lemma for one in lemmas for lemma in one)
        names = [lemma for lemma, number in count.items() if number >= FEWEST]
        pairs = Counter(lemma for _, lemma in {(u, lemma) for u, one in zip(user.tolist(), lemmas, strict=True)
                                               for lemma in one})  # fmt: skip
        users, number = (np.array([table[lemma] for lemma in names]) for table in (pairs, count))
        scores = residual_idf(number, users, np.bincount(user)) if names else np.zeros(0)
        self.score = {name: score for name, score in zip(names, scores.tolist(), strict=True) if score > 0}
        best = (self.feature(self.choose(review)[0]) for review in reviews)
        self.features = {feature for feature in best if feature is not None}

    def _lemmas(self, words: Iterable[str]) -> list[str]:
        """Distinct lemmas that may be keywords, in the order of the words."""
        for word in words:
            if word not in self._lemma:
                kept = [lemma for lemma in self._processor(word).lemmas if lemma not in GENERAL_WORDS | JUDGING_WORDS]
                self._lemma[word] = kept[0] if len(kept) == 1 else None
        return list(dict.fromkeys(lemma for word in words if (lemma := self._lemma[word]) is not None))

    def keywords(self, words: Iterable[str]) -> list[str]:
        """Lemmas of a sentence that are keywords, by descending score."""
        known = [lemma for lemma in self._lemmas(words) if lemma in self.score]
        return sorted(known, key=lambda lemma: -self.score[lemma])

    def feature(self, words: Iterable[str]) -> str | None:
        """The keyword of a sentence with the highest score; None without keywords."""
        return next(iter(self.keywords(words)), None)

    def choose(self, sentences: list[list[str]]) -> Choice:
        """Of the sentences of 3 to ``longest`` words the first with the highest score; without keywords as
        :func:`~recbole_drex.model.pesi.sentence_data.choose`."""
        fitting = [words for words in sentences if FEWEST <= len(words) <= self.longest]
        scores = [sum(self.score[lemma] for lemma in self.keywords(words)) for words in fitting]
        if not any(scores):
            return choose(sentences, self.longest)
        return fitting[int(np.argmax(scores))], True
