"""Writes a short sentence for a user and an item: a conditional language model over the words of training reviews."""

from __future__ import annotations

import torch
from torch import nn

from recbole_drex.model.pesi.sentence_data import END, FEWEST, PAD, SPECIAL, UNKNOWN, Sentences

_FREQUENT = 40  # number of frequent words that may occur twice in a sentence; the others may occur once
_BATCH, _STEP = 64, 0.005  # pre-training: sentences per step, and the initial learning rate


class SentenceWriter(nn.Module):
    r"""A GRU that writes a sentence word by word.

    With a condition x of user u and item i (see :class:`~recbole_drex.model.pesi.pesi.PESI`), embeddings e of users,
    items and words, and :math:`n_{iw}`, how often word w is in the item's reviews by others:

    .. math::
        c &= \tanh(W_c x + e_u + e_i), \qquad s_0 = \tanh(W_0 c), \qquad s_t = \mathrm{GRU}([e_{w_t}; c], s_{t-1}) \\
        P(w_{t+1} = w) &\propto \exp\Big(e_w^\top W_o s_t + o_w +
            \sigma(w_g^\top s_t + b_g) \log\big(1 + \tfrac{n_{iw}}{m\, p_w}\big)\Big)

    :math:`p_w` is the frequency of w in all training reviews. Up to a constant, the last term is the log ratio of the
    frequency of w in the item's reviews, smoothed by m words of all reviews, to :math:`p_w`; a gate decides where words
    of the item are used. The model is trained by teacher forcing on the sentences of training pairs. Unknown words are
    inputs but never targets.

    Args:
        sentences: of the training reviews.
        vectors: initial word vectors, of mean square 1, (V, words).
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
        """Condition c, state s_0 (b, size), and the ungated logits of the item's words (b, V)."""
        c = torch.tanh(self.condition(x) + self.user(user) + self.item(item))
        # Only special words have a frequency of zero, and no item has them.
        odds = self.sentences.item_words(user, item) / (self.smoothing * self.sentences.frequency).clamp(min=1e-9)
        return c, torch.tanh(self.start(c)), torch.log1p(odds)

    def _logits(self, state: torch.Tensor, odds: torch.Tensor) -> torch.Tensor:
        """Logits (n, V) of states (n, size) with odds (n, V)."""
        logits = torch.addmm(self.bias, self.output(state), self.word.weight.T)
        return torch.addcmul(logits, torch.sigmoid(self.gate(state)), odds)

    def losses(self, x: torch.Tensor, user: torch.Tensor, item: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihoods of the known words (and ends) of sentences (b, longest + 2), concatenated."""
        c, state, odds = self._begin(x, user, item)
        read, written = words[:, :-1], words[:, 1:]
        inputs = torch.cat([self.word(read), c[:, None].expand(-1, read.shape[1], -1)], -1)
        states, _ = self.cell(inputs, state[None])
        line, index = torch.nonzero((written != PAD) & (written != UNKNOWN), as_tuple=True)
        logits = self._logits(states[line, index], odds[line])
        return nn.functional.cross_entropy(logits, written[line, index], reduction="none")

    def loss(self, x: torch.Tensor, user: torch.Tensor, item: torch.Tensor, most: int) -> torch.Tensor:
        """Mean loss per word over the first ``most`` training pairs of (b,) that have a sentence; 0 if none has."""
        own = self.sentences.find(user, item)
        # The pairs of a step are in random order, so the first are a random sample.
        chosen = torch.nonzero(own >= 0).flatten()[:most]
        losses = self.losses(x[chosen], user[chosen], item[chosen], self.sentences.words[own[chosen]])
        return losses.sum() / max(1, len(losses))

    def study(self, x: torch.Tensor, passes: int, seed: int) -> None:
        """Pre-train on all sentences, by Adam with a learning rate that decreases linearly to zero.

        Args:
            x: condition of each sentence, (m, width).
            passes: number of passes over all sentences.
            seed: random seed of their order; no other random number is drawn.
        """
        sentences, generator = self.sentences, torch.Generator().manual_seed(seed)
        steps = max(1, passes * -(-len(x) // _BATCH))
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
        """Write a sentence for each pair (b,) by beam search: the highest log-likelihood over length ** 0.7.

        A sentence has at least three words; no word follows itself, and only frequent words occur twice.
        """
        if not len(user):
            return []
        n_words, longest, n = len(self.sentences.vocabulary), self.sentences.longest, len(user)
        c, state, odds = (part.repeat_interleave(beams, 0) for part in self._begin(x, user, item))
        score = torch.full((n, beams), -torch.inf, device=x.device)
        score[:, 0] = 0.0  # all beams are the same at first
        score = score.flatten()
        lines = torch.full((n * beams, 1), END, device=x.device)
        often = torch.where(torch.arange(n_words, device=x.device) < len(SPECIAL) + _FREQUENT, 2, 1)
        never = torch.tensor([PAD, UNKNOWN], device=x.device)
        comma = self.sentences.number.get(",", PAD)
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
            forbidden[:, END] = length < FEWEST
            forbidden[last == comma, END] = True
            if length == 0:
                forbidden[:, comma] = True
            if length == longest:
                forbidden[:] = True
                forbidden[:, END] = False
            chance = chance.masked_fill(forbidden, -torch.inf)
            chance[done] = -torch.inf
            chance[done, PAD] = 0.0
            # Length normalisation is applied only after all beams have ended.
            score, best = (score[:, None] + chance).view(n, -1).topk(beams, dim=1)
            score, line = score.flatten(), (first + torch.div(best, n_words, rounding_mode="floor")).flatten()
            lines = torch.cat([lines[line], (best % n_words).view(-1, 1)], 1)
            state, c, odds = state[line], c[line], odds[line]
        words = (lines[:, 1:] > END).sum(1)
        chosen = (score / words.clamp(min=1) ** 0.7).view(n, beams).argmax(1) + first[:, 0]
        return [self.sentences.join(line) for line in lines[chosen, 1:].tolist()]
