"""A recommendation's reasons in words: always the same sentences for the same explanation, from templates alone.

Every number and every word that is said stands in the explanation; nothing is looked up or computed but to be rounded.
All wording is in a :class:`Language`, so that a translation is one more value of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from recbole_drex.explain.explanation import Evidence, Explanation, Keyword, Recommendation, SharedKeyword

_WORDS = 3  # shared keywords that are named
_PAST = 3  # past interactions that are named
_MOVED = 0.005  # smaller effects would be said to be 0.00


@dataclasses.dataclass(frozen=True)
class Language:
    """Templates, in the format of :meth:`str.format`; a mapping by ``side`` has ``liked``, ``disliked``, ``neutral``.

    Attributes:
        decimal: decimal point of numbers.
        separator, last_separator: between the entries of a list, and before its last one.
        keyword: a word as it is shown (``word``).
        because, although: a sentence of reasons for and against (``reasons``) what is recommended.
        in_favour, against: the same of an item that was asked about.
        you: what the user does with ``words``, by side.
        they_too: all words have the user's side in the item's reviews too (``counts``).
        count: a word and the number of the item's reviews that hold it (``word``, ``n``).
        they: what the item's reviewers do: ``phrases``.
        they_one, they_many: one of these phrases for one reviewer and for several, by side (``word``, ``n``).
        nothing_shared, no_words_of_user, no_words_of_item: why there is no reason of words.
        wrote, rated, reviewed: a past interaction of the user's with ``title``: with a text, with a rating alone, and
            with neither to show.
        they_wrote, they_rated, they_reviewed: the same of another ``user``.
        with_rating: one of these (``what``) and its ``rating``.
        raised, lowered: what one of these did to the prediction: ``what``, ``by``.
        moved, moved_score: all of these ``effects``, on a rating and on a score that is none.
        useful_one, useful_many: whose reviews count most in the model (``users``).
        neighbours, no_neighbours: what the nearest users say (``neighbours``, ``rated``, ``relevant``, ``threshold``,
            ``mean``).
        predicted, predicted_alone: the ``predicted`` rating, with and without the user's ``mean``.
        known, known_unrated: the user knows the item already (``rating``).
    """

    decimal: str
    separator: str
    last_separator: str
    keyword: str
    because: str
    although: str
    in_favour: str
    against: str
    you: Mapping[str, str]
    they_too: str
    count: str
    they: str
    they_one: Mapping[str, str]
    they_many: Mapping[str, str]
    nothing_shared: str
    no_words_of_user: str
    no_words_of_item: str
    wrote: str
    rated: str
    reviewed: str
    they_wrote: str
    they_rated: str
    they_reviewed: str
    with_rating: str
    raised: str
    lowered: str
    moved: str
    moved_score: str
    useful_one: str
    useful_many: str
    neighbours: str
    no_neighbours: str
    predicted: str
    predicted_alone: str
    known: str
    known_unrated: str

    def join(self, parts: Sequence[str]) -> str:
        """A list in words: "a, b and c"."""
        if len(parts) < 2:
            return "".join(parts)
        return f"{self.separator.join(parts[:-1])}{self.last_separator}{parts[-1]}"

    def number(self, value: float, digits: int = 1) -> str:
        """A number with so many digits behind the decimal point."""
        return f"{value:.{digits}f}".replace(".", self.decimal)


ENGLISH = Language(
    decimal=".",
    separator=", ",
    last_separator=" and ",
    keyword="{word}",
    because="Recommended because {reasons}.",
    although="Recommended although {reasons}.",
    in_favour="In its favour: {reasons}.",
    against="Against it: {reasons}.",
    you={"liked": "you praise {words}", "disliked": "you criticise {words}", "neutral": "you write about {words}"},
    they_too=", and so do its reviewers ({counts})",
    count="{word}: {n}",
    they="; of its reviewers {phrases}",
    they_one={
        "liked": "{n} praises {word}",
        "disliked": "{n} criticises {word}",
        "neutral": "{n} writes about {word}",
    },
    they_many={
        "liked": "{n} praise {word}",
        "disliked": "{n} criticise {word}",
        "neutral": "{n} write about {word}",
    },
    nothing_shared="No word stands in both profiles.",
    no_words_of_user="None of your words are known.",
    no_words_of_item="No words about it are known.",
    wrote="what you wrote about {title}",
    rated="your rating of {title}",
    reviewed="your review of {title}",
    they_wrote="what {user} wrote about {title}",
    they_rated="the rating of {title} by {user}",
    they_reviewed="the review of {title} by {user}",
    with_rating="{what} ({rating})",
    raised="{what} raised it by {by}",
    lowered="{what} lowered it by {by}",
    moved="How the prediction came about: {effects}.",
    moved_score="How its score came about: {effects}.",
    useful_one="Of its reviews, the one by {users} counts most.",
    useful_many="Of its reviews, those by {users} count most.",
    neighbours="Of your {neighbours} nearest users {rated} rated it, {relevant} of them {threshold} or more; "
    "their mean is {mean}.",
    no_neighbours="None of your {neighbours} nearest users rated it.",
    predicted="Predicted {predicted}; your average is {mean}.",
    predicted_alone="Predicted {predicted}.",
    known="You rated it {rating} already; no reason is taken from that.",
    known_unrated="You reviewed it already; no reason is taken from that.",
)
"""The wording of :func:`sentence` unless another one is given."""


def sentence(explanation: Explanation, item: Recommendation, language: Language = ENGLISH) -> str:
    """Say why an item is recommended to a user.

    Words that both profiles hold come first; where there are none, the past interactions that moved the prediction, and
    what else the model offers.

    Args:
        explanation: of the user; its profile and mean rating are read.
        item: the recommendation.
        language: the wording.

    Returns:
        One or several sentences on a line, provided that no name in them has a line break; empty where there is nothing
        to say.

    Example:
        >>> from recbole_drex.explain.explanation import Keyword, SharedKeyword
        >>> mine = Keyword("story", "story", 2.5, reviews=9, mean_rating=4.6, side="liked")
        >>> its = Keyword("story", "story", 1.5, reviews=14, mean_rating=4.2, side="liked")
        >>> shared = SharedKeyword("story", "story", 2.5, 1.5)
        >>> item = Recommendation("g1", "Abyss", 4.41, profile=(its,), keywords=(shared,))
        >>> sentence(Explanation("ada", 3.6, (mine,), (item,)), item)
        'Recommended because you praise story, and so do its reviewers (story: 14). Predicted 4.4; your average is 3.6.'
    """
    told = _words(explanation, item, language) if item.keywords else _other_reasons(explanation, item, language)
    if item.known is not None:
        rating = item.known.rating
        told.append(language.known_unrated if rating is None else language.known.format(rating=language.number(rating)))
    if item.predicted is not None:
        mean = explanation.mean_rating
        template = language.predicted_alone if mean is None else language.predicted
        numbers = {"predicted": language.number(item.predicted), "mean": "" if mean is None else language.number(mean)}
        told.append(template.format(**numbers))
    return " ".join(told)


def _words(explanation: Explanation, item: Recommendation, language: Language) -> list[str]:
    sides = {keyword.lemma: keyword.side for keyword in explanation.profile}
    its = {keyword.lemma: keyword for keyword in item.profile}
    shared: dict[str, list[SharedKeyword]] = {"liked": [], "neutral": [], "disliked": []}
    for keyword in item.keywords[:_WORDS]:
        shared[sides.get(keyword.lemma, "neutral")].append(keyword)
    told = []
    templates = (language.in_favour, language.against) if item.asked else (language.because, language.although)
    for template, of in zip(templates, (("liked", "neutral"), ("disliked",)), strict=True):
        named = {side: shared[side] for side in of if shared[side]}
        if named:
            you = [
                language.you[side].format(words=language.join([_shown(one.word, language) for one in words]))
                for side, words in named.items()
            ]
            both = [(side, its[one.lemma]) for side, words in named.items() for one in words if one.lemma in its]
            told.append(template.format(reasons=language.join(you) + _reviewers(both, language)))
    return told


def _reviewers(both: list[tuple[str, Keyword]], language: Language) -> str:
    """What the item's reviewers do with words, given the user's side of each."""
    if not both:
        return ""
    if all(side == keyword.side for side, keyword in both):
        counts = [language.count.format(word=_shown(keyword.word, language), n=keyword.reviews) for _, keyword in both]
        return language.they_too.format(counts=language.separator.join(counts))
    phrases = []
    for _, keyword in both:
        templates = language.they_one if keyword.reviews == 1 else language.they_many
        phrases.append(templates[keyword.side].format(word=_shown(keyword.word, language), n=keyword.reviews))
    return language.they.format(phrases=language.join(phrases))


def _shown(word: str, language: Language) -> str:
    return language.keyword.format(word=word)


def _other_reasons(explanation: Explanation, item: Recommendation, language: Language) -> list[str]:
    told = []
    if item.profile and explanation.profile:
        told.append(language.nothing_shared)
    elif item.profile and explanation.user:
        # Somebody who is not in the data has no profile, whatever they wrote.
        told.append(language.no_words_of_user)
    elif explanation.profile:
        told.append(language.no_words_of_item)
    effects = [_effect(one, language) for one in item.evidence if abs(one.delta) >= _MOVED][:_PAST]
    if effects:
        template = language.moved_score if item.predicted is None else language.moved
        told.append(template.format(effects=language.join(effects)))
    if item.reviews:
        users = language.join([review.review.user for review in item.reviews])
        told.append((language.useful_one if len(item.reviews) == 1 else language.useful_many).format(users=users))
    near = item.neighbours
    if near is not None and (not near.rated or near.mean_rating is None):
        told.append(language.no_neighbours.format(neighbours=near.neighbours))
    elif near is not None and near.mean_rating is not None:
        numbers = {"neighbours": near.neighbours, "rated": near.rated, "relevant": near.relevant}
        threshold = f"{near.threshold:g}".replace(".", language.decimal)
        told.append(language.neighbours.format(**numbers, threshold=threshold, mean=language.number(near.mean_rating)))
    return told


def _effect(evidence: Evidence, language: Language) -> str:
    past, mine = evidence.review, evidence.side == "user"
    if past.quote is not None:
        template = language.wrote if mine else language.they_wrote
    elif past.rating is not None:
        template = language.rated if mine else language.they_rated
    else:
        template = language.reviewed if mine else language.they_reviewed
    what = template.format(title=past.title or past.item, user=past.user)
    if past.rating is not None:
        what = language.with_rating.format(what=what, rating=language.number(past.rating))
    effect = language.raised if evidence.delta > 0 else language.lowered
    return effect.format(what=what, by=language.number(abs(evidence.delta), 2))
