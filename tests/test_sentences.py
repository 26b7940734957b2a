"""Sentences: always the same, translatable, and never saying anything that is not in the explanation."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation import (
    Evidence,
    Explanation,
    Keyword,
    PastReview,
    Quote,
    Recommendation,
    SharedKeyword,
)
from recbole_drex.explain.sentences import ENGLISH, Language, sentence
from recbole_drex.model.emf import NeighbourExplanation

GERMAN = Language(
    decimal=",",
    separator=", ",
    last_separator=" und ",
    keyword="\u201e{word}\u201c",
    because="Empfohlen, weil {reasons}.",
    although="Empfohlen, obwohl {reasons}.",
    in_favour="Dafür spricht: {reasons}.",
    against="Dagegen spricht: {reasons}.",
    you={"liked": "Sie {words} loben", "disliked": "Sie {words} tadeln", "neutral": "Sie von {words} schreiben"},
    they_too=", wie andere auch ({counts})",
    count="{word}: {n}",
    they="; von den anderen {phrases}",
    they_one={"liked": "lobt {n} {word}", "disliked": "tadelt {n} {word}", "neutral": "erw\u00e4hnt {n} {word}"},
    they_many={"liked": "loben {n} {word}", "disliked": "tadeln {n} {word}", "neutral": "erw\u00e4hnen {n} {word}"},
    nothing_shared="Kein Wort steht in beiden Profilen.",
    no_words_of_user="Von Ihnen sind keine W\u00f6rter bekannt.",
    no_words_of_item="Dazu sind keine W\u00f6rter bekannt.",
    wrote="Ihre Kritik zu {title}",
    rated="Ihre Note f\u00fcr {title}",
    reviewed="Ihre Kritik zu {title}",
    they_wrote="die Kritik von {user} zu {title}",
    they_rated="die Note von {user} f\u00fcr {title}",
    they_reviewed="die Kritik von {user} zu {title}",
    with_rating="{what} ({rating})",
    raised="{what} hob sie um {by}",
    lowered="{what} senkte sie um {by}",
    moved="So kam die Note zustande: {effects}.",
    moved_score="So kam die Wertung zustande: {effects}.",
    useful_one="Am meisten z\u00e4hlt die Kritik von {users}.",
    useful_many="Am meisten z\u00e4hlen die Kritiken von {users}.",
    neighbours="Von Ihren {neighbours} n\u00e4chsten Nachbarn haben es {rated} bewertet, {relevant} mit {threshold} "
    "oder mehr, im Mittel mit {mean}.",
    no_neighbours="Keiner Ihrer {neighbours} n\u00e4chsten Nachbarn hat es bewertet.",
    predicted="Vorhergesagt {predicted}; Ihr Mittel ist {mean}.",
    predicted_alone="Vorhergesagt {predicted}.",
    known="Sie haben es schon mit {rating} bewertet; das ist hier kein Grund.",
    known_unrated="Sie haben es schon rezensiert; das ist hier kein Grund.",
)


def keyword(word: str, reviews: int = 3, side: str = "neutral") -> Keyword:
    return Keyword(word, word.lower(), 1.0, reviews, None, side)


def recommended(mine: tuple[Keyword, ...], its: tuple[Keyword, ...], **fields) -> tuple[Explanation, Recommendation]:
    lemmas = {one.lemma for one in mine}
    shared = tuple(SharedKeyword(one.word, one.lemma, 1.0, 1.0) for one in its if one.lemma in lemmas)
    item = Recommendation("g1", "Abyss", fields.pop("predicted", 4.44), profile=its, keywords=shared, **fields)
    return Explanation("ada", fields.pop("mean", 3.57), mine, (item,)), item


def past(title: str, rating: float | None, text: str | None, user: str = "ada") -> PastReview:
    return PastReview(user, "g7", title, rating, None if text is None else Quote(text))


def test_shared_words_by_side():
    mine = (keyword("story", side="liked"), keyword("soundtrack", side="liked"), keyword("combat", side="disliked"))
    explanation, item = recommended(mine, (keyword("story", 14, "liked"), keyword("soundtrack", 9, "liked")))
    assert sentence(explanation, item) == (
        "Recommended because you praise story and soundtrack, and so do its reviewers (story: 14, soundtrack: 9). "
        "Predicted 4.4; your average is 3.6."
    )
    its = (keyword("story", 1, "disliked"), keyword("soundtrack", 9), keyword("combat", 2, "liked"))
    explanation, item = recommended(mine, its)
    assert sentence(explanation, item).startswith(
        "Recommended because you praise story and soundtrack; of its reviewers 1 criticises story and 9 write about "
        "soundtrack. Recommended although you criticise combat; of its reviewers 2 praise combat. "
    )
    assert sentence(explanation, item, GERMAN).startswith(
        "Empfohlen, weil Sie \u201estory\u201c und \u201esoundtrack\u201c loben; von den anderen tadelt 1 "
        "\u201estory\u201c und erw\u00e4hnen 9 \u201esoundtrack\u201c. Empfohlen, obwohl Sie \u201ecombat\u201c tadeln"
    )


def test_without_shared_words_the_evidence_speaks():
    evidence = (
        Evidence("user", past("Dunmere", 5.0, "Great"), 0.213),
        Evidence("item", past("Abyss", None, "Dull", "bob"), -0.104),
        Evidence("user", past("", 2.5, None), -0.051),
        Evidence("item", past("Abyss", None, None, "eve"), 0.02),
        Evidence("user", past("Nothing", 3.0, None), 0.001),
    )
    explanation, item = recommended((keyword("map"),), (keyword("plot"),), evidence=evidence)
    assert sentence(explanation, item) == (
        "No word stands in both profiles. How the prediction came about: what you wrote about Dunmere (5.0) raised it "
        "by 0.21, what bob wrote about Abyss lowered it by 0.10 and your rating of g7 (2.5) lowered it by 0.05. "
        "Predicted 4.4; your average is 3.6."
    )
    assert "um 0,21, die Kritik von bob zu Abyss senkte sie um 0,10 und" in sentence(explanation, item, GERMAN)
    ranked = dataclasses.replace(item, predicted=None, evidence=evidence[3:])
    assert sentence(explanation, ranked) == (
        "No word stands in both profiles. How its score came about: the review of Abyss by eve raised it by 0.02."
    )


def test_little_to_say():
    _, item = recommended((), (keyword("plot"),))
    newcomer = Explanation("new", None, (), (item,))
    assert sentence(newcomer, item) == "None of your words are known. Predicted 4.4."
    bare = Recommendation("g1", "", None)
    assert sentence(newcomer, bare) == ""
    assert sentence(Explanation("a", None, (keyword("map"),), ()), bare) == "No words about it are known."
    known = dataclasses.replace(bare, known=past("", 4.0, None))
    assert sentence(newcomer, known) == "You rated it 4.0 already; no reason is taken from that."
    known = dataclasses.replace(bare, known=past("", None, "Fine"))
    assert sentence(newcomer, known, GERMAN) == "Sie haben es schon rezensiert; das ist hier kein Grund."


def test_useful_reviews_and_neighbours():
    useful = tuple(Evidence("item", past("Abyss", None, "x", user), 0.0, 0.5) for user in ("bob", "eve", "kim"))
    explanation, item = recommended((), (), reviews=useful)
    assert sentence(explanation, item).startswith("Of its reviews, those by bob, eve and kim count most. Predicted")
    item = dataclasses.replace(item, reviews=useful[:1], predicted=None)
    assert sentence(explanation, item) == "Of its reviews, the one by bob counts most."
    near = NeighbourExplanation(neighbours=50, rated=12, relevant=9, mean_rating=4.25, threshold=3.5)
    item = Recommendation("g1", "Abyss", None, neighbours=near)
    assert sentence(explanation, item) == (
        "Of your 50 nearest users 12 rated it, 9 of them 3.5 or more; their mean is 4.2."
    )
    assert "mit 3,5 oder mehr, im Mittel mit 4,2." in sentence(explanation, item, GERMAN)
    nobody = dataclasses.replace(near, rated=0, relevant=0, mean_rating=None)
    item = dataclasses.replace(item, neighbours=nobody)
    assert sentence(explanation, item) == "None of your 50 nearest users rated it."


# Properties -----------------------------------------------------------------------------------------------------------

words = st.sampled_from(["story", "map", "r\u00e4tsel", "\u97f3\u697d", "{word}", "battery life", "<b>"])
side = st.sampled_from(["liked", "disliked", "neutral"])
keywords = st.lists(
    st.builds(lambda word, n, s: keyword(word, n, s), words, st.integers(1, 400), side),
    unique_by=lambda one: one.lemma,
    max_size=6,
).map(tuple)
names = st.sampled_from(["Abyss", "", "{0}", "<script>", "\U0001f600 game", "ada"])
reviews = st.builds(
    lambda user, title, rating, text: PastReview(
        user or "bob", "g8", title, rating, None if text is None else Quote(text)
    ),
    names,
    names,
    st.none() | st.floats(0.5, 5.0),
    st.none() | st.just("text"),
)
evidence = st.lists(
    st.builds(Evidence, st.sampled_from(["user", "item"]), reviews, st.floats(-3, 3), st.none() | st.floats(0, 1)),
    max_size=5,
).map(tuple)
neighbours = st.builds(
    NeighbourExplanation,
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 50),
    st.none() | st.floats(1, 5),
    st.sampled_from([3.5, 4.0]),
)


@settings(deadline=None)
@given(
    keywords,
    keywords,
    st.none() | st.floats(1, 5),
    st.none() | st.floats(1, 5),
    evidence,
    evidence,
    st.none() | neighbours,
    st.none() | reviews,
    st.sampled_from([ENGLISH, GERMAN]),
)
def test_nothing_is_invented(mine, its, predicted, mean, moved, useful, near, known, language):
    """Take away the words of the templates; what is left are values of the explanation, rounded."""
    explanation, item = recommended(mine, its, predicted=predicted, evidence=moved, reviews=useful, neighbours=near)
    item = dataclasses.replace(item, known=known)
    explanation = dataclasses.replace(explanation, mean_rating=mean, recommendations=(item,))
    told = sentence(explanation, item, language)
    assert told == sentence(explanation, item, language)
    assert ("Recommended" in told) == bool(item.keywords) or language is GERMAN
    ratings = [predicted, mean, known and known.rating, near and near.mean_rating]
    ratings += [one.review.rating for one in moved]
    numbers = {language.number(value) for value in ratings if value is not None}
    numbers |= {language.number(abs(one.delta), 2) for one in moved} | {str(one.reviews) for one in its}
    if near:
        threshold = f"{near.threshold:g}".replace(".", language.decimal)
        numbers |= {str(near.neighbours), str(near.rated), str(near.relevant), threshold}
    free = {one.word for one in item.keywords} | {value for one in moved for value in (one.review.title, "g8")}
    free |= {one.review.user for one in (*moved, *useful)}
    rest = told
    for name in sorted(free - {""}, key=len, reverse=True):
        rest = rest.replace(name, " ")
    assert set(re.findall(r"\d+(?:[.,]\d+)?", rest)) <= numbers
    templates = " ".join(
        text
        for value in dataclasses.asdict(language).values()
        for text in (value.values() if isinstance(value, dict) else [value])
    )
    assert set(re.findall(r"[^\W\d_]+", rest)) <= set(re.findall(r"[^\W\d_]+", templates))
    assert "{" not in rest and "\n" not in told


def test_every_recommendation_gets_its_sentence(make_experiment, train):
    for model in ("DReX", "NARRE", "EMF"):
        experiment = make_experiment(model)
        train(experiment)
        for explanation in Explainer(experiment).explain_users(6):
            for item in explanation.recommendations:
                assert item.sentence == sentence(explanation, item) != ""


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Language)])
def test_both_languages_fill_the_same_places(field):
    first, second = (getattr(language, field) for language in (ENGLISH, GERMAN))
    pairs = zip(first.values(), second.values(), strict=True) if isinstance(first, dict) else [(first, second)]
    for one, other in pairs:
        assert set(re.findall(r"\{(\w+)\}", one)) == set(re.findall(r"\{(\w+)\}", other))


def test_what_was_asked_about_is_not_called_recommended():
    mine = (keyword("story", side="liked"), keyword("combat", side="disliked"))
    explanation, item = recommended(mine, (keyword("story", 14, "liked"), keyword("combat", 2, "disliked")), asked=True)
    told = sentence(explanation, item)
    assert told.startswith("In its favour: you praise story") and "Against it: you criticise combat" in told
    assert "Recommended" not in told
