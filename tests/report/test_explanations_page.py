"""Packed explanations of the page: no information is lost, and users are cut evenly if the page would be too large."""

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
    """Unpack explanations, independently of the page's script, from the description of the format."""

    def quote(index: int | None) -> dict[str, Any] | None:
        if index is None:
            return None
        packed_value = model["quotes"][index]
        positions = packed_value.get("positions", [])
        marks, end = [], 0
        for n in range(len(positions) // 2):
            start = end + positions[2 * n]
            end = start + positions[2 * n + 1]
            units = {"attention": 1000, "delta": 10000, "sentiment": 100}
            values = {name: packed_value.get(name, [None] * (n + 1))[n] for name in units}
            weights = {name: None if value is None else value / units[name] for name, value in values.items()}
            marks.append({"start": start, "end": end, **weights})
        return {"text": packed_value["text"], "marks": marks}

    def review(index: int) -> dict[str, Any]:
        packed_value = {"rating": None, **model["reviews"][index]}
        return {
            **packed_value,
            "title": model["titles"].get(packed_value["item"], ""),
            "quote": quote(packed_value.get("quote")),
        }

    def profile(words: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"mean_rating": None, **word, "quotes": [review(n) for n in word.get("quotes", [])]} for word in words]

    def evidence(packed_value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"weight": None, **one, "review": review(one["review"])} for one in packed_value]

    def claim(packed_value: dict[str, Any] | None) -> dict[str, Any] | None:
        return packed_value and {
            **packed_value,
            "quote": review(packed_value["quote"]) if "quote" in packed_value else None,
        }

    def part(packed_value: dict[str, Any]) -> dict[str, Any]:
        return {"words": [], **packed_value, **{side: claim(packed_value.get(side)) for side in ("user", "item")}}

    def item(packed_value: dict[str, Any]) -> dict[str, Any]:
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
            **packed_value,
            "parts": [part(one) for one in packed_value.get("parts", [])],
            "title": model["titles"].get(packed_value["item"], ""),
            "profile": profile(model["profiles"][packed_value["profile"]]) if "profile" in packed_value else [],
            "keywords": [
                {**word, **{name: quote(word.get(name)) for name in ("user_quote", "item_quote")}}
                for word in packed_value.get("keywords", [])
            ],
            **{name: evidence(packed_value.get(name, [])) for name in ("evidence", "reviews")},
            "known": review(packed_value["known"]) if "known" in packed_value else None,
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


def close(packed_value: Any, wanted: Any) -> None:
    """Assert equality up to the last decimals of numbers."""
    if isinstance(wanted, dict):
        assert packed_value.keys() == wanted.keys()
        for name in wanted:
            close(packed_value[name], wanted[name])
    elif isinstance(wanted, list | tuple):
        assert len(packed_value) == len(wanted)
        for one, other in zip(packed_value, wanted, strict=True):
            close(one, other)
    else:
        assert packed_value == (pytest.approx(wanted, abs=6e-4) if isinstance(wanted, float) else wanted)


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
    # Repeated values are stored once.
    assert len(json.dumps(model)) < len(json.dumps(stored)) / 2
    assert packed(stored + stored)["quotes"] == model["quotes"]


def test_marks_count_characters(browser: Any, tmp_path: Path) -> None:
    """Emoji have length two in the browser, and length one in Python."""
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
    """Users per model on the page."""
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
