"""PEPLER: a pretrained language model that continues the embeddings of a user and an item."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recbole_drex.config.general_parameters import general
from recbole_drex.config.parameters import Parameter, with_defaults
from recbole_drex.data.text.pretrained import load_pretrained, pretrained_folder
from recbole_drex.errors import ConfigError
from recbole_drex.model.generative.sentence_model import SentenceModel
from recbole_drex.model.pesi.sentence_data import as_text

_START = 0.1  # embeddings are initialised uniformly in [-0.1, 0.1]
_KIND = "language model"
_KNOWN = ("gpt2", "distilgpt2")
_NONE = -1  # where a sentence has no more pieces


class PEPLER(SentenceModel):
    r"""PEPLER, personalized prompt learning for explainable recommendation (Li, Zhang and Chen, TOIS 2023).

    Embeddings :math:`e_u, e_i` are put before the word embeddings of a causal language model, which continues them
    with a sentence of n pieces :math:`w_1 \dots w_n`, its end included:

    .. math::
        L_{\mathrm{text}} = -\tfrac1n \textstyle\sum_t \log P(w_t \mid e_u, e_i, w_1 \dots w_{t-1}), \qquad
        f_{ui} = \mu + b_u + b_i + \mathrm{MLP}([e_u; e_i])

    The MLP has sigmoids between its layers. In the first ``frozen_epochs`` only what is new is trained, then the
    language model, too ("sequential tuning" with a continuous prompt). Sentences are decoded greedily.

    Unlike the paper: the number of epochs of the first stage is given, where the paper stops by validation; the mean
    and biases are added to the rating; no tokens are added: a sentence ends with the model's own end of text, or at
    ``sentence_pieces`` if it has none. Padding is masked, so a language model needs no padding token.

    Raises:
        ConfigError: ``language_model`` is not set, or reads fewer positions than ``sentence_pieces`` needs.
        DataError: the language model is missing, damaged or lacks weights; otherwise as
            :class:`~recbole_drex.model.generative.sentence_model.SentenceModel`.
    """

    PARAMETERS = (
        Parameter(
            "language_model", str, None,
            "Causal language model: a Hugging Face name, such as gpt2, or a local folder of transformers.",
        ),
        Parameter("frozen_epochs", int, 5, "First epochs, in which the language model is not trained.", least=0),
        Parameter("sentence_pieces", int, 20, "Longest sentence, in pieces of the tokenizer.", least=1),
        Parameter("hidden_size", int, 400, "Width of the hidden layers of the MLP.", least=1),
        Parameter("n_layers", int, 2, "Hidden layers of the MLP.", least=1),
        *with_defaults(SentenceModel.PARAMETERS, rating_weight=1.0),
        general("train_batch_size", 64),
        general("learning_rate", 0.001),
    )  # fmt: skip

    pieces: torch.Tensor

    def __init__(self, config, dataset):
        name = config["language_model"]
        if not name:
            raise ConfigError(
                "PEPLER needs a language model: set language_model to a Hugging Face name, such as gpt2, or to a local "
                "folder of transformers"
            )
        super().__init__(config, dataset, vocabulary=1)  # the language model has its own
        self.language_model, tokenizer = load_language_model(name)
        self.frozen_epochs, self.longest = config["frozen_epochs"], config["sentence_pieces"]
        most = getattr(self.language_model.config, "max_position_embeddings", None)
        if most is not None and self.longest + 1 > most:
            raise ConfigError(f"parameter 'sentence_pieces' must be {most - 1:,} or less with language model '{name}'")
        self.decode = tokenizer.decode
        self.end = tokenizer.eos_token_id
        self.register_buffer("pieces", self._pieces(tokenizer), persistent=False)
        width = self.language_model.get_input_embeddings().weight.shape[1]
        self.user, self.item = nn.Embedding(self.n_users, width), nn.Embedding(self.n_items, width)
        for table in (self.user, self.item):
            nn.init.uniform_(table.weight, -_START, _START)
        sizes = [2 * width, *[config["hidden_size"]] * config["n_layers"]]
        layers = [part for pair in itertools.pairwise(sizes) for part in (nn.Linear(*pair), nn.Sigmoid())]
        self.rating = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def _pieces(self, tokenizer: Any) -> torch.Tensor:
        """Pieces of each target sentence, (m, at most ``sentence_pieces``)."""
        rows = []
        for words, whole in self.sentences.chosen:
            row = tokenizer(as_text(words), add_special_tokens=False)["input_ids"]
            rows.append([*row, self.end] if whole and self.end is not None else row)
        longest = max([1, *(min(self.longest, len(row)) for row in rows)])
        padded = [[*row[:longest], *[_NONE] * (longest - len(row))] for row in rows]
        return torch.tensor(padded, dtype=torch.int64).reshape(-1, longest)

    def before_epoch(self, epoch: int) -> None:
        self.language_model.requires_grad_(epoch >= self.frozen_epochs)

    def pair_score(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return self.rating(torch.cat([self.user(user), self.item(item)], 1)).squeeze(-1)

    def _prompt(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.user(user), self.item(item)], 1)

    def losses(self, user: torch.Tensor, item: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        text, line = torch.zeros(len(user), device=user.device), torch.nonzero(own >= 0).flatten()
        if len(line):
            pieces = self.pieces[own[line]]
            there = pieces != _NONE
            words = self.language_model.get_input_embeddings()(pieces[:, :-1].clamp(min=0))
            inputs = torch.cat([self._prompt(user[line], item[line]), words], 1)
            mask = torch.cat([torch.ones_like(there[:, :1]).expand(-1, 2), there[:, :-1]], 1)
            logits = self.language_model(inputs_embeds=inputs, attention_mask=mask.long()).logits[:, 1:]
            each = nn.functional.cross_entropy(logits.transpose(1, 2), pieces, ignore_index=_NONE, reduction="none")
            text = text.index_add(0, line, each.sum(1) / there.sum(1).clamp(min=1))
        return self.pair_score(user, item), text

    def write(self, user: torch.Tensor, item: torch.Tensor) -> list[str]:
        step: dict[str, Any] = {"inputs_embeds": self._prompt(user, item)}
        written = torch.empty(len(user), 0, dtype=torch.int64, device=user.device)
        done = torch.zeros(len(user), dtype=torch.bool, device=user.device)
        while written.shape[1] < self.longest and not done.all():
            output = self.language_model(**step, use_cache=True)
            logits = output.logits[:, -1]
            if self.end is not None and not written.shape[1]:
                logits[:, self.end] = -torch.inf
            piece = logits.argmax(1)
            written = torch.cat([written, piece[:, None].masked_fill(done[:, None], _NONE)], 1)
            done = done | (piece == self.end) if self.end is not None else done
            step = {"input_ids": piece[:, None], "past_key_values": output.past_key_values}
        rows = [[piece for piece in row if piece not in (_NONE, self.end)] for row in written.tolist()]
        return [" ".join(self.decode(row, skip_special_tokens=True).split()) for row in rows]


def load_language_model(name: str) -> tuple[Any, Any]:
    """A causal language model of transformers in float32, and its tokenizer.

    Raises:
        DataError: it is missing, damaged or lacks weights; the message names it.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def load_tokenizer(folder: Path) -> Any:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)  # nosec B615

    folder, _ = pretrained_folder(_KIND, name, _KNOWN)
    tokenizer, model, _ = load_pretrained(_KIND, name, folder, AutoModelForCausalLM, load_tokenizer)
    return model.float(), tokenizer
