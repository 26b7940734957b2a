"""Sentences of training reviews as word numbers: what a sentence writer learns from."""

from __future__ import annotations

import re
from collections import Counter
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
# No full stop after one or two letters, which is an initial or an abbreviation ("david o. russell", "mr. bean").
_STOP = re.compile(r"(?:(?<=[^\W_]{3})\.|[!?\u2026\u3002])[.!?\u2026\"')\]]*(?:\s|$)")


def split_sentences(text: str) -> list[list[str]]:
    """The words (and commas) of each sentence of a review, lower-case; sentences without words are left out.

    Example:
        >>> split_sentences("Great <b>fun</b>, really! David O. Russell's best.")
        [['great', 'fun', ',', 'really'], ['david', 'o', "russell's", 'best']]
    """
    found = (_WORD.findall(sentence) for sentence in _STOP.split(clean(text)))
    return [words for words in found if any(word != "," for word in words)]


def choose(sentences: list[list[str]], longest: int) -> tuple[list[str], bool]:
    """The first sentence of 3 to ``longest`` words, and that it is whole; or the beginning of the first, cut or not."""
    for words in sentences:
        if FEWEST <= len(words) <= longest:
            return words, True
    first = sentences[0] if sentences else []
    return first[:longest], 0 < len(first) <= longest


class Sentences(nn.Module):
    """One sentence of each training review, and the words that are written about each item.

    Only the reviews at ``row`` are read, so nothing else can reach vocabulary or sentences.

    Args:
        user, item, row: of the training interactions, (n,); row -1 has no review.
        texts: review texts by row.
        size: most words of the vocabulary; words that come less than three times are left out.
        longest: most words of a sentence.
        n_items: number of items, padding included.

    Attributes:
        row, user, item: of each sentence, its place among the training interactions, its user and item, (m,).
        vocabulary: words by number, the most frequent first after three special ones.
        number: of each word.
        frequency: share of each among the known words of the reviews, (V,).
        words: END, words, END where the sentence is whole, then PAD: (m, longest + 2).
    """

    row: torch.Tensor
    user: torch.Tensor
    item: torch.Tensor
    key: torch.Tensor
    words: torch.Tensor
    frequency: torch.Tensor

    def __init__(self, user, item, row, texts: ReviewTexts, size: int, longest: int, n_items: int):
        super().__init__()
        self.n_items, self.longest = n_items, longest
        reviewed = torch.nonzero(row >= 0).flatten()
        reviewed = reviewed[torch.argsort(user[reviewed] * n_items + item[reviewed])]
        reviews = [split_sentences(text) for text in texts[row[reviewed].numpy()]] if len(reviewed) else []
        counts = Counter(word for review in reviews for words in review for word in words)
        ranked = sorted((word for word in counts if counts[word] >= FEWEST), key=lambda word: (-counts[word], word))
        self.vocabulary = [*SPECIAL, *ranked[:size]]
        self.number = {word: k for k, word in enumerate(self.vocabulary)}
        total = np.array([counts.get(word, 0) for word in self.vocabulary], dtype=np.float64)
        owner, word = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for place, review in enumerate(reviews):
            known = np.array([self.number.get(w, UNKNOWN) for w in chain.from_iterable(review)], dtype=np.int64)
            word.append(known[known != UNKNOWN])
            owner.append(np.full(len(word[-1]), place))
        buffers = {
            "row": reviewed,
            "user": user[reviewed],
            "item": item[reviewed],
            "key": (user * n_items + item)[reviewed],
            "words": self.encode([choose(review, longest) for review in reviews]),
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

    def encode(self, chosen: list[tuple[list[str], bool]]) -> torch.Tensor:
        """Numbers of sentences, each with whether it is whole, as in ``words``: (n, longest + 2)."""
        numbers = np.full((len(chosen), self.longest + 2), PAD, dtype=np.int64)
        for line, (words, whole) in zip(numbers, chosen, strict=True):
            line[0] = END
            line[1 : len(words) + 1] = [self.number.get(word, UNKNOWN) for word in words]
            if whole:
                line[len(words) + 1] = END
        return torch.from_numpy(numbers)

    def find(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Place of the review of each pair (b,), -1 if there is none."""
        key = user * self.n_items + item
        if not len(self.key):
            return torch.full_like(key, -1)
        place = torch.searchsorted(self.key, key).clamp(max=len(self.key) - 1)
        return torch.where(self.key[place] == key, place, -1)

    def item_words(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """How often each word is in the item's reviews by other users: (b, V)."""
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
        place = torch.arange(len(which), device=group.device) - (n.cumsum(0) - n)[which] + first[group][which]
        counts[line[which], word[place]] += sign * count[place]

    def join(self, numbers: list[int]) -> str:
        """A sentence as text: from its first word to the first END."""
        words = [self.vocabulary[k] for k in numbers[: numbers.index(END) if END in numbers else None] if k != PAD]
        text = " ".join(words).replace(" ,", ",")
        return f"{text[:1].upper()}{text[1:]}." if text else ""
