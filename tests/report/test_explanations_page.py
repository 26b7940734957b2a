"""Explanations as the page holds them: nothing is lost, and what would be too large is cut evenly."""

from __future__ import annotations

import dataclasses
import html
import json
from pathlib import Path
from typing import Any

import pytest
from explained import explanation, hostile, others, summed, write_explained
from pages import Page, elements, opened

from recbole_drex.explain.explanation import Mark, PastReview, Quote
from recbole_drex.explain.explanation_text import Explanation
from recbole_drex.report.pages.explanations import packed


def unpacked(model: dict[str, Any]) -> list[dict[str, Any]]:
    """What was packed; written apart from the page's script, by the description of the form."""

    def quote(place: int | None) -> dict[str, Any] | None:
        if place is None:
            return None
        found = model["quotes"][place]
        places = found.get("places", [])
        marks, end = [], 0
        for n in range(len(places) // 2):
            start = end + places[2 * n]
            end = start + places[2 * n + 1]
            units = {"attention": 1000, "delta": 10000, "sentiment": 100}
            values = {name: found.get(name, [None] * (n + 1))[n] for name in units}
            weights = {name: None if value is None else value / units[name] for name, value in values.items()}
            marks.append({"start": start, "end": end, **weights})
        return {"text": found["text"], "marks": marks}

    def review(place: int) -> dict[str, Any]:
        found = {"rating": None, **model["reviews"][place]}
        return {**found, "title": model["titles"].get(found["item"], ""), "quote": quote(found.get("quote"))}

    def profile(words: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"mean_rating": None, **word, "quotes": [review(n) for n in word.get("quotes", [])]} for word in words]

    def evidence(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"weight": None, **one, "review": review(one["review"])} for one in found]

    def claim(found: dict[str, Any] | None) -> dict[str, Any] | None:
        return found and {**found, "quote": review(found["quote"]) if "quote" in found else None}

    def part(found: dict[str, Any]) -> dict[str, Any]:
        return {"words": [], **found, **{side: claim(found.get(side)) for side in ("user", "item")}}

    def item(found: dict[str, Any]) -> dict[str, Any]:
        return {
            "predicted": None,
            "sentence": "",
            "written": "",
            "neighbours": None,
            "words": [],
            "asked": False,
            "score": None,
            "scale": "",
            "mean_rating": None,
            "ratings": 0,
            **found,
            "parts": [part(one) for one in found.get("parts", [])],
            "title": model["titles"].get(found["item"], ""),
            "profile": profile(model["profiles"][found["profile"]]) if "profile" in found else [],
            "keywords": [
                {**word, **{name: quote(word.get(name)) for name in ("user_quote", "item_quote")}}
                for word in found.get("keywords", [])
            ],
            **{name: evidence(found.get(name, [])) for name in ("evidence", "reviews")},
            "known": review(found["known"]) if "known" in found else None,
        }

    return [
        {
            "mean_rating": None,
            **user,
            "profile": profile(user.get("profile", [])),
            "recommendations": [item(one) for one in user.get("recommendations", [])],
        }
        for user in model["users"]
    ]


