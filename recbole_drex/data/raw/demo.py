"""A synthetic data set with known ground truth: game reviews by users with given tastes for items with given qualities.

Every user cares for four or five of sixteen aspects (weights that sum to 1), every item is good or bad at each of them
(quality in [-1, 1]). Rating and review are generated from the same truth::

    rating = clip(round(mu + b_u + b_i + scale * sum_a taste[u, a] * quality[i, a] + noise), 1, 5)

The review names aspects drawn from the user's taste, and praises or blames each according to the item's quality. So
reviews contain more than ratings, and tastes, qualities and explanations can be checked against ``truth_demo.json``.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_drex.errors import ConfigError
from recbole_drex.utils.files import replacing, write_json


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ASPECTS: dict[str, tuple[str, ...]] = {
    "story": ("story", "plot", "narrative"),
    "visuals": ("artwork", "scenery", "animation"),
    "music": ("music", "soundtrack", "melody"),
    "combat": ("combat", "weapon", "swordplay"),
    "controls": ("gamepad", "joystick", "keyboard"),
    "difficulty": ("difficulty", "challenge"),
    "multiplayer": ("multiplayer", "matchmaking", "lobby"),
    "puzzles": ("puzzle", "riddle"),
    "characters": ("character", "hero", "villain"),
    "exploration": ("exploration", "map", "landscape"),
    "humor": ("humor", "comedy", "satire"),
    "price": ("price", "cost"),
    "performance": ("framerate", "stability", "optimization"),
    "atmosphere": ("atmosphere", "mood", "ambience"),
    "loot": ("loot", "inventory", "treasure"),
    "dialogue": ("dialogue", "narrator", "conversation"),
}

_PRAISE = _words(
    "superb excellent wonderful brilliant delightful fantastic marvelous terrific splendid outstanding magnificent "
    "impressive glorious stellar lovely charming fabulous exquisite admirable remarkable stunning flawless polished "
    "thrilling inspired masterful refreshing satisfying memorable amazing phenomenal awesome perfect great beautiful "
    "enjoyable elegant clever rewarding pleasant solid strong fine sublime triumphant"
)
_BLAME = _words(
    "awful terrible horrible dreadful atrocious lousy pathetic miserable disappointing mediocre abysmal clumsy sloppy "
    "shoddy annoying frustrating irritating tedious boring bland dull forgettable lackluster weak poor broken "
    "unfinished amateurish embarrassing laughable ugly painful unbearable grating pointless stale lifeless uninspired "
    "careless messy ridiculous flawed inferior useless rotten"
)
_OWN = {  # words of blame and of praise for a single aspect
    "story": ("predictable incoherent", "gripping moving"), "visuals": ("blurry pixelated", "gorgeous vivid"),
    "music": ("shrill repetitive", "catchy soaring"), "combat": ("clunky sluggish", "fluid visceral"),
    "controls": ("unresponsive laggy", "responsive precise"), "difficulty": ("unfair punishing", "fair balanced"),
    "multiplayer": ("deserted toxic", "lively seamless"), "puzzles": ("obtuse trivial", "ingenious inventive"),
    "characters": ("shallow wooden", "likable believable"), "exploration": ("barren cramped", "vast rich"),
    "humor": ("crude juvenile", "hilarious witty"), "price": ("excessive outrageous", "generous reasonable"),
    "performance": ("choppy jerky", "smooth steady"), "atmosphere": ("sterile hollow", "immersive haunting"),
    "loot": ("scarce worthless", "plentiful varied"), "dialogue": ("stilted cheesy", "eloquent sharp"),
}  # fmt: skip

# Fillers come from long lists and the frames consist of stop words, so that aspects are the only other words that a
# user repeats. {a} is an aspect, {o} an opinion; the other names are keys of _FILLERS.
_OPINION_FRAMES = (
    "the {a} is {o}", "I found the {a} {o}", "for me the {a} was {adverb} {o}", "its {a} seems {o} to me",
    "the {a} here is {adverb} {o}", "{o} {a} all through", "everything about the {a} is {o}", "what {o} {a}",
    "my {person} and I found the {a} {o}", "even my {person} would call the {a} {o}", "with {a} this {o} I am done",
    "the {a} has been {o} from the first {time}", "the {a} became {o} after one {time}", "such {o} {a}",
    "you will see {o} {a}", "there is {o} {a} in it",
)  # fmt: skip
_FILLER_FRAMES = (
    "I {verb} it one {time} in {month}", "it was for the {occasion} of my {person}", "my {person} {verb} it",
    "it's in the {place} now", "we {verb} it {adverb} during the {occasion}", "this was for my {person}",
    "I {verb} this at the {place} with my {person}", "mine is the {color} one", "it was in the {color} {thing}",
    "I {verb} it beside the {thing}", "last {month} my {person} {verb} one", "this is from the {place} in {town}",
    "the {thing} was {color}", "another {time} and it would have been {month}", "they {verb} it in {town}",
)  # fmt: skip
_FILLERS = {
    "adverb": "truly utterly plainly downright decidedly genuinely frankly simply honestly consistently surprisingly "
    "noticeably thoroughly undeniably strangely clearly certainly obviously positively absolutely seriously quite "
    "admittedly arguably unexpectedly definitely immediately",
    "person": "brother sister cousin nephew niece uncle aunt neighbor roommate colleague grandson grandmother "
    "daughter wife husband boyfriend girlfriend classmate teacher father mother stepson coach boss dentist landlord",
    "time": "weekend morning evening afternoon week month hour night year decade minute semester summer winter "
    "spring autumn fortnight midnight",
    "month": "January February March April June July August September October November December",
    "occasion": "birthday wedding graduation holiday Christmas Easter anniversary retirement vacation picnic reunion "
    "sleepover blizzard lockdown strike housewarming",
    "verb": "bought ordered borrowed unwrapped installed downloaded finished started received returned rented traded "
    "resold streamed paused uninstalled preordered unboxed shelved restarted lent gifted",
    "place": "kitchen attic basement library cabin dorm office garage cafe train airport hotel hospital barn campus "
    "museum balcony arcade",
    "color": "blue red green yellow purple orange silver golden black white pink gray brown turquoise crimson beige",
    "thing": "box shelf sofa lamp drawer suitcase envelope cabinet fridge backpack curtain carpet bottle bookcase "
    "aquarium piano bicycle umbrella kettle typewriter",
    "town": "Boston Chicago Denver Austin Seattle Portland Toronto London Dublin Oslo Berlin Madrid Lisbon Vienna",
}
_TITLES = ("{o}", "{o} {a}", "{o} {a}", "{a}: {o}", "{adverb} {o}", "{o} for my {person}")

_ADJECTIVES = _words("Silent Crimson Hollow Eternal Broken Iron Golden Frozen Hidden Rogue Savage Astral Neon")
_NOUNS = _words("Kingdom Horizon Legacy Empire Odyssey Frontier Citadel Harvest Voyage Covenant Circuit Abyss")
_PLACES = _words("Avalor Brimhold Cindervale Dunmere Eldoria Falkreach Grimfen Hathor Ironmoor Kestrel Lumina Morrow")
_GENRES = ("Adventure", "Racing", "Role-Playing", "Shooter", "Simulation", "Sports", "Strategy", "Puzzle")

_ASPECT_WORDS = tuple(ASPECTS.values())
_OWN_WORDS = tuple([tuple(_OWN[aspect][good].split()) for aspect in ASPECTS] for good in (False, True))
_FILLER_WORDS = {name: tuple(words.split()) for name, words in _FILLERS.items()}

_MU, _SCALE, _NOISE, _USER_BIAS, _ITEM_BIAS = 3.9, 3.0, 0.5, 0.35, 0.25
_START_MS, _SPAN_MS = 1_609_459_200_000, 3 * 365 * 86_400_000  # from 2021-01-01 on, three years
_NO_RATING, _NO_REVIEW, _REPEATED, _MARKUP = 0.06, 0.08, 0.02, 0.1
_USERS_AT_ONCE = 512


def generate_demo(
    folder: str | Path, *, seed: int = 2026, users: int = 150, items: int = 100, reviews: int = 4500
) -> dict[str, Path]:
    """Write the demo with the field names of Amazon Reviews 2023; equal arguments give equal bytes.

    About 6 % of the rows lack the rating, 8 % the review (never both), 2 % repeat a (user, item) pair, and some texts
    contain HTML. Rows are written as they are generated, so millions of them need little memory.

    Args:
        folder: created if needed; old files of the same names are replaced.
        seed: random seed.
        users: number of users, each with at least 0.8 of the average number of reviews.
        items: number of items, of long-tailed popularity; at least the number of reviews of the most active user.
        reviews: number of rows.

    Returns:
        ``{"reviews": .../demo.jsonl.gz, "meta": .../meta_demo.jsonl.gz, "truth": .../truth_demo.json}``. The truth is
        ``{"aspects": {name: words}, "users": {user_id: {aspect: weight}}, "items": {item_id: {aspect: quality}}}``.

    Raises:
        ConfigError: incompatible numbers.
        DataError: the folder cannot be written.
    """
    folder = Path(folder)
    names = {"reviews": "demo.jsonl.gz", "meta": "meta_demo.jsonl.gz", "truth": "truth_demo.json"}
    paths = {key: folder / name for key, name in names.items()}
    if min(users, items) < 1 or reviews < users:
        raise ConfigError(f"the demo cannot have {users} users, {items} items and {reviews} reviews: too few of them")
    rng = np.random.default_rng(seed)
    extra = rng.multinomial(reviews - users * (reviews * 4 // 5 // users), rng.dirichlet(np.full(users, 2.0)))
    counts = reviews * 4 // 5 // users + extra
    if counts.max() > items:
        raise ConfigError(f"the demo's busiest user writes {counts.max()} reviews, but there are {items} items only")
    world = _World(rng, users, items)
    _write_lines(paths["meta"], world.meta(rng))
    _write_lines(paths["reviews"], world.rows(rng, counts))
    write_json(paths["truth"], world.truth())
    return paths


def demo_raw(folder: str | Path) -> dict[str, Path]:
    """The demo's raw files in ``folder``, as :func:`generate_demo` names them; correct files are not written again.

    Raises:
        DataError: files are missing, and the folder cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="recbole-drex-") as fresh:
        made = generate_demo(fresh)
        paths = {key: Path(folder) / path.name for key, path in made.items()}
        for key, path in paths.items():
            if not path.is_file() or path.read_bytes() != made[key].read_bytes():
                with replacing(path) as temporary:
                    temporary.write_bytes(made[key].read_bytes())
    return paths


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as raw:
        with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=raw, mtime=0) as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


