"""Tiny causal language models with random weights, saved as transformers saves them."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|end|>"


def save_gpt2(folder: Path, texts: list[str], end: bool = True, positions: int = 64) -> Path:
    """Save a GPT-2 of one layer and 16 numbers per word with a tokenizer learned from texts; it has no padding token.

    Args:
        folder: where.
        texts: of which the tokenizer learns its words.
        end: whether the tokenizer has a token for the end of a text.
        positions: number of positions that the model reads.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, special_tokens=[END],
                                                             initial_alphabet=alphabet))  # fmt: skip
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **({"eos_token": END} if end else {}))
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(fast), n_positions=positions, n_embd=16, n_layer=1, n_head=2, eos_token_id=None,
                        bos_token_id=None)  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
