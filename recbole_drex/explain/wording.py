"""The wording of explanations. A translation is another instance of :class:`Language`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Language:
    """Templates, in the format of :meth:`str.format`.

    Attributes:
        decimal: decimal point of numbers.
        separator, last_separator: between the entries of a list, and before its last entry.
        reasons: between reasons.
        either: before the last of several alternative words.
        alike: the ``words`` of an aspect, if reviews with related words are counted, too.
        because, although: sentences that list what raised and what lowered the prediction (``reasons``).
        in_favour, against: the same for an item that the user asked about.
        rated_high, rated_low: the item's part, if its mean agrees (``usual``: the average of all ratings).
        item_raises, item_lowers: the item's part (``by``), if its mean does not agree.
        you_write, you_wrote: the user's side of an aspect (``aspect``, ``n``, ``total``), for several reviews and one.
        they: the item's side, by ``praise`` and ``blame`` (``n`` of ``total`` who mention the aspect).
        they_alone: the item's side of an aspect (``aspect``) that the user rarely mentions, by ``praise`` and ``blame``
            (``n``, ``total``).
        topic: a topic of the item's reviews (``words``), by whether it ``raises`` or ``lowers`` the prediction.
        own_topic: the same for a topic of the user's reviews.
        taste_raises, taste_lowers: the part of tastes.
        others_raise, others_lower: the part of all unnamed aspects.
        others_praise: the same by ``praise`` and ``blame``, if most reviews agree with it (``n``, ``total``).
        all_praise: the same if no aspect is named.
        averages: the reviews do not move the prediction.
        patterns: the same, if the last part moves it (``by``).
        nothing: no single past interaction moves the prediction.
        wrote, rated, reviewed: a past interaction of the user with ``title``: with a text, with a rating only, and
            with neither.
        they_wrote, they_rated, they_reviewed: the same for another ``user``.
        with_rating: one of these (``what``) with its ``rating``.
        raises, lowers: its effect on the prediction: ``what``, ``by``.
        useful_one, useful_many: the authors of the most useful reviews (``users``).
        neighbours, no_neighbours: ratings of the nearest users (``neighbours``, ``rated``, ``relevant``, ``threshold``,
            ``mean``).
        predicted: the ``predicted`` rating.
        its_mean, its_one_rating, its_none: the item's ``mean`` of ``n`` ratings by other users.
        your_mean: the user's ``mean``.
        known, known_unrated: the user has already interacted with the item (``rating``).
        parts: names of all parts other than named aspects, by kind; ``aspect`` is the sum of all small aspects.
        before_limit: a sum outside the rating scale (``sum``, ``predicted``).
    """

    decimal: str
    separator: str
    last_separator: str
    reasons: str
    either: str
    alike: str
    because: str
    although: str
    in_favour: str
    against: str
    rated_high: str
    rated_low: str
    item_raises: str
    item_lowers: str
    you_write: str
    you_wrote: str
    they: Mapping[str, str]
    they_alone: Mapping[str, str]
    topic: Mapping[str, str]
    own_topic: Mapping[str, str]
    taste_raises: str
    taste_lowers: str
    others_raise: str
    others_lower: str
    others_praise: Mapping[str, str]
    all_praise: Mapping[str, str]
    averages: str
    patterns: str
    nothing: str
    wrote: str
    rated: str
    reviewed: str
    they_wrote: str
    they_rated: str
    they_reviewed: str
    with_rating: str
    raises: str
    lowers: str
    useful_one: str
    useful_many: str
    neighbours: str
    no_neighbours: str
    predicted: str
    its_mean: str
    its_one_rating: str
    its_none: str
    your_mean: str
    known: str
    known_unrated: str
    parts: Mapping[str, str]
    before_limit: str

    def join(self, parts: Sequence[str]) -> str:
        """Join the entries of a list: "a, b and c"."""
        if len(parts) < 2:
            return "".join(parts)
        return f"{self.separator.join(parts[:-1])}{self.last_separator}{parts[-1]}"

    def choice(self, words: Sequence[str]) -> str:
        """Join alternative words: "a, b or c"."""
        if len(words) < 2:
            return "".join(words)
        return f"{self.separator.join(words[:-1])}{self.either}{words[-1]}"

    def number(self, value: float, digits: int = 1) -> str:
        """Format a number with ``digits`` digits after the decimal point."""
        return f"{value:.{digits}f}".replace(".", self.decimal)


ENGLISH = Language(
    decimal=".",
    separator=", ",
    last_separator=" and ",
    reasons="; ",
    either=" or ",
    alike="{words} and the like",
    because="Recommended because {reasons}.",
    although="Recommended although {reasons}.",
    in_favour="In its favour: {reasons}.",
    against="Against it: {reasons}.",
    rated_high="others rate it above the average of {usual}",
    rated_low="others rate it below the average of {usual}",
    item_raises="what the model knows of the item alone raises it by {by}",
    item_lowers="what the model knows of the item alone lowers it by {by}",
    you_write="you write about {aspect} ({n} of your {total} reviews)",
    you_wrote="you write about {aspect} (in your only review)",
    they={
        "praise": " and its reviewers praise it ({n} of {total} who mention it)",
        "blame": " and its reviewers criticise it ({n} of {total} who mention it)",
    },
    they_alone={
        "praise": "its reviewers praise {aspect} ({n} of {total} who mention it)",
        "blame": "its reviewers criticise {aspect} ({n} of {total} who mention it)",
    },
    topic={
        "raises": "its reviews are more about {words} than others, and you rated such items higher than expected",
        "lowers": "its reviews are more about {words} than others, and you rated such items lower than expected",
    },
    own_topic={
        "raises": "you write more about {words} than others, and users who do rated it higher than expected",
        "lowers": "you write more about {words} than others, and users who do rated it lower than expected",
    },
    taste_raises="its reviews resemble those of items that you rated higher than expected",
    taste_lowers="its reviews resemble those of items that you rated lower than expected",
    others_raise="what else its reviewers say speaks for it",
    others_lower="what else its reviewers say speaks against it",
    others_praise={
        "praise": "apart from that, its reviews praise more than they criticise ({n} of {total})",
        "blame": "apart from that, its reviews criticise more than they praise ({n} of {total})",
    },
    all_praise={
        "praise": "its reviews praise more than they criticise ({n} of {total})",
        "blame": "its reviews criticise more than they praise ({n} of {total})",
    },
    averages="Nothing in the reviews moves the prediction by 0.05: it rests on the averages of user and item.",
    patterns="Nothing in the reviews moves the prediction by 0.05: it rests on the averages of user and item, and on "
    "patterns in past ratings ({by}).",
    nothing="No past interaction moves the prediction by 0.05.",
    wrote="what you wrote about {title}",
    rated="your rating of {title}",
    reviewed="your review of {title}",
    they_wrote="what {user} wrote about {title}",
    they_rated="the rating of {title} by {user}",
    they_reviewed="the review of {title} by {user}",
    with_rating="{what} ({rating})",
    raises="{what} raises the prediction by {by}",
    lowers="{what} lowers the prediction by {by}",
    useful_one="Of its reviews, the one by {users} counts most.",
    useful_many="Of its reviews, those by {users} count most.",
    neighbours="Of your {neighbours} nearest users {rated} rated it, {relevant} of them {threshold} or more; "
    "their mean is {mean}.",
    no_neighbours="None of your {neighbours} nearest users rated it.",
    predicted="Predicted {predicted}.",
    its_mean="Its average is {mean} from {n} ratings",
    its_one_rating="Its only rating is {mean}",
    its_none="No other user has rated it",
    your_mean="your average is {mean}",
    known="You have already rated it {rating}; this rating is not used as a reason.",
    known_unrated="You have already reviewed it; this review is not used as a reason.",
    parts={
        "average": "average",
        "user": "you",
        "item": "the item",
        "aspect": "other aspects",
        "taste": "your taste",
        "rest": "other patterns",
    },
    before_limit="{sum}, shown as {predicted},",
)
"""The default wording."""
