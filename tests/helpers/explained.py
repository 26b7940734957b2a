"""Explanations of models that never were, in the shape in which runs store them, and reports that show them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from planted_runs import write_run

from recbole_drex.explain.explanation import (
    Claim,
    EvidenceEffect,
    Keyword,
    Mark,
    Mention,
    NeighbourExplanation,
    Part,
    PastReview,
    Quote,
    Recommendation,
    SharedKeyword,
    WordEffect,
)
from recbole_drex.explain.explanation_text import Explanation
from recbole_drex.report.html import render
from recbole_drex.results.comparison import EXPLANATIONS, HISTORY, comparison_of
from recbole_drex.results.run_result import write_interactions
from recbole_drex.utils.files import write_json

EVIL = "<script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(1)>"
TITLES = ("Starfall Odyssey", "Harbour of Echoes", "Iron Meridian", "Little Lantern", "The Ninth Garden", "Drift 4")
_WORDS = {
    "story": "the {} kept me up until three in the morning and its ending still follows me around",
    "soundtrack": "I bought the {} on vinyl because it is simply the best music of the year",
    "controls": "on a pad the {} feel heavy at first but after an hour they were second nature",
    "puzzles": "most {} are clever and fair, with one or two that made me reach for a guide",
    "graphics": "the {} are lovely in the snow levels, a little plain in the city",
    "camera": "a stubborn {} that swings behind walls in every boss fight spoils the action",
    "multiplayer": "we played {} for weeks, four friends on one sofa, and had a wonderful time",
    "loading": "there is so much {} between rooms that I had my phone in hand half of the time",
    "characters": "all {} are written with care, even the shopkeeper has a secret worth finding",
    "price": "for this {} it is far too short, wait for a sale before you think about it",
}


def quote(text: str, seed: int, deltas: bool = False) -> Quote:
    """A quote in which every word of four letters or more has an attention weight, and a delta if asked for."""
    generator = np.random.default_rng(seed)
    indices = [(m.start(), m.end()) for m in re.finditer(r"\w{4,}", text)]
    weights = generator.dirichlet(np.full(2 * len(indices), 0.7)).tolist() if indices else []
    effects = generator.normal(scale=0.05, size=len(indices)).tolist() if deltas else [None] * len(indices)
    return Quote(text, tuple(Mark(*at, weights[n], effects[n]) for n, at in enumerate(indices)))


def past(user: int, item: int, word: str, deltas: bool = False) -> PastReview:
    """Some user's review of some item, of one sentence that holds the word."""
    text = _WORDS.get(word, "as for {}, I have seen better and I have seen worse").format(word)
    seed = 1000 * user + 10 * item + len(word)
    return PastReview(f"user_{user:02}", f"item_{item:02}", TITLES[item % 6], 1.0 + seed % 5, quote(text, seed, deltas))


def keyword(word: str, rank: int, owner: int, side: str = "user", quotes: int = 2) -> Keyword:
    """A keyword with quotes from reviews that the owner wrote (``user``) or that are about it (``item``)."""
    pairs = [(owner, owner + n + 1) if side == "user" else (owner + n + 1, owner) for n in range(quotes)]
    lemma = word.removesuffix("s") if word in ("puzzles", "characters", "controls") else word
    leaning = ("praised", "neutral", "criticised")[(rank + owner) % 3]
    reviews, rating = 12 - rank, {"praised": 4.62, "neutral": 3.5, "criticised": 2.08}[leaning]
    result = tuple(past(*pair, word) for pair in pairs)
    return Keyword(word, lemma, 3.2 / (rank + 1), reviews, rating, leaning, result)


def profile(owner: int, side: str = "user", words: int = 6) -> tuple[Keyword, ...]:
    names = list(_WORDS)
    chosen = [names[(owner * 3 + n * (2 if side == "user" else 3)) % 10] for n in range(words)]
    return tuple(keyword(word, n, owner, side) for n, word in enumerate(dict.fromkeys(chosen)))


def said(user: int, item: int, word: str, sentiment: float) -> PastReview:
    """A review in which a word is marked, with what is said of it."""
    review = past(user, item, word)
    assert review.quote is not None
    text, start = review.quote.text, review.quote.text.index(word)
    quoted = Quote(text, (Mark(start, start + len(word), sentiment=sentiment),))
    return dataclasses.replace(review, quote=quoted)


def parts(user: int, item: int) -> tuple[Part, ...]:
    """Parts of an ordinal score whose ratings are half of their values; one is praised, one criticised."""
    values = [("story", 1.14, 0.9, (9, 2)), ("camera", -0.46, -0.8, (1, 6))]
    aspects = [
        Part(
            "aspect",
            word,
            value,
            value / 2,
            (word,),
            Claim(40, 23, 12, 11, said(user, item + 1, word, 0.4), (Mention(f"user_{user:02}", "x", (word,), 0.4),)),
            Claim(
                31,
                sum(counts),
                *counts,
                said(user + 1, item, word, sentiment),
                (Mention(f"user_{user + 1:02}", f"item_{item:02}", (word,), sentiment),),
            ),
        )
        for word, value, sentiment, counts in values
    ]
    return (
        Part("average", "average", 3.7, 3.6),
        Part("user", "you", 0.24, 0.22),
        Part("item", "the item", -0.12, -0.06),
        *aspects,
        Part("aspect", "other aspects", 0.02, 0.01),
        Part("taste", "your taste", 0.0, 0.0),
        Part("rest", "other patterns", 0.3, 0.15),
    )


