"""Writes a short sentence for a user and an item: a conditional language model over words of training reviews."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain

import numpy as np
import torch
from torch import nn

from recbole_drex.data.text import clean
from recbole_drex.data.texts import ReviewTexts

PAD, END, UNKNOWN = 0, 1, 2  # END begins a sentence too
_SPECIAL = ("<pad>", "<end>", "<unknown>")
_FEWEST = 3  # occurrences of a word of the vocabulary, and words of a sentence
_FREQUENT = 40  # so many of the most frequent words may come twice in a sentence, the others once
_BATCH, _STEP = 64, 0.005  # of the study before joint training: sentences of a step, and its first step size
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
        if _FEWEST <= len(words) <= longest:
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
        ranked = sorted((word for word in counts if counts[word] >= _FEWEST), key=lambda word: (-counts[word], word))
        self.vocabulary = [*_SPECIAL, *ranked[:size]]
        self._number = {word: k for k, word in enumerate(self.vocabulary)}
        total = np.array([counts.get(word, 0) for word in self.vocabulary], dtype=np.float64)
        owner, word = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for place, review in enumerate(reviews):
            known = np.array([self._number.get(w, UNKNOWN) for w in chain.from_iterable(review)], dtype=np.int64)
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
            line[1 : len(words) + 1] = [self._number.get(word, UNKNOWN) for word in words]
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


class SentenceWriter(nn.Module):
    r"""A GRU that writes a sentence word by word.

    With a condition x of user u and item i (see :class:`~recbole_drex.model.pesi.PESI`), embeddings e of users, items
    and words, and :math:`n_{iw}`, how often word w is in the item's reviews by others:

    .. math::
        c &= \tanh(W_c x + e_u + e_i), \qquad s_0 = \tanh(W_0 c), \qquad s_t = \mathrm{GRU}([e_{w_t}; c], s_{t-1}) \\
        P(w_{t+1} = w) &\propto \exp\Big(e_w^\top W_o s_t + o_w +
            \sigma(w_g^\top s_t + b_g) \log\big(1 + \tfrac{n_{iw}}{m\, p_w}\big)\Big)

    The last term is, but for a constant, the log-odds of w in the item's reviews smoothed by m words of the whole
    (p: frequency in all training reviews) over w in the whole; so a gate decides where words of the item belong.
    It is trained by teacher forcing on the sentences of training pairs; unknown words are read, never learned to be
    written.

    Args:
        sentences: of the training reviews.
        vectors: of the words at the start, of mean square 1, (V, words).
        n_users: number of users, padding included.
        width: of x.
        size: width of s and c.
    """

    smoothing = 100.0  # m

    def __init__(self, sentences: Sentences, vectors: torch.Tensor, n_users: int, width: int, size: int):
        super().__init__()
        self.sentences, words = sentences, vectors.shape[1]
        self.condition = nn.Linear(width, size)
        self.user, self.item = nn.Embedding(n_users, size), nn.Embedding(sentences.n_items, size)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.1)
        self.word = nn.Embedding.from_pretrained(vectors * words**-0.5, freeze=False)
        self.start = nn.Linear(size, size)
        self.cell = nn.GRU(words + size, size, batch_first=True)
        self.output = nn.Linear(size, words, bias=False)
        self.bias = nn.Parameter(torch.log(sentences.frequency + 1e-6))
        self.gate = nn.Linear(size, 1)

    def _begin(self, x: torch.Tensor, user: torch.Tensor, item: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Condition c, state s_0 (b, size), and what the item's words add to the logits before the gate (b, V)."""
        c = torch.tanh(self.condition(x) + self.user(user) + self.item(item))
        # A frequency of zero is of a special word, which no item has.
        odds = self.sentences.item_words(user, item) / (self.smoothing * self.sentences.frequency).clamp(min=1e-9)
        return c, torch.tanh(self.start(c)), torch.log1p(odds)

    def _logits(self, state: torch.Tensor, odds: torch.Tensor) -> torch.Tensor:
        """Of states (n, size), with the odds of each (n, V): (n, V)."""
        logits = torch.addmm(self.bias, self.output(state), self.word.weight.T)
        return torch.addcmul(logits, torch.sigmoid(self.gate(state)), odds)

    def losses(self, x: torch.Tensor, user: torch.Tensor, item: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihoods of the known words (and ends) of sentences (b, longest + 2), one after the other."""
        c, state, odds = self._begin(x, user, item)
        read, written = words[:, :-1], words[:, 1:]
        inputs = torch.cat([self.word(read), c[:, None].expand(-1, read.shape[1], -1)], -1)
        states, _ = self.cell(inputs, state[None])
        line, place = torch.nonzero((written != PAD) & (written != UNKNOWN), as_tuple=True)
        logits = self._logits(states[line, place], odds[line])
        return nn.functional.cross_entropy(logits, written[line, place], reduction="none")

    def loss(self, x: torch.Tensor, user: torch.Tensor, item: torch.Tensor, most: int) -> torch.Tensor:
        """Mean loss per word of the first ``most`` training pairs (b,) that have a sentence; 0 if none has."""
        own = self.sentences.find(user, item)
        # The pairs of a step come in random order, so the first are a random choice.
        chosen = torch.nonzero(own >= 0).flatten()[:most]
        losses = self.losses(x[chosen], user[chosen], item[chosen], self.sentences.words[own[chosen]])
        return losses.sum() / max(1, len(losses))

    def study(self, x: torch.Tensor, passes: int, seed: int) -> None:
        """Learn from all sentences, by Adam with a step size that falls to zero, before anything else learns.

        Args:
            x: condition of each sentence, (m, width).
            passes: over all sentences.
            seed: of their order; no other random number is drawn.
        """
        sentences, generator = self.sentences, torch.Generator().manual_seed(seed)
        steps = passes * -(-len(x) // _BATCH)
        optimizer = torch.optim.Adam(self.parameters(), lr=_STEP)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        for _ in range(passes):
            for part in torch.randperm(len(x), generator=generator).to(x.device).split(_BATCH):
                losses = self.losses(x[part], sentences.user[part], sentences.item[part], sentences.words[part])
                optimizer.zero_grad()
                (losses.sum() / max(1, len(losses))).backward()
                nn.utils.clip_grad_norm_(self.parameters(), 5.0)
                optimizer.step()
                schedule.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def write(self, x: torch.Tensor, user: torch.Tensor, item: torch.Tensor, beams: int) -> list[str]:
        """Write a sentence for each pair (b,) by beam search: the highest log-likelihood by length ** 0.7.

        A sentence has three words or more; no word follows itself, and only frequent words come twice.
        """
        if not len(user):
            return []
        n_words, longest, n = len(self.sentences.vocabulary), self.sentences.longest, len(user)
        c, state, odds = (part.repeat_interleave(beams, 0) for part in self._begin(x, user, item))
        score = torch.full((n, beams), -torch.inf, device=x.device)
        score[:, 0] = 0.0  # all beams are the same at first
        score = score.flatten()
        lines = torch.full((n * beams, 1), END, device=x.device)
        often = torch.where(torch.arange(n_words, device=x.device) < len(_SPECIAL) + _FREQUENT, 2, 1)
        never = torch.tensor([PAD, UNKNOWN], device=x.device)
        comma = self.sentences._number.get(",", PAD)
        first = beams * torch.arange(n, device=x.device)[:, None]
        for length in range(longest + 1):
            last = lines[:, -1]
            done = ((last == END) | (last == PAD)) & (length > 0)
            states, _ = self.cell(torch.cat([self.word(last), c], 1)[:, None], state[None].contiguous())
            state = states[:, 0]
            chance = torch.log_softmax(self._logits(state, odds), 1)
            chance[:, never] = -torch.inf
            used = torch.zeros_like(chance).scatter_add_(1, lines[:, 1:], torch.ones_like(lines[:, 1:], dtype=x.dtype))
            forbidden = used >= often
            forbidden.scatter_(1, last[:, None], True)
            forbidden[:, END] = length < _FEWEST
            forbidden[last == comma, END] = True
            if length == 0:
                forbidden[:, comma] = True
            if length == longest:
                forbidden[:] = True
                forbidden[:, END] = False
            chance = chance.masked_fill(forbidden, -torch.inf)
            chance[done] = -torch.inf
            chance[done, PAD] = 0.0
            # Beams that end late and early are compared by length, but only once all have ended.
            score, best = (score[:, None] + chance).view(n, -1).topk(beams, dim=1)
            score, line = score.flatten(), (first + torch.div(best, n_words, rounding_mode="floor")).flatten()
            lines = torch.cat([lines[line], (best % n_words).view(-1, 1)], 1)
            state, c, odds = state[line], c[line], odds[line]
        words = (lines[:, 1:] > END).sum(1)
        chosen = (score / words.clamp(min=1) ** 0.7).view(n, beams).argmax(1) + first[:, 0]
        return [self.sentences.join(line) for line in lines[chosen, 1:].tolist()]
