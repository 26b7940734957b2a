"""The wording of explanations; a translation is one more :class:`Language`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Language:
    """Templates, in the format of :meth:`str.format`.

    Attributes:
        decimal: decimal point of numbers.
        separator, last_separator: between the entries of a list, and before its last one.
        reasons: between reasons.
        either: before the last of several words of which any may be meant.
        alike: the ``words`` of an aspect, where reviews with related words count too.
        because, although: a sentence of what raised the prediction and of what lowered it (``reasons``).
        in_favour, against: the same of an item that was asked about.
        rated_high, rated_low: the item's part, where its mean says so (``usual``: the average of all ratings).
        item_raises, item_lowers: the item's part (``by``), where its mean does not.
        you_write, you_wrote: the user's side of an aspect (``aspect``, ``n``, ``total``), and that of a single review.
        they: the item's side, by ``praise`` and ``blame`` (``n`` of ``total`` who mention the aspect).
        they_alone: the item's side of an aspect (``aspect``) that the user hardly writes about, by ``praise`` and
            ``blame`` (``n``, ``total``).
        taste_raises, taste_lowers: the part of tastes.
        others_raise, others_lower: the part of all aspects that are not named.
        others_praise: the same by ``praise`` and ``blame``, where most reviews agree with it (``n``, ``total``).
        all_praise: the same where no aspect is named.
        averages: nothing about what reviews say moves the prediction.
        patterns: the same, where the last part does (``by``).
        nothing: no past interaction moves the prediction by itself.
        wrote, rated, reviewed: a past interaction of the user's with ``title``: with a text, with a rating alone, and
            with neither to show.
        they_wrote, they_rated, they_reviewed: the same of another ``user``.
        with_rating: one of these (``what``) and its ``rating``.
        raises, lowers: what one of these does to the prediction: ``what``, ``by``.
        useful_one, useful_many: whose reviews count most in the model (``users``).
        neighbours, no_neighbours: what the nearest users say (``neighbours``, ``rated``, ``relevant``, ``threshold``,
            ``mean``).
        predicted: the ``predicted`` rating.
        its_mean, its_one_rating, its_none: the item's ``mean`` of ``n`` ratings by others.
        your_mean: the user's ``mean``.
        known, known_unrated: the user knows the item already (``rating``).
        parts: names of the parts that are no aspects, by kind, and of all small aspects together (``aspect``).
        before_limit: a sum that is beyond the scale (``sum``, ``predicted``).
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
        """A list in words: "a, b and c"."""
        if len(parts) < 2:
            return "".join(parts)
        return f"{self.separator.join(parts[:-1])}{self.last_separator}{parts[-1]}"

    def choice(self, words: Sequence[str]) -> str:
        """Words of which any may be meant: "a, b or c"."""
        if len(words) < 2:
            return "".join(words)
        return f"{self.separator.join(words[:-1])}{self.either}{words[-1]}"

    def number(self, value: float, digits: int = 1) -> str:
        """A number with so many digits behind the decimal point."""
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
    averages="No aspect or taste moves the prediction by 0.05: it rests on the averages of user and item.",
    patterns="No aspect or taste moves the prediction by 0.05: it rests on the averages of user and item, and on "
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
    its_none="Nobody else rated it",
    your_mean="your average is {mean}",
    known="You rated it {rating} already; no reason is taken from that.",
    known_unrated="You reviewed it already; no reason is taken from that.",
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
"""The wording unless another one is given."""
