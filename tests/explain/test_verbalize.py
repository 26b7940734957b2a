"""Sentences are deterministic and translatable, and contain only values of the explanation."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation import (
    Claim,
    EvidenceEffect,
    Mention,
    NeighbourExplanation,
    Part,
    PastReview,
    Quote,
    Recommendation,
)
from recbole_drex.explain.explanation_text import Explanation
from recbole_drex.explain.verbalize import reasons_of, sentence, sum_in_words
from recbole_drex.explain.wording import ENGLISH, Language

GERMAN = Language(
    decimal=",",
    separator=", ",
    last_separator=" und ",
    reasons="; ",
    either=" oder ",
    alike="{words} und \u00c4hnliches",
    because="Empfohlen, weil {reasons}.",
    although="Empfohlen, obwohl {reasons}.",
    in_favour="Dafür spricht: {reasons}.",
    against="Dagegen spricht: {reasons}.",
    rated_high="andere es besser als {usual} bewerten",
    rated_low="andere es schlechter als {usual} bewerten",
    item_raises="das Ding allein sie um {by} hebt",
    item_lowers="das Ding allein sie um {by} senkt",
    you_write="Sie von {aspect} schreiben ({n} Ihrer {total} Kritiken)",
    you_wrote="Sie von {aspect} schreiben (in Ihrer einzigen Kritik)",
    they={"praise": " und {n} von {total} es loben", "blame": " und {n} von {total} es tadeln"},
    they_alone={"praise": "{n} von {total} {aspect} loben", "blame": "{n} von {total} {aspect} tadeln"},
    topic={
        "raises": "es viel um {words} geht und Sie so etwas besser als erwartet bewerten",
        "lowers": "es viel um {words} geht und Sie so etwas schlechter als erwartet bewerten",
    },
    own_topic={
        "raises": "Sie viel \u00fcber {words} schreiben und solche Nutzer es besser als erwartet bewerten",
        "lowers": "Sie viel \u00fcber {words} schreiben und solche Nutzer es schlechter als erwartet bewerten",
    },
    taste_raises="die Kritiken denen von Dingen gleichen, die Sie h\u00f6her bewertet haben als erwartet",
    taste_lowers="die Kritiken denen von Dingen gleichen, die Sie niedriger bewertet haben als erwartet",
    others_raise="anderes daf\u00fcr spricht",
    others_lower="anderes dagegen spricht",
    others_praise={"praise": "{n} von {total} sonst loben", "blame": "{n} von {total} sonst tadeln"},
    all_praise={"praise": "{n} von {total} loben", "blame": "{n} von {total} tadeln"},
    averages="Keine Kritik \u00e4ndert die Vorhersage um 0,05: sie beruht auf Mittelwerten.",
    patterns="Keine Kritik \u00e4ndert die Vorhersage um 0,05: sie beruht auf Mittelwerten und auf Mustern ({by}).",
    nothing="Nichts \u00e4ndert die Vorhersage allein um 0,05.",
    wrote="Ihre Kritik zu {title}",
    rated="Ihre Note f\u00fcr {title}",
    reviewed="Ihre Kritik zu {title}",
    they_wrote="die Kritik von {user} zu {title}",
    they_rated="die Note von {user} f\u00fcr {title}",
    they_reviewed="die Kritik von {user} zu {title}",
    with_rating="{what} ({rating})",
    raises="{what} die Vorhersage um {by} hebt",
    lowers="{what} die Vorhersage um {by} senkt",
    useful_one="Am meisten z\u00e4hlt die Kritik von {users}.",
    useful_many="Am meisten z\u00e4hlen die Kritiken von {users}.",
    neighbours="Von Ihren {neighbours} n\u00e4chsten Nachbarn haben es {rated} bewertet, {relevant} mit {threshold} "
    "oder mehr, im Mittel mit {mean}.",
    no_neighbours="Keiner Ihrer {neighbours} n\u00e4chsten Nachbarn hat es bewertet.",
    predicted="Vorhergesagt {predicted}.",
    its_mean="Im Mittel {mean} bei {n} Noten",
    its_one_rating="Einzige Note {mean}",
    its_none="Niemand hat es bewertet",
    your_mean="Ihr Mittel {mean}",
    known="Sie haben es schon mit {rating} bewertet; das ist hier kein Grund.",
    known_unrated="Sie haben es schon rezensiert; das ist hier kein Grund.",
    parts={
        "average": "Mittel",
        "user": "Sie",
        "item": "das Ding",
        "aspect": "andere Themen",
        "taste": "Ihr Geschmack",
        "rest": "Muster",
    },
    before_limit="{sum}, gezeigt als {predicted},",
)


def claim(total: int, praise: int, blame: int, *words: str) -> Claim:
    return Claim(total, praise + blame, praise, blame, None, (Mention("u", "i", words, 0.5),) if words else ())


def aspect(name: str, rating: float, mine: Claim, its: Claim) -> Part:
    return Part("aspect", name, 2 * rating, rating, tuple(name.split(", ")), mine, its)


def summed(*parts: Part, **fields) -> tuple[Explanation, Recommendation]:
    mean = fields.pop("mean", 3.57)
    known = {part.kind for part in parts if not part.words}
    base = [Part("average", "average", 3.6, 3.6), Part("user", "you", 0.1, 0.1), Part("item", "the item", 0.0, 0.0)]
    all_parts = (*(part for part in base if part.kind not in known), *parts)
    given_fields = {"predicted": 4.44, "mean_rating": 4.21, "ratings": 31, **fields}
    item = Recommendation("g1", "Abyss", score=1.0, scale="ordinal score", parts=all_parts, **given_fields)
    return Explanation("ada", mean, (), (item,)), item


def past(title: str, rating: float | None, text: str | None, user: str = "ada") -> PastReview:
    return PastReview(user, "g7", title, rating, None if text is None else Quote(text))


MEANS = "Predicted 4.4. Its average is 4.2 from 31 ratings, your average is 3.6."


def test_aspects_for_and_against():
    parts = (
        aspect("story, plot", 0.4, claim(40, 12, 11, "story"), claim(31, 9, 2, "plot")),
        aspect("map", 0.2, claim(40, 4, 0), claim(31, 3, 1, "map", "landscape")),
        aspect("music", 0.1, claim(40, 3, 0, "song"), claim(31, 2, 0, "music")),
        aspect("combat", -0.3, claim(40, 4, 0), claim(31, 1, 5)),
        aspect("price", -0.04, claim(40, 4, 0), claim(31, 1, 5)),
    )
    explanation, item = summed(*parts)
    assert sentence(explanation, item) == (
        "Recommended because you write about story or plot (23 of your 40 reviews) and its reviewers praise it (9 of "
        "11 who mention it); you write about map and the like (4 of your 40 reviews) and its reviewers praise it (3 of "
        "4 who mention it); its reviewers praise music (2 of 2 who mention it). "
        "Recommended although you write about combat (4 of your 40 reviews) and its reviewers criticise it (5 of 6 who "
        "mention it). " + MEANS
    )
    assert sentence(explanation, item, GERMAN).startswith(
        "Empfohlen, weil Sie von story oder plot schreiben (23 Ihrer 40 Kritiken) und 9 von 11 es loben; "
    )
    asked = sentence(explanation, dataclasses.replace(item, asked=True))
    assert asked.startswith("In its favour: you write about story") and "Against it: you write about combat" in asked
    assert "Recommended" not in asked


def test_an_item_is_called_highly_rated_only_if_its_mean_is_high():
    item_part = Part("item", "the item", 0.9, 0.9)
    story = aspect("story", 0.4, claim(40, 1, 0), claim(31, 1, 0))
    explanation, item = summed(item_part, story)
    assert sentence(explanation, item).startswith(
        "Recommended because others rate it above the average of 3.6; its reviewers praise story (1 of 1 who "
    )
    low = dataclasses.replace(item, mean_rating=3.1)
    assert sentence(explanation, low).startswith(
        "Recommended because what the model knows of the item alone raises it by 0.90;"
    )
    against = dataclasses.replace(low, parts=(*low.parts[:2], Part("item", "the item", -0.9, -0.9)))
    assert sentence(explanation, against).startswith("Recommended although others rate it below the average of 3.6.")


def test_averages_are_named_if_reviews_have_no_effect():
    explanation, item = summed(aspect("story", 0.04, claim(9, 1, 0), claim(9, 1, 0)), Part("rest", "", 0.04, 0.04))
    assert sentence(explanation, item) == f"{ENGLISH.averages} {MEANS}"
    explanation, item = summed(Part("rest", "", -0.31, -0.31), mean=None, mean_rating=None, ratings=0)
    assert sentence(explanation, item).endswith(
        "patterns in past ratings (-0.31). Predicted 4.4. No other user has rated it."
    )
    explanation, item = summed(Part("taste", "your taste", 0.1, 0.1), Part("aspect", "other aspects", -0.2, -0.2))
    assert sentence(explanation, item).startswith(
        "Recommended because its reviews resemble those of items that you rated higher than expected. Recommended "
        "although what else its reviewers say speaks against it. Predicted"
    )
    others = dataclasses.replace(item.parts[-1], item=claim(31, 8, 20))
    changed = dataclasses.replace(item, parts=(*item.parts[:-1], others))
    assert "although its reviews criticise more than they praise (20 of 28)." in sentence(explanation, changed)
    story = aspect("story", 0.4, claim(40, 12, 11), claim(31, 9, 2))
    changed = dataclasses.replace(item, parts=(*item.parts[:-1], story, others))
    assert "although apart from that, its reviews criticise more than they praise (20 of 28)." in sentence(
        explanation, changed
    )


def test_a_mean_that_is_shown_as_the_average_is_neither_above_nor_below_it():
    explanation, item = summed(Part("item", "the item", 0.2, 0.2), mean_rating=3.64)
    assert sentence(explanation, item).startswith("Recommended because what the model knows of the item alone")


def test_sums_add_up_as_shown():
    _, item = summed(aspect("story, plot", 0.444, claim(9, 1, 0), claim(9, 1, 0)), Part("rest", "", 0.3, 0.3))
    assert sum_in_words(item) == "4.44 = 3.60 average + 0.10 you + 0.44 story + 0.30 other patterns"
    clipped = dataclasses.replace(item, predicted=4.0)
    assert sum_in_words(clipped, GERMAN).startswith("4,44, gezeigt als 4,00, = 3,60 Mittel + 0,10 Sie")
    assert sum_in_words(Recommendation("g1", "", None)) == ""


def test_without_parts_sentences_name_evidence():
    evidence = (
        EvidenceEffect("user", past("Dunmere", 5.0, "Great"), 0.213),
        EvidenceEffect("item", past("Abyss", None, "Dull", "bob"), -0.104),
        EvidenceEffect("user", past("", 2.5, None), -0.051),
        EvidenceEffect("item", past("Abyss", None, None, "eve"), 0.04),
    )
    item = Recommendation("g1", "Abyss", 4.44, evidence=evidence, mean_rating=4.0, ratings=1)
    explanation = Explanation("ada", 3.57, (), (item,))
    assert sentence(explanation, item) == (
        "Recommended because what you wrote about Dunmere (5.0) raises the prediction by 0.21. Recommended although "
        "what bob wrote about Abyss lowers the prediction by 0.10; your rating of g7 (2.5) lowers the prediction by "
        "0.05. "
        "Predicted 4.4. Its only rating is 4.0, your average is 3.6."
    )
    assert "die Kritik von bob zu Abyss die Vorhersage um 0,10 senkt" in sentence(explanation, item, GERMAN)
    small = dataclasses.replace(item, evidence=evidence[3:])
    assert sentence(explanation, small).startswith("No past interaction moves the prediction by 0.05.")


def test_items_that_the_user_already_knows():
    bare = Recommendation("g1", "", None, known=past("", 4.0, None))
    newcomer = Explanation("new", None, (), (bare,))
    assert (
        sentence(newcomer, bare)
        == "You have already rated it 4.0; this rating is not used as a reason. No other user has rated it."
    )
    unrated = dataclasses.replace(bare, known=past("", None, "Fine"))
    assert sentence(newcomer, unrated, GERMAN).startswith("Sie haben es schon rezensiert; das ist hier kein Grund.")


def test_useful_reviews_and_neighbours():
    useful = tuple(EvidenceEffect("item", past("Abyss", None, "x", user), 0.0, 0.5) for user in ("bob", "eve", "kim"))
    item = Recommendation("g1", "Abyss", 4.44, reviews=useful)
    explanation = Explanation("ada", None, (), (item,))
    assert sentence(explanation, item).startswith("Of its reviews, those by bob, eve and kim count most. Predicted")
    one = dataclasses.replace(item, reviews=useful[:1], predicted=None)
    assert sentence(explanation, one).startswith("Of its reviews, the one by bob counts most.")
    near = NeighbourExplanation(neighbours=50, rated=12, relevant=9, mean_rating=4.25, threshold=3.5)
    item = Recommendation("g1", "Abyss", None, neighbours=near)
    assert sentence(explanation, item).startswith(
        "Of your 50 nearest users 12 rated it, 9 of them 3.5 or more; their mean is 4.2."
    )
    assert "mit 3,5 oder mehr, im Mittel mit 4,2." in sentence(explanation, item, GERMAN)
    unrated = dataclasses.replace(near, rated=0, relevant=0, mean_rating=None)
    item = dataclasses.replace(item, neighbours=unrated)
    assert sentence(explanation, item).startswith("None of your 50 nearest users rated it.")


# Properties -----------------------------------------------------------------------------------------------------------

names = st.sampled_from(["Abyss", "", "{0}", "<script>", "\U0001f600 game", "ada"])
texts = st.none() | st.just("text")
reviews = st.builds(
    lambda user, title, rating, text: PastReview(
        user or "bob", "g8", title, rating, None if text is None else Quote(text)
    ),
    names,
    names,
    st.none() | st.floats(0.5, 5.0),
    texts,
)
evidence = st.lists(
    st.builds(
        EvidenceEffect, st.sampled_from(["user", "item"]), reviews, st.floats(-3, 3), st.none() | st.floats(0, 1)
    ),
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
words = st.sampled_from(["story", "map, plot", "r\u00e4tsel", "\u97f3\u697d", "{word}", "<b>", "John Malkovich"])
claims = st.builds(claim, st.integers(0, 400), st.integers(0, 9), st.integers(0, 9), words)
ratings = st.floats(-2, 2)
aspects = st.builds(aspect, words, ratings, claims, claims)
others = st.tuples(
    *(st.builds(Part, st.just(kind), st.just(kind), ratings, ratings) for kind in ("item", "taste", "rest"))
)
folded = st.builds(lambda rating: Part("aspect", "other aspects", rating, rating), ratings)


@settings(deadline=None)
@given(
    st.lists(aspects, max_size=6),
    others,
    folded,
    st.none() | st.floats(1, 5),
    st.none() | st.floats(1, 5),
    st.none() | st.floats(1, 5),
    evidence,
    st.booleans(),
    st.none() | neighbours,
    st.none() | reviews,
    st.sampled_from([ENGLISH, GERMAN]),
)
def test_sentences_contain_only_values_of_the_explanation(
    parts, more, small, predicted, mean, its_mean, moved, has_parts, near, known, language
):
    """All words that are not from the templates are rounded values of the explanation."""
    fields = {"predicted": predicted, "mean": mean, "mean_rating": its_mean, "evidence": moved, "neighbours": near}
    explanation, item = summed(*parts, *more, small, known=known, **fields)
    if not has_parts:
        item = dataclasses.replace(item, parts=())
    text = sentence(explanation, item, language)
    assert text == sentence(explanation, item, language)
    shown = [predicted, mean, its_mean, known and known.rating, near and near.mean_rating]
    shown += [one.review.rating for one in moved]
    numbers = {language.number(value) for value in [3.6, *shown] if value is not None} | {str(item.ratings)}
    numbers |= {
        language.number(abs(value), 2) for value in [0.05, *(one.rating for one in more), *(one.delta for one in moved)]
    }
    for part in parts:
        numbers |= {str(n) for one in (part.user, part.item) for n in (one.total, one.reviews, one.praise, one.blame)}
    if near:
        threshold = f"{near.threshold:g}".replace(".", language.decimal)
        numbers |= {str(near.neighbours), str(near.rated), str(near.relevant), threshold}
    free = {word for part in parts for word in part.words}
    free |= {value for one in moved for value in (one.review.title, one.review.user, "g8")}
    rest = text
    for name in sorted(free - {""}, key=len, reverse=True):
        rest = rest.replace(name, " ")
    assert set(re.findall(r"\d+(?:[.,]\d+)?", rest)) <= numbers
    templates = " ".join(
        text
        for value in dataclasses.asdict(language).values()
        for text in (value.values() if isinstance(value, dict) else [value])
    )
    assert set(re.findall(r"[^\W\d_]+", rest)) <= set(re.findall(r"[^\W\d_]+", templates))
    assert "{" not in rest and "\n" not in text


@settings(deadline=None)
@given(st.lists(aspects, max_size=6), others, folded, evidence, st.booleans())
def test_because_lists_what_raised_and_although_what_lowered(parts, more, small, moved, has_parts):
    explanation, item = summed(*parts, *more, small, evidence=moved)
    if not has_parts:
        item = dataclasses.replace(item, parts=())
    text = sentence(explanation, item)
    if has_parts:
        raised, lowered = reasons_of(item)
        assert all(part.rating >= 0.05 for part in raised) and all(part.rating <= -0.05 for part in lowered)
        assert all(part.kind in ("item", "aspect", "taste") for part in (*raised, *lowered))
    else:
        raised, lowered = ([one for one in moved if sign * one.delta >= 0.05] for sign in (1, -1))
    assert ("Recommended because" in text) == bool(raised) and ("Recommended although" in text) == bool(lowered)
    because = text.partition("Recommended because")[2].partition("Recommended although")[0] if raised else ""
    although = text.partition("Recommended although")[2] if lowered else ""
    for clause, wrong in (
        (because, "lowers"),
        (although, "raises"),
        (because, "reviewers criticise"),
        (although, "reviewers praise"),
    ):
        assert wrong not in clause
    if has_parts:
        # Most reviewers agree with what the sentence says.
        for part in (*raised, *lowered):
            if part.words and "praise it" in text and part.rating > 0 and len(raised) == 1:
                assert 2 * part.item.praise > part.item.reviews
    assert "Its average is 4.2 from 31 ratings, your average is 3.6." in text


@given(st.lists(aspects, max_size=6), others)
def test_shown_sums_are_sums(parts, more):
    _, item = summed(*parts, *more, predicted=None)
    whole, _, terms = sum_in_words(item).partition(" = ")
    free = terms
    for name in sorted({part.name.split(", ")[0] for part in parts}, key=len, reverse=True):
        free = free.replace(name, " ")
    signs = re.findall(r"(?:^|(?<= ))([+-]?) ?(\d+\.\d\d)", free)
    total = sum(float(number) * (-1 if sign == "-" else 1) for sign, number in signs)
    assert total == pytest.approx(float(whole), abs=1e-9)
    assert float(whole) == pytest.approx(sum(part.rating for part in item.parts), abs=0.0051)


def test_every_recommendation_gets_its_sentence(make_experiment, train):
    for model in ("DReX", "NARRE", "EMF"):
        experiment = make_experiment(model)
        train(experiment)
        for explanation in Explainer(experiment).explain_users(6):
            for item in explanation.recommendations:
                assert item.sentence == sentence(explanation, item) != ""


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Language)])
def test_both_languages_use_the_same_fields(field):
    first, second = (getattr(language, field) for language in (ENGLISH, GERMAN))
    pairs = zip(first.values(), second.values(), strict=True) if isinstance(first, dict) else [(first, second)]
    for one, other in pairs:
        assert set(re.findall(r"\{(\w+)\}", one)) == set(re.findall(r"\{(\w+)\}", other))
