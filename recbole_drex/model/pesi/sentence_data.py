"""Sentences of training reviews as word ids: the training data of the sentence writer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from torch import nn

from recbole_drex.data.text.review_texts import ReviewTexts
from recbole_drex.data.text.tokenizer import clean

PAD, END, UNKNOWN = 0, 1, 2  # END begins a sentence too
SPECIAL = ("<pad>", "<end>", "<unknown>")
FEWEST = 3  # occurrences of a word of the vocabulary, and words of a sentence
_WORD = re.compile(r"[^\W_]+(?:['\-][^\W_]+)*|,")
# A full stop after one or two letters belongs to an initial or an abbreviation ("david o. russell", "mr. bean").
_STOP = re.compile(r"(?:(?<=[^\W_]{3})\.|[!?\u2026\u3002])[.!?\u2026\"')\]]*(?:\s|$)")


def split_sentences(text: str) -> list[list[str]]:
    """The lower-case words (and commas) of each sentence of a review; sentences without words are left out.

    Example:
        >>> split_sentences("Great <b>fun</b>, really! David O. Russell's best.")
        [['great', 'fun', ',', 'really'], ['david', 'o', "russell's", 'best']]
    """
    result = (_WORD.findall(sentence) for sentence in _STOP.split(clean(text)))
    return [words for words in result if any(word != "," for word in words)]


def choose(sentences: list[list[str]], longest: int) -> tuple[list[str], bool]:
    """The first sentence of 3 to ``longest`` words, or else the first sentence, truncated; and whether it is whole."""
    for words in sentences:
        if FEWEST <= len(words) <= longest:
            return words, True
    first = sentences[0] if sentences else []
    return first[:longest], 0 < len(first) <= longest


def as_text(words: Sequence[str]) -> str:
    """Words (and commas) as a sentence.

    Example:
        >>> as_text(["slow", ",", "but", "good"])
        'Slow, but good.'
    """
    text = " ".join(words).replace(" ,", ",")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


Choice = tuple[list[str], bool]  # the words of a sentence, and whether it is whole


class Sentences(nn.Module):
    """One sentence of each training review, and the words of each item's reviews.

    Only the reviews at ``row`` are read, so vocabulary and sentences depend on nothing else.

    Args:
        user, item, row: of the training interactions, (n,); row is -1 without a review.
        texts: review texts by row.
        size: maximum size of the vocabulary; words that occur less than three times are left out.
        longest: maximum number of words of a sentence.
        n_items: number of items, padding included.
        choose_all: chooses a sentence of each review, given all split reviews and their users (m,); by default
            :func:`choose`.

    Attributes:
        chosen: the words of each sentence, and whether it is whole, (m,).
        row, user, item: index of each sentence's training interaction, its user and its item, (m,).
        vocabulary: words by id: three special words, then by falling frequency.
        number: id of each word.
        frequency: relative frequency of each word among the known words of the reviews, (V,).
        words: END, words, END where the sentence is whole, then PAD: (m, longest + 2).
    """

    row: torch.Tensor
    user: torch.Tensor
    item: torch.Tensor
    key: torch.Tensor
    words: torch.Tensor
    frequency: torch.Tensor

    def __init__(
        self,
        user,
        item,
        row,
        texts: ReviewTexts,
        size: int,
        longest: int,
        n_items: int,
        choose_all: Callable[[list[list[list[str]]], torch.Tensor], list[Choice]] | None = None,
    ):
        super().__init__()
        self.n_items, self.longest = n_items, longest
        reviewed = torch.nonzero(row >= 0).flatten()
        reviewed = reviewed[torch.argsort(user[reviewed] * n_items + item[reviewed])]
        reviews = [split_sentences(text) for text in texts[row[reviewed].numpy()]] if len(reviewed) else []
        if choose_all is None:
            self.chosen = [choose(review, longest) for review in reviews]
        else:
            self.chosen = choose_all(reviews, user[reviewed])
        counts = Counter(word for review in reviews for words in review for word in words)
        ranked = sorted((word for word in counts if counts[word] >= FEWEST), key=lambda word: (-counts[word], word))
        self.vocabulary = [*SPECIAL, *ranked[:size]]
        self.number = {word: k for k, word in enumerate(self.vocabulary)}
        total = np.array([counts.get(word, 0) for word in self.vocabulary], dtype=np.float64)
        owner, word = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for index, review in enumerate(reviews):
            known = np.array([self.number.get(w, UNKNOWN) for w in chain.from_iterable(review)], dtype=np.int64)
            word.append(known[known != UNKNOWN])
            owner.append(np.full(len(word[-1]), index))
        buffers = {
            "row": reviewed,
            "user": user[reviewed],
            "item": item[reviewed],
            "key": (user * n_items + item)[reviewed],
            "words": self.encode(self.chosen),
            "frequency": torch.from_numpy((total / max(total.sum(), 1)).astype(np.float32)),
        }
        review_of, words = torch.from_numpy(np.concatenate(owner)), torch.from_numpy(np.concatenate(word))
        for name, group, groups in (
            ("own", review_of, len(reviewed)),
            ("item", item[reviewed][review_of], n_items),
        ):
            pair, n = torch.unique(group * len(self.vocabulary) + words, return_counts=True)
            members = torch.bincount(torch.div(pair, len(self.vocabulary), rounding_mode="floor"), minlength=groups)
            parts = {"word": pair % len(self.vocabulary), "count": n.float(), "members": members}
            parts["first"] = members.cumsum(0) - members
            buffers |= {f"{name}_{part}": value for part, value in parts.items()}
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def encode(self, chosen: list[Choice]) -> torch.Tensor:
        """Word ids of sentences, each with whether it is whole, as in ``words``: (n, longest + 2)."""
        numbers = np.full((len(chosen), self.longest + 2), PAD, dtype=np.int64)
        for line, (words, whole) in zip(numbers, chosen, strict=True):
            line[0] = END
            line[1 : len(words) + 1] = [self.number.get(word, UNKNOWN) for word in words]
            if whole:
                line[len(words) + 1] = END
        return torch.from_numpy(numbers)

    def find(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Index of the sentence of each pair (b,), -1 without one."""
        key = user * self.n_items + item
        if not len(self.key):
            return torch.full_like(key, -1)
        index = torch.searchsorted(self.key, key).clamp(max=len(self.key) - 1)
        return torch.where(self.key[index] == key, index, -1)

    def item_words(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Count of each word in the item's reviews by other users: (b, V)."""
        counts = torch.zeros(len(item), len(self.vocabulary), device=item.device)
        self._add(counts, "item", item, torch.arange(len(item), device=item.device), 1.0)
        own = self.find(user, item)
        there = torch.nonzero(own >= 0).flatten()
        self._add(counts, "own", own[there], there, -1.0)
        return counts

    def _add(self, counts: torch.Tensor, name: str, group: torch.Tensor, line: torch.Tensor, sign: float) -> None:
        word, count, members, first = (
            getattr(self, f"{name}_{part}") for part in ("word", "count", "members", "first")
        )
        n = members[group]
        which = torch.repeat_interleave(torch.arange(len(group), device=group.device), n)
        index = torch.arange(len(which), device=group.device) - (n.cumsum(0) - n)[which] + first[group][which]
        counts[line[which], word[index]] += sign * count[index]

    def join(self, numbers: list[int]) -> str:
        """A sentence as text: from its first word to the first END."""
        end = numbers.index(END) if END in numbers else None
        return as_text([self.vocabulary[k] for k in numbers[:end] if k != PAD])