class _World:
    """The ground truth, and the rows that are generated from it."""

    def __init__(self, rng: np.random.Generator, users: int, items: int):
        aspects = len(ASPECTS)
        cared = rng.random((users, aspects)).argsort(axis=1).argsort(axis=1) < rng.integers(4, 6, size=(users, 1))
        taste = rng.gamma(3.0, size=(users, aspects)) * cared
        self.taste = taste / taste.sum(axis=1, keepdims=True)
        self.quality = rng.uniform(-1, 1, size=(items, aspects))
        self.user_bias = rng.normal(scale=_USER_BIAS, size=users)
        self.item_bias = rng.normal(scale=_ITEM_BIAS, size=items)
        self.popularity = -0.8 * np.log(rng.permutation(items) + 10.0)
        self.habit = rng.random((users, aspects))  # which of an aspect's words a user likes to write
        self.user_ids = [f"user_{k:0{len(str(users - 1))}d}" for k in range(users)]
        self.item_ids = [f"game_{k:0{len(str(items - 1))}d}" for k in range(items)]

    def truth(self) -> dict[str, Any]:
        def table(ids: list[str], values: np.ndarray) -> dict[str, dict[str, float]]:
            rows = values.round(4).tolist()
            tables = ({a: v for a, v in zip(ASPECTS, row, strict=True) if v} for row in rows)
            return dict(zip(ids, tables, strict=True))

        users, items = table(self.user_ids, self.taste), table(self.item_ids, self.quality)
        return {"aspects": ASPECTS, "users": users, "items": items}

    def meta(self, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        seen: dict[str, int] = {}
        for item in self.item_ids:
            adjective, noun, region, genre = (rng.choice(words) for words in (_ADJECTIVES, _NOUNS, _PLACES, _GENRES))
            titles = (f"{adjective} {noun}", f"{noun} of {region}", f"{region}: {adjective} {noun}")
            title = titles[rng.integers(3)]
            seen[title] = seen.get(title, 0) + 1
            yield {
                "main_category": "Video Games",
                "title": title if seen[title] == 1 else f"{title} {seen[title]}",
                "description": [f"{genre} in the world of {region}."],
                "store": f"{noun} Studios",
                "categories": ["Video Games", str(genre)],
                "parent_asin": item,
            }

    def rows(self, rng: np.random.Generator, counts: np.ndarray) -> Iterator[dict[str, Any]]:
        for users in np.split(np.arange(len(counts)), range(_USERS_AT_ONCE, len(counts), _USERS_AT_ONCE)):
            yield from self._rows(rng, users, counts[users])

    def _rows(self, rng: np.random.Generator, users: np.ndarray, counts: np.ndarray) -> Iterator[dict[str, Any]]:
        """Rows of some users, in order of time."""
        # Gumbel top-k: a draw without replacement, with probabilities by popularity.
        order = np.argsort(-(self.popularity + rng.gumbel(size=(len(users), len(self.item_ids)))), axis=1)
        item = np.concatenate([row[:n] for row, n in zip(order, counts, strict=True)])
        user = np.repeat(users, counts)
        n = len(user)
        again = (rng.random(n) < _REPEATED) & np.r_[False, user[1:] == user[:-1]]
        item[again] = item[np.flatnonzero(again) - 1]
        time = _START_MS + (rng.random(n) * _SPAN_MS).astype(np.int64)
        utility = (self.taste[user] * self.quality[item]).sum(axis=1)
        score = _MU + self.user_bias[user] + self.item_bias[item] + _SCALE * utility
        rating = np.clip(np.rint(score + rng.normal(scale=_NOISE, size=n)), 1, 5)
        lot = rng.random(n)
        texts = _Texts(rng, self.taste[user], self.quality[item], self.habit[user])
        for row in np.argsort(time, kind="stable").tolist():
            title, text = texts.write(row) if not _NO_RATING <= lot[row] < _NO_RATING + _NO_REVIEW else ("", "")
            yield {
                "rating": float(rating[row]) if lot[row] >= _NO_RATING else None,
                "title": title,
                "text": text,
                "images": [],
                "asin": self.item_ids[item[row]],
                "parent_asin": self.item_ids[item[row]],
                "user_id": self.user_ids[user[row]],
                "timestamp": int(time[row]),
            }


class _Texts:
    """Titles and texts for rows of (taste, quality); random numbers are drawn together, words are filled in later."""

    def __init__(self, rng: np.random.Generator, taste: np.ndarray, quality: np.ndarray, habit: np.ndarray):
        n, aspects = taste.shape
        wish = np.log(0.96 * taste + 0.04 / aspects)  # sometimes an aspect that the user does not care for
        self.aspect = np.argsort(-(wish + rng.gumbel(size=wish.shape)), axis=1)[:, :3]
        self.good = quality + rng.normal(scale=0.2, size=quality.shape) > 0
        self.word = np.where(rng.random((n, aspects)) < 0.6, habit, rng.random((n, aspects)))
        self.named = rng.choice((1, 2, 3), p=(0.3, 0.45, 0.25), size=n)
        self.draws = rng.integers(1 << 30, size=(n, 48))

    def write(self, row: int) -> tuple[str, str]:
        """Title and text of a row: one to three sentences about aspects, zero to two fillers."""
        slots = _Slots(self.draws[row].tolist())
        sentences = []
        for aspect in self.aspect[row, : self.named[row]].tolist():
            words = _ASPECT_WORDS[aspect]
            slots["a"] = words[int(self.word[row, aspect] * len(words))]
            slots["o"] = slots.opinion(aspect, bool(self.good[row, aspect]))
            sentences.append(slots.sentence(_OPINION_FRAMES))
            if len(sentences) == 1:
                slots["o"] = slots.opinion(aspect, bool(self.good[row, aspect]))
                title = slots.sentence(_TITLES)
        for _ in range(slots.pick(3)):
            sentences.insert(slots.pick(len(sentences) + 1), slots.sentence(_FILLER_FRAMES))
        text = "".join(f"{sentence}{'.!'[not slots.pick(5)]} " for sentence in sentences).rstrip()
        if slots.pick(1000) < 1000 * _MARKUP:
            text = text.replace(". ", ".<br /><br />", 1).replace(" and ", " &amp; ").replace("'", "&#39;")
        return title, text


class _Slots(dict[str, str]):
    """Values of a frame's slots; a missing filler is drawn each time."""

    def __init__(self, draws: list[int]):
        super().__init__()
        self._draws = iter(draws)

    def pick(self, n: int) -> int:
        return next(self._draws) % n

    def __missing__(self, name: str) -> str:
        words = _FILLER_WORDS[name]
        return words[self.pick(len(words))]

    def opinion(self, aspect: int, good: bool) -> str:
        words = _OWN_WORDS[good][aspect] if self.pick(6) == 0 else (_BLAME, _PRAISE)[good]
        return words[self.pick(len(words))]

    def sentence(self, frames: Sequence[str]) -> str:
        text = frames[self.pick(len(frames))].format_map(self)
        return text[0].upper() + text[1:]
