"""Explanations as terminal text: colours on request, and no control sequences from the data."""

from __future__ import annotations

import io
import re
import shutil
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_drex.data.text.review_texts import TEXTS, ReviewTexts, write_texts
from recbole_drex.errors import printable
from recbole_drex.explain.explainer import Explainer
from recbole_drex.explain.explanation import (
    EvidenceEffect,
    Keyword,
    Mark,
    PastReview,
    Quote,
    Recommendation,
    SharedKeyword,
    WordEffect,
)
from recbole_drex.explain.explanation_text import Explanation, render, use_color

_COLOR = re.compile(r"\x1b\[(?:48;5;\d+m\x1b\[38;5;16|0)m")


def quote(deltas: tuple[float | None, float | None] = (None, None)) -> Quote:
    return Quote("Great story, dull map", (Mark(0, 5, 0.1, deltas[0]), Mark(6, 11, 0.6, deltas[1])))


def explanation(text: str = "Abyss") -> Explanation:
    past = PastReview(text, text, text, 4.5, quote((0.2, -0.1)))
    item = Recommendation(
        text,
        text,
        4.4,
        sentence=f"About {text}.",
        profile=(Keyword(text, text, 1.0, 1, 4.0, "liked"),),
        keywords=(SharedKeyword(text, text, 1.0, 1.0, quote(), Quote(text)),),
        evidence=(EvidenceEffect("user", past, 0.21), EvidenceEffect("item", past, -0.1)),
        words=(WordEffect(text, text, 0.13, 2),),
        reviews=(EvidenceEffect("item", past, 0.0, 0.7),),
        written=text,
    )
    return Explanation(text, 3.9, (Keyword(text, text, 2.0, 4, 4.5, "liked"), Keyword("map", "map", 1.0, 1)), (item,))


def test_plain_text():
    assert render(explanation()).splitlines() == [
        "User Abyss, average rating 3.90",
        "  profile: Abyss (4 reviews, liked), map (1 review)",
        "  1. Abyss: predicted 4.40",
        "     About Abyss.",
        '     the model writes: "Abyss"',
        '     useful review by Abyss (0.70): "Great story, dull map"',
        "     its profile: Abyss (1 review, liked)",
        "     shared keywords: Abyss (user 1.00, item 1.00)",
        '       Abyss, this user: "Great story, dull map"',
        '       Abyss, this item: "Abyss"',
        '     +0.21 by this user on Abyss, rated 4.5: "Great story, dull map"',
        '     -0.10 by Abyss on this item, rated 4.5: "Great story, dull map"',
        "     words that moved it: Abyss +0.13",
    ]