def claims(users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All claims about aspects."""
    parts = [part for user in users for item in user["recommendations"] for part in item["parts"]]
    return [part[side] for part in parts for side in ("user", "item") if part[side]]


def close(found: Any, wanted: Any) -> None:
    """Equal, but for the last decimals of numbers."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name in wanted:
            close(found[name], wanted[name])
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            close(one, other)
    else:
        assert found == (pytest.approx(wanted, abs=6e-4) if isinstance(wanted, float) else wanted)


def test_nothing_is_lost() -> None:
    bare = PastReview("u", "i", "", None, None)
    word = dataclasses.replace(explanation(1).profile[0], quotes=(bare,), mean_rating=None)
    users = [
        *(explanation(user) for user in range(8)),
        explanation(8, recommendations=(summed(8, 2), summed(8, 3))),
        *others().values(),
        hostile(),
        Explanation("empty", None, (), ()),
        Explanation("without quotes", 0.0, (word,), ()),
    ]
    stored = json.loads(json.dumps([dataclasses.asdict(user) for user in users]))
    model = packed(stored)
    for claim in claims(stored):
        assert claim.pop("mentions")  # too many for a page
    close(unpacked(json.loads(json.dumps(model))), stored)
    # And what is said again is not stored again.
    assert len(json.dumps(model)) < len(json.dumps(stored)) / 2
    assert packed(stored + stored)["quotes"] == model["quotes"]


def test_marks_count_characters(browser: Any, tmp_path: Path) -> None:
    """Emoji take two places of a string in the browser, and one in Python."""
    text = "😀 a 🎮 fine 👩‍👩‍👧 story é🙂"
    spots = [(text.index(word), text.index(word) + len(word)) for word in ("fine", "story", "é🙂")]
    quoted = Quote(text, tuple(Mark(*spot, 0.5) for spot in spots))
    word = dataclasses.replace(explanation(0).profile[0], quotes=(PastReview("u", "i", "Go", 4.0, quoted),))
    page = write_explained(tmp_path, {"DReX": [Explanation("u", 4.0, (word,), ())]})
    with opened(browser, page):
        elements(browser, ".tiles .word")[0].click()
        assert [mark.text for mark in elements(browser, "#explained-word mark")] == ["fine", "story", "é🙂"]
        assert elements(browser, "#explained-word blockquote p")[0].text == text


def shown(page: Path) -> dict[str, list[str]]:
    """Users of each model that the page holds."""
    scripts = Page(page.read_text(encoding="utf-8")).all("script")
    stored = json.loads(next(text for attrs, text in scripts if attrs.get("type") == "application/json"))
    return {model["name"]: [user["user"] for user in model["users"]] for model in stored}


def test_too_many_users_are_cut_evenly(tmp_path: Path) -> None:
    user = explanation(0, items=1)
    (item,) = user.recommendations
    users = [
        dataclasses.replace(
            user, user=f"user_{n:02}", recommendations=(dataclasses.replace(item, sentence=f"{n} " + "x" * 40_000),)
        )
        for n in range(60)
    ]
    page = write_explained(tmp_path, {"DReX": users, "NARRE": users[:30]})
    kept = shown(page)
    sizes = {name.partition(",")[0]: len(users) for name, users in kept.items()}
    assert 2 * sizes["NARRE"] in (sizes["DReX"] - 1, sizes["DReX"], sizes["DReX"] + 1)
    assert 40 < sum(sizes.values()) <= 50
    assert kept["DReX, demo, 1"] == [f"user_{n:02}" for n in range(sizes["DReX"])]
    text = html.unescape(page.read_text(encoding="utf-8"))
    assert f"{sum(sizes.values())} of 90 explained users are shown" in text


def test_one_user_of_each_model_is_always_shown(tmp_path: Path) -> None:
    user = explanation(0, items=1)
    items = (dataclasses.replace(user.recommendations[0], sentence="x" * 2_100_000),)
    page = write_explained(tmp_path, {"DReX": [dataclasses.replace(user, recommendations=items)] * 2})
    assert [len(users) for users in shown(page).values()] == [1]


def test_explanations_of_another_version_are_named(tmp_path: Path) -> None:
    write_explained(tmp_path, {"DReX": [explanation(0)], "NARRE": [explanation(1)]})
    path = tmp_path / "demo" / "NARRE" / "seed-1" / "explanations.json"
    path.write_text('[{"user": "u", "profile": [{"word": "story", "score": 1.0}], "recommendations": []}]')
    from recbole_drex.report.html import render
    from recbole_drex.results.comparison import comparison_of

    folders = [tmp_path / "demo" / label / "seed-1" for label in ("DReX", "NARRE")]
    (tmp_path / "report.html").write_text(render(comparison_of(folders), tmp_path), encoding="utf-8")
    assert shown(tmp_path / "report.html") == {"DReX, demo, 1": ["user_00"]}
    assert "NARRE, demo, 1: explained by another version" in (tmp_path / "report.html").read_text(encoding="utf-8")
