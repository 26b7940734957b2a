"""What a new user posts, as the model wants it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch

from recbole_drex.data.text.contextual_encoder import Encoder, load_encoder
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
_BATCH = 64  # word pieces that the encoder reads together: a few posted words would leave a larger batch empty
_STEP = 32  # unknown lemmas of a step


class NewUsers:
    """Recommends to users who are not in the data, from what they post; nothing is trained for it.

    Args:
        recommender: of a trained run.

    Raises:
        ConfigError: the model's users are free parameters, so only retraining would know new ones.
    """

    def __init__(self, recommender: Recommender):
        model = recommender.model
        if not contract_of(model).takes_new_users:
            name = recommender.experiment.config.model
            raise ConfigError(f"{name} knows only the users it was trained with; DReX takes new ones")
        self.recommender = recommender
        self.model: Any = model
        self.levels = recommender.experiment.parts.train_dataset.rating_levels()

    def view(self, interactions: Sequence[PostedInteraction]) -> UserView:
        """A new user as the model sees them.

        A rating between two levels of the data counts as the nearer one (the lower where both are as near). A review in
        a script or language of which no word is kept says nothing.

        Raises:
            DataError: nothing posted, an unknown or repeated item, a rating beyond the levels of the data, or an
                interaction with neither rating nor review.
        """
        if not interactions:
            raise DataError("nothing was posted: name at least one item with a rating or a review")
        items = [self.recommender.item_id(one.item) for one in interactions]
        for place, item in enumerate(items):
            if item in items[:place]:
                raise DataError(f"item '{interactions[place].item}' is posted twice")
        ratings = [self._level(one) for one in interactions]
        device = self.model.mean.device
        return view_of_new(
            self.model,
            torch.tensor(items, device=device),
            torch.tensor(ratings, device=device),
            *self._words(interactions),
        )

    def best(self, interactions: Sequence[PostedInteraction], top: int) -> tuple[UserView, list[Recommended]]:
        """The new user, as :meth:`view`, and the ``top`` items by the model's score that were not posted."""
        view = self.view(interactions)
        posted = torch.tensor([self.recommender.item_id(one.item) for one in interactions])
        return view, self.recommender.best_of(view.scores(), posted, top)

    def _level(self, posted: PostedInteraction) -> float:
        if posted.rating is None:
            if not posted.review.strip():
                raise DataError(f"item '{posted.item}' comes with neither a rating nor a review")
            return math.nan
        low, high = float(self.levels[0]), float(self.levels[-1])
        if not low <= posted.rating <= high:  # also where it is no number
            raise DataError(f"rating {posted.rating:g} of item '{posted.item}' is not between {low:g} and {high:g}")
        return float(self.levels[(self.levels - posted.rating).abs().argmin()])

    def _words(
        self, interactions: Sequence[PostedInteraction]
    ) -> tuple[list[torch.Tensor], list[list[str]], list[list[bool]]]:
        """Embeddings of the words of each review, their lemmas, and whether a sentence begins with them."""
        width = 0 if self.model.attention is None else self.model.attention.width
        vectors = [np.zeros((0, width), dtype=np.float16) for _ in interactions]
        lemmas: list[list[str]] = [[] for _ in interactions]
        reviews = [_stepwise(self._processor, one.review) for one in interactions] if width else []
        if self.model.attention is not None and self.model.attention.store.static:
            lemmas = [review.lemmas for review in reviews]
            together = self._static([lemma for review in lemmas for lemma in review])
            vectors = np.split(together, np.cumsum([len(review) for review in lemmas])[:-1])
        elif any(review.lemmas for review in reviews):
            vectors = [_stepwise(self._encoder.encode, [review])[0] for review in reviews]
            # Words beyond what the encoder reads have no embedding.
            lemmas = [review.lemmas[: len(one)] for review, one in zip(reviews, vectors, strict=True)]
        device = self.model.mean.device
        begins = [review.begins[: len(words)] for review, words in zip(reviews, lemmas, strict=bool(reviews))]
        begins += [[] for _ in lemmas[len(begins) :]]
        return [torch.from_numpy(one.astype(np.float32)).to(device) for one in vectors], lemmas, begins

    def _static(self, lemmas: Sequence[str]) -> np.ndarray:
        """Static vectors of lemmas, (lemmas, width): those of the data set, and of other lemmas from their source."""
        store = self.model.attention.store
        result = np.zeros((len(lemmas), store.width), dtype=np.float32)
        number = [self._numbers.get(lemma, -1) for lemma in lemmas]
        known = [place for place, one in enumerate(number) if one >= 0]
        result[known] = store.read_lemmas(np.array([number[place] for place in known], dtype=np.int64)).numpy()
        others = [place for place, one in enumerate(number) if one < 0]
        if others:
            # Words of like length share a batch.
            distinct = sorted({lemmas[place] for place in others}, key=lambda lemma: (len(lemma), lemma))
            step = len(distinct) if self._vectors.from_file else _STEP
            steps = [distinct[start : start + step] for start in range(0, len(distinct), step)]
            found = np.concatenate([_stepwise(self._vectors, some) for some in steps])
            position = {lemma: row for row, lemma in enumerate(distinct)}
            result[others] = found[[position[lemmas[place]] for place in others]]
        return result

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Positions of lemmas in the vocabulary of the store."""
        return {lemma: k for k, lemma in enumerate(self.model.attention.store.vocabulary)}

    @cached_property
    def _vectors(self) -> StaticVectors:
        """The source of static vectors that the data set was made with; loaded at the first word that it lacks."""
        experiment = self.recommender.experiment
        settings, source = experiment.manifest["encoder"], experiment.config["static_vectors"]
        return static_vectors_of(settings, source, batch_words=_BATCH)

    @cached_property
    def _processor(self) -> TextProcessor:
        config = self.recommender.experiment.config
        return TextProcessor(config["lemmatizer"], config["language"])

    @cached_property
    def _encoder(self) -> Encoder:
        """The encoder that the data set was made with; loaded at the first review."""
        settings = self.recommender.experiment.manifest["encoder"]
        encoder = load_encoder(
            settings["name"],
            precision=settings["precision"],
            max_length=settings["max_length"],
            encode_text=settings["encode_text"],
            batch_words=_BATCH,
        )
        if encoder.weights_hash != settings["weights_sha256"]:
            raise DataError(f"encoder '{settings['name']}' is not the one that the data set was made with")
        return encoder


def _stepwise(function: Callable[[_Given], _Made], argument: _Given) -> _Made:
    """One step of work that may take long altogether."""
    between_steps()
    return function(argument)
