"""Converts the interactions that a new user posts to model input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch

from recbole_drex.data.text.contextual_encoder import Encoder, load_encoder
from recbole_drex.data.text.encoder_engine import same_engine
from recbole_drex.data.text.static_encoder import StaticVectors, static_vectors_of
from recbole_drex.data.text.tokenizer import TextProcessor
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.explain.counterfactual.new_user import view_of_new
from recbole_drex.explain.counterfactual.user_view import UserView
from recbole_drex.explain.interruption import between_steps
from recbole_drex.explain.recommender import PostedInteraction, Recommended, Recommender
from recbole_drex.model.contract import contract_of

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")
_BATCH = 64  # word pieces per encoder batch: new users post only a few words
_STEP = 32  # unknown lemmas per step


class NewUsers:
    """Recommends to new users from the interactions that they post, without training.

    Args:
        recommender: recommender of a trained run.

    Raises:
        ConfigError: the model represents users by free parameters, so new users would need retraining.
    """

    def __init__(self, recommender: Recommender):
        model = recommender.model
        if not contract_of(model).takes_new_users:
            name = recommender.experiment.config.model
            raise ConfigError(
                f"{name} cannot recommend to new users: it represents users by trained parameters. Use DReX"
            )
        self.recommender = recommender
        self.model: Any = model
        self.levels = recommender.experiment.parts.train_dataset.rating_levels()

    def view(self, interactions: Sequence[PostedInteraction]) -> UserView:
        """The view of a new user.

        A rating between two rating levels is rounded to the nearer one, and to the lower one for ties. A review without
        any known word is ignored.

        Raises:
            DataError: no interactions, an unknown or repeated item, a rating outside the range of the data, or an
                interaction with neither rating nor review.
        """
        if not interactions:
            raise DataError("no interaction was posted: name at least one item with a rating or a review")
        items = [self.recommender.item_id(one.item) for one in interactions]
        for position, item in enumerate(items):
            if item in items[:position]:
                raise DataError(f"item '{interactions[position].item}' is posted twice")
        ratings = [self.level(one.rating, one.review, f"item '{one.item}'") for one in interactions]
        device = self.model.mean.device
        return view_of_new(
            self.model,
            torch.tensor(items, device=device),
            torch.tensor(ratings, device=device),
            *self.words([one.review for one in interactions]),
        )

    def best(self, interactions: Sequence[PostedInteraction], top: int) -> tuple[UserView, list[Recommended]]:
        """The view of a new user, and the ``top`` items by the model's score that were not posted."""
        view = self.view(interactions)
        posted = torch.tensor([self.recommender.item_id(one.item) for one in interactions])
        return view, self.recommender.best_of(view.scores(), posted, top)

    def level(self, rating: float | None, review: str, what: str) -> float:
        """The rating level of a posted rating, NaN for a review only.

        Raises:
            DataError: neither rating nor review, or a rating outside the range of the data; ``what`` is named.
        """
        if rating is None:
            if not review.strip():
                raise DataError(f"{what} has neither a rating nor a review")
            return math.nan
        low, high = float(self.levels[0]), float(self.levels[-1])
        if not low <= rating <= high:  # also true for NaN
            raise DataError(f"rating {rating:g} of {what} is not between {low:g} and {high:g}")
        return float(self.levels[(self.levels - rating).abs().argmin()])

    def words(self, texts: Sequence[str]) -> tuple[list[torch.Tensor], list[list[str]], list[list[bool]]]:
        """Embeddings of the words of each review, their lemmas, and whether each word begins a sentence."""
        width = 0 if self.model.attention is None else self.model.attention.width
        vectors = [np.zeros((0, width), dtype=np.float16) for _ in texts]
        lemmas: list[list[str]] = [[] for _ in texts]
        reviews = [_stepwise(self._processor, text) for text in texts] if width else []
        if self.model.attention is not None and self.model.attention.store.static:
            lemmas = [review.lemmas for review in reviews]
            all_vectors = self._static([lemma for review in lemmas for lemma in review])
            vectors = np.split(all_vectors, np.cumsum([len(review) for review in lemmas])[:-1])
        elif any(review.lemmas for review in reviews):
            vectors = [_stepwise(self._encoder.encode, [review])[0] for review in reviews]
            # Words beyond the encoder's maximum length have no embedding.
            lemmas = [review.lemmas[: len(one)] for review, one in zip(reviews, vectors, strict=True)]
        device = self.model.mean.device
        starts_sentence = [review.begins[: len(words)] for review, words in zip(reviews, lemmas, strict=bool(reviews))]
        starts_sentence += [[] for _ in lemmas[len(starts_sentence) :]]
        return [torch.from_numpy(one.astype(np.float32)).to(device) for one in vectors], lemmas, starts_sentence

    def _static(self, lemmas: Sequence[str]) -> np.ndarray:
        """Static vectors of lemmas, (lemmas, width): from the data set if stored there, else from their source."""
        store = self.model.attention.store
        result = np.zeros((len(lemmas), store.width), dtype=np.float32)
        indices = [self._numbers.get(lemma, -1) for lemma in lemmas]
        known = [position for position, one in enumerate(indices) if one >= 0]
        result[known] = store.read_lemmas(np.array([indices[position] for position in known], dtype=np.int64)).numpy()
        others = [position for position, one in enumerate(indices) if one < 0]
        if others:
            # Words of similar length share a batch.
            distinct = sorted({lemmas[position] for position in others}, key=lambda lemma: (len(lemma), lemma))
            step = len(distinct) if self._vectors.from_file else _STEP
            steps = [distinct[start : start + step] for start in range(0, len(distinct), step)]
            other_vectors = np.concatenate([_stepwise(self._vectors, some) for some in steps])
            row = {lemma: index for index, lemma in enumerate(distinct)}
            result[others] = other_vectors[[row[lemmas[position]] for position in others]]
        return result

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Index of each lemma in the vocabulary of the store."""
        return {lemma: k for k, lemma in enumerate(self.model.attention.store.vocabulary)}

    @cached_property
    def _vectors(self) -> StaticVectors:
        """The source of the data set's static vectors; loaded for the first word that the data set lacks."""
        experiment = self.recommender.experiment
        settings, source = experiment.manifest["encoder"], experiment.config["static_vectors"]
        return static_vectors_of(settings, source, batch_words=_BATCH)

    @cached_property
    def _processor(self) -> TextProcessor:
        config = self.recommender.experiment.config
        return TextProcessor(config["lemmatizer"], config["language"])

    @cached_property
    def _encoder(self) -> Encoder:
        """The encoder of the data set; loaded for the first review."""
        settings = self.recommender.experiment.manifest["encoder"]
        encoder = load_encoder(
            settings["name"],
            precision=settings["precision"],
            engine=same_engine(settings),
            max_length=settings["max_length"],
            encode_text=settings["encode_text"],
            batch_words=_BATCH,
        )
        if encoder.weights_hash != settings["weights_sha256"]:
            raise DataError(
                f"the weights of encoder '{settings['name']}' differ from those that the data set was made with"
            )
        return encoder


def _stepwise(function: Callable[[_Given], _Made], argument: _Given) -> _Made:
    """Apply a function as one step of a long computation."""
    between_steps()
    return function(argument)