def summed(user: int, item: int, **changes: Any) -> Recommendation:
    """A recommendation with parts, as DReX explains it."""
    result = parts(user, item)
    given = {"parts": result, "score": sum(part.value for part in result), "scale": "ordinal score", "predicted": 4.26}
    return recommendation(user, item, **{**given, "mean_rating": 3.4, "ratings": 31, **changes})


def recommendation(user: int, item: int, **changes: Any) -> Recommendation:
    """A recommendation with shared keywords, past reviews with deltas, and words with deltas."""
    mine, its = profile(user), profile(item, "item")
    shared = []
    for own in mine:
        for other in its:
            if own.lemma == other.lemma:
                quotes = own.quotes[0].quote, other.quotes[0].quote
                shared.append(SharedKeyword(other.word, own.lemma, own.score, other.score, *quotes))
    generator = np.random.default_rng([user, item])
    deltas = generator.normal(scale=0.15, size=6).tolist()
    evidence = [EvidenceEffect("user", past(user, item + 1 + n, mine[n].word, True), deltas[n]) for n in range(3)]
    evidence += [EvidenceEffect("item", past(user + 1 + n, item, its[n].word, True), deltas[3 + n]) for n in range(3)]
    words = tuple(WordEffect(k.word, k.lemma, float(generator.normal(scale=0.1)), k.reviews) for k in mine[:5])
    predicted = 4.6 - 0.17 * (item % 5)
    names = " and ".join(word.word for word in shared[:2])
    sentence = f"Recommended because you often praise {names}, and 14 reviewers of this game do too." if shared else ""
    given: dict[str, Any] = {
        "sentence": f"{sentence} Predicted {predicted:.1f}; your average is 3.6.".strip(),
        "profile": its,
        "keywords": tuple(shared),
        "evidence": tuple(sorted(evidence, key=lambda one: -abs(one.delta))),
        "words": words,
    }
    return Recommendation(f"item_{item:02}", TITLES[item % 6], **({"predicted": predicted} | given | changes))


def explanation(user: int, items: int = 3, **changes: Any) -> Explanation:
    """A user with a profile and ``items`` recommendations."""
    recommended = tuple(recommendation(user, (user + n) % 12) for n in range(items))
    given: dict[str, Any] = {"profile": profile(user), "recommendations": recommended}
    return Explanation(f"user_{user:02}", 3.6, **(given | changes))


def others() -> dict[str, Explanation]:
    """A user as each other model explains: NARRE by reviews, EMF by neighbours, PESI by a sentence; BPR-like scores."""
    useful = (
        EvidenceEffect("item", past(4, 3, "story"), 0.0, 0.5),
        EvidenceEffect("item", past(5, 3, "price"), 0.0, 0.25),
    )
    reasons: dict[str, dict[str, Any]] = {
        "NARRE": {"reviews": useful, "predicted": 4.2},
        "EMF": {"neighbours": NeighbourExplanation(50, 18, 14, 4.25, 4.0), "predicted": None},
        "PESI": {"written": "great story and a lovely soundtrack, my kids enjoyed it", "predicted": 4.4},
    }
    return {
        label: Explanation("user_00", 3.6, (), (Recommendation("item_03", TITLES[3], **given),))
        for label, given in reasons.items()
    }


def hostile() -> Explanation:
    """A user, an item, words and quotes that hold tags and other signs which must be shown as they are."""
    text = f"so {EVIL} \u2028it {IMAGE}"
    quoted = Quote(text, (Mark(3, 3 + len(EVIL), 0.5, 0.1), Mark(len(text) - len(IMAGE), len(text), 0.2, -0.1)))
    review = PastReview(EVIL, IMAGE, f"<!-- </script>{EVIL}", 4.0, quoted)
    word = Keyword(EVIL, EVIL, 1.0, 3, 4.0, "praised", (review,))
    claim = Claim(2, 1, 1, 0, review, (Mention(EVIL, IMAGE, (EVIL,), 0.5),))
    item = Recommendation(
        IMAGE,
        f"<!-- </script>{EVIL}",
        4.0,
        EVIL,
        (word,),
        (SharedKeyword(EVIL, EVIL, 1.0, 2.0, quoted, quoted),),
        (EvidenceEffect("user", review, 0.1), EvidenceEffect("item", review, -0.1)),
        (WordEffect(EVIL, EVIL, 0.1, 2),),
        (EvidenceEffect("item", review, 0.0, 0.5),),
        written=IMAGE,
        parts=(Part("average", "average", 3.0, 3.0), Part("aspect", EVIL, 1.0, 1.0, (EVIL,), claim, claim)),
        score=4.0,
        scale="rating",
    )
    return Explanation(f"user&{EVIL}", 3.0, (word,), (item,))


def write_explained(root: Path, users: dict[str, list[Explanation]]) -> Path:
    """Write a report of one run per label with these explanations; returns the page."""
    rows = pd.DataFrame({"user_id": "u0", "item_id": ["i0", "i1"], "rating": 4.0, "split": ["train", "test"]})
    rows = rows.assign(has_review=True, prediction=3.0)
    rows[["prediction_median", "prediction_std", "probability_relevant"]] = np.nan
    folders = []
    for label, explained in users.items():
        folder = write_run(root, label, seed=1, full=False)
        write_json(folder / HISTORY, [])
        write_interactions(folder, rows)
        write_json(folder / EXPLANATIONS, [dataclasses.asdict(one) for one in explained])
        folders.append(folder)
    path = root / "report.html"
    path.write_text(render(comparison_of(folders), root), encoding="utf-8")
    return path
