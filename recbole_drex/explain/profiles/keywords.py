"""Keyword profiles from attention weights, and keywords shared by a user and an item (paper, section 3.6).

The score of a word in a user's profile is computed from its attention weights in the user's training reviews, see
:mod:`recbole_drex.explain.profiles.word_scores`; items are treated likewise. The profile consists of the n words with
the highest scores. A recommendation is explained by the words in both profiles, each with a quote from both sides.
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
"""Name of the files of all profiles in a run's folder, without ``.parquet`` and ``.json``."""

_SIDES = ("user", "item")
_BLOCK = 4096  # reviews whose texts are read in one batch


class KeywordProfiles:
    """Keyword profiles of all users and items, and their shared keywords.

    All profiles are computed on construction. Written forms need the review texts and are computed on demand.

    Args:
        experiment: a loaded or newly trained run. ``profile_score`` and ``profile_phrases`` of its configuration select
            the word score and enable phrases.
        words: number of keywords in a profile; default ``profile_words`` of the configuration.
        past_reviews: names and texts of the run; read from the run by default.

    Raises:
        DataError: the model has no attention over the words of reviews.
        CheckpointError: the stored profiles of the run are damaged.
    """

    def __init__(self, experiment: Experiment, words: int | None = None, past_reviews: PastReviews | None = None):
        config = experiment.config
        score = config["profile_score"]
        self.past_reviews = past_reviews = past_reviews or PastReviews(Recommender(experiment))
        self.names = past_reviews.names
        self.reviews = reviews = AttendedReviews.of(experiment)
        term, weight, vocabulary = reviews.word, reviews.weight, reviews.vocabulary
        if config["profile_phrases"]:
            term, weight, vocabulary = merge_phrases(reviews, past_reviews.texts, past_reviews.processor)
        aspects = contract_of(experiment.model).aspect_reader()
        lemmas = {lemma for names in aspects.names for lemma in names} if aspects is not None else set()
        self.shown = shown_words = ShownWords(reviews, past_reviews.texts, past_reviews.processor, lemmas)
        self.topics = None if reviews.aspect is None else topics(reviews, shown_words, past_reviews.processor)
        opinions = None
        if self.topics is not None and reviews.sentiment is not None:
            opinions = np.where(self.topics[reviews.word], reviews.sentiment, 0.0)
        self.quotes = Quotes(reviews, past_reviews, term, vocabulary, opinions)
        counts = count_words(reviews, term, weight, len(vocabulary), opinions)
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
        shown = pd.concat([table["lemma"] for table in self._tables.values()]).unique()
        self._word_forms = WrittenForms(self.past_reviews.processor, shown)
        self._cached_forms: dict[tuple[str, int], list[str]] = {}
        if experiment.folder is not None and (experiment.folder / f"{PROFILES}.parquet").is_file():
            self._cached_forms = self._stored_forms(experiment.folder / f"{PROFILES}.parquet")

        @lru_cache(maxsize=4096)
        def keywords(side: str, owner: int, quotes: int) -> tuple[Keyword, ...]:
            table, (first, last) = self._tables[side], self._first[side][owner : owner + 2]
            word_forms = self._word_forms_of(side, owner)
            return tuple(
                self._keyword(side, owner, word_form, row, quotes)
                for word_form, row in zip(word_forms, table.iloc[first:last].itertuples(), strict=True)
            )

        self._keywords = keywords

    def profile(self, side: str, token: str, quotes: int = 2) -> tuple[Keyword, ...]:
        """Keywords of a ``user`` or an ``item``, by descending score; empty without reviews.

        Args:
            side: ``user`` or ``item``.
            token: its name.
            quotes: maximum number of quotes per keyword.

        Raises:
            DataError: unknown user or item.
        """
        return self._keywords(side, self._owner(side, token), quotes)

    def _owner(self, side: str, token: str) -> int:
        return self.names.user_id(token) if side == "user" else self.names.item_id(token)

    def _keyword(self, side: str, owner: int, word_form: str, row: Any, quotes: int) -> Keyword:
        return Keyword(
            word=self.shown.written(row.lemma, word_form),
            lemma=row.lemma,
            score=row.score,
            reviews=row.reviews,
            mean_rating=None if np.isnan(row.mean_rating) else row.mean_rating,
            side=row.sentiment,
            quotes=self.quotes.quoted_reviews(side, owner, row.lemma, quotes, row.sentiment)
            if self.past_reviews.texts and quotes
            else (),
        )

    def overlap(self, user: str, item: str) -> tuple[SharedKeyword, ...]:
        """Words in both profiles, by descending sum of both scores.

        The user's own review of the item is not quoted, and words that occur in no other review of the user, or of the
        item, are excluded.

        Raises:
            DataError: unknown user or item.
        """
        uid, iid = self._owner("user", user), self._owner("item", item)
        mine, its = self._by_lemma("user", uid), self._by_lemma("item", iid)
        shared = sorted(mine.keys() & its.keys(), key=lambda word: (-(mine[word].score + its[word].score), word))
        pair = (uid, iid)
        own = np.flatnonzero((self.reviews.user == uid) & (self.reviews.item == iid)) if shared else np.empty(0)
        keywords = []
        for word in shared:
            if len(own) and not self._occurs_elsewhere(word, pair, int(own[0])):
                continue
            quotes = (self.quotes.quote("user", uid, word, pair), self.quotes.quote("item", iid, word, pair))
            keywords.append(SharedKeyword(its[word].word, word, mine[word].score, its[word].score, *quotes))
        return tuple(keywords)

    def _by_lemma(self, side: str, owner: int) -> dict[str, Keyword]:
        return {keyword.lemma: keyword for keyword in self._keywords(side, owner, 0)}

    def _occurs_elsewhere(self, word: str, pair: tuple[int, int], own: int) -> bool:
        containing = (self.quotes.containing(side, owner, word) for side, owner in zip(_SIDES, pair, strict=True))
        return all({review for review, _ in reviews} - {own} for reviews in containing)

    # Written forms ----------------------------------------------------------------------------------------------

    def _lemmas_of(self, side: str, owner: int) -> list[str]:
        first, last = self._first[side][owner : owner + 2]
        return self._lemmas[side][first:last]

    def _word_forms_of(self, side: str, owner: int) -> list[str]:
        """The written forms of an owner's keywords."""
        word_forms = self._cached_forms.get((side, owner))
        if word_forms is None:
            counts = FormCounts(self._lemmas_of(side, owner))
            if self.past_reviews.texts is not None:
                for text in self.past_reviews.texts[self.reviews.row[self.quotes.of_owner(side, owner)]]:
                    counts.add(self._word_forms.of(text))
            word_forms = self._cached_forms[side, owner] = counts.chosen()
        return word_forms

    def _stored_forms(self, path: Path) -> dict[tuple[str, int], list[str]]:
        """The run's stored written forms, for owners whose keywords have not changed; this avoids reading texts."""
        check_sum(path.parent, path.name)
        try:
            table = read_table(path).select(["side", "id", "word", "lemma"]).to_pandas()
        except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are among these
            raise CheckpointError(f"{path} is damaged: {error}") from error
        result = {}
        for (side, name), part in table.groupby(["side", "id"], sort=False):
            owner = self._owner(str(side), str(name))
            if part["lemma"].tolist() == self._lemmas_of(str(side), owner):
                result[str(side), owner] = part["word"].tolist()
        return result

    def find_word_forms(self) -> None:
        """Find the written forms of all owners' keywords in one pass over the texts, and cache them."""
        reviews = self.reviews
        owners = {(side, owner) for side in _SIDES for owner in np.unique(reviews.owner(side)).tolist()}
        if self.past_reviews.texts is None or owners <= self._cached_forms.keys():
            return
        counts = {owner: FormCounts(self._lemmas_of(*owner)) for owner in owners}
        order = np.argsort(reviews.row)
        for start in range(0, len(order), _BLOCK):
            block = order[start : start + _BLOCK]
            for review, text in zip(block.tolist(), self.past_reviews.texts[reviews.row[block]], strict=True):
                word_forms = list(self._word_forms.of(text))
                for side in _SIDES:
                    counts[side, int(reviews.owner(side)[review])].add(word_forms)
        self._cached_forms.update({owner: count.chosen() for owner, count in counts.items()})

    # All profiles -----------------------------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """All profiles, one row per keyword: users before items, owners by internal id, keywords by descending score.

        Returns:
            Columns ``side`` (user, item), ``id`` (name), ``rank`` (from 1), ``word``, ``lemma``, ``score``,
            ``reviews``, ``mean_rating`` (NaN without ratings) and ``sentiment`` (praised, criticised, neutral).
        """
        self.find_word_forms()
        parts = []
        for side, name in zip(_SIDES, (self.names.user_name, self.names.item_name), strict=True):
            table, first = self._tables[side], self._first[side]
            owners = table["owner"].unique().tolist()
            word_forms = [word_form for owner in owners for word_form in self._word_forms_of(side, owner)]
            part = table.assign(
                side=side,
                id=table["owner"].map({owner: name(owner) for owner in owners}),
                rank=np.arange(len(table)) - first[table["owner"]] + 1,
                word=pd.Series(word_forms, index=table.index, dtype=object),
            )
            parts.append(part)
        columns = ["side", "id", "rank", "word", "lemma", "score", "reviews", "mean_rating", "sentiment"]
        return pd.concat(parts, ignore_index=True)[columns]


def _best(
    counts: WordCounts, score: np.ndarray, vocabulary: list[str], by_name: np.ndarray, n: int, hidden: np.ndarray
) -> pd.DataFrame:
    """The ``n`` words of each owner with the highest scores that are not ``hidden`` (words,), sorted by owner; ties are
    broken ``by_name``."""
    use = np.flatnonzero(~hidden[counts.word])
    # Scores are rounded, so that equal sums in different order are ties.
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
    """Write all profiles to ``profiles.parquet``, see :meth:`KeywordProfiles.table`, and to ``profiles.json``.

    The JSON document is ``{"users": {name: [keyword, ...]}, "items": {...}}``; each keyword has the fields of
    :class:`~recbole_drex.explain.explanation.Keyword` except the quotes.

    Args:
        profiles: profiles of a trained run.
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
