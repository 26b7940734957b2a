"""The report's explanations in a browser: one user, two users, a word's reviews, and links that keep the selection."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote as encoded

import pytest
from explained import EVIL, IMAGE, explanation, hostile, others, recommendation, summed, write_explained
from pages import elements, opened, too_wide

from recbole_drex.explain.explanation import Recommendation
from recbole_drex.explain.explanation_text import Explanation

LONELY = dataclasses.replace(
    explanation(7), user="lonely", recommendations=(recommendation(7, 3, keywords=(), sentence=""),)
)
USERS = [
    *(explanation(user) for user in range(6)),
    LONELY,
    dataclasses.replace(explanation(8), user="summed", recommendations=(summed(8, 2), summed(8, 3, predicted=4.0))),
    hostile(),
    Explanation("empty", None, (), ()),
    Explanation("unreasoned", 3.0, (), (Recommendation("item_05", "", None),)),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    users = {"DReX": USERS, **{label: [user] for label, user in others().items()}}
    return write_explained(tmp_path_factory.mktemp("explained"), users)


@pytest.fixture
def at(browser: Any, page: Path) -> Iterator[Callable[..., Any]]:
    """``at(user, with_=other, model=...)``: the page at a link with this selection."""
    with opened(browser, page) as opened_page:

        def go(user: str, **more: str) -> Any:
            choice = {"user": user, **{name.rstrip("_"): value for name, value in more.items()}}
            state = "&".join(f"{name}={encoded(value)}" for name, value in choice.items())
            opened_page.execute_script("location.hash = ''")
            opened_page.execute_script("location.hash = arguments[0]", f"#explanations?{state}")
            # The event of the new address comes first.
            opened_page.execute_async_script("const done = arguments[0]; setTimeout(done)")
            return opened_page

        yield go


def texts(page: Any, selector: str) -> list[str]:
    """Texts of all elements, including those for screen readers only."""
    script = "return [...document.querySelectorAll(arguments[0])].map(node => node.textContent)"
    return page.execute_script(script, selector)


def choose(page: Any, control: str, value: str) -> None:
    elements(page, f"#explained-{control} option[value='{value}']")[0].click()


def test_a_user_in_full(at: Callable[..., Any]) -> None:
    page, user = at("user_03"), USERS[3]
    first = user.recommendations[0]
    assert texts(page, "#explained-view h3") == ["User user_03"]
    assert texts(page, ".who .soft") == ["mean rating 3.60"]
    assert texts(page, ".tiles .written") == [keyword.word for keyword in user.profile]
    assert texts(page, ".tiles .score") == [f"{keyword.score:.2f}" for keyword in user.profile]
    facts = [f"{keyword.reviews} reviews · ★\u00a0{keyword.mean_rating:.2f}" for keyword in user.profile]
    assert texts(page, ".tiles .facts") == facts
    for shown, keyword in zip(texts(page, ".tiles .word"), user.profile, strict=True):
        assert shown.startswith({"praised": "▲praised", "criticised": "▼criticised"}.get(keyword.side, keyword.word))
    assert texts(page, ".items h4") == [item.title for item in user.recommendations]
    assert texts(page, ".items .sentence") == [item.sentence for item in user.recommendations]
    rating = texts(page, ".items > li:first-child .rating")[0]
    assert rating == f"{first.predicted:.2f}predicted rating+{(first.predicted or 0) - 3.6:.2f} against mean 3.60"
    assert texts(page, ".items > li:first-child .shared-words .written") == [one.word for one in first.keywords]
    headings = texts(page, ".items > li:first-child .sides h5")
    assert headings == ["Own reviews that affect this prediction", "Reviews of this item by others"]
    for index, side in enumerate(("user", "item"), 1):
        deltas = [one.delta for one in first.evidence if one.side == side]
        shown = texts(page, f".items > li:first-child .sides > div:nth-child({index}) .past .num")
        assert [float(text.replace("\u2212", "-")) for text in shown] == pytest.approx(deltas, abs=0.006)
    assert texts(page, ".items > li:first-child .effects .written") == [word.word for word in first.words]


def test_marks_show_their_numbers_and_signs(at: Callable[..., Any]) -> None:
    page, first = at("user_03"), USERS[3].recommendations[0]
    quote = next(one.review.quote for one in first.evidence if one.side == "user")
    assert quote is not None
    shown = ".items > li:first-child .sides > div:first-child .past > li:first-child blockquote"
    assert texts(page, f"{shown} p") == [quote.text]
    known = {quote.text[mark.start : mark.end]: mark for mark in quote.marks}
    marks = elements(page, f"{shown} mark")
    assert marks
    for node in marks:
        mark = known[node.text]
        assert mark.delta is not None
        assert node.get_attribute("class").startswith("down-" if mark.delta < 0 else "up-")
        title = node.get_attribute("title").replace("\u2212", "-")
        assert title.startswith(f"{mark.delta:+.3f} to the prediction; attention {mark.attention:.3f}")
        line = node.value_of_css_property("border-bottom-style")
        assert line == ("dashed" if mark.delta < 0 else "solid")
    # Without deltas a mark is shaded by attention.
    heat = elements(page, ".shared-words mark:not(.plain)")
    assert heat and all(node.get_attribute("class").startswith("heat-") for node in heat)


def test_marks_keywords_in_quotes(at: Callable[..., Any]) -> None:
    n_marked = 0
    for user in range(6):
        page = at(f"user_{user:02}")
        for group in elements(page, ".shared-words > div"):
            word = group.find_element("css selector", ".written").text
            quotes = group.find_elements("css selector", "blockquote")
            marked = [mark.text for mark in group.find_elements("css selector", "mark.asked")]
            assert marked == [word] * len(quotes)
            n_marked += len(marked)
    assert n_marked > 5


def test_a_prediction_as_a_sum(at: Callable[..., Any]) -> None:
    page = at("summed")
    first = ".items > li:first-child"
    shown = [text.replace("\u2212", "-") for text in texts(page, f"{first} .parts tbody .num")]
    assert shown == ["3.60", "+0.22", "-0.06", "+0.57", "-0.23", "+0.01", "+0.15"]  # a part of 0.00 is omitted
    assert texts(page, f"{first} .parts tfoot .num") == ["4.26"]
    assert sum(map(float, shown)) == pytest.approx(4.26)
    names = texts(page, f"{first} .parts tbody th")
    assert names == ["average", "you", "the item", "story", "camera", "other aspects", "other patterns"]
    assert texts(page, f"{first} .parts tbody tr:nth-child(5) td:last-child") == [
        "in 23 of 40 reviews of this user and 7 of 31 reviews of the item (1 praise, 6 criticise)"
    ]
    marks = elements(page, f"{first} .part-quotes mark")
    assert [mark.text for mark in marks] == ["story", "story", "camera", "camera"]
    assert [mark.get_attribute("class")[:4] for mark in marks] == ["up-2", "up-3", "up-2", "down"]
    assert marks[3].get_attribute("title") == "classified as criticism, 0.80 of 1"
    assert texts(page, f"{first} .part-quotes cite")[1].startswith("user user_09, about this item")
    # The other reasons are folded.
    assert not elements(page, f"{first} .sides")[0].is_displayed()
    elements(page, f"{first} details summary")[0].click()
    assert elements(page, f"{first} .sides")[0].is_displayed()
    assert texts(page, ".items > li:last-child .parts tfoot td:last-child") == ["shown as 4.00, where the scale ends"]


def test_what_each_model_offers(at: Callable[..., Any]) -> None:
    page = at("user_00", model="NARRE, demo, 1")
    assert texts(page, ".past .num") == ["0.50", "0.25"]
    assert texts(page, ".past cite") == ["user user_04", "user user_05"]
    page = at("user_00", model="EMF, demo, 1")
    assert texts(page, ".neighbours p") == [
        "18 of the 50 nearest users rated it, 14 of them 4 or more; their mean is 4.25."
    ]
    assert not elements(page, "#explained-key")[0].is_displayed()
    page = at("user_00", model="PESI, demo, 1")
    assert texts(page, ".items blockquote p") == ["great story and a lovely soundtrack, my kids enjoyed it"]
    page = at("unreasoned", model="DReX, demo, 1")
    assert texts(page, ".items .none") == ["The model gives no explanation."]
    page = at("empty")
    assert "There are no items left to recommend." in texts(page, "#explained-view p")


def test_evidence_is_shown_without_shared_words(at: Callable[..., Any]) -> None:
    page = at("lonely")
    assert texts(page, ".items .none")[0].startswith("The two profiles share no word.")
    assert len(elements(page, ".items .sides .past > li")) == 6
    assert not elements(page, ".shared-words")
    # They are not folded next to another user, either.
    page = at("lonely", with_="user_02")
    assert elements(page, ".person:first-child .sides")[0].is_displayed()
    assert not elements(page, ".person:last-child .sides")[0].is_displayed()


def test_a_click_on_a_word_shows_its_reviews(at: Callable[..., Any]) -> None:
    page, user = at("user_03"), USERS[3]
    keyword = user.profile[0]
    button = elements(page, f".tiles [data-lemma='{keyword.lemma}']")[0]
    assert button.get_attribute("aria-haspopup") == "dialog"
    button.click()
    dialog = elements(page, "#explained-word")[0]
    assert dialog.is_displayed()
    assert texts(page, "#explained-word h3") == [keyword.word]
    items = [item.title for item in user.recommendations if any(k.lemma == keyword.lemma for k in item.profile)]
    assert items
    about = texts(page, "#explained-word h4")
    assert about[0] == "By user user_03"
    assert {f"About {title}" for title in items} <= set(about)
    shown = texts(page, "#explained-word section:first-child blockquote p")
    assert shown[: len(keyword.quotes)] == [one.quote.text for one in keyword.quotes if one.quote]
    assert {text.lower() for text in texts(page, "#explained-word mark.asked")} == {keyword.word}
    elements(page, "#explained-word-close")[0].click()
    assert not dialog.is_displayed()
    assert page.switch_to.active_element == button


def test_other_forms_of_a_word_match(at: Callable[..., Any]) -> None:
    page = at("user_02")
    puzzles = next(k for k in USERS[2].profile if k.word != k.lemma)
    elements(page, f".tiles [data-lemma='{puzzles.lemma}']")[0].click()
    assert texts(page, "#explained-word h3") == [puzzles.word]
    assert set(texts(page, "#explained-word mark.asked")) == {puzzles.word}
    elements(page, "#explained-word-close")[0].click()


def test_words_work_by_keyboard(at: Callable[..., Any]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = at("user_03")
    page.execute_script("document.getElementById('explained-other').focus()")

    def press(key: str) -> Any:
        ActionChains(page).send_keys(key).perform()
        return page.switch_to.active_element

    assert press(Keys.TAB).text == "How to read this"
    word = press(Keys.TAB)
    assert "word" in word.get_attribute("class")
    assert word.value_of_css_property("outline-style") != "none"
    close = press(Keys.ENTER)
    assert close.get_attribute("id") == "explained-word-close"
    assert press(Keys.TAB).get_attribute("id") == "explained-word-reviews"
    assert press(Keys.ESCAPE) == word
    assert not elements(page, "#explained-word")[0].is_displayed()


def test_two_users_side_by_side(at: Callable[..., Any]) -> None:
    page = at("user_03")
    choose(page, "other", "user_05")
    assert texts(page, "#explained-view h3") == ["Users user_03 and user_05", "User user_03", "User user_05"]
    left, right = (elements(page, f".pair .person:nth-child({n})")[0].rect for n in (1, 2))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    both = {k.lemma for k in USERS[3].profile} & {k.lemma for k in USERS[5].profile}
    lemmas = "return [...document.querySelectorAll('.pair .tiles .shared')].map(node => node.dataset.lemma)"
    assert sorted(page.execute_script(lemmas)) == sorted([*both, *both])
    assert len(elements(page, ".common .word")) == len(both)
    shared = {r.title for r in USERS[3].recommendations} & {r.title for r in USERS[5].recommendations}
    assert texts(page, ".common p")[-1] == f"Recommended to both: {', '.join(shared)}."
    assert set(texts(page, ".items .both h4")) == shared
    # The reviews of a word are those of both users.
    elements(page, ".common .word")[0].click()
    assert {"By user user_03", "By user user_05"} <= set(texts(page, "#explained-word h4"))
    elements(page, "#explained-word-close")[0].click()
    assert not elements(page, ".pair .sides")[0].is_displayed()
    elements(page, ".pair details summary")[0].click()
    assert elements(page, ".pair .sides")[0].is_displayed()
    choose(page, "other", "")
    assert texts(page, "#explained-view h3") == ["User user_03"]


def test_the_url_keeps_the_selection(at: Callable[..., Any], page: Path) -> None:
    opened_page = at("user_01", with_="user_04")
    assert texts(opened_page, ".person h3") == ["User user_01", "User user_04"]
    elements(opened_page, "#explained-next")[0].click()
    address = opened_page.current_url
    assert address.split("#")[1] == "explanations?user=user_02&with=user_04&model=DReX%2C+demo%2C+1"
    # A user is not compared with themselves.
    choose(opened_page, "user", "user_04")
    assert texts(opened_page, ".person h3") == ["User user_04"]
    opened_page.get("about:blank")
    opened_page.get(address)
    assert texts(opened_page, ".person h3") == ["User user_02", "User user_04"]
    assert opened_page.execute_script("return document.getElementById('explanations').getBoundingClientRect().top") < 40
    opened_page.get(f"{page.as_uri()}#explanations?user=user_00&model=EMF%2C+demo%2C+1")
    assert texts(opened_page, ".neighbours p")
    at("nobody", with_=EVIL)
    assert texts(opened_page, "#explained-position") == [f"Not in this report: user nobody and user {EVIL}"]
    assert len(elements(opened_page, ".person")) == 1


@pytest.mark.parametrize("width", [320, 390, 768, 1600])
@pytest.mark.parametrize("other", ["", "user_03"])
def test_fits_every_width(at: Callable[..., Any], width: int, other: str) -> None:
    for user in (f"user&{EVIL}", "user_05", "summed"):
        page = at(user, with_=other)
        page.execute_script("for (const node of document.querySelectorAll('.person details')) node.open = true")
        assert too_wide(page, width) == []


def test_hostile_text_is_shown(at: Callable[..., Any]) -> None:
    page = at(f"user&{EVIL}", with_="user_00")
    # An alert would make every command fail.
    shown = texts(page, "#explained-view")[0]
    for text in (f"User user&{EVIL}", IMAGE, f"<!-- </script>{EVIL}", f"so {EVIL} \u2028it {IMAGE}"):
        assert text in shown
    elements(page, ".person .word")[0].click()
    assert texts(page, "#explained-word h3") == [EVIL]
    assert texts(page, "#explained-word blockquote p")[0] == f"so {EVIL} \u2028it {IMAGE}"
    elements(page, "#explained-word-close")[0].click()
    assert not elements(page, "#explained-browser img, #explained-browser script:not([type])")
