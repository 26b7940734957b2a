"""Keyword profiles from attention weights, and what the profiles of a user and an item share (paper, section 3.6).

A word's score in the profile of a user is made of the attention that it gets in the user's training reviews, see
:mod:`recbole_drex.explain.profiles.word_scores`, and likewise for items; the n words with the highest scores are the
profile. A recommendation is explained by the words that stand in both profiles, each with a quote from both sides.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_drex.data.text.tokenizer import JUDGING_WORDS
from recbole_drex.errors import CheckpointError
from recbole_drex.explain.explanation import Keyword, SharedKeyword
from recbole_drex.explain.past_interactions import PastReviews
from recbole_drex.explain.profiles.attended_reviews import AttendedReviews
from recbole_drex.explain.profiles.phrases import merge_phrases
from recbole_drex.explain.profiles.quotes import Quotes
from recbole_drex.explain.profiles.topics import topics
from recbole_drex.explain.profiles.vocabulary import ShownWords
from recbole_drex.explain.profiles.word_forms import FormCounts, WrittenForms
from recbole_drex.explain.profiles.word_scores import WordCounts, count_words, score_words, sides
from recbole_drex.explain.recommender import Recommender
from recbole_drex.model.contract import contract_of
from recbole_drex.training.run_record import Experiment
from recbole_drex.utils.checksums import check_sum
from recbole_drex.utils.files import replacing, write_json
from recbole_drex.utils.parquet import read_table

PROFILES = "profiles"
"""Name of the files of all profiles beside a run, without ``.parquet`` and ``.json``."""

_SIDES = ("user", "item")
_BLOCK = 4096  # reviews whose texts are read at once


class KeywordProfiles:
    """Keyword profiles of all users and items, and what they share.

    All of them are computed at once; the written forms of words, which the texts are read for, when they are asked for.

    Args:
        experiment: a run that was loaded or has just been trained. ``profile_score`` and ``profile_phrases`` of its
            configuration decide how words are scored, and whether there are phrases.
        words: number of keywords in a profile; default ``profile_words`` of the configuration.
        pasts: names and texts of the run, if they have been read before.

    Raises:
        DataError: the model reads no reviews, or not by attention over their words.
        CheckpointError: the profiles that the run has stored are damaged.
    """

    def __init__(self, experiment: Experiment, words: int | None = None, pasts: PastReviews | None = None):
        config = experiment.config
        score = config["profile_score"]
        self.pasts = pasts = pasts or PastReviews(Recommender(experiment))
        self.names = pasts.names
        self.reviews = reviews = AttendedReviews.of(experiment)
        term, weight, vocabulary = reviews.word, reviews.weight, reviews.vocabulary
        if config["profile_phrases"]:
            term, weight, vocabulary = merge_phrases(reviews, pasts.texts, pasts.processor)
        aspects = contract_of(experiment.model).aspect_reader()
        lemmas = {lemma for names in aspects.names for lemma in names} if aspects is not None else set()
        self.shown = shown_words = ShownWords(reviews, pasts.texts, pasts.processor, lemmas)
        self.topics = None if reviews.aspect is None else topics(reviews, shown_words, pasts.processor)
        said = None
        if self.topics is not None and reviews.sentiment is not None:
            said = np.where(self.topics[reviews.word], reviews.sentiment, 0.0)
        self.quotes = Quotes(reviews, pasts, term, vocabulary, said)
        counts = count_words(reviews, term, weight, len(vocabulary), said)
        hidden = np.array([word in JUDGING_WORDS or shown_words.hides(word) for word in vocabulary], dtype=bool)
        scores = score_words(counts, score, len(vocabulary))
        n = words or config["profile_words"]
        by_name = np.empty(len(vocabulary), dtype=np.int64)
        by_name[sorted(range(len(vocabulary)), key=vocabulary.__getitem__)] = np.arange(len(vocabulary))
        self._tables = {
            side: _best(of_side, score, vocabulary, by_name, n, hidden)
            for side, of_side, score in zip(_SIDES, counts, scores, strict=True)
        }
        self._lemmas = {side: table["lemma"].tolist() for side, table in self._tables.items()}
        sizes = {"user": experiment.dataset.user_num, "item": experiment.dataset.item_num}
        self._first = {
            side: np.searchsorted(table["owner"], np.arange(sizes[side] + 1)) for side, table in self._tables.items()
        }
        # "not" and "very" are kept for what they do to other words; alone they name nothing that one could like.
        shown = pd.concat([table["lemma"] for table in self._tables.values()]).unique()
        self._forms = WrittenForms(self.pasts.processor, shown)
        self._written: dict[tuple[str, int], list[str]] = {}
        if experiment.folder is not None and (experiment.folder / f"{PROFILES}.parquet").is_file():
            self._written = self._written_before(experiment.folder / f"{PROFILES}.parquet")

        @lru_cache(maxsize=4096)
        def keywords(side: str, owner: int, quotes: int) -> tuple[Keyword, ...]:
            table, (first, last) = self._tables[side], self._first[side][owner : owner + 2]
            forms = self._forms_of(side, owner)
            return tuple(
                self._keyword(side, owner, form, row, quotes)
                for form, row in zip(forms, table.iloc[first:last].itertuples(), strict=True)
            )

        self._keywords = keywords

    def profile(self, side: str, token: str, quotes: int = 2) -> tuple[Keyword, ...]:
        """Keywords of a ``user`` or an ``item``, by falling score; empty without reviews.

        Args:
            side: ``user`` or ``item``.
            token: its name.
            quotes: reviews that each keyword quotes, at most.

        Raises:
            DataError: no such user or item.
        """
        return self._keywords(side, self._owner(side, token), quotes)

    def _owner(self, side: str, token: str) -> int:
        return self.names.user_id(token) if side == "user" else self.names.item_id(token)

    def _keyword(self, side: str, owner: int, form: str, row: Any, quotes: int) -> Keyword:
        return Keyword(
            word=self.shown.written(row.lemma, form),
            lemma=row.lemma,
            score=row.score,
            reviews=row.reviews,
            mean_rating=None if np.isnan(row.mean_rating) else row.mean_rating,
            side=row.sentiment,
            quotes=self.quotes.past_reviews(side, owner, row.lemma, quotes, row.sentiment)
            if self.pasts.texts and quotes
            else (),
        )

    def overlap(self, user: str, item: str) -> tuple[SharedKeyword, ...]:
        """Words in both profiles, by falling sum of both scores.

        Where the user has reviewed the item, that review is not quoted, and a word that stands in no other review of
        the user, or of the item, is no shared one.

        Raises:
            DataError: no such user or item.
        """
        uid, iid = self._owner("user", user), self._owner("item", item)
        mine, its = self._by_lemma("user", uid), self._by_lemma("item", iid)
        shared = sorted(mine.keys() & its.keys(), key=lambda word: (-(mine[word].score + its[word].score), word))
        pair = (uid, iid)
        own = np.flatnonzero((self.reviews.user == uid) & (self.reviews.item == iid)) if shared else np.empty(0)
        found = []
        for word in shared:
            if len(own) and not self._stands_elsewhere(word, pair, int(own[0])):
                continue
            said, heard = self.quotes.quote("user", uid, word, pair), self.quotes.quote("item", iid, word, pair)
            found.append(SharedKeyword(its[word].word, word, mine[word].score, its[word].score, said, heard))
        return tuple(found)

    def _by_lemma(self, side: str, owner: int) -> dict[str, Keyword]:
        return {keyword.lemma: keyword for keyword in self._keywords(side, owner, 0)}

    def _stands_elsewhere(self, word: str, pair: tuple[int, int], own: int) -> bool:
        holding = (self.quotes.holding(side, owner, word) for side, owner in zip(_SIDES, pair, strict=True))
        return all({review for review, _ in found} - {own} for found in holding)

    # Written forms ----------------------------------------------------------------------------------------------

    def _lemmas_of(self, side: str, owner: int) -> list[str]:
        first, last = self._first[side][owner : owner + 2]
        return self._lemmas[side][first:last]

    def _forms_of(self, side: str, owner: int) -> list[str]:
        """The written forms of an owner's keywords."""
        found = self._written.get((side, owner))
        if found is None:
            counts = FormCounts(self._lemmas_of(side, owner))
            if self.pasts.texts is not None:
                for text in self.pasts.texts[self.reviews.row[self.quotes.of_owner(side, owner)]]:
                    counts.add(self._forms.of(text))
            found = self._written[side, owner] = counts.chosen()
        return found

    def _written_before(self, path: Path) -> dict[tuple[str, int], list[str]]:
        """The forms that the run itself found, of owners whose keywords are still the same: texts need not be read."""
        check_sum(path.parent, path.name)
        try:
            table = read_table(path).select(["side", "id", "word", "lemma"]).to_pandas()
        except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are among these
            raise CheckpointError(f"{path} is damaged: {error}") from error
        found = {}
        for (side, name), part in table.groupby(["side", "id"], sort=False):
            owner = self._owner(str(side), str(name))
            if part["lemma"].tolist() == self._lemmas_of(str(side), owner):
                found[str(side), owner] = part["word"].tolist()
        return found

    def find_forms(self) -> None:
        """Find the written forms of all owners' keywords in one pass over the texts, so that no look-up has to."""
        reviews = self.reviews
        owners = {(side, owner) for side in _SIDES for owner in np.unique(reviews.owner(side)).tolist()}
        if self.pasts.texts is None or owners <= self._written.keys():
            return
        counts = {owner: FormCounts(self._lemmas_of(*owner)) for owner in owners}
        order = np.argsort(reviews.row)
        for start in range(0, len(order), _BLOCK):
            block = order[start : start + _BLOCK]
            for review, text in zip(block.tolist(), self.pasts.texts[reviews.row[block]], strict=True):
                forms = list(self._forms.of(text))
                for side in _SIDES:
                    counts[side, int(reviews.owner(side)[review])].add(forms)
        self._written.update({owner: count.chosen() for owner, count in counts.items()})

    # All profiles -----------------------------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """All profiles, one row a keyword: users before items, owners by internal id, keywords by falling score.

        Returns:
            Columns ``side`` (user, item), ``id`` (name), ``rank`` (from 1), ``word``, ``lemma``, ``score``,
            ``reviews``, ``mean_rating`` (NaN without) and ``sentiment`` (praised, criticised, neutral).
        """
        self.find_forms()
        parts = []
        for side, name in zip(_SIDES, (self.names.user_name, self.names.item_name), strict=True):
            table, first = self._tables[side], self._first[side]
            owners = table["owner"].unique().tolist()
            forms = [form for owner in owners for form in self._forms_of(side, owner)]
            part = table.assign(
                side=side,
                id=table["owner"].map({owner: name(owner) for owner in owners}),
                rank=np.arange(len(table)) - first[table["owner"]] + 1,
                word=pd.Series(forms, index=table.index, dtype=object),
            )
            parts.append(part)
        columns = ["side", "id", "rank", "word", "lemma", "score", "reviews", "mean_rating", "sentiment"]
        return pd.concat(parts, ignore_index=True)[columns]


def _best(
    counts: WordCounts, score: np.ndarray, vocabulary: list[str], by_name: np.ndarray, n: int, hidden: np.ndarray
) -> pd.DataFrame:
    """The ``n`` words of each owner with the highest scores that are not ``hidden`` (words,), by owner; of equal ones
    the first ``by_name``."""
    use = np.flatnonzero(~hidden[counts.word])
    # Rounded, so that sums which are equal but for their order are ties.
    order = use[np.lexsort((by_name[counts.word[use]], -score[use].round(9), counts.owner[use]))]
    owner = counts.owner[order]
    chosen = order[np.arange(len(order)) - np.searchsorted(owner, owner) < n]
    return pd.DataFrame(
        {
            "owner": counts.owner[chosen],
            "lemma": np.array(vocabulary, dtype=object)[counts.word[chosen]],
            "score": score[chosen],
            "reviews": counts.reviews[chosen],
            "mean_rating": counts.mean_rating[chosen],
            "sentiment": sides(counts)[chosen],
        }
    )


def write_profiles(profiles: KeywordProfiles, run_dir: str | Path) -> None:
    """Write all profiles as ``profiles.parquet``, see :meth:`KeywordProfiles.table`, and ``profiles.json``.

    The JSON document is ``{"users": {name: [keyword, ...]}, "items": {...}}``; each keyword has the fields of
    :class:`~recbole_drex.explain.explanation.Keyword` but the quotes.

    Args:
        profiles: of a trained run.
        run_dir: folder of the run.

    Raises:
        DataError: the folder cannot be written, or the review texts cannot be read.
    """
    table = profiles.table()
    with replacing(Path(run_dir) / f"{PROFILES}.parquet") as temporary:
        table.to_parquet(temporary, index=False)
    document: dict[str, dict[str, list[dict[str, Any]]]] = {"users": {}, "items": {}}
    for row in table.to_dict("records"):
        rated = not np.isnan(row["mean_rating"])
        keyword = {
            **{key: row[key] for key in ("word", "lemma", "score", "reviews")},
            "mean_rating": row["mean_rating"] if rated else None,
            "side": row["sentiment"],
        }
        document[f"{row['side']}s"].setdefault(row["id"], []).append(keyword)
    write_json(Path(run_dir) / f"{PROFILES}.json", document)