def test_colours_follow_attention_or_the_sign_of_the_effect():
    plain, colored = render(explanation()), render(explanation(), color=True)
    assert _COLOR.sub("", colored) == plain and "\x1b" not in plain
    lines = colored.splitlines()
    shared = next(line for line in lines if "this user:" in line)
    # A sixth of the strongest word's attention stays plain.
    assert 'user: "Great \x1b[48;5;226m\x1b[38;5;16mstory\x1b[0m, dull map"' in shared
    moved = next(line for line in lines if "+0.21" in line)
    assert "\x1b[48;5;46m\x1b[38;5;16mGreat\x1b[0m \x1b[48;5;210m" in moved


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_depends_on_the_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert use_color("auto", Terminal()) and not use_color("auto", io.StringIO())
    assert use_color("always", io.StringIO()) and not use_color("never", Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not use_color("auto", Terminal()) and use_color("always", Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not use_color("auto", Terminal())


@given(st.text(st.characters(), min_size=1), st.booleans())
def test_no_control_sequences_are_printed(text, color):
    shown = _COLOR.sub("", render(explanation(text), color, width=10**6))
    # Letters unknown to this Python's Unicode version are unchanged.
    assert not {unicodedata.category(one) for one in shown.replace("\n", "")} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]", shown)
    assert len(shown.split("\n")) == 13


def test_titles_with_escapes_stay_readable():
    assert printable("\x1b]0;owned\x07Alien\n\x1b[31m 3 \U0001f600") == "]0;ownedAlien [31m 3 \U0001f600"


ODD = {
    "script": "\u041b\u0443\u0447\u0448\u0438\u0439! \u6700\u9ad8\u306e\u97f3\u697d",
    "emoji": "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3ae " * 5,
    "long": "endless story " * 7200,
    "html": "<script>alert('x')</script><b>story</b> &lt;img src=x onerror=alert(1)&gt; <story",
    "escape": "\x1b[2J\x1b]0;x\x07 story \u202e reversed",
    "empty": "",
}


def test_odd_reviews_and_titles_are_quoted_safely(small, make_experiment, tmp_path):
    """Texts that differ from those that were encoded, fully or partly, cause no errors."""
    shutil.copytree(small.root / small.name, tmp_path / small.name)
    texts = ReviewTexts(tmp_path / small.name / TEXTS)
    rows = texts[range(len(texts))]
    odd = list(ODD.values())
    # The encoded words come first, so that they match.
    changed = [f"{text} {odd[k % len(odd)]}" if k % 2 else odd[k % len(odd)] for k, text in enumerate(rows)]
    write_texts(tmp_path / small.name / TEXTS, [changed])
    items = tmp_path / small.name / f"{small.name}.item"
    lines = items.read_text(encoding="utf-8").splitlines()
    column = lines[0].split("\t").index("title:token_seq")
    for k, line in enumerate(lines[1:], 1):
        cells = line.split("\t")
        cells[column] = odd[k % len(odd)].replace("\n", " ")[:500] or cells[column]
        lines[k] = "\t".join(cells)
    items.write_text("\n".join(lines) + "\n", encoding="utf-8")
    explainer = Explainer(make_experiment("DReX", data_path=str(tmp_path)), quotes=2)
    explainer.keywords.table()
    quoted = 0
    for explanation in explainer.explain_users(12):
        for color in (False, True):
            shown = _COLOR.sub("", render(explanation, color))
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
        for keyword in explanation.profile:
            for past in keyword.quotes:
                if past.quote:
                    assert len(past.quote.text) <= 160 and "<script>" not in past.quote.text
                    assert "\x1b" not in past.quote.text
                    quoted += 1
    assert quoted > 20


def test_a_user_without_reviews(small, make_experiment, tmp_path):
    shutil.copytree(small.root / small.name, tmp_path / small.name)
    path = tmp_path / small.name / f"{small.name}.inter"
    lines = path.read_text(encoding="utf-8").splitlines()
    column = lines[0].split("\t").index("review_row:float")
    user = lines[1].split("\t")[0]
    for k, line in enumerate(lines[1:], 1):
        cells = line.split("\t")
        cells[column] = "" if cells[0] == user else cells[column]
        lines[k] = "\t".join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    explainer = Explainer(make_experiment("DReX", data_path=str(tmp_path)))
    explanation = explainer.explain(user)
    assert explanation.profile == () and explanation.mean_rating is not None
    for item in explanation.recommendations:
        assert item.keywords == () and "you write about" not in item.sentence
    assert "profile:" not in render(explanation).splitlines()[1]
    known = explainer.explain_pair(user, line.split("\t")[1])
    assert known.recommendations[0].profile


@pytest.mark.parametrize("model", ["DReX", "NARRE", "EMF"])
def test_explaining_a_known_pair_leaves_it_out(make_experiment, train, model):
    experiment = make_experiment(model)
    train(experiment)
    explainer, part = Explainer(experiment), experiment.parts.train_dataset.inter_feat
    names, words = explainer.recommender, 0
    reviews = explainer.keywords.reviews if explainer.keywords else None
    for k in range(0, len(part), 97):
        user, item = names.user_name(int(part["user_id"][k])), names.item_name(int(part["item_id"][k]))
        (one,) = explainer.explain_pair(user, item).recommendations
        assert one.known is not None and one.known.rating == float(part["rating"][k]) and one.known.user == user
        assert "already" in one.sentence and one.predicted is not None
        assert all(review.review.user != user for review in one.reviews)
        for keyword in one.keywords:
            words += 1
            for side, token in (("user", user), ("item", item)):
                containing = explainer.keywords.quotes.containing(
                    side, explainer.keywords._owner(side, token), keyword.lemma
                )
                pairs = {(int(reviews.user[r]), int(reviews.item[r])) for r, _ in containing}
                assert pairs - {(int(part["user_id"][k]), int(part["item_id"][k]))}
    assert words or model != "DReX"
    held_out = experiment.parts.test.rows._dataset.inter_feat
    user, item = names.user_name(int(held_out["user_id"][0])), names.item_name(int(held_out["item_id"][0]))
    (one,) = explainer.explain_pair(user, item).recommendations
    assert one.known is None and "already" not in one.sentence
