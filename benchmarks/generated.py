"""Data sets of any size that cost next to nothing to make: atomic files and word features drawn at random.

Ratings follow from planted tastes, and reviews say what their items are like, so that a model has something to learn.
Texts are never written and no encoder runs: a word's vector is that of its lemma, drawn once.
"""

from __future__ import annotations

import hashlib
import shutil
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pandas as pd

from recbole_drex.data.text.contextual_encoder import encoder_folder
from recbole_drex.data.text.feature_store_writer import Shard, StoreWriter
from recbole_drex.utils.files import sha256

NAME = "generated"
WIDTH = 384
"""Of a word's vector, as MiniLM's."""
USER_ROWS = 30
"""Interactions of a user, on average; each has at least two thirds of that."""
_LEMMAS = 20_000
_TOPICS = 16  # that users care for and items are good or bad at
_ITEM_WORDS = 40  # lemmas that reviews of an item return to
_NO_RATING, _NO_REVIEW = 0.06, 0.08
_USERS_AT_ONCE = 512


def generate(root: Path, interactions: int, items: int, words: float, seed: int = 2026) -> dict[str, Any]:
    """Write the data set ``generated`` below ``root``.

    Args:
        root: what ``data_path`` is to be.
        interactions: about so many; 6 % of them have no rating, 8 % no review.
        items: of long-tailed popularity.
        words: of a review, on average, that have a vector.
        seed: of all that is random.

    Returns:
        ``{"interactions": ..., "users": ..., "items": ..., "reviews": ..., "words": ...}``.
    """
    rng = np.random.default_rng(seed)
    users = max(1, interactions // USER_ROWS)
    least = USER_ROWS * 2 // 3
    count = least + rng.multinomial(max(0, interactions - users * least), rng.dirichlet(np.full(users, 2.0)))
    count = np.minimum(count, items - 1)
    taste, quality = rng.normal(size=(users, _TOPICS)), rng.normal(size=(items, _TOPICS)) / _TOPICS**0.5
    bias_user, bias_item = 0.4 * rng.normal(size=users), 0.4 * rng.normal(size=items)
    popularity = -0.8 * np.log(rng.permutation(items) + 10.0)
    item_words = rng.integers(_LEMMAS, size=(items, _ITEM_WORDS))
    common = 1 / np.arange(1, _LEMMAS + 1)
    common = np.cumsum(common / common.sum())
    vectors = (0.3 * rng.normal(size=(_LEMMAS, WIDTH))).astype(np.float16)
    vocabulary = ["".join(one) for one in islice(product(ascii_lowercase, repeat=4), _LEMMAS)]

    blocks = [np.arange(users)[start : start + _USERS_AT_ONCE] for start in range(0, users, _USERS_AT_ONCE)]
    signature = hashlib.sha256(repr((interactions, items, words, seed)).encode()).hexdigest()
    writer = StoreWriter(root / "shards", WIDTH, signature, len(blocks))
    frames, n_words, n_reviews = [], 0, 0
    for number, block in enumerate(blocks):
        user = np.repeat(block, count[block])
        order = np.argsort(-(popularity + rng.gumbel(size=(len(block), items))), axis=1)
        item = np.concatenate([row[:n] for row, n in zip(order, count[block], strict=True)])
        n = len(user)
        score = 3.6 + bias_user[user] + bias_item[item] + (taste[user] * quality[item]).sum(1)
        lot = rng.random(n)
        rating = np.where(lot < _NO_RATING, np.nan, np.clip(np.rint(score + 0.5 * rng.normal(size=n)), 1, 5))
        reviewed = ~((lot >= _NO_RATING) & (lot < _NO_RATING + _NO_REVIEW))
        review_row = np.where(reviewed, n_reviews + np.cumsum(reviewed) - 1, np.nan)
        time = 1.6e9 + 1e8 * rng.random(n).round(6)
        length = 1 + rng.poisson(words - 1, size=int(reviewed.sum()))
        about = np.repeat(item[reviewed], length)
        of_item = item_words[about, rng.integers(_ITEM_WORDS, size=len(about))]
        word = np.where(rng.random(len(about)) < 0.4, of_item, np.searchsorted(common, rng.random(len(about))))
        word = np.minimum(word, _LEMMAS - 1).astype(np.int32)
        begins = np.zeros(len(word), dtype=bool)
        begins[np.cumsum(length) - length] = True  # no review is without words
        writer.write_shard(number, Shard(length, word, begins, vocabulary, vectors[word]))
        frames.append(
            pd.DataFrame(
                {
                    "user_id:token": user,
                    "item_id:token": item,
                    "rating:float": rating,
                    "timestamp:float": time,
                    "review_row:float": review_row,
                }
            )
        )
        n_words, n_reviews = n_words + len(word), n_reviews + len(length)
    frame = pd.concat(frames, ignore_index=True)
    (root / NAME).mkdir()
    frame.to_csv(root / NAME / f"{NAME}.inter", sep="\t", index=False)
    # Models that start at the vectors of lemmas read them from the encoder that is named here.
    weights = sha256(encoder_folder("minilm") / "model.safetensors")
    writer.finish(root / NAME / "features", {"name": "minilm", "weights_sha256": weights})
    shutil.rmtree(root / "shards")
    return {"interactions": len(frame), "users": users, "items": items, "reviews": n_reviews, "words": n_words}
